"""Small tables and settings for the tests of what is injected."""

from typing import Any

import numpy as np
import pyarrow as pa

from darkhaloscope.core import schemas
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.data import pixels

BANDS = ("g", "r", "z")
SCALE = 0.262
KINDS = tuple(kind for kind in schemas.KINDS if kind != "sky")
DARK_HOST_FWHM = (1.1, 1.0, 0.95)


def span(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high}


BROAD = {
    "prior": "broad",
    "theta_e_arcsec": span(0.6, 2.5),
    "lens_q": span(0.5, 1.0),
    "shear": span(0.0, 0.08),
    "src_mag_r": span(21.0, 24.5),
    "src_r_eff_arcsec": span(0.08, 0.5),
    "src_q": span(0.4, 1.0),
    "arc_snr_g": span(15.0, 150.0),
}
PHYSICAL = {
    "src_mag_r": span(20.5, 25.5),
    "max_theta_e_arcsec": 4.0,
    "host_z_scatter": 0.04,
    "dispersion_scatter_dex": 0.07,
    "group_share": 0.05,
    "group_offset_dex": 0.12,
    "group_scatter_dex": 0.07,
    "mass_phi_scatter_deg": 10.0,
    "shear_scale": 0.04,
    "src_r_eff_scatter_dex": 0.2,
    "src_q": span(0.4, 1.0),
    "flat_theta_e_share": 0.2,
    "keep_weight": 0.02,
}
SHAPES = {
    "single_image_reach": 1.5,
    "light_z_minus_w1": 0.3,
    "ring": {
        "variants": {"detached": 0.25, "inner": 0.25, "polar": 0.25, "collisional": 0.25},
        "radius_arcsec": span(1.5, 4.0),
        "width_over_radius": span(0.15, 0.3),
        "q": span(0.4, 0.85),
        "polar_q": span(0.15, 0.4),
        "phi_scatter_deg": 15.0,
        "contrast": span(0.0, 0.8),
        "offset_over_radius": span(0.2, 0.5),
        "clumps": [0, 2, 4],
        "clump_share": span(0.2, 0.5),
        "young_share_r": span(0.6, 1.0),
    },
    "spiral": {
        "variants": {"plain": 0.4, "barred": 0.3, "clumpy": 0.3},
        "radius_arcsec": span(0.5, 1.5),
        "arms": [2, 3, 4],
        "pitch_deg": span(10.0, 35.0),
        "width_arcsec": span(0.3, 0.7),
        "r_eff_over_radius": span(1.5, 3.0),
        "q": span(0.4, 1.0),
        "phi_scatter_deg": 15.0,
        "bulge_share": span(0.1, 0.5),
        "bulge_r_eff_arcsec": span(0.2, 0.6),
        "bar_share": span(0.2, 0.5),
        "clumps": [2, 3, 4],
        "clump_share": span(0.1, 0.4),
        "young_share_r": span(0.5, 0.9),
    },
    "edge_on": {
        "variants": {"thin": 0.25, "bulged": 0.25, "dusty": 0.25, "warped": 0.25},
        "half_length_arcsec": span(1.0, 3.0),
        "q": span(0.1, 0.25),
        "phi_scatter_deg": 15.0,
        "bulge_r_eff_arcsec": span(0.3, 0.8),
        "lane_depth": span(0.3, 0.9),
        "lane_width": span(0.2, 0.5),
        "warp": span(0.05, 0.2),
        "young_share_r": span(0.3, 0.8),
    },
    "merger": {
        "variants": {"nucleus": 0.3, "tails": 0.4, "shells": 0.3},
        "separation_arcsec": span(0.8, 3.0),
        "nucleus_r_eff_arcsec": span(0.15, 0.6),
        "nucleus_q": span(0.5, 1.0),
        "nucleus_share": span(0.3, 0.7),
        "radius_arcsec": span(1.5, 4.5),
        "width_over_radius": span(0.12, 0.25),
        "opening_rad": span(0.35, 0.8),
        "pitch_deg": span(15.0, 50.0),
        "young_share_r": span(0.3, 0.8),
    },
    "agn_jet": {
        "variants": {"point": 0.3, "knots": 0.4, "lobes": 0.3},
        "point_share": span(0.2, 0.7),
        "reach_arcsec": span(1.0, 4.0),
        "knots": [1, 2, 3, 4],
        "knot_r_eff_arcsec": span(0.05, 0.3),
        "lobe_r_eff_over_reach": span(0.15, 0.35),
        "lobe_q": span(0.4, 0.65),
        "jet_width_arcsec": span(0.05, 0.25),
        "young_share_r": span(0.4, 0.8),
    },
    "artefact": {
        "variants": {
            "satellite": 0.16, "cosmic_ray": 0.16, "spikes": 0.16, "bleed": 0.14,
            "ghost": 0.14, "misregistered": 0.12, "edge": 0.12,
        },
        "brighter_mag": span(0.0, 3.0),
        "satellite_width_arcsec": span(0.1, 0.6),
        "satellite_distance_arcsec": span(0.0, 5.0),
        "cosmic_ray_half_length_arcsec": span(0.3, 3.0),
        "cosmic_ray_distance_arcsec": span(0.0, 5.0),
        "track_width_arcsec": span(0.1, 0.2),
        "spikes_distance_arcsec": span(3.0, 7.0),
        "spikes_phi_deg": span(40.0, 50.0),
        "bleed_distance_arcsec": span(0.0, 6.0),
        "ghost_radius_arcsec": span(3.0, 7.0),
        "ghost_width_over_radius": span(0.1, 0.3),
        "ghost_distance_over_radius": span(0.3, 1.0),
        "shift_px": span(0.7, 2.0),
        "edge_distance_arcsec": span(2.0, 7.0),
    },
    "companion": {
        "variants": {"two": 0.8, "one": 0.1, "three": 0.1},
        "turn_deg": span(80.0, 120.0),
    },
    "radial_arc": {
        "variants": {"one": 0.2, "two": 0.6, "three": 0.2},
        "shear": span(0.3, 0.6),
        "turn_deg": span(60.0, 180.0),
    },
    "scrambled": {
        "variants": {"two": 0.3, "three": 0.7},
        "shear": span(0.3, 0.6),
        "turned_deg": span(45.0, 90.0),
        "inner_over_outer": span(0.35, 0.6),
        "turn_deg": span(30.0, 120.0),
        "least_misfit_arcsec": 0.3,
    },
    "halo_ring": {
        "variants": {"host_coloured": 0.5, "wide": 0.5},
        "radius_arcsec": span(1.0, 3.0),
        "fwhm_over_psf": span(1.5, 2.5),
        "q": span(0.7, 1.0),
    },
}  # fmt: skip
SOURCES = {
    "src_n": span(0.5, 4.0),
    "red_share": 0.1,
    "colour_scatter_mag": 0.1,
    "kinds": {"sersic": 1.0},
}
PAIRED = {"population": "training", "controls": "paired", "copies": dict.fromkeys(KINDS, 1)}
ONE_KIND_EACH = {
    "population": "physical",
    "controls": "unpaired",
    "copies": {**dict.fromkeys(KINDS, 1), "lens": 6},
    "shares": {
        "lens": 0.28, "single_image": 0.08, "control": 0.2, "companion": 0.08, "halo_ring": 0.04,
        "ring": 0.05, "spiral": 0.05, "edge_on": 0.04, "merger": 0.04, "agn_jet": 0.03,
        "artefact": 0.03, "radial_arc": 0.04, "scrambled": 0.04,
    },
}  # fmt: skip
SKY_SHARES = {
    "control": 0.85, "single_image": 0.02, "companion": 0.03, "ring": 0.01, "spiral": 0.04,
    "edge_on": 0.02, "merger": 0.015, "agn_jet": 0.005, "artefact": 0.01,
}  # fmt: skip


