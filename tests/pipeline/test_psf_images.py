"""The line with PSF images: fetched, kept, measured, painted with, trained with."""

import shutil
from pathlib import Path

import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import survey_builders as build
from astropy.io import fits
from run_builders import dhs, tiny_tables, write_run

from darkhaloscope.core.units import moffat_fwhm
from darkhaloscope.data import pixels

pytestmark = pytest.mark.xdist_group("pipeline")

BANDS, SCALE, KEPT_PX = ("g", "r", "z"), 0.262, 41
ALPHA_PX = {"g": 3.4, "r": 3.1, "z": 2.8}


@pytest.fixture(scope="module")
def run(sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sky with PSF images, one of them missing, run up to the trained network."""
    folder = tmp_path_factory.mktemp("psfs") / "run"
    shutil.copytree(sky, folder, copy_function=shutil.copy2)
    names = fits.getdata(folder / "sky" / "survey-bricks.fits.gz")["brickname"]
    for name in names:
        for band, alpha in ALPHA_PX.items():
            path = folder / "sky" / build.PSF_IMAGES.format(brick=name, band=band)
            psfs.write_image(path, psfs.moffat(alpha, 2.8, 63))
    (folder / "sky" / build.PSF_IMAGES.format(brick=names[0], band="r")).unlink()
    tables = tiny_tables()
    tables["survey"]["psf_images"] = build.PSF_IMAGES
    tables["cutouts"]["psf_image_px"] = KEPT_PX
    tables["stamps"]["psf_profile"] = "image"
    done = dhs("run", write_run(tables, folder / "run.toml"), "model", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def table(root: Path, name: str) -> pa.Table:
    """All partitions of a table."""
    found = sorted((root / "demo" / name).rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(f, partitioning=None) for f in found])


def test_every_usable_target_has_its_bricks_psf(run: Path) -> None:
    cutouts = table(run, "cutouts")
    usable = cutouts.filter(pc.is_null(cutouts["refused"]))
    assert usable.num_rows > 50
    kept = pixels.decode(usable["psf_image"], usable.field("psf_image"))
    for number, (band, alpha) in enumerate(ALPHA_PX.items()):
        image = psfs.moffat(alpha, 2.8, KEPT_PX)
        np.testing.assert_allclose(kept[0, number], image / image.sum(), rtol=1e-5)
        fwhm = moffat_fwhm(alpha, 2.8) * SCALE
        np.testing.assert_allclose(usable[f"psf_fwhm_{band}_arcsec"], fwhm, rtol=3e-3)


def test_targets_of_the_brick_without_one_are_refused(run: Path) -> None:
    cutouts = table(run, "cutouts")
    names = fits.getdata(run / "sky" / "survey-bricks.fits.gz")["brickname"]
    of_brick = cutouts.filter(pc.equal(cutouts["brickname"], str(names[0])))
    reasons = set(of_brick["refused"].to_pylist())
    assert of_brick.num_rows
    assert all(f"brick {names[0]}" in reason for reason in reasons)
    assert f"brick {names[0]} has no r psf" in reasons or any("pixels" in r for r in reasons)
    manifest = set(table(run, "manifest")["target_id"].to_pylist())
    assert not manifest & set(of_brick["target_id"].to_pylist())


def test_stamps_are_painted_and_a_network_is_trained_with_them(run: Path) -> None:
    stamps = table(run, "stamps")
    lenses = stamps.filter(pc.equal(stamps["kind"], "lens"))
    assert lenses.num_rows > 10
    assert lenses["arc_snr_g"].null_count == 0
    fwhm = moffat_fwhm(ALPHA_PX["r"], 2.8) * SCALE
    np.testing.assert_allclose(stamps["psf_fwhm_r_arcsec"], fwhm, rtol=3e-3)
    assert (run / "demo" / "model" / "small" / "round=0" / "model.safetensors").is_file()
