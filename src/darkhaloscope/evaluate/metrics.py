"""Every figure of a score table: `metrics.json`, and the same rates as a flat table.

All of it is read from one curve per set of lenses, over the same negatives, and a self-check goes
with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from darkhaloscope.evaluate import consistency, purity, rates, sample, strata, thresholds, units
from darkhaloscope.evaluate.calibration import calibration
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.quoting import ALL, headline_text, illustrative
from darkhaloscope.evaluate.rates import Curve, Rate
from darkhaloscope.evaluate.rows import Rows
from darkhaloscope.evaluate.thresholds import Thresholds, chosen, measured
from darkhaloscope.evaluate.units import LensUnits, NegativeUnits, ranks

TPRS = (0.99, 0.95, 0.90, 0.85, 0.80, 0.70, 0.50)
FPRS = thresholds.FPRS
FORMAT = 1

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
        target_bins: Edges of the strata of the target, by column: both classes are restricted.
        seconds_per_stamp: Time that a person takes to judge a stamp, for the hours of review.
    """

    draws: Draws
    origin: str
    population: str
    prevalences: tuple[float, ...]
    bins: Mapping[str, tuple[float, ...]]
    headline: Mapping[str, float]
    target_bins: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seconds_per_stamp: float = 5.0


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


def evaluate(
    rows: Rows, plan: Plan, *, calib: Rows | None = None, thresholds: Thresholds | None = None
) -> Evaluation:
    """All figures of `rows`; with thresholds of other data also at those.

    Args:
        rows: The scored stamps.
        plan: What is asked.
        calib: The set to choose thresholds on.
        thresholds: Thresholds chosen before, in place of `calib`.

    Raises:
        DataError: a column of the plan is missing, or the thresholds are of other scores.
    """
    negatives = units.negative_units(rows)
    lenses = units.lens_units(rows)
    on_sky = sample.weigh(negatives, to_sky=True)
    each_once = on_sky if on_sky.is_all_of(negatives) else sample.weigh(negatives, to_sky=False)
    curve = Curve(sample.lens_side(lenses), on_sky, plan.draws, "all")
    stress = curve
    if each_once is not on_sky:
        stress = Curve(curve.lenses, each_once, plan.draws, "stress")
    named = _strata(rows, plan)
    curves = {}
    for stratum in named:
        made = _curve(stratum, curve, rows, negatives, lenses)
        if made is not None:
            curves[stratum.name] = made
    fpr_rates, tpr_rates = _tables(curve)
    headline = curves.get("headline")
    headline_rates = [] if headline is None else _tables(headline)[1]
    if thresholds is None and calib is not None:
        thresholds = chosen(calib, on="calib", at=FPRS)
    points = (
        []
        if thresholds is None
        else measured(thresholds, curve, headline, score_kind=rows.score_kind)
    )
    calibrated, reason = calibration(rows, plan.prevalences, draws=plan.draws)
    by_kind = _by_kind(stress, headline)
    metrics = {
        "format": FORMAT,
        **_sizes(rows, curve, each_once),
        "headline": _headline(plan, named[-1], headline, on_sky),
        "auroc": curve.auroc,
        "fpr_at_tpr": _dicts(fpr_rates),
        "tpr_at_fpr": _dicts(tpr_rates),
        "tpr_0": _with_false_positives(stress, 0),
        "tpr_10": _with_false_positives(stress, 10),
        "stress": _stress(stress, sample.copies(rows)),
        "by_kind": by_kind,
        "worst_kind": _worst_kind(by_kind),
        "by_stratum": {s.name: _stratum(s, curves.get(s.name), rows) for s in named},
        "purity": _purity(tpr_rates, headline_rates, plan, rows),
        "calibration": calibrated,
        "calibration_reason": reason,
        "contamination_floor": _floor(
            tpr_rates, headline_rates, plan, _ungraded(rows, negatives, on_sky)
        ),
        "operating_points": points,
        "consistency": consistency.check(curve, fpr_rates, tpr_rates),
    }
    metrics["headline_text"] = headline_text(metrics)
    if metrics["illustrative"]:
        metrics["headline_text"] += f"; {metrics['illustrative']}"
    return Evaluation(metrics, curve, headline, curves)


def flat(metrics: Mapping[str, Any]) -> pa.Table:
    """The rates of `metrics.json`, one row each: the measure, whose it is, and the rate's keys."""
    found = [("auroc", "all", {"at": None, **metrics["auroc"]})]
    for measure in ("fpr_at_tpr", "tpr_at_fpr"):
        found += [(measure, "all", r) for r in metrics[measure]]
        found += [(measure, "stress", r) for r in metrics["stress"][measure]]
        for group in ("by_kind", "by_stratum"):
            for name, entry in metrics[group].items():
                found += [(measure, name, r) for r in entry.get(measure, [])]
    for name, entry in metrics["by_kind"].items():
        measure = "fpr_at_tpr_headline"
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


def _strata(rows: Rows, plan: Plan) -> list[strata.Stratum]:
    """Every bin of every column; the headline last."""
    binned = [s for c, edges in plan.bins.items() for s in strata.bins(rows, c, edges)]
    binned += [
        s
        for c, edges in plan.target_bins.items()
        for s in strata.bins(rows, c, edges, is_of_target=True)
    ]
    return [*binned, strata.at_least(rows, plan.headline)]


