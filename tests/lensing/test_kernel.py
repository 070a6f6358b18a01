"""PSF images as the renderer uses them: as wide as they are, where they are, and not flipped."""

import galsim
import numpy as np
import psf_builders as build
import pytest
import torch
from lensing_builders import SCALE, lens, sersic

from darkhaloscope.core.units import moffat_fwhm
from darkhaloscope.lensing import psf as psf_module
from darkhaloscope.lensing.psf import Kernel, Moffat, Psf
from darkhaloscope.lensing.render import Grid, Lens, Sersic, render_lensed


def rendered(
    psf: Psf, source: Sersic, mass: Lens | None = None, *, size: int = 64, centre: float = 0.0
) -> np.ndarray:
    """One source of flux 1 in one band, (size, size)."""
    at = torch.full((1,), centre, dtype=source.x.dtype)
    painted = render_lensed(
        source,
        mass or Lens.none(source.x),
        flux=torch.ones(1, 1),
        psf=psf,
        centre_x=at,
        centre_y=at,
        grid=Grid(size, SCALE),
    )
    return painted.pixels[0, 0].double().numpy()


def kernel(image: np.ndarray, scale: float = SCALE, **changes: bool) -> Kernel:
    return Kernel(torch.from_numpy(np.ascontiguousarray(image))[None, None], scale, **changes)


def moffat(alpha: float, beta: float, *, includes_pixel: bool = True) -> Moffat:
    made = (torch.tensor([[value]], dtype=torch.float64) for value in (alpha, beta))
    return Moffat(*made, includes_pixel=includes_pixel)


@pytest.mark.parametrize("beta", [2.6, 3.5])
@pytest.mark.parametrize(("fwhm_px", "limit"), [(2.5, 3e-3), (3.2, 6e-4), (4.0, 3e-4), (6.0, 8e-4)])
def test_an_image_of_a_moffat_blurs_as_the_moffat_does(
    fwhm_px: float, limit: float, beta: float
) -> None:
    alpha_px = fwhm_px / moffat_fwhm(1.0, beta)
    image = build.moffat(alpha_px, beta, 95)
    arc = sersic(x=0.2, y=-0.1, r_eff=0.15, q=0.6, phi=0.5), lens(theta_e=1.3, q=0.7, shear=0.03)
    expected = rendered(moffat(alpha_px * SCALE, beta), *arc)
    got = rendered(kernel(image), *arc)
    # What lies outside of the image, 1 % of the light of the widest, is light that it lacks.
    expected *= got.sum() / expected.sum()
    assert np.abs(got - expected).max() < limit * expected.max()


def test_a_lopsided_psf_is_neither_flipped_nor_turned() -> None:
    image = build.coma()
    point = sersic(r_eff=0.004, n=0.5)
    got = rendered(kernel(image), point, size=63)
    assert np.unravel_index(got.argmax(), got.shape) == np.unravel_index(image.argmax(), (63, 63))
    # the source is not quite a point
    np.testing.assert_allclose(got, image, rtol=0, atol=2e-2 * image.max())
    for other in (image[::-1], image[:, ::-1], image[::-1, ::-1], image.T):
        assert np.abs(got - other).max() > 0.1 * image.max()


def test_a_point_between_pixels_moves_by_as_much() -> None:
    middle = rendered(kernel(build.coma()), sersic(r_eff=0.004, n=0.5), size=63)
    moved = rendered(kernel(build.coma()), sersic(r_eff=0.004, n=0.5), size=63, centre=-3.0)
    np.testing.assert_allclose(moved[5:50, 5:50], middle[8:53, 8:53], atol=1e-6 * middle.max())
    by_half = rendered(kernel(build.coma()), sersic(r_eff=0.004, n=0.5), size=63, centre=0.5)
    axis = np.arange(63)
    for along in (0, 1):
        apart = [(image.sum(along) * axis).sum() / image.sum() for image in (by_half, middle)]
        assert apart[0] - apart[1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [21, 31, 64])
def test_an_image_may_be_larger_than_the_stamp(size: int) -> None:
    alpha_px, beta = 3.0, 3.0
    source = sersic(r_eff=0.2, q=0.7, x=0.4)
    got = rendered(kernel(build.moffat(alpha_px, beta, 127)), source, size=size)
    expected = rendered(moffat(alpha_px * SCALE, beta), source, size=size)
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-3 * expected.max())


