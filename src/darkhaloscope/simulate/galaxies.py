"""The targets of a brick: early types and the discs, rings and mergers among them.

A target's redshift and luminosity come from a luminosity function in comoving volume, its size and
velocity dispersion from its luminosity, its colours from its redshift; what fails v3 is drawn anew,
up to eight times. The brick's id, not the order of work, decides every number.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from darkhaloscope.core import keys
from darkhaloscope.lensing import cosmology
from darkhaloscope.simulate import colours
from darkhaloscope.simulate.asked import Brick, Population
from darkhaloscope.simulate.draws import Draws, Rows, Values

GALAXY = np.dtype(
    [
        ("id", "i8"),
        ("kind", "U12"),
        ("host", "i8"),  # id of the target it belongs to; 0: none
        ("ra", "f8"),
        ("dec", "f8"),
        ("z", "f8"),
        ("mag_abs_r", "f8"),  # rest frame r, evolved to z = 0
        ("sigma_v", "f8"),  # km/s; 0: not an early type
        ("r_eff", "f8"),  # arcsec, sqrt(ab); of a disc galaxy: its disc
        ("n", "f8"),
        ("q", "f8"),
        ("phi", "f8"),  # rad, +x (west) towards +y (north)
        ("mag", "f8", (6,)),  # dust-free, FILTERS
        ("bulge", "f8", (6,)),  # share of the flux in the bulge, FILTERS
        ("has_twist", "?"),
        ("has_shells", "?"),
        ("has_intracluster", "?"),
    ]
)
DISCS = ("disc", "spiral", "edge_on")
TARGETS = ("early", *DISCS, "ring", "merger")
MAG_Z_BRIGHT = 16.5  # nothing brighter is drawn as a target
MIN_SEPARATION_ARCSEC = 5.0  # of two unrelated targets: a dense sky shall not be one of pairs
_TRIES = 8
_MANY_TRIES = 40  # two in five fail: where each id has to be a target
_GROUP_BITS = 20
TARGET, SATELLITE, FIELD, STAR = range(4)  # groups of ids inside a brick


def ids(brick: Brick, group: int, n: int) -> NDArray[np.int64]:
    """Ids of the n rows of a group in a brick: brickid, group and number in one integer."""
    return (
        (brick.brickid << (_GROUP_BITS + 3)) + (group << _GROUP_BITS) + np.arange(n, dtype=np.int64)
    )


def brickid_of(galaxy_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The brick that owns each galaxy, shape (n,)."""
    return np.asarray(galaxy_ids >> (_GROUP_BITS + 3), np.int64)


def number(brick: Brick, per_deg2: float, config: Population, what: str) -> int:
    """Poisson number of things in a brick, at most what its ids can count."""
    draws = Draws(np.array([brick.brickid]), config.seed)
    return min(int(draws.count(f"n {what}", per_deg2 * brick.area_deg2)[0]), (1 << _GROUP_BITS) - 1)


def place(draws: Draws, brick: Brick, what: str) -> tuple[Values, Values]:
    """Even positions in a brick, degrees, each (n,)."""
    low, high = np.sin(np.radians([brick.dec1, brick.dec2]))
    dec = np.degrees(np.arcsin(draws.uniform(f"{what} dec", low, high)))
    return draws.uniform(f"{what} ra", brick.ra1, brick.ra2), dec


def targets(brick: Brick, config: Population, forced: Mapping[int, str]) -> Rows:
    """The targets that a brick owns; `forced` gives the kind of some, by id."""
    draws = Draws(
        ids(brick, TARGET, number(brick, config.lrg_per_deg2, config, "targets")), config.seed
    )
    table = np.zeros(len(draws.ids), GALAXY)
    table["id"] = draws.ids
    table["ra"], table["dec"] = place(draws, brick, "target")
    table["kind"] = _kinds(draws, config, forced)
    table["phi"] = draws.uniform("target phi", 0, np.pi)
    is_disc = np.isin(table["kind"], DISCS)
    for at, fill in ((np.flatnonzero(~is_disc), _early_types), (np.flatnonzero(is_disc), _discs)):
        table[at] = fill(table[at], Draws(draws.ids[at], config.seed), config)
    return table[_not_crowded(table)]


