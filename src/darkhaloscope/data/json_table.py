"""A small table as JSON that a person can read: its columns and types, then one object a row.

Integers of 64 bits are strings, as many readers of JSON would round them. NaN and infinity have no
place in JSON and are refused: what does not apply is null.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from darkhaloscope.core.errors import DataError

Record = dict[str, Any]


def dumps(table: pa.Table, said: Mapping[str, Any], *, where: str) -> str:
    """A table and what is `said` of it, as text that ends in one newline.

    Raises:
        DataError: a value is NaN or infinite, or a column is of a type that JSON cannot hold.
    """
    types = {field.name: str(field.type) for field in table.schema}
    if unfit := [f"{name}: {kind}" for name, kind in types.items() if _type(kind) is None]:
        raise DataError(f"{where} is JSON, which cannot hold {', '.join(unfit)}")
    wide = [name for name, kind in types.items() if kind == "int64"]
    rows = [_written(row, wide) for row in table.to_pylist()]
    odd = {k for row in rows for k, v in row.items() if isinstance(v, float) and not _is_finite(v)}
    if odd:
        raise DataError(f"{where}: {', '.join(sorted(odd))} holds NaN or infinity; null is meant")
    record = {**said, "columns": types, "rows": rows}
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str, *, where: str) -> tuple[pa.Table, Record]:
    """The table, without its columns' units and meanings, and what is said of it.

    Raises:
        DataError: the text is not such a table.
    """
    try:
        record: Record = json.loads(text)
        types = {name: _type(kind) for name, kind in record.pop("columns").items()}
        wide = [name for name, kind in types.items() if kind == pa.int64()]
        rows = [_read(row, wide) for row in record.pop("rows")]
        columns = {
            name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(
            f"{where} is not a whole table ({type(error).__name__}: {error}); delete it and run "
            "again"
        ) from error
    return pa.table(columns), record


def _type(name: str) -> pa.DataType | None:
    """The type of this name where JSON can hold it."""
    try:
        found = pa.type_for_alias(name)
    except ValueError:
        return None
    is_plain = pa.types.is_integer(found) or pa.types.is_floating(found)
    return found if is_plain or found in (pa.string(), pa.bool_()) else None


def _written(row: Record, wide: list[str]) -> Record:
    return {k: str(v) if k in wide and v is not None else v for k, v in row.items()}


def _read(row: Record, wide: list[str]) -> Record:
    return {k: int(v) if k in wide and v is not None else v for k, v in row.items()}


def _is_finite(value: float) -> bool:
    return math.isfinite(value)
