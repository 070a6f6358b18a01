"""Score tables, and what goes with them, for the tests of evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.settings.report import ReportConfig

BANDS = ("g", "r", "z")
SHARES = {"control": 0.7, "ring": 0.1, "spiral": 0.1, "companion": 0.1}
SKY_WEIGHT = {"control": 1.3, "ring": 0.02, "spiral": 0.6, "companion": 0.3}
SHIFT = {"lens": 4.0, "ring": 1.5, "spiral": 0.5, "companion": 1.0}


def draw(n: int, stream: str, seed: int = 5) -> np.ndarray:
    return keys.uniform(np.arange(n), seed=seed, stream=stream)


def scores(
    n_lenses: int = 60, n_negatives: int = 400, *, of: str = "test", seed: int = 5
) -> pa.Table:
    """A score table of one set: normal scores, shifted by kind."""
    n = n_lenses + n_negatives
    is_lens = np.arange(n) < n_lenses
    chosen = keys.choice(np.arange(n), np.array([*SHARES.values()]), seed=seed, stream="kind")
    kind = np.where(is_lens, "lens", np.array([*SHARES])[chosen])
    logit = keys.normal(np.arange(n), seed=seed, stream=f"{of} logit")
    logit += np.array([SHIFT.get(k, 0.0) for k in kind])
    target_id = keys.hash64(of) % 1000 * 10**6 + np.arange(n)
    values: dict[str, Any] = {
        "stamp_id": keys.stamp_id(target_id, "any", np.zeros(n, np.int64)),
        "target_id": target_id,
        "source_id": masked(np.arange(n) % 37, ~is_lens),
        "src_kind": masked(np.full(n, "sersic"), ~is_lens),
        "split": [of] * n,
        "region_id": np.arange(n) % 4,
        "kind": kind,
        "family": np.where(is_lens, "injection", "control"),
        "label": is_lens.astype(np.int8),
        "sky_weight": masked([SKY_WEIGHT.get(k, 0.0) for k in kind], is_lens),
        "weight_population": masked(0.5 + draw(n, "weight"), ~is_lens),
        "area_deg2": np.full(n, 1e-3),
        "ra_deg": 150 + 0.01 * np.arange(n),
        "dec_deg": np.full(n, 2.0),
        "host_mag_z": 18 + 2 * draw(n, "mag"),
        "set": [of] * n,
        "theta_e_arcsec": masked(0.3 + 2.5 * draw(n, "theta"), ~is_lens),
        "theta_e_over_fwhm_r": masked(0.3 + 2.5 * draw(n, "theta"), ~is_lens),
        "theta_e_over_psfsize_r": masked(0.25 + 2 * draw(n, "theta"), ~is_lens),
        "src_mag_r": masked(22 + 2 * draw(n, "src"), ~is_lens),
        "magnification": masked(1 + 9 * draw(n, "mu"), ~is_lens),
        "ground_visible": masked(draw(n, "theta") > 0.4, ~is_lens),
        "logit": logit,
        **{f"arc_snr_{b}": masked(100 * draw(n, "snr"), ~is_lens) for b in BANDS},
        **{f"psf_fwhm_{b}_arcsec": np.full(n, 1.1) for b in BANDS},
        **{f"depth_{b}_mag": np.full(n, 24.0) for b in BANDS},
    }
    return table(values, schemas.scores(BANDS))


def sky(n: int = 30) -> pa.Table:
    """Scores of targets as observed: no label, no weight, some pairs 0.5 arcsec apart."""
    made = scores(0, n, of="sky")
    ra = 150 + 0.01 * (np.arange(n) // 2) + 0.5 / 3600 * (np.arange(n) % 2)
    changed = {
        "label": pa.nulls(n, pa.int8()),
        "sky_weight": pa.nulls(n, pa.float64()),
        "kind": pa.array(["sky"] * n),
        "ra_deg": pa.array(ra),
        "dec_deg": pa.array(np.zeros(n)),
    }
    return replaced(made, changed)


def hosts(of: pa.Table) -> pa.Table:
    """The rows of `splits` that the stages read, one per target of a score table."""
    n = of.num_rows
    values: dict[str, Any] = {
        "target_id": of["target_id"],
        "brickname": ["0000p000"] * n,
        "tile": ["32-7"] * n,
        "region_id": of["region_id"],
        "split": of["split"],
        "area_deg2": of["area_deg2"],
        **{f"mag_{b}": np.full(n, 19.0) for b in BANDS},
    }
    full = schemas.splits(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def manifest(of: pa.Table, *, n_train: int = 20) -> pa.Table:
    """The columns of `manifest` that the report reads: of the scored stamps, and of training."""
    stamps = np.concatenate([of["stamp_id"].to_numpy(), np.arange(n_train) + 1])
    n, scored = len(stamps), of.num_rows

    def draw(stream: str) -> np.ndarray:
        return keys.uniform(stamps, seed=5, stream=stream)

    is_lens = np.concatenate([np.asarray(of["kind"].to_pylist()) == "lens", np.ones(n_train, bool)])
    train = np.arange(n) >= scored
    theta_e = np.where(is_lens, 0.5 + 3 * draw("theta_e"), np.nan)
    values: dict[str, Any] = {
        "stamp_id": stamps,
        "kind": np.concatenate([of["kind"].to_pylist(), ["lens"] * n_train]),
        "split": np.concatenate([of["split"].to_pylist(), ["train"] * n_train]),
        "weight_population": masked(0.1 + draw("population"), ~is_lens | train),
        "is_group_lens": masked(theta_e > 2.2, ~is_lens | train),
        "theta_e_arcsec": masked(theta_e, ~is_lens),
        "lens_z": masked(0.3 + 0.5 * draw("lens_z"), ~is_lens | train),
        "src_z": masked(1 + 2 * draw("src_z"), ~is_lens),
        "src_mag_r": masked(22 + 3 * draw("src_mag"), ~is_lens),
        "src_r_eff_arcsec": masked(0.1 + 0.3 * draw("r_eff"), ~is_lens),
    }
    full = schemas.manifest(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def cutouts(of: pa.Table, refused: Sequence[str] = ()) -> pa.Table:
    """The rows of `cutouts` that the stages read; the last ones are refused for these reasons."""
    n = of.num_rows
    values: dict[str, Any] = {
        "target_id": of["target_id"],
        "masked_fraction": np.full(n, 0.01),
        "refused": [None] * (n - len(refused)) + list(refused),
    }
    full = schemas.cutouts_head(BANDS)
    return table(values, pa.schema([full.field(name) for name in values]))


def report_config(**changed: Any) -> ReportConfig:
    values: dict[str, Any] = {
        "bands": BANDS,
        "pixel_scale_arcsec": 0.262,
        "model": "small",
        "seed": 3,
        "sky": "simulated",
        "lens_weight": "equal",
        "theta_e_edges_arcsec": (0.5, 1.0, 1.5, 2.0),
        "theta_e_over_fwhm_r_edges": (0.5, 1.0, 1.2, 2.0),
        "theta_e_over_psfsize_r_edges": (0.5, 1.0),
        "arc_snr_edges": (10.0, 25.0, 50.0),
        "arc_snr_band": "g",
        "headline_theta_e_over_fwhm_r_min": 1.2,
        "headline_arc_snr_min": 25.0,
        "psf_fwhm_r_edges_arcsec": (0.8, 1.2),
        "depth_r_edges_mag": (23.0, 24.0),
        "host_mag_z_edges": (18.0, 19.0),
        "seconds_per_stamp": 3.6,
        "prevalences": (1e-2, 1e-3, 1e-4, 1e-5),
        "interval_draws": 200,
        "gallery_stamps": 3,
        "top_candidates": 5,
    }
    return ReportConfig(**{**values, **changed})


def masked(values: Any, absent: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values), mask=absent)


def table(values: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        (v if isinstance(v, pa.Array | pa.ChunkedArray) else pa.array(v)).cast(f.type)
        for f in schema
        for v in [values[f.name]]
    ]
    return pa.table(arrays, schema=schema)


def replaced(made: pa.Table, changed: dict[str, pa.Array]) -> pa.Table:
    for name, values in changed.items():
        made = made.set_column(made.column_names.index(name), made.schema.field(name), values)
    return made
