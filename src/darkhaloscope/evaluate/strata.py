"""Strata: which lenses a completeness is of, and which galaxies a false-positive rate.

One figure for all lenses hides that many cannot be seen from the ground. A stratum of the injection
restricts the lenses; the negatives stay all of them, as a negative has no Einstein radius. A
stratum of the target (seeing, depth, magnitude) restricts both classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.rows import Flags, Rows


@dataclass(frozen=True, slots=True)
class Stratum:
    """A named set of rows.

    Attributes:
        name: As in `metrics.json`: `theta_e_arcsec:1.0-1.5`, or `headline`.
        chosen: The rows that belong to it, shape (n,).
        meaning: In words.
        is_of_target: It restricts the negatives as well as the lenses.
    """

    name: str
    chosen: Flags
    meaning: str
    is_of_target: bool = False


def bins(
    rows: Rows, column: str, edges: Sequence[float], *, is_of_target: bool = False
) -> list[Stratum]:
    """The lenses by bins of a column, lower edge included; what is null is a stratum of its own.

    The first bin begins at the first edge and the last has no upper end; lenses below the first
    edge are named too, if there are any. Strata of the target hold the negatives as well.
    """
    values = _column(rows, column)
    asked = np.ones(len(rows), bool) if is_of_target else rows.is_lens
    lower, upper = list(edges), [*edges[1:], np.inf]
    if np.any(values[asked] < edges[0]):
        lower, upper = [-np.inf, *lower], [edges[0], *upper]
    made = [
        Stratum(
            f"{column}:{_text(a)}-{_text(b)}",
            (values >= a) & (values < b),
            _words(column, a, b),
            is_of_target,
        )
        for a, b in zip(lower, upper, strict=True)
    ]
    unknown = np.isnan(values)
    if (unknown & asked).any():
        said = f"{column} is not known"
        made.append(Stratum(f"{column}:unknown", unknown, said, is_of_target))
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
