"""int8 is used only where it is shown to lose next to nothing."""

from pathlib import Path

import ml_builders as b
import numpy as np
import pytest

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.ml import exported, fit, networks, quantised, runtimes, saved
from darkhaloscope.ml.quantised import Stamps, accept

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra `serve`")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported file of a network trained for three epochs of four steps."""
    folder = tmp_path_factory.mktemp("trained")
    untrained = networks.make("small", bands=2, seed=1)
    found = fit.fit(
        untrained, b.training(), b.validation(), recipe=b.recipe(), scratch=folder, device=Device()
    )
    saved.save(folder, saved.load(b.saved_model(folder)).description, found.best, found.last)
    exported.export(folder, folder / exported.FILE)
    return folder / exported.FILE


def stamps(n: int, first_id: int = 50_001) -> tuple[Stamps, np.ndarray]:
    """Stamps of lens and control in turn, and which are lenses."""
    rows = b.rows(n, first_id=first_id)
    raw = b.blobs(16)(rows)
    return Stamps(raw.pixels.numpy(), raw.sky_median.numpy()), rows["label"].to_numpy() == 1


def scores(n_lenses: int, n_negatives: int, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two normal populations, and the truth."""
    draw = np.random.default_rng(seed)
    score = np.concatenate([draw.normal(4, 1.5, n_lenses), draw.normal(0, 1, n_negatives)])
    return score, np.arange(n_lenses + n_negatives) < n_lenses


def test_convolutions_are_in_int8_and_the_last_layers_are_not(
    trained: Path, tmp_path: Path
) -> None:
    import onnx

    made = tmp_path / "int8.onnx"
    quantised.quantise(trained, made, stamps(128)[0])
    graph = onnx.load(made).graph
    # What multiplies a convolution's input was an integer before.
    is_dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 8
    assert all({node.input[0], node.input[1]} <= is_dequantised for node in convolutions)
    dense = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    assert dense
    assert not any(set(node.input) & is_dequantised for node in dense)
    scales = [tuple(i.dims) for i in graph.initializer if i.name.endswith("_scale")]
    assert (24,) in scales  # one a channel of the first layer


def test_it_stays_near_float32_and_keeps_what_the_file_says(trained: Path, tmp_path: Path) -> None:
    made = tmp_path / "int8.onnx"
    quantised.quantise(trained, made, stamps(128)[0])
    shown, is_lens = stamps(400, first_id=60_001)
    before = runtimes.of_onnxruntime(trained)(shown.pixels, shown.sky_median)
    after = runtimes.of_onnxruntime(made)(shown.pixels, shown.sky_median)
    found = runtimes.agreement(before, after)
    assert 0 < found.max_difference < 0.2 * np.ptp(before)
    assert np.corrcoef(before, after)[0, 1] > 0.99
    assert before[is_lens].mean() > before[~is_lens].mean()
    said = exported.metadata_of(trained) | {"precision": "int8"}
    assert exported.metadata_of(made) == said


def test_equal_scores_are_accepted_and_the_fall_is_zero() -> None:
    score, is_lens = scores(4000, 40_000)
    found = accept(score, score, is_lens, None)
    assert found.is_accepted
    assert found.fall == 0
    assert found.before == found.after
    assert (found.n_lenses, found.n_negatives) == (4000, 40_000)


def test_a_real_loss_is_refused_with_its_figures() -> None:
    score, is_lens = scores(4000, 40_000)
    noisy = score + np.random.default_rng(2).normal(0, 0.7, len(score))
    found = accept(score, noisy, is_lens, None)
    assert not found.is_accepted
    assert found.fall is not None
    assert found.low is not None
    assert found.low > 0.005
    assert "int8 refused: completeness at FPR 0.001 goes from" in found.text


def test_a_small_fall_of_too_few_stamps_is_refused_too() -> None:
    score, is_lens = scores(60, 40_000, seed=0)
    noisy = score + np.random.default_rng(9).normal(0, 0.01, len(score))
    found = accept(score, noisy, is_lens, None)
    assert found.fall is not None
    assert found.high is not None
    assert found.fall <= 0.005 < found.high
    assert not found.is_accepted


def test_what_cannot_be_resolved_is_refused() -> None:
    score, is_lens = scores(100, 500)
    found = accept(score, score, is_lens, None)
    assert not found.is_accepted
    assert found.before is None
    assert "not resolvable with 100 lenses and 500 negatives" in found.text


def test_the_fall_is_that_of_thresholds_read_off_the_two_tables() -> None:
    score, is_lens = scores(2000, 50_000)
    noisy = score + np.random.default_rng(5).normal(0, 0.4, len(score))
    found = accept(score, noisy, is_lens, None)

    def completeness(values: np.ndarray) -> float:
        negatives = np.sort(values[~is_lens])[::-1]
        return float((values[is_lens] > negatives[50]).mean())  # 50 of 50,000 are kept

    assert found.before == pytest.approx(completeness(score))
    assert found.after == pytest.approx(completeness(noisy))
    assert found.fall == pytest.approx(completeness(score) - completeness(noisy))


def test_negatives_count_by_their_weight_on_the_sky() -> None:
    score, is_lens = scores(1000, 40_000)
    hard = ~is_lens & (np.arange(len(score)) % 20 == 0)
    score = score + 3 * hard
    rare = np.where(hard, 0.01, 1.0)
    kind = np.where(is_lens, "lens", np.where(hard, "ring", "control"))
    plain = accept(score, score, is_lens, None)
    weighed = accept(score, score, is_lens, rare)
    named = accept(score, score, is_lens, rare, kind=kind)
    assert weighed.before is not None
    assert plain.before is not None
    assert weighed.before > plain.before + 0.2
    assert weighed.before == named.before


def test_only_an_accepted_file_is_left(trained: Path, tmp_path: Path) -> None:
    judged, is_lens = stamps(600, first_id=70_001)
    calibration = stamps(128)[0]
    verdict = quantised.quantise_if_accepted(
        trained,
        tmp_path / "int8.onnx",
        calibration=calibration,
        judged=judged,
        is_lens=is_lens,
        sky_weight=None,
        fpr=1e-2,
    )
    assert not verdict.is_accepted  # 300 negatives cannot bound it
    assert list(tmp_path.iterdir()) == []
    assert verdict.as_dict()["n_negatives"] == 300


def test_an_fpr_that_is_not_evaluated_is_refused() -> None:
    with pytest.raises(ConfigError, match="fpr is one of"):
        accept(*scores(10, 10)[:1] * 2, scores(10, 10)[1], None, fpr=0.5)


def test_calibration_needs_stamps(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got none"):
        quantised.quantise(trained, tmp_path / "x.onnx", stamps(0)[0])
