"""Model: train one network.

In:  splits, manifest (train), cutouts; stamps (val, and train where `data = "stamps"`); mined of
     all earlier rounds.
Out: a folder with weights of the best and the last epoch, `model.json`, history and log.

With `data = "cutouts"` no epoch sees an injection of another: the galaxies and kinds are those of
the manifest, everything else is drawn again and painted while the network trains. Pixels are read
from storage once, a block at a time. A killed run continues from its last epoch in `scratch`.

Galaxies that earlier rounds took for lenses are trained on as observed, label 0, each with its own
weight in the loss; those up for review or left out are not trained on at all. A round after the
first begins afresh or with the weights of the round before, as the run's file says, and draws
injections that no earlier round saw.

One process trains, on all cores or one GPU; `dhs run` refuses to be started by torchrun, as every
process would write every table. Several processes train one network where a script of one's own
calls `darkhaloscope.ml.fit.fit` in each of them, on one machine with
`torchrun --nproc-per-node 4 script.py`: each makes its part of every batch, which stays that of one
process, as does the loss; GPUs talk by NCCL, CPUs by gloo. All get the same weights back, for the
first, `ml.processes.of_environment().is_first`, to write with `ml.saved.save`.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import (
    Device,
    Input,
    PixelSource,
    Scratch,
    Stage,
    TrainedModel,
)
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml import fresh, heads, inputs, levers, networks, saved
from darkhaloscope.ml.batches import Drawn, Fixed, Plan, crew_of, cut
from darkhaloscope.ml.fit import LOG_FILE, Fitted, fit
from darkhaloscope.ml.levers import Weights
from darkhaloscope.ml.mined_rows import training_rows
from darkhaloscope.ml.pixel_table import Ids, PixelTable, Raw, View
from darkhaloscope.ml.processes import of_environment
from darkhaloscope.ml.recipe import Recipe
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.ml.transforms import Normalisation

HISTORY = "history.csv"
RECIPE = (
    "max_epochs", "learning_rate", "weight_decay", "warmup_steps", "schedule", "ema_decay",
    "patience", "monitor", "gradient_clip", "positive_weight", "precision",
)  # fmt: skip


def run(  # noqa: PLR0913  (what training is made of, by name)
    *,
    splits: pa.Table,
    cutouts: pa.Table,
    manifest: pa.Table,
    stamps: pa.Table,
    pixels: PixelSource,
    scratch: Scratch,
    device: Device,
    config: ModelConfig,
    sources: SourceBank | None = None,
    mined: pa.Table | None = None,
    model: TrainedModel | None = None,
    partition: str = "",
) -> Path:
    """Train, and return the folder to publish.

    Args:
        splits: All targets; those of train are drawn from.
        cutouts: All cutouts without their pixels.
        manifest: All rows; those of train say which galaxy plays which kind.
        stamps: Of val, and of train where they are trained on, without their pixels.
        pixels: Where the pixels of cutouts and stamps are.
        scratch: Holds the training's state and what is published.
        device: Where it trains.
        config: Settings.
        sources: Pictures of galaxies, where the manifest's settings ask for any.
        mined: What all earlier rounds mined; None in the first.
        model: The network of the round before; None in the first.
        partition: `NAME/round=k`; empty: the first round.

    Raises:
        DataError: train or val lack what is needed, what was mined cannot be trained on, or a loss
            is not finite.
    """
    device = of_environment().device_of(device)
    normalise = Normalisation(config.normalisation, _softening(config))
    classes = heads.classes_of(config.head, config.mix)
    shelf = partial(_shelf, pixels=pixels, folder=scratch.path, device=device, config=config)
    added = training_rows(mined, manifest, splits)
    taken = manifest if config.data == "cutouts" else stamps
    rows = added.without_left_out(_labelled(taken, "train", config))
    negatives = added.taken(config.mix)
    weights = np.concatenate([np.ones(rows.num_rows, np.float32), negatives.weights])
    joined = _joined(rows, negatives.rows)
    plan = _plan(config, has_mined=negatives.rows.num_rows > 0)
    drawn = partial(
        Drawn,
        joined,
        plan=plan,
        normalise=normalise,
        weights=weights * _of_kinds(joined, plan, config),
        curriculum=_curriculum(plan, config),
        classes=classes,
        round=_round(partition),
        extra=inputs.seen_of(joined, cutouts, config.inputs),
    )
    if config.data == "cutouts":
        made = _injections(joined, splits, cutouts, shelf, device, config, sources)
        training = drawn(made.redraw, made.make, crew=crew_of(device))
    else:
        make = cut(_stored(rows, negatives.rows, cutouts, shelf), config.stamps.size_px)
        training = drawn(_as_they_are, make)
    judged = _labelled(stamps, "val", config)
    held = partial(_raw, shelf(judged, of="stamp_id", what="val_pixels"))
    validation = Fixed(
        judged,
        held,
        config.batch_size,
        config.stamps.size_px,
        normalise,
        classes=classes,
        extra=inputs.seen_of(judged, cutouts, config.inputs),
    )
    network = networks.make(
        config.network,
        bands=len(config.bands),
        seed=config.seed,
        outputs=max(1, len(classes)),
        inputs=len(config.inputs),
    )
    if model is not None and config.round_start == "previous":
        network.load_state_dict(saved.load(model.folder).network.state_dict())
    recipe = Recipe(**config.model_dump(include=set(RECIPE)), **_of_loss(config))
    fitted = fit(network, training, validation, recipe=recipe, scratch=scratch.path, device=device)
    return _published(fitted, normalise, scratch, config)


def _round(partition: str) -> int:
    """The round of mining in `NAME/round=k`."""
    return int(partition.rpartition("round=")[2] or 0)


def _injections(
    rows: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    shelf: partial[PixelTable],
    device: Device,
    config: ModelConfig,
    sources: SourceBank | None,
) -> fresh.Injections:
    """Draws and paints injections on the galaxies of `rows`."""
    galaxies = pc.unique(rows["target_id"])
    used = splits.filter(pc.is_in(splits["target_id"], value_set=galaxies))
    held = cutouts.filter(pc.is_in(cutouts["target_id"], value_set=galaxies))
    has_psfs = config.stamps.psf_profile == "image"
    return fresh.Injections(
        used,
        shelf(held, of="target_id"),
        config.manifest,
        config.stamps,
        margin_px=config.max_shift_px,
        device=device,
        psfs=shelf(held, of="target_id", what="psf_images") if has_psfs else None,
        sources=sources,
    )


def _stored(
    rows: pa.Table, negatives: pa.Table, cutouts: pa.Table, shelf: partial[PixelTable]
) -> Callable[[pa.Table], Raw]:
    """Stamps as they were written; of mined galaxies, the middle of their cutouts."""
    stamps = shelf(rows, of="stamp_id")
    if not negatives.num_rows:
        return partial(_raw, stamps)
    of_mined = pc.is_in(cutouts["target_id"], value_set=pc.unique(negatives["target_id"]))
    observed = shelf(cutouts.filter(of_mined), of="target_id")
    size = stamps.layout.size
    edge = (observed.layout.size - size) // 2

    def make(part: pa.Table) -> Raw:
        is_mined = pc.equal(part["kind"], schemas.MINED).to_numpy()
        places = [np.flatnonzero(~is_mined), np.flatnonzero(is_mined)]
        written, seen = (part.take(pa.array(place)) for place in places)
        at = observed.positions(seen["target_id"].to_numpy())
        both = _raw(stamps, written), observed.raw(at, View(size, np.full((len(at), 2), edge)))
        order = sent(np.argsort(np.concatenate(places)), both[0].pixels.device)
        return Raw(*(torch.cat(values)[order] for values in zip(*both, strict=True)))

    return make


def _joined(rows: pa.Table, negatives: pa.Table) -> pa.Table:
    """Training rows with the mined ones after them, with the columns that both have."""
    if not negatives.num_rows:
        return rows
    rows = rows.select([name for name in rows.column_names if name in negatives.column_names])
    return pa.concat_tables([rows, negatives.select(rows.column_names).cast(rows.schema)])


def _labelled(table: pa.Table, split: str, config: ModelConfig) -> pa.Table:
    """Rows of a split that can be learnt from or judged by, of any labelled kind."""
    kept = table.filter(pc.and_(pc.equal(table["split"], split), pc.is_valid(table["label"])))
    if not kept.num_rows:
        source = "manifest" if split == "train" and config.data == "cutouts" else "stamps"
        raise DataError(
            f"{source} has no rows of {split} with a label: check the shares in [splits], the "
            f"{split} set in [manifest.sets], and stamps.sets"
        )
    return kept


def _shelf(
    heads: pa.Table, *, of: str, what: str = "pixels", pixels: PixelSource, folder: Path,
    device: Device, config: ModelConfig,
) -> PixelTable:  # fmt: skip
    """The pixels of some rows of stamps or cutouts, or the cutouts' PSF images, read once.

    Where they are many they are kept in a file that `of` and `what` name: no two may share it.
    """
    of_cutouts = pixels.psf_images if what == "psf_images" else pixels.cutouts
    return PixelTable.fetched(
        heads,
        pixels.stamps if of == "stamp_id" else of_cutouts,
        of=of,
        what=what,
        pixel_scale_arcsec=config.pixel_scale_arcsec,
        bands=config.bands,
        folder=folder,
        device=device,
    )


def _raw(table: PixelTable, rows: pa.Table) -> Raw:
    return table.raw(table.positions(rows["stamp_id"].to_numpy()))


def _as_they_are(rows: pa.Table, _before: Ids) -> pa.Table:
    return rows


def _softening(config: ModelConfig) -> tuple[float, ...]:
    return tuple(config.softening_nmgy.get(band, 1.0) for band in config.bands)


def _plan(config: ModelConfig, *, has_mined: bool) -> Plan:
    mix = {kind: n for kind, n in config.mix.items() if has_mined or kind != schemas.MINED}
    return Plan(
        batch_size=config.batch_size,
        epoch_stamps=config.epoch_stamps,
        mix=mix,
        max_shift_px=config.max_shift_px,
        size_px=config.stamps.size_px,
        seed=config.seed,
    )


def _of_kinds(rows: pa.Table, plan: Plan, config: ModelConfig) -> Weights:
    """Weight of each training row by its kind, (n,); 1 but with a loss that balances kinds."""
    kinds = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    if config.balance_beta is None:
        return np.ones(len(kinds), np.float32)
    return levers.of_kinds(kinds, levers.class_balanced(plan.taken, config.balance_beta))


def _curriculum(plan: Plan, config: ModelConfig) -> levers.Curriculum | None:
    """Which lenses count in the first steps; None: all."""
    asked = config.curriculum
    if asked is None:
        return None
    steps = max(1, round(asked.share * config.max_epochs * plan.steps))
    return levers.Curriculum(asked.theta_e_over_fwhm_r, asked.arc_snr, steps)


def _of_loss(config: ModelConfig) -> dict[str, Any]:
    """The loss's own settings, as far as they are given."""
    names = ("loss", "focal_gamma", "tail_weight", "tail_share")
    return config.model_dump(include=set(names), exclude_none=True)


