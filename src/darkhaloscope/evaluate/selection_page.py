"""The page of a selection function: one self-contained HTML file in the style of the report.

Everything it says is read from `selection.json`.
"""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from darkhaloscope.evaluate.html import count, interval, number, power, share

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
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = {"share": share, "interval": _interval, "power": power}
    environment.filters |= {**filters, "count": count, "number": number}
    source = _template("selection.html.j2")
    return environment.from_string(source).render(
        s=content, plots=plots, style=style(), origin=_origin(content), axes=AXES
    )


def style() -> str:
    """The style sheet of the report's page: all pages of a run look alike."""
    found = re.search(r"<style>(.*?)</style>", _template("report.html.j2"), re.DOTALL)
    if found is None:
        raise ValueError("the report's template has no style sheet")
    return found[1]


def _interval(rate: Mapping[str, Any]) -> str:
    """The ends of an interval; a lower end that no figure could show is 0."""
    low = rate["low"]
    return interval({**rate, "low": 0.0 if low is not None and low < 1e-6 else low})


def _template(name: str) -> str:
    templates = resources.files("darkhaloscope.evaluate") / "templates"
    return (templates / name).read_text(encoding="utf-8")


def _origin(content: Mapping[str, Any]) -> str:
    """What stands beside every rate."""
    return f"sim, n = {content['sizes']['n_injections']:,}"
