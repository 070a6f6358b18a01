from pathlib import Path

import galsim
import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pytest
import survey_builders as build
from astropy.io import fits
from galsim.des import DES_PSFEx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, median_filter
from survey_server import Server

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import fwhm_from_psfsize, moffat_fwhm
from darkhaloscope.data import pixels
from darkhaloscope.stages import cutouts, images
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import Survey

BRICK = build.Brick()
COUNT = 6


def hosts_of(brick: build.Brick, galaxies: build.Galaxies, **changes: object) -> pa.Table:
    """The columns of splits that cutouts reads, of a brick's galaxies."""
    columns = galaxies.columns(brick)
    n = len(galaxies.x)
    table = {
        "target_id": pa.array(np.arange(n) + 100 * brick.brickid),
        "brickname": pa.array([brick.name] * n, pa.string()),
        "ra_deg": pa.array(columns["ra"]),
        "dec_deg": pa.array(columns["dec"]),
    }
    for band in build.BANDS:
        table[f"psf_nea_{band}_arcsec"] = pa.array(columns[f"psfsize_{band}"])
    return pa.table(table | changes, schema=cutouts.hosts(build.BANDS))


def cut(survey: Survey, hosts: pa.Table, **changes: object) -> pa.Table:
    found = images.run(hosts, survey=survey, config=build.images_config())
    return cutouts.run(hosts, found, survey=survey, config=build.cutouts_config(**changes))


@pytest.fixture(scope="module")
def two_bricks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, pa.Table, pa.Table]:
    """A survey of two bricks, its hosts, and its images."""
    bricks = (BRICK, build.Brick(ra=10.1, brickid=2))
    root = build.write_survey(tmp_path_factory.mktemp("survey"), bricks, COUNT)
    survey = build.survey_at(root)
    hosts = pa.concat_tables([hosts_of(b, build.galaxies_in(b, COUNT)) for b in bricks])
    return survey, hosts, images.run(hosts, survey=survey, config=build.images_config())


def test_pixels_are_those_of_the_image_around_the_catalogued_place(tmp_path: Path) -> None:
    galaxies = build.galaxies_in(BRICK, COUNT)
    build.write_survey(tmp_path)
    table = cut(build.survey_at(tmp_path), hosts_of(BRICK, galaxies))
    stamps = pixels.decode(table["pixels"], table.field("pixels"))
    for row, (x, y) in enumerate(zip(galaxies.x, galaxies.y, strict=True)):
        x0, y0 = round(x - 39.5), round(y - 39.5)
        for band_number, band in enumerate(build.BANDS):
            whole = build.coadds(BRICK, galaxies, band)["image"]
            expected = whole[y0 : y0 + 80, x0 : x0 + 80]
            np.testing.assert_allclose(stamps[row, band_number], expected, atol=0.51e-4)
        place = table["host_x_px"][row].as_py(), table["host_y_px"][row].as_py()
        assert place == pytest.approx((x - x0, y - y0), abs=1e-3)
        assert np.abs(np.array(place) - 39.5).max() <= 0.5 + 1e-3


def test_sky_noise_depth_and_widths_are_those_that_were_written(
    two_bricks: tuple[Survey, pa.Table, pa.Table],
) -> None:
    survey, hosts, files = two_bricks
    table = cutouts.run(hosts, files, survey=survey, config=build.cutouts_config())
    assert table["refused"].null_count == table.num_rows == 2 * COUNT
    for number, band in enumerate(build.BANDS):
        sigma, nea = build.NOISE[band], 1.4 - 0.05 * number
        noise = table[f"noise_{band}_nmgy"].to_numpy()
        np.testing.assert_allclose(noise, sigma, rtol=0.03)
        np.testing.assert_allclose(table[f"psf_nea_{band}_arcsec"], nea, atol=1e-4)
        fwhm = fwhm_from_psfsize(nea, 3.0)
        np.testing.assert_allclose(table[f"psf_fwhm_{band}_arcsec"], fwhm, atol=1e-3)
        assert np.median(table[f"sky_mad_{band}_nmgy"]) * 1.4826 == pytest.approx(sigma, rel=0.1)
        # white noise fitted by a Gaussian of that Neff: sigma_flux = sigma sqrt(4 pi) s, s in px
        flux_error = sigma / 0.91 * np.sqrt(4 * np.pi) * nea / 2.35482 / build.SCALE
        depth = 22.5 - 2.5 * np.log10(5 * flux_error)
        np.testing.assert_allclose(table[f"depth_{band}_mag"], depth, atol=0.03)
        assert table[f"n_exposures_{band}"].to_pylist() == [5.0] * table.num_rows
    assert table["masked_fraction"].to_pylist() == [0.0] * table.num_rows


