"""What the terminal shows of an evaluation: few lines, no figure without its interval or reason."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkhaloscope.evaluate.thresholds import Thresholds

Figures = Mapping[str, Any]
WIDTH = 100


def summary(figures: Figures) -> str:
    """What was read, the headline, the rates of the headline stratum, and the comparison."""
    parts = [_table(figures), figures["headline_text"], _rates(figures), _auroc(figures)]
    if "against" in figures:
        parts.append(_against(figures["against"], figures["headline"]))
    return "\n\n".join(part for part in parts if part)


def negatives(n: int, which: str = "") -> str:
    """A count of negatives.

    Examples:
        >>> negatives(1), negatives(4228, "unique ")
        ('1 negative', '4,228 unique negatives')
    """
    return f"{n:,} {which}negative{'' if n == 1 else 's'}"


def written(out: Path, chosen: Thresholds | None, *, has_page: bool) -> str:
    """Where the files are, and what the thresholds are for; None: those of other data were used."""
    if chosen is None:
        said = "none written: those of other data were used"
    elif chosen.points:
        said = f"{out / 'thresholds.json'}, for use on other data with --thresholds"
    else:
        said = f"none: {negatives(chosen.n_negatives)} can bound none"
    page = [f"Page        {out / 'index.html'}"] if has_page else []
    return "\n".join(
        [
            "",
            *page,
            f"Figures     {out / 'metrics.json'}",
            f"Thresholds  {said}",
        ]
    )


def failed(consistency: Figures) -> str:
    """The self-check failed: which checks, and by how much."""
    bad = [c for c in consistency["checks"] if not c["passed"]]
    lines = [f"  {c['name']}: differs by {c['value']:.3g}, limit {c['limit']:g}" for c in bad]
    return "\n".join(
        [
            "dhs: the self-check failed: these figures contradict each other, and none was written",
            *lines,
            "this is a bug of darkhaloscope; please report it with the table",
        ]
    )


def quoted(rate: Figures) -> str:
    """A rate with its interval, in per cent.

    Examples:
        >>> quoted({"value": 0.7461, "low": 0.7, "high": 0.8})
        '74.6 % (70 to 80 %)'
    """
    value, low, high = (100 * rate[name] for name in ("value", "low", "high"))
    return f"{value:.3g} % ({low:.3g} to {high:.3g} %)"


def _table(figures: Figures) -> str:
    table = figures["table"]
    left_out = table["n_left_out"]
    without = f"; {left_out:,} more without a label were left out" if left_out else ""
    regions = f"; {figures['n_regions']:,} regions" if figures["n_regions"] else ""
    named = [
        role if role == column else f"{role} from {column}"
        for role, column in table["columns"].items()
    ]
    weights = [
        "negatives weighted to the sky"
        if figures["is_weighted_to_sky"]
        else "every negative counts alike: no sky_weight",
        "lenses weighted to their population"
        if figures["is_weighted_to_population"]
        else "every lens counts once: no weight",
    ]
    lines = [
        f"{table['where']}: {figures['n_rows']:,} stamps{without}",
        f"{figures['n_lens_rows']:,} rows of {figures['n_lenses']:,} lens galaxies, "
        f"{figures['n_negative_rows']:,} rows of {figures['n_negative_galaxies']:,} negative "
        f"galaxies{regions}",
        f"columns: {', '.join(named)}; scores are of kind {table['score_kind']}",
        "; ".join(weights),
    ]
    if "group" not in table["columns"]:
        lines.append("no group: every row counts as a galaxy of its own")
    return "\n  ".join(textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in lines)


def _rates(figures: Figures) -> str:
    """Completeness at each FPR, of the headline stratum."""
    head = figures["headline"]
    if not head["n_lenses"]:
        return ""
    whose = f"{head['stratum']} ({head['origin']}, n = {head['n_lenses']:,})"
    points = figures["operating_points"]
    if any(p["fpr"] for p in points):
        on = points[0]["chosen_on"]
        said = f"at thresholds fixed on {on}, {negatives(points[0]['n_chosen_on'])}"
        rows: list[tuple[str, ...]] = [
            ("FPR asked", "FPR found, 95 %", "completeness, 95 %", "threshold")
        ]
        rows += [_point(p) for p in points]
    else:
        said = "thresholds placed on this same table, whose uncertainty the intervals carry"
        rows = [("FPR", "completeness, 95 %", "state", "threshold")]
        rows += [_rate(r) for r in figures["by_stratum"]["headline"]["tpr_at_fpr"]]
    return "\n".join([f"Completeness of {whose}", f"  {said}", *_aligned(rows)])


def _point(point: Figures) -> tuple[str, ...]:
    if not point["fpr"]:
        return (f"{point['at']:g}", point["note"])
    threshold = _threshold(point["threshold"])
    return (f"{point['at']:g}", _state(point["fpr"]), quoted(point["tpr_headline"]), threshold)


def _state(rate: Figures) -> str:
    return quoted(rate) + (", bounded" if rate["state"] == "bounded" else "")


def _rate(rate: Figures) -> tuple[str, ...]:
    if not rate["resolvable"]:
        return (f"{rate['at']:g}", rate["note"])
    return (f"{rate['at']:g}", quoted(rate), rate["state"], _threshold(rate["threshold"]))


def _threshold(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of columns two blanks apart; a row with fewer cells is a sentence at its end."""
    full = [row for row in rows if len(row) == len(rows[0])]
    width = [max(len(row[i]) for row in full) for i in range(len(rows[0]))]
    width[0] = max(width[0], *(len(row[0]) for row in rows))
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=False)).rstrip()
        for row in rows
    ]


