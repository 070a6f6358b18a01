"""PSF images of a brick: read from what a survey may publish, brought to one form, and measured.

Two kinds of file are told apart by what they hold: an image (the PSF of a coadd, one for the whole
brick), or a PsfEx model of the brick's coadd, evaluated at each place. Whatever the kind, an image
here lies on the survey's pixels, is centred on its middle pixel, sums to 1 and holds the pixel.

Between its pixels a PSF is taken to be the band-limited curve through them (Whittaker & Shannon).
That is what a coadd can know of its PSF: the exposures were resampled by Lanczos-3, which passes
next to nothing above the pixels' Nyquist frequency.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.survey import psfex
from darkhaloscope.survey.images import Image, ImageError

MAX_OFFSET_PX = 1.0  # further from the middle, an image is not what it should be
CENTRED_PX = 0.02  # 20 real models lie within 0.01 px of the middle: nearer, no pixel is touched

_SCALE_TOLERANCE = 2e-3  # as of all images of a brick
_FINE_PER_PX = 8  # of the grid on which a width at half the maximum is measured
_REACH_PX = 8.0  # how far from the middle half of the maximum is looked for, at most

Numbers = NDArray[np.float64]
Reasons = NDArray[np.object_]


class Model(Protocol):
    """A PSF of an image, which may depend on the place.

    Attributes:
        step_px: Pixels of the image for one pixel of the PSF.
    """

    @property
    def step_px(self) -> float:
        """Pixels of the image for one pixel of the PSF."""
        ...

    def images(self, x: Numbers, y: Numbers) -> Numbers:
        """PSFs at columns and rows (n,), the first pixel's centre being 0: shape (n, k, k)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """One PSF for all of an image, on its own pixels, shape (k, k)."""

    image: Numbers

    @property
    def step_px(self) -> float:
        """Pixels of the image for one pixel of the PSF."""
        return 1.0

    def images(self, x: Numbers, y: Numbers) -> Numbers:
        """The same image for every place, shape (n, k, k)."""
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        return np.broadcast_to(self.image, (*shape, *self.image.shape))


def read(path: Path, band: str, *, scale_arcsec: float) -> Model:
    """The PSF that a file holds of a band.

    Args:
        path: A FITS file with a PsfEx model, or with images. Of several images the one whose header
            names the band in BAND is taken, as the Legacy Surveys' viewer writes them.
        band: Filter.
        scale_arcsec: Width of the survey's pixels; an image that states another is refused.

    Raises:
        ImageError: the file holds no PSF of the band that can be used; the message is the reason.
    """
    try:
        with fits.open(path, memmap=False) as units:
            if psfex.is_model(units):
                return psfex.of_units(units)
            unit = _unit_of(units, band)
            header = unit.header
            if "CTYPE1" in header and str(header["CTYPE1"]).startswith("RA---"):
                found = Image(unit, path).frame().scale_arcsec
                if abs(found / scale_arcsec - 1) > _SCALE_TOLERANCE:
                    raise ImageError(
                        f"its pixels are {found:.4f} arcsec wide, not {scale_arcsec:g}"
                    )
            image = np.array(unit.data, np.float64)
    except (OSError, TypeError, ValueError) as error:
        raise ImageError(f"it cannot be read: {error}") from error
    return Constant(image)


def at(
    model: Model, x: Numbers, y: Numbers, *, size_px: int
) -> tuple[NDArray[np.float32], Reasons]:
    """PSFs at places of an image, in one form.

    A light's centroid in a Gaussian window, by which stars are placed in catalogues, is brought to
    the middle; where it lies more than `MAX_OFFSET_PX` away, the image is refused instead.

    Args:
        model: The PSF.
        x: Column of each place, the first pixel's centre being 0, shape (n,).
        y: Row of each place, shape (n,).
        size_px: Width of the images wanted, px, odd; what lies outside is cut off before norming.

    Returns:
        Images on the survey's pixels, each of sum 1 and centred on its middle pixel, axes (y, x),
        shape (n, size_px, size_px), 0 where refused; and the reason why, or None, shape (n,).

    Raises:
        ImageError: the images have no middle pixel.
    """
    n = len(x)
    images = np.zeros((n, size_px, size_px), np.float32)
    reasons: Reasons = np.full(n, None, object)
    if not n:
        return images, reasons
    if isinstance(model, Constant):
        images[:], reasons[:] = _formed(model.image, 1.0, size_px)
        return images, reasons
    for row, image in enumerate(model.images(x, y)):
        images[row], reasons[row] = _formed(image, model.step_px, size_px)
    return images, reasons


