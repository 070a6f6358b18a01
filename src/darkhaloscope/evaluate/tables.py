"""Score tables of other finders as files: CSV, Parquet, or a folder of Parquet.

What is asked for is read batch by batch, and only the columns that are asked for, so that memory
grows with them and not with the table. Text of a CSV stays text here: what it means is decided
where the columns are read.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from darkhaloscope.core.errors import DataError

BATCH_ROWS = 1 << 18
CSV_BLOCK_BYTES = 1 << 23
NO_VALUE = ("", "NA", "N/A", "None", "NULL", "null", "NaN", "nan")  # a cell of a CSV without one
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a table.

    Attributes:
        path: Where it is.
        names: Its columns as people name them, and as the file does; blanks around are dropped.
        keys: What its folders say of all its rows: `set=test` gives `{"set": "test"}`.
        is_parquet: Parquet; else text.
    """

    path: Path
    names: dict[str, str]
    keys: dict[str, str] = field(default_factory=dict)
    is_parquet: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Files that hold one table.

    Attributes:
        where: What the user named, for messages.
        files: In the order of their paths.
        columns: Columns that every file has, in the order of the first.
    """

    where: str
    files: tuple[File, ...]
    columns: tuple[str, ...]

    def only(self, key: str, value: str) -> "Table":
        """The files whose folder says `key=value`, and those whose folder does not say."""
        kept = tuple(f for f in self.files if f.keys.get(key, value) == value)
        return Table(self.where, kept, self.columns)

    def values_of(self, key: str) -> list[str]:
        """What the folders say for a key."""
        return sorted({f.keys[key] for f in self.files if key in f.keys})

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some rows at a time, with these columns; those of a CSV are text.

        Raises:
            DataError: a file breaks off, or has lines of another number of columns than its head.
        """
        for file in self.files:
            yield from _parquet(file, columns) if file.is_parquet else _csv(file, columns)


def find(path: Path) -> Table:
    """The table that a file or folder holds; nothing but names is read.

    Raises:
        DataError: there is nothing, or nothing that can be read.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise DataError(f"{path} is not there; expected a CSV or Parquet file, or a folder of it")
    file = _file(path)
    return Table(str(path), (file,), tuple(file.names))


def _folder(path: Path) -> Table:
    """Every Parquet file below a folder, with what the folders' names say."""
    found = sorted(
        p
        for p in path.rglob("*.parquet")
        if p.is_file() and not any(part[0] in "._" for part in p.relative_to(path).parts)
    )
    if not found:
        raise DataError(f"{path} holds no Parquet file; name a CSV file itself, not its folder")
    files = []
    for each in found:
        # the folder named by the user may itself be set=test
        parts = [path.absolute().name, *each.relative_to(path).parts[:-1]]
        keys = dict(part.split("=", 1) for part in parts if "=" in part)
        files.append(File(each, _file(each).names, keys))
    columns = dict.fromkeys([*files[0].names, *files[0].keys])
    for file in files[1:]:
        columns = {c: None for c in columns if c in file.names or c in file.keys}
    return Table(str(path), tuple(files), tuple(columns))


def _file(path: Path) -> File:
    try:
        with path.open("rb") as opened:
            is_parquet = opened.read(4) == PARQUET_MAGIC
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if is_parquet or path.suffix == ".parquet":
        try:
            names = pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is no whole Parquet file; write it again") from error
    else:
        names = _head(path)
    named = {name.strip(): name for name in names}
    if len(named) < len(names):
        twice = sorted(
            {n.strip() for n in names if [m.strip() for m in names].count(n.strip()) > 1}
        )
        raise DataError(f"{path} has columns twice: {', '.join(map(repr, twice))}; rename them")
    return File(path, named, is_parquet=is_parquet or path.suffix == ".parquet")


def _head(path: Path) -> list[str]:
    """Names in the first line of a text file; a name that is empty is left as it is."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            head = next(csv.reader(text, delimiter=_delimiter(path)), [])
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        said = "expected CSV (saved as UTF-8, a line of names first, commas between) or Parquet"
        raise DataError(f"{path} is no table that can be read; {said}") from error
    if not head:
        raise DataError(f"{path} is empty; expected a line of column names, then one line a stamp")
    if len(head) == 1 and any(mark in head[0] for mark in ";\t|"):
        raise DataError(
            f"{path} has no commas between its columns: {head[0]!r}; write it with them"
        )
    return head


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _parquet(file: File, columns: Sequence[str]) -> Iterator[pa.Table]:
    inside = [c for c in columns if c in file.names]
    try:
        opened = pq.ParquetFile(file.path)
        for batch in opened.iter_batches(BATCH_ROWS, columns=[file.names[c] for c in inside]):
            made = dict(zip(inside, (batch[file.names[c]] for c in inside), strict=True))
            yield _with_keys(file, columns, made, batch.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file.path} breaks off or is damaged; write it again") from error


def _csv(file: File, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of text; every line that is too long or too short is counted, then named."""
    bad: list[str] = []

    def refuse(row: pacsv.InvalidRow) -> str:
        bad.append(f"{row.actual_columns} columns instead of {row.expected_columns}: {row.text!r}")
        return "skip"

    names = [file.names[c] for c in columns]
    read = pacsv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    parse = pacsv.ParseOptions(delimiter=_delimiter(file.path), invalid_row_handler=refuse)
    convert = pacsv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        null_values=list(NO_VALUE),
        strings_can_be_null=True,
    )
    try:
        for batch in pacsv.open_csv(file.path, read, parse, convert):
            values = (_trimmed(batch[name]) for name in names)
            yield _with_keys(file, columns, dict(zip(columns, values, strict=True)), len(batch))
    except (pa.ArrowInvalid, OSError) as error:
        if "UTF8" in str(error):
            raise DataError(f"{file.path} is not in UTF-8: save it as UTF-8") from error
        raise DataError(f"{file.path} cannot be read as CSV: {error}") from error
    if bad:
        many = "a line is" if len(bad) == 1 else f"{len(bad):,} lines are"
        raise DataError(f"{file.path}: {many} broken; the first has {bad[0]}")


def _trimmed(text: pa.Array) -> pa.Array:
    """Text without the blanks around it; nothing but blanks is no value."""
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), None, text)


def _with_keys(
    file: File, columns: Sequence[str], inside: dict[str, pa.Array], n_rows: int
) -> pa.Table:
    """A batch with the columns in the order asked for; what folders say is the same in each row."""
    made = {c: inside[c] if c in inside else pa.repeat(file.keys[c], n_rows) for c in columns}
    return pa.table(made)
