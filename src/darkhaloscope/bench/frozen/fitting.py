"""Train a recipe on the benchmark's galaxies, and ask what was trained.

A training's folder is named by all that it follows from. It holds the checkpoint of `ml.fit` while
the training goes on, and the weights once it has ended: the same call continues what was killed,
and reads what was finished.
"""

import hashlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from darkhaloscope.bench.frozen import recipes, teaching, trivial
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.recipes import Recipe
from darkhaloscope.bench.frozen.scoring import Asked, Logits, Scorer, Workplace
from darkhaloscope.bench.frozen.sets import Chunk
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml import fit, heads, inputs, networks
from darkhaloscope.ml.recipe import Epoch
from darkhaloscope.ml.transforms import Normalisation

ENDED, WEIGHTS, PUBLISHED = "ended.json", "weights.npz", "model"
PROBE_STEPS = {"cpu": 24, "cuda": 300}
ASKED_AT_ONCE = 512  # stamps; the widest network holds 1 MB of maps for each
VALIDATION_SPEED = 3.0  # stamps judged in the time of one that is learnt from

log = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Trained:
    """A recipe whose training has ended.

    Attributes:
        recipe: It.
        folder: Of its training.
        minutes: Of training, on the wall.
        sha256: Of its weights; of the trivial model of what they follow from.
        epoch: Figures of the epoch that is kept; empty: no network.
    """

    recipe: Recipe
    folder: Path
    minutes: float
    sha256: str
    epoch: Mapping[str, Any]


def trained(definition: Definition, recipe: Recipe, at: Workplace) -> Trained:
    """Train a recipe, from where an earlier call was stopped."""
    folder = at.trainings / f"{recipes.key(recipe)}-{_follows_from(definition, recipe)[:8]}"
    ended = folder / ENDED
    if not ended.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if recipe.is_trivial:
            made = _trivial(definition, recipe)
        else:
            made = _network(definition, recipe, folder, at)
        _write(ended, json.dumps(made, indent=1) + "\n")
        for rest in folder.glob("*.ckpt"):  # several times the weights
            rest.unlink()
    return Trained(recipe, folder, **json.loads(ended.read_text(encoding="utf-8")))


def asked(definition: Definition, one: Trained, at: Workplace) -> Asked:
    """What was trained, to be asked for scores."""
    return Asked(one.sha256, partial(_scorer, definition, one, at))


def _scorer(definition: Definition, one: Trained, at: Workplace) -> Scorer:
    if one.recipe.is_trivial:
        model = _fitted_trivial(definition, one.recipe, at)
        return partial(_trivial_logits, model, _units(one.recipe))
    network = _untrained(definition, one.recipe)
    with np.load(one.folder / WEIGHTS) as held:
        network.load_state_dict({key: torch.from_numpy(held[key]) for key in held.files})
    network.requires_grad_(requires_grad=False).eval().to(at.device.name)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return partial(_logits, network, _normalisation(definition, one.recipe), one.recipe.inputs)


def stamps_in(definition: Definition, recipe: Recipe, minutes: float, at: Workplace) -> int:
    """Stamps that a training of so many minutes holds here; measured once, then remembered."""
    of = f"{recipes.key(recipe)}-{definition.name}-{minutes:g}-minutes-{at.device.name}.json"
    held = at.trainings / of
    if held.exists():
        return int(json.loads(held.read_text(encoding="utf-8"))["stamps"])
    rate, judged = _rate(definition, recipe, at)
    learnt = 60 * minutes * rate - recipe.epochs * judged / VALIDATION_SPEED
    stamps = max(int(learnt), recipe.batch_size)
    log.info("%s: %.0f stamps/s, so %d stamps in %g minutes", recipe.name, rate, stamps, minutes)
    at.trainings.mkdir(parents=True, exist_ok=True)
    _write(held, json.dumps({"stamps": stamps, "stamps_per_s": rate}) + "\n")
    return stamps


def _rate(definition: Definition, recipe: Recipe, at: Workplace) -> tuple[float, int]:
    """Stamps a second of the second epoch of a short training, and stamps of the validation."""
    steps = PROBE_STEPS["cpu" if at.device.name == "cpu" else "cuda"]
    probe = replace(recipe, stamps=2 * steps * recipe.batch_size, epochs=2)
    training = teaching.training(definition, probe, folder=at.sources, device=at.device)
    judged = training.validation
    few = judged.rows.slice(0, 4 * recipe.batch_size)
    extra = None if judged.extra is None else judged.extra[: few.num_rows]
    with tempfile.TemporaryDirectory() as scratch:
        fitted = fit.fit(
            _untrained(definition, probe),
            training.source,
            replace(judged, rows=few, extra=extra),
            recipe=probe.how(),
            scratch=Path(scratch),
            device=at.device,
        )
    last = fitted.history[-1]
    return (last.stamps + few.num_rows / VALIDATION_SPEED) / last.seconds, judged.rows.num_rows


