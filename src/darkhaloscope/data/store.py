"""Tables and folders at a run's root, on disk or in an object store: what is whole and current.

What can be seen is whole: on disk an object is moved into place, in an object store it is one
completed upload; a rename is never relied on there. A table carries in its own footer the digest
of all that made it and the sha256 of its own content, so no second object can fall out of step.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from darkhaloscope.core.errors import DataError
from darkhaloscope.data import json_table

DIGEST, CONTENT, NOTES = b"dhs.digest", b"dhs.content", b"dhs.notes"
DONE = "done.json"
JSON = ".json"  # a table with this suffix is kept as JSON, its digest inside
RECORDS = ("history.csv", "training.log")  # of an artefact: they hold times, and are no result
ROW_GROUP_ROWS = 512
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Header:
    """What an object says of itself.

    Attributes:
        digest: Names all that it was made from.
        content: sha256 of its Arrow data (a table) or of its files (a folder).
        rows: Rows of the table; 0 for a folder.
        notes: Small facts kept beside the digest, such as the list of all tiles.
    """

    digest: str
    content: str
    rows: int
    notes: Mapping[str, Any]


def filesystem(address: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a local path or an `s3://` address, and the path inside it.

    Credentials and endpoint come from the usual environment variables and profiles. Older servers
    refuse or corrupt uploads with the checksums of recent clients, hence `when_required`.
    """
    if address.startswith("s3://"):
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        return pafs.FileSystem.from_uri(address)  # type: ignore[no-any-return]
    return pafs.LocalFileSystem(), str(address)


def write(
    chunks: Iterable[pa.Table],
    path: str,
    *,
    schema: pa.Schema,
    digest: str,
    notes: Mapping[str, Any] | None = None,
) -> Header:
    """Write one partition, whole or not at all, one row group a chunk; as JSON in one piece.

    Args:
        chunks: Tables of one schema, in order; memory holds one at a time.
        path: Where it will be seen: a local path or `s3://...`.
        schema: Schema where no chunk comes; the first chunk's own fields win.
        digest: Names everything the partition was made from.
        notes: Small facts for the footer, JSON.

    Returns:
        The header as it stands in the file.
    """
    if path.endswith(JSON):
        return _write_json(list(chunks), path, schema, digest, notes or {})
    with _scratch_file(path) as scratch:
        content, rows = hashlib.sha256(), 0
        writer: pq.ParquetWriter | None = None
        try:
            for chunk in chunks:
                if writer is None:
                    content.update(_plain(chunk.schema).encode())
                    writer = _writer(scratch, chunk.schema)
                rows += chunk.num_rows
                for batch in _row_groups(chunk):
                    content.update(_ipc(batch))
                    writer.write_table(batch, row_group_size=ROW_GROUP_ROWS)
            if writer is None:
                content.update(_plain(schema).encode())
                writer = _writer(scratch, schema)
            header = Header(digest, content.hexdigest(), rows, dict(notes or {}))
            writer.add_key_value_metadata(
                {
                    DIGEST: digest,
                    CONTENT: header.content,
                    NOTES: json.dumps(header.notes, sort_keys=True),
                }
            )
        finally:
            if writer is not None:
                writer.close()
        publish(scratch, path)
    return header


def content_of(table: pa.Table) -> str:
    """The sha256 of a table's data, as a header names it where it is written in one piece."""
    return hashlib.sha256(_plain(table.schema).encode() + _ipc(table.combine_chunks())).hexdigest()


def fetch_file(path: str, into: Path) -> Path:
    """An object as a local file: itself where it is local, else a copy in a folder."""
    source, target = filesystem(path)
    if isinstance(source, pafs.LocalFileSystem):
        return Path(target)
    held = into / path.rsplit("/", 1)[-1]
    pafs.copy_files(target, str(held), source, pafs.LocalFileSystem())
    return held


def header_of(path: str) -> Header | None:
    """What a table says of itself; None where there is none, or nothing whole."""
    source, target = filesystem(path)
    if source.get_file_info(target).type != pafs.FileType.File:
        return None
    if path.endswith(JSON):
        table, said = _read_json(path)
        return Header(said[DIGEST.decode()], said[CONTENT.decode()], table.num_rows, said["notes"])
    try:
        footer = pq.read_metadata(target, filesystem=source)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path} is not a whole Parquet file ({error}); delete it and run again"
        ) from error
    held = footer.metadata or {}
    if DIGEST not in held or CONTENT not in held:
        return None
    notes = json.loads(held.get(NOTES, b"{}"))
    return Header(held[DIGEST].decode(), held[CONTENT].decode(), footer.num_rows, notes)


