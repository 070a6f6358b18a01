"""What a rate means for the person who inspects: purity, false positives per square degree.

A false-positive rate says nothing without how rare lenses are. Every figure here is for a stated
prevalence (lenses per target) and a stated population of lenses.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkhaloscope.evaluate.rates import Rate
from darkhaloscope.evaluate.rows import Rows
from darkhaloscope.evaluate.units import ranks

TARGETS = 1_000_000  # that hours of review are stated for
SECONDS_PER_HOUR = 3600


def purity_of(prevalence: float, tpr: float, fpr: float) -> float:
    """Share of the kept targets that are lenses; 0 where nothing is kept.

    Examples:
        >>> round(purity_of(1e-3, 0.5, 1e-3), 3)
        0.334
    """
    kept_lenses, kept_others = prevalence * tpr, (1 - prevalence) * fpr
    return kept_lenses / (kept_lenses + kept_others) if kept_lenses + kept_others > 0 else 0.0


def purity_table(
    rates: Sequence[Rate],
    *,
    population: str,
    prevalences: Sequence[float],
    targets_per_deg2: float | None,
    seconds_per_stamp: float = 5.0,
) -> list[dict[str, Any]]:
    """Purity at each prevalence and each FPR that the negatives resolve.

    Args:
        rates: Completeness at FPR; those not resolvable are left out.
        population: Which lenses the completeness is of.
        prevalences: Lenses of that population per target, in (0, 1).
        targets_per_deg2: Surface density of targets; None: no rate per square degree.
        seconds_per_stamp: Time that a person takes for a stamp.

    Returns:
        One entry per prevalence and FPR. The interval carries that of the completeness, which
        carries the threshold's own. `inspected_per_lens` is 1 / purity; null where it is 0.
        `review_hours` is the time to inspect what a million targets yield.
    """
    return [
        _entry(r, population, prevalence, targets_per_deg2)
        | _hours(r, prevalence, seconds_per_stamp)
        for prevalence in prevalences
        for r in rates
        if r.value is not None and r.low is not None and r.high is not None
    ]


def contamination_floor(
    rates: Sequence[Rate],
    *,
    population: str,
    prevalences: Sequence[float],
    ungraded_share: float = 1.0,
) -> list[dict[str, Any]]:
    """FPR that undiscovered lenses alone would add if negatives were real galaxies.

    Unknown lenses among them are kept as often as lenses are: prevalence x completeness. Only
    negatives that no person has graded can hide one: `ungraded_share` of them, on the sky.
    """
    return [
        {
            "prevalence": prevalence,
            "population": population,
            "at_fpr": r.at,
            "tpr": r.value,
            "ungraded_share": ungraded_share,
            "value": prevalence * r.value * ungraded_share,
        }
        for prevalence in prevalences
        for r in rates
        if r.value is not None
    ]


def targets_per_deg2(rows: Rows) -> float | None:
    """Surface density of the negatives' galaxies; None where no area is given."""
    if rows.area_deg2 is None:
        return None
    area = rows.area_deg2[~rows.is_lens]
    known = np.isfinite(area) & (area > 0)
    galaxy, n = ranks(rows.galaxy[~rows.is_lens][known])
    each = np.zeros(n)
    each[galaxy] = area[known]
    return float(1 / each.mean()) if n else None


def _hours(r: Rate, prevalence: float, seconds: float) -> dict[str, Any]:
    """Hours for the targets kept of a million, and what a person was taken to need."""
    kept = prevalence * (r.value or 0.0) + (1 - prevalence) * r.at
    return {
        "review_hours": TARGETS * kept * seconds / SECONDS_PER_HOUR,
        "review_targets": TARGETS,
        "seconds_per_stamp": seconds,
    }


def _entry(r: Rate, population: str, prevalence: float, density: float | None) -> dict[str, Any]:
    low, value, high = (purity_of(prevalence, tpr or 0.0, r.at) for tpr in (r.low, r.value, r.high))
    return {
        "prevalence": prevalence,
        "population": population,
        "at_fpr": r.at,
        "tpr": r.value,
        "value": value,
        "low": low,
        "high": high,
        "state": r.state,
        "false_positives_per_deg2": None if density is None else density * (1 - prevalence) * r.at,
        "inspected_per_lens": 1 / value if value > 0 else None,
    }
