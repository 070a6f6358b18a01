"""Training learns, continues after a kill as if nothing had happened, and names bad stamps."""

import csv
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from ml_builders import NORMALISE, blobs, recipe, rows, same, training, validation
from scipy.special import softmax
from sklearn.metrics import log_loss

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.ml import heads, loop, networks
from darkhaloscope.ml.batches import Batch, Drawn, Fixed, Plan, cut
from darkhaloscope.ml.fit import Fitted, fit, precision_on
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.transforms import Augmentation


def fitted(folder: Path, source: Drawn | None = None, **changes: object) -> Fitted:
    network = networks.make("small", bands=2, seed=1)
    folder.mkdir(exist_ok=True)
    return fit(
        network,
        source or training(),
        validation(),
        recipe=recipe(**changes),
        scratch=folder,
        device=Device(threads=1),
    )


class Killed(Exception):  # noqa: N818
    """Stands for a kill; nothing of the package catches it."""


def killed_in(epoch: int) -> Drawn:
    """A source that fails in the second batch of an epoch."""
    source = training()
    plain = source.make
    calls = 0

    def make(part: pa.Table, how: Augmentation) -> Raw:
        nonlocal calls
        calls += 1
        if calls == epoch * source.steps + 2:
            raise Killed
        return plain(part, how)

    return replace(source, make=make)


def other_labels(part: pa.Table) -> pa.Table:
    """Rows that take lenses for negatives."""
    column = part.schema.get_field_index("label")
    return part.set_column(column, "label", pa.array(1 - part["label"].to_numpy(), pa.int8()))


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_network_learns_32_stamps_by_heart(tmp_path: Path) -> None:
    plan = Plan(16, 64, {"lens": 0.5, "control": 0.5}, 0, 16, 5)
    source = Drawn(rows(32), same, cut(blobs(), 16), plan, NORMALISE)
    seen = Fixed(rows(32), blobs(), 8, 16, NORMALISE)
    done = fit(
        networks.make("small", bands=2, seed=1),
        source,
        seen,
        recipe=recipe(max_epochs=8),
        scratch=tmp_path,
        device=Device(),
    )
    assert done.chosen.val_loss < 0.05
    assert done.chosen.val_auroc == 1.0


def test_a_network_learns_to_tell_kinds_apart(tmp_path: Path) -> None:
    kinds = ("lens", "ring", "control")
    mix = dict.fromkeys(kinds, 1.0)
    classes = heads.classes_of("kinds", mix)
    source = Drawn(
        rows(96, kinds=kinds), same, cut(blobs(), 16), Plan(16, 96, mix, 0, 16, 5), NORMALISE,
        classes=classes,
    )  # fmt: skip
    judged = rows(48, kinds=kinds, first_id=10_001)
    seen = Fixed(judged, blobs(), 16, 16, NORMALISE, classes=classes)
    done = fit(
        networks.make("small", bands=2, seed=1, outputs=3),
        source,
        seen,
        recipe=recipe(max_epochs=8),
        scratch=tmp_path,
        device=Device(threads=1),
    )
    network = networks.make("small", bands=2, seed=1, outputs=3)
    network.load_state_dict(done.best)
    batches = list(seen.batches(0))
    with torch.inference_mode():
        outputs = torch.cat([network.eval()(batch.stamps) for batch in batches]).double()
    found = [classes[place] for place in outputs.argmax(1).tolist()]
    assert found == judged["kind"].to_pylist()
    truth = [classes.index(kind) for kind in judged["kind"].to_pylist()]
    p = softmax(outputs.numpy(), axis=1)
    assert done.chosen.val_loss == pytest.approx(log_loss(truth, p, labels=range(3)), abs=1e-4)
    assert done.chosen.val_loss < 0.2
    assert done.chosen.val_auroc == 1.0
    assert done.history[-1].train_loss < 0.2 < done.history[0].train_loss


def weighted(weights: np.ndarray, table: pa.Table | None = None) -> Drawn:
    source = training()
    return replace(source, rows=source.rows if table is None else table, weights=weights)


