"""How fast a network scores, from nanomaggies to logits: `dhs bench infer`.

Every way is given one thread and the same stamps, and is timed in CPU seconds, turn by turn. What
it costs in exactness stands beside it: the largest difference of a logit from float32 torch, over
the spread of the logits. Weights are random, as speed does not depend on them, with the statistics
of the layers set from the stamps, so that no layer is dead; what int8 does to the completeness of
a trained network is another question (`ml.quantised`).
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from darkhaloscope.bench import clock, entry
from darkhaloscope.bench.clock import Timed
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import exported, heads, networks, quantised, runtimes, saved
from darkhaloscope.ml.quantised import Stamps
from darkhaloscope.ml.transforms import Normalisation

BANDS, SIZE_PX, SCALE_ARCSEC = ("g", "r", "z"), 64, 0.262
SOFTENING = (0.01, 0.01, 0.02)
NETWORKS = ("small", "resnet18")
BATCH, ROUNDS, SECONDS = 64, 7, 0.5
CALIBRATION = 256
PLAIN = "torch fp32"
PACKAGES = ("onnx", "onnxruntime", "openvino")
_SEED = 20261124

Way = Callable[[Stamps], np.ndarray]


def main(words: Sequence[str]) -> int:
    """`dhs bench infer`; the exit status."""
    parser = entry.parser_of("infer")
    parser.add_argument(
        "--network",
        action="append",
        choices=list(networks.DESIGNS),
        help=f"may be given again; default {' '.join(NETWORKS)}",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"stamps a call; default {BATCH}")
    asked = parser.parse_args(list(words))
    entry.check(asked)
    if asked.device == "cuda":
        raise ConfigError("bench infer measures the CPU; leave --device out")
    figures = measure(asked.network or NETWORKS, rounds=asked.rounds, batch=asked.batch)
    entry.tell(figures, table, asked)
    return 0


def measure(
    names: Sequence[str] = NETWORKS,
    *,
    rounds: int = ROUNDS,
    batch: int = BATCH,
    seconds: float = SECONDS,
    size: int = SIZE_PX,
) -> dict[str, Any]:
    """Stamps per core-second of each way that is installed, and ratios to plain torch.

    Args:
        names: Networks.
        rounds: In each of which every way is timed in turn.
        batch: Stamps a call.
        seconds: Least time of a way in a round.
        size: Width of a stamp, px.

    Raises:
        ConfigError: a number is below 1.
    """
    if min(rounds, batch) < 1:
        raise ConfigError("--rounds and --batch are 1 or more")
    with clock.one_thread(), TemporaryDirectory() as folder:
        found = {
            name: _of_network(name, Path(folder, name), rounds, batch, seconds, size)
            for name in names
        }
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return {
        "measure": "infer",
        "clock": "CPU seconds of one thread",
        "stamp_px": size,
        "bands": list(BANDS),
        "batch": batch,
        "rounds": rounds,
        "networks": found,
        "not_installed": missing,
        **entry.circumstances(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures for a reader."""
    lines = [
        f"{figures['stamp_px']} px, {len(figures['bands'])} bands, batches of {figures['batch']}, "
        f"one thread; medians of {figures['rounds']} rounds (least-greatest)"
    ]
    for name, found in figures["networks"].items():
        lines += [
            "",
            f"{name}, {found['gmac']} GMAC",
            f"  {'':<26}{'stamps per core-s':>22}{'ratio':>20}{'max |dlogit| / std':>20}",
        ]
        for way, one in found["ways"].items():
            low, high = one["stamps_per_core_s_range"]
            ratio = "{:.2f} ({:.2f}-{:.2f})".format(one["ratio"], *one["ratio_range"])
            lines.append(
                f"  {way:<26}{one['stamps_per_core_s']:8.0f} ({low:.0f}-{high:.0f})".ljust(50)
                + f"{ratio:>20}{one['max_difference_over_std']:20.1e}"
            )
    if figures["not_installed"]:
        lines += ["", f"not installed, not measured: {', '.join(figures['not_installed'])}"]
    return "\n".join(lines)