def config(**changes: Any) -> ManifestConfig:
    settings: dict[str, Any] = {
        "bands": BANDS,
        "pixel_scale_arcsec": SCALE,
        "target_variant": "v3_color_relaxed",
        "seed": 11,
        "min_theta_e_over_fwhm": 0.5,
        "training": BROAD,
        "physical": PHYSICAL,
        "sources": SOURCES,
        "shapes": SHAPES,
        "sets": {
            "train": PAIRED, "val": ONE_KIND_EACH, "calib": ONE_KIND_EACH, "test": ONE_KIND_EACH
        },
        "sky_shares": SKY_SHARES,
    }  # fmt: skip
    return ManifestConfig.model_validate({**settings, **changes})


def splits(n: int, *, split: str | None = None, seed: int = 3) -> pa.Table:
    """n bright red galaxies; split None: dealt out to all five."""
    rng = np.random.default_rng(seed)
    redshift = rng.uniform(0.25, 0.65, n)
    mag_z = rng.uniform(17.0, 20.0, n)
    r_minus_z = np.interp(redshift, [0.25, 0.5, 0.75], [0.82, 1.27, 1.97])
    mags = {"z": mag_z, "r": mag_z + r_minus_z, "g": mag_z + r_minus_z + 1.8, "w1": mag_z - 1.2}
    dealt = [schemas.SPLITS[i % 5] for i in range(n)]
    columns: dict[str, Any] = {
        "target_id": (np.int64(9010) << 42) + (np.arange(n) // 50 << 22) + np.arange(n),
        "brickname": ["0001p000"] * n,
        "ra_deg": rng.uniform(0, 0.25, n),
        "dec_deg": rng.uniform(0, 0.25, n),
        "tile": ["32-1"] * n,
        "type": ["DEV"] * n,
        "region_id": np.arange(n) // 10,
        "split": dealt if split is None else [split] * n,
        "area_deg2": np.full(n, 1e-3),
        "shape_r_arcsec": np.full(n, 1.2),
        "shape_e1": rng.uniform(-0.2, 0.2, n),
        "shape_e2": rng.uniform(-0.2, 0.2, n),
    }
    for band, mag in mags.items():
        columns |= {f"mag_{band}": mag, f"mw_transmission_{band}": np.full(n, 0.9)}
        columns[f"flux_{band}_nmgy"] = 0.9 * 10 ** (-0.4 * (mag - 22.5))
    for band in BANDS:
        columns |= {
            f"psf_nea_{band}_arcsec": np.full(n, 1.3),
            f"depth_{band}_mag": np.full(n, 24.0),
        }
    columns |= {f"is_{variant}": np.ones(n, bool) for variant in schemas.LRG_VARIANTS}
    return table(columns, schemas.splits(BANDS), n)


def cutouts_head(targets: pa.Table, *, fwhm_r: float = 1.0) -> pa.Table:
    """What `cutouts` says of each target, none refused."""
    n = targets.num_rows
    rng = np.random.default_rng(5)
    columns: dict[str, Any] = {
        **{k: targets[k] for k in ("target_id", "brickname", "ra_deg", "dec_deg")},
        "host_x_px": 39.5 + rng.uniform(-0.5, 0.5, n),
        "host_y_px": 39.5 + rng.uniform(-0.5, 0.5, n),
        "masked_fraction": np.zeros(n),
    }
    for band, fwhm, noise in zip(BANDS, DARK_HOST_FWHM, (0.003, 0.004, 0.01), strict=True):
        columns |= {
            f"psf_fwhm_{band}_arcsec": np.full(n, fwhm * fwhm_r),
            f"psf_nea_{band}_arcsec": np.full(n, fwhm * fwhm_r / 0.75),
            f"sky_median_{band}_nmgy": np.zeros(n),
            f"sky_mad_{band}_nmgy": np.full(n, noise / 1.4826),
            f"noise_{band}_nmgy": np.full(n, noise),
            f"depth_{band}_mag": np.full(n, 24.0),
            f"n_exposures_{band}": np.full(n, 4.0),
        }
    return table(columns, schemas.cutouts_head(BANDS), n)


def table(columns: dict[str, Any], schema: pa.Schema, n: int) -> pa.Table:
    """Columns in a schema's types; those not given are null."""
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(n, field.type))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values.cast(field.type))
        else:
            arrays.append(pa.array(values).cast(field.type, safe=False))
    return pa.table(arrays, schema=schema)