def _published(
    fitted: Fitted, normalise: Normalisation, scratch: Scratch, config: ModelConfig
) -> Path:
    """Write what others read; the checkpoints stay behind."""
    folder = scratch.path / "published"
    chosen = fitted.chosen
    description = saved.Description(
        network=config.network,
        bands=config.bands,
        pixel_scale_arcsec=config.pixel_scale_arcsec,
        size_px=config.stamps.size_px,
        normalisation=normalise,
        training_digest=scratch.path.name,
        epoch=chosen.epoch,
        metrics={name: getattr(chosen, name) for name in saved.METRICS},
        classes=heads.classes_of(config.head, config.mix),
        inputs=config.inputs,
    )
    saved.save(folder, description, fitted.best, fitted.last)
    for name in (HISTORY, LOG_FILE):
        shutil.copyfile(scratch.path / name, folder / name)
    return folder


def _cutouts_read(bands: schemas.Bands) -> pa.Schema:
    """Cutouts without their pixels, which come through the resource `pixels`."""
    return schemas.cutouts_head(bands)


def _stamps_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of stamps."""
    sky = [f"sky_median_{b}_nmgy" for b in bands]
    names = ["stamp_id", "target_id", "split", "kind", "label", *sky]
    return pa.schema([field for field in schemas.stamps(bands) if field.name in names])


STAGE = Stage(
    name="model",
    version=5,
    run=run,
    inputs=(
        Input("splits", schemas.splits, scope="whole"),
        Input("cutouts", _cutouts_read, scope="whole"),
        Input("manifest", schemas.manifest, scope="whole"),
        Input("stamps", _stamps_read, scope="whole", sets=("train", "val")),
        Input("mined", schemas.mined, scope="whole", rounds="before"),
        Input("model", schemas.mined, scope="whole", rounds="previous", is_handed=False),
    ),
    output=None,
    partition="model",
    needs=("pixels", "scratch", "device", "sources", "model", "partition"),
    after=("gates",),
)
