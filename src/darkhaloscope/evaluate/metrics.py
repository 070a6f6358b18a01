"""Every figure of a score table: `metrics.json`, and the same rates as a flat table.

All of it is read from one curve per set of lenses, over the same negatives, and a self-check goes
with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from darkhaloscope.evaluate import consistency, intervals, purity, rates, sample, strata
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve, Rate
from darkhaloscope.evaluate.rows import Rows

TPRS = (0.99, 0.95, 0.90, 0.85, 0.80, 0.70, 0.50)
FPRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
FORMAT = 1
ENOUGH_SOURCES = 50  # different galaxies below which figures that rest on them only illustrate

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of an evaluation.

    Attributes:
        draws: Random numbers of the intervals.
        origin: `sim` where lenses or sky are simulated, `real` where both are observed.
        population: What the lenses and the sky are, in words.
        prevalences: Lenses per target that purity is stated for.
        bins: Edges of the strata, by column.
        headline: Minima of the headline stratum, by column; empty: all lenses.
    """

    draws: Draws
    origin: str
    population: str
    prevalences: tuple[float, ...]
    bins: Mapping[str, tuple[float, ...]]
    headline: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """The curves of a score table and its figures.

    Attributes:
        metrics: The content of `metrics.json`, plain values only.
        curve: All lenses against the negatives as on the sky.
        headline: The headline stratum against the same negatives; None: it holds no lens.
        by_stratum: A curve for each stratum that holds a lens.
    """

    metrics: Entry
    curve: Curve
    headline: Curve | None
    by_stratum: Mapping[str, Curve]


def evaluate(rows: Rows, plan: Plan, *, calib: Rows | None = None) -> Evaluation:
    """All figures of `rows`; with `calib`, also at thresholds that were chosen on it."""
    on_sky = sample.negatives(rows, to_sky=True)
    each_once = sample.negatives(rows, to_sky=False)
    curve = Curve(sample.lenses(rows), on_sky, plan.draws, "all")
    stress = Curve(curve.lenses, each_once, plan.draws, "all" if on_sky.is_even else "stress")
    named = _strata(rows, plan)
    curves = {
        s.name: Curve(lenses, on_sky, plan.draws, s.name)
        for s in named
        if (lenses := sample.lenses(rows, s.chosen)).share[0] > 0
    }
    fpr_rates, tpr_rates = _tables(curve)
    headline = curves.get("headline")
    headline_rates = [] if headline is None else [headline.tpr_at_fpr(f) for f in FPRS]
    metrics = {
        "format": FORMAT,
        **_sizes(rows, curve, each_once),
        "headline": _headline(plan, named[-1], headline, on_sky),
        "auroc": curve.auroc,
        "fpr_at_tpr": _dicts(fpr_rates),
        "tpr_at_fpr": _dicts(tpr_rates),
        "tpr_0": {**stress.tpr_with_false_positives(0).as_dict(), "n_negatives": each_once.side.n},
        "tpr_10": {
            **stress.tpr_with_false_positives(10).as_dict(),
            "n_negatives": each_once.side.n,
        },
        "stress": _stress(stress, sample.copies(rows)),
        "by_kind": _by_kind(stress),
        "by_stratum": {s.name: _stratum(s, curves.get(s.name), rows) for s in named},
        "purity": _purity(tpr_rates, headline_rates, plan, rows),
        "calibration": None,
        "calibration_reason": "scores are logits, not calibrated probabilities",
        "contamination_floor": _floor(tpr_rates, headline_rates, plan),
        "operating_points": [] if calib is None else _operating(calib, curve, headline, plan),
        "consistency": consistency.check(curve, fpr_rates, tpr_rates),
    }
    metrics["headline_text"] = headline_text(metrics)
    if metrics["illustrative"]:
        metrics["headline_text"] += f"; {metrics['illustrative']}"
    return Evaluation(metrics, curve, headline, curves)


def headline_text(metrics: Mapping[str, Any]) -> str:
    """The one line that may be quoted: completeness with its stratum, origin, size and interval.

    At the least FPR whose threshold the calibration set could choose; without one, at the least
    FPR of the table that the negatives resolve; else the reason why there is no figure.
    """
    head = metrics["headline"]
    whose = f"{head['n_lenses']:,} lenses ({head['origin']}) with {head['stratum']}"
    if not head["n_lenses"]:
        return f"No headline: the test set holds no lens with {head['stratum']}"
    points = [p for p in metrics["operating_points"] if p["tpr_headline"]]
    if points:
        point = points[-1]
        return (
            f"Completeness {_quoted(point['tpr_headline'])} of {whose}, "
            f"at the threshold chosen on {point['chosen_on']} for FPR {point['at']:g}; "
            f"FPR found {_quoted(point['fpr'])}, from {head['n_negatives']:,} negatives"
        )
    found = [r for r in metrics["by_stratum"]["headline"]["tpr_at_fpr"] if r["resolvable"]]
    if not found:
        return f"No headline: {metrics['tpr_at_fpr'][0]['note']}"
    return f"Completeness {_quoted(found[-1])} of {whose}, at FPR {found[-1]['at']:g}"


