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
from torch import Tensor

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data import pixels
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Camera, Injected
from darkhaloscope.ml.sources import SourceBank

SEEN_THROUGH_A_LENS = ("lens", "single_image")


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
    columns = _columns(rows, hosts, injected, config.bands)
    columns["pixels"] = pixels.encode(_numpy(injected.pixels))
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


def _columns(
    rows: pa.Table, hosts: pa.Table, injected: Injected, bands: tuple[str, ...]
) -> dict[str, Any]:
    """Every column but the pixels."""
    schema = schemas.stamps(bands)
    from_manifest = {n: rows[n] for n in schema.names if n in rows.column_names}
    from_hosts = [f"{name}_{b}{unit}" for b in bands for name, unit in _OF_HOSTS]
    columns: dict[str, Any] = {**from_manifest, **{name: hosts[name] for name in from_hosts}}
    through_lens = pc.is_in(rows["kind"], value_set=pa.array(SEEN_THROUGH_A_LENS)).to_numpy()
    for name in ("theta_e_arcsec", "theta_e_over_fwhm_r", "theta_e_over_psfsize_r"):
        columns[name] = np.where(through_lens, _values(rows[name]), np.nan)
    columns["magnification"] = _numpy(injected.magnification)
    columns["injected_inside_share"] = _numpy(injected.inside_share)
    for place, band in enumerate(bands):
        columns |= {
            f"injected_flux_{band}_nmgy": _numpy(injected.injected_flux)[:, place],
            f"arc_snr_{band}": _numpy(injected.arc_snr)[:, place],
            f"arc_snr_mf_{band}": _numpy(injected.arc_snr_mf)[:, place],
            f"arc_snr_peak_{band}": _numpy(injected.arc_snr_peak)[:, place],
        }
        for at, name in enumerate(schemas.ARC_APERTURES_ARCSEC):
            columns[f"arc_flux_{name}_{band}_nmgy"] = _numpy(injected.aperture_flux)[:, place, at]
    columns["src_mag_r"] = _numpy(injected.src_mag)[:, bands.index("r")]
    visible = injection.ground_visible(
        columns["theta_e_arcsec"],
        _values(rows["src_r_eff_arcsec"]),
        columns["magnification"],
        _values(hosts["psf_fwhm_r_arcsec"]),
        _numpy(injected.arc_snr).max(1),
    )
    is_lens = pc.equal(rows["kind"], "lens").to_numpy()
    columns["ground_visible"] = pa.array(visible, mask=~is_lens)
    return columns


_OF_HOSTS = (("psf_fwhm", "_arcsec"), ("depth", "_mag"), ("sky_median", "_nmgy"))


def _typed(values: Any, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """Numbers as the schema has them; NaN is null where the column may be."""
    if isinstance(values, np.ndarray):
        return pa.array(values, field.type, mask=np.isnan(values) if field.nullable else None)
    return values


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()


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
