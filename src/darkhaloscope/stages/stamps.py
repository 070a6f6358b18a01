"""Stamps: paint each row of the manifest onto the pixels of its target.

In:  manifest, the rows of one set and tile; cutouts, the pixels of their targets.
Out: stamps, one row per row of the manifest that is no `sky`: pixels, label, what was injected.

Rows of `sky` are the cutouts themselves and are scored from there. A `companion` shows no lens, so
what describes one is null in its row here, though the manifest holds the lens that it copies.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data import pixels
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Camera
from darkhaloscope.ml.painted_columns import columns_of
from darkhaloscope.ml.sources import SourceBank


def run(
    manifest: pa.Table,
    cutouts: pa.Table,
    *,
    device: Device,
    config: StampsConfig,
    sources: SourceBank | None = None,
) -> pa.Table:
    """Make stamps, `config.batch_rows` at a time.

    Raises:
        DataError: a row's target has no usable cutout, or a stamp is not finite.
    """
    rows = manifest.filter(pc.not_equal(manifest["kind"], "sky"))
    rows = rows.filter(pc.is_in(rows["split"], value_set=pa.array(config.sets, pa.string())))
    layout = pixels.Layout(config.bands, config.size_px, config.pixel_scale_arcsec)
    schema = schemas.stamps(config.bands)
    schema = schema.set(schema.get_field_index("pixels"), layout.field())
    if not rows.num_rows:
        return schema.empty_table()
    at = pc.index_in(rows["target_id"], value_set=cutouts["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} manifest rows have no cutout; rerun stage manifest")
    hosts = cutouts.take(at)
    has_pictures = rows["src_picture"].null_count < rows.num_rows
    bank = sources.bank(device.name) if sources is not None and has_pictures else None
    injected = injection.paint_rows(
        rows,
        hosts.drop_columns(["pixels"]),
        pixels.decode(hosts["pixels"], pixels.layout_of(cutouts.field("pixels"))),
        camera=camera(config),
        seed=config.seed,
        device=device.name,
        bank=bank,
    )
    columns = columns_of(rows, hosts, injected, config.bands)
    columns["pixels"] = pixels.encode(injected.pixels.cpu().numpy())
    return pa.table([_typed(columns[f.name], f) for f in schema], schema=schema)


def camera(config: StampsConfig) -> Camera:
    """How light becomes pixels, as the settings say."""
    return Camera(
        bands=config.bands,
        pixel_scale_arcsec=config.pixel_scale_arcsec,
        size_px=config.size_px,
        psf_profile=config.psf_profile,
        psf_beta=config.psf_beta,
        electrons_per_nmgy_per_exposure=config.electrons_per_nmgy_per_exposure,
        batch_rows=config.batch_rows,
    )


def _typed(values: Any, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """Numbers as the schema has them; NaN is null where the column may be."""
    if isinstance(values, np.ndarray):
        return pa.array(values, field.type, mask=np.isnan(values) if field.nullable else None)
    return values


STAGE = Stage(
    name="stamps",
    version=5,
    run=run,
    inputs=(
        Input("manifest", schemas.manifest, rows="own set"),
        Input("cutouts", schemas.cutouts, rows="of chunk"),
    ),
    output=schemas.stamps,
    partition="set/tile",
    chunk_rows=512,
    needs=("device", "sources"),
)
