"""The local engine: every partition once, in workers or here."""

import os
import subprocess
import sys
import time

import pytest
from engine_builders import count_threads, die, echo

from darkhaloscope.core.errors import StageError
from darkhaloscope.engines.local import LocalEngine


@pytest.mark.parametrize("workers", [0, 2])
def test_every_partition_comes_back_once(workers: int) -> None:
    with LocalEngine(workers) as engine:
        found = [r.partition for r in engine.map(echo, [str(i) for i in range(7)])]
    assert sorted(found) == [str(i) for i in range(7)]


def test_workers_are_other_processes_with_one_thread_that_stay() -> None:
    with LocalEngine(1) as engine:
        first, second = (next(iter(engine.map(echo, ["a"]))) for _ in range(2))
    assert first.extra["pid"] == second.extra["pid"] != os.getpid()
    assert first.extra["threads"] == "1"


def test_linear_algebra_in_a_worker_has_one_thread_and_the_parent_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with LocalEngine(1) as engine:
        found = next(iter(engine.map(count_threads, ["a"]))).extra["threads"]
    assert found == [1] * len(found)
    assert found
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ


def test_after_a_rest_new_workers_start() -> None:
    with LocalEngine(1) as engine:
        before = next(iter(engine.map(echo, ["a"]))).extra["pid"]
        engine.rest()
        assert next(iter(engine.map(echo, ["a"]))).extra["pid"] != before


def test_a_killed_worker_is_a_finished_message() -> None:
    with LocalEngine(1) as engine, pytest.raises(StageError, match="a worker was killed"):
        list(engine.map(die, ["a"]))


def test_nothing_to_do_starts_nothing() -> None:
    with LocalEngine(2) as engine:
        assert list(engine.map(echo, [])) == []
        assert engine._pool is None


def test_workers_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, signal\n"
        "from darkhaloscope.engines.local import LocalEngine\n"
        "from engine_builders import echo\n"
        "if __name__ == '__main__':\n"
        "    engine = LocalEngine(1)\n"
        "    print(next(iter(engine.map(echo, ['a']))).extra['pid'], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    worker = int(ran.stdout)
    for _ in range(200):  # the system tells it at once; reaping may take a moment
        if not os.path.exists(f"/proc/{worker}"):
            return
        time.sleep(0.05)
    pytest.fail(f"worker {worker} outlived its parent")
