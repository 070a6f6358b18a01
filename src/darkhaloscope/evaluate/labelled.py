"""The labelled rows of a foreign score table: what their values say, and what speaks against them.

Behind the doubts, which are found all at once, the values make `Rows`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkhaloscope.evaluate.cells import Column, Names, names
from darkhaloscope.evaluate.rows import Flags, Floats, Ints, Rows, ScoreKind


@dataclass(frozen=True, slots=True)
class Values:
    """What the labelled rows say, by role or stratum: shape (n,) each.

    Attributes:
        is_lens: Truth; None: the table does not tell.
        numbers: Scores, weights, strata; NaN: no value.
        flags: 1, 0, or -1 without a value.
        names: Galaxies, kinds and the like.
        is_known: The rows that have a label, shape (all rows,); None: the table has no labels.
    """

    is_lens: Flags | None
    numbers: Mapping[str, Floats]
    flags: Mapping[str, np.ndarray]
    names: Mapping[str, Names]
    is_known: Flags | None

    @property
    def n_labelled(self) -> int:
        """Rows with a label."""
        return 0 if self.is_lens is None else len(self.is_lens)

    @property
    def n_left_out(self) -> int:
        """Rows without a label."""
        return 0 if self.is_known is None else len(self.is_known) - self.n_labelled

    def first_row(self, of: Flags) -> int:
        """Row of the table, from 1, of the first of these labelled rows; there is one."""
        place = int(np.flatnonzero(of)[0])
        return place + 1 if self.is_known is None else int(np.flatnonzero(self.is_known)[place]) + 1


def labelled(columns: Mapping[str, Column]) -> Values:
    """The columns as arrays, without the rows that have no label."""
    arrays: dict[str, dict[str, Any]] = {"numbers": {}, "flags": {}, "names": {}}
    for role, column in columns.items():
        arrays[column.meaning.__name__][role] = (
            column.names() if column.meaning is names else column.array()
        )
    label = arrays["flags"].pop("label", None)
    known = None if label is None else label >= 0
    for kept in arrays.values():
        for role, values in kept.items():
            if known is not None and len(values) == len(known) and not known.all():
                kept[role] = values[known]
    is_lens = None if label is None else label[known] == 1
    return Values(is_lens, is_known=known, **arrays)


def doubts(values: Values, places: Mapping[str, str], kind: ScoreKind) -> list[str]:
    """What is wrong with the values of the labelled rows, one line a fault."""
    if values.is_lens is None:
        return []
    is_lens, n_lenses = values.is_lens, int(values.is_lens.sum())
    if not len(is_lens):
        return ["  no rows: there is nothing with a label of 0 or 1"]
    faults = []
    if n_lenses in {0, len(is_lens)}:
        what = "lens" if n_lenses == 0 else "negative"
        faults.append(
            f"  one class only: {len(is_lens):,} rows and no {what}; rates need both: add rows of "
            f"label {int(n_lenses == 0)}, or name the column that tells them apart: "
            "--column label=NAME"
        )
    if "score" in values.numbers:
        faults += _doubts_of_scores(values, kind, places["score"])
    for role, mine in (("sky_weight", ~is_lens), ("weight", is_lens)):
        if role in values.numbers:
            faults += _doubts_of_weights(values.numbers[role][mine], places[role], role)
    if "group" in values.names and (n := int(values.names["group"].is_missing.sum())):
        faults.append(
            f"  column {places['group']}: {n:,} of {len(is_lens):,} rows have no galaxy, the unit "
            "of every rate"
        )
    if "kind" in values.names:
        n = int((values.names["kind"].equal("lens") & ~is_lens).sum())
        if n:
            of = f"{n:,} of {len(is_lens) - n_lenses:,} negatives"
            faults.append(f"  column {places['kind']}: {of} are called lens")
    return faults


def _doubts_of_scores(values: Values, kind: ScoreKind, column: str) -> list[str]:
    score = values.numbers["score"]

    def of(bad: Flags) -> str:
        return f"  column {column}: {int(bad.sum()):,} of {len(score):,} scores are"

    faults = []
    if (bad := np.isnan(score)).any():
        faults.append(
            f"{of(bad)} NaN or empty, the first in row {values.first_row(bad)}: score those stamps "
            "again, or leave their label empty"
        )
    if kind == "probability" and (bad := (score < 0) | (score > 1)).any():
        ends = dict.fromkeys(f"{end:g}" for end in (score[bad].min(), score[bad].max()))
        faults.append(
            f"{of(bad)} outside 0 to 1 ({' to '.join(ends)}, the first in row "
            f"{values.first_row(bad)}); for scores of any range use --score-kind logit, the default"
        )
    if kind == "rank" and (bad := (score < 1) | (score != np.floor(score))).any():
        faults.append(
            f"{of(bad)} no rank, the first in row {values.first_row(bad)}: whole numbers from 1 on"
        )
    return faults


def _doubts_of_weights(weight: Floats, column: str, role: str) -> list[str]:
    """A weight belongs to all rows of its class, or to none."""
    whose = "negatives" if role == "sky_weight" else "lenses"
    if not len(weight) or np.isnan(weight).all():
        return []
    bad = int((~(np.isfinite(weight) & (weight >= 0))).sum())
    if bad:
        of = f"{bad:,} of {len(weight):,} {whose}"
        return [f"  column {column}: {of} have a weight empty, negative or infinite"]
    return [] if weight.any() else [f"  column {column}: every weight of {whose} is 0"]


def weight(values: Values, role: str, mine: Flags) -> Floats | None:
    """A weight of the rows that it applies to; None where it is empty in all of them."""
    found = values.numbers.get(role)
    return None if found is None or np.isnan(found[mine]).all() else found


def codes(values: Values, role: str) -> Ints | None:
    """Names as codes, -1 without one; None where the table has no such column."""
    return values.names[role].code if role in values.names else None


def kinds(values: Values, is_lens: Flags) -> tuple[np.ndarray, tuple[str, ...]]:
    """Kind of each row as a code, and the names, in order; a lens is a lens whatever it is called.

    A negative whose kind is not said is called `negative`.
    """
    if "kind" not in values.names:
        return np.where(is_lens, 0, 1), ("lens", "negative")
    code, text = values.names["kind"].with_text()
    called = np.array([*text, "negative", "lens"])
    code = np.where(is_lens, len(text) + 1, np.where(code < 0, len(text), code))
    names_of_kinds, place = np.unique(called, return_inverse=True)
    place = place[code]
    used = np.flatnonzero(np.bincount(place, minlength=len(names_of_kinds)))
    code = np.searchsorted(used, place).astype(np.int64)
    return code, tuple(str(names_of_kinds[k]) for k in used)


def sources_by_kind(values: Values, made: Rows) -> dict[str, int]:
    """Different sources of each kind among the lenses; empty where the table does not say."""
    if "source_kind" not in values.names or made.source is None:
        return {}
    code, text = values.names["source_kind"].with_text()
    known = made.is_lens & (made.source >= 0) & (code >= 0)
    pairs = np.unique(np.stack([code[known], made.source[known]]), axis=1)[0]
    counts = {text[k]: int(n) for k, n in zip(*np.unique(pairs, return_counts=True), strict=True)}
    return dict(sorted(counts.items()))
