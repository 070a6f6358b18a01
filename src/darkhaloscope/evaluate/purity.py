"""What a rate means for the person who inspects: purity, false positives per square degree.

A false-positive rate says nothing without how rare lenses are. Every figure here is for a stated
prevalence (lenses per target) and a stated population of lenses.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkhaloscope.evaluate.rates import Rate
from darkhaloscope.evaluate.rows import Rows


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
) -> list[dict[str, Any]]:
    """Purity at each prevalence and each FPR that the negatives resolve.

    Args:
        rates: Completeness at FPR; those not resolvable are left out.
        population: Which lenses the completeness is of.
        prevalences: Lenses of that population per target, in (0, 1).
        targets_per_deg2: Surface density of targets; None: no rate per square degree.

    Returns:
        One entry per prevalence and FPR. The interval carries that of the completeness, which
        carries the threshold's own. `inspected_per_lens` is 1 / purity; null where it is 0.
    """
    return [
        _entry(r, population, prevalence, targets_per_deg2)
        for prevalence in prevalences
        for r in rates
        if r.value is not None and r.low is not None and r.high is not None
    ]


def contamination_floor(
    rates: Sequence[Rate], *, population: str, prevalences: Sequence[float]
) -> list[dict[str, Any]]:
    """FPR that undiscovered lenses alone would add if negatives were real galaxies.

    Unknown lenses among them are kept as often as lenses are: prevalence x completeness.
    """
    return [
        {
            "prevalence": prevalence,
            "population": population,
            "at_fpr": r.at,
            "tpr": r.value,
            "value": prevalence * r.value,
        }
        for prevalence in prevalences
        for r in rates
        if r.value is not None
    ]


def targets_per_deg2(rows: Rows) -> float | None:
    """Surface density of the negatives' galaxies; None where no area is given."""
    if rows.area_deg2 is None:
        return None
    _, first = np.unique(rows.galaxy, return_index=True)
    area = rows.area_deg2[first][~rows.is_lens[first]]
    known = area[np.isfinite(area) & (area > 0)]
    return float(1 / known.mean()) if len(known) else None


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
