"""Noise of a coadd: white noise carried through the resampling that made it.

The kernel is that of injected light (`lensing.noise`), which says where it comes from. Photon noise
of sources goes the same way: it is in the pixels, and not in the weight map.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from darkhaloscope.lensing.noise import coadd_kernel


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
