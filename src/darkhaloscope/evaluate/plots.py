"""Plots of an evaluation as SVG text that takes its colours and its font from the page.

Every colour is written as a marker and becomes a variable of the page's style sheet, so that one
plot reads well on light and on dark. A plot may be drawn twice, wide and narrow: the page shows the
one that its letters are readable in. The colours are told apart by people with colour blindness
(Okabe & Ito 2008), and no line is told by its colour alone.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from darkhaloscope.evaluate.metrics import Evaluation
from darkhaloscope.evaluate.published import Sample
from darkhaloscope.evaluate.quoting import ALL
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import Floats, Rows
from darkhaloscope.evaluate.thresholds import FPRS

# what matplotlib is told, and what the page gets in its place
INK, MUTED, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}
BAND_POINTS = 33
NARROW = 3.6  # inches; on a screen of 390 px its letters are as large as those of the text
SCORES = {
    "logit": "score",
    "probability": "score (probability)",
    "rank": "score (rank, with its sign turned)",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
}


def roc(evaluation: Evaluation) -> str:
    """Completeness against FPR, logarithmic, with its interval; what N cannot tell is shaded.

    Points with bars are the headline stratum at thresholds that other data chose.
    """
    curves = [("all lenses", evaluation.curve, FIRST, "--")]
    if evaluation.headline is not None and evaluation.metrics["headline"]["stratum"] != ALL:
        curves.append(("headline stratum", evaluation.headline, SECOND, "-"))
    lowest = smallest_fpr(evaluation.curve)
    left = max(lowest / 4, 1e-6)
    bands = [_band(curve, lowest) for _, curve, _, _ in curves]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, curve, colour, line), band in zip(curves, bands, strict=True):
            _, fpr, tpr = curve.points
            shown = slice(max(int(np.searchsorted(fpr, lowest)) - 1, 0), None)
            label = f"{name} ({curve.lenses.n:,})"
            axes.plot(
                *_thinned(np.maximum(fpr, lowest)[shown], tpr[shown]),
                line,
                color=colour,
                lw=1.8,
                label=label,
                drawstyle="steps-post",
            )
            axes.fill_between(*band, color=colour, alpha=0.18, lw=0)
        _mark_operating(axes, evaluation.metrics["operating_points"], lowest)
        axes.axvspan(left, lowest, color=MUTED, alpha=0.14, lw=0)
        axes.text(
            np.sqrt(left * lowest),
            0.02,
            f"not resolvable with {evaluation.curve.negatives.side.n:,} negatives",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9,
            color=INK,
        )
        axes.set(xscale="log", xlim=(left, 1), ylim=(0, 1.01))
        where = "on the sky" if evaluation.metrics["is_weighted_to_sky"] else "in this table"
        axes.set(xlabel=f"false-positive rate {where}", ylabel="completeness")
        axes.grid(visible=True)
        _legend(axes, figure)

    name = "Completeness against the false-positive rate"
    return svg(draw, (7.2, 4.2), "roc", name, narrow=(NARROW, 4.6))


def score_distributions(rows: Rows) -> str:
    """A strip for each kind: how its scores are spread; each strip has its own height."""
    kinds = sorted(rows.kinds, key=lambda k: (k != "lens", k))
    finite = rows.score[np.isfinite(rows.score)]
    edges = np.linspace(finite.min(), finite.max(), 81) if len(finite) else np.zeros(1)
    edges = edges if np.ptp(edges) > 0 else edges[0] + np.linspace(-0.5, 0.5, 81)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for row, kind in enumerate(kinds):
            mine = rows.score[rows.kind == rows.kinds.index(kind)]
            counts, _ = np.histogram(mine, edges)
            height = 0.85 * counts / max(counts.max(), 1)
            colour = SECOND if kind == "lens" else FIRST
            axes.stairs(height - row, edges, baseline=-row, fill=True, color=colour, alpha=0.35)
            axes.stairs(height - row, edges, baseline=-row, color=colour, lw=1.1)
        labels = [f"{k} ({(rows.kind == rows.kinds.index(k)).sum():,})" for k in kinds]
        axes.set_yticks([-row + 0.25 for row in range(len(kinds))], labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=SCORES[rows.score_kind], ylim=(-len(kinds) + 0.9, 1.0))
        axes.grid(visible=True, axis="x")

    height = 1.2 + 0.5 * len(kinds)
    name = "Distribution of the scores of each kind"
    return svg(draw, (7.2, height), "scores", name, narrow=(NARROW, height))


def completeness(metrics: Mapping[str, Any], columns: Mapping[str, str], fpr: float) -> str:
    """Completeness at one FPR by bins of some columns, with intervals.

    Args:
        metrics: The content of `metrics.json`.
        columns: Columns that have strata, with the label of their axis.
        fpr: One of the FPRs of the tables.
    """

    def draw(figure: Any) -> None:
        shape = (len(columns), 1) if _is_narrow(figure) else (1, len(columns))
        panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
        for axes, (column, label) in zip(panels, columns.items(), strict=True):
            names, found = _binned(metrics, column, fpr)
            at = np.arange(len(names))
            value = np.array([r["value"] for r in found], np.float64)
            ends = np.array([(r["low"], r["high"]) for r in found], np.float64).reshape(-1, 2)
            axes.errorbar(
                at,
                value,
                yerr=np.abs(ends.T - value),
                fmt="o",
                color=SECOND,
                ms=5,
                lw=1.4,
                capsize=3,
            )
            axes.set_xticks(at, names, rotation=35, ha="right", fontsize=9)
            axes.set(xlabel=label, ylim=(0, 1.02), xlim=(-0.5, max(len(names), 1) - 0.5))
            axes.grid(visible=True, axis="y")
            if axes is panels[0] or _is_narrow(figure):
                axes.set_ylabel(rf"completeness at FPR $10^{{{np.log10(fpr):g}}}$")

    narrow = (NARROW, 3.2 * len(columns))
    return svg(draw, (7.2, 3.4), "completeness", "Completeness by bin", narrow=narrow)


def reliability(calibration: Mapping[str, Any]) -> str:
    """Share of lenses found against the probability claimed, by bins of equal mass."""
    bins = calibration["reliability"]
    claimed, found, low, high = (
        np.array([b[name] for b in bins], np.float64)
        for name in ("claimed", "found", "found_low", "found_high")
    )

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
        ends = np.abs(np.stack([low, high]) - found)
        axes.errorbar(claimed, found, yerr=ends, fmt="o", color=SECOND, ms=5, lw=1.4, capsize=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set(xlabel="probability claimed", ylabel="share of lenses found")
        axes.grid(visible=True)

    return svg(draw, (7.2, 3.8), "reliability", "Calibration", narrow=(NARROW, 3.6))


def drawn(
    columns: Mapping[str, Floats],
    weight: Floats,
    labels: Mapping[str, str],
    samples: Sequence[Sample],
) -> str:
    """Some quantities of the lenses: as drawn, weighted to the population, and as published.

    Args:
        columns: Values by quantity, (n,) each, NaN where a lens has none.
        weight: Weight to the population, (n,).
        labels: The quantities to show, one panel each, with the label of their axis.
        samples: What to put beside them: median as a point, the middle 68 % as a bar.
    """

    def draw(figure: Any) -> None:
        n_columns = 1 if _is_narrow(figure) else 2
        n_rows = -(-len(labels) // n_columns)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, (name, label) in zip(panels, labels.items(), strict=False):
            known = np.isfinite(columns[name])
            values = columns[name][known]
            spreads = [s.spreads[name] for s in samples if name in s.spreads]
            edges = _edges(values, [end for s in spreads for end in (s.low, s.high)])
            for given, colour, said in (
                (np.ones(len(values)), FIRST, "as drawn"),
                (weight[known], SECOND, "weighted"),
            ):
                share, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=given)
                share = share / max(share.sum(), np.finfo(np.float64).tiny)
                axes.stairs(share, edges, color=colour, lw=1.6, label=said)
            _published(axes, name, samples)
            axes.set(xlabel=label, xlim=(edges[0], edges[-1]))
            axes.grid(visible=True, axis="x")
        for axes in panels[len(labels) :]:
            axes.set_visible(False)
        told = panels[0].get_legend_handles_labels()
        figure.legend(*told, loc="outside upper left", fontsize=9, ncols=2)
        panels[0].set_ylabel("share per bin")

    size = (7.2, 0.4 + 2.5 * -(-len(labels) // 2))
    narrow = (NARROW, 0.4 + 2.3 * len(labels))
    return svg(draw, size, "drawn", "What was drawn, beside published samples", narrow=narrow)


def _edges(values: Floats, marks: Sequence[float]) -> Floats:
    """Twenty-four bins that hold the middle 98 % of the values and every mark."""
    held = [*np.quantile(values, [0.01, 0.99]), *marks] if len(values) else [0.0, 1.0, *marks]
    low, high = min(held), max(held)
    return np.linspace(low, high if high > low else low + 1, 25)


def _published(axes: Any, name: str, samples: Sequence[Sample]) -> None:
    """Published medians and ranges as bars above the histograms."""
    shown = [s for s in samples if name in s.spreads]
    top = axes.get_ylim()[1]
    for row, sample in enumerate(shown):
        spread, y = sample.spreads[name], top * (1.06 + 0.2 * row)
        axes.plot([spread.low, spread.high], [y, y], color=INK, lw=1.2)
        axes.plot([spread.median], [y], "o", color=INK, ms=4)
        said = f"{sample.name} ({spread.n})"
        axes.text(spread.low, y + 0.03 * top, said, va="bottom", fontsize=8, color=INK)
    axes.set_ylim(0, top * (1.08 + 0.2 * len(shown)))


def _mark_operating(axes: Any, points: Sequence[Mapping[str, Any]], lowest: float) -> None:
    """FPR found and completeness at the thresholds of the calibration set, with intervals."""
    found = [(p["fpr"], p["tpr_headline"]) for p in points if p["tpr_headline"]]
    if not found:
        return
    x, y = (
        np.array([[r[name] for name in ("value", "low", "high")] for r in rates], np.float64).T
        for rates in zip(*found, strict=True)
    )
    x = np.maximum(x, lowest / 4)
    axes.errorbar(
        x[0],
        y[0],
        xerr=np.abs(x[1:] - x[0]),
        yerr=np.abs(y[1:] - y[0]),
        fmt="D",
        color=INK,
        ms=5,
        lw=1.1,
        capsize=2.5,
        zorder=3,
        label=f"headline, threshold of {points[0]['chosen_on']}",
    )


def _legend(axes: Any, figure: Any) -> None:
    """In the plot where there is room for it, else above."""
    if _is_narrow(figure):
        figure.legend(loc="outside upper left", fontsize=9)
    else:
        axes.legend(loc="lower right", fontsize=10)


def _is_narrow(figure: Any) -> bool:
    return bool(figure.get_figwidth() <= NARROW)


def smallest_fpr(curve: Curve) -> float:
    """The least FPR that these negatives can bound."""
    from darkhaloscope.evaluate.intervals import NONE_SEEN, TAIL

    if curve.negatives.is_even:
        return float(-np.expm1(np.log(TAIL) / curve.negatives.side.n))
    return float(NONE_SEEN * curve.negatives.weight.max())


def best_fpr(curve: Curve) -> float:
    """The least FPR of the tables that is measured; else that is bounded; else the largest."""
    rates = [curve.tpr_at_fpr(f) for f in FPRS]
    measured = [r.at for r in rates if r.state == "measured"]
    bounded = [r.at for r in rates if r.resolvable]
    return min(measured or bounded or [max(FPRS)])


def _band(curve: Curve, lowest: float) -> tuple[Floats, Floats, Floats]:
    """FPR, and the ends of the completeness' interval there."""
    fprs = np.geomspace(min(lowest * 1.001, 0.5), 0.9, BAND_POINTS)
    rates = [r for r in (curve.tpr_at_fpr(float(f)) for f in fprs) if r.resolvable]
    ends = [np.array([getattr(r, name) for r in rates]) for name in ("at", "low", "high")]
    return ends[0], ends[1], ends[2]


