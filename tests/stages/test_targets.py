from pathlib import Path

import numpy as np
import pytest
import survey_builders as build
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.stages import targets
from darkhaloscope.survey import catalog, layout

BRICK = build.Brick()
PATH = layout.tractor_path(BRICK.name)


def flux_of(mag: float) -> float:
    return 10 ** (0.4 * (22.5 - mag))


def fluxes(z: float, r_z: float, z_w1: float) -> dict[str, np.ndarray]:
    mags = {"r": z + r_z, "z": z, "w1": z - z_w1}
    return {band: np.array([flux_of(mag)]) for band, mag in mags.items()}


def passing(flux: dict[str, np.ndarray]) -> set[str]:
    return {name for name, flags in targets.lrg_variants(flux).items() if flags[0]}


def selected(root: Path, **changes: object):
    config = build.targets_config(**changes)
    return targets.run(survey=build.survey_at(root), partition=PATH, config=config)


def write(root: Path, galaxies: build.Galaxies) -> Path:
    build.write_bricks(root, [BRICK])
    build.write_tractor(root, BRICK, galaxies)
    return root


@pytest.mark.parametrize(
    ("name", "z", "r_z", "z_w1"),
    [
        ("v1_pure_massive", 20.0, 0.5, 1.6),
        ("v2_baseline_dr10", 20.4, 0.4, 1.6),
        ("v3_color_relaxed", 20.4, 0.4, 0.8),
        ("v4_mag_relaxed", 21.0, 0.4, 0.8),
        ("v5_very_relaxed", 21.5, 0.3, 0.8),
    ],
)
def test_each_cut_of_each_variant_stands_where_it_should(
    name: str, z: float, r_z: float, z_w1: float
) -> None:
    eps = 1e-4
    assert name in passing(fluxes(z - eps, r_z + eps, z_w1 + eps))
    assert name not in passing(fluxes(z + eps, r_z + eps, z_w1 + eps))
    assert name not in passing(fluxes(z - eps, r_z - eps, z_w1 + eps))
    assert name not in passing(fluxes(z - eps, r_z + eps, z_w1 - eps))


