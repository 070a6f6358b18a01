"""Cutouts of any make: bands, scale, units and sky as the file says, or a reason."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.survey import stamping
from darkhaloscope.survey.foreign import Cutout, Stated, read
from darkhaloscope.survey.images import ImageError

SCALE = 0.262
GRZ = ("g", "r", "z")


def cards(size: int = 80, *, scale: float = SCALE, **more: object) -> dict[str, object]:
    """A header of the viewer's kind, the position in the middle."""
    middle = (size + 1) / 2
    return {
        "SURVEY": "DECaLS", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0,
        "CRVAL2": 2.0, "CRPIX1": middle, "CRPIX2": middle, "CD1_1": -scale / 3600, "CD1_2": 0.0,
        "CD2_1": 0.0, "CD2_2": scale / 3600, **more,
    }  # fmt: skip


def noise(bands: int = 3, size: int = 80) -> NDArray[np.float32]:
    draw = np.random.default_rng(1).normal(0, 0.01, (bands, size, size))
    return draw.astype(np.float32)


def cube(path: Path, values: NDArray[np.float32], **more: object) -> Path:
    """One cube, as the viewer's cutout service writes it."""
    unit = fits.PrimaryHDU(values)
    unit.header.update({k: v for k, v in more.items() if v is not None})
    unit.writeto(path)
    return path


def extensions(path: Path, planes: list[tuple[dict[str, object], NDArray[np.float32]]]) -> Path:
    """An empty primary unit, and an image extension each."""
    units = [fits.PrimaryHDU()]
    for header, values in planes:
        unit = fits.ImageHDU(values)
        unit.header.update(header)
        units.append(unit)
    fits.HDUList(units).writeto(path)
    return path


