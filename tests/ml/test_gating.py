"""The sample that is judged: which rows, the pixels that training would see, and equal hosts."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from injection_builders import NOISY
from manifest_builders import (
    BANDS,
    KINDS,
    ONE_KIND_EACH,
    PAIRED,
    config,
    cutouts,
    cutouts_head,
    splits,
)

from darkhaloscope.core.errors import DataError
from darkhaloscope.data import pixels
from darkhaloscope.ml import gating, injection, manifesting


@dataclass
class Stored:
    """The cutouts of a table by id; counts how many galaxies are asked for at once."""

    table: pa.Table
    most: int = 0

    def cutouts(self, ids: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(ids))
        at = pc.index_in(pa.array(ids), value_set=self.table["target_id"].combine_chunks())
        held = self.table.take(at)["pixels"]
        return pixels.decode(held, pixels.layout_of(self.table.field("pixels"))).copy()


def drawn(n: int = 30, **train: object) -> tuple[pa.Table, pa.Table]:
    """Rows of train and the hosts of all targets."""
    targets = splits(n, split="train")
    hosts = manifesting.hosts_of(targets, cutouts_head(targets), BANDS)
    plan = {**PAIRED, **train}
    return manifesting.draw(hosts, split="train", config=config(sets={"train": plan})), hosts


def kinds(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["kind"].to_pylist())


def test_kinds_of_the_same_galaxies_are_sampled_on_the_same_galaxies() -> None:
    rows, _ = drawn()
    some = gating.sample(rows, per_kind=8, per_other=3, seed=1)
    counts = dict(zip(*np.unique(kinds(some), return_counts=True), strict=True))
    assert counts == {kind: 8 if kind in gating.JUDGED else 3 for kind in KINDS}
    of = {k: set(some["target_id"].to_numpy()[kinds(some) == k].tolist()) for k in counts}
    assert of["lens"] == of["companion"] == of["control"]
    assert of["ring"] == of["spiral"] < of["lens"]


def test_another_order_of_the_rows_gives_the_same_sample() -> None:
    rows, _ = drawn()
    turned = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    one, other = (gating.sample(t, per_kind=9, per_other=2, seed=1) for t in (rows, turned))
    assert one.equals(other)
    assert not one.equals(gating.sample(rows, per_kind=9, per_other=2, seed=2))


def test_every_galaxy_is_judged_before_a_second_copy_is() -> None:
    rows, _ = drawn(10, copies={"lens": 5, "control": 5})
    some = gating.sample(rows, per_kind=10, per_other=1, seed=1)
    assert len(np.unique(some["target_id"].to_numpy())) == 10
    assert set(some["copy"].to_pylist()) == {0}


def test_only_training_rows_with_a_label_are_judged() -> None:
    targets = splits(20)
    hosts = manifesting.hosts_of(targets, cutouts_head(targets), BANDS)
    rows = [manifesting.draw(hosts, split=s, config=config()) for s in ("train", "val", "test")]
    whole = pa.concat_tables([*rows, manifesting.sky_rows(hosts, BANDS)])
    some = gating.sample(whole, per_kind=100, per_other=100, seed=1)
    assert some.num_rows == rows[0].num_rows
    assert set(some["split"].to_pylist()) == {"train"}


def test_stamps_are_those_of_the_one_renderer_and_light_is_what_was_added() -> None:
    rows, _ = drawn(6)
    table = cutouts(splits(6, split="train"))
    some = gating.sample(rows, per_kind=6, per_other=6, seed=1)
    heads = table.drop_columns(["pixels", "psf_image"])
    batches = list(gating.painted(some, heads, Stored(table), camera=NOISY, seed=7))
    hosts = table.take(
        pc.index_in(some["target_id"], value_set=table["target_id"].combine_chunks())
    )
    images = pixels.decode(hosts["pixels"], pixels.layout_of(table.field("pixels"))).copy()
    once = injection.paint_rows(some, hosts, images, camera=NOISY, seed=7)
    stamps = np.concatenate([b.stamps for b in batches])
    np.testing.assert_allclose(stamps, once.pixels.numpy(), atol=1e-5 * float(once.pixels.max()))
    assert np.concatenate([b.place for b in batches]).tolist() == list(range(some.num_rows))
    light = np.concatenate([b.light for b in batches])
    lit = kinds(some) != "control"
    np.testing.assert_allclose(light.sum((2, 3))[lit], once.injected_flux.numpy()[lit], rtol=1e-4)
    assert not light[~lit].any()
    before = np.concatenate([b.before for b in batches])
    np.testing.assert_array_equal(stamps[~lit], before[~lit])
    snr = torch.from_numpy(np.concatenate([b.arc_snr for b in batches]))
    torch.testing.assert_close(snr, once.arc_snr, rtol=1e-3, atol=1e-3, equal_nan=True)


def test_pixels_of_many_galaxies_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gating, "GALAXIES_AT_ONCE", 4)
    rows, _ = drawn(10)
    table = cutouts(splits(10, split="train"))
    some = gating.sample(rows, per_kind=10, per_other=10, seed=1)
    stored = Stored(table)
    heads = table.drop_columns(["pixels", "psf_image"])
    batches = list(gating.painted(some, heads, stored, camera=NOISY, seed=7))
    assert stored.most == 4
    assert sum(len(b.stamps) for b in batches) == some.num_rows
    monkeypatch.undo()
    whole = list(gating.painted(some, heads, Stored(table), camera=NOISY, seed=7))
    one, other = (np.concatenate([b.stamps for b in made]) for made in (batches, whole))
    np.testing.assert_allclose(one, other, atol=1e-5 * float(other.max()))


def test_a_row_without_a_cutout_is_refused() -> None:
    rows, _ = drawn(3)
    table = cutouts(splits(3, split="train"))
    with pytest.raises(DataError, match="manifest rows have no cutout"):
        next(gating.painted(rows, table.slice(1), Stored(table), camera=NOISY, seed=7))


def test_a_lens_goes_with_the_companion_of_its_own_galaxy_and_copy() -> None:
    rows, hosts = drawn(12, copies={"lens": 2, "companion": 2, "control": 1})
    some = gating.sample(rows, per_kind=20, per_other=5, seed=1)
    own = hosts.take(pc.index_in(some["target_id"], value_set=hosts["target_id"].combine_chunks()))
    lens, twin = gating.matched(some, own, "companion")
    assert len(lens) == len(twin) > 15
    assert set(kinds(some)[lens]) == {"lens"}
    assert some["stamp_id"].take(pa.array(lens)).to_pylist() == (
        some["pair_id"].take(pa.array(twin)).to_pylist()
    )


def test_on_other_galaxies_a_lens_goes_with_a_like_host() -> None:
    plan = {**ONE_KIND_EACH, "population": "training", "copies": dict.fromkeys(PAIRED["copies"], 1)}
    rows, hosts = drawn(400, **plan)
    own = hosts.take(pc.index_in(rows["target_id"], value_set=hosts["target_id"].combine_chunks()))
    lens, control = gating.matched(rows, own, "control")
    assert len(lens) == len(control) > 40
    assert len(np.unique(lens)) == len(lens)
    mag = own["mag_z"].to_numpy()
    chance = np.abs(mag[lens] - mag[np.roll(control, 1)]).mean()
    assert np.abs(mag[lens] - mag[control]).mean() < 0.5 * chance


def test_negatives_as_on_the_sky_have_its_mix() -> None:
    rows, _ = drawn(400)
    some = gating.sample(rows, per_kind=400, per_other=200, seed=1)
    place = gating.as_on_the_sky(some, rows)
    got = dict(zip(*np.unique(kinds(some)[place], return_counts=True), strict=True))
    assert got["control"] == 400
    assert "lens" not in got
    assert "halo_ring" not in got
    assert got["spiral"] == pytest.approx(400 * 0.04 / 0.9, abs=12)  # 18 +- 4
    assert got.get("companion", 0) == pytest.approx(400 * 0.03 / 0.9, abs=12)
