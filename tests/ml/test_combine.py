"""What a committee can bring, and that stacking gives nothing away: simulations on arrays."""

import numpy as np
import pytest

from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import combine


def drawn(
    n_negatives: int, n_lenses: int, own: list[float], *, common: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of members that share what is hard (`common`) and have noise of their own."""
    rng = np.random.default_rng(seed)
    is_lens = np.arange(n_negatives + n_lenses) < n_lenses
    signal = np.where(is_lens, rng.normal(4, 1.5, len(is_lens)), 0.0)
    signal += common * rng.standard_normal(len(is_lens))
    return signal[:, None] + rng.standard_normal((len(is_lens), len(own))) * own, is_lens


def completeness(score: np.ndarray, is_lens: np.ndarray, fpr: float) -> float:
    threshold = np.quantile(score[~is_lens], 1 - fpr)
    return float((score[is_lens] > threshold).mean())


def fitted(x: np.ndarray, is_lens: np.ndarray, how: str = "stack") -> combine.Combined:
    return combine.fit(x, is_lens, np.ones(len(x)), np.arange(len(x)), how=how)  # type: ignore[arg-type]


def test_members_with_noise_of_their_own_cut_the_misses_by_a_third() -> None:
    """Five whose noise is mostly their own: completeness 59 % to 84 % at an FPR of 1e-3 (sim)."""
    calib, truth = drawn(20_000, 1000, [1.0] * 5)
    test, is_lens = drawn(200_000, 10_000, [1.0] * 5, seed=1)
    best = max(completeness(test[:, j], is_lens, 1e-3) for j in range(5))
    for how in ("mean", "stack"):
        found = completeness(fitted(calib, truth, how).scores(test), is_lens, 1e-3)
        assert 1 - found < 0.7 * (1 - best)


def test_members_that_fail_alike_bring_nothing() -> None:
    test, is_lens = drawn(100_000, 5000, [0.05] * 5, common=1.2, seed=1)
    best = max(completeness(test[:, j], is_lens, 1e-3) for j in range(5))
    found = completeness(test.mean(axis=1), is_lens, 1e-3)
    assert found == pytest.approx(best, abs=0.01)


def test_stacking_beats_the_mean_where_members_differ_and_is_near_the_best_linear_rule() -> None:
    own = [0.5, 1.0, 3.0]
    calib, truth = drawn(20_000, 1000, own)
    test, is_lens = drawn(200_000, 10_000, own, seed=1)
    stacked = completeness(fitted(calib, truth).scores(test), is_lens, 1e-3)
    mean = completeness(test.mean(axis=1), is_lens, 1e-3)
    best = completeness(test @ (1 / np.square(own)), is_lens, 1e-3)  # by inverse variance
    assert stacked > mean + 0.1
    assert stacked == pytest.approx(best, abs=0.02)


def test_with_few_lenses_stacking_is_the_mean_within_noise() -> None:
    """Forty lenses and six members: averaged over 20 draws it loses under a point to the mean."""
    test, is_lens = drawn(100_000, 5000, [1.0] * 6, seed=99)
    mean = completeness(test.mean(axis=1), is_lens, 1e-3)
    lost = []
    for seed in range(20):
        calib, truth = drawn(2000, 40, [1.0] * 6, seed=seed)
        lost.append(mean - completeness(fitted(calib, truth).scores(test), is_lens, 1e-3))
    assert np.mean(lost) < 0.01


def test_out_of_fold_values_know_nothing_of_their_own_truth() -> None:
    x, is_lens = drawn(600, 300, [1.0, 2.0])
    groups = np.arange(900) % 30
    made = combine.fit(x, is_lens, np.ones(900), groups)
    mine = made.fold == 0
    weight = np.where(mine, 7.0, 1.0)
    changed = combine.fit(np.where(mine[:, None], x[::-1], x), is_lens, weight, groups)
    other = combine.logistic.fit(x[~mine], is_lens[~mine], np.ones((~mine).sum()), share=0.01,
                                 alike=1.0)  # fmt: skip
    assert made.out_of_fold[mine] == pytest.approx(other(x[mine]))
    assert changed.out_of_fold[mine] == pytest.approx(other(x[::-1][mine]))


def test_out_of_fold_scores_of_noise_find_nothing() -> None:
    """Twenty members of pure noise: only the fit to all finds lenses, in its own rows."""
    rng = np.random.default_rng(1)
    x, is_lens = rng.standard_normal((400, 20)), np.arange(400) < 60

    def area(score: np.ndarray) -> float:
        return float((score[is_lens][:, None] > score[~is_lens]).mean())

    made = combine.fit(x, is_lens, np.ones(400), np.arange(400))
    assert area(made.scores(x)) > 0.6
    assert area(made.out_of_fold) < 0.58


def test_a_region_is_never_torn_apart_and_folds_are_alike() -> None:
    galaxy, region = np.arange(6000) // 2, (np.arange(6000) // 2) % 40
    is_lens = np.arange(6000) % 5 == 0
    groups = combine.groups_of(galaxy, region, folds=5)
    fold = combine.folds_of(groups, is_lens, folds=5, seed=1)
    assert all(len(np.unique(fold[region == r])) == 1 for r in range(40))
    assert set(np.bincount(fold)) == {1200}


@pytest.mark.parametrize("region", [None, np.arange(60) % 3, np.where(np.arange(60) < 9, -1, 2)])
def test_without_enough_regions_galaxies_are_dealt(region: np.ndarray | None) -> None:
    galaxy = np.arange(60) // 3 + 10**12
    groups = combine.groups_of(galaxy, region, folds=5)
    assert len(np.unique(groups)) == 20
    fold = combine.folds_of(groups, np.arange(60) < 30, folds=5, seed=0)
    assert all(len(np.unique(fold[galaxy == g])) == 1 for g in np.unique(galaxy))


def test_a_fold_that_holds_every_lens_is_a_fault() -> None:
    x, is_lens = drawn(20, 2, [1.0])
    with pytest.raises(DataError, match="no lenses of any weight are left"):
        combine.fit(x, is_lens, np.ones(22), np.where(is_lens, 0, np.arange(22)))


def test_the_scale_of_a_member_is_nothing_to_stacking_nor_to_disagreement() -> None:
    x, is_lens = drawn(3000, 300, [1.0, 1.5])
    one, other = fitted(x, is_lens), fitted(x * [1.0, 20.0] + [0.0, 5.0], is_lens)
    assert other.scores(x * [1.0, 20.0] + [0.0, 5.0]) == pytest.approx(one.scores(x), abs=0.01)
    apart = other.disagreement(x * [1.0, 20.0] + [0.0, 5.0])
    assert apart == pytest.approx(one.disagreement(x), abs=0.01)


def test_disagreement_is_the_spread_of_calibrated_logits() -> None:
    x, is_lens = drawn(3000, 300, [1.0, 1.0, 1.0])
    made = fitted(x, is_lens, "mean")
    llr = np.stack([line(x[:, [j]]) for j, line in enumerate(made.own)], axis=1)
    assert made.disagreement(x) == pytest.approx(llr.std(axis=1))
    assert fitted(x[:, :1], is_lens).disagreement(x[:, :1]).max() == 0


def test_the_order_of_rows_moves_no_row_to_another_fold() -> None:
    x, is_lens = drawn(300, 100, [1.0, 2.0])
    groups = np.arange(400) % 50
    order = np.random.default_rng(0).permutation(400)
    one = combine.fit(x, is_lens, np.ones(400), groups)
    other = combine.fit(x[order], is_lens[order], np.ones(400), groups[order])
    assert (other.fold == one.fold[order]).all()
    assert other.out_of_fold == pytest.approx(one.out_of_fold[order], abs=1e-4)