def reason(path: Path, bands: tuple[str, ...] = GRZ, stated: Stated | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        read(path, bands, stated or Stated())
    return str(caught.value)


def test_a_cube_comes_back_in_the_bands_asked_for(tmp_path: Path) -> None:
    values = noise(4)
    path = cube(tmp_path / "a.fits", values, **cards(BANDS="griz"))
    found = read(path, ("z", "g"), Stated())
    np.testing.assert_array_equal(found.pixels, values[[3, 0]])
    assert found.scale_arcsec == pytest.approx(SCALE)
    assert found.pixels.dtype == np.float32


@pytest.mark.parametrize(
    "named",
    [
        {"BANDS": "grz"},
        {"BANDS": "g, r, z"},
        {"BAND0": "g", "BAND1": "r", "BAND2": "z"},
        {"FILTER": "g r z"},
    ],
)
def test_the_bands_of_a_cube_are_named_in_several_ways(
    tmp_path: Path, named: dict[str, object]
) -> None:
    values = noise()
    found = read(cube(tmp_path / "a.fits", values, **cards(**named)), ("z",), Stated())
    np.testing.assert_array_equal(found.pixels, values[2:])


def test_one_extension_a_band_and_their_weights_are_told_apart(tmp_path: Path) -> None:
    values = noise()
    planes = []
    for number, filter_ in enumerate(("z DECam c0004 9260.0", "HSC-R2", "g.MP9402")):
        planes.append((cards(FILTER=filter_, IMAGETYP="image"), values[number]))
        planes.append((cards(FILTER=filter_, IMAGETYP="invvar"), 1 + values[number]))
    found = read(extensions(tmp_path / "a.fits", planes), GRZ, Stated())
    np.testing.assert_array_equal(found.pixels, values[::-1])


def test_compressed_and_whole_number_files_are_read(tmp_path: Path) -> None:
    values = noise()
    path = cube(tmp_path / "a.fits.gz", values, **cards(BANDS="grz"))
    np.testing.assert_array_equal(read(path, GRZ, Stated()).pixels, values)
    counts = (values * 1000).astype(np.int16)
    path = cube(tmp_path / "b.fits", counts, **cards(BANDS="grz"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(path, GRZ, Stated()).pixels, counts.astype(np.float32))


@pytest.mark.parametrize(
    ("said", "nmgy"),
    [
        ({"BUNIT": "nanomaggy"}, 1.0),
        ({"BUNIT": "nJy"}, 1 / 3631),
        ({"BUNIT": "uJy"}, 1 / 3.631),
        ({"MAGZERO": 25.0}, 0.1),
        ({"SURVEY": "DECaLS"}, 1.0),
        ({"SURVEY": "LegacySurvey"}, 1.0),
    ],
)
def test_units_become_nanomaggies(tmp_path: Path, said: dict[str, object], nmgy: float) -> None:
    values = noise()
    header = cards(BANDS="grz", **{"SURVEY": None, **said})
    found = read(cube(tmp_path / "a.fits", values, **header), GRZ, Stated())
    np.testing.assert_allclose(found.pixels, nmgy * values, rtol=1e-5)


def test_a_stated_zero_point_is_used_and_has_to_agree_with_the_header(tmp_path: Path) -> None:
    values = noise()
    silent = cube(tmp_path / "a.fits", values, **cards(BANDS="grz", SURVEY=None))
    found = read(silent, GRZ, Stated(zero_point_mag=27.0))
    np.testing.assert_allclose(found.pixels, 10**-1.8 * values, rtol=1e-5)
    assert "states no unit of flux" in reason(silent)
    other = cube(tmp_path / "b.fits", values, **cards(BANDS="grz", BUNIT="nanomaggy"))
    assert "--zero-point 27" in reason(other, stated=Stated(zero_point_mag=27.0))
    surface = cube(tmp_path / "c.fits", values, **cards(BANDS="grz", BUNIT="MJy/sr"))
    assert "'MJy/sr', no flux that is known" in reason(surface)


@pytest.mark.parametrize(
    ("changes", "stated", "expected"),
    [
        ({"BANDS": "gri"}, Stated(), "no band z; it has g r i"),
        ({"BANDS": "gr"}, Stated(), "2 bands are named"),
        ({"BANDS": "ggz"}, Stated(), "no band r"),
        ({"BANDS": "grrz", "n": 4}, Stated(), "band r stands in it more than once"),
        ({}, Stated(), "names no bands"),
        ({"BANDS": "grz"}, Stated(bands=("g", "z", "r")), "names bands g r z, not g z r"),
        ({"BANDS": "grz", "CTYPE1": None}, Stated(), "no pixel scale"),
        ({"BANDS": "grz"}, Stated(pixel_scale_arcsec=0.2), '0.262"/px, --pixel-scale 0.2'),
    ],
)
def test_what_is_missing_or_contradicted_is_said(
    tmp_path: Path, changes: dict[str, object], stated: Stated, expected: str
) -> None:
    planes = int(changes.get("n", 3))  # type: ignore[call-overload]
    header = cards(**{k: v for k, v in changes.items() if k != "n"})
    path = cube(tmp_path / "a.fits", noise(planes), **header)
    assert expected in reason(path, stated=stated)


def test_extensions_on_different_pixels_are_refused(tmp_path: Path) -> None:
    values = noise()
    planes = [(cards(BAND=band, CRVAL1=150.0 + 1e-4 * n), values[n]) for n, band in enumerate(GRZ)]
    assert "different pixels of the sky" in reason(extensions(tmp_path / "a.fits", planes))
    planes = [(cards(BAND=band), values[n, : 80 - n]) for n, band in enumerate(GRZ)]
    assert "differ in size" in reason(extensions(tmp_path / "b.fits", planes))


def test_an_array_needs_all_options(tmp_path: Path) -> None:
    values = noise()
    np.save(tmp_path / "a.npy", values)
    assert "--bands, --pixel-scale, --zero-point" in reason(tmp_path / "a.npy")
    stated = Stated(GRZ, SCALE, 22.5)
    found = read(tmp_path / "a.npy", ("r",), stated)
    np.testing.assert_allclose(found.pixels, values[1:2], rtol=1e-6)
    assert found.frame is None
    np.save(tmp_path / "b.npy", values[0])
    assert "no cube" in reason(tmp_path / "b.npy", stated=stated)


def test_pictures_and_damaged_files_are_refused(tmp_path: Path) -> None:
    for name, said in (
        ("a.png", "8-bit"),
        ("a.JPG", "8-bit"),
        ("a.fits", "cannot be read as FITS"),
        ("a.npy", "cannot be read as an array"),
        ("a.txt", "neither FITS nor .npy"),
    ):
        (tmp_path / name).write_bytes(b"x" * 3000)
        assert said in reason(tmp_path / name, stated=Stated(GRZ, SCALE, 22.5))


def test_damaged_files_are_a_reason_and_no_crash(tmp_path: Path) -> None:
    for name in ("a.fits", "a.fits.gz"):
        whole = cube(tmp_path / name, noise(), **cards(BANDS="grz")).read_bytes()
        for n, size in enumerate((100, 3000, len(whole) // 2)):
            path = tmp_path / f"{n}{name}"
            path.write_bytes(whole[:size])
            assert "cannot be read as FITS" in reason(path)
    flat = cube(tmp_path / "b.fits", noise(), **cards(BANDS="grz", CD1_1=0.0))
    assert "make no projection" in reason(flat)


def test_psf_widths_are_read_from_headers(tmp_path: Path) -> None:
    values = noise()
    planes = [(cards(BAND=b, PSFSIZE=1.4 - n / 10), values[n]) for n, b in enumerate(GRZ)]
    found = read(extensions(tmp_path / "a.fits", planes), GRZ, Stated())
    assert found.told == pytest.approx(
        {"psf_nea_g_arcsec": 1.4, "psf_nea_r_arcsec": 1.3, "psf_nea_z_arcsec": 1.2}
    )
    header = cards(BANDS="grz", PSFSIZE1=1.3, PSFFWHMZ=0.9)
    found = read(cube(tmp_path / "b.fits", values, **header), GRZ, Stated())
    assert found.told == {"psf_nea_r_arcsec": 1.3, "psf_fwhm_z_arcsec": 0.9}


def cutout(values: NDArray[np.float32]) -> Cutout:
    return Cutout(values, SCALE, None)


@pytest.mark.parametrize("full", [80, 81, 99, 424])
def test_the_middle_is_cut_to_half_a_pixel(full: int) -> None:
    values = np.ones((1, full, full), np.float32)
    middle = full // 2  # of an even width, the pixel up and to the right of the middle
    values[0, middle, middle] = 9
    made = stamping.stamp_of(cutout(values), 64, (28, 38), None)
    assert np.argwhere(made.pixels[0] == 9).tolist() == [[32 - full % 2, 32 - full % 2]]


def test_the_sky_is_that_of_the_annulus_and_not_of_the_galaxy() -> None:
    values = noise(2, 80) + 0.5
    away = np.hypot(*(np.indices((80, 80)) - 39.5))
    values[:, away < 28] = 40.0
    values[:, away > 38] = -7.0
    made = stamping.stamp_of(cutout(values), 64, (28, 38), None)
    assert made.sky_from == "annulus"
    ring = values[:, (away >= 28) & (away <= 38)]
    np.testing.assert_allclose(made.sky_median, np.median(ring, axis=1), rtol=1e-6)
    wider = np.pad(values, ((0, 0), (30, 30), (30, 30)), constant_values=99.0)
    same = stamping.stamp_of(cutout(wider), 64, (28, 38), None)
    np.testing.assert_array_equal(same.sky_median, made.sky_median)


def test_a_narrow_cutout_takes_the_sky_from_its_frame() -> None:
    values = noise(1, 64) + 0.5
    values[:, 4:-4, 4:-4] = 40.0
    made = stamping.stamp_of(cutout(values), 64, (28, 38), None)
    assert made.sky_from == "frame"
    assert made.sky_median[0] == pytest.approx(0.5, abs=0.005)
    stated = stamping.stamp_of(cutout(values), 64, (28, 38), np.array([0.25], np.float32))
    assert (stated.sky_from, stated.sky_median.tolist()) == ("stated", [0.25])


def test_pixels_that_are_missing_are_refused_in_the_stamp_and_left_out_of_the_sky() -> None:
    values = noise(2, 80)
    values[0, 40, 40] = np.nan
    with pytest.raises(ImageError, match="1 pixels of the stamp are not finite"):
        stamping.stamp_of(cutout(values), 64, (28, 38), None)
    values = noise(2, 80)
    values[1, :6] = np.nan
    made = stamping.stamp_of(cutout(values), 64, (28, 38), None)
    assert np.isfinite(made.sky_median).all()
    values = noise(2, 80)
    values[1, 8:24] = 0.0
    with pytest.raises(ImageError, match="25% of the pixels of plane 1 are exactly zero"):
        stamping.stamp_of(cutout(values), 64, (28, 38), None)
    with pytest.raises(ImageError, match="60 x 60 px, and the network takes 64 px"):
        stamping.stamp_of(cutout(noise(2, 60)), 64, (28, 38), None)


@pytest.mark.parametrize("full", [80, 81])
def test_the_position_is_that_of_the_stamps_middle(tmp_path: Path, full: int) -> None:
    path = cube(tmp_path / "a.fits", noise(3, full), **cards(full, BANDS="grz"))
    made = stamping.stamp_of(read(path, GRZ, Stated()), 64, (28, 38), None)
    away = np.hypot((made.ra_deg - 150) * np.cos(np.deg2rad(2)), made.dec_deg - 2) * 3600 / SCALE
    assert away == pytest.approx(np.hypot(0.5, 0.5) * (full % 2), abs=1e-3)
