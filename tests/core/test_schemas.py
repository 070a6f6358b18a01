"""A table is checked once, at the door, and all its faults are named together."""

import pyarrow as pa
import pytest

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import SchemaError

GRZ = ("g", "r", "z")
SMALL = pa.schema(
    [
        schemas.column("target_id", pa.int64(), "galaxy"),
        schemas.column("refused", pa.string(), "why not", nullable=True),
    ]
)


@pytest.mark.parametrize("name", schemas.BY_NAME)
def test_every_column_says_what_it_means(name: str) -> None:
    for field in schemas.BY_NAME[name](GRZ):
        assert field.metadata[b"meaning"], field.name


@pytest.mark.parametrize("name", schemas.BY_NAME)
def test_a_dimensional_column_ends_in_its_unit(name: str) -> None:
    endings = {
        "arcsec": "_arcsec",
        "deg": "_deg",
        "nmgy": "_nmgy",
        "deg2": "_deg2",
        "px": "_px",
        "km/s": "_kms",
    }
    for field in schemas.BY_NAME[name](GRZ):
        unit = field.metadata[b"unit"].decode()
        if unit in endings and field.name != "pixels":
            assert field.name.endswith(endings[unit]), field.name


@pytest.mark.parametrize("name", schemas.BY_NAME)
def test_names_are_unique_and_follow_the_bands(name: str) -> None:
    columns = schemas.BY_NAME[name](("g", "i")).names
    assert len(set(columns)) == len(columns)
    assert not any("_r_" in c and c.startswith(("psf_", "flux_", "depth_")) for c in columns)


def test_extra_columns_are_dropped_and_the_order_is_the_schemas() -> None:
    table = pa.table({"x": [1], "refused": pa.array([None], pa.string()), "target_id": [5]})
    assert schemas.conform(table, SMALL, where="here").column_names == ["target_id", "refused"]


def test_all_faults_are_named_at_once() -> None:
    table = pa.table({"target_id": pa.array([1, 2], pa.int32())})
    with pytest.raises(SchemaError) as fault:
        schemas.conform(table, SMALL, where="cutouts/tile=1-2.parquet")
    text = str(fault.value)
    assert "cutouts/tile=1-2.parquet" in text
    assert "wrong type target_id: int32, expected int64" in text
    assert "missing    refused: string" in text


def test_a_null_where_none_may_be_is_a_fault() -> None:
    table = pa.table(
        {
            "target_id": pa.array([1, None], pa.int64()),
            "refused": pa.array([None, None], pa.string()),
        }
    )
    with pytest.raises(SchemaError, match="target_id: 1 of 2 rows"):
        schemas.conform(table, SMALL, where="x")


def test_pixels_may_have_any_size_and_keep_what_their_field_says() -> None:
    schema = pa.schema([schemas.column("pixels", schemas.PIXELS, "stamp", unit="nmgy")])
    field = pa.field("pixels", pa.binary(8), metadata={"shape": "1,1,2"})
    table = pa.table([pa.array([b"12345678"], pa.binary(8))], schema=pa.schema([field]))
    kept = schemas.conform(table, schema, where="x").field("pixels")
    assert kept.type == pa.binary(8)
    assert kept.metadata[b"shape"] == b"1,1,2"
    assert kept.metadata[b"unit"] == b"nmgy"
