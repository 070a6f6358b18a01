import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

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


def true_fpr(threshold: float, means: tuple[float, ...], sky: tuple[float, ...]) -> float:
    return sum(w * float(stats.norm.sf(threshold - m)) for m, w in zip(means, sky, strict=True))


def completeness_at(fpr: float, means: tuple[float, ...], sky: tuple[float, ...]) -> float:
    threshold = brentq(lambda t: true_fpr(t, means, sky) - fpr, -9, 9)
    return float(stats.norm.sf(threshold - LENS_MEAN))


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


def test_bounding_one_in_ten_thousand_needs_36887_negatives() -> None:
    side = intervals.needed(curve(np.random.default_rng(0), 5, (100,)).negatives, 1e-4)
    assert side == (False, 36887)


def test_auroc_is_the_mann_whitney_statistic_and_its_error_delongs() -> None:
    made = curve(np.random.default_rng(2), 80, (300,))
    lenses, negatives = made.lenses.score, made.negatives.side.score
    value, (low, high), _ = intervals.auroc(made.lenses, made.negatives)
    expected = stats.mannwhitneyu(lenses, negatives).statistic / (80 * 300)
    assert value == pytest.approx(expected)
    won = (lenses[:, None] > negatives).astype(float)
    error = np.sqrt(won.mean(1).var() / 80 + won.mean(0).var() / 300)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < value < high


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
    "weighted": (300, (3000, 1000, 500), (0.0, 1.0, 2.0), (0.97, 0.025, 0.005), 1),
}


@pytest.mark.parametrize("setup", ["even", "weighted"])
def test_intervals_cover_the_truth(setup: str) -> None:
    """Of 1,000 repeats a true coverage of 95 % gives below 93 % once in 500; of 200, once in 12."""
    n, sizes, means, sky, copies = SETUPS[setup]
    rng, repeats = np.random.default_rng(12), 1000
    true_tpr = {f: completeness_at(f, means, sky) for f in (0.1, 0.01)}
    true = {x: true_fpr(float(stats.norm.isf(x)) + LENS_MEAN, means, sky) for x in (0.85, 0.5)}
    covered = dict.fromkeys([*true_tpr, *true], 0)
    for _ in range(repeats):
        made = curve(rng, n, sizes, means, sky, copies)
        for f, truth in true_tpr.items():
            low, high = intervals.tpr_at_fpr(made.lenses, made.negatives, f, made.draws, "t")
            covered[f] += low <= truth <= high
        for x, truth in true.items():
            low, high = intervals.fpr_at_tpr(made.lenses, made.negatives, x, made.draws, "t")
            covered[x] += low <= truth <= high
    assert min(covered.values()) >= 0.93 * repeats, covered
    assert max(covered.values()) <= 0.975 * repeats, covered


def test_clopper_pearson_at_a_threshold_of_the_same_table_would_not_cover() -> None:
    fpr, truth = 1e-3, float(stats.norm.sf(stats.norm.isf(1e-3) - LENS_MEAN))
    rng, covered = np.random.default_rng(13), 0
    for _ in range(100):
        made = curve(rng, 1000, (4000,))
        low, high = intervals.fixed_tpr(made.lenses, made.threshold_at_fpr(fpr))
        covered += low <= truth <= high
    assert covered < 60


def test_copies_change_no_interval() -> None:
    one, many = (curve(np.random.default_rng(5), *SETUPS[s]) for s in ("even", "copied"))
    assert one.tpr_at_fpr(0.01) == many.tpr_at_fpr(0.01)
    assert one.fpr_at_tpr(0.85) == many.fpr_at_tpr(0.85)
