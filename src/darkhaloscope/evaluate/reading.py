"""Any finder's score table as rows of an evaluation: which column is what, and what is wrong.

A column has a role, such as `score` or `group`, and is found by the role's name, by the name that
our own score tables use, or by the name that the user gives. All faults of a table come in one
message; rows without a label were not evaluated and are left out, and counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import rows as door
from darkhaloscope.evaluate.cells import Cells, Column, Names, Understood, flags, names, numbers
from darkhaloscope.evaluate.labelled import (
    Values,
    codes,
    doubts,
    kinds,
    labelled,
    sources_by_kind,
    weight,
)
from darkhaloscope.evaluate.rows import Flags, Rows, ScoreKind
from darkhaloscope.evaluate.tables import Table

EVERY_SET = "all"
Meaning: TypeAlias = Callable[[Cells], Understood]


@dataclass(frozen=True, slots=True)
class Role:
    """What a column is for.

    Attributes:
        found_as: Column names that are taken for it, the first that is there.
        meaning: What its cells are.
        what: In words, for the help.
    """

    found_as: tuple[str, ...]
    meaning: Meaning
    what: str


ROLES: Mapping[str, Role] = {
    "score": Role(("score", "logit"), numbers, "higher is more lens-like (rank: 1 is the best)"),
    "label": Role(("label",), flags, "1 or true: a lens; 0 or false: none; empty: not evaluated"),
    "group": Role(("group", "target_id"), names, "the galaxy: what every rate counts once"),
    "kind": Role(("kind",), names, "what a negative is: ring, spiral, ..."),
    "sky_weight": Role(
        ("sky_weight",), numbers, "of a negative: its kind's share on the sky over that in the set"
    ),
    "weight": Role(("weight",), numbers, "of a lens: what it stands for in the population"),
    "area_deg2": Role(("area_deg2",), numbers, "sky that a galaxy stands for, deg2"),
    "graded": Role(("graded",), flags, "1 or true: a person has looked at the row"),
    "source": Role(("source", "source_id"), names, "the galaxy that is injected behind the lens"),
    "source_kind": Role(("source_kind", "src_kind"), names, "what that galaxy is: sersic, ..."),
    "region": Role(("region", "region_id"), names, "part of the sky"),
    "set": Role(("set", "split"), names, "test, calib, ...: --set chooses one"),
    "id": Role(("id", "stamp_id"), names, "the stamp, for --against"),
}
NEEDED = ("score", "label")
LIKE = {  # parts of what others call them
    "score": ("prob", "p_", "logit", "pred", "rank"),
    "label": ("truth", "true", "is_lens", "class", "target"),
}
STRATUM = "stratum "  # before the name of a column that strata are made of: it may have a role too


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be read of a table.

    Attributes:
        columns: Column name by role, where it is not the usual one.
        score_kind: What the scores are.
        strata: Further columns of numbers.
        chosen_set: The set to read; empty: the only one; `all`: every one.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    score_kind: ScoreKind = "logit"
    strata: tuple[str, ...] = ()
    chosen_set: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A score table that can be evaluated.

    Attributes:
        rows: The stamps of known truth.
        where: What the table is, for messages.
        id: Name of each stamp; None: the table has none.
        group: Galaxy of each stamp; None: the table has none.
        columns: Column by role, as found.
        is_own: It is a table of the stage `scores`.
        n_left_out: Rows without a label.
        name: The set, or the table's name: what thresholds chosen here are called after.
    """

    rows: Rows
    where: str
    id: Names | None
    group: Names | None
    columns: Mapping[str, str]
    is_own: bool
    n_left_out: int
    name: str


def is_own(table: Table) -> bool:
    """Whether it is a table of the stage `scores`."""
    return {"stamp_id", "target_id", "logit", "label"} <= set(table.columns)


def read(table: Table, asked: Asked) -> Scored:
    """The rows of a table.

    Raises:
        DataError: something is missing or means nothing; one message with all faults.
    """
    places, faults = _places(table, asked)
    columns, more = _columns(table, places, asked)
    faults += more
    values = labelled(columns)
    if not more or values.n_labelled:  # what could not be read has no labels to miss
        faults += doubts(values, places, asked.score_kind)
    if faults or values.is_lens is None:
        said = f"  the columns are: {', '.join(table.columns)}"
        raise DataError("\n".join([f"{table.where} cannot be evaluated:", *faults, said]))
    return _scored(table, places, values, values.is_lens, asked)


def _places(table: Table, asked: Asked) -> tuple[dict[str, str], list[str]]:
    """Column of each role and stratum, and what is missing."""
    faults, places = [], {}
    for role, each in ROLES.items():
        found = [asked.columns[role]] if role in asked.columns else each.found_as
        there = next((name for name in found if name in table.columns), None)
        if there is not None:
            places[role] = there
        elif role in asked.columns or role in NEEDED:
            faults.append(_missing(table, role, found[0], f"; name it: --column {role}=NAME"))
    for name in asked.strata:
        if name in table.columns:
            places[STRATUM + name] = name
        else:
            faults.append(_missing(table, "", name, " to make strata of"))
    return places, faults


