"""Gates: what a training set must hold to before a network is trained on it.

Each gate guards against a failure that happened. It gives rows: a value with its interval, the
limits, and whether they hold. A gate that cannot be judged fails, with the reason. A gate may be
waived by name; it is then shown as failed and waived, with the reason.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

GATES_FILE = "gates.json"
ALL = "all"
SHOWN = 2  # failures of one gate that a message names
_TWIN = (
    "give lenses companions: companion = 1 in manifest.sets.train.copies, and a share of it in "
    "model.NAME.mix"
)
_HOSTS = 'controls = "paired" or "host_matched" in manifest.sets.train'
_NOISE = f"{_TWIN}: then both classes hold injected light, with its photon noise"
GUARDS = {  # what each guards against, in the words of the list of failures
    "resolution": "unresolved positives",
    "core_only": "core leakage",
    "total_flux": "is there extra flux?",
    "radial_profile": "a ring is enough",
    "annulus_colour": "blue light somewhere is enough",
    "sky_stats": "normalisation leak",
    "metadata": "metadata leak",
    "control_copies": "duplicated negatives",
    "splits_leak": "split by accident",
    "pixels": "NaN, zeros and clipping; classes that differ in more than the lens",
    "brightness": "injections far too bright",
    "texture": "lenses alone have another texture",
    "noise_only": "lenses alone get extra noise",
}
REMEDIES = {  # what to change in the run's file where a gate fails
    "resolution": "raise manifest.min_theta_e_over_fwhm (the demo has 0.6) and the ends of "
    "manifest.training.theta_e_arcsec; the grids of the first run have no such range: "
    'prior = "broad"',
    "core_only": f"{_TWIN}; with companions there, raise manifest.min_theta_e_over_fwhm",
    "total_flux": _TWIN,
    "radial_profile": _TWIN,
    "annulus_colour": _TWIN,
    "sky_stats": _HOSTS,
    "metadata": _HOSTS,
    "control_copies": "1 for every kind but lens in manifest.sets.train.copies",
    "splits_leak": "a share that is missed: another splits.seed, or a finer splits.region_nside; "
    "duplicates across splits: a splits.guard_arcsec above 1; any other: no setting does that, so "
    "report it",
    "pixels": 'clipped: normalisation = "asinh" in model.NAME; not finite, or a band without '
    "light: look at the bricks' images; flux closure: no setting mends it, so report it; a lens "
    f"and negative that differ: {_HOSTS}",
    "brightness": "arcs too bright or too faint: the range manifest.training.arc_snr_g; sources "
    "over counts: lower its upper end, to which manifest.training.src_mag_r is scaled; the grids "
    'of the first run have neither: prior = "broad"',
    "texture": _NOISE,
    "noise_only": _NOISE,
}


@dataclass(frozen=True, slots=True)
class Checks:
    """What is looked at together: the gates before training, or the audit after it.

    Attributes:
        section: Of the run's file.
        what: One of them, for messages.
        guards: Every name, in order, with what it guards against.
        remedies: What to change where one fails.
        outcome: What follows from a failure.
    """

    section: str
    what: str
    guards: Mapping[str, str]
    remedies: Mapping[str, str]
    outcome: str


GATES = Checks("gates", "gate", GUARDS, REMEDIES, "so nothing is trained")


@dataclass(frozen=True, slots=True)
class Row:
    """One judgement.

    Attributes:
        name: The gate.
        stratum: What of it: `all`, a stratum, or a quantity.
        value: What was measured; None: it could not be.
        low: Lower end of the 95 % interval; None: the value has no sampling error, or none known.
        high: Upper end.
        limit_low: The value may not be below it; None: no such limit.
        limit_high: The value may not be above it; None: no such limit.
        passed: Whether the limits hold; True where there is none.
        waived: It failed, and the run's file waives it.
        reason: Why it failed, or why it is waived; empty otherwise.
        detail: What was compared with what, and how many.
    """

    name: str
    stratum: str
    value: float | None
    low: float | None = None
    high: float | None = None
    limit_low: float | None = None
    limit_high: float | None = None
    passed: bool = True
    waived: bool = False
    reason: str = ""
    detail: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether there is a verdict; a stratum with too few galaxies has none."""
        return self.value is not None or not self.passed

    def as_dict(self, checks: Checks = GATES) -> dict[str, Any]:
        """The row as it stands in `gates.json`, with what it guards against."""
        known = asdict(self)
        order = (
            "name", "stratum", "guards", "value", "low", "high", "limit_low", "limit_high",
            "passed", "waived", "reason", "detail",
        )  # fmt: skip
        known["guards"] = checks.guards[self.name]
        return {name: known[name] for name in order}


