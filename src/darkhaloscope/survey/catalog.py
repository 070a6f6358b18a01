"""Reading the survey's catalogues, sweep or tractor, of any release from DR3 on.

The survey's names become ours here and nowhere else. A file is mapped into memory and read piece by
piece: first the few columns that cuts need, then all columns of the rows that pass.

Releases differ: upper or lower case; TYPE padded by blanks (`PSF `); one flux column a band, or
(DR3, DR4) one array `decam_flux` in the order ugrizY; sizes in SHAPE_R (from DR9 on) or in
SHAPEDEV_R and SHAPEEXP_R; `brick_primary` in tractor files only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core import keys, units
from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.core.schemas import F4, TEXT
from darkhaloscope.survey.integrity import fault

REQUIRED = ("release", "brickid", "brickname", "objid", "type", "ra", "dec")
CUT_BANDS = ("r", "z", "w1")
NO_GALAXY = (b"PSF", b"DUP")  # a star, and a Gaia star drawn into a galaxy: not fitted

_DECAM, _WISE = "ugrizY", ("w1", "w2", "w3", "w4")
_ARRAYS = {  # DR3 and DR4 keep these in arrays, DECam and WISE apart
    "flux": ("decam_flux", "wise_flux"),
    "mw_transmission": ("decam_mw_transmission", "wise_mw_transmission"),
    "psfsize": ("decam_psfsize", ""),
    "psfdepth": ("decam_depth", ""),
}
_SIMPLE_R_ARCSEC = 0.45  # DR3-DR7's SIMP: an exponential disc of this fixed half-light radius
_PIECE_BYTES = 1 << 23  # stays in a processor's cache while its columns are picked

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An open catalogue; rows are read when asked for.

    Attributes:
        path: The file.
        rows: Its rows as they lie on disk, mapped.
        names: Column of the file by lower-case name.
    """

    path: Path
    rows: Values
    names: Mapping[str, str]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def pieces(self) -> Iterator[slice]:
        """Rows to read at a time."""
        step = max(_PIECE_BYTES // max(self.rows.dtype.itemsize, 1), 1)
        return (slice(start, start + step) for start in range(0, len(self), step))

    def column(self, name: str, rows: slice | NDArray[np.int64]) -> Values:
        """Values of one column of the file, in this machine's byte order."""
        values = self.rows[self.names[name]][rows]
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))

    def per_band(
        self, quantity: str, band: str, rows: slice | NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """`flux`, `mw_transmission`, `psfsize` or `psfdepth` of a band; None where not given."""
        if f"{quantity}_{band.lower()}" in self.names:
            return self.column(f"{quantity}_{band.lower()}", rows).astype(np.float32)
        optical, infrared = _ARRAYS[quantity]
        if band in _WISE and infrared in self.names:
            return self.column(infrared, rows)[:, _WISE.index(band)].astype(np.float32)
        if band in _DECAM and optical in self.names:
            return self.column(optical, rows)[:, _DECAM.index(band)].astype(np.float32)
        return None

    def is_primary_galaxy(self, rows: slice) -> NDArray[np.bool_]:
        """Rows that are the brick's own, and fitted by a galaxy's profile."""
        galaxy = is_galaxy(self.column("type", rows))
        if "brick_primary" in self.names:
            galaxy &= _true(self.column("brick_primary", rows))
        return galaxy


def open_catalogue(path: Path, *, need_transmission: bool = False) -> Catalogue:
    """Open a sweep or tractor file.

    Args:
        path: The file.
        need_transmission: Refuse a file that does not say how much light dust takes.

    Raises:
        SchemaError: columns are missing; one message names all.
        DataError: the file cannot be read.
    """
    if reason := fault(path):
        raise DataError(f"{path} is no whole FITS file ({reason}); fetch it again")
    with fits.open(path, memmap=True) as file:
        table = next((unit for unit in file if isinstance(unit, fits.BinTableHDU)), None)
        if table is None:
            raise SchemaError(f"{path}: expected a catalogue, found no table")
        dtype, count = table.columns.dtype.newbyteorder(">"), table.header["NAXIS2"]
        offset = table.fileinfo()["datLoc"]
    mapped = np.memmap(path, dtype, "r", offset, (count,)) if count else np.zeros(0, dtype)
    catalogue = Catalogue(path, mapped, {name.lower(): name for name in dtype.names or ()})
    _require(catalogue, need_transmission=need_transmission)
    return catalogue


def _require(catalogue: Catalogue, *, need_transmission: bool) -> None:
    none = slice(0, 0)
    missing = [name for name in REQUIRED if name not in catalogue.names]
    quantities = ("flux", "mw_transmission") if need_transmission else ("flux",)
    missing += [
        f"{quantity}_{band}"
        for quantity in quantities
        for band in CUT_BANDS
        if catalogue.per_band(quantity, band, none) is None
    ]
    if missing:
        raise SchemaError(
            f"{catalogue.path}: no sweep or tractor catalogue: it lacks the columns "
            f"{', '.join(name.upper() for name in missing)}; expected a file such as "
            "sweep-<min>-<max>.fits or tractor-<brick>.fits of a data release"
        )


def is_galaxy(types: Values) -> NDArray[np.bool_]:
    """Which Tractor types are a galaxy's: all but PSF and DUP.

    Args:
        types: TYPE as bytes or text, padded by blanks or not, shape (n,).

    Examples:
        >>> is_galaxy(np.array([b"PSF ", b"REX ", b"DUP"])).tolist()
        [False, True, False]
        >>> is_galaxy(np.array(["PSF", "DEV"])).tolist()
        [False, True]
    """
    codes = _type_codes(types)
    galaxy = np.ones(len(codes), bool)
    for code in _type_codes(np.array(NO_GALAXY)):
        galaxy &= codes != code
    return galaxy


def _type_codes(types: Values) -> NDArray[np.uint64]:
    """Eight letters as one integer, blanks and case aside: quicker to compare than text."""
    letters = np.ascontiguousarray(types).astype("S8").view(np.uint8).copy()
    letters[letters == ord(" ")] = 0
    letters[(letters >= ord("a")) & (letters <= ord("z"))] -= 32
    return letters.view(np.uint64)


def read_rows(
    catalogue: Catalogue, rows: NDArray[np.int64], bands: Sequence[str]
) -> dict[str, pa.Array]:
    """The columns of `targets` that a catalogue has, of the rows asked for.

    Args:
        catalogue: An open catalogue.
        rows: Row numbers, shape (n,).
        bands: The run's bands; what a file has not is null.

    Raises:
        DataError: an id does not fit the bits of a target's id.
    """
    release, brickid, objid = (
        catalogue.column(name, rows).astype(np.int64) for name in ("release", "brickid", "objid")
    )
    try:
        target_id = keys.target_id(release, brickid, objid)
    except ValueError as error:
        raise DataError(
            f"{catalogue.path}: {error}; the file is no catalogue of a release"
        ) from error
    columns = {
        "target_id": pa.array(target_id),
        "brickname": _text(catalogue.column("brickname", rows)),
        "ra_deg": pa.array(catalogue.column("ra", rows).astype(np.float64)),
        "dec_deg": pa.array(catalogue.column("dec", rows).astype(np.float64)),
        "type": _text(catalogue.column("type", rows)),
    }
    for band in (*bands, "w1"):
        for ours, theirs in (("flux_{b}_nmgy", "flux"), ("mw_transmission_{b}", "mw_transmission")):
            columns[ours.format(b=band)] = _floats(
                catalogue.per_band(theirs, band, rows), len(rows)
            )
    for band in bands:
        psfsize = catalogue.per_band("psfsize", band, rows)
        psfdepth = catalogue.per_band("psfdepth", band, rows)
        depth = None if psfdepth is None else units.depth_mag_from_psfdepth(psfdepth)
        columns[f"psf_nea_{band}_arcsec"] = _floats(psfsize, len(rows), positive=True)
        columns[f"depth_{band}_mag"] = _floats(depth, len(rows))
    return columns | _shapes(catalogue, rows)


def _shapes(catalogue: Catalogue, rows: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Size, ellipticity and Sersic index of the profile that the type stands for."""
    codes = _type_codes(catalogue.column("type", rows))

    def is_type(*names: bytes) -> NDArray[np.bool_]:
        return np.isin(codes, _type_codes(np.array(names)))

    def values(name: str) -> NDArray[np.float64]:
        if name not in catalogue.names:
            return np.full(len(rows), np.nan)
        return catalogue.column(name, rows).astype(np.float64)

    if "shape_r" in catalogue.names:
        r, e1, e2 = (values(f"shape_{part}") for part in ("r", "e1", "e2"))
    else:
        # a composite takes the profile with more of its light; equal without FRACDEV
        dev = is_type(b"DEV") | (
            is_type(b"COMP") & (np.nan_to_num(values("fracdev"), nan=1) >= 0.5)
        )
        r, e1, e2 = (
            np.where(dev, values(f"shapedev_{part}"), values(f"shapeexp_{part}"))
            for part in ("r", "e1", "e2")
        )
        r = np.where(is_type(b"SIMP"), _SIMPLE_R_ARCSEC, r)
    is_round = is_type(b"SIMP", b"REX")  # round by definition, whether or not the file says so
    index = np.where(is_type(b"DEV"), 4.0, np.where(is_type(b"EXP", b"REX", b"SIMP"), 1.0, np.nan))
    return {
        "shape_r_arcsec": _floats(r, len(rows)),
        "shape_e1": _floats(np.where(is_round, 0.0, e1), len(rows)),
        "shape_e2": _floats(np.where(is_round, 0.0, e2), len(rows)),
        "sersic": _floats(np.where(is_type(b"SER"), values("sersic"), index), len(rows)),
    }


def _floats(values: Values | None, count: int, *, positive: bool = False) -> pa.Array:
    """A float column; null where there is no value."""
    if values is None:
        return pa.nulls(count, F4)
    values = np.asarray(values, np.float32)
    absent = ~np.isfinite(values)
    if positive:
        absent |= values <= 0
    return pa.array(values, F4, mask=absent)


def _text(values: Values) -> pa.Array:
    """Bytes or text without the blanks around them."""
    return pa.array(np.char.strip(values.astype(np.str_)).tolist(), TEXT)


def _true(values: Values) -> NDArray[np.bool_]:
    """A FITS logical column: T or F as a byte, or a bit."""
    return np.asarray((values == ord("T")) | (values == 1))
