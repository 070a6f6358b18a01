"""Model: train one network.

In:  splits, manifest (train), cutouts; stamps (val, and train where `data = "stamps"`).
Out: a folder with weights of the best and the last epoch, `model.json`, history and log.

With `data = "cutouts"` no epoch sees an injection of another: the galaxies and kinds are those of
the manifest, everything else is drawn again and painted while the network trains. Pixels are read
from storage once, a block at a time. A killed run continues from its last epoch in `scratch`.
"""

import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, PixelSource, Scratch, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.ml import fresh, networks, saved
from darkhaloscope.ml.batches import Drawn, Fixed, Plan, crew_of, cut
from darkhaloscope.ml.fit import LOG_FILE, Fitted, fit
from darkhaloscope.ml.pixel_table import Ids, PixelTable, Raw
from darkhaloscope.ml.recipe import Recipe
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.ml.transforms import Normalisation

HISTORY = "history.csv"
RECIPE = (
    "max_epochs", "learning_rate", "weight_decay", "warmup_steps", "schedule", "ema_decay",
    "patience", "monitor", "gradient_clip", "positive_weight", "precision",
)  # fmt: skip


def run(
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

    Raises:
        DataError: train or val lack what is needed, or a loss is not finite.
    """
    normalise = Normalisation(config.normalisation, _softening(config))
    shelf = partial(_shelf, pixels=pixels, folder=scratch.path, device=device, config=config)
    if config.data == "cutouts":
        rows = _labelled(manifest, "train", config)
        training = _fresh(rows, splits, cutouts, shelf, normalise, device, config, sources)
    else:
        rows = _labelled(stamps, "train", config)
        stored = shelf(rows, of="stamp_id")
        make = cut(partial(_raw, stored), config.stamps.size_px)
        training = Drawn(rows, _as_they_are, make, _plan(config), normalise)
    judged = _labelled(stamps, "val", config)
    held = partial(_raw, shelf(judged, of="stamp_id"))
    validation = Fixed(judged, held, config.batch_size, config.stamps.size_px, normalise)
    network = networks.make(config.network, bands=len(config.bands), seed=config.seed)
    recipe = Recipe(**config.model_dump(include=set(RECIPE)))
    fitted = fit(network, training, validation, recipe=recipe, scratch=scratch.path, device=device)
    return _published(fitted, normalise, scratch, config)


def _fresh(
    rows: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    shelf: partial[PixelTable],
    normalise: Normalisation,
    device: Device,
    config: ModelConfig,
    sources: SourceBank | None,
) -> Drawn:
    """Injections drawn again for every epoch, on the galaxies of `rows`."""
    galaxies = pc.unique(rows["target_id"])
    used = splits.filter(pc.is_in(splits["target_id"], value_set=galaxies))
    held = cutouts.filter(pc.is_in(cutouts["target_id"], value_set=galaxies))
    has_psfs = config.stamps.psf_profile == "image"
    injections = fresh.Injections(
        used,
        shelf(held, of="target_id"),
        config.manifest,
        config.stamps,
        margin_px=config.max_shift_px,
        device=device,
        psfs=shelf(held, of="target_id", what="psf_images") if has_psfs else None,
        sources=sources,
    )
    return Drawn(
        rows, injections.redraw, injections.make, _plan(config), normalise, crew_of(device)
    )


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
    """The pixels of some rows of stamps or cutouts, or the cutouts' PSF images, read once."""
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


def _plan(config: ModelConfig) -> Plan:
    return Plan(
        batch_size=config.batch_size,
        epoch_stamps=config.epoch_stamps,
        mix=config.mix,
        max_shift_px=config.max_shift_px,
        size_px=config.stamps.size_px,
        seed=config.seed,
    )


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
    names = ["stamp_id", "split", "kind", "label", *(f"sky_median_{b}_nmgy" for b in bands)]
    return pa.schema([field for field in schemas.stamps(bands) if field.name in names])


STAGE = Stage(
    name="model",
    version=3,
    run=run,
    inputs=(
        Input("splits", schemas.splits, scope="whole"),
        Input("cutouts", _cutouts_read, scope="whole"),
        Input("manifest", schemas.manifest, scope="whole"),
        Input("stamps", _stamps_read, scope="whole", sets=("train", "val")),
    ),
    output=None,
    partition="model",
    needs=("pixels", "scratch", "device", "sources"),
    after=("gates",),
)
