"""Whether figures can come from one curve: our own, and those that others have published.

A table of completeness and FPR leaves a staircase of room for the curve, and so a range for the
area under it; an AUROC outside that range, or a completeness that falls while the FPR rises, cannot
belong to one set of scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkhaloscope.evaluate.rates import Curve, Rate

SAME = 1e-9  # how far two ways of computing one figure may differ


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two published figures that cannot both be true: its name, and a sentence with both."""

    name: str
    message: str


def contradictions(
    points: Sequence[tuple[float, float]], *, auroc: float | None = None, tolerance: float = 5e-4
) -> list[Contradiction]:
    """What a published AUROC and table contradict each other in.

    Args:
        points: (FPR, completeness) of every row of every table, fractions.
        auroc: The published area; None: not published.
        tolerance: Room for rounded figures, in completeness and area.

    Returns:
        None of them where the figures can belong to one curve: `not_monotone` for each pair where
        more completeness is claimed at less FPR, `auroc_bound` where the area is out of range.

    Examples:
        >>> found = contradictions([(0.018, 0.70), (0.010, 0.75)], auroc=0.999)
        >>> [c.name for c in found]
        ['not_monotone', 'auroc_bound']
    """
    table = sorted(points)
    found = [
        Contradiction(
            "not_monotone",
            f"completeness {100 * tpr:g} % at FPR {fpr:g} and only {100 * later_tpr:g} % at the "
            f"higher FPR {later_fpr:g} cannot lie on one curve",
        )
        for i, (fpr, tpr) in enumerate(table)
        for later_fpr, later_tpr in table[i + 1 :]
        if later_tpr < tpr - tolerance
    ]
    if auroc is None:
        return found
    low, high = auroc_range(table)
    if low - tolerance <= auroc <= high + tolerance:
        return found
    message = f"AUROC {auroc:g} is outside {low:.4f} to {high:.4f}, all that the table allows"
    return [*found, Contradiction("auroc_bound", message)]


def auroc_range(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least and largest area under a rising curve through (FPR, completeness) points.

    Where the points themselves do not rise, each bound takes the reading that widens it.

    Examples:
        >>> [round(v, 3) for v in auroc_range([(0.1, 0.5)])]
        [0.45, 0.95]
    """
    table = np.array(sorted([(0.0, 0.0), *points, (1.0, 1.0)]))
    fpr, tpr = table[:, 0], table[:, 1]
    highest_so_far = np.maximum.accumulate(tpr)
    lowest_from_here = np.minimum.accumulate(tpr[::-1])[::-1]
    step = np.diff(fpr)
    return float(step @ lowest_from_here[:-1]), float(step @ highest_so_far[1:])


def check(curve: Curve, fpr_rates: Sequence[Rate], tpr_rates: Sequence[Rate]) -> dict[str, Any]:
    """Prove that the AUROC, the tables and the curve of one evaluation agree.

    The curve is walked point by point, which is not how the figures were made: the area by the
    trapezoid rule against the rank statistic, each table row against the points themselves.

    Returns:
        `passed`, and `checks` with `name`, `passed`, `value` (the largest disagreement), `limit`.
    """
    thresholds, fpr, tpr = curve.points
    area = float(np.trapezoid(tpr, fpr))
    ends = abs(fpr[0]) + abs(tpr[0]) + abs(1 - fpr[-1]) + abs(1 - tpr[-1])
    fall = max(float(-np.diff(fpr).min()), float(-np.diff(tpr).min()), 0.0)
    pairs = [(r.value, r.at) for r in fpr_rates] + [(r.at, r.value) for r in tpr_rates]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    named = contradictions(_reached(fpr_rates, tpr_rates, curve), auroc=area, tolerance=SAME)
    checks = [
        _check("area by trapezoids equals the rank statistic", abs(area - curve.auroc["value"])),
        _check("the curve runs from (0, 0) to (1, 1)", float(ends)),
        _check("the curve never falls", fall),
        _check("FPR at completeness is the curve's", _worst_fpr(fpr_rates, fpr, tpr)),
        _check("completeness at FPR is the curve's", _worst_tpr(tpr_rates, fpr, tpr)),
        _check("every table row is finite", float(not np.isfinite(np.array(known)).all())),
        _check("the tables allow the AUROC and rise together", float(len(named))),
    ]
    return {
        "passed": all(c["passed"] for c in checks),
        "checks": checks,
        "n_points": len(thresholds),
    }


def _reached(
    fpr_rates: Sequence[Rate], tpr_rates: Sequence[Rate], curve: Curve
) -> list[tuple[float, float]]:
    """The points of the curve that the tables stand on."""
    rates = [r for r in (*fpr_rates, *tpr_rates) if r.value is not None]
    chosen = [np.nan if r.threshold is None else r.threshold for r in rates]
    return [(curve.negatives.side.kept(t), curve.lenses.kept(t)) for t in chosen]


def _worst_fpr(rates: Sequence[Rate], fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Largest difference from the lowest FPR of a point with enough completeness."""
    return max(
        (abs(r.value - fpr[tpr >= r.at - SAME].min()) for r in rates if r.value is not None),
        default=0.0,
    )


def _worst_tpr(rates: Sequence[Rate], fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Largest difference from the highest completeness of a point with little enough FPR."""
    return max(
        (abs(r.value - tpr[fpr <= r.at + SAME].max()) for r in rates if r.value is not None),
        default=0.0,
    )


def _check(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "passed": bool(value <= SAME), "value": float(value), "limit": SAME}
