import re
from pathlib import Path

import pytest
import survey_builders as build

from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import Survey

FAR = {"root": "https://example.org/dr10"}


def sweeps(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / layout.sweep_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_sweeps_that_overlap_the_area_are_listed(tmp_path: Path) -> None:
    build.write_bricks(tmp_path, [build.Brick(2.0, -1.0), build.Brick(7.0, 1.0)])
    sweeps(tmp_path, "sweep-000m005-005p000", "sweep-005p000-010p005", "sweep-010p000-015p005")
    found = build.survey_at(tmp_path, catalogue="sweep").catalogues()
    assert found == {
        key: f"south/sweep/10.1/{key}.fits"
        for key in ("sweep-000m005-005p000", "sweep-005p000-010p005")
    }
    box = [{"ra_deg": (6.0, 8.0), "dec_deg": (0.0, 2.0)}]
    inside = build.survey_at(tmp_path, catalogue="sweep", area=box).catalogues()
    assert list(inside) == ["sweep-005p000-010p005"]


def test_tractor_catalogues_of_the_bricks_in_the_area_are_listed(tmp_path: Path) -> None:
    bricks = [build.Brick(2.0), build.Brick(7.0), build.Brick(9.0)]
    build.write_bricks(tmp_path, bricks)
    for brick in bricks[:2]:
        build.write_tractor(tmp_path, brick, build.galaxies_in(brick, 1))
    assert list(build.survey_at(tmp_path).catalogues()) == [
        "tractor-0020p000",
        "tractor-0070p000",
    ]
    one = build.survey_at(tmp_path, area=["0070p000"])
    assert list(one.catalogues()) == ["tractor-0070p000"]


def test_an_area_without_catalogues_is_an_error_that_says_what_to_check(tmp_path: Path) -> None:
    build.write_bricks(tmp_path, [build.Brick()])
    for kind in ("sweep", "tractor"):
        with pytest.raises(DataError, match=rf"no {kind} catalogue of dr10 overlaps the area"):
            build.survey_at(tmp_path, catalogue=kind).catalogues()


def test_without_a_table_of_bricks_the_root_is_in_doubt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"survey-bricks.fits.gz.*check survey.root"):
        build.survey_at(tmp_path).catalogues()


@pytest.mark.parametrize(
    ("release", "count", "width"), [("dr9", 36 * 36, 10), ("dr10", 72 * 36, 5)]
)
def test_the_possible_sweeps_tile_the_sky(release: str, count: int, width: int) -> None:
    keys = list(layout.sweep_keys(release))
    assert len(set(keys)) == count
    boxes = [layout.sweep_box(key) for key in keys]
    assert all(box[1] - box[0] == width and box[3] - box[2] == 5 for box in boxes if box)
    assert None not in boxes


def test_a_web_server_is_asked_only_for_names_that_the_area_makes_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.write_bricks(tmp_path, [build.Brick(4.9999, -1.0)])
    local = tmp_path / layout.bricks_path()
    asked: list[str] = []

    def exists(self: Survey, path: str) -> bool:
        asked.append(path)
        return "005p000" in path

    monkeypatch.setattr(Survey, "exists", exists)
    monkeypatch.setattr(Survey, "local", lambda self, path: local)
    box = [{"ra_deg": (4.0, 6.0), "dec_deg": (-2.0, 0.0)}]
    survey = build.survey_at("https://example.org/dr10", catalogue="sweep", area=box)
    assert list(survey.catalogues()) == ["sweep-000m005-005p000"]
    assert [re.sub(r".*/", "", path) for path in asked] == [
        "sweep-000m005-005p000.fits",
        "sweep-005m005-010p000.fits",
    ]


@pytest.mark.parametrize(
    ("release", "tractor", "bricks"),
    [
        ("dr5", "tractor/059/tractor-0591m305.fits", "survey-bricks-dr5.fits.gz"),
        (
            "dr9",
            "south/tractor/059/tractor-0591m305.fits",
            "south/survey-bricks-dr9-south.fits.gz",
        ),
    ],
)
def test_releases_keep_their_files_where_they_do(release: str, tractor: str, bricks: str) -> None:
    assert layout.tractor_path("0591m305", release=release) == tractor
    assert layout.catalogue_path("tractor-0591m305", release=release) == tractor
    assert layout.bricks_path(release) == bricks


def test_a_key_of_no_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="names neither"):
        layout.catalogue_path("brick-1")
