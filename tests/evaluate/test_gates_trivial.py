"""Trivial models find planted leaks and no others; areas and intervals are the textbooks'."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from darkhaloscope.evaluate import gates_features as features
from darkhaloscope.evaluate import gates_trivial as trivial
from darkhaloscope.evaluate.gates_apart import Classes, Judge
from darkhaloscope.evaluate.gates_trivial import Plan, Sides

PLAN = Plan(folds=5, draws=200, seed=3)


def sides(n: int, *, regions: int = 12, seed: int = 1) -> Sides:
    rng = np.random.default_rng(seed)
    is_lens = np.arange(n) % 2 == 0
    return Sides(is_lens, np.arange(n) // 2, rng.integers(0, regions, n), np.ones(n))


def test_the_area_is_sklearns_with_ties_and_weights() -> None:
    rng = np.random.default_rng(2)
    rows = sides(400)
    scores = np.round(rng.normal(rows.is_lens * 0.7, 1.0), 1)
    weight = rng.uniform(0.1, 2, 400)
    weighted = Sides(rows.is_lens, rows.galaxy, rows.region, weight)
    expected = roc_auc_score(rows.is_lens, scores)
    assert trivial.auroc(scores, rows) == pytest.approx(expected, abs=1e-12)
    expected = roc_auc_score(rows.is_lens, scores, sample_weight=weight)
    assert trivial.auroc(scores, weighted) == pytest.approx(expected, abs=1e-12)


def test_a_region_is_held_back_whole_and_folds_are_about_equal() -> None:
    rows = sides(3000, regions=23)
    fold = trivial.folds(rows, PLAN)
    assert all(len(np.unique(fold[rows.region == r])) == 1 for r in np.unique(rows.region))
    counts = np.bincount(fold)
    assert len(counts) == 5
    assert counts.max() < 1.3 * counts.min()  # 4 or 5 regions each


def test_with_few_regions_galaxies_are_held_back_whole() -> None:
    rows = sides(1000, regions=2)
    fold = trivial.folds(rows, PLAN)
    assert all(len(np.unique(fold[rows.galaxy == g])) == 1 for g in np.unique(rows.galaxy))
    assert len(np.unique(fold)) == 5


@pytest.mark.parametrize("are_pixels", [False, True])
def test_noise_is_not_told_apart_and_a_planted_leak_is(are_pixels: bool) -> None:
    rng = np.random.default_rng(5)
    rows = sides(2000)
    noise = rng.normal(size=(2000, 20))
    _, scores = trivial.held_out(noise, rows, PLAN, are_pixels=are_pixels)
    none = trivial.area(scores, rows, PLAN, "noise")
    assert none.value == pytest.approx(0.5, abs=0.03)
    noise[rows.is_lens, 7] += 1.0  # two normals 1 sigma apart: an area of 0.76
    _, scores = trivial.held_out(noise, rows, PLAN, are_pixels=are_pixels)
    leak = trivial.area(scores, rows, PLAN, "leak")
    assert leak.value == pytest.approx(0.76, abs=0.03)
    assert leak.low > 0.7


def test_a_leak_of_two_features_together_is_seen_by_trees_and_not_by_stumps() -> None:
    rng = np.random.default_rng(6)
    rows = sides(2000)
    values = rng.normal(size=(2000, 4))
    sign = np.where(rows.is_lens, 1, -1)
    values[:, 1] = np.abs(values[:, 1]) * np.sign(values[:, 0]) * sign  # only the product tells
    name, scores = trivial.held_out(values, rows, PLAN)
    assert name == "boosted trees"
    assert trivial.auroc(scores, rows) > 0.95
    _, scores = trivial.held_out(values, rows, PLAN, are_pixels=True)
    assert trivial.auroc(scores, rows) < 0.56


def test_scores_belong_to_rows_that_the_model_has_not_seen() -> None:
    """A feature that names the galaxy would give 1.0 if a fold had seen it."""
    rng = np.random.default_rng(7)
    n = 1200
    is_lens = rng.uniform(size=n) < 0.5
    region = np.arange(n) % 15
    rows = Sides(is_lens, np.arange(n), region, np.ones(n))
    of_region = rng.uniform(size=15)[region]  # known of each region, the same for both classes
    _, scores = trivial.held_out(np.stack([of_region, rng.normal(size=n)], 1), rows, PLAN)
    assert abs(trivial.auroc(scores, rows) - 0.5) < 0.06


def test_the_interval_covers_the_true_area() -> None:
    """100 samples of known area 0.66 (normals 0.583 sigma apart), drawn again by galaxy."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = sides(400, regions=1, seed=seed)
        scores = rng.normal(rows.is_lens * 0.5833, 1.0)
        found = trivial.area(scores, rows, Plan(5, 200, seed), "coverage")
        covered += found.low <= 0.66 <= found.high
    assert 88 <= covered <= 99


