"""Noise for injected light: draws that belong to a stamp and a pixel, on any device.

Each stamp has a 64-bit key, each purpose a stream; the i-th draw is a function of the three. The
integers are equal to the bit on every device and in every batch, the normal deviates made from them
up to the rounding of log, sin and cos. All injected light gets its photon noise here, whatever its
kind: noise on lenses alone would be a label.

A coadd's pixel is a Lanczos-3 interpolation of the exposures' pixels, so noise is less than the
weight map says and neighbours share it. Measured on a DR9 coadd: rms 0.91 / sqrt(invvar), lag-1
autocorrelation +0.12, lag-2 -0.07. Interpolation at a quarter of a pixel gives 0.894, +0.112 and
-0.076, nearly the mean over all shifts (0.893, +0.112, -0.076), which a coadd of many exposures
has; the kernel is scaled to the measured rms. Photons are counted in the exposures, so that their
noise goes the same way: white noise on injected light would have another texture than its host's.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core.keys import hash64
from darkhaloscope.core.units import COADD_RMS_FACTOR
from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.profiles import require

_SHIFT_PX = 0.25  # of the interpolation that stands for all
_BUDGET = 2**21  # draws made at once: bounds the memory of the 64-bit integers behind them


def standard_normal(keys: Tensor, shape: Sequence[int], *, stream: str) -> Tensor:
    """Standard normal deviates of each key.

    Args:
        keys: One 64-bit key a row, int64, shape (n,): for instance `keys.bits(stamp_ids, ...)`.
        shape: Shape of one row's draws, such as (band, y, x).
        stream: What the draws are for; two streams are independent of each other.

    Returns:
        float32, shape (n, *shape), on the device of `keys`. No draw lies beyond 5.9.

    Examples:
        >>> draws = standard_normal(torch.tensor([3, 4]), (2,), stream="photons")
        >>> [[round(value, 4) for value in row] for row in draws.tolist()]
        [[-1.2543, -0.9448], [-0.4237, 0.8393]]
    """
    if keys.dtype != torch.int64:
        raise TypeError(f"keys are int64; got {keys.dtype}")
    count = math.prod(shape)
    pairs = (count + 1) // 2
    drawn = torch.empty((len(keys), 2 * pairs), dtype=torch.float32, device=keys.device)
    counter = (torch.arange(pairs, device=keys.device) + 1) * _signed(_GAMMA)
    chunk = max(1, _BUDGET // max(count, 1))
    for start in range(0, len(keys), chunk):
        part = slice(start, start + chunk)
        state = _states(keys[part], stream)
        _box_muller(_finalise(state[:, None] + counter), out=drawn[part])
    return drawn[:, :count].reshape(len(keys), *shape)


def coadd_kernel() -> NDArray[np.float64]:
    """Weights of seven pixels in one dimension; applied along both, rms 1 becomes 0.91."""
    at = np.arange(-3, 4) - _SHIFT_PX
    weights = np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
    return np.asarray(weights * np.sqrt(COADD_RMS_FACTOR / (weights**2).sum()))


def photon_noise(light: Tensor, electrons_per_nmgy: Tensor, keys: Tensor, *, stream: str) -> Tensor:
    """Noise to add to injected light: that of the photons it is made of, as a coadd has it.

    Args:
        light: Injected light, nmgy per pixel, shape (n, band, y, x).
        electrons_per_nmgy: Electrons that one nmgy leaves in all exposures together, > 0, shape
            (n, band).
        keys: One 64-bit key a row, int64, shape (n,).
        stream: What the draws are for.

    Returns:
        Noise of mean 0 that neighbours share, of the shape of `light`. Its variance is that of the
        photons, light / electrons_per_nmgy, times 0.91^2; exactly 0 three pixels away from light.

    Raises:
        ValueError: a gain is not above 0.
    """
    gain_holds = (electrons_per_nmgy > 0) & electrons_per_nmgy.isfinite()
    require(gain_holds, electrons_per_nmgy, "electrons per nmgy are more than 0")
    if light.device.type == "cpu" and light.dtype == torch.float32 and cpu.is_available():
        return _compiled(light, electrons_per_nmgy, keys, stream)
    sigma = (light.clamp_min(0) / electrons_per_nmgy[:, :, None, None]).sqrt_()
    white = sigma * standard_normal(keys, light.shape[1:], stream=stream).to(light.dtype)
    along_y, along_x = (_resampling(size, white.dtype, white.device) for size in white.shape[-2:])
    return along_y @ white @ along_x.T


def _compiled(light: Tensor, electrons_per_nmgy: Tensor, keys: Tensor, stream: str) -> Tensor:
    """The same by the compiled loops, in an eighth of the time."""
    photon_noise_rows = cpu.loops("darkhaloscope.lensing.compiled_noise").photon_noise_rows

    noise = torch.empty(light.shape, dtype=torch.float32)
    photon_noise_rows(
        light.detach().contiguous().numpy(),
        electrons_per_nmgy.to(torch.float32).expand(light.shape[:2]).contiguous().numpy(),
        _states(keys, stream).numpy().view(np.uint64),
        coadd_kernel().astype(np.float32),
        noise.numpy(),
    )
    return noise


@lru_cache(maxsize=32)
def _resampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The coadd's kernel along one axis as a matrix, (size, size); no light beyond the edges."""
    step = torch.arange(size) - torch.arange(size)[:, None] + 3
    weights = torch.from_numpy(coadd_kernel())
    inside = (step >= 0) & (step < len(weights))
    matrix = torch.where(inside, weights[step.clamp(0, len(weights) - 1)], 0.0)
    return matrix.to(device, dtype)


# SplitMix64 (Steele, Lea & Flood 2014), as in core.keys. Multiplication of int64 wraps around; the
# shift of a signed integer copies its sign, which the mask takes away again.
_GAMMA = 0x9E3779B97F4A7C15


def _box_muller(bits: Tensor, *, out: Tensor) -> None:
    """Two normal deviates of each 64 bits, (n, m), into `out`, (n, 2 m)."""
    scale = 2.0**-24
    radius = ((_shifted(bits, 40).float() + 0.5) * scale).log_().mul_(-2).sqrt_()
    angle = ((bits >> 8) & 0xFFFFFF).float() * (2 * math.pi * scale)
    out[:, 0::2] = radius * angle.cos()
    out[:, 1::2] = radius * angle.sin()


def _states(keys: Tensor, stream: str) -> Tensor:
    """What each key's draws of a stream begin from, int64, (n,)."""
    return _mix(_mix(keys) ^ _signed(hash64(stream)))


def _mix(value: Tensor) -> Tensor:
    """SplitMix64 of each value: add the golden gamma, then finalise."""
    return _finalise(value + _signed(_GAMMA))


def _finalise(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """Logical shift to the right."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    """The int64 with the same bits."""
    return word - (1 << 64) if word >= 1 << 63 else word
