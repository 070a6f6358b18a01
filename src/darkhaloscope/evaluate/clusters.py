"""How many independent galaxies a class is worth when its scores share hosts and sources.

Lenses cluster by host, whose copies look alike, and by source, as one odd source makes all its
lenses easy or hard. The variance of a completeness is that of sums over clusters, in both
directions at once (Cameron, Gelbach & Miller 2011): by host, plus by source, less by both. What it
is worth in independent lenses is p(1 - p) over that variance (Korn & Graubard 1998).
"""

import math

import numpy as np
from scipy import stats

from darkhaloscope.evaluate.rows import Floats
from darkhaloscope.evaluate.sample import Members, Side

SEEN = 10  # galaxies on either side of a threshold from which a variance can be measured there
TAIL = 0.025  # on each side of a 95 % interval
NORMAL = float(stats.norm.ppf(1 - TAIL))


def worth(lenses: Side, threshold: float) -> float:
    """Lenses of equal weight, each with a host and a source of its own, that would tell as much.

    Never more than the rows count for; where lenses weigh the same, never fewer than if every lens
    of a source were alike. With weights the variance is measured, as those that weigh much may be
    found less often. Where fewer than 10 lenses lie on one side of the threshold, the clustering is
    that of the nearest threshold with 10 on either side.
    """
    members = lenses.members
    if members is None or members.is_simple:
        return lenses.effective
    at = safe_position(lenses, threshold)
    p = float(lenses.share_from(at))
    kept = np.arange(len(lenses.score)) >= at
    spread = variance(members.weight * (kept - p), members)
    few = min(lenses.effective, members.effective_sources)
    least = few if members.is_even else 1.0
    if spread <= 0 or not 0 < p < 1:
        return few
    most = members.effective_rows
    if not members.is_even:  # one lens more or less, of those that weigh most
        of_host = np.bincount(members.host, members.weight)
        spread += float(of_host.max() ** 2) / 2
        most = float(np.count_nonzero(of_host))
    return round(min(max(p * (1 - p) / spread, least), most), 6)


def variance(residual: Floats, members: Members) -> float:
    """Variance of the sum of residuals, shape (m,), which cluster by host and by source.

    With few sources S it is raised by S / (S - 1), and to what Student's distribution asks.
    """
    by_host = float((np.bincount(members.host, residual) ** 2).sum())
    if members.source is None or not members.has_shared_sources:
        return by_host
    by_source = float((np.bincount(members.source, residual) ** 2).sum())
    by_both = float((np.bincount(members.both, residual) ** 2).sum())
    n = members.effective_sources
    few = student(n) * n / max(n - 1, 1)
    return max(by_source * few + by_host - by_both, by_host)


def student(n_clusters: float) -> float:
    """How much wider the square of a 95 % interval is for so few clusters than for many.

    Examples:
        >>> round(student(10), 3), round(student(1e6), 3)
        (1.332, 1.0)
    """
    return float((stats.t.ppf(1 - TAIL, max(n_clusters - 1, 1)) / NORMAL) ** 2)


def safe_position(side: Side, threshold: float) -> int:
    """Where a threshold cuts a class, moved until 10 galaxies (or half of them) are on each side.

    What is tied stays together, so that the order of the rows does not matter.
    """
    enough, m = min(float(SEEN), side.n / 2), len(side.score)
    if side.counts is None:
        highest, lowest = m - math.ceil(enough), math.ceil(enough)
    else:
        highest = m - int(np.searchsorted(side.counts[::-1], enough, side="left"))
        lowest = m - int(np.searchsorted(side.counts[::-1], side.n - enough, side="right")) + 1
    at = max(min(int(side.index(threshold)), highest), min(lowest, highest), 0)
    return int(side.index(side.score[at])) if at < m else at