def test_identical_classes_have_an_area_of_a_half_exactly() -> None:
    rows = sides(200)
    found = trivial.area(np.repeat(np.arange(100.0), 2), rows, PLAN, "twins")
    assert found.value == 0.5


def test_the_same_table_gives_the_same_interval() -> None:
    rows, scores = sides(300), np.random.default_rng(0).normal(size=300)
    one, two = (trivial.area(scores, rows, PLAN, "x") for _ in range(2))
    assert one == two


def judge(rows: Sides, least: int = 20) -> Judge:
    return Judge(rows.galaxy, rows.region, PLAN, least, (0.0, 1.0))


def test_a_gate_with_too_few_galaxies_fails_and_says_how_many_it_needs() -> None:
    rows = sides(60)
    classes = Classes(np.arange(0, 60, 2), np.arange(1, 60, 2), "companion", is_paired=True)
    found = judge(rows, 100).rows("core_only", np.zeros((60, 2)), classes, limit_high=0.6)
    assert [r.passed for r in found] == [False]
    assert "30 galaxies of lenses or companion; gates.least_galaxies is 100" in found[0].reason


def test_strata_restrict_both_classes_by_the_lenss_resolution() -> None:
    rng = np.random.default_rng(8)
    rows = sides(800)
    leak = rng.normal(size=(800, 3))
    ratio = np.where(np.arange(800) < 400, 0.5, 2.0)
    leak[rows.is_lens & (ratio > 1), 0] += 3
    classes = Classes(np.arange(0, 800, 2), np.arange(1, 800, 2), "companion", is_paired=True)
    hidden = np.where(rows.is_lens, ratio, np.nan)  # a control has no theta_E of its own
    found = judge(rows).rows("total_flux", leak, classes, limit_high=0.6, ratio=hidden)
    assert [r.stratum for r in found] == ["all", "theta_e_over_fwhm_r:0-1",
                                          "theta_e_over_fwhm_r:1-"]  # fmt: skip
    assert [r.passed for r in found] == [False, True, False]
    assert found[1].detail == "200 lenses and 200 companion on 200 galaxies"


def moffat(fwhm_px: float, beta: float, size: int = 64) -> np.ndarray:
    alpha = fwhm_px / (2 * np.sqrt(2 ** (1 / beta) - 1))
    light = (1 + (features.radius(size) / alpha) ** 2) ** -beta
    return np.asarray(light / light.sum(), np.float32)


def test_what_is_finer_than_the_seeing_holds_none_of_a_stars_light() -> None:
    star = moffat(3.7, 2.9)
    fine = features._filtered(features._filtered(star).swapaxes(-1, -2))
    assert np.abs(fine).sum() < 3e-3
    assert np.abs(fine).max() < 3e-3 * star.max()


def test_the_checkerboard_keeps_the_variance_of_white_noise() -> None:
    noise = np.random.default_rng(1).normal(size=(4, 3, 64, 64)).astype(np.float32)
    fine = features._filtered(features._filtered(noise).swapaxes(-1, -2))
    assert fine.var() == pytest.approx(1, abs=0.03)


def test_a_checkerboard_added_to_noise_changes_its_texture_and_nothing_else() -> None:
    noise = np.random.default_rng(1).normal(size=(40, 1, 64, 64)).astype(np.float32)
    board = (-1.0) ** np.add.outer(np.arange(64), np.arange(64)).astype(np.float32)
    changed = noise + 0.2 * board
    z = [(f(changed) - f(noise)).mean(0) / f(noise).std(0)
         for f in (features.texture, features.annulus_colour, features.total_flux)]  # fmt: skip
    assert np.abs(z[0]).max() > 5
    assert max(np.abs(z[1]).max(), np.abs(z[2]).max()) < 0.2


def test_fluxes_are_sums_and_profiles_are_means() -> None:
    flat = np.full((2, 3, 64, 64), 0.5, np.float32)
    area = (features.radius(64) < 28).sum()
    np.testing.assert_allclose(np.sinh(features.total_flux(flat)), 0.5 * area, rtol=1e-5)
    np.testing.assert_allclose(np.sinh(features.radial_profile(flat)), 0.5, rtol=1e-5)
    np.testing.assert_allclose(features.annulus_colour(flat)[:, 18:], 0, atol=1e-5)
    np.testing.assert_allclose(np.sinh(features.core(flat)), 0.5, rtol=1e-6)
    assert features.core(flat).shape == (2, 300)


def test_the_skys_statistics_do_not_see_an_arc() -> None:
    stamps = np.random.default_rng(1).normal(size=(5, 3, 64, 64)).astype(np.float32)
    arc = np.where(np.abs(features.radius(64) - 10) < 2, 9.0, 0.0).astype(np.float32)
    np.testing.assert_array_equal(features.sky_stats(stamps), features.sky_stats(stamps + arc))
