"""HST galaxies made fit to be sources: what is known comes back, what is unfit is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from bank_builders import (
    HST_SCALE,
    HST_VARIANCE,
    correlation,
    flux_of,
    hst_image,
    noise,
    profile,
    psf_image,
    write_catalogue,
)  # fmt: skip
from scipy import ndimage

from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import hst_galaxies as hst
from darkhaloscope.survey.hst_catalogue import Catalogue, Stamp
from darkhaloscope.survey.hst_galaxies import Cleaning, clean

CLEANING = Cleaning(size_px=96, least_snr=20, gaussian_fwhm_arcsec=0.12)
HALF_LIGHT_PX = 9.6  # of a picture of 96 px
SIZE = 141


def stamp(image: np.ndarray) -> Stamp:
    return Stamp(image, psf_image(), correlation(), HST_VARIANCE, HST_SCALE)


def disc(mag: float, *, seed: int = 1, size: int = SIZE, **shape: float) -> np.ndarray:
    light = profile(size, **{"r_eff": 8.0, "q": 0.6, "phi": 0.5, **shape})
    return hst_image(light, flux_of(mag), seed=seed)


def half_light(light: np.ndarray) -> float:
    """Radius of the circle that holds half of a centred galaxy's light, px, by interpolation."""
    y, x = np.indices(light.shape) - (len(light) - 1) / 2
    order = np.argsort(np.hypot(y, x), axis=None)
    grown = np.cumsum(light.ravel()[order])
    return float(np.interp(0.5 * grown[-1], grown, np.hypot(y, x).ravel()[order]))


@pytest.mark.parametrize(
    ("n", "r_eff_px", "mag", "flux_error", "size_error"),
    [
        (1.0, 8.0, 21.5, 0.03, 0.06),
        (1.0, 8.0, 22.5, 0.06, 0.06),
        (1.0, 12.0, 22.0, 0.08, 0.06),
        (2.0, 8.0, 21.5, 0.06, 0.06),
        (0.5, 10.0, 22.0, 0.04, 0.08),
        (1.0, 8.0, 23.5, 0.10, 0.08),
    ],
)
def test_flux_and_half_light_radius_come_back(
    n: float, r_eff_px: float, mag: float, flux_error: float, size_error: float
) -> None:
    light = profile(SIZE, r_eff_px, n=n, q=0.6, phi=0.5)
    for seed in (1, 2, 3):
        found = clean([stamp(hst_image(light, flux_of(mag), seed=seed))], CLEANING)
        assert found.refused is None
        assert found.flux_counts == pytest.approx(flux_of(mag), rel=flux_error)
        size = found.scale_arcsec * HALF_LIGHT_PX / HST_SCALE
        assert size == pytest.approx(half_light(light), rel=size_error)


def test_a_picture_is_normalised_centred_positive_and_empty_at_its_edge() -> None:
    moved = ndimage.shift(disc(21.5), (3.4, -2.7), order=3)
    (picture,) = clean([stamp(moved)], CLEANING).pictures
    assert picture.dtype == np.float32
    assert picture.sum() == pytest.approx(1, abs=1e-5)
    assert picture.min() >= 0
    y, x = np.indices(picture.shape) - (CLEANING.size_px - 1) / 2
    assert abs((y * picture).sum()) < 0.05
    assert abs((x * picture).sum()) < 0.05
    assert picture[np.hypot(y, x) > CLEANING.size_px / 2].max() == 0


def test_the_picture_is_the_galaxy_and_no_noise() -> None:
    light = profile(SIZE, 8.0, q=0.6, phi=0.5)
    found = clean([stamp(hst_image(light, flux_of(21.5), seed=4))], CLEANING)
    step = found.scale_arcsec / HST_SCALE
    axis = (np.arange(CLEANING.size_px) - (CLEANING.size_px - 1) / 2) * step + (SIZE - 1) / 2
    # as it would be at the resolution that is said to be left
    sigma = found.fwhm_arcsec / HST_SCALE / 2.3548
    expected = ndimage.map_coordinates(
        ndimage.gaussian_filter(light, sigma), np.meshgrid(axis, axis, indexing="ij")
    )
    error = found.pictures[0] - expected / expected.sum()
    assert np.sqrt((error**2).sum()) < 0.06 * np.sqrt((found.pictures[0] ** 2).sum())


