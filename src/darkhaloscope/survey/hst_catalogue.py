"""The files of GalSim's `RealGalaxyCatalog`: a catalogue, images and PSFs, one an HDU, and noise.

The COSMOS samples have some 90,000 galaxies in files of 1,000: an image is read when it is asked
for, and none is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError

Image = NDArray[np.float64]

_FILES_OPEN = 8


@dataclass(frozen=True, slots=True)
class Stamp:
    """One galaxy in one filter: what its files hold.

    Attributes:
        image: Counts, sky-subtracted, (y, x).
        psf: Of any total, its centre anywhere near the middle, in pixels of the image, (y, x).
        correlation: Noise correlation, its value at no lag in the middle, (y, x) of odd width.
        variance: Of a pixel's noise, counts squared.
        scale_arcsec: Width of a pixel.
    """

    image: Image
    psf: Image
    correlation: Image
    variance: float
    scale_arcsec: float


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue file and its companion with photometry.

    Attributes:
        folder: Where the files that it names lie.
        rows: Its columns.
        photometry: Columns of the companion `<name>_fits.fits`; empty where there is none.
        by_ident: Row of the companion by IDENT.
    """

    folder: Path
    rows: Mapping[str, NDArray[Any]]
    photometry: Mapping[str, NDArray[Any]]
    by_ident: Mapping[int, int]

    @classmethod
    def read(cls, path: Path) -> "Catalogue":
        """Read a catalogue and, where there is one, its companion.

        Raises:
            DataError: it is not there, is no FITS table, or lacks a column.
        """
        rows = _columns(path)
        wanted = (
            "IDENT", "MAG", "BAND", "GAL_FILENAME", "PSF_FILENAME", "GAL_HDU", "PSF_HDU",
            "PIXEL_SCALE", "NOISE_VARIANCE", "NOISE_FILENAME",
        )  # fmt: skip
        lacking = [name for name in wanted if name not in rows]
        if lacking:
            raise DataError(
                f"{path} is no catalogue in RealGalaxyCatalog's format: it lacks "
                f"{', '.join(lacking)}; name the file real_galaxy_catalog_....fits itself"
            )
        companion = companion_of(path)
        photometry = _columns(companion) if companion.is_file() else {}
        ident = photometry.get("IDENT", np.zeros(0, np.int64))
        return cls(path.parent, rows, photometry, {int(i): n for n, i in enumerate(ident)})

    def files(self) -> list[str]:
        """Names of all files that it names: images, PSFs, noise correlations; sorted."""
        columns = (self.rows[f"{kind}_FILENAME"] for kind in ("GAL", "PSF", "NOISE"))
        return sorted({str(name).strip() for column in columns for name in np.unique(column)})

    def text(self, name: str, row: int) -> str:
        """A text of the catalogue, such as the name of a file."""
        return str(self.rows[name][row]).strip()

    def beside(self, row: int, *names: str) -> float:
        """A number of the companion catalogue under the first name it has; NaN: not known."""
        at = self.by_ident.get(int(self.rows["IDENT"][row]))
        found = next((name for name in names if name in self.photometry), None)
        if at is None or found is None:
            return np.nan
        value = float(self.photometry[found][at])
        return value if np.isfinite(value) and 0 < value < 90 else np.nan


def companion_of(path: Path) -> Path:
    """The companion of a catalogue file, which has photometry and redshifts."""
    return path.with_name(f"{path.stem}_fits.fits")


class Files:
    """Image files, the last few kept open; noise correlations, read once."""

    def __init__(self) -> None:
        """Begin with nothing open."""
        self._open = dict[Path, Any]()
        self._correlations = dict[Path, Image]()

    def close(self) -> None:
        """Close all that is open."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def stamp(self, catalogue: Catalogue, row: int) -> Stamp | None:
        """What the files hold of a galaxy in one filter; None: an image is missing."""
        image = self._image(catalogue, "GAL", row)
        psf = self._image(catalogue, "PSF", row)
        if image is None or psf is None:
            return None
        return Stamp(
            image=image,
            psf=psf,
            correlation=self._correlation(catalogue.folder / catalogue.text("NOISE_FILENAME", row)),
            variance=float(catalogue.rows["NOISE_VARIANCE"][row]),
            scale_arcsec=float(catalogue.rows["PIXEL_SCALE"][row]),
        )

    def _image(self, catalogue: Catalogue, kind: str, row: int) -> Image | None:
        path = catalogue.folder / catalogue.text(f"{kind}_FILENAME", row)
        if path not in self._open:
            if not path.is_file():
                return None
            if len(self._open) >= _FILES_OPEN:
                self.close()
            self._open[path] = fits.open(path)
        hdus, place = self._open[path], int(catalogue.rows[f"{kind}_HDU"][row])
        try:
            # a section is read anew and not kept: a file of 1,000 images never is in memory
            return np.asarray(hdus[place].section[:, :], np.float64)
        except (IndexError, AttributeError, OSError):
            return None

    def _correlation(self, path: Path) -> Image:
        if path not in self._correlations:
            if not path.is_file():
                raise DataError(
                    f"{path} is not there, though the catalogue names it as the correlation of its "
                    "noise; GalSim brings it in its share folder: put a copy beside the catalogue"
                )
            self._correlations[path] = np.asarray(fits.getdata(path), np.float64)
        return self._correlations[path]


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The first table of a FITS file, its columns by name."""
    try:
        with fits.open(path) as hdus:
            table = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU))
            return {name: np.array(table.data[name]) for name in table.columns.names}
    except (OSError, StopIteration) as error:
        raise DataError(f"{path} cannot be read as a FITS catalogue: {error}") from error