def test_the_label_of_a_stamp_of_weight_0_is_not_learnt(tmp_path: Path) -> None:
    table = rows(64)
    weights = np.ones(64, np.float32)
    weights[::4] = 0
    wrong = table["label"].to_numpy().copy()
    wrong[::4] = 1 - wrong[::4]
    mistaken = table.set_column(2, "label", pa.array(wrong, pa.int8()))
    plain = training()

    def make(part: pa.Table, how: Augmentation) -> Raw:
        own = part.set_column(2, "label", table["label"].take(pc.index_in(
            part["stamp_id"], value_set=table["stamp_id"].combine_chunks()
        )))  # fmt: skip
        return plain.make(own, how)

    done = [
        fitted(tmp_path / name, replace(weighted(weights, of), make=make), max_epochs=2)
        for name, of in (("right", table), ("wrong", mistaken))
    ]
    assert same_weights(done[0].last, done[1].last)
    assert done[0].history[-1].train_loss == done[1].history[-1].train_loss
    heeded = replace(weighted(np.ones(64, np.float32), mistaken), make=make)
    assert not same_weights(fitted(tmp_path / "heeded", heeded, max_epochs=2).last, done[0].last)


def test_the_training_loss_is_the_mean_by_weight() -> None:
    weights = np.random.default_rng(3).uniform(0.1, 1, 64).astype(np.float32)
    source = weighted(weights)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(512, 1), torch.nn.Flatten(0))
    module = loop.Training(network, source, validation(), recipe(positive_weight=2.0))
    total, weight = 0.0, 0.0
    for batch in source.batches(0):
        module.training_step(batch, 0)
        with torch.no_grad():
            logits = network(batch.stamps.contiguous()).double()
        label, by = batch.labels.double(), weights[batch.stamp_ids - 1].astype(np.float64)
        each = torch.nn.functional.softplus(torch.where(label > 0, -logits, logits))
        each = each * torch.where(label > 0, 2.0, 1.0)
        total, weight = total + float(each.numpy() @ by), weight + by.sum()
    assert module.mean_loss() == pytest.approx(total / weight, rel=1e-5)
    assert module.stamps == 32


def test_a_killed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    undisturbed = fitted(tmp_path / "whole")
    with pytest.raises(Killed):
        fitted(tmp_path / "cut", killed_in(2))
    assert len((tmp_path / "cut" / "history.csv").read_text().splitlines()) == 3
    continued = fitted(tmp_path / "cut")
    assert same_weights(continued.last, undisturbed.last)
    assert same_weights(continued.best, undisturbed.best)
    for got, expected in zip(continued.history, undisturbed.history, strict=True):
        assert replace(got, seconds=0) == replace(expected, seconds=0)
    assert "continuing after epoch 2" in (tmp_path / "cut" / "training.log").read_text()


def test_a_kill_before_the_checkpoint_does_not_part_best_weights_from_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: dict[str, Any] = {"schedule": "constant", "ema_decay": 0.0}
    one_epoch = fitted(tmp_path / "one", max_epochs=1, **plain)
    assert fitted(tmp_path / "two", max_epochs=2, **plain).chosen.epoch == 1
    write, names = loop.write_whole, []

    def killed(path: Path, fill: Callable[[str], object]) -> None:
        names.append(path.name)
        if names.count(loop.CHECKPOINT) == 2:
            raise Killed
        write(path, fill)

    monkeypatch.setattr(loop, "write_whole", killed)
    with pytest.raises(Killed):
        fitted(tmp_path / "cut", max_epochs=2, **plain)
    monkeypatch.undo()
    source = training()
    worse = replace(source, make=lambda part, how: source.make(other_labels(part), how))
    continued = fitted(tmp_path / "cut", worse, max_epochs=2, **plain)
    assert continued.chosen.epoch == 0
    assert same_weights(continued.best, one_epoch.best)


