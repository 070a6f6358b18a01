"""Batches to train on and to validate with: which stamps, in which order, made how.

The order of an epoch is a named draw, so that it depends on the stamps, the seed and the epoch
alone: a run continued after a kill sees what an undisturbed one would. Batches are made by threads
of their own, beside the network or by turns with it; torch lets go of Python's lock in both.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from threading import Lock
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml.heads import class_of
from darkhaloscope.ml.levers import Curriculum
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.processes import ALONE, Processes
from darkhaloscope.ml.transforms import (
    Augmentation,
    Normalisation,
    augment,
    augmentation,
    moved,
    turned,
    unmoved,
)

Ids = NDArray[np.int64]
Weights = NDArray[np.float32]
T = TypeVar("T")

DRAWN_AT_ONCE = 2048  # rows of the manifest; 1 MB of numbers
BATCHES_A_TURN = 4  # made at once by each thread: calls cost as much as a tenth of the work
AHEAD = 2  # batches in preparation a thread; more would only hold memory
DRAWS_A_ROUND = 100_000  # more than any round takes a stamp, and more than its epochs
PAINTING_SHARE = 0.15  # of a step's CPU seconds with `small`, as `dhs bench train` measures it


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        stamps: Normalised, (n, band, y, x).
        labels: 0 or 1, (n,) float32.
        stamp_ids: (n,), on the host.
        weights: By how much each counts in the loss, (n,) float32.
        classes: Place of its kind among those that the network tells apart, (n,) int64; -1: it is
            none of them, or the network tells lenses from negatives only.
        extra: Normalised numbers that the network is told beside the pixels, (n, k); None: none.
    """

    stamps: Tensor
    labels: Tensor
    stamp_ids: Ids
    weights: Tensor
    classes: Tensor
    extra: Tensor | None = None

    @property
    def seen(self) -> tuple[Tensor, ...]:
        """What the network is called with."""
        return (self.stamps,) if self.extra is None else (self.stamps, self.extra)

    def part(self, at: slice) -> "Batch":
        """Some of its stamps."""
        return Batch(
            self.stamps[at],
            self.labels[at],
            self.stamp_ids[at],
            self.weights[at],
            self.classes[at],
            None if self.extra is None else self.extra[at],
        )


