"""A column, with the unit and the meaning that travel with it, and a table checked at the door."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from darkhaloscope.core.errors import SchemaError

I1, I2, I4, I8 = pa.int8(), pa.int16(), pa.int32(), pa.int64()
F4, F8, TEXT, FLAG = pa.float32(), pa.float64(), pa.string(), pa.bool_()
F4_LIST = pa.list_(pa.float32())
PIXELS = pa.binary()  # stands for FixedSizeBinary of any width; shape and bands are in its field

Bands = Sequence[str]
SchemaOf = Callable[[Bands], pa.Schema]


def column(
    name: str, kind: pa.DataType, meaning: str, *, unit: str = "", nullable: bool = False
) -> pa.Field:
    """A column with its unit and meaning, which travel with the file."""
    return pa.field(name, kind, nullable, {"unit": unit, "meaning": meaning})


def per_band(
    bands: Bands, name: str, kind: pa.DataType, meaning: str, *, unit: str, nullable: bool = False
) -> list[pa.Field]:
    """One column a band; `name` holds `{b}` where the band goes."""
    return [
        column(name.format(b=b), kind, f"{meaning}, {b} band", unit=unit, nullable=nullable)
        for b in bands
    ]


def optional(name: str, kind: pa.DataType, meaning: str, *, unit: str = "") -> pa.Field:
    """A column that may be null: what does not apply is null, never 0 or NaN."""
    return column(name, kind, meaning, unit=unit, nullable=True)


def conform(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, in its order.

    Extra columns are dropped. Values are never cast: a wrong type is the producer's bug.

    Raises:
        SchemaError: a column is missing, has another type, or has nulls it may not have. One
            message names every such column.
    """
    faults = [fault for field in schema if (fault := _fault(table, field))]
    if faults:
        raise SchemaError("\n".join([f"{where}: the table does not match its schema", *faults]))
    fields = [_kept(table.field(f.name), f) for f in schema]
    return pa.table([table[f.name] for f in schema], schema=pa.schema(fields))


def empty(schema: pa.Schema) -> pa.Table:
    """No rows of `schema`."""
    return schema.empty_table()


def _kept(found: pa.Field, asked: pa.Field) -> pa.Field:
    """Pixels keep their own field: it holds shape, bands and scale; the rest are the schema's."""
    if asked.type != PIXELS:
        return asked
    return found.with_metadata({**(asked.metadata or {}), **(found.metadata or {})}).with_nullable(
        asked.nullable
    )


def _fault(table: pa.Table, field: pa.Field) -> str | None:
    if field.name not in table.column_names:
        return f"  missing    {field.name}: {field.type}"
    found = table.field(field.name).type
    alike = pa.types.is_fixed_size_binary(found) if field.type == PIXELS else found == field.type
    if not alike:
        return f"  wrong type {field.name}: {found}, expected {field.type}"
    if not field.nullable and table[field.name].null_count:
        return f"  nulls      {field.name}: {table[field.name].null_count} of {table.num_rows} rows"
    return None
