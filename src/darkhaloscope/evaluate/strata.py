"""Strata of the injection: which lenses a completeness is of.

One figure for all lenses hides that many cannot be seen from the ground. A stratum restricts the
lenses; the negatives stay all of them, as a negative has no Einstein radius.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.rows import Flags, Rows


@dataclass(frozen=True, slots=True)
class Stratum:
    """A named set of lenses.

    Attributes:
        name: As in `metrics.json`: `theta_e_arcsec:1.0-1.5`, or `headline`.
        chosen: The rows that belong to it, shape (n,).
        meaning: In words.
    """

    name: str
    chosen: Flags
    meaning: str


def bins(rows: Rows, column: str, edges: Sequence[float]) -> list[Stratum]:
    """The lenses by bins of a column, lower edge included; what is null is a stratum of its own.

    The first bin begins at the first edge and the last has no upper end; lenses below the first
    edge are named too, if there are any.
    """
    values = _column(rows, column)
    lower, upper = list(edges), [*edges[1:], np.inf]
    if np.any(values[rows.is_lens] < edges[0]):
        lower, upper = [-np.inf, *lower], [edges[0], *upper]
    made = [
        Stratum(
            f"{column}:{_text(a)}-{_text(b)}", (values >= a) & (values < b), _words(column, a, b)
        )
        for a, b in zip(lower, upper, strict=True)
    ]
    unknown = np.isnan(values)
    if (unknown & rows.is_lens).any():
        made.append(Stratum(f"{column}:unknown", unknown, f"{column} is not known"))
    return made


def at_least(rows: Rows, minima: Mapping[str, float], *, name: str = "headline") -> Stratum:
    """The lenses whose columns all reach their minimum; null reaches none."""
    chosen = np.ones(len(rows), bool)
    for column, minimum in minima.items():
        chosen &= _column(rows, column) >= minimum
    return Stratum(name, chosen, " and ".join(f"{c} >= {m:g}" for c, m in minima.items()))


def _column(rows: Rows, column: str) -> np.ndarray:
    if column not in rows.columns:
        has = ", ".join(sorted(rows.columns)) or "none"
        raise DataError(f"no column {column} to make strata of; the score table has: {has}")
    return rows.columns[column]


def _text(edge: float) -> str:
    return str(float(edge))


def _words(column: str, low: float, high: float) -> str:
    if np.isinf(high):
        return f"{column} >= {low:g}"
    return f"{column} < {high:g}" if np.isinf(low) else f"{low:g} <= {column} < {high:g}"
