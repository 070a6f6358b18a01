"""Tables of morphology votes, such as Galaxy Zoo's, as lists of positions with a kind.

Columns are named `<question>_<answer>_fraction` as in Galaxy Zoo DECaLS (Walmsley et al. 2022,
MNRAS 509, 3966), with `<question>_total-votes` beside them: the people who answered. Galaxy Zoo
DESI (Walmsley et al. 2023, MNRAS 526, 4768) has the fractions alone, predicted by a network. A
question is put to those only whose last answer leads to it: `has-spiral-arms` may have been
answered by two people of forty, so that its fraction says nothing without their number.

A fraction is of people, or of what they would say, and no probability of the kind.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core.columns import F8, conform
from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import positions, tables

NAMES = ("iauname", "dr8_id", "id_str", *positions.NAMES)
TOTALS = ("{question}_total-votes", "{question}_total")
_FRACTION = "_fraction"

log = logging.getLogger(__name__)

Flags = NDArray[np.bool_]


class Cut(Protocol):
    """What is asked of `core.settings.look_alikes.Cut`."""

    @property
    def column(self) -> str: ...  # noqa: D102
    @property
    def at_least(self) -> float | None: ...  # noqa: D102
    @property
    def at_most(self) -> float | None: ...  # noqa: D102


class VotedKind(Protocol):
    """What is asked of `core.settings.look_alikes.VotedKind`."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def cuts(self) -> Sequence[Cut]: ...  # noqa: D102


class Asked(Protocol):
    """What is asked of `core.settings.look_alikes.VotesTable`."""

    @property
    def least_votes(self) -> int: ...  # noqa: D102
    @property
    def kinds(self) -> Sequence[VotedKind]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a table of votes.

    Attributes:
        rows: All rows.
        by_kind: Rows of each kind, in the order asked for.
        of_two: Rows that meet the cuts of more than one kind.
        without_place: Rows that meet them but have no position on the sky: left out.
    """

    rows: int
    by_kind: dict[str, int]
    of_two: int
    without_place: int

    def __str__(self) -> str:
        """One line."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.by_kind.items())
        return (
            f"{self.rows} rows: {kinds}; {self.of_two} meet the cuts of two kinds and are of the "
            f"first; {self.without_place} left out for want of a position"
        )


def read(address: str, asked: Asked) -> pa.Table:
    """The rows of a table of votes that are of a kind; what was counted goes to the log.

    Args:
        address: A path or an address; `survey.tables` names the formats.
        asked: Kinds in order with their cuts, and the fewest votes.

    Returns:
        As `positions.SCHEMA`, in the file's order, `kind` being one of those asked for.

    Raises:
        DataError: the file is not there or no such table, or lacks columns; one message names all.
    """
    table, counts = sort_out(address, asked)
    log.info("%s: %s", address, counts)
    return table


def sort_out(address: str, asked: Asked) -> tuple[pa.Table, Counts]:
    """The same, with the counts."""
    found = tables.read(address, lambda names: _wanted(names, asked, where=address))
    ra, dec = (
        positions.degrees(found, name, where=address)
        for name in positions.place_columns(found.column_names, where=address)
    )
    met = [_meets(found, voted, asked.least_votes, where=address) for voted in asked.kinds]
    stack = np.array(met).reshape(len(asked.kinds), found.num_rows)
    is_any, which = stack.any(0), stack.argmax(0)
    on_sky = positions.is_on_sky(ra, dec)
    rows = np.flatnonzero(is_any & on_sky)
    kinds = np.array([voted.kind for voted in asked.kinds])[which[rows]]
    counts = Counts(
        rows=found.num_rows,
        by_kind={v.kind: int(np.count_nonzero(kinds == v.kind)) for v in asked.kinds},
        of_two=int(np.count_nonzero(stack.sum(0) > 1)),
        without_place=int(np.count_nonzero(is_any & ~on_sky)),
    )
    columns = {
        "name": positions.names_of(found, NAMES).take(pa.array(rows)),
        "ra_deg": pa.array(ra[rows]),
        "dec_deg": pa.array(dec[rows]),
        "kind": pa.array(kinds.tolist(), pa.string()),
        "grade": pa.nulls(len(rows), pa.string()),
        "radius_arcsec": pa.nulls(len(rows), F8),
    }
    return conform(pa.table(columns), positions.SCHEMA, where=address), counts


def _wanted(names: Sequence[str], asked: Asked, *, where: str) -> tuple[str, ...]:
    """Columns to read: where, what it is called, the cuts', and who voted."""
    wanted = list(positions.place_columns(names, where=where))
    name = positions.first(NAMES, names)
    lacking = []
    for cut in (cut for voted in asked.kinds for cut in voted.cuts):
        total = _total_column(cut.column, names, asked.least_votes)
        wanted += [] if total is None else [total]
        wanted.append(cut.column)
        if cut.column not in names:
            lacking.append(cut.column)
        elif _question(cut.column) and asked.least_votes and total is None:
            lacking.append(TOTALS[0].format(question=_question(cut.column)))
    if lacking:
        hint = " (least_votes = 0 where fractions are predicted)" if asked.least_votes else ""
        raise DataError(
            f"{where} lacks the columns {', '.join(dict.fromkeys(lacking))}, which the cuts "
            f"need{hint}; it has {_some(names)}"
        )
    return tuple(dict.fromkeys([*wanted, *([] if name is None else [name])]))


def _meets(table: pa.Table, voted: VotedKind, least_votes: int, *, where: str) -> Flags:
    """Rows that meet all cuts of a kind, each answered by enough people, (n,)."""
    met = np.ones(table.num_rows, bool)
    for cut in voted.cuts:
        values = _numbers(table, cut.column, where=where)
        met &= np.isfinite(values)
        with np.errstate(invalid="ignore"):
            if cut.at_least is not None:
                met &= values >= cut.at_least
            if cut.at_most is not None:
                met &= values <= cut.at_most
            total = _total_column(cut.column, table.column_names, least_votes)
            if total is not None:
                met &= _numbers(table, total, where=where) >= least_votes
    return met


def _question(column: str) -> str:
    """The question that a fraction answers; empty: the column is no fraction.

    Examples:
        >>> _question("smooth-or-featured_featured-or-disk_fraction"), _question("ring")
        ('smooth-or-featured', '')
    """
    return column.partition("_")[0] if column.endswith(_FRACTION) else ""


def _total_column(column: str, names: Sequence[str], least_votes: int) -> str | None:
    """The column that says how many answered a fraction's question, where that is asked."""
    question = _question(column)
    if not question or not least_votes:
        return None
    return next(
        (t.format(question=question) for t in TOTALS if t.format(question=question) in names), None
    )


def _numbers(table: pa.Table, name: str, *, where: str) -> NDArray[np.float64]:
    """A column as numbers; NaN where it has none."""
    if pa.types.is_boolean(table[name].type):
        return table[name].cast(pa.int8()).cast(F8).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    if not positions.is_number(table[name].type):
        raise DataError(f"{where}: column {name} holds no numbers, which a cut needs")
    return np.asarray(table[name].cast(F8).to_numpy(zero_copy_only=False), np.float64)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
