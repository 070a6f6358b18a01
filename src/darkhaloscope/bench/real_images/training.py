"""Feeds simulated candidates to a network as pictures, and fits it.

The network sees red, green and blue in [0, 1]: the central 16.7 arcsec at 0.262 arcsec a pixel,
reduced from the pictures' own pixels by the same filter for simulated and real ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from darkhaloscope.bench.real_images.mapping import Mapping
from darkhaloscope.bench.real_images.simulated import Pool
from darkhaloscope.core import keys
from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import fit, networks
from darkhaloscope.ml.batches import Batch, ahead
from darkhaloscope.ml.recipe import Recipe
from darkhaloscope.ml.transforms import augment, augmentation, unmoved

SEEN_PX = 64
CUT_PX = 90
MAX_SHIFT_PX = 3
MAX_BLUR_PX = 0.8  # Gaussian sigma that is added to the seeing of some
BATCH = 64
_AT_ONCE = 256


@dataclass(frozen=True)
class Pictures:
    """Batches of simulated candidates, mapped anew in every epoch.

    Attributes:
        pool: The candidates.
        mapping: How they become pictures.
        varied: By how much the mapping is varied, see `Mapping.varied`; 0: not.
        seed: Of order, turns and variation.
        epoch_stamps: Candidates an epoch; all of them in as many epochs as it takes.
        is_moved: Whether they are turned, moved and varied at all: not in validation.
    """

    pool: Pool
    mapping: Mapping
    varied: float
    seed: int
    epoch_stamps: int
    is_moved: bool = True
    makers: int = 1

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.epoch_stamps // BATCH

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch."""
        if not self._is_varied:
            _ = self._mapped_once  # before several threads ask for it
        order = self._order(epoch)
        tasks = (
            lambda start=start: self._made(order[start : start + BATCH], epoch)
            for start in range(0, self.steps * BATCH, BATCH)
        )
        yield from ahead(tasks, threads=max(1, self.makers), depth=4)

    @property
    def _is_varied(self) -> bool:
        return self.is_moved and self.varied > 0

    @cached_property
    def _mapped_once(self) -> Tensor:
        """All pictures under the mapping itself, uint8."""
        colours = torch.empty(self.pool.flux.shape, dtype=torch.uint8)
        for start in range(0, len(self.pool), _AT_ONCE):
            at = torch.arange(start, min(start + _AT_ONCE, len(self.pool)))
            colours[at] = (self.mapping(self.pool.nmgy(at)) * 255).round().to(torch.uint8)
        return colours

    def _order(self, epoch: int) -> NDArray[np.int64]:
        ids = np.arange(len(self.pool))
        if not self.is_moved:
            return ids
        first, places = epoch * self.steps * BATCH, list[NDArray[np.int64]]()
        while sum(len(place) for place in places) < self.steps * BATCH:
            turn, skipped = divmod(first, len(ids))
            draw = keys.uniform(ids, seed=self.seed, stream=f"order {turn}")
            places.append(np.argsort(draw, kind="stable")[skipped:])
            first += len(places[-1])
        return np.concatenate(places)[: self.steps * BATCH]

    def _made(self, at: NDArray[np.int64], epoch: int) -> Batch:
        rows = torch.from_numpy(at)
        ids = self.pool.rows["stamp_id"].to_numpy()[at]
        how = unmoved(len(at))
        times = np.full(len(at), epoch, np.int64)
        if self.is_moved:
            how = augmentation(ids, times, seed=self.seed, max_shift_px=MAX_SHIFT_PX)
        if self._is_varied:
            taken = (ids ^ (times * 0x9E3779B97F4A7)) & ((1 << 62) - 1)
            mapping = self.mapping.varied(taken, seed=self.seed, by=self.varied)
            blur = keys.uniform(taken, seed=self.seed, stream="blur")
            colours = mapping(_blurred(self.pool.nmgy(rows), blur))
        else:
            colours = self._mapped_once[rows].float() / 255
        colours = augment(colours, CUT_PX, how)
        labels = self.pool.labels[rows]
        none = torch.full((len(at),), -1)
        return Batch(seen(colours), labels, ids, torch.ones(len(at)), none)


def seen(colours: Tensor) -> Tensor:
    """What the network is given of pictures, (n, 3, 90, 90) to (n, 3, 64, 64)."""
    small = interpolate(
        colours, size=(SEEN_PX, SEEN_PX), mode="bicubic", antialias=True, align_corners=False
    )
    return small.contiguous(memory_format=torch.channels_last)


def fitted(
    pool: Pool, val: Pool, mapping: Mapping, *, varied: float, network: str, recipe: Recipe,
    epoch_stamps: int, seed: int, scratch: Path, device: Device,
) -> tuple[nn.Module, fit.Fitted]:  # fmt: skip
    """A network trained on simulated candidates, its best epoch chosen on simulated ones."""
    net = networks.make(network, bands=3, seed=seed)
    training = Pictures(pool, mapping, varied, seed, epoch_stamps)
    count = len(val) // BATCH * BATCH
    validation = Pictures(val, mapping, 0.0, seed, count, is_moved=False)
    done = fit.fit(net, training, validation, recipe=recipe, scratch=scratch, device=device)
    net.load_state_dict(done.best)
    return net.eval(), done


def _blurred(flux: Tensor, u: NDArray[np.float64]) -> Tensor:
    """Half of the stamps with a wider PSF."""
    sigma = torch.from_numpy((MAX_BLUR_PX * (2 * u - 1)).clip(1e-3).astype(np.float32))
    offset = torch.arange(-3, 4, dtype=flux.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(flux.shape[1], 0)
    n, bands, size, _ = flux.shape
    flat = flux.reshape(1, n * bands, size, size)
    for shape in ((-1, 1, 7, 1), (-1, 1, 1, 7)):
        weight = kernel.reshape(shape)
        pad = (0, 0, 3, 3) if shape[2] == 7 else (3, 3, 0, 0)
        padded = nn.functional.pad(flat, pad, mode="replicate")
        flat = nn.functional.conv2d(padded, weight, groups=n * bands)
    return flat.reshape(n, bands, size, size)
