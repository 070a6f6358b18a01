import numpy as np
import pytest
from scipy import stats

from darkhaloscope.evaluate import clusters, sample
from darkhaloscope.evaluate.rows import Rows, rows


def table(n: int = 400, *, n_sources: int = 0, shift: float = 0.0, copies: int = 1) -> Rows:
    """Lenses, some of the same source, and as many negatives."""
    rng = np.random.default_rng(7)
    is_lens = np.arange(2 * n) < n
    source = np.where(is_lens, np.arange(2 * n) % max(n_sources, 1), -1)
    score = rng.normal(size=2 * n) + np.where(is_lens, 2, 0)
    score += np.where(is_lens, shift * rng.normal(size=max(n_sources, 1))[source], 0)
    return rows(
        score=np.tile(score, copies),
        is_lens=np.tile(is_lens, copies),
        galaxy=np.tile(np.arange(2 * n), copies),
        source=np.tile(source, copies) if n_sources else None,
    )


@pytest.mark.parametrize("copies", [1, 36])
def test_without_shared_sources_each_lens_is_worth_one(copies: int) -> None:
    assert clusters.worth(sample.lenses(table(copies=copies)), 2.0) == pytest.approx(400)


def test_lenses_whose_sources_are_all_alike_are_worth_their_sources() -> None:
    n, n_sources = 600, 30
    source = np.arange(n) % n_sources
    made = rows(
        score=np.concatenate([source + 0.0, [5.0]]),
        is_lens=np.arange(n + 1) < n,
        source=np.append(source, -1),
    )
    assert clusters.worth(sample.lenses(made), 15.0) == pytest.approx(n_sources)


def test_sources_that_differ_by_nothing_cost_little() -> None:
    made = table(n=4000, n_sources=200)
    assert 0.7 * 4000 < clusters.worth(sample.lenses(made), 2.0) <= 4000


def test_the_stronger_the_sources_differ_the_less_lenses_are_worth() -> None:
    worth = [
        clusters.worth(sample.lenses(table(n_sources=20, shift=s)), 2.0) for s in (0.0, 0.5, 2.0)
    ]
    assert worth[0] > worth[1] > worth[2] >= 19


def test_differing_copies_are_worth_more_than_their_hosts_and_less_than_their_rows() -> None:
    rng = np.random.default_rng(3)
    galaxy = np.repeat(np.arange(300), 4)
    score = rng.normal(size=300)[galaxy] + rng.normal(size=1200)
    made = rows(
        score=np.append(score, -9.0), is_lens=np.arange(1201) < 1200, galaxy=np.append(galaxy, 300)
    )
    assert 330 < clusters.worth(sample.lenses(made), 0.0) < 1100


def test_the_variance_of_two_crossed_clusterings_is_theirs_less_both() -> None:
    rng = np.random.default_rng(1)
    host, source = rng.integers(0, 40, 500), rng.integers(0, 200, 500)
    residual = rng.normal(size=500) / 500
    members = sample.Members(np.full(500, 1 / 500), host, source, None)
    alone = [
        sum(residual[of == c].sum() ** 2 for c in np.unique(of))
        for of in (host, source, 1000 * host + source)
    ]
    n = members.effective_sources
    few = clusters.student(n) * n / (n - 1)
    expected = max(alone[0] + few * alone[1] - alone[2], alone[0])
    assert clusters.variance(residual, members) == pytest.approx(expected)


def test_students_factor_is_that_of_its_quantiles() -> None:
    assert clusters.student(12) == pytest.approx((stats.t.ppf(0.975, 11) / 1.959964) ** 2)


def test_a_threshold_moves_until_ten_galaxies_are_on_either_side() -> None:
    side = sample.lenses(rows(score=np.arange(101.0), is_lens=np.arange(101) > 0))
    positions = [clusters.safe_position(side, t) for t in (1000.0, 50.0, -5.0)]
    assert [int(side.count_from(p)) for p in positions] == [10, 51, 90]


def test_what_is_tied_is_moved_together() -> None:
    side = sample.lenses(rows(score=np.r_[-1.0, np.zeros(50), 1.0], is_lens=np.arange(52) > 0))
    assert clusters.safe_position(side, 1.0) == 0