def _auroc(figures: Figures) -> str:
    area = figures["auroc"]
    n, against = figures["n_lenses"], figures["headline"]["n_negatives"]
    return (
        f"AUROC {area['value']:.4f} ({area['low']:.4f} to {area['high']:.4f}) of all {n:,} lenses "
        f"against {negatives(against)}"
    )


def points(difference: Figures) -> str:
    """A difference of two rates with its interval, in points of a hundred, with signs.

    Examples:
        >>> points({"difference": 0.0613, "low": -0.002, "high": 0.1241})
        '+6.1 points (-0.2 to +12.4)'
    """
    value, low, high = (100 * difference[name] for name in ("difference", "low", "high"))
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"


def _against(against: Figures, head: Figures) -> str:
    """Both finders' completeness on the stamps that both have, and the paired difference."""
    alone = [
        f"{against[key]:,} are in the {which} alone"
        for key, which in (("n_first_only", "first"), ("n_second_only", "second"))
        if against[key]
    ]
    matched = f"{against['n_matched']:,} stamps matched by {against['matched_by']}"
    lines = [f"Against {against['where']}: {'; '.join([matched, *alone])}"]
    found = against["headline"]
    if found is None:
        return lines[0]
    whose = f"{head['stratum']} ({head['origin']}, n = {found['n_lenses']:,})"
    lines.append(f"  completeness of {whose}; thresholds placed on this same table")
    rows: list[tuple[str, ...]] = [("FPR", "first, 95 %", "second, 95 %", "first less second")]
    for rate in found["tpr_at_fpr"]:
        both = [_state(r) if r["resolvable"] else "" for r in (rate["first"], rate["second"])]
        difference = rate["note"] if rate["difference"] is None else points(rate)
        rows.append(
            (f"{rate['at']:g}", *both, difference) if all(both) else (f"{rate['at']:g}", difference)
        )
    area = found["auroc"]
    signed = f"{area['difference']:+.4f} ({area['low']:+.4f} to {area['high']:+.4f})"
    values = f"{area['first']['value']:.4f} and {area['second']['value']:.4f}"
    return "\n".join([*lines, *_aligned(rows), f"  AUROC of {head['stratum']}: {values}, {signed}"])
