"""Two networks, trained, combined and reported by the real command; and one alone, calibrated."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from run_builders import DHS, contents, dhs, tiny_tables, write_run

from darkhaloscope.data import store

pytestmark = pytest.mark.xdist_group("pipeline")
SETS = ("val", "calib", "test", "sky")


def of_committee() -> dict[str, Any]:
    """The tiny run with a second network of another seed and mix, and both as one."""
    tables = tiny_tables()
    small = tables["model"]["small"]
    mix = {**small["mix"], "companion": 0.2, "ring": 0.1}
    tables["model"]["other"] = {**small, "seed": 12, "mix": mix}
    alone = tables["ensemble"]["calibrated"]
    tables["ensemble"]["two"] = {**alone, "members": ["small", "other"], "combine": "stack"}
    for name in ("report", "candidates"):
        tables[name]["model"] = "two"
    return tables


def scored(root: Path, table: str, of: str) -> pa.Table:
    """Scores of a set, or what an ensemble makes of them, in the order of the stamps."""
    folder = root / "demo" / table
    files = sorted(folder.glob(f"set={of}/*.parquet")) or [folder / f"set={of}.parquet"]
    return pa.concat_tables([store.read(str(f)) for f in files]).sort_by("stamp_id")


@pytest.mark.parametrize("of", SETS)
def test_one_calibrated_network_keeps_every_score(finished: Path, of: str) -> None:
    calibrated = scored(finished, "ensemble/calibrated", of)
    assert calibrated["logit"].equals(scored(finished, "scores/small/round=0", of)["logit"])
    p = calibrated.sort_by("logit")["probability"].to_numpy()
    assert ((p > 0) & (p < 1)).all()
    assert of == "calib" or (np.diff(p) >= 0).all()


def test_candidates_are_ranked_by_score_and_say_how_likely_they_are(finished: Path) -> None:
    rows = store.read(str(finished / "demo/candidates/candidates.parquet"))
    assert rows["probability"].null_count == 0
    assert rows["disagreement"].null_count == rows.num_rows  # one network disagrees with nobody
    assert (np.diff(rows.sort_by("rank")["logit"].to_numpy()) <= 0).all()


def test_the_report_of_one_calibrated_network_still_shows_it_and_its_audit(finished: Path) -> None:
    folder = finished / "demo/report"
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["calibration"]["prevalence"] > 0
    assert figures["audit"] == [
        {k: v for k, v in row.items() if k != "member"} for row in figures["audit"]
    ]
    assert figures["audit"]
    card, page = ((folder / name).read_text() for name in ("card.md", "index.html"))
    weights = json.loads((finished / "demo/model/small/round=0/done.json").read_text())["files"]
    for said in (weights["model.safetensors"], "| design | small |", "## Audit\n"):
        assert said in card
    assert 'id="audit"' in page
    assert "Calibrated for the sky" in page


@pytest.mark.slow
def test_a_committee_is_made_alike_by_any_workers_and_after_a_kill(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("alone", "workers", "killed"):
        shutil.copytree(finished, tmp_path / name, copy_function=shutil.copy2)
        write_run(of_committee(), tmp_path / name / "run.toml")
    for name, workers in (("alone", "0"), ("workers", "2")):
        ran = dhs("run", tmp_path / name / "run.toml", "--workers", workers)
        assert ran.returncode == 0, ran.stderr
    root = tmp_path / "killed/demo"
    command = [str(DHS), "run", str(tmp_path / "killed/run.toml"), "--workers", "1"]
    for wait_for in (".scratch/model-other*/*", "ensemble/two/set=val.parquet"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and not list(root.glob(wait_for)):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    trained = (root / "model/other/round=0/done.json").stat().st_mtime_ns
    assert dhs("run", tmp_path / "killed/run.toml", "--workers", "1").returncode == 0
    assert (root / "model/other/round=0/done.json").stat().st_mtime_ns == trained
    expected = contents(tmp_path / "alone")
    for name in ("workers", "killed"):
        made = contents(tmp_path / name)
        assert made.keys() == expected.keys()
        assert [key for key in expected if made[key] != expected[key]] == []
    _is_a_committee(tmp_path / "alone")
    assert " stale" not in dhs("status", tmp_path / "killed/run.toml").stdout


def _is_a_committee(run: Path) -> None:
    """What two networks were made into."""
    for of in SETS:
        table = scored(run, "ensemble/two", of)
        for place, member in enumerate(("small", "other")):
            own = scored(run, f"scores/{member}/round=0", of)["logit"]
            assert pc.list_element(table["member_logits"], place).equals(own)
        assert table["disagreement"].null_count == 0
    rows = store.read(str(run / "demo/candidates/candidates.parquet"))
    assert rows["disagreement"].null_count == 0
    figures = json.loads((run / "demo/report/metrics.json").read_text())
    assert {row["member"] for row in figures["audit"]} == {"small/round=0", "other/round=0"}
    assert {e["member"] for e in figures["committee"]["compared"]} == {"small", "other"}
    card = (run / "demo/report/card.md").read_text()
    for said in ("## The networks", "## Committee", "## Audit of other/round=0"):
        assert said in card
