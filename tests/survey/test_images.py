from pathlib import Path

import numpy as np
import pytest
import survey_builders as build
from astropy.io import fits
from astropy.wcs import WCS

from darkhaloscope.survey import images

BRICK = build.Brick(ra=359.95, dec=-30.2, size=350)


@pytest.fixture(params=[".fits", ".fits.gz", ".fits.fz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A ramp, so that each pixel has its own value."""
    path = tmp_path / f"ramp{request.param}"
    ramp = np.arange(350 * 350, dtype=np.int32).reshape(350, 350)
    build.write_image(path, ramp, BRICK.header())
    return path


@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_squares_are_those_of_the_array_however_many(path: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    x0, y0 = rng.integers(0, 350 - 80 + 1, (2, count))
    with images.opened(path) as image:
        boxes = image.boxes(x0, y0, 80)
    assert boxes.shape == (count, 80, 80)
    expected = y0[:, None, None] * 350 + x0[:, None, None]
    grid = np.arange(80)[:, None] * 350 + np.arange(80)
    np.testing.assert_array_equal(boxes, expected + grid)


def test_positions_are_those_of_astropy(path: Path) -> None:
    with images.opened(path) as image:
        frame = image.frame()
    x, y = np.random.default_rng(2).uniform(0, 350, (2, 50))
    ra, dec = BRICK.wcs().wcs_pix2world(x, y, 0)
    got = frame.positions(ra, dec)
    np.testing.assert_allclose(got, (x, y), atol=1e-6)
    assert frame.scale_arcsec == pytest.approx(build.SCALE)
    assert frame.shape == (350, 350)
    assert frame.is_grid_of(frame)


def test_north_is_up_and_east_is_left(path: Path) -> None:
    with images.opened(path) as image:
        frame = image.frame()
    x, y = frame.positions(np.array([359.95, 359.96]), np.array([-30.2, -30.19]))
    assert x[1] < x[0]
    assert y[1] > y[0]


def test_a_header_with_cdelt_is_as_good(tmp_path: Path) -> None:
    header = BRICK.header()
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    header["CDELT1"], header["CDELT2"] = -build.SCALE / 3600, build.SCALE / 3600
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((350, 350), np.float32), header).writeto(path)
    with images.opened(path) as image:
        got = image.frame().positions(np.array([359.96]), np.array([-30.19]))
    expected = WCS(header).wcs_world2pix([359.96], [-30.19], 0)
    np.testing.assert_allclose(got, expected)


@pytest.mark.parametrize("lost", ["CRVAL1", "CTYPE2", "CD1_1"])
def test_an_image_without_sky_coordinates_says_what_is_missing(tmp_path: Path, lost: str) -> None:
    header = BRICK.header()
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2") if lost == "CD1_1" else (lost,):
        del header[key]
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((9, 9), np.float32), header).writeto(path)
    with images.opened(path) as image, pytest.raises(images.ImageError, match=lost):
        image.frame()


def test_a_file_without_an_image_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(images.ImageError, match="no two-dimensional image"), images.opened(path):
        pass
    path.write_text("nothing")
    with pytest.raises(images.ImageError, match="cannot be opened"), images.opened(path):
        pass


def test_many_squares_are_read_whole_and_few_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.fz"
    build.write_image(path, np.zeros((1000, 1000), np.float32), BRICK.header())
    with images.opened(path) as image:
        assert not image._reads_whole(5, 80)
        assert image._reads_whole(50, 80)
