"""The page of the gates: one self-contained HTML file in the style of the report.

Everything it says is read from the rows of `gates.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkhaloscope.evaluate.gates import GUARDS, REMEDIES, Row
from darkhaloscope.evaluate.html import count, filled, number

_AREA = "Area under the ROC curve (0.5: nothing) of a model that sees"
MEASURES = {  # what a gate looks at, for people
    "resolution": "Share of the lenses with an Einstein radius below half the seeing, up to it, "
    "and above it.",
    "core_only": f"{_AREA} the central 10 × 10 px alone.",
    "total_flux": f"{_AREA} the flux in each band alone.",
    "radial_profile": f"{_AREA} azimuthal means in rings.",
    "annulus_colour": f"{_AREA} fluxes and colours in six annuli.",
    "sky_stats": f"{_AREA} median, MAD and rms beyond 28 px, against all negatives.",
    "metadata": f"{_AREA} seeing, depth, noise, exposures, position and host magnitude, against "
    "all negatives.",
    "control_copies": "Rows of one kind of negative on one galaxy.",
    "splits_leak": "Galaxies, sky and sources that two splits share, and the splits' shares.",
    "pixels": "Faults of pixels, light that is missing, clipped cores, and classes whose hosts "
    "differ.",
    "brightness": "Signal of the arcs and magnitudes of their sources.",
    "texture": f"{_AREA} statistics finer than the seeing.",
    "noise_only": f"{_AREA} the statistics of texture once the injected light is taken off; its "
    "photon noise stays.",
}

NAMES = {
    "theta_e_over_fwhm_r": "θE / FWHM r",
    "theta_e_over_psfsize_r": "θE / psfsize r",
    "arc_snr_g": "arc S/N in g",
    "src_mag_r": "source r",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Where a row's value, interval and limits stand on its bar, per cent of its width."""

    value: float
    low: float | None
    high: float | None
    limits: tuple[float, ...]


def render(rows: Sequence[Row], sampled: Mapping[str, int]) -> str:
    """The page as HTML text; every value is escaped.

    Args:
        rows: All rows, in the order of the gates.
        sampled: Stamps that were painted, by kind.
    """
    filters = {"count": count, "value": value_text, "limit": limit_text, "bar": bar, "words": words}
    gates = {name: [row for row in rows if row.name == name] for name in GUARDS}
    return filled(
        "gates.html.j2",
        filters,
        gates=gates,
        states={name: state(mine) for name, mine in gates.items()},
        deciding={name: deciding(mine) for name, mine in gates.items()},
        guards=GUARDS,
        measures=MEASURES,
        remedies=REMEDIES,
        sampled=sampled,
        row_state=lambda row: state([row]),
    )


def state(rows: Sequence[Row]) -> str:
    """`passed`, `failed`, `waived`, `no limit` or `not judged`, of rows together."""
    if any(not row.passed and not row.waived for row in rows):
        return "failed"
    if any(row.waived for row in rows):
        return "waived"
    if not any(row.is_judged for row in rows):
        return "not judged"
    limited = any(row.limit_low is not None or row.limit_high is not None for row in rows)
    return "passed" if limited else "no limit"


def deciding(rows: Sequence[Row]) -> Row | None:
    """The row that a gate is summed up by: its first failure, else its first with a limit."""
    failed = [row for row in rows if not row.passed]
    limited = [row for row in rows if row.limit_low is not None or row.limit_high is not None]
    return next(iter([*failed, *limited]), None)


def words(stratum: str) -> str:
    """A stratum as people write it.

    Examples:
        >>> words("theta_e_over_fwhm_r:0.5-1"), words("all")
        ('θE / FWHM r: 0.5-1', 'all')
    """
    column, colon, label = stratum.partition(":")
    for name, written in NAMES.items():
        column = column.replace(name, written)
    return f"{column}: {label}" if colon else column


def value_text(value: float | None) -> str:
    """A value as people read it.

    Examples:
        >>> value_text(0.56123), value_text(36.0), value_text(None), value_text(1.2e-5)
        ('0.561', '36', '–', '1.2e-05')
    """
    if value is None:
        return "–"
    if float(value).is_integer():
        return count(value)
    return number(value) if abs(value) >= 1e-3 else f"{value:.2g}"


def limit_text(row: Row) -> str:
    """The limits in words.

    Examples:
        >>> limit_text(Row("core_only", "all", 0.5, limit_high=0.6))
        '≤ 0.6'
        >>> limit_text(Row("noise_only", "all", 0.5, limit_low=0.48, limit_high=0.52))
        '0.48 to 0.52'
    """
    low, high = row.limit_low, row.limit_high
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if high is not None:
        return f"≤ {high:g}"
    return "none" if low is None else f"≥ {low:g}"


def bar(row: Row) -> Bar | None:
    """A row's bar; None where there is nothing to draw against."""
    limits = [limit for limit in (row.limit_low, row.limit_high) if limit is not None]
    if row.value is None or not limits:
        return None
    ends = [x for x in (row.low, row.high) if x is not None]
    known = [row.value, *limits, *ends]
    first, last = min([*known, 0.5 if _is_area(row) else 0.0]), max(known)
    width = (last - first) or 1.0
    first, last = first - 0.04 * width, last + 0.08 * width

    def at(value: float) -> float:
        return round(100 * (value - first) / (last - first), 2)

    low, high = (at(row.low), at(row.high)) if len(ends) == 2 else (None, None)  # type: ignore[arg-type]
    return Bar(at(row.value), low, high, tuple(at(limit) for limit in limits))


def _is_area(row: Row) -> bool:
    """Whether the value is an area under a ROC curve, whose zero is a half."""
    return MEASURES[row.name].startswith(_AREA)