def test_no_ring_of_the_deconvolution_surrounds_a_compact_galaxy() -> None:
    found = clean([stamp(disc(21.0, r_eff=4.0, q=1.0))], CLEANING)
    y, x = np.indices(found.pictures[0].shape) - (CLEANING.size_px - 1) / 2
    ring = np.round(np.hypot(y, x)).astype(int)
    total = np.bincount(ring.ravel(), found.pictures[0].ravel())
    inner = (total[1:] / np.bincount(ring.ravel())[1:])[: 4 * int(HALF_LIGHT_PX)]
    assert (np.diff(inner) <= 1e-3 * inner[0]).all()


@pytest.mark.parametrize("mag", [23.5, 24.0])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_no_dark_rim_surrounds_a_bright_part_in_a_faint_one(mag: float, seed: int) -> None:
    bar = profile(61, 4.0, n=0.5, q=0.35, phi=1.0)
    light = 0.85 * bar + 0.15 * profile(61, 6.0, q=0.7, phi=1.0)
    found = clean([stamp(hst_image(light, flux_of(mag), seed=seed))], CLEANING)
    assert found.refused is None
    assert deepest_pit(found.pictures[0]) < 0.4


def deepest_pit(picture: np.ndarray) -> float:
    """Share of the light that lacks in the deepest narrow gap between brighter parts."""
    y, x = np.indices((9, 9)) - 4
    filled = ndimage.grey_closing(picture, footprint=np.hypot(y, x) <= 4.2)
    bright = filled > 5e-3 * picture.max()
    return float((1 - picture[bright] / filled[bright]).max())


def test_a_stamp_does_not_show_its_shape() -> None:
    for seed in (1, 2, 3):
        image = disc(20.5, size=49, q=1.0, seed=seed)
        (picture,) = clean([stamp(image)], CLEANING).pictures
        y, x = np.indices(picture.shape) - (CLEANING.size_px - 1) / 2
        turn = np.floor(np.degrees(np.arctan2(y, x)) / 10)
        seen = picture > 1e-3 * picture.max()
        reach = [np.hypot(y, x)[seen & (turn == t)].max() for t in np.unique(turn)]
        assert max(reach) < 1.12 * min(reach)


def test_a_galaxy_that_goes_on_beyond_its_stamp_is_cut_off() -> None:
    """However little of its light the outermost pixels hold."""
    image = disc(20.0, n=4.0, r_eff=40.0, q=0.9)
    found = clean([stamp(image)], CLEANING)
    assert found.refused == hst.CUT_OFF
    edge = np.ones(image.shape, bool)
    edge[2:-2, 2:-2] = False
    assert image[edge].sum() < 0.03 * image.sum()
    smaller = disc(20.0, n=4.0, r_eff=6.0, q=0.9)
    assert clean([stamp(smaller)], CLEANING).refused is None


def test_a_neighbour_leaves_no_light_behind() -> None:
    alone = disc(21.5)
    beside = np.roll(disc(22.0, seed=5, r_eff=4.0, q=1.0) - np.sqrt(HST_VARIANCE) * noise(
        (SIZE, SIZE), 5), (38, -30), (0, 1))  # fmt: skip
    one = clean([stamp(alone)], CLEANING)
    two = clean([stamp(alone + beside)], CLEANING)
    assert two.refused is None
    assert two.flux_counts == pytest.approx(one.flux_counts, rel=0.03)
    assert two.scale_arcsec == pytest.approx(one.scale_arcsec, rel=0.03)
    assert np.abs(two.pictures - one.pictures).sum() < 0.1


