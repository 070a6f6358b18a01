"""Plots of a selection function: completeness against theta_E, and a map over magnitude."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from darkhaloscope.evaluate.plots import FIRST, INK, MUTED, SECOND, svg
from darkhaloscope.evaluate.selection import SelectionFunction

CURVE_POINTS = 121
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
# the colours of the light page, for a file that stands alone
ALONE = {
    "var(--ink)": "#1b1e23",
    "var(--muted)": "#868d98",
    "var(--first)": "#0072b2",
    "var(--second)": "#c24e00",
}


def over_theta_e(function: SelectionFunction, *, psf_fwhm: float, depth: float) -> str:
    """Completeness against theta_E for the bins of magnitude.

    Points are cells over every PSF and depth, with their intervals; hollow where a cell holds too
    little. Lines are the fit at the middle of each bin of magnitude.

    Args:
        function: The selection function.
        psf_fwhm: Seeing for which the lines are drawn, arcsec.
        depth: Depth for which the lines are drawn, mag.
    """
    plane = [c for c in function.content["plane"] if c["completeness"]["value"] is not None]
    bins = sorted({(c["src_mag_low"], c["src_mag_high"]) for c in plane})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, (bright, faint) in enumerate(bins):
            colour = _between(i, len(bins))
            line, mark = LINES[i % len(LINES)], MARKS[i % len(MARKS)]
            cells = [c for c in plane if c["src_mag_low"] == bright]
            _points(axes, cells, i - (len(bins) - 1) / 2, colour, mark, f"r {bright:g}–{faint:g}")
            if function.factors:
                low, high = function.spans["theta_e"]
                theta_e = np.linspace(low, high, CURVE_POINTS)
                at = {"src_mag": (bright + faint) / 2, "psf_fwhm": psf_fwhm, "depth": depth}
                axes.plot(theta_e, function(theta_e=theta_e, **at), ls=line, color=colour, lw=1.6)
                ends = function.interval(theta_e=theta_e, **at)
                axes.fill_between(theta_e, *ends, color=colour, alpha=0.12, lw=0)
        axes.set(xlabel=r"$\theta_E$, arcsec", ylabel="completeness", ylim=(0, 1.02))
        axes.grid(visible=True, axis="y")
        if bins:
            axes.legend(loc="best", fontsize=9, title="unlensed source")

    return svg(draw, (7.2, 4.2), "selection", "Completeness against the Einstein radius")


def over_plane(function: SelectionFunction) -> str:
    """Map of the completeness over theta_E and magnitude; what holds too little is hatched."""
    plane: Sequence[Mapping[str, Any]] = function.content["plane"]

    def draw(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        for cell in plane:
            value = cell["completeness"]["value"]
            corner = (cell["theta_e_low"], cell["src_mag_low"])
            width, height = cell["theta_e_high"] - corner[0], cell["src_mag_high"] - corner[1]
            alpha = 0.0 if value is None else 0.85 * value
            filled = Rectangle(corner, width, height, linewidth=0, facecolor=FIRST, alpha=alpha)
            axes.add_patch(filled)
            hatch = None if cell["is_enough"] else "////"
            border = Rectangle(corner, width, height, fill=False, hatch=hatch)
            border.set(edgecolor=MUTED, linewidth=0.6)
            axes.add_patch(border)
            said = "–" if value is None else f"{100 * value:.0f}"
            x, y = corner[0] + width / 2, corner[1] + height / 2
            axes.text(x, y, said, ha="center", va="center", fontsize=10, color=INK)
        edges = function.content["edges"]
        axes.set(xlim=(edges["theta_e"][0], edges["theta_e"][-1]))
        axes.set(ylim=(edges["src_mag"][-1], edges["src_mag"][0]))
        axes.set(xlabel=r"$\theta_E$, arcsec", ylabel="unlensed source r, mag")
        axes.set_xticks(edges["theta_e"], [f"{e:g}" for e in edges["theta_e"]], fontsize=9)
        axes.set_yticks(edges["src_mag"], [f"{e:g}" for e in edges["src_mag"]], fontsize=9)

    return svg(draw, (7.2, 4.2), "selection map", "Completeness over Einstein radius and magnitude")


def alone(drawn: str) -> str:
    """A plot as a file of its own, with the colours of the light page."""
    for variable, colour in ALONE.items():
        drawn = drawn.replace(variable, colour)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + drawn


def _points(
    axes: Any, cells: Sequence[Mapping[str, Any]], shift: float, colour: str, mark: str, name: str
) -> None:
    """Cells of one bin of magnitude, side by side with those of the others."""
    for cell in cells:
        share, width = cell["completeness"], cell["theta_e_high"] - cell["theta_e_low"]
        x = (cell["theta_e_low"] + cell["theta_e_high"]) / 2 + 0.12 * width * shift
        bars = [[share["value"] - share["low"]], [share["high"] - share["value"]]]
        axes.errorbar(
            [x],
            [share["value"]],
            yerr=bars,
            fmt=mark,
            color=colour,
            ms=5,
            lw=1.1,
            capsize=2,
            mfc=colour if cell["is_enough"] else "none",
        )
    axes.plot([], [], mark, color=colour, ms=5, label=name)


def _between(i: int, n: int) -> str:
    """The colour of one of n bins: bright ones in the first colour, faint ones in the second."""
    return FIRST if i < n / 2 else SECOND
