"""A committee in the report and on the model card: what it brings, how sure it is, how it differs.

Every figure is of stamps of known truth that neither a member nor the committee was fitted to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.evaluate import compare
from darkhaloscope.evaluate.calibration import calibration
from darkhaloscope.evaluate.html import (
    SPACE,
    Section,
    count,
    filled,
    interval,
    number,
    power,
    share,
    signed,
)
from darkhaloscope.evaluate.metrics import Plan
from darkhaloscope.evaluate.rows import Floats, Rows
from darkhaloscope.evaluate.sample import negatives

TITLE = "Committee"
ALONE = "Calibrated for the sky"  # the title where there is one member
AT = (1e-2, 1e-3, 1e-4)  # false-positive rates at which it is compared with its members
PLAIN = ("control",)  # kinds of negative that are no contaminants
NONE = "–"


def figures(
    rows: Rows,
    plan: Plan,
    *,
    members: Sequence[str],
    logits: Floats,
    disagreement: Floats | None,
    probability: Floats,
    contaminated: Floats,
    prevalence: float,
    contaminants_times: float,
) -> dict[str, Any]:
    """What the report says of a committee.

    Args:
        rows: Its scores on the test set, n stamps.
        plan: Of the evaluation.
        members: Their names, m of them.
        logits: Theirs, shape (n, m).
        disagreement: Of each stamp, shape (n,); None: there is one member.
        probability: Of a lens, shape (n,).
        contaminated: Probabilities with more contaminants, shape (n,).
        prevalence: Lenses per target that they are right for.
        contaminants_times: How often there are as many contaminants.

    Returns:
        `members`; `highest`, the highest probability claimed and how many stamps of either class
        share it: above some score the data support no more; `compared`, for each member and FPR
        the completeness of committee and member and their paired difference, of all lenses and of
        the headline; `contaminated`, as `tail` of `calibration`, on a sky with more contaminants;
        `disagreement`, median and 90th percentile of lenses, of negatives, and of negatives above
        an FPR of 1 %.
    """
    compared = []
    for j, member in enumerate(members if len(members) > 1 else ()):
        found = compare.compare(rows, replace(rows, score=logits[:, j]), plan)
        parts: dict[str, Any] = {"all": found, "headline": found["headline"]}
        compared += [
            {"member": member, "of": of, **entry}
            for of, part in parts.items()
            if part is not None
            for entry in part["tpr_at_fpr"]
            if entry["at"] in AT
        ]
    sky = np.ones(len(rows)) if rows.sky_weight is None else rows.sky_weight
    is_plain = np.isin(rows.kind, [i for i, k in enumerate(rows.kinds) if k in PLAIN])
    more = replace(
        rows,
        score=contaminated,
        score_kind="probability",
        sky_weight=np.where(is_plain, sky, contaminants_times * sky),
    )
    calibrated, _ = calibration(more, plan.prevalences, at=prevalence, draws=plan.draws)
    return {
        "members": list(members),
        "prevalence": prevalence,
        "contaminants_times": contaminants_times,
        "highest": _highest(rows, probability),
        "compared": compared,
        "contaminated": calibrated["tail"] if calibrated else [],
        "disagreement": [] if disagreement is None else _spreads(rows, disagreement),
    }


def of_member(scores: pa.Table, place: int) -> pa.Table:
    """A committee's rows with the logit of one of its members, whose number is `place`."""
    at = scores.schema.get_field_index("logit")
    own = pc.list_element(scores["member_logits"], place)
    return scores.set_column(at, scores.schema.field(at), own)


def page_section(found: Mapping[str, Any]) -> Section:
    """The section of the report's page; `found` is what `figures` returns."""
    filters = {
        "share": share, "interval": interval, "power": power, "count": count, "number": number,
        "points": points, "ceiling": _ceiling,
    }  # fmt: skip
    return Section("committee", _title(found), filled("committee.html.j2", filters, m=found))


