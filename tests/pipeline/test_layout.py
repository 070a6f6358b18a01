"""Names of partitions and their places, as design.md's run layout fixes them."""

from pathlib import Path

import pyarrow as pa
import pytest
from manifest_builders import splits
from run_builders import tiny_tables

from darkhaloscope.core import config as settings
from darkhaloscope.core.config import RunConfig
from darkhaloscope.core.contracts import Device, Report
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.data import store
from darkhaloscope.pipeline import run
from darkhaloscope.pipeline.layout import Layout, set_of, tile_of
from darkhaloscope.pipeline.registry import ORDER, needed_by, stage_named
from darkhaloscope.pipeline.task import Task, _is_of_set
from darkhaloscope.survey.files import Survey

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


class Engine:
    """Keeps the task that it is given, and runs nothing."""

    task: Task

    def map(self, task: Task, partitions: list[str]) -> list[Report]:
        self.task = task
        return []


class Silent:
    def started(self, *_what: object) -> None: ...
    def finished(self, *_what: object) -> None: ...


@pytest.mark.parametrize(("name", "leading"), [("val", "stamps"), ("sky", "manifest")])
def test_scores_go_through_a_set_piece_by_piece(layout: Layout, name: str, leading: str) -> None:
    task = Task("scores", layout, Survey(layout.config.survey), Device())
    found = task._leading(f"small/round=0/set={name}/tile=32-12")
    assert found is not None
    assert found.table == leading


def test_the_leading_table_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    layout = Layout(
        settings.parse({**tiny_tables(), "root": "run"}, folder=tmp_path, where=""), {}, TILES
    )
    whole = splits(1200)
    store.write([whole], layout.path("splits", "32-7"), schema=whole.schema, digest="d")
    task = Task("cutouts", layout, Survey(layout.config.survey), Device())
    pieces = list(task._pieces(task._leading("32-7"), "32-7"))
    assert [piece.num_rows for piece in pieces] == [512, 512, 176]
    assert pa.concat_tables(pieces)["target_id"].equals(whole["target_id"])


def test_the_sky_is_its_own_set_and_no_split_holds_it() -> None:
    rows = pa.table({"split": ["val", "val", "test"], "kind": ["lens", "sky", "sky"]})
    assert rows.filter(_is_of_set(rows, "val"))["kind"].to_pylist() == ["lens"]
    assert rows.filter(_is_of_set(rows, "sky"))["split"].to_pylist() == ["val", "test"]


def test_a_task_that_shares_the_machine_computes_on_one_thread(layout: Layout) -> None:
    device, engine = Device("cpu", threads=8), Engine()
    task = Task("scores", layout, Survey(layout.config.survey), device)
    key = "small/round=0/set=val/tile=32-12"
    run._stage(task, [key], engine, Silent(), device)  # type: ignore[arg-type]
    assert engine.task.device == Device("cpu", threads=1)


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
    wanted = {i.parameter: i for i in scores.inputs}
    sky, test = (f"small/round=0/set={name}/tile=32-12" for name in ("sky", "test"))
    assert layout.inputs(scores, wanted["cutouts"], sky) == [
        "/runs/demo/cutouts/tile=32-12.parquet"
    ]
    assert layout.inputs(scores, wanted["cutouts"], test) == []
    assert layout.inputs(scores, wanted["hosts"], sky) == []
    assert layout.inputs(scores, wanted["hosts"], test) == ["/runs/demo/cutouts/tile=32-12.parquet"]
    assert layout.inputs(scores, wanted["stamps"], sky) == []
    assert layout.inputs(scores, wanted["model"], sky) == ["/runs/demo/model/small/round=0"]


def test_a_stage_needs_what_it_reads_and_what_that_reads() -> None:
    assert needed_by(("cutouts",)) == ["targets", "splits", "images", "cutouts"]
    assert needed_by(()) == list(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_no_stage_reads_what_comes_after_it(name: str) -> None:
    assert stage_named(name).name == name
    before = ORDER[: ORDER.index(name)]
    of_its_round = {i.table for i in stage_named(name).inputs if i.rounds in ("own", "earlier")}
    assert of_its_round <= set(before)


def test_an_unknown_stage_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no stage 'stamp'; the stages are targets, splits"):
        stage_named("stamp")
