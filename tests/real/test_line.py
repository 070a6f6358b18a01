"""The line from targets to report, on a survey in which one brick's pixels are real."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import survey_builders as build
from astropy.io import fits
from real_builders import AT_THE_EDGE, BANDS, EMPTY, NAME, PLACES, SCALE, SIZE, Line, stacked
from run_builders import dhs

from darkhaloscope.survey import layout

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real-line")]

N_USABLE = len(PLACES) - len(AT_THE_EDGE)
CUTOUT, STAMP = 80, 64
HALF_STEP = 0.51e-4  # nmgy: the images are compressed in steps of 1e-4


def test_every_real_galaxy_is_a_target_in_one_split(real_line: Line) -> None:
    targets, splits = real_line.real("targets"), real_line.real("splits")
    assert targets.num_rows == len(PLACES)
    assert set(targets["type"].to_pylist()) == {"SER", "DEV"}
    assert all(targets["is_v3_color_relaxed"].to_pylist())
    assert splits["target_id"].equals(targets["target_id"])
    assert set(splits["split"].to_pylist()) == {"test"}
    area_deg2 = (SIZE * SCALE / 3600) ** 2
    assert sum(splits["area_deg2"].to_pylist()) == pytest.approx(area_deg2, rel=1e-3)


def test_real_galaxies_share_no_region_with_simulated_ones(real_line: Line) -> None:
    splits = real_line.table("splits")
    regions = {
        is_real: set(splits.filter(rows)["region_id"].to_pylist())
        for is_real, rows in ((True, pc.equal(splits["brickname"], NAME)),
                              (False, pc.not_equal(splits["brickname"], NAME)))
    }  # fmt: skip
    assert len(regions[True]) == 1
    assert not regions[True] & regions[False]


def test_files_that_the_real_brick_lacks_are_null_and_stop_nothing(real_line: Line) -> None:
    images = real_line.table("images")
    found = images.filter(pc.equal(images["brickname"], NAME))
    assert sorted(found["band"].to_pylist()) == sorted(BANDS)
    for kind in ("image", "invvar", "psfsize"):
        assert found[f"{kind}_path"].null_count == 0
    assert found["nexp_path"].null_count == found["maskbits_path"].null_count == len(BANDS)
    assert found["missing"].null_count == len(BANDS)
    assert real_line.usable()["n_exposures_r"].null_count == N_USABLE


def test_cutouts_hold_the_real_pixels_around_their_galaxies(real_line: Line) -> None:
    cutouts = real_line.usable()
    assert cutouts.num_rows == N_USABLE
    for row, image in enumerate(stacked(cutouts)):
        x, y = PLACES[row]
        left, low = round(x - (CUTOUT - 1) / 2), round(y - (CUTOUT - 1) / 2)
        for number, band in enumerate(BANDS):
            real = real_line.brick.units["image", band][low : low + CUTOUT, left : left + CUTOUT]
            np.testing.assert_allclose(image[number], real, rtol=0, atol=HALF_STEP)
        assert cutouts["host_x_px"][row].as_py() == pytest.approx(x - left, abs=1e-3)
        assert cutouts["host_y_px"][row].as_py() == pytest.approx(y - low, abs=1e-3)


def test_galaxies_at_the_edge_are_refused_with_the_reason(real_line: Line) -> None:
    cutouts = real_line.real("cutouts")
    reasons = cutouts["refused"].to_pylist()
    said = f"less than {CUTOUT} px of brick {NAME}'s image around it: outside or at the edge"
    assert reasons[N_USABLE:] == [said] * len(AT_THE_EDGE)
    assert cutouts["pixels"].is_null().to_pylist()[N_USABLE:] == [True] * len(AT_THE_EDGE)


def test_what_is_measured_on_real_pixels_is_what_their_files_say(real_line: Line) -> None:
    cutouts = real_line.usable()
    for band in BANDS:
        width = real_line.brick.psfsize(band)
        got = cutouts[f"psf_nea_{band}_arcsec"].to_numpy()
        np.testing.assert_allclose(got, width, atol=1e-4)
        mad, noise = (cutouts[f"{n}_{band}_nmgy"].to_numpy() for n in ("sky_mad", "noise"))
        on_sky = 1.4826 * mad[-len(EMPTY) :] / noise[-len(EMPTY) :]
        np.testing.assert_allclose(on_sky, 1.0, atol=0.1)


def test_stamps_add_to_the_real_pixels_what_their_rows_say(real_line: Line) -> None:
    stamps, cutouts = real_line.real("stamps"), real_line.usable()
    kinds = np.array(stamps["kind"].to_pylist())
    assert {"lens", "control"} <= set(kinds)
    at = pc.index_in(stamps["target_id"], value_set=cutouts["target_id"].combine_chunks())
    edge = (CUTOUT - STAMP) // 2
    before = stacked(cutouts)[at.to_numpy(), :, edge:-edge, edge:-edge]
    added = stacked(stamps).astype(float) - before
    assert (added[kinds == "control"] == 0).all()
    for number, band in enumerate(BANDS):
        flux = stamps[f"injected_flux_{band}_nmgy"].to_numpy(zero_copy_only=False)
        lit = kinds != "control"
        assert np.isnan(flux[~lit]).all()
        photons = np.sqrt(flux[lit] / 3500)  # one exposure: the real brick has no nexp
        assert (np.abs(added[lit, number].sum((1, 2)) - flux[lit]) < 5 * photons).all()
        assert (flux[lit] > 5 * photons).all()


def test_every_real_galaxy_with_pixels_is_scored_and_ranked(real_line: Line) -> None:
    usable = real_line.usable()["target_id"].to_pylist()
    scores, candidates = real_line.real("scores"), real_line.real("candidates")
    sky = scores.filter(pc.equal(scores["set"], "sky"))
    assert sky["target_id"].to_pylist() == usable
    assert np.isfinite(scores["logit"].to_numpy()).all()
    assert candidates["target_id"].to_pylist() == usable
    assert set(candidates["brickname"].to_pylist()) == {NAME}
    injected = scores.filter(pc.equal(scores["set"], "test"))
    assert injected.num_rows == real_line.real("stamps").num_rows > 0


def test_the_report_counts_and_lists_the_real_galaxies(real_line: Line) -> None:
    page = (real_line.report / "index.html").read_text()
    figures = json.loads((real_line.report / "metrics.json").read_text())
    scores = real_line.table("scores")
    test = scores.filter(pc.equal(scores["set"], "test"))
    assert figures["n_rows"] == test.num_rows
    (region,) = set(real_line.real("scores")["region_id"].to_pylist())
    assert region in test["region_id"].to_pylist()
    assert figures["n_regions"] == len(set(test["region_id"].to_pylist())) > 1
    listed = page.split("Candidates", 1)[-1]
    assert all(str(i) in listed for i in real_line.usable()["target_id"].to_pylist())
    assert f"px of brick {NAME}" in page


def test_a_changed_image_makes_its_own_brick_again_and_no_other(
    real_line: Line, tmp_path: Path
) -> None:
    shutil.copytree(real_line.folder, tmp_path / "run", copy_function=shutil.copy2)
    image = tmp_path / "run/sky" / layout.coadd_path(NAME, "image", "g")
    brighter = fits.getdata(image, 1) + np.float32(0.01)
    build.write_image(image, brighter, fits.getheader(image, 1))
    again = dhs("run", tmp_path / "run/run.toml", "cutouts", "--workers", "1")
    assert again.returncode == 0, again.stderr
    assert "images: 1 of 7 to make" in again.stderr
    assert "cutouts: 1 of 7 to make" in again.stderr
    after = Line(tmp_path / "run", real_line.brick)
    change = stacked(after.usable()) - stacked(real_line.usable())
    np.testing.assert_allclose(change[:, 0], 0.01, atol=2 * HALF_STEP)
    assert (change[:, 1:] == 0).all()
