"""A trained recipe in other runtimes and in int8, judged on val: the command at its smallest."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from run_builders import without

from darkhaloscope.bench import benchmark
from darkhaloscope.bench.frozen import definition, exporting, recipes, results, scoring
from darkhaloscope.bench.frozen.recipes import Recipe
from darkhaloscope.bench.frozen.scoring import Workplace
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import exported, quantised, runtimes

pytestmark = pytest.mark.slow

TINY = ("--variant", "tiny", "--stamps", "256", "--device", "cpu")
FILE = "dhs-sim-1-tiny.val.small.seed-1.runtimes.json"
SMALL = cast("Recipe", recipes.named("small").shortened(256))


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less to time and to calibrate on: neither changes what is tested."""
    monkeypatch.setattr(exporting, "SECONDS", 0.01)
    monkeypatch.setattr(exporting, "CALIBRATION", 64)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra `serve`")
    folder = tmp_path_factory.mktemp("runtimes")
    with pytest.MonkeyPatch.context() as few:
        shorten(few)
        assert benchmark.main([*TINY, "--runtimes", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((out / "results" / FILE).read_text())
    return made


def logits(out: Path, way: str = "") -> np.ndarray:
    name = recipes.key(SMALL) + (f".{way}" if way else "")
    folder = out / "scores" / "dhs-sim-1-tiny" / "set=val" / name
    values: np.ndarray = scoring.table(folder)["logit"].to_numpy()
    return values


def test_every_runtime_has_scored_the_same_stamps(out: Path, found: dict[str, Any]) -> None:
    expected = logits(out)
    assert len(expected) == found["n_rows"] > 200
    for way, said in found["ways"].items():
        if way == exporting.TORCH:
            continue
        theirs = logits(out, way.replace(" ", "-"))
        assert said["max_difference"] == pytest.approx(np.abs(theirs - expected).max(), rel=1e-6)


def test_float32_ranks_as_torch_does_and_int8_is_seen_to_differ(found: dict[str, Any]) -> None:
    ways = found["ways"]
    plain, small = ways["onnxruntime fp32"], ways["onnxruntime int8"]
    assert plain["max_difference"] < runtimes.TOLERANCE
    assert plain["is_same_ranking"]
    assert small["max_difference"] > plain["max_difference"]
    assert all(way["stamps_per_core_s"] > 0 for way in ways.values())


def test_what_few_stamps_cannot_show_is_refused_and_leaves_no_file(
    out: Path, found: dict[str, Any]
) -> None:
    small = found["ways"]["onnxruntime int8"]
    assert small["all"]["n_negatives"] == 190  # none can be false at a rate of 1e-3
    assert small["all"]["before"] is None
    assert not small["is_accepted"]
    assert "onnxruntime int8, all lenses, refused: FPR 0.001" in small["all"]["text"]
    (model,) = (out / "training").glob("small-1-*/model")
    assert exported.is_of(model / exported.FILE, model)
    assert not (model / exporting.INT8_FILE).exists()


def test_the_result_is_labelled_and_no_row_of_the_table(out: Path, found: dict[str, Any]) -> None:
    assert found["origin"] == "sim"
    assert found["calibration"]["set"] == "train"
    assert found["set"] == "val"
    assert results.read(out / "results") == []
    text = exporting.table(found)
    assert "(sim, n = " in text
    assert "not resolvable" in text


def test_the_same_again_scores_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {file: file.stat().st_mtime_ns for file in (out / "scores").rglob("block-*.parquet")}
    shorten(monkeypatch)
    assert benchmark.main([*TINY, "--runtimes", "--out", str(out)]) == 0
    assert len(kept) > 5
    assert kept == {f: f.stat().st_mtime_ns for f in (out / "scores").rglob("block-*.parquet")}


def test_calibration_stamps_are_the_recipes_own_less_their_sky(out: Path) -> None:
    at, bench = Workplace(out, Device("cpu", 1)), definition.load("tiny")
    shown = exporting.calibration(bench, SMALL, at, stamps=64)
    assert shown.pixels.shape == (64, 3, 64, 64)
    assert not shown.sky_median.any()
    rim = shown.pixels[:, :, :4].mean((2, 3))
    core = shown.pixels[:, :, 30:34, 30:34].mean((2, 3))
    assert np.abs(np.median(rim, 0)).max() < 0.001
    assert (np.median(core, 0) > 20 * np.abs(np.median(rim, 0))).all()
    again = exporting.calibration(bench, SMALL, at, stamps=64)
    np.testing.assert_array_equal(shown.pixels, again.pixels)


def test_numbers_that_a_network_is_told_reach_the_calibration_as_they_are(out: Path) -> None:
    told = replace(SMALL, inputs=("psf_fwhm_r_arcsec", "depth_g_mag"))
    shown = exporting.calibration(
        definition.load("tiny"), told, Workplace(out, Device("cpu", 1)), stamps=64
    )
    assert shown.extra is not None
    assert ((shown.extra[:, 0] > 0.5) & (shown.extra[:, 0] < 2.5)).all()
    assert ((shown.extra[:, 1] > 20) & (shown.extra[:, 1] < 27)).all()


def test_an_accepted_int8_file_stays_beside_the_model(
    out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a rule that lets everything pass, as no set this small passes the real one."""
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    real = quantised.verdict

    def at_ten_percent(first: Any, second: Any, *, what: str) -> quantised.Verdict:
        return real(first, second, fpr=0.1, what=what)

    shorten(monkeypatch)
    monkeypatch.setattr(quantised, "MOST_LOST", 1.0)
    monkeypatch.setattr(quantised, "verdict", at_ten_percent)
    assert benchmark.main([*TINY, "--runtimes", "--out", str(copy)]) == 0
    said = json.loads((copy / "results" / FILE).read_text())["ways"]["onnxruntime int8"]
    assert said["is_accepted"]
    (model,) = (copy / "training").glob("small-1-*/model")
    assert exported.metadata_of(model / exporting.INT8_FILE)["precision"] == "int8"
    assert exported.is_of(model / exporting.INT8_FILE, model)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "trivial"), "trivial is none"),
        (("--recipe", "small", "--set", "test"), "--runtimes judges on val"),
        (("--recipe", "small", "--train-only"), "--runtimes judges on val"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_work(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra `serve`")
    with pytest.raises(ConfigError, match=message):
        benchmark.main([*TINY, "--runtimes", "--out", str(tmp_path), *words])
    assert list(tmp_path.iterdir()) == []


def test_without_the_runtimes_it_says_what_brings_them(tmp_path: Path) -> None:
    words = ("--runtimes", "--out", tmp_path)
    ran = without({"onnxruntime"}, "darkhaloscope.bench", "benchmark", *TINY, *words)
    assert ran.returncode == 2, ran.stderr
    assert "--runtimes needs onnxruntime; `pip install 'darkhaloscope[nets,serve]'`" in ran.stderr
    assert list(tmp_path.iterdir()) == []
