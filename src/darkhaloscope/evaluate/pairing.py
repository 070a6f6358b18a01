"""Two score tables of the same stamps, row by row: what a paired comparison needs.

What a stamp is (its truth, galaxy, weights, strata) is taken from the first table; of the second
only the score counts, and its truth has to agree.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.cells import Names
from darkhaloscope.evaluate.reading import Scored
from darkhaloscope.evaluate.rows import Ints, Rows


@dataclass(frozen=True, slots=True)
class Pair:
    """Stamps that both tables have, in one order.

    Attributes:
        first: With the scores of the first table.
        second: The same stamps with the scores of the second.
        by: What tells the stamps: `id` or `group`.
        n_first_only: Stamps of the first table alone.
        n_second_only: Stamps of the second alone.
    """

    first: Rows
    second: Rows
    by: str
    n_first_only: int
    n_second_only: int


def pair(first: Scored, second: Scored) -> Pair:
    """The stamps of both tables.

    Raises:
        DataError: nothing tells the stamps apart, none is in both, or the truths differ.
    """
    by, mine, other = _names(first, second)
    place = pc.index_in(mine, value_set=other)
    here = np.flatnonzero(np.asarray(place.is_valid()))
    there = np.asarray(place.drop_null(), np.int64)
    if not len(here):
        raise DataError(
            f"{first.where} and {second.where} have no stamp in common: {by} is {mine[0]} in the "
            f"first row of one, {other[0]} in that of the other; a column of one name for a stamp "
            "in both is needed: --column id=NAME, --against-column id=NAME"
        )
    differ = int((first.rows.is_lens[here] != second.rows.is_lens[there]).sum())
    if differ:
        raise DataError(
            f"{differ:,} of {len(here):,} stamps are a lens in one of {first.where} and "
            f"{second.where} and none in the other; evaluate both on the same truth"
        )
    taken = _taken(first.rows, here)
    score, kind = second.rows.score[there], second.rows.score_kind
    changed = replace(taken, score=score, score_kind=kind)
    n_first, n_second = len(first.rows) - len(here), len(second.rows) - len(here)
    return Pair(taken, changed, by, n_first, n_second)


def _names(first: Scored, second: Scored) -> tuple[str, pa.Array, pa.Array]:
    """What tells stamps apart in both tables, as arrays of one type."""
    if first.id is not None and second.id is not None:
        faults = _twice(first, first.id) + _twice(second, second.id)
        if faults:
            raise DataError("\n".join(faults))
        return ("id", *_alike(first.id, second.id))
    mine, other = first.group, second.group
    if mine and other and not (_twice(first, mine) or _twice(second, other)):
        return ("group", *_alike(mine, other))
    raise DataError(
        f"nothing says which stamp of {first.where} is which of {second.where}: both need a column "
        "with a name for each stamp: --column id=NAME, --against-column id=NAME"
    )


def _twice(table: Scored, names: Names) -> list[str]:
    """A sentence where a name stands for more than one stamp, or is missing."""
    n = len(names) - len(np.unique(names.code[~names.is_missing]))
    column = table.columns.get("id", "group")
    return [f"{table.where}: column {column} repeats or lacks {n:,} of {len(names):,} names"] * (
        n > 0
    )


def _alike(first: Names, second: Names) -> tuple[pa.Array, pa.Array]:
    """Both as whole numbers, or both as text: a CSV has nothing but text."""
    if first.text is None and second.text is None:
        return pa.array(first.code), pa.array(second.code)
    return _text(first), _text(second)


def _text(names: Names) -> pa.Array:
    if names.text is None:
        return pa.array(names.code).cast(pa.string())
    return pa.array(names.text, pa.string()).take(pa.array(names.code))


def _taken(rows: Rows, at: Ints) -> Rows:
    """Some of the rows, in this order."""
    n = len(rows)
    changed: dict[str, Any] = {
        f.name: value[at]
        for f in fields(rows)
        if isinstance(value := getattr(rows, f.name), np.ndarray) and len(value) == n
    }
    columns = {name: values[at] for name, values in rows.columns.items()}
    return replace(rows, columns=columns, **changed)
