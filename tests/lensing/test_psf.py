"""Transfer functions against scipy's Bessel functions and GalSim."""

import math

import galsim
import numpy as np
import pytest
import torch
from lensing_builders import GRID, SCALE, sersic
from scipy.special import gamma, kv

from darkhaloscope.core.units import fwhm_from_psfsize
from darkhaloscope.lensing.blur import Frame, blur
from darkhaloscope.lensing.psf import Gaussian, Kernel, Moffat, Psf, moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, render_lensed

FREQUENCY = torch.linspace(0, 3.8, 300, dtype=torch.float64)  # cycles per arcsec
BETAS = (1.5, 2.0, 2.7, 3.5, 6.0)


def table(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def image_of(psf: Psf, size: int = 129, scale: float = SCALE) -> np.ndarray:
    """The PSF itself: of a point a quarter of a pixel right and up of the middle."""
    frame = Frame.around(Grid(size, scale), 32)
    middle = 2 * (frame.lead_px + size // 2) + 1
    fine = torch.zeros(1, frame.fine_px, frame.fine_px, dtype=torch.float64)
    # A point, as a grid of integrals over cells holds it: the width of the cell's box.
    point = torch.tensor([1 / 24, 11 / 12, 1 / 24], dtype=torch.float64)
    fine[0, middle - 1 : middle + 2, middle - 1 : middle + 2] = point[:, None] * point
    return blur(fine[:, None], share=None, psf=psf, frame=frame)[0].numpy()


def moffat_pixels(alpha: float, beta: float, size: int, shift: float) -> np.ndarray:
    """Values of a Moffat at pixels, times their area."""
    axis = (np.arange(size) - size // 2 - shift) * SCALE
    r2 = axis**2 + axis[:, None] ** 2
    return (beta - 1) / (math.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta * SCALE**2


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-5)])
def test_a_moffats_transfer_function_is_its_bessel_form(
    beta: float, dtype: torch.dtype, limit: float
) -> None:
    alpha = np.array([0.3, 0.8, 1.5])
    psf = Moffat(table(*alpha).to(dtype), table(beta, beta, beta).to(dtype))
    got = psf.transfer(FREQUENCY.to(dtype), torch.zeros(1, dtype=dtype))[0, :, 0].numpy()
    x = 2 * np.pi * FREQUENCY.numpy()[None, 1:] * alpha[:, None]
    expected = 2 * (x / 2) ** (beta - 1) * kv(beta - 1, x) / gamma(beta - 1)
    np.testing.assert_allclose(got[:, 1:], expected, rtol=0, atol=limit)
    np.testing.assert_allclose(got[:, 0], 1, rtol=0, atol=1e-6)


def test_a_transfer_function_is_round_and_fits_galsim() -> None:
    alpha, beta = 0.9, 2.7
    psf = Moffat(table(alpha), table(beta))
    got = psf.transfer(FREQUENCY[::10], FREQUENCY[::10])[0, 0].numpy()
    theirs = galsim.Moffat(beta=beta, scale_radius=alpha)
    for j in range(0, 30, 7):
        for i in range(0, 30, 7):
            k = galsim.PositionD(*(2 * math.pi * float(FREQUENCY[10 * m]) for m in (i, j)))
            # GalSim tabulates its transform and gives up below 1e-3 of the folding threshold.
            assert got[j, i] == pytest.approx(theirs.kValue(k).real, abs=2e-4)


def test_a_gaussians_image_is_galsims() -> None:
    ours = image_of(Gaussian(table(1.2)), size=33)[0]
    theirs = galsim.Gaussian(fwhm=1.2).shift(SCALE / 4, SCALE / 4)
    image = theirs.drawImage(nx=33, ny=33, scale=SCALE, method="no_pixel", dtype=float).array
    np.testing.assert_allclose(ours, image, rtol=0, atol=2e-4 * image.max())


def test_a_moffats_image_is_its_formula() -> None:
    ours = image_of(Moffat(table(0.9), table(2.7)), size=33)[0]
    exact = moffat_pixels(0.9, 2.7, 33, 0.25)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=5e-4 * exact.max())


