"""The audit in the report and on the model card: what failed first, in words, then every figure.

Everything said here is read from the rows of the audit.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from darkhaloscope.evaluate import gates_page, plots
from darkhaloscope.evaluate.audit_checks import COUNTERFACTUALS, DEPLOYMENT, REMEDIES
from darkhaloscope.evaluate.gates import ALL, Row, of_records
from darkhaloscope.evaluate.html import Section, count, filled, number

CONCLUSIONS = {  # what a user should conclude where a check fails
    "operating_point": "No figure below stands on a threshold.",
    "zero_flux": "Painting leaves a trace that the network reads: its completeness on injected "
    "lenses says little of real ones.",
    "arc_removed": "Galaxies are kept for what they are, not for an arc: part of the completeness "
    "is that of bright hosts.",
    "companion": "A blue neighbour is enough to be kept: expect candidates that are no more than "
    "projected pairs.",
    "radial_arc": "A stretched blue source is kept however it lies: expect jets, edge-on "
    "satellites and tails among the candidates.",
    "scrambled": "Blue pieces are kept wherever they lie: groups of satellites will be candidates.",
    "halo_ring": "A ring of the wrong width or colour is kept: expect ring galaxies and halos.",
    "gaussian_ring": "A faint ring turns any galaxy into a candidate: expect rings, ghosts and "
    "badly subtracted halos.",
    "rises_with_snr": "A brighter arc is no better candidate: the score does not measure the arc, "
    "and a rank by it means little.",
    "rises_with_theta_e": "A wider lens is no better candidate: the score does not measure how "
    "well the arc is resolved.",
    "plain_scores": "Survey galaxies score otherwise than the controls: false-positive rates of "
    "this report do not hold on the sky.",
    "plain_sky": "The sky's noise is not that of the controls.",
    "plain_detections": "Survey galaxies have other neighbours than the controls.",
    "plain_hosts": "Survey galaxies have other light than the controls' hosts.",
    "known_hosts": "The network knows the galaxies that it was taught with: candidates of the "
    "split train rank wrongly among the others.",
    "realism": "The network sees which lenses are injected: its completeness on them is no measure "
    "of that on real ones.",
}
MEASURES = {
    "operating_point": "Where shares are counted",
    "zero_flux": "Lenses' hosts, their arcs without flux, against controls",
    "arc_removed": "Lenses found whose host alone stays above the threshold",
    "companion": "Companions above the threshold",
    "radial_arc": "Radial arcs above the threshold",
    "scrambled": "Scrambled arcs above the threshold",
    "halo_ring": "Halo rings above the threshold",
    "gaussian_ring": "Controls with a faint ring above the threshold",
    "rises_with_snr": "Step of the logit for twice the flux",
    "rises_with_theta_e": "Step of the logit for twice θE",
    "plain_scores": "Scores of plain cutouts against controls",
    "plain_sky": "Correlation of the sky's neighbouring pixels",
    "plain_detections": "Detections in a stamp",
    "plain_hosts": "What is left of the host",
    "known_hosts": "Scores of galaxies of train against val and calib",
    "realism": "A linear probe, injected against real lenses",
}
CURVES = {"rises_with_snr": "flux of the arc, times", "rises_with_theta_e": "θ_E, times"}
SHIFTS = DEPLOYMENT[:-1]  # values that are 0 where nothing differs


def page_section(records: Sequence[Mapping[str, Any]], member: str = "") -> Section:
    """The report's part.

    Args:
        records: Rows of the audit, as its table has them.
        member: Of which member of a committee; empty: there is one network.
    """
    rows = of_records(records)
    filters = {
        "count": count,
        "value": gates_page.value_text,
        "limit": gates_page.limit_text,
        "words": gates_page.words,
    }
    groups = (("Counterfactuals", COUNTERFACTUALS), ("Deployment", DEPLOYMENT))
    shown = [row for row in rows if not _is_of_curve(row)]
    body = filled(
        "audit.html.j2",
        filters,
        summary=_summary(rows),
        failed=[row for row in shown if not row.passed],
        warned=[row for row in shown if is_warning(row)],
        groups={title: _failed_first(shown, names) for title, names in groups},
        conclusions=CONCLUSIONS,
        remedies=REMEDIES,
        measures=MEASURES,
        state=state,
        plot=curves(rows) if any(_is_of_curve(row) for row in rows) else "",
    )
    if not member:
        return Section("audit", "Audit: what the network looks at", body)
    anchor = f"audit-{re.sub(r'[^A-Za-z0-9]+', '-', member)}"
    return Section(anchor, f"Audit of {member}: what the network looks at", body)


def card_section(records: Sequence[Mapping[str, Any]], member: str = "") -> str:
    """The model card's part, in Markdown."""
    rows = of_records(records)
    shown = [row for row in rows if not _is_of_curve(row)]
    lines = [f"## Audit of {member}" if member else "## Audit", "", _summary(rows)]
    lines += [""] * bool([row for row in shown if not row.passed or is_warning(row)])
    for row in shown:
        if not row.passed:
            end = f" ({row.reason})"
            lines.append(f"- **{row.name}, {_stratum(row)}**: {CONCLUSIONS[row.name]}{end}")
    for row in shown:
        if is_warning(row):
            lines.append(f"- Warning, {row.name}, {_stratum(row)}: {_size(row)}")
    lines += ["", "| check | of | value | limit | verdict | detail |", "|---|---|---|---|---|---|"]
    for row in [*_failed_first(shown, COUNTERFACTUALS), *_failed_first(shown, DEPLOYMENT)]:
        cells = (
            row.name, _stratum(row), _with_ends(row), gates_page.limit_text(row), state(row),
            row.detail,
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def by_member(records: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each member's audit, by its name in `member`; of one alone the name is empty.

    Examples:
        >>> by_member([{"member": "a", "name": "x"}, {"member": "b", "name": "x"}])
        {'a': [{'name': 'x'}], 'b': [{'name': 'x'}]}
        >>> by_member([{"member": "a", "name": "x"}])
        {'': [{'name': 'x'}]}
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        row = dict(record)
        found.setdefault(row.pop("member", ""), []).append(row)
    return {"": next(iter(found.values()))} if len(found) == 1 else found


def listed(audited: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """All rows of `by_member`, with the member's name where there are several."""
    told = {name: {"member": name} if name else {} for name in audited}
    return [{**told[name], **row} for name, rows in audited.items() for row in rows]


def state(row: Row) -> str:
    """`passed`, `failed`, `waived`, `warning`, `no limit` or `not judged`."""
    return "warning" if is_warning(row) else gates_page.state([row])


def is_warning(row: Row) -> bool:
    """Whether plain cutouts differ from what taught by more than chance, and nothing limits it."""
    if row.name not in DEPLOYMENT or row.value is None or row.low is None or row.high is None:
        return False
    if not row.passed or row.limit_low is not None or row.limit_high is not None:
        return False
    same = 0.0 if row.name in SHIFTS else 0.5
    return row.low > same or row.high < same


def curves(rows: Sequence[Row]) -> str:
    """Mean logit of the same lenses against their flux and their theta_E, as SVG text."""
    found = {name: _curve(rows, name) for name in CURVES}
    found = {name: curve for name, curve in found.items() if len(curve)}
    threshold = next(
        (r.value for r in rows if r.name == "operating_point" and r.stratum == ALL), None
    )

    def draw(figure: Any) -> None:
        is_narrow = figure.get_figwidth() <= plots.NARROW
        shape = (len(found), 1) if is_narrow else (1, len(found))
        panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
        for axes, (name, curve) in zip(panels, found.items(), strict=True):
            factor, value, low, high = curve.T
            axes.errorbar(
                factor, value, yerr=[value - low, high - value], fmt="o-", color=plots.SECOND,
                ms=5, lw=1.4, capsize=3,
            )  # fmt: skip
            if threshold is not None:
                axes.axhline(threshold, color=plots.INK, lw=1, ls="--")
                axes.text(
                    factor[0], threshold, "operating point", ha="left", va="bottom", fontsize=9
                )
            axes.set(xscale="log", xlabel=CURVES[name])
            axes.set_xticks(factor, [f"{f:g}" for f in factor])
            axes.set_xticks([], minor=True)
            axes.grid(visible=True)
        panels[0].set_ylabel("mean logit")

    title = "Mean logit of the same lenses with another flux and another Einstein radius"
    return plots.svg(draw, (7.2, 3.2), "audit", title, narrow=(plots.NARROW, 3.0 * len(found)))


def _curve(rows: Sequence[Row], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Factor, mean logit and its ends, (k, 4)."""
    found = [
        (float(row.stratum.removeprefix("x ")), row.value, row.low, row.high)
        for row in rows
        if row.name == name and _is_of_curve(row)
    ]
    return np.array(found, np.float64).reshape(-1, 4)


def _is_of_curve(row: Row) -> bool:
    return row.name in CURVES and row.stratum.startswith("x ")


def _failed_first(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Rows of some checks, checks that failed before the others."""
    failed = {row.name for row in rows if not row.passed}
    warned = {row.name for row in rows if is_warning(row)}
    mine = [row for row in rows if row.name in names]
    return sorted(mine, key=lambda row: (row.name not in failed, row.name not in warned))


def _summary(rows: Sequence[Row]) -> str:
    """How many checks hold, in one sentence."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    states = {name: gates_page.state(mine) for name, mine in by_name.items()}
    n_of = {word: sum(s == word for s in states.values()) for word in
            ("passed", "failed", "waived", "not judged")}  # fmt: skip
    judged = n_of["passed"] + n_of["failed"] + n_of["waived"]
    said = f"{n_of['passed']} of {judged} checks with a limit hold"
    for word, told in (
        ("failed", "{} failed"),
        ("waived", "{} failed and do not stop the run"),
        ("not judged", "{} could not be judged"),
    ):
        if n_of[word]:
            said += f"; {told.format(n_of[word])}"
    warned = sum(is_warning(row) for row in rows)
    more = f"; {warned} warning{'s' * (warned > 1)}" if warned else ""
    return f"{said}{more}."


def _stratum(row: Row) -> str:
    return gates_page.words(row.stratum)


def _with_ends(row: Row) -> str:
    if row.value is None or row.low is None or row.high is None:
        return gates_page.value_text(row.value)
    return f"{number(row.value)} ({number(row.low)} – {number(row.high)})"


def _size(row: Row) -> str:
    return f"{_with_ends(row)}; {row.detail}"