def illustrative(sources_by_kind: Mapping[str, int]) -> str:
    """Why the figures only illustrate: few different galaxies stand for a kind of source.

    Examples:
        >>> illustrative({"sersic": 3, "clumpy": 80, "catalogue": 7})
        'illustrative: only 7 different catalogue galaxies are sources, fewer than 50'
        >>> illustrative({"sersic": 900, "clumpy": 80})
        ''
    """
    few = {k: n for k, n in sources_by_kind.items() if k != "sersic" and n < ENOUGH_SOURCES}
    if not few:
        return ""
    said = " and ".join(f"{n} different {kind}" for kind, n in few.items())
    return f"illustrative: only {said} galaxies are sources, fewer than {ENOUGH_SOURCES}"


def flat(metrics: Mapping[str, Any]) -> pa.Table:
    """The rates of `metrics.json`, one row each: the measure, whose it is, and the rate's keys."""
    found = [("auroc", "all", {"at": None, **metrics["auroc"]})]
    for measure in ("fpr_at_tpr", "tpr_at_fpr"):
        found += [(measure, "all", r) for r in metrics[measure]]
        found += [(measure, "stress", r) for r in metrics["stress"][measure]]
        for group in ("by_kind", "by_stratum"):
            for name, entry in metrics[group].items():
                found += [(measure, name, r) for r in entry.get(measure, [])]
    found += [(name, "stress", metrics[name]) for name in ("tpr_0", "tpr_10")]
    for point in metrics["operating_points"]:
        found += [
            (f"operating_{m}", "headline" if m == "tpr_headline" else "all", point[m])
            for m in ("fpr", "tpr", "tpr_headline")
            if point[m] is not None
        ]
    columns: dict[str, Any] = {
        "measure": pa.array([m for m, _, _ in found], pa.string()),
        "stratum": pa.array([g for _, g, _ in found], pa.string()),
    }
    for name in ("at", "value", "low", "high", "k", "n", "threshold"):
        values = [r.get(name) for _, _, r in found]
        columns[name] = pa.array([None if v is None else float(v) for v in values], pa.float64())
    for name in ("state", "method", "note"):
        columns[name] = pa.array([r.get(name) for _, _, r in found], pa.string())
    columns["resolvable"] = pa.array([r.get("resolvable") for _, _, r in found], pa.bool_())
    return pa.table(columns)


