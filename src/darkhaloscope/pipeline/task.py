"""One partition of a stage brought up to date, wherever an engine runs it.

Current means: the object is there and its digest names the stage, its version, its schema, its
settings, and the content of everything it was read from. What is raised becomes a small report, so
that a bad tile costs one tile.
"""

import glob
import hashlib
import json
import logging
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.config import digest_text, is_asked, stage_config
from darkhaloscope.core.contracts import (
    Device,
    Input,
    Provenance,
    Report,
    Scratch,
    Stage,
    TrainedModel,
)
from darkhaloscope.core.errors import DarkHaloScopeError, DataError
from darkhaloscope.core.settings.base import StageConfig
from darkhaloscope.data import store
from darkhaloscope.pipeline import lists, sources
from darkhaloscope.pipeline.layout import WHOLE, Layout, member_of, round_of, set_of
from darkhaloscope.pipeline.pixels import StoredPixels
from darkhaloscope.pipeline.registry import ORDER, stage_named
from darkhaloscope.survey.files import Survey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """Brings one partition of a stage's output up to date; picklable."""

    name: str
    layout: Layout
    survey: Survey
    device: Device

    @property
    def stage(self) -> Stage:
        """The stage's record."""
        return stage_named(self.name)

    def __call__(self, key: str) -> Report:
        """Make the partition unless it is current, and say what became of it."""
        start = time.monotonic()
        try:
            header, is_new = self._make(key)
        except DarkHaloScopeError as error:
            return self._failed(key, start, f"{type(error).__name__}: {error}", is_bug=False)
        except Exception:  # noqa: BLE001  (the border: a bug in one tile must not lose the others)
            return self._failed(key, start, traceback.format_exc(), is_bug=True)
        state = "written" if is_new else "current"
        return Report(self.name, key, state, header.rows, time.monotonic() - start)  # type: ignore[arg-type]

    def state(self, key: str) -> str:
        """`current`, `stale`, or `missing`, without computing anything."""
        try:
            digest = self.digest(key)
        except DataError:
            return "missing" if self._header(key) is None else "stale"
        header = self._header(key)
        if header is None:
            return "missing"
        return "current" if header.digest == digest and self._is_complete(header) else "stale"

    def digest(self, key: str) -> str:
        """Names all that the partition is made from.

        Raises:
            DataError: an input is not there.
        """
        stage = self.stage
        made_of = [
            stage.name,
            str(stage.version),
            self._schema_text(),
            digest_text(self._config(key).of_output()),
        ]
        paths: dict[str, list[str]] = {}
        for wanted in stage.inputs:
            paths[wanted.parameter] = self.layout.inputs(stage, wanted, key)
            for path in paths[wanted.parameter]:
                made_of.append(f"{wanted.parameter} {_content(path)}")
        if "device" in stage.needs and stage.output is None:
            made_of.append(self.device.name)  # a network trained elsewhere is another network
        if "sources" in stage.needs and (bank := sources.digest_of(self.layout.config)):
            made_of.append(f"sources {bank}")
        if "lists" in stage.needs:
            made_of += [f"list {content}" for content in lists.digest_of(self._config(key))]
        if "provenance" in stage.needs:
            made_of += [f"{k} {v}" for k, v in self._settings().items()]
        if stage.external is not None:
            made_of.append(stage.external(self._named(key), paths, self.survey))
        return hashlib.sha256("\n".join(made_of).encode()).hexdigest()

    def _make(self, key: str) -> tuple[store.Header, bool]:
        digest = self.digest(key)
        held = self._header(key)
        if held is not None and held.digest == digest and self._is_complete(held):
            return held, False
        if self.stage.output is None:
            return self._make_folder(key, digest), True
        if self.stage.splits_output_by:
            return self._make_tiles(key, digest), True
        path = self.layout.path(self.name, key)
        empty = self.stage.output(self._config(key).bands)
        return store.write(self._results(key), path, schema=empty, digest=digest), True

    def _results(self, key: str) -> Iterator[pa.Table]:
        """The stage's output, one table a piece of its leading input."""
        stage, config, leading = self.stage, self._config(key), self._leading(key)
        tables = {
            i.parameter: self._table(i, key)
            for i in stage.inputs
            if i.is_handed and i.rows != "of chunk" and i is not leading
        }
        with tempfile.TemporaryDirectory() as held:
            handed = self._resources(key, Path(held))
            for piece in self._pieces(leading, key):
                if leading is not None:
                    tables[leading.parameter] = piece
                beside = {
                    i.parameter: self._rows_of(i, key, piece)
                    for i in stage.inputs
                    if i.rows == "of chunk"
                }
                table = stage.run(**tables, **beside, **handed, config=config)
                yield self._checked(table, config)

    def _leading(self, key: str) -> Input | None:
        """The input that is handed over piece by piece: the first that this partition needs."""
        if self.stage.chunk_rows is None:
            return None
        return next(i for i in self.stage.inputs if _is_needed(i, key))

    def _pieces(self, leading: Input | None, key: str) -> Iterator[pa.Table | None]:
        """The leading input from its first row on; whole tables of pixels are never in memory."""
        at_once = self.stage.chunk_rows
        if leading is None or at_once is None:
            yield None
        elif leading.rows == "all":
            schema = leading.schema(self._config(key).bands)
            paths = self.layout.inputs(self.stage, leading, key)
            if not paths:
                yield schema.empty_table()
            for path in paths:
                for piece in store.pieces(path, at_once, columns=schema.names):
                    yield schemas.conform(piece, schema, where=path)
        else:
            first = self._table(leading, key)
            assert first is not None  # noqa: S101  (it leads because this partition needs it)
            for start in range(0, max(first.num_rows, 1), at_once):
                yield first.slice(start, at_once)

    def _make_tiles(self, key: str, digest: str) -> store.Header:
        """A table computed whole and written by tile; each tile's footer lists them all."""
        column = self.stage.splits_output_by or ""
        whole = pa.concat_tables(self._results(key))
        tiles = sorted(pc.unique(whole[column]).to_pylist())
        parts = {tile: whole.filter(pc.equal(whole[column], tile)) for tile in tiles}
        notes = {"tiles": {tile: _counts(part["split"]) for tile, part in parts.items()}}
        for stale in store.listing(f"{self.layout.config.root}/{self.name}"):
            if stale.removeprefix("tile=").removesuffix(".parquet") not in parts:
                store.delete(f"{self.layout.config.root}/{self.name}/{stale}")
        for tile, part in parts.items():
            path = self.layout.path(self.name, tile)
            store.write([part], path, schema=whole.schema, digest=digest, notes=notes)
        return store.Header(digest, "", whole.num_rows, notes)

    def _make_folder(self, key: str, digest: str) -> store.Header:
        """An artefact: filled in scratch, which survives a kill, then published."""
        prefix = f"{self.name}-{key.replace('/', '-')}-"
        scratch = scratch_folder(self.layout.config.root) / f"{prefix}{digest[:16]}"
        scratch.mkdir(parents=True, exist_ok=True)
        tables = {i.parameter: self._table(i, key) for i in self.stage.inputs if i.is_handed}
        with tempfile.TemporaryDirectory() as held:
            handed = self._resources(key, Path(held), scratch)
            folder = self.stage.run(**tables, **handed, config=self._config(key))
        header = store.publish_folder(Path(folder), self.layout.path(self.name, key), digest=digest)
        for left in scratch.parent.glob(f"{glob.escape(prefix)}*"):  # of killed runs, too
            shutil.rmtree(left, ignore_errors=True)
        return header

    def _table(self, wanted: Input, key: str) -> pa.Table | None:
        """One input, checked; None where this set does not need it."""
        paths = self.layout.inputs(self.stage, wanted, key)
        schema = wanted.schema(self._config(key).bands)
        if not paths:
            return schema.empty_table() if _is_needed(wanted, key) else None
        tables = []
        for path in paths:
            table = self._read(wanted, path, schema)
            if wanted.rows == "own set":
                table = table.filter(_is_of_set(table, set_of(key)))
            tables.append(schemas.conform(table, schema, where=path))
        return pa.concat_tables(tables)

    def _read(self, wanted: Input, path: str, schema: pa.Schema) -> pa.Table:
        """Columns of a partition; what a path tells, round and member, is added where asked for."""
        output = stage_named(wanted.table).output
        own = () if output is None else output(self.layout.config.survey.bands).names
        told: dict[str, Any] = {"round": round_of(path), "member": member_of(path)}
        told = {name: v for name, v in told.items() if name in schema.names and name not in own}
        table = store.read(path, columns=[name for name in schema.names if name not in told])
        for name, value in told.items():
            values = pa.array([value] * table.num_rows, schema.field(name).type)
            table = table.append_column(name, values)
        return table

    def _rows_of(self, wanted: Input, key: str, piece: pa.Table | None) -> pa.Table | None:
        """The rows of a large input that a piece of the first one asks for."""
        paths = self.layout.inputs(self.stage, wanted, key)
        if piece is None or not paths:
            return None
        ids = pc.unique(piece["target_id"])
        schema = wanted.schema(self._config(key).bands)
        found = [
            schemas.conform(
                store.rows_where(p, "target_id", ids, columns=schema.names), schema, where=p
            )
            for p in paths
        ]
        return pa.concat_tables(found)

    def _checked(self, table: pa.Table, config: StageConfig) -> pa.Table:
        if self.stage.output is None:
            raise TypeError(f"stage {self.name} makes no table")
        return schemas.conform(
            table, self.stage.output(config.bands), where=f"output of {self.name}"
        )

    def _resources(self, key: str, held: Path, scratch: Path | None = None) -> dict[str, Any]:
        """What the stage needs beside tables."""
        makers: dict[str, Callable[[], Any]] = {
            "survey": lambda: self.survey,
            "device": lambda: self.device,
            "partition": lambda: self._named(key),
            "scratch": lambda: Scratch(scratch or held),
            "pixels": lambda: StoredPixels(
                self._pixel_paths("stamps", key), self._pixel_paths("cutouts", key)
            ),
            "sources": lambda: sources.opened(
                self.layout.config, sources_lock(self.layout.config.root)
            ),
            "lists": lambda: lists.opened(self._config(key)),
            "model": lambda: self._model(key, held),
            "models": lambda: self._models(key, held),
            "provenance": lambda: self._provenance(key, held),
        }
        return {need: makers[need]() for need in self.stage.needs}

    def _model(self, key: str, held: Path) -> TrainedModel | None:
        """The model that an output is made with; None: there is none before the first round."""
        found = self._models(key, held)
        if not found:
            return None
        (model,) = found
        return model

    def _models(self, key: str, held: Path) -> tuple[TrainedModel, ...]:
        """The model that an output is made with, or of an ensemble those of all its members."""
        wanted = next(i for i in self.stage.inputs if i.table == "model")
        named = [a.rsplit("/", 2) for a in self.layout.inputs(self.stage, wanted, key)]
        return tuple(
            TrainedModel(name, store.fetch_folder(f"{root}/{name}/{k}", held / name / k))
            for root, name, k in named
        )

    def _provenance(self, key: str, held: Path) -> Provenance:
        """Hashes of every stage's settings and of the tables read here, and what the gates said."""
        data = {}
        for wanted in self.stage.inputs:
            contents = [_content(p) for p in self.layout.inputs(self.stage, wanted, key)]
            data[wanted.parameter] = (len(contents), _sha256("\n".join(contents)))
        gates = store.fetch_folder(self.layout.path("gates", WHOLE), held / "gates")
        rows = json.loads((gates / "gates.json").read_text(encoding="utf-8"))
        return Provenance(self._settings(), data, rows)

    def _settings(self) -> dict[str, str]:
        """The sha256 of each stage's settings; of all models for `model`."""
        config = self.layout.config
        made = {}
        for name in ORDER:
            if not is_asked(config, name):
                continue
            several = {"model": config.model, "ensemble": config.ensemble}
            models = list(several.get(name) or [None])
            texts = [digest_text(stage_config(config, name, model=m)) for m in models]
            made[name] = _sha256("\n".join(texts))
        return made

    def _pixel_paths(self, table: str, key: str) -> tuple[str, ...]:
        found = [
            p
            for i in self.stage.inputs
            if i.table == table
            for p in self.layout.inputs(self.stage, i, key)
        ]
        return tuple(found)

    def _config(self, key: str) -> StageConfig:
        name = key.split("/", 1)[0] if self.name in ("model", "ensemble") else None
        return stage_config(self.layout.config, self.name, model=name)

    def _named(self, key: str) -> str:
        """What a stage is told of its partition: a catalogue's path, else the key itself."""
        return self.layout.catalogues.get(key, key)

    def _schema_text(self) -> str:
        bands = self.layout.config.survey.bands
        return "" if self.stage.output is None else str(self.stage.output(bands).remove_metadata())

    def _header(self, key: str) -> store.Header | None:
        if self.stage.output is None:
            return store.header_of_folder(self.layout.path(self.name, key))
        if self.stage.splits_output_by:
            return tiles_header(self.layout.config.root, self.name)
        return store.header_of(self.layout.path(self.name, key))

    def _is_complete(self, header: store.Header) -> bool:
        """Every tile that a footer lists is there and of the same making."""
        if not self.stage.splits_output_by:
            return True
        heads = [
            store.header_of(self.layout.path(self.name, tile)) for tile in header.notes["tiles"]
        ]
        return all(h is not None and h.digest == header.digest for h in heads)

    def _failed(self, key: str, start: float, message: str, *, is_bug: bool) -> Report:
        return Report(self.name, key, "failed", 0, time.monotonic() - start, message, is_bug)


