"""Scores belong to their rows, whatever the batch, the order, or the way to the pixels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ml_builders import BANDS, SCALE_ARCSEC, cutouts, manifest, noise, saved_model, stamps

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.scores import ScoresConfig
from darkhaloscope.data.pixels import encode
from darkhaloscope.ml import saved
from darkhaloscope.stages import scores


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    return TrainedModel("demo", saved_model(tmp_path))


def scored(model: TrainedModel, batch_rows: int = 4, **tables: pa.Table | None) -> pa.Table:
    config = ScoresConfig(bands=BANDS, pixel_scale_arcsec=SCALE_ARCSEC, batch_rows=batch_rows)
    table = scores.run(model=model, device=Device(), config=config, **tables)
    return schemas.conform(table, schemas.scores(BANDS), where="scores")


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_the_batch_changes_no_logit(model: TrainedModel, batch_rows: int) -> None:
    whole = scored(model, stamps=stamps(10))
    got = scored(model, batch_rows, stamps=stamps(10))
    np.testing.assert_allclose(got["logit"].to_numpy(), whole["logit"].to_numpy(), atol=1e-5)
    assert got.drop_columns("logit").equals(whole.drop_columns("logit"))


def test_a_network_that_tells_kinds_apart_is_scored_by_its_lens(tmp_path: Path) -> None:
    model = TrainedModel("demo", saved_model(tmp_path, classes=("lens", "control", "ring")))
    table = stamps(6)
    sky = np.stack([table[f"sky_median_{b}_nmgy"].to_numpy() for b in BANDS], 1)
    pixels = np.stack([np.frombuffer(stamp, np.float32) for stamp in table["pixels"].to_pylist()])
    seen = torch.from_numpy(pixels.reshape(6, 2, 16, 16)), torch.from_numpy(sky)
    kinds = saved.load(model.folder).kinds(*seen)
    assert kinds is not None
    p = kinds[:, 0].double().exp().numpy()
    found = scored(model, stamps=table)["logit"].to_numpy()
    np.testing.assert_allclose(found, np.log(p / (1 - p)), atol=1e-4)


def with_depth(table: pa.Table, depth: np.ndarray) -> pa.Table:
    at = table.schema.get_field_index("depth_r_mag")
    return table.set_column(at, "depth_r_mag", pa.array(depth, pa.float32()))


def test_what_a_network_is_told_is_that_of_each_rows_galaxy(tmp_path: Path) -> None:
    model = TrainedModel("demo", saved_model(tmp_path, inputs=("depth_r_mag",)))
    depth = np.array([23.0, 23.5, 24.0, 24.5], np.float32)
    table, hosts = stamps(4), with_depth(cutouts(4), depth)
    pixels = np.stack([np.frombuffer(stamp, np.float32) for stamp in table["pixels"].to_pylist()])
    sky = np.stack([table[f"sky_median_{b}_nmgy"].to_numpy() for b in BANDS], 1)
    seen = (pixels.reshape(4, 2, 16, 16), sky, depth[:, None])
    expected = saved.load(model.folder).logits(*(torch.from_numpy(values) for values in seen))
    shuffled = hosts.take([2, 0, 3, 1])
    found = scored(model, 3, stamps=table, hosts=shuffled)["logit"].to_numpy()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    centre = encode(np.ascontiguousarray(noise(4, 24)[:, :, 4:20, 4:20]))
    as_stamps = scored(model, stamps=stamps(4, pixels=centre), hosts=hosts)
    sky_scores = scored(model, 3, manifest=manifest(4), cutouts=shuffled)
    np.testing.assert_allclose(
        sky_scores["logit"].to_numpy(), as_stamps["logit"].to_numpy(), atol=1e-5
    )
    other = scored(model, stamps=table, hosts=with_depth(hosts, depth[::-1].copy()))
    assert np.abs(other["logit"].to_numpy() - found).min() > 1e-4


def test_a_galaxy_that_lacks_what_the_network_is_told_is_named(tmp_path: Path) -> None:
    model = TrainedModel("demo", saved_model(tmp_path, inputs=("depth_r_mag",)))
    hosts = with_depth(cutouts(4), np.array([23, np.nan, 24, 24]))
    with pytest.raises(DataError, match=r"1 of 4 rows lack .*depth_r_mag.*target_id 102\)"):
        scored(model, stamps=stamps(4), hosts=hosts)
    with pytest.raises(DataError, match="told depth_r_mag, and scores got no cutouts"):
        scored(model, stamps=stamps(4))


def test_the_order_of_rows_changes_no_logit(model: TrainedModel) -> None:
    whole = scored(model, stamps=stamps(10))
    order = np.array([7, 2, 9, 0, 1, 3, 8, 4, 6, 5])
    got = scored(model, stamps=stamps(10).take(order))
    assert got["stamp_id"].to_pylist() == (order + 1).tolist()
    np.testing.assert_allclose(got["logit"].to_numpy(), whole["logit"].to_numpy()[order], atol=1e-5)


def test_the_sky_is_scored_as_stamps_of_its_cutouts_would_be(model: TrainedModel) -> None:
    sky = scored(model, manifest=manifest(6), cutouts=cutouts(6))
    centre = encode(np.ascontiguousarray(noise(6, 24)[:, :, 4:20, 4:20]))
    cut = scored(model, stamps=stamps(6, pixels=centre))
    np.testing.assert_allclose(sky["logit"].to_numpy(), cut["logit"].to_numpy(), atol=1e-5)


def test_rows_say_their_set_and_keep_what_evaluation_needs(model: TrainedModel) -> None:
    val = scored(model, stamps=stamps(4))
    sky = scored(model, manifest=manifest(4), cutouts=cutouts(4))
    assert val["set"].to_pylist() == ["val"] * 4
    assert val["ground_visible"].to_pylist() == [True, False, True, False]
    assert val["theta_e_arcsec"].to_pylist() == [1.5] * 4
    assert sky["set"].to_pylist() == ["sky"] * 4
    assert sky["split"].to_pylist() == ["guard"] * 4
    assert sky["theta_e_arcsec"].null_count == 4
    assert sky["label"].null_count == 4
    assert sky["psf_fwhm_r_arcsec"].to_pylist() == pytest.approx([1.1] * 4)


def test_only_rows_of_kind_sky_are_scored_in_the_sky(model: TrainedModel) -> None:
    mixed = manifest(4, kind=["sky", "lens", "sky", "control"])
    got = scored(model, manifest=mixed, cutouts=cutouts(4))
    assert got["target_id"].to_pylist() == [101, 103]


def test_the_sky_level_of_a_row_is_its_own(model: TrainedModel) -> None:
    flat = {f"sky_median_{b}_nmgy": np.zeros(6, np.float32) for b in BANDS}
    one = scored(model, stamps=stamps(6))
    other = scored(model, stamps=stamps(6, **flat))
    change = np.abs(one["logit"].to_numpy() - other["logit"].to_numpy())
    assert change[0] < 1e-6  # its sky was 0 already
    assert change[5] > 1e-4


def test_no_rows_give_no_scores(model: TrainedModel) -> None:
    assert scored(model, stamps=stamps(2)[:0]).num_rows == 0
    assert scored(model, manifest=manifest(2)[:0], cutouts=cutouts(2)).num_rows == 0


def test_a_target_without_pixels_is_an_error(model: TrainedModel) -> None:
    with pytest.raises(DataError, match="run stage manifest again"):
        scored(model, manifest=manifest(3), cutouts=cutouts(2))


def test_pixels_of_another_size_are_refused(model: TrainedModel) -> None:
    with pytest.raises(DataError, match="12 px, not 16 px"):
        scored(model, stamps=stamps(2, pixels=encode(noise(2, 12))))


def test_neither_stamps_nor_sky_is_an_error(model: TrainedModel) -> None:
    with pytest.raises(DataError, match="needs stamps, or for the sky"):
        scored(model)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_logits(model: TrainedModel) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    config = ScoresConfig(bands=BANDS, pixel_scale_arcsec=SCALE_ARCSEC)
    got = scores.run(model=model, device=Device("cuda"), config=config, stamps=stamps(10))
    expected = scored(model, stamps=stamps(10))["logit"].to_numpy()
    np.testing.assert_allclose(got["logit"].to_numpy(), expected, atol=1e-3)


def test_what_the_stage_reads_is_enough_for_it(model: TrainedModel) -> None:
    read = {i.parameter: i.schema(BANDS).names for i in scores.STAGE.inputs}
    whole = scored(model, stamps=stamps(4))
    assert scored(model, stamps=stamps(4).select(read["stamps"])).equals(whole)
    tables = {"manifest": manifest(4), "cutouts": cutouts(4)}
    least = {name: table.select(read[name]) for name, table in tables.items()}
    assert scored(model, **least).equals(scored(model, **tables))
