"""Intervals of 95 % for rates, and where there can be none.

At a threshold that other data fixed a rate is a binomial share: Clopper & Pearson (1934), and for a
sum of kinds with different weights Fay & Feuer (1997). Where the threshold comes from the table
itself, it is uncertain too, and those intervals cover far too little: here the threshold is drawn
first, from how many galaxies of the class that fixes it would lie above the true one, and then the
rate given the threshold. All draws are named, so that the same table gives the same interval.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from darkhaloscope.core import keys
from darkhaloscope.evaluate import clusters
from darkhaloscope.evaluate.regions import NARROWEST, Jackknife
from darkhaloscope.evaluate.rows import Flags, Floats
from darkhaloscope.evaluate.sample import ROUNDING, Negatives, Side

TAIL = clusters.TAIL
HALVINGS = 18  # before the end of an interval is read off a chord
NODES = 100  # beta distributions that a mixture is made of
NONE_SEEN = -math.log(TAIL)  # upper limit of a Poisson mean when nothing was seen, 3.689

Interval = tuple[float, float]


GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill a unit interval evenly


@dataclass(frozen=True, slots=True)
class Draws:
    """Where the random numbers of an interval come from: `n` named draws a purpose.

    They fill the unit square evenly, from a corner that the seed and the name draw: independent
    draws would need a hundred times as many to know the ends of an interval as well.
    """

    seed: int
    n: int = 500

    def square(self, name: str) -> Floats:
        """Draws in [0, 1), shape (2, n): of the threshold, and where it lies in its gap."""
        corner = keys.uniform(np.arange(2), seed=self.seed, stream=f"evaluate {name}")
        i = np.arange(self.n)
        return np.stack([(i + corner[0]) / self.n, (corner[1] + GOLDEN * i) % 1.0])


def clopper_pearson(k: float, n: float) -> Interval:
    """Exact binomial interval of k of n; broken numbers where galaxies weigh differently.

    Examples:
        >>> low, high = clopper_pearson(0, 36888)
        >>> low, round(high * 1e4, 2)
        (0.0, 1.0)
    """
    low = float(special.betaincinv(k, n - k + 1, TAIL)) if k > 0 else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - TAIL)) if k < n else 1.0
    return low, high


def fay_feuer(weights: Floats, counts: Floats) -> Interval:
    """Gamma interval of the weighted sum of counts, sum w_k x_k (Fay & Feuer 1997).

    Args:
        weights: Weight of one galaxy of kind k, shape (k,).
        counts: Galaxies kept of kind k, shape (k,).

    Examples:
        >>> [round(v, 3) for v in fay_feuer(np.array([0.01, 0.01]), np.array([2, 3]))]
        [0.016, 0.117]
    """
    rate, variance = float(weights @ counts), float(weights**2 @ counts)
    largest = float(weights.max())
    low = _gamma(TAIL, rate, variance) if rate > 0 else 0.0
    return low, min(1.0, _gamma(1 - TAIL, rate + largest, variance + largest**2))


def fixed_fpr(negatives: Negatives, threshold: float, *, inflation: float = 1.0) -> Interval:
    """Interval of the false-positive rate at a threshold that other data fixed.

    With an `inflation` of its variance the galaxies are worth so many times fewer.
    """
    if negatives.is_even:
        n = negatives.side.n / inflation
        return clopper_pearson(negatives.side.kept(threshold) * n, n)
    counts = negatives.counts_at(threshold)
    return fay_feuer(negatives.weight * inflation, counts / inflation)


def fixed_tpr(lenses: Side, threshold: float, *, inflation: float = 1.0) -> Interval:
    """Interval of the completeness at a threshold that other data fixed."""
    n = clusters.worth(lenses, threshold) / inflation
    return clopper_pearson(lenses.kept(threshold) * n, n)


def tpr_at_fpr(
    lenses: Side, negatives: Negatives, fpr: float, draws: Draws, name: str, inflation: float = 1.0
) -> Interval:
    """Interval of the completeness at the unknown threshold whose true FPR is `fpr`.

    Of N negatives j ~ Bin(N, fpr) lie above that threshold. It lies between the j-th and the next;
    where between, by rank, is drawn evenly among the lenses there. k lenses above it give
    Beta(k + 1/2, n - k + 1/2). By rank, so that no monotone change of the scores matters.
    """
    n = max(1, round(effective_negatives(negatives, fpr) / inflation))
    above, _, _ = negatives.side.gap(np.array([fpr]), ties="drop")
    n_lenses = max(1.0, clusters.worth(lenses, float(above[0])) / inflation)
    for_threshold, between = draws.square(name)
    gap = _gap(negatives.side, _binomial(for_threshold, n, fpr), n, "drop")
    least, most = (lenses.share_from(at) for at in lenses.span(*gap))
    k = n_lenses * (least + between * (most - least))
    return _ends(k + 0.5, n_lenses - k + 0.5)


def fpr_at_tpr(
    lenses: Side, negatives: Negatives, tpr: float, draws: Draws, name: str, inflation: float = 1.0
) -> Interval:
    """Interval of the FPR at the unknown threshold whose true completeness is `tpr`: as above.

    Kinds of different weight: a beta distribution whose mean and variance are those of the
    weighted sum, each with half the largest weight added; for rare events it is the middle of Fay
    and Feuer's two gamma distributions, and for equal weights Beta(k + 1/2, n - k + 1/2).
    """
    above, _, _ = lenses.gap(np.array([tpr]), ties="keep")
    n = max(1, round(clusters.worth(lenses, float(above[0])) / inflation))
    for_threshold, between = draws.square(name)
    gap = _gap(lenses, _binomial(for_threshold, n, tpr), n, "keep")
    kept = []
    for side in negatives.kinds.values():
        least, most = (side.count_from(at) for at in side.span(*gap))
        kept.append(least + between * (most - least))
    counts = np.array(kept)
    if negatives.is_even:
        total, n_negatives = counts.sum(axis=0) / inflation, negatives.side.n / inflation
        return _ends(total + 0.5, n_negatives - total + 0.5)
    half = inflation * negatives.weight.max() / 2
    mean = np.minimum(negatives.weight @ counts + half, max(1 - half, 0.5))
    variance = inflation * negatives.variance(counts) + 2 * half**2
    spread = np.maximum(mean * (1 - mean) / variance - 1, 1e-3)
    return _ends(mean * spread, (1 - mean) * spread)


def auroc(
    lenses: Side, negatives: Negatives, jackknife: Jackknife | None = None
) -> tuple[float, Interval, Interval | None]:
    """Area under the curve, and its interval with DeLong's variance (1988), by galaxy.

    With Student's quantile for the galaxies of the smaller class, as few lenses are the rule.
    Where no negative stands above any lens the variance is 0 and says nothing: the lower end is
    then that of as many successes as the smaller class has galaxies.

    Returns:
        The area, its interval, and with a `jackknife` that over regions.
    """
    weight = -np.diff(lenses.share)
    wins = beaten(negatives.side, lenses.score)
    value = float(weight @ wins)
    n_small = max(1.0, min(lenses.effective, negatives.side.effective))
    if value > 1 - ROUNDING or value < ROUNDING:
        bound = TAIL ** (1 / n_small)
        ends = (bound, 1.0) if value > 0.5 else (0.0, 1 - bound)
        return round(value), ends, None if jackknife is None else ends
    residual = negatives.residual(1 - beaten(lenses, negatives.side.score))
    few = clusters.student(n_small) * n_small / max(n_small - 1, 1)
    alone = float(residual @ residual) * few
    plain = alone + _lens_variance(lenses, wins - value, weight) * few
    alone += float((wins - value) ** 2 @ weight) / lenses.effective * few
    if jackknife is None:
        return value, _area_ends(value, plain), None
    left = jackknife.auroc_without(wins, residual, value)
    over_regions = jackknife.spread(left) + plain - alone
    wider = max(plain * NARROWEST, over_regions)
    return value, _area_ends(value, plain), _area_ends(value, wider)


def effective_negatives(negatives: Negatives, fpr: float) -> float:
    """Negatives of equal weight that would know the FPR as well, near the threshold for `fpr`."""
    if negatives.is_even:
        return float(negatives.side.n)
    above, _, _ = negatives.side.gap(np.array([fpr]), ties="drop")
    counts = negatives.counts_at(float(above[0]))
    half = negatives.weight.max() / 2
    ratio = (negatives.variance(counts) + 2 * half**2) / (negatives.weight @ counts + half)
    return float(max(1, round((1 - fpr) / ratio)))


def needed(negatives: Negatives, fpr: float) -> tuple[bool, int]:
    """Whether `fpr` could be bounded if there were no false positive, and how many that takes.

    The two-sided 95 % upper limit of none in N lies at or below `fpr` from N = ln 0.025 /
    ln(1 - fpr) on. With weights it is 3.689 times the largest weight of a galaxy.
    """
    if fpr >= 1:
        return True, 1
    if negatives.is_even:
        enough = math.log(TAIL) / math.log1p(-fpr)
        return negatives.side.n >= enough, math.ceil(enough)
    enough = negatives.side.n * NONE_SEEN * float(negatives.weight.max()) / fpr
    return negatives.side.n >= enough, math.ceil(enough)


def beaten(side: Side, score: Floats) -> Floats:
    """Share of the class below each score, half of what is equal to it.

    Args:
        side: The class.
        score: Ascending, shape (n,).
    """
    if len(side.score) > len(score):
        at_least, more = (
            side.share_from(np.searchsorted(side.score, score, side=end))
            for end in ("left", "right")
        )
        return np.asarray(1 - (at_least + more) / 2)
    at = np.unique(side.score)  # the few scores between which the share stays the same
    at_least, more = (
        side.share_from(np.searchsorted(side.score, at, side=end)) for end in ("left", "right")
    )
    values = np.append(0.0, np.stack([1 - (at_least + more) / 2, 1 - more], axis=1).ravel())
    ends = [np.searchsorted(score, at, side=end) for end in ("left", "right")]
    edges = np.concatenate([[0], np.stack(ends, axis=1).ravel(), [len(score)]])
    return np.repeat(values, np.diff(edges))


def _gamma(p: float, mean: float, variance: float) -> float:
    return float(special.gammaincinv(mean**2 / variance, p) * variance / mean)


def _gap(
    side: Side, j: Floats, n: int, ties: Literal["keep", "drop"]
) -> tuple[Floats, Floats, Flags]:
    """Between which two scores the threshold lies that j of n galaxies are above.

    Where n is what a larger class is worth, between j and j + 1 of them lie several scores.
    """
    above, below, is_below_all = side.gap(j / n, ties=ties)
    if n != side.n:
        lower, _, _ = side.gap(np.minimum(j + 1, n) / n, ties=ties)
        below = np.fmin(below, lower)
    return above, below, is_below_all


def _binomial(u: Floats, n: float, p: float) -> Floats:
    """Binomial quantiles of uniform draws, from a table of the distribution near its mean."""
    reach = 9 * math.sqrt(n * p * (1 - p)) + 40  # far beyond what a draw of 53 bits can ask for
    first, last = max(0, int(n * p - reach)), min(int(n), int(n * p + reach))
    at_most = special.bdtr(np.arange(first, last + 1, dtype=np.float64), int(n), p)
    return np.minimum(first + np.searchsorted(at_most, u), last).astype(np.float64)


def _lens_variance(lenses: Side, residual: Floats, weight: Floats) -> float:
    """Variance of the mean of what each lens row adds, by host and source."""
    if lenses.members is None or lenses.members.is_simple:
        return float(residual**2 @ weight) / lenses.effective
    return clusters.variance(lenses.members.weight * residual, lenses.members)


def _area_ends(value: float, variance: float) -> Interval:
    """Areas that the value is 1.96 errors from, the error being that at the area itself.

    How the variance depends on the area is that of Hanley & McNeil's exponential model (1982): of
    few lenses, theta (1 - theta)^2 / (2 - theta), for the lower end, of few negatives, its mirror
    image, for the upper; either is scaled to the variance found. An interval that is symmetric on
    the logit scale is too high: with 50 lenses and an area of 0.993 it holds the truth 84 times in
    100, this one 95 times (sim).
    """
    low = _area_below(value, variance)
    return low, 1 - _area_below(1 - value, variance)


def _area_below(value: float, variance: float) -> float:
    """The lower of the two ends."""

    def shape(area: float) -> float:
        return area * (1 - area) ** 2 / (2 - area)

    scale = clusters.NORMAL**2 * variance / shape(value)

    def excess(area: float) -> float:
        return (value - area) ** 2 - scale * shape(area)

    return float(optimize.brentq(excess, 0.0, value)) if excess(0.0) > 0 else 0.0


def _ends(a: Floats, b: Floats) -> Interval:
    """Percentiles 2.5 and 97.5 of an even mixture of beta distributions.

    Neighbours in the mean are taken together, up to 100 distributions: how they differ is nothing
    beside how wide each is.
    """
    n_together = -(-len(a) // NODES)
    if n_together > 1:
        order = np.lexsort((a + b, np.round(a / (a + b), 12)))
        order = order[: len(order) // n_together * n_together]
        a, b = (values[order].reshape(-1, n_together).mean(axis=1) for values in (a, b))
    return _quantile(a, b, TAIL), _quantile(a, b, 1 - TAIL)


def _quantile(a: Floats, b: Floats, p: float) -> float:
    """Quantile of an even mixture of beta distributions: halving, then along the last chord."""
    each = special.betaincinv(a, b, p)
    ends = [float(each.min()), float(each.max())]
    below = [float(special.betainc(a, b, end).mean()) for end in ends]
    for _ in range(HALVINGS):
        middle = sum(ends) / 2
        share = float(special.betainc(a, b, middle).mean())
        side = 0 if share < p else 1
        ends[side], below[side] = middle, share
    step = below[1] - below[0]
    part = (p - below[0]) / step if step > 0 else 0.5
    return ends[0] + min(max(part, 0.0), 1.0) * (ends[1] - ends[0])
