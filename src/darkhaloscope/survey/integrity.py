"""Is a FITS file whole? Found from its headers and its length, without reading the data."""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from astropy.io import fits

_BLOCK = 2880
_SKIP_AT_ONCE = 1 << 22


def fault(path: Path) -> str | None:
    """Why a FITS file cannot be used, or None for a whole one.

    Every header is read and every data unit must be there in full; a file compressed by gzip is
    read to its end, where its checksum stands. Safe in threads: no warning filter is touched.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                return _fault(cast(BinaryIO, stream))
        with path.open("rb") as file:
            return _fault(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"truncated or damaged: {error}"
    except OSError as error:
        return f"unreadable: {error}"


def _fault(stream: BinaryIO) -> str | None:
    n_units = 0
    while head := stream.read(_BLOCK):
        cards = head
        while not _has_end(cards[-_BLOCK:]):
            block = stream.read(_BLOCK)
            if len(block) < _BLOCK:
                return "no FITS file" if n_units == 0 else "truncated in a header"
            cards += block
        n_units += 1
        size = data_size(fits.Header.fromstring(cards))
        if _skip(stream, size) < size:
            return f"truncated: data unit {n_units} ends before its {size} bytes"
    return None if n_units else "the file is empty"


def _has_end(block: bytes) -> bool:
    return any(block[i : i + 8] == b"END     " for i in range(0, len(block), 80))


def data_size(header: fits.Header) -> int:
    """Bytes of the data unit behind a header, without the padding to whole blocks."""
    n_axes = header.get("NAXIS", 0)
    if n_axes == 0:
        return 0
    values = math.prod(header[f"NAXIS{axis}"] for axis in range(1, n_axes + 1))
    per_value = abs(header["BITPIX"]) // 8
    return int(per_value * header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + values))


def _skip(stream: BinaryIO, size: int) -> int:
    """Move past `size` bytes and the padding behind them; how many of them were there."""
    padded = -(-size // _BLOCK) * _BLOCK
    if not isinstance(stream, gzip.GzipFile):
        left = os.fstat(stream.fileno()).st_size - stream.tell()
        stream.seek(padded, os.SEEK_CUR)
        return min(left, size)
    seen = 0
    while seen < padded:
        got = len(stream.read(min(_SKIP_AT_ONCE, padded - seen)))
        if got == 0:
            break
        seen += got
    return min(seen, size)
