"""Named draws of lenses and sources: a flat prior or a grid that teaches, a population that judges.

NumPy, float64, on the host. Every value is a function of a row's id, the seed and the name of the
draw, so neither the order of rows nor their partition matters. Results are dictionaries of columns,
named and scaled as in the table `manifest` (degrees, arcsec, magnitudes), each of shape (n,).

The settings are read by attribute, so that this runs where pydantic is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from darkhaloscope.core import keys
from darkhaloscope.lensing import populations
from darkhaloscope.lensing.asked import Broad, Grid, Physical, Range, Sources
from darkhaloscope.lensing.caustics import CHUNK_ROWS, Caustics, caustics, multiply_imaged_area

Values = NDArray[np.float64]
Ids = NDArray[np.int64]
Columns = dict[str, Values]

GRIDS = {  # the first run's grid and its successor
    "grid_small": {
        "theta_e_arcsec": (0.3, 0.6, 1.0),
        "src_dmag": (1.0, 2.0),
        "src_r_eff_arcsec": (0.08, 0.15),
        "src_e": (0.0, 0.3),
        "shear": (0.0, 0.03),
    },
    "grid_sota": {
        "theta_e_arcsec": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5),
        "src_dmag": (0.5, 1.0, 1.5, 2.0),
        "src_r_eff_arcsec": (0.06, 0.10, 0.15, 0.20),
        "src_e": (0.0, 0.2, 0.4),
        "shear": (0.0, 0.02, 0.04),
    },
}
LEAST_THETA_E_ARCSEC = 0.05  # below it nothing is drawn, whatever the seeing
# Redshifts of training sources, flat. They set colours alone; by the counts half would lie below 1,
# where sources are redder than most that are lensed.
TRAINING_SOURCE_Z = (0.7, 3.0)
MAX_SHAPE_MAGNIFICATION = 15.0
_CANDIDATES = 32
_FLAT_TO_SIGMA, _FLAT_TO_Z = 4.0, 3.5  # of the dispersion's scatter; of the source
_FARTHEST_TAIL = 30.0  # sigma; beyond it the normal distribution underflows


@dataclass(frozen=True, slots=True)
class Hosts:
    """What a draw asks of the galaxies, one row a stamp, each (n,).

    Attributes:
        mag_r: r magnitude, dereddened.
        mag_z: z magnitude, dereddened.
        light_q: Axis ratio of the light.
        light_phi: Position angle of the light, radians from +x to +y.
        least_theta_e: Smallest Einstein radius that the seeing admits, arcsec.
    """

    mag_r: Values
    mag_z: Values
    light_q: Values
    light_phi: Values
    least_theta_e: Values

    def take(self, rows: NDArray[np.intp]) -> "Hosts":
        """Some of the rows."""
        fields = (self.mag_r, self.mag_z, self.light_q, self.light_phi, self.least_theta_e)
        return Hosts(*[field[rows] for field in fields])


def broad(ids: Ids, hosts: Hosts, prior: Broad, *, seed: int) -> Columns:
    """Flat draws over wide ranges; theta_E from what the seeing admits to the range's end."""
    draw = partial(keys.uniform, ids, seed=seed)
    low = np.maximum(prior.theta_e_arcsec.low, hosts.least_theta_e)
    mag = _flat(prior.src_mag_r, draw(stream="src_mag"))
    return {
        "theta_e_arcsec": low + (prior.theta_e_arcsec.high - low) * draw(stream="theta_e"),
        "lens_q": _flat(prior.lens_q, draw(stream="lens_q")),
        "lens_phi_deg": 180 * draw(stream="lens_phi"),
        "shear": _flat(prior.shear, draw(stream="shear")),
        "shear_phi_deg": 180 * draw(stream="shear_phi"),
        "src_z": _training_source_z(draw),
        "src_mag_r": mag,
        "src_r_eff_arcsec": log_flat(prior.src_r_eff_arcsec, draw(stream="src_r_eff")),
        "src_q": _flat(prior.src_q, draw(stream="src_q")),
    }


