"""The audit's intervals hold the truth as often as they say, by simulation."""

import numpy as np
import pytest
from scipy import stats

from darkhaloscope.evaluate import audit_figures, intervals
from darkhaloscope.evaluate.audit_figures import Draws, Figure, Two

TABLES = 400
LEAST = 0.95 - 2.33 * np.sqrt(0.95 * 0.05 / TABLES)  # one table in a hundred would be below it


def coverage(found: list[Figure], truth: float) -> float:
    return float(np.mean([f.low <= truth <= f.high for f in found]))


def two(rng: np.random.Generator, n: int, *, moved: float, shared: int, copies: int) -> Two:
    """Normal values of two samples; `shared` galaxies are in both, and rows of one are alike."""

    def sample(mean: float, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = np.repeat(own, copies) + rng.normal(0, 0.6, n * copies)
        return mean + each, np.repeat(np.arange(n), copies)

    one, other = rng.normal(0, 0.8, n), rng.normal(0, 0.8, n)
    other[:shared] = one[:shared]
    first, galaxy = sample(moved, one)
    second, others = sample(0.0, other)
    others[others >= shared] += n
    return Two.of(first, galaxy, second, others)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "moved", "shared", "copies"),
    [(60, 0.0, 0, 1), (60, 0.5, 40, 1), (150, 0.3, 0, 3), (150, 0.0, 100, 2)],
)
def test_a_shift_and_a_distance_hold_the_truth_with_shared_galaxies_and_copies(
    n: int, moved: float, shared: int, copies: int
) -> None:
    rng = np.random.default_rng(n + shared)
    tables = [two(rng, n, moved=moved, shared=shared, copies=copies) for _ in range(TABLES)]
    draws = [Draws(seed, 300) for seed in range(TABLES)]
    shifts = [audit_figures.shift(t, d, "x") for t, d in zip(tables, draws, strict=True)]
    apart = [audit_figures.distance(t, d, "x") for t, d in zip(tables, draws, strict=True)]
    assert LEAST <= coverage(shifts, moved) <= 0.985
    assert coverage(apart, 2 * stats.norm.cdf(moved / 2) - 1) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize(("part", "whole"), [(0.02, 0.6), (0.2, 0.5), (0.5, 0.55)])
def test_a_ratio_of_shares_holds_the_truth(part: float, whole: float) -> None:
    rng = np.random.default_rng(12)

    def share(p: float, n: int) -> Figure:
        k = int(rng.binomial(n, p))
        return Figure(k / n, *intervals.clopper_pearson(k, n))

    found = [audit_figures.ratio(share(part, 90), share(whole, 200)) for _ in range(5 * TABLES)]
    assert coverage(found, part / whole) >= 0.95 - 0.005


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 31, 200])
def test_means_and_medians_hold_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    steps = rng.exponential(1.0, (5 * TABLES, n))
    medians = [audit_figures.median(row) for row in steps]
    assert coverage(medians, np.log(2)) >= 0.95 - 0.01
    means = [audit_figures.mean(row) for row in rng.normal(0.4, 2.0, (5 * TABLES, n))]
    assert coverage(means, 0.4) == pytest.approx(0.95, abs=0.015)
