"""Pictures of known galaxies, and catalogues of them in RealGalaxyCatalog's files."""

import math
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy import fft, ndimage

from darkhaloscope.core import keys
from darkhaloscope.core.config import RunConfig
from darkhaloscope.lensing.bank import Bank, Pictures
from darkhaloscope.lensing.light import sersic_brightness
from darkhaloscope.pipeline import sources

HST_SCALE = 0.03
HST_ZERO_POINT = 25.94
HST_VARIANCE = 4e-6


def profile(
    size: int, r_eff: float, *, n: float = 1.0, q: float = 1.0, phi: float = 0.0, fine: int = 5
) -> NDArray[np.float64]:
    """A Sersic galaxy of flux 1 in the middle of a picture, integrated over its pixels; px."""
    axis = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / fine - size / 2
    y, x = (part[None] for part in torch.meshgrid(axis, axis, indexing="ij"))
    values = {"r_eff": r_eff, "n": n, "q": q, "phi": phi}
    shape = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    light = sersic_brightness(x, y, **shape)[0] / fine**2
    return light.reshape(size, fine, size, fine).sum((1, 3)).numpy()


def bank_of(*layers: NDArray[np.float64], share: Sequence[Sequence[float]] = ()) -> Bank:
    """One galaxy; without `share` all layers hold the same in each of three bands."""
    pictures = torch.from_numpy(np.stack(layers)).float()[None]
    pictures = pictures / pictures.sum((2, 3), keepdim=True)
    held = share or [[1 / len(layers)] * 3] * len(layers)
    return Bank.measured(pictures, torch.tensor(held, dtype=torch.float32)[None])


def pictures(bank: Bank, count: int = 1, *, mirrored: bool = False, **values: float) -> Pictures:
    """Equal sources of the bank's first galaxy: at the centre, r_eff 1", not turned."""
    fields = {"x": 0.0, "y": 0.0, "r_eff": 1.0, "phi": 0.0} | values
    return Pictures(
        bank,
        torch.zeros(count, dtype=torch.int64),
        **{name: torch.full((count,), value) for name, value in fields.items()},
        is_mirrored=torch.full((count,), mirrored),
    )


def psf_image(size: int = 41, fwhm_px: float = 3.3, beta: float = 2.5) -> NDArray[np.float64]:
    """A Moffat with wings, off its middle by a third of a pixel along y."""
    alpha = fwhm_px / 2 / math.sqrt(2 ** (1 / beta) - 1)
    y, x = np.indices((size, size)) - (size - 1) / 2
    psf = (1 + ((y - 0.3) ** 2 + x**2) / alpha**2) ** -beta
    return np.asarray(psf / psf.sum())


def correlation(size: int = 21) -> NDArray[np.float64]:
    """Noise correlation of a resampled image: 0.45 between neighbours."""
    y, x = np.indices((size, size)) - size // 2
    return np.exp(-(y**2 + x**2) / (2 * 0.79**2))


def noise(shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Noise of variance 1 with that correlation."""
    white = keys.normal(np.arange(shape[0] * shape[1]), seed=seed, stream="noise").reshape(shape)
    padded = np.zeros(shape)
    cf = correlation()
    padded[: len(cf), : len(cf)] = cf
    at_origin = np.roll(padded, (-(len(cf) // 2), -(len(cf) // 2)), (0, 1))
    power = np.maximum(fft.fft2(at_origin).real, 0)
    return np.asarray(fft.ifft2(fft.fft2(white) * np.sqrt(power)).real)


def hst_image(
    light: NDArray[np.float64], flux: float, *, seed: int, variance: float = HST_VARIANCE
) -> NDArray[np.float64]:
    """A galaxy of some flux, counts, as the telescope sees it."""
    blurred = np.asarray(ndimage.convolve(light, psf_image(), mode="constant"))
    return flux * blurred + math.sqrt(variance) * noise(light.shape, seed)


def write_catalogue(
    folder: Path,
    images: Sequence[NDArray[np.float64]],
    *,
    name: str = "real_galaxy_catalog",
    band: str = "F814W",
    mags: Sequence[float] | None = None,
    with_photometry: bool = True,
    variance: float = HST_VARIANCE,
) -> Path:
    """A set of galaxies in two image files, one PSF file, and a noise correlation."""
    n = len(images)
    half = (n + 1) // 2
    mags = [22.0] * n if mags is None else mags
    for number, part in enumerate((images[:half], images[half:]), start=1):
        hdus = [fits.PrimaryHDU(part[0]), *map(fits.ImageHDU, part[1:])] if len(part) else []
        fits.HDUList(hdus).writeto(folder / f"{band}_images_{number}.fits") if hdus else None
    psfs = [fits.PrimaryHDU(psf_image()), *[fits.ImageHDU(psf_image()) for _ in range(n - 1)]]
    fits.HDUList(psfs).writeto(folder / f"{band}_psfs.fits")
    fits.PrimaryHDU(correlation()).writeto(folder / f"{band}_cf.fits")
    place = [(1, i) if i < half else (2, i - half) for i in range(n)]
    columns = [
        fits.Column("IDENT", "J", array=np.arange(100, 100 + n)),
        fits.Column("MAG", "D", array=np.asarray(mags)),
        fits.Column("BAND", "5A", array=[band] * n),
        fits.Column("GAL_FILENAME", "40A", array=[f"{band}_images_{f}.fits" for f, _ in place]),
        fits.Column("PSF_FILENAME", "40A", array=[f"{band}_psfs.fits"] * n),
        fits.Column("GAL_HDU", "J", array=[h for _, h in place]),
        fits.Column("PSF_HDU", "J", array=np.arange(n)),
        fits.Column("PIXEL_SCALE", "D", array=np.full(n, HST_SCALE)),
        fits.Column("NOISE_VARIANCE", "D", array=np.full(n, variance)),
        fits.Column("NOISE_FILENAME", "40A", array=[f"{band}_cf.fits"] * n),
    ]
    path = folder / f"{name}.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    if with_photometry:
        known = [
            fits.Column("IDENT", "J", array=np.arange(100, 100 + n)),
            fits.Column("ZPHOT", "D", array=np.full(n, 0.8)),
            *[
                fits.Column(f"HSC_{b}", "D", array=np.asarray(mags) + offset)
                for b, offset in (("g", 1.0), ("r", 0.4), ("i", 0.0), ("z", -0.1))
            ],
        ]
        fits.BinTableHDU.from_columns(known).writeto(folder / f"{name}_fits.fits")
    return path


def flux_of(mag: float) -> float:
    """Counts of a magnitude in the COSMOS mosaics."""
    return float(10 ** (-0.4 * (mag - HST_ZERO_POINT)))


def open_when_ready(config: RunConfig, ready: Event) -> None:
    """What a worker does that asks for the bank at the same time as others."""
    ready.wait()
    sources.opened(config, Path(config.root) / "sources")
