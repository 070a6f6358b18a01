"""What other runtimes and int8 do to a trained recipe: `dhs benchmark --runtimes`.

The published model is exported, and quantised with stamps of train. Then val is scored in one pass
by all that is installed, on the same pixels, and each is compared with torch stamp by stamp: how
far the logits differ, whether any rank changes, and what it costs in completeness. Speeds are
measured apart from the pass, turn by turn on one thread.
"""

import hashlib
import importlib.util
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from darkhaloscope.bench import clock, entry
from darkhaloscope.bench.clock import Timed
from darkhaloscope.bench.frozen import figures, fitting, recipes, results, scoring, teaching
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.figures import Scored
from darkhaloscope.bench.frozen.fitting import Trained
from darkhaloscope.bench.frozen.recipes import Recipe
from darkhaloscope.bench.frozen.scoring import Asked, Logits, Workplace
from darkhaloscope.bench.frozen.sets import Chunk
from darkhaloscope.bench.frozen.trivial import InUnits
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.data.store import sha256_of
from darkhaloscope.evaluate import strata
from darkhaloscope.ml import exported, inputs, quantised, runtimes, saved
from darkhaloscope.ml.quantised import Stamps
from darkhaloscope.ml.transforms import Normalisation

WHICH = "val"  # what is decided is decided on val; the calibration stamps are of train
TORCH = "torch fp32"
INT8_FILE = "model.int8.onnx"
CALIBRATION = (
    1024  # stamps: of 256, their extremes clipped what few stamps exceed (docs/scoring.md)
)
GALAXIES = 1024  # of train, that play them
BATCH, ROUNDS, SECONDS = 64, 5, 0.5
NEEDED = ("onnx", "onnxscript", "onnxruntime", "safetensors")

log = logging.getLogger(__name__)

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A file, and what runs it.

    Attributes:
        name: `onnxruntime int8`.
        file: As `exported.export` or `quantised.quantise` wrote it.
        open: Reads it for so many threads.
    """

    name: str
    file: Path
    open: Callable[[int], runtimes.Scorer]

    def asked(self, names: tuple[str, ...], threads: int) -> Asked:
        """To be asked for scores of a set by a network that is told `names`."""
        of = hashlib.sha256(f"{self.name} {sha256_of(self.file)}".encode()).hexdigest()

        def make() -> scoring.Scorer:
            return partial(_logits, self.open(threads), names)

        return Asked(of, make)


def check(asked: recipes.Asked) -> Recipe:
    """The recipe, where it can be exported here.

    Raises:
        ConfigError: packages are missing, or it is not one network.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--runtimes needs {', '.join(missing)}; `pip install 'darkhaloscope[nets,serve]'` "
            "brings it, and the extra `openvino` OpenVINO"
        )
    if not isinstance(asked, Recipe) or asked.is_trivial:
        raise ConfigError(
            f"--runtimes compares one network with itself; {asked.name} is none: name a recipe "
            "that is trained, or a member's"
        )
    return asked


