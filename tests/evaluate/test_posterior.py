"""Probabilities of being a lens, against simulated skies whose lenses are known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkhaloscope.evaluate import posterior
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rows import Rows, rows

Floats = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], Floats]


def mixture(n: int, r: np.random.Generator) -> Floats:
    """Negatives as networks score them: most far down, look-alikes far up."""
    kind = r.choice(3, n, p=[0.935, 0.05, 0.015])
    return r.normal(np.array([-6, -3, -1.0])[kind], np.array([2, 2.5, 2.5])[kind])


def faint_and_bright(n: int, r: np.random.Generator) -> Floats:
    """Lenses: four in ten are hardly seen."""
    kind = r.choice(2, n, p=[0.4, 0.6])
    return r.normal(np.array([-3, 5.0])[kind], np.array([2.5, 2.0])[kind])


def heavy(n: int, r: np.random.Generator) -> Floats:
    return 1.5 * r.standard_t(4, n) - 5


def skewed(n: int, r: np.random.Generator) -> Floats:
    return 8 - r.gamma(2, 2, n)


def known(
    n_negatives: int, n_lenses: int, negative: Draw, lens: Draw, r: np.random.Generator
) -> Rows:
    """A labelled set."""
    score = np.concatenate([negative(n_negatives, r), lens(n_lenses, r)])
    return rows(score=score, is_lens=np.arange(len(score)) >= n_negatives)


@pytest.mark.parametrize(("negative", "lens"), [(mixture, faint_and_bright), (heavy, skewed)])
@pytest.mark.parametrize(
    ("prevalence", "n_negatives", "n_targets"),
    [(1.3e-4, 5000, 100_000), (6e-3, 800, 4000), (6e-3, 3000, 10_000)],
)
def test_the_number_of_lenses_expected_among_the_mined_is_the_true_one(
    negative: Draw, lens: Draw, prevalence: float, n_negatives: int, n_targets: int
) -> None:
    """Of 40 skies; the top 5 % are mined, and what is a lens with p > 0.1 waits for a person."""
    expected, true, held = 0.0, 0, 0
    skies = 40
    for sky in range(skies):
        r = np.random.default_rng(sky)
        labelled = known(n_negatives, n_negatives // 3, negative, lens, r)
        n = r.binomial(n_targets, prevalence)
        pool = np.concatenate([negative(n_targets - n, r), lens(n, r)])
        top = np.argsort(-pool)[: n_targets // 20]
        found = posterior.of_scores(
            pool[top], labelled, prevalence=prevalence, draws=Draws(sky, 200)
        )
        used = found.p <= 0.1
        among = posterior.expected(found.p[used], found.low[used], found.high[used])
        n_true = int((top[used] >= n_targets - n).sum())
        expected, true = expected + among.value, true + n_true
        held += among.low <= n_true <= among.high
    assert expected == pytest.approx(true, rel=0.25)
    assert held >= 0.9 * skies


def test_forty_of_a_hundred_above_a_false_positive_rate_of_1e_4_are_lenses() -> None:
    """Prevalence 1.3e-4, completeness 50 %: 6.5e-5 of the sky are lenses kept, 1e-4 others."""
    negative = np.repeat([0.0, 1.0], [99_990, 10])
    lens = np.repeat([0.0, 1.0], [500, 500])
    score = np.concatenate([negative, lens])
    labelled = rows(score=score, is_lens=np.arange(len(score)) >= len(negative))
    found = posterior.of_scores(np.array([1.0]), labelled, prevalence=1.3e-4, draws=Draws(1, 200))
    assert found.p[0] == pytest.approx(0.39, abs=0.03)  # one more negative stands above all
    assert found.low[0] < 0.3
    assert found.high[0] > 0.5


@given(st.integers(0, 1000))
def test_a_higher_score_is_never_less_likely_a_lens(seed: int) -> None:
    r = np.random.default_rng(seed)
    labelled = known(60, 20, mixture, faint_and_bright, r)
    score = np.sort(np.concatenate([labelled.score, r.normal(0, 6, 50), [-99, 99]]))
    found = posterior.of_scores(score, labelled, prevalence=1e-3, draws=Draws(seed, 20))
    for values in (found.p, found.low, found.high):
        assert (np.diff(values) >= -1e-12).all()
    assert ((found.low <= found.p) & (found.p <= found.high)).all()


def test_nothing_is_claimed_that_the_negatives_cannot_show() -> None:
    """Every lens stands above every negative: the odds are those of one more negative there."""
    for n in (100, 1000):
        labelled = rows(score=np.arange(n + 50.0), is_lens=np.arange(n + 50) >= n)
        found = posterior.of_scores(np.array([1e9]), labelled, prevalence=1e-3, draws=Draws(1, 20))
        odds = found.p[0] / (1 - found.p[0])
        assert odds == pytest.approx(1e-3 / (1 - 1e-3) * n, rel=0.01)


def test_neither_the_order_of_rows_nor_copies_of_a_lens_change_anything() -> None:
    r = np.random.default_rng(5)
    one = known(300, 100, mixture, faint_and_bright, r)
    order = r.permutation(400)
    again = rows(score=one.score[order], is_lens=one.is_lens[order], galaxy=one.galaxy[order])
    twice = rows(
        score=np.append(one.score, one.score[300:]),
        is_lens=np.append(one.is_lens, one.is_lens[300:]),
        galaxy=np.append(one.galaxy, one.galaxy[300:]),
    )
    score = np.linspace(-10, 8, 50)
    p, shuffled, copied = (
        posterior.of_scores(score, x, prevalence=1e-3, draws=Draws(1, 50))
        for x in (one, again, twice)
    )
    np.testing.assert_allclose(shuffled.p, p.p, rtol=1e-9)
    np.testing.assert_allclose(shuffled.high, p.high, rtol=1e-5)
    np.testing.assert_allclose(copied.p[score > -5], p.p[score > -5], rtol=0.02)


def test_kinds_weigh_as_on_the_sky_and_those_that_are_not_there_do_not_count() -> None:
    score = np.array([0.0] * 90 + [5.0] * 10 + [0.0] * 50 + [5.0] * 50)
    kind = np.array(["control"] * 90 + ["ring"] * 10 + ["lens"] * 100)

    def p_of(ring: float) -> float:
        weight = np.where(kind == "ring", ring, 1.0)
        labelled = rows(score=score, is_lens=kind == "lens", kind=kind, sky_weight=weight)
        at = np.array([5.0])
        return float(posterior.of_scores(at, labelled, prevalence=0.01, draws=Draws(1, 20)).p[0])

    assert p_of(1.0) == pytest.approx(0.01 * 0.5 / (0.01 * 0.5 + 0.99 * 0.11), rel=0.05)
    assert p_of(0.1) > 4 * p_of(1.0)
    assert p_of(0.0) > p_of(0.1)


def test_no_galaxy_has_no_probability() -> None:
    labelled = rows(score=np.arange(20.0), is_lens=np.arange(20) >= 10)
    found = posterior.of_scores(np.zeros(0), labelled, prevalence=0.01, draws=Draws(1, 20))
    assert posterior.expected(found.p, found.low, found.high) == posterior.Expected(0.0, 0.0, 0.0)
