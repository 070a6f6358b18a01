"""The page of a selection function: one self-contained HTML file in the style of the report.

Everything it says is read from `selection.json`.
"""

from collections.abc import Mapping
from typing import Any

from darkhaloscope.evaluate.html import count, filled, interval, number, power, share

AXES = {  # as people write them
    "theta_e": "θ_E, arcsec",
    "src_mag": "source r, mag",
    "psf_fwhm": "FWHM r, arcsec",
    "depth": "depth r, mag",
}


def render(content: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The page as HTML text; every value is escaped.

    Args:
        content: The content of `selection.json`.
        plots: SVG text by name: `theta_e`, `plane`.
    """
    filters = {
        "share": share,
        "interval": _interval,
        "power": power,
        "count": count,
        "number": number,
    }
    return filled(
        "selection.html.j2", filters, s=content, plots=plots, origin=_origin(content), axes=AXES
    )


def _interval(rate: Mapping[str, Any]) -> str:
    """The ends of an interval; a lower end that no figure could show is 0."""
    low = rate["low"]
    return interval({**rate, "low": 0.0 if low is not None and low < 1e-6 else low})


def _origin(content: Mapping[str, Any]) -> str:
    """What stands beside every rate."""
    return f"sim, n = {content['sizes']['n_injections']:,}"