def grid(ids: Ids, hosts: Hosts, prior: Grid, *, seed: int) -> Columns:
    """One cell of the named grid per row; cells whose theta_E the seeing does not admit are out.

    Ellipticity is (1 - q) / (1 + q) of the source, `src_dmag` its r magnitude less the host's.
    """
    values = GRIDS[prior.prior]
    draw = partial(keys.uniform, ids, seed=seed)
    theta_e = np.asarray(values["theta_e_arcsec"])
    n_small = (theta_e[None] < hosts.least_theta_e[:, None] - 1e-9).sum(1)
    n_left = np.maximum(len(theta_e) - n_small, 1)
    place = np.minimum(n_small + np.floor(draw(stream="theta_e") * n_left), len(theta_e) - 1)
    cell = {
        name: np.asarray(values[name])[(draw(stream=name) * len(values[name])).astype(np.intp)]
        for name in ("src_dmag", "src_r_eff_arcsec", "src_e", "shear")
    }
    mag = hosts.mag_r + cell["src_dmag"]
    return {
        "theta_e_arcsec": theta_e[place.astype(np.intp)],
        "lens_q": _flat(prior.lens_q, draw(stream="lens_q")),
        "lens_phi_deg": 180 * draw(stream="lens_phi"),
        "shear": cell["shear"],
        "shear_phi_deg": 180 * draw(stream="shear_phi"),
        "src_z": _training_source_z(draw),
        "src_mag_r": mag,
        "src_r_eff_arcsec": cell["src_r_eff_arcsec"],
        "src_q": (1 - cell["src_e"]) / (1 + cell["src_e"]),
    }


def physical(
    ids: Ids, hosts: Hosts, prior: Physical, *, seed: int, trials: int = 1
) -> tuple[Columns, NDArray[np.bool_]]:
    """Lenses as the hosts would make them, given that theta_E is resolved.

    Redshift and dispersion come from the host's colour and luminosity; the source's magnitude is
    drawn flat and its redshift from p(z | magnitude) behind the lens; the dispersion is drawn from
    its scatter, cut to what gives a resolved theta_E. A share of the hosts lies at the centre of a
    group whose halo adds to the lens: there the dispersion is that of the isothermal mass of both.
    A share of the rows has redshift and dispersion flat instead, so that large Einstein radii are
    seen too. The weight undoes all of it:

        caustic area x counts(magnitude) x range of magnitudes x p / q,

    with p the density of source redshift and dispersion, and q that of the draw (with no flat
    draws p / q is the probability of a source behind the lens times that of a resolved theta_E).
    Magnification bias needs no factor of its own: sources are counted by their unlensed magnitude,
    over the area in which they are multiply imaged, and what is seen of them is decided later.

    Most such lenses weigh next to nothing. One of weight w is kept with the probability
    w / `prior.keep_weight`, at most 1, and then carries the larger of the two as
    `weight_population`: the sum over a galaxy's draws, over their number, is still the number of
    lenses expected of it, and the rows that are kept resemble the population.

    Args:
        ids: Row ids, shape (n,).
        hosts: The galaxies, one a row.
        prior: The population.
        seed: The run's seed.
        trials: Draws per row; the first one kept stands. For light that has to resemble that of
            lenses and needs no weight.

    Returns:
        Columns, and which rows were kept within their trials; the others hold their last draw.
        `is_group_lens` is 1 where a group's halo is part of the lens.
    """
    columns, kept = _physical_once(ids, hosts, prior, seed=seed)
    for trial in range(1, trials):
        left = np.flatnonzero(~kept)
        if not len(left):
            break
        named = keys.stamp_id(ids[left], "trial", np.full(len(left), trial))
        again, found = _physical_once(named, hosts.take(left), prior, seed=seed)
        for name, values in again.items():
            columns[name][left] = values
        kept[left] = found
    return columns, kept


