"""What stands around the targets: satellites, second nuclei, field galaxies, stars."""

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import keys
from darkhaloscope.simulate import colours
from darkhaloscope.simulate.asked import Brick, Population
from darkhaloscope.simulate.draws import Draws, Ends, Rows
from darkhaloscope.simulate.galaxies import FIELD, GALAXY, STAR, ids, number, place

_COUNTS_SLOPE = 0.35  # of log10 N(r) between r 19 and 24
_COUNTS_LIMIT = 22.5
_SATELLITE_REACH_ARCSEC = 15.0
_SATELLITE_MAG_Z = 23.0


def satellites(targets: Rows, config: Population) -> Rows:
    """Red satellites of early types, at their redshift, within 15 arcsec.

    Their number grows with the host's light and their surface density falls as 1 / R, both as of
    the satellites of luminous red galaxies (Tal, Wake & van Dokkum 2012, ApJ 751, L5).
    """
    hosts = targets[targets["sigma_v"] > 0]
    draws = Draws(hosts["id"], config.seed)
    mean = config.satellites_per_target * 10 ** (-0.4 * 0.9 * (hosts["mag_abs_r"] + 22))
    n_each = draws.count("n satellites", np.minimum(mean, 12.0))
    table, host, draws = _attached(hosts, n_each, "satellite", config.seed)
    radius = draws.uniform("satellite radius", 1.5, _SATELLITE_REACH_ARCSEC)
    _shift(table, host, radius, draws.uniform("satellite angle", 0, 2 * np.pi))
    below = draws.power("satellite mag", Ends(0.7, 5.0), 0.25)
    mag_z = host["mag"][:, colours.Z] + below
    table["mag"] = colours.red_sequence(mag_z, host["z"], draws)
    table["mag_abs_r"] = host["mag_abs_r"] + below
    table["r_eff"] = (host["r_eff"] * 10 ** (-0.16 * below)).clip(0.15, 2.0)
    table["n"] = draws.uniform("satellite n", 1.5, 4.0)
    return table[mag_z < _SATELLITE_MAG_Z]


def second_nuclei(targets: Rows, config: Population) -> Rows:
    """The other galaxy of a merger: 0 to 1.5 mag fainter, 1 to 3 arcsec away."""
    hosts = targets[targets["kind"] == "merger"]
    table, host, draws = _attached(hosts, np.ones(len(hosts), np.int64), "nucleus", config.seed)
    _shift(
        table,
        host,
        draws.uniform("pair radius", 1.0, 3.0),
        draws.uniform("pair angle", 0, 2 * np.pi),
    )
    below = draws.uniform("pair mag", 0.0, 1.5)
    table["mag"] = colours.red_sequence(host["mag"][:, colours.Z] + below, host["z"], draws)
    table["mag_abs_r"] = host["mag_abs_r"] + below
    table["r_eff"] = host["r_eff"] * 10 ** (-0.2 * below)
    table["n"] = draws.uniform("pair n", 2.5, 4.5)
    return table


def field_galaxies(brick: Brick, config: Population) -> Rows:
    """Unrelated galaxies by the counts: they also make the natural blue companions of targets.

    Sizes fall from 1.2 arcsec at r 19 to 0.3 at r 24.5, with a scatter of 0.18 dex, as of galaxies
    in COSMOS (Leauthaud et al. 2007, ApJS 172, 219), rounded.
    """
    draws = Draws(
        ids(brick, FIELD, number(brick, field_per_deg2(config), config, "field")), config.seed
    )
    table = _field_rows(draws, config)
    table["ra"], table["dec"] = place(draws, brick, "field")
    return table


def field_around(hosts: Rows, config: Population, *, half_width_arcsec: float) -> Rows:
    """Unrelated galaxies in a square about each host; `host` is its id."""
    area_deg2 = (2 * half_width_arcsec / 3600) ** 2
    return _around(hosts, config, "field", field_per_deg2(config) * area_deg2, half_width_arcsec)


