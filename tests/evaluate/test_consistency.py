from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from darkhaloscope.evaluate import sample
from darkhaloscope.evaluate.consistency import auroc_range, check, contradictions
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import rows

# what a first complete run of such a pipeline published: (FPR, completeness), and AUROC 0.9963
FIRST_RUN = [
    (0.414, 0.99),
    (0.188, 0.95),
    (0.102, 0.90),
    (0.0617, 0.85),
    (0.0397, 0.80),
    (0.0179, 0.70),
    (0.00558, 0.50),
    (1.02e-2, 0.747),
    (1.01e-3, 0.352),
    (9.87e-5, 0.004),
    (1e-5, 0.0),
]


def curve(score: np.ndarray) -> Curve:
    made = rows(score=score.astype(float), is_lens=np.arange(len(score)) % 2 == 0)
    return Curve(sample.lenses(made), sample.negatives(made, to_sky=True), Draws(1, 200), "t")


def test_the_first_runs_published_table_is_rejected_with_its_two_contradictions() -> None:
    found = contradictions(FIRST_RUN, auroc=0.9963)
    assert [c.name for c in found] == ["not_monotone", "auroc_bound"]
    assert "74.7 % at FPR 0.0102 and only 70 % at the higher FPR 0.0179" in found[0].message
    assert "AUROC 0.9963 is outside" in found[1].message


def test_the_first_runs_fpr_table_alone_bounds_its_area_at_0975() -> None:
    assert auroc_range(FIRST_RUN[:7])[1] == pytest.approx(0.975, abs=5e-4)


def test_a_table_without_an_area_can_still_contradict_itself() -> None:
    assert [c.name for c in contradictions(FIRST_RUN)] == ["not_monotone"]


def test_rounded_figures_are_no_contradiction() -> None:
    assert contradictions([(0.1, 0.9004), (0.2, 0.9)], auroc=0.93) == []


def test_an_area_that_is_too_small_is_named_too() -> None:
    assert [c.name for c in contradictions([(0.1, 0.9)], auroc=0.7)] == ["auroc_bound"]


@settings(deadline=None, max_examples=50)
@given(score=arrays(np.int64, 40, elements=st.integers(-5, 5)))
def test_figures_of_one_curve_never_contradict_each_other(score: np.ndarray) -> None:
    made = curve(score)
    fpr_rates = [made.fpr_at_tpr(x) for x in (0.99, 0.85, 0.5)]
    tpr_rates = [made.tpr_at_fpr(f) for f in (0.5, 0.3, 0.2)]
    assert check(made, fpr_rates, tpr_rates)["passed"]


def test_a_figure_from_elsewhere_fails_the_check() -> None:
    made = curve(np.random.default_rng(1).normal(size=200))
    honest = made.fpr_at_tpr(0.85)
    assert honest.value is not None
    result = check(made, [replace(honest, value=honest.value / 2)], [])
    assert not result["passed"]
    failed = [c["name"] for c in result["checks"] if not c["passed"]]
    assert failed == ["FPR at completeness is the curve's"]


def checked(made: Curve) -> dict[str, bool]:
    fpr_rates = [made.fpr_at_tpr(x) for x in (0.9, 0.5)]
    tpr_rates = [made.tpr_at_fpr(f) for f in (0.5, 0.1)]
    return {c["name"]: c["passed"] for c in check(made, fpr_rates, tpr_rates)["checks"]}


def test_an_area_from_elsewhere_fails_the_check() -> None:
    made = curve(np.random.default_rng(1).normal(size=400))
    honest = dict(made.auroc)
    made.__dict__["auroc"] = {**honest, "value": honest["value"] + 1e-6}
    failed = [name for name, passed in checked(made).items() if not passed]
    assert failed == ["area by trapezoids equals the rank statistic"]


def test_a_completeness_from_elsewhere_fails_the_check() -> None:
    made = curve(np.random.default_rng(1).normal(size=400))
    honest = made.tpr_at_fpr(0.1)
    assert honest.value is not None
    result = check(made, [], [replace(honest, value=honest.value + 1e-3)])
    failed = [c["name"] for c in result["checks"] if not c["passed"]]
    assert failed == ["completeness at FPR is the curve's"]


def test_a_curve_whose_shares_are_wrong_fails_the_check() -> None:
    score = np.random.default_rng(1).normal(size=400)
    whole = rows(score=score, is_lens=np.arange(400) % 2 == 0)
    lenses = sample.lenses(whole)
    shares = lenses.share.copy()
    shares[100:110] = shares[100:110][::-1]  # falls, then rises
    broken = replace(lenses, shares=shares)
    made = Curve(broken, sample.negatives(whole, to_sky=True), Draws(1, 200), "t")
    assert not checked(made)["the curve never falls"]


def test_a_rate_without_a_value_is_no_disagreement() -> None:
    made = curve(np.random.default_rng(1).normal(size=400))
    rate = made.tpr_at_fpr(1e-4)
    assert rate.value is None
    assert check(made, [], [rate])["passed"]