def nea_width_arcsec(images: NDArray[np.floating], scale_arcsec: float) -> Numbers:
    """Noise-equivalent width of PSF images, as the survey's psfsize is one, arcsec, shape (n,).

    It is 2.355 sqrt(Neff / 4 pi) with Neff = (sum P)^2 / sum P^2, in pixels, equal to the integral
    over a band-limited curve. The survey's psfsize of a coadd joins the Neff of the exposures
    instead, 1 / Neff weighted by inverse variance; the Neff of the coadd's own PSF, their mean, is
    never smaller, and equal where all exposures have the same seeing.

    Args:
        images: PSFs, shape (n, k, k).
        scale_arcsec: Width of their pixels.
    """
    values = np.asarray(images, np.float64)
    n_eff = values.sum(axis=(1, 2)) ** 2 / (values**2).sum(axis=(1, 2))
    return np.asarray(FWHM_PER_SIGMA * np.sqrt(n_eff / (4 * math.pi)) * scale_arcsec)


def fwhm_arcsec(images: NDArray[np.floating], scale_arcsec: float) -> Numbers:
    """Full width at half maximum of PSF images, arcsec, shape (n,).

    It is that of the circle with the area in which the band-limited curve exceeds half its maximum,
    and so sqrt(ab) of an elliptical PSF. Of the pixels of a Moffat at least
    2.4 px wide it comes back within 0.3 %.

    Args:
        images: PSFs centred on their middle pixel, shape (n, k, k).
        scale_arcsec: Width of their pixels.
    """
    size = images.shape[-1]
    reach = min(_REACH_PX, (size - 1) / 2)
    fine = np.arange(-reach, reach + 1e-9, 1 / _FINE_PER_PX)
    between = np.sinc(fine[:, None] + (size - 1) / 2 - np.arange(size))
    widths = np.empty(len(images))
    for row, image in enumerate(np.asarray(images, np.float64)):
        curve = between @ image @ between.T
        above = curve - curve.max() / 2
        slope = np.maximum(np.hypot(*np.gradient(curve)), 1e-300)
        cells = np.clip(above / slope + 0.5, 0, 1).sum()  # a cell that is cut counts in part
        widths[row] = 2 * math.sqrt(cells / math.pi) / _FINE_PER_PX * scale_arcsec
    return widths


def _unit_of(units: fits.HDUList, band: str) -> fits.ImageHDU:
    """The image of a band."""
    images = [unit for unit in units if unit.is_image and len(unit.shape) == 2]
    if not images:
        raise ImageError("it holds neither an image nor a PsfEx model")
    said = [str(unit.header.get("BAND", "")).strip() for unit in images]
    if band in said:
        return images[said.index(band)]
    if len(images) > 1 or said[0]:
        of = ", ".join(name or "no band" for name in said)
        raise ImageError(f"it holds no PSF of band {band}, but of {of}")
    return images[0]


def _formed(
    image: Numbers, step_px: float, size_px: int
) -> tuple[NDArray[np.float32] | float, str | None]:
    """One image on the survey's pixels, centred and normed; or 0 and why it is refused."""
    size = image.shape[0]
    if image.shape != (size, size) or size % 2 == 0:
        raise ImageError(
            f"it has {image.shape[0]} x {image.shape[1]} px; a PSF is square with a middle pixel"
        )
    if not np.isfinite(image).all():
        return 0.0, "it has pixels that are not finite"
    if not image.sum() > 0:
        return 0.0, "it has no light"
    offset = _offset(image) * step_px
    if not np.hypot(*offset) <= MAX_OFFSET_PX:
        return 0.0, f"its light is centred {np.hypot(*offset):.1f} px off its middle"
    if np.hypot(*offset) <= CENTRED_PX:
        offset = np.zeros(2)
    if step_px == 1 and not offset.any():
        held = _fitted(image, size_px)
    else:
        places = np.arange(size_px) - (size_px - 1) / 2
        along_x, along_y = (
            np.sinc(((places + shift) / step_px)[:, None] + (size - 1) / 2 - np.arange(size))
            for shift in offset
        )
        held = along_y @ image @ along_x.T
    return (held / held.sum()).astype(np.float32), None


def _offset(image: Numbers) -> Numbers:
    """Centroid in a Gaussian window, from the middle, x and y, px; NaN where there is none.

    The window follows the light and is as wide as its core (SExtractor's XWIN_IMAGE): an unweighted
    centroid would be that of the noise in the wings.
    """
    axis = np.arange(len(image)) - (len(image) - 1) / 2
    variance = max(image.sum() ** 2 / (image**2).sum() / (4 * math.pi), 0.25)
    peak = np.unravel_index(image.argmax(), image.shape)
    centre = np.array([axis[peak[1]], axis[peak[0]]])
    for _ in range(100):
        along_x, along_y = (np.exp(-((axis - c) ** 2) / (2 * variance)) for c in centre)
        seen = along_y[:, None] * image * along_x
        total = seen.sum()
        if not total > 0:
            return np.full(2, np.nan)
        moved = np.array([(seen.sum(0) * axis).sum(), (seen.sum(1) * axis).sum()]) / total - centre
        centre = centre + 2 * moved  # a window as wide as the light halves every step
        if np.abs(moved).max() < 1e-5:
            break
    return centre


def _fitted(image: Numbers, size_px: int) -> Numbers:
    """The middle of an image, or the image with nothing around it."""
    apart = (size_px - len(image)) // 2
    if apart >= 0:
        return np.pad(image, apart)
    return image[-apart:apart, -apart:apart]