def _missing(table: Table, role: str, name: str, what: str) -> str:
    near = get_close_matches(name, table.columns, 3, 0.5)
    hints = (name, *LIKE.get(role, ()))
    near += [c for c in table.columns if any(h in c.lower() for h in hints) and c not in near]
    said = f" (near it: {', '.join(near[:4])})" if near else ""
    return f"  no column {name}{said}{what}"


def _of_set(table: Table, places: Mapping[str, str], asked: Asked) -> Table:
    """Only the files of the set, where folders say which they are of."""
    if "set" not in places or asked.chosen_set in {"", EVERY_SET}:
        return table
    return table.only(places["set"], asked.chosen_set)


def _columns(
    table: Table, places: Mapping[str, str], asked: Asked
) -> tuple[dict[str, Column], list[str]]:
    """All columns that have a place, and what is wrong with their cells."""
    made = {role: Column(_meaning(role)) for role in places}
    sets = set(table.values_of(places["set"])) if "set" in places else set()
    faults = []
    wanted = list(dict.fromkeys(places.values()))
    try:
        for batch in _of_set(table, places, asked).batches(wanted) if wanted else ():
            kept = _rows_of_set(batch, places, asked, sets)
            for role, name in places.items():
                made[role].add(kept[name])
    except DataError as fault:
        faults.append(f"  {fault}")
    faults += _doubts_of_set(sets, "set" in places, asked.chosen_set)
    for role, column in made.items():
        if column.bad:
            faults.append(f"  column {places[role]}: {column.bad}; {_expected(role)}")
    return made, faults


def _rows_of_set(
    batch: pa.Table, places: Mapping[str, str], asked: Asked, sets: set[str]
) -> pa.Table:
    """The rows of the set that was asked for; the sets there are go to `sets`."""
    if "set" not in places:
        return batch
    of = pc.cast(batch[places["set"]], pa.string())
    sets |= {str(v) for v in pc.unique(of).to_pylist() if v is not None}
    if asked.chosen_set in {"", EVERY_SET}:
        return batch
    return batch.filter(pc.equal(of, asked.chosen_set))


def _doubts_of_set(sets: set[str], has_sets: bool, chosen: str) -> list[str]:
    if chosen and not has_sets:
        return [f"  --set {chosen}: no column says of which set a row is"]
    there = ", ".join(sorted(sets))
    if has_sets and not chosen and len(sets) > 1:
        return [f"  it holds the sets {there}; choose one: --set NAME, or --set {EVERY_SET}"]
    if has_sets and chosen not in {"", EVERY_SET, *sets}:
        return [f"  --set {chosen}: there is no such set; there are {there}"]
    return []


def _expected(role: str) -> str:
    meaning = _meaning(role)
    if meaning is flags:
        return "expected 0 or 1, true or false, or nothing for what was not evaluated"
    if meaning is names:
        return "expected text or whole numbers; floats below 2^53 only: larger ones are not exact"
    return "expected numbers"


def _scored(
    table: Table, places: Mapping[str, str], values: Values, is_lens: Flags, asked: Asked
) -> Scored:
    """Rows of values without faults."""
    score = values.numbers["score"]
    graded = values.flags.get("graded")
    group = values.names.get("group")
    weights = {"sky_weight": weight(values, "sky_weight", ~is_lens)}
    weights["weight"] = weight(values, "weight", is_lens)
    made = door.rows(
        score=-score if asked.score_kind == "rank" else score,
        is_lens=is_lens,
        galaxy=None if group is None else group.code,
        sky_weight=weights["sky_weight"],
        weight=weights["weight"],
        area_deg2=values.numbers.get("area_deg2"),
        columns={name: values.numbers[STRATUM + name] for name in asked.strata},
        region=codes(values, "region"),
        source=codes(values, "source"),
        is_graded=None if graded is None else graded == 1,
        score_kind=asked.score_kind,
        where=table.where,
    )
    kind, names_of_kinds = kinds(values, is_lens)
    of_sources = sources_by_kind(values, made)
    made = replace(made, kind=kind, kinds=names_of_kinds, sources_by_kind=of_sources)
    used = {
        r: name for r, name in places.items() if r in ROLES and weights.get(r, made) is not None
    }
    name = "" if asked.chosen_set == EVERY_SET else asked.chosen_set
    name = name or table.where.rstrip("/").rpartition("/")[2].removeprefix("set=")
    return Scored(
        made,
        where=table.where,
        id=values.names.get("id"),
        group=group,
        columns=used,
        is_own=is_own(table),
        n_left_out=values.n_left_out,
        name=name,
    )


def _meaning(role: str) -> Meaning:
    return ROLES[role].meaning if role in ROLES else numbers
