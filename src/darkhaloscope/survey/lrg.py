"""Luminous red galaxies: the five variants of cuts by z, r - z and z - W1.

Cuts are made on ratios of fluxes, not on magnitudes, so that a flux that is not positive needs no
special case: it fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import units

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cuts:
    """A variant: fainter limit in z, and how red in r - z and in z - W1, AB mag."""

    z_below: float
    r_z_above: float
    z_w1_above: float


VARIANTS = {
    "v1_pure_massive": Cuts(20.0, 0.5, 1.6),
    "v2_baseline_dr10": Cuts(20.4, 0.4, 1.6),
    "v3_color_relaxed": Cuts(20.4, 0.4, 0.8),
    "v4_mag_relaxed": Cuts(21.0, 0.4, 0.8),
    "v5_very_relaxed": Cuts(21.5, 0.3, 0.8),
}


def lrg_variants(flux: Mapping[str, NDArray[np.floating]]) -> dict[str, Flags]:
    """Which galaxies pass each of the five variants' cuts in magnitude and colour.

    Args:
        flux: Nanomaggies in `r`, `z` and `w1`, each of shape (n,); zero, negative or NaN fails.

    Returns:
        A flag per galaxy, shape (n,), for each variant. TYPE is not looked at.

    Examples:
        >>> red = {"r": np.array([2.0]), "z": np.array([8.0]), "w1": np.array([20.0])}
        >>> [name for name, passes in lrg_variants(red).items() if passes[0]]
        ['v3_color_relaxed', 'v4_mag_relaxed', 'v5_very_relaxed']
    """
    r, z, w1 = (np.asarray(flux[band], np.float64) for band in ("r", "z", "w1"))
    positive = (r > 0) & (z > 0) & (w1 > 0)
    return {
        name: positive
        & (z > units.nmgy_from_mag(cuts.z_below))
        & (z > r * _ratio(cuts.r_z_above))
        & (w1 > z * _ratio(cuts.z_w1_above))
        for name, cuts in VARIANTS.items()
    }


def dereddened(
    flux: NDArray[np.floating], transmission: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Flux before dust, shape (n,); NaN where the share that dust left is not known.

    Args:
        flux: As observed, shape (n,).
        transmission: Share of the light that dust left, shape (n,); None: of no galaxy known.

    Examples:
        >>> dereddened(np.array([3.0, 3.0]), np.array([0.75, 0.0])).tolist()
        [4.0, nan]
    """
    if transmission is None:
        return np.full(len(flux), np.nan)
    known = np.where(transmission > 0, transmission, np.nan)
    return np.asarray(flux, np.float64) / known


def _ratio(colour_mag: float) -> float:
    """Flux ratio of a colour: of two magnitudes that differ by it."""
    return float(10 ** (0.4 * colour_mag))
