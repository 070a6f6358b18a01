"""The benchmark's command at its smallest size: trains, scores, goes on from where it stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from run_builders import dhs, without

from darkhaloscope.bench import benchmark
from darkhaloscope.bench.frozen import definition, fitting, recipes, results, scoring
from darkhaloscope.bench.frozen.scoring import Workplace
from darkhaloscope.core.contracts import Device

pytestmark = pytest.mark.slow

TINY = ("--variant", "tiny", "--stamps", "256", "--device", "cpu")
# matplotlib and PIL are left, as torchmetrics imports them where they are installed
NOT_ON_A_BARE_MACHINE = {
    *("astropy", "astropy_healpix", "fastapi", "galsim", "jinja2", "lenstronomy", "numba"),
    *("psutil", "pydantic", "pyspark", "safetensors", "sklearn", "typer"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    words = ("--recipe", "small", "--recipe", "trivial", "--out", str(folder))
    assert benchmark.main([*TINY, *words]) == 0
    return folder


def result(out: Path, recipe: str) -> dict[str, Any]:
    path = out / "results" / f"dhs-sim-1-tiny.val.{recipe}.seed-1.json"
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def folder_of(out: Path) -> Path:
    name = recipes.key(recipes.named("small").shortened(256))
    return out / "scores" / "dhs-sim-1-tiny" / "set=val" / name


def test_each_recipe_has_a_result_with_all_that_it_follows_from(out: Path) -> None:
    small, other = result(out, "small"), result(out, "trivial")
    assert small["origin"] == small["headline"]["headline"]["origin"] == "sim"
    assert small["all"]["n_rows"] == other["all"]["n_rows"]
    assert small["all"]["n_negatives"] == 200
    assert small["stamps"] == 256
    assert small["train_minutes"] > 0
    assert len(small["weights_sha256"]) == len(small["test_sha256"]) == 64
    assert other["gmac"] is None
    table = results.table(results.read(out / "results"))
    assert "| small, 1 | cpu" in table
    assert "| trivial, 1 | cpu" in table


def test_the_scores_are_a_table_for_the_evaluator(out: Path) -> None:
    ran = dhs("evaluate", folder_of(out), "--json")
    assert ran.returncode == 0, ran.stderr
    theirs = json.loads(ran.stdout)
    ours = result(out, "small")["all"]
    assert theirs["auroc"]["value"] == pytest.approx(ours["auroc"]["value"], rel=1e-6)


def test_what_is_missing_is_made_again_and_nothing_else(out: Path) -> None:
    folder = folder_of(out)
    before = scoring.table(folder)
    files = sorted(folder.glob("block-*.parquet"))
    assert len(files) > 2
    files[1].unlink()
    kept = {f.name: f.stat().st_mtime_ns for f in files if f.exists()}
    trained = {f: f.stat().st_mtime_ns for f in (out / "training").rglob("weights.npz")}
    assert benchmark.main([*TINY, "--recipe", "small", "--out", str(out)]) == 0
    assert scoring.table(folder).equals(before)
    assert all((folder / name).stat().st_mtime_ns == time for name, time in kept.items())
    assert all(f.stat().st_mtime_ns == time for f, time in trained.items())


def test_scores_of_another_set_are_thrown_away(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    folder = folder_of(copy)
    said = json.loads((folder / scoring.MADE_OF).read_text())
    (folder / scoring.MADE_OF).write_text(json.dumps({**said, "set_sha256": "0"}))
    poisoned = scoring.table(folder)
    zeros = pa.array([0.0] * poisoned.num_rows, pa.float32())
    place = poisoned.column_names.index("logit")
    for file in folder.glob("block-*.parquet"):
        file.unlink()
    scoring._write(poisoned.set_column(place, "logit", zeros), folder / "block-0000.parquet")
    assert benchmark.main([*TINY, "--recipe", "small", "--out", str(copy)]) == 0
    assert scoring.table(folder).equals(scoring.table(folder_of(out)))


def test_minutes_become_stamps_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "PROBE_STEPS", {"cpu": 2})
    at = Workplace(out, Device("cpu", 1))
    bench, small = definition.load("tiny"), recipes.named("small", is_quick=True)
    assert isinstance(small, recipes.Recipe)
    stamps = fitting.stamps_in(bench, small, 60, at)
    (held,) = (out / "training").glob("*minutes*.json")
    rate = json.loads(held.read_text())["stamps_per_s"]
    assert 0 < stamps < 3600 * rate  # the rest is for validation
    monkeypatch.setattr(fitting, "_rate", None)
    assert fitting.stamps_in(bench, small, 60, at) == stamps


def test_it_runs_where_only_the_nets_packages_are(tmp_path: Path) -> None:
    words = ("--recipe", "small", "--recipe", "trivial", "--out", tmp_path)
    ran = without(NOT_ON_A_BARE_MACHINE, "darkhaloscope.bench", "benchmark", *TINY, *words)
    assert ran.returncode == 0, ran.stderr
    assert "| small, 1 | cpu" in ran.stdout
    assert "trivial" not in ran.stdout
    assert "the trivial model is left out" in ran.stderr
