"""The line that may be quoted from an evaluation, and what has to stand beside it."""

from collections.abc import Mapping
from typing import Any

ALL = "all lenses"  # the headline stratum where no minimum is asked
ENOUGH_SOURCES = 50  # different galaxies below which figures that rest on them only illustrate


def headline_text(metrics: Mapping[str, Any]) -> str:
    """The one line that may be quoted: completeness with its stratum, origin, size and interval.

    At the least FPR whose threshold the calibration set could choose; without one, at the least
    FPR of the table that is measured, or else that the negatives resolve; else the reason why there
    is no figure. Where regions are known their interval stands beside it: it is the one to quote
    for another part of the sky.
    """
    head = metrics["headline"]
    within = "" if head["stratum"] == ALL else f" with {head['stratum']}"
    whose = f"{head['n_lenses']:,} lenses ({head['origin']}){within}"
    if not head["n_lenses"]:
        return f"No headline: no lens{within}"
    points = [p for p in metrics["operating_points"] if p["tpr_headline"]]
    if points:
        point = points[-1]
        return (
            f"Completeness {_quoted(point['tpr_headline'])} of {whose}, "
            f"at the threshold chosen on {point['chosen_on']} for FPR {point['at']:g}; "
            f"FPR found {_quoted(point['fpr'])}, from {head['n_negatives']:,} negatives"
            f"{_over_regions(point['tpr_headline'], metrics)}"
        )
    found = [r for r in metrics["by_stratum"]["headline"]["tpr_at_fpr"] if r["resolvable"]]
    if not found:
        return f"No headline: {metrics['tpr_at_fpr'][0]['note']}"
    known = [r for r in found if r["state"] == "measured"] or found
    bounded = "" if known[-1]["state"] == "measured" else ", where fewer than 10 negatives are kept"
    return (
        f"Completeness {_quoted(known[-1])} of {whose}, at FPR {known[-1]['at']:g}{bounded}"
        f"{_over_regions(known[-1], metrics)}"
    )


def illustrative(sources_by_kind: Mapping[str, int]) -> str:
    """Why the figures only illustrate: few different galaxies stand for a kind of source.

    Examples:
        >>> illustrative({"sersic": 3, "clumpy": 80, "catalogue": 7})
        'illustrative: only 7 different catalogue galaxies are sources, fewer than 50'
        >>> illustrative({"sersic": 900, "clumpy": 80})
        ''
    """
    few = {k: n for k, n in sources_by_kind.items() if k != "sersic" and n < ENOUGH_SOURCES}
    if not few:
        return ""
    said = " and ".join(f"{n} different {kind}" for kind, n in few.items())
    return f"illustrative: only {said} galaxies are sources, fewer than {ENOUGH_SOURCES}"


def _over_regions(r: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The interval that knows of differences between regions, where it can be told."""
    low, high = r.get("region_low"), r.get("region_high")
    if low is None or high is None:
        return ""
    return f"; {100 * low:.3g} to {100 * high:.3g} % over {metrics['n_regions']:,} regions"


def _quoted(r: Mapping[str, Any]) -> str:
    """A rate with its interval, in per cent."""
    value, low, high = (100 * r[name] for name in ("value", "low", "high"))
    return f"{value:.3g} % ({low:.3g} to {high:.3g} %)"
