"""PSF images: one form whatever the file, widths that are known, and faults that are named."""

from pathlib import Path

import galsim
import numpy as np
import psf_builders as build
import pytest
from astropy.io import fits

from darkhaloscope.core.units import moffat_fwhm
from darkhaloscope.survey import psf_images
from darkhaloscope.survey.images import ImageError

SCALE = 0.262
HERE = np.array([100.0]), np.array([50.0])


def formed(image: np.ndarray, size_px: int = 63) -> tuple[np.ndarray, str | None]:
    """The image of a constant PSF, and why it is refused."""
    images, reasons = psf_images.at(psf_images.Constant(image), *HERE, size_px=size_px)
    return images[0], reasons[0]


def test_an_image_that_is_centred_keeps_its_pixels() -> None:
    image = build.moffat(3.0, 2.8)
    got, reason = formed(7.0 * image)
    assert reason is None
    np.testing.assert_allclose(got, image / image.sum(), rtol=1e-6)


def test_all_places_share_an_image_that_does_not_vary() -> None:
    model = psf_images.Constant(build.moffat(3.0, 2.8))
    images, reasons = psf_images.at(model, np.arange(3.0), np.arange(3.0), size_px=31)
    assert images.shape == (3, 31, 31)
    assert reasons.tolist() == [None] * 3
    np.testing.assert_array_equal(images[0], images[2])
    assert psf_images.at(model, np.empty(0), np.empty(0), size_px=31)[0].shape == (0, 31, 31)


@pytest.mark.parametrize("size_px", [31, 63, 95])
def test_an_image_is_cut_or_filled_up_about_its_middle(size_px: int) -> None:
    image = build.moffat(3.0, 2.8, q=0.8)
    got, _ = formed(image, size_px)
    assert got.shape == (size_px, size_px)
    assert got.sum() == pytest.approx(1, abs=1e-6)
    edge = abs(size_px - 63) // 2
    cut = image[edge : 63 - edge, edge : 63 - edge] if size_px < 63 else np.pad(image, edge)
    np.testing.assert_allclose(got, cut / cut.sum(), rtol=1e-6)


@pytest.mark.parametrize(("x", "y"), [(0.4, -0.3), (-0.7, 0.6), (0.0, 0.1)])
def test_light_off_the_middle_is_brought_there(x: float, y: float) -> None:
    got, reason = formed(build.moffat(3.0, 2.8, x=x, y=y))
    assert reason is None
    exact = build.moffat(3.0, 2.8)
    # pixels 0.3 of the FWHM wide do not hold all of the cusp: 4e-3 of the peak
    np.testing.assert_allclose(got, exact / exact.sum(), rtol=0, atol=4e-3 * exact.max())
    seen = galsim.hsm.FindAdaptiveMom(galsim.Image(got)).moments_centroid
    assert (seen.x, seen.y) == pytest.approx((32, 32), abs=0.01)


def test_light_far_off_the_middle_is_refused() -> None:
    image = np.roll(build.moffat(3.0, 2.8), 23, axis=1)
    got, reason = formed(image)
    assert reason == "its light is centred 23.0 px off its middle"
    assert not got.any()


def test_a_tail_does_not_move_the_core_far() -> None:
    got, reason = formed(build.coma())
    assert reason is None
    peak = np.unravel_index(got.argmax(), got.shape)
    assert np.hypot(peak[0] - 31, peak[1] - 31) <= 1.5


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.where(np.eye(63) > 0, np.nan, 1.0), "not finite"),
        (np.zeros((63, 63)), "no light"),
        (-build.moffat(3.0, 2.8), "no light"),
        (np.tile([1.0, -1.01], 2000)[:3969].reshape(63, 63) + 0.01, "off its middle"),
    ],
)
def test_a_sick_image_is_refused_with_the_reason(image: np.ndarray, words: str) -> None:
    got, reason = formed(image)
    assert words in str(reason)
    assert not got.any()


@pytest.mark.parametrize("shape", [(64, 64), (63, 61)])
def test_an_image_without_a_middle_pixel_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="a PSF is square with a middle pixel"):
        formed(np.ones(shape))


@pytest.mark.parametrize("beta", [2.5, 3.5])
@pytest.mark.parametrize("alpha_px", [2.6, 3.0, 6.0])
def test_the_widths_of_a_moffat_come_back_from_its_pixels(alpha_px: float, beta: float) -> None:
    image = build.moffat(alpha_px, beta, 127)[None]
    fwhm = psf_images.fwhm_arcsec(image, SCALE)[0]
    assert fwhm == pytest.approx(moffat_fwhm(alpha_px, beta) * SCALE, rel=3e-3)
    n_eff = np.pi * alpha_px**2 * (2 * beta - 1) / (beta - 1) ** 2
    expected = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(n_eff / 4 / np.pi) * SCALE
    got = psf_images.nea_width_arcsec(image, SCALE)[0]
    assert got == pytest.approx(expected, rel=1e-2)  # light outside the image narrows it


