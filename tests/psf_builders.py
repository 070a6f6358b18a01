"""PSF images and PsfEx files: of profiles with known widths, off-centre, lopsided, or sick."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def moffat(
    alpha_px: float, beta: float, size: int = 63, *, x: float = 0.0, y: float = 0.0, q: float = 1.0
) -> Numbers:
    """Values of a Moffat of flux 1 at pixels, centred x right and y up of the middle one."""
    axis = np.arange(size) - (size - 1) / 2
    u, v = axis - x, axis[:, None] - y
    r2 = (q * u**2 + v**2 / q) / alpha_px**2
    return (beta - 1) / (math.pi * alpha_px**2) * (1 + r2) ** -beta


def coma(size: int = 63) -> Numbers:
    """A PSF with a tail up and to the right: no symmetry hides a flip."""
    made = moffat(3.0, 3.0, size)
    for step in range(1, 6):
        made = made + 0.25 / step * moffat(3.5, 3.0, size, x=1.5 * step, y=0.7 * step)
    return np.asarray(made / made.sum())


def polynomial(degree: int = 2, size: int = 31) -> Numbers:
    """Images of the terms of a polynomial: a round core, and small changes with the place."""
    count = (degree + 1) * (degree + 2) // 2
    terms = [moffat(3.0, 2.8, size, x=0.0)]
    for term in range(1, count):
        wider = moffat(3.0 + 0.3 * term, 2.8, size, q=0.8 if term % 2 else 1.25)
        terms.append(0.1 * (wider - terms[0]))
    return np.stack(terms)


def header(degree: int = 2, step_px: float = 1.0, **changes: Any) -> dict[str, Any]:
    """What PsfEx writes beside its images."""
    made = {
        "POLNAXIS": 2,
        "POLGRP1": 1,
        "POLNAME1": "X_IMAGE",
        "POLZERO1": 1024.5,
        "POLSCAL1": 2047.0,
        "POLGRP2": 1,
        "POLNAME2": "Y_IMAGE",
        "POLZERO2": 2048.5,
        "POLSCAL2": 4095.0,
        "POLNGRP": 1,
        "POLDEG1": degree,
        "PSF_FWHM": 4.0,
        "PSF_SAMP": step_px,
        "PSFNAXIS": 3,
    }
    return made | changes


def write_psfex(path: Path, terms: Numbers, said: Mapping[str, Any]) -> Path:
    """A file as PsfEx writes it."""
    count, size = terms.shape[0], terms.shape[-1]
    column = fits.Column(
        "PSF_MASK", f"{terms.size}E", dim=f"({size}, {size}, {count})", array=terms[None]
    )
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    axes = {"PSFAXIS1": size, "PSFAXIS2": size, "PSFAXIS3": count}
    for key, value in {**said, **axes}.items():
        table.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    table.writeto(path, overwrite=True)
    return path


def write_merged(
    path: Path, models: Mapping[tuple[int, str], tuple[Numbers, Mapping[str, Any]]]
) -> Path:
    """Models by exposure and CCD in one table, as the Legacy Surveys merge them."""
    terms = np.stack([model for model, _ in models.values()])
    count, size = terms.shape[1], terms.shape[-1]
    columns = [
        fits.Column("psf_mask", f"{terms[0].size}E", dim=f"({size}, {size}, {count})", array=terms)
    ]
    said = [keys for _, keys in models.values()]
    for key in said[0]:
        values = [keys[key] for keys in said]
        kind = "7A" if isinstance(values[0], str) else "D"
        columns.append(fits.Column(key.lower(), kind, array=np.array(values)))
    columns.append(fits.Column("expnum", "K", array=np.array([e for e, _ in models])))
    columns.append(fits.Column("ccdname", "3A", array=np.array([c for _, c in models])))
    fits.BinTableHDU.from_columns(columns).writeto(path, overwrite=True)
    return path


def write_image(path: Path, image: NDArray[Any], **cards: Any) -> Path:
    """A PSF image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(image.astype(np.float32), fits.Header(cards)).writeto(path, overwrite=True)
    return path
