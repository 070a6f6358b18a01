"""Pixels of many rows, gathered in any order to where the network lives.

On a CPU they stay where they are: in Arrow's buffers, in memory, or, where they are many, in a
memory-mapped file; only what a batch needs is copied. On a GPU all rows are sent there once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.data import pixels
from darkhaloscope.data.pixels import Layout, Pixels
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml.processes import of_environment

Ids = NDArray[np.int64]

FETCHED_AT_ONCE = 2048  # rows read from storage together: 160 MB of 80 px in three bands
IN_MEMORY_BYTES = 1 << 30  # more than this is kept in a file


class Raw(NamedTuple):
    """Stamps in nanomaggies (n, band, y, x), and their sky level (n, band), on the device."""

    pixels: Tensor
    sky_median: Tensor


class View(NamedTuple):
    """A square part of each of n images.

    Attributes:
        size_px: Its width.
        edge_px: Pixels of the image before its first, along x and y, (n, 2).
    """

    size_px: int
    edge_px: Ids


class PixelTable:
    """Pixels by id, with the columns that stand beside them.

    Attributes:
        heads: A row for each row of pixels, in their order.
    """

    def __init__(
        self, heads: pa.Table, parts: Sequence[Pixels], layout: Layout, *, of: str, device: Device
    ) -> None:
        """Hold pixels.

        Args:
            heads: Ids in column `of`, and `sky_median_<b>_nmgy`.
            parts: Pixels, shape (n, band, y, x) each, one after the other in the order of `heads`.
            layout: What the pixels are.
            of: Column of the ids: `stamp_id` or `target_id`.
            device: Where batches are wanted.

        Raises:
            DataError: an id stands twice.
        """
        self.heads, self._layout, self._of, self._device = heads, layout, of, device.name
        self._sky = pixels.per_band(heads, "sky_median_{b}_nmgy", layout.bands)
        ids = heads[of].to_numpy()
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        twice = self._ids[1:][self._ids[1:] == self._ids[:-1]]
        if len(twice):
            raise DataError(f"{of} {twice[0]} stands twice; run the stage that wrote it again")
        self._parts = [part for part in parts if len(part)]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self._on_device = self._sent() if device.name != "cpu" else None

    @classmethod
    def of_table(cls, table: pa.Table, *, of: str, device: Device) -> Self:
        """Pixels that stand in a table; rows without (they were refused) are left out."""
        if table["pixels"].null_count:
            table = table.filter(pc.is_valid(table["pixels"]))
        layout = pixels.layout_of(table.field("pixels"))
        parts = [pixels.decode(chunk, layout) for chunk in table["pixels"].chunks]
        return cls(table.drop_columns("pixels"), parts, layout, of=of, device=device)

    @classmethod
    def fetched(
        cls,
        heads: pa.Table,
        fetch: Callable[[Ids], Pixels],
        *,
        of: str,
        what: str = "pixels",
        pixel_scale_arcsec: float,
        bands: tuple[str, ...],
        folder: Path,
        device: Device,
    ) -> Self:
        """Pixels that are read from storage, once, a block of rows at a time.

        Args:
            heads: As in the constructor.
            fetch: Pixels (n, band, y, x) of n ids, in their order.
            of: Column of the ids.
            what: Name of what is held, for its file, of which each process has its own.
            pixel_scale_arcsec: Width of a pixel.
            bands: Of the pixels.
            folder: Holds the file where there are too many for memory.
            device: Where batches are wanted.
        """
        ids = heads[of].to_numpy()
        held: Pixels = np.zeros((0, len(bands), 1, 1), np.float32)
        for start in range(0, len(ids), FETCHED_AT_ONCE):
            block = fetch(ids[start : start + FETCHED_AT_ONCE])
            if start == 0:
                name = f"{of}.{what}" + (f".{rank}" if (rank := of_environment().rank) else "")
                held = _room((len(ids), *block.shape[1:]), folder / name)
            held[start : start + len(block)] = block
        layout = Layout(bands, held.shape[-1], pixel_scale_arcsec)
        return cls(heads, [held], layout, of=of, device=device)

    def __len__(self) -> int:
        """Rows with pixels."""
        return len(self._ids)

    @property
    def layout(self) -> Layout:
        """Bands, size and scale of the pixels."""
        return self._layout

    def positions(self, ids: Ids) -> Ids:
        """Position of each id, shape (n,).

        Raises:
            DataError: an id has no pixels.
        """
        place = np.searchsorted(self._ids, ids)
        found = place < len(self._ids)
        found[found] = self._ids[place[found]] == ids[found]
        if not found.all():
            raise DataError(
                f"{int((~found).sum())} of {len(ids)} rows have no pixels, the first {self._of} "
                f"{ids[~found][0]}: it is missing or refused; run stage manifest again"
            )
        return np.asarray(self._order[place], np.int64)

    def raw(self, positions: Ids, view: "View | None" = None) -> Raw:
        """Pixels (n, band, y, x) and sky median (n, band) at `positions`, on the device.

        Args:
            positions: Rows of the table, (n,).
            view: Which part of the pixels is wanted; None: all.
        """
        sky = sent(self._sky[positions], self._device)
        if self._on_device is None:
            return Raw(torch.from_numpy(self._gathered(positions, view)), sky)
        rows = sent(positions, self._device)
        if view is None:
            return Raw(self._on_device[rows], sky)
        band = torch.arange(len(self._layout.bands), device=self._device)
        along = torch.arange(view.size_px, device=self._device)
        x, y = (sent(edge, self._device)[:, None] + along for edge in view.edge_px.T.copy())
        at = (rows[:, None, None, None], band[:, None, None], y[:, None, :, None])
        return Raw(self._on_device[(*at, x[:, None, None, :])], sky)

    def _gathered(self, positions: Ids, view: "View | None") -> Pixels:
        part = np.searchsorted(self._starts, positions, side="right") - 1
        within = positions - self._starts[part]
        size = self._layout.size if view is None else view.size_px
        found = np.empty((len(positions), len(self._layout.bands), size, size), np.float32)
        if view is None:
            for number in np.unique(part):
                at = part == number
                found[at] = self._parts[number][within[at]]
            return found
        places = zip(part.tolist(), within.tolist(), *view.edge_px.T.tolist(), strict=True)
        for out, (number, row, x, y) in zip(found, places, strict=True):
            out[:] = self._parts[number][row, :, y : y + size, x : x + size]
        return found

    def _sent(self) -> Tensor:
        sent = torch.empty((len(self), *self._layout.shape), device=self._device)
        for start, part in zip(self._starts, self._parts, strict=False):
            sent[start : start + len(part)] = torch.from_numpy(np.array(part)).to(self._device)
        return sent


def _room(shape: tuple[int, ...], path: Path) -> Pixels:
    """An array to fill: in memory, or in a file where it is large."""
    if 4 * int(np.prod(shape)) <= IN_MEMORY_BYTES:
        return np.empty(shape, np.float32)
    return np.memmap(path, np.float32, mode="w+", shape=shape)
