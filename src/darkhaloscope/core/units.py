"""Conversions of flux, magnitude and PSF width: each stands here and nowhere else."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ZERO_POINT_MAG = 22.5  # AB magnitude of one nanomaggy, the survey's unit of flux
FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
COADD_RMS_FACTOR = 0.91  # pixel rms of a Lanczos-3 coadd over 1/sqrt(invvar), measured on DR9


def nmgy_from_mag(mag: ArrayLike) -> NDArray[np.float64]:
    """Flux in nanomaggies of an AB magnitude, any shape.

    Examples:
        >>> float(nmgy_from_mag(22.5)), float(nmgy_from_mag(20.0))
        (1.0, 10.0)
    """
    return np.asarray(10.0 ** (-0.4 * (np.asarray(mag, np.float64) - ZERO_POINT_MAG)))


def mag_from_nmgy(flux: ArrayLike) -> NDArray[np.float64]:
    """AB magnitude of a flux in nanomaggies, any shape; NaN where the flux is not positive.

    Examples:
        >>> mag_from_nmgy([1.0, 10.0, -1.0]).tolist()
        [22.5, 20.0, nan]
    """
    flux = np.asarray(flux, np.float64)
    positive = flux > 0
    return np.where(
        positive, ZERO_POINT_MAG - 2.5 * np.log10(np.where(positive, flux, 1.0)), np.nan
    )


def depth_mag_from_psfdepth(psfdepth: ArrayLike) -> NDArray[np.float64]:
    """5-sigma point-source depth, AB mag, of an inverse variance in 1/nmgy2; NaN where it is 0."""
    psfdepth = np.asarray(psfdepth, np.float64)
    return mag_from_nmgy(5.0 / np.sqrt(np.where(psfdepth > 0, psfdepth, np.nan)))


def neff_px_from_psfsize(psfsize: ArrayLike, pixel_scale_arcsec: float) -> NDArray[np.float64]:
    """Noise-equivalent area, pixels, of the survey's `psfsize` in arcsec, any shape.

    Examples:
        >>> round(float(neff_px_from_psfsize(1.31, 0.262)), 1)
        56.7
    """
    sigma = np.asarray(psfsize, np.float64) / FWHM_PER_SIGMA / pixel_scale_arcsec
    return np.asarray(4 * np.pi * sigma**2)


def moffat_alpha_from_psfsize(psfsize: Any, beta: Any) -> Any:
    r"""Moffat scale alpha, arcsec, of the survey's `psfsize`, which is no FWHM.

    `psfsize` is a noise-equivalent width, 2.355 sqrt(Neff / 4 pi). With
    Neff = 1 / int P^2 dA = pi alpha^2 (2 beta - 1) / (beta - 1)^2 for a Moffat profile,
    alpha = 0.8493 psfsize (beta - 1) / sqrt(2 beta - 1).

    Args:
        psfsize: Noise-equivalent width, arcsec: a number, an array or a tensor of any shape.
        beta: Moffat exponent, > 1, of the same kind.

    Returns:
        Alpha, arcsec, of that kind.
    """
    return psfsize * (2.0 / FWHM_PER_SIGMA) * (beta - 1.0) / (2.0 * beta - 1.0) ** 0.5


def moffat_fwhm(alpha: Any, beta: Any) -> Any:
    """FWHM of a Moffat of scale `alpha` and exponent `beta`: numbers, arrays or tensors, arcsec."""
    return alpha * 2.0 * (2.0 ** (1.0 / beta) - 1.0) ** 0.5


def fwhm_from_psfsize(psfsize: ArrayLike, beta: ArrayLike) -> NDArray[np.float64]:
    """FWHM, arcsec, of the Moffat profile with this `psfsize` and exponent `beta`.

    Examples:
        >>> [round(float(fwhm_from_psfsize(1.0, beta)), 3) for beta in (3.5, 2.8)]
        [0.811, 0.756]
    """
    psfsize, beta = np.asarray(psfsize, np.float64), np.asarray(beta, np.float64)
    return np.asarray(moffat_fwhm(moffat_alpha_from_psfsize(psfsize, beta), beta))
