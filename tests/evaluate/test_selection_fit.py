"""The smooth completeness: its fit, its check on hosts it has not seen, its intervals."""

import numpy as np
import pytest
from scipy import optimize, special
from selection_builders import EDGES, LEAST, p_found, p_target, truth

from darkhaloscope.evaluate import selection_check, selection_fit
from darkhaloscope.evaluate.selection_cells import AXES, Injections
from darkhaloscope.evaluate.selection_fit import _newton, _step

SETTINGS = {"seed": 1, "held_out_share": 0.3, "tolerance": 0.1}


def grid() -> dict[str, np.ndarray]:
    axes = {"theta_e": (0.7, 2.3, 9), "src_mag": (21.3, 24.7, 9)}
    axes |= {"psf_fwhm": (0.85, 1.45, 3), "depth": (23.6, 24.9, 3)}
    found = np.meshgrid(*[np.linspace(*axes[name]) for name in AXES], indexing="ij")
    return {name: values.ravel() for name, values in zip(AXES, found, strict=True)}


@pytest.fixture(scope="module")
def fits() -> list[dict]:
    """The fit of the same sky, injected four times."""
    return [
        selection_check.checked(truth(seed=seed).lenses, EDGES, LEAST, **SETTINGS)
        for seed in (1, 2, 3, 4)
    ]


def test_the_slope_on_held_out_hosts_is_one(fits: list[dict]) -> None:
    slopes = [fit["held_out"]["slope"] for fit in fits]
    assert all(abs(slope["value"] - 1) < 0.1 for slope in slopes)
    assert all(fit["held_out"]["state"] == "passed" for fit in fits)
    assert abs(np.mean([slope["value"] for slope in slopes]) - 1) < 0.04
    assert all(fit["is_enough"] for fit in fits)
    for fit in fits:
        assert fit["n_fitted"] + fit["n_held_out"] == 50_000
        assert fit["n_held_out"] == pytest.approx(15_000, rel=0.05)


def test_the_fit_recovers_the_truth_and_its_interval_covers_it(fits: list[dict]) -> None:
    at = grid()
    true = p_target(at["theta_e"], at["src_mag"]) * p_found(*at.values())
    covered = []
    for fit in fits:
        shares = [
            selection_check.at(selection_check.factor_of(fit["factors"][name]), at)
            for name in ("target", "score")
        ]
        value = shares[0][0] * shares[1][0]
        spread = value * np.hypot(shares[0][1] / shares[0][0], shares[1][1] / shares[1][0])
        assert np.abs(value - true).max() < 0.12
        assert np.sqrt(np.mean((value - true) ** 2)) < 0.015
        logit, step = special.logit(value), 1.96 * spread / (value * (1 - value))
        covered.append(np.abs(special.logit(true) - logit) <= step)
    assert np.mean(covered) >= 0.93


def test_what_is_found_rises_with_theta_e_and_falls_with_magnitude(fits: list[dict]) -> None:
    for fit in fits:
        assert fit["factors"]["score"]["shape"] == "monotone"
        factor = selection_check.factor_of(fit["factors"]["score"])
        at = grid()
        found = selection_check.at(factor, at)[0].reshape(9, 9, 3, 3)
        assert (np.diff(found, axis=0) >= -1e-9).all()
        assert (np.diff(found, axis=1) <= 1e-9).all()


def test_a_share_that_falls_with_theta_e_is_not_forced_to_rise() -> None:
    made = truth(20_000).lenses
    at = made.at
    logit = 2 - 4 * np.abs(at["theta_e"] / at["psf_fwhm"] - 1.3) - (at["src_mag"] - 23)
    drawn = np.random.default_rng(2).random(len(made))
    turned = Injections(
        at, made.host, made.source, made.is_target, drawn < special.expit(logit), None
    )
    fit = selection_check.checked(turned, EDGES, LEAST, **SETTINGS)
    assert fit["factors"]["score"]["shape"] == "monotone in magnitude"
    assert fit["held_out"]["state"] == "passed"


