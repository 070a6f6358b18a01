"""FITS files as the survey publishes them, equal to the byte for equal content.

Images are RICE-compressed in tiles of 100 x 100 with an absolute step, as the survey's are. A file
gets its name when it is whole: bytes go to a temporary name beside it first.
"""

import gzip
import io
import os
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC
from darkhaloscope.simulate.sky import Brick

IMAGE_STEP_NMGY = 1e-4
_PSFSIZE_STEP, _INVVAR_STEP_SHARE = 1e-4, 1e-4
_TILE = (100, 100)


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error.strerror}; free some space or choose another folder,"
            " then run the same command again: what is done is kept"
        ) from error


def write_image(
    pixels: NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32],
    path: Path,
    *,
    brick: Brick,
    kind: str,
    band: str | None,
) -> None:
    """Write one coadd: an image, weight, width, count or mask of a brick.

    Args:
        pixels: Values, (y, x).
        path: Where to.
        brick: The brick, for the header.
        kind: `image`, `invvar`, `psfsize`, `nexp` or `maskbits`.
        band: Filter; None for masks of all.
    """
    step = {"image": IMAGE_STEP_NMGY, "psfsize": _PSFSIZE_STEP}.get(kind, 0.0)
    if kind == "invvar":
        step = max(float(pixels.max()), 1e-6) * _INVVAR_STEP_SHARE
    how = {"quantize_level": -step, "quantize_method": 2, "dither_seed": 1 + brick.brickid % 10_000}
    unit = fits.CompImageHDU(
        pixels,
        header=image_header(brick, pixels.shape[0], kind, band),
        compression_type="RICE_1",
        tile_shape=_TILE,
        **(how if pixels.dtype.kind == "f" else {}),
    )
    write_bytes(_content(fits.HDUList([fits.PrimaryHDU(), unit])), path)


def image_header(brick: Brick, size_px: int, kind: str, band: str | None) -> fits.Header:
    """Cards of a coadd: where it lies, what it holds."""
    step, centre = PIXEL_SCALE_ARCSEC / 3600, (size_px + 1) / 2
    cards = {
        "BRICKNAM": brick.name,
        "BRICKID": brick.brickid,
        "RAMIN": brick.ra1,
        "RAMAX": brick.ra2,
        "DECMIN": brick.dec1,
        "DECMAX": brick.dec2,
        "SURVEY": "simulated",
        "IMTYPE": kind,
        "MAGZERO": 22.5,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": brick.ra,
        "CRVAL2": brick.dec,
        "CRPIX1": centre,
        "CRPIX2": centre,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": step,
        "EQUINOX": 2000.0,
    }
    if band is not None:
        cards["FILTER"] = band
    if kind == "image":
        cards["BUNIT"] = "nanomaggy"
    return fits.Header(cards.items())


def write_table(rows: NDArray[np.void], path: Path, **cards: str | int | float) -> None:
    """Write a table, gzip-compressed where the name ends so."""
    unit = fits.BinTableHDU(rows)
    unit.header.update(cards)
    content = _content(fits.HDUList([fits.PrimaryHDU(), unit]))
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    write_bytes(content, path)


def _content(units: fits.HDUList) -> bytes:
    buffer = io.BytesIO()
    units.writeto(buffer)
    return buffer.getvalue()