def _network(definition: Definition, recipe: Recipe, folder: Path, at: Workplace) -> dict[str, Any]:
    training = teaching.training(definition, recipe, folder=at.sources, device=at.device)
    log.info("%s: training on %d stamps", recipe.name, recipe.epoch_stamps * recipe.epochs)
    fitted = fit.fit(
        _untrained(definition, recipe),
        training.source,
        training.validation,
        recipe=recipe.how(),
        scratch=folder,
        device=at.device,
    )
    _save(folder / WEIGHTS, fitted.best)
    if importlib.util.find_spec("safetensors") is not None:
        _publish(definition, recipe, fitted, folder / PUBLISHED)
    seconds = sum(epoch.seconds for epoch in fitted.history)
    return {
        "minutes": round(seconds / 60, 2),
        "sha256": sha256(fitted.best),
        "epoch": _figures(fitted.chosen, len(fitted.history)),
    }


def _trivial(definition: Definition, recipe: Recipe) -> dict[str, Any]:
    """The trees are fitted when they are asked: they take a minute, and are the same again."""
    return {"minutes": 0.0, "sha256": _follows_from(definition, recipe), "epoch": {}}


def _fitted_trivial(definition: Definition, recipe: Recipe, at: Workplace) -> trivial.Fitted:
    source = teaching.training(definition, recipe, folder=at.sources, device=at.device).source
    shown = replace(source, normalise=cast("Normalisation", _units(recipe)))
    log.info("%s: fitting on %d stamps", recipe.name, recipe.epoch_stamps)
    return trivial.learnt(shown.batches(0))


def _units(recipe: Recipe) -> trivial.InUnits:
    return trivial.InUnits(tuple(recipe.softening_nmgy.values()))


def _trivial_logits(model: trivial.Fitted, units: trivial.InUnits, chunk: Chunk) -> Logits:
    stamps = units(chunk.raw.pixels, chunk.raw.sky_median).cpu().numpy()
    return model.score(np.ascontiguousarray(stamps, np.float32)).astype(np.float32)


def _logits(
    network: networks.Network, normalise: Normalisation, names: tuple[str, ...], chunk: Chunk
) -> Logits:
    """Logits of a chunk's stamps, (n,), in float32."""
    raw = inputs.of_table(chunk.heads, names, of="target_id")
    parts = []
    with torch.inference_mode():
        for start in range(0, chunk.rows.num_rows, ASKED_AT_ONCE):
            part = slice(start, start + ASKED_AT_ONCE)
            stamps = normalise(chunk.raw.pixels[part], chunk.raw.sky_median[part])
            side_by_side = stamps.contiguous(memory_format=torch.channels_last)
            told: tuple[Tensor, ...] = ()
            if raw is not None:
                told = (inputs.normalised(sent(raw[part], stamps.device), names),)
            parts.append(heads.lens_logit(network(side_by_side, *told)).float().cpu().numpy())
    return np.concatenate(parts)


def _untrained(definition: Definition, recipe: Recipe) -> networks.Network:
    classes = heads.classes_of(cast("heads.Head", recipe.head), recipe.mix)
    return networks.make(
        recipe.network,
        bands=len(definition.bands),
        seed=recipe.seed,
        outputs=max(1, len(classes)),
        inputs=len(recipe.inputs),
    )


def _normalisation(definition: Definition, recipe: Recipe) -> Normalisation:
    softening = tuple(recipe.softening_nmgy[band] for band in definition.bands)
    return Normalisation(cast("Any", recipe.normalisation), softening)


def _publish(definition: Definition, recipe: Recipe, fitted: fit.Fitted, folder: Path) -> None:
    """The model as every other command reads it."""
    from darkhaloscope.ml import saved

    description = saved.Description(
        network=recipe.network,
        bands=definition.bands,
        pixel_scale_arcsec=definition.pixel_scale_arcsec,
        size_px=definition.size_px,
        normalisation=_normalisation(definition, recipe),
        training_digest=_follows_from(definition, recipe),
        epoch=fitted.chosen.epoch,
        metrics={name: getattr(fitted.chosen, name) for name in saved.METRICS},
        classes=heads.classes_of(cast("heads.Head", recipe.head), recipe.mix),
        inputs=recipe.inputs,
    )
    saved.save(folder, description, fitted.best, fitted.last)


def _figures(epoch: Epoch, epochs: int) -> dict[str, Any]:
    """What the training itself says of the epoch that is kept."""
    return {
        "epoch": epoch.epoch,
        "of_epochs": epochs,
        "stamps_seen": epoch.stamps_seen,
        "val_loss": epoch.val_loss,
        "val_auroc": epoch.val_auroc,
    }


def sha256(weights: Weights) -> str:
    """Of weights, by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name].cpu().numpy()).tobytes())
    return digest.hexdigest()


def _follows_from(definition: Definition, recipe: Recipe) -> str:
    return recipes.sha256_of([definition.sha256, recipe.sha256, recipe.seed])


def _save(path: Path, weights: Weights) -> None:
    """Weights as arrays of numpy: on a bare GPU machine there is nothing else."""
    partial_file = path.with_name(f"partial-{path.name}")
    arrays = {name: value.cpu().numpy() for name, value in weights.items()}
    np.savez(partial_file, **cast("Any", arrays))
    partial_file.replace(path)


def _write(path: Path, text: str) -> None:
    partial_file = path.with_name(f"{path.name}.partial")
    partial_file.write_text(text, encoding="utf-8")
    partial_file.replace(path)