def stars_around(hosts: Rows, config: Population, *, half_width_arcsec: float) -> Rows:
    """Stars in a square about each host; `host` is its id."""
    area_deg2 = (2 * half_width_arcsec / 3600) ** 2
    return _around(hosts, config, "star", config.stars_per_deg2 * area_deg2, half_width_arcsec)


def _around(
    hosts: Rows, config: Population, kind: str, mean: float, half_width_arcsec: float
) -> Rows:
    n_each = Draws(hosts["id"], config.seed).count(f"n {kind} around", np.full(len(hosts), mean))
    _, host, draws = _attached(hosts, n_each, kind, config.seed)
    table = _field_rows(draws, config) if kind == "field" else _star_rows(draws, config)
    table["host"] = host["id"]
    for axis in ("ra", "dec"):
        offset = draws.uniform(f"{kind} {axis} around", -half_width_arcsec, half_width_arcsec)
        table[axis] = host[axis] + offset / 3600
    return table


def field_per_deg2(config: Population) -> float:
    """Galaxies per square degree over the whole span of magnitudes."""
    span = config.galaxy_mag_r
    limit, low, high = 10 ** (_COUNTS_SLOPE * np.array([_COUNTS_LIMIT, span.low, span.high]))
    return float(config.galaxies_per_deg2 * (high - low) / (limit - low))


def _field_rows(draws: Draws, config: Population) -> Rows:
    table = np.zeros(len(draws.ids), GALAXY)
    table["id"], table["kind"] = draws.ids, "field"
    mag_r = draws.power("field mag", config.galaxy_mag_r, _COUNTS_SLOPE)
    table["mag"] = colours.field(mag_r, draws)
    size = 0.60 * 10 ** (-0.10 * (mag_r - 22) + draws.normal("field r_eff", 0.18))
    table["r_eff"] = size.clip(0.12, 3.0)
    table["n"] = np.where(
        draws.uniform("field n") < 0.2, 3.5, draws.uniform("field n disc", 0.7, 1.5)
    )
    table["q"] = draws.uniform("field q", 0.25, 1.0)
    table["phi"] = draws.uniform("field phi", 0, np.pi)
    return table


def stars(brick: Brick, config: Population) -> Rows:
    """Stars: points, their number rising as 10^(0.2 m)."""
    draws = Draws(
        ids(brick, STAR, number(brick, config.stars_per_deg2, config, "stars")), config.seed
    )
    table = _star_rows(draws, config)
    table["ra"], table["dec"] = place(draws, brick, "star")
    return table


def _star_rows(draws: Draws, config: Population) -> Rows:
    table = np.zeros(len(draws.ids), GALAXY)
    table["id"], table["kind"] = draws.ids, "star"
    table["mag"] = colours.star(draws.power("star mag", config.star_mag_r, 0.2), draws)
    table["q"] = 1.0
    return table


def _attached(
    hosts: Rows, n_each: NDArray[np.int64], kind: str, seed: int
) -> tuple[Rows, Rows, Draws]:
    """Empty rows that belong to hosts, the host of each, and draws by ids made from the host's."""
    host = hosts[np.repeat(np.arange(len(hosts)), n_each)]
    copy = np.arange(len(host)) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    table = np.zeros(len(host), GALAXY)
    table["id"] = keys.stamp_id(host["id"], kind, copy.astype(np.int64))
    table["kind"], table["host"], table["z"] = kind, host["id"], host["z"]
    draws = Draws(table["id"], seed)
    table["q"] = draws.uniform(f"{kind} q", 0.5, 1.0)
    table["phi"] = draws.uniform(f"{kind} phi", 0, np.pi)
    return table, host, draws


def _shift(
    table: Rows, host: Rows, radius_arcsec: NDArray[np.float64], angle: NDArray[np.float64]
) -> None:
    """Place each row at a distance and direction from its host."""
    table["dec"] = host["dec"] + radius_arcsec * np.sin(angle) / 3600
    squeeze = np.cos(np.radians(host["dec"]))
    table["ra"] = host["ra"] + radius_arcsec * np.cos(angle) / 3600 / squeeze