def read(path: str, *, columns: list[str] | None = None) -> pa.Table:
    """A partition, or the columns asked for, without the store's own metadata."""
    source, target = filesystem(path)
    if path.endswith(JSON):
        table, _ = _read_json(path)
        return table if columns is None else table.select(columns)
    try:
        table = pq.read_table(target, columns=columns, filesystem=source, partitioning=None)
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; run the stage that makes it first") from error
    return table.replace_schema_metadata(None)


def rows_where(
    path: str, column: str, values: pa.Array, *, columns: list[str] | None = None
) -> pa.Table:
    """Rows whose `column` is one of `values`, read one row group at a time.

    Args:
        path: The partition.
        column: Compared with `values`.
        values: Wanted.
        columns: What is read of the rows; None: all.
    """
    source, target = filesystem(path)
    file = pq.ParquetFile(target, filesystem=source)
    found = []
    for group in range(file.num_row_groups):
        is_asked = pc.is_in(file.read_row_group(group, columns=[column])[column], value_set=values)
        if pc.any(is_asked).as_py():
            found.append(file.read_row_group(group, columns=columns).filter(is_asked))
    table = pa.concat_tables(found) if found else file.schema_arrow.empty_table()
    table = table if columns is None else table.select(columns)
    return table.replace_schema_metadata(None)


def pieces(path: str, rows: int, *, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """A partition from its first row on, `rows` at a time; memory holds a piece and a row group.

    The last piece may be smaller; of a partition without rows there is one piece without rows.
    """
    source, target = filesystem(path)
    try:
        file = pq.ParquetFile(target, filesystem=source)
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; run the stage that makes it first") from error
    schema = file.schema_arrow.remove_metadata()
    held = schema.empty_table() if columns is None else schema.empty_table().select(columns)
    is_first = True
    for group in range(file.num_row_groups):
        read = file.read_row_group(group, columns=columns).replace_schema_metadata(None)
        held = pa.concat_tables([held, read.select(held.column_names)])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held, is_first = held.slice(rows), False
    if held.num_rows or is_first:
        yield held


def listing(folder: str) -> list[str]:
    """Names of the files right below a folder, sorted; empty where there is no folder."""
    source, target = filesystem(folder)
    selector = pafs.FileSelector(target, allow_not_found=True)
    return sorted(
        f.base_name for f in source.get_file_info(selector) if f.type == pafs.FileType.File
    )


def delete(path: str) -> None:
    """Remove an object that is no longer asked for; nothing happens where it is gone already."""
    source, target = filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        source.delete_file(target)


def publish(scratch: Path, path: str) -> None:
    """Make a finished local file visible at `path` in one step."""
    target_system, target = filesystem(path)
    if isinstance(target_system, pafs.LocalFileSystem):
        os.replace(scratch, target)
        return
    pafs.copy_files(str(scratch), target, pafs.LocalFileSystem(), target_system, use_threads=False)


def publish_folder(source: Path, folder: str, *, digest: str) -> Header:
    """Publish an artefact: every file, then `done.json`, which names them with their sha256.

    Records of how it was made are published beside it, but are no part of its content: two
    trainings that end in the same weights are one model.
    """
    files = {
        p.relative_to(source).as_posix(): sha256_of(p)
        for p in sorted(source.rglob("*"))
        if p.is_file()
    }
    results = {name: sha256 for name, sha256 in files.items() if name not in RECORDS}
    content = hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()
    former = header_of_folder(folder)
    delete(f"{folder}/{DONE}")  # first: between here and the new record nothing counts as done
    for name in set(former.notes["files"] if former else ()) - set(files):
        delete(f"{folder}/{name}")
    for name in files:
        put(source / name, f"{folder}/{name}")
    done = {"digest": digest, "content": content, "files": files}
    with tempfile.TemporaryDirectory() as held:
        record = Path(held, DONE)
        record.write_text(json.dumps(done, indent=1, sort_keys=True))
        put(record, f"{folder}/{DONE}")
    return Header(digest, content, 0, {"files": files})


def header_of_folder(folder: str) -> Header | None:
    """What an artefact says of itself; None where it was not finished."""
    source, target = filesystem(f"{folder}/{DONE}")
    if source.get_file_info(target).type != pafs.FileType.File:
        return None
    with source.open_input_stream(target) as stream:
        done = json.loads(stream.read())
    return Header(done["digest"], done["content"], 0, {"files": done["files"]})


def put(local: Path, path: str) -> None:
    """Copy a local file to `path`, whole or not at all."""
    with _scratch_file(path) as scratch:
        shutil.copyfile(local, scratch)
        publish(scratch, path)


def fetch_folder(folder: str, into: Path) -> Path:
    """A published artefact as a local folder: itself where it is local, else a checked copy."""
    source, target = filesystem(folder)
    if isinstance(source, pafs.LocalFileSystem):
        return Path(target)
    header = header_of_folder(folder)
    if header is None:
        raise DataError(f"{folder} holds no {DONE}; run the stage that makes it first")
    for name, sha256 in header.notes["files"].items():
        held = into / name
        held.parent.mkdir(parents=True, exist_ok=True)
        pafs.copy_files(f"{target}/{name}", str(held), source, pafs.LocalFileSystem())
        if sha256_of(held) != sha256:
            raise DataError(
                f"{folder}/{name} is not the file that {DONE} names; run its stage again"
            )
    return into


def _write_json(
    chunks: list[pa.Table], path: str, schema: pa.Schema, digest: str, notes: Mapping[str, Any]
) -> Header:
    """Write a small table as JSON, whole or not at all."""
    table = pa.concat_tables(chunks) if chunks else schema.empty_table()
    header = Header(digest, content_of(table), table.num_rows, dict(notes))
    said = {DIGEST.decode(): digest, CONTENT.decode(): header.content, "notes": header.notes}
    text = json_table.dumps(table, said, where=path)
    with _scratch_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
        publish(scratch, path)
    return header


def _read_json(path: str) -> tuple[pa.Table, dict[str, Any]]:
    """A table kept as JSON, and what it says of itself."""
    source, target = filesystem(path)
    try:
        with source.open_input_stream(target) as stream:
            text = stream.read().decode()
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; run the stage that makes it first") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text ({error}); delete it and run again") from error
    table, said = json_table.loads(text, where=path)
    if lacking := {DIGEST.decode(), CONTENT.decode(), "notes"} - set(said):
        raise DataError(
            f"{path} does not say its {', '.join(sorted(lacking))}; delete it and run again"
        )
    return table, said


