"""How good a finder is: rates over unique galaxies with intervals, or the word that there is none.

Conventions, the same everywhere: a score >= threshold is kept; nothing is interpolated; FPR at
completeness x uses the highest threshold with completeness >= x, completeness at FPR y the lowest
with FPR <= y; what is tied is kept or dropped together; (0, 0) and (1, 1) are on the curve.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from darkhaloscope.evaluate import intervals
from darkhaloscope.evaluate.intervals import Draws, Interval
from darkhaloscope.evaluate.regions import LEAST, WINDOW, Jackknife
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
        region_low: Lower end of the 95 % interval over regions; None: there is none.
        region_high: Upper end of that interval.
        region_note: Why there is no interval over regions; None: no regions are known.
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
    region_low: float | None = None
    region_high: float | None = None
    region_note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The rate with plain values; what regions say only where they are known."""
        values = asdict(self)
        if self.region_note is None:
            for name in ("region_low", "region_high", "region_note"):
                del values[name]
        return values


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
    def jackknife(self) -> Jackknife | None:
        """What the regions say; None: none is known."""
        members = self.lenses.members
        if members is None or members.region is None or self.negatives.region is None:
            return None
        return Jackknife(self.lenses, self.negatives)

    @cached_property
    def auroc(self) -> dict[str, Any]:
        """Area under the curve with its interval, and that over regions where they are known."""
        jackknife = self.jackknife
        asked = jackknife if jackknife is not None and not jackknife.note else None
        value, (low, high), over = intervals.auroc(self.lenses, self.negatives, asked)
        made = {"value": value, "low": low, "high": high}
        if jackknife is None:
            return made
        region_low, region_high = over or (None, None)
        note = jackknife.note
        return {**made, "region_low": region_low, "region_high": region_high, "region_note": note}

    def threshold_at_tpr(self, tpr: float) -> float:
        """Highest threshold whose completeness is at least `tpr`; a lens stands there."""
        at = int(np.searchsorted(-self.lenses.share, -(tpr - ROUNDING), side="right")) - 1
        return float(self.lenses.score[max(at, 0)])

    def threshold_at_fpr(self, fpr: float) -> float:
        """Lowest score of either class whose FPR is at most `fpr`; NaN: none, nothing is kept."""
        side = self.negatives.side
        n_too_low = int(side.first_within(fpr))
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
        if kind is not None:
            return self.of_kind(kind).fpr_at_tpr(tpr)
        name = f"{self.name} fpr at tpr {tpr:g}"

        def interval(inflation: float = 1.0) -> Interval:
            return intervals.fpr_at_tpr(
                self.lenses, self.negatives, tpr, self.draws, name, inflation
            )

        k, value = self.negatives.side.n_kept(threshold), self.negatives.side.kept(threshold)
        state: State = "measured" if k >= ENOUGH else "bounded"
        made = rate(tpr, value, interval(), (k, self.negatives.side.n), threshold, state, DRAWN)
        slope = self.slope_at_tpr(tpr)
        return self.over_regions(made, threshold, interval, lens=1 / slope if slope else 0.0)

    def of_kind(self, kind: str) -> "Curve":
        """The curve of the same lenses against one kind of negative."""
        if kind not in self._by_kind:
            name = f"{self.name} {kind}"
            made = Curve(self.lenses, of_kind(self.negatives, kind), self.draws, name)
            self._by_kind[kind] = made
        return self._by_kind[kind]

    @cached_property
    def _by_kind(self) -> dict[str, "Curve"]:
        return {}

    def over_regions(
        self,
        made: Rate,
        threshold: float,
        interval: Callable[[float], Interval],
        *,
        lens: float = 1.0,
        negative: float = 1.0,
    ) -> Rate:
        """A rate with its interval over regions, where they are known.

        Args:
            made: The rate.
            threshold: Where it is read.
            interval: The interval for an inflation of its variance.
            lens: How the rate moves with the completeness at a fixed threshold.
            negative: How it moves with the FPR there, less its sign.
        """
        if self.jackknife is None or not made.resolvable or made.value is None:
            return made
        if self.jackknife.note:
            return replace(made, region_note=self.jackknife.note)
        inflation = self.jackknife.inflation(threshold, lens=lens, negative=negative)
        low, high = interval(inflation)
        low, high = min(low, made.value), max(high, made.value)
        return replace(made, region_low=low, region_high=high, region_note="")

    def slope_at_fpr(self, fpr: float) -> float:
        """How fast the completeness rises with the FPR, where that is `fpr`."""
        n = intervals.effective_negatives(self.negatives, fpr)
        return min(self._slope(self.negatives.side, fpr, n), n)

    def slope_at_tpr(self, tpr: float) -> float:
        """The same where the completeness is `tpr`; infinite where no negative is near."""
        return self._slope(self.lenses, tpr, max(self.lenses.effective, 1.0))

    def _slope(self, by: Side, share: float, n: float) -> float:
        """Slope of the curve, completeness over FPR, where one of the classes keeps a share.

        Over 1.5 standard errors of that share on either side, so that it is that of the curve and
        not of its steps.
        """
        reach = max(WINDOW * np.sqrt(share * (1 - share) / n), LEAST / n)
        shares = np.clip([share - reach, share + reach], 0, 1)
        above, _, _ = by.gap(shares, ties="drop")
        tpr, fpr = (
            np.diff(side.share_from(side.index(above)))[0]
            for side in (self.lenses, self.negatives.side)
        )
        return float(tpr / fpr) if fpr > 0 else float("inf") if tpr > 0 else 0.0

    def _completeness(self, at: float, fpr: float, threshold: float, state: State) -> Rate:
        name = f"{self.name} tpr at fpr {at:g}"

        def interval(inflation: float = 1.0) -> Interval:
            return intervals.tpr_at_fpr(
                self.lenses, self.negatives, fpr, self.draws, name, inflation
            )

        value, counts = self.lenses.kept(threshold), (self.lenses.n_kept(threshold), self.lenses.n)
        made = rate(at, value, interval(), counts, threshold, state, DRAWN)
        return self.over_regions(made, threshold, interval, negative=self.slope_at_fpr(fpr))


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


def tpr_at_fixed(curve: Curve, threshold: float, *, at: float) -> Rate:
    """Completeness at a threshold that other data fixed."""
    lenses = curve.lenses

    def interval(inflation: float = 1.0) -> Interval:
        return intervals.fixed_tpr(lenses, threshold, inflation=inflation)

    counts = (lenses.n_kept(threshold), lenses.n)
    made = rate(at, lenses.kept(threshold), interval(), counts, threshold, "measured", FIXED)
    return curve.over_regions(made, threshold, interval, negative=0.0)


def fpr_at_fixed(curve: Curve, threshold: float, *, at: float) -> Rate:
    """FPR at a threshold that other data fixed."""
    negatives = curve.negatives

    def interval(inflation: float = 1.0) -> Interval:
        return intervals.fixed_fpr(negatives, threshold, inflation=inflation)

    k, n = negatives.side.n_kept(threshold), negatives.side.n
    state: State = "measured" if k >= ENOUGH else "bounded"
    method = FIXED if negatives.is_even else FIXED_WEIGHTED
    made = rate(at, negatives.side.kept(threshold), interval(), (k, n), threshold, state, method)
    return curve.over_regions(made, threshold, interval, lens=0.0)