def test_a_process_killed_outright_leaves_what_it_needs_to_continue(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from dataclasses import replace
from pathlib import Path
import ml_builders as b
from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import fit, networks
source = b.training()
calls = 0
def make(part, how):
    global calls
    calls += 1
    if calls == 7:
        os._exit(9)
    return source.make(part, how)
fit.fit(networks.make("small", bands=2, seed=1), replace(source, make=make), b.validation(),
        recipe=b.recipe(), scratch=Path({str(tmp_path)!r}), device=Device())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    continued = fitted(tmp_path)
    assert [epoch.epoch for epoch in continued.history] == [0, 1, 2]


def test_a_run_ended_by_patience_is_not_trained_again(tmp_path: Path) -> None:
    patient = {"patience": 1, "monitor": "val_completeness", "max_epochs": 20}
    first = fitted(tmp_path, **patient)  # type: ignore[arg-type]
    assert len(first.history) < 20
    assert first.chosen.epoch == len(first.history) - 2
    again = fitted(tmp_path, killed_in(0), **patient)  # type: ignore[arg-type]
    assert again.history == first.history
    assert same_weights(again.last, first.last)


def test_every_epoch_is_asked_for_once_and_in_order(tmp_path: Path) -> None:
    asked = []

    class Watched(Drawn):
        def batches(self, epoch: int) -> Iterator[Batch]:
            asked.append(epoch)
            return super().batches(epoch)

    source = training()
    watched = Watched(source.rows, same, source.make, source.plan, NORMALISE)
    fitted(tmp_path, watched, max_epochs=2)
    fitted(tmp_path, watched, max_epochs=4)
    assert asked == [0, 1, 2, 3]


def test_history_has_a_row_an_epoch(tmp_path: Path) -> None:
    done = fitted(tmp_path)
    with (tmp_path / "history.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in found] == [0, 1, 2]
    assert [int(row["stamps_seen"]) for row in found] == [32, 64, 96]
    assert [float(row["val_loss"]) for row in found] == [e.val_loss for e in done.history]
    assert float(found[-1]["learning_rate"]) == 0
    assert found[-1]["seconds"] > "0"


def test_a_loss_that_is_not_finite_stops_and_names_the_stamp(tmp_path: Path) -> None:
    source = training()
    plain = source.make

    def make(part: pa.Table, how: Augmentation) -> Raw:
        raw = plain(part, how)
        raw.pixels[part["stamp_id"].to_numpy() == 17] = torch.nan
        return raw

    with pytest.raises(DataError, match=r"stamps with pixels that are not finite: 17\. Look"):
        fitted(tmp_path, replace(source, make=make, plan=replace(source.plan, epoch_stamps=64)))


def test_a_loss_that_overflows_names_the_whole_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all stamps of the batch: (\d+, ){7}\d+\. Look"):
        fitted(tmp_path, learning_rate=1e30, gradient_clip=float("inf"), warmup_steps=0)


def test_without_an_average_the_last_weights_are_the_networks_own(tmp_path: Path) -> None:
    network = networks.make("small", bands=2, seed=1)
    done = fit(
        network,
        training(),
        validation(),
        recipe=recipe(ema_decay=0.0, max_epochs=1),
        scratch=tmp_path,
        device=Device(),
    )
    assert same_weights(done.last, dict(network.state_dict()))


def test_bf16_trains_too(tmp_path: Path) -> None:
    assert fitted(tmp_path, precision="bf16").history[-1].val_auroc > 0.9


def test_nothing_is_printed_and_loggers_are_left_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = logging.getLogger("darkhaloscope.ml")
    before, threads = (ours.level, list(ours.handlers)), torch.get_num_threads()
    fitted(tmp_path, max_epochs=1)
    assert (ours.level, list(ours.handlers)) == before
    assert torch.get_num_threads() == threads
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "auto", "fp16"])
def test_a_gpu_trains_too(tmp_path: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    def on_gpu(source: Callable[[pa.Table], Raw]) -> Callable[[pa.Table], Raw]:
        return lambda part: Raw(*(values.cuda() for values in source(part)))

    done = fit(
        networks.make("small", bands=2, seed=1),
        replace(training(), make=cut(on_gpu(blobs()), 16)),
        replace(validation(), make=on_gpu(blobs())),
        recipe=recipe(precision=precision),
        scratch=tmp_path,
        device=Device("cuda"),
    )
    assert done.history[-1].val_auroc > 0.9
    assert all(value.device.type == "cpu" for value in done.last.values())


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        precision_on(Device(), "fp16")


@pytest.mark.parametrize(("has", "expected"), [({"amx_bf16": True}, "bf16"), ({}, "fp32")])
def test_auto_takes_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert precision_on(Device(), "auto") == expected
