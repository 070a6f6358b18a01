"""Rows as units: what counts once, sorted by score once, so that a stratum is a part of them.

A negative galaxy is a unit for each kind it is used in, with the highest score of its copies. The
rows of a lens stay rows, with codes for what they share.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.evaluate.rows import Flags, Floats, Ints, Rows

Codes = NDArray[Any]  # small integers, of whatever width holds them


@dataclass(frozen=True)
class NegativeUnits:
    """Each negative galaxy once for each kind it is used in, its highest score, ascending.

    Attributes:
        score: Shape (m,).
        kind: Index in `names`.
        sky_weight: Mean over its copies; None: not known.
        region: Code; None: not known.
        row: One of the rows that it is made of.
        names: Every kind of the table.
        of_rows: Place here of each chosen row of negatives, in the table's order; None: of a part.
    """

    score: Floats
    kind: Codes
    sky_weight: Floats | None
    region: Codes | None
    row: Ints
    names: tuple[str, ...]
    of_rows: Codes | None = None

    def any_of(self, flags: Flags) -> Flags:
        """Whether any row of a unit has a flag, shape (m,); flags are of the rows of negatives."""
        if self.of_rows is None:
            raise ValueError("a part of the units does not know its rows")
        seen = np.zeros(len(self.score), bool)
        seen[self.of_rows[flags]] = True
        return seen

    def only(self, chosen: Flags) -> "NegativeUnits":
        """Some of them, by flags of shape (m,)."""
        return NegativeUnits(
            self.score[chosen],
            self.kind[chosen],
            None if self.sky_weight is None else self.sky_weight[chosen],
            None if self.region is None else self.region[chosen],
            self.row[chosen],
            self.names,
        )


@dataclass(frozen=True)
class LensUnits:
    """The rows of lenses, ascending by score, with codes for what they share."""

    score: Floats
    weight: Floats | None
    host: Codes
    source: Codes | None
    region: Codes | None
    row: Ints


def negative_units(rows: Rows, chosen: Flags | None = None) -> NegativeUnits:
    """Unique negatives among the rows, or among the chosen rows, shape (n,)."""
    row = np.flatnonzero(~rows.is_lens if chosen is None else ~rows.is_lens & chosen)
    kind = rows.kind[row]
    unit, n = _unit_of(rows.galaxy[row], kind, len(rows.kinds))
    if n == len(row):  # every row is its own
        score, one = rows.score[row], row
        sky = None if rows.sky_weight is None else rows.sky_weight[row]
    else:
        score = np.full(n, -np.inf)
        np.maximum.at(score, unit, rows.score[row])
        one = np.empty(n, np.int64)
        one[unit] = row
        sky = None
        if rows.sky_weight is not None:
            copies = np.bincount(unit, minlength=n)
            sky = np.bincount(unit, rows.sky_weight[row], minlength=n) / copies
    order = np.argsort(score)
    one = one[order]
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return NegativeUnits(
        score[order],
        small(rows.kind[one], len(rows.kinds)),
        None if sky is None else sky[order],
        None if rows.region is None else rows.region[one].astype(np.int32),
        one,
        rows.kinds,
        place if n == len(row) else place[unit],
    )


def lens_units(rows: Rows) -> LensUnits:
    """The rows of lenses, sorted once for every stratum."""
    row = np.flatnonzero(rows.is_lens)
    weight = None if rows.weight is None else rows.weight[row]
    score = rows.score[row]
    order = np.argsort(score) if weight is None else np.lexsort((weight, score))
    row = row[order]
    return LensUnits(
        rows.score[row],
        None if weight is None else weight[order],
        ranks(rows.galaxy[row])[0],
        None if rows.source is None else _alone_where_unknown(rows.source[row]),
        None if rows.region is None else rows.region[row].astype(np.int32),
        row,
    )


def _unit_of(galaxy: Ints, kind: Ints, n_kinds: int) -> tuple[Codes, int]:
    """Code of (galaxy, kind) of each row, shape (n,), and how many there are."""
    code, n_galaxies = ranks(galaxy)
    if n_galaxies == len(galaxy):
        return code, n_galaxies
    key = code.astype(np.int64) * n_kinds + kind
    if n_galaxies * n_kinds > 8 * len(galaxy):  # a table of every key would be mostly empty
        return ranks(key)
    is_there = np.bincount(key, minlength=n_galaxies * n_kinds) > 0
    place = np.cumsum(is_there, dtype=np.int32) - 1
    return place[key], int(place[-1]) + 1 if len(place) else 0


def ranks(names: Ints) -> tuple[Codes, int]:
    """Ranks of integers among their different values, shape (n,), and how many there are."""
    if len(names) < 2 or bool((names[1:] > names[:-1]).all()):
        return np.arange(len(names), dtype=np.int32), len(names)
    order = np.argsort(names)
    ordered = names[order]
    is_new = np.concatenate([[False], ordered[1:] != ordered[:-1]])
    code = np.empty(len(names), np.int32)
    code[order] = np.cumsum(is_new, dtype=np.int32)
    return code, int(np.count_nonzero(is_new)) + 1


def _alone_where_unknown(source: Ints) -> Codes:
    """Codes of sources; a lens whose source is not known shares it with nobody."""
    known, unknown = source.copy(), source < 0
    known[unknown] = int(source.max(initial=-1)) + 1 + np.arange(int(unknown.sum()))
    return ranks(known)[0]


def small(codes: Ints, n: int) -> Codes:
    """Codes below n in one byte where they fit."""
    return codes.astype(np.int8 if n <= np.iinfo(np.int8).max else np.int32)
