"""Whether a probability of 0.9 is a lens nine times in ten, and at which prevalence.

A galaxy counts once: its rows share its weight. Lenses are far rarer on the sky than in a table, so
that a probability that is right for the table is wrong for the sky until its odds are moved to the
prevalence there; the tail, which is what gets inspected, is judged at stated prevalences.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from darkhaloscope.evaluate.intervals import clopper_pearson
from darkhaloscope.evaluate.rows import Floats, Ints, Rows
from darkhaloscope.evaluate.units import ranks

N_BINS = 15
N_TAIL_BINS = 5
TAIL_FPR = 1e-2  # the tail begins where this share of the negatives on the sky is kept
REASON = "scores are of the kind {kind}, not calibrated probabilities"


def calibration(rows: Rows, prevalences: Sequence[float]) -> tuple[dict[str, Any] | None, str]:
    """Calibration of the scores, or None and the reason why there is none.

    Args:
        rows: Of score kind `probability`, or there is a reason.
        prevalences: Lenses per target that the tail is judged at.

    Returns:
        `prevalence` of lenses among the table's galaxies; `ece`, over bins of equal mass; `noise`,
        the ECE that a finder without fault would show in a table of this size; `reliability`, one
        entry a bin; `tail`, one entry a prevalence, of what lies above the FPR `TAIL_FPR`.
    """
    if rows.score_kind != "probability":
        return None, REASON.format(kind=rows.score_kind)
    order = np.lexsort((rows.is_lens, rows.score))
    once = _once(rows)
    p, is_lens, weight = rows.score[order], rows.is_lens[order], once[order]
    prevalence = float(weight @ is_lens / weight.sum())
    found = reliability(p, is_lens, weight, n_bins=N_BINS)
    on_sky = (once if rows.sky_weight is None else _on_sky(rows, once))[order]
    tail = [_tail(p, is_lens, weight, on_sky, prevalence, wanted) for wanted in prevalences]
    return {
        "prevalence": prevalence,
        "n_bins": N_BINS,
        "ece": expected_error(found),
        "noise": expected_noise(found),
        "reliability": found,
        "tail_fpr": TAIL_FPR,
        "tail": tail,
    }, ""


def reliability(p: Floats, is_lens: Any, weight: Floats, *, n_bins: int) -> list[dict[str, Any]]:
    """Bins of equal mass: what was claimed in each, and what was found.

    Args:
        p: Probabilities, ascending, shape (n,).
        is_lens: Truth, shape (n,).
        weight: Mass of each row, shape (n,).
        n_bins: Number of bins; ties are never cut, so that there may be fewer.

    Returns:
        `low` and `high` probability, `claimed` (the mean), `found` (share of lenses) with
        `found_low` and `found_high` (95 %), `mass` of all, `n` rows of equal weight, `n_lenses`.

    Examples:
        >>> found = reliability(np.array([0.1, 0.1, 0.8, 0.8]), np.array([0, 0, 1, 0]),
        ...                     np.ones(4), n_bins=2)
        >>> [(b["claimed"], b["found"]) for b in found]
        [(0.1, 0.0), (0.8, 0.5)]
    """
    if not len(p) or not weight.sum() > 0:
        return []
    code = _bins_of_equal_mass(p, weight, n_bins)
    mass, claimed, lenses, squares = (
        np.bincount(code, values, n_bins)
        for values in (weight, weight * p, weight * is_lens, weight**2)
    )
    made = []
    for b in np.flatnonzero(mass > 0):
        inside = slice(*np.searchsorted(code, [b, b + 1]))
        n = mass[b] ** 2 / squares[b]
        found = min(float(lenses[b] / mass[b]), 1.0)
        low, high = clopper_pearson(found * n, n)
        made.append(
            {
                "low": float(p[inside][0]),
                "high": float(p[inside][-1]),
                "claimed": float(claimed[b] / mass[b]),
                "found": found,
                "found_low": low,
                "found_high": high,
                "mass": float(mass[b] / mass.sum()),
                "n": float(n),
                "n_lenses": found * float(n),
            }
        )
    return made


def expected_error(bins: Sequence[dict[str, Any]]) -> float | None:
    """ECE: mean distance of what was claimed from what was found; None without bins."""
    if not bins:
        return None
    return float(sum(b["mass"] * abs(b["claimed"] - b["found"]) for b in bins))


def expected_noise(bins: Sequence[dict[str, Any]]) -> float | None:
    """ECE of a finder without fault: the mean distance of a share from its expectation."""
    if not bins:
        return None
    half_normal = np.sqrt(2 / np.pi)
    spread = (b["mass"] * np.sqrt(b["claimed"] * (1 - b["claimed"]) / b["n"]) for b in bins)
    return float(half_normal * sum(spread))


def moved(p: Floats, *, at: float, to: float) -> Floats:
    """Probabilities that are right at one prevalence, moved to another: odds times a ratio.

    Examples:
        >>> moved(np.array([0.5, 1.0]), at=0.5, to=0.01).round(9).tolist()
        [0.01, 1.0]
    """
    shift = special.logit(to) - special.logit(at)
    return np.asarray(special.expit(special.logit(p) + shift))


def _tail(
    p: Floats, is_lens: Any, weight: Floats, on_sky: Floats, at: float, to: float
) -> dict[str, Any]:
    """Calibration above the FPR `TAIL_FPR` on a sky of prevalence `to`."""
    negative = np.where(is_lens, 0.0, on_sky)
    lens = np.where(is_lens, weight, 0.0)
    mass = to * lens / lens.sum() + (1 - to) * negative / negative.sum()
    kept = np.cumsum(negative[::-1])[::-1] <= TAIL_FPR * negative.sum()
    first = int(np.searchsorted(p, p[kept][0], side="left")) if kept.any() else len(p)
    if first < len(p) and not kept[first]:  # a tie that the FPR cuts in two is left out
        first = int(np.searchsorted(p, p[first], side="right"))
    inside = slice(first, None)
    claimed = moved(p[inside], at=at, to=to)
    found = reliability(claimed, is_lens[inside], mass[inside], n_bins=N_TAIL_BINS)
    return {
        "prevalence": to,
        "ece": expected_error(found),
        "noise": expected_noise(found),
        "mass": float(mass[inside].sum()),
        "reliability": found,
    }


def _once(rows: Rows) -> Floats:
    """Weight of each row, so that a lens galaxy, and a negative of a kind, counts once."""
    key = rows.kind * 2 + rows.is_lens
    unit = ranks(rows.galaxy)[0].astype(np.int64) * (2 * len(rows.kinds)) + key
    code, n = ranks(unit)
    once = 1.0 / np.bincount(code, minlength=n)[code]
    if rows.weight is None:
        return np.asarray(once)
    lens = np.where(rows.is_lens, once * rows.weight, 0.0)
    n_lenses = float(once[rows.is_lens].sum())
    return np.asarray(np.where(rows.is_lens, lens * n_lenses / lens.sum(), once))


def _on_sky(rows: Rows, once: Floats) -> Floats:
    """Weights of negatives as on the sky."""
    sky = rows.sky_weight if rows.sky_weight is not None else np.ones(len(rows))
    return np.where(rows.is_lens, 0.0, once * np.where(rows.is_lens, 0.0, sky))


def _bins_of_equal_mass(p: Floats, weight: Floats, n_bins: int) -> Ints:
    """Bin of each row, shape (n,), by the mass in the middle of the rows that are tied with it."""
    above = np.cumsum(weight)
    is_new = np.concatenate([[True], p[1:] != p[:-1]])
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(p)) - 1
    middle = (above[last] + above[first] - weight[first]) / 2 / above[-1]
    code = np.minimum((middle * n_bins).astype(np.int64), n_bins - 1)
    return np.asarray(code[np.cumsum(is_new) - 1])
