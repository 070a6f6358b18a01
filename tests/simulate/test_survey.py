"""The survey on disk: layout, truth, catalogue against image, resuming, equal bytes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from simulate_builders import floors, simulate_config, span

from darkhaloscope.core import keys
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.simulate import bricks as making
from darkhaloscope.simulate import plan, survey
from darkhaloscope.simulate.draws import Rows
from darkhaloscope.survey import layout

CONFIG = simulate_config(
    bricks_without_band=1,
    floors=floors(lens=2, lens_min_theta_e_arcsec=0.8, spiral=1, edge_on=1, ring=2, merger=1),
    brick_size_px=460,
)


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey.write(CONFIG, tmp_path_factory.mktemp("sky") / "survey")


def truth(sky: Path, name: str) -> dict[str, NDArray[np.generic]]:
    table = pq.read_table(sky / "truth" / f"{name}.parquet")
    return {column: table[column].to_numpy() for column in table.column_names}


def table_of(sky: Path, name: str) -> pd.DataFrame:
    """Pandas with real integers: an id of 58 bits is no float."""
    return pq.read_table(sky / f"truth/{name}.parquet").to_pandas(
        types_mapper={pa.int64(): pd.Int64Dtype()}.get
    )


def tractor(sky: Path, brick: str) -> Rows:
    return rows_of(sky / layout.tractor_path(brick))


def rows_of(path: Path) -> Rows:
    return np.asarray(Table.read(path).as_array())


def image(sky: Path, brick: str, kind: str, band: str = "r") -> NDArray[np.float32]:
    return np.asarray(fits.getdata(sky / layout.coadd_path(brick, kind, band)))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def whole_brick(sky: Path) -> str:
    """The brick that has all bands."""
    table = pq.read_table(sky / "truth/bricks.parquet").to_pylist()
    return next(str(row["brickname"]) for row in table if row["missing_band"] is None)


def test_files_lie_where_the_survey_puts_them(sky: Path) -> None:
    brick = whole_brick(sky)
    assert (sky / "survey-bricks.fits.gz").is_file()
    assert (sky / "south/survey-bricks-dr10-south.fits.gz").is_file()
    assert (sky / f"south/tractor/{brick[:3]}/tractor-{brick}.fits").is_file()
    assert [p.name for p in (sky / "south/sweep/10.1").iterdir()] == ["sweep-020m020-025m015.fits"]
    folder = sky / f"south/coadd/{brick[:3]}/{brick}"
    kinds = [f"{k}-{b}" for k in ("image", "invvar", "psfsize", "nexp") for b in "grz"]
    expected = {f"legacysurvey-{brick}-{name}.fits.fz" for name in [*kinds, "maskbits"]}
    assert {path.name for path in folder.iterdir()} == expected
    assert not list(sky.rglob("*.partial"))


def test_images_are_compressed_as_the_surveys_are(sky: Path) -> None:
    path = sky / layout.coadd_path(whole_brick(sky), "image", "g")
    with fits.open(path, disable_image_compression=True) as units:
        header, scale = units[1].header, units[1].data["ZSCALE"]
    assert (header["ZCMPTYPE"], header["ZTILE1"], header["ZTILE2"]) == ("RICE_1", 100, 100)
    np.testing.assert_allclose(scale, 1e-4)
    with fits.open(path) as units:
        assert units[1].header["CD1_1"] == pytest.approx(-0.262 / 3600)
        assert units[1].data.dtype == np.float32


def test_the_brick_without_a_band_has_no_file_of_it_and_says_so(sky: Path) -> None:
    bare = next(b for b in truth(sky, "bricks")["brickname"] if b != whole_brick(sky))
    for kind in ("image", "invvar", "psfsize", "nexp"):
        assert not (sky / layout.coadd_path(str(bare), kind, "g")).exists()
        assert (sky / layout.coadd_path(str(bare), kind, "r")).exists()
    rows = tractor(sky, str(bare))
    assert (rows["flux_g"] == 0).all()
    assert (rows["flux_ivar_g"] == 0).all()
    assert (rows["nobs_g"] == 0).all()
    assert rows["flux_r"].max() > 0


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brick of lonely bright stars and targets."""
    config = simulate_config(
        bricks_per_field=(1, 1),
        brick_size_px=900,
        lrg_per_deg2=6_000,
        satellites_per_target=0.0,
        galaxies_per_deg2=0.0,
        stars_per_deg2=25_000,
        star_mag_r=span(17.5, 20.5),
        src_per_arcsec2=0.0,
        bad_strips_per_deg2=0.0,
        oversubtraction=0.0,
    )
    return survey.write(config, tmp_path_factory.mktemp("sparse") / "survey")


