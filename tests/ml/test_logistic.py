import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from darkhaloscope.ml import logistic


def drawn(n: int = 4000, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_lens = rng.random(n) < 0.3
    x = rng.normal(size=(n, 2)) * [1.0, 3.0] + np.outer(is_lens, [1.5, 2.0]) + [0.0, 7.0]
    return x, is_lens, 0.2 + rng.random(n)


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_the_line_is_that_of_sklearn(share: float) -> None:
    x, is_lens, weight = drawn()
    mass = logistic.masses(is_lens, weight, share)
    line = logistic.fit(x, is_lens, weight, share=share)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    theirs.fit(x, is_lens, sample_weight=mass)
    assert line.slopes == pytest.approx(theirs.coef_[0], rel=2e-3)
    assert line.intercept + special.logit(share) == pytest.approx(theirs.intercept_[0], rel=2e-3)


def test_a_slope_that_would_be_negative_is_zero_and_the_other_as_if_it_were_alone() -> None:
    x, is_lens, weight = drawn()
    x[:, 1] *= -1
    line = logistic.fit(x, is_lens, weight, share=0.5)
    alone = logistic.fit(x[:, :1], is_lens, weight, share=0.5)
    assert line.slopes[1] == 0
    assert line.slopes[0] == pytest.approx(alone.slopes[0], rel=1e-4)


def test_classes_that_do_not_overlap_give_a_finite_line() -> None:
    x = np.concatenate([np.arange(20.0), 100 + np.arange(20.0)])[:, None]
    line = logistic.fit(x, np.arange(40) >= 20, np.ones(40), share=0.5)
    assert 0 < line.slopes[0] < np.inf
    assert (np.diff(line(x)) > 0).all()


def test_the_log_loss_is_that_of_sklearn() -> None:
    x, is_lens, weight = drawn()
    llr = logistic.fit(x, is_lens, weight, share=0.1)(x)
    p = special.expit(llr + special.logit(0.1))
    mass = logistic.masses(is_lens, weight, 0.1)
    expected = log_loss(is_lens, p, sample_weight=mass)
    assert logistic.log_loss(llr, is_lens, weight, share=0.1) == pytest.approx(expected)


def test_masses_have_the_share_that_is_asked_for_whatever_the_units_of_the_weights() -> None:
    _, is_lens, weight = drawn(500)
    mass = logistic.masses(is_lens, np.where(is_lens, weight, 100 * weight), 0.02)
    assert mass[is_lens].sum() / mass.sum() == pytest.approx(0.02)
    assert mass == pytest.approx(logistic.masses(is_lens, weight, 0.02))