def card_section(found: Mapping[str, Any]) -> str:
    """The section of the model card, Markdown."""
    head: tuple[str, ...]
    said = [f"## {_title(found)}", f"Members: {', '.join(found['members'])}.", _ceiling(found)]
    if found["compared"]:
        head = ("against", "lenses", "FPR", "committee", "member", "difference, points")
        said.append(_table(head, [
            (e["member"], e["of"], power(e["at"]), _rate(e["first"]), _rate(e["second"]), points(e))
            for e in found["compared"]
        ]))  # fmt: skip
    times = f"{found['contaminants_times']:g}"
    said.append(f"Calibration with {times} times the contaminants, on a sky of that kind:")
    head = ("lenses per target", "error above FPR 10⁻²", "error at the top of the list")
    said.append(_table(head, [
        (power(t["prevalence"]), _error(t), _error(t["top"])) for t in found["contaminated"]
    ]))  # fmt: skip
    if found["disagreement"]:
        head = ("disagreement of members, logits", "stamps", "median", "90th percentile")
        said.append(_table(head, [
            (d["of"], count(d["n"]), number(d["median"]), number(d["p90"]))
            for d in found["disagreement"]
        ]))  # fmt: skip
    return "\n\n".join(said)


def points(entry: Mapping[str, Any]) -> str:
    r"""A paired difference of completeness with its interval, in points.

    Examples:
        >>> points({"difference": 0.1, "low": 0.04, "high": 0.161})
        '+10.0 (+4.0 to +16.1)'
        >>> points({"difference": None, "low": None, "high": None})
        '–'
    """
    if entry["difference"] is None:
        return NONE
    if entry["low"] is None or entry["high"] is None:
        return signed(entry["difference"])
    return f"{signed(entry['difference'])} ({signed(entry['low'])} to {signed(entry['high'])})"


def _title(found: Mapping[str, Any]) -> str:
    return TITLE if len(found["members"]) > 1 else ALONE


def _ceiling(found: Mapping[str, Any]) -> str:
    """The highest probability that is claimed, in words."""
    highest = found["highest"]
    if highest["n_lenses"] + highest["n_negatives"] == 1:
        return f"The highest probability claimed is {share(highest['value'])}."
    return (
        f"No probability above {share(highest['value'])} is claimed: calib has too few "
        f"negatives to support more. {count(highest['n_lenses'])} stamps of lenses "
        f"and {count(highest['n_negatives'])} of negatives in the test set share it; they are "
        "ranked by score, and completeness and purity are of thresholds on the score."
    )


def _highest(rows: Rows, probability: Floats) -> dict[str, Any]:
    """The highest probability, and the stamps that have it."""
    value = float(probability.max())
    shares = probability == value
    return {
        "value": value,
        "n_lenses": int((shares & rows.is_lens).sum()),
        "n_negatives": int((shares & ~rows.is_lens).sum()),
    }


def _rate(rate: Mapping[str, Any]) -> str:
    ends = interval(rate)
    return f"{share(rate['value'])} ({ends})" if ends else "not resolvable"


def _error(entry: Mapping[str, Any]) -> str:
    if entry["note"]:
        return str(entry["note"])
    return f"{share(entry['ece'])} ({interval(entry)})"


def _spreads(rows: Rows, disagreement: Floats) -> list[dict[str, Any]]:
    """Disagreement of parts of the table."""
    above, _, _ = negatives(rows, to_sky=True).side.gap(np.array([1e-2]), ties="drop")
    parts = {
        "lenses": rows.is_lens,
        "negatives": ~rows.is_lens,
        "negatives above FPR 10⁻²": ~rows.is_lens & (rows.score >= above[0]),
    }
    return [
        {
            "of": name,
            "n": int(mine.sum()),
            "median": float(np.median(disagreement[mine])),
            "p90": float(np.quantile(disagreement[mine], 0.9)),
        }
        for name, mine in parts.items()
        if mine.any()
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace(SPACE, " ")
