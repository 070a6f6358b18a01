"""The stage trains on what it is told to, publishes what scores needs, and survives a kill."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import manifest_builders as mb
import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Scratch, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.core.settings.scores import ScoresConfig
from darkhaloscope.data.pixels import Layout, encode
from darkhaloscope.ml import fresh, manifesting, pixel_table, saved
from darkhaloscope.ml.batches import Drawn
from darkhaloscope.ml.levers import Curriculum
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.transforms import Augmentation
from darkhaloscope.stages import model, scores

N = 10
SETTINGS: dict[str, Any] = {
    "bands": mb.BANDS,
    "pixel_scale_arcsec": mb.SCALE,
    "manifest": mb.config().model_dump(),
    "stamps": {
        "bands": mb.BANDS,
        "pixel_scale_arcsec": mb.SCALE,
        "seed": 2,
        "size_px": 64,
        "sets": ["val", "test"],
        "psf_profile": "moffat",
        "psf_beta": [2.9, 2.9, 2.9],
        "electrons_per_nmgy_per_exposure": [3500.0, 3500.0, 3500.0],
    },
    "seed": 1,
    "network": "small",
    "head": "binary",
    "data": "cutouts",
    "normalisation": "asinh",
    "softening_nmgy": {"g": 0.004, "r": 0.006, "z": 0.015},
    "max_shift_px": 2,
    "mix": {"lens": 0.5, "control": 0.25, "companion": 0.25},
    "positive_weight": 1.0,
    "max_epochs": 2,
    "epoch_stamps": 16,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "warmup_steps": 1,
    "ema_decay": 0.9,
    "gradient_clip": 2.0,
    "monitor": "val_loss",
    "patience": 2,
    "precision": "fp32",
}


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({**SETTINGS, **changes})


@dataclass(frozen=True)
class Stored:
    """A `PixelSource` that counts what is asked of it."""

    asked: list[tuple[str, int]]
    pixels: dict[int, np.ndarray]

    def stamps(self, stamp_ids: np.ndarray) -> np.ndarray:
        self.asked.append(("stamps", len(stamp_ids)))
        return np.stack([self.pixels[i] for i in stamp_ids.tolist()])

    def cutouts(self, target_ids: np.ndarray) -> np.ndarray:
        self.asked.append(("cutouts", len(target_ids)))
        return np.stack([self.pixels[i] for i in target_ids.tolist()])

    def psf_images(self, target_ids: np.ndarray) -> np.ndarray:
        self.asked.append(("psf_images", len(target_ids)))
        image = psfs.moffat(3.0, 2.8, 31).astype(np.float32)
        return np.broadcast_to(image / image.sum(), (len(target_ids), 3, 31, 31))


def stamps_of(split: str, n: int = 8) -> tuple[pa.Table, dict[int, np.ndarray]]:
    """Stamps of a split with a bright blob on lenses."""
    is_lens = np.arange(n) % 2 == 0
    pixels = np.random.default_rng(len(split)).normal(0, 0.004, (n, 3, 64, 64)).astype(np.float32)
    pixels[is_lens, :, 30:34, 38:42] += 0.1
    ids = np.arange(n) + (1000 if split == "val" else 2000)
    columns = {
        "stamp_id": ids,
        "split": [split] * n,
        "kind": np.where(is_lens, "lens", "control").tolist(),
        "label": is_lens.astype(np.int8),
        **{f"sky_median_{b}_nmgy": np.zeros(n) for b in mb.BANDS},
    }
    table = mb.table(columns, schemas.stamps(mb.BANDS), n)
    schema = model.STAGE.inputs[3].schema(mb.BANDS)
    return table.select(schema.names), dict(zip(ids.tolist(), pixels, strict=True))


def tables() -> tuple[dict[str, Any], Stored]:
    """What the runner hands over: targets of train and val, their manifest, stamps of both."""
    splits = pa.concat_tables(
        [mb.splits(2 * N, split="train")[:N], mb.splits(2 * N, split="val")[N:]]
    )
    heads = mb.cutouts_head(splits)
    hosts = manifesting.hosts_of(splits, heads, mb.BANDS)
    rows = [manifesting.draw(hosts, split=s, config=mb.config()) for s in ("train", "val")]
    sky = np.random.default_rng(3).normal(0, 0.004, (2 * N, 3, 80, 80)).astype(np.float32)
    val, val_pixels = stamps_of("val")
    train, train_pixels = stamps_of("train")
    cutouts = dict(zip(heads["target_id"].to_pylist(), sky, strict=True))
    stored = Stored([], {**cutouts, **val_pixels, **train_pixels})
    made = {
        "splits": splits,
        "cutouts": heads,
        "manifest": pa.concat_tables([*rows, manifesting.sky_rows(hosts, mb.BANDS)]),
        "stamps": pa.concat_tables([val, train]),
    }
    return made, stored


def trained(
    folder: Path, settings: ModelConfig | None = None, **changed: Any
) -> tuple[Path, Stored]:
    made, stored = tables()
    folder.mkdir(exist_ok=True)
    published = model.run(
        **{**made, **changed},
        pixels=stored,
        scratch=Scratch(folder),
        device=Device(),
        config=settings or config(),
    )
    return published, stored


def test_the_published_folder_can_be_scored_and_says_what_it_is(tmp_path: Path) -> None:
    published, _ = trained(tmp_path / "model-abc")
    names = {"model.safetensors", "last.safetensors", "model.json", "history.csv", "training.log"}
    assert {path.name for path in published.iterdir()} == names
    about = json.loads((published / "model.json").read_text())
    assert about["bands"] == list(mb.BANDS)
    assert about["training_digest"] == "model-abc"
    assert about["normalisation"]["softening_nmgy"] == [0.004, 0.006, 0.015]
    assert 0 <= about["metrics"]["val_auroc"] <= 1
    assert len((published / "history.csv").read_text().splitlines()) == 3
    val, pixels = stamps_of("val")
    columns = {name: val[name] for name in val.column_names}
    heads = pa.schema([f for f in schemas.stamps(mb.BANDS) if f.name != "pixels"])
    whole = mb.table(columns, heads, 8)
    encoded = encode(np.stack(list(pixels.values())))
    field = Layout(mb.BANDS, 64, mb.SCALE).field()
    scored = scores.run(
        model=TrainedModel("demo", published),
        device=Device(),
        config=ScoresConfig(bands=mb.BANDS, pixel_scale_arcsec=mb.SCALE),
        stamps=whole.append_column(field, encoded),
    )
    assert np.isfinite(scored["logit"].to_numpy()).all()


@pytest.mark.parametrize("data", ["cutouts", "stamps"])
def test_what_a_network_is_told_is_published_and_is_that_of_each_rows_galaxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    made, _ = tables()
    n = made["cutouts"].num_rows
    fwhm = pa.array(np.linspace(0.9, 1.3, n), pa.float32())
    at = made["cutouts"].schema.get_field_index("psf_fwhm_g_arcsec")
    cutouts = made["cutouts"].set_column(at, "psf_fwhm_g_arcsec", fwhm)
    held = pa.array(np.resize(cutouts["target_id"].to_numpy(), made["stamps"].num_rows))
    at = made["stamps"].schema.get_field_index("target_id")
    stamps = made["stamps"].set_column(at, "target_id", held)
    names = ["depth_r_mag", "psf_fwhm_g_arcsec"]
    mix = {"lens": 0.5, "control": 0.5}
    settings = config(inputs=names, data=data, mix=mix, max_epochs=1)
    changed = {"cutouts": cutouts, "stamps": stamps}
    published, _ = trained(tmp_path / "whole", settings, **changed)
    assert saved.load(published).description.inputs == tuple(names)
    source = batches_of(tmp_path / "seen", monkeypatch, settings, **changed)
    known = (source.rows["stamp_id"].to_pylist(), source.rows["target_id"].to_pylist())
    galaxy = dict(zip(*known, strict=True))
    of = dict(zip(cutouts["target_id"].to_pylist(), fwhm.to_pylist(), strict=True))
    compared = 0
    for batch in source.batches(0):
        assert batch.extra is not None
        assert batch.extra[:, 0].tolist() == pytest.approx([0.25] * 8, abs=1e-5)
        for stamp, told in zip(batch.stamp_ids.tolist(), batch.extra[:, 1].tolist(), strict=True):
            if stamp in galaxy:  # taken again, it is another injection of another id
                assert told == pytest.approx((of[galaxy[stamp]] - 1.1) / 0.2, abs=1e-5)
                compared += 1
    assert compared >= 8


def test_levers_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Any] = []

    def kept(*args: Any, **kwargs: Any) -> None:
        caught.append((args[1], kwargs["recipe"]))
        raise Seen

    monkeypatch.setattr(model, "fit", kept)
    levers: list[dict[str, Any]] = [
        {},
        {"loss": "focal", "focal_gamma": 1.5},
        {"loss": "class_balanced", "balance_beta": 0.9},
        {"tail_weight": 0.5, "tail_share": 0.1},
        {"curriculum": {"theta_e_over_fwhm_r": 1.5, "arc_snr": 60.0, "share": 0.5}},
        {"schedule": "final_decay"},
    ]
    for number, lever in enumerate(levers):
        with pytest.raises(Seen):
            trained(tmp_path / str(number), config(**lever))
    recipes = [recipe for _, recipe in caught]
    plain = recipes[0]
    assert (plain.loss, plain.tail_weight, caught[0][0].curriculum) == ("cross_entropy", 0, None)
    assert (recipes[1].loss, recipes[1].focal_gamma) == ("focal", 1.5)
    assert recipes[2] == replace(plain, loss="class_balanced")
    assert recipes[3] == replace(plain, tail_weight=0.5, tail_share=0.1)
    assert recipes[4] == plain
    assert recipes[5] == replace(plain, schedule="final_decay")
    assert caught[4][0].curriculum == Curriculum(1.5, 60.0, steps=2)  # of 2 epochs of 2 steps
    assert set(caught[0][0].weights.tolist()) == {1.0}
    kinds = np.array(caught[2][0].rows["kind"].to_pylist())
    by_kind = {kind: set(caught[2][0].weights[kinds == kind].tolist()) for kind in config().mix}
    lens, other = (next(iter(by_kind[kind])) for kind in ("lens", "companion"))
    assert {kind: len(found) for kind, found in by_kind.items()} == dict.fromkeys(config().mix, 1)
    assert other / lens == pytest.approx((1 - 0.9**8) / (1 - 0.9**4), rel=1e-5)


@pytest.mark.parametrize(
    "lever",
    [
        {"loss": "focal"},
        {"focal_gamma": 2.0},
        {"loss": "focal", "focal_gamma": 2.0, "balance_beta": 0.9},
        {"loss": "class_balanced"},
        {"tail_weight": 1.0},
        {"tail_share": 0.1},
    ],
)
def test_a_lever_without_its_number_or_the_other_way_round_is_refused(
    lever: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError, match=r"is given with .*, and with that alone"):
        config(**lever)


def test_only_allowed_inputs_are_taken() -> None:
    allowed = "allowed are psf_fwhm_g_arcsec, .*depth_z_mag"
    for name in ("mag_r", "ra_deg", "psf_fwhm_i_arcsec", "noise_g_nmgy"):
        with pytest.raises(ValidationError, match=rf"inputs names \['{name}'\]; {allowed}"):
            config(inputs=["depth_r_mag", name])
    with pytest.raises(ValidationError, match="names one twice"):
        config(inputs=["depth_r_mag", "depth_r_mag"])


def test_only_train_galaxies_are_trained_on_and_pixels_are_read_once(tmp_path: Path) -> None:
    _, stored = trained(tmp_path)
    assert stored.asked == [("cutouts", N), ("stamps", 8)]


def test_psf_images_are_read_once_and_only_where_they_are_used(tmp_path: Path) -> None:
    painting = {**SETTINGS["stamps"], "psf_profile": "image"}
    _, stored = trained(tmp_path, config(stamps=painting, max_epochs=1))
    assert stored.asked == [("cutouts", N), ("psf_images", N), ("stamps", 8)]


def test_stamps_from_disk_need_no_cutouts(tmp_path: Path) -> None:
    mix = {"lens": 0.5, "control": 0.5}
    published, stored = trained(tmp_path, config(data="stamps", mix=mix))
    assert [what for what, _ in stored.asked] == ["stamps", "stamps"]
    assert saved.load(published).description.size_px == 64


def test_a_stage_that_was_killed_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = config(epoch_stamps=80)  # ten batches, of which four are made at once
    whole, _ = trained(tmp_path / "one", longer)
    calls = []

    def make(injections: fresh.Injections, rows: pa.Table, how: Augmentation) -> Raw:
        calls.append(rows.num_rows)
        if len(calls) == 5:  # the fifth to eighth batch of the second epoch
            raise KeyError("killed")
        return plain(injections, rows, how)

    plain = fresh.Injections.make
    monkeypatch.setattr(fresh.Injections, "make", make)
    with pytest.raises(KeyError, match="killed"):
        trained(tmp_path / "two", longer)
    again, _ = trained(tmp_path / "two", longer)
    assert calls == [32, 32, 16, 32, 32, 32, 32, 16]  # the first epoch was not made again
    for name in ("model.safetensors", "last.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


NEGATIVES, REVIEWED = (1, 4, 7), 2  # places of galaxies of train
MINED_MIX = {"lens": 0.4, "control": 0.3, "companion": 0.1, "mined": 0.2}


def mined_of(made: dict[str, Any], *places: int, use: str = "negative") -> pa.Table:
    """Rows of `mined`, one a galaxy, each with its own weight."""
    n = len(places)
    ids = made["splits"]["target_id"].to_numpy()[list(places)]
    columns = {
        "target_id": ids,
        "round": np.zeros(n),
        "use": [use] * n,
        "weight": 1 - np.array(places) / 100,
        "test_sha256": ["abc"] * n,
    }
    return mb.table(columns, schemas.mined(mb.BANDS), n)


def both_uses(made: dict[str, Any]) -> pa.Table:
    """Negatives, and one galaxy that is up for review."""
    return pa.concat_tables([mined_of(made, *NEGATIVES), mined_of(made, REVIEWED, use="review")])


class Seen(Exception):  # noqa: N818
    """Carries what would be trained on."""


def batches_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: ModelConfig, **changed: Any
) -> Drawn:
    """What a training would be fed with, instead of the training."""

    def caught(network: Any, training: Drawn, *args: Any, **kwargs: Any) -> None:
        raise Seen(training)

    monkeypatch.setattr(model, "fit", caught)
    with pytest.raises(Seen) as raised:
        trained(folder, settings, **changed)
    found: Drawn = raised.value.args[0]
    return found


@pytest.mark.parametrize("data", ["cutouts", "stamps"])
def test_mined_galaxies_enter_with_their_share_and_weight_as_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    made, stored = tables()
    mix = {"lens": 0.4, "control": 0.4, "mined": 0.2}
    settings = config(mix=mix, data=data, epoch_stamps=40, max_shift_px=0)
    source = batches_of(tmp_path, monkeypatch, settings, mined=both_uses(made))
    ids = made["splits"]["target_id"].to_numpy()
    rows = made["manifest"].filter(pc.equal(made["manifest"]["kind"], "sky"))
    galaxy = dict(zip(rows["stamp_id"].to_pylist(), rows["target_id"].to_pylist(), strict=True))
    sky = torch.zeros(1, 3)
    often: Counter[int] = Counter()
    for epoch in (0, 1):  # in the second everything else is drawn again
        for batch in source.batches(epoch):
            for row, stamp in enumerate(batch.stamp_ids.tolist()):
                if stamp not in galaxy:
                    assert float(batch.weights[row]) == 1
                    continue
                place = ids.tolist().index(galaxy[stamp])
                often[place] += 1
                assert float(batch.labels[row]) == 0
                assert float(batch.weights[row]) == pytest.approx(1 - place / 100)
                plain = torch.from_numpy(stored.pixels[galaxy[stamp]][None, :, 8:72, 8:72])
                expected = source.normalise(plain, sky)[0].flatten(1).sort().values
                found = batch.stamps[row].flatten(1).sort().values
                torch.testing.assert_close(found, expected)  # but for how it is turned
    assert set(often) == set(NEGATIVES)
    assert sum(often.values()) == 2 * 8
    assert max(often.values()) - min(often.values()) <= 2


def test_reviewed_galaxies_are_not_trained_on_under_any_injection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = tables()
    reviewed = mined_of(made, REVIEWED, use="review")
    source = batches_of(tmp_path, monkeypatch, config(), mined=reviewed)
    gone = made["splits"]["target_id"][REVIEWED].as_py()
    held = set(source.rows["target_id"].to_pylist())
    assert held == set(made["splits"]["target_id"].to_pylist()[:N]) - {gone}
    assert source.plan.mix == SETTINGS["mix"]


def test_a_round_may_begin_with_the_weights_of_the_round_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = trained(tmp_path / "round-0")
    seen: list[dict[str, torch.Tensor]] = []

    def caught(network: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        raise Seen

    monkeypatch.setattr(model, "fit", caught)
    for start in ("previous", "afresh"):
        with pytest.raises(Seen):
            trained(
                tmp_path / start,
                config(round_start=start),
                model=TrainedModel("small", first),
                partition="small/round=1",
            )
    before = load_file(first / "model.safetensors")
    torch.testing.assert_close(seen[0], before, rtol=0, atol=0)
    weight = "head.weight" if "head.weight" in before else next(iter(before))
    assert not torch.equal(seen[1][weight], before[weight])


def test_no_round_sees_an_injection_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for k in (0, 1):
        source = batches_of(tmp_path / str(k), monkeypatch, config(), partition=f"small/round={k}")
        drawn.append({i for b in source.batches(0) for i in b.stamp_ids.tolist()})
    assert len(drawn[0]) > 10
    assert not drawn[0] & drawn[1]


@pytest.mark.parametrize("has_table", [True, False])
def test_in_the_first_round_the_share_of_mined_goes_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_table: bool
) -> None:
    made, _ = tables()
    mined = mined_of(made, 1)[:0] if has_table else None
    settings = config(mix=MINED_MIX, epoch_stamps=80)
    source = batches_of(tmp_path, monkeypatch, settings, mined=mined)
    kinds = dict(zip(*(source.rows[c].to_pylist() for c in ("stamp_id", "kind")), strict=True))
    order = source.plan.order(
        np.array(list(kinds.values())), np.array(list(kinds)), epoch=0
    ).tolist()
    found = Counter(list(kinds.values())[at] for at in order)
    assert found == {"lens": 40, "control": 30, "companion": 10}


def test_a_mix_that_names_no_mined_is_not_given_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = tables()
    source = batches_of(tmp_path, monkeypatch, config(), mined=mined_of(made, *NEGATIVES))
    assert "mined" not in source.rows["kind"].to_pylist()


def test_a_mined_galaxy_of_another_split_refuses_the_round(tmp_path: Path) -> None:
    made, _ = tables()
    target = made["splits"]["target_id"][N].as_py()
    with pytest.raises(DataError, match=f"1 of val .target_id {target}.*run again"):
        trained(tmp_path, config(mix=MINED_MIX), mined=mined_of(made, N))


def test_a_round_that_was_killed_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined = both_uses(tables()[0])
    settings = config(mix=MINED_MIX, head="kinds", epoch_stamps=80)
    whole, _ = trained(tmp_path / "one", settings, mined=mined)
    plain, calls = fresh.Injections.make, []

    def make(injections: fresh.Injections, rows: pa.Table, how: Augmentation) -> Raw:
        calls.append(rows.num_rows)
        if len(calls) == 5:
            raise KeyError("killed")
        return plain(injections, rows, how)

    monkeypatch.setattr(fresh.Injections, "make", make)
    with pytest.raises(KeyError, match="killed"):
        trained(tmp_path / "two", settings, mined=mined)
    again, _ = trained(tmp_path / "two", settings, mined=mined)
    for name in ("model.safetensors", "last.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    about = json.loads((again / "model.json").read_text())
    assert about["classes"] == ["lens", "control", "companion"]
    without, _ = trained(tmp_path / "three", settings)
    name = "last.safetensors"
    assert (without / name).read_bytes() != (whole / name).read_bytes()


def test_stamps_kept_in_files_are_trained_on_as_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = {"lens": 0.4, "control": 0.4, "mined": 0.2}
    settings, mined = config(data="stamps", mix=mix), mined_of(tables()[0], *NEGATIVES)
    held, _ = trained(tmp_path / "memory", settings, mined=mined)
    monkeypatch.setattr(pixel_table, "IN_MEMORY_BYTES", 0)
    filed, _ = trained(tmp_path / "files", settings, mined=mined)
    assert len(list((tmp_path / "files").glob("*_id.*pixels"))) == 3
    name = "last.safetensors"
    assert (filed / name).read_bytes() == (held / name).read_bytes()


def test_no_training_row_of_a_kind_of_the_mix_is_an_error(tmp_path: Path) -> None:
    made, _ = tables()
    lenses = made["manifest"].filter(pc.not_equal(made["manifest"]["kind"], "companion"))
    with pytest.raises(DataError, match="asks for 'companion'"):
        trained(tmp_path, manifest=lenses)


@pytest.mark.parametrize(("table", "split"), [("manifest", "train"), ("stamps", "val")])
def test_an_empty_split_is_an_error_that_names_it(tmp_path: Path, table: str, split: str) -> None:
    made, _ = tables()
    without = made[table].filter(pc.not_equal(made[table]["split"], split))
    with pytest.raises(DataError, match=f"{table} has no rows of {split} with a label"):
        trained(tmp_path, **{table: without})


def test_a_refused_training_galaxy_is_an_error_not_a_blank(tmp_path: Path) -> None:
    made, _ = tables()
    cutouts = made["cutouts"][1:]
    with pytest.raises(DataError, match="1 of 10 targets have no row in cutouts"):
        trained(tmp_path, cutouts=cutouts)


def test_the_first_runs_recipe_can_be_expressed() -> None:
    first = config(
        network="resnet18_first_run",
        normalisation="first_run",
        softening_nmgy={},
        mix={"lens": 0.5, "control": 0.5},
        max_epochs=10,
        learning_rate=3e-4,
        schedule="constant",
        warmup_steps=0,
        ema_decay=0,
        gradient_clip=float("inf"),
        max_shift_px=0,
        patience=10,
    )
    assert first.normalisation == "first_run"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"softening_nmgy": {"g": 0.1, "r": 0.1}}, "must name the bands"),
        ({"softening_nmgy": {"g": 0.1, "r": 0.1, "z": 0}}, "must be > 0"),
        ({"mix": {"lens": 1.0, "control": 0.0}}, "needs lenses and negatives"),
        ({"mix": {"ring": 1.0, "control": 1.0}}, "needs lenses and negatives"),
        ({"mix": {"lens": 1.0, "sky": 1.0}}, "names .'sky'."),
        ({"mix": {"lens": 1.0, "controll": 1.0}}, "names .'controll'."),
        ({"mix": {"lens": 1.0, "control": -1.0, "ring": 3.0}}, ">= 0"),
        ({"mix": {"lens": 1.0, "mined": 1.0}}, "also where none are mined"),
        ({"mix": {"lens": 0.5, "control": 0.47, "halo_ring": 0.03}}, "halo_ring is 3 % of"),
        (
            {"mix": {"lens": 0.4, "control": 0.38, "halo_ring": 0.02, "mined": 0.2}},
            "halo_ring is 2.5 % of the mix without mined",
        ),
        ({"head": "softmax"}, "kinds"),
        ({"epoch_stamps": 4}, "does not fill a batch of 8"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"network": "vgg"}, "small"),
        ({"speed": 1}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_train_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_head_is_a_choice_that_has_to_be_stated() -> None:
    without = {name: value for name, value in SETTINGS.items() if name != "head"}
    with pytest.raises(ValidationError, match="head\n  Field required"):
        ModelConfig.model_validate(without)


def test_two_percent_of_halo_rings_may_be_trained_on() -> None:
    mix = {"lens": 0.4, "control": 0.58, "halo_ring": 0.02}
    assert config(mix=mix).mix == mix
    assert config(mix={**mix, "mined": 0.2}).mix["mined"] == 0.2


def test_the_stage_reads_no_pixels_through_its_tables() -> None:
    for wanted in model.STAGE.inputs:
        assert "pixels" not in wanted.schema(mb.BANDS).names