@pytest.mark.parametrize("step", [0.25, 0.5, 1.15])
def test_pixels_of_a_psf_need_not_be_the_surveys(step: float) -> None:
    alpha_px, beta = 3.6, 3.0  # of the survey's pixels
    image = build.moffat(alpha_px / step, beta, 255 if step < 1 else 95)
    source = sersic(r_eff=0.2, q=0.7, x=0.4)
    got = rendered(kernel(image, step * SCALE), source)
    expected = rendered(moffat(alpha_px * SCALE, beta), source)
    got *= expected.sum() / got.sum()
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3 * expected.max())


def test_an_optical_psf_gets_the_pixel_and_a_survey_psf_does_not() -> None:
    alpha, beta, step = 0.5, 3.0, 0.2
    image = build.moffat(alpha / (step * SCALE), beta, 511)
    source = sersic(r_eff=0.1, n=0.5)  # a Gaussian
    optical = rendered(kernel(image, step * SCALE, includes_pixel=False), source, size=33)
    theirs = galsim.Convolve(
        galsim.Moffat(beta=beta, scale_radius=alpha), galsim.Gaussian(half_light_radius=0.1)
    )
    drawn = theirs.drawImage(nx=33, ny=33, scale=SCALE, dtype=float).array
    np.testing.assert_allclose(optical, drawn, rtol=0, atol=5e-3 * drawn.max())
    survey = rendered(kernel(image, step * SCALE), source, size=33)
    bare = theirs.drawImage(nx=33, ny=33, scale=SCALE, method="no_pixel", dtype=float).array
    np.testing.assert_allclose(survey, bare, rtol=0, atol=5e-3 * bare.max())
    assert bare.max() > 1.05 * drawn.max()


def test_the_transfer_function_is_the_fourier_sum_below_the_nyquist_frequency() -> None:
    rng = np.random.default_rng(4)
    images = rng.uniform(0.1, 1, (2, 3, 7, 7))
    psf = Kernel(torch.from_numpy(images), 0.3)
    freq_x = torch.linspace(0, 2.5, 9, dtype=torch.float64)
    freq_y = torch.linspace(-2.5, 2.5, 14, dtype=torch.float64)
    got = psf.transfer(freq_x, freq_y).numpy()
    at = 0.3 * (np.arange(7) - 3)
    waves = [np.exp(-2j * np.pi * np.outer(freq.numpy(), at)) for freq in (freq_y, freq_x)]
    expected = np.einsum("kj,nbji,li->nbkl", waves[0], images, waves[1])
    expected /= images.sum((2, 3))[:, :, None, None]
    is_below = ((freq_y.abs()[:, None] < 0.5 / 0.3) & (freq_x.abs() < 0.5 / 0.3)).numpy()
    np.testing.assert_allclose(got, expected * is_below, rtol=0, atol=1e-12)
    on_a_gpu = psf_module._sum(  # where frequencies above are zeros instead of left out
        psf.images / psf.images.sum((2, 3), keepdim=True), psf._waves(freq_y), psf._waves(freq_x)
    )
    np.testing.assert_allclose(on_a_gpu.numpy(), got, rtol=0, atol=1e-12)
    assert not is_below.all()
    assert is_below.any()


def test_each_row_and_band_has_its_own_image() -> None:
    images = np.stack([[build.moffat(2.5, 3.0, 31), build.coma(31)],
                       [build.coma(31).T, build.moffat(4.0, 3.0, 31)]])  # fmt: skip
    psf = Kernel(torch.from_numpy(images), SCALE)
    source = sersic(2, r_eff=0.2)
    zero = torch.zeros(2, dtype=torch.float64)
    made = render_lensed(
        source, Lens.none(source.x), flux=torch.ones(2, 2), psf=psf, centre_x=zero, centre_y=zero,
        grid=Grid(64, SCALE), chunk_rows=1,
    )  # fmt: skip
    for row in range(2):
        for band in range(2):
            alone = rendered(kernel(images[row, band]), sersic(r_eff=0.2))
            got = made.pixels[row, band].numpy()
            np.testing.assert_allclose(got, alone, rtol=0, atol=1e-6 * alone.max())
    assert psf.rows(slice(1, 2)).shape == (1, 2)


@pytest.mark.parametrize("size", [4, 64])
def test_an_image_without_a_middle_pixel_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="k odd"):
        kernel(np.ones((size, size)))
