"""A stamp and its sky from somebody else's cutout: the same definitions as those of `cutouts`.

The sky's median is that of the pixels between two radii round the middle, as in the run that the
network was trained in; where the cutout is too narrow, that of the outermost pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.survey import measure
from darkhaloscope.survey.foreign import Cutout, Pixels
from darkhaloscope.survey.images import ImageError

FRAME_SHARE = 16  # the frame of a 64 px stamp is 4 px wide: beyond r = 28 px, as the annulus
MOST_ZERO = 0.2  # of a band's pixels, exactly zero: the band has no data there
LEAST_SKY = 0.5  # of the sky's pixels that are finite

ANNULUS, FRAME, STATED = "annulus", "frame", "stated"


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """What a network is shown of one file.

    Attributes:
        pixels: Nanomaggies, shape (band, size, size).
        sky_median: Nanomaggies, shape (band,).
        sky_from: `annulus`, `frame` or `stated`.
        ra_deg: Of the middle of the stamp; NaN: the file does not say.
        dec_deg: The same.
    """

    pixels: Pixels
    sky_median: NDArray[np.float32]
    sky_from: str
    ra_deg: float
    dec_deg: float


def stamp_of(
    cutout: Cutout,
    size: int,
    annulus_px: tuple[float, float],
    sky_median: NDArray[np.float32] | None,
) -> Stamp:
    """Cut the middle, and measure the sky round it.

    Where the cutout has an odd number of pixels more than the stamp, the stamp's middle lies half a
    pixel up and to the right of the cutout's: nothing is resampled.

    Args:
        cutout: Of the bands that the network takes.
        size: Width of a stamp, px.
        annulus_px: Inner and outer radius of the sky.
        sky_median: Stated, nanomaggies, shape (band,); None: it is measured.

    Raises:
        ImageError: it is too small, or pixels are missing; the message is the reason.
    """
    rows, columns = cutout.pixels.shape[1:]
    if min(rows, columns) < size:
        raise ImageError(f"{rows} x {columns} px, and the network takes {size} px")
    wide = min(rows, columns, math.ceil(2 * annulus_px[1]) + 1)
    wide = max(size, wide - (wide - size) % 2)
    y, x = (rows - wide + 1) // 2, (columns - wide + 1) // 2
    square = cutout.pixels[:, y : y + wide, x : x + wide]
    edge = (wide - size) // 2
    pixels = square[:, edge : edge + size, edge : edge + size]
    _check(pixels)
    sky, sky_from = sky_median, STATED
    if sky is None:
        sky, sky_from = _sky(square, annulus_px)
    ra, dec = math.nan, math.nan
    if cutout.frame is not None:
        middle = [[x + (wide - 1) / 2, y + (wide - 1) / 2]]
        ra, dec = cutout.frame.wcs.wcs_pix2world(middle, 0)[0].tolist()
    return Stamp(pixels, sky, sky_from, ra, dec)


def _check(pixels: Pixels) -> None:
    """Refuse a stamp whose pixels are not all measured."""
    bad = ~np.isfinite(pixels)
    if bad.any():
        raise ImageError(f"{int(bad.any(0).sum())} pixels of the stamp are not finite")
    zero = (pixels == 0).mean(axis=(1, 2))
    if (zero > MOST_ZERO).any():
        band = int(zero.argmax())
        raise ImageError(
            f"{zero[band]:.0%} of the pixels of plane {band} are exactly zero: it has no data there"
        )


def _sky(square: Pixels, annulus_px: tuple[float, float]) -> tuple[NDArray[np.float32], str]:
    """Median of the sky of each band, and where it was measured."""
    wide = square.shape[-1]
    where, name = measure.annulus(wide, *annulus_px), ANNULUS
    if wide < 2 * annulus_px[1]:
        border = max(2, wide // FRAME_SHARE)
        where, name = np.ones((wide, wide), bool), FRAME
        where[border:-border, border:-border] = False
    values = square[:, where]
    good = np.isfinite(values)
    if (good.mean(axis=1) < LEAST_SKY).any():
        raise ImageError(
            f"less than half of the sky's pixels ({name}) are finite; state its median"
        )
    median, _ = measure.median_and_mad(values, good)
    return median.astype(np.float32), name
