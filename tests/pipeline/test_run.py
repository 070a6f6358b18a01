"""The whole line through the `dhs` command on a tiny simulated sky, and what resuming means."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from run_builders import DHS, contents, dhs, tiny_tables, write_run

from darkhaloscope.core import schemas
from darkhaloscope.data import store

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture
def fresh(sky: Path, tmp_path: Path) -> Path:
    """A copy of the tiny sky to spoil."""
    shutil.copytree(sky, tmp_path / "run", copy_function=shutil.copy2)
    return tmp_path / "run"


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to spoil."""
    shutil.copytree(finished, tmp_path / "run", copy_function=shutil.copy2)
    return tmp_path / "run"


def table(root: Path, name: str) -> pa.Table:
    """All partitions of a table; of an artefact the file of its name."""
    folder = root / "demo" / name
    own = folder / f"{name}.parquet"
    files = [own] if own.exists() else sorted(folder.rglob("*.parquet"))
    files = files or sorted(folder.rglob("round=*.json"))
    return pa.concat_tables([store.read(str(f)) for f in files])


def test_every_stage_leaves_a_table_of_its_schema(finished: Path) -> None:
    for name, schema in schemas.BY_NAME.items():
        if name != "mined":  # this run has no rounds
            schemas.conform(table(finished, name), schema(("g", "r", "z")), where=name)


def test_every_usable_target_is_scored_once_and_every_one_is_ranked(finished: Path) -> None:
    cutouts = table(finished, "cutouts")
    usable = set(cutouts.filter(pa.compute.is_null(cutouts["refused"]))["target_id"].to_pylist())
    scores = table(finished, "scores")
    sky = scores.filter(pa.compute.equal(scores["set"], "sky"))["target_id"].to_pylist()
    assert len(usable) > 50
    assert sorted(sky) == sorted(usable)
    assert sum(table(finished, "candidates")["n_merged"].to_pylist()) == len(usable)


def test_no_galaxy_is_in_two_splits(finished: Path) -> None:
    rows = table(finished, "manifest").select(["target_id", "split"]).group_by("target_id")
    assert (
        max(rows.aggregate([("split", "count_distinct")])["split_count_distinct"].to_pylist()) == 1
    )


def test_a_brick_without_a_band_is_refused_with_its_reason(finished: Path) -> None:
    reasons = [r for r in table(finished, "images")["missing"].to_pylist() if r]
    assert reasons
    refused = [r for r in table(finished, "cutouts")["refused"].to_pylist() if r]
    assert any(r.startswith("no g pixels of brick") for r in refused)


def test_the_report_is_a_page_with_figures_and_their_intervals(finished: Path) -> None:
    folder = finished / "demo" / "report"
    page = (folder / "index.html").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "not resolvable" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert metrics["auroc"]["low"] <= metrics["auroc"]["value"] <= metrics["auroc"]["high"]


def test_a_second_run_says_that_all_is_current_and_touches_nothing(done: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in (done / "demo").rglob("*") if f.is_file()}
    again = dhs("run", done / "run.toml", "--workers", "1")
    assert again.returncode == 0
    assert "Everything is current" in again.stdout
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_status_names_what_a_changed_setting_makes_stale(done: Path) -> None:
    tables = tiny_tables()
    tables["candidates"]["merge_arcsec"] = 3.0
    write_run(tables, done / "run.toml")
    said = dhs("status", done / "run.toml").stdout
    assert "candidates  1 stale" in said
    assert "stale    report/all" in said
    assert "scores      " in said
    assert " stale" not in said.split("scores")[1].splitlines()[0]


def test_only_the_tables_behind_a_changed_setting_are_made_again(done: Path) -> None:
    before = {k: v for k, v in contents(done).items() if k.startswith(("cutouts", "scores"))}
    tables = tiny_tables()
    tables["candidates"]["merge_arcsec"] = 3.0
    write_run(tables, done / "run.toml")
    assert dhs("run", done / "run.toml", "--workers", "1").returncode == 0
    after = contents(done)
    assert all(after[k] == v for k, v in before.items())


def test_workers_change_no_byte(finished: Path, fresh: Path) -> None:
    ran = dhs("run", fresh / "run.toml", "manifest", "stamps", "--workers", "2")
    assert ran.returncode == 0, ran.stderr
    expected = contents(finished)
    made = contents(fresh)
    assert len(made) > 20
    assert {k: v == expected[k] for k, v in made.items()} == dict.fromkeys(made, True)