def lonely(rows: Rows, apart_px: float, size: int = 900) -> Rows:
    """Entries with no other near, nor the border; nothing a mask cuts."""
    places = np.stack([rows["bx"], rows["by"]], 1)
    far = cKDTree(places).query(places, k=2)[0][:, 1] > apart_px
    edge = np.minimum(places.min(1), size - 1 - places.max(1))
    return rows[far & (edge > apart_px) & (rows["nobs_r"] > 0)]


def test_a_catalogued_position_is_where_the_light_peaks(sparse: Path) -> None:
    """Centroid of the nearest pixels through the header's WCS, within 0.3 px."""
    brick = str(truth(sparse, "bricks")["brickname"][0])
    rows, pixels = lonely(tractor(sparse, brick), 25), image(sparse, brick, "image")
    rows = rows[rows["flux_r"] > 8]
    wcs = WCS(fits.getheader(sparse / layout.coadd_path(brick, "image", "r"), 1))
    offsets = []
    for x, y in np.transpose(wcs.all_world2pix(rows["ra"], rows["dec"], 0)):
        at_x, at_y = int(np.rint(x)), int(np.rint(y))
        stamp = pixels[at_y - 7 : at_y + 8, at_x - 7 : at_x + 8].astype(float)
        dy, dx = np.indices(stamp.shape) - 7
        weight = stamp * np.exp(-0.5 * ((dx + at_x - x) ** 2 + (dy + at_y - y) ** 2) / 9)
        centre = (
            at_x + (weight * dx).sum() / weight.sum(),
            at_y + (weight * dy).sum() / weight.sum(),
        )
        offsets.append(np.hypot(centre[0] - x, centre[1] - y))
    assert len(offsets) >= 10
    assert max(offsets) < 0.3


def test_catalogued_flux_of_a_star_is_the_flux_in_its_aperture(sparse: Path) -> None:
    """An aperture of 12 px holds the share of light that the Moffat of this psfsize says."""
    row = pq.read_table(sparse / "truth/bricks.parquet").to_pylist()[0]
    brick, radius = row["brickname"], 12
    rows, pixels = lonely(tractor(sparse, brick), 35), image(sparse, brick, "image")
    beta, psfsize = row["psf_beta_r"], row["psfsize_r_arcsec"]
    alpha = 0.8493 * psfsize * (beta - 1) / np.sqrt(2 * beta - 1)
    inside = 1 - (1 + (radius * 0.262 / alpha) ** 2) ** (1 - beta)
    yy, xx = np.indices(pixels.shape)
    ratios = [
        pixels[np.hypot(xx - star["bx"], yy - star["by"]) < radius].sum() / inside / star["flux_r"]
        for star in rows[(rows["type"] == b"PSF") & (rows["flux_r"] < 80)]
    ]
    assert len(ratios) >= 8
    assert np.median(ratios) == pytest.approx(1, abs=0.02)


def test_magnitudes_go_round_from_truth_to_catalogue(sparse: Path) -> None:
    """Dust is taken off again: dereddened catalogue against the truth of lonely early types."""
    brick = str(truth(sparse, "bricks")["brickname"][0])
    rows, known = tractor(sparse, brick), table_of(sparse, "galaxies")
    by_objid = {int(i) & (1 << 22) - 1: m for i, m in known[["target_id", "mag_z"]].dropna().values}
    rows = rows[np.isin(rows["objid"], list(by_objid)) & (rows["flux_z"] > 5)]
    mag = 22.5 - 2.5 * np.log10(rows["flux_z"] / rows["mw_transmission_z"])
    difference = mag - np.array([by_objid[int(i)] for i in rows["objid"]])
    assert len(rows) >= 20
    assert abs(np.median(difference)) < 0.01
    assert np.median(np.abs(difference)) < 0.03


def test_noise_on_disk_is_the_one_the_weights_say(sky: Path) -> None:
    brick = whole_brick(sky)
    scaled = image(sky, brick, "image", "g") * np.sqrt(image(sky, brick, "invvar", "g"))
    seen = scaled[scaled != 0]
    middle = seen[np.abs(seen - np.median(seen)) < 1.0]  # the core, where no galaxy is
    expected = np.sqrt(1 - 2 * 1.0967 * 0.2179 / 0.7287) * 0.91  # of a Gaussian of 0.91 cut at 1
    assert middle.std() == pytest.approx(expected, rel=0.06)


