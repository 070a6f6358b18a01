"""The two classes as an evaluation counts them: galaxies, each once, with what it weighs.

Thirty-six copies of one odd galaxy are one galaxy. A negative galaxy enters with its highest score
within a kind; a lens counts 1/copies for each of its stamps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from darkhaloscope.evaluate.rows import Flags, Floats, Ints, Rows

ROUNDING = 1e-12  # a share is a sum of many weights: equal up to this


@dataclass(frozen=True)
class Side:
    """Scores of one class, sorted, and the share of the class at or above each.

    Attributes:
        score: Ascending, shape (m,).
        share: Weighted share of the class at or above `score[i]`, shape (m + 1,); the last is 0.
        count: Galaxies at or above `score[i]`, unweighted, shape (m + 1,).
        n: Galaxies of the class.
        effective: Galaxies of equal weight that would carry as much information (Kish 1965).
    """

    score: Floats
    share: Floats
    count: Floats
    n: int
    effective: float

    def index(self, threshold: Floats | float) -> Ints:
        """Position of the first score that a threshold keeps; NaN stands above every score."""
        return np.asarray(np.searchsorted(self.score, threshold, side="left"))

    def kept(self, threshold: float) -> float:
        """Weighted share at or above the threshold."""
        return float(self.share[self.index(threshold)])

    def n_kept(self, threshold: float) -> float:
        """Galaxies at or above the threshold; broken where copies of one lens differ."""
        return float(self.count[self.index(threshold)])

    def gap(self, shares: Floats, *, ties: Literal["keep", "drop"]) -> tuple[Floats, Floats, Flags]:
        """Between which two scores of this class a threshold lies that keeps these shares.

        Args:
            shares: Wanted shares, shape (d,).
            ties: Whether a tie that the share cuts in two is kept or dropped as a whole.

        Returns:
            The scores above (NaN: above every score) and below it, and whether it is below all.
        """
        m = len(self.score)
        at = m + 1 - np.searchsorted(self.share[::-1], shares + ROUNDING, side="right")
        padded = np.append(self.score, np.nan)
        if ties == "drop":
            at = np.where(at > 0, np.searchsorted(self.score, padded[at - 1], side="right"), at)
        else:
            at = np.where(at < m, np.searchsorted(self.score, padded[at], side="left"), at)
        return padded[at], padded[np.maximum(at - 1, 0)], at == 0

    def span(self, above: Floats, below: Floats, at_bottom: Flags) -> tuple[Ints, Ints]:
        """Positions that thresholds of a gap can have here: the least and the most that is kept."""
        most = np.where(at_bottom, 0, np.searchsorted(self.score, below, side="right"))
        return self.index(above), np.asarray(most)


@dataclass(frozen=True)
class Negatives:
    """The negatives of an evaluation: all together, and kind by kind.

    Attributes:
        side: All of them, weighted.
        kinds: Each kind on its own, unweighted.
        weight: Weight of one galaxy of each kind; times its number of galaxies they add up to 1.
    """

    side: Side
    kinds: dict[str, Side]
    weight: Floats

    @cached_property
    def is_even(self) -> bool:
        """Whether every galaxy weighs the same, so that counts are binomial."""
        return _is_even(self.weight)

    def variance(self, counts: Floats) -> Floats:
        """Variance of the weighted rate with `counts` (kind, ...) galaxies kept of each kind."""
        each = (-1,) + (1,) * (counts.ndim - 1)
        n = np.array([side.n for side in self.kinds.values()], np.float64).reshape(each)
        return np.asarray((self.weight.reshape(each) ** 2 * counts * (1 - counts / n)).sum(axis=0))


def lenses(rows: Rows, chosen: Flags | None = None) -> Side:
    """The lenses, or the chosen rows of them, shape (n,): a row weighs weight / copies."""
    mask = rows.is_lens if chosen is None else rows.is_lens & chosen
    _, galaxy, copies = np.unique(rows.galaxy[mask], return_inverse=True, return_counts=True)
    once = 1.0 / copies[galaxy]
    if rows.weight is None:
        return _side(rows.score[mask], None, once, len(copies), float(len(copies)))
    weight = once * rows.weight[mask]
    total = np.bincount(galaxy, weight, minlength=len(copies))
    effective = float(total.sum() ** 2 / (total**2).sum()) if total.sum() > 0 else 0.0
    return _side(rows.score[mask], weight, once, len(copies), effective)


def negatives(rows: Rows, *, to_sky: bool, chosen: Flags | None = None) -> Negatives:
    """The negatives, a galaxy once for each kind it is used in, with its highest score.

    Args:
        rows: The scored stamps.
        to_sky: Weigh kinds to the sky: kind k's galaxies share W_k, its part of the sum of
            `sky_weight`. A kind of weight 0 is left out. Without weights, or False: all weigh one.
        chosen: Use these rows only, shape (n,).
    """
    mask = ~rows.is_lens if chosen is None else ~rows.is_lens & chosen
    weighted = to_sky and rows.sky_weight is not None
    score, kind, sky = _once(rows, mask)
    n_kind = np.bincount(kind, minlength=len(rows.kinds)).astype(np.float64)
    total = np.bincount(kind, sky, minlength=len(rows.kinds)) if weighted else n_kind
    each = np.divide(total, n_kind * total.sum(), out=np.zeros_like(total), where=n_kind > 0)
    used = np.flatnonzero(each > 0)
    kept = np.isin(kind, used)
    kinds = {rows.kinds[k]: _plain(score[kind == k]) for k in used}
    if _is_even(each[used]):
        return Negatives(_plain(score[kept]), kinds, each[used])
    weight = each[kind[kept]]
    once, effective = np.ones(len(weight)), float(1 / (weight**2).sum())
    return Negatives(_side(score[kept], weight, once, len(weight), effective), kinds, each[used])


def of_kind(whole: Negatives, kind: str) -> Negatives:
    """One kind of the negatives as a population of its own."""
    side = whole.kinds[kind]
    return Negatives(side, {kind: side}, np.array([1.0 / side.n]))


def copies(rows: Rows) -> Side:
    """Every row of the negatives for itself: what the rate per copy is read from."""
    return _plain(rows.score[~rows.is_lens])


def _once(rows: Rows, mask: Flags) -> tuple[Floats, Ints, Floats]:
    """Highest score, kind and mean sky weight of each negative galaxy within its kind."""
    _, galaxy = np.unique(rows.galaxy[mask], return_inverse=True)
    unit = galaxy * len(rows.kinds) + rows.kind[mask]
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    score = np.maximum.reduceat(rows.score[mask][order], starts) if len(starts) else np.empty(0)
    kind = unit[order][starts] % len(rows.kinds)
    if rows.sky_weight is None or not len(starts):
        return score, kind, np.ones(len(starts))
    n_rows = np.diff(starts, append=len(order))
    return score, kind, np.add.reduceat(rows.sky_weight[mask][order], starts) / n_rows


def _plain(score: Floats) -> Side:
    """Scores that all weigh the same."""
    return _side(score, None, np.ones(len(score)), len(score), float(len(score)))


def _is_even(weight: Floats) -> bool:
    return not len(weight) or bool(np.ptp(weight) <= ROUNDING * weight.max())


def _side(score: Floats, weight: Floats | None, once: Floats, n: int, effective: float) -> Side:
    """Sort a class; without weights a share is a count over n, exact to the last bit."""
    order = np.argsort(score, kind="stable")
    count = np.round(_from_here(once[order]), 6)
    share = count / max(n, 1) if weight is None else _from_here(weight[order])
    if share[0] > 0:
        share = share / share[0]
    return Side(score[order], share, count, n, effective)


def _from_here(values: Floats) -> Floats:
    """Sum of the values from each position on, shape (m + 1,)."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
