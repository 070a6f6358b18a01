"""How good a finder is: rates over unique galaxies with intervals, or the word that there is none.

Conventions, the same everywhere: a score >= threshold is kept; nothing is interpolated; FPR at
completeness x uses the highest threshold with completeness >= x, completeness at FPR y the lowest
with FPR <= y; what is tied is kept or dropped together; (0, 0) and (1, 1) are on the curve.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from darkhaloscope.evaluate import intervals
from darkhaloscope.evaluate.intervals import Draws, Interval
from darkhaloscope.evaluate.rows import Floats
from darkhaloscope.evaluate.sample import ROUNDING, Negatives, Side, of_kind

ENOUGH = 10  # expected false positives from which a rate is measured, not only bounded
FIXED = "threshold from other data: Clopper-Pearson"
FIXED_WEIGHTED = "threshold from other data: Fay-Feuer gamma"
DRAWN = "threshold from this table: drawn threshold, beta"

State = Literal["measured", "bounded", "not_resolvable"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as `metrics.json` holds it.

    Attributes:
        at: The rate that chose the threshold, as a fraction.
        value: The rate there; None: not resolvable.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        k: Galaxies kept, unweighted; broken where the copies of a lens differ.
        n: Galaxies of the class, unweighted.
        threshold: Scores from here on are kept; None: above every score.
        state: `measured`, `bounded` (fewer than 10 false positives expected) or `not_resolvable`.
        resolvable: False where the state is `not_resolvable`.
        method: How the interval was made.
        note: What a reader has to be told in words; empty: nothing.
    """

    at: float
    value: float | None
    low: float | None
    high: float | None
    k: float | None
    n: int
    threshold: float | None
    state: State
    resolvable: bool
    method: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The rate with plain values; a threshold that is not finite is null in JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Curve:
    """The one curve that every figure is read from.

    Attributes:
        lenses: The lenses, or those of a stratum.
        negatives: The negatives.
        draws: Random numbers of the intervals.
        name: What the curve is of; names its draws, so that each curve has its own.
    """

    lenses: Side
    negatives: Negatives
    draws: Draws
    name: str

    @cached_property
    def points(self) -> tuple[Floats, Floats, Floats]:
        """Threshold, FPR and completeness, from (0, 0) to (1, 1); the first threshold is NaN."""
        scores = np.unique(np.concatenate([self.lenses.score, self.negatives.side.score]))[::-1]
        thresholds = np.append(np.nan, scores)
        fpr = self.negatives.side.share[self.negatives.side.index(thresholds)]
        tpr = self.lenses.share[self.lenses.index(thresholds)]
        return thresholds, fpr, tpr

    @cached_property
    def auroc(self) -> dict[str, float]:
        """Area under the curve with its interval."""
        value, (low, high) = intervals.auroc(self.lenses, self.negatives)
        return {"value": value, "low": low, "high": high}

    def threshold_at_tpr(self, tpr: float) -> float:
        """Highest threshold whose completeness is at least `tpr`; a lens stands there."""
        at = int(np.searchsorted(-self.lenses.share, -(tpr - ROUNDING), side="right")) - 1
        return float(self.lenses.score[max(at, 0)])

    def threshold_at_fpr(self, fpr: float) -> float:
        """Lowest score of either class whose FPR is at most `fpr`; NaN: none, nothing is kept."""
        side = self.negatives.side
        n_too_low = int(np.searchsorted(-side.share, -(fpr + ROUNDING), side="left"))
        if n_too_low == 0:
            return float(min(self.lenses.score[0], side.score[0]))
        worst = side.score[n_too_low - 1]
        above = [
            s.score[at]
            for s in (self.lenses, side)
            if (at := np.searchsorted(s.score, worst, side="right")) < len(s.score)
        ]
        return float(min(above)) if above else float("nan")

    def tpr_at_fpr(self, fpr: float) -> Rate:
        """Completeness at the lowest threshold with FPR <= `fpr`."""
        resolvable, need = intervals.needed(self.negatives, fpr)
        if not resolvable:
            n = self.negatives.side.n
            note = f"not resolvable with {n:,} negatives: bounding it needs {need:,}"
            return unresolved(fpr, self.lenses.n, DRAWN, note)
        expected = fpr * intervals.effective_negatives(self.negatives, fpr)
        state: State = "measured" if expected >= ENOUGH - ROUNDING else "bounded"
        return self._completeness(fpr, fpr, self.threshold_at_fpr(fpr), state)

    def tpr_with_false_positives(self, n_false: int) -> Rate:
        """Completeness at the lowest threshold that keeps at most `n_false` negatives.

        Its interval is that of the completeness at the FPR of (n_false + 1/2) / N, the middle of
        where such a threshold truly lies.
        """
        n = self.negatives.side.n
        allowed = min(1.0, n_false / n)
        state: State = "measured" if n_false >= ENOUGH else "bounded"
        around = min(1.0, (n_false + 0.5) / n)
        return self._completeness(allowed, around, self.threshold_at_fpr(allowed), state)

    def fpr_at_tpr(self, tpr: float, *, kind: str | None = None) -> Rate:
        """FPR, or that of one kind, at the highest threshold with completeness >= `tpr`."""
        threshold = self.threshold_at_tpr(tpr)
        chosen = self.negatives if kind is None else of_kind(self.negatives, kind)
        name = f"{self.name} {kind or 'all'} fpr at tpr {tpr:g}"
        interval = intervals.fpr_at_tpr(self.lenses, chosen, tpr, self.draws, name)
        k = chosen.side.n_kept(threshold)
        state: State = "measured" if k >= ENOUGH else "bounded"
        value = chosen.side.kept(threshold)
        return rate(tpr, value, interval, (k, chosen.side.n), threshold, state, DRAWN)

    def _completeness(self, at: float, fpr: float, threshold: float, state: State) -> Rate:
        name = f"{self.name} tpr at fpr {at:g}"
        interval = intervals.tpr_at_fpr(self.lenses, self.negatives, fpr, self.draws, name)
        value, counts = self.lenses.kept(threshold), (self.lenses.n_kept(threshold), self.lenses.n)
        return rate(at, value, interval, counts, threshold, state, DRAWN)


