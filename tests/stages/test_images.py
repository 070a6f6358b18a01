import hashlib
from pathlib import Path

import pyarrow as pa
import survey_builders as build

from darkhaloscope.core import schemas
from darkhaloscope.stages import images
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import Survey

BRICK, OTHER = build.Brick(), build.Brick(ra=10.1, brickid=2)


def run(survey: Survey, *names: str) -> pa.Table:
    splits = pa.table({"brickname": pa.array(names, pa.string())})
    return images.run(splits, survey=survey, config=build.images_config())


def test_each_brick_and_band_has_a_row_with_its_files(tmp_path: Path) -> None:
    survey = build.survey_at(build.write_survey(tmp_path, (BRICK, OTHER), count=1))
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
