"""Rounds of mining: what is made in which order, from what, and that a killed one goes on."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from run_builders import DHS, contents, dhs, tiny_tables, write_run

from darkhaloscope.core import config as settings
from darkhaloscope.core import schemas
from darkhaloscope.core.columns import I2, column
from darkhaloscope.core.config import RunConfig
from darkhaloscope.core.contracts import Device, Input
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.data import store
from darkhaloscope.pipeline.layout import Layout, round_of
from darkhaloscope.pipeline.registry import stage_named
from darkhaloscope.pipeline.run import Step, steps_of
from darkhaloscope.pipeline.task import Task
from darkhaloscope.survey.files import Survey

TILES = {"32-7": {"train": 5}, "32-12": {"val": 1, "calib": 2, "test": 3}}
MINED = {
    "model": "small", "rounds": 2, "top": 10, "merge_arcsec": 1.0, "prevalence": 0.02,
    "review_above": 0.1, "known_lenses": [], "known_radius_arcsec": 2.0, "grades": [],
    "false_positives": [], "graded_radius_arcsec": 2.0, "completeness": [0.5], "least_gain": 0.1,
    "seed": 3, "interval_draws": 200,
}  # fmt: skip


def mining_tables(**mined: Any) -> dict[str, Any]:
    """The tiny run with rounds of its one model."""
    tables = tiny_tables()
    tables["mined"] = {**MINED, **mined}
    tables["model"]["small"]["mix"]["mined"] = 0.2
    tables["model"]["small"]["round_start"] = "afresh"
    return tables


def parse(tables: dict[str, Any], folder: Path = Path("/runs")) -> RunConfig:
    return settings.parse(tables, folder=folder, where="tiny")


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """Two rounds of `small`, none of `other`."""
    tables = mining_tables()
    other = {**tables["model"]["small"], "seed": 12}
    other["mix"] = {k: v for k, v in other["mix"].items() if k != "mined"}
    tables["model"]["other"] = other
    return parse(tables)


@pytest.fixture(scope="module")
def layout(config: RunConfig) -> Layout:
    return Layout(config, {}, TILES)


def read(
    layout: Layout, stage: str, table: str, key: str, rounds: str = "own", **more: Any
) -> list[str]:
    """Rounds that a partition is handed of a table."""
    wanted = Input(table, schemas.mined, scope="whole", rounds=rounds, **more)  # type: ignore[arg-type]
    root = f"{layout.config.root}/{table}/"
    return [p.removeprefix(root) for p in layout.inputs(stage_named(stage), wanted, key)]


def test_every_round_of_the_mined_model_has_its_own_and_other_models_have_one(
    layout: Layout,
) -> None:
    every = ["small/round=0", "small/round=1", "small/round=2", "other/round=0"]
    assert layout.partitions(stage_named("model")) == every
    assert layout.partitions(stage_named("mined")) == every[:2]
    scored = {key.partition("/set=")[0] for key in layout.partitions(stage_named("scores"))}
    assert scored == set(every)
    assert layout.path("mined", "small/round=1") == "/runs/demo/mined/small/round=1.parquet"


def test_a_model_is_handed_what_rounds_before_it_mined(layout: Layout) -> None:
    before = [read(layout, "model", "mined", f"small/round={k}", "before") for k in range(3)]
    assert before == [
        [], ["small/round=0.parquet"], ["small/round=0.parquet", "small/round=1.parquet"],
    ]  # fmt: skip
    assert read(layout, "model", "mined", "other/round=0", "before") == []


def test_what_is_mined_reads_the_scores_of_its_round_and_scores_their_model(layout: Layout) -> None:
    sky = read(layout, "mined", "scores", "small/round=1", sets=("calib",))
    assert sky == ["small/round=1/set=calib/tile=32-12.parquet"]
    key = "small/round=1/set=val/tile=32-12"
    assert read(layout, "scores", "model", key) == ["small/round=1"]


def test_what_has_no_round_reads_the_last_and_the_earlier_where_it_asks(
    layout: Layout, config: RunConfig
) -> None:
    assert config.report.model == "calibrated"
    assert read(layout, "report", "scores", "all", sets=("test",)) == []  # the ensemble's instead
    report = config.report.model_copy(update={"model": "small"})
    of_network = Layout(config.model_copy(update={"report": report}), {}, TILES)
    last = read(of_network, "report", "scores", "all", sets=("test",))
    assert last == ["small/round=2/set=test/tile=32-12.parquet"]
    earlier = read(layout, "report", "scores", "all", "earlier", sets=("test",))
    assert [round_of(path) for path in earlier] == [0, 1]
    assert read(layout, "candidates", "model", "all") == ["small/round=2"]


def test_rounds_follow_each_other_and_test_is_scored_after_the_last(config: RunConfig) -> None:
    steps = steps_of(config, ())
    before_test = ("val", "calib", "sky")
    first = steps.index(Step("model", 0))
    assert steps[first - 1] == Step("gates")
    assert steps[first : first + 9] == [
        Step("model", 0), Step("scores", 0, before_test), Step("mined", 0),
        Step("model", 1), Step("scores", 1, before_test), Step("mined", 1),
        Step("model", 2), Step("scores", 2, before_test),
        Step("scores", sets=("test",)),
    ]  # fmt: skip
    rest = [step.stage for step in steps[first + 9 :]]
    assert "report" in rest
    assert not {"model", "scores", "mined"} & set(rest)


def test_a_model_alone_scores_what_mining_needs_and_no_more(config: RunConfig) -> None:
    loop = [s for s in steps_of(config, ("model",)) if s.of_round is not None]
    assert loop == [
        Step("model", 0), Step("scores", 0, ("calib", "sky")), Step("mined", 0),
        Step("model", 1), Step("scores", 1, ("calib", "sky")), Step("mined", 1),
        Step("model", 2),
    ]  # fmt: skip
    assert steps_of(config, ("model",))[-1] == Step("model", 2)


def test_what_is_mined_needs_no_model_of_the_last_round(config: RunConfig) -> None:
    assert steps_of(config, ("mined",))[-1] == Step("mined", 1)


def test_every_partition_belongs_to_one_step(config: RunConfig, layout: Layout) -> None:
    for name in ("model", "scores", "mined", "report"):
        keys = layout.partitions(stage_named(name))
        held = [k for s in steps_of(config, ()) if s.stage == name for k in filter(s.holds, keys)]
        assert sorted(held) == sorted(keys)


def test_a_run_without_mining_is_made_stage_by_stage_as_before() -> None:
    config = parse(tiny_tables())
    steps = steps_of(config, ())
    assert all(step == Step(step.stage) for step in steps)
    assert "mined" not in [step.stage for step in steps]
    layout = Layout(config, {}, TILES)
    assert layout.partitions(stage_named("model")) == ["small/round=0"]
    assert layout.partitions(stage_named("mined")) == []
    with pytest.raises(ConfigError, match=r"the run's file has no section \[mined\]"):
        steps_of(config, ("mined",))


def test_a_share_of_mined_galaxies_that_nothing_mines_is_refused() -> None:
    tables = mining_tables()
    del tables["mined"]
    with pytest.raises(ConfigError, match=r"model\.small\.mix: it has a share of `mined`, but no"):
        parse(tables)


def test_a_fault_of_mined_is_told_once() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(mining_tables(top=-3))
    assert "mined.top" in str(raised.value)
    assert "report.mined" not in str(raised.value)


def test_a_mix_without_mined_galaxies_is_refused() -> None:
    tables = mining_tables()
    del tables["model"]["small"]["mix"]["mined"]
    with pytest.raises(ConfigError, match=r"the mix of model\.small has no share of `mined`"):
        parse(tables)


def test_a_round_of_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mined.model: 'large' is not one of \['small'\]"):
        parse(mining_tables(model="large"))


def test_another_round_leaves_what_was_mined_as_it_is() -> None:
    def mined_by(**changes: Any) -> str:
        mined = parse(mining_tables(**changes)).mined
        assert mined is not None
        return settings.digest_text(mined.of_output())

    assert mined_by() == mined_by(rounds=5) == mined_by(completeness=[0.3, 0.7], least_gain=0.2)
    assert mined_by() != mined_by(top=11)


def test_lists_are_relative_to_the_file_and_lenses_weigh_as_in_the_report() -> None:
    config = parse(mining_tables(known_lenses=["lists/known.csv", "s3a://b/k.fits"]))
    assert config.mined is not None
    assert config.mined.known_lenses == ("/runs/lists/known.csv", "s3://b/k.fits")
    assert config.mined.lens_weight == config.report.lens_weight
    with pytest.raises(ConfigError, match=r"mined\.lens_weight: stated once"):
        parse(mining_tables(lens_weight="equal"))


def test_a_list_that_changes_makes_what_was_mined_from_it_stale(tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("ra,dec\n10.0,-20.0\n")
    layout = Layout(parse(mining_tables(known_lenses=["known.csv"]), tmp_path), {}, {})
    task = Task("mined", layout, Survey(layout.config.survey), Device())
    before = task.digest("small/round=0")
    assert task.digest("small/round=0") == before
    known.write_text("ra,dec\n10.0,-20.5\n")
    assert task.digest("small/round=0") != before
    assert list(task._resources("small/round=0", tmp_path)["lists"]) == [str(known)]


def test_the_round_of_a_table_that_does_not_say_it_comes_from_its_path(tmp_path: Path) -> None:
    layout = Layout(parse({**mining_tables(), "root": "run"}, tmp_path), {}, TILES)
    for k in range(3):
        rows = pa.table({"stamp_id": pa.array([10 * k, 10 * k + 1], pa.int64())})
        path = layout.path("scores", f"small/round={k}/set=test/tile=32-12")
        store.write([rows], path, schema=rows.schema, digest="d")

    def asked(bands: schemas.Bands) -> pa.Schema:
        del bands
        return pa.schema([column("stamp_id", pa.int64(), "id"), column("round", I2, "round")])

    task = Task("report", layout, Survey(layout.config.survey), Device())
    wanted = Input("scores", asked, scope="whole", sets=("test",), rounds="earlier", handed_as="x")
    assert wanted.parameter == "x"
    table = task._table(wanted, "all")
    assert table is not None
    assert table["round"].to_pylist() == [0, 0, 1, 1]
    assert table["stamp_id"].to_pylist() == [0, 1, 10, 11]


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_a_run_killed_in_its_second_round_ends_as_an_undisturbed_one(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("whole", "killed"):
        shutil.copytree(finished, tmp_path / name, copy_function=shutil.copy2)
        write_run(mining_tables(rounds=1), tmp_path / name / "run.toml")
    words = ("report", "--workers", "1")
    undisturbed = dhs("run", tmp_path / "whole/run.toml", *words)
    assert undisturbed.returncode == 0, undisturbed.stderr
    root = tmp_path / "killed/demo"
    command = [str(DHS), "run", str(tmp_path / "killed/run.toml"), *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not list(root.glob(".scratch/model-small-round=1-*/*")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (root / "mined/small/round=0.parquet").is_file()
    assert not (root / "model/small/round=1").exists()
    trained = (root / "model/small/round=0/done.json").stat().st_mtime_ns
    ended = dhs("run", tmp_path / "killed/run.toml", *words)
    assert ended.returncode == 0, ended.stderr
    assert (root / "model/small/round=0/done.json").stat().st_mtime_ns == trained
    expected, made = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert made.keys() == expected.keys()
    assert [name for name in expected if made[name] != expected[name]] == []
    mined = store.read(str(root / "mined/small/round=0.parquet"))
    schemas.conform(mined, schemas.mined(("g", "r", "z")), where="mined")
    assert mined.num_rows == 10
    stands = dhs("status", tmp_path / "killed/run.toml").stdout
    for line in ("model       2 current", "mined       1 current"):
        assert line in stands
