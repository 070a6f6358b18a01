"""Scores: what a trained network says to each stamp of a set, with all that evaluation needs.

In:  the model; for val, calib and test, stamps, and the cutouts of their galaxies without pixels
     where the network is told of them; for sky, manifest (kind `sky`) and cutouts.
Out: scores, one row per stamp or target, in the order of the input.

The sky is scored straight from the cutouts: their central pixels with nothing painted are what the
stage `stamps` would write, so that a survey is not stored twice. Logits are computed and kept in
float32: a probability would saturate, and tie the candidates that matter most.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, Stage, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.scores import ScoresConfig
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml import inputs, saved
from darkhaloscope.ml.pixel_table import Ids, PixelTable

CHUNK_ROWS = 2048  # 160 MB of cutouts of 80 px in three bands
INJECTED = ("val", "calib", "test")


def run(
    *,
    model: TrainedModel,
    device: Device,
    config: ScoresConfig,
    stamps: pa.Table | None = None,
    manifest: pa.Table | None = None,
    cutouts: pa.Table | None = None,
    hosts: pa.Table | None = None,
) -> pa.Table:
    """Score one set of one tile.

    Args:
        model: The trained network.
        device: Where it computes.
        config: Settings.
        stamps: Of the set; None for the sky.
        manifest: For the sky: its rows of kind `sky` are scored.
        cutouts: For the sky: the targets' pixels.
        hosts: For stamps: the cutouts of their galaxies, without pixels; None: the network is told
            nothing beside the pixels.

    Raises:
        DataError: there is nothing to score; the pixels are not such as the model was trained on; a
            row has no pixels, lacks what the network is told, or has a logit that is not finite.
    """
    if stamps is not None:
        if stamps.num_rows == 0:
            return schemas.empty(schemas.scores(config.bands))
        table = PixelTable.of_table(stamps, of="stamp_id", device=device)
        positions = table.positions(stamps["stamp_id"].to_numpy())
        logits = _logits(table, positions, (stamps, hosts), model, device, config)
        return _table(stamps, logits, config, sky=False)
    if manifest is None or cutouts is None:
        raise DataError("scores needs stamps, or for the sky manifest and cutouts; got neither")
    rows = manifest.filter(pc.equal(manifest["kind"], "sky"))
    if rows.num_rows == 0:
        return schemas.empty(schemas.scores(config.bands))
    table = PixelTable.of_table(cutouts, of="target_id", device=device)
    positions = table.positions(rows["target_id"].to_numpy())
    beside = table.heads.take(pa.array(positions))
    for name in beside.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(beside.field(name), beside[name])
    logits = _logits(table, positions, (rows, table.heads), model, device, config)
    return _table(rows, logits, config, sky=True)


def _logits(
    table: PixelTable,
    positions: Ids,
    galaxies: tuple[pa.Table, pa.Table | None],
    model: TrainedModel,
    device: Device,
    config: ScoresConfig,
) -> np.ndarray:
    """Logits of the rows at `positions`, shape (n,), float32; `galaxies`: rows, their cutouts."""
    network = saved.load(model.folder, device=device.name)
    network.check(table.layout)
    told = _told(*galaxies, network.description.inputs)
    before = torch.get_num_threads()
    torch.set_num_threads(device.threads)
    try:
        parts = []
        for start in range(0, len(positions), config.batch_rows):
            part = slice(start, start + config.batch_rows)
            raw = table.raw(positions[part])
            extra = None if told is None else sent(told[part], raw.pixels.device)
            parts.append(network.logits(raw.pixels, raw.sky_median, extra).cpu().numpy())
    finally:
        torch.set_num_threads(before)
    return np.concatenate(parts)


def _told(rows: pa.Table, hosts: pa.Table | None, names: tuple[str, ...]) -> inputs.Values | None:
    """What the network is told of each row beside the pixels, (n, k)."""
    if names and hosts is None:
        raise DataError(f"the network is told {', '.join(names)}, and scores got no cutouts")
    return None if hosts is None else inputs.of_galaxies(rows, hosts, names)


def _table(rows: pa.Table, logits: np.ndarray, config: ScoresConfig, *, sky: bool) -> pa.Table:
    """The scores, with the columns that `rows` have; what does not apply to the sky is null."""
    schema = schemas.scores(config.bands)
    made = {"set": pa.repeat("sky", len(logits)) if sky else rows["split"], "logit": logits}
    columns = []
    for field in schema:
        if field.name in made:
            columns.append(made[field.name])
        elif field.name in rows.column_names and not (sky and field.name in _OF_INJECTIONS):
            columns.append(rows[field.name])
        else:
            columns.append(pa.nulls(len(logits), field.type))
    return pa.table(columns, schema=schema)


# The manifest has these columns for the kinds that it injects; a target as observed has none.
_OF_INJECTIONS = ("theta_e_arcsec", "theta_e_over_fwhm_r", "theta_e_over_psfsize_r", "src_mag_r")


def _stamps_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of stamps."""
    sky = [f"sky_median_{b}_nmgy" for b in bands]
    return _chosen(schemas.stamps(bands), [*schemas.scores(bands).names, *sky, "pixels"])


def _cutouts_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of cutouts."""
    sky = [f"sky_median_{b}_nmgy" for b in bands]
    return _chosen(
        schemas.cutouts(bands), ["target_id", *schemas.extra_inputs(bands), *sky, "pixels"]
    )


def _hosts_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the cutouts of stamps' galaxies."""
    return _chosen(schemas.cutouts(bands), ["target_id", *schemas.extra_inputs(bands)])


def _manifest_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the manifest."""
    return _chosen(schemas.manifest(bands), schemas.scores(bands).names)


def _chosen(schema: pa.Schema, names: list[str]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name in names])


STAGE = Stage(
    name="scores",
    version=2,
    run=run,
    inputs=(
        Input("stamps", _stamps_read, for_sets=INJECTED),
        Input("manifest", _manifest_read, rows="own set", for_sets=("sky",)),
        Input("cutouts", _cutouts_read, rows="of chunk", for_sets=("sky",)),
        Input("cutouts", _hosts_read, rows="of chunk", for_sets=INJECTED, handed_as="hosts"),
        Input("model", schemas.scores, scope="whole", is_handed=False),
    ),
    output=schemas.scores,
    partition="model/set/tile",
    chunk_rows=CHUNK_ROWS,
    needs=("model", "device"),
)