def test_psfsize_and_nexp_agree_with_catalogue_and_truth(sky: Path) -> None:
    brick = whole_brick(sky)
    rows = tractor(sky, brick)
    row = next(
        r
        for r in pq.read_table(sky / "truth/bricks.parquet").to_pylist()
        if r["brickname"] == brick
    )
    nexp, width = image(sky, brick, "nexp", "z"), image(sky, brick, "psfsize", "z")
    np.testing.assert_allclose(width[nexp > 0], row["psfsize_z_arcsec"], atol=1e-3)
    assert nexp.max() == row["n_exposures_z"]
    at = np.rint(rows["by"]).astype(int).clip(0, 459), np.rint(rows["bx"]).astype(int).clip(0, 459)
    assert (rows["nobs_z"] == nexp[at]).mean() > 0.99
    depth = 22.5 - 2.5 * np.log10(5 / np.sqrt(rows["psfdepth_z"].max()))
    assert depth == pytest.approx(row["depth_z_mag"], abs=0.01)


def test_truth_agrees_with_the_catalogue(sky: Path) -> None:
    """Place, flux and size of what both list, by target_id; differences are their errors."""
    brick = whole_brick(sky)
    rows, known = tractor(sky, brick), table_of(sky, "galaxies")
    known = known[(known.brickname == brick) & known.target_id.notna()]
    ids = keys.target_id(*(rows[n].astype(np.int64) for n in ("release", "brickid", "objid")))
    at = {int(i): row for row, i in enumerate(ids)}
    found = rows[[at[int(i)] for i in known.target_id]]
    squeeze = np.cos(np.radians(known.dec_deg))
    apart = np.hypot((found["ra"] - known.ra_deg) * squeeze, found["dec"] - known.dec_deg) * 3600
    assert apart.max() < 0.8
    assert np.median(apart) < 0.2
    mag = 22.5 - 2.5 * np.log10(np.maximum(found["flux_z"] / found["mw_transmission_z"], 1e-4))
    error = 1 / np.sqrt(found["flux_ivar_z"]) / np.maximum(found["flux_z"], 1e-3)
    good = (error < 0.05) & (found["flux_ivar_z"] > 0)
    assert np.median(np.abs(mag - known.mag_z)[good]) < 0.04
    is_star = (known.kind == "star").to_numpy()
    assert (found["type"][is_star] == b"PSF").all()


def test_types_are_the_tractors(sky: Path) -> None:
    types = set(tractor(sky, whole_brick(sky))["type"].tolist())
    assert {b"PSF", b"REX"} < types <= {b"PSF", b"REX", b"EXP", b"DEV", b"SER"}


def test_the_sweep_holds_every_primary_entry_once(sky: Path) -> None:
    sweep = rows_of(next((sky / "south/sweep/10.1").iterdir()))
    assert all(name == name.upper() for name in sweep.dtype.names or ())
    expected = 0
    for brick in truth(sky, "bricks")["brickname"]:
        expected += int(tractor(sky, str(brick))["brick_primary"].sum())
    assert len(sweep) == expected
    assert len(np.unique(sweep[["BRICKID", "OBJID"]])) == expected


def test_the_number_of_lenses_is_known_and_they_are_targets(sky: Path) -> None:
    lenses = truth(sky, "lenses")
    made = plan.make(CONFIG)
    assert lenses["is_floor"].sum() == len(made.floor_lenses)
    assert len(lenses["theta_e_arcsec"]) >= 2
    galaxies = truth(sky, "galaxies")
    kinds = dict(zip(galaxies["galaxy_id"].tolist(), galaxies["kind"].tolist(), strict=True))
    assert all(kinds[i] == "early" for i in lenses["galaxy_id"].tolist())
    assert (lenses["magnification"] > 1).all()


def test_an_arc_brightens_its_hosts_entry_or_has_its_own(sky: Path, tmp_path: Path) -> None:
    dark = CONFIG.model_copy(
        update={"src_per_arcsec2": 0.0, "floors": CONFIG.floors.model_copy(update={"lens": 0})}
    )
    other = survey.write(dark, tmp_path / "dark")
    brick = whole_brick(sky)
    with_arcs, without = tractor(sky, brick), tractor(other, brick)
    assert with_arcs["flux_g"].sum() > without["flux_g"].sum()
    assert len(with_arcs) >= len(without)


def test_contaminants_are_listed_with_what_was_painted(sky: Path) -> None:
    table = table_of(sky, "contaminants")
    rings = table[table.kind == "ring"]
    assert len(rings) >= 2
    assert rings.ring_radius_arcsec.between(1.0, 3.5).all()
    assert table[table.kind != "ring"].ring_radius_arcsec.isna().all()
    assert rings.is_floor.any()


