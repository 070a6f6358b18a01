"""Settings and tables made from plain values, where there is no pydantic and no survey."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

_BY_NAME = ("sky_shares", "copies", "shares", "kinds", "variants", "split_shares")


def record(section: Mapping[str, Any]) -> SimpleNamespace:
    """A section of a TOML file, read by attribute as the settings models are.

    What is looked up by name stays a dictionary.
    """

    def read(key: str, value: Any) -> Any:
        if key == "sets":
            return {name: record(plan) for name, plan in value.items()}
        return record(value) if isinstance(value, dict) and key not in _BY_NAME else value

    return SimpleNamespace(**{key: read(key, value) for key, value in section.items()})


def table_of(schema: pa.Schema, count: int, columns: Mapping[str, Any]) -> pa.Table:
    """A table of a schema: the columns given; null, nought or no text elsewhere."""
    arrays = []
    for field in schema:
        if field.name in columns:
            given = columns[field.name]
            values = given if isinstance(given, pa.ChunkedArray | pa.Array) else pa.array(given)
            arrays.append(values.cast(field.type, safe=False))
        elif field.nullable:
            arrays.append(pa.nulls(count, field.type))
        else:
            empty = "" if field.type == pa.string() else 0
            arrays.append(pa.array([empty] * count).cast(field.type))
    return pa.table(arrays, schema=schema)
