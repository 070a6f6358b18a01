"""What can be measured on stamps without a network: their sky, their surroundings, their host."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Stamps = NDArray[np.float32]
Floats = NDArray[np.float64]

SKY_FROM_PX = 28.0  # beyond it lies the annulus of which `cutouts` takes the sky
SKY_CLIP = 3.0  # sigma: what is brighter belongs to a source
DETECTED = 5.0  # sigma of the smoothed image
NEIGHBOURS = 5  # px: a maximum is the brightest of so many along each axis
HOST_PX = 12  # radius within which the host is looked at
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def sky_autocorrelation(stamps: Stamps, sky: Floats, noise: Floats) -> Floats:
    """Lag-1 autocorrelation of the sky's pixels beyond 28 px from the centre, (n, band).

    The mean of both axes' over pairs of neighbours, of pixels within 3 sigma of the sky.

    Args:
        stamps: Nanomaggies, (n, band, y, x).
        sky: Its level, (n, band).
        noise: Its standard deviation, (n, band).
    """
    size = stamps.shape[-1]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    away = (stamps - sky[:, :, None, None]) / noise[:, :, None, None]
    is_sky = (np.hypot(x, y) > SKY_FROM_PX) & (np.abs(away) < SKY_CLIP)
    away = np.where(is_sky, away, 0.0)
    n = is_sky.sum((2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.where(is_sky, away - (away.sum((2, 3)) / n)[:, :, None, None], 0.0)
        variance = (away**2).sum((2, 3)) / n
        lags = []
        for one, other in (
            (np.s_[..., 1:, :], np.s_[..., :-1, :]),
            (np.s_[..., 1:], np.s_[..., :-1]),
        ):
            pairs = (is_sky[one] & is_sky[other]).sum((2, 3))
            lags.append((away[one] * away[other]).sum((2, 3)) / pairs / variance)
        return np.asarray((lags[0] + lags[1]) / 2)


def detections(image: Stamps, sky: Floats, noise: Floats, fwhm_px: Floats) -> NDArray[np.int64]:
    """Sources in each stamp of one band: maxima above 5 sigma of the image smoothed by its PSF.

    Sigma is that of white noise after the smoothing: 1 / (2 sqrt(pi) s) of a pixel's, with s the
    Gaussian's width in pixels.

    Args:
        image: Nanomaggies, (n, y, x).
        sky: Its level, (n,).
        noise: Its standard deviation, (n,).
        fwhm_px: Of the PSF, (n,).
    """
    found = np.zeros(len(image), np.int64)
    for row, width in enumerate(fwhm_px / FWHM_PER_SIGMA):
        smooth = ndimage.gaussian_filter(image[row].astype(np.float64) - sky[row], width)
        sigma = noise[row] / max(2 * np.sqrt(np.pi) * width, 1.0)
        peak = smooth == ndimage.maximum_filter(smooth, NEIGHBOURS)
        found[row] = int((peak & (smooth > DETECTED * sigma)).sum())
    return found


def host_residual(image: Stamps, noise: Floats, x_px: Floats, y_px: Floats) -> Floats:
    """Rms of what is left of the host when its half-turn is taken off, in sigma, (n,).

    Within 12 px of its centre, about the nearest half pixel, so that nothing is interpolated; of
    noise alone it is 1.

    Args:
        image: Nanomaggies, (n, y, x).
        noise: Standard deviation of the sky, (n,).
        x_px: The host's centroid in the stamp, (n,).
        y_px: The same along y, (n,).
    """
    left = np.empty(len(image))
    size = image.shape[-1]
    grid = np.arange(size)
    for row, (x, y) in enumerate(zip(x_px.tolist(), y_px.tolist(), strict=True)):
        twice_x, twice_y = round(2 * x), round(2 * y)
        turned_x, turned_y = twice_x - grid, twice_y - grid
        near = np.hypot(grid - twice_x / 2, (grid - twice_y / 2)[:, None]) <= HOST_PX
        inside = (turned_x >= 0) & (turned_x < size)
        near &= inside & ((turned_y >= 0) & (turned_y < size))[:, None]
        turned = image[row][np.ix_(turned_y.clip(0, size - 1), turned_x.clip(0, size - 1))]
        off = (image[row] - turned)[near].astype(np.float64)
        left[row] = np.sqrt((off**2).mean() / 2) / noise[row] if off.size else np.nan
    return left