def test_a_rerun_changes_no_file(sky: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sky.rglob("*") if path.is_file()}
    assert survey.write(CONFIG, sky) == sky
    assert before == {path: path.stat().st_mtime_ns for path in sky.rglob("*") if path.is_file()}


def test_other_settings_are_refused_with_one_message(sky: Path) -> None:
    other = CONFIG.model_copy(update={"seed": 99})
    with pytest.raises(
        ConfigError, match=r"simulated with other settings .* choose another folder"
    ):
        survey.write(other, sky)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose")
    with pytest.raises(ConfigError, match=r"thesis\.tex, which is no simulated survey"):
        survey.write(CONFIG, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_killed_run_leaves_whole_files_and_is_finished_by_the_next(
    sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = making.write_image, []

    def killed(*args: object, **options: object) -> None:
        seen.append(1)
        if len(seen) == 20:  # in the second brick
            raise KeyboardInterrupt
        real(*args, **options)  # type: ignore[arg-type]

    folder = tmp_path / "sky"
    monkeypatch.setattr(making, "write_image", killed)
    with pytest.raises(KeyboardInterrupt):
        survey.write(CONFIG, folder)
    monkeypatch.undo()
    assert json.loads((folder / survey.RECORD).read_text())["done"] is False
    assert not (folder / "survey-bricks.fits.gz").exists()
    first = (folder / "truth/parts").glob("bricks-*.parquet")
    assert len(list(first)) == 1
    told: list[tuple[int, int]] = []
    survey.write(CONFIG, folder, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (2, 2)]  # one brick was whole already
    assert files(folder) == files(sky)


def test_the_number_of_workers_changes_no_byte(sky: Path, tmp_path: Path) -> None:
    twice = survey.write(CONFIG, tmp_path / "sky", workers=2)
    assert files(twice) == files(sky)


def test_a_full_disk_is_one_message_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left on device; free some space"):
        survey.write(CONFIG, tmp_path / "sky")
    assert not list((tmp_path / "sky").rglob("*.partial"))


def test_galaxies_in_the_overlap_are_in_both_bricks_and_primary_in_one(tmp_path: Path) -> None:
    config = simulate_config(
        brick_size_px=1540, lrg_per_deg2=3000, satellites_per_target=0.0, psfsize_scatter=0.0
    )
    task = making.Task(config, plan.make(config), tmp_path)
    west, east = (tractor_of(task, brick) for brick in task.plan.sky)
    tree = cKDTree(np.stack([east["ra"] * 0.94, east["dec"]], 1) * 3600)
    bright = west[(west["flux_r"] > 1) & (west["type"] != b"PSF")]
    near, row = tree.query(np.stack([bright["ra"] * 0.94, bright["dec"]], 1) * 3600)
    both = near < 0.4
    assert both.sum() >= 5
    assert (bright["brick_primary"][both] ^ east["brick_primary"][row[both]]).mean() > 0.9


def tractor_of(task: making.Task, brick: object) -> Rows:
    name = task(brick)  # type: ignore[arg-type]
    return tractor(task.folder, name)


def test_the_task_is_small_enough_to_send_to_workers() -> None:
    import pickle

    task = making.Task(CONFIG, plan.make(CONFIG), Path("/sky"))
    assert len(pickle.dumps(task)) < 10_000
    assert dataclasses.is_dataclass(task)


def test_a_survey_may_have_the_i_band(tmp_path: Path) -> None:
    config = simulate_config(
        bands=("g", "i"),
        bricks_per_field=(1, 1),
        brick_size_px=256,
        psfsize_over_r={"g": 1.08, "i": 0.97},
        depth_mag={"g": span(24.3, 25.3), "i": span(23.3, 24.5)},
    )
    folder = survey.write(config, tmp_path / "gi")
    brick = str(truth(folder, "bricks")["brickname"][0])
    assert image(folder, brick, "image", "i").max() > 0
    rows = tractor(folder, brick)
    assert rows["flux_i"].max() > 0
    assert (rows["flux_r"] == 0).all()
    assert (rows["nobs_r"] == 0).all()


def test_pixels_without_data_are_zero_in_image_weight_and_count(sky: Path) -> None:
    brick = whole_brick(sky)
    for band in "grz":
        empty = image(sky, brick, "nexp", band) == 0
        assert np.array_equal(image(sky, brick, "invvar", band) == 0, empty)
        assert (image(sky, brick, "image", band)[empty] == 0).all()
