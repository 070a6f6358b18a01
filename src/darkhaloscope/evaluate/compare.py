"""Two finders on the same stamps: how much better one is, with an interval that knows the pairing.

Both have seen the same galaxies, so their errors move together, and the difference is known better
than either rate. Each rate keeps the interval that it has alone; the interval of the difference is
made of the two and of their correlation (after Zou & Donner 2008, who call it MOVER), which is
measured galaxy by galaxy at the two thresholds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import clusters, intervals, sample, strata, units
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import FORMAT, FPRS, TPRS, Plan
from darkhaloscope.evaluate.rates import Curve, Rate
from darkhaloscope.evaluate.regions import NARROWEST
from darkhaloscope.evaluate.rows import Flags, Floats, Rows

METHOD = "paired difference: MOVER of the intervals of both, correlation by galaxy"
ORDER = ("not_resolvable", "bounded", "measured")

Entry = dict[str, Any]
Shift = tuple[Floats, Floats]  # what each lens row, and each negative, adds to a rate


@dataclass(frozen=True)
class Finder:
    """One finder's scores of the lenses and negatives of both tables.

    Attributes:
        curve: Its curve.
        lens: Place in the order of the table of each lens row of the curve.
        negative: The same of each unique negative.
    """

    curve: Curve
    lens: Any
    negative: Any

    def kept(self, threshold: float) -> Shift:
        """What each galaxy adds to completeness and FPR at a threshold, in the table's order."""
        lenses, negatives = self.curve.lenses, self.curve.negatives
        at, first = int(lenses.index(threshold)), int(negatives.side.index(threshold))
        members = lenses.members
        weight = np.zeros(0) if members is None else members.weight
        of_lens = weight * ((np.arange(len(weight)) >= at) - float(lenses.share_from(at)))
        rate = np.append(negatives.counts_at(threshold) / np.maximum(negatives.sizes, 1), 0.0)
        if negatives.is_even:
            rate = np.full(len(rate), negatives.side.kept(threshold))
        is_kept = np.arange(len(negatives.kind)) >= first
        of_negative = negatives.weight[negatives.kind] * (is_kept - rate[negatives.kind])
        return self.in_order(of_lens, of_negative)

    def in_order(self, of_lens: Floats, of_negative: Floats) -> Shift:
        """Values of each lens row and negative in the order of the table."""
        return of_lens[self.lens], of_negative[self.negative]

    @cached_property
    def placements(self) -> Shift:
        """What each galaxy adds to the area under the curve (DeLong 1988)."""
        lenses, side = self.curve.lenses, self.curve.negatives.side
        value = self.curve.auroc["value"]
        beaten = intervals.beaten(side, lenses.score)
        residual = self.curve.negatives.residual(1 - intervals.beaten(lenses, side.score))
        return self.in_order(-np.diff(lenses.share) * (beaten - value), residual)


def compare(first: Rows, second: Rows, plan: Plan) -> Entry:
    """Paired differences, first less second, of every rate that both tables resolve.

    Args:
        first: Stamps with the scores of one finder.
        second: The same stamps, row by row, with the scores of another.
        plan: Draws of the intervals and the headline stratum; other strata are not compared.

    Returns:
        `n_lenses`, `n_negatives`, and for all lenses and for `headline` the lists `tpr_at_fpr` and
        `fpr_at_tpr` and `auroc`: `first`, `second`, `difference` with `low` and `high` (95 %), and
        where regions are known the ends over regions.

    Raises:
        DataError: the rows are not the same stamps.
    """
    _check(first, second)
    made: Entry = {"format": FORMAT, "method": METHOD, "meaning": "first less second"}
    everything = np.ones(len(first), bool)
    headline = strata.at_least(first, plan.headline)
    made |= _tables(first, second, everything, plan, "all")
    if headline.chosen[first.is_lens].all():
        made["headline"] = {k: v for k, v in made.items() if k not in {"format", "method"}}
    elif headline.chosen[first.is_lens].any():
        made["headline"] = _tables(first, second, headline.chosen, plan, "headline")
    else:
        made["headline"] = None
    return made


