"""What the cells of a column mean: numbers, flags, names. What means nothing is kept, to be named.

A column comes batch by batch and may be text, as in a CSV, or of the types that Parquet has. In
place of cells that mean nothing stands something harmless, so that the other faults of the table
can be told beside them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.evaluate.rows import Flags, Floats, Ints

A_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
IN_POWERS_OF_TEN = r"(?i)^\d(\.\d+)?e\+?\d+$"  # how a float prints an id that it cannot hold
LARGEST_WHOLE_FLOAT = 2**53  # from here on a float64 cannot tell neighbouring whole numbers apart
FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
SHOWN = 3  # examples of what is wrong

Cells: TypeAlias = pa.ChunkedArray
Understood: TypeAlias = tuple[Any, Any]  # the values, and those cells that mean nothing


@dataclass(frozen=True, slots=True)
class Names:
    """Names of n rows.

    Attributes:
        code: Shape (n,): a place in `text`, or the name itself where `text` is None.
        is_missing: There is no name, shape (n,); its code is -1.
        text: What the codes stand for; None: names are whole numbers.
    """

    code: Ints
    is_missing: Flags
    text: tuple[str, ...] | None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.code)

    def __getitem__(self, chosen: Flags) -> "Names":
        """Some of the rows."""
        return Names(self.code[chosen], self.is_missing[chosen], self.text)

    def with_text(self) -> tuple[Ints, tuple[str, ...]]:
        """Codes, -1 without a name, and the text of each; a whole number is its digits."""
        if self.text is not None:
            return self.code, self.text
        value, code = np.unique(self.code, return_inverse=True)
        return np.where(self.is_missing, -1, code), tuple(map(str, value.tolist()))

    def equal(self, name: str) -> Flags:
        """The rows of this name."""
        if self.text is None or name not in self.text:
            return np.zeros(len(self), bool)
        return np.asarray(self.code == self.text.index(name))


class Column:
    """Values of one column, batch by batch, in the type that it is used in.

    Attributes:
        meaning: What its cells are: `numbers`, `flags` or `names`.
        parts: What was understood so far.
        n_bad: Cells that mean nothing here.
        examples: Some of them.
        n_rows: Rows so far.
        first_bad: Row of the first cell that means nothing, counted from 1; 0: none.
    """

    def __init__(self, meaning: Callable[[Cells], Understood]) -> None:
        """A column without rows."""
        self.parts: list[Any] = []
        self.n_bad, self.n_rows, self.first_bad = 0, 0, 0
        self.examples: list[str] = []
        self.meaning = meaning

    def add(self, cells: Cells) -> None:
        """The next rows."""
        part, bad = self.meaning(cells)
        self.parts.append(part)
        self.n_bad += len(bad)
        if len(bad) and not self.first_bad:
            place = pc.index(cells.cast(bad.type), bad[0]).as_py()
            self.first_bad = self.n_rows + place + 1
        self.n_rows += len(cells)
        for value in pc.unique(bad.slice(0, 1000)).to_pylist():
            if len(self.examples) < SHOWN and repr(value) not in self.examples:
                self.examples.append(repr(value))

    @property
    def bad(self) -> str:
        """How many cells mean nothing, with examples; empty: none."""
        if not self.n_bad:
            return ""
        cells = "1 cell:" if self.n_bad == 1 else f"{self.n_bad:,} cells such as"
        row = f"row {self.first_bad}" if self.n_bad == 1 else f"the first in row {self.first_bad}"
        return f"{cells} {', '.join(self.examples)} ({row})"

    def array(self) -> np.ndarray:
        """The numbers or flags of all batches; they are handed over."""
        parts, self.parts = self.parts, []
        return np.concatenate(parts) if parts else np.empty(0)

    def names(self) -> Names:
        """The names of all batches; where some are numbers and others text, all are text."""
        parts, self.parts = self.parts, []
        if all(pa.types.is_integer(part.type) for part in parts):
            code = np.concatenate([_filled(part) for part in parts] or [np.empty(0, np.int64)])
            missing = [np.asarray(part.is_null()) for part in parts] or [np.empty(0, bool)]
            return Names(code, np.concatenate(missing), None)
        text = [
            part.cast(pa.string()).dictionary_encode() if pa.types.is_integer(part.type) else part
            for part in parts
        ]
        whole = pa.chunked_array(text).unify_dictionaries()
        code = np.concatenate([_filled(chunk.indices) for chunk in whole.chunks]).astype(np.int64)
        return Names(code, code < 0, tuple(whole.chunk(0).dictionary.to_pylist()))


def numbers(cells: Cells) -> Understood:
    """float64, a missing value as NaN; text is read as numbers, infinite ones too."""
    kind, bad = cells.type, cells.slice(0, 0)
    if _is_text(kind):
        try:
            cells = cells.cast(pa.float64())
        except pa.ArrowInvalid:
            is_bad = pc.invert(pc.match_substring_regex(cells, A_NUMBER))
            cells, bad = _without(cells, is_bad, "1")
    elif not (_is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        bad = cells.drop_null()
        cells = pa.chunked_array([pa.repeat(1.0, len(cells))])
    floats: Floats = cells.cast(pa.float64(), safe=False).to_numpy()
    return floats, bad


def flags(cells: Cells) -> Understood:
    """int8: 0, 1, and -1 without a value; numbers, booleans, or the words true and false."""
    if pa.types.is_boolean(cells.type) or pa.types.is_null(cells.type):
        value = cells.cast(pa.float64())
    elif _is_number(cells.type):
        value = cells.cast(pa.float64(), safe=False)
        value = pc.if_else(pc.is_nan(value), None, value)
    else:
        cells = cells.cast(pa.string())
        place = pc.index_in(pc.utf8_lower(cells), value_set=pa.array(list(FLAGS)))
        known = pa.array(list(FLAGS.values()), pa.float64()).take(place.combine_chunks())
        value = pa.chunked_array([pc.fill_null(known, 2.0)])
        value = pc.if_else(pc.is_null(cells), None, value)
    is_bad = pc.invert(pc.or_(pc.equal(value, 0.0), pc.equal(value, 1.0)))
    _, bad = _without(cells, is_bad, None)
    value, _ = _without(value, is_bad, None)
    return pc.fill_null(value, -1.0).to_numpy().astype(np.int8), bad


def names(cells: Cells) -> Understood:
    """Whole numbers as int64, else text in a dictionary: what galaxies, kinds and regions are.

    Numbers that a float holds only nearly mean nothing: two galaxies may have become one.
    """
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    kind, bad = cells.type, cells.slice(0, 0)
    if pa.types.is_floating(kind):
        cells = pc.if_else(pc.is_nan(cells), None, cells)
        too_large = pc.greater_equal(pc.abs(cells), float(LARGEST_WHOLE_FLOAT))
        is_broken = pc.not_equal(cells, pc.floor(cells))
        cells, bad = _without(cells, pc.or_(too_large, is_broken), 0.0)
        return cells.cast(pa.int64()).combine_chunks(), bad
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return cells.cast(pa.int64()).combine_chunks(), bad
    text = cells.cast(pa.string()).combine_chunks().dictionary_encode()
    is_lossy = pc.match_substring_regex(text.dictionary, IN_POWERS_OF_TEN)
    if pc.any(is_lossy).as_py():
        bad = cells.filter(pc.fill_null(is_lossy.take(text.indices), False))
    return text, bad


def _filled(values: pa.Array) -> Ints:
    return np.asarray(pc.fill_null(values, -1).to_numpy(zero_copy_only=False))


def _without(cells: Cells, is_bad: Cells, instead: object) -> tuple[Cells, Cells]:
    """The cells with something else in place of the bad ones, and the bad ones."""
    is_bad = pc.fill_null(is_bad, False)
    return pc.if_else(is_bad, instead, cells), cells.filter(is_bad)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
