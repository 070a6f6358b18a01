"""What the trivial models of the gates are shown of a stamp: numbers that need no eye for arcs.

All functions take stamps of shape (n, band, y, x) with the sky's level taken off, in units of a
fixed flux per band (the sample's typical sky noise), and return features of shape (n, feature).
Fluxes go through asinh, as they span four decades.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Values = NDArray[np.float64]

CORE_PX = 10  # width of the square that is called the core
RING_PX = 2.0  # width of the rings of the radial profile
SKY_PX = 28.0  # from here on a stamp holds sky: the inner edge of the cutouts' annulus
ARC_PX = 14.0  # within this lies nearly every arc: 3.7 arcsec
ANNULI_PX = (0.0, 3.0, 6.0, 9.0, 13.0, 18.0, 24.0)
SIGMA_PER_MAD = 1.4826
# The fourth difference of neighbours; of white noise along one axis it has the variance 1.
CHECKERBOARD = np.array([1.0, -4.0, 6.0, -4.0, 1.0], np.float32) / np.float32(np.sqrt(70.0))


def core(stamps: Pixels) -> Values:
    """The central 10 x 10 px."""
    edge = (stamps.shape[-1] - CORE_PX) // 2
    inner = stamps[..., edge : edge + CORE_PX, edge : edge + CORE_PX]
    return np.arcsinh(inner.reshape(len(stamps), -1).astype(np.float64))


def total_flux(stamps: Pixels) -> Values:
    """The flux of each band within the inner edge of the sky."""
    return np.arcsinh(_sums(stamps, (0.0, SKY_PX))[..., 0])


def radial_profile(stamps: Pixels) -> Values:
    """Azimuthal means in rings of 2 px."""
    edges = tuple(np.arange(0.0, SKY_PX + RING_PX / 2, RING_PX).tolist())
    return np.arcsinh(_sums(stamps, edges) / _areas(stamps.shape[-1], edges)).reshape(
        len(stamps), -1
    )


def annulus_colour(stamps: Pixels) -> Values:
    """Fluxes in six annuli, and the colours between neighbouring bands."""
    flux = np.arcsinh(_sums(stamps, ANNULI_PX))
    colour = flux[:, :-1] - flux[:, 1:]
    return np.concatenate([part.reshape(len(stamps), -1) for part in (flux, colour)], 1)


def sky_stats(stamps: Pixels) -> Values:
    """Median, MAD and rms of the pixels beyond 28 px, which hold no arc."""
    sky = stamps[..., radius(stamps.shape[-1]) > SKY_PX]
    median = np.median(sky, axis=-1)
    mad = np.median(np.abs(sky - median[..., None]), axis=-1)
    made = [np.arcsinh(median), np.log(mad + 1e-6), np.log(sky.std(-1, dtype=np.float64) + 1e-6)]
    return np.concatenate(made, 1).astype(np.float64)


def texture(stamps: Pixels) -> Values:
    """Statistics of what is finer than the seeing, near the arc and over the stamp.

    A checkerboard filter keeps the highest frequencies of a pixel grid, where a point source seen
    through a Moffat PSF of 3.7 px FWHM has 0.3 % of its light. Of what is left: logarithms of MAD
    and rms, excess kurtosis, and the correlation of pixels one and two apart.
    """
    fine = _filtered(_filtered(stamps).swapaxes(-1, -2)).swapaxes(-1, -2)
    near = radius(fine.shape[-1]) <= ARC_PX
    made = [
        _moments(fine[..., near]),
        _moments(fine.reshape(*fine.shape[:2], fine.shape[2] * fine.shape[3])),
    ]
    made += [_lag(part, lag) for part in (fine * near, fine) for lag in (1, 2)]
    return np.concatenate(made, 1).astype(np.float64)


@lru_cache(maxsize=8)
def radius(size: int) -> Values:
    """Distance of each pixel from the middle, px, (size, size)."""
    at = np.arange(size) - (size - 1) / 2
    return np.asarray(np.hypot(at[:, None], at[None]))


@lru_cache(maxsize=8)
def _rings(size: int, edges: tuple[float, ...]) -> NDArray[np.float32]:
    """Which pixels are in each ring, (y * x, ring)."""
    ring = np.digitize(radius(size).ravel(), edges) - 1
    return np.asarray(ring[:, None] == np.arange(len(edges) - 1), np.float32)


def _areas(size: int, edges: tuple[float, ...]) -> Values:
    return np.asarray(_rings(size, edges).sum(0), np.float64)


def _sums(stamps: Pixels, edges: tuple[float, ...]) -> Values:
    """Flux in each ring, (n, band, ring)."""
    flat = stamps.reshape(*stamps.shape[:2], -1)
    return np.asarray(flat @ _rings(stamps.shape[-1], edges), np.float64)


def _filtered(values: Pixels) -> Pixels:
    """The checkerboard filter along the last axis, which loses two pixels on each side."""
    width = values.shape[-1] - 4
    taps = [values[..., i : i + width] * weight for i, weight in enumerate(CHECKERBOARD)]
    return np.asarray(sum(taps), np.float32)


def _moments(values: Pixels) -> Pixels:
    """MAD, rms and kurtosis over the last axis, (n, 3 bands)."""
    mad = np.median(np.abs(values), axis=-1)
    power = np.square(values)
    square = power.mean(-1) + 1e-12
    kurtosis = np.square(power).mean(-1) / square**2 - 3
    return np.concatenate([np.log(mad + 1e-6), np.log(square) / 2, np.arcsinh(kurtosis)], 1)


def _lag(values: Pixels, lag: int) -> Pixels:
    """Correlation of pixels so far apart, the mean of both axes, (n, band)."""
    n = values.shape[-1] * values.shape[-2]
    square = np.einsum("...yx,...yx->...", values, values) / n + 1e-12
    along_x = np.einsum("...yx,...yx->...", values[..., lag:], values[..., :-lag])
    along_y = np.einsum("...yx,...yx->...", values[..., lag:, :], values[..., :-lag, :])
    return np.asarray((along_x + along_y) / (2 * n) / square)
