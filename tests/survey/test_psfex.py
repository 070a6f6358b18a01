"""PsfEx models against GalSim's reader, on files that are written here and on real ones."""

from pathlib import Path

import galsim
import numpy as np
import psf_builders as build
import pytest
from astropy.io import fits
from galsim.des import DES_PSFEx

from darkhaloscope.survey import psf_images, psfex
from darkhaloscope.survey.images import ImageError

PLACES = np.array([[0.0, 0.0], [2046.0, 4093.0], [300.25, 3999.5], [1500.0, 20.0]])


def theirs(path: Path, x: float, y: float) -> np.ndarray:
    """GalSim's image; its pixels are counted from 1."""
    return np.asarray(DES_PSFEx(str(path)).getPSFArray(galsim.PositionD(x + 1, y + 1)))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_polynomial_is_galsims_at_any_place(tmp_path: Path, degree: int) -> None:
    path = build.write_psfex(tmp_path / "a.psf", build.polynomial(degree), build.header(degree))
    model = psfex.read(path)
    ours = model.images(PLACES[:, 0], PLACES[:, 1])
    assert ours.shape == (4, 31, 31)
    for image, (x, y) in zip(ours, PLACES, strict=True):
        np.testing.assert_allclose(image, theirs(path, x, y), rtol=0, atol=1e-6 * image.max())
    if degree:
        assert np.abs(ours[0] - ours[1]).max() > 1e-3 * ours.max()


@pytest.mark.parametrize(
    ("step_px", "ours", "galsims"),
    [(0.5, 1e-6, 1e-5), (0.73, 2e-4, 6e-3), (1.0, 1e-6, 1e-5), (1.2, 7e-3, 2e-2)],
)
def test_a_model_of_any_sampling_is_drawn_as_galsim_draws_it(
    tmp_path: Path, step_px: float, ours: float, galsims: float
) -> None:
    # The model's core is as wide in pixels of the exposure whatever its sampling.
    terms = np.stack([build.moffat(3.0 / step_px, 3.2, 95)])
    path = build.write_psfex(tmp_path / "a.psf", terms, build.header(0, step_px))
    model = psfex.read(path)
    assert model.step_px == step_px
    images, reasons = psf_images.at(model, np.array([10.0]), np.array([20.0]), size_px=45)
    assert reasons.tolist() == [None]
    profile = DES_PSFEx(str(path)).getPSF(galsim.PositionD(11, 21))
    drawn = profile.drawImage(nx=45, ny=45, scale=1.0, method="no_pixel", dtype=float).array
    drawn /= drawn.sum()
    # GalSim puts a Lanczos-3 interpolant between the pixels, which is no better than ours.
    np.testing.assert_allclose(images[0], drawn, rtol=0, atol=galsims * drawn.max())
    exact = build.moffat(3.0, 3.2, 45)
    np.testing.assert_allclose(images[0], exact / exact.sum(), rtol=0, atol=ours * exact.max())
    assert images.sum() == pytest.approx(1, abs=1e-5)


def test_a_merged_file_holds_a_model_for_each_ccd(tmp_path: Path) -> None:
    one, other = build.polynomial(2), build.polynomial(2)[:, ::-1] * 1.1
    said = build.header(2)
    path = build.write_merged(
        tmp_path / "merged.fits",
        {(7, "N10"): (one, said), (7, "S3"): (other, said | {"POLZERO1": 900.0})},
    )
    model = psfex.read(path, expnum=7, ccdname="S3")
    assert model.zero == (900.0, 2048.5)
    alone = build.write_psfex(tmp_path / "alone.psf", other, said | {"POLZERO1": 900.0})
    image = model.images(np.array([4.0]), np.array([5.0]))[0]
    np.testing.assert_allclose(image, theirs(alone, 4, 5), rtol=0, atol=1e-6 * image.max())
    for asked in ({}, {"expnum": 7}, {"expnum": 8, "ccdname": "S3"}):
        with pytest.raises(ImageError, match="PsfEx models fit"):
            psfex.read(path, **asked)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"POLNGRP": 2}, "2 groups"),
        ({"POLNAME2": "MAG_AUTO"}, "varies with X_IMAGE and MAG_AUTO"),
        ({"POLSCAL1": 0.0}, "make no sense"),
        ({"PSF_SAMP": -1.0}, "make no sense"),
        ({"POLDEG1": 3}, "a polynomial of degree 3 has 10 square images"),
    ],
)
def test_a_model_that_cannot_be_used_says_why(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    path = build.write_psfex(tmp_path / "a.psf", build.polynomial(2), build.header(2) | changes)
    with pytest.raises(ImageError, match=words):
        psfex.read(path)


def test_a_model_without_its_numbers_names_them(tmp_path: Path) -> None:
    said = {k: v for k, v in build.header(2).items() if k not in {"POLZERO1", "PSF_SAMP"}}
    path = build.write_psfex(tmp_path / "a.psf", build.polynomial(2), said)
    with pytest.raises(ImageError, match="lacks POLZERO1, PSF_SAMP"):
        psfex.read(path)


def test_a_file_without_a_model_is_no_psfex_file(tmp_path: Path) -> None:
    path = build.write_image(tmp_path / "image.fits", np.ones((5, 5)))
    with pytest.raises(ImageError, match="no PsfEx file"):
        psfex.read(path)
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(ImageError, match="cannot be read as a PsfEx model"):
        psfex.read(tmp_path / "text.fits")


@pytest.mark.real
def test_real_merged_models_are_read_centred_and_as_wide_as_their_table_says(
    shared_data: Path,
) -> None:
    folder = shared_data / "decam-single-exposures"
    widths = {}
    for name in ("testcase3", "testcase6"):
        table = fits.getdata(next((folder / name).glob("survey-ccds*.fits*")))
        widths |= {int(row["expnum"]): row for row in table}
    checked = 0
    for path in sorted(folder.glob("testcase[36]/*psfex.fits")):
        model = psfex.read(path)
        row = widths[int(fits.getdata(path)["expnum"][0])]
        middle = np.array([row["width"] / 2]), np.array([row["height"] / 2])
        images, reasons = psf_images.at(model, *middle, size_px=63)
        assert reasons.tolist() == [None]
        # psfnorm is sqrt(sum P^2) of the survey's own PSF, which it evaluates somewhere on the CCD
        ours = np.sqrt((images[0].astype(float) ** 2).sum())
        assert ours == pytest.approx(row["psfnorm"], rel=0.02)
        checked += 1
    assert checked == 14