def test_the_fwhm_of_a_stretched_gaussian_is_that_of_its_area() -> None:
    made = galsim.Gaussian(fwhm=1.1).shear(q=0.7, beta=30 * galsim.degrees)
    image = made.drawImage(nx=63, ny=63, scale=SCALE, method="no_pixel", dtype=float).array
    assert psf_images.fwhm_arcsec(image[None], SCALE)[0] == pytest.approx(1.1, rel=2e-3)


def test_files_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    model = build.write_psfex(tmp_path / "a.fits", build.polynomial(1), build.header(1))
    assert psf_images.read(model, "g", scale_arcsec=SCALE).step_px == 1.0
    image = build.write_image(tmp_path / "b.fits", build.moffat(3.0, 2.8))
    found = psf_images.read(image, "g", scale_arcsec=SCALE)
    np.testing.assert_allclose(found.images(*HERE)[0], build.moffat(3.0, 2.8), rtol=1e-6)
    units = [fits.PrimaryHDU(), fits.CompImageHDU(np.ones((5, 5), np.float32))]
    fits.HDUList(units).writeto(tmp_path / "c.fits.fz")
    assert psf_images.read(tmp_path / "c.fits.fz", "g", scale_arcsec=SCALE).step_px == 1.0


def test_of_several_images_the_bands_own_is_taken(tmp_path: Path) -> None:
    units = [
        fits.PrimaryHDU(np.full((3, 3), 1.0), fits.Header({"BAND": "g"})),
        fits.ImageHDU(np.full((3, 3), 2.0), fits.Header({"BAND": "r"})),
    ]
    path = tmp_path / "psf.fits"
    fits.HDUList(units).writeto(path)
    assert psf_images.read(path, "r", scale_arcsec=SCALE).images(*HERE).max() == 2.0
    with pytest.raises(ImageError, match="no PSF of band z, but of g, r"):
        psf_images.read(path, "z", scale_arcsec=SCALE)
    one = build.write_image(tmp_path / "one.fits", np.ones((3, 3)), BAND="g")
    with pytest.raises(ImageError, match="no PSF of band z, but of g"):
        psf_images.read(one, "z", scale_arcsec=SCALE)


def test_an_image_on_other_pixels_is_refused(tmp_path: Path) -> None:
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 0.0, "CRPIX1": 2.0,
        "CRPIX2": 2.0, "CD1_1": -0.3 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.3 / 3600,
    }  # fmt: skip
    path = build.write_image(tmp_path / "psf.fits", np.ones((3, 3)), **cards)
    with pytest.raises(ImageError, match=r"0\.3000 arcsec wide, not 0\.262"):
        psf_images.read(path, "g", scale_arcsec=SCALE)
    assert psf_images.read(path, "g", scale_arcsec=0.3).step_px == 1.0


def test_a_file_with_neither_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(ImageError, match="neither an image nor a PsfEx model"):
        psf_images.read(tmp_path / "empty.fits", "g", scale_arcsec=SCALE)
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(ImageError, match="cannot be read"):
        psf_images.read(tmp_path / "text.fits", "g", scale_arcsec=SCALE)


@pytest.mark.real
@pytest.mark.parametrize(("band", "count"), [("g", 3), ("r", 2), ("z", 3)])
def test_a_coadds_own_psf_is_a_little_wider_than_its_psfsize(
    shared_data: Path, band: str, count: int
) -> None:
    folder = shared_data / "decam-single-exposures" / "testcase3"
    table = fits.getdata(next(folder.glob("survey-ccds*.fits*")))
    rows = {int(row["expnum"]): row for row in table if row["filter"] == band}
    exposures, weights = [], []
    for path in sorted(folder.glob("*psfex.fits")):
        expnum = int(fits.getdata(path)["expnum"][0])
        if expnum in rows:
            model = psf_images.read(path, band, scale_arcsec=SCALE)
            exposures.append(psf_images.at(model, *HERE, size_px=63)[0][0])
            weights.append(1 / rows[expnum]["sig1"] ** 2)
    assert len(exposures) == count
    share = np.array(weights) / np.sum(weights)
    each = psf_images.nea_width_arcsec(np.stack(exposures), SCALE)
    psfsize = (share / each**2).sum() ** -0.5  # as the survey joins exposures: 1 / Neff
    coadd = np.tensordot(share, np.stack(exposures), 1)[None]
    ratio = psf_images.nea_width_arcsec(coadd, SCALE)[0] / psfsize
    assert 1 <= ratio < 1.02


@pytest.mark.real
def test_a_real_coadd_psf_has_the_surveys_psfsize_and_no_fwhm_like_it(shared_data: Path) -> None:
    path = shared_data / "dr9-coadd-cutout" / "copsf_59.1067_-30.4848.fits"
    for band, psfsize, fwhm in (("g", 1.37, 1.04), ("r", 1.25, 0.93), ("z", 1.25, 0.91)):
        model = psf_images.read(path, band, scale_arcsec=SCALE)
        images, reasons = psf_images.at(model, *HERE, size_px=63)
        assert reasons.tolist() == [None]
        assert psf_images.nea_width_arcsec(images, SCALE)[0] == pytest.approx(psfsize, abs=0.006)
        assert psf_images.fwhm_arcsec(images, SCALE)[0] == pytest.approx(fwhm, abs=0.03)