def test_the_output_conforms_and_says_what_its_pixels_are(
    two_bricks: tuple[Survey, pa.Table, pa.Table],
) -> None:
    survey, hosts, files = two_bricks
    table = cutouts.run(hosts, files, survey=survey, config=build.cutouts_config())
    schemas.conform(table, schemas.cutouts(build.BANDS), where="test")
    layout = pixels.layout_of(table.field("pixels"))
    assert layout == pixels.Layout(build.BANDS, 80, build.SCALE)


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(2 * COUNT)), cut_at=st.integers(0, 2 * COUNT))
def test_neither_chunks_nor_the_order_of_rows_change_a_row(
    two_bricks: tuple[Survey, pa.Table, pa.Table], order: list[int], cut_at: int
) -> None:
    survey, hosts, files = two_bricks
    config = build.cutouts_config()
    whole = cutouts.run(hosts, files, survey=survey, config=config)
    mixed = hosts.take(pa.array(order))
    parts = [
        cutouts.run(part, files, survey=survey, config=config)
        for part in (mixed.slice(0, cut_at), mixed.slice(cut_at))
    ]
    assert pa.concat_tables(parts).equals(whole.take(pa.array(order)))


def test_reading_by_tiles_and_reading_whole_give_the_same_pixels(tmp_path: Path) -> None:
    large = build.Brick(size=600)
    galaxies = build.galaxies_in(large, 30)
    build.write_bricks(tmp_path, [large])
    build.write_coadds(tmp_path, large, galaxies)
    survey, hosts = build.survey_at(tmp_path), hosts_of(large, galaxies)
    files = images.run(hosts, survey=survey, config=build.images_config())
    config = build.cutouts_config()
    together = cutouts.run(hosts, files, survey=survey, config=config)
    alone = [cutouts.run(hosts[i : i + 1], files, survey=survey, config=config) for i in range(30)]
    assert pa.concat_tables(alone).equals(together)


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz"])
def test_any_compression_is_read(tmp_path: Path, suffix: str) -> None:
    galaxies = build.galaxies_in(BRICK, 2)
    build.write_bricks(tmp_path, [BRICK])
    build.write_coadds(tmp_path, BRICK, galaxies, suffix=suffix)
    table = cut(build.survey_at(tmp_path), hosts_of(BRICK, galaxies))
    assert table["refused"].to_pylist() == [None, None]
    assert float(table["noise_g_nmgy"][0].as_py()) == pytest.approx(build.NOISE["g"], rel=0.05)


def test_no_targets_give_no_rows(two_bricks: tuple[Survey, pa.Table, pa.Table]) -> None:
    survey, hosts, files = two_bricks
    table = cutouts.run(hosts.slice(0, 0), files, survey=survey, config=build.cutouts_config())
    assert table.num_rows == 0
    assert pixels.layout_of(table.field("pixels")).size == 80


def _changed(kind: str, band: str, value: float, columns: slice = slice(None)) -> dict:
    made = build.coadds(BRICK, build.galaxies_in(BRICK, 1), band)[kind]
    made[:, columns] = value
    return {(kind, band): made}


SICK = {
    "missing_band": ({("image", "r"): None}, "no r pixels of brick 0100p000"),
    "missing_invvar": ({("invvar", "z"): None}, "no z pixels of brick 0100p000"),
    "nan_in_one_band": (_changed("image", "g", np.nan, slice(100, 101)), "band g are not finite"),
    "band_of_zeros": (_changed("image", "r", 0.0), "band r has no data: 100% of the pixels"),
    "no_weight": (_changed("invvar", "z", 0.0), "100% of the pixels of band z are masked"),
    "no_sky": (_changed("invvar", "z", 0.0), "masked"),
}


