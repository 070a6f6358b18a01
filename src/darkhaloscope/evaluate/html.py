"""The report's page: one self-contained HTML file, which needs no network to be read.

What is said here is read from `metrics.json`; nothing is computed for the page alone. A figure is
never shown without its interval, or without the words that say why there is none.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darkhaloscope.evaluate.plots import bin_label
from darkhaloscope.evaluate.published import Sample
from darkhaloscope.evaluate.words import negatives

SPACE = "\u00a0"  # a number and its unit stay on one line
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NAMES = {
    "theta_e_arcsec": "θ<sub>E</sub>, arcsec",
    "theta_e_over_fwhm_r": "θ<sub>E</sub> / FWHM<sub>r</sub>",
    "theta_e_over_psfsize_r": "θ<sub>E</sub> / psfsize<sub>r</sub> (no FWHM)",
    "arc_snr_g": "arc S/N in g",
    "arc_snr_r": "arc S/N in r",
    **{f"psf_fwhm_{b}_arcsec": f"PSF FWHM<sub>{b}</sub>, arcsec" for b in "grz"},
    **{f"depth_{b}_mag": f"depth in {b}, mag" for b in "grz"},
    "host_mag_z": "host z-band magnitude",
    "θ_E": "θ<sub>E</sub>",
    "&gt;=": "≥",
}
QUANTITIES = {  # headings of what was drawn
    "theta_e_arcsec": "θ<sub>E</sub>, arcsec",
    "lens_z": "lens z",
    "src_z": "source z",
    "src_mag_r": "source r, mag",
    "src_r_eff_arcsec": "source r<sub>eff</sub>, arcsec",
    "magnification": "μ",
    "arc_snr": "arc S/N, best band",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """A picture of the gallery.

    Attributes:
        png: The picture's bytes.
        score: Its score.
        kind: What was in the stamp.
        details: Further lines of the caption.
        name: Id of the stamp or target.
        link: Where it can be looked at; empty: nowhere.
    """

    png: bytes
    score: float
    kind: str
    details: tuple[str, ...] = ()
    name: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Stamps with a heading, and a sentence that says how they were chosen."""

    title: str
    note: str
    stamps: Sequence[Stamp]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that a stage beyond the scores has to show.

    Attributes:
        id: Its anchor.
        title: Its heading, and its name in the list at the top.
        body: HTML, escaped where it was made.
    """

    id: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows beside the metrics.

    Attributes:
        title: The page's heading.
        subtitle: What was evaluated, in one line.
        metrics: The content of `metrics.json`.
        plots: SVG text by name: `roc`, `scores`, `completeness`.
        best_fpr: The least FPR of the tables that is measured.
        splits: Galaxies, regions and area of each split.
        refused: Number of targets refused, by reason.
        n_targets: Number of targets, refused or not.
        drawn: Rows of `evaluate.drawn.summary`: what was injected; none where that is not known.
        samples: Published samples that the plot `drawn` shows beside it.
        galleries: Pictures.
        candidates: The first rows of the candidate table, as plain values.
        cautions: What the figures must not be used for, one sentence each.
        is_simulated_sky: The targets' density on the sky is that of a simulation.
        of: What the page calls the table that was evaluated.
        gates: Rows of `gates.json`; None: the table comes from no run.
        sections: Further parts of the page, before the galleries.
    """

    title: str
    subtitle: str
    metrics: Mapping[str, Any]
    plots: Mapping[str, str]
    best_fpr: float
    splits: Sequence[Mapping[str, Any]] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    n_targets: int | None = None
    drawn: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Sample] = ()
    galleries: Sequence[Gallery] = ()
    candidates: Sequence[Mapping[str, Any]] = ()
    cautions: Sequence[str] = ()
    is_simulated_sky: bool = False
    of: str = "test set"
    gates: Sequence[Mapping[str, Any]] | None = None
    sections: Sequence[Section] = ()


WORST_AT = 0.7  # the completeness at which the worst kind is named


