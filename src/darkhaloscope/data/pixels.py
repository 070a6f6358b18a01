"""Pixels in a table: one FixedSizeBinary value a row, readable without this package.

A value is float32, little-endian, in (band, y, x) order; shape, bands and pixel scale stand in the
metadata of the field. Anyone reads a row with `np.frombuffer(value, "<f4").reshape(shape)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError, SchemaError

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the bytes of one row are.

    Attributes:
        bands: Filters in the order of the first axis.
        size: Width and height, px.
        scale_arcsec: Width of a pixel, arcsec.
    """

    bands: tuple[str, ...]
    size: int
    scale_arcsec: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.bands), self.size, self.size

    @property
    def width_bytes(self) -> int:
        """Bytes of one row."""
        return 4 * len(self.bands) * self.size**2

    def cropped(self, size: int) -> "Layout":
        """The layout of the central `size` pixels."""
        _check_crop(self.size, size)
        return replace(self, size=size)

    def field(
        self, name: str = "pixels", *, nullable: bool = False, unit: str = "nmgy"
    ) -> pa.Field:
        """The column's field, which says all that a reader needs."""
        metadata = {
            "dtype": "float32",
            "shape": ",".join(str(axis) for axis in self.shape),
            "bands": ",".join(self.bands),
            "pixel_scale_arcsec": repr(self.scale_arcsec),
            "unit": unit,
        }
        return pa.field(name, pa.binary(self.width_bytes), nullable, metadata)


def layout_of(field: pa.Field) -> Layout:
    """The layout that a column of pixels states.

    Raises:
        SchemaError: the field has no such metadata, or contradicts its width.
    """
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    missing = [key for key in ("shape", "bands", "pixel_scale_arcsec") if key not in metadata]
    if missing:
        raise SchemaError(
            f"column {field.name} does not say what its bytes are: its field lacks "
            f"{', '.join(missing)}"
        )
    bands = tuple(metadata["bands"].split(","))
    shape = tuple(int(axis) for axis in metadata["shape"].split(","))
    layout = Layout(bands, shape[-1], float(metadata["pixel_scale_arcsec"]))
    if shape != layout.shape or field.type != pa.binary(layout.width_bytes):
        raise SchemaError(
            f"column {field.name}: {field.type} is not float32 of shape {shape} in bands "
            f"{', '.join(bands)}"
        )
    return layout


def encode(pixels: NDArray[np.floating], *, valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Pixels as a column; the buffer is shared where they are float32 already.

    Args:
        pixels: Nanomaggies, shape (n, band, y, x).
        valid: Rows that have pixels, shape (n,); the others become null. None: all.

    Raises:
        DataError: a pixel of a valid row is NaN or infinite.
    """
    packed = np.ascontiguousarray(pixels, dtype="<f4")
    valid = np.ones(len(packed), bool) if valid is None else np.asarray(valid, bool)
    finite = np.isfinite(packed).all(axis=(1, 2, 3)) | ~valid
    if not finite.all():
        raise DataError(
            f"{int((~finite).sum())} of {len(packed)} stamps have a pixel that is not finite, the "
            f"first in row {int(np.argmin(finite))}; such rows must be refused before"
        )
    width = 4 * int(np.prod(packed.shape[1:]))
    mask = None
    if not valid.all():
        mask = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    data = pa.py_buffer(packed.reshape(-1))
    return pa.Array.from_buffers(pa.binary(width), len(packed), [mask, data])


def decode(column: pa.Array | pa.ChunkedArray, layout: Layout | pa.Field) -> Pixels:
    """Pixels of a column, shape (n, band, y, x), read-only and not copied where it is one piece.

    Args:
        column: The column.
        layout: What its bytes are, or the field that says so.

    Raises:
        DataError: a row is null: it was refused and has no pixels.
        SchemaError: the field does not say what the bytes are.
    """
    if isinstance(layout, pa.Field):
        layout = layout_of(layout)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # no rows at all
        return np.zeros((0, *layout.shape), np.float32)
    if column.null_count:
        raise DataError(
            f"{column.null_count} of {len(column)} rows have no pixels (they were refused); "
            "leave them out before reading pixels"
        )
    data = column.buffers()[1]
    if data is None or len(column) == 0:
        return np.zeros((0, *layout.shape), np.float32)
    start = column.offset * layout.width_bytes // 4
    values = np.frombuffer(data, "<f4")[start : start + len(column) * layout.width_bytes // 4]
    values = values.reshape(len(column), *layout.shape)
    values.setflags(write=False)  # the table's own memory
    return values


def crop(pixels: Pixels, size: int) -> Pixels:
    """The central `size` pixels of stamps (n, band, y, x); the parity of the size stays.

    Raises:
        ValueError: the size is larger, or would move the centre by half a pixel.
    """
    _check_crop(pixels.shape[-1], size)
    edge = (pixels.shape[-1] - size) // 2
    return pixels[..., edge : edge + size, edge : edge + size]


def per_band(table: pa.Table, template: str, bands: Sequence[str]) -> NDArray[np.float32]:
    """Values of one column a band, such as `noise_{b}_nmgy`: shape (n, band), NaN where null."""
    columns = [
        table[template.format(b=band)].to_numpy(zero_copy_only=False).astype(np.float32)
        for band in bands
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0), np.float32)


def _check_crop(have: int, want: int) -> None:
    if want > have or (have - want) % 2:
        raise ValueError(
            f"cannot cut {want} px from the centre of {have}: larger, or off by half a pixel"
        )