@pytest.mark.parametrize("sickness", SICK)
def test_what_cannot_be_used_is_refused_with_a_reason_and_no_pixels(
    tmp_path: Path, sickness: str
) -> None:
    changes, reason = SICK[sickness]
    galaxies = build.galaxies_in(BRICK, 1)
    build.write_bricks(tmp_path, [BRICK])
    build.write_coadds(tmp_path, BRICK, galaxies, changes, suffix=".fits")
    table = cut(build.survey_at(tmp_path), hosts_of(BRICK, galaxies))
    assert reason in table["refused"][0].as_py()
    assert table["pixels"].null_count == 1


def test_mask_bits_count_in_their_own_band_up_to_the_limit(tmp_path: Path) -> None:
    galaxies = build.Galaxies([100.0], [100.0])
    build.write_bricks(tmp_path, [BRICK])
    mask = np.zeros((build.SIZE, build.SIZE), np.int16)
    mask[:, :70] = 1 << 3  # SATUR_R, over columns 61-69 of the cutout 60-139
    build.write_coadds(tmp_path, BRICK, galaxies, {("maskbits", ""): mask})
    survey, hosts = build.survey_at(tmp_path), hosts_of(BRICK, galaxies)
    refused = cut(survey, hosts)
    share = refused["masked_fraction"][0].as_py()
    assert share in (pytest.approx(9 / 80), pytest.approx(10 / 80))
    assert "pixels of band r are masked" in refused["refused"][0].as_py()
    assert cut(survey, hosts, max_masked_fraction=0.2)["refused"].to_pylist() == [None]
    ignored = cut(survey, hosts, masked_bits=("BAILOUT",))
    assert ignored["masked_fraction"].to_pylist() == [0.0]


def test_masked_pixels_do_not_enter_the_sky(tmp_path: Path) -> None:
    galaxies = build.Galaxies([100.0], [100.0])
    build.write_bricks(tmp_path, [BRICK])
    made = build.coadds(BRICK, galaxies, "z")
    made["image"][:, 60:85] = 50.0
    made["invvar"][:, 60:85] = 0.0
    changes = {("image", "z"): made["image"], ("invvar", "z"): made["invvar"]}
    build.write_coadds(tmp_path, BRICK, galaxies, changes)
    hosts = hosts_of(BRICK, galaxies)
    table = cut(build.survey_at(tmp_path), hosts, max_masked_fraction=0.4)
    assert table["refused"].to_pylist() == [None]
    assert abs(table["sky_median_z_nmgy"][0].as_py()) < 0.2 * build.NOISE["z"]
    assert table["sky_mad_z_nmgy"][0].as_py() * 1.4826 == pytest.approx(build.NOISE["z"], rel=0.1)


def test_a_target_at_the_edge_is_refused_and_its_neighbour_is_not(tmp_path: Path) -> None:
    galaxies = build.Galaxies([100.0, 38.0, 162.0, -500.0], [100.0, 100.0, 100.0, 100.0])
    build.write_bricks(tmp_path, [BRICK])
    build.write_coadds(tmp_path, BRICK, galaxies)
    refused = cut(build.survey_at(tmp_path), hosts_of(BRICK, galaxies))["refused"].to_pylist()
    assert refused[0] is None
    assert all("outside or at the edge" in reason for reason in refused[1:])


def test_a_target_on_the_other_side_of_the_sky_is_refused(tmp_path: Path) -> None:
    build.write_survey(tmp_path)
    far = hosts_of(BRICK, build.galaxies_in(BRICK, 1), ra_deg=pa.array([190.0]))
    assert "outside" in cut(build.survey_at(tmp_path), far)["refused"][0].as_py()


