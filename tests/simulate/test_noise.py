"""Noise has the rms and the correlations that a real coadd has."""

import numpy as np
import pytest

from darkhaloscope.core.units import COADD_RMS_FACTOR
from darkhaloscope.lensing.noise import coadd_kernel
from darkhaloscope.simulate.draws import generator
from darkhaloscope.simulate.noise import coadd_noise

SIZE = 700


def noise(light: float = 0.0, gain: float = 1e30, invvar: float = 1.6e5) -> np.ndarray:
    full = np.ones((SIZE, SIZE), np.float32)
    random = generator(3, seed=1, stream="test")
    return coadd_noise(random, invvar * full, light * full, np.float32(gain) * full)


def correlation(image: np.ndarray, lag: int, axis: int) -> float:
    moved = np.moveaxis(image, axis, 0)
    return float((moved[lag:] * moved[:-lag]).mean() / image.var())


def test_rms_is_91_percent_of_what_the_weights_say() -> None:
    assert noise().std() * np.sqrt(1.6e5) == pytest.approx(COADD_RMS_FACTOR, rel=0.005)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("lag", "expected"), [(1, 0.12), (2, -0.07), (5, 0.0)])
def test_neighbours_share_noise_as_in_a_real_coadd(lag: int, expected: float, axis: int) -> None:
    assert correlation(noise(), lag, axis) == pytest.approx(expected, abs=0.015)


def test_the_kernel_is_the_lanczos_window_at_a_quarter_of_a_pixel() -> None:
    kernel = coadd_kernel()
    assert (kernel**2).sum() == pytest.approx(COADD_RMS_FACTOR)
    assert kernel[3] / kernel[4] == pytest.approx(
        (np.sinc(0.25) * np.sinc(0.25 / 3)) / (np.sinc(0.75) * np.sinc(0.25)), rel=1e-6
    )


def test_photon_noise_is_the_square_root_of_the_electrons() -> None:
    light, gain = 0.5, 3500 * 3.0
    extra = noise(light, gain).var() - noise().var()
    assert extra == pytest.approx(COADD_RMS_FACTOR**2 * light / gain, rel=0.02)


def test_pixels_without_weight_have_no_noise() -> None:
    invvar = np.ones((64, 64), np.float32)
    invvar[10:20] = 0
    light = np.zeros_like(invvar)
    image = coadd_noise(generator(3, seed=1, stream="x"), invvar, light, light + 1)
    assert (image[10:20] == 0).all()
    assert (image[30:] != 0).all()


def test_negative_light_makes_no_noise() -> None:
    assert np.array_equal(noise(-1.0, 100.0), noise())


def test_numbers_belong_to_seed_brick_and_stream() -> None:
    first = generator(3, seed=1, stream="a").standard_normal(4)
    assert np.array_equal(first, generator(3, seed=1, stream="a").standard_normal(4))
    for other in (generator(4, seed=1, stream="a"), generator(3, seed=2, stream="a")):
        assert not np.array_equal(first, other.standard_normal(4))
