"""A saved model comes back as it was, and refuses what it was not trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ml_builders import BANDS, NORMALISE, SCALE_ARCSEC, noise, saved_model

from darkhaloscope.core.errors import DataError
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import networks, saved
from darkhaloscope.ml.transforms import Normalisation

PIXELS, SKY = torch.from_numpy(noise(5, 16)), torch.zeros(5, 2)


def test_a_model_comes_back_with_the_same_logits_and_description(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path))
    network = networks.make("small", bands=2, seed=3).eval()
    with torch.inference_mode():
        expected = network(NORMALISE(PIXELS, SKY))
    torch.testing.assert_close(model.logits(PIXELS, SKY), expected, rtol=0, atol=1e-6)
    assert model.description.normalisation == NORMALISE
    assert (model.description.epoch, model.description.training_digest) == (2, "abc")


CLASSES = ("lens", "control", "ring")


def test_kinds_are_a_softmax_and_the_logit_is_that_of_its_lens(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path, classes=CLASSES))
    found = model.kinds(PIXELS, SKY)
    assert found is not None
    assert found.shape == (5, 3)
    p = found.double().exp()
    torch.testing.assert_close(p.sum(1), torch.ones(5).double(), rtol=0, atol=1e-6)
    expected = (p[:, 0] / (1 - p[:, 0])).log().float()
    torch.testing.assert_close(model.logits(PIXELS, SKY), expected, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "model.json").read_text())["classes"] == list(CLASSES)


def test_a_binary_model_tells_no_kinds_apart(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path))
    assert model.description.classes == ()
    assert model.kinds(PIXELS, SKY) is None


def test_a_model_of_the_first_format_still_loads(tmp_path: Path) -> None:
    expected = saved.load(saved_model(tmp_path)).logits(PIXELS, SKY)
    path = tmp_path / "model.json"
    stated = json.loads(path.read_text())
    del stated["classes"], stated["inputs"]
    path.write_text(json.dumps({**stated, "format": 1}))
    model = saved.load(tmp_path)
    assert model.description.classes == model.description.inputs == ()
    assert torch.equal(model.logits(PIXELS, SKY), expected)


def test_a_model_of_the_second_format_still_loads(tmp_path: Path) -> None:
    expected = saved.load(saved_model(tmp_path, classes=CLASSES)).logits(PIXELS, SKY)
    path = tmp_path / "model.json"
    stated = json.loads(path.read_text())
    del stated["inputs"]
    path.write_text(json.dumps({**stated, "format": 2}))
    model = saved.load(tmp_path)
    assert (model.description.classes, model.description.inputs) == (CLASSES, ())
    assert torch.equal(model.logits(PIXELS, SKY), expected)


INPUTS = ("psf_fwhm_g_arcsec", "depth_r_mag")
EXTRA = torch.tensor([[1.0, 23.5], [1.1, 24.0], [1.2, 24.5], [1.3, 23.0], [1.0, 25.0]])


def test_what_a_network_is_told_travels_with_it(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path, inputs=INPUTS, classes=CLASSES))
    assert model.description.inputs == INPUTS
    told = (EXTRA - torch.tensor([1.1, 23.8])) / torch.tensor([0.2, 0.8])
    with torch.inference_mode():
        expected = model.network(NORMALISE(PIXELS, SKY), told).log_softmax(1)
    torch.testing.assert_close(model.kinds(PIXELS, SKY, EXTRA), expected, rtol=0, atol=1e-5)
    moved = EXTRA + torch.tensor([0.1, 0.0])
    for see in (model.logits, model.kinds, model.features):
        assert not torch.allclose(see(PIXELS, SKY, EXTRA), see(PIXELS, SKY, moved), atol=1e-3)


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        (None, r"is told psf_fwhm_g_arcsec, depth_r_mag: shape \(5, 2\).*and got nothing"),
        (EXTRA[:, :1], r"got numbers of shape \(5, 1\)"),
        (EXTRA[:4], r"got numbers of shape \(4, 2\)"),
        (EXTRA / (EXTRA != 24.5), "depth_r_mag is not finite in rows 2 of the batch"),
    ],
)
def test_a_network_that_is_told_anything_else_refuses(
    tmp_path: Path, extra: torch.Tensor | None, fault: str
) -> None:
    model = saved.load(saved_model(tmp_path, inputs=INPUTS))
    for see in (model.logits, model.features):
        with pytest.raises(DataError, match=fault):
            see(PIXELS, SKY, extra)


def test_a_network_that_is_told_nothing_refuses_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="told nothing beside the pixels, and got numbers"):
        saved.load(saved_model(tmp_path)).logits(PIXELS, SKY, EXTRA)


@pytest.mark.parametrize(("name", "width"), [("small", 128), ("compact", 128), ("resnet18", 512)])
def test_features_are_what_the_last_layer_sees(tmp_path: Path, name: str, width: int) -> None:
    weights = networks.make(name, bands=2, seed=4, outputs=3).state_dict()
    about = saved.load(saved_model(tmp_path)).description
    saved.save(tmp_path, replace(about, network=name, classes=CLASSES), weights, weights)
    model = saved.load(tmp_path)
    found = model.features(PIXELS, SKY)
    assert found.shape == (5, width)
    assert found.dtype == torch.float32
    last = [value for key, value in weights.items() if key.startswith("head.")][-2:]
    outputs = torch.log_softmax(found @ last[0].T + last[1], 1)
    torch.testing.assert_close(outputs, model.kinds(PIXELS, SKY), rtol=0, atol=1e-5)


def test_a_larger_cutout_is_scored_by_its_central_stamp(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path))
    wide = torch.randn(5, 2, 24, 24)
    wide[:, :, 4:20, 4:20] = PIXELS
    torch.testing.assert_close(model.logits(wide, SKY), model.logits(PIXELS, SKY))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_logit_does_not_depend_on_its_batch(tmp_path: Path, batch: int) -> None:
    model = saved.load(saved_model(tmp_path))
    whole = model.logits(PIXELS, SKY)
    parts = [model.logits(p, SKY[: len(p)]) for p in PIXELS.split(batch)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


def test_very_bright_stamps_keep_different_float32_logits(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path))
    bright = PIXELS * torch.tensor([1.0, 1e2, 1e4, 1e6, 1e8])[:, None, None, None]
    logits = model.logits(bright, SKY)
    assert logits.dtype == torch.float32
    assert len(set(logits.tolist())) == 5


@pytest.mark.parametrize(
    ("layout", "fault"),
    [
        (Layout(("r", "g"), 16, SCALE_ARCSEC), "bands r g, not g r"),
        (Layout(("g", "r", "z"), 16, SCALE_ARCSEC), "bands g r z, not g r"),
        (Layout(BANDS, 16, 0.168), '0.168"/px, not 0.262"/px'),
        (Layout(BANDS, 14, SCALE_ARCSEC), "14 px, not 16 px"),
        (Layout(BANDS, 17, SCALE_ARCSEC), "17 px, not 16 px"),
    ],
)
def test_other_pixels_are_refused(tmp_path: Path, layout: Layout, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        saved.load(saved_model(tmp_path)).check(layout)


def test_its_own_kind_of_pixels_and_wider_cutouts_are_taken(tmp_path: Path) -> None:
    model = saved.load(saved_model(tmp_path))
    model.check(Layout(BANDS, 16, SCALE_ARCSEC))
    model.check(Layout(BANDS, 80, 0.26201))


def test_a_pixel_that_is_not_finite_is_named_not_scored(tmp_path: Path) -> None:
    pixels = PIXELS.clone()
    pixels[3, 0, 2, 2] = torch.nan
    with pytest.raises(DataError, match="not finite in rows 3 of"):
        saved.load(saved_model(tmp_path)).logits(pixels, SKY)
    model = saved.load(saved_model(tmp_path, classes=CLASSES))
    for see in (model.logits, model.kinds, model.features):
        with pytest.raises(DataError, match="not finite in rows 3 of"):
            see(pixels, SKY)


def test_weights_are_no_pickle_and_the_description_is_plain_json(tmp_path: Path) -> None:
    folder = saved_model(tmp_path, normalisation=Normalisation("first_run", (1.0, 1.0)))
    stated = json.loads((folder / "model.json").read_text())
    assert stated["format"] == 3
    assert stated["bands"] == ["g", "r"]
    assert stated["normalisation"] == {"name": "first_run", "softening_nmgy": [1.0, 1.0]}
    assert (folder / "model.safetensors").read_bytes()[8:9] == b"{"
    assert saved.load(folder).description.normalisation.name == "first_run"


def test_the_weights_of_the_last_epoch_can_be_asked_for(tmp_path: Path) -> None:
    one, other = (networks.make("small", bands=2, seed=s).state_dict() for s in (1, 2))
    saved.save(tmp_path, saved.load(saved_model(tmp_path)).description, one, other)
    found = saved.load(tmp_path, weights=saved.LAST_WEIGHTS).network.state_dict()
    assert torch.equal(found["head.0.weight"], other["head.0.weight"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.json", None, "cannot be read"),
        ("model.json", "{", "cannot be read"),
        ("model.json", '{"format": 4}', "format 4; this version reads formats 1, 2 and 3"),
        ("model.json", '{"format": 1, "network": "small"}', "lacks a field"),
        ("model.json", '{"format": 2, "network": "small"}', "lacks a field"),
        ("model.json", '{"format": 3, "network": "small"}', "lacks a field"),
        ("model.safetensors", None, "cannot be read"),
        ("model.safetensors", "short", "cannot be read"),
    ],
)
def test_a_damaged_model_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    folder = saved_model(tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        saved.load(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path)
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"small"', '"resnet18"'))
    with pytest.raises(DataError, match="does not hold a resnet18 network"):
        saved.load(folder)


def test_a_full_disk_leaves_the_old_file_and_a_finished_message(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def write(at: str) -> None:
        Path(at).write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        DataError, match=r"model\.json cannot be written: .*No space left.*run again"
    ):
        saved.write_whole(path, write)
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]
    assert path.read_text() == "old"