def test_without_a_map_of_psfsize_the_catalogue_serves(tmp_path: Path) -> None:
    galaxies = build.galaxies_in(BRICK, 1)
    build.write_bricks(tmp_path, [BRICK])
    absent = {("psfsize", "g"): None, ("nexp", "g"): None, ("maskbits", ""): None}
    build.write_coadds(tmp_path, BRICK, galaxies, absent)
    survey, hosts = build.survey_at(tmp_path), hosts_of(BRICK, galaxies)
    table = cut(survey, hosts)
    assert table["refused"].to_pylist() == [None]
    assert table["psf_nea_g_arcsec"][0].as_py() == pytest.approx(1.3)
    assert table["n_exposures_g"].to_pylist() == [None]
    unknown = hosts_of(BRICK, galaxies, psf_nea_g_arcsec=pa.nulls(1, pa.float32()))
    assert "no PSF width of band g" in cut(survey, unknown)["refused"][0].as_py()


def with_psfs(tmp_path: Path, images: dict[str, np.ndarray], **changes: object) -> pa.Table:
    """Cutouts of three galaxies of a brick with PSF images, 31 px of them kept."""
    build.write_survey(tmp_path, count=3)
    build.write_psfs(tmp_path, BRICK, images)
    survey = build.survey_at(tmp_path, psf_images=build.PSF_IMAGES)
    hosts = hosts_of(BRICK, build.galaxies_in(BRICK, 3))
    return cut(survey, hosts, **{"psf_image_px": 31} | changes)


def test_psf_images_are_kept_normed_and_widths_are_theirs(tmp_path: Path) -> None:
    images = {b: psfs.moffat(3.0 + 0.3 * n, 3.5) for n, b in enumerate(build.BANDS)}
    table = with_psfs(tmp_path, images)
    schemas.conform(table, schemas.cutouts(build.BANDS), where="test")
    assert table["refused"].null_count == 3
    field = table.field("psf_image")
    assert pixels.layout_of(field) == pixels.Layout(build.BANDS, 31, build.SCALE)
    kept = pixels.decode(table["psf_image"], field)
    for number, (band, image) in enumerate(images.items()):
        middle = image[16:47, 16:47]
        np.testing.assert_allclose(kept[1, number], middle / middle.sum(), rtol=1e-5)
        fwhm = moffat_fwhm(3.0 + 0.3 * number, 3.5) * build.SCALE
        np.testing.assert_allclose(table[f"psf_fwhm_{band}_arcsec"], fwhm, rtol=5e-3)
        n_eff = 1 / (kept[1, number].astype(float) ** 2).sum()
        nea = 2.35482 * np.sqrt(n_eff / 4 / np.pi) * build.SCALE
        np.testing.assert_allclose(table[f"psf_nea_{band}_arcsec"], nea, rtol=1e-5)
    without = cut(build.survey_at(tmp_path), hosts_of(BRICK, build.galaxies_in(BRICK, 3)))
    assert without["psf_image"].null_count == 3
    assert without["pixels"].equals(table["pixels"])


def test_a_psfex_model_is_evaluated_where_each_galaxy_is(tmp_path: Path) -> None:
    path = tmp_path / build.PSF_IMAGES.format(brick=BRICK.name, band="g")
    said = psfs.header(2, POLZERO1=100.0, POLSCAL1=50.0, POLZERO2=100.0, POLSCAL2=50.0)
    psfs.write_psfex(path, psfs.polynomial(2), said)
    round_one = psfs.moffat(3.0, 3.5)
    table = with_psfs(tmp_path, {"r": round_one, "z": round_one})
    kept = pixels.decode(table["psf_image"], table.field("psf_image"))[:, 0]
    galaxies = build.galaxies_in(BRICK, 3)
    for row, (x, y) in enumerate(zip(galaxies.x, galaxies.y, strict=True)):
        theirs = DES_PSFEx(str(path)).getPSFArray(galsim.PositionD(x + 1, y + 1))
        np.testing.assert_allclose(kept[row], theirs / theirs.sum(), atol=1e-5 * theirs.max())
    widths = table["psf_fwhm_g_arcsec"].to_numpy()
    assert np.ptp(widths) > 1e-3


