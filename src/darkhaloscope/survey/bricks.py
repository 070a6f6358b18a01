"""The survey's bricks: where each lies, which the run's area takes, which tile each belongs to."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.core.settings.survey import Box

_COLUMNS = ("brickname", "ra", "dec", "ra1", "ra2", "dec1", "dec2")

Degrees = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Bricks:
    """Bricks in the order of their names; all angles are degrees, shape (n,).

    Attributes:
        names: Name of the brick, ASCII.
        ra: Centre.
        dec: Centre.
        ra1: Least RA of the area that is the brick's alone.
        ra2: Largest RA of it.
        dec1: Least Dec of it.
        dec2: Largest Dec of it.
    """

    names: NDArray[np.bytes_]
    ra: Degrees
    dec: Degrees
    ra1: Degrees
    ra2: Degrees
    dec1: Degrees
    dec2: Degrees

    def within(self, area: Literal["all"] | Sequence[Box] | Sequence[str]) -> "Bricks":
        """The bricks that the area names or touches.

        Raises:
            DataError: the area has no brick, or names one that the survey has not.
        """
        if area == "all":
            return self
        boxes = [part for part in area if isinstance(part, Box)]
        named = [str(part).encode() for part in area if not isinstance(part, Box)]
        taken = np.isin(self.names, np.array(named, "S8"))
        unknown = sorted(set(named) - set(self.names[taken].tolist()))
        if unknown:
            raise DataError(f"survey.area: the survey has no brick {unknown[0].decode()}")
        for box in boxes:
            taken |= self.overlaps(box.ra_deg, box.dec_deg)
        if not taken.any():
            raise DataError("survey.area touches no brick of the survey's table of bricks")
        return self._only(taken)

    def overlaps(self, ra: tuple[float, float], dec: tuple[float, float]) -> Flags:
        """Which bricks share some sky with a box; `ra` 350 to 10 goes through 0."""
        width = (ra[1] - ra[0]) % 360 or 360.0
        own_width = (self.ra2 - self.ra1) % 360
        in_ra = ((self.ra1 - ra[0]) % 360 < width) | ((ra[0] - self.ra1) % 360 < own_width)
        return np.asarray(in_ra & (self.dec1 < dec[1]) & (self.dec2 > dec[0]))

    def index(self, names: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Row of each name, shape (n,); -1 where it is not among these bricks."""
        if not len(self.names):
            return np.full(len(names), -1)
        at = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        return np.where(self.names[at] == names, at, -1)

    def tiles(self, index: NDArray[np.int64], nside: int) -> NDArray[np.str_]:
        """Name of the tile, `nside-ipix`, that holds the centre of each brick in `index`, (n,)."""
        used, row = np.unique(index, return_inverse=True)
        found = pixels(self.ra[used], self.dec[used], nside)
        return np.array([f"{nside}-{pixel}" for pixel in found], np.str_)[row]

    def area_deg2(self) -> Degrees:
        """Sky that is each brick's alone, square degrees."""
        height = np.sin(np.deg2rad(self.dec2)) - np.sin(np.deg2rad(self.dec1))
        return np.asarray(((self.ra2 - self.ra1) % 360) * np.rad2deg(height))

    def _only(self, taken: Flags) -> "Bricks":
        return Bricks(*(getattr(self, name)[taken] for name in ("names", *_COLUMNS[1:])))


def load(path: Path) -> Bricks:
    """All bricks of the survey's table `survey-bricks.fits.gz`; kept in memory per process.

    Raises:
        SchemaError: a column is missing.
    """
    return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int) -> Bricks:
    table = _columns(path)
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise SchemaError(f"{path}: the table of bricks lacks {', '.join(missing)}")
    names = np.asarray(table["brickname"]).astype("S8")
    order = np.argsort(names, kind="stable")
    numbers = (np.asarray(table[name], np.float64)[order] for name in _COLUMNS[1:])
    return Bricks(names[order], *numbers)


def names_in(path: Path) -> set[str]:
    """Names of the bricks in a release's summary table.

    Raises:
        SchemaError: the column is missing.
    """
    table = _columns(path)
    if "brickname" not in table:
        raise SchemaError(f"{path}: the table of bricks lacks brickname")
    return {str(name).strip() for name in table["brickname"]}


def pixels(ra: Degrees, dec: Degrees, nside: int) -> NDArray[np.int64]:
    """HEALPix pixel, nested order, of each position in degrees, shape (n,)."""
    grid = HEALPix(nside=nside, order="nested")
    return np.asarray(grid.lonlat_to_healpix(ra * u.deg, dec * u.deg), np.int64)


def _columns(path: Path) -> dict[str, Any]:
    """Columns of a file's first table, by lower-case name."""
    with fits.open(path, memmap=False) as units:
        table = next((unit for unit in units if isinstance(unit, fits.BinTableHDU)), None)
        if table is None:
            raise SchemaError(f"{path}: expected a table of bricks, found no table")
        return {name.lower(): np.array(table.data[name]) for name in table.columns.names}
