"""One exported file gives torch's logits and ranking in every runtime."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_builders as b
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import exported, fit, networks, runtimes, saved
from darkhaloscope.ml.transforms import Normalisation

INPUTS = ("psf_fwhm_g_arcsec", "depth_r_mag")
OTHERS = ("onnxruntime", "openvino")


def other(name: str) -> Callable[..., runtimes.Scorer]:
    """Opens a file in a runtime other than torch; the test is skipped where it is not installed."""
    pytest.importorskip(name, reason=f"{name} is not installed: an extra of its own")
    return {"onnxruntime": runtimes.of_onnxruntime, "openvino": runtimes.of_openvino}[name]


def shown(n: int, size: int = 20, *, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Noise with blobs of all brightnesses, and sky medians that matter."""
    draw = np.random.default_rng(seed)
    pixels = b.noise(n, size, seed=seed)
    pixels[:, :, 8:11, 9:12] += draw.uniform(0, 0.3, (n, 1, 1, 1)).astype(np.float32)
    return pixels, draw.normal(0, 0.005, (n, 2)).astype(np.float32)


def made(folder: Path, design: str = "small", **changes: object) -> Path:
    """A model of random weights, batch normalisation included, and its exported file."""
    about = saved.load(b.saved_model(folder, **changes)).description
    about = replace(about, network=design)
    network = networks.make(
        design,
        bands=2,
        seed=11,
        outputs=max(1, len(about.classes)),
        inputs=len(about.inputs),
    )
    weights = network.state_dict()
    draw = np.random.default_rng(2)
    for name, value in weights.items():
        if name.endswith("running_mean"):
            value.add_(value.new_tensor(draw.normal(0, 0.1, value.shape)))
        elif name.endswith("running_var"):
            value.mul_(value.new_tensor(draw.uniform(0.3, 1.2, value.shape)))
        elif name.startswith("told."):  # a new network heeds none of it
            value.add_(value.new_tensor(draw.normal(0, 0.1, value.shape)))
    saved.save(folder, about, weights, weights)
    exported.export(folder, folder / exported.FILE)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained for three epochs of four steps."""
    folder = tmp_path_factory.mktemp("trained")
    found = fit.fit(
        networks.make("small", bands=2, seed=1),
        b.training(),
        b.validation(),
        recipe=b.recipe(),
        scratch=folder / "scratch",
        device=Device(),
    )
    about = saved.load(b.saved_model(folder)).description
    saved.save(folder, about, found.best, found.last)
    exported.export(folder, folder / exported.FILE)
    return folder


def agree(folder: Path, runtime: str, *, n: int = 200) -> runtimes.Agreement:
    model = saved.load(folder)
    pixels, sky = shown(n)
    k = len(model.description.inputs)
    told = np.random.default_rng(3).normal([1.1, 23.8][:k], 0.5, (n, k)).astype(np.float32)
    extra = told if k else None
    expected = runtimes.of_torch(model)(pixels, sky, extra)
    found = other(runtime)(folder / exported.FILE)(pixels, sky, extra)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert expected.std() > 1e-3  # else nothing could be ranked
    return runtimes.agreement(expected, found)


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_trained_network_ranks_alike_in_every_runtime(trained: Path, runtime: str) -> None:
    found = agree(trained, runtime)
    assert found.max_difference < 1e-4
    assert found.is_same_ranking()


@pytest.mark.parametrize("runtime", OTHERS)
@pytest.mark.parametrize(
    ("design", "changes"),
    [
        ("resnet18", {}),
        ("compact", {}),
        ("small", {"normalisation": Normalisation("first_run", (1.0, 1.0))}),
        ("small", {"classes": ("lens", "control", "ring")}),
        ("small", {"inputs": INPUTS}),
        ("resnet18", {"inputs": INPUTS, "classes": ("lens", "control")}),
    ],
)
def test_random_weights_of_every_kind_of_network_agree(
    tmp_path: Path, runtime: str, design: str, changes: dict[str, object]
) -> None:
    found = agree(made(tmp_path, design, **changes), runtime)
    assert found.max_difference < 2e-4
    assert found.is_same_ranking(4e-4)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_batch_may_have_any_size(trained: Path, n: int) -> None:
    pixels, sky = shown(8)
    score = other("onnxruntime")(trained / exported.FILE)
    whole = score(pixels, sky)
    np.testing.assert_allclose(score(pixels[:n], sky[:n]), whole[:n], rtol=0, atol=1e-5)


def test_the_sky_and_the_units_are_inside_the_file(trained: Path) -> None:
    pixels, sky = shown(8)
    score = other("onnxruntime")(trained / exported.FILE)
    same = score(pixels + sky[:, :, None, None], 2 * sky)
    np.testing.assert_allclose(same, score(pixels, sky), rtol=0, atol=1e-4)
    assert np.abs(score(10 * pixels, sky) - same).max() > 1e-2


def test_the_file_says_what_it_was_trained_on(trained: Path) -> None:
    found = exported.metadata_of(trained / exported.FILE)
    assert found["bands"] == "g r"
    assert (found["size_px"], found["unit"]) == ("16", "nanomaggy")
    assert float(found["pixel_scale_arcsec"]) == b.SCALE_ARCSEC
    assert found["training_digest"] == "abc"
    assert json.loads(found["description"])["normalisation"]["softening_nmgy"] == [0.01, 0.01]


def test_an_exported_file_belongs_to_the_weights_it_was_made_of(tmp_path: Path) -> None:
    one, other_one = b.saved_model(tmp_path / "one"), made(tmp_path / "other")
    exported.export(one, one / exported.FILE)
    assert exported.is_of(one / exported.FILE, one)
    assert not exported.is_of(other_one / exported.FILE, one)
    assert not exported.is_of(tmp_path / "none.onnx", one)


def test_nothing_is_written_beside_the_one_file(tmp_path: Path) -> None:
    model = b.saved_model(tmp_path / "model")
    exported.export(model, tmp_path / "m.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"model", "m.onnx"}


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(DataError, match=r"bad\.onnx cannot be read"):
        other(runtime)(path)
    with pytest.raises(DataError, match=r"bad\.onnx cannot be read"):
        exported.metadata_of(path)


@pytest.mark.parametrize("runtime", OTHERS)
def test_what_is_told_has_to_be_what_the_network_takes(tmp_path: Path, runtime: str) -> None:
    pixels, sky = shown(2)
    b.saved_model(tmp_path)
    exported.export(tmp_path, tmp_path / exported.FILE)
    with pytest.raises(DataError, match="told nothing"):
        other(runtime)(tmp_path / exported.FILE)(pixels, sky, np.zeros((2, 1), np.float32))


def test_a_logit_that_is_not_finite_is_refused(trained: Path) -> None:
    pixels, sky = shown(3)
    pixels[1, 0, 10, 10] = np.nan
    with pytest.raises(DataError, match="not finite in rows 1 of"):
        other("onnxruntime")(trained / exported.FILE)(pixels, sky)


def test_bfloat16_is_never_taken_unasked(trained: Path) -> None:
    pixels, sky = shown(100)
    expected = runtimes.of_torch(saved.load(trained))(pixels, sky)
    found = other("openvino")(trained / exported.FILE)(pixels, sky)
    assert np.abs(found - expected).max() < 1e-4  # bfloat16 has 8 bits: 1e-2 or more


finite = st.integers(-5, 5).map(lambda value: value / 4)


@given(arrays(np.float64, 6, elements=finite), arrays(np.float64, 6, elements=finite))
def test_the_largest_swap_is_that_of_all_pairs(one: np.ndarray, two: np.ndarray) -> None:
    pairs = [
        one[j] - one[i]
        for i in range(6)
        for j in range(6)
        if one[i] < one[j] and two[i] >= two[j]  # the better one is no longer better
    ]
    assert runtimes.agreement(one, two).largest_swap == max(pairs, default=0.0)
    assert runtimes.agreement(one, two).max_difference == np.abs(one - two).max()