def test_a_target_without_a_psf_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = psfs.moffat(3.0, 3.5)
    missing = with_psfs(tmp_path / "a", {"g": good, "z": good})
    assert missing["refused"].to_pylist() == ["brick 0100p000 has no r psf"] * 3
    assert missing["psf_image"].null_count == missing["pixels"].null_count == 3
    moved = with_psfs(tmp_path / "b", {"g": good, "r": np.roll(good, 23, 0), "z": good})
    assert moved["refused"][0].as_py() == (
        "r psf of brick 0100p000: its light is centred 23.0 px off its middle"
    )
    even = with_psfs(tmp_path / "c", {"g": good, "r": good, "z": psfs.moffat(3.0, 3.5, 64)})
    assert "z psf of brick 0100p000: it has 64 x 64 px" in even["refused"][0].as_py()


def test_the_gain_follows_from_the_exposures_and_the_weight_of_the_place(tmp_path: Path) -> None:
    build.write_survey(tmp_path, count=2)
    survey, hosts = build.survey_at(tmp_path), hosts_of(BRICK, build.galaxies_in(BRICK, 2))
    assert cut(survey, hosts)["electrons_per_nmgy_g"].null_count == 2
    build.write_ccds(tmp_path, BRICK)
    table = cut(survey, hosts)
    for band, sky in build.SKY_NMGY.items():
        electrons = np.array(build.ELECTRONS)
        weight = 1 / (sky / electrons + (7 / electrons) ** 2)
        gain = weight.sum() ** 2 / (weight**2 / electrons).sum()  # if the coadd had just these
        invvar = (0.91 / build.NOISE[band]) ** 2
        got = table[f"electrons_per_nmgy_{band}"].to_numpy()
        np.testing.assert_allclose(got, gain * invvar / weight.sum(), rtol=0.01)


def test_a_sick_table_of_exposures_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build.write_survey(tmp_path, count=1)
    path = build.write_ccds(tmp_path, BRICK)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path, overwrite=True)
    table = cut(build.survey_at(tmp_path), hosts_of(BRICK, build.galaxies_in(BRICK, 1)))
    assert table["refused"].to_pylist() == [None]
    assert table["electrons_per_nmgy_g"].to_pylist() == [None]
    assert "g ccds of brick 0100p000: it holds no table" in caplog.text


def test_images_of_another_pixel_scale_are_refused(tmp_path: Path) -> None:
    build.write_survey(tmp_path)
    hosts = hosts_of(BRICK, build.galaxies_in(BRICK, 1))
    table = cut(build.survey_at(tmp_path), hosts, pixel_scale_arcsec=0.3)
    assert "0.2620 arcsec wide, not 0.3" in table["refused"][0].as_py()


def test_bands_on_different_grids_are_refused(tmp_path: Path) -> None:
    galaxies = build.galaxies_in(BRICK, 1)
    build.write_survey(tmp_path, count=1)
    other = build.Brick(ra=10.0001)
    path = tmp_path / build.layout.coadd_path(BRICK.name, "image", "z")
    build.write_image(path, build.coadds(BRICK, galaxies, "z")["image"], other.header())
    refused = cut(build.survey_at(tmp_path), hosts_of(BRICK, galaxies))["refused"][0].as_py()
    assert "z image of brick 0100p000 has other pixels than g" in refused


def test_a_file_that_changed_since_images_was_made_stops_with_a_message(tmp_path: Path) -> None:
    build.write_survey(tmp_path)
    survey, hosts = build.survey_at(tmp_path), hosts_of(BRICK, build.galaxies_in(BRICK, 1))
    files = images.run(hosts, survey=survey, config=build.images_config())
    path = tmp_path / build.layout.coadd_path(BRICK.name, "invvar", "r")
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(DataError, match="not what it was when images was made"):
        cutouts.run(hosts, files, survey=survey, config=build.cutouts_config())


def test_damaged_pixels_are_a_reason_not_a_crash(tmp_path: Path) -> None:
    build.write_survey(tmp_path)
    path = tmp_path / build.layout.coadd_path(BRICK.name, "image", "g")
    content = bytearray(path.read_bytes())
    descriptors = content.rfind(b"END     ") // 2880 * 2880 + 2880
    content[descriptors : descriptors + 64] = b"\x7f" * 64  # lengths and places of tiles
    path.write_bytes(content)
    table = cut(build.survey_at(tmp_path), hosts_of(BRICK, build.galaxies_in(BRICK, 1)))
    assert "g image of brick 0100p000" in table["refused"][0].as_py()
    assert table["pixels"].null_count == 1