def _physical_once(
    ids: Ids, hosts: Hosts, prior: Physical, *, seed: int
) -> tuple[Columns, NDArray[np.bool_]]:
    draw, normal = partial(keys.uniform, ids, seed=seed), partial(keys.normal, ids, seed=seed)
    colour = hosts.mag_r - hosts.mag_z
    lens_z = populations.host_redshift(
        colour, normal(stream="lens_z"), scatter=prior.host_z_scatter
    )
    mag = _flat(prior.src_mag_r, draw(stream="src_mag"))
    src_z, sigma, is_group, p_over_q = _behind(hosts, prior, lens_z, mag, draw)
    columns = {
        "theta_e_arcsec": populations.einstein_radius_arcsec(sigma, lens_z, src_z),
        **_mass_with_light(hosts, prior, draw, normal),
        "lens_z": lens_z,
        "lens_sigma_v_kms": sigma,
        "is_group_lens": is_group.astype(np.float64),
        "src_z": src_z,
        "src_mag_r": mag,
        "src_r_eff_arcsec": populations.source_r_eff_arcsec(
            mag, src_z, normal(stream="src_r_eff"), scatter_dex=prior.src_r_eff_scatter_dex
        ),
        "src_q": _flat(prior.src_q, draw(stream="src_q")),
    }
    per_area = populations.source_density(mag) * (prior.src_mag_r.high - prior.src_mag_r.low)
    weight = multiply_imaged_area(**shape_of(columns)) * per_area * p_over_q
    columns["weight_population"] = np.maximum(weight, prior.keep_weight)
    return columns, (draw(stream="kept") * prior.keep_weight < weight) & (weight > 0)


def _behind(
    hosts: Hosts, prior: Physical, lens_z: Values, mag: Values, draw: Callable[..., Values]
) -> tuple[Values, Values, NDArray[np.bool_], Values]:
    """Source redshift, dispersion, whether a group lenses, and their density over the draw's.

    A mixture: as the population has them, cut to a resolved theta_E; or flat in redshift and in
    log dispersion. Every value is weighed by the density of the whole mixture, so that no weight
    exceeds the plain one's by more than 1 / (1 - flat share).
    """
    share_flat, nearest = prior.flat_theta_e_share, lens_z + 0.05
    drawn_z, behind = populations.source_redshift(mag, nearest, draw(stream="src_z"))
    farthest = np.maximum(_FLAT_TO_Z, nearest + 0.5)
    flat_z = nearest + (farthest - nearest) * draw(stream="flat_src_z")
    is_flat = draw(stream="is_flat") < share_flat
    src_z = np.where(is_flat, flat_z, drawn_z)

    mean = populations.log_velocity_dispersion(hosts.mag_z, lens_z)
    low, high = (  # dex above the galaxy's mean
        populations.log_dispersion_of(theta_e, lens_z, src_z) - mean
        for theta_e in (hosts.least_theta_e, prior.max_theta_e_arcsec)
    )
    lone, group = _components(prior)
    at = draw(stream="sigma_v")
    offset, share_lone = lone.cut(at, low, high)
    of_group, share_group = group.cut(at, low, high)
    share = share_lone + share_group
    which = draw(stream="is_group")
    offset = np.where(which * share < share_group, of_group, offset)
    start = np.maximum(low, -_FLAT_TO_SIGMA * lone.scatter)
    end = np.minimum(high, max(lone.highest, group.highest))
    width = np.maximum(end - start, 1e-9)
    offset = np.where(is_flat, start + width * draw(stream="flat_sigma_v"), offset)
    p_lone, p_group = lone.density(offset), group.density(offset)
    is_group = np.where(is_flat, which * (p_lone + p_group) < p_group, which * share < share_group)

    within = (offset >= start) & (offset <= end) & (src_z <= farthest) & (end > start)
    p = populations.source_redshift_density(mag, src_z) * (p_lone + p_group)
    flat = np.where(within, 1 / width, 0.0) / (farthest - nearest)
    tiny = np.finfo(np.float64).tiny
    # (1 - f) p / (behind x share) + f flat, over p
    q_over_p = (1 - share_flat) / np.maximum(behind * share, tiny)
    q_over_p = q_over_p + share_flat * flat / np.maximum(p, tiny)
    possible = ~is_flat | (end > start)
    return src_z, 10 ** (mean + offset), is_group, np.where(possible, 1 / q_over_p, 0.0)


