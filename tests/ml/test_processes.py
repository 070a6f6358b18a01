"""Several processes train as one: the same loss, every stamp once, one that writes."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ml_builders import training, validation

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import batches, processes
from darkhaloscope.ml.processes import ALONE, Processes

SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
import ml_builders as b
from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import fit, levers

folder, killed_at = Path(sys.argv[1]), int(sys.argv[2])
rank = os.environ.get("RANK", "0")
source = b.training(64, epoch_stamps=64)
made = []

def make(part, how):
    made.append(part["stamp_id"].to_pylist())
    if len(made) == killed_at and rank == "1":
        os._exit(9)
    return source.make(part, how)

torch.manual_seed(3)
network = torch.nn.Sequential(
    torch.nn.Conv2d(2, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(2), torch.nn.Flatten(),
    torch.nn.Linear(32, 1), torch.nn.Flatten(0),
)
weights = np.random.default_rng(1).uniform(0.2, 1, 64).astype(np.float32)
done = fit.fit(
    network, replace(source, make=make, weights=weights), b.validation(33),
    recipe=b.recipe(tail_weight=0.5, tail_share=0.3, positive_weight=2.0), scratch=folder,
    device=Device(threads=1),
)
total = sum(float(value.double().abs().sum()) for value in done.last.values())
(folder / f"rank{rank}.json").write_text(json.dumps({"made": made, "weights": total}))
"""


def trained(folder: Path, count: int, *, killed_at: int = 0) -> int:
    """Train in so many processes; the exit status."""
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})" + SCRIPT
    )
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    told = [str(script), str(folder), str(killed_at)]
    command = [sys.executable, *(launch if count > 1 else []), *told]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if not killed_at:
        assert done.returncode == 0, done.stderr
    return done.returncode


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def said(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"rank{rank}.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    trained(folder, 1)
    return folder


def assert_same_curve(found: Path, expected: Path) -> None:
    rows = list(zip(history(found), history(expected), strict=True))
    assert len(rows) == 3
    for got, other in rows:
        assert {k: v for k, v in got.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}, rel=1e-4
        )


def test_two_processes_have_the_loss_curve_of_one_and_take_every_stamp_once(
    one: Path, tmp_path: Path
) -> None:
    trained(tmp_path, 2)
    assert_same_curve(tmp_path, one)
    alone, parts = said(one, 0), [said(tmp_path, rank) for rank in (0, 1)]
    assert [len(part["made"]) for part in parts] == [len(alone["made"])] * 2
    for batch, *halves in zip(alone["made"], *(part["made"] for part in parts), strict=True):
        assert sorted(batch) == sorted([*halves[0], *halves[1]])
        assert [len(half) for half in halves] == [4, 4]
    for epoch in range(3):
        taken = [
            stamp
            for part in parts
            for batch in part["made"][8 * epoch : 8 * (epoch + 1)]
            for stamp in batch
        ]
        assert sorted(taken) == list(range(1, 65))
    assert parts[0]["weights"] == parts[1]["weights"]
    assert parts[0]["weights"] == pytest.approx(alone["weights"], rel=1e-4)
    lines = (tmp_path / "training.log").read_text().splitlines()
    assert sum("epoch 1:" in line for line in lines) == 1


@pytest.mark.slow
def test_processes_that_were_killed_go_on_from_their_last_epoch(one: Path, tmp_path: Path) -> None:
    assert trained(tmp_path, 2, killed_at=8 + 3) != 0
    assert len(history(tmp_path)) == 1
    trained(tmp_path, 2)
    assert_same_curve(tmp_path, one)
    for rank in (0, 1):
        assert len(said(tmp_path, rank)["made"]) == 2 * 8


def test_the_parts_of_a_source_are_the_whole() -> None:
    whole = list(training().batches(1))
    shared = [batches.in_parts(training(), validation(7), Processes(r, 4)) for r in range(4)]
    for number, batch in enumerate(whole):
        parts = [list(source.batches(1))[number] for source, _ in shared]
        for rank, part in enumerate(parts):
            assert part.stamp_ids.tolist() == batch.stamp_ids[rank::4].tolist()
            torch.testing.assert_close(part.stamps, batch.stamps[rank::4], rtol=0, atol=0)
    judged = [batch.stamp_ids for _, source in shared for batch in source.batches(0)]
    assert sorted(np.concatenate(judged).tolist()) == list(range(10_001, 10_008))
    assert [len(ids) for ids in judged] == [2, 2, 2, 1]


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 8 is not a multiple of the 3 processes"):
        batches.in_parts(training(), validation(), Processes(0, 3))
    with pytest.raises(ConfigError, match="1 validation stamps are fewer than the 2 processes"):
        batches.in_parts(training(), validation(1), Processes(0, 2))


def test_the_environment_of_torchrun_is_read() -> None:
    found = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    found |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    assert processes.of_environment(found) == Processes(5, 8, 1, 4)
    assert processes.of_environment({}) == processes.of_environment({"WORLD_SIZE": "1"}) == ALONE
    with pytest.raises(ConfigError, match=r"WORLD_SIZE is 8, and RANK, LOCAL_RANK.* is not set"):
        processes.of_environment({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"})


def test_each_process_gets_its_gpu_or_its_threads() -> None:
    assert ALONE.device_of(Device("cuda", 8)) == Device("cuda", 8)
    assert Processes(5, 8, 1, 4).device_of(Device("cuda", 8)) == Device("cuda:1", 2)
    assert Processes(5, 8, 1, 4).device_of(Device("cpu", 2)) == Device("cpu", 1)
