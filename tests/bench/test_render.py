"""`dhs bench render`: what it says, where it runs, and what its figures stand on."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_builders import dhs, without

from darkhaloscope.bench import clock, draws, peers, render, truth
from darkhaloscope.bench.clock import Timed
from darkhaloscope.bench.draws import Draws
from darkhaloscope.bench.entry import run
from darkhaloscope.core.errors import ConfigError

KEYS = {
    "stamps_per_core_s",
    "lenstronomy_stamps_per_core_s",
    "ratio_to_lenstronomy",
    "l2_p95_percent",
    "flux_p95_percent",
    "worst_l2_percent",
}
NOT_ON_A_BARE_MACHINE = {
    *("aiohttp", "astropy", "astropy_healpix", "caustics", "fastapi", "galsim", "jinja2"),
    *("lenstronomy", "matplotlib", "numba", "pandas", "PIL", "psutil", "pydantic", "pyspark"),
    *("rich", "safetensors", "sklearn", "typer"),
}


def bare(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m darkhaloscope.bench` where nothing but the nets' packages can be imported."""
    return without(NOT_ON_A_BARE_MACHINE, "darkhaloscope.bench", *words)


def test_the_command_prints_one_json_object_and_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ("--json", "--draws", "4", "--rounds", "1", "--device", "cpu", "--out", str(file))
    ran = dhs("bench", "render", *words)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert json.loads(file.read_text()) == figures
    for part in (figures, figures["moffat"]):
        assert all(part[key] > 0 for key in KEYS)
        speeds = part["stamps_per_core_s"] / part["lenstronomy_stamps_per_core_s"]
        assert part["ratio_to_lenstronomy"] == pytest.approx(speeds, rel=0.02)  # of one round
        # lenstronomy's error is that of its sampling: neither nothing nor another convention
        assert 0.5 < part["lenstronomy_l2_p95_percent"] < 30
        assert part["l2_p95_percent"] <= 1
        assert part["flux_p95_percent"] <= 1
    assert figures["draws"] == 4
    assert figures["cuda"] is None
    assert figures["kernel"] == "compiled"
    assert {"numpy", "torch", "lenstronomy"} <= set(figures["versions"])


