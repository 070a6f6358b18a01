"""Shares of a selection function with their intervals: in cells, and weighted to a population.

What is counted clusters: copies of a host look alike, and one odd source makes all its lenses easy
or hard. A share's variance is that of sums over hosts and over sources (`evaluate.clusters`), and
its interval that of Clopper and Pearson for as many independent galaxies as have this variance
(Korn & Graubard 1998). Thresholds are fixed by other data, so that nothing else is uncertain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import special

from darkhaloscope.evaluate import clusters
from darkhaloscope.evaluate.clusters import TAIL
from darkhaloscope.evaluate.intervals import clopper_pearson
from darkhaloscope.evaluate.rows import Flags, Floats, Ints
from darkhaloscope.evaluate.sample import Members

AXES = ("theta_e", "src_mag", "psf_fwhm", "depth")
SEEN = 10  # successes and failures from which a variance can be measured

Edges = Mapping[str, Sequence[float]]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Injections:
    """Injected lenses of one set, as arrays of shape (n,).

    Attributes:
        at: The four coordinates of `AXES`: Einstein radius, arcsec; r magnitude of the unlensed
            source; FWHM of the PSF in r, arcsec; 5-sigma depth in r, mag. NaN: not known.
        host: Galaxy that was made a lens.
        source: What was injected, as a code from 0 on; -1: not known.
        is_target: Whether the galaxy with the arc's light still passes the target cuts.
        is_found: Whether its score reaches the threshold; None: there is no threshold.
        weight: Weight to the population, per row; None: the lenses stand for none.
    """

    at: Mapping[str, Floats]
    host: Ints
    source: Ints
    is_target: Flags
    is_found: Flags | None
    weight: Floats | None

    def __len__(self) -> int:
        """Number of injections."""
        return len(self.host)

    def part(self, rows: Flags) -> "Injections":
        """Some of them, by flags of shape (n,)."""
        return Injections(
            {name: values[rows] for name, values in self.at.items()},
            self.host[rows],
            self.source[rows],
            self.is_target[rows],
            None if self.is_found is None else self.is_found[rows],
            None if self.weight is None else self.weight[rows],
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval.

    Attributes:
        n: Galaxies, each once; broken where copies of a host go different ways.
        k: Those of them that pass.
        value: The share, weighted where the lenses are; None: there is nothing to share.
        low: Lower end.
        high: Upper end.
        effective_n: Independent galaxies of equal weight that would tell as much.
    """

    n: float
    k: float
    value: float | None
    low: float | None
    high: float | None
    effective_n: float


@dataclass(frozen=True, slots=True)
class Least:
    """What a cell has to hold to be used by itself."""

    injections: int
    hosts: int
    sources: int


NOTHING = Share(0, 0, None, None, None, 0)


def share(is_hit: Flags, *, host: Ints, source: Ints, once: Floats, weight: Floats) -> Share:
    """Weighted share of rows that pass, and its interval.

    Args:
        is_hit: Which rows pass, shape (n,).
        host: Cluster of each row, such as its galaxy, shape (n,).
        source: Another cluster that crosses the first; -1: the row shares it with no other.
        once: What a row counts in `n` and `k`, such as 1 / copies of its galaxy, shape (n,).
        weight: What it counts in the share, at least 0, shape (n,).
    """
    total = float(weight.sum())
    n, k = float(once.sum()), float(once[is_hit].sum())
    if total <= 0:
        return NOTHING
    members = _members(weight / total, host, source)
    p = min(float(members.weight[is_hit].sum()), 1.0)
    if is_hit.all():
        p = 1.0
    hosts = 1 / float((np.bincount(members.host, members.weight) ** 2).sum())
    few = min(hosts, members.effective_sources)
    spread = clusters.variance(members.weight * (is_hit - p), members)
    most = members.effective_rows if min(k, n - k) >= SEEN else hosts
    effective = few
    if spread > 0 and 0 < p < 1:
        effective = min(max(p * (1 - p) / spread, few), most)
    low, high = clopper_pearson(p * effective, effective)
    return Share(_plain(n), _plain(k), p, low, high, round(effective, 3))


