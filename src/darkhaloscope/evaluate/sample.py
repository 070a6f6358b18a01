"""The two classes as an evaluation counts them: galaxies, each once, with what it weighs.

Thirty-six copies of one odd galaxy are one galaxy. A negative galaxy enters with its highest score
within a kind; a lens counts 1/copies for each of its stamps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from darkhaloscope.evaluate.rows import Flags, Floats, Ints, Rows
from darkhaloscope.evaluate.units import (
    Codes,
    LensUnits,
    NegativeUnits,
    lens_units,
    negative_units,
    ranks,
    small,
)

ROUNDING = 1e-12  # a share is a sum of many weights: equal up to this


@dataclass(frozen=True)
class Members:
    """Whose each score of a class is, in the order of the scores.

    Attributes:
        weight: Share of the class, shape (m,); adds up to 1.
        host: Code of the galaxy that was made a lens.
        source: Code of what was injected; None: not known of any.
        region: Code of the region of the sky; None: not known of any.
    """

    weight: Floats
    host: Codes
    source: Codes | None
    region: Codes | None

    @cached_property
    def has_shared_sources(self) -> bool:
        """Whether any source is in more than one host."""
        if self.source is None or not bool(np.bincount(self.source).max(initial=0) > 1):
            return False
        n_sources = int(np.count_nonzero(np.bincount(self.source)))
        return int(self.both.max(initial=-1)) + 1 > n_sources

    @cached_property
    def is_simple(self) -> bool:
        """Whether every row has a host and a source of its own, and all weigh the same."""
        is_single = bool(np.bincount(self.host).max(initial=0) <= 1)
        return is_single and not self.has_shared_sources and self.is_even

    @cached_property
    def is_even(self) -> bool:
        """Whether every host weighs the same."""
        of_host = np.bincount(self.host, self.weight).astype(np.float64)
        return _is_even(of_host[of_host > 0])

    @cached_property
    def both(self) -> Codes:
        """Code of (host, source) of each row, shape (m,); sources have to be known."""
        if self.source is None:
            return self.host
        key = self.host.astype(np.int64) * (int(self.source.max(initial=0)) + 1) + self.source
        return ranks(key)[0]

    @cached_property
    def effective_rows(self) -> float:
        """Rows of equal weight that would carry as much if each were independent."""
        return 1 / float((self.weight**2).sum())

    @cached_property
    def effective_sources(self) -> float:
        """Sources of equal weight; without sources, hosts."""
        of = self.host if self.source is None else self.source
        return 1 / float((np.bincount(of, self.weight) ** 2).sum())


@dataclass(frozen=True)
class Side:
    """Scores of one class, sorted, and the share of the class at or above each.

    Attributes:
        score: Ascending, shape (m,).
        n: Galaxies of the class.
        effective: Galaxies of equal weight that would carry as much information (Kish 1965).
        shares: Weighted share at or above `score[i]`, shape (m + 1,); None: all weigh the same.
        counts: Galaxies at or above `score[i]`, shape (m + 1,); None: one a score.
        members: Whose the scores are; None: each is a galaxy of its own.
    """

    score: Floats
    n: int
    effective: float
    shares: Floats | None = None
    counts: Floats | None = None
    members: Members | None = None

    @cached_property
    def share(self) -> Floats:
        """Weighted share of the class at or above each score, shape (m + 1,); the last is 0."""
        return self.share_from(np.arange(len(self.score) + 1))

    def share_from(self, at: Any) -> Floats:
        """Weighted share of the class from positions `at` on."""
        if self.shares is not None:
            return np.asarray(self.shares[at])
        return np.asarray((len(self.score) - np.asarray(at)) / max(self.n, 1), np.float64)

    def count_from(self, at: Any) -> Floats:
        """Galaxies from positions `at` on, unweighted."""
        if self.counts is not None:
            return np.asarray(self.counts[at])
        return np.asarray(len(self.score) - np.asarray(at), np.float64)

    def index(self, threshold: Floats | float) -> Ints:
        """Position of the first score that a threshold keeps; NaN stands above every score."""
        return np.asarray(np.searchsorted(self.score, threshold, side="left"))

    def kept(self, threshold: float) -> float:
        """Weighted share at or above the threshold."""
        return float(self.share_from(self.index(threshold)))

    def n_kept(self, threshold: float) -> float:
        """Galaxies at or above the threshold; broken where copies of one lens differ."""
        return float(self.count_from(self.index(threshold)))

    def first_within(self, share: Floats | float) -> Ints:
        """Position of the lowest score whose share is at most this, ties not looked at."""
        m, wanted = len(self.score), np.asarray(share) + ROUNDING
        if self.shares is None:
            return np.asarray(m - np.clip(np.floor(wanted * self.n), 0, m), np.int64)
        return np.asarray(m + 1 - np.searchsorted(self.shares[::-1], wanted, side="right"))

    def last_with(self, share: Floats | float) -> Ints:
        """Position of the highest score whose share is at least this, ties not looked at."""
        m, wanted = len(self.score), np.asarray(share) - ROUNDING
        if self.shares is None:
            return np.asarray(m - np.clip(np.ceil(wanted * self.n), 0, m), np.int64)
        return np.asarray(m - np.searchsorted(self.shares[::-1], wanted, side="left"))

    def gap(self, shares: Floats, *, ties: Literal["keep", "drop"]) -> tuple[Floats, Floats, Flags]:
        """Between which two scores of this class a threshold lies that keeps these shares.

        Args:
            shares: Wanted shares, shape (d,).
            ties: Whether a tie that the share cuts in two is kept or dropped as a whole.

        Returns:
            The scores above (NaN: above every score) and below it, and whether it is below all.
        """
        if ties == "drop":
            at = self.first_within(shares)
            tied = np.searchsorted(self.score, self._at(at - 1), side="right")
            at = np.where(at > 0, tied, at)
        else:
            at = self.last_with(shares)
            tied = np.searchsorted(self.score, self._at(at), side="left")
            at = np.where(at < len(self.score), tied, at)
        return self._at(at), self._at(np.maximum(at - 1, 0)), at == 0

    def span(self, above: Floats, below: Floats, at_bottom: Flags) -> tuple[Ints, Ints]:
        """Positions that thresholds of a gap can have here: the least and the most that is kept."""
        most = np.where(at_bottom, 0, np.searchsorted(self.score, below, side="right"))
        return self.index(above), np.asarray(most)

    def _at(self, position: Ints) -> Floats:
        """Scores at positions; NaN past the end."""
        m = len(self.score)
        if m == 0:
            return np.full(np.shape(position), np.nan)
        return np.where(position < m, self.score[np.clip(position, 0, m - 1)], np.nan)


@dataclass(frozen=True)
class Negatives:
    """The negatives of an evaluation: all together, and kind by kind.

    Attributes:
        side: All of them, weighted.
        names: The kinds.
        kind: Index in `names` of each score of `side`, shape (m,).
        weight: Weight of one galaxy of each kind; times its number of galaxies they add up to 1.
        region: Region of each score of `side`, shape (m,); None: not known.
    """

    side: Side
    names: tuple[str, ...]
    kind: Codes
    weight: Floats
    region: Codes | None = None

    @cached_property
    def kinds(self) -> dict[str, Side]:
        """Each kind on its own, unweighted."""
        if len(self.names) == 1:
            return {self.names[0]: _plain(self.side.score)}
        parts = (self.side.score[self.kind == k] for k in range(len(self.names)))
        return {name: _plain(score) for name, score in zip(self.names, parts, strict=True)}

    @cached_property
    def sizes(self) -> Floats:
        """Galaxies of each kind, shape (k,)."""
        return np.bincount(self.kind, minlength=len(self.names)).astype(np.float64)

    @cached_property
    def cell(self) -> Codes:
        """Region and kind of each score as one code, region first; regions have to be known."""
        if self.region is None or self.is_even:
            return self.kind if self.region is None else self.region
        return np.asarray(self.region * np.int32(len(self.names)) + self.kind)

    @cached_property
    def is_even(self) -> bool:
        """Whether every galaxy weighs the same, so that counts are binomial."""
        return _is_even(self.weight)

    def is_all_of(self, units: NegativeUnits) -> bool:
        """Whether these are all the units, each weighing the same."""
        return self.is_even and self.side.n == len(units.score)

    def counts_at(self, threshold: float) -> Floats:
        """Galaxies kept of each kind, shape (k,)."""
        return np.array([side.n_kept(threshold) for side in self.kinds.values()])

    def residual(self, values: Floats) -> Floats:
        """What each galaxy adds to the weighted mean of values, less its kind's mean, shape (m,).

        Kinds keep their part of the sky, so that only galaxies within a kind vary.
        """
        if self.is_even:
            return np.asarray((values - values.mean()) / len(values))
        mean = np.bincount(self.kind, values, len(self.names)) / self.sizes
        return np.asarray(self.weight[self.kind] * (values - mean[self.kind]))

    def variance(self, counts: Floats) -> Floats:
        """Variance of the weighted rate with `counts` (kind, ...) galaxies kept of each kind."""
        each = (-1,) + (1,) * (counts.ndim - 1)
        n = self.sizes.reshape(each)
        return np.asarray((self.weight.reshape(each) ** 2 * counts * (1 - counts / n)).sum(axis=0))


def lens_side(units: LensUnits, chosen: Flags | None = None) -> Side:
    """The lenses, or those of the chosen rows of the table, shape (n,)."""
    at: Any = slice(None) if chosen is None else chosen[units.row]
    host, score = units.host[at], units.score[at]
    copies = np.bincount(host)
    n = int(np.count_nonzero(copies))
    once = 1.0 / copies[host]
    weight = once if units.weight is None else once * units.weight[at]
    total = float(weight.sum())
    if not total > 0:
        return Side(score[:0], 0, 0.0)
    by_host = np.bincount(host, weight)
    effective = float(n) if units.weight is None else total**2 / float((by_host**2).sum())
    is_plain = n == len(score)
    shares = None
    if units.weight is not None:
        shares = _from_here(weight)
        shares /= shares[0]
    elif not is_plain:
        shares = np.round(_from_here(once), 6) / n
    members = Members(
        weight / total,
        host,
        None if units.source is None else units.source[at],
        None if units.region is None else units.region[at],
    )
    counts = None if is_plain else np.round(_from_here(once), 6)
    return Side(score, n, effective, shares, counts, members)


def weigh(units: NegativeUnits, *, to_sky: bool) -> Negatives:
    """Negatives with their weights.

    Args:
        units: The unique negatives.
        to_sky: Weigh kinds to the sky: kind k's galaxies share W_k, its part of the sum of
            `sky_weight`. A kind of weight 0 is left out. Without weights, or False: all weigh one.
    """
    n_kind = np.bincount(units.kind, minlength=len(units.names)).astype(np.float64)
    total = n_kind
    if to_sky and units.sky_weight is not None:
        total = np.array([_sum(units.sky_weight[units.kind == k]) for k in range(len(n_kind))])
    whole = total.sum()
    each = np.divide(total, n_kind * whole, out=np.zeros_like(total), where=n_kind * whole > 0)
    used = np.flatnonzero(each > 0)
    if len(used) < np.count_nonzero(n_kind):
        units = units.only(np.isin(units.kind, used))
    place = np.zeros(len(n_kind), np.int64)
    place[used] = np.arange(len(used))
    kind, weight = small(place[units.kind], len(used)), each[used]
    if _is_even(weight):
        side = _plain(units.score)
    else:
        shares = _weighted_shares(kind, weight)
        effective = 1 / float(weight**2 @ n_kind[used])
        side = Side(units.score, len(units.score), effective, shares)
    return Negatives(side, tuple(units.names[k] for k in used), kind, weight, units.region)


def lenses(rows: Rows, chosen: Flags | None = None) -> Side:
    """The lenses, or the chosen rows of them, shape (n,): a row weighs weight / copies."""
    return lens_side(lens_units(rows), chosen)


def negatives(rows: Rows, *, to_sky: bool, chosen: Flags | None = None) -> Negatives:
    """The negatives, a galaxy once for each kind it is used in, with its highest score."""
    return weigh(negative_units(rows, chosen), to_sky=to_sky)


def of_kind(whole: Negatives, kind: str) -> Negatives:
    """One kind of the negatives as a population of its own."""
    side = whole.kinds[kind]
    mine = whole.kind == whole.names.index(kind)
    region = None if whole.region is None else whole.region[mine]
    return Negatives(
        side, (kind,), np.zeros(side.n, np.int8), np.array([1.0 / max(side.n, 1)]), region
    )


def copies(rows: Rows) -> Side:
    """Every row of the negatives for itself: what the rate per copy is read from."""
    return _plain(np.sort(rows.score[~rows.is_lens]))


def _weighted_shares(kind: Codes, weight: Floats) -> Floats:
    """Weighted share from each position on: whole counts, so that the order in a tie is nothing."""
    shares = np.zeros(len(kind) + 1)
    for k, w in enumerate(weight):
        n_from_here = np.cumsum(kind[::-1] == k, dtype=np.int32)[::-1]
        shares[:-1] += w * n_from_here
    return shares / shares[0] if shares[0] > 0 else shares


def _sum(values: Floats) -> float:
    """A sum that does not depend on the order of the rows."""
    return float(np.sort(values).sum())


def _plain(score: Floats) -> Side:
    """Sorted scores that all weigh the same."""
    return Side(score, len(score), float(len(score)))


def _is_even(weight: Floats) -> bool:
    return not len(weight) or bool(np.ptp(weight) <= ROUNDING * weight.max())


def _from_here(values: Floats) -> Floats:
    """Sum of the values from each position on, shape (m + 1,)."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