def false_positive_rates(
    first: Rows, second: Rows, draws: Draws, at: Sequence[tuple[float, float]]
) -> list[Entry]:
    """Paired differences of false-positive rates, first less second, at stated completeness.

    Args:
        first: Stamps with the scores of one finder.
        second: The same stamps, row by row, with the scores of another.
        draws: Of the intervals.
        at: Completeness of the first and of the second; both may be the same.

    Returns:
        One entry a pair: `at`, `first`, `second`, `difference`, `low`, `high`, `correlation`.

    Raises:
        DataError: the rows are not the same stamps.
    """
    _check(first, second)
    a, b = _finders(first, second, np.ones(len(first), bool), draws, "all")
    return [_difference(a, b, one, _fpr, other) for one, other in at]


def mover(
    value: tuple[float, float],
    first: tuple[float, float],
    second: tuple[float, float],
    correlation: float,
) -> tuple[float, float]:
    """Interval of a difference from two intervals and how the estimates correlate.

    The part of both errors that is common moves both the same way, and of it only what the two
    move unequally is left; the rest adds in squares. Where the intervals are symmetric this is
    Zou and Donner's formula; where they are not, theirs leaves two equal finders a difference.

    Args:
        value: The two estimates.
        first: Interval of the first.
        second: Interval of the second.
        correlation: Of the two estimates, in [-1, 1].

    References:
        Zou & Donner 2008, Statistics in Medicine 27, 1693, equation (6); Newcombe 1998.

    Examples:
        >>> low, high = mover((0.5, 0.3), (0.4, 0.6), (0.2, 0.4), 0.0)
        >>> round(low, 4), round(high, 4)
        (0.0586, 0.3414)
    """
    difference = value[0] - value[1]
    down = value[0] - first[0], value[1] - second[0]
    up = first[1] - value[0], second[1] - value[1]
    common, apart = abs(correlation), 1 - abs(correlation)
    if correlation < 0:
        shared = down[0] + up[1], up[0] + down[1]
    else:
        shared = max(down[0] - down[1], up[1] - up[0]), max(up[0] - up[1], down[1] - down[0])
    low = math.sqrt(apart * (down[0] ** 2 + up[1] ** 2) + common * shared[0] ** 2)
    high = math.sqrt(apart * (up[0] ** 2 + down[1] ** 2) + common * shared[1] ** 2)
    return difference - low, difference + high


def _check(first: Rows, second: Rows) -> None:
    """Refuse rows that are not the same stamps."""
    if len(first) != len(second):
        raise DataError(
            f"only the same stamps can be compared: {len(first):,} rows in one table, "
            f"{len(second):,} in the other; match them by their ids first"
        )
    faults = []
    for name, what in (("is_lens", "truth"), ("galaxy", "galaxy")):
        n = int((getattr(first, name) != getattr(second, name)).sum())
        if n:
            faults.append(f"  {n:,} of {len(first):,} rows differ in their {what}")
    if faults:
        said = "only the same stamps can be compared, row by row:"
        raise DataError("\n".join([said, *faults]))


def _finders(first: Rows, second: Rows, chosen: Flags, draws: Any, name: str) -> list[Finder]:
    made = []
    for rows in (first, second):
        lens, negative = units.lens_units(rows), units.negative_units(rows)
        used = chosen[lens.row]
        on_sky = sample.weigh(negative, to_sky=True)
        counted = np.isin(negative.kind, [negative.names.index(k) for k in on_sky.names])
        curve = Curve(sample.lens_side(lens, chosen), on_sky, draws, name)
        made.append(Finder(curve, np.argsort(lens.row[used]), np.argsort(negative.row[counted])))
    return made


def _tables(first: Rows, second: Rows, chosen: Flags, plan: Plan, name: str) -> Entry:
    """Every difference for one set of lenses."""
    a, b = _finders(first, second, chosen, plan.draws, name)

    def tpr(curve: Curve, at: float) -> tuple[Rate, float, float]:
        return curve.tpr_at_fpr(at), 1.0, curve.slope_at_fpr(at)

    return {
        "n_lenses": a.curve.lenses.n,
        "n_negatives": a.curve.negatives.side.n,
        "auroc": _auroc(a, b),
        "fpr_at_tpr": [_difference(a, b, x, _fpr) for x in TPRS],
        "tpr_at_fpr": [_difference(a, b, f, tpr) for f in FPRS],
    }


def _fpr(curve: Curve, at: float) -> tuple[Rate, float, float]:
    """FPR at a completeness, and how it moves with the shares of lenses and negatives kept."""
    slope = curve.slope_at_tpr(at)
    return curve.fpr_at_tpr(at), 1 / slope if slope else 0.0, 1.0