def _is_needed(wanted: Input, key: str) -> bool:
    """Whether the set of a partition needs an input."""
    return not wanted.for_sets or set_of(key) in wanted.for_sets


def _is_of_set(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """Which rows a set is made of: targets as observed for the sky, else the others of a split."""
    is_sky = pc.equal(rows["kind"], "sky")
    if name == "sky":
        return is_sky
    return pc.and_not(pc.equal(rows["split"], name), is_sky)


def tiles_header(root: str, table: str) -> store.Header | None:
    """The header of a table that is written by tile: of its first tile, which lists the others."""
    for name in store.listing(f"{root}/{table}"):
        if name.startswith("tile=") and (header := store.header_of(f"{root}/{table}/{name}")):
            return header
    return None


def scratch_folder(root: str) -> Path:
    """Where artefacts are prepared: on this machine, beside a local root."""
    if "://" in root:
        name = hashlib.sha256(root.encode()).hexdigest()[:16]
        return Path.home() / ".cache" / "darkhaloscope" / "scratch" / name
    return Path(root) / ".scratch"


def sources_lock(root: str) -> Path:
    """Where workers of this machine agree who builds the bank of sources."""
    return scratch_folder(root) if "://" in root else Path(root) / "sources"


def _content(path: str) -> str:
    is_table = path.endswith((".parquet", ".json"))
    header = store.header_of(path) if is_table else store.header_of_folder(path)
    if header is None:
        raise DataError(f"{path} is not there; run the stage that makes it first")
    return header.content


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