def test_a_brick_unknown_to_images_stops_with_a_message(
    two_bricks: tuple[Survey, pa.Table, pa.Table],
) -> None:
    survey, hosts, files = two_bricks
    with pytest.raises(DataError, match="rerun stage images"):
        cutouts.run(hosts, files.slice(0, 0), survey=survey, config=build.cutouts_config())


def real_hosts(
    brick: str, header: fits.Header, x: np.ndarray, y: np.ndarray, bands: tuple[str, ...]
) -> pa.Table:
    """Hosts at pixel coordinates of a real image."""
    wcs = build.Brick().wcs()
    wcs.wcs.crval = [header["CRVAL1"], header["CRVAL2"]]
    wcs.wcs.crpix = [header["CRPIX1"], header["CRPIX2"]]
    wcs.wcs.cd = [[header["CD1_1"], 0], [0, header["CD2_2"]]]
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    columns = {
        "target_id": np.arange(len(x)),
        "brickname": [brick] * len(x),
        "ra_deg": ra,
        "dec_deg": dec,
        **{f"psf_nea_{band}_arcsec": np.full(len(x), 1.5, np.float32) for band in bands},
    }
    arrays = {name: pa.array(values) for name, values in columns.items()}
    return pa.table(arrays, schema=cutouts.hosts(bands))


def cut_real(survey: Survey, hosts: pa.Table, **changes: object) -> pa.Table:
    settings_ = {"bands": survey.config.bands} | changes
    files = images.run(hosts, survey=survey, config=build.images_config(bands=survey.config.bands))
    return cutouts.run(hosts, files, survey=survey, config=build.cutouts_config(**settings_))


def rms_and_lags(stamps: np.ndarray, sigma: np.ndarray) -> tuple[float, float, float]:
    """Rms of sky pixels over sigma, and their correlation one and two pixels apart."""
    values = stamps / sigma[:, None, None]
    smooth = median_filter(values, size=(1, 5, 5))
    sources = binary_dilation(smooth > 1.0, np.ones((1, 9, 9)))
    sky = np.where(sources, np.nan, values)
    sky -= np.nanmedian(sky, axis=(1, 2), keepdims=True)
    variance = np.nanmean(sky**2)

    def lag(step: int) -> float:
        along = [sky[:, :, step:] * sky[:, :, :-step], sky[:, step:] * sky[:, :-step]]
        return float(np.mean([np.nanmean(product) for product in along]) / variance)

    return float(np.sqrt(variance)), lag(1), lag(2)


@pytest.mark.real
@pytest.mark.parametrize("suffix", [".fits", ".fits.fz"])
def test_the_noise_of_a_real_coadd_is_what_its_invvar_says(
    shared_data: Path, tmp_path: Path, suffix: str
) -> None:
    brick = "0591m305"
    units = fits.open(next((shared_data / "dr9-coadd-cutout").glob("cutout_*.fits")))
    with units:
        header = units[1].header
        for unit in units[1:]:
            kind, band = unit.header["IMAGETYP"].strip(), unit.header["BAND"].strip()
            path = layout.coadd_path(brick, kind, band, release="dr9", suffix=suffix)
            build.write_image(tmp_path / path, unit.data.astype(np.float32), unit.header)
        survey = build.survey_at(tmp_path, release="dr9")
        x, y = (axis.ravel() for axis in np.meshgrid([45.3, 120.0, 205.2], [45.0, 125.4, 205.1]))
        table = cut_real(survey, real_hosts(brick, header, x, y, build.BANDS))
    assert table["refused"].null_count == 9
    stamps = pixels.decode(table["pixels"], table.field("pixels"))
    for number, band in enumerate(build.BANDS):
        sigma = table[f"noise_{band}_nmgy"].to_numpy()
        rms, lag_1, lag_2 = rms_and_lags(stamps[:, number], sigma)
        assert rms == pytest.approx(1.0, abs=0.1)
        assert lag_1 == pytest.approx(0.12, abs=0.05)
        assert lag_2 == pytest.approx(-0.07, abs=0.04)