def test_what_is_unfit_is_refused_with_its_reason() -> None:
    assert clean([stamp(disc(26.0))], CLEANING).refused == hst.TOO_FAINT
    sky = np.sqrt(HST_VARIANCE) * noise((SIZE, SIZE), 3)
    assert clean([stamp(sky)], CLEANING).refused == hst.TOO_FAINT
    assert clean([stamp(disc(21.0, size=33))], CLEANING).refused == hst.CUT_OFF
    star = np.zeros((SIZE, SIZE))
    star[SIZE // 2, SIZE // 2] = 1
    point = hst_image(star, flux_of(20.5), seed=1)
    assert clean([stamp(point)], CLEANING).refused == hst.UNRESOLVED
    spoilt = disc(21.5)
    spoilt[3, 3] = np.nan
    assert clean([stamp(spoilt)], CLEANING).refused == hst.NOT_FINITE
    assert clean([stamp(crowd())], CLEANING).refused == hst.CROWDED


def crowd() -> np.ndarray:
    """A galaxy in the middle of four brighter ones, their light run together."""
    light = profile(SIZE, 8.0) * flux_of(22.0)
    bright = profile(SIZE, 10.0) * flux_of(21.0)
    for place in ((28, 0), (-28, 4), (2, 28), (0, -28)):
        light = light + np.roll(bright, place, (0, 1))
    return hst_image(light, 1.0, seed=1)


@pytest.mark.parametrize("dmag", [-0.5, 0.0, 0.5])
def test_a_blend_of_two_galaxies_is_not_one(dmag: float) -> None:
    light = profile(SIZE, 6.0) * flux_of(22.0)
    other = np.roll(profile(SIZE, 6.0) * flux_of(22.0 + dmag), (30, 12), (0, 1))
    found = clean([stamp(hst_image(light + other, 1.0, seed=1))], CLEANING)
    assert found.refused is None
    assert found.flux_counts == pytest.approx(flux_of(22.0), rel=0.12)


def test_clumps_of_a_galaxy_stay_with_it() -> None:
    light = 0.6 * profile(SIZE, 9.0)
    for place in ((0, 10), (-8, -6), (9, -3)):
        light = light + np.roll(0.133 * profile(SIZE, 1.5), place, (0, 1))
    found = clean([stamp(hst_image(light, flux_of(21.5), seed=1))], CLEANING)
    assert found.refused is None
    assert found.flux_counts == pytest.approx(flux_of(21.5), rel=0.05)


def test_a_catalogue_is_read_file_by_file_with_its_photometry(tmp_path: Path) -> None:
    mags = [21.5, 26.5, 22.0]
    path = write_catalogue(tmp_path, [disc(m, seed=i) for i, m in enumerate(mags)], mags=mags)
    found = list(hst.galaxies([path], CLEANING))
    assert [g.ident for g in found] == [100, 101, 102]
    assert [g.refused for g in found] == [None, hst.TOO_FAINT, None]
    first = found[0]
    assert (first.mag, first.z_phot, first.filters) == (21.5, pytest.approx(0.8), ("F814W",))
    assert first.colour_mags["g"] - first.colour_mags["r"] == pytest.approx(0.6)
    assert [g.file for g in found] == [
        "F814W_images_1.fits[0]", "F814W_images_1.fits[1]", "F814W_images_2.fits[0]",
    ]  # fmt: skip


def test_without_a_companion_photometry_is_not_known(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path, [disc(21.5)], with_photometry=False)
    (found,) = hst.galaxies([path], CLEANING)
    assert (dict(found.colour_mags), found.z_phot) == ({}, None)


def test_two_filters_make_two_layers_on_one_centre(tmp_path: Path) -> None:
    red = write_catalogue(tmp_path, [disc(21.5)], name="red", band="F814W")
    image = disc(21.5, r_eff=11.0, seed=2)
    blue = write_catalogue(tmp_path, [image], name="blue", band="F606W")
    (found,) = hst.galaxies([red, blue], CLEANING)
    assert found.filters == ("F814W", "F606W")
    assert found.pictures.shape == (2, 96, 96)
    sizes = [half_light(picture.astype(float)) for picture in found.pictures]
    assert sizes[1] > 1.2 * sizes[0]


def test_an_image_that_is_missing_refuses_its_galaxies_alone(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path, [disc(21.5, seed=i) for i in range(3)])
    (tmp_path / "F814W_images_2.fits").unlink()
    assert [g.refused for g in hst.galaxies([path], CLEANING)] == [None, None, hst.NO_FILE]


def test_a_missing_noise_correlation_says_where_to_find_it(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path, [disc(21.5)])
    (tmp_path / "F814W_cf.fits").unlink()
    with pytest.raises(DataError, match="GalSim brings it in its share folder"):
        list(hst.galaxies([path], CLEANING))


def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("IDENT", "J", array=[1])])
    table.writeto(tmp_path / "other.fits")
    with pytest.raises(DataError, match=r"other.fits is no catalogue .* lacks MAG, BAND"):
        list(hst.galaxies([tmp_path / "other.fits"], CLEANING))
    (tmp_path / "text.fits").write_text("no")
    with pytest.raises(DataError, match="cannot be read as a FITS catalogue"):
        list(hst.galaxies([tmp_path / "text.fits"], CLEANING))


def test_progress_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hst, "_LOG_EVERY", 2)
    path = write_catalogue(tmp_path, [disc(26.5, seed=i) for i in range(3)])
    with caplog.at_level(logging.INFO):
        list(hst.galaxies([path], CLEANING))
    assert "2 of 3 galaxies of real_galaxy_catalog.fits" in caplog.text


