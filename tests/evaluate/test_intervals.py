from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from darkhaloscope.evaluate import intervals, sample
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import rows

LENS_MEAN = 2.5


def curve(
    rng: np.random.Generator,
    n: int,
    sizes: tuple[int, ...],
    means: tuple[float, ...] = (0.0,),
    sky: tuple[float, ...] = (1.0,),
    copies: int = 1,
) -> Curve:
    """Normal scores: n lenses, and kinds of negative with their parts of the sky."""
    score = np.concatenate(
        [
            rng.normal(LENS_MEAN, 1, n),
            *(rng.normal(m, 1, k) for m, k in zip(means, sizes, strict=True)),
        ]
    )
    kind = np.repeat(["lens", *(f"k{i}" for i in range(len(sizes)))], [n, *sizes])
    weight = np.repeat([0.0, *(w / k for w, k in zip(sky, sizes, strict=True))], [n, *sizes])
    made = rows(
        score=np.tile(score, copies),
        is_lens=np.tile(kind == "lens", copies),
        galaxy=np.tile(np.arange(len(score)), copies),
        kind=np.tile(kind, copies),
        sky_weight=np.tile(weight, copies),
    )
    return Curve(sample.lenses(made), sample.negatives(made, to_sky=True), Draws(1, 200), "t")


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (41, 5000)])
def test_clopper_pearson_agrees_with_scipy(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(method="exact")
    assert intervals.clopper_pearson(k, n) == pytest.approx((expected.low, expected.high))


def test_fay_feuer_of_equal_weights_is_the_exact_poisson_interval() -> None:
    low, high = intervals.fay_feuer(np.array([0.01, 0.01]), np.array([2.0, 3.0]))
    assert low == pytest.approx(0.01 * stats.chi2.ppf(0.025, 10) / 2)
    assert high == pytest.approx(0.01 * stats.chi2.ppf(0.975, 12) / 2)


def test_drawn_binomials_are_scipys() -> None:
    u = Draws(4, 3000).square("binomial")[0]
    for n, p in [(50, 0.99), (4000, 1e-3), (1_000_000, 0.4), (7, 0.5)]:
        assert np.array_equal(intervals._binomial(u, n, p), stats.binom.ppf(u, n, p))


def test_draws_are_named_and_repeat() -> None:
    assert np.array_equal(Draws(1).square("a"), Draws(1).square("a"))
    assert not np.array_equal(Draws(1).square("a"), Draws(1).square("b"))
    assert not np.array_equal(Draws(1).square("a"), Draws(2).square("a"))


def test_the_seed_moves_the_ends_of_an_interval_by_little() -> None:
    made = curve(np.random.default_rng(3), 1000, (20000,))
    ends = np.array(
        [intervals.tpr_at_fpr(made.lenses, made.negatives, 0.1, Draws(s), "t") for s in range(40)]
    )
    width = ends[:, 1].mean() - ends[:, 0].mean()
    assert (ends.std(axis=0) < 0.01 * width).all()


def test_the_ends_are_percentiles_of_the_mixture() -> None:
    a, b = np.array([3.0, 30.0]), np.array([50.0, 40.0])
    draws = np.random.default_rng(0).beta(a, b, (400_000, 2)).ravel()
    np.testing.assert_allclose(intervals._ends(a, b), np.quantile(draws, [0.025, 0.975]), rtol=0.01)


@pytest.mark.parametrize(("a", "b"), [((0.5, 9.5), (40.0, 31.0)), ((12.5, 14.5), (5e6, 6e6))])
def test_the_ends_are_where_the_mixture_reaches_its_percentiles(a: tuple, b: tuple) -> None:
    ends = intervals._ends(np.array(a), np.array(b))
    reached = [np.mean([stats.beta.cdf(end, *ab) for ab in zip(a, b, strict=True)]) for end in ends]
    assert reached == pytest.approx([0.025, 0.975], abs=1e-5)


def test_bounding_one_in_ten_thousand_needs_36887_negatives() -> None:
    side = intervals.needed(curve(np.random.default_rng(0), 5, (100,)).negatives, 1e-4)
    assert side == (False, 36887)


def test_auroc_is_the_mann_whitney_statistic_and_its_error_delongs() -> None:
    made = curve(np.random.default_rng(2), 2000, (3000,))
    lenses, negatives = made.lenses.score, made.negatives.side.score
    value, (low, high), _ = intervals.auroc(made.lenses, made.negatives)
    expected = stats.mannwhitneyu(lenses, negatives).statistic / (2000 * 3000)
    assert value == pytest.approx(expected)
    won = (lenses[:, None] > negatives).astype(float)
    error = np.sqrt(won.mean(1).var() / 2000 + won.mean(0).var() / 3000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert low < value < high


@pytest.mark.parametrize("n", [20, 60, 400])
def test_the_share_beaten_counts_ties_by_half(n: int) -> None:
    side = curve(np.random.default_rng(2), 5, (n,)).negatives.side
    coarse = replace(side, score=np.round(side.score))
    score = np.sort(np.r_[np.round(np.random.default_rng(3).normal(size=40)), -9.0, 0.3, 9.0])
    below = (coarse.score < score[:, None]).mean(1) + (coarse.score == score[:, None]).mean(1) / 2
    assert intervals.beaten(coarse, score) == pytest.approx(below)


def test_perfect_separation_still_has_an_interval() -> None:
    made = rows(score=np.arange(30.0), is_lens=np.arange(30) >= 20)
    value, (low, high), _ = intervals.auroc(
        sample.lenses(made), sample.negatives(made, to_sky=True)
    )
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 10))


SETUPS = {
    "even": (150, (4000,), (0.0,), (1.0,), 1),
    "copied": (150, (4000,), (0.0,), (1.0,), 36),
}


def test_copies_change_no_interval() -> None:
    one, many = (curve(np.random.default_rng(5), *SETUPS[s]) for s in ("even", "copied"))
    assert one.tpr_at_fpr(0.01) == many.tpr_at_fpr(0.01)
    assert one.fpr_at_tpr(0.85) == many.fpr_at_tpr(0.85)
