import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from evaluate_builders import replaced, scores

from darkhaloscope.evaluate import metrics
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Evaluation, Plan
from darkhaloscope.evaluate.rows import Rows, from_scores, rows

COLUMNS = ("theta_e_arcsec", "theta_e_over_fwhm_r", "arc_snr_g")
RATE_KEYS = {
    "at", "value", "low", "high", "k", "n", "threshold", "state", "resolvable", "method",
}  # fmt: skip
PLAN = Plan(
    Draws(1, 200),
    "sim",
    "injected lenses on a simulated sky",
    (1e-2, 1e-3, 1e-4, 1e-5),
    {"theta_e_arcsec": (0.5, 1.0, 1.5), "arc_snr_g": (10.0, 25.0)},
    {"theta_e_over_fwhm_r": 1.2, "arc_snr_g": 25.0},
)


def evaluated(table: pa.Table, **options: object) -> Evaluation:
    made = from_scores(table, weight=None, columns=COLUMNS)
    calib = from_scores(scores(200, 1500, of="calib"), weight=None, columns=COLUMNS)
    return metrics.evaluate(made, PLAN, calib=calib, **options)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluated(scores(120, 1500))


def test_every_rate_has_the_agreed_keys(result: Evaluation) -> None:
    found = result.metrics
    lists = [found["fpr_at_tpr"], found["tpr_at_fpr"], [found["tpr_0"], found["tpr_10"]]]
    lists += [e["fpr_at_tpr"] for e in found["by_kind"].values()]
    lists += [e["tpr_at_fpr"] for e in found["by_stratum"].values()]
    lists += [found["stress"][name] for name in ("fpr_at_tpr", "tpr_at_fpr")]
    for rate in (r for group in lists for r in group):
        assert set(rate) >= RATE_KEYS
        assert rate["resolvable"] == (rate["state"] != "not_resolvable")


def test_the_agreed_rates_are_there(result: Evaluation) -> None:
    found = result.metrics
    assert [r["at"] for r in found["fpr_at_tpr"]] == [0.99, 0.95, 0.90, 0.85, 0.80, 0.70, 0.50]
    assert [r["at"] for r in found["tpr_at_fpr"]] == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    assert (found["n_rows"], found["n_lenses"], found["n_negatives"]) == (1620, 120, 1500)
    assert set(found["by_kind"]) == {"control", "ring", "spiral", "companion"}
    assert "theta_e_arcsec:1.0-1.5" in found["by_stratum"]
    assert found["consistency"]["passed"]
    assert found["calibration"] is None
    assert found["calibration_reason"]


def test_the_metrics_are_json_without_nan(result: Evaluation) -> None:
    text = json.dumps(metrics.finite(result.metrics), allow_nan=False)
    assert json.loads(text)["n_lenses"] == 120


def test_infinite_values_become_null() -> None:
    assert metrics.finite({"a": [math.inf, 1.0], "b": math.nan}) == {"a": [None, 1.0], "b": None}


def test_the_headline_rate_is_on_the_sky_and_the_raw_one_is_stress(result: Evaluation) -> None:
    on_sky, stress = result.metrics["fpr_at_tpr"][3], result.metrics["stress"]["fpr_at_tpr"][3]
    by_kind = {
        k: next(r for r in e["fpr_at_tpr"] if r["at"] == 0.85)
        for k, e in result.metrics["by_kind"].items()
    }
    weights = result.metrics["kind_weights"]
    assert on_sky["value"] == pytest.approx(
        sum(weights[k] * r["value"] for k, r in by_kind.items())
    )
    assert stress["value"] == pytest.approx(sum(r["k"] for r in by_kind.values()) / 1500)
    assert on_sky["value"] < stress["value"]
    assert sum(weights.values()) == pytest.approx(1)


def test_each_kind_has_its_rate_at_the_headlines_completeness_and_the_worst_is_named(
    result: Evaluation,
) -> None:
    found = result.metrics
    (point,) = [r for r in found["worst_kind"] if r["at"] == 0.7]
    rates = {
        kind: next(r for r in entry["fpr_at_tpr_headline"] if r["at"] == 0.7)
        for kind, entry in found["by_kind"].items()
    }
    assert point["value"] == max(r["value"] for r in rates.values())
    assert {k: v for k, v in point.items() if k != "kind"} == rates[point["kind"]]
    assert result.headline is not None
    kept = result.headline.lenses.kept(point["threshold"])
    assert kept == pytest.approx(0.7, abs=0.02)
    assert point["n"] == found["by_kind"][point["kind"]]["n_negatives"]