@pytest.mark.parametrize("band", ["r", "z", "w1"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_flux_that_is_not_positive_passes_no_variant(band: str, value: float) -> None:
    red = fluxes(19.0, 1.0, 2.0)
    assert len(passing(red)) == 5
    assert passing(red | {band: np.array([value])}) == set()


def test_the_output_conforms_and_says_what_the_cuts_used(tmp_path: Path) -> None:
    table = selected(build.write_survey(tmp_path))
    schemas.conform(table, schemas.targets(build.BANDS), where="test")
    assert table.num_rows == 6
    np.testing.assert_allclose(table["mag_z"], 20.0, atol=1e-4)
    np.testing.assert_allclose(
        table["depth_r_mag"], 22.5 - 2.5 * np.log10(5 / 1000**0.5), atol=1e-4
    )
    assert table["is_v3_color_relaxed"].to_pylist() == [True] * 6
    assert table["is_v2_baseline_dr10"].to_pylist() == [False] * 6
    assert table["type"].to_pylist() == ["DEV"] * 6
    assert len(set(table["target_id"].to_pylist())) == 6


def test_stars_duplicates_of_gaia_and_rows_of_other_bricks_are_left_out(tmp_path: Path) -> None:
    kinds = np.array([b"PSF ", b"DUP", b"REX ", b"DEV"], "S4")
    galaxies = build.galaxies_in(BRICK, 4, type=kinds, brick_primary=[True, True, False, True])
    table = selected(write(tmp_path, galaxies))
    assert (table.num_rows, table["type"].to_pylist()) == (1, ["DEV"])


@pytest.mark.parametrize("band", ["g", "r", "z", "w1"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_flux_that_is_not_finite_drops_its_row(tmp_path: Path, band: str, value: float) -> None:
    flux = np.full(3, {"g": 1.2, "r": 5, "z": 10, "w1": 30}[band], np.float32)
    flux[1] = value
    table = selected(write(tmp_path, build.galaxies_in(BRICK, 3, **{f"flux_{band}": flux})))
    assert table.num_rows == 2


def test_a_repeated_galaxy_is_kept_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    galaxies = build.galaxies_in(BRICK, 4, objid=np.array([7, 8, 7, 9], np.int32))
    with caplog.at_level("WARNING"):
        table = selected(write(tmp_path, galaxies))
    assert [t & 0x3FFFFF for t in table["target_id"].to_pylist()] == [7, 8, 9]
    assert "1 rows repeat a galaxy" in caplog.text


def test_dereddening_is_what_the_settings_say(tmp_path: Path) -> None:
    # z = 20.5 as catalogued, 20.39 before dust
    z = np.full(2, flux_of(20.5), np.float32)
    dust = {"flux_z": z, "mw_transmission_z": np.array([0.9, 0.95], np.float32)}
    root = write(tmp_path, build.galaxies_in(BRICK, 2, **dust, flux_r=z / 3, flux_w1=z * 3))
    assert selected(root, is_dereddened=False).num_rows == 0
    table = selected(root, is_dereddened=True)
    assert table.num_rows == 1
    assert table["mag_z"][0].as_py() == pytest.approx(20.5 + 2.5 * np.log10(0.9), abs=1e-4)
    assert table["flux_z_nmgy"][0].as_py() == pytest.approx(z[0])


def test_a_dereddened_run_refuses_a_catalogue_without_dust(tmp_path: Path) -> None:
    columns = build.galaxies_in(BRICK, 2).columns(BRICK)
    del columns["mw_transmission_z"]
    build.write_bricks(tmp_path, [BRICK])
    build.write_fits_table(tmp_path / PATH, columns)
    assert selected(tmp_path).num_rows == 2
    with pytest.raises(SchemaError, match="MW_TRANSMISSION_Z"):
        selected(tmp_path, is_dereddened=True)


def test_a_catalogue_without_a_target_gives_an_empty_table(tmp_path: Path) -> None:
    blue = np.full(3, 10, np.float32)
    table = selected(write(tmp_path, build.galaxies_in(BRICK, 3, flux_r=blue)))
    assert table.num_rows == 0
    assert table.schema.names == schemas.targets(build.BANDS).names


def test_an_empty_catalogue_gives_an_empty_table(tmp_path: Path) -> None:
    assert selected(write(tmp_path, build.Galaxies([], []))).num_rows == 0


def test_a_band_that_the_catalogue_has_not_is_null(tmp_path: Path) -> None:
    root = build.write_survey(tmp_path)
    table = selected(root, bands=("g", "r", "i", "z"))
    assert table.num_rows == 6
    for name in ("flux_i_nmgy", "mag_i", "psf_nea_i_arcsec", "depth_i_mag"):
        assert table[name].null_count == 6


def test_the_tile_is_that_of_the_bricks_centre(tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord
    from astropy_healpix import HEALPix

    table = selected(build.write_survey(tmp_path), tile_nside=64)
    centre = SkyCoord(BRICK.ra, BRICK.dec, unit="deg", frame="icrs")
    pixel = HEALPix(64, order="nested", frame="icrs").skycoord_to_healpix(centre)
    assert set(table["tile"].to_pylist()) == {f"64-{pixel}"}


def test_rows_outside_the_area_are_left_out(tmp_path: Path) -> None:
    other = build.Brick(ra=10.1, brickid=2)
    build.write_bricks(tmp_path, [BRICK, other])
    names = np.array([BRICK.name, other.name, other.name], "S8")
    build.write_tractor(tmp_path, BRICK, build.galaxies_in(BRICK, 3, brickname=names))
    survey = build.survey_at(tmp_path, area=[other.name])
    table = targets.run(survey=survey, partition=PATH, config=build.targets_config())
    assert table["brickname"].to_pylist() == [other.name] * 2


def test_a_brick_that_the_table_of_bricks_has_not_is_an_error(tmp_path: Path) -> None:
    build.write_survey(tmp_path)
    build.write_bricks(tmp_path, [build.Brick(ra=50.0)])
    with pytest.raises(DataError, match=r"6 targets lie in bricks .* the first in 0100p000"):
        selected(tmp_path)


def test_a_truncated_catalogue_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = build.write_survey(tmp_path, count=60)
    path = root / PATH
    path.write_bytes(path.read_bytes()[:-5760])
    with pytest.raises(DataError, match=r"tractor-0100p000.fits.*truncated"):
        selected(root)


@settings(deadline=None, max_examples=20)
@given(piece=st.integers(1, 50), seed=st.integers(0, 2**16))
def test_neither_pieces_nor_the_order_of_rows_change_the_selection(
    tmp_path_factory: pytest.TempPathFactory, piece: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    flux = {f"flux_{b}": rng.uniform(-1, 40, 40).astype(np.float32) for b in ("r", "z", "w1")}
    galaxies = build.galaxies_in(BRICK, 40, **flux)
    order = rng.permutation(40)
    columns = galaxies.columns(BRICK)
    root = write(tmp_path_factory.mktemp("root"), galaxies)
    whole = selected(root)
    build.write_fits_table(root / PATH, {name: v[order] for name, v in columns.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "_PIECE_BYTES", 150 * piece)
        mixed = selected(root)
    assert mixed.sort_by("target_id").equals(whole.sort_by("target_id"))


@pytest.mark.real
def test_real_catalogues_hold_five_v3_galaxies(shared_data: Path, tmp_path: Path) -> None:
    samples = sorted((shared_data / "tractor-sweep-samples").glob("dr[38]-*.fits"))
    counts = {"dr3": 0, "dr8": 0}
    for path in samples:
        catalogue = catalog.open_catalogue(path)
        for rows in catalogue.pieces():
            found = targets._passing(catalogue, rows, build.targets_config())
            counts[path.name[:3]] += len(found)
    assert counts == {"dr3": 1, "dr8": 4}


@pytest.mark.real
def test_the_stage_runs_on_a_real_sweep(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tractor-sweep-samples" / "dr8-sweep-330m005-340p000.fits"
    path = tmp_path / "south/sweep/8.0/sweep-330m005-340p000.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(source.read_bytes())
    names = [str(name) for name in fits.getdata(path)["BRICKNAME"]]
    ras = [float(f"{int(name[:4]) / 10}") for name in names]
    decs = [(-1 if name[4] == "m" else 1) * int(name[5:]) / 10 for name in names]
    bricks = {n: build.Brick(ra=r, dec=d) for n, r, d in zip(names, ras, decs, strict=True)}
    build.write_bricks(tmp_path, [bricks[name] for name in sorted(bricks)])
    survey = build.survey_at(tmp_path, release="dr8", catalogue="sweep")
    ((key, partition),) = survey.catalogues().items()
    assert key == "sweep-330m005-340p000"
    config = build.targets_config(variant="v5_very_relaxed")
    table = targets.run(survey=survey, partition=partition, config=config)
    schemas.conform(table, schemas.targets(build.BANDS), where="test")
    assert not set(table["type"].to_pylist()) & {"PSF", "DUP"}


@pytest.mark.real
def test_the_cuts_find_123_galaxies_in_a_real_table_of_targets(shared_data: Path) -> None:
    table = fits.getdata(shared_data / "tractor-sweep-samples" / "targets.fits")
    flux = {band: table[f"FLUX_{band.upper()}"] for band in ("r", "z", "w1")}
    assert targets.lrg_variants(flux)["v3_color_relaxed"].sum() == 123


@pytest.mark.real
def test_a_table_without_ids_is_refused_with_one_message(shared_data: Path) -> None:
    path = shared_data / "tractor-sweep-samples" / "targets.fits"
    with pytest.raises(SchemaError) as refused:
        catalog.open_catalogue(path)
    message = str(refused.value)
    assert all(name in message for name in ("TYPE", "BRICKID", "OBJID", "BRICKNAME"))
    assert "RELEASE" not in message
    assert "FLUX_R" not in message
