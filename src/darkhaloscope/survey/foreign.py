"""Cutouts that somebody else made: FITS files of any survey, and arrays of NumPy.

A FITS file is a cube (band, y, x), or has one image extension a band, as the Legacy Surveys' viewer
writes them. What a header does not say can be stated; where both speak they have to agree. Units
are never guessed: 22.5 instead of 27 is a factor of 63, and any logit at all would come out.
"""

import math
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core import units
from darkhaloscope.survey import images as coadds
from darkhaloscope.survey.images import ImageError

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz")
ARRAY_SUFFIXES = (".npy",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
SUFFIXES = (*FITS_SUFFIXES, *ARRAY_SUFFIXES, *PICTURE_SUFFIXES)

# Nanomaggies of one, by BUNIT in lower case; an AB magnitude of 0 is 3631 Jy.
_NMGY_PER_JY = 1e9 / 3631.0
_UNITS = {
    **dict.fromkeys(("nanomaggy", "nanomaggies", "nmgy", "nmaggy"), 1.0),
    "jy": _NMGY_PER_JY,
    "mjy": 1e-3 * _NMGY_PER_JY,
    "ujy": 1e-6 * _NMGY_PER_JY,
    "njy": 1e-9 * _NMGY_PER_JY,
}
# Cutouts of the Legacy Surveys' viewer state no unit; they are in nanomaggies.
_IN_NMGY = re.compile(r"decals|bass|mzls|legacy", re.IGNORECASE)
_NOT_PIXELS = re.compile(
    r"inv_?var|ivar|weight|wht|variance|\bvar\b|sigma|\berr|mask|\bdq\b|psf|model|resid|nexp|depth|\bchi",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?:^|[^a-z])([ugrizy])(?:[^a-z]|$)")
_SAME_SCALE = 1e-3
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    zlib.error,
    fits.VerifyError,
)

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stated:
    """What a person says of files whose headers do not.

    Attributes:
        bands: Filters in the order of the planes; empty: the headers say.
        pixel_scale_arcsec: Width of a pixel; None: the header says.
        zero_point_mag: AB magnitude of one unit of flux, 22.5 for nanomaggies; None: the header
            says.
    """

    bands: tuple[str, ...] = ()
    pixel_scale_arcsec: float | None = None
    zero_point_mag: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One file, in our units.

    Attributes:
        pixels: Nanomaggies, shape (band, y, x).
        scale_arcsec: Width of a pixel.
        frame: Where it lies; None: the file does not say.
        told: Numbers of the headers by our names: PSFSIZE is `psf_nea_<b>_arcsec`, PSFFWHM is
            `psf_fwhm_<b>_arcsec`.
    """

    pixels: Pixels
    scale_arcsec: float
    frame: coadds.Frame | None
    told: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """One band of a file as it stands there."""

    band: str
    values: NDArray[Any]
    header: Mapping[str, Any]
    number: int | None  # in its cube


def read(path: Path, bands: Sequence[str], stated: Stated) -> Cutout:
    """Read one file; of more bands than asked for the others are left out.

    Args:
        path: A file with one of `SUFFIXES`.
        bands: Wanted, in this order.
        stated: What its header may not say.

    Raises:
        ImageError: it cannot be used; the message is the reason, without the file's name.
    """
    name = path.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        raise ImageError(
            "a picture holds 8-bit brightness after a stretch, no fluxes, and the network was "
            "trained on nanomaggies: score the FITS file that the picture was made from"
        )
    if name.endswith(ARRAY_SUFFIXES):
        planes = _of_array(path, stated)
    elif name.endswith(FITS_SUFFIXES):
        planes = _of_fits(path, stated)
    else:
        raise ImageError(f"neither FITS nor .npy; this reads {', '.join(SUFFIXES)}")
    chosen = _chosen(planes, bands)
    shapes = {plane.values.shape for plane in chosen}
    if len(shapes) > 1:
        raise ImageError(f"its bands differ in size: {', '.join(map(str, sorted(shapes)))}")
    frames = [_frame(plane) for plane in chosen]
    first = frames[0]
    if any((f is None) != (first is None) for f in frames) or (
        first is not None and not all(f is not None and f.is_grid_of(first) for f in frames)
    ):
        raise ImageError("its bands lie on different pixels of the sky")
    pixels = np.stack(
        [plane.values.astype(np.float64) * _nmgy(plane.header, stated) for plane in chosen]
    )
    told = {k: v for plane in chosen for k, v in _told(plane).items()}
    return Cutout(pixels.astype(np.float32), _scale(first, stated), first, told)


def band_of(text: str) -> str:
    """The band that a FILTER or BAND card names; the text itself where there is no single letter.

    Examples:
        >>> [band_of(t) for t in ("r DECam SDSS c0002 6415.0", "HSC-I2", "z.MP9901", "F814W")]
        ['r', 'i', 'z', 'F814W']
    """
    found = set(_LETTER.findall(text.strip().lower()))
    return found.pop() if len(found) == 1 else text.strip()


def _of_array(path: Path, stated: Stated) -> list[_Plane]:
    try:
        values = np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise ImageError(f"it cannot be read as an array: {error}") from error
    if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind not in "fiu":
        raise ImageError("its array is no cube of numbers (band, y, x)")
    wanted = (
        ("--bands", stated.bands),
        ("--pixel-scale", stated.pixel_scale_arcsec),
        ("--zero-point", stated.zero_point_mag),
    )
    unsaid = [option for option, value in wanted if not value]
    if unsaid:
        raise ImageError(f"an array says nothing of itself; state {', '.join(unsaid)}")
    return _cube(values, {}, stated)


def _of_fits(path: Path, stated: Stated) -> list[_Plane]:
    try:
        # A file of our own: of a damaged one that it opened itself, astropy leaves it open.
        with (
            warnings.catch_warnings(action="ignore"),  # of cards that do not follow the standard
            path.open("rb") as file,
            fits.open(file, memmap=False) as found,
        ):
            main = dict(found[0].header)
            images = [
                (np.asarray(unit.data), {**main, **dict(unit.header)})
                for unit in found
                if unit.is_image and unit.data is not None and _holds_pixels(unit.header)
            ]
    except _UNREADABLE as error:
        raise ImageError(f"it cannot be read as FITS: {error}") from error
    cubes = [(values, header) for values, header in images if values.ndim == 3]
    if len(cubes) > 1:
        raise ImageError(f"it holds {len(cubes)} cubes; which of them is the image is not said")
    if cubes:
        return _cube(*cubes[0], stated)
    flat = [(values, header) for values, header in images if values.ndim == 2]
    if not flat:
        raise ImageError("it holds no image (y, x) and no cube (band, y, x)")
    named = [_named(header) for _, header in flat]
    if stated.bands and not any(named):
        if len(stated.bands) != len(flat):
            raise ImageError(
                f"{len(stated.bands)} bands are stated and it has {len(flat)} image extensions"
            )
        named = list(stated.bands)
    pairs = zip(named, flat, strict=True)
    return [_Plane(band, values, header, None) for band, (values, header) in pairs if band]


def _holds_pixels(header: Mapping[str, Any]) -> bool:
    """Whether an extension is an image of the sky, not its weights, mask or PSF."""
    said = " ".join(str(header.get(key, "")) for key in ("IMAGETYP", "EXTNAME"))
    return not _NOT_PIXELS.search(said)


def _named(header: Mapping[str, Any]) -> str:
    """Band of a two-dimensional image; empty: not said."""
    for key in ("BAND", "FILTER", "FILTER1"):
        if str(header.get(key, "")).strip():
            return band_of(str(header[key]))
    found = band_of(str(header.get("EXTNAME", "")))
    return found if len(found) == 1 else ""


def _cube(values: NDArray[Any], header: Mapping[str, Any], stated: Stated) -> list[_Plane]:
    said = _cube_bands(header)
    if said and stated.bands and said != stated.bands:
        raise ImageError(f"its header names bands {' '.join(said)}, not {' '.join(stated.bands)}")
    bands = said or stated.bands
    if not bands:
        raise ImageError("its header names no bands (BANDS, BAND0, FILTER); state --bands")
    if len(bands) != len(values):
        raise ImageError(f"{len(bands)} bands are named ({' '.join(bands)}), it has {len(values)}")
    return [_Plane(b, v, header, i) for i, (b, v) in enumerate(zip(bands, values, strict=True))]


def _cube_bands(header: Mapping[str, Any]) -> tuple[str, ...]:
    numbered: list[str] = []
    while f"BAND{len(numbered)}" in header:
        numbered.append(band_of(str(header[f"BAND{len(numbered)}"])))
    if numbered:
        return tuple(numbered)
    text = str(header.get("BANDS", header.get("FILTERS", header.get("FILTER", "")))).strip()
    parts = re.split(r"[\s,]+", text) if re.search(r"[\s,]", text) else list(text)
    return tuple(band_of(part) for part in parts if part)


def _chosen(planes: Sequence[_Plane], bands: Sequence[str]) -> list[_Plane]:
    """The planes of the bands, in their order."""
    have = [plane.band for plane in planes]
    missing = [band for band in bands if band not in have]
    if missing:
        raise ImageError(
            f"no band {' '.join(missing)}; it has {' '.join(have) or 'none that is named'}"
        )
    twice = [band for band in bands if have.count(band) > 1]
    if twice:
        raise ImageError(f"band {' '.join(twice)} stands in it more than once")
    return [planes[have.index(band)] for band in bands]


def _frame(plane: _Plane) -> coadds.Frame | None:
    """Where a plane lies; None where its header has no such cards."""
    if "CTYPE1" not in plane.header or "CRVAL1" not in plane.header:
        return None
    rows, columns = plane.values.shape
    try:
        return coadds.frame_of(plane.header, (rows, columns))
    except ValueError as error:  # wcslib's own
        raise ImageError(f"its sky coordinates make no projection: {error}") from error


def _scale(frame: coadds.Frame | None, stated: Stated) -> float:
    said = None if frame is None else frame.scale_arcsec
    asked = stated.pixel_scale_arcsec
    if said is None and asked is None:
        raise ImageError("its header has no pixel scale (CD1_1, CDELT1); state --pixel-scale")
    if said is not None and asked is not None and abs(said / asked - 1) > _SAME_SCALE:
        raise ImageError(f'its header says {said:.4g}"/px, --pixel-scale {asked:g}')
    return float(asked if said is None else said)  # type: ignore[arg-type]  # one is there


def _nmgy(header: Mapping[str, Any], stated: Stated) -> float:
    """Nanomaggies of one unit of flux."""
    said: float | None = None
    unit = str(header.get("BUNIT", "")).strip()
    if unit:
        said = _UNITS.get(unit.lower())
        if said is None and stated.zero_point_mag is None:
            raise ImageError(f"its unit is {unit!r}, no flux that is known; state --zero-point")
    elif isinstance(header.get("MAGZERO"), int | float):
        said = float(units.nmgy_from_mag(header["MAGZERO"]))
    elif _IN_NMGY.search(str(header.get("SURVEY", ""))):
        said = 1.0
    asked = stated.zero_point_mag
    if asked is None:
        if said is None:
            raise ImageError(
                "its header states no unit of flux (BUNIT, MAGZERO); state --zero-point, 22.5 for "
                "nanomaggies"
            )
        return said
    made = float(units.nmgy_from_mag(asked))
    if said is not None and not math.isclose(made, said, rel_tol=1e-3):
        raise ImageError(
            f"its header says that a unit is {said:.4g} nmgy, --zero-point {asked:g} that it is "
            f"{made:.4g}"
        )
    return made


def _told(plane: _Plane) -> dict[str, float]:
    """Widths of the PSF, where the header has them."""
    found = {}
    for card, name in (("PSFSIZE", "psf_nea_{b}_arcsec"), ("PSFFWHM", "psf_fwhm_{b}_arcsec")):
        own = card if plane.number is None else f"{card}{plane.number}"
        for key in (f"{card}{plane.band.upper()}", own):
            if isinstance(plane.header.get(key), int | float):
                found[name.format(b=plane.band)] = float(plane.header[key])
    return found
