"""The smallest skies that can show something, for the tests of the simulated survey."""

from typing import Any

from darkhaloscope.core.settings.base import Span
from darkhaloscope.core.settings.simulate import SimulateConfig

RATES = {
    "disc": 0.07,
    "spiral": 0.04,
    "edge_on": 0.02,
    "ring": 0.004,
    "merger": 0.015,
    "twist": 0.3,
    "shells": 0.06,
    "intracluster": 0.3,
}
NO_FLOORS = {
    "lens": 0,
    "lens_min_theta_e_arcsec": 1.0,
    "lens_max_src_mag_r": 23.5,
    "spiral": 0,
    "edge_on": 0,
    "ring": 0,
    "merger": 0,
}


def span(low: float, high: float) -> Span:
    return Span(low=low, high=high)


def simulate_config(**changes: Any) -> SimulateConfig:
    """One patch of two bricks of 400 pixels, dense; `changes` replace single settings."""
    values: dict[str, Any] = {
        "seed": 7,
        "bands": ("g", "r", "z"),
        "n_fields": 1,
        "field_spacing_deg": 4.0,
        "first_field_deg": (20.0, -20.0),
        "bricks_per_field": (2, 1),
        "brick_size_px": 400,
        "lrg_per_deg2": 28_000,
        "satellites_per_target": 1.0,
        "galaxies_per_deg2": 15_500,
        "galaxy_mag_r": span(18.0, 24.5),
        "stars_per_deg2": 6_000,
        "star_mag_r": span(13.0, 23.0),
        "rates": RATES,
        "floors": NO_FLOORS,
        "src_per_arcsec2": 0.012,
        "src_mag_r": span(21.0, 25.5),
        "src_z_median": 1.0,
        "psfsize_r_arcsec": 1.31,
        "psfsize_scatter": 0.12,
        "psfsize_over_r": {"g": 1.08, "r": 1.0, "z": 0.95},
        "psf_beta": span(2.5, 3.5),
        "depth_mag": {"g": span(24.3, 25.3), "r": span(23.8, 25.1), "z": span(22.8, 23.8)},
        "n_exposures": (2, 6),
        "electrons_per_nmgy": 3500.0,
        "ebv_median": 0.04,
        "oversubtraction": 0.02,
        "bad_strips_per_deg2": 300.0,
        "bricks_without_band": 0,
        "band_without": "g",
    }
    return SimulateConfig(**(values | changes))


def floors(**least: float) -> dict[str, float]:
    """Floors of 0 but for those named."""
    return NO_FLOORS | least
