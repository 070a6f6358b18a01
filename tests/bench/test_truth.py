"""The slow renderer against closed forms, numerical integrals, and itself at finer settings."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import erf

from darkhaloscope.bench import draws, truth
from darkhaloscope.bench.truth import PER_SIGMA, Row, errors, gaussian_pixels, light_of

SCALE = 0.262
# n 0.5 is a Gaussian; no lens
GALAXY = Row(0, 1, 0, 0, 0, src_x=0.31, src_y=-0.17, r_eff=0.3, n=0.5, src_q=0.6, src_phi=0.0)
PER_HALF_LIGHT = math.sqrt(2 * math.log(2))


def gaussian_integrals(sigma_x: float, sigma_y: float, *, with_pixel: bool) -> np.ndarray:
    """GALAXY blurred, exactly: over pixels, or at their centres."""
    edges = (np.arange(65) - 32) * SCALE
    centres = (edges[1:] + edges[:-1]) / 2

    def along(at: float, sigma: float) -> np.ndarray:
        if with_pixel:
            return np.diff(0.5 * (1 + erf((edges - at) / (sigma * math.sqrt(2)))))
        height = SCALE / (sigma * math.sqrt(2 * math.pi))
        return height * np.exp(-0.5 * ((centres - at) / sigma) ** 2)

    return np.outer(along(GALAXY.src_y, sigma_y), along(GALAXY.src_x, sigma_x))


@pytest.mark.parametrize("with_pixel", [True, False])
def test_a_gaussian_galaxy_behind_a_gaussian_psf_is_a_gaussian(with_pixel: bool) -> None:
    light = light_of(GALAXY, 96, SCALE)
    got = gaussian_pixels(light, 64, 1.1, with_pixel=with_pixel)
    radii = np.array([1 / math.sqrt(GALAXY.src_q), math.sqrt(GALAXY.src_q)]) * GALAXY.r_eff
    sigmas = np.hypot(radii / PER_HALF_LIGHT, 1.1 / PER_SIGMA)
    exact = gaussian_integrals(*sigmas, with_pixel=with_pixel)
    assert max(errors(got, exact)) <= 2e-5


def test_a_point_behind_a_moffat_is_the_moffat_over_each_pixel() -> None:
    alpha, beta = 0.9, 2.6
    light = light_of(replace(GALAXY, r_eff=1e-3, src_q=1.0), 96, SCALE, levels=8)
    spectrum = truth.Spectrum(light, 64)
    with_pixel = spectrum.moffat_pixels(alpha, beta, with_pixel=True)
    without = spectrum.moffat_pixels(alpha, beta, with_pixel=False)

    def profile(y: float, x: float) -> float:
        r2 = (x - GALAXY.src_x) ** 2 + (y - GALAXY.src_y) ** 2
        return (beta - 1) / (math.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta

    for column, line in ((32, 31), (33, 30), (40, 31), (0, 63)):
        x, y = (column - 31.5) * SCALE, (line - 31.5) * SCALE
        half = SCALE / 2
        exact = dblquad(profile, x - half, x + half, y - half, y + half)[0]
        assert with_pixel[line, column] == pytest.approx(exact, rel=1e-4)
        assert without[line, column] == pytest.approx(profile(y, x) * SCALE**2, rel=1e-4)


def test_a_point_off_the_middle_of_its_cell_is_blurred_where_it_is() -> None:
    """All six moments, of one cell: what is left is of the third order in the offset."""
    cell, place = SCALE / 4, (0.0217, 0.0113)
    moments = np.zeros((6, (96 * 4) ** 2))
    truth._gather(moments, np.array([2.0]), *(np.array([part]) for part in place), cell)
    light = truth.Light(moments.reshape(6, 96 * 4, 96 * 4), cell, 4)
    at = (np.arange(64) - 31.5) * SCALE
    x, y = at - place[0], at[:, None] - place[1]
    got = gaussian_pixels(light, 64, 1.1, with_pixel=False)
    sigma = 1.1 / PER_SIGMA
    exact = np.exp(-0.5 * (x**2 + y**2) / sigma**2) * 2 * SCALE**2 / (2 * math.pi * sigma**2)
    assert errors(got, exact)[0] <= 1e-4
    got = truth.moffat_pixels(light, 64, 0.9, 2.6)
    exact = 2 * SCALE**2 * 1.6 / (math.pi * 0.81) * (1 + (x**2 + y**2) / 0.81) ** -2.6
    assert errors(got, exact)[0] <= 1e-4


@pytest.mark.parametrize("offset", [0.2, 0.5, 0.9])
def test_a_point_behind_a_round_lens_is_magnified_by_the_closed_form(offset: float) -> None:
    """Two images, of magnifications theta_E / offset +- 1."""
    row = Row(1.0, 1, 0, 0, 0, src_x=offset, src_y=0, r_eff=5e-3, n=1, src_q=1, src_phi=0)
    light = light_of(row, 64, SCALE)
    assert light.total == pytest.approx(2 / offset, rel=1e-3)


def test_finer_settings_change_nothing() -> None:
    """Cells and gathering twice as fine, deeper, further, over a wider field."""
    made = draws.comparison(4)
    for row in made.rows():
        light = light_of(row, 96, SCALE)
        finer = light_of(row, 128, SCALE, finer=2, levels=7, reach=10)
        blurred = [gaussian_pixels(part, 64, 1.1, with_pixel=True) for part in (light, finer)]
        assert max(errors(*blurred)) <= 5e-5
        blurred = [
            truth.moffat_pixels(part, 64, 0.9, 2.6, with_pixel=True) for part in (light, finer)
        ]
        assert max(errors(*blurred)) <= 5e-5


def test_a_cusp_has_the_flux_of_its_profile() -> None:
    row = replace(GALAXY, n=4.0, r_eff=0.08, src_phi=0.4)
    assert light_of(row, 256, SCALE).total == pytest.approx(1, abs=1.5e-3)  # the rest is outside