def judge(definition: Definition, one: Trained, at: Workplace) -> Result:
    """Export, quantise, score val by every way, and say what each way costs and gives.

    The published folder then holds `model.onnx`, and `model.int8.onnx` if int8 is accepted.

    Args:
        definition: The benchmark.
        one: A network whose training has ended.
        at: Where.

    Returns:
        What the result file holds: circumstances, and for each way but torch the agreement with
        torch, verdicts in the headline stratum and of all lenses, and its speed.
    """
    folder = one.folder / fitting.PUBLISHED
    plain = folder / exported.FILE
    if not exported.is_of(plain, folder):
        exported.export(folder, plain)
    log.info("%s: calibrating int8 on %d stamps of train", one.recipe.name, CALIBRATION)
    shown = calibration(definition, one.recipe, at, stamps=CALIBRATION)
    with TemporaryDirectory() as scratch:
        small = Path(scratch, INT8_FILE)
        quantised.quantise(plain, small, shown)
        ways = _ways(plain, small)
        names, first = one.recipe.inputs, recipes.key(one.recipe)
        keys = {way.name: f"{first}.{way.name.replace(' ', '-')}" for way in ways}
        asked = {keys[way.name]: way.asked(names, at.device.threads) for way in ways}
        scoring.score(definition, WHICH, {first: fitting.asked(definition, one, at), **asked}, at)
        speeds = _speeds(folder, ways, shown)
        expected = _scored(definition, at, first)
        made = {
            way.name: {
                **_compared(
                    definition, expected, _scored(definition, at, keys[way.name]), way.name
                ),
                **speeds[way.name],
            }
            for way in ways
        }
        accepted = folder / INT8_FILE
        accepted.unlink(missing_ok=True)
        if made["onnxruntime int8"]["is_accepted"]:
            saved.write_whole(accepted, partial(shutil.copyfile, small))
    here = entry.circumstances()
    return {
        "measure": "runtimes",
        "benchmark": definition.name,
        "definition_sha256": definition.sha256,
        "set": WHICH,
        "set_sha256": scoring.fingerprint(definition, WHICH, at),
        "origin": "sim",
        "recipe": one.recipe.name,
        "recipe_sha256": one.recipe.sha256,
        "seed": one.recipe.seed,
        "weights_sha256": one.sha256,
        "stamps": one.recipe.epoch_stamps * one.recipe.epochs,
        "n_rows": len(expected.rows),
        "calibration": {"set": "train", "stamps": len(shown), "how": quantised.METHOD},
        "clock": "CPU seconds of one thread",
        "ways": {TORCH: speeds[TORCH], **made},
        "not_installed": [] if _has_openvino() else ["openvino"],
        **here,
        "commit": results.commit(),
    }


def calibration(definition: Definition, recipe: Recipe, at: Workplace, *, stamps: int) -> Stamps:
    """Stamps of train in the recipe's own mix, less their sky, nanomaggies."""
    galaxies = int(recipe.hosts.get("galaxies", definition.stated["sets"]["train"]["galaxies"]))
    size = min(recipe.batch_size, stamps)
    few = replace(
        recipe, stamps=stamps, epochs=1, batch_size=size,
        hosts={**recipe.hosts, "galaxies": min(galaxies, GALAXIES)},
    )  # fmt: skip
    source = teaching.training(
        definition, few, folder=at.sources, device=at.device, watched_rows=1
    ).source
    less_sky = InUnits((1.0,) * len(definition.bands))
    batches = list(replace(source, normalise=cast("Normalisation", less_sky)).batches(0))
    pixels = np.concatenate([batch.stamps.cpu().numpy() for batch in batches])
    told = None
    if recipe.inputs:
        middle, spread = np.array([inputs.scale_of(name) for name in recipe.inputs]).T
        seen = np.concatenate([cast("Any", batch.extra).cpu().numpy() for batch in batches])
        told = (middle + spread * seen).astype(np.float32)
    no_sky = np.zeros(pixels.shape[:2], np.float32)
    return Stamps(np.ascontiguousarray(pixels, np.float32), no_sky, told)