@pytest.mark.real
def test_a_real_brick_is_read_through_the_cache(shared_data: Path, tmp_path: Path) -> None:
    brick = "0959p805"
    folder = tmp_path / "root" / "coadd" / brick[:3] / brick
    folder.mkdir(parents=True)
    for path in (shared_data / "dr6-brick-0959p805").glob("legacysurvey-*.fits.fz"):
        (folder / path.name).symlink_to(path)
    header = fits.getheader(next(folder.glob("*image-g*")), 1)
    rng = np.random.default_rng(5)
    x, y = rng.uniform(60, 780, 250), rng.uniform(60, 1780, 250)
    hosts = real_hosts(brick, header, x, y, ("g",))
    server = Server(tmp_path / "root")
    try:
        survey = build.survey_at(
            server.address,
            release="dr6",
            hemisphere="north",
            bands=("g",),
            area=[brick],
            cache_folder=str(tmp_path / "cache"),
        )
        table = cut_real(survey, hosts, max_masked_fraction=0.05)
        asked = [path for path in server.asked if "-g.fits.fz" in path]
    finally:
        server.close()
    assert len([path for path in asked if "psfsize" not in path]) == 3  # image, invvar, nexp
    kept = table.filter(pa.compute.is_null(table["refused"]))
    assert kept.num_rows > 50
    refused = table["refused"].drop_null().to_pylist()
    assert all("masked" in reason or "exactly zero" in reason for reason in refused)
    ratio = 1.4826 * kept["sky_mad_g_nmgy"].to_numpy() / kept["noise_g_nmgy"].to_numpy()
    assert np.median(ratio) == pytest.approx(1.0, abs=0.15)
    assert set(kept["psf_nea_g_arcsec"].to_pylist()) == {1.5}
    local = build.survey_at(tmp_path / "root", release="dr6", bands=("g",))
    first = hosts.slice(0, 1)
    alone = cut_real(local, first, max_masked_fraction=0.05)
    assert alone["noise_g_nmgy"].equals(table.slice(0, 1)["noise_g_nmgy"])


@pytest.mark.real
def test_a_window_of_a_real_brick_gives_cutouts_inside_it_only(
    shared_data: Path, tmp_path: Path
) -> None:
    brick = "1238p245"
    folder = tmp_path / "coadd" / brick[:3] / brick
    folder.mkdir(parents=True)
    for path in (shared_data / "dr5-brick-1238p245-z").glob("legacysurvey-*.fits.fz"):
        (folder / path.name).symlink_to(path)
    header = fits.getheader(next(folder.glob("*image-z*")), 1)
    x, y = np.array([2010.0, 500.0, 1920.0]), np.array([3500.0, 500.0, 3500.0])
    hosts = real_hosts(brick, header, x, y, ("z",))
    table = cut_real(build.survey_at(tmp_path, release="dr5", bands=("z",)), hosts)
    inside, outside, border = table["refused"].to_pylist()
    assert inside is None
    assert outside == "band z has no data: 100% of the pixels are exactly zero"
    assert "band z" in border


@pytest.mark.real
def test_a_real_failure_of_two_bands_is_refused(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "decals-grz-fits" / "example_bad_pix_09782dd.fits.gz"
    cube, header = fits.getdata(path, header=True)
    brick = "1474p010"
    for number, band in enumerate(build.BANDS):
        files = {"image": cube[number], "invvar": np.full(cube[number].shape, 400.0, np.float32)}
        for kind, values in files.items():
            target = tmp_path / layout.coadd_path(brick, kind, band, release="dr9", suffix=".fits")
            build.write_image(target, values, fits.Header(header, copy=True)[-12:])
    hosts = real_hosts(brick, header, np.array([212.0]), np.array([212.0]), build.BANDS)
    scale = abs(header["CD1_1"]) * 3600
    table = cut_real(build.survey_at(tmp_path, release="dr9"), hosts, pixel_scale_arcsec=scale)
    assert table["refused"].to_pylist() == [
        "band g has no data: 100% of the pixels are exactly zero"
    ]
    assert table["pixels"].null_count == 1