def _curve(
    stratum: strata.Stratum,
    whole: Curve,
    rows: Rows,
    negatives: NegativeUnits,
    lenses: LensUnits,
) -> Curve | None:
    """The curve of a stratum; None where it lacks lenses or negatives."""
    if stratum.chosen[lenses.row].all() and not stratum.is_of_target:
        return whole
    side = sample.lens_side(lenses, stratum.chosen)
    if not side.n:
        return None
    if not stratum.is_of_target:
        return Curve(side, whole.negatives, whole.draws, stratum.name)
    inside = stratum.chosen[~rows.is_lens]
    mine = negatives.any_of(inside)
    if (mine & negatives.any_of(~inside)).any():  # copies of a galaxy lie in different bins
        part = units.negative_units(rows, stratum.chosen)
    else:
        part = negatives.only(mine)
    if not len(part.score):
        return None
    return Curve(side, sample.weigh(part, to_sky=True), whole.draws, stratum.name)


def _tables(curve: Curve) -> tuple[list[Rate], list[Rate]]:
    return [curve.fpr_at_tpr(x) for x in TPRS], [curve.tpr_at_fpr(f) for f in FPRS]


def _with_false_positives(stress: Curve, n_false: int) -> Entry:
    found = stress.tpr_with_false_positives(n_false).as_dict()
    return {**found, "n_negatives": stress.negatives.side.n}


def _ungraded(rows: Rows, negatives: NegativeUnits, on_sky: sample.Negatives) -> float:
    """Share of the negatives on the sky that no person has graded."""
    if rows.is_graded is None:
        return 1.0
    graded = negatives.any_of(rows.is_graded[~rows.is_lens])
    n = np.bincount(negatives.kind[~graded], minlength=len(negatives.names))
    parts = zip(on_sky.names, on_sky.weight, strict=True)
    return float(sum(w * n[negatives.names.index(name)] for name, w in parts))


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
        "n_galaxies": ranks(rows.galaxy)[1],
        "n_negative_galaxies": ranks(rows.galaxy[~rows.is_lens])[1],
        "n_sources": rows.n_sources,
        "n_regions": rows.n_regions,
        "sources_by_kind": dict(rows.sources_by_kind),
        "illustrative": illustrative(rows.sources_by_kind),
        "effective_lenses": curve.lenses.effective,
        "effective_negatives": curve.negatives.side.effective,
        "is_weighted_to_sky": rows.sky_weight is not None,
        "is_weighted_to_population": rows.weight is not None,
        "score_kind": rows.score_kind,
        "kind_weights": {
            k: float(w * n)
            for k, n, w in zip(
                curve.negatives.names, curve.negatives.sizes, curve.negatives.weight, strict=True
            )
        },
    }


def _headline(
    plan: Plan, stratum: strata.Stratum, curve: Curve | None, negatives: sample.Negatives
) -> Entry:
    """The figures that may be quoted, with the name they must be quoted under."""
    return {
        "stratum": stratum.meaning or ALL,
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


def _by_kind(stress: Curve, headline: Curve | None) -> dict[str, Entry]:
    """FPR of each kind, at the thresholds where all lenses, or the headline's, are so complete."""
    curves = {"fpr_at_tpr": stress}
    if headline is not None:
        curves["fpr_at_tpr_headline"] = Curve(
            headline.lenses, stress.negatives, stress.draws, "kinds headline"
        )
    return {
        kind: {
            "n_negatives": int(n),
            **{
                name: _dicts([curve.fpr_at_tpr(x, kind=kind) for x in TPRS])
                for name, curve in curves.items()
            },
        }
        for kind, n in zip(stress.negatives.names, stress.negatives.sizes, strict=True)
    }


def _worst_kind(by_kind: Mapping[str, Entry]) -> list[Entry]:
    """At each completeness the kind with the highest FPR, of the headline's lenses where known."""
    found = []
    for at in TPRS:
        rates = [
            {"kind": kind, **rate}
            for kind, entry in by_kind.items()
            for rate in entry.get("fpr_at_tpr_headline") or entry["fpr_at_tpr"]
            if rate["at"] == at and rate["value"] is not None
        ]
        if len(rates) > 1:
            found.append(max(rates, key=lambda rate: rate["value"]))
    return found


def _stratum(stratum: strata.Stratum, curve: Curve | None, rows: Rows) -> Entry:
    """Completeness and FPR of one stratum's lenses, against all negatives or those of its bin."""
    entry: Entry = {"meaning": stratum.meaning, "n_lenses": 0}
    if curve is None:
        reason = "no lens in this stratum"
        if stratum.is_of_target:
            n = int((~rows.is_lens & stratum.chosen).sum())
            entry["n_negatives"] = n
            reason = reason if n else "no negative in this stratum"
        nothing = [rates.unresolved(f, 0, rates.DRAWN, reason) for f in FPRS]
        return {**entry, "auroc": None, "tpr_at_fpr": _dicts(nothing), "fpr_at_tpr": []}
    fpr_rates, tpr_rates = _tables(curve)
    if stratum.is_of_target:
        entry["n_negatives"] = curve.negatives.side.n
    return {
        **entry,
        "n_lenses": curve.lenses.n,
        "n_lens_rows": len(curve.lenses.score),
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
            seconds_per_stamp=plan.seconds_per_stamp,
        )
    ]


def _floor(all_rates: list[Rate], headline: list[Rate], plan: Plan, ungraded: float) -> list[Entry]:
    return [
        entry
        for population, table in (("all", all_rates), ("headline", headline))
        for entry in purity.contamination_floor(
            table, population=population, prevalences=plan.prevalences, ungraded_share=ungraded
        )
    ]
