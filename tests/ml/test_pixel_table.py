"""Pixels come back by id, in the order asked for, however the table is cut up."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_builders import BANDS, cutouts, noise

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.data.pixels import Layout, encode
from darkhaloscope.ml import pixel_table
from darkhaloscope.ml.pixel_table import PixelTable


def held(table: pa.Table) -> PixelTable:
    return PixelTable.of_table(table, of="target_id", device=Device())


@settings(deadline=None, max_examples=20)
@given(cut=st.integers(0, 9), order=st.permutations(range(9)))
def test_rows_do_not_depend_on_chunks_or_order(cut: int, order: list[int]) -> None:
    whole = cutouts(9)
    table = held(pa.concat_tables([whole[cut:], whole[:cut]]))
    ids = 101 + np.array(order)
    raw = table.raw(table.positions(ids))
    np.testing.assert_array_equal(raw.pixels.numpy(), noise(9, 24)[order])
    expected = whole["sky_median_r_nmgy"].to_numpy()[order]
    np.testing.assert_array_equal(raw.sky_median[:, 1].numpy(), expected)


def test_refused_rows_are_left_out_and_asking_for_one_is_an_error() -> None:
    pixels = encode(noise(4, 24), valid=np.array([True, False, True, True]))
    table = held(cutouts(4, pixels=pixels))
    assert len(table) == 3
    np.testing.assert_array_equal(
        table.raw(table.positions(np.array([104]))).pixels[0].numpy(), noise(4, 24)[3]
    )
    with pytest.raises(DataError, match="1 of 2 rows have no pixels, the first target_id 102"):
        table.positions(np.array([101, 102]))


def test_an_unknown_id_is_an_error() -> None:
    with pytest.raises(DataError, match="the first target_id 999"):
        held(cutouts(2)).positions(np.array([999, 101]))


def test_an_id_that_stands_twice_is_an_error() -> None:
    with pytest.raises(DataError, match="target_id 7 stands twice"):
        held(cutouts(2, target_id=[7, 7]))


def test_no_rows_can_be_held_and_asked_for() -> None:
    table = held(cutouts(3)[:0])
    assert len(table) == 0
    assert table.raw(table.positions(np.array([], np.int64))).pixels.shape == (0, 2, 24, 24)


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
def test_pixels_from_storage_are_read_once_in_blocks(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_table, "FETCHED_AT_ONCE", 4)
    monkeypatch.setattr(pixel_table, "IN_MEMORY_BYTES", in_memory)
    stored, asked = noise(9, 24), []

    def fetch(ids: np.ndarray) -> np.ndarray:
        asked.extend(ids.tolist())
        return stored[ids - 101]

    table = PixelTable.fetched(
        cutouts(9).drop_columns("pixels"),
        fetch,
        of="target_id",
        pixel_scale_arcsec=0.262,
        bands=BANDS,
        folder=tmp_path,
        device=Device(),
    )
    assert asked == list(range(101, 110))
    order = np.array([7, 0, 8])
    np.testing.assert_array_equal(
        table.raw(table.positions(101 + order)).pixels.numpy(), stored[order]
    )
    assert table.layout == Layout(BANDS, 24, 0.262)
    assert bool(list(tmp_path.iterdir())) == (in_memory == 0)
