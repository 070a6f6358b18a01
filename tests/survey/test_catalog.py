from pathlib import Path

import numpy as np
import pytest
import survey_builders as build
from astropy.io import fits

from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.survey import catalog

BRICK = build.Brick()


def write(path: Path, columns: dict) -> Path:
    build.write_fits_table(path, columns)
    return path


def all_rows(path: Path, bands: tuple[str, ...] = build.BANDS) -> dict[str, list]:
    opened = catalog.open_catalogue(path)
    table = catalog.read_rows(opened, np.arange(len(opened)), bands)
    return {name: values.to_pylist() for name, values in table.items()}


def test_upper_and_lower_case_columns_are_the_same(tmp_path: Path) -> None:
    columns = build.galaxies_in(BRICK, 3).columns(BRICK)
    lower = all_rows(write(tmp_path / "lower.fits", columns))
    upper = all_rows(write(tmp_path / "upper.fits", {n.upper(): v for n, v in columns.items()}))
    assert lower == upper
    assert lower["brickname"] == [BRICK.name] * 3
    assert lower["flux_z_nmgy"] == [10.0] * 3


@pytest.mark.parametrize("width", [3, 4, 8])
def test_padding_of_types_does_not_matter(tmp_path: Path, width: int) -> None:
    types = np.array([b"PSF", b"DEV", b"REX", b"dup", b"SER"]).astype(f"S{width}")
    types = np.char.ljust(types, width)
    assert catalog.is_galaxy(types).tolist() == [False, True, True, False, True]
    assert catalog.is_galaxy(types.astype(str)).tolist() == [False, True, True, False, True]
    path = write(tmp_path / "t.fits", build.galaxies_in(BRICK, 5, type=types).columns(BRICK))
    assert catalog.open_catalogue(path).is_primary_galaxy(slice(0, 5)).tolist() == [
        *(False, True, True, False, True)
    ]


def test_a_sweep_without_brick_primary_has_primary_rows_only(tmp_path: Path) -> None:
    columns = build.galaxies_in(BRICK, 3).columns(BRICK)
    del columns["brick_primary"]
    opened = catalog.open_catalogue(write(tmp_path / "s.fits", columns))
    assert opened.is_primary_galaxy(slice(0, 3)).all()


def test_early_releases_keep_fluxes_in_arrays(tmp_path: Path) -> None:
    n = 4
    columns = build.galaxies_in(BRICK, n).columns(BRICK)
    for name in list(columns):
        if name.startswith(("flux_", "mw_transmission_", "psfsize_", "psfdepth_")):
            del columns[name]
    rng = np.random.default_rng(2)
    arrays = {
        "decam_flux": rng.uniform(1, 9, (n, 6)),
        "wise_flux": rng.uniform(1, 9, (n, 4)),
        "decam_mw_transmission": rng.uniform(0.8, 1, (n, 6)),
        "wise_mw_transmission": rng.uniform(0.8, 1, (n, 4)),
        "decam_depth": rng.uniform(100, 900, (n, 6)),
    }
    units = [fits.Column(name, _code(v), array=v) for name, v in columns.items()] + [
        fits.Column(n_, f"{v.shape[1]}E", array=v) for n_, v in arrays.items()
    ]
    path = tmp_path / "dr3.fits"
    fits.BinTableHDU.from_columns(units).writeto(path)
    rows = all_rows(path)
    np.testing.assert_allclose(rows["flux_g_nmgy"], arrays["decam_flux"][:, 1], rtol=1e-6)
    np.testing.assert_allclose(rows["flux_z_nmgy"], arrays["decam_flux"][:, 4], rtol=1e-6)
    np.testing.assert_allclose(rows["flux_w1_nmgy"], arrays["wise_flux"][:, 0], rtol=1e-6)
    np.testing.assert_allclose(
        rows["mw_transmission_r"], arrays["decam_mw_transmission"][:, 2], rtol=1e-6
    )
    assert rows["psf_nea_g_arcsec"] == [None] * n
    assert rows["depth_r_mag"][0] == pytest.approx(
        22.5 - 2.5 * np.log10(5 / arrays["decam_depth"][0, 2] ** 0.5), abs=1e-4
    )


