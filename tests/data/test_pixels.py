import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.data import pixels

LAYOUT = pixels.Layout(("g", "r", "z"), 8, 0.262)


def stamps(count: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_pixels_come_back_to_the_bit(count: int) -> None:
    column = pixels.encode(stamps(count))
    assert column.type == pa.binary(LAYOUT.width_bytes)
    np.testing.assert_array_equal(pixels.decode(column, LAYOUT), stamps(count))


def test_a_file_is_read_without_this_package(tmp_path) -> None:
    table = pa.table([pixels.encode(stamps(3))], schema=pa.schema([LAYOUT.field()]))
    pq.write_table(table, tmp_path / "stamps.parquet")
    read = pq.read_table(tmp_path / "stamps.parquet")
    metadata = read.field("pixels").metadata
    shape = [int(axis) for axis in metadata[b"shape"].split(b",")]
    row = np.frombuffer(read["pixels"][1].as_py(), "<f4").reshape(shape)
    np.testing.assert_array_equal(row, stamps(3)[1])
    assert metadata[b"bands"] == b"g,r,z"
    assert float(metadata[b"pixel_scale_arcsec"]) == 0.262


@settings(deadline=None)
@given(start=st.integers(0, 6), length=st.integers(0, 6), pieces=st.integers(1, 3))
def test_slices_and_chunks_are_decoded_where_they_lie(start: int, length: int, pieces: int) -> None:
    column = pa.chunked_array([pixels.encode(part) for part in np.array_split(stamps(6), pieces)])
    got = pixels.decode(column.slice(start, length), LAYOUT.field())
    np.testing.assert_array_equal(got, stamps(6)[start : start + length])


def test_decoding_one_piece_copies_nothing() -> None:
    column = pixels.encode(stamps(4))
    got = pixels.decode(column, LAYOUT)
    assert got.ctypes.data == column.buffers()[1].address
    assert not got.flags.writeable


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_refused(value: float) -> None:
    sick = stamps(3)
    sick[1, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"1 of 3 stamps .* first in row 1"):
        pixels.encode(sick)


def test_a_refused_row_is_null_whatever_its_pixels() -> None:
    sick = stamps(9)
    sick[1] = np.nan
    valid = np.arange(9) != 1
    column = pixels.encode(sick, valid=valid)
    assert [v is None for v in column.to_pylist()] == (~valid).tolist()
    with pytest.raises(DataError, match="1 of 9 rows have no pixels"):
        pixels.decode(column, LAYOUT)
    kept = column.filter(pa.array(valid))
    np.testing.assert_array_equal(pixels.decode(kept, LAYOUT), stamps(9)[valid])


def test_the_field_says_the_layout() -> None:
    assert pixels.layout_of(LAYOUT.field()) == LAYOUT


def test_a_field_without_layout_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(SchemaError, match="lacks shape, bands, pixel_scale_arcsec"):
        pixels.layout_of(pa.field("pixels", pa.binary(768)))


def test_a_field_whose_width_is_not_its_shape_is_refused() -> None:
    wrong = LAYOUT.field().with_type(pa.binary(100))
    with pytest.raises(SchemaError, match=r"not float32 of shape \(3, 8, 8\)"):
        pixels.layout_of(wrong)


def test_a_crop_keeps_the_centre() -> None:
    whole = stamps(2)
    np.testing.assert_array_equal(pixels.crop(whole, 4), whole[:, :, 2:6, 2:6])
    assert LAYOUT.cropped(4).shape == (3, 4, 4)


@pytest.mark.parametrize("size", [5, 10])
def test_a_crop_that_moves_the_centre_or_grows_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="half a pixel"):
        pixels.crop(stamps(1), size)
    with pytest.raises(ValueError, match="half a pixel"):
        LAYOUT.cropped(size)


def test_values_of_the_bands_stand_side_by_side_and_null_is_nan() -> None:
    table = pa.table(
        {"noise_r_nmgy": pa.array([1.0, None], pa.float32()), "noise_g_nmgy": [3.0, 4.0]}
    )
    got = pixels.per_band(table, "noise_{b}_nmgy", ("g", "r"))
    np.testing.assert_array_equal(got, np.array([[3, 1], [4, np.nan]], np.float32))