def test_without_weights_the_sky_and_stress_are_the_same() -> None:
    made = rows(
        score=np.random.default_rng(1).normal(size=900),
        is_lens=np.arange(900) < 100,
        columns={c: np.full(900, 30.0) for c in COLUMNS},
    )
    found = metrics.evaluate(made, PLAN).metrics
    assert found["stress"]["fpr_at_tpr"] == found["fpr_at_tpr"]
    assert found["stress"]["tpr_at_fpr"] == found["tpr_at_fpr"]


def test_operating_points_come_from_calib_and_are_measured_on_test(result: Evaluation) -> None:
    first, *_, last = result.metrics["operating_points"]
    assert (first["chosen_on"], first["n_chosen_on"]) == ("calib", 1500)
    assert first["tpr"]["threshold"] == first["threshold"] == first["fpr"]["threshold"]
    assert first["tpr"]["n"] == 120
    assert "Clopper-Pearson" in first["tpr"]["method"]
    assert last["tpr"] is None
    assert last["note"].startswith("not resolvable with 1,500 negatives of calib")


def test_the_line_to_quote_names_stratum_origin_size_and_interval(result: Evaluation) -> None:
    said = result.metrics["headline_text"]
    n = result.metrics["headline"]["n_lenses"]
    assert f"of {n} lenses (sim) with theta_e_over_fwhm_r >= 1.2 and arc_snr_g >= 25" in said
    assert "at the threshold chosen on calib for FPR 0.01; FPR found" in said
    rate = result.metrics["operating_points"][1]["tpr_headline"]
    assert f"({100 * rate['low']:.3g} to {100 * rate['high']:.3g} %)" in said


def test_without_calib_the_line_to_quote_is_from_the_table_itself() -> None:
    made = from_scores(scores(120, 1500), weight=None, columns=COLUMNS)
    said = metrics.evaluate(made, PLAN).metrics["headline_text"]
    assert said.endswith(", at FPR 0.01")


def test_copies_of_every_row_change_only_the_count_of_rows(result: Evaluation) -> None:
    once = scores(120, 1500)
    twice = evaluated(pa.concat_tables([once, once])).metrics
    for name in ("fpr_at_tpr", "tpr_at_fpr"):
        for a, b in zip(twice[name], result.metrics[name], strict=True):
            numbers = [(r["value"], r["low"], r["high"], r["k"]) for r in (a, b)]
            assert numbers[0] == pytest.approx(numbers[1])
    assert (twice["n_rows"], twice["n_lenses"], twice["n_negatives"]) == (3240, 120, 1500)


def test_an_empty_headline_stratum_says_so() -> None:
    plan = Plan(PLAN.draws, "sim", "x", (1e-3,), {}, {"arc_snr_g": 1e9})
    made = from_scores(scores(50, 300), weight=None, columns=COLUMNS)
    found = metrics.evaluate(made, plan)
    assert found.headline is None
    entry = found.metrics["by_stratum"]["headline"]
    assert entry["n_lenses"] == 0
    assert entry["tpr_at_fpr"][0]["note"] == "no lens in this stratum"
    assert found.metrics["headline_text"].startswith("No headline: ")


def test_the_flat_table_holds_the_same_rates(result: Evaluation) -> None:
    flat = metrics.flat(metrics.finite(result.metrics))
    row = {"measure": "fpr_at_tpr", "stratum": "ring", "at": 0.85}
    (found,) = [r for r in flat.to_pylist() if row.items() <= r.items()]
    expected = result.metrics["by_kind"]["ring"]["fpr_at_tpr"][3]
    assert (found["value"], found["high"]) == (expected["value"], expected["high"])
    (none_false,) = [r for r in flat.to_pylist() if r["measure"] == "tpr_0"]
    assert none_false["stratum"] == "stress"  # each negative counted once, not as on the sky


def test_lenses_are_weighted_to_their_population_where_asked() -> None:
    table = scores(120, 300)
    weighted = from_scores(table, weight="weight_population", columns=COLUMNS)
    found = metrics.evaluate(weighted, PLAN).metrics
    assert found["is_weighted_to_population"]
    assert 60 < found["effective_lenses"] < 120


@pytest.mark.slow
def test_a_million_rows_are_evaluated_and_agree_with_their_curve() -> None:
    n = 1_000_000
    made = rows(
        score=np.random.default_rng(1).normal(size=n) + 3 * (np.arange(n) < 20_000),
        is_lens=np.arange(n) < 20_000,
        columns={c: np.full(n, 30.0) for c in COLUMNS},
    )
    found = metrics.evaluate(made, PLAN).metrics
    assert (found["n_rows"], found["n_lenses"]) == (n, 20_000)
    assert found["consistency"]["passed"]
    assert found["tpr_at_fpr"][3]["state"] == "measured"


