"""Scores of several models in one pass over a set: its pixels are made once and forgotten.

A pass goes block by block. A block's scores are a file for each model, written whole, so that a
pass that was stopped goes on from its last block, and only models that lack it are asked. The
folder of a model's files is a table of the stage `scores`: `dhs evaluate` reads it too.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from darkhaloscope.bench.frozen import sets
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.sets import Chunk
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.schemas import scores as schema_of

MADE_OF = "made_of.json"
SECONDS_BETWEEN_LINES = 20.0

log = logging.getLogger(__name__)

Logits = NDArray[np.float32]


Scorer = Callable[[Chunk], Logits]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a benchmark works.

    Attributes:
        folder: Holds pictures of sources, trainings and scores.
        device: Where tensors live.
    """

    folder: Path
    device: Device

    @property
    def sources(self) -> Path:
        """Folder of the pictures that sources are taken from."""
        return self.folder / "sources"

    @property
    def trainings(self) -> Path:
        """Holds a folder for each training."""
        return self.folder / "training"

    def scores(self, definition: Definition, which: str, name: str) -> Path:
        """Folder of a model's scores of a set."""
        return self.folder / "scores" / definition.name / f"set={which}" / name


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that can be asked.

    Attributes:
        sha256: Of its weights, or of what they follow from.
        make: Reads it: a function that gives a chunk's logits, (n,) float32.
    """

    sha256: str
    make: Callable[[], Scorer]


def score(definition: Definition, which: str, asked: Mapping[str, Asked], at: Workplace) -> float:
    """Score a set by several models, from where an earlier pass stopped.

    Args:
        definition: Of the benchmark.
        which: The set.
        asked: The models by name; made only where they lack a block.
        at: Where.

    Returns:
        Minutes of this pass.
    """
    began = said = time.monotonic()
    folders = {name: at.scores(definition, which, name) for name in asked}
    for name, one in asked.items():
        _keep_only(folders[name], _made_of(definition, which, one.sha256, at))
    made: dict[str, Scorer] = {}
    bank = sets.bank_of(definition, at.sources)
    with all_threads(at.device):
        for number, some in enumerate(sets.drawn(definition, which, bank)):
            files = {name: _file(folder, number) for name, folder in folders.items()}
            lacking = {name: file for name, file in files.items() if not file.exists()}
            made |= {name: asked[name].make() for name in lacking if name not in made}
            _block(definition, which, some, {made[n]: file for n, file in lacking.items()}, at)
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("%s: block %d scored", which, number + 1)
    log.info("%s: scored by %s", which, ", ".join(asked))
    return (time.monotonic() - began) / 60


def _block(
    definition: Definition, which: str, some: sets.Drawn, files: Mapping[Scorer, Path],
    at: Workplace,
) -> None:  # fmt: skip
    """Paint a block once, ask every model, write every model's file."""
    parts: dict[Scorer, list[pa.Table]] = {scorer: [] for scorer in files}
    if not files:
        return
    bank = sets.bank_of(definition, at.sources)
    for chunk in sets.painted(definition, which, some, bank, at.device):
        for scorer, tables in parts.items():
            tables.append(scored(chunk.rows, scorer(chunk), definition.bands))
    for scorer, tables in parts.items():
        _write(pa.concat_tables(tables), files[scorer])


@lru_cache(maxsize=8)
def fingerprint(definition: Definition, which: str, at: Workplace) -> str:
    """The sha256 of a set's rows, worked out once in a process."""
    return sets.fingerprint(definition, which, folder=at.sources)


def table(folder: Path) -> pa.Table:
    """All scores of a model, in the order of the set."""
    files = sorted(folder.glob("block-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def keep(
    definition: Definition, which: str, scores: pa.Table, *, name: str, sha256: str, at: Workplace
) -> None:
    """Write the scores of what was combined, as a pass would have."""
    folder = at.scores(definition, which, name)
    _keep_only(folder, _made_of(definition, which, sha256, at))
    _write(scores, _file(folder, 0))


def scored(rows: pa.Table, logits: Logits, bands: tuple[str, ...]) -> pa.Table:
    """Rows of a chunk with the column `logit` of `schemas.scores`."""
    field = schema_of(bands).field("logit")
    return rows.append_column(field, pa.array(np.asarray(logits, np.float32), field.type))


@contextmanager
def all_threads(device: Device) -> Iterator[None]:
    """Torch uses the device's threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(device.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _made_of(definition: Definition, which: str, sha256: str, at: Workplace) -> dict[str, str]:
    """What scores follow from."""
    return {
        "benchmark": definition.name,
        "definition_sha256": definition.sha256,
        "set": which,
        "set_sha256": fingerprint(definition, which, at),
        "model_sha256": sha256,
    }


def _keep_only(folder: Path, made_of: Mapping[str, str]) -> None:
    """An empty folder, or the one that an equal pass has begun."""
    held = folder / MADE_OF
    if held.exists() and json.loads(held.read_text(encoding="utf-8")) == made_of:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    held.write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")


def _file(folder: Path, number: int) -> Path:
    return folder / f"block-{number:04d}.parquet"


def _write(rows: pa.Table, path: Path) -> None:
    """One file, whole or not at all."""
    partial = path.with_suffix(".partial")
    pq.write_table(rows, partial)
    partial.replace(path)