def combined(shares: Sequence[Share]) -> Record:
    """Product of independent shares, and its interval; null where a factor has none.

    The ends of Clopper & Pearson are quantiles of two beta distributions, one for each end. The
    product of beta variables is close to a beta variable of the same mean and variance (Fan 1991),
    whose quantile is taken: of one factor alone that is Clopper & Pearson again.
    """
    values = [s.value for s in shares if s.value is not None]
    if len(values) < len(shares):
        return {"value": None, "low": None, "high": None}
    value = float(np.prod(values))
    ends = []
    for extra, tail in ((0.0, TAIL), (1.0, 1 - TAIL)):
        k = np.array([v * s.effective_n for v, s in zip(values, shares, strict=True)]) + extra
        rest = np.array([(1 - v) * s.effective_n for v, s in zip(values, shares, strict=True)])
        rest = rest + 1 - extra
        mean = np.prod(k / (k + rest))
        square = np.prod(k / (k + rest) * (k + 1) / (k + rest + 1))
        ends.append(_beta_quantile(float(mean), float(square - mean**2), tail))
    return {"value": value, "low": min(ends[0], value), "high": max(ends[1], value)}


@dataclass(frozen=True)
class Usable:
    """Share of targets with a usable cutout, in cells of PSF and depth, and of all.

    Attributes:
        overall: Of every target, those included whose PSF or depth the catalogue does not say.
        edges: Edges of `psf_fwhm` and `depth`.
        cells: Share of each cell by its place along the two axes.
    """

    overall: Share
    edges: Edges
    cells: Mapping[tuple[int, int], Share]

    def at(self, psf: int, depth: int) -> tuple[Share, bool]:
        """Share of a cell; that of all targets, and True, where the cell holds none."""
        found = self.cells.get((psf, depth), NOTHING)
        return (self.overall, True) if found.value is None else (found, False)


def usable(psf_fwhm: Floats, depth: Floats, is_usable: Flags, brick: Ints, edges: Edges) -> Usable:
    """How many targets have a usable cutout; what is refused comes in whole bricks.

    Args:
        psf_fwhm: As the catalogue has it, r band, arcsec; NaN: not known, shape (n,).
        depth: The same of the depth, mag.
        is_usable: Whether the cutout was not refused.
        brick: Code of the brick.
        edges: Edges of `psf_fwhm` and `depth`.
    """

    def of(rows: Flags) -> Share:
        one = np.ones(int(rows.sum()))
        alone = np.full(len(one), -1)
        return share(is_usable[rows], host=brick[rows], source=alone, once=one, weight=one)

    places = [_place(v, edges[name]) for name, v in (("psf_fwhm", psf_fwhm), ("depth", depth))]
    shape = [range(len(edges[name]) - 1) for name in ("psf_fwhm", "depth")]
    cells = {(i, j): of((places[0] == i) & (places[1] == j)) for i, j in product(*shape)}
    return Usable(of(np.ones(len(is_usable), bool)), edges, cells)


def cells(lenses: Injections, of_targets: Usable, edges: Edges, least: Least) -> list[Record]:
    """Every cell of the four axes, empty ones too: its sizes, factors, and completeness.

    Inside a cell each host counts once, and no other weight is used: what is asked for is the
    completeness given the four coordinates.
    """
    made = []
    for where, place, rows in _parts(lenses, edges, AXES):
        factor, is_overall = of_targets.at(place[AXES.index("psf_fwhm")], place[-1])
        inside = lenses.part(rows)
        record = {**where, **_record(inside, once_a_host(inside.host), factor, least)}
        made.append({**record, "is_usable_overall": is_overall})
    return made


def plane(lenses: Injections, of_targets: Usable, edges: Edges, least: Least) -> list[Record]:
    """Cells of theta_E and magnitude alone, over every PSF and depth."""
    made = []
    for where, _, rows in _parts(lenses, edges, ("theta_e", "src_mag")):
        inside = lenses.part(rows)
        made.append(
            {**where, **_record(inside, once_a_host(inside.host), of_targets.overall, least)}
        )
    return made