def finite(value: Any) -> Any:
    """A JSON value without NaN and infinities, which JSON does not have: they become null."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _quoted(r: Mapping[str, Any]) -> str:
    """A rate with its interval, in per cent."""
    value, low, high = (100 * r[name] for name in ("value", "low", "high"))
    return f"{value:.3g} % ({low:.3g} to {high:.3g} %)"


def _strata(rows: Rows, plan: Plan) -> list[strata.Stratum]:
    """Every bin of every column; the headline last."""
    binned = [s for c, edges in plan.bins.items() for s in strata.bins(rows, c, edges)]
    return [*binned, strata.at_least(rows, plan.headline)]


def _tables(curve: Curve) -> tuple[list[Rate], list[Rate]]:
    return [curve.fpr_at_tpr(x) for x in TPRS], [curve.tpr_at_fpr(f) for f in FPRS]


def _dicts(table: Sequence[Rate]) -> list[Entry]:
    return [r.as_dict() for r in table]


def _sizes(rows: Rows, curve: Curve, each_once: sample.Negatives) -> Entry:
    """What the figures rest on: rows, and how many independent galaxies they are."""
    n_negative_rows = int((~rows.is_lens).sum())
    return {
        "n_rows": len(rows),
        "n_lenses": curve.lenses.n,
        "n_negatives": each_once.side.n,
        "n_lens_rows": len(rows) - n_negative_rows,
        "n_negative_rows": n_negative_rows,
        "n_galaxies": len(np.unique(rows.galaxy)),
        "n_negative_galaxies": len(np.unique(rows.galaxy[~rows.is_lens])),
        "n_sources": rows.n_sources,
        "n_regions": rows.n_regions,
        "sources_by_kind": dict(rows.sources_by_kind),
        "illustrative": illustrative(rows.sources_by_kind),
        "effective_lenses": curve.lenses.effective,
        "effective_negatives": curve.negatives.side.effective,
        "is_weighted_to_sky": rows.sky_weight is not None,
        "is_weighted_to_population": rows.weight is not None,
        "kind_weights": {
            k: float(w * side.n)
            for (k, side), w in zip(
                curve.negatives.kinds.items(), curve.negatives.weight, strict=True
            )
        },
    }


def _headline(
    plan: Plan, stratum: strata.Stratum, curve: Curve | None, negatives: sample.Negatives
) -> Entry:
    """The figures that may be quoted, with the name they must be quoted under."""
    return {
        "stratum": stratum.meaning or "all lenses",
        "origin": plan.origin,
        "population": plan.population,
        "n_lenses": 0 if curve is None else curve.lenses.n,
        "n_negatives": negatives.side.n,
        "auroc": None if curve is None else curve.auroc,
    }


def _stress(curve: Curve, copies: sample.Side) -> Entry:
    """The mixture as it stands in the set, each galaxy once; beside it the rate per copy."""
    fpr_rates, tpr_rates = _tables(curve)
    per_copy = [
        {"at": r.at, "value": copies.kept(t), "k": copies.n_kept(t), "n": copies.n, "threshold": t}
        for r in fpr_rates
        if (t := r.threshold) is not None
    ]
    return {
        "auroc": curve.auroc,
        "fpr_at_tpr": _dicts(fpr_rates),
        "tpr_at_fpr": _dicts(tpr_rates),
        "fpr_per_copy": per_copy,
    }


def _by_kind(stress: Curve) -> dict[str, Entry]:
    """FPR of each kind, at the thresholds where all lenses have a completeness."""
    return {
        kind: {
            "n_negatives": side.n,
            "fpr_at_tpr": _dicts([stress.fpr_at_tpr(x, kind=kind) for x in TPRS]),
        }
        for kind, side in stress.negatives.kinds.items()
    }


def _stratum(stratum: strata.Stratum, curve: Curve | None, rows: Rows) -> Entry:
    """Completeness and FPR of one stratum's lenses against all negatives."""
    entry: Entry = {"meaning": stratum.meaning, "n_lenses": 0}
    if curve is None:
        reason = "no lens in this stratum"
        nothing = [rates.unresolved(f, 0, rates.DRAWN, reason) for f in FPRS]
        return {**entry, "auroc": None, "tpr_at_fpr": _dicts(nothing), "fpr_at_tpr": []}
    fpr_rates, tpr_rates = _tables(curve)
    return {
        **entry,
        "n_lenses": curve.lenses.n,
        "n_lens_rows": int((rows.is_lens & stratum.chosen).sum()),
        "auroc": curve.auroc,
        "tpr_at_fpr": _dicts(tpr_rates),
        "fpr_at_tpr": _dicts(fpr_rates),
    }


def _purity(all_rates: list[Rate], headline: list[Rate], plan: Plan, rows: Rows) -> list[Entry]:
    density = purity.targets_per_deg2(rows)
    return [
        entry
        for population, table in (("all", all_rates), ("headline", headline))
        for entry in purity.purity_table(
            table,
            population=population,
            prevalences=plan.prevalences,
            targets_per_deg2=density,
        )
    ]


def _floor(all_rates: list[Rate], headline: list[Rate], plan: Plan) -> list[Entry]:
    return [
        entry
        for population, table in (("all", all_rates), ("headline", headline))
        for entry in purity.contamination_floor(
            table, population=population, prevalences=plan.prevalences
        )
    ]


def _operating(calib: Rows, test: Curve, headline: Curve | None, plan: Plan) -> list[Entry]:
    """Thresholds chosen on the calibration set at each FPR, and what the test set says there."""
    chosen_on = Curve(
        sample.lenses(calib), sample.negatives(calib, to_sky=True), plan.draws, "calib"
    )
    points = []
    for f in FPRS:
        resolvable, need = intervals.needed(chosen_on.negatives, f)
        n = chosen_on.negatives.side.n
        threshold = chosen_on.threshold_at_fpr(f)
        entry: Entry = {"at": f, "chosen_on": "calib", "n_chosen_on": n, "threshold": None}
        if not resolvable or np.isnan(threshold):
            note = f"not resolvable with {n:,} negatives of calib: bounding it needs {need:,}"
            points.append({**entry, "note": note, "fpr": None, "tpr": None, "tpr_headline": None})
            continue
        in_headline = headline and rates.tpr_at_fixed(headline.lenses, threshold, at=f).as_dict()
        points.append(
            {
                **entry,
                "threshold": threshold,
                "note": "",
                "fpr": rates.fpr_at_fixed(test.negatives, threshold, at=f).as_dict(),
                "tpr": rates.tpr_at_fixed(test.lenses, threshold, at=f).as_dict(),
                "tpr_headline": in_headline,
            }
        )
    return points