@pytest.mark.real
def test_the_real_hundred_keep_their_catalogued_flux_and_size(shared_data: Path) -> None:
    path = (
        shared_data / "cosmos-hst-sources/galsim_f814w_100"
        / "real_galaxy_catalog_26_extension_example.fits"
    )  # fmt: skip
    catalogue = Catalogue.read(path)
    every = list(hst.galaxies([path], CLEANING))
    usable = [g for g in every if g.refused is None]
    assert len(every) == 100
    assert len(usable) >= 30
    rows = {int(ident): row for row, ident in enumerate(catalogue.rows["IDENT"])}
    offset = [-2.5 * np.log10(g.flux_counts) + 25.94 - g.mag for g in usable]
    assert abs(np.median(offset)) < 0.05
    assert np.percentile(np.abs(offset), 80) < 0.15
    observed = [0.03 * catalogue.beside(rows[g.ident], "flux_radius") for g in usable]
    sizes = [g.scale_arcsec * HALF_LIGHT_PX for g in usable]
    # flux_radius is that of the blurred image
    assert 0.8 < np.median(np.divide(sizes, observed)) < 1.0
    assert all("g" in g.colour_mags and g.z_phot for g in usable)


@pytest.mark.real
def test_real_galaxies_have_no_square_halo_and_no_dark_rim(shared_data: Path) -> None:
    path = (
        shared_data / "cosmos-hst-sources/galsim_f814w_100"
        / "real_galaxy_catalog_26_extension_example.fits"
    )  # fmt: skip
    by_ident = {g.ident: g for g in hst.galaxies([path], CLEANING)}
    # its light goes on beyond the stamp, of which less than 1 % is in the outermost pixels
    assert by_ident[42].refused == hst.CUT_OFF
    # smooth ones, with no gaps of their own, that had a rim
    for ident in (13, 15, 16, 19, 30, 43, 46):
        assert by_ident[ident].refused is None
        assert deepest_pit(by_ident[ident].pictures[0]) < 0.5


@pytest.mark.real
def test_real_galaxies_in_two_filters_have_two_layers(shared_data: Path) -> None:
    folder = shared_data / "cosmos-hst-sources/aegis_f606w_f814w_5"
    paths = [folder / f"AEGIS_{band}_catalog.fits" for band in ("F814w", "F606w")]
    loose = Cleaning(size_px=96, least_snr=10, gaussian_fwhm_arcsec=0.12)
    usable = [g for g in hst.galaxies(paths, loose) if g.refused is None]
    assert usable
    for galaxy in usable:
        assert galaxy.filters == ("F814W", "F606W")
        red, blue = galaxy.pictures
        assert 0.5 < (red * blue).sum() / np.sqrt((red**2).sum() * (blue**2).sum()) < 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("n", "hlr_arcsec", "mag", "flux_error", "size_error"),
    [(1.0, 0.15, 22.5, 0.04, 0.1), (1.0, 0.3, 22.5, 0.08, 0.06), (2.0, 0.3, 21.5, 0.09, 0.1)],
)
def test_galsims_galaxy_with_a_real_psf_and_noise_comes_back(
    shared_data: Path, n: float, hlr_arcsec: float, mag: float, flux_error: float, size_error: float
) -> None:
    galsim = pytest.importorskip("galsim")
    folder = shared_data / "cosmos-hst-sources/galsim_f814w_100"
    cf = fits.getdata(folder / "acs_I_unrot_sci_20_cf.fits").astype(float)
    psf = fits.getdata(folder / "real_galaxy_PSF_images_extension.fits", 3).astype(float)
    galaxy = galsim.Sersic(n=n, half_light_radius=hlr_arcsec, flux=flux_of(mag))
    galaxy = galaxy.shear(q=0.6, beta=0.5 * galsim.radians)
    seen = galsim.InterpolatedImage(galsim.Image(psf, scale=HST_SCALE), flux=1)
    grid = {"nx": 121, "ny": 121, "scale": HST_SCALE, "method": "no_pixel"}
    image = galsim.Convolve(galaxy, seen).drawImage(**grid).array.astype(float)
    correlated = galsim.getCOSMOSNoise(
        file_name=str(folder / "acs_I_unrot_sci_20_cf.fits"),
        rng=galsim.BaseDeviate(5),
        variance=HST_VARIANCE,
    )
    noisy = galsim.Image(image, scale=HST_SCALE)
    noisy.addNoise(correlated)
    found = clean([Stamp(noisy.array, psf, cf, HST_VARIANCE, HST_SCALE)], CLEANING)
    assert found.refused is None
    assert found.flux_counts == pytest.approx(flux_of(mag), rel=flux_error)
    size = found.scale_arcsec * HALF_LIGHT_PX
    # a circle's radius: GalSim's is that of the ellipse's sqrt(ab)
    round_size = galaxy.drawImage(nx=801, ny=801, scale=0.01).calculateHLR()
    assert size == pytest.approx(round_size, rel=size_error)
