import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from darkhaloscope.survey import measure


def test_bits_of_a_band_are_its_own() -> None:
    assert measure.mask_value(["SATUR", "ALLMASK"], "g") == (1 << 2) | (1 << 5)
    assert measure.mask_value(["SATUR", "ALLMASK"], "i") == (1 << 14) | (1 << 15)
    assert measure.mask_value(["BRIGHT", "BAILOUT"], "z") == (1 << 1) | (1 << 10)
    assert measure.mask_value([], "z") == 0


def test_the_annulus_is_round_about_the_middle_of_an_even_cutout() -> None:
    ring = measure.annulus(80, 28, 38)
    np.testing.assert_array_equal(ring, ring[::-1])
    np.testing.assert_array_equal(ring, ring.T)
    assert ring.sum() == pytest.approx(np.pi * (38**2 - 28**2), rel=0.02)
    y, x = np.nonzero(ring)
    radius = np.hypot(x - 39.5, y - 39.5)
    assert (radius.min() >= 28, radius.max() <= 38) == (True, True)


def test_median_and_deviation_are_those_of_the_good_values() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(2, 3, (5, 301)).astype(np.float32)
    good = rng.uniform(size=values.shape) < 0.7
    good[0] = True
    good[1] = False
    median, mad = measure.median_and_mad(values, good)
    assert np.isnan([median[1], mad[1]]).all()
    for row in (0, 2, 3, 4):
        assert median[row] == pytest.approx(np.median(values[row, good[row]]))
        assert mad[row] == pytest.approx(median_abs_deviation(values[row, good[row]]), rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_has_no_median(shape: tuple[int, int]) -> None:
    median, mad = measure.median_and_mad(np.zeros(shape), np.ones(shape, bool))
    assert len(median) == len(mad) == shape[0]
    assert np.isnan(median).all()


def test_noise_is_that_of_a_resampled_coadd() -> None:
    invvar = np.full((2, 4, 4), 400.0, np.float32)
    good = np.ones(invvar.shape, bool)
    good[1] = False
    np.testing.assert_allclose(measure.noise_nmgy(invvar, good), [0.91 / 20, np.nan])


def test_depth_is_that_of_a_fit_of_the_psf() -> None:
    # PSF of a Gaussian, sigma s px: variance of the fitted flux is 1 / (invvar sum P^2)
    s, scale, invvar = 2.0, 0.262, 2500.0
    axis = np.arange(-30, 31)
    psf = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * s**2))
    psf /= psf.sum()
    sigma = 1 / np.sqrt(invvar * (psf**2).sum())
    noise = np.array([0.91 / np.sqrt(invvar)])
    got = measure.depth_mag(noise, np.array([2.354820 * s * scale]), scale)
    assert got[0] == pytest.approx(22.5 - 2.5 * np.log10(5 * sigma), abs=1e-4)
