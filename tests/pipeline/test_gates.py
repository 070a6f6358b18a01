"""Nothing is trained on a set whose gates fail, and nothing is trained again for a limit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_builders import dhs, tiny_tables, write_run

from darkhaloscope.evaluate.gates import GUARDS

pytestmark = pytest.mark.xdist_group("pipeline")


def changed(folder: Path, *, resolved_share: float, **gates: Any) -> Path:
    """The run's file without waivers and with another limit, which the tiny sky keeps or not."""
    tables = tiny_tables()
    tables["gates"].pop("waive")
    tables["gates"]["limits"]["resolved_share"] = resolved_share
    tables["gates"].update(gates)
    return write_run(tables, folder / "run.toml")


@pytest.fixture(scope="module")
def done(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run that may be changed."""
    folder = tmp_path_factory.mktemp("gated") / "run"
    shutil.copytree(finished, folder, copy_function=shutil.copy2)
    return folder


def test_the_first_runs_recipe_is_stopped_before_it_is_trained(sky: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sky, folder, copy_function=shutil.copy2)
    tables = tiny_tables("first-run")
    tables["gates"].pop("waive")
    write_run(tables, folder / "run.toml")
    ran = dhs("run", folder / "run.toml", "--workers", "1")
    assert ran.returncode == 2
    assert ran.stderr.count("dhs: ") == 1
    assert "Traceback" not in ran.stderr
    assert "gates failed, so nothing is trained" in ran.stderr
    rows = json.loads((folder / "first-run/gates/gates.json").read_text())
    failed = {row["name"] for row in rows if not row["passed"]}
    assert failed >= {"resolution", "control_copies", "core_only"}
    assert all(f'{name} = "why this is meant"' in ran.stderr for name in failed)
    assert (folder / "first-run/gates/index.html").is_file()
    assert not (folder / "first-run/model").exists()


def test_a_limit_that_does_not_hold_stops_the_run_and_a_waiver_does_not_train_again(
    done: Path,
) -> None:
    trained = (done / "demo/model/small/round=0/done.json").read_bytes()
    changed(done, resolved_share=1.0)
    ran = dhs("run", done / "run.toml", "--workers", "1")
    assert ran.returncode == 2
    assert "gates failed, so nothing is trained" in ran.stderr
    assert "is below 1" in ran.stderr
    said = dhs("status", done / "run.toml").stdout
    assert "gates       1 failed" in said
    assert "model       1 current" in said
    changed(done, resolved_share=1.0, waive=dict.fromkeys(GUARDS, "shown, and known to be small"))
    again = dhs("run", done / "run.toml", "model", "--workers", "1")
    assert again.returncode == 0, again.stderr
    assert (done / "demo/model/small/round=0/done.json").read_bytes() == trained
    rows = json.loads((done / "demo/gates/gates.json").read_text())
    waived = {row["name"]: row["reason"] for row in rows if row["waived"]}
    assert "waived: shown, and known to be small" in waived["resolution"]


def test_the_gates_alone_stop_too_and_what_stands_before_them_does_not(done: Path) -> None:
    changed(done, resolved_share=1.0)
    assert dhs("run", done / "run.toml", "gates", "--workers", "1").returncode == 2
    assert dhs("run", done / "run.toml", "stamps", "--workers", "1").returncode == 0


def test_one_tile_alone_asks_no_gate(done: Path) -> None:
    changed(done, resolved_share=1.0)
    tile = sorted(p.stem.removeprefix("tile=") for p in (done / "demo/splits").iterdir())[0]
    ran = dhs("run", done / "run.toml", "scores", "--only", tile, "--workers", "0")
    assert ran.returncode == 0, ran.stderr


def test_a_gate_that_does_not_exist_cannot_be_waived(done: Path) -> None:
    changed(done, resolved_share=0.3, waive={"core": "a reason that is long enough"})
    ran = dhs("status", done / "run.toml")
    assert ran.returncode == 2
    assert "gates.waive: there is no gate core; the gates are" in ran.stderr