@pytest.mark.parametrize(("n_real", "is_said"), [(49, True), (50, False)])
def test_few_real_sources_make_the_figures_illustrative(n_real: int, is_said: bool) -> None:
    made = scores(120, 1500)
    is_lens = np.arange(made.num_rows) < 120
    kind = pa.array(np.where(np.arange(made.num_rows) % 2, "catalogue", "sersic"), mask=~is_lens)
    ids = pa.array(np.where(np.arange(made.num_rows) % 2, np.arange(made.num_rows) // 2 % n_real,
                            10**6 + np.arange(made.num_rows)), mask=~is_lens)  # fmt: skip
    found = evaluated(replaced(made, {"src_kind": kind, "source_id": ids})).metrics
    assert found["sources_by_kind"] == {"catalogue": n_real, "sersic": 60}
    assert ("illustrative" in found["headline_text"]) is is_said
    assert bool(found["illustrative"]) is is_said


def foreign(n: int = 1500, **changed: object) -> Rows:
    """A table with all that a table may have."""
    rng = np.random.default_rng(8)
    is_lens = np.arange(n) < n // 5
    kind = np.where(is_lens, "lens", np.where(np.arange(n) % 4, "a", "b"))
    values = {
        "score": np.round(rng.normal(size=n) + 2 * is_lens, 1),
        "is_lens": is_lens,
        "galaxy": np.arange(n) * 11 % n,
        "kind": kind,
        "sky_weight": np.where(kind == "a", 1.3, 0.1),
        "weight": 0.5 + rng.random(n),
        "area_deg2": np.full(n, 1e-3),
        "columns": {
            "seeing": 0.9 + rng.random(n),
            "theta": np.where(is_lens, rng.random(n), np.nan),
        },
        "region": rng.integers(0, 12, n),
        "source": np.where(is_lens, rng.integers(0, 40, n), -1),
    }
    return rows(**{**values, **changed})


FOREIGN = Plan(
    Draws(1, 200), "sim", "drawn", (1e-2, 1e-3), {"theta": (0.5,)}, {"theta": 0.3},
    {"seeing": (1.0, 1.4)},
)  # fmt: skip


def taken(made: Rows, at: np.ndarray) -> Rows:
    """Some rows, in this order."""
    names = ("score", "is_lens", "galaxy", "kind", "sky_weight", "weight", "area_deg2", "region",
             "source")  # fmt: skip
    columns = {name: values[at] for name, values in made.columns.items()}
    return replace(made, columns=columns, **{n: getattr(made, n)[at] for n in names})


def rates_of(found: object) -> list[float]:
    """Every number of a nested value, in its order; copies change counts of rows alone."""
    if isinstance(found, dict):
        rows_counted = ("n_rows", "n_lens_rows", "n_negative_rows", "fpr_per_copy", "n_points")
        return [x for k, v in found.items() if k not in rows_counted for x in rates_of(v)]
    if isinstance(found, list):
        return [x for v in found for x in rates_of(v)]
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return [float(found)] if is_number else []


def test_the_order_of_the_rows_changes_no_figure() -> None:
    made = foreign()
    order = np.random.default_rng(1).permutation(len(made))
    one, other = (metrics.evaluate(r, FOREIGN).metrics for r in (made, taken(made, order)))
    assert rates_of(other) == pytest.approx(rates_of(one), rel=1e-12)


@pytest.mark.parametrize("copies", [2, 5, 36])
def test_copies_change_no_figure_and_no_interval(copies: int) -> None:
    made = foreign(n=600)
    whose = np.random.default_rng(copies).permutation(np.tile(np.arange(600), copies))
    one, other = (metrics.evaluate(r, FOREIGN).metrics for r in (made, taken(made, whose)))
    assert rates_of(other) == pytest.approx(rates_of(one), rel=1e-6, abs=1e-9)


def test_a_monotone_change_of_the_scores_changes_no_rate() -> None:
    made = foreign()
    other = replace(made, score=np.exp(made.score / 4))
    keys = ("auroc", "purity", "contamination_floor")
    one, other = (metrics.evaluate(r, FOREIGN).metrics for r in (made, other))
    assert [one[k] for k in keys] == [other[k] for k in keys]
    for table in ("fpr_at_tpr", "tpr_at_fpr"):
        for a, b in zip(one[table], other[table], strict=True):
            assert {**a, "threshold": None} == {**b, "threshold": None}


def test_a_stratum_of_the_target_restricts_both_classes() -> None:
    made = foreign()
    found = metrics.evaluate(made, FOREIGN).metrics["by_stratum"]
    assert [name for name in found if name.startswith("seeing")] == [
        "seeing:-inf-1.0", "seeing:1.0-1.4", "seeing:1.4-inf",
    ]  # fmt: skip
    inside = (made.columns["seeing"] >= 1.0) & (made.columns["seeing"] < 1.4)
    alone = metrics.evaluate(taken(made, np.flatnonzero(inside)), FOREIGN).metrics
    entry = found["seeing:1.0-1.4"]
    assert entry["n_negatives"] == alone["n_negatives"] < 1200
    assert entry["n_lenses"] == alone["n_lenses"] < 300
    for a, b in zip(entry["fpr_at_tpr"], alone["fpr_at_tpr"], strict=True):
        assert (a["value"], a["k"], a["threshold"]) == (b["value"], b["k"], b["threshold"])
    assert entry["auroc"]["value"] == pytest.approx(alone["auroc"]["value"])