@contextlib.contextmanager
def _scratch_file(path: str) -> Iterator[Path]:
    """A local file to fill: beside its target on disk, so that moving it is one step."""
    target_system, target = filesystem(path)
    try:
        if isinstance(target_system, pafs.LocalFileSystem):
            folder = Path(target).parent
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = Path(tempfile.gettempdir())
        handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=folder)
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield Path(name)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; free some space, then run again"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _writer(scratch: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Keys get statistics; for pixels they would cost a pass and serve nobody."""
    is_blob = [pa.types.is_fixed_size_binary(f.type) or pa.types.is_binary(f.type) for f in schema]
    plain = [f.name for f, blob in zip(schema, is_blob, strict=True) if not blob]
    return pq.ParquetWriter(
        scratch,
        schema.remove_metadata(),
        compression={
            f.name: "none" if blob else "zstd" for f, blob in zip(schema, is_blob, strict=True)
        },
        use_dictionary=[f.name for f in schema if f.type == pa.string()],
        write_statistics=plain,
        store_schema=True,
    )


def _row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """Pieces of fixed size from the chunk's first row: the same whatever buffers it is made of."""
    for start in range(0, table.num_rows, ROW_GROUP_ROWS):
        yield table.slice(start, ROW_GROUP_ROWS).combine_chunks()


def _ipc(table: pa.Table) -> bytes:
    """The bytes of a table's rows, without its schema's metadata."""
    sink = pa.BufferOutputStream()
    bare = pa.schema([f.remove_metadata() for f in table.schema])
    with pa.ipc.new_stream(sink, bare) as stream:
        stream.write_table(pa.Table.from_arrays(table.columns, schema=bare))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _plain(schema: pa.Schema) -> str:
    """Names, types and the metadata that says how to read them."""
    return "\n".join(f"{f.name} {f.type} {sorted((f.metadata or {}).items())}" for f in schema)


def sha256_of(path: Path) -> str:
    """Hash of a local file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
