"""True lenses, from the physical prior: which early types have a source behind them, and where.

The expected number of sources in a galaxy's multiply-imaged region is their surface density times
its area, over source redshifts: sum_z p(z) pi theta_E(z)^2, as the region of an isothermal lens is
close to the circle of radius theta_E. Redshifts are drawn with that weight, positions evenly inside
the true region (`lensing.caustics`), so the weight by caustic area is in the draws themselves.
"""

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import keys
from darkhaloscope.core.settings.base import Span
from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.lensing import caustics, populations
from darkhaloscope.simulate import colours
from darkhaloscope.simulate.draws import Draws, Rows, Values

LENS = np.dtype(
    [
        ("id", "i8"),  # of the galaxy
        ("is_floor", "?"),
        ("z_lens", "f8"),
        ("sigma_v", "f8"),
        ("theta_e", "f8"),
        ("q", "f8"),
        ("phi", "f8"),
        ("shear", "f8"),
        ("shear_phi", "f8"),
        ("z_src", "f8"),
        ("src_x", "f8"),  # arcsec from the host's centre, +x west, +y north
        ("src_y", "f8"),
        ("src_mag", "f8", (6,)),  # unlensed, dust-free
        ("src_r_eff", "f8"),
        ("src_n", "f8"),
        ("src_q", "f8"),
        ("src_phi", "f8"),
    ]
)
_SRC_Z = np.arange(0.2, 5.0, 0.05)
_POSITIONS = 64  # tries; the region fills at least a fifth of the disc that holds it
_COUNTS_SLOPE = 0.35


def expected_number(galaxies: Rows, config: SimulateConfig) -> Values:
    """Mean number of sources behind each galaxy that it images more than once, shape (n,)."""
    area, per_arcsec2 = _area_by_src_z(galaxies, 0.0, config), config.src_per_arcsec2
    return np.asarray(per_arcsec2 * area.sum(axis=1))


def natural(galaxies: Rows, config: SimulateConfig) -> NDArray[np.bool_]:
    """Which galaxies of a table are lenses by the prior alone, shape (n,)."""
    is_host = (galaxies["kind"] == "early") & (galaxies["sigma_v"] > 0)
    draws = Draws(galaxies["id"], config.seed)
    chance = -np.expm1(-expected_number(galaxies, config))
    return np.asarray(is_host & (draws.uniform("is lens") < chance))


def floor_weight(galaxies: Rows, config: SimulateConfig) -> Values:
    """Chance of each galaxy, up to a constant, to be a lens that counts towards the floor."""
    area = _area_by_src_z(galaxies, config.floors.lens_min_theta_e_arcsec, config).sum(axis=1)
    return np.asarray(np.where(galaxies["kind"] == "early", area, 0.0))


def draw(galaxies: Rows, is_floor: NDArray[np.bool_], config: SimulateConfig) -> Rows:
    """Lens and source of each galaxy of a table of lenses; `is_floor` marks those of the floor."""
    ids = keys.stamp_id(galaxies["id"], "true lens", np.zeros(len(galaxies), np.int64))
    draws, table = Draws(ids, config.seed), np.zeros(len(galaxies), LENS)
    table["id"], table["is_floor"] = galaxies["id"], is_floor
    table["z_lens"], table["sigma_v"] = galaxies["z"], galaxies["sigma_v"]
    least = np.where(is_floor, config.floors.lens_min_theta_e_arcsec, 0.0)
    table["z_src"] = _source_redshift(galaxies, least, draws, config)
    table["theta_e"] = populations.einstein_radius_arcsec(
        table["sigma_v"], table["z_lens"], table["z_src"]
    )
    # mass follows light, rounder (Bolton et al. 2008, ApJ 682, 964: 0.1 rms in q, 10 deg in angle)
    table["q"] = (galaxies["q"] + draws.normal("lens q", 0.1)).clip(0.4, 0.98)
    table["phi"] = galaxies["phi"] + draws.normal("lens phi", np.radians(10))
    rayleigh = 0.04 * np.sqrt(-2 * np.log1p(-draws.uniform("shear")))
    table["shear"], table["shear_phi"] = rayleigh.clip(0, 0.2), draws.uniform("shear phi", 0, np.pi)
    table["src_x"], table["src_y"] = _position(table, draws)
    _fill_source(table, draws, config)
    return table


def _fill_source(table: Rows, draws: Draws, config: SimulateConfig) -> None:
    """Magnitude by the counts, size by magnitude, shape: of the sources behind `table`'s lenses."""
    span = config.src_mag_r
    bright = Span(
        low=span.low, high=max(span.low, min(span.high, config.floors.lens_max_src_mag_r))
    )
    mag_r = np.where(
        table["is_floor"],
        draws.power("src mag", bright, _COUNTS_SLOPE),
        draws.power("src mag", span, _COUNTS_SLOPE),
    )
    table["src_mag"] = colours.blue(mag_r, draws)
    size = 0.30 * 10 ** (-0.10 * (mag_r - 24) + draws.normal("src r_eff", 0.18))
    table["src_r_eff"] = size.clip(0.06, 0.8)
    table["src_n"] = draws.uniform("src n", 0.7, 1.8)
    table["src_q"] = draws.uniform("src q", 0.3, 1.0)
    table["src_phi"] = draws.uniform("src phi", 0, np.pi)


def _area_by_src_z(galaxies: Rows, least: Values | float, config: SimulateConfig) -> Values:
    """Area of theta_E times the share of sources, arcsec^2, (n, redshifts); 0 below `least`."""
    theta_e = populations.einstein_radius_arcsec(
        galaxies["sigma_v"][:, None], galaxies["z"][:, None], _SRC_Z[None, :]
    )
    # Smail, Ellis & Fitchett 1994, MNRAS 270, 245: p(z) as z^2 exp(-(z / z0)^1.5)
    shape = _SRC_Z**2 * np.exp(-((_SRC_Z / (config.src_z_median / 1.412)) ** 1.5))
    area = np.pi * theta_e**2 * shape / shape.sum()
    return np.where(theta_e >= np.reshape(least, (-1, 1)), area, 0.0)


def _source_redshift(galaxies: Rows, least: Values, draws: Draws, config: SimulateConfig) -> Values:
    """Source redshift, by area of the region, shape (n,)."""
    cumulative = np.cumsum(_area_by_src_z(galaxies, least, config), axis=1)
    wanted = draws.uniform("src z")[:, None] * cumulative[:, -1:]
    cell = (cumulative <= wanted).sum(axis=1).clip(0, len(_SRC_Z) - 1)
    return np.asarray(_SRC_Z[cell] + draws.uniform("src z cell", 0.0, 0.05))


def _position(table: Rows, draws: Draws) -> tuple[Values, Values]:
    """Source position, even over the multiply-imaged region: the first of the tries inside it."""
    lens = {name: table[name] for name in ("theta_e", "q", "phi", "shear", "shear_phi")}
    reach = caustics.caustic_reach(**lens) if len(table) else np.zeros(0)
    x, y, is_open = np.zeros(len(table)), np.zeros(len(table)), np.ones(len(table), bool)
    for attempt in range(_POSITIONS):
        radius = reach * np.sqrt(draws.uniform(f"src radius {attempt}"))
        angle = draws.uniform(f"src angle {attempt}", 0, 2 * np.pi)
        at = radius * np.cos(angle), radius * np.sin(angle)
        hit = is_open & caustics.multiply_imaged(*at, **lens)
        x, y = np.where(hit, at[0], x), np.where(hit, at[1], y)
        is_open &= ~hit
        if not is_open.any():
            break
    return x, y  # the lens's centre, which lies in every region, where no try did
