"""Whether a probability of 0.9 is a lens nine times in ten, and at which prevalence.

A galaxy counts once: its rows share its weight. Lenses are far rarer on the sky than in a table, so
that a probability that is right for the table is wrong for the sky until its odds are moved to the
prevalence there; the tail, which is what gets inspected, is judged at stated prevalences.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from darkhaloscope.core import keys
from darkhaloscope.evaluate.clusters import TAIL, student
from darkhaloscope.evaluate.intervals import Draws, clopper_pearson
from darkhaloscope.evaluate.regions import ENOUGH
from darkhaloscope.evaluate.rows import Floats, Ints, Rows
from darkhaloscope.evaluate.sample import ROUNDING
from darkhaloscope.evaluate.units import ranks

N_BINS = 15
N_TAIL_BINS = 5
FEWEST = 10.0  # negatives of equal weight from which an interval is given
MANY = 1000  # clusters from which Student's distribution is the normal one
TAIL_FPR = 1e-2  # the tail begins where this share of the negatives on the sky is kept
Clusters = dict[str, Ints]
REASON = "scores are of the kind {kind}, not calibrated probabilities"


def calibration(
    rows: Rows,
    prevalences: Sequence[float],
    *,
    at: float | None = None,
    draws: Draws | None = None,
) -> tuple[dict[str, Any] | None, str]:
    """Calibration of the scores, or None and the reason why there is none.

    Args:
        rows: Of score kind `probability`, or there is a reason.
        prevalences: Lenses per target that the tail is judged at.
        at: Prevalence that the probabilities are right for, the negatives being as on the sky;
            they are moved to that of the table, whose negatives then weigh as on the sky. None:
            they are right for the table as it is.
        draws: Of the intervals of the tail; None: it has none.

    Returns:
        `prevalence` of lenses among the table's galaxies; `ece`, over bins of equal mass; `noise`,
        the ECE that a finder without fault would show in a table of this size; `reliability`, one
        entry a bin; `tail`, one entry a prevalence, of what lies above the FPR `TAIL_FPR`, and in
        its `top` of what lies above an FPR equal to the prevalence: a list about half of which is
        lenses. `_part` says what an entry holds.
    """
    if rows.score_kind != "probability":
        return None, REASON.format(kind=rows.score_kind)
    once = _once(rows)
    on_sky = once if rows.sky_weight is None else _on_sky(rows, once)
    if at is not None:
        on_sky = np.where(rows.is_lens, 0.0, on_sky)
        as_many = float(once[~rows.is_lens].sum() / on_sky.sum())
        once = np.where(rows.is_lens, once, on_sky * as_many)
    prevalence = float(once @ rows.is_lens / once.sum())
    score = rows.score if at is None else moved(rows.score, at=at, to=prevalence)
    order = np.lexsort((rows.is_lens, score))
    p, is_lens, weight = score[order], rows.is_lens[order], once[order]
    found = reliability(p, is_lens, weight, n_bins=N_BINS)
    clusters = _clusters(rows, order)
    tail = [
        _tail(p, is_lens, weight, on_sky[order], prevalence, wanted, clusters, draws)
        for wanted in prevalences
    ]
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
    p: Floats,
    is_lens: Any,
    weight: Floats,
    on_sky: Floats,
    at: float,
    to: float,
    clusters: Clusters,
    draws: Draws | None,
) -> dict[str, Any]:
    """Calibration above the FPR `TAIL_FPR`, and above the FPR `to`, on a sky of prevalence `to`."""
    negative = np.where(is_lens, 0.0, on_sky)
    lens = np.where(is_lens, weight, 0.0)
    mass = to * lens / lens.sum() + (1 - to) * negative / negative.sum()
    above = np.cumsum(negative[::-1])[::-1] / negative.sum()
    claimed = moved(p, at=at, to=to)
    named = f"tail {to:g}"
    entry = _part(p, claimed, is_lens, mass, above, TAIL_FPR, clusters, draws, named)
    top = _part(p, claimed, is_lens, mass, above, to, clusters, draws, f"top {named}")
    return {"prevalence": to, **entry, "top": top}


def _part(
    p: Floats,
    claimed: Floats,
    is_lens: Any,
    mass: Floats,
    above: Floats,
    fpr: float,
    clusters: Clusters,
    draws: Draws | None,
    named: str,
) -> dict[str, Any]:
    """Calibration of what lies above an FPR.

    Returns:
        `fpr`; `ece`, the mean distance of claimed and found over bins of equal mass, with `low`,
        `high` (95 %, over galaxies) and `region_low`, `region_high` (over regions, where there are
        enough); `noise`; `mass`, the share of the sky's targets; `n_negatives`, rows of equal
        weight; `note`, why there is no interval; `reliability`.
    """
    kept = above <= fpr * (1 + ROUNDING)
    first = int(np.searchsorted(p, p[kept][0], side="left")) if kept.any() else len(p)
    is_cut = first < len(p) and not kept[first]
    if is_cut:  # a tie that the FPR cuts in two is left out
        first = int(np.searchsorted(p, p[first], side="right"))
    inside = slice(first, None)
    found = reliability(claimed[inside], is_lens[inside], mass[inside], n_bins=N_TAIL_BINS)
    negative = mass[inside][~is_lens[inside]]
    squares = float((negative**2).sum())
    entry: dict[str, Any] = {
        "fpr": fpr,
        "ece": expected_error(found),
        "noise": expected_noise(found),
        "mass": float(mass[inside].sum()),
        "n_negatives": float(negative.sum()) ** 2 / squares if squares > 0 else 0.0,
        "low": None,
        "high": None,
        "region_low": None,
        "region_high": None,
        "note": "",
        "reliability": found,
    }
    if entry["n_negatives"] < FEWEST:
        n = entry["n_negatives"]
        few = f"not resolvable with {n:.3g} negatives above it"
        tied = "not resolvable: too many negatives share the highest probability"
        entry["note"] = tied if is_cut and first == len(p) else few
    elif draws is not None and found:
        weights = np.where(is_lens, 0.0, mass)[inside], np.where(is_lens, mass, 0.0)[inside]
        galaxy = clusters[""][inside]
        most = [float(np.bincount(galaxy, of_class).max()) for of_class in weights]
        for whose, cluster in clusters.items():
            reach, noise = _reach(
                claimed, is_lens, mass, first, cluster, most, draws, f"{named} {whose}"
            )
            entry["noise"] = noise if not whose else entry["noise"]
            entry[f"{whose}low"] = max(0.0, entry["ece"] - reach)
            entry[f"{whose}high"] = min(1.0, entry["ece"] + reach)
    return entry


def _reach(
    claimed: Floats,
    is_lens: Any,
    mass: Floats,
    first: int,
    cluster: Ints,
    most: Sequence[float],
    draws: Draws,
    named: str,
) -> tuple[float, float]:
    """How far the ECE of rows from `first` on is from the true one: 95 times in 100, and its mean.

    With e_b the mass of bin b times claimed less found, the ECE is the sum of |e_b|, which errs by
    no more than the sum of |e_b - true e_b|. That sum's distribution is taken from a Bayesian
    bootstrap (Rubin 1981) of the clusters, the bins staying where they are; each bin has half a
    lens and half a negative more, of the masses `most` of negatives and lenses, so that a bin
    without negatives is not taken to be sure. So the interval of a finder without fault holds 0 95
    times in 100, where a bootstrap of the ECE itself, which cannot be negative, never does; of
    others it is wider than need be.
    """
    inside = np.arange(len(claimed)) >= first
    code = np.zeros(len(claimed), np.int64)
    code[first:] = _bins_of_equal_mass(claimed[first:], mass[first:], N_TAIL_BINS)
    _, unit = np.unique(cluster[inside | is_lens], return_inverse=True)
    n = int(unit.max()) + 1
    place, lens, of = code[inside | is_lens], is_lens[inside | is_lens], inside[inside | is_lens]
    m, c = mass[inside | is_lens], claimed[inside | is_lens]

    def sums(values: Floats) -> Floats:
        """Of each cluster and bin, shape (n, bins)."""
        flat = np.bincount(unit * N_TAIL_BINS + place, values, n * N_TAIL_BINS)
        return np.asarray(flat.reshape(n, N_TAIL_BINS))

    apart_lens, apart_negative = sums(np.where(lens & of, m * (c - 1), 0)), sums(~lens * m * c)
    mass_lens, mass_negative = sums(np.where(lens & of, m, 0)), sums(~lens * m)
    all_lenses = np.bincount(unit, np.where(lens, m, 0.0), n)
    whole = float((mass_lens + mass_negative).sum())
    e = (apart_lens + apart_negative).sum(axis=0) / whole
    held = (mass_lens + mass_negative).sum(axis=0)
    total = sums(np.where(of, m * c, 0)).sum(axis=0)
    mean = np.divide(total, held, out=np.zeros_like(held), where=held > 0)
    distance = np.empty(draws.n)
    for i in range(draws.n):
        u = keys.uniform(np.arange(n), seed=draws.seed, stream=f"calibration {named} {i}")
        half = keys.normal(
            np.arange(2 * N_TAIL_BINS), seed=draws.seed, stream=f"calibration half {named} {i}"
        )
        more = np.outer(most, held > 0) * half.reshape(2, N_TAIL_BINS) ** 2 / 2  # Gamma(1/2)
        g = -np.log1p(-u)
        ratio = all_lenses.sum() / (g @ all_lenses)
        top = ratio * (g @ apart_lens) + g @ apart_negative + more[0] * mean + more[1] * (mean - 1)
        bottom = float((ratio * (g @ mass_lens) + g @ mass_negative + more.sum(axis=0)).sum())
        distance[i] = np.abs(top / bottom - e).sum()
    few = float(np.sqrt(student(n))) if n < MANY else 1.0
    return few * float(np.quantile(distance, 1 - 2 * TAIL)), float(distance.mean())


def _clusters(rows: Rows, order: Ints) -> Clusters:
    """What is drawn together: galaxies, and where there are enough of them, regions too."""
    made = {"": ranks(rows.galaxy)[0].astype(np.int64)[order]}
    if rows.region is not None and (rows.region >= 0).all():
        region = rows.region[order]
        if len(np.unique(region)) >= ENOUGH:
            made["region_"] = region
    return made


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
