"""Endurance: a run killed at random moments ends as one that was left alone.

Three kills by default (`make test-slow`), fifty with --soak (`make soak`).
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from run_builders import DHS, contents, dhs

from darkhaloscope.core import keys

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(
    sky: Path, finished: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = 50 if request.config.getoption("--soak") else 3
    moments = 1.0 + 14.0 * keys.uniform(np.arange(kills), seed=1, stream="moment of the kill")
    shutil.copytree(sky, tmp_path / "run", copy_function=shutil.copy2)
    command = [str(DHS), "run", str(tmp_path / "run/run.toml"), "--workers", "1"]
    for kill, moment in enumerate(moments):
        if kill % 10 == 9:
            shutil.rmtree(tmp_path / "run/demo")  # begin again: early stages are killed too
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert dhs("run", tmp_path / "run/run.toml", "--workers", "1").returncode == 0
    expected, made = contents(finished), contents(tmp_path / "run")
    assert made.keys() == expected.keys()
    differing = [name for name in expected if made[name] != expected[name]]
    assert differing == []
