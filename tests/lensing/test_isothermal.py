"""Fits of isothermal lenses to positions, against lenstronomy's images."""

from dataclasses import replace

import numpy as np
import pytest
from image_finder import images

from darkhaloscope.bench.truth import Row
from darkhaloscope.lensing.isothermal import deflection, misfit_arcsec


def lens(rng: np.random.Generator) -> Row:
    """An isothermal lens without shear, and a source that it images more than once."""
    theta_e = rng.uniform(0.6, 2.5)
    beta, angle = 0.35 * theta_e * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    return Row(
        theta_e=theta_e,
        q=rng.uniform(0.45, 0.98),
        phi=rng.uniform(0, np.pi),
        shear=0.0,
        shear_phi=0.0,
        src_x=beta * np.cos(angle),
        src_y=beta * np.sin(angle),
        r_eff=0.1,
        n=1.0,
        src_q=1.0,
        src_phi=0.0,
    )


def seen_sets(n: int, most: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of n lenses, NaN where there are fewer than `most`; the lenses' axes."""
    rng = np.random.default_rng(4)
    x, y, axis = np.full((n, most), np.nan), np.full((n, most), np.nan), np.zeros(n)
    for row in range(n):
        drawn = lens(rng)
        found = images(drawn, n_radii=60, n_angles=80)
        k = min(len(found), most)
        x[row, :k], y[row, :k], axis[row] = found.x[:k], found.y[:k], drawn.phi
    return x, y, axis


@pytest.fixture(scope="module")
def sets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return seen_sets(40)


def test_images_of_a_lens_are_fitted_whatever_their_number(
    sets: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, axis = sets
    counts = np.isfinite(x).sum(1)
    assert set(counts) >= {2, 4}
    assert misfit_arcsec(x, y, axis).max() < 0.005
    assert misfit_arcsec(x[:, :3], y[:, :3], axis).max() < 0.005


def test_images_that_are_shifted_are_no_further_from_a_lens_than_their_shift(
    sets: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, axis = sets
    rng = np.random.default_rng(5)
    dx, dy = rng.normal(0, 0.1, (2, *x.shape))
    got = misfit_arcsec(x + dx, y + dy, axis)
    there = np.isfinite(x)
    shift = np.sqrt((np.where(there, dx**2 + dy**2, 0)).sum(1) / there.sum(1))
    assert (got <= shift + 0.003).all()  # the lens itself is that near
    assert np.median(got[there.sum(1) == 4]) > 0.03


def test_no_lens_that_is_tried_comes_nearer_than_the_best_one() -> None:
    rng = np.random.default_rng(6)
    radius, angle = rng.uniform(0.8, 2.5, (12, 3)), rng.uniform(0, 2 * np.pi, (12, 3))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    best = misfit_arcsec(x, y, np.zeros(12))
    for _ in range(150):
        tried = lens(rng)
        found = images(replace(tried, phi=0.0), n_radii=45, n_angles=60)
        apart = np.hypot(x[..., None] - found.x, y[..., None] - found.y).min(2)
        assert (np.sqrt((apart**2).mean(1)) > best - 0.01).all()


def test_most_pieces_strewn_at_random_are_no_lenss_images() -> None:
    rng = np.random.default_rng(7)
    radius, angle = rng.uniform(1.2, 3.0, (400, 3)), rng.uniform(0, 2 * np.pi, (400, 3))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    assert (misfit_arcsec(x, y, rng.uniform(0, np.pi, 400)) > 0.3).mean() > 0.6


def test_a_misfit_scales_with_the_positions_and_turns_with_the_axis() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(0, 1.5, (2, 50, 3))
    got = misfit_arcsec(x, y, np.zeros(50))
    np.testing.assert_allclose(misfit_arcsec(2 * x, 2 * y, np.zeros(50)), 2 * got, atol=0.02)
    cos, sin = np.cos(0.7), np.sin(0.7)
    turned = misfit_arcsec(cos * x - sin * y, sin * x + cos * y, np.full(50, 0.7))
    np.testing.assert_allclose(turned, got, atol=1e-3)


def test_one_position_is_fitted_by_any_lens_and_no_set_gives_nothing() -> None:
    assert misfit_arcsec(np.ones((3, 1)), np.ones((3, 1)), np.zeros(3)).tolist() == [0.0] * 3
    assert misfit_arcsec(np.ones((0, 3)), np.ones((0, 3)), np.zeros(0)).shape == (0,)


def test_a_round_lens_deflects_along_the_radius_alone() -> None:
    radial, across = deflection(np.linspace(0, 2 * np.pi, 20), np.ones(20))
    np.testing.assert_allclose(radial, 1, atol=1e-3)
    np.testing.assert_allclose(across, 0, atol=1e-3)