def _of_network(
    name: str, folder: Path, rounds: int, batch: int, seconds: float, size: int
) -> dict[str, Any]:
    shown = _stamps(batch, size, seed=_SEED)
    model = _model(name, folder, size)
    ways = _ways(model, folder)
    timed = {
        way: Timed(lambda call=call: call(shown), batch)  # type: ignore[misc]
        for way, call in ways.items()
    }
    speeds = clock.stamps_per_core_s(timed, rounds=rounds, seconds=seconds)
    judged = _stamps(CALIBRATION, size, seed=_SEED + 1)
    expected = ways[PLAIN](judged)
    plain = speeds[PLAIN]
    made = {}
    for way, call in ways.items():
        ratios = [a / b for a, b in zip(speeds[way], plain, strict=True)]
        agreed = runtimes.agreement(expected, call(judged))
        spread = float(expected.std())
        made[way] = {
            "stamps_per_core_s": round(float(np.median(speeds[way])), 1),
            "stamps_per_core_s_range": [round(min(speeds[way]), 1), round(max(speeds[way]), 1)],
            "ratio": round(float(np.median(speeds[way]) / np.median(plain)), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "max_difference": agreed.max_difference,
            "max_difference_over_std": agreed.max_difference / spread,
            "largest_swap_over_std": agreed.largest_swap / spread,
        }
    return {"gmac": networks.DESIGNS[name].gmac, "logit_std": spread, "ways": made}


def _stamps(n: int, size: int, *, seed: int) -> Stamps:
    """Noise with a round galaxy of its own brightness and colour in the middle of each."""
    draw = np.random.default_rng(seed)
    axis = np.arange(size) - (size - 1) / 2
    r2 = axis[:, None] ** 2 + axis**2
    width = draw.uniform(2, 6, (n, 1, 1, 1))
    light = draw.lognormal(-1.5, 1, (n, len(BANDS), 1, 1)) * np.exp(-r2 / (2 * width**2))
    pixels = draw.normal(0, 0.01, (n, len(BANDS), size, size)) + light
    return Stamps(pixels.astype(np.float32), np.zeros((n, len(BANDS)), np.float32))


def _model(name: str, folder: Path, size: int) -> saved.SavedModel:
    """A network of random weights, saved and read again as a trained one is."""
    about = saved.Description(
        network=name,
        bands=BANDS,
        pixel_scale_arcsec=SCALE_ARCSEC,
        size_px=size,
        normalisation=Normalisation("asinh", SOFTENING),
        training_digest="none",
        epoch=0,
        metrics={},
    )
    network = networks.make(name, bands=len(BANDS), seed=_SEED)
    seen = _stamps(BATCH, size, seed=_SEED + 2)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean over what it was shown
            layer.reset_running_stats()
    with torch.no_grad():
        network.train()(about.normalisation(*map(torch.from_numpy, (seen.pixels, seen.sky_median))))
    weights = network.state_dict()
    saved.save(folder, about, weights, weights)
    return saved.load(folder)


def _ways(model: saved.SavedModel, folder: Path) -> dict[str, Way]:
    """Everything that is installed, by name."""
    ways: dict[str, Way] = {
        PLAIN: _torch(model, torch.contiguous_format, None),
        "torch fp32 channels_last": _torch(model, torch.channels_last, None),
        "torch bf16 channels_last": _torch(model, torch.channels_last, torch.bfloat16),
    }
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        return ways
    path, int8 = folder / exported.FILE, folder / "int8.onnx"
    exported.export(folder, path)
    has_onnxruntime = importlib.util.find_spec("onnxruntime") is not None
    if has_onnxruntime:
        size = model.description.size_px
        quantised.quantise(path, int8, _stamps(CALIBRATION, size, seed=_SEED + 3))
        ways["onnxruntime fp32"] = _of_scorer(runtimes.of_onnxruntime(path))
        ways["onnxruntime int8"] = _of_scorer(runtimes.of_onnxruntime(int8))
    if importlib.util.find_spec("openvino") is not None:
        ways["openvino fp32"] = _of_scorer(runtimes.of_openvino(path))
        ways["openvino bf16"] = _of_scorer(runtimes.of_openvino(path, precision="bf16"))
        if has_onnxruntime:
            ways["openvino int8"] = _of_scorer(runtimes.of_openvino(int8))
    return ways


def _of_scorer(score: runtimes.Scorer) -> Way:
    return lambda stamps: score(stamps.pixels, stamps.sky_median)


def _torch(
    model: saved.SavedModel, layout: torch.memory_format, autocast: torch.dtype | None
) -> Way:
    """The network in eager torch; normalisation in float32, as in training."""
    made = model.description
    network = networks.make(made.network, bands=len(made.bands), seed=0)
    network.load_state_dict({k: v.contiguous() for k, v in model.network.state_dict().items()})
    network.requires_grad_(requires_grad=False).eval()
    network.to(memory_format=layout)  # type: ignore[call-overload]  # not in its stubs

    def score(stamps: Stamps) -> np.ndarray:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None),
        ):
            seen = made.normalisation(
                torch.from_numpy(stamps.pixels), torch.from_numpy(stamps.sky_median)
            )
            logits = heads.lens_logit(network(seen.contiguous(memory_format=layout)))
        found: np.ndarray = logits.float().numpy()
        return found

    return score
