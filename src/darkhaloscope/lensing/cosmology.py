"""Distances in a flat universe of matter and a cosmological constant: 0.3, 70 km/s/Mpc.

NumPy, float64, any shape. Radiation is left out: 0.03 % at redshift 5.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

OMEGA_M = 0.3
H0_KM_S_MPC = 70.0
LIGHT_KM_S = 299_792.458
ARCSEC_PER_RADIAN = 180 * 3600 / np.pi

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def comoving_distance_mpc(z: ArrayLike) -> Values:
    """Comoving distance, Mpc, by Gauss-Legendre quadrature: right to 1e-9 for z <= 6.

    Examples:
        >>> comoving_distance_mpc([0.0, 1.0]).round(1).tolist()
        [0.0, 3303.8]
    """
    z = np.asarray(z, np.float64)
    at = z[..., None] * (_NODES + 1) / 2
    integrand = 1 / np.sqrt(OMEGA_M * (1 + at) ** 3 + 1 - OMEGA_M)
    return np.asarray(LIGHT_KM_S / H0_KM_S_MPC * z / 2 * (integrand * _WEIGHTS).sum(-1))


def angular_diameter_distance_mpc(z: ArrayLike) -> Values:
    """Angular diameter distance from here, Mpc."""
    return comoving_distance_mpc(z) / (1 + np.asarray(z, np.float64))


def distance_modulus_mag(z: ArrayLike) -> Values:
    """Apparent minus absolute magnitude before any K-correction, mag; z above 0."""
    luminosity = comoving_distance_mpc(z) * (1 + np.asarray(z, np.float64))
    return np.asarray(5 * np.log10(luminosity) + 25)


def lensing_efficiency(z_lens: ArrayLike, z_source: ArrayLike) -> Values:
    """D_ls / D_s, from 0 (source at the lens or before it) towards 1."""
    near, far = comoving_distance_mpc(z_lens), comoving_distance_mpc(z_source)
    behind = far > near
    return np.where(behind, 1 - near / np.where(behind, far, 1.0), 0.0)
