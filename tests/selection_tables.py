"""Tables that the stage `selection` reads, for its tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from evaluate_builders import BANDS, replaced, scores, table

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import Scratch, TrainedModel
from darkhaloscope.core.settings.selection import SelectionConfig
from darkhaloscope.stages import selection

TARGETS = {
    "bands": BANDS,
    "pixel_scale_arcsec": 0.262,
    "variant": "v3_color_relaxed",
    "is_dereddened": True,
    "tile_nside": 32,
}


def config(**changed: Any) -> SelectionConfig:
    values: dict[str, Any] = {
        "bands": BANDS,
        "pixel_scale_arcsec": 0.262,
        "targets": TARGETS,
        "sky": "simulated",
        "model": "small",
        "seed": 3,
        "at_fpr": 1e-2,
        "aperture_arcsec": 1.5,
        "theta_e_edges_arcsec": (0.3, 1.0, 1.7, 2.8),
        "src_mag_edges": (22.0, 23.0, 24.0),
        "psf_fwhm_edges_arcsec": (0.8, 1.1, 1.4),
        "depth_edges_mag": (23.5, 24.0, 24.5),
        "least_injections": 60,
        "least_hosts": 50,
        "least_sources": 20,
        "held_out_share": 0.4,
        "slope_tolerance": 0.1,
    }
    return SelectionConfig(**{**values, **changed})


def drawn(ids: pa.ChunkedArray, stream: str, low: float = 0, high: float = 1) -> np.ndarray:
    return low + (high - low) * keys.uniform(ids.to_numpy(), seed=9, stream=stream)


def scored(n_lenses: int = 1500, n_negatives: int = 2500) -> pa.Table:
    """Lenses that are found where they are wide and bright, and negatives of both sets."""
    made = pa.concat_tables(
        [scores(n_lenses, n_negatives), scores(30, n_negatives, of="calib", seed=6)]
    )
    ids = made["target_id"]
    psf, depth = drawn(ids, "psf", 0.8, 1.4), drawn(ids, "depth", 23.5, 24.5)
    is_lens = np.asarray(made["kind"].to_pylist()) == "lens"
    theta_e, mag, logit = (
        made[name].to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("theta_e_arcsec", "src_mag_r", "logit")
    )
    easy = 3.0 * (np.nan_to_num(theta_e) / psf - 1.2) + 1.5 * (depth - np.nan_to_num(mag) - 1)
    logit = np.where(is_lens, logit - 2.0 + easy, logit)
    return replaced(
        made,
        {
            "psf_fwhm_r_arcsec": pa.array(psf.astype(np.float32)),
            "depth_r_mag": pa.array(depth.astype(np.float32)),
            "logit": pa.array(logit.astype(np.float32)),
        },
    )


def splits(of: pa.Table) -> pa.Table:
    """Catalogued fluxes of luminous red galaxies, some of them near a cut."""
    n, ids = of.num_rows, of["target_id"]
    z = drawn(ids, "z", 8, 40)
    r_z, z_w1 = drawn(ids, "r_z", 0.41, 1.0), drawn(ids, "z_w1", 0.81, 2.0)
    values: dict[str, Any] = {
        "target_id": ids,
        "brickname": [f"{i // 20:04d}p000" for i in range(n)],
        "psf_nea_r_arcsec": drawn(ids, "psf", 0.8, 1.4) / 0.78,
        "depth_r_mag": drawn(ids, "depth", 23.5, 24.5),
        **{f"flux_{b}_nmgy": 0.9 * v for b, v in _fluxes(z, r_z, z_w1).items()},
        **{f"mw_transmission_{b}": np.full(n, 0.9) for b in ("r", "z", "w1")},
    }
    full = schemas.splits(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def _fluxes(z: np.ndarray, r_z: np.ndarray, z_w1: np.ndarray) -> dict[str, np.ndarray]:
    return {"r": z / 10 ** (0.4 * r_z), "z": z, "w1": z * 10 ** (0.4 * z_w1)}


def cutouts(of: pa.Table) -> pa.Table:
    """Some refused for their pixels, and every 25th brick as a whole."""
    n, ids = of.num_rows, of["target_id"]
    refused = np.full(n, None, object)
    refused[drawn(ids, "masked") < 0.02] = "masked pixels"
    refused[(np.arange(n) // 20) % 25 == 3] = "missing band g"
    psf = drawn(ids, "psf", 0.8, 1.4)
    absent = np.array([r is not None for r in refused])
    values: dict[str, Any] = {
        "target_id": ids,
        "psf_nea_r_arcsec": pa.array(psf / 0.78, mask=absent),
        "psf_fwhm_r_arcsec": pa.array(psf, mask=absent),
        "refused": refused.tolist(),
    }
    full = schemas.cutouts_head(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def stamps(of: pa.Table) -> pa.Table:
    """Blue arcs, with more of their light in wider apertures."""
    n, ids = of.num_rows, of["stamp_id"]
    flux = drawn(ids, "arc", 0.05, 4)
    share = {f"arc_flux_{name}": 0.2 * r for name, r in schemas.ARC_APERTURES_ARCSEC.items()}
    share["injected_flux"] = 0.9
    values: dict[str, Any] = {"stamp_id": ids}
    for name, part in share.items():
        values |= {f"{name}_r_nmgy": part * flux, f"{name}_z_nmgy": 1.2 * part * flux}
    assert n == len(flux)
    full = schemas.stamps(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def model(folder: Path, weights: bytes = b"weights") -> TrainedModel:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    return TrainedModel("small", folder)


def written(folder: Path, made: pa.Table | None = None, **changed: Any) -> Path:
    """The folder that the stage writes."""
    made = scored() if made is None else made
    return selection.run(
        scores=made,
        splits=splits(made),
        cutouts=cutouts(made),
        stamps=stamps(made.filter(pa.compute.equal(made["set"], "test"))),
        model=model(folder / "model"),
        scratch=Scratch(folder),
        config=config(**changed),
    )
