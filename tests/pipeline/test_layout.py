"""Names of partitions and their places, as design.md's run layout fixes them."""

from pathlib import Path

import pytest
from run_builders import tiny_tables

from darkhaloscope.core import config as settings
from darkhaloscope.core.config import RunConfig
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.pipeline.layout import Layout, set_of, tile_of
from darkhaloscope.pipeline.registry import ORDER, needed_by, stage_named

TILES = {
    "32-7": {"train": 5, "guard": 1},
    "32-12": {"val": 1, "calib": 2, "test": 3},
}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return settings.parse(tiny_tables(), folder=Path("/runs"), where="tiny")


@pytest.fixture(scope="module")
def layout(config: RunConfig) -> Layout:
    return Layout(config, {"tractor-1500p020": "south/tractor/150/tractor-1500p020.fits"}, TILES)


@pytest.mark.parametrize(
    ("table", "key", "path"),
    [
        ("targets", "tractor-1500p020", "targets/tractor-1500p020.parquet"),
        ("splits", "32-7", "splits/tile=32-7.parquet"),
        ("manifest", "32-7", "manifest/tile=32-7.parquet"),
        ("stamps", "set=val/tile=32-7", "stamps/set=val/tile=32-7.parquet"),
        ("model", "small/round=0", "model/small/round=0"),
        (
            "scores",
            "small/round=0/set=sky/tile=32-7",
            "scores/small/round=0/set=sky/tile=32-7.parquet",
        ),
        ("candidates", "all", "candidates/candidates.parquet"),
        ("report", "all", "report"),
    ],
)
def test_tables_stand_where_the_design_says(
    layout: Layout, table: str, key: str, path: str
) -> None:
    assert layout.path(table, key) == f"/runs/demo/{path}"


def test_a_set_has_only_the_tiles_that_hold_it(layout: Layout) -> None:
    stamps = layout.partitions(stage_named("stamps"))
    assert stamps == ["set=val/tile=32-12", "set=calib/tile=32-12", "set=test/tile=32-12"]


def test_the_sky_is_every_tile(layout: Layout) -> None:
    sky = [k for k in layout.partitions(stage_named("scores")) if set_of(k) == "sky"]
    assert [tile_of(k) for k in sky] == ["32-12", "32-7"]


def test_scores_of_the_sky_read_cutouts_and_those_of_a_set_read_stamps(layout: Layout) -> None:
    scores = stage_named("scores")
    wanted = {i.table: i for i in scores.inputs}
    sky, test = (f"small/round=0/set={name}/tile=32-12" for name in ("sky", "test"))
    assert layout.inputs(scores, wanted["cutouts"], sky) == [
        "/runs/demo/cutouts/tile=32-12.parquet"
    ]
    assert layout.inputs(scores, wanted["cutouts"], test) == []
    assert layout.inputs(scores, wanted["stamps"], sky) == []
    assert layout.inputs(scores, wanted["model"], sky) == ["/runs/demo/model/small/round=0"]


def test_a_stage_needs_what_it_reads_and_what_that_reads() -> None:
    assert needed_by(("cutouts",)) == ["targets", "splits", "images", "cutouts"]
    assert needed_by(()) == list(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_no_stage_reads_what_comes_after_it(name: str) -> None:
    assert stage_named(name).name == name
    before = ORDER[: ORDER.index(name)]
    assert {i.table for i in stage_named(name).inputs} <= set(before)


def test_an_unknown_stage_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no stage 'stamp'; the stages are targets, splits"):
        stage_named("stamp")
