"""Rows of a bank of sources: generated galaxies, and the table that holds galaxies of any kind.

Read by attribute are the settings of `core.settings.sources.PictureBank`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core import keys, schemas
from darkhaloscope.data import pixels
from darkhaloscope.ml.manifesting import SPLIT_BITS

VERSION = 2  # raised when the same settings and files give another bank
CHUNK_ROWS = 256


class Asked(Protocol):
    """What is asked of `core.settings.sources.PictureBank`."""

    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def picture_px(self) -> int: ...  # noqa: D102
    @property
    def clumpy_count(self) -> int: ...  # noqa: D102
    @property
    def split_shares(self) -> Mapping[Any, float]: ...  # noqa: D102


def clumpy_tables(bank: Asked, bands: tuple[str, ...]) -> Iterator[pa.Table]:
    """Generated galaxies, some at a time."""
    from darkhaloscope.lensing import clumpy  # torch

    for start in range(0, bank.clumpy_count, CHUNK_ROWS):
        ident = np.arange(start, min(start + CHUNK_ROWS, bank.clumpy_count))
        key = keys_of("clumpy", ident, bank)
        made = clumpy.galaxies(key, bands=bands, size_px=bank.picture_px, seed=bank.seed)
        pictures, share = made.pictures.numpy(), made.share.numpy()
        columns = {
            "z": clumpy.redshift(key, seed=bank.seed),
            "half_light_px": made.half_light_px.numpy(),
            "provenance": [f"generated from seed {bank.seed}, version {VERSION}"] * len(ident),
        }
        yield rows_of("clumpy", ident, list(pictures), share[:, -1], columns, bank, bands)


def keys_of(kind: str, ident: NDArray[np.integer], bank: Asked) -> NDArray[np.int64]:
    """63-bit keys of galaxies: what all that is drawn of them belongs to, (n,)."""
    mixed = keys.bits(np.asarray(ident, np.int64), seed=bank.seed, stream=f"source {kind}")
    return (mixed >> np.uint64(1)).astype(np.int64)


def rows_of(
    kind: str,
    ident: NDArray[np.integer],
    pictures: Sequence[NDArray[np.float32]],
    second_share: NDArray[np.floating],
    columns: dict[str, Any],
    bank: Asked,
    bands: tuple[str, ...],
) -> pa.Table:
    """Rows of the bank; pictures are (layer, size, size) each."""
    key = keys_of(kind, ident, bank)
    names = sorted(bank.split_shares)
    shares = np.array([bank.split_shares[name] for name in names])
    split = np.array(names)[keys.choice(key, shares, seed=bank.seed, stream="source split")]
    bits = np.array([SPLIT_BITS[name] for name in split], np.int64)
    has_second = np.array([len(layers) > 1 for layers in pictures])
    first = np.stack([layers[0] for layers in pictures])[:, None]
    second = np.stack([layers[-1] for layers in pictures])[:, None]
    given = {
        "source_id": (key & ~np.int64(3)) | bits,
        "src_kind": [kind] * len(key),
        "split": split.tolist(),
        "ident": ident,
        "pixels": pixels.encode(first),
        "pixels_2": pixels.encode(second, valid=has_second),
        **{f"second_share_{b}": second_share[:, i] for i, b in enumerate(bands)},
        **columns,
    }
    schema = schema_of(bank.picture_px, bands)
    return pa.table([_column(given.get(f.name), f, len(key)) for f in schema], schema=schema)


def _column(values: Any, field: pa.Field, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, field.type)
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        return pa.array(values.astype(field.type.to_pandas_dtype()), field.type)
    return pa.array(values, field.type, from_pandas=True)  # NaN: not known


def schema_of(size: int, bands: Sequence[str]) -> pa.Schema:
    """The bank's schema with pixels of the width that they have."""
    said = {"dtype": "float32", "shape": f"{size},{size}", "unit": ""}
    fields = [
        f.with_type(pa.binary(4 * size**2)).with_metadata({**f.metadata, **said})
        if f.type == schemas.PIXELS
        else f
        for f in schemas.sources(bands)
    ]
    return pa.schema(fields)
