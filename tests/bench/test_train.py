"""`dhs bench train`: parts that add up, timers that leave no trace, the real training inside."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from darkhaloscope.bench import train
from darkhaloscope.bench.training_set import training_set
from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import batches, fresh, injection, loop


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    return train.measure(device="cpu", steps=2, repeats=1, galaxies=8, threads=[1])


def test_the_parts_of_a_step_add_up_to_the_whole(figures: dict[str, object]) -> None:
    parts = figures["parts"]
    assert sum(parts["ms"].values()) == pytest.approx(parts["step_ms"], abs=0.05)  # type: ignore[index]
    shares = [parts[f"{name}_share_percent"] for name in ("making", "network")]  # type: ignore[index]
    rest = 100 * parts["ms"]["rest"] / parts["step_ms"]  # type: ignore[index]
    assert sum(shares) + rest == pytest.approx(100, abs=0.1)


def test_every_part_of_the_path_is_seen(figures: dict[str, object]) -> None:
    ms = figures["parts"]["ms"]  # type: ignore[index]
    assert set(ms) == {
        "draw", "describe and check", "take cutouts", "render profiles", "render parts",
        "scale to S/N", "photon noise", "add", "turn",
        "normalise", "put together", "forward", "backward", "optimiser", "average", "rest",
    }  # fmt: skip
    assert all(value > 0 for name, value in ms.items() if name != "rest")


def test_the_figures_are_json_and_say_where_they_were_measured(figures: dict[str, object]) -> None:
    held = json.loads(json.dumps(figures))
    assert held["batch_size"] == 64
    assert held["network"] == "small"
    assert held["threads"]["1"]["stamps_per_s"] > 0
    assert held["versions"]["torch"]
    assert held["cpu"]
    assert "making is" in train.table(held)


def test_no_timer_is_left_behind() -> None:
    before = (injection.PAINTERS, batches.turned, fresh.Injections.__dict__["_painted"])
    inherited = "backward" in loop.Training.__dict__
    with train._timers(train.Stopwatch(lambda: 0.0)):
        assert batches.turned is not before[1]
    assert (injection.PAINTERS, batches.turned, fresh.Injections.__dict__["_painted"]) == before
    assert ("backward" in loop.Training.__dict__) == inherited


def test_a_part_is_counted_without_the_parts_inside_it() -> None:
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    watch = train.Stopwatch(lambda: now)
    inner = watch.timed("inner", lambda: spend(2))

    def work() -> None:
        spend(1)
        inner()
        inner()
        spend(3)

    watch.timed("outer", work)()
    assert dict(watch.seconds) == {"inner": 4, "outer": 4}


def test_threads_are_timed_apart() -> None:
    now = iter(range(100))
    watch = train.Stopwatch(lambda: float(next(now)))
    inner = watch.timed("inner", lambda: None)

    def work() -> None:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    watch.timed("outer", work)()
    assert dict(watch.seconds) == {"inner": 1, "outer": 3}


def test_galaxies_are_named_draws_with_the_noise_they_are_said_to_have() -> None:
    made = training_set(6, steps=1, device=Device())
    again = training_set(6, steps=1, device=Device())
    one, other = (next(iter(s.source.batches(1))) for s in (made, again))
    np.testing.assert_array_equal(one.stamps.numpy(), other.stamps.numpy())
    assert set(made.source.rows["kind"].to_pylist()) == set(made.mix)


def test_it_runs_where_only_the_nets_packages_are() -> None:
    script = (
        "import sys, darkhaloscope.bench.train\n"
        "print([m for m in ('pydantic', 'typer', 'rich', 'astropy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
