"""Light inside round apertures, as the survey's aperture photometry measures it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from darkhaloscope.lensing.blur import Grid


def aperture_flux(
    light: Tensor, *, x: Tensor, y: Tensor, radii: Sequence[float], grid: Grid
) -> Tensor:
    """Light within each radius of a place.

    A pixel that the rim crosses counts with the share 1/2 + (radius - distance of its centre) /
    width of a pixel, cut to 0-1: within 1 % of the light where a FWHM has 4 pixels or more.

    Args:
        light: Flux per pixel, shape (n, band, y, x).
        x: Middle of the apertures from the centre of the stamp, pixels, +x, shape (n,).
        y: The same, +y.
        radii: Radii, arcsec, k of them.
        grid: The stamp's pixels.

    Returns:
        Flux, in the units of `light`, shape (n, band, k).

    Examples:
        >>> at = torch.zeros(1)
        >>> flat = torch.ones(1, 1, 64, 64)
        >>> flux = aperture_flux(flat, x=at, y=at, radii=(2.0, 4.0), grid=Grid(64, 0.25))
        >>> [round(v / 16, 1) for v in flux[0, 0].tolist()]  # pi times the square of the radius
        [12.6, 50.3]
    """
    pixel = torch.arange(grid.size_px, device=light.device, dtype=light.dtype)
    pixel = pixel - (grid.size_px - 1) / 2
    distance = torch.hypot(
        pixel[None, None, :] - x[:, None, None], pixel[None, :, None] - y[:, None, None]
    )
    within = [
        (light * (0.5 + radius / grid.pixel_scale_arcsec - distance).clamp(0, 1)[:, None]).sum(
            (2, 3)
        )
        for radius in radii
    ]
    return torch.stack(within, -1)