def test_copies_in_different_bins_of_the_target_count_in_each() -> None:
    is_lens = np.arange(600) < 200
    galaxy = np.concatenate([np.arange(200), 200 + np.arange(400) // 2])
    seeing = np.where(np.arange(600) % 2, 0.8, 1.2)  # the two copies of a negative differ
    made = rows(
        score=np.arange(600.0) % 7, is_lens=is_lens, galaxy=galaxy, columns={"seeing": seeing}
    )
    plan = replace(FOREIGN, bins={}, headline={}, target_bins={"seeing": (0.5, 1.0)})
    found = metrics.evaluate(made, plan).metrics
    assert found["n_negatives"] == 200
    for name in ("seeing:0.5-1.0", "seeing:1.0-inf"):
        assert found["by_stratum"][name]["n_negatives"] == 200


def test_a_bin_of_the_target_without_a_class_says_which() -> None:
    seeing = np.where(np.arange(1500) < 300, 0.7, 1.2)
    made = foreign(columns={"seeing": seeing, "theta": np.ones(1500)})
    found = metrics.evaluate(made, replace(FOREIGN, target_bins={"seeing": (0.5, 1.0)})).metrics
    notes = {
        name: found["by_stratum"][name]["tpr_at_fpr"][0]["note"]
        for name in ("seeing:0.5-1.0", "seeing:1.0-inf")
    }
    assert notes == {
        "seeing:0.5-1.0": "no negative in this stratum",
        "seeing:1.0-inf": "no lens in this stratum",
    }


def test_intervals_over_regions_stand_beside_each_rate() -> None:
    found = metrics.evaluate(foreign(), FOREIGN).metrics
    for rate in [found["auroc"], *found["fpr_at_tpr"], found["tpr_at_fpr"][0], found["tpr_10"]]:
        assert rate["region_low"] <= rate["value"] <= rate["region_high"]
        assert rate["region_note"] == ""
    assert found["n_regions"] == 12


def test_an_empty_headline_is_all_lenses_under_their_name() -> None:
    found = metrics.evaluate(foreign(), replace(FOREIGN, headline={})).metrics
    assert found["headline"]["stratum"] == "all lenses"
    assert found["by_stratum"]["headline"]["tpr_at_fpr"] == found["tpr_at_fpr"]
    assert "of 300 lenses (sim), at FPR" in found["headline_text"]


def test_hours_of_review_and_stamps_for_a_lens_follow_from_what_is_kept() -> None:
    found = metrics.evaluate(foreign(), replace(FOREIGN, seconds_per_stamp=12.0)).metrics
    entry = found["purity"][0]
    kept = 1e-2 * entry["tpr"] + 0.99 * entry["at_fpr"]
    assert entry["review_hours"] == pytest.approx(1e6 * kept * 12 / 3600)
    assert (entry["seconds_per_stamp"], entry["review_targets"]) == (12.0, 1_000_000)
    assert entry["inspected_per_lens"] == pytest.approx(kept / (1e-2 * entry["tpr"]))
    assert entry["false_positives_per_deg2"] == pytest.approx(1000 * 0.99 * entry["at_fpr"])


def test_only_negatives_that_nobody_graded_can_hide_a_lens() -> None:
    made = foreign()
    floors = []
    for graded in (None, np.zeros(1500, bool), made.kind == made.kinds.index("a")):
        found = metrics.evaluate(replace(made, is_graded=graded), FOREIGN).metrics
        floors.append(found["contamination_floor"][0])
    weights = found["kind_weights"]
    assert floors[0] == floors[1]
    assert floors[0]["value"] == pytest.approx(1e-2 * floors[0]["tpr"])
    assert floors[2]["ungraded_share"] == pytest.approx(weights["b"])
    assert floors[2]["value"] == pytest.approx(floors[0]["value"] * weights["b"])


def test_probabilities_have_a_calibration() -> None:
    made = foreign()
    made = replace(made, score=1 / (1 + np.exp(-made.score)), score_kind="probability")
    found = metrics.evaluate(made, FOREIGN).metrics
    assert {"ece", "noise", "reliability", "tail"} <= set(found["calibration"])
    assert [t["prevalence"] for t in found["calibration"]["tail"]] == [1e-2, 1e-3]
    assert found["calibration_reason"] == ""
    json.dumps(metrics.finite(found), allow_nan=False)
