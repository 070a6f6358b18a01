"""Pixels by id, read from the run's tables and only for the rows asked for."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError
from darkhaloscope.data import pixels, store


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """A `core.contracts.PixelSource` over the partitions that a stage declares as inputs."""

    stamp_paths: tuple[str, ...]
    cutout_paths: tuple[str, ...]

    def stamps(self, stamp_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Stamps in the order of the ids, shape (n, band, y, x), nmgy."""
        return _gather(self.stamp_paths, "stamp_id", stamp_ids, "pixels")

    def cutouts(self, target_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cutouts in the order of the ids, shape (n, band, y, x), nmgy."""
        return _gather(self.cutout_paths, "target_id", target_ids, "pixels")

    def psf_images(self, target_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """PSF images of the cutouts in the order of the ids, shape (n, band, k, k)."""
        return _gather(self.cutout_paths, "target_id", target_ids, "psf_image")


def _gather(
    paths: tuple[str, ...], column: str, ids: NDArray[np.int64], of: str
) -> NDArray[np.float32]:
    wanted = np.unique(np.asarray(ids, np.int64))
    found_ids, found = [], []
    for path in paths:
        table = store.rows_where(path, column, pa.array(wanted), columns=[column, of])
        if table.num_rows:
            found_ids.append(table[column].to_numpy())
            found.append(pixels.decode(table[of], table.field(of)))
    held = np.concatenate(found_ids) if found else np.empty(0, np.int64)
    missing = np.setdiff1d(wanted, held)
    if len(missing):
        raise DataError(
            f"{len(missing)} rows have no pixels, first {column} {missing[0]}; run the stages again"
        )
    if not found:
        return np.empty((0, 0, 0, 0), np.float32)
    order = np.argsort(held)
    return np.concatenate(found)[order[np.searchsorted(held[order], ids)]]