def _difference(
    a: Finder,
    b: Finder,
    at: float,
    read: Callable[[Curve, float], tuple[Rate, float, float]],
    other: float | None = None,
) -> Entry:
    """One rate of both finders, and the difference; the second's is read at `other`, if any."""
    one, *factors = read(a.curve, at)
    two, *others = read(b.curve, at if other is None else other)
    state = min(one.state, two.state, key=ORDER.index)
    entry: Entry = {
        "at": at,
        "first": one.as_dict(),
        "second": two.as_dict(),
        "difference": None,
        "low": None,
        "high": None,
        "state": state,
        "resolvable": state != "not_resolvable",
        "note": one.note or two.note,
    }
    if one.value is None or two.value is None:
        return entry
    moves = [
        tuple(f * part for f, part in zip(factor, finder.kept(_threshold(rate)), strict=True))
        for finder, rate, factor in ((a, one, factors), (b, two, others))
    ]
    (lens_a, negative_a), (lens_b, negative_b) = moves
    over = [
        finder.curve.jackknife.without(_threshold(rate), lens=factor[0], negative=factor[1])
        for finder, rate, factor in ((a, one, factors), (b, two, others))
        if finder.curve.jackknife is not None and not finder.curve.jackknife.note
    ]
    joint = _joint(a, (lens_a, -negative_a), (lens_b, -negative_b), over)
    return (
        entry | {"difference": one.value - two.value} | _ends(one.as_dict(), two.as_dict(), joint)
    )


def _auroc(a: Finder, b: Finder) -> Entry:
    one, two = a.curve.auroc, b.curve.auroc
    over = []
    for finder in (a, b):
        jackknife = finder.curve.jackknife
        if jackknife is not None and not jackknife.note:
            lenses, side = finder.curve.lenses, finder.curve.negatives.side
            beaten = intervals.beaten(side, lenses.score)
            loses = 1 - intervals.beaten(lenses, side.score)
            residual = finder.curve.negatives.residual(loses)
            over.append(jackknife.auroc_without(beaten, residual, finder.curve.auroc["value"]))
    joint = _joint(a, a.placements, b.placements, over)
    entry = {"first": one, "second": two, "difference": one["value"] - two["value"]}
    return entry | _ends(one, two, joint)


def _ends(one: Entry, two: Entry, joint: "Joint") -> Entry:
    """Ends of the difference, and over regions where they are known."""
    low, high = mover(
        (one["value"], two["value"]),
        (one["low"], one["high"]),
        (two["low"], two["high"]),
        joint.correlation,
    )
    made: Entry = {"low": low, "high": high, "correlation": joint.correlation}
    note = one.get("region_note")
    if note is None:
        return made
    made["region_note"] = note
    if joint.inflation is not None:
        difference, wider = one["value"] - two["value"], math.sqrt(joint.inflation)
        made["region_low"] = difference - wider * (difference - low)
        made["region_high"] = difference + wider * (high - difference)
    return made


def _threshold(rate: Rate) -> float:
    return math.nan if rate.threshold is None else rate.threshold


@dataclass(frozen=True, slots=True)
class Joint:
    """How two estimates move together.

    Attributes:
        correlation: From sample to sample of galaxies, in [-1, 1].
        inflation: Variance of the difference over regions over that by galaxy; None: no regions.
    """

    correlation: float
    inflation: float | None


def _joint(finder: Finder, one: Shift, two: Shift, over: list[Floats]) -> Joint:
    """From what each galaxy adds to either estimate, and the estimates without each region."""
    members = finder.curve.lenses.members
    if members is None:
        return Joint(0.0, None)
    back = np.argsort(finder.lens)  # the members are in the order of the first finder's scores

    def variance(lens: Floats, negative: Floats) -> float:
        return clusters.variance(lens[back], members) + float((negative**2).sum())

    a, b = variance(*one), variance(*two)
    apart = variance(one[0] - two[0], one[1] - two[1])
    correlation = 0.0
    if a > 0 and b > 0:
        correlation = float(np.clip((a + b - apart) / (2 * math.sqrt(a * b)), -1, 1))
    jackknife = finder.curve.jackknife
    if len(over) < len((one, two)) or jackknife is None:
        return Joint(correlation, None)
    spread = jackknife.spread(over[0] - over[1])
    return Joint(correlation, max(NARROWEST, spread / apart) if apart > 0 else 1.0)
