"""Flux, magnitude and PSF width against closed forms and a numerical integral."""

import numpy as np
import pytest
from scipy.integrate import quad

from darkhaloscope.core import units


@pytest.mark.parametrize("beta", [2.5, 2.8, 3.5])
def test_psfsize_of_a_moffat_is_its_noise_equivalent_width(beta: float) -> None:
    alpha = float(units.moffat_alpha_from_psfsize(1.31, beta))
    norm = (beta - 1) / (np.pi * alpha**2)
    squared, _ = quad(
        lambda r: 2 * np.pi * r * (norm * (1 + (r / alpha) ** 2) ** -beta) ** 2, 0, np.inf
    )
    neff = 1 / squared
    assert 2.3548 * np.sqrt(neff / (4 * np.pi)) == pytest.approx(1.31, rel=1e-4)


def test_psfsize_is_no_fwhm() -> None:
    assert float(units.fwhm_from_psfsize(1.37, 2.6)) == pytest.approx(
        1.04, abs=0.05
    )  # a real DR9 coadd


def test_magnitudes_and_fluxes_are_each_others_inverse() -> None:
    mag = np.linspace(14, 26, 7)
    np.testing.assert_allclose(units.mag_from_nmgy(units.nmgy_from_mag(mag)), mag, rtol=1e-12)


def test_a_flux_that_is_not_positive_has_no_magnitude() -> None:
    assert np.isnan(units.mag_from_nmgy([0.0, -1.0, np.nan])).all()


def test_depth_is_the_magnitude_of_five_sigma() -> None:
    assert float(units.depth_mag_from_psfdepth(25.0)) == pytest.approx(
        22.5
    )  # sigma 0.2, 5 sigma 1 nmgy
    assert np.isnan(units.depth_mag_from_psfdepth(0.0))