def write(folder: Path, made: Result) -> Path:
    """Write the result; its name and keys keep it apart from those of recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / results.file_name(made).replace(".json", ".runtimes.json")
    saved.write_whole(path, lambda to: Path(to).write_text(json.dumps(made, indent=1) + "\n"))
    return path


def table(made: Result) -> str:
    """A result for a reader."""
    first = next(way for way in made["ways"].values() if "headline" in way)
    counts = [first[name] for name in ("headline", "all")]
    lines = [
        f"{made['recipe']}, seed {made['seed']}, {made['stamps']:,} stamps, on {made['benchmark']} "
        f"{made['set']} (sim, n = {made['n_rows']:,}: {counts[0]['n_lenses']:,} lenses of the "
        f"headline, {counts[1]['n_lenses']:,} of all, {counts[1]['n_negatives']:,} negatives)",
        "completeness at FPR_sky 1e-3, %, and its fall against torch in points with its paired "
        "95 % interval",
        "",
        f"{'':<18}{'stamps/core-s':>14}{'max |dlogit|':>14}{'ranking':>9}  "
        f"{'headline, fall':<34}{'all, fall':<34}verdict",
        f"{TORCH:<18}{made['ways'][TORCH]['stamps_per_core_s']:>14.0f}{'':>14}{'':>9}  "
        f"{_before(counts[0]):<34}{_before(counts[1]):<34}",
    ]
    for name, way in made["ways"].items():
        if name == TORCH:
            continue
        same = "same" if way["is_same_ranking"] else "changes"
        said = "accepted" if way["is_accepted"] else "refused"
        lines.append(
            f"{name:<18}{way['stamps_per_core_s']:>14.0f}{way['max_difference']:>14.2g}{same:>9}  "
            f"{_fall(way['headline']):<34}{_fall(way['all']):<34}{said}"
        )
    lines += ["", f"int8: {made['calibration']['how']}"]
    lines += [f"not installed, not judged: {name}" for name in made["not_installed"]]
    return "\n".join(lines)


def _before(verdict: Mapping[str, Any]) -> str:
    return "not resolvable" if verdict["before"] is None else f"{100 * verdict['before']:.2f}"


def _fall(verdict: Mapping[str, Any]) -> str:
    if verdict["after"] is None:
        return "not resolvable"
    after, fall, low, high = (100 * verdict[name] for name in ("after", "fall", "low", "high"))
    return f"{after:.2f}, {fall:+.2f} [{low:+.2f}, {high:+.2f}]"


def _ways(plain: Path, small: Path) -> list[Way]:
    """Everything that is installed, but torch."""

    def onnxruntime(file: Path, threads: int) -> runtimes.Scorer:
        return runtimes.of_onnxruntime(file, threads=threads)

    def openvino(precision: runtimes.Precision, file: Path, threads: int) -> runtimes.Scorer:
        return runtimes.of_openvino(file, threads=threads, precision=precision)

    ways = [
        Way("onnxruntime fp32", plain, partial(onnxruntime, plain)),
        Way("onnxruntime int8", small, partial(onnxruntime, small)),
    ]
    if _has_openvino():
        ways += [
            Way("openvino fp32", plain, partial(openvino, "fp32", plain)),
            Way("openvino bf16", plain, partial(openvino, "bf16", plain)),
            Way("openvino int8", small, partial(openvino, "fp32", small)),
        ]
    return ways


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _logits(score: runtimes.Scorer, names: tuple[str, ...], chunk: Chunk) -> Logits:
    """Logits of a chunk's stamps, (n,), a few at a time."""
    shown = Stamps(
        chunk.raw.pixels.cpu().numpy(),
        chunk.raw.sky_median.cpu().numpy(),
        inputs.of_table(chunk.heads, names, of="target_id"),
    )
    return np.concatenate([score(p.pixels, p.sky_median, p.extra) for p in shown.parts()])


def _scored(definition: Definition, at: Workplace, key: str) -> Scored:
    return Scored.of(scoring.table(at.scores(definition, WHICH, key)), where=f"{key} on {WHICH}")


def _compared(definition: Definition, expected: Scored, found: Scored, name: str) -> Result:
    """How far logits agree with torch, and what is lost; accepted is what both strata accept."""
    before, after = expected.rows, found.rows
    agreed = runtimes.agreement(before.score, after.score)
    is_head = strata.at_least(before, definition.headline).chosen & before.is_lens
    headline = (figures.only_lenses(rows, is_head) for rows in (before, after))
    head = quantised.verdict(*headline, what=f"{name}, headline,")
    of_all = quantised.verdict(before, after, what=f"{name}, all lenses,")
    change = after.score - before.score
    return {
        "max_difference": agreed.max_difference,
        "rms_difference": float(np.sqrt(np.mean(change**2))),
        "largest_swap": agreed.largest_swap,
        "is_same_ranking": agreed.is_same_ranking(),
        "headline": head.as_dict(),
        "all": of_all.as_dict(),
        "is_accepted": head.is_accepted and of_all.is_accepted,
    }


def _speeds(folder: Path, ways: list[Way], shown: Stamps) -> dict[str, Result]:
    """Stamps per core-second of each, with torch, in the same minute."""
    batch = next(shown.parts())
    scorers = {TORCH: runtimes.of_torch(saved.load(folder))}
    with clock.one_thread():
        scorers |= {way.name: way.open(1) for way in ways}
        timed = {
            name: Timed(partial(score, batch.pixels, batch.sky_median, batch.extra), len(batch))
            for name, score in scorers.items()
        }
        speeds = clock.stamps_per_core_s(timed, rounds=ROUNDS, seconds=SECONDS)
    return {
        name: {
            "stamps_per_core_s": round(float(np.median(found)), 1),
            "stamps_per_core_s_range": [round(min(found), 1), round(max(found), 1)],
        }
        for name, found in speeds.items()
    }