@dataclass(frozen=True, slots=True)
class _Component:
    """Part of the lenses, normal in the log dispersion about what the host's luminosity gives."""

    share: float
    offset: float
    scatter: float

    @property
    def highest(self) -> float:
        """Up to where flat draws reach for it, dex."""
        return self.offset + _FLAT_TO_SIGMA * self.scatter if self.share > 0 else -np.inf

    def density(self, dex: Values) -> Values:
        """Its part of the density per dex."""
        normal = np.exp(-0.5 * ((dex - self.offset) / self.scatter) ** 2) / np.sqrt(2 * np.pi)
        return np.asarray(self.share / self.scatter * normal)

    def cut(self, uniform: Values, low: Values, high: Values) -> tuple[Values, Values]:
        """A draw of it within (low, high), and the probability of its lying there, both in dex."""
        ends = ((edge - self.offset) / self.scatter for edge in (low, high))
        drawn, within = _cut_normal(uniform, *ends)
        return self.offset + self.scatter * drawn, self.share * within


def _components(prior: Physical) -> tuple[_Component, _Component]:
    """Galaxies alone, and galaxies at the centre of a group."""
    scatter = prior.dispersion_scatter_dex
    return (
        _Component(1 - prior.group_share, 0.0, scatter),
        _Component(prior.group_share, prior.group_offset_dex, prior.group_scatter_dex),
    )


def source_light(
    ids: Ids, src_z: Values, src_mag_r: Values, sources: Sources, bands: Sequence[str], *, seed: int
) -> Columns:
    """Colours, Sersic index and angle of sources: `src_mag_<b>`, `src_n`, `src_phi_deg`."""
    draw = partial(keys.uniform, ids, seed=seed)
    red = is_red(ids, sources, seed=seed)
    blueness = draw(stream="src_blueness") * np.where(red, 1.0, populations.BLUEST)
    columns = {
        "src_n": _flat(sources.src_n, draw(stream="src_n")),
        "src_phi_deg": 180 * draw(stream="src_phi"),
    }
    for band in bands:
        scatter = 0.0 if band == "r" else sources.colour_scatter_mag
        noise = scatter * keys.normal(ids, seed=seed, stream=f"src_colour_{band}")
        colour = populations.source_colour(band, src_z, blueness, red)
        columns[f"src_mag_{band}"] = src_mag_r + colour + noise
    return columns


def is_red(ids: Ids, sources: Sources, *, seed: int) -> NDArray[np.bool_]:
    """Which sources are early types or dusty, (n,)."""
    return np.asarray(keys.uniform(ids, seed=seed, stream="src_is_red") < sources.red_share)


def positions_inside(ids: Ids, lens: Columns, *, seed: int) -> tuple[Values, Values]:
    """Sources drawn evenly over the area of the multiply-imaged region, arcsec, (n,) each."""

    def accepts(curves: Caustics, x: Values, y: Values) -> NDArray[np.bool_]:
        return curves.contains(x, y)

    return _positions(ids, lens, 1.0, accepts, "src_position", seed=seed)


def positions_outside(ids: Ids, lens: Columns, *, reach: float, seed: int) -> tuple[Values, Values]:
    """Sources outside the region, evenly over the disc of `reach` times the caustic's own reach."""

    def accepts(curves: Caustics, x: Values, y: Values) -> NDArray[np.bool_]:
        return ~curves.contains(x, y)

    return _positions(ids, lens, reach, accepts, "src_position_outside", seed=seed)


def shape_magnification(ids: Ids, *, seed: int) -> Values:
    """What a look-alike's light is multiplied by, so that it is as bright as arcs are.

    Of sources even over the caustic of a singular isothermal sphere, P(mu > m) = 4 / m^2 above 2;
    cut at 15, where real sources, which have a size, end.
    """
    return np.minimum(
        2 / np.sqrt(1 - keys.uniform(ids, seed=seed, stream="shape_magnification")),
        MAX_SHAPE_MAGNIFICATION,
    )


def shape_of(lens: Columns) -> Columns:
    """The arguments of `lensing.caustics` from the columns of a table."""
    return {
        "theta_e": lens["theta_e_arcsec"],
        "q": lens["lens_q"],
        "phi": np.radians(lens["lens_phi_deg"]),
        "shear": lens["shear"],
        "shear_phi": np.radians(lens["shear_phi_deg"]),
    }


