"""The model card: what a network is, what it was made from, how good it is, and what it is not for.

Written by the run, never by hand: every figure stands in `metrics.json` or `gates.json`, every hash
is that of a table or a setting of the run. After Mitchell et al. (2019), "Model cards for model
reporting"; Markdown, so that it can be read anywhere and compared line by line with the last one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkhaloscope.evaluate.html import (
    WORST_AT,
    Gallery,
    Stamp,
    count,
    interval,
    number,
    power,
    share,
)

NONE = "–"

Table = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Card:
    """What stands on a model card.

    Attributes:
        title: Its heading.
        subtitle: What the figures are of, in one line.
        network: What the model's own description says, by name; of a committee its settings.
        metrics: The content of `metrics.json`.
        splits: Galaxies, their share, regions and area of each split.
        gates: Rows of `gates.json`; None: the run has no gates.
        settings: sha256 of each stage's settings.
        data: For each table, the number of its partitions and the sha256 of their contents.
        cautions: What the figures must not be used for, one sentence each.
        failures: Galleries of what went wrong.
        sections: Further parts, Markdown with their headings, before the failures.
        members: Of a committee what each member's own description says, by name.
    """

    title: str
    subtitle: str
    network: Mapping[str, Any]
    metrics: Mapping[str, Any]
    splits: Sequence[Mapping[str, Any]]
    gates: Sequence[Mapping[str, Any]] | None
    settings: Mapping[str, str]
    data: Mapping[str, tuple[int, str]]
    cautions: Sequence[str]
    failures: Sequence[Gallery] = ()
    sections: Sequence[str] = ()
    members: Sequence[Mapping[str, str]] = ()


def write(folder: Path, card: Card) -> None:
    """Write `card.md` into a folder, and its pictures beside it into `failures/`."""
    (folder / "failures").mkdir(parents=True, exist_ok=True)
    for gallery in card.failures:
        for stamp in gallery.stamps:
            (folder / _picture(gallery, stamp)).write_bytes(stamp.png)
    (folder / "card.md").write_text(render(card), encoding="utf-8")


def render(card: Card) -> str:
    """The card as Markdown, ending in one newline."""
    parts = [
        f"# {card.title}",
        "This card is written by the run that made the model; change the run, not the card. Every "
        "interval is of 95 %.",
        card.subtitle,
        f"**{card.metrics['headline_text']}.**",
        "## What it must not be used for",
        "\n".join(f"- {said}" for said in card.cautions),
        "## The networks" if len(card.members) > 1 else "## The network",
        _table(("", ""), [(name, str(value)) for name, value in card.network.items()]),
        _members(card.members),
        "## What it was judged on",
        _sizes(card.metrics),
        "## Splits",
        _splits(card),
        "## Gates",
        _gates(card.gates),
        "## Operating points",
        _operating(card.metrics),
        "## Completeness at FPR",
        _rates(card.metrics, "tpr_at_fpr", "FPR", "completeness"),
        "## FPR at completeness",
        _rates(card.metrics, "fpr_at_tpr", "completeness", "FPR"),
        "## False positives by kind",
        _by_kind(card.metrics),
        "## Completeness by stratum",
        _by_stratum(card.metrics["by_stratum"]),
        "## Purity",
        _purity(card.metrics["purity"]),
        "## Undiscovered lenses",
        _floor(card.metrics["contamination_floor"]),
        "## Calibration",
        _calibration(card.metrics),
        *card.sections,
        "## Failures",
        _failures(card),
        "## Made from",
        _made_from(card),
        "## Consistency",
        _consistency(card.metrics["consistency"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def judged(gates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of the gates that have a verdict: those with a limit, and those that failed."""
    return [g for g in gates if not g["passed"] or {g["limit_low"], g["limit_high"]} != {None}]