def rate(
    at: float,
    value: float,
    interval: Interval,
    counts: tuple[float, int],
    threshold: float,
    state: State,
    method: str,
) -> Rate:
    """A rate that has a value; the interval is widened where draws leave the value outside it."""
    low, high = min(interval[0], value), max(interval[1], value)
    kept = None if np.isnan(threshold) else threshold
    k = int(counts[0]) if counts[0] == int(counts[0]) else counts[0]
    return Rate(at, value, low, high, k, counts[1], kept, state, True, method)


def unresolved(at: float, n: int, method: str, note: str) -> Rate:
    """A rate that cannot be had from this table, with the reason in words."""
    return Rate(at, None, None, None, None, n, None, "not_resolvable", False, method, note)


def tpr_at_fixed(lenses: Side, threshold: float, *, at: float) -> Rate:
    """Completeness at a threshold that other data fixed."""
    interval = intervals.fixed_tpr(lenses, threshold)
    counts = (lenses.n_kept(threshold), lenses.n)
    return rate(at, lenses.kept(threshold), interval, counts, threshold, "measured", FIXED)


def fpr_at_fixed(negatives: Negatives, threshold: float, *, at: float) -> Rate:
    """FPR at a threshold that other data fixed."""
    k, n = negatives.side.n_kept(threshold), negatives.side.n
    state: State = "measured" if k >= ENOUGH else "bounded"
    interval = intervals.fixed_fpr(negatives, threshold)
    method = FIXED if negatives.is_even else FIXED_WEIGHTED
    return rate(at, negatives.side.kept(threshold), interval, (k, n), threshold, state, method)