def early_types(ids: NDArray[np.int64], config: Population) -> Rows:
    """Early types of given ids, (n,), at position 0, 0: whoever draws no bricks places them.

    All pass v3: what still fails it after eight draws, one in a thousand, is drawn further.
    """
    draws = Draws(ids, config.seed)
    table = np.zeros(len(ids), GALAXY)
    table["id"], table["kind"] = ids, "early"
    table["phi"] = draws.uniform("target phi", 0, np.pi)
    return _early_types(table, draws, config, tries=_MANY_TRIES)


def _kinds(draws: Draws, config: Population, forced: Mapping[int, str]) -> NDArray[np.str_]:
    others = np.array([getattr(config.rates, kind) for kind in TARGETS[1:]])
    shares = np.concatenate([[1 - others.sum()], others])
    drawn = np.array(TARGETS)[
        keys.choice(draws.ids, shares, seed=config.seed, stream="simulate target kind")
    ]
    for row in np.flatnonzero(np.isin(draws.ids, list(forced))):
        drawn[row] = forced[int(draws.ids[row])]
    return drawn


def _early_types(table: Rows, draws: Draws, config: Population, *, tries: int = _TRIES) -> Rows:
    """Early types of the given ids, positions, kinds and angles; those of a ring or merger too."""
    table["z"], table["mag_abs_r"], table["mag"] = _photometry(draws, "early", tries)
    brighter = -(table["mag_abs_r"] + 21.15)
    # Bernardi et al. 2003, AJ 125, 1849: mean relations of r-band luminosity, h = 0.7
    table["sigma_v"] = 10 ** (2.20 + 0.4 / 3.91 * brighter + draws.normal("sigma_v", 0.07))
    kpc = 10 ** (0.50 + 0.4 * 0.63 * brighter + draws.normal("early r_eff", 0.12))
    table["r_eff"] = (kpc / _kpc_per_arcsec(table["z"])).clip(0.3, 6.0)
    table["n"] = draws.uniform("early n", 3.0, 5.0)
    table["q"] = 1 - 0.55 * draws.uniform("early q") ** 1.4  # median 0.79, as SDSS early types
    is_early = table["kind"] == "early"
    table["has_twist"] = is_early & (draws.uniform("twist") < config.rates.twist)
    table["has_shells"] = is_early & (draws.uniform("shells") < config.rates.shells)
    is_bright = is_early & (table["mag_abs_r"] < -22.6)
    table["has_intracluster"] = is_bright & (draws.uniform("icl") < config.rates.intracluster)
    return table


def _discs(table: Rows, draws: Draws, config: Population) -> Rows:
    """Disc galaxies: an exponential disc, by its kind more or less inclined, and a red bulge."""
    table["z"], table["mag_abs_r"], table["mag"] = _photometry(draws, "disc")
    table["bulge"] = _bulge_and_disc(table["z"], np.zeros(len(table)), draws)[1]
    kpc = 5.5 * 10 ** (-0.4 * 0.4 * (table["mag_abs_r"] + 21) + draws.normal("disc r", 0.15))
    kpc *= np.where(table["kind"] == "spiral", 1.7, 1.0)  # arms show in the larger ones
    tilt = draws.uniform("disc tilt")
    inclined = np.sqrt((0.25 + 0.75 * tilt) ** 2 * 0.96 + 0.04)
    table["q"] = np.select(
        [table["kind"] == "edge_on", table["kind"] == "spiral"],
        [0.12 + 0.10 * tilt, 0.55 + 0.45 * tilt],
        inclined,
    )
    table["r_eff"] = (kpc / _kpc_per_arcsec(table["z"])).clip(0.4, 4.0) * np.sqrt(table["q"])
    table["n"] = 1.0
    return table


def _photometry(
    draws: Draws, what: str, tries: int = _TRIES
) -> tuple[Values, Values, NDArray[np.float64]]:
    """Redshift, absolute r and magnitudes (n, 6) of the first try that passes v3, or the last."""
    n = len(draws.ids)
    z, mag_abs, mag = np.zeros(n), np.zeros(n), np.zeros((n, 6))
    open_rows = np.arange(n)
    for attempt in range(tries):
        if not len(open_rows):
            break
        now = Draws(
            keys.stamp_id(draws.ids[open_rows], "try", np.full(len(open_rows), attempt)), draws.seed
        )
        z[open_rows], mag_abs[open_rows] = _from_luminosity_function(now, what)
        mag_z = (
            mag_abs[open_rows]
            - 0.68
            + cosmology.distance_modulus_mag(z[open_rows])
            + _k_z(z[open_rows], what)
        )
        if what == "early":
            mag[open_rows] = colours.red_sequence(mag_z, z[open_rows], now)
        else:
            mag[open_rows] = _bulge_and_disc(z[open_rows], mag_z, now)[0]
        open_rows = open_rows[~colours.passes_v3(mag[open_rows], MAG_Z_BRIGHT)]
    return z, mag_abs, mag


