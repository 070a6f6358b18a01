"""Cells and marginals against a sky on which the completeness is known."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from selection_builders import EDGES, LEAST, USABLE, Truth, targets, truth

from darkhaloscope.core import keys
from darkhaloscope.evaluate import selection_cells
from darkhaloscope.evaluate.intervals import clopper_pearson
from darkhaloscope.evaluate.selection_cells import AXES, Injections, Share, combined, share

SEEDS = range(1, 17)


def in_cell(made: Truth, place: tuple[int, ...]) -> np.ndarray:
    rows = np.ones(len(made.lenses), bool)
    for axis, i in zip(AXES, place, strict=True):
        values = made.lenses.at[axis]
        rows &= (values >= EDGES[axis][i]) & (values < EDGES[axis][i + 1])
    return rows


def true_shares(made: Truth, rows: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    target = np.average(made.p_target[rows], weights=weight[rows])
    both = np.average((made.p_target * made.p_found)[rows], weights=weight[rows])
    return {"target": target, "score": both / target, "completeness": both * USABLE}


def test_intervals_of_cells_cover_the_truth() -> None:
    covered: dict[str, list[bool]] = {"target": [], "score": [], "completeness": []}
    for seed in SEEDS:
        made = truth(seed=seed)
        found = selection_cells.cells(made.lenses, targets(seed=seed), EDGES, LEAST)
        places = product(*[range(len(EDGES[axis]) - 1) for axis in AXES])
        one = np.ones(len(made.lenses))
        for record, place in zip(found, places, strict=True):
            if record["is_enough"]:
                for name, value in true_shares(made, in_cell(made, place), one).items():
                    covered[name].append(record[name]["low"] <= value <= record[name]["high"])
    assert len(covered["completeness"]) > 700
    for name, hits in covered.items():
        assert 0.93 <= np.mean(hits) <= 0.99, (name, np.mean(hits))


def test_intervals_that_ignore_clusters_would_not_cover() -> None:
    """The test above can fail: sources that decide much, and an interval that knows of none."""
    covered, known = [], []
    for seed in range(40):
        made = truth(4000, seed=seed, copies=4, n_sources=100, spread=0.9)
        rows = np.ones(4000, bool)
        value = true_shares(made, rows, np.ones(4000))["target"]
        k = int(made.lenses.is_target.sum())
        low, high = clopper_pearson(k, 4000)
        covered.append(low <= value <= high)
        one = np.ones(4000)
        by = {"host": made.lenses.host, "source": made.lenses.source}
        found = share(made.lenses.is_target, **by, once=one, weight=one)
        known.append(found.low <= value <= found.high)
    assert np.mean(covered) < 0.7
    assert np.mean(known) >= 0.9


def test_marginals_cover_the_weighted_truth() -> None:
    covered = []
    for seed in SEEDS:
        made = truth(seed=seed)
        weight = made.lenses.weight
        found = selection_cells.marginals(made.lenses, targets(seed=seed), EDGES, LEAST)
        assert found["is_weighted"]
        whole = true_shares(made, np.ones(len(made.lenses), bool), weight)["completeness"]
        total = found["total"]["completeness"]
        assert total["low"] <= whole <= total["high"]
        for axis in ("theta_e", "src_mag"):
            for record in found[axis]:
                values = made.lenses.at[axis]
                rows = (values >= record[f"{axis}_low"]) & (values < record[f"{axis}_high"])
                value = true_shares(made, rows, weight)["completeness"]
                ends = record["completeness"]
                covered.append(ends["low"] <= value <= ends["high"])
    assert np.mean(covered) >= 0.93


def test_without_weights_a_host_counts_once() -> None:
    at = {axis: np.full(4, EDGES[axis][0]) for axis in AXES}
    three_of_one = Injections(
        at, np.array([7, 7, 7, 8]), np.arange(4), np.ones(4, bool), np.arange(4) < 3, None
    )
    found = selection_cells.marginals(three_of_one, targets(), EDGES, LEAST)
    assert not found["is_weighted"]
    assert (found["total"]["score"]["n"], found["total"]["score"]["k"]) == (2, 1)
    assert found["total"]["score"]["value"] == pytest.approx(0.5)


def test_a_share_of_unclustered_rows_is_clopper_and_pearsons() -> None:
    n = 900
    hit = keys.uniform(np.arange(n), seed=1, stream="hit") < 0.3
    alone, one = np.arange(n), np.ones(n)
    found = share(hit, host=alone, source=alone, once=one, weight=one)
    k = int(hit.sum())
    exact = stats.binomtest(k, n).proportion_ci(method="exact")
    assert (found.k, found.n) == (k, n)
    assert found.low == pytest.approx(exact.low, rel=0.01)
    assert found.high == pytest.approx(exact.high, rel=0.01)


@pytest.mark.parametrize("hits", [0, 200])
def test_a_share_of_none_or_all_has_an_interval(hits: int) -> None:
    n = 200
    alone, one = np.arange(n), np.ones(n)
    found = share(np.arange(n) < hits, host=alone, source=alone, once=one, weight=one)
    low, high = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert (found.value, found.low, found.high) == pytest.approx((hits / n, low, high))


@pytest.mark.parametrize(
    ("counts", "sizes"), [((180, 930, 70), (200, 1000, 180)), ((30, 40, 29), (30, 40, 60))]
)
def test_the_interval_of_a_product_is_that_of_drawn_factors(
    counts: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    factors = [
        Share(n, k, k / n, *clopper_pearson(k, n), n) for k, n in zip(counts, sizes, strict=True)
    ]
    found = combined(factors)
    rng = np.random.default_rng(3)
    low, high = np.ones(400_000), np.ones(400_000)
    for k, n in zip(counts, sizes, strict=True):
        low *= rng.beta(k, n - k + 1, len(low))
        high *= rng.beta(k + 1, n - k, len(high)) if k < n else 1
    assert found["value"] == pytest.approx(np.prod([s.value for s in factors]))
    assert found["low"] == pytest.approx(np.quantile(low, 0.025), abs=2e-3)
    assert found["high"] == pytest.approx(np.quantile(high, 0.975), abs=2e-3)


def test_the_interval_of_a_product_covers_it() -> None:
    p, n = np.array([0.93, 0.95, 0.4]), np.array([300, 2000, 280])
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(2000):
        k = rng.binomial(n, p)
        factors = [Share(m, j, j / m, *clopper_pearson(j, m), m) for j, m in zip(k, n, strict=True)]
        found = combined(factors)
        covered.append(found["low"] <= np.prod(p) <= found["high"])
    assert 0.93 <= np.mean(covered) <= 0.98


def test_a_product_of_one_factor_is_that_factor() -> None:
    one, sure = Share(50, 9, 0.18, *clopper_pearson(9, 50), 50), Share(9, 9, 1.0, 1, 1, 1e12)
    assert combined([one])["low"] == pytest.approx(one.low)
    assert combined([one])["high"] == pytest.approx(one.high)
    assert combined([one, sure])["low"] == pytest.approx(one.low, rel=1e-6)
    assert combined([one, Share(0, 0, None, None, None, 0)])["value"] is None


def test_every_cell_is_written_and_says_whether_it_is_enough() -> None:
    made = truth(2000)
    found = selection_cells.cells(made.lenses, targets(), EDGES, LEAST)
    assert len(found) == 4 * 4 * 2 * 2
    assert not any(record["is_enough"] for record in found)
    assert sum(record["n_injections"] for record in found) == 2000
    none = selection_cells.cells(made.lenses.part(np.zeros(2000, bool)), targets(), EDGES, LEAST)
    assert all(record["completeness"]["value"] is None for record in none)
    assert all(record["n_injections"] == 0 for record in none)


def test_a_cell_holds_its_lower_edge_and_not_its_upper() -> None:
    at = {axis: np.array([EDGES[axis][1], EDGES[axis][-1]]) for axis in AXES}
    two = Injections(at, np.arange(2), np.arange(2), np.ones(2, bool), np.ones(2, bool), None)
    found = [r for r in selection_cells.cells(two, targets(), EDGES, LEAST) if r["n_injections"]]
    assert [(r["theta_e_low"], r["src_mag_low"]) for r in found] == [(0.9, 22.0)]


def test_usable_cutouts_come_in_bricks_and_unknown_seeing_counts_in_the_whole() -> None:
    psf, depth = np.full(200, 0.9), np.full(200, 24.0)
    psf[100:] = np.nan
    is_usable = np.arange(200) < 100
    found = selection_cells.usable(psf, depth, is_usable, np.arange(200) // 20, EDGES)
    assert found.at(0, 0)[0].value == 1
    assert found.overall.value == pytest.approx(0.5)
    # ten bricks that are usable or not as a whole tell no more than ten galaxies
    assert found.overall.effective_n <= 10
    share_of_all, is_overall = found.at(1, 1)
    assert is_overall
    assert share_of_all == found.overall