def test_a_bare_gpu_machine_runs_it_without_its_peer() -> None:
    ran = bare("render", "--json", "--draws", "2", "--rounds", "1", "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["kernel"] == "torch"
    for part in (figures, figures["moffat"]):
        assert {key for key in KEYS if part[key] is None} == {
            "lenstronomy_stamps_per_core_s",
            "ratio_to_lenstronomy",
        }


@pytest.mark.parametrize("measure", ["render", "train"])
def test_every_measure_can_be_asked_for_help_on_a_bare_machine(measure: str) -> None:
    ran = bare(measure, "--help")
    assert ran.returncode == 0, ran.stderr
    assert f"usage: dhs bench {measure}" in ran.stdout


def test_a_wrong_word_is_one_message() -> None:
    ran = dhs("bench", "rendr")
    assert ran.returncode == 2
    assert ran.stderr.startswith("dhs: ")
    assert "invalid choice: 'rendr'" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: measure"),
        (["render", "--draw", "4"], "unrecognized arguments: --draw 4"),
        (["render", "--draws", "many"], "invalid int value: 'many'"),
        (["render", "--draws", "0"], "--draws is at least 1; got 0"),
        (["render", "--out", "nowhere/figures.json"], "there is no folder nowhere; make it first"),
        (["render", "--out", "."], "--out . is a folder; name a file"),
        (["render", "--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        run(words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="no CUDA device was found; use --device cpu"):
        run(["render", "--device", "cuda"])


def test_the_table_names_peer_errors_and_method() -> None:
    numbers = dict.fromkeys(KEYS, 2.0)
    for key in ("l2_p95_percent", "flux_p95_percent", "worst_l2_percent"):
        numbers[f"lenstronomy_{key}"] = 7.125
    numbers |= {"lenstronomy_once_stamps_per_core_s": 6.0, "torch_kernel_stamps_per_core_s": 1.5}
    around = [1.0, 3.0]
    spread = {"stamps_per_core_s": around, "lenstronomy_stamps_per_core_s": around}
    part = {**numbers, "spread": spread}
    gpu = {**numbers, "stamps_per_s": 1e5, "batch": 1024}
    said = render.table(
        {
            **part,
            "moffat": part,
            "cuda": {**gpu, "moffat": {**gpu, "batch": None, "stamps_per_s": None}},
            "gpu": "Some GPU",
            "cpu": "Some CPU",
            "date": "2026-11-23",
            "rounds": 3,
            "kernel": "compiled",
            "draws": 64,
            "versions": {"lenstronomy": "1.13.6"},
        }
    )
    for words in ("(1-3)", "7.125", "100,000 stamps/s", "out of memory", "Some CPU", "CPU seconds"):
        assert words in said


def test_a_batch_that_a_gpu_cannot_hold_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    made = draws.comparison(2)
    true = render.true_images(made)
    asked: list[int] = []

    def speeds(timed: Timed, *, rounds: int) -> list[float]:
        asked.append(timed.stamps)
        if timed.stamps > 32:
            raise torch.OutOfMemoryError
        return [1000.0 + timed.stamps] * rounds

    monkeypatch.setattr(render, "CUDA_BATCHES", (16, 32, 64, 128))
    monkeypatch.setattr(clock, "stamps_per_s_on_cuda", speeds)
    monkeypatch.setattr(Draws, "to", lambda self, device: self)
    figures = render._on_cuda(made, true, rounds=3)
    assert asked == [16, 32, 64] * 2
    assert figures["batch"] == figures["moffat"]["batch"] == 32
    assert figures["stamps_per_s"] == 1032
    assert figures["stamps_per_s_by_batch"] == {"16": 1016, "32": 1032, "64": None}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_renders_as_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "CUDA_BATCHES", (16,))
    made = draws.comparison(8)
    figures = render._on_cuda(made, render.true_images(made), rounds=1)
    for part in (figures, figures["moffat"]):
        assert part["stamps_per_s"] > 0
        assert part["l2_p95_percent"] < 1


def test_draws_are_named_and_in_their_ranges() -> None:
    few, many = draws.comparison(3), draws.comparison(300)
    assert torch.equal(few.lens.theta_e, many.lens.theta_e[:3])
    assert torch.equal(few.psfs["moffat"].alpha, many.psfs["moffat"].alpha[:3])
    offset = torch.hypot(many.source.x, many.source.y) / many.lens.theta_e
    ranges = [
        (many.lens.theta_e, 0.5, 2.5),
        (many.lens.q, 0.5, 0.98),
        (many.source.n, 1, 4),
        (many.source.r_eff, 0.08, 0.3),
        (offset.square(), 0, 0.25),  # evenly over the disc: in the radius' square
        (many.psfs["moffat"].beta, 2.6, 2.8),
    ]
    for values, low, high in ranges:
        assert low <= float(values.min())
        assert float(values.max()) <= high * 1.0001
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.1 * (high - low))
    assert torch.allclose(many.lens.shear, torch.tensor(0.05))


@pytest.mark.filterwarnings("ignore:.axes. should not be .None.:DeprecationWarning")  # its own FFT
@pytest.mark.parametrize("profile", render.PROFILES)
@pytest.mark.parametrize("build", [peers.one_model_a_band, peers.traced_once])
def test_lenstronomy_is_asked_for_the_same_stamps(profile: str, build: object) -> None:
    """Smooth sources, which its sampling can do."""
    made = draws.comparison(6)
    smooth = replace(
        made.source, n=torch.ones_like(made.source.n), r_eff=torch.full_like(made.source.n, 0.3)
    )
    made = replace(made, source=smooth)
    true = render.true_images(made)[profile]
    l2, flux = truth.errors(build(made, made.psfs[profile]).all(), true)  # type: ignore[operator]
    assert l2.max() <= 0.005
    assert flux.max() <= 0.001


def test_a_speed_is_stamps_over_the_clock_s_seconds() -> None:
    ticks = iter([0.0, 0.1, 0.2, 0.3])
    made = []
    timed = Timed(lambda: made.append(1), stamps=10)
    assert clock._of_one(timed, 0.25, lambda: next(ticks)) == pytest.approx(30 / 0.3)
    assert len(made) == 3
    speeds = clock.stamps_per_core_s({"a": Timed(lambda: sum(range(10**4)), 5)}, rounds=2)
    assert len(speeds["a"]) == 2
    assert min(speeds["a"]) > 0


def test_a_ratio_is_that_of_medians_and_its_spread_that_of_rounds() -> None:
    speeds = {
        ("ours", "moffat"): [100.0, 120.0, 90.0],
        ("lenstronomy", "moffat"): [1.0, 2.0, 4.0],
    }
    figures = render._of_speeds("moffat", speeds)
    assert figures["stamps_per_core_s"] == 100
    assert figures["lenstronomy_stamps_per_core_s"] == 2
    assert figures["ratio_to_lenstronomy"] == 50
    assert figures["spread"]["ratio_to_lenstronomy"] == [22.5, 100]
    assert figures["lenstronomy_once_stamps_per_core_s"] is None
    assert figures["ratio_to_torch_kernel"] is None


def test_wide_draws_are_compared_with_the_reference_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "WIDE_DRAWS", 3)
    figures = render._wide("auto")
    assert figures["draws"] == 3
    assert 0 < figures["l2_p95_percent"] < 3


def test_errors_are_over_stamps_and_bands() -> None:
    true = np.ones((5, 4, 8, 8))
    off = true.copy()
    off[0, 0] *= 1.5
    figures = render._errors(off, true)
    assert figures["worst_l2_percent"] == pytest.approx(50)
    assert figures["flux_p95_percent"] == pytest.approx(2.5)  # between the 19th and the 20th