def render(page: Page) -> str:
    """The page as one HTML text; every value is escaped."""
    filters = {
        "share": share,
        "interval": interval,
        "power": power,
        "signed": signed,
        "count": count,
        "negatives": negatives,
        "number": number,
        "words": _words,
        "quantity": _quantity,
        "brief": brief,
        "bin": bin_label,
        "image": _image,
    }
    groups = _strata_by_column(page.metrics["by_stratum"])
    return filled(
        "report.html.j2",
        filters,
        page=page,
        m=page.metrics,
        groups={c: bins for c, bins in groups.items() if not _is_of_target(bins)},
        target_groups={c: bins for c, bins in groups.items() if _is_of_target(bins)},
        at=_at,
        copies_differ=_copies_differ(page.metrics["stress"]),
        placeless=_placeless(page.metrics),
        over_regions=_over_regions,
        floor=_floors(page.metrics),
        worst=_at(page.metrics.get("worst_kind", ()), WORST_AT),
    )


def filled(name: str, filters: Mapping[str, Any], **values: Any) -> str:
    """A template of the package with values in it; every value is escaped.

    Args:
        name: File below `templates/`; it may include others, such as the common style sheet.
        filters: What its values may be passed through.
        values: What it names; one that is missing is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("darkhaloscope.evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name).render(**values)


def share(value: float | None) -> str:
    r"""A rate as people read it: per cent, or a power of ten where it is small.

    Examples:
        >>> share(0.7461), share(0.00722), share(1.0), share(1.2e-4), share(0.0), share(None)
        ('74.6\xa0%', '0.72\xa0%', '100\xa0%', '1.2 × 10⁻⁴', '0', '–')
    """
    if value is None:
        return "–"
    return _percent(value) if value >= 1e-3 else power(value)


def interval(rate: Mapping[str, Any]) -> str:
    r"""The ends of a 95 % interval, both in one unit.

    Examples:
        >>> interval({"low": 0.666, "high": 0.8124}), interval({"low": 2.4e-4, "high": 1.2e-3})
        ('66.6 – 81.2\xa0%', '0.024 – 0.12\xa0%')
        >>> interval({"low": 1.6e-6, "high": 3.8e-4})
        '1.6 × 10⁻⁶ – 3.8 × 10⁻⁴'
    """
    low, high = rate.get("low"), rate.get("high")
    if low is None or high is None:
        return ""
    if high >= 1e-3:
        return f"{_percent(low).removesuffix(SPACE + '%')} – {_percent(high)}"
    return f"{power(low)} – {power(high)}"


def power(value: float) -> str:
    """A number as a power of ten.

    Examples:
        >>> power(1e-3), power(2.5e-5), power(0)
        ('10⁻³', '2.5 × 10⁻⁵', '0')
    """
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    ten = "10" + str(int(exponent)).translate(SUPERSCRIPT)
    return ten if mantissa == "1.0" else f"{float(mantissa):g} × {ten}"


def signed(value: float, scale: float = 100.0, places: int = 1) -> str:
    """A difference with its sign, in points of a hundred.

    Examples:
        >>> signed(0.0613), signed(-0.004), signed(0.0255, 1, 4)
        ('+6.1', '−0.4', '+0.0255')
    """
    return f"{scale * value:+.{places}f}".replace("-", "−")


def count(value: float | None) -> str:
    """A count with thin groups of three; broken where copies of a lens differ.

    Examples:
        >>> count(36887), count(1.5), count(None)
        ('36,887', '1.5', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many figures.

    Examples:
        >>> number(0.98431), number(1234.5), number(None)
        ('0.984', '1,230', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(places, 0)}f}"


def brief(note: str) -> str:
    """Why a rate is missing, short enough for a cell of a table.

    Examples:
        >>> brief("not resolvable with 500 negatives: bounding it needs 4,412")
        'n. r. (needs 4,412)'
        >>> brief("no lens in this stratum")
        'no lens in this stratum'
    """
    _, bounding, need = note.partition(": bounding it needs ")
    return f"n. r. (needs {need})" if bounding else note