def _bulge_and_disc(z: Values, mag_z: Values, draws: Draws) -> tuple[Values, Values]:
    """Magnitudes of a disc galaxy and the share of its flux in the bulge, both (n, 6)."""
    share = draws.uniform("bulge share", 0.1, 0.45)
    bulge = colours.red_sequence(mag_z - 2.5 * np.log10(share), z, draws)
    disc = colours.star_forming_disc(mag_z - 2.5 * np.log10(1 - share), z, draws)
    flux_bulge, flux_disc = 10 ** (-0.4 * bulge), 10 ** (-0.4 * disc)
    total = flux_bulge + flux_disc
    return -2.5 * np.log10(total), flux_bulge / total


def _k_z(z: Values, what: str) -> Values:
    """K correction plus passive evolution in the z band, mag; discs fade less."""
    at = np.array([0.0, 0.3, 0.5, 0.7, 0.8, 1.0])
    early = np.interp(z, at, [0.0, -0.15, -0.26, -0.38, -0.41, -0.32])
    return early if what == "early" else np.asarray(0.6 * early)


def _from_luminosity_function(draws: Draws, what: str) -> tuple[Values, Values]:
    """Redshift and absolute r magnitude, each (n,), by volume and a Schechter function."""
    z, mag_abs, edges = _cells(what)
    cell = np.searchsorted(edges, draws.uniform("cell"), side="right").clip(0, len(z) - 1)
    jitter = draws.uniform("cell z", -0.005, 0.005), draws.uniform("cell M", -0.025, 0.025)
    return z[cell] + jitter[0], mag_abs[cell] + jitter[1]


@cache
def _cells(what: str) -> tuple[Values, Values, Values]:
    """Cells of redshift and luminosity that can pass v3, and their cumulative share.

    Schechter functions of red and of disc galaxies: M* -21.7 and alpha -0.3, M* -21.0 and -1.0
    (rounded from Faber et al. 2007, ApJ 665, 265, taken to r and h = 0.7).
    """
    star, slope, z_max = (-21.7, -0.3, 1.0) if what == "early" else (-21.0, -1.0, 0.65)
    axes = (
        np.arange(0.255 if what == "early" else 0.155, z_max, 0.01),
        np.arange(-24.5, -19.9, 0.05),
    )
    z, mag_abs = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    lum = 10 ** (-0.4 * (mag_abs - star))
    mag_z = mag_abs - 0.68 + cosmology.distance_modulus_mag(z) + _k_z(z, what)
    weight = _volume(z) * lum ** (slope + 1) * np.exp(-lum)
    weight = np.where((mag_z < 20.6) & (mag_z > MAG_Z_BRIGHT - 0.2), weight, 0.0)
    return z, mag_abs, np.cumsum(weight) / weight.sum()


def _volume(z: Values) -> Values:
    """Comoving volume per redshift, up to a constant, any shape."""
    expansion = np.sqrt(cosmology.OMEGA_M * (1 + z) ** 3 + 1 - cosmology.OMEGA_M)
    return np.asarray(cosmology.comoving_distance_mpc(z) ** 2 / expansion)


def _kpc_per_arcsec(z: Values) -> Values:
    """Proper length of an arcsecond across the line of sight, kpc, any shape."""
    distance = cosmology.angular_diameter_distance_mpc(np.maximum(z, 0.01))
    return np.asarray(distance * 1e3 / cosmology.ARCSEC_PER_RADIAN)


def _not_crowded(table: Rows) -> NDArray[np.bool_]:
    """Rows that have no earlier one within the least separation."""
    keep = np.ones(len(table), bool)
    if len(table) > 1:
        tree = cKDTree(flat_arcsec(table))
        pairs = tree.query_pairs(MIN_SEPARATION_ARCSEC, output_type="ndarray")
        keep[pairs.max(axis=1, initial=0) if len(pairs) else []] = False
    return keep


def flat_arcsec(table: Rows) -> NDArray[np.float64]:
    """Positions on a plane, arcsec, shape (n, 2); good to 1e-4 over a brick."""
    squeeze = np.cos(np.radians(table["dec"].mean())) if len(table) else 1.0
    return np.asarray(np.stack([table["ra"] * squeeze, table["dec"]], axis=1) * 3600)
