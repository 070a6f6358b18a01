"""What a stage is, what an engine is, and what a stage may be handed beside tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core.schemas import SchemaOf

Rounds = Literal["own", "before", "previous", "earlier", "first"]
Scope = Literal["partition", "tile", "whole"]
KeptAs = Literal["parquet", "json"]
MadeIn = Literal["every", "but_last", "last"]
Partition = Literal[
    "catalogue", "tile", "set/tile", "model", "model/set/tile", "ensemble/set", "whole"
]


@dataclass(frozen=True, slots=True)
class Input:
    """A table that a stage reads: which one, which of its columns, and how much of it.

    Attributes:
        table: Name of the stage that made it; also the parameter's name in `run`.
        schema: The columns handed over; what is not listed is not read.
        scope: `partition`, the output's own key; `tile`, the output's tile; `whole`, every tile.
        sets: For tables kept by set: which of them; empty: the output's own set.
        rows: `own set`: those that the output's own set is made of (kind `sky` for the set sky,
            else the other kinds of that split); `of chunk`: those whose target_id stands in the
            piece of the leading input that is handed over.
        for_sets: Sets of the output that need it; for others None is handed over. Empty: all.
        is_handed: False: part of the digest only; a resource reads it.
        rounds: Of tables that are made anew in every round of mining: `own`, the output's round,
            or the last one where the output has none; `before`, all rounds below the output's;
            `previous`, the one before it, if any; `earlier`, all below the last. A schema with the
            column `round` is handed the round. For an ensemble `own` is all its members, whose
            names, `NAME/round=k`, a schema with the column `member` is handed; `first`, the first.
        handed_as: The parameter's name in `run`, where it is not the table's.
    """

    table: str
    schema: SchemaOf
    scope: Scope = "tile"
    sets: tuple[str, ...] = ()
    rows: Literal["all", "own set", "of chunk"] = "all"
    for_sets: tuple[str, ...] = ()
    is_handed: bool = True
    rounds: Rounds = "own"
    handed_as: str = ""

    @property
    def parameter(self) -> str:
        """Its name among the arguments of `run`."""
        return self.handed_as or self.table


@dataclass(frozen=True, slots=True)
class Stage:
    """A pure function on Arrow tables, and what the runner has to know of it.

    Attributes:
        name: Noun; also the section of the run's file and the folder at the root.
        version: Raised when the same input gives another output; part of every digest.
        run: Called as `run(**tables, **resources, config=...)`; a table stage returns a table, an
            artefact stage returns the folder that it filled.
        inputs: Tables it reads. With `chunk_rows`, the first that the output's set needs leads: it
            is handed over piece by piece.
        output: Schema of its table; None for an artefact.
        partition: What one output object holds.
        chunk_rows: Rows of the leading input handed over at once; None: all.
        needs: Named resources: `survey`, `device`, `scratch`, `partition` (the output's key, a
            string), `model` (a `TrainedModel`), `models` (all members of an ensemble, else the
            one), `pixels` (a `PixelSource`), `sources` (the run's `ml.sources.SourceBank`, None
            where it asks for no pictures; part of the digest),
            `provenance` (a `Provenance`; part of the digest), `lists` (positions by address, of the
            property `lists` of the settings; part of the digest).
        splits_output_by: Column whose values name the output's tiles where a stage computed whole
            is written by tile.
        external: What outside the run the partition is made from, as text for the digest; called
            with the partition's key, the input tables' paths and the survey.
        after: Stages that must be made first, and whose verdict must not stand against it; what
            they found is no part of what it is made from.
        verdict: Why nothing after it may be made, called with the folder of an artefact, or the
            file of a table, on this machine, and its address; empty: nothing. None: it judges
            nothing.
        verdict_at: `once`: a verdict stops the run there; `end`: everything else is made first.
        kept_as: How its table is written: `json` is one file that a person can read.
        made_in: Of outputs by model: the rounds of mining that have one; `but_last`: all below the
            last, so that a run without mining has none.
    """

    name: str
    version: int
    run: Callable[..., Any]
    inputs: tuple[Input, ...]
    output: SchemaOf | None
    partition: Partition
    chunk_rows: int | None = None
    needs: tuple[str, ...] = ()
    splits_output_by: str | None = None
    external: Callable[[str, Mapping[str, pa.Table], Any], str] | None = None
    after: tuple[str, ...] = ()
    verdict: Callable[[Path, str], str] | None = None
    verdict_at: Literal["once", "end"] = "once"
    kept_as: KeptAs = "parquet"
    made_in: MadeIn = "every"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A published model: the name the run's file gives it, and its local folder."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a run's artefact was made from.

    Attributes:
        settings: sha256 of the settings of each stage, as they were used.
        data: Of each table that is read, the number of its partitions and the sha256 of their
            contents.
        gates: What the run's gates said: the rows of gates.json.
    """

    settings: Mapping[str, str]
    data: Mapping[str, tuple[int, str]]
    gates: Sequence[Mapping[str, Any]]


class PixelSource(Protocol):
    """Pixels by id, read from where they are stored and only for the rows asked for."""

    def stamps(self, stamp_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Stamps in the order of the ids, shape (n, band, y, x), nmgy."""
        ...

    def cutouts(self, target_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cutouts in the order of the ids, shape (n, band, y, x), nmgy."""
        ...

    def psf_images(self, target_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """PSF images of the cutouts in the order of the ids, shape (n, band, k, k)."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """Where tensors live: `cpu` or `cuda`. It changes speed and the last bits, not the result."""

    name: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Scratch:
    """A local folder named by the digest, which survives a kill and goes when the stage is done."""

    path: Path


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one partition: small, and safe to send between processes."""

    stage: str
    partition: str
    state: Literal["written", "current", "failed"]
    rows: int = 0
    seconds: float = 0.0
    message: str = ""
    is_bug: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Runs a task over partitions; both engines write the same bytes."""

    def map(self, task: Callable[[str], Report], partitions: Sequence[str]) -> Iterator[Report]:
        """Yield each partition's report as it ends, in any order."""
        ...