def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(finished: Path, fresh: Path) -> None:
    command = [str(DHS), "run", str(fresh / "run.toml"), "stamps", "--workers", "1"]
    for wait_for in ("targets", "cutouts"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        folder = fresh / "demo" / wait_for
        while process.poll() is None and not any(folder.glob("*.parquet")):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    expected = contents(finished)
    made = contents(fresh)
    assert {k: v == expected[k] for k, v in made.items()} == dict.fromkeys(made, True)
    assert not list((fresh / "demo").rglob("*.partial"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_says_so_and_leaves_no_worker(
    fresh: Path, number: signal.Signals
) -> None:
    command = [str(DHS), "run", str(fresh / "run.toml"), "manifest", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any((fresh / "demo/targets").glob("*.parquet")):
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)  # a worker that lives on would hold the pipe open
    assert process.returncode == 130, said
    assert f"stopped by {number.name}; what was finished is kept" in said


def test_what_a_killed_run_left_in_scratch_goes_when_the_stage_is_made(done: Path) -> None:
    left = done / "demo/.scratch/report-all-0123456789abcdef"
    left.mkdir(parents=True)
    tables = tiny_tables()
    tables["report"]["gallery_stamps"] = 1
    write_run(tables, done / "run.toml")
    assert dhs("run", done / "run.toml", "--workers", "1").returncode == 0
    assert list((done / "demo/.scratch").iterdir()) == []


def test_one_tile_alone(fresh: Path) -> None:
    assert dhs("run", fresh / "run.toml", "splits", "--workers", "0").returncode == 0
    tile = sorted(p.stem.removeprefix("tile=") for p in (fresh / "demo/splits").iterdir())[0]
    ran = dhs("run", fresh / "run.toml", "cutouts", "--only", tile, "--workers", "0")
    assert ran.returncode == 0, ran.stderr
    assert [p.name for p in (fresh / "demo/cutouts").iterdir()] == [f"tile={tile}.parquet"]
    wrong = dhs("run", fresh / "run.toml", "cutouts", "--only", "32-1", "--workers", "0")
    assert wrong.returncode == 2
    assert "there is no tile '32-1'; the run has" in wrong.stderr


def test_a_truncated_image_is_refused_and_the_others_go_on(fresh: Path) -> None:
    image = sorted((fresh / "sky").rglob("*-image-r.fits.fz"))[0]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    assert dhs("run", fresh / "run.toml", "cutouts", "--workers", "0").returncode == 0
    brick = image.parent.name
    cutouts = table(fresh, "cutouts")
    of_brick = cutouts.filter(pa.compute.equal(cutouts["brickname"], brick))
    assert all(of_brick["refused"].to_pylist())
    assert not all(cutouts["refused"].to_pylist())


def test_a_catalogue_without_a_column_stops_with_one_message(fresh: Path) -> None:
    from astropy.table import Table

    catalogue = sorted((fresh / "sky").rglob("tractor-*.fits"))[0]
    rows = Table.read(catalogue)
    rows.remove_columns(["type", "objid"])
    rows.write(catalogue, overwrite=True)
    ran = dhs("run", fresh / "run.toml", "targets", "--workers", "0")
    assert ran.returncode == 2
    assert ran.stderr.count("dhs: ") == 1
    assert "Traceback" not in ran.stderr
    assert "type" in ran.stderr.lower()
    assert "objid" in ran.stderr.lower()
    assert len(list((fresh / "demo/targets").iterdir())) == 5


def test_a_sky_without_a_galaxy_that_passes_stops_with_one_message(fresh: Path) -> None:
    from astropy.table import Table

    for catalogue in (fresh / "sky").rglob("tractor-*.fits"):
        rows = Table.read(catalogue)
        rows["type"] = "PSF"
        rows.write(catalogue, overwrite=True)
    ran = dhs("run", fresh / "run.toml", "splits", "--workers", "0")
    assert ran.returncode == 2
    assert "no target in the area" in ran.stderr


def test_a_full_disk_stops_with_one_message_and_loses_nothing(fresh: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    ran = dhs("run", fresh / "run.toml", "cutouts", "--workers", "0", preexec_fn=small_files)
    assert ran.returncode == 2, ran.stderr
    assert "cannot be written" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list((fresh / "demo/splits").iterdir())
    assert not list((fresh / "demo").rglob(".*.partial"))
    assert dhs("run", fresh / "run.toml", "cutouts", "--workers", "0").returncode == 0


def test_a_root_below_a_file_stops_with_one_message(fresh: Path) -> None:
    (fresh / "demo").write_text("")
    ran = dhs("run", fresh / "run.toml", "targets", "--workers", "0")
    assert ran.returncode == 2
    assert "cannot be written" in ran.stderr
    assert "root" in ran.stderr


def test_a_second_run_on_a_root_is_refused(fresh: Path) -> None:
    from darkhaloscope.pipeline.run import locked

    with locked(str(fresh / "demo")):
        ran = dhs("run", fresh / "run.toml", "targets", "--workers", "0")
    assert ran.returncode == 2
    assert "is in use by another run" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "run.toml", "stampz"], "there is no stage 'stampz'"),
        (["run", "none.toml"], "is not there; `dhs init"),
        (["schema", "stampz"], "there is no table 'stampz'"),
        (["init", "x.toml", "--preset", "dr99"], "there is no preset 'dr99'; the presets are"),
        (["init", "run.toml"], "is there already"),
        (["init", "x.toml", "--preset", "legacy-dr10", "--area", "1,2"], "--area wants"),
    ],
)
def test_a_wrong_word_is_one_message(sky: Path, words: Sequence[str], said: str) -> None:
    ran = dhs(*words, cwd=sky)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_one_of_several_processes_is_refused_before_anything_is_written(
    sky: Path, tmp_path: Path
) -> None:
    for words in (["run", sky / "run.toml", "targets"], ["demo", "--out", tmp_path]):
        ran = dhs(*words, env={**os.environ, "WORLD_SIZE": "2", "RANK": "1"})
        assert ran.returncode == 2
        assert "WORLD_SIZE is 2, as under torchrun, and a run is brought" in ran.stderr
    assert not (tmp_path / "sky").exists()


def test_help_loads_no_torch() -> None:
    code = "import sys, darkhaloscope.cli; print(*[m in sys.modules for m in ('torch', 'pyspark')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
