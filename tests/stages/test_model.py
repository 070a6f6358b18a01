"""The stage trains on what it is told to, publishes what scores needs, and survives a kill."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manifest_builders as mb
import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Scratch, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.core.settings.scores import ScoresConfig
from darkhaloscope.data.pixels import Layout, encode
from darkhaloscope.ml import fresh, manifesting, saved
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
        ({"epoch_stamps": 4}, "does not fill a batch of 8"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"network": "vgg"}, "small"),
        ({"speed": 1}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_train_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_stage_reads_no_pixels_through_its_tables() -> None:
    for wanted in model.STAGE.inputs:
        assert "pixels" not in wanted.schema(mb.BANDS).names
