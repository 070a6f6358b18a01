"""What happens to a stamp's pixels before a network sees them: one normalisation, one augmentation.

Training, validation, scoring and the gates all pass here. The sky level comes from the cutout's
annulus, measured before anything was injected: a median over the stamp itself would move when an
arc is added, and tell the network so. One softening per band for all stamps keeps colour and
depth-independent brightness; `first_run`, which does neither, is there to be compared with.

Augmentation is the same for every kind of stamp: one of the 8 symmetries of the square and a shift
by whole pixels, both named draws. A shift by less than a pixel would have to be rendered again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.transfer import sent

SIGMA_PER_MAD = 1.4826  # of a normal distribution
FIRST_RUN_CLIP = 10.0  # sigma; it flattens bright arcs, which is why it is not the default
SYMMETRIES = 8

NormalisationName = Literal["asinh", "sqrt", "first_run"]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Pixels in nanomaggies to the numbers a network reads; kept in the model's file.

    Attributes:
        name: `asinh`: asinh((pixels - sky_median) / softening). `sqrt`: sign(x) sqrt(|x|) of the
            same x (Canameras et al. 2024, arXiv:2306.03136). `first_run`: minus the median, over
            1.4826 MAD, both of the stamp itself and per band, clipped at +-10.
        softening_nmgy: Per band, > 0: where asinh turns from linear to logarithmic, and what sqrt
            takes for 1. Not used by `first_run`.
    """

    name: NormalisationName
    softening_nmgy: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a softening that cannot divide."""
        if not all(value > 0 for value in self.softening_nmgy):
            raise ValueError(f"softening is a flux in nmgy, > 0; got {self.softening_nmgy}")

    def __call__(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """Normalise a batch, where it lives.

        Args:
            pixels: Stamps, nanomaggies, shape (n, band, y, x).
            sky_median: Of the cutout's annulus before injection, nanomaggies, shape (n, band).

        Returns:
            Dimensionless, shape and memory layout of `pixels`.

        Examples:
            >>> normalise = Normalisation("asinh", (0.01,))
            >>> x = normalise(torch.full((1, 1, 1, 2), 0.03), torch.tensor([[0.02]]))
            >>> [round(value, 4) for value in x.flatten().tolist()]
            [0.8814, 0.8814]
        """
        return _NORMALISE[self.name](pixels, sky_median, self.softening_nmgy)


def _asinh(pixels: Tensor, sky_median: Tensor, softening: tuple[float, ...]) -> Tensor:
    if _is_compiled(pixels) and pixels.is_contiguous():
        asinh_rows = cpu.loops("darkhaloscope.ml.compiled").asinh_rows

        normed = torch.empty_like(pixels)
        asinh_rows(
            pixels.flatten(2).numpy(),
            sky_median.to(pixels.dtype).contiguous().numpy(),
            np.asarray(softening, np.float32),
            normed.flatten(2).numpy(),
        )
        return normed
    per_band = _per_band(softening, pixels.dtype, pixels.device)
    scaled = (pixels - sky_median[:, :, None, None]) / per_band
    # asinh(x) = sign(x) log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))): torch.asinh is not vectorised on a
    # CPU, and takes a tenth of the time of training there.
    size, square = scaled.abs(), scaled.square()
    return size.add_(square / (square + 1).sqrt_().add_(1)).log1p_().copysign_(scaled)


def _sqrt(pixels: Tensor, sky_median: Tensor, softening: tuple[float, ...]) -> Tensor:
    per_band = _per_band(softening, pixels.dtype, pixels.device)
    scaled = (pixels - sky_median[:, :, None, None]) / per_band
    return scaled.sign() * scaled.abs().sqrt()


@lru_cache(maxsize=16)
def _per_band(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One value a band, (band, 1, 1); made once, as each making is a wait for a GPU."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


def _first_run(pixels: Tensor, _sky_median: Tensor, _softening: tuple[float, ...]) -> Tensor:
    flat = pixels.flatten(2)
    median = _median(flat)
    spread = SIGMA_PER_MAD * _median((flat - median).abs())
    tiny = torch.finfo(pixels.dtype).tiny  # a band without spread becomes 0 and +-10, not NaN
    scaled = (pixels - median[..., None]) / spread[..., None].clamp_min(tiny)
    return scaled.clamp_(-FIRST_RUN_CLIP, FIRST_RUN_CLIP)


def _median(values: Tensor) -> Tensor:
    """Median over the last axis, which is kept: the mean of the two middle values, as NumPy's."""
    count = values.shape[-1]
    ordered = values.sort(dim=-1).values
    return 0.5 * (ordered[..., (count - 1) // 2, None] + ordered[..., count // 2, None])


_NORMALISE: dict[NormalisationName, Callable[[Tensor, Tensor, tuple[float, ...]], Tensor]] = {
    "asinh": _asinh,
    "sqrt": _sqrt,
    "first_run": _first_run,
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How each stamp of a batch is turned and moved.

    Attributes:
        symmetry: 0-7, shape (n,): quarter turns in the low two bits, then a mirror along x.
        shift_x: Pixels by which the view moves to the right, shape (n,).
        shift_y: Pixels by which the view moves up, shape (n,).
    """

    symmetry: NDArray[np.int64]
    shift_x: NDArray[np.int64]
    shift_y: NDArray[np.int64]


def augmentation(
    ids: NDArray[np.int64], times: NDArray[np.int64], *, seed: int, max_shift_px: int
) -> Augmentation:
    """Draw one symmetry and one shift per stamp; they belong to the stamp and the time.

    Args:
        ids: Stamp ids, shape (n,).
        times: Which time the stamp is taken, over all epochs, >= 0, shape (n,).
        seed: The model's seed.
        max_shift_px: Largest shift along each axis, >= 0; all whole shifts are equally frequent.
    """
    taken = keys.bits(ids, seed=seed, stream="augmentation") + times.astype(np.uint64)

    def draw(stream: str, outcomes: int) -> NDArray[np.int64]:
        return (keys.uniform(taken, seed=seed, stream=stream) * outcomes).astype(np.int64)

    width = 2 * max_shift_px + 1
    return Augmentation(
        draw("symmetry", SYMMETRIES),
        draw("shift_x", width) - max_shift_px,
        draw("shift_y", width) - max_shift_px,
    )


def unmoved(count: int) -> Augmentation:
    """Neither turn nor shift, for `count` stamps: what validation and scoring use."""
    zeros = np.zeros(count, np.int64)
    return Augmentation(zeros, zeros, zeros)


def crop(pixels: Tensor, size: int, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Cut the central `size` pixels, moved per stamp.

    Where the view leaves the image, the image goes on mirrored about its outermost pixels: noise
    stays noise. A stamp cut from a larger cutout never gets there.

    Args:
        pixels: Shape (n, band, y, x); its margins are even, so that the centre is kept.
        size: Width of the result, pixels, at most that of `pixels`.
        shift_x: Whole pixels by which the view moves to the right, shape (n,).
        shift_y: Whole pixels by which the view moves up, shape (n,).

    Returns:
        Shape (n, band, size, size).

    Raises:
        ValueError: `size` does not fit, or would move the centre by half a pixel.
    """
    return _seen(pixels, size, shift_x, shift_y, torch.zeros_like(shift_x))


def turned(stamps: Tensor, symmetry: NDArray[np.int64]) -> Tensor:
    """Apply one symmetry of the square to each stamp.

    Args:
        stamps: Square, shape (n, band, y, x).
        symmetry: 0-7, shape (n,), as in `Augmentation`.
    """
    at = sent(symmetry, stamps.device)
    unmoved_at = torch.zeros_like(at)
    return _seen(stamps, stamps.shape[-1], unmoved_at, unmoved_at, at)


def moved(stamps: Tensor, size: int, how: Augmentation) -> Tensor:
    """Move and cut to `size` each stamp, without a turn; shape (n, band, size, size)."""
    shifts = sent(np.stack([how.shift_x, how.shift_y]), stamps.device)
    return crop(stamps, size, *shifts.unbind())


def augment(stamps: Tensor, size: int, how: Augmentation) -> Tensor:
    """Move, cut to `size` and turn each stamp; shape (n, band, size, size)."""
    drawn = sent(np.stack([how.shift_x, how.shift_y, how.symmetry]), stamps.device)
    return _seen(stamps, size, *drawn.unbind())


def _seen(pixels: Tensor, size: int, shift_x: Tensor, shift_y: Tensor, symmetry: Tensor) -> Tensor:
    """Move, cut and turn in one go: each pixel of the result is taken from where it was."""
    height, width = pixels.shape[-2:]
    if size > min(height, width) or (height - size) % 2 or (width - size) % 2:
        raise ValueError(f"cannot cut {size} px about the centre of {height} x {width} px")
    rows = _mirrored(shift_y, size, height, pixels.device)
    columns = _mirrored(shift_x, size, width, pixels.device)
    turns, bands = _turns(size, pixels.device), pixels.shape[1]
    if _is_compiled(pixels) and pixels.is_contiguous():
        seen_rows = cpu.loops("darkhaloscope.ml.compiled").seen_rows

        seen = torch.empty(len(pixels), bands, size, size)
        seen_rows(
            pixels.flatten(2).numpy(), rows.numpy(), columns.numpy(), width,
            turns.int().numpy()[symmetry.numpy()], seen.flatten(2).numpy(),
        )  # fmt: skip
        return seen
    view = (width * rows[:, :, None] + columns[:, None, :]).flatten(1)
    view = view.gather(1, turns[symmetry])
    taken = pixels.flatten(2).gather(2, view[:, None].expand(-1, bands, -1))
    return taken.view(-1, bands, size, size)


def _is_compiled(pixels: Tensor) -> bool:
    """Whether the compiled loops do it."""
    return pixels.device.type == "cpu" and pixels.dtype == torch.float32 and cpu.is_available()


@lru_cache(maxsize=16)
def _turns(size: int, device: torch.device) -> Tensor:
    """Which pixel of a square each pixel of its eight turned forms shows, (8, size^2)."""
    square = torch.arange(size**2).view(size, size)
    quarters = [torch.rot90(square, quarter, dims=(0, 1)) for quarter in range(4)]
    mirrored = [quarter.flip(1) for quarter in quarters]
    return torch.stack([*quarters, *mirrored]).flatten(1).to(device)


def _mirrored(shift: Tensor, size: int, full: int, device: torch.device) -> Tensor:
    """Index of each pixel along one axis, shape (n, size)."""
    index = torch.arange(size, device=device) + (full - size) // 2 + shift.to(device)[:, None]
    index = index.abs()
    return torch.where(index > full - 1, 2 * (full - 1) - index, index)