class Source(Protocol):
    """Makes the batches of an epoch, where the network lives."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def makers(self) -> int:
        """Threads that making batches keeps busy; the network gets the others."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, 0 being the first; equal for equal epochs."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How an epoch is put together.

    Attributes:
        batch_size: Stamps a step.
        epoch_stamps: Stamps an epoch; what does not fill a batch is left out.
        mix: Share of each kind in every batch; kinds that are not named are not trained on.
        max_shift_px: Largest shift along each axis.
        size_px: Width of what the network sees.
        seed: Of order and augmentation.
    """

    batch_size: int
    epoch_stamps: int
    mix: Mapping[str, float]
    max_shift_px: int
    size_px: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.epoch_stamps // self.batch_size

    @property
    def taken(self) -> dict[str, int]:
        """Stamps of each kind in an epoch."""
        total = sum(self.mix.values())
        stamps = self.steps * self.batch_size
        return {kind: round(stamps * share / total) for kind, share in self.mix.items()}

    def passes(self, kinds: NDArray[np.str_]) -> int:
        """How often an epoch may take one stamp, at most; the same in all epochs."""
        often = [
            -(-wanted // max(int((kinds == kind).sum()), 1)) for kind, wanted in self.taken.items()
        ]
        return max(often) + 1  # one more, as rounding may be off by a few

    def order(self, kinds: NDArray[np.str_], ids: Ids, *, epoch: int) -> Ids:
        """Which stamps an epoch takes, in order: positions, shape (steps * batch_size,).

        Every batch has nearly the shares of `mix`. A kind with fewer stamps than it needs is gone
        through again, in the same order; one with more gives others in the next epoch.

        Raises:
            DataError: there is no stamp of a kind that the mix asks for.
        """
        positions, places = [], []
        for kind, wanted in self.taken.items():
            of_kind = np.flatnonzero(kinds == kind)
            if not len(of_kind) and wanted:
                held = ", ".join(sorted(set(kinds.tolist()))) or "none"
                raise DataError(
                    f"the mix asks for {kind!r}, but no training stamp is of that kind (there are: "
                    f"{held}); change model.mix or the manifest's copies"
                )
            draw = partial(keys.uniform, ids[of_kind], seed=self.seed)
            by_draw = np.argsort(draw(stream=f"order of epoch {epoch}"), kind="stable")
            positions.append(np.resize(of_kind[by_draw], wanted))
            within = np.resize(draw(stream=f"place in epoch {epoch}")[by_draw], wanted)
            places.append((np.arange(wanted) + within) / max(wanted, 1))
        order = np.argsort(np.concatenate(places), kind="stable")
        chosen = np.concatenate(positions)[order]
        return np.resize(chosen, self.steps * self.batch_size)  # rounding may be off by a few


@dataclass(frozen=True, slots=True)
class Crew:
    """Which threads make batches; neither number changes a batch.

    Attributes:
        makers: Threads that work beside the network, which leaves them to that; 0 where it would
            not fill one.
        by_turns: Threads that make as many batches while the network waits for them; 0: they are
            made while it works.
    """

    makers: int = 0
    by_turns: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A source that takes other stamps, turned and moved otherwise, in every epoch.

    Attributes:
        rows: Stamps to choose from: `stamp_id`, `kind`, `label`, and what `make` reads.
        redraw: Given rows, and how often each was taken before (n,): the rows to make instead, one
            for one and of the same kinds. Identity for stamps from disk.
        make: Makes raw stamps from rows, `plan.size_px` wide and moved as told, but not turned.
        plan: How an epoch is put together.
        normalise: What the network sees.
        crew: Which threads make batches.
        weights: By how much each of `rows` counts in the loss, (n,); None: all alike.
        classes: Kinds that the network tells apart; none: lenses from negatives.
        round: Of mining; each draws what no other one drew.
        extra: Normalised numbers that the network is told of each of `rows` beside the pixels,
            (n, k); None: none.
        curriculum: Which lenses count in the first steps; None: all.
        processes: Which part of every batch it gives.
    """

    rows: pa.Table
    redraw: Callable[[pa.Table, Ids], pa.Table]
    make: Callable[[pa.Table, Augmentation], Raw]
    plan: Plan
    normalise: Normalisation
    crew: Crew = field(default_factory=Crew)
    weights: Weights | None = None
    classes: tuple[str, ...] = ()
    round: int = 0
    extra: Weights | None = None
    curriculum: Curriculum | None = None
    processes: Processes = ALONE

    @property
    def makers(self) -> int:
        """Threads that making batches keeps busy; the network gets the others."""
        return self.crew.makers

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.plan.steps

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, prepared ahead or by turns with the network."""
        if self.crew.by_turns:
            made = together(self._tasks(epoch, BATCHES_A_TURN), threads=self.crew.by_turns)
        else:
            made = ahead(self._tasks(epoch), threads=max(1, self.makers), depth=AHEAD)
        with closing(made):
            for some in made:
                yield from some

    def _tasks(self, epoch: int, at_once: int = 1) -> Iterator[Callable[[], list[Batch]]]:
        """What makes the epoch's batches, so many at once."""
        kinds = np.asarray(self.rows["kind"].to_pylist(), dtype=np.str_)
        earlier = self.round * DRAWS_A_ROUND
        label = earlier + epoch
        order = self.plan.order(kinds, self.rows["stamp_id"].to_numpy(), epoch=label)
        before = _occurrence(order) + epoch * self.plan.passes(kinds) + earlier
        order, before = (self._part(values) for values in (order, before))
        size = self._size
        together_rows = size * at_once
        drawn_rows = max(1, DRAWN_AT_ONCE // together_rows) * together_rows
        for start in range(0, len(order), drawn_rows):
            part = slice(start, start + drawn_rows)
            drawn = _Once(partial(self._drawn, order[part], before[part]))
            for first in range(0, len(order[part]), together_rows):
                rows = slice(first, first + together_rows)
                step = epoch * self.steps + (start + first) // size
                yield partial(self._made, drawn, order[part], before[part], rows, step)

    @property
    def _size(self) -> int:
        """Stamps of a batch that this process makes."""
        return self.plan.batch_size // self.processes.count

    def _part(self, values: Ids) -> Ids:
        """Of an epoch's values those of this process: every so-manieth of each batch."""
        batches = values.reshape(self.steps, self.plan.batch_size)
        return np.ravel(batches[:, self.processes.rank :: self.processes.count])

    def _drawn(self, order: Ids, before: Ids) -> pa.Table:
        """The rows of some batches: drawing costs some ms a call, and next to nothing a row."""
        return self.redraw(self.rows.take(pa.array(order)), before).combine_chunks()

    def _made(
        self, drawn: "_Once[pa.Table]", order: Ids, before: Ids, part: slice, step: int
    ) -> list[Batch]:
        """Some batches, the first of which is step `step` of the training."""
        plan, before = self.plan, before[part]
        rows = drawn()[part]
        ids = rows["stamp_id"].to_numpy()
        how = augmentation(ids, before, seed=plan.seed, max_shift_px=plan.max_shift_px)
        raw = self.make(rows, how)
        stamps = self.normalise(turned(raw.pixels, how.symmetry), raw.sky_median)
        weights = None if self.weights is None else self.weights[order[part]]
        if self.curriculum is not None:
            steps = step + np.arange(len(ids)) // self._size
            heeded = self.curriculum.weights(rows, steps)
            weights = heeded if weights is None else heeded * weights
        extra = None if self.extra is None else self.extra[order[part]]
        made = _batch(rows, stamps, weights, self.classes, extra)
        starts = range(0, len(ids), self._size)
        return [made.part(slice(start, start + self._size)) for start in starts]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A source that gives the same stamps, unmoved and in their own order, in every epoch.

    `extra` holds the normalised numbers that the network is told of each of `rows` beside the
    pixels, (n, k); None: none.
    """

    rows: pa.Table
    make: Callable[[pa.Table], Raw]
    batch_size: int
    size_px: int
    normalise: Normalisation
    makers: int = 0
    classes: tuple[str, ...] = ()
    extra: Weights | None = None

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return int(-(-self.rows.num_rows // self.batch_size))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All stamps once."""
        for start in range(0, self.rows.num_rows, self.batch_size):
            rows = self.rows.slice(start, self.batch_size)
            raw = self.make(rows)
            stamps = augment(raw.pixels, self.size_px, unmoved(rows.num_rows))
            stamps = self.normalise(stamps, raw.sky_median)
            extra = None if self.extra is None else self.extra[start : start + rows.num_rows]
            yield _batch(rows, stamps, None, self.classes, extra)


def in_parts(training: Source, validation: Source, processes: Processes) -> tuple[Source, Source]:
    """What this process trains on and validates with; a part of either where there are several.

    Raises:
        ConfigError: the sources are others than `Drawn` and `Fixed`, the processes cannot have
            equal parts of a batch, or some would have nothing to validate with.
    """
    count = processes.count
    if count == 1:
        return training, validation
    if not isinstance(training, Drawn) or not isinstance(validation, Fixed):
        raise ConfigError("only sources Drawn and Fixed can be trained on in several processes")
    if training.plan.batch_size % count:
        raise ConfigError(
            f"batch_size {training.plan.batch_size} is not a multiple of the {count} processes; "
            "change one of them"
        )
    if validation.rows.num_rows < count:
        raise ConfigError(
            f"{validation.rows.num_rows} validation stamps are fewer than the {count} processes"
        )
    mine = np.arange(processes.rank, validation.rows.num_rows, count)
    extra = None if validation.extra is None else validation.extra[mine]
    part = replace(validation, rows=validation.rows.take(pa.array(mine)), extra=extra)
    return replace(training, processes=processes), part


def cut(make: Callable[[pa.Table], Raw], size_px: int) -> Callable[[pa.Table, Augmentation], Raw]:
    """For `Drawn`: stamps that are there already, moved and cut to `size_px`."""

    def made(rows: pa.Table, how: Augmentation) -> Raw:
        raw = make(rows)
        return Raw(moved(raw.pixels, size_px, how), raw.sky_median)

    return made


def crew_of(device: Device) -> Crew:
    """How painting and network share the device's threads.

    Painting gets what keeps up with `small`. Where that is less than half a thread, the two take
    turns, each with all threads: a core of its own would mostly wait, and a thread beside a network
    that has them all would hold up each of its operations.
    """
    if device.name != "cpu":
        return Crew(makers=1)
    makers = round(PAINTING_SHARE * device.threads)
    return Crew(makers, by_turns=0 if makers else device.threads)


def ahead(
    tasks: Iterator[Callable[[], T]], *, threads: int, depth: int
) -> Generator[T, None, None]:
    """Do `tasks` in threads, `depth` for each in advance, and give their results in order.

    An error of a task is raised where its result would be given. Each thread computes alone: cores
    that wait for each other would waste what running side by side gains.
    """
    with ThreadPoolExecutor(threads, "batches", initializer=_alone) as pool:
        waiting = deque(pool.submit(task) for task in islice(tasks, threads * depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(task) for task in islice(tasks, 1))
            yield result


def together(tasks: Iterator[Callable[[], T]], *, threads: int) -> Generator[T, None, None]:
    """Do `threads` of the tasks at once, give their results in order, and only then go on.

    An error of a task is raised where its result would be given.
    """
    with ThreadPoolExecutor(threads, "batches", initializer=_alone) as pool:
        while some := [pool.submit(task) for task in islice(tasks, threads)]:
            wait(some)
            for one in some:
                yield one.result()


class _Once(Generic[T]):
    """A result that several threads ask for and the first one makes."""

    def __init__(self, make: Callable[[], T]) -> None:
        """`make` is called when the result is first asked for."""
        self._make, self._lock, self._made = make, Lock(), list[T]()

    def __call__(self) -> T:
        """The result."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def _alone() -> None:
    """Let this thread's tensor operations use one core, and keep no record for gradients."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def _occurrence(values: Ids) -> Ids:
    """How often each value stood before, shape (n,)."""
    by_value = np.argsort(values, kind="stable")
    first = np.searchsorted(values[by_value], values[by_value], side="left")
    count = np.empty(len(values), np.int64)
    count[by_value] = np.arange(len(values)) - first
    return count


def _batch(
    rows: pa.Table,
    stamps: Tensor,
    weights: Weights | None,
    classes: tuple[str, ...],
    extra: Weights | None,
) -> Batch:
    """Normalised stamps of some rows with what the loss asks for, sent in one copy.

    Raises:
        DataError: a row has no label.
    """
    if rows["label"].null_count:
        raise DataError(
            f"{rows['label'].null_count} stamps have no label (kinds: "
            f"{', '.join(sorted(set(rows['kind'].to_pylist())))}); they can be scored, not learnt"
        )
    numbers = np.ones((3, rows.num_rows), np.float32)
    numbers[0] = rows["label"].to_numpy()
    if weights is not None:
        numbers[1] = weights
    kinds = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    numbers[2] = class_of(kinds, classes)
    labels, weight, place = sent(numbers, stamps.device).unbind()
    side_by_side = stamps.contiguous(memory_format=torch.channels_last)
    told = None if extra is None else sent(extra, stamps.device)
    return Batch(side_by_side, labels, rows["stamp_id"].to_numpy(), weight, place.long(), told)
