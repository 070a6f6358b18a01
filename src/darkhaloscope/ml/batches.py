"""Batches to train on and to validate with: which stamps, in which order, made how.

The order of an epoch is a named draw, so that it depends on the stamps, the seed and the epoch
alone: a run continued after a kill sees what an undisturbed one would. A thread prepares the next
batch while the network works on the present one; torch lets go of Python's lock in both.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.transforms import Normalisation, augment, augmentation, unmoved

Ids = NDArray[np.int64]
T = TypeVar("T")

AHEAD = 2  # batches in preparation a thread; more would only hold memory
PAINTING_SHARE = 0.3  # of the time: painting a stamp takes 1.4 ms, a step of `small` 3.2 ms on it


class Batch(NamedTuple):
    """What one step sees: normalised stamps (n, band, y, x), labels 0 or 1 (n,), ids (n,)."""

    stamps: Tensor
    labels: Tensor
    stamp_ids: Ids


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
    def _shares(self) -> dict[str, int]:
        """Stamps of each kind in an epoch."""
        total = sum(self.mix.values())
        stamps = self.steps * self.batch_size
        return {kind: round(stamps * share / total) for kind, share in self.mix.items()}

    def passes(self, kinds: NDArray[np.str_]) -> int:
        """How often an epoch may take one stamp, at most; the same in all epochs."""
        often = [
            -(-wanted // max(int((kinds == kind).sum()), 1))
            for kind, wanted in self._shares.items()
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
        for kind, wanted in self._shares.items():
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
class Drawn:
    """A source that takes other stamps, turned and moved otherwise, in every epoch.

    Attributes:
        rows: Stamps to choose from: `stamp_id`, `kind`, `label`, and what `make` reads.
        redraw: Given rows, and how often each was taken before (n,): the rows to make instead, one
            for one and of the same kinds. Identity for stamps from disk.
        make: Makes raw stamps from rows, wider than `plan.size_px` where they are to be moved.
        plan: How an epoch is put together.
        normalise: What the network sees.
        makers: Threads that making batches keeps busy; 0 for stamps that are only read.
    """

    rows: pa.Table
    redraw: Callable[[pa.Table, Ids], pa.Table]
    make: Callable[[pa.Table], Raw]
    plan: Plan
    normalise: Normalisation
    makers: int = 0

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.plan.steps

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, prepared ahead."""
        return ahead(self._tasks(epoch), threads=max(1, self.makers), depth=AHEAD)

    def _tasks(self, epoch: int) -> Iterator[Callable[[], Batch]]:
        kinds = np.asarray(self.rows["kind"].to_pylist(), dtype=np.str_)
        order = self.plan.order(kinds, self.rows["stamp_id"].to_numpy(), epoch=epoch)
        before = _occurrence(order) + epoch * self.plan.passes(kinds)
        for start in range(0, len(order), self.plan.batch_size):
            part = slice(start, start + self.plan.batch_size)
            yield partial(self._batch, self.rows.take(pa.array(order[part])), before[part])

    def _batch(self, rows: pa.Table, before: Ids) -> Batch:
        plan, rows = self.plan, self.redraw(rows, before)
        ids = rows["stamp_id"].to_numpy()
        raw = self.make(rows)
        how = augmentation(ids, before, seed=plan.seed, max_shift_px=plan.max_shift_px)
        stamps = self.normalise(augment(raw.pixels, plan.size_px, how), raw.sky_median)
        return Batch(_side_by_side(stamps), _labels(rows, stamps.device), ids)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A source that gives the same stamps, unmoved and in their own order, in every epoch."""

    rows: pa.Table
    make: Callable[[pa.Table], Raw]
    batch_size: int
    size_px: int
    normalise: Normalisation
    makers: int = 0

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
            labels = _labels(rows, stamps.device)
            yield Batch(_side_by_side(stamps), labels, rows["stamp_id"].to_numpy())


def makers_of(device: Device) -> int:
    """How many of the device's threads should paint, so that painting keeps up with `small`."""
    return max(1, round(PAINTING_SHARE * device.threads)) if device.name == "cpu" else 1


def ahead(tasks: Iterator[Callable[[], T]], *, threads: int, depth: int) -> Iterator[T]:
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


def _side_by_side(stamps: Tensor) -> Tensor:
    return stamps.contiguous(memory_format=torch.channels_last)


def _labels(rows: pa.Table, device: torch.device) -> Tensor:
    """Labels as the loss takes them.

    Raises:
        DataError: a row has none.
    """
    if rows["label"].null_count:
        raise DataError(
            f"{rows['label'].null_count} stamps have no label (kinds: "
            f"{', '.join(sorted(set(rows['kind'].to_pylist())))}); they can be scored, not learnt"
        )
    return torch.from_numpy(rows["label"].to_numpy().astype(np.float32)).to(device)
