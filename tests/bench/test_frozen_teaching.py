"""What networks are taught: other injections in every epoch, and nothing that is kept for test."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from frozen_builders import few, hidden_number

from darkhaloscope.bench.frozen import definition, hosts, recipes, teaching
from darkhaloscope.bench.frozen.recipes import Recipe
from darkhaloscope.bench.frozen.teaching import Training
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml.batches import Batch

CPU = Device("cpu", 1)
BENCH = few()
MIX = {
    "lens": 0.3, "control": 0.1, "companion": 0.1, "ring": 0.1, "merger": 0.1, "scrambled": 0.1,
    "radial_arc": 0.1, "halo_ring": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("frozen"))


def recipe(**changes: Any) -> Recipe:
    base = recipes.named(recipes.FIRST, seed=1, is_quick=True)
    assert isinstance(base, Recipe)
    return replace(base, **{"mix": MIX, "batch_size": 10, "stamps": 60, "epochs": 3, **changes})


def taught(folder: Path, **changes: Any) -> Training:
    made = recipe(**changes)
    return teaching.training(BENCH, made, folder=folder, device=CPU, watched_rows=10)


@pytest.fixture(scope="module")
def training(folder: Path) -> Training:
    return taught(folder)


def batches(of: Training, epoch: int) -> list[Batch]:
    return list(of.source.batches(epoch))


def test_a_network_is_taught_from_train_alone(training: Training) -> None:
    rows = training.source.rows
    assert set(rows["split"].to_pylist()) == {"train"}
    assert set(rows["kind"].to_pylist()) == set(MIX)
    galaxies = BENCH.stated["sets"]["train"]["galaxies"]
    ids = hosts.ids_of(np.arange(galaxies), split="train", family=BENCH.stated["family"])
    assert set(rows["target_id"].to_pylist()) <= set(ids.tolist())
    sources = rows.filter(pa.array(rows["source_id"].is_valid().to_numpy()))["source_id"]
    assert set((sources.to_numpy() & 3).tolist()) == {0}


def _is_above(row: Mapping[str, Any]) -> bool:
    bench = definition.load()
    name = bench.stated["unseen"]["upper_half"].get(row["kind"])
    if name is None:
        return False
    span = bench.stated["manifest"]["shapes"][row["kind"]][name]
    middle: float = (span["low"] + span["high"]) / 2
    return hidden_number(row) > middle * (1 + 1e-4)


def test_no_epoch_draws_from_the_hidden_halves(training: Training) -> None:
    source = training.source
    seen = 0
    for epoch in range(4):
        before = np.full(source.rows.num_rows, epoch, np.int64)
        rows = source.redraw(source.rows, before).to_pylist()
        assert not any(_is_above(row) for row in rows)
        seen += sum(np.isfinite(hidden_number(row)) for row in rows)
    assert seen > 300


def test_epochs_differ_and_repeat(training: Training) -> None:
    first, second, again = (batches(training, epoch) for epoch in (0, 1, 0))
    assert len(first) == len(second) == training.source.steps == 2
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.stamps, other.stamps)
        assert torch.equal(one.labels, other.labels)
    assert not torch.equal(first[0].stamps, second[0].stamps)
    assert not set(_injected(first)) & set(_injected(second))


def _injected(some: list[Batch]) -> list[int]:
    return [int(i) for batch in some for i in np.asarray(batch.stamp_ids)]


def test_batches_have_the_shape_and_mix_that_were_asked_for(training: Training) -> None:
    for batch in batches(training, 0):
        assert batch.stamps.shape == (10, 3, BENCH.size_px, BENCH.size_px)
        assert torch.isfinite(batch.stamps).all()
        assert batch.labels.sum() == 3


def test_equal_seeds_give_equal_batches_and_others_do_not(folder: Path) -> None:
    one, same, other = (batches(taught(folder, seed=seed), 1) for seed in (4, 4, 5))
    assert all(torch.equal(a.stamps, b.stamps) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a.stamps, b.stamps) for a, b in zip(one, other, strict=True))


def test_the_family_that_is_kept_for_test_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="its mix names edge_on, which the benchmark keeps"):
        taught(folder, mix={**MIX, "edge_on": 0.1})


def test_a_range_whose_half_is_kept_for_test_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"shapes\.halo_ring\.radius_arcsec cannot be changed"):
        taught(
            folder, prior={"shapes": {"halo_ring": {"radius_arcsec": {"low": 1.0, "high": 5.0}}}}
        )


def test_the_first_stamps_of_val_watch(training: Training) -> None:
    watched = training.validation
    rows = watched.rows
    assert set(rows["split"].to_pylist()) == {"val"}
    assert rows.num_rows >= 10
    first, second = (list(watched.batches(epoch)) for epoch in (0, 1))
    assert sum(len(batch.labels) for batch in first) == rows.num_rows
    assert all(torch.equal(a.stamps, b.stamps) for a, b in zip(first, second, strict=True))


def test_a_recipe_may_have_other_galaxies_under_another_sky(folder: Path) -> None:
    other = taught(folder, hosts={"family": 30, "galaxies": 12, "psfsize_r_arcsec": 2.0})
    ids = other.source.rows["target_id"].unique()
    assert len(ids) == 12
    ours = hosts.ids_of(np.arange(24), split="train", family=BENCH.stated["family"])
    assert not set(ids.to_pylist()) & set(ours.tolist())
    table, _ = teaching._galaxies(BENCH, teaching._Asked.of(recipe(), BENCH), CPU)
    wide, cut = teaching._galaxies(
        BENCH,
        teaching._Asked.of(
            recipe(hosts={"family": 30, "galaxies": 12, "psfsize_r_arcsec": 2.0}), BENCH
        ),
        CPU,
    )
    assert wide.num_rows == 12
    assert table.num_rows == 24
    assert cut.heads["psf_nea_r_arcsec"].to_numpy().mean() > 1.7
