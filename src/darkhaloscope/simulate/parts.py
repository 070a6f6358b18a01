"""Galaxies as sums of Sersic profiles: what the renderer is given.

A plain galaxy is one profile. An early type with a twist has a rounder inner and a flatter, turned
outer one; intracluster light is a third, five times as wide, that no catalogue counts. A disc
galaxy is a disc and a red bulge; of a spiral's disc a good part
is left to the arms.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv

from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC
from darkhaloscope.core.units import moffat_alpha_from_psfsize
from darkhaloscope.simulate import components
from darkhaloscope.simulate.draws import Rows, Values
from darkhaloscope.simulate.observing import Conditions

STAMP_SIZES = (24, 48, 96, 160, 256)
ARMS_SHARE = np.array(
    [0.65, 0.45, 0.40, 0.36, 0.0, 0.0]
)  # of a spiral's disc, FILTERS: arms are blue
_EDGE_SIGMA = 0.1  # a stamp ends where its light is below this share of the sky's noise


def profiles(galaxies: Rows, x: Values, y: Values, seen: Conditions, seed: int) -> Rows:
    """The profiles of galaxies, stars left out, each with the size of stamp that holds it.

    Args:
        galaxies: Rows of GALAXY, (n,).
        x: Position in the image, pixels, (n,).
        y: Position in the image, pixels, (n,).
        seen: Conditions of the brick: dust, bands, noise.
        seed: The sky's.
    """
    kept = galaxies["kind"] != "star"
    base = np.zeros(kept.sum(), components.part_dtype(len(seen.bands)))
    galaxies = galaxies[kept]
    for name in ("id", "r_eff", "n", "q", "phi"):
        base[name] = galaxies[name]
    base["x"], base["y"], base["flux"] = x[kept], y[kept], seen.flux(galaxies["mag"])
    has_bulge = galaxies["bulge"].max(axis=1, initial=0) > 0
    plain = ~has_bulge & ~galaxies["has_twist"]
    parts = [base[plain]]
    parts += components.twisted(base[galaxies["has_twist"]], seed)
    parts += _disc_and_bulge(base[has_bulge], galaxies[has_bulge], seen)
    parts.append(components.intracluster(base[galaxies["has_intracluster"]]))
    table = np.concatenate(parts)
    table["size"] = stamp_size(table, seen)
    return table


def _disc_and_bulge(base: Rows, galaxies: Rows, seen: Conditions) -> list[Rows]:
    share = galaxies["bulge"][:, seen.columns]
    disc, bulge = base.copy(), base.copy()
    is_spiral = (galaxies["kind"] == "spiral")[:, None]
    arms = np.where(is_spiral, ARMS_SHARE[seen.columns], 0.0)
    disc["flux"] *= (1 - share) * (1 - arms)
    bulge["flux"] *= share
    bulge["n"] = 2.5
    bulge["r_eff"] = (0.3 * base["r_eff"] / np.sqrt(base["q"])).clip(0.1, 0.8)
    bulge["q"] = np.maximum(base["q"], 0.65)
    return [disc, bulge]


def stamp_size(parts: Rows, seen: Conditions) -> NDArray[np.int32]:
    """Least stamp, pixels, (n,), outside which a profile and its PSF's wings drown in the noise."""
    sigma = _EDGE_SIGMA / np.sqrt(seen.invvar)
    chosen = np.full(len(parts), STAMP_SIZES[-1], np.int32)
    for size in STAMP_SIZES[-2::-1]:
        radius = (size / 2 - 1) * PIXEL_SCALE_ARCSEC
        bright = sersic_brightness(parts, radius)[:, None] + moffat_brightness(seen, radius)
        drowned = (parts["flux"] * bright * PIXEL_SCALE_ARCSEC**2 < sigma).all(axis=1)
        chosen[drowned] = size
    return chosen


def sersic_brightness(parts: Rows, radius_arcsec: float) -> Values:
    """Brightness per arcsec^2 of profiles of flux 1 along their major axis, (n,)."""
    n, r_eff = parts["n"], parts["r_eff"]
    b = gammaincinv(2 * n, 0.5)
    central = b ** (2 * n) / (2 * np.pi * n * r_eff**2 * gamma(2 * n))
    return np.asarray(
        central * np.exp(-b * (radius_arcsec * np.sqrt(parts["q"]) / r_eff) ** (1 / n))
    )


def moffat_brightness(seen: Conditions, radius_arcsec: float | Values) -> Values:
    """Brightness per arcsec^2 of the PSF, shape (..., band)."""
    alpha = moffat_alpha_from_psfsize(seen.psfsize, seen.beta)
    radius = np.asarray(radius_arcsec)[..., None]
    central = (seen.beta - 1) / (np.pi * alpha**2)
    return np.asarray(central * (1 + (radius / alpha) ** 2) ** (-seen.beta))