def test_bins_of_the_held_out_lenses_stand_beside_the_fit(fits: list[dict]) -> None:
    bins = [record for fit in fits for record in fit["held_out"]["bins"]]
    assert len(bins) == 4 * (4 + 4 + 2 + 2)
    inside = [record["low"] <= record["predicted"] <= record["high"] for record in bins]
    assert np.mean(inside) >= 0.85  # the fit has an error of its own


def test_a_slope_is_that_of_an_independent_regression() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(0, 2, 4000)
    hit = rng.random(4000) < special.expit(0.3 + 0.8 * logit)
    alone = np.arange(4000)
    found = selection_fit.slope(logit, hit, alone, alone)

    def loss(b: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(hit, -1, 1) * (b[0] + b[1] * logit)).sum())

    exact = optimize.minimize(loss, [0, 1], method="BFGS")
    assert (found["intercept"], found["value"]) == pytest.approx(exact.x, abs=1e-3)
    p, design = special.expit(exact.x @ [np.ones(4000), logit]), np.stack([np.ones(4000), logit], 1)
    information = (design * (p * (1 - p))[:, None]).T @ design
    width = (found["high"] - found["low"]) / 2 / 1.96
    assert width == pytest.approx(np.sqrt(np.linalg.inv(information)[1, 1]), rel=0.05)


def test_copies_of_the_same_rows_do_not_narrow_a_slope() -> None:
    rng = np.random.default_rng(6)
    logit = rng.normal(0, 2, 2000)
    hit, alone = rng.random(2000) < special.expit(logit), np.arange(2000)
    once = selection_fit.slope(logit, hit, alone, alone)
    host, source = np.repeat(alone, 4), np.arange(8000)
    four = selection_fit.slope(np.repeat(logit, 4), np.repeat(hit, 4), host, source)
    assert four["value"] == pytest.approx(once["value"], rel=1e-6)
    assert four["low"] == pytest.approx(once["low"], rel=1e-3)


def test_a_step_within_limits_is_the_best_one() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        half = rng.normal(size=(6, 6))
        curvature, gradient = half @ half.T + np.eye(6), rng.normal(size=6)
        risen, b = np.diff(np.eye(6), axis=0), np.sort(rng.normal(size=6))
        found = _step(gradient, curvature, risen, b)
        exact = optimize.minimize(
            lambda d, g=gradient, h=curvature: g @ d + d @ h @ d / 2,
            np.zeros(6),
            jac=lambda d, g=gradient, h=curvature: g + h @ d,
            constraints={"type": "ineq", "fun": lambda d, b=b: np.diff(b + d)},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(found, exact.x, atol=1e-4)
        assert np.diff(b + found).min() >= -1e-9


def test_an_unlimited_fit_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(8)
    design = rng.normal(size=(3000, 4))
    hit = rng.random(3000) < special.expit(design @ np.array([1.0, -0.5, 0.2, 0.0]))
    exact = linear.LogisticRegression(C=1 / 2.5, fit_intercept=False, tol=1e-8).fit(design, hit)
    found = _newton(design, hit, 2.5 * np.eye(4), np.zeros((0, 4)))
    np.testing.assert_allclose(found, exact.coef_[0], atol=1e-4)


def test_with_too_few_lenses_there_is_no_fit_but_a_reason() -> None:
    few = truth(60).lenses
    fit = selection_check.checked(few, EDGES, LEAST, **SETTINGS)
    assert not fit["is_fitted"]
    assert "20 of each are needed" in fit["note"]
    blind = Injections(few.at, few.host, few.source, few.is_target, None, None)
    fit = selection_check.checked(blind, EDGES, LEAST, **SETTINGS)
    assert "no threshold" in fit["note"]


def test_a_factor_that_never_fails_is_one_share() -> None:
    made = truth(3000).lenses
    sure = Injections(
        made.at, made.host, made.source, np.ones(3000, bool), made.is_found, made.weight
    )
    fit = selection_check.checked(sure, EDGES, LEAST, **SETTINGS)
    assert fit["is_fitted"]
    assert fit["factors"]["target"]["kind"] == "constant"
    assert fit["factors"]["target"]["value"] == 1
