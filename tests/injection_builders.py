"""Rows of the manifest to paint, changed one number at a time, and the camera that paints them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from manifest_builders import BANDS, KINDS, SCALE, config, cutouts_head, splits
from numpy.typing import NDArray

from darkhaloscope.ml import manifesting
from darkhaloscope.ml.injection import Camera

QUIET = Camera(BANDS, SCALE, 64, "moffat", (2.8, 2.7, 2.6), (0.0, 0.0, 0.0), batch_rows=32)
NOISY = replace(QUIET, electrons_per_nmgy_per_exposure=(3500.0, 3500.0, 3500.0))


def rows_of(n: int = 4, *, split: str = "train", kinds: tuple[str, ...] = KINDS) -> pa.Table:
    """The manifest's rows of n galaxies, of some kinds."""
    targets = splits(n, split=split)
    hosts = manifesting.hosts_of(targets, cutouts_head(targets), BANDS)
    rows = manifesting.draw(hosts, split=split, config=config())
    return rows.filter(pc.is_in(rows["kind"], value_set=pa.array(kinds)))


def with_column(rows: pa.Table, name: str, value: float | str | None) -> pa.Table:
    """Rows that have one value in a column; None: null."""
    at = rows.schema.get_field_index(name)
    field = rows.schema.field(at)
    return rows.set_column(at, field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))


def untargeted(rows: pa.Table) -> pa.Table:
    """Rows whose light is not scaled to a signal-to-noise ratio."""
    at = rows.schema.get_field_index("arc_snr_target")
    return rows.set_column(at, "arc_snr_target", pa.nulls(rows.num_rows, pa.float32()))


def with_parts(rows: pa.Table, *parts: NDArray[np.float32]) -> pa.Table:
    """Rows of the same parts, each (1, PART), all their light in the first layer."""
    at = rows.schema.get_field_index("shape_parts")
    numbers = np.concatenate(parts).ravel().tolist()
    column = pa.array([numbers] * rows.num_rows, rows.schema.field(at).type)
    rows = rows.set_column(at, rows.schema.field(at), column)
    for band in BANDS:
        rows = with_column(rows, f"layer_share_{band}", None)
    return rows