def _code(values: np.ndarray) -> str:
    kinds = {"i2": "I", "i4": "J", "f4": "E", "f8": "D", "b1": "L"}
    return kinds.get(values.dtype.str[1:], f"{values.dtype.itemsize}A")


def test_sizes_of_early_releases_are_those_of_the_profile_that_was_fitted(tmp_path: Path) -> None:
    types = np.array([b"DEV", b"EXP", b"REX", b"SIMP", b"COMP", b"COMP"], "S4")
    changes = {
        "type": types,
        "shapedev_r": np.arange(6, dtype=np.float32) + 1,
        "shapeexp_r": np.arange(6, dtype=np.float32) + 11,
        "shapedev_e1": np.full(6, 0.3, np.float32),
        "shapeexp_e1": np.full(6, 0.2, np.float32),
        "fracdev": np.array([1, 0, 0, 0, 0.8, 0.2], np.float32),
    }
    columns = build.galaxies_in(BRICK, 6, **changes).columns(BRICK)
    for name in ("shape_r", "shape_e1", "shape_e2", "sersic"):
        del columns[name]
    rows = all_rows(write(tmp_path / "dr8.fits", columns))
    np.testing.assert_allclose(rows["shape_r_arcsec"], [1, 12, 13, 0.45, 5, 16], rtol=1e-6)
    np.testing.assert_allclose(rows["shape_e1"], [0.3, 0.2, 0, 0, 0.3, 0.2], rtol=1e-6)
    assert rows["shape_e2"] == [None, None, 0.0, 0.0, None, None]
    assert rows["sersic"] == [4, 1, 1, 1, None, None]


def test_the_sersic_index_of_late_releases_is_the_fitted_one(tmp_path: Path) -> None:
    changes = {
        "type": np.array([b"SER", b"DEV", b"EXP"], "S3"),
        "sersic": np.array([2.5, 0.0, 0.0], np.float32),
    }
    path = write(tmp_path / "c.fits", build.galaxies_in(BRICK, 3, **changes).columns(BRICK))
    assert all_rows(path)["sersic"] == [2.5, 4.0, 1.0]


def test_all_missing_columns_are_named_at_once(tmp_path: Path) -> None:
    columns = build.galaxies_in(BRICK, 2).columns(BRICK)
    for name in ("release", "type", "flux_w1"):
        del columns[name]
    with pytest.raises(SchemaError, match=r"lacks the columns RELEASE, TYPE, FLUX_W1; expected"):
        catalog.open_catalogue(write(tmp_path / "c.fits", columns))


def test_ids_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    galaxies = build.galaxies_in(BRICK, 2, objid=np.array([1, 1 << 22], np.int32))
    path = write(tmp_path / "c.fits", galaxies.columns(BRICK))
    with pytest.raises(DataError, match=r"c.fits: objid must fit 22 bits"):
        all_rows(path)


@pytest.mark.parametrize("content", [b"", b"no fits at all", b"SIMPLE  =                    T"])
def test_what_is_no_fits_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.fits"
    path.write_bytes(content)
    with pytest.raises((DataError, SchemaError), match=r"c.fits"):
        catalog.open_catalogue(path)


@pytest.mark.real
def test_real_catalogues_of_five_releases_are_read(shared_data: Path) -> None:
    folder = shared_data / "tractor-sweep-samples"
    for path in sorted(folder.glob("dr[389]-*.fits")):
        rows = all_rows(path)
        with fits.open(path) as units:
            data = next(u for u in units if isinstance(u, fits.BinTableHDU)).data
            assert rows["ra_deg"] == data["RA"].tolist()
            np.testing.assert_array_equal(rows["flux_r_nmgy"], data["FLUX_R"])
            assert rows["type"] == [str(t).strip() for t in data["TYPE"]]
            assert rows["brickname"] == [str(name) for name in data["BRICKNAME"]]


@pytest.mark.real
def test_a_real_catalogue_without_wise_is_refused(shared_data: Path) -> None:
    path = shared_data / "tractor-sweep-samples" / "dr5-tractor-1238p245.fits"
    with pytest.raises(SchemaError, match="lacks the columns FLUX_W1;"):
        catalog.open_catalogue(path)