def grid_cells(name: str) -> list[dict[str, float]]:
    """Every cell of a grid, as its values by name."""
    values = GRIDS[name]
    return [dict(zip(values, cell, strict=True)) for cell in product(*values.values())]


def log_flat(span: Range, uniform: Values) -> Values:
    """A draw flat in the logarithm over a range of positive numbers."""
    return np.asarray(span.low * (span.high / span.low) ** uniform)


def _flat(span: Range, uniform: Values) -> Values:
    return np.asarray(span.low + (span.high - span.low) * uniform)


def _training_source_z(draw: Callable[..., Values]) -> Values:
    low, high = TRAINING_SOURCE_Z
    return low + (high - low) * draw(stream="src_z")


def _mass_with_light(
    hosts: Hosts, prior: Physical, draw: Callable[..., Values], normal: Callable[..., Values]
) -> Columns:
    """Mass aligned with light within a scatter (10 degrees in Koopmans et al. 2006), and shear."""
    phi = np.degrees(hosts.light_phi) + prior.mass_phi_scatter_deg * normal(stream="lens_phi")
    return {
        "lens_q": populations.mass_axis_ratio(hosts.light_q, normal(stream="lens_q")),
        "lens_phi_deg": np.mod(phi, 180),
        "shear": np.minimum(prior.shear_scale * np.sqrt(-2 * np.log1p(-draw(stream="shear"))), 0.5),
        "shear_phi_deg": 180 * draw(stream="shear_phi"),
    }


def _cut_normal(uniform: Values, low: Values, high: Values) -> tuple[Values, Values]:
    """A standard normal draw within (low, high), and the probability of that interval.

    Worked in the tail that the interval lies in, where the difference of two probabilities does
    not cancel.
    """
    low = np.clip(low, -_FARTHEST_TAIL, _FARTHEST_TAIL)
    high = np.clip(high, low, _FARTHEST_TAIL)
    flip = np.where(low > 0, -1.0, 1.0)  # the upper tail is the lower one, mirrored
    a, b = np.minimum(flip * low, flip * high), np.maximum(flip * low, flip * high)
    below, share = ndtr(a), ndtr(b) - ndtr(a)
    at = np.where(flip > 0, uniform, 1 - uniform)
    drawn = np.clip(ndtri(below + at * share), a, b)
    return flip * drawn, share


def _positions(
    ids: Ids,
    lens: Columns,
    reach: float,
    accepts: Callable[[Caustics, Values, Values], NDArray[np.bool_]],
    stream: str,
    *,
    seed: int,
) -> tuple[Values, Values]:
    """The first of a row's candidates, even over the disc, that is accepted."""
    shape = shape_of(lens)
    x, y = np.zeros(len(ids)), np.zeros(len(ids))
    for start in range(0, len(ids), CHUNK_ROWS):
        rows = np.arange(start, min(start + CHUNK_ROWS, len(ids)))
        curves = caustics(**{name: values[rows] for name, values in shape.items()})
        radius = reach * curves.reach()
        left = np.arange(len(rows))
        for candidate in range(_CANDIDATES):
            if not len(left):
                break
            draw = partial(keys.uniform, ids[rows[left]], seed=seed)
            r = radius[left] * np.sqrt(draw(stream=f"{stream}_r_{candidate}"))
            angle = 2 * np.pi * draw(stream=f"{stream}_phi_{candidate}")
            x[rows[left]], y[rows[left]] = r * np.cos(angle), r * np.sin(angle)
            fits = accepts(curves.take(left), x[rows[left]], y[rows[left]])
            left = left[~fits]
        _settle(x, y, rows[left], inside=reach <= 1)
    return x, y


def _settle(x: Values, y: Values, rows: NDArray[np.intp], *, inside: bool) -> None:
    """Rows that no candidate fitted (1 in 10^6): near the centre, or twice as far out."""
    factor = 0.02 if inside else 2.0
    x[rows], y[rows] = factor * x[rows], factor * y[rows]