def test_a_moffat_without_the_pixel_gets_it_as_in_galsim() -> None:
    ours = image_of(Moffat(table(0.9), table(2.7), includes_pixel=False), size=33)[0]
    moffat = galsim.Moffat(beta=2.7, scale_radius=0.9).shift(SCALE / 4, SCALE / 4)
    image = moffat.drawImage(nx=33, ny=33, scale=SCALE, method="real_space", dtype=float).array
    np.testing.assert_allclose(ours, image, rtol=0, atol=5e-4 * image.max())


@pytest.mark.parametrize("beta", [2.5, 3.5])
def test_psfsize_comes_back_from_the_image_of_its_moffat(beta: float) -> None:
    psfsize = 1.31
    image = image_of(moffat_from_psfsize(table(psfsize), table(beta)))[0]
    n_eff = image.sum() ** 2 / (image**2).sum() * SCALE**2
    assert 2.3548 * math.sqrt(n_eff / (4 * math.pi)) == pytest.approx(psfsize, rel=5e-3)


def test_the_fwhm_of_a_psfsize_is_that_of_the_units() -> None:
    psf = moffat_from_psfsize(table(1.2, 1.4), table(2.6, 3.5))
    expected = fwhm_from_psfsize([1.2, 1.4], [2.6, 3.5])
    np.testing.assert_allclose(psf.fwhm[0], expected, rtol=1e-12)


@pytest.mark.parametrize("radius_px", [3, 8, 20])
def test_the_encircled_energy_of_a_moffat_is_analytic(radius_px: int) -> None:
    alpha, beta = 0.9, 2.7
    scale = SCALE / 3  # pixels small enough to count light inside a circle
    image = image_of(Moffat(table(alpha), table(beta)), size=385, scale=scale)[0]
    axis = np.arange(385) - 192.25
    inside = image[np.hypot(axis, axis[:, None]) <= 3 * radius_px].sum()
    expected = 1 - (1 + (radius_px * SCALE / alpha) ** 2) ** (1 - beta)
    assert inside == pytest.approx(expected, abs=5e-3)


def test_a_kernel_made_of_a_moffats_pixels_blurs_as_the_moffat_does() -> None:
    moffat = moffat_from_psfsize(table(1.3), table(2.8))
    pixels = moffat_pixels(float(moffat.alpha), 2.8, 63, 0.0)
    kernel = Kernel(torch.from_numpy(pixels)[None, None], SCALE)
    source = sersic(x=0.3, y=-0.4, r_eff=0.25, q=0.6, phi=0.5)
    images = []
    for psf in (moffat, kernel):
        painted = render_lensed(
            source,
            Lens.none(source.x),
            flux=torch.ones(1, 1),
            psf=psf,
            centre_x=torch.zeros(1),
            centre_y=torch.zeros(1),
            grid=GRID,
        )
        images.append(painted.pixels[0, 0].numpy())
    np.testing.assert_allclose(images[1], images[0], rtol=0, atol=4e-3 * images[0].max())


def test_a_kernel_off_its_centre_moves_the_light_by_as_much() -> None:
    pixels = np.roll(moffat_pixels(0.9, 3.0, 63, 0.0), (2, -1), axis=(0, 1))  # up 2, left 1
    moved = image_of(Kernel(torch.from_numpy(pixels)[None, None], SCALE), size=33)[0]
    expected = np.roll(image_of(Moffat(table(0.9), table(3.0)), size=33)[0], (2, -1), axis=(0, 1))
    np.testing.assert_allclose(moved, expected, rtol=0, atol=2e-3 * expected.max())


def test_one_row_serves_all_stamps() -> None:
    for psf in (
        Gaussian(table(1.2)),
        Moffat(table(1.0), table(3.0)),
        Kernel(torch.ones(1, 1, 3, 3), SCALE),
    ):
        assert psf.rows(slice(5, 9)) is psf


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gaussian(table(1.0, 0.0)), "fwhm is in arcsec, > 0; got 0 in row 0"),
        (lambda: Gaussian(table(math.nan)), "got nan in row 0"),
        (lambda: Moffat(table(-1.0), table(3.0)), "alpha is in arcsec, > 0"),
        (lambda: Moffat(table(1.0), table(1.0)), "beta is from 1.4 to 8; got 1 in row 0"),
        (lambda: Kernel(torch.ones(1, 1, 4, 4), SCALE), "k odd"),
        (lambda: Kernel(torch.zeros(1, 1, 3, 3), SCALE), "sum is above 0"),
    ],
)
def test_a_psf_that_is_none_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
