import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from darkhaloscope.evaluate import rates, sample
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import rows

N = 40
COARSE = arrays(np.int64, N, elements=st.integers(-4, 4))  # many ties


def curve(score: np.ndarray, is_lens: np.ndarray, galaxy: np.ndarray | None = None) -> Curve:
    made = rows(score=np.asarray(score, np.float64), is_lens=is_lens, galaxy=galaxy)
    return Curve(sample.lenses(made), sample.negatives(made, to_sky=True), Draws(1, 200), "t")


def of(score: np.ndarray) -> Curve:
    return curve(score, np.arange(N) % 2 == 0)


def figures(made: Curve) -> list[tuple[object, ...]]:
    """Every rate without its threshold, which alone may follow the scale of the scores."""
    found = [made.fpr_at_tpr(x) for x in (0.9, 0.5)]
    found += [made.tpr_at_fpr(f) for f in (0.5, 0.3)] + [made.tpr_with_false_positives(2)]
    return [(r.value, r.low, r.high, r.k, r.n, r.state) for r in found]


def test_a_score_at_the_threshold_is_kept() -> None:
    made = curve(np.array([2.0, 1.0, 1.0, 0.0]), np.array([1, 1, 0, 0], bool))
    rate = made.fpr_at_tpr(0.6)
    assert (rate.threshold, rate.value, rate.k, rate.n) == (1.0, 0.5, 1, 2)


def test_what_is_tied_with_a_negative_is_dropped_with_it() -> None:
    is_lens = np.arange(44) < 4
    made = curve(np.where(is_lens, 5.0, np.where(np.arange(44) < 8, 5.0, 0.0)), is_lens)
    rate = made.tpr_at_fpr(0.0999)
    assert (rate.value, rate.threshold) == (0.0, None)


def test_completeness_at_fpr_uses_the_lowest_threshold_allowed() -> None:
    score = np.r_[np.array([9.0, 5.0, 3.5, -1.0]), np.arange(100) / 25.0]
    rate = curve(score, np.arange(104) < 4).tpr_at_fpr(0.1)
    assert (rate.threshold, rate.value, rate.k) == (3.6, 0.5, 2)


def test_the_curve_has_both_corners_and_rises() -> None:
    thresholds, fpr, tpr = of(np.arange(N)).points
    assert np.isnan(thresholds[0])
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()


@pytest.mark.parametrize(
    ("n", "state", "note"),
    [
        (100, "not_resolvable", "not resolvable with 100 negatives: bounding it needs 3,688"),
        (4000, "bounded", ""),
        (10_000, "measured", ""),
    ],
)
def test_the_three_states_follow_the_number_of_negatives(n: int, state: str, note: str) -> None:
    rate = curve(np.arange(n + 5.0), np.arange(n + 5) >= n).tpr_at_fpr(1e-3)
    assert (rate.state, rate.note, rate.resolvable) == (state, note, state != "not_resolvable")
    assert (rate.value is None) == (state == "not_resolvable")


def test_copies_resolve_no_more_than_their_galaxies() -> None:
    score = np.tile(np.arange(105.0), 50)
    made = curve(score, score >= 100, score.astype(np.int64))
    assert made.tpr_at_fpr(1e-3).state == "not_resolvable"


def test_no_false_positive_is_bounded_never_certain() -> None:
    made = curve(np.arange(1005.0), np.arange(1005) >= 1000)
    rate = made.fpr_at_tpr(0.5)
    assert (rate.value, rate.low, rate.state) == (0.0, 0.0, "bounded")
    assert rate.high is not None
    assert rate.high > 1e-3


def test_ten_false_positives_allow_more_than_none() -> None:
    score = np.r_[np.arange(20.0) + 90, np.arange(100.0)]
    made = curve(score, np.arange(120) < 20)
    none, ten = made.tpr_with_false_positives(0), made.tpr_with_false_positives(10)
    assert (none.k, ten.k, none.at, ten.at) == (10, 20, 0.0, 0.1)
    assert (none.state, ten.state) == ("bounded", "measured")


def test_constant_scores_find_nothing() -> None:
    made = of(np.zeros(N))
    assert made.auroc["value"] == pytest.approx(0.5)
    assert made.tpr_at_fpr(0.5).value == 0
    assert made.fpr_at_tpr(0.5).value == 1


def test_infinite_scores_stand_at_the_ends() -> None:
    score = np.r_[np.inf, 1.0, np.inf, np.full(99, -np.inf)]
    made = curve(score, np.arange(102) < 2)
    assert made.tpr_at_fpr(0.05).value == 1.0
    assert made.tpr_with_false_positives(0).value == 0.0


def test_fixed_thresholds_have_exact_intervals() -> None:
    made = of(np.arange(N))
    tpr = rates.tpr_at_fixed(made, 20.0, at=0.5)
    fpr = rates.fpr_at_fixed(made, 20.0, at=0.5)
    assert (tpr.k, tpr.n, tpr.value, fpr.k) == (10, 20, 0.5, 10)
    assert tpr.low == pytest.approx(0.27196, abs=1e-5)
    assert "Clopper-Pearson" in tpr.method


@settings(deadline=None, max_examples=40)
@given(score=COARSE, seed=st.integers(0, 2**31))
def test_the_order_of_the_rows_does_not_matter(score: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(N)
    is_lens = np.arange(N) % 2 == 0
    assert figures(curve(score[order], is_lens[order])) == figures(curve(score, is_lens))


@settings(deadline=None, max_examples=40)
@given(score=COARSE)
def test_a_monotone_change_of_the_scores_changes_no_rate(score: np.ndarray) -> None:
    assert figures(of(np.exp(score / 3.0))) == figures(of(score))


@settings(deadline=None, max_examples=40)
@given(score=COARSE, copies=st.integers(2, 5))
def test_identical_copies_change_no_rate(score: np.ndarray, copies: int) -> None:
    is_lens, galaxy = np.arange(N) % 2 == 0, np.arange(N)
    made = curve(np.tile(score, copies), np.tile(is_lens, copies), np.tile(galaxy, copies))
    for got, expected in zip(figures(made), figures(of(score)), strict=True):
        assert got[:4] == pytest.approx(expected[:4])
        assert got[4:] == expected[4:]


@settings(deadline=None, max_examples=40)
@given(score=COARSE, x=st.floats(0.05, 1), y=st.floats(0.2, 1))
def test_rates_agree_with_a_walk_along_every_threshold(
    score: np.ndarray, x: float, y: float
) -> None:
    made = of(score)
    is_lens = np.arange(N) % 2 == 0
    walk = [(0.0, 0.0)] + [
        (float((score[~is_lens] >= t).mean()), float((score[is_lens] >= t).mean()))
        for t in np.unique(score)[::-1]
    ]
    assert made.fpr_at_tpr(x).value == min(f for f, t in walk if t >= x - 1e-12)
    assert made.tpr_at_fpr(y).value == max(t for f, t in walk if f <= y + 1e-12)


@settings(deadline=None, max_examples=40)
@given(score=COARSE)
def test_every_interval_holds_its_value(score: np.ndarray) -> None:
    for value, low, high, *_ in figures(of(score)):
        if value is not None:
            assert 0 <= low <= value <= high <= 1
