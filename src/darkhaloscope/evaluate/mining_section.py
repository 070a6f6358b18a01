"""Rounds of mining in the report and on the model card; all figures are of `mining.figures`."""

from collections.abc import Mapping, Sequence
from typing import Any

from darkhaloscope.evaluate import plots
from darkhaloscope.evaluate.html import SPACE, Section, count, filled, interval, number, share

TITLE = "Rounds of mining"
USES = {"negative": "used as negatives", "review": "up for review", "left_out": "left out"}
MARKERS = ("o", "s", "^", "D", "v", "P")
NONE = "–"


def page_section(figures: Mapping[str, Any]) -> Section:
    """The section of the report's page.

    Args:
        figures: What `mining.figures` returns.
    """
    filters = {
        "share": share, "interval": interval, "count": count, "number": number,
        "times": lambda ratio: times(ratio).replace(" ", SPACE),
        "expected": lambda found: expected(found).replace(" ", SPACE),
    }  # fmt: skip
    body = filled(
        "mining.html.j2", filters, m=figures, plot=_plot(figures), uses=USES,
        has_planted=_has_planted(figures), said=verdict(figures),
    )  # fmt: skip
    return Section("mining", TITLE, body)


def card_section(figures: Mapping[str, Any]) -> str:
    """The section of the model card, Markdown."""
    parts = [f"## {TITLE}", verdict(figures), f"Completeness is that of {figures['whose']}."]
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    head = ("completeness", "round", "FPR on test", "false positives", "fewer than round 0",
            f"fewer, {100 * figures['lost']:g} points of completeness given up")  # fmt: skip
    rows = [
        (
            share(entry["completeness"]),
            str(r["round"]),
            f"{share(r['fpr']['value'])} ({interval(r['fpr'])})",
            f"{count(r['fpr']['k'])} of {count(r['fpr']['n'])}",
            times(r.get("ratio")),
            times(r.get("ratio_lost")),
        )
        for entry in figures["at"]
        for r in entry["rounds"]
    ]
    parts.append(_table(head, rows))
    head = ("after round", "mined", *USES.values(), "lenses expected among the negatives",
            "planted lenses among them")  # fmt: skip
    rows = [
        (
            str(r["round"]),
            count(r["mined"]["n"]),
            *[count(r["mined"][use]["n"]) for use in USES],
            expected(r["mined"]["negative"]["expected"]),
            count(r["mined"]["negative"]["planted"]),
        )
        for r in figures["rounds"]
        if r["mined"] is not None
    ]
    parts.append(_table(head, rows))
    head = ("kind", "n", *[f"round {r['round']}" for r in figures["rounds"]])
    rows = [
        (e["kind"], count(e["n"]), *[f"{share(r['value'])} ({interval(r)})" for r in e["rounds"]])
        for e in figures["by_kind"]
    ]
    parts.append(f"FPR by kind at completeness {share(figures['kind_completeness'])}:")
    parts.append(_table(head, rows))
    return "\n\n".join(parts)


def verdict(figures: Mapping[str, Any]) -> str:
    """Which round the stopping rule picks, in one sentence."""
    rule = (
        f"the false-positive rate on val at completeness {share(figures['val_completeness'])} has "
        f"to fall by {share(figures['least_gain'])} from one round to the next"
    )
    last = figures["rounds"][-1]["round"]
    if figures["picked"] is None:
        return f"The stopping rule has nothing to look at: {rule}."
    if figures["picked"] == last:
        return (
            f"By the stopping rule every round was worth its while, the last, {last}, too: {rule}."
        )
    return (
        f"The stopping rule picks round {figures['picked']} of {last}: {rule}. The report is of "
        f"round {last}; to stop there, set `rounds = {figures['picked']}`."
    )


def times(ratio: Mapping[str, Any] | None) -> str:
    """A ratio with its interval.

    Examples:
        >>> times({"value": 5.2, "low": 3.1, "high": 8.8}), times(None)
        ('5.20 × (3.10 – 8.80)', '–')
        >>> times({"value": None, "low": 12.0, "high": None})
        '≥ 12.0 ×'
    """
    if ratio is None or ratio["low"] is None:
        return NONE
    if ratio["value"] is None:
        return f"≥ {number(ratio['low'])} ×"
    upper = "no upper end" if ratio["high"] is None else number(ratio["high"])
    return f"{number(ratio['value'])} × ({number(ratio['low'])} – {upper})"


def expected(found: Mapping[str, Any] | None) -> str:
    """An expected number of lenses, with the interval of the number itself."""
    if found is None:
        return NONE
    return f"{number(found['value'])} ({count(found['low'])} – {count(found['high'])})"


def _has_planted(figures: Mapping[str, Any]) -> bool:
    mined = [r["mined"] for r in figures["rounds"] if r["mined"] is not None]
    return any(m["negative"]["planted"] is not None for m in mined)


def _plot(figures: Mapping[str, Any]) -> str:
    """False-positive rate by round, a line a completeness."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        lines = [_line(entry) for entry in figures["at"]]
        for at, (label, rounds, values, low, high) in enumerate(lines):
            marker = MARKERS[at % len(MARKERS)]
            ends = [
                [v - a for v, a in zip(values, low, strict=True)],
                [b - v for v, b in zip(values, high, strict=True)],
            ]
            where = [k + 0.05 * (at - len(lines) / 2) for k in rounds]
            axes.errorbar(
                where, values, yerr=ends, marker=marker, lw=1.2, capsize=2, label=label,
                color=plots.FIRST if at % 2 == 0 else plots.SECOND,
                ls="-" if at < 2 else "--",
            )  # fmt: skip
        axes.set_xticks([r["round"] for r in figures["rounds"]])
        axes.set_xlabel("round")
        axes.set_ylabel("false-positive rate on test")
        if any(v > 0 for _, _, values, _, _ in lines for v in values):
            axes.set_yscale("log", nonpositive="mask")
        axes.grid(axis="y")
        columns = 2 if figure.get_figwidth() <= plots.NARROW else len(lines)
        figure.legend(title="at completeness", loc="outside upper left", ncols=columns, fontsize=9)

    title = "False-positive rate of each round at stated completeness"
    return plots.svg(draw, (7.2, 3.6), "mining", title, narrow=(plots.NARROW, 3.4))


def _line(entry: Mapping[str, Any]) -> tuple[str, list[int], list[float], list[float], list[float]]:
    """One completeness: label, rounds, values and their ends, where there is a value."""
    known = [r for r in entry["rounds"] if r["fpr"]["value"] is not None]
    values, low, high = ([r["fpr"][n] for r in known] for n in ("value", "low", "high"))
    return share(entry["completeness"]), [r["round"] for r in known], values, low, high


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