def cutouts(targets: pa.Table, *, size: int = 80, seed: int = 9) -> pa.Table:
    """Cutouts of sky noise and a round host at the catalogue's centroid."""
    head = cutouts_head(targets)
    n = targets.num_rows
    rng = np.random.default_rng(seed)
    noise = np.array([0.003, 0.004, 0.01])[:, None, None]
    y, x = np.mgrid[:size, :size]
    shift = (size - 80) / 2
    x0, y0 = (head[f"host_{axis}_px"].to_numpy()[:, None, None] + shift for axis in "xy")
    host = np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 9.0)
    sky = rng.standard_normal((n, 3, size, size))
    images = (sky * noise + host[:, None] * np.array([0.05, 0.2, 0.4])[:, None, None]).astype("f4")
    layout = pixels.Layout(BANDS, size, SCALE)
    for axis in "xy":
        at = head.schema.get_field_index(f"host_{axis}_px")
        moved = pa.array(head[f"host_{axis}_px"].to_numpy() + np.float32(shift), pa.float32())
        head = head.set_column(at, head.schema.field(at), moved)
    none = pixels.Layout(BANDS, 1, SCALE).field("psf_image", nullable=True, unit="")
    head = head.append_column(none, pa.nulls(n, none.type))
    return head.append_column(layout.field(nullable=True), pixels.encode(images))


def with_psf_images(made: pa.Table, images: np.ndarray) -> pa.Table:
    """Cutouts with PSF images, shape (n, band, k, k)."""
    field = pixels.Layout(BANDS, images.shape[-1], SCALE).field("psf_image", nullable=True, unit="")
    at = made.schema.get_field_index("psf_image")
    return made.set_column(at, field, pixels.encode(images))
