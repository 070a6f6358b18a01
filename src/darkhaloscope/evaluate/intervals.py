"""Intervals of 95 % for rates, and where there can be none.

At a threshold that other data fixed a rate is a binomial share: Clopper & Pearson (1934), and for a
sum of kinds with different weights Fay & Feuer (1997). Where the threshold comes from the table
itself, it is uncertain too, and those intervals cover far too little: here the threshold is drawn
first, from how many galaxies of the class that fixes it would lie above the true one, and then the
rate given the threshold. All draws are named, so that the same table gives the same interval.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from darkhaloscope.core import keys
from darkhaloscope.evaluate.rows import Floats
from darkhaloscope.evaluate.sample import ROUNDING, Negatives, Side

TAIL = 0.025  # on each side of a 95 % interval
HALVINGS = 14  # the ends of an interval to 1e-4 of where they can lie
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


def fixed_fpr(negatives: Negatives, threshold: float) -> Interval:
    """Interval of the false-positive rate at a threshold that other data fixed."""
    if negatives.is_even:
        return clopper_pearson(negatives.side.n_kept(threshold), negatives.side.n)
    return fay_feuer(negatives.weight, counts_at(negatives, threshold))


def fixed_tpr(lenses: Side, threshold: float) -> Interval:
    """Interval of the completeness at a threshold that other data fixed."""
    return clopper_pearson(lenses.kept(threshold) * lenses.effective, lenses.effective)


def tpr_at_fpr(lenses: Side, negatives: Negatives, fpr: float, draws: Draws, name: str) -> Interval:
    """Interval of the completeness at the unknown threshold whose true FPR is `fpr`.

    Of N negatives j ~ Bin(N, fpr) lie above that threshold. It lies between the j-th and the next;
    where between, by rank, is drawn evenly among the lenses there. k lenses above it give
    Beta(k + 1/2, n - k + 1/2). By rank, so that no monotone change of the scores matters.
    """
    n = effective_negatives(negatives, fpr)
    for_threshold, between = draws.square(name)
    gap = negatives.side.gap(_binomial(for_threshold, n, fpr) / n, ties="drop")
    least, most = (lenses.share[at] for at in lenses.span(*gap))
    k = lenses.effective * (least + between * (most - least))
    return _ends(k + 0.5, lenses.effective - k + 0.5)


def fpr_at_tpr(lenses: Side, negatives: Negatives, tpr: float, draws: Draws, name: str) -> Interval:
    """Interval of the FPR at the unknown threshold whose true completeness is `tpr`: as above.

    Kinds of different weight: a beta distribution whose mean and variance are those of the
    weighted sum, each with half the largest weight added; for rare events it is the middle of Fay
    and Feuer's two gamma distributions, and for equal weights Beta(k + 1/2, n - k + 1/2).
    """
    n = max(1, round(lenses.effective))
    for_threshold, between = draws.square(name)
    gap = lenses.gap(_binomial(for_threshold, n, tpr) / n, ties="keep")
    kept = []
    for side in negatives.kinds.values():
        least, most = (side.count[at] for at in side.span(*gap))
        kept.append(least + between * (most - least))
    counts = np.array(kept)
    if negatives.is_even:
        total, n_negatives = counts.sum(axis=0), negatives.side.n
        return _ends(total + 0.5, n_negatives - total + 0.5)
    half = negatives.weight.max() / 2
    mean = np.minimum(negatives.weight @ counts + half, 1 - half)
    spread = np.maximum(mean * (1 - mean) / (negatives.variance(counts) + 2 * half**2) - 1, 1e-3)
    return _ends(mean * spread, (1 - mean) * spread)


def auroc(lenses: Side, negatives: Negatives) -> tuple[float, Interval]:
    """Area under the curve, and DeLong's interval (1988) on the logit scale, by galaxy.

    Where no negative stands above any lens the variance is 0 and says nothing: the lower end is
    then that of as many successes as the smaller class has galaxies.
    """
    weight = -np.diff(lenses.share)
    beaten = _beaten(negatives.side, lenses.score)
    value = float(weight @ beaten)
    n_small = max(1.0, min(lenses.effective, negatives.side.effective))
    if value > 1 - ROUNDING or value < ROUNDING:
        bound = TAIL ** (1 / n_small)
        return (1.0, (bound, 1.0)) if value > 0.5 else (0.0, (0.0, 1 - bound))
    from_negatives = -np.diff(negatives.side.share)
    loses = 1 - _beaten(lenses, negatives.side.score)
    variance = ((beaten - value) ** 2 @ weight) / lenses.effective
    variance += ((loses - value) ** 2 @ from_negatives) / negatives.side.effective
    step = stats.norm.ppf(1 - TAIL) * math.sqrt(variance) / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-step, step]))
    return value, (float(low), float(high))


def counts_at(negatives: Negatives, threshold: float) -> Floats:
    """Galaxies kept of each kind, shape (k,)."""
    return np.array([side.n_kept(threshold) for side in negatives.kinds.values()])


def effective_negatives(negatives: Negatives, fpr: float) -> float:
    """Negatives of equal weight that would know the FPR as well, near the threshold for `fpr`."""
    if negatives.is_even:
        return float(negatives.side.n)
    above, _, _ = negatives.side.gap(np.array([fpr]), ties="drop")
    counts = counts_at(negatives, float(above[0]))
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


def _beaten(side: Side, score: Floats) -> Floats:
    """Share of the class below each score, half of what is equal to it."""
    at_least = side.share[np.searchsorted(side.score, score, side="left")]
    more = side.share[np.searchsorted(side.score, score, side="right")]
    return np.asarray(1 - (at_least + more) / 2)


def _gamma(p: float, mean: float, variance: float) -> float:
    return float(special.gammaincinv(mean**2 / variance, p) * variance / mean)


def _binomial(u: Floats, n: float, p: float) -> Floats:
    """Binomial quantiles of uniform draws, from a table of the distribution near its mean."""
    reach = 9 * math.sqrt(n * p * (1 - p)) + 40  # far beyond what a draw of 53 bits can ask for
    first, last = max(0, int(n * p - reach)), min(int(n), int(n * p + reach))
    at_most = special.bdtr(np.arange(first, last + 1, dtype=np.float64), int(n), p)
    return np.minimum(first + np.searchsorted(at_most, u), last).astype(np.float64)


def _ends(a: Floats, b: Floats) -> Interval:
    """Percentiles 2.5 and 97.5 of an even mixture of beta distributions, by halving."""
    ends = []
    for p in (TAIL, 1 - TAIL):
        each = special.betaincinv(a, b, p)
        low, high = float(each.min()), float(each.max())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if special.betainc(a, b, middle).mean() < p:
                low = middle
            else:
                high = middle
        ends.append((low + high) / 2)
    return ends[0], ends[1]
