"""Noise of a coadd: white noise carried through the resampling that made it.

A coadd's pixel is a Lanczos-3 interpolation of the exposures' pixels, so noise is less than the
weight map says and neighbours share it. Measured on a DR9 coadd: rms 0.91 / sqrt(invvar), lag-1
autocorrelation +0.12, lag-2 -0.07. Interpolation at a quarter of a pixel gives 0.894, +0.112 and
-0.076, nearly the mean over all shifts (0.893, +0.112, -0.076), which a coadd of many exposures
has; the kernel is scaled to the measured rms. Photon noise of sources goes the same way: it is in
the pixels, and not in the weight map.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from darkhaloscope.core.units import COADD_RMS_FACTOR

_SHIFT_PX = 0.25


def coadd_kernel() -> NDArray[np.float64]:
    """Weights of seven pixels in one dimension; applied along both, rms 1 becomes 0.91."""
    at = np.arange(-3, 4) - _SHIFT_PX
    weights = np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
    return np.asarray(weights * np.sqrt(COADD_RMS_FACTOR / (weights**2).sum()))


def coadd_noise(
    random: np.random.Generator,
    invvar: NDArray[np.float32],
    light: NDArray[np.float32],
    electrons_per_nmgy: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Noise to add to an image, nmgy, shape (y, x); 0 where there is no weight.

    Args:
        random: The numbers of this brick and band.
        invvar: Weight map, 1/nmgy^2, shape (y, x).
        light: Noiseless light of all sources, nmgy, shape (y, x).
        electrons_per_nmgy: Electrons per nanomaggy in all exposures together, shape (y, x).
    """
    has_data = invvar > 0
    variance = np.zeros(invvar.shape, np.float32)
    np.divide(1.0, invvar, out=variance, where=has_data)
    photons = np.divide(
        light.clip(0), electrons_per_nmgy, where=has_data, out=np.zeros_like(variance)
    )
    white = random.standard_normal(invvar.shape, dtype=np.float32) * np.sqrt(variance + photons)
    kernel = coadd_kernel().astype(np.float32)
    for axis in (0, 1):
        white = correlate1d(white, kernel, axis=axis, mode="wrap")
    return np.where(has_data, white, np.float32(0))
