"""The audit: what a trained network must hold to, as rows like those of the gates.

Counterfactuals ask whether it looks at lensing: the arc's flux without an arc, the arc's host
without it, the arc with more flux. Deployment asks whether plain survey cutouts look to it as the
controls did that it was taught and judged with. A check fails where its whole 95 % interval is
beyond its limit: chance alone fails none. One that cannot be judged says why, and has no verdict.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from darkhaloscope.evaluate import audit_figures, clusters, intervals, sample
from darkhaloscope.evaluate.audit_checks import KINDS
from darkhaloscope.evaluate.audit_figures import Figure, Flags, Floats, Ints
from darkhaloscope.evaluate.audit_judge import Judge, by_interval, unjudged
from darkhaloscope.evaluate.gates import ALL, Row, judged
from darkhaloscope.evaluate.rows import Rows
from darkhaloscope.evaluate.sample import Negatives, Side


@dataclass(frozen=True, slots=True)
class Operating:
    """The threshold at which shares are counted.

    Attributes:
        threshold: The least logit that is kept.
        asked: Share of the headline lenses that it was to keep.
        lenses: The headline lenses that fix it.
        found: Completeness of all lenses of the set there.
        judge: How rows are judged.
    """

    threshold: float
    asked: float
    lenses: Side
    found: Figure
    judge: Judge

    def share(self, name: str, stratum: str, scores: Floats, limit: float | None, said: str) -> Row:
        """Share of galaxies at or above the threshold; the interval holds the threshold's error.

        Args:
            name: The check.
            stratum: What of it.
            scores: One logit a galaxy, (n,).
            limit: Largest share.
            said: What was counted.
        """
        if row := self.judge.few(name, stratum, len(scores), said):
            return row
        figure = self._share(_plain(scores), f"{name} {stratum}")
        return by_interval(
            name, stratum, figure, limit_high=limit,
            detail=f"sim, n = {len(scores):,} {said} above the threshold {self.threshold:.2f}",
        )  # fmt: skip

    def over_completeness(self, name: str, scores: Floats, said: str) -> Row:
        """The same over the completeness of all lenses; 1: a lens is no better than it."""
        stratum = "over the lenses' completeness"
        if row := self.judge.few(name, stratum, len(scores), said):
            return row
        kept = int((scores >= self.threshold).sum())
        share = Figure(kept / len(scores), *intervals.clopper_pearson(kept, len(scores)))
        figure = audit_figures.ratio(share, self.found)
        if not all(math.isfinite(v) for v in figure):
            return unjudged(name, stratum, "no lens of the set is above the threshold")
        return by_interval(
            name, stratum, figure,
            detail=f"sim, n = {len(scores):,} {said}; completeness of all lenses "
            f"{self.found.value:.3f} ({self.found.low:.3f} to {self.found.high:.3f})",
        )  # fmt: skip

    def _share(self, side: Side, name: str) -> Figure:
        negatives = Negatives(
            side, (name,), np.zeros(side.n, np.int8), np.array([1 / max(side.n, 1)])
        )
        draws = intervals.Draws(self.judge.draws.seed)
        ends = intervals.fpr_at_tpr(self.lenses, negatives, self.asked, draws, f"audit {name}")
        value = side.kept(self.threshold)
        return Figure(value, min(ends[0], value), max(ends[1], value))


def operating(
    rows: Rows, is_headline: Flags, completeness: float, judge: Judge
) -> tuple[Operating | None, list[Row]]:
    """The operating point of a set, and what it keeps; None where too few lenses could fix it.

    Args:
        rows: Scores of the set.
        is_headline: Which of them are lenses of the headline stratum, (n,).
        completeness: Share of those that it is to keep.
        judge: How rows are judged.
    """
    name, headline = "operating_point", sample.lenses(rows, is_headline & rows.is_lens)
    if row := judge.few(name, ALL, headline.n, "galaxies of headline lenses"):
        return None, [row]
    above, _, _ = headline.gap(np.array([completeness]), ties="keep")
    threshold = float(above[0])
    every = sample.lenses(rows)
    found = Figure(every.kept(threshold), *intervals.fixed_tpr(every, threshold))
    point = Operating(threshold, completeness, headline, found, judge)
    told = f"sim, n = {headline.n:,} galaxies of headline lenses"
    made = [
        Row(
            name, ALL, threshold, *_threshold_ends(headline, completeness, threshold),
            detail=f"logit that keeps {completeness:g} of them; {told}",
        ),
        Row(
            name, "completeness of all lenses", *found,
            detail=f"sim, n = {every.n:,} galaxies of lenses",
        ),
    ]  # fmt: skip
    if "control" in rows.kinds:
        side = sample.negatives(rows, to_sky=False).kinds.get("control")
        if side is not None and side.n >= judge.least:
            figure = point._share(side, "control")
            told = f"{judge.origin}, n = {side.n:,} controls above the threshold"
            made.append(Row(name, "share of controls", *figure, detail=told))
    return point, made


def counterfactuals(point: Operating, rows: Rows, limits: Any) -> list[Row]:
    """Shares of the kinds that hold an arc's light without an arc, of the set's own stamps.

    Args:
        point: The operating point.
        rows: Scores of the set.
        limits: Of each kind, by attribute.
    """
    made = []
    units = sample.negatives(rows, to_sky=False).kinds
    for kind in KINDS:
        said = f"galaxies of kind {kind}"
        if kind not in units:
            made.append(unjudged(kind, ALL, f"the set holds no stamp of kind {kind}"))
        else:
            scores = units[kind].score
            made.append(point.share(kind, ALL, scores, getattr(limits, kind), said))
            made.append(point.over_completeness(kind, scores, said))
    return made


def zero_flux(hosts: Floats, controls: Floats, limits: Any, judge: Judge) -> Row:
    """How well the score tells the lenses' hosts, without light in their arcs, from controls.

    Args:
        hosts: Logits, one a galaxy, (n,).
        controls: Logits of control hosts, one a galaxy, (m,).
        limits: `zero_flux`: ends of its range.
        judge: How rows are judged.
    """
    name, n = "zero_flux", min(len(hosts), len(controls))
    if row := judge.few(name, ALL, n, "galaxies of lenses or of controls"):
        return row
    side = _plain(controls)
    negatives = Negatives(side, ("control",), np.zeros(side.n, np.int8), np.array([1 / side.n]))
    value, ends, _ = intervals.auroc(_plain(hosts), negatives)
    return by_interval(
        name, ALL, Figure(value, *ends), limit_low=limits.low, limit_high=limits.high,
        detail=f"area under the ROC curve; sim, n = {len(hosts):,} hosts of lenses and "
        f"{len(controls):,} controls",
    )  # fmt: skip


def arc_removed(
    lenses: Floats, hosts: Floats, point: Operating | None, limit: float, why: str
) -> list[Row]:
    """Of lenses above the threshold, those whose host alone stays above it, and what is lost.

    Args:
        lenses: Logits with the arc, one a galaxy, (n,).
        hosts: Logits without it, (n,).
        point: The operating point; None: there is none.
        limit: Largest share.
        why: Why there is no operating point.
    """
    name = "arc_removed"
    if point is None:
        return [unjudged(name, ALL, why)]
    above = lenses >= point.threshold
    n, kept = int(above.sum()), int((hosts[above] >= point.threshold).sum())
    if row := point.judge.few(name, ALL, n, "galaxies of lenses above the operating point"):
        return [row]
    share = Figure(kept / n, *intervals.clopper_pearson(kept, n))
    drop = audit_figures.median(lenses[above] - hosts[above])
    told = f"sim, n = {n:,} galaxies whose lens is above the threshold"
    return [
        by_interval(name, ALL, share, limit_high=limit, detail=told),
        by_interval(name, "median drop of the logit", drop, detail=told),
    ]


@dataclass(frozen=True, slots=True)
class Repainted:
    """The same lenses painted with some factors of flux, or of theta_E.

    Attributes:
        factors: Ascending, (k,).
        logit: (n, k).
        arc_snr: Integrated S/N in g, (n, k).
        theta_e_over_fwhm_r: (n, k).
    """

    factors: Floats
    logit: Floats
    arc_snr: Floats
    theta_e_over_fwhm_r: Floats


def rises(name: str, found: Repainted, within: Any, least: float, judge: Judge) -> list[Row]:
    """Mean step of the logit for a factor of two, where arcs are resolved and not saturated.

    It must show that it rises: the value must reach the limit and its interval lie above 0.

    Args:
        name: `rises_with_snr` or `rises_with_theta_e`.
        found: The lenses, one a galaxy.
        within: Ranges `arc_snr_g` and `theta_e_over_fwhm_r` that hold at both ends of a step.
        least: Least mean step.
        judge: How rows are judged.
    """
    held = (
        (found.arc_snr >= within.arc_snr_g.low)
        & (found.arc_snr <= within.arc_snr_g.high)
        & (found.theta_e_over_fwhm_r >= within.theta_e_over_fwhm_r.low)
        & (found.theta_e_over_fwhm_r <= within.theta_e_over_fwhm_r.high)
    )
    both = held[:, 1:] & held[:, :-1]
    per_double = np.diff(found.logit, axis=1) / np.diff(np.log2(found.factors))
    used = both.any(1)
    steps = np.where(both, per_double, 0.0)[used].sum(1) / both[used].sum(1)
    said = (
        f"S/N in g {within.arc_snr_g.low:g} to {within.arc_snr_g.high:g}, theta_E over FWHM_r "
        f"{within.theta_e_over_fwhm_r.low:g} to {within.theta_e_over_fwhm_r.high:g}"
    )
    if row := judge.few(name, ALL, len(steps), f"galaxies of lenses with a step in {said}"):
        return [row]
    told = f"sim, n = {len(steps):,} galaxies; steps with {said} at both ends"
    made = [_rising(name, audit_figures.mean(steps), least, told)]
    for factor, logits in zip(found.factors.tolist(), found.logit[used].T, strict=True):
        figure = audit_figures.mean(logits)
        made.append(Row(name, f"x {factor:g}", *figure, detail=f"mean logit; n = {len(logits):,}"))
    return made


def _rising(name: str, figure: Figure, least: float, told: str) -> Row:
    row = judged(name, ALL, figure.value, figure.interval, limit_low=least, detail=told)
    if row.passed and figure.low <= 0:
        return replace(row, passed=False, reason=f"its interval reaches down to {figure.low:.3g}")
    return row


def realism(
    features: Floats, is_injected: Flags, galaxy: Ints, limit: float | None, judge: Judge
) -> Row:
    """How well a linear probe on the network's features tells injected from real lenses.

    Args:
        features: Of each stamp, (n, feature).
        is_injected: Which stamps are injected, (n,).
        galaxy: Of each stamp: none is in two folds, (n,).
        limit: Largest area.
        judge: How rows are judged.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    name = "realism"
    n_injected, n_real = (len(np.unique(galaxy[side])) for side in (is_injected, ~is_injected))
    if row := judge.few(name, ALL, min(n_injected, n_real), "galaxies of injected or real lenses"):
        return row
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
    )
    with threadpool_limits(1):
        scores = cross_val_predict(
            probe, features, is_injected, groups=galaxy, cv=GroupKFold(5),
            method="decision_function",
        )  # fmt: skip
    side = _plain(scores[~is_injected])
    negatives = Negatives(side, ("real",), np.zeros(side.n, np.int8), np.array([1 / side.n]))
    value, ends, _ = intervals.auroc(_plain(scores[is_injected]), negatives)
    return by_interval(
        name, ALL, Figure(value, *ends), limit_high=limit,
        detail="area under the ROC curve of logistic regression on features, held out in five "
        f"parts; {n_injected:,} injected (sim) and {n_real:,} real lenses",
    )  # fmt: skip


def _threshold_ends(side: Side, share: float, threshold: float) -> tuple[float, float]:
    """Order statistics that hold the threshold's true place 95 times in 100."""
    n = max(1, round(clusters.worth(side, threshold)))
    counts = stats.binom.ppf([1 - audit_figures.TAIL, audit_figures.TAIL], n, share)
    ends, _, _ = side.gap(counts / n, ties="keep")
    low, high = (float(v) if math.isfinite(v) else threshold for v in ends)
    return min(low, threshold), max(high, threshold)


def _plain(scores: Floats) -> Side:
    """One score a galaxy."""
    return Side(np.sort(np.asarray(scores, np.float64)), len(scores), float(len(scores)))
