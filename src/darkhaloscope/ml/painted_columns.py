"""Columns of painted stamps: what was injected into each, and what its host's data are like."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from darkhaloscope.core import schemas
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Injected

SEEN_THROUGH_A_LENS = ("lens", "single_image")


def columns_of(
    rows: pa.Table, hosts: pa.Table, injected: Injected, bands: tuple[str, ...]
) -> dict[str, Any]:
    """Every column of `schemas.stamps` but the pixels.

    Args:
        rows: Of the manifest, (n,).
        hosts: The cutout of each row, (n,).
        injected: What was painted, (n,).
        bands: The run's bands.
    """
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


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
