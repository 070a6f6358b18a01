import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import survey_builders as build
from survey_server import Server

from darkhaloscope.core import schemas
from darkhaloscope.stages import images
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import Survey

BRICK, OTHER = build.Brick(), build.Brick(ra=10.1, brickid=2)


def run(survey: Survey, *names: str) -> pa.Table:
    splits = pa.table({"brickname": pa.array(names, pa.string())})
    return images.run(splits, survey=survey, config=build.images_config())


def test_each_brick_and_band_has_a_row_with_its_files(tmp_path: Path) -> None:
    root = build.write_survey(tmp_path, (BRICK, OTHER), count=1)
    for brick in (BRICK, OTHER):
        build.write_ccds(root, brick)
        build.write_psfs(root, brick, dict.fromkeys(build.BANDS, np.ones((5, 5))))
    survey = build.survey_at(root, psf_images=build.PSF_IMAGES)
    table = run(survey, OTHER.name, BRICK.name, OTHER.name)
    schemas.conform(table, schemas.images(build.BANDS), where="test")
    pairs = list(zip(table["brickname"].to_pylist(), table["band"].to_pylist(), strict=True))
    assert pairs == [(b.name, band) for b in (BRICK, OTHER) for band in build.BANDS]
    assert table["missing"].null_count == 6
    for row in table.to_pylist():
        for kind in schemas.FILE_KINDS:
            path = tmp_path / row[f"{kind}_path"]
            content = path.read_bytes()
            assert row[f"{kind}_size_bytes"] == len(content)
            assert row[f"{kind}_sha256"] == hashlib.sha256(content).hexdigest()


def test_what_is_missing_is_named_and_extras_are_not_needed(tmp_path: Path) -> None:
    absent = [("image", "g"), ("invvar", "g"), ("psfsize", "r"), ("nexp", "r"), ("maskbits", "")]
    build.write_bricks(tmp_path, [BRICK])
    build.write_coadds(tmp_path, BRICK, build.galaxies_in(BRICK, 1), dict.fromkeys(absent))
    g, r, z = run(build.survey_at(tmp_path), BRICK.name).to_pylist()
    assert g["missing"] == (
        "image: the survey has no such file; invvar: the survey has no such file"
    )
    assert (g["image_path"], g["image_size_bytes"], g["image_sha256"]) == (None, None, None)
    assert r["missing"] is None
    assert (r["psfsize_path"], r["nexp_path"], r["maskbits_path"]) == (None, None, None)
    assert z["psfsize_path"] is not None


def test_psf_images_and_ccds_are_extras(tmp_path: Path) -> None:
    root = build.write_survey(tmp_path, count=1)
    build.write_psfs(root, BRICK, {"g": np.ones((5, 5)), "r": np.ones((5, 5))})
    path = root / build.PSF_IMAGES.format(brick=BRICK.name, band="r")
    path.write_text("<html>not found</html>")
    table = run(build.survey_at(root, psf_images=build.PSF_IMAGES), BRICK.name)
    assert table["missing"].null_count == 3
    assert table["ccds_path"].null_count == 3
    assert table["psf_path"].to_pylist() == [f"psfs/010/psf-{BRICK.name}-g.fits", None, None]
    assert run(build.survey_at(root), BRICK.name)["psf_path"].null_count == 3


@pytest.mark.parametrize("is_remote", [False, True])
def test_psf_images_may_lie_elsewhere(tmp_path: Path, is_remote: bool) -> None:
    root = build.write_survey(tmp_path / "survey", count=1)
    build.write_psfs(tmp_path / "other", BRICK, dict.fromkeys(build.BANDS, np.ones((5, 5))))
    server = Server(tmp_path)
    try:
        place = f"{server.address}/other" if is_remote else str(tmp_path / "other")
        template = f"{place}/{build.PSF_IMAGES}"
        survey = build.survey_at(root, psf_images=template, cache_folder=str(tmp_path / "cache"))
        table = run(survey, BRICK.name)
    finally:
        server.close()
    expected = [template.format(brick=BRICK.name, band=band) for band in build.BANDS]
    assert table["psf_path"].to_pylist() == expected
    assert table["psf_sha256"].null_count == 0


def test_only_files_that_can_change_are_in_the_digest(tmp_path: Path) -> None:
    root = build.write_survey(tmp_path, count=1)
    build.write_psfs(root, BRICK, {"g": np.ones((5, 5))})
    survey = build.survey_at(root, psf_images=build.PSF_IMAGES)
    before = survey.psf_fingerprint(BRICK.name)
    assert survey.psf_fingerprint(BRICK.name) == before
    assert build.survey_at(root).psf_fingerprint(BRICK.name) == ""
    build.write_psfs(root, BRICK, {"r": np.ones((5, 5))})  # one that was missing
    assert survey.psf_fingerprint(BRICK.name) != before


def test_a_brick_that_is_not_there_has_rows_with_reasons(tmp_path: Path) -> None:
    survey = build.survey_at(build.write_survey(tmp_path, count=1))
    table = run(survey, "1234p567")
    assert all("no such file" in reason for reason in table["missing"].to_pylist())


def test_a_truncated_image_is_a_reason(tmp_path: Path) -> None:
    build.write_survey(tmp_path, count=1)
    path = tmp_path / layout.coadd_path(BRICK.name, "image", "z")
    path.write_bytes(path.read_bytes()[:-5000])
    table = run(build.survey_at(tmp_path), BRICK.name)
    assert table["missing"].to_pylist()[:2] == [None, None]
    assert table["missing"][2].as_py().startswith("image: truncated")


def test_a_file_that_is_no_fits_is_a_reason(tmp_path: Path) -> None:
    build.write_survey(tmp_path, count=1)
    path = tmp_path / layout.coadd_path(BRICK.name, "invvar", "r")
    path.write_text("<html>not found</html>")
    table = run(build.survey_at(tmp_path), BRICK.name)
    assert table["missing"][1].as_py() == "invvar: no FITS file"


def test_other_endings_are_found(tmp_path: Path) -> None:
    build.write_bricks(tmp_path, [BRICK])
    build.write_coadds(tmp_path, BRICK, build.galaxies_in(BRICK, 1), suffix=".fits.gz")
    table = run(build.survey_at(tmp_path), BRICK.name)
    assert table["missing"].null_count == 3
    assert table["image_path"][0].as_py().endswith(".fits.gz")


def test_no_targets_give_no_rows(tmp_path: Path) -> None:
    table = run(build.survey_at(build.write_survey(tmp_path, count=1)))
    assert table.num_rows == 0
    assert table.schema.names == schemas.images(build.BANDS).names
