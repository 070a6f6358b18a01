"""PsfEx models: a PSF that varies across an image, as a polynomial of PSF images.

PsfEx (Bertin 2011, ASP Conf. 442, 435; https://psfex.readthedocs.io) writes one table, PSF_DATA:
its column PSF_MASK holds one image for each term of the polynomial, its header the polynomial
(POLNAME1, POLDEG1, POLZERO1, POLSCAL1, ...) and the sampling PSF_SAMP, pixels of the exposure for
one pixel of the model. The Legacy Surveys' merged files hold the models of all CCDs of an exposure
in one table instead: a row a CCD, what PsfEx puts into the header in columns of the same names in
lower case, and `expnum` and `ccdname` beside them.

A model describes stars as the exposure's pixels have them: the pixel is in it already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.survey.images import ImageError

MASK = "PSF_MASK"
_POLYNOMIAL = ("POLNAME1", "POLNAME2", "POLNGRP", "POLGRP1", "POLGRP2")
_NUMBERS = ("POLDEG1", "POLZERO1", "POLZERO2", "POLSCAL1", "POLSCAL2", "PSF_SAMP")

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PsfEx:
    """The PSF of an exposure or coadd at any of its pixels.

    Attributes:
        terms: Images of the polynomial's terms 1, x, x^2, ..., y, x y, ..., y^2, ..., of axes
            (y, x), shape (term, k, k).
        degree: Of the polynomial.
        zero: Place of its origin along x and y, pixels, the first pixel's centre being 1.
        scale: Pixels along x and y in which it is written.
        step_px: Pixels of the exposure for one pixel of the model.
    """

    terms: Numbers
    degree: int
    zero: tuple[float, float]
    scale: tuple[float, float]
    step_px: float

    def images(self, x: Numbers, y: Numbers) -> Numbers:
        """PSFs at places of the exposure, as the polynomial gives them: neither normed nor moved.

        Args:
            x: Column, the first pixel's centre being 0, shape (n,).
            y: Row, the first pixel's centre being 0, shape (n,).

        Returns:
            Images sampled every `step_px` pixels, axes (y, x), shape (n, k, k).
        """
        u = (np.asarray(x, np.float64) + 1 - self.zero[0]) / self.scale[0]
        v = (np.asarray(y, np.float64) + 1 - self.zero[1]) / self.scale[1]
        powers = [(i, j) for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        weights = np.stack([u**i * v**j for i, j in powers], axis=-1)
        return np.asarray(np.tensordot(weights, self.terms, axes=1))


def is_model(units: fits.HDUList) -> bool:
    """Whether an open FITS file holds PsfEx models."""
    return _table(units) is not None


def read(path: Path, *, expnum: int | None = None, ccdname: str | None = None) -> PsfEx:
    """The model that a file holds.

    Args:
        path: A file of PsfEx, or a merged one of the Legacy Surveys.
        expnum: Exposure whose model is wanted; for merged files.
        ccdname: CCD whose model is wanted; for merged files.

    Raises:
        ImageError: the file holds no model, or several that fit, or one of another kind.
    """
    try:
        with fits.open(path, memmap=False) as units:
            return of_units(units, expnum=expnum, ccdname=ccdname)
    except (OSError, TypeError, ValueError) as error:
        raise ImageError(f"it cannot be read as a PsfEx model: {error}") from error


def of_units(
    units: fits.HDUList, *, expnum: int | None = None, ccdname: str | None = None
) -> PsfEx:
    """The model in an open file; see `read`.

    Raises:
        ImageError: the file holds no model, or several that fit, or one of another kind.
    """
    table = _table(units)
    if table is None:
        raise ImageError(f"it holds no table with {MASK}: it is no PsfEx file")
    row = _row(table, expnum, ccdname)
    said = _said(table, row)
    missing = [key for key in (*_POLYNOMIAL, *_NUMBERS) if key not in said]
    if missing:
        raise ImageError(f"its PsfEx model lacks {', '.join(missing)}")
    names = str(said["POLNAME1"]), str(said["POLNAME2"])
    groups = [int(said[key]) for key in _POLYNOMIAL[2:]]
    of_place = all(
        n[0] == axis and n.endswith("IMAGE") for n, axis in zip(names, "XY", strict=True)
    )
    if not of_place or groups != [1, 1, 1]:
        raise ImageError(
            f"its PsfEx model varies with {names[0]} and {names[1]} in {groups[0]} groups; only "
            "one polynomial of the place X_IMAGE, Y_IMAGE can be used"
        )
    numbers = {key: float(said[key]) for key in _NUMBERS}
    degree = int(numbers["POLDEG1"])
    count = (degree + 1) * (degree + 2) // 2
    terms = np.asarray(table.data[MASK][row], np.float64)
    if terms.ndim != 3 or len(terms) < count or terms.shape[1] != terms.shape[2]:
        raise ImageError(
            f"its {MASK} has shape {terms.shape}; a polynomial of degree {degree} has {count} "
            "square images"
        )
    scale = numbers["POLSCAL1"], numbers["POLSCAL2"]
    if not all(np.isfinite(list(numbers.values()))) or 0 in scale or numbers["PSF_SAMP"] <= 0:
        raise ImageError(f"the numbers of its PsfEx model make no sense: {numbers}")
    return PsfEx(
        terms=terms[:count],
        degree=degree,
        zero=(numbers["POLZERO1"], numbers["POLZERO2"]),
        scale=scale,
        step_px=numbers["PSF_SAMP"],
    )


def _table(units: fits.HDUList) -> fits.BinTableHDU | None:
    """The first table with a column PSF_MASK, in upper or lower case."""
    for unit in units:
        if isinstance(unit, fits.BinTableHDU) and MASK in {n.upper() for n in unit.columns.names}:
            return unit
    return None


def _row(table: fits.BinTableHDU, expnum: int | None, ccdname: str | None) -> int:
    """The one row of the table that is asked for."""
    held = {name.upper() for name in table.columns.names}
    fits_asked = np.ones(len(table.data), bool)
    for name, asked in (("EXPNUM", expnum), ("CCDNAME", ccdname)):
        if asked is None:
            continue
        if name not in held:
            raise ImageError(f"it does not say which {name.lower()} its PsfEx models are of")
        values = [str(value).strip() for value in table.data[name]]
        fits_asked &= np.array(values) == str(asked)
    rows = np.flatnonzero(fits_asked)
    if len(rows) != 1:
        raise ImageError(
            f"{len(rows)} of its {len(table.data)} PsfEx models fit expnum {expnum}, ccdname "
            f"{ccdname}; exactly one must"
        )
    return int(rows[0])


def _said(table: fits.BinTableHDU, row: int) -> Mapping[str, Any]:
    """What header and columns say of a model, by upper-case key."""
    keys = (*_POLYNOMIAL, *_NUMBERS)
    said = {key: table.header[key] for key in keys if key in table.header}
    columns = {name.upper(): name for name in table.columns.names}
    return said | {key: table.data[columns[key]][row] for key in keys if key in columns}