def _thinned(fpr: Floats, tpr: Floats, n: int = 1500) -> tuple[Floats, Floats]:
    """Corners of a curve that differ on a screen: at most n, even in the logarithm."""
    if len(fpr) <= n:
        return fpr, tpr
    wanted = np.searchsorted(fpr, np.geomspace(fpr[0], 1.0, n), side="right") - 1
    keep = np.unique(np.concatenate([[0], np.maximum(wanted, 0), [len(fpr) - 1]]))
    return fpr[keep], tpr[keep]


def _binned(
    metrics: Mapping[str, Any], column: str, fpr: float
) -> tuple[list[str], Sequence[Mapping[str, Any]]]:
    """Names and rates of the bins of a column that have a value at this FPR."""
    found = [
        (name.split(":", 1)[1], r, entry["n_lenses"])
        for name, entry in metrics["by_stratum"].items()
        if name.startswith(f"{column}:")
        for r in entry["tpr_at_fpr"]
        if r["at"] == fpr and r["value"] is not None
    ]
    names = [f"{bin_label(name)}  (n={n:,})" for name, _, n in found]
    return names, [r for _, r, _ in found]


def bin_label(name: str) -> str:
    """A bin as people read it.

    Examples:
        >>> bin_label("1.0-1.5"), bin_label("2.5-inf"), bin_label("-inf-0.5"), bin_label("unknown")
        ('1–1.5', '≥ 2.5', '< 0.5', 'unknown')
    """
    if name.startswith("-inf-"):
        return f"< {float(name[5:]):g}"
    low, _, high = name.partition("-")
    if not high:
        return name
    return f"≥ {float(low):g}" if high == "inf" else f"{float(low):g}–{float(high):g}"


def svg(
    draw: Callable[[Any], None],
    size: tuple[float, float],
    name: str,
    title: str,
    *,
    narrow: tuple[float, float] | None = None,
) -> str:
    """Draw into a figure of its own, without pyplot, and return SVG text to put into a page.

    Args:
        draw: Draws into the figure that it is given.
        size: Width and height, inches; a page shows 7.2 inches at its full width.
        name: Of the plot, from which its ids are made.
        title: What a reader without eyes is told.
        narrow: Size of the same plot on a narrow screen, 3.6 inches wide; both are returned.
    """
    wide = _svg(draw, size, name, title)
    if narrow is None:
        return wide
    small = _svg(draw, narrow, f"{name} narrow", title)
    return wide.replace("<svg ", '<svg class="wide" ', 1) + small.replace(
        "<svg ", '<svg class="narrow" ', 1
    )


def _svg(draw: Callable[[Any], None], size: tuple[float, float], name: str, title: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for marker, variable in VARIABLES.items():
        text = text.replace(marker, variable)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