def marginals(lenses: Injections, of_targets: Usable, edges: Edges, least: Least) -> Record:
    """Completeness over theta_E, over magnitude, and of all lenses, weighted to the population.

    Where the lenses stand for no population each host counts once, and `is_weighted` says so. All
    lenses of a bin are in it, whatever their other coordinates.
    """

    def of(inside: Injections) -> Record:
        weight = once_a_host(inside.host) if inside.weight is None else inside.weight
        return _record(inside, weight, of_targets.overall, least)

    return {
        "is_weighted": lenses.weight is not None,
        "total": of(lenses),
        **{
            axis: [
                {**where, **of(lenses.part(rows))}
                for where, _, rows in _parts(lenses, edges, [axis])
            ]
            for axis in ("theta_e", "src_mag")
        },
    }


def _record(inside: Injections, weight: Floats, of_targets: Share, least: Least) -> Record:
    """Sizes, the three factors and their product for some injections."""
    once = once_a_host(inside.host)
    n_hosts, n_sources = len(np.unique(inside.host)), _different(inside.source)
    sizes: Record = {
        "n_injections": len(inside),
        "n_hosts": n_hosts,
        "n_sources": n_sources,
        "effective_hosts": _kish(inside.host, weight),
        "effective_sources": _kish(alone(inside.source), weight),
    }
    enough = len(inside) >= least.injections and n_hosts >= least.hosts
    sizes["is_enough"] = enough and n_sources >= least.sources
    target, score = NOTHING, NOTHING
    if len(inside):
        host, source, is_target = inside.host, inside.source, inside.is_target
        target = share(is_target, host=host, source=source, once=once, weight=weight)
        if inside.is_found is not None:
            score = share(
                inside.is_found[is_target],
                host=host[is_target],
                source=source[is_target],
                once=once[is_target],
                weight=weight[is_target],
            )
    factors = {"target": target, "usable": of_targets, "score": score}
    return {
        **sizes,
        **{name: asdict(factor) for name, factor in factors.items()},
        "completeness": combined(list(factors.values())),
    }


def _parts(
    lenses: Injections, edges: Edges, axes: Sequence[str]
) -> Iterator[tuple[Record, tuple[int, ...], Flags]]:
    """Each cell of some axes: its edges, its place along each, and which injections it holds."""
    places = {axis: _place(lenses.at[axis], edges[axis]) for axis in axes}
    for place in product(*[range(len(edges[axis]) - 1) for axis in axes]):
        rows = np.ones(len(lenses), bool)
        where: Record = {}
        for axis, i in zip(axes, place, strict=True):
            rows &= places[axis] == i
            where |= {f"{axis}_low": edges[axis][i], f"{axis}_high": edges[axis][i + 1]}
        yield where, place, rows


def _place(values: Floats, edges: Sequence[float]) -> Ints:
    """Which cell of an axis holds each value, the lower edge included; -1: none, or not known."""
    place = np.searchsorted(np.asarray(edges, np.float64), values, side="right") - 1
    is_inside = np.isfinite(values) & (place < len(edges) - 1)
    return np.where(is_inside, place, -1)


def once_a_host(host: Ints) -> Floats:
    """1 over the number of rows of each row's host, shape (n,)."""
    _, code, copies = np.unique(host, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / copies[code])


def _members(weight: Floats, host: Ints, source: Ints) -> Members:
    _, code = np.unique(host, return_inverse=True)
    return Members(weight, code, alone(source), None)


def alone(source: Ints) -> Ints:
    """Codes of sources; a row whose source is not known shares it with no other."""
    known = np.where(source < 0, source.max(initial=-1) + 1 + np.arange(len(source)), source)
    return np.unique(known, return_inverse=True)[1].astype(np.int64)


def _different(source: Ints) -> int:
    return len(np.unique(source[source >= 0]))


def _kish(cluster: Ints, weight: Floats) -> float:
    """Clusters of equal weight that would tell as much; 0 without weight."""
    _, code = np.unique(cluster, return_inverse=True)
    total = np.bincount(code, weight)
    return round(float(total.sum() ** 2 / (total**2).sum()), 3) if total.sum() > 0 else 0.0


def _beta_quantile(mean: float, variance: float, tail: float) -> float:
    """Quantile of the beta distribution of a mean and a variance; of a point its place."""
    if variance <= 0 or not 0 < mean < 1:
        return mean
    size = mean * (1 - mean) / variance - 1
    return float(special.betaincinv(mean * size, (1 - mean) * size, tail))


def _plain(count: float) -> float:
    """A count without the rounding of a sum of shares."""
    return round(count, 6)