def judged(
    name: str,
    stratum: str,
    value: float,
    interval: tuple[float, float] | None = None,
    *,
    limit_low: float | None = None,
    limit_high: float | None = None,
    detail: str = "",
    is_stratum: bool = False,
) -> Row:
    """A row judged by its limits, both of them allowed values.

    Args:
        name: The gate.
        stratum: What of it.
        value: What was measured; NaN fails wherever there is a limit.
        interval: Its 95 % interval.
        limit_low: Least value.
        limit_high: Largest value.
        detail: What was compared.
        is_stratum: It is a small part of what the row `all` judges: it fails only where the whole
            interval is beyond the limit.

    Examples:
        >>> judged("core_only", "all", 0.7, (0.68, 0.72), limit_high=0.6).reason
        '0.7 is above 0.6'
        >>> judged("core_only", "part", 0.62, (0.55, 0.69), limit_high=0.6, is_stratum=True).passed
        True
    """
    low, high = interval or (None, None)
    row = Row(name, stratum, _finite(value), low, high, limit_low, limit_high, detail=detail)
    if limit_low is None and limit_high is None:
        return row
    if row.value is None:
        return replace(row, passed=False, reason="it could not be measured")
    least, most = interval if is_stratum and interval else (value, value)
    if limit_high is not None and _above(least, limit_high):
        return replace(row, passed=False, reason=f"{value:.3g} is above {limit_high:g}")
    if limit_low is not None and _above(limit_low, most):
        return replace(row, passed=False, reason=f"{value:.3g} is below {limit_low:g}")
    return row


def not_judged(name: str, reason: str, stratum: str = ALL) -> Row:
    """A gate that cannot be judged: it has failed."""
    return Row(name, stratum, None, passed=False, reason=reason)


def finished(rows: Iterable[Row], waivers: Mapping[str, str], checks: Checks = GATES) -> list[Row]:
    """Rows in the order of the checks, every one among them, failures waived where asked."""
    given, order = list(rows), list(checks.guards)
    missing = [not_judged(n, "it was not looked at") for n in order if n not in names(given)]
    placed = sorted(given + missing, key=lambda row: order.index(row.name))
    return [_waived(row, waivers) for row in placed]


def names(rows: Iterable[Row]) -> set[str]:
    """The gates that have a row."""
    return {row.name for row in rows}


def table(rows: Sequence[Row], checks: Checks = GATES) -> pa.Table:
    """The rows as a table."""
    number, flag = pa.float64(), pa.bool_()
    kinds = {
        **dict.fromkeys(("value", "low", "high", "limit_low", "limit_high"), number),
        **dict.fromkeys(("passed", "waived"), flag),
    }
    first = list(Row(next(iter(checks.guards)), ALL, None).as_dict(checks))
    schema = pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in first])
    return pa.Table.from_pylist([row.as_dict(checks) for row in rows], schema=schema)


def text(rows: Sequence[Row]) -> str:
    """The rows as JSON."""
    return json.dumps([r.as_dict() for r in rows], indent=1, allow_nan=False, ensure_ascii=False)


def read(folder: Path) -> list[Row]:
    """The rows of a published folder."""
    return of_records(json.loads((folder / GATES_FILE).read_text(encoding="utf-8")))


def of_records(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows from what `Row.as_dict` made of them."""
    return [Row(**{k: v for k, v in record.items() if k != "guards"}) for record in records]


def refusal(rows: Sequence[Row], page: str, checks: Checks = GATES) -> str:
    """Why a run may not go on, in one finished message; empty: nothing stands against it.

    Args:
        rows: All rows.
        page: Where they are shown.
        checks: What was looked at.
    """
    failed = [row for row in rows if not row.passed and not row.waived]
    if not failed:
        return ""
    stopped = list(dict.fromkeys(row.name for row in failed))
    counted = f"{len(stopped)} of {len(checks.guards)} {checks.what}s failed"
    lines = [f"{counted}, {checks.outcome}:"]
    for name in stopped:
        mine = [row for row in failed if row.name == name]
        lines.append(f"  {name} (guards against: {checks.guards[name]})")
        lines += [f"    {row.stratum}: {row.reason}{_told(row)}" for row in mine[:SHOWN]]
        if len(mine) > SHOWN:
            lines.append(f"    and {len(mine) - SHOWN} more of it")
        lines.append(f"    to mend it: {checks.remedies[name]}")
    lines += [
        f"All values, and what they are of: {page}",
        "Mend the recipe; or, where a failure is meant, say so in the run's file and run again:",
        f"  [{checks.section}.waive]",
        *[f'  {name} = "why this is meant"' for name in stopped],
    ]
    return "\n".join(lines)


def _told(row: Row) -> str:
    interval = "" if row.low is None or row.high is None else f" ({row.low:.3g} to {row.high:.3g})"
    return f"{interval}; {row.detail}" if row.detail else interval


def _waived(row: Row, waivers: Mapping[str, str]) -> Row:
    if row.passed or row.name not in waivers:
        return row
    return replace(row, waived=True, reason=f"{row.reason}; waived: {waivers[row.name]}")


def _above(value: float, limit: float) -> bool:
    """Beyond the limit by more than rounding."""
    return value > limit * (1 + 1e-9) + 1e-12


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