def plain(column: str) -> str:
    """A column's name as a plot writes it.

    Examples:
        >>> plain("theta_e_arcsec"), plain("host_mag")
        ('θ_E, arcsec', 'host_mag')
    """
    name = NAMES.get(column, column)
    return name.replace("<sub>", "_").replace("</sub>", "")


def _percent(value: float) -> str:
    """Per cent with three figures above 10, and two or three below."""
    per_cent = 100 * value
    if per_cent in {0.0, 100.0}:
        return f"{per_cent:.0f}{SPACE}%"
    if per_cent >= 1:
        return f"{per_cent:.{1 if per_cent >= 10 else 2}f}{SPACE}%"
    return f"{number(per_cent, 2)}{SPACE}%"


def _words(text: str) -> Any:
    """Column names as people write them, as safe HTML."""
    import markupsafe

    shown = str(markupsafe.escape(text))
    for name, words in NAMES.items():
        shown = shown.replace(name, words)
    return markupsafe.Markup(shown)  # noqa: S704  (escaped above, then known names put in)


def _quantity(name: str) -> Any:
    """Heading of a quantity, as safe HTML."""
    import markupsafe

    return markupsafe.Markup(QUANTITIES[name])  # noqa: S704  (a text of this module)


def _copies_differ(stress: Mapping[str, Any]) -> bool:
    """Whether the rates per copy differ from those per galaxy, and deserve a column."""
    once = {r["at"]: r["value"] for r in stress["fpr_at_tpr"]}
    return any(
        not math.isclose(c["value"], once[c["at"]], rel_tol=1e-9) for c in stress["fpr_per_copy"]
    )


def _placeless(metrics: Mapping[str, Any]) -> list[str]:
    """Kinds of negative without a place on the sky: they weigh nothing there."""
    return [kind for kind in metrics["by_kind"] if not metrics["kind_weights"].get(kind)]


def _over_regions(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The first figures with both their intervals, as text; none where regions give none."""
    made = []
    area = metrics["auroc"]
    if area.get("region_low") is not None:
        plain, regions = (
            f"{number(area[low], 4)} – {number(area[high], 4)}"
            for low, high in (("low", "high"), ("region_low", "region_high"))
        )
        value = number(area["value"], 4)
        made.append({"name": "AUROC, all", "value": value, "plain": plain, "regions": regions})
    asked = [(f"completeness at FPR {power(r['at'])}, all", r) for r in metrics["tpr_at_fpr"]]
    for rate in metrics["by_stratum"]["headline"]["tpr_at_fpr"]:
        asked.append((f"completeness at FPR {power(rate['at'])}, headline", rate))
    for point in metrics["operating_points"]:
        for key, name in (("fpr", "FPR found"), ("tpr_headline", "completeness, headline")):
            where = f"{name}, threshold of {point['chosen_on']} for {power(point['at'])}"
            asked.append((where, point[key] or {}))
    for name, rate in asked:
        if rate.get("region_low") is None:
            continue
        over = interval({"low": rate["region_low"], "high": rate["region_high"]})
        value = share(rate["value"])
        made.append({"name": name, "value": value, "plain": interval(rate), "regions": over})
    return made


def _floors(metrics: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    """Contamination floor of an entry of the purity."""
    known = {
        (f["population"], f["prevalence"], f["at_fpr"]): f["value"]
        for f in metrics["contamination_floor"]
    }
    return lambda p: known[p["population"], p["prevalence"], p["at_fpr"]]


def _at(rates: Sequence[Mapping[str, Any]], at: float) -> Mapping[str, Any] | None:
    """The rate of a list at one value."""
    return next((r for r in rates if r["at"] == at), None)


def _strata_by_column(by_stratum: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """Bins of each column, in order; the headline is no bin."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, entry in by_stratum.items():
        column, _, label = name.partition(":")
        if label:
            groups.setdefault(column, []).append((label, entry))
    return groups


def _is_of_target(bins: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether the bins restrict the negatives as well as the lenses."""
    return "n_negatives" in bins[0][1]


def _image(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