def _table(head: Sequence[str], rows: Table) -> str:
    """A Markdown table; a bar within a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _with_interval(rate: Mapping[str, Any] | None) -> str:
    """A rate with its ends and what it was counted from, or why there is none."""
    if rate is None:
        return NONE
    if rate.get("value") is None:
        return str(rate.get("note") or "not resolvable")
    ends = interval(rate)
    counted = f", {count(rate['k'])} of {count(rate['n'])}" if rate.get("n") else ""
    return f"{share(rate['value'])} ({ends}{counted})"


def _members(members: Sequence[Mapping[str, str]]) -> str:
    """What each member of a committee is; nothing of one network alone."""
    if not members:
        return ""
    names = dict.fromkeys(name for said in members for name in said)
    head, *rest = [(name, *[said.get(name, NONE) for said in members]) for name in names]
    return _table(head, rest)


def _sizes(m: Mapping[str, Any]) -> str:
    names = {
        "n_lenses": "lens galaxies",
        "n_lens_rows": "lens stamps",
        "n_sources": "different sources",
        "effective_lenses": "lenses of equal weight that tell as much",
        "n_negatives": "negatives, each galaxy once a kind",
        "n_negative_galaxies": "galaxies among them",
        "effective_negatives": "negatives of equal weight that tell as much",
        "n_regions": "regions of the sky",
    }
    rows = [(words, count(m.get(name))) for name, words in names.items()]
    auroc = m["auroc"]
    area = f"{number(auroc['value'], 4)} ({number(auroc['low'], 4)} – {number(auroc['high'], 4)})"
    weighing = [
        "Negatives weigh as their kinds do on the sky."
        if m["is_weighted_to_sky"]
        else "Negatives are not weighted to the sky: the rates are those of this mixture.",
        "Lenses weigh as in their population."
        if m["is_weighted_to_population"]
        else "Every lens galaxy counts once.",
    ]
    shown = _table(("", "n"), [*rows, ("AUROC, which says little of rare lenses", area)])
    return f"{shown}\n\n{' '.join(weighing)}"


def _splits(card: Card) -> str:
    rows = [
        (
            s["split"],
            count(s["galaxies"]),
            share(s["share"]),
            count(s["regions"]),
            f"{s['area_deg2']:.3g}",
        )
        for s in card.splits
    ]
    head = ("split", "galaxies", "share", "regions", "area, deg²")
    shown = _table(head, rows)
    proof = [g for g in card.gates or () if g["name"] == "splits_leak"]
    if not proof:
        return f"{shown}\n\nNo gate has proven that nothing leaks from one split to another."
    return f"{shown}\n\nThat nothing leaks from one split to another:\n\n{_gate_rows(proof)}"


def _gates(gates: Sequence[Mapping[str, Any]] | None) -> str:
    if gates is None:
        return "This run has no gates: nothing was checked before training."
    failed = [g for g in gates if not g["passed"]]
    waived = [g for g in failed if g["waived"]]
    limited = judged(gates)
    said = f"{len(limited) - len(failed)} of {len(limited)} checks passed before training"
    if failed:
        said += f"; {len(failed)} failed, {len(waived)} of them waived by the run file"
    return f"{said}.\n\n{_gate_rows(gates)}"


def _gate_rows(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for g in gates:
        limits = [f"≥ {g['limit_low']:g}"] if g["limit_low"] is not None else []
        limits += [f"≤ {g['limit_high']:g}"] if g["limit_high"] is not None else []
        verdict = "passed" if g["passed"] else "failed, waived" if g["waived"] else "failed"
        known = g["low"] is not None and g["high"] is not None
        ends = f" ({number(g['low'])} – {number(g['high'])})" if known else ""
        rows.append(
            (
                g["name"],
                g["stratum"],
                f"{number(g['value'])}{ends}",
                " and ".join(limits) or "none",
                verdict if limits else "shown",
                g["reason"] or "",
            )
        )
    return _table(("gate", "of", "value", "limit", "verdict", "reason"), rows)


def _operating(m: Mapping[str, Any]) -> str:
    if not m["operating_points"]:
        return "None: no thresholds from other data were given."
    rows: list[tuple[str, ...]] = []
    for p in m["operating_points"]:
        if p["threshold"] is None:
            rows.append((power(p["at"]), NONE, p["note"], "", ""))
            continue
        found = [_with_interval(p[name]) for name in ("fpr", "tpr", "tpr_headline")]
        rows.append((power(p["at"]), number(p["threshold"], 4), *found))
    stratum = m["headline"]["stratum"]
    head = ("chosen for FPR", "threshold", "FPR found", "all lenses", f"lenses with {stratum}")
    return (
        f"Thresholds were chosen on {m['operating_points'][0]['chosen_on']} and are judged on "
        f"other galaxies.\n\n{_table(head, rows)}"
    )


def _rates(m: Mapping[str, Any], measure: str, at: str, what: str) -> str:
    """The same list for the sky and unweighted; by region, where that can be told."""
    stress = {r["at"]: r for r in m["stress"][measure]}
    rows = [
        (
            power(r["at"]) if measure == "tpr_at_fpr" else share(r["at"]),
            _with_interval(r),
            r["state"].replace("_", " "),
            _region(r),
            _with_interval(stress.get(r["at"])),
        )
        for r in m[measure]
    ]
    head = (at, f"{what} on the sky", "state", "over regions", f"{what}, unweighted (stress)")
    return _table(head, rows)


def _region(r: Mapping[str, Any]) -> str:
    """The interval that knows of differences between regions, or why there is none."""
    low, high = r.get("region_low"), r.get("region_high")
    if low is not None and high is not None:
        return interval({"low": low, "high": high})
    return str(r.get("region_note") or NONE)


def _by_kind(m: Mapping[str, Any]) -> str:
    asked = (0.85, 0.7, 0.5)
    whose = "fpr_at_tpr_headline"
    by_kind = {k: e for k, e in m["by_kind"].items() if "n_negatives" in e}
    if not all(whose in e for e in by_kind.values()):
        whose = "fpr_at_tpr"
    rows = [
        (
            kind,
            count(entry["n_negatives"]),
            *[_with_interval(_at(entry.get(whose, ()), x)) for x in asked],
        )
        for kind, entry in by_kind.items()
    ]
    of = "the headline's lenses" if whose != "fpr_at_tpr" else "all lenses"
    table = _table(("kind", "n", *[f"at completeness {share(x)}" for x in asked]), rows)
    said = f"At thresholds where {of} have the completeness named."
    worst = _at(m.get("worst_kind", ()), WORST_AT)
    if worst is not None:
        said += f" Worst at {share(WORST_AT)}: **{worst['kind']}**, {_with_interval(worst)}."
    return f"{said}\n\n{table}"


def _by_stratum(by_stratum: Mapping[str, Any]) -> str:
    asked = (1e-1, 1e-2, 1e-3, 1e-4)
    rows = [
        (
            name,
            count(entry["n_lenses"]),
            *[_with_interval(_at(entry["tpr_at_fpr"], f)) for f in asked],
        )
        for name, entry in by_stratum.items()
    ]
    return _table(("stratum", "lenses", *[f"at FPR {power(f)}" for f in asked]), rows)


def _purity(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return "None: no FPR is resolvable."
    rows = [
        (
            power(e["prevalence"]),
            e["population"],
            power(e["at_fpr"]),
            f"{share(e['value'])} ({interval(e)})",
            number(e["inspected_per_lens"]),
            number(e["false_positives_per_deg2"]),
        )
        for e in entries
    ]
    head = ("lenses per target", "of", "FPR", "purity", "stamps inspected per lens")
    return _table((*head, "false positives per deg²"), rows)


def _floor(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return "None: no FPR is resolvable."
    rows = [
        (power(e["prevalence"]), e["population"], power(e["at_fpr"]), power(e["value"]))
        for e in entries
    ]
    shown = _table(("lenses per target", "of", "at FPR", "FPR that they alone would add"), rows)
    return f"If negatives are real galaxies, lenses that nobody knows are among them.\n\n{shown}"


def _calibration(m: Mapping[str, Any]) -> str:
    found = m["calibration"]
    if found is None:
        return f"None: {m['calibration_reason']}."
    said = (
        f"Expected calibration error {share(found['ece'])} over {found['n_bins']} bins of equal "
        f"mass; a faultless finder would show {share(found['noise'])} in a table of this size."
    )
    tail = [(power(t["prevalence"]), _error(t), _error(t["top"])) for t in found["tail"]]
    top = "error at the top, above an FPR equal to the lenses per target"
    head = ("lenses per target", f"error above FPR {power(found['tail_fpr'])}", top)
    return f"{said}\n\n{_table(head, tail)}"


def _error(entry: Mapping[str, Any]) -> str:
    """A calibration error with its interval, or why there is none."""
    if entry["note"] or entry["ece"] is None:
        return str(entry["note"]) or "–"
    ends = interval(entry)
    return f"{share(entry['ece'])} ({ends})" if ends else share(entry["ece"])


def _failures(card: Card) -> str:
    said = []
    for gallery in card.failures:
        said.append(f"### {gallery.title}\n\n{gallery.note}")
        rows = [
            (
                f"![{stamp.kind}]({_picture(gallery, stamp)})",
                stamp.name,
                stamp.kind,
                number(stamp.score, 4),
                ", ".join(stamp.details),
            )
            for stamp in gallery.stamps
        ]
        if rows:
            said.append(_table(("", "stamp", "kind", "score", ""), rows))
    return "\n\n".join(said) or "No pictures were asked for."


def _picture(gallery: Gallery, stamp: Stamp) -> str:
    """Where a picture stands, from the card's folder."""
    return f"failures/{gallery.title.lower().replace(' ', '-')}-{stamp.name}.png"


def _made_from(card: Card) -> str:
    tables = [
        (name, count(n), f"`{digest[:16]}`") for name, (n, digest) in sorted(card.data.items())
    ]
    stages = [(name, f"`{digest[:16]}`") for name, digest in card.settings.items()]
    return (
        "First 16 digits of sha256: of the contents of a table's partitions, and of a stage's "
        "settings as they were used.\n\n"
        + _table(("table", "partitions", "contents"), tables)
        + "\n\n"
        + _table(("stage", "settings"), stages)
    )


def _consistency(found: Mapping[str, Any]) -> str:
    rows = [
        (c["name"], "yes" if c["passed"] else "no", f"{c['value']:.1g}") for c in found["checks"]
    ]
    said = "All figures come from one curve" if found["passed"] else "The figures disagree"
    return f"{said}.\n\n{_table(('check', 'holds', 'largest disagreement'), rows)}"


def _at(rates: Sequence[Mapping[str, Any]], at: float) -> Mapping[str, Any] | None:
    return next((r for r in rates if r["at"] == at), None)
