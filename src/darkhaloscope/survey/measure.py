"""What is measured on a cutout: sky, noise, depth, bad pixels. Arrays in, arrays out.

Cutouts have shape (n, y, x), one band. Values that do not exist are NaN.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import units

# Bits of the survey's maskbits; see https://www.legacysurvey.org/dr10/bitmasks
_BITS = {
    "NPRIMARY": 0,
    "BRIGHT": 1,
    "WISEM1": 8,
    "WISEM2": 9,
    "BAILOUT": 10,
    "MEDIUM": 11,
    "GALAXY": 12,
    "CLUSTER": 13,
}
_BITS_OF_A_BAND = {
    "SATUR": {"g": 2, "r": 3, "z": 4, "i": 14},
    "ALLMASK": {"g": 5, "r": 6, "z": 7, "i": 15},
}

Cutouts = NDArray[np.float32]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def mask_value(names: Collection[str], band: str) -> int:
    """The bits of `maskbits` that make a pixel of a band bad, joined.

    Examples:
        >>> mask_value(["BRIGHT", "SATUR"], "r"), mask_value(["SATUR"], "y")
        (10, 0)
    """
    bits = [_BITS[name] for name in names if name in _BITS]
    bits += [_BITS_OF_A_BAND[name][band] for name in names if band in _BITS_OF_A_BAND.get(name, {})]
    return sum(1 << bit for bit in bits)


def annulus(size: int, inner_px: float, outer_px: float) -> Flags:
    """Pixels whose centre lies between two radii of the middle of a cutout, shape (size, size)."""
    axis = np.arange(size) - (size - 1) / 2
    radius = np.hypot(axis[:, None], axis)
    return np.asarray((radius >= inner_px) & (radius <= outer_px))


def median_and_mad(values: NDArray[np.floating], good: Flags) -> tuple[Numbers, Numbers]:
    """Median, and median absolute deviation from it, of the good values of each row.

    Args:
        values: Shape (n, m).
        good: Which count, shape (n, m).

    Returns:
        Two arrays of shape (n,), NaN where a row has no good value. The deviation is not scaled.
    """
    median, mad = np.full(len(values), np.nan), np.full(len(values), np.nan)
    whole = good.all(axis=1) & bool(values.shape[1])
    if whole.any():
        median[whole] = np.median(values[whole], axis=1)
        mad[whole] = np.median(np.abs(values[whole] - median[whole, None]), axis=1)
    for row in np.flatnonzero(good.any(axis=1) & ~whole):
        median[row] = np.median(values[row, good[row]])
        mad[row] = np.median(np.abs(values[row, good[row]] - median[row]))
    return median, mad


def noise_nmgy(invvar: Cutouts, good: Flags) -> Numbers:
    """Pixel rms expected of the sky, nanomaggies, shape (n,); NaN without a good pixel.

    The coadd's pixels are resampled, which smooths them: their rms is 0.91 of what the inverse
    variance says (`units.COADD_RMS_FACTOR`).
    """
    flat = len(invvar), invvar.shape[1] * invvar.shape[2]
    middle, _ = median_and_mad(invvar.reshape(flat), good.reshape(flat))
    return np.asarray(units.COADD_RMS_FACTOR / np.sqrt(np.where(middle > 0, middle, np.nan)))


def depth_mag(noise: Numbers, psfsize_arcsec: Numbers, scale_arcsec: float) -> Numbers:
    """5-sigma point-source depth, AB mag, shape (n,).

    The flux of a point source fitted by its PSF has variance Neff / invvar, Neff in pixels.

    Args:
        noise: Pixel rms of the coadd, as `noise_nmgy` gives it, shape (n,).
        psfsize_arcsec: The survey's noise-equivalent width, shape (n,).
        scale_arcsec: Width of a pixel.
    """
    n_eff = units.neff_px_from_psfsize(psfsize_arcsec, scale_arcsec)
    return units.mag_from_nmgy(5 * np.sqrt(n_eff) * noise / units.COADD_RMS_FACTOR)
