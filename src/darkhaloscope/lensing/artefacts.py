"""What goes wrong with pixels after the light has fallen on them: shifts, edges, tracks.

These forms of `parts` come after the PSF. They change the pixels that are there, the host's and the
sky's, and carry no photon noise of their own. `contaminants` paints the artefacts that are light.
"""

import math

import torch
from torch import Tensor

from darkhaloscope.lensing.blur import Grid
from darkhaloscope.lensing.contaminants import Parts
from darkhaloscope.lensing.parts import LAYER, OWN, PHI, SHARE, Form, X, Y

LEAST_SIGMA_PX = 0.5  # of a track: thinner ones would be beads
_MARGIN_PX = 8  # of mirrored pixels, so that what is shifted out does not come in opposite


def spoilt(
    pixels: Tensor, parts: Parts, *, centre_x: Tensor, centre_y: Tensor, grid: Grid, scale: Tensor
) -> Tensor:
    """Pixels as an artefact leaves them: bands moved, tracks added, edges cut, in this order.

    Args:
        pixels: Stamps, nmgy, (n, band, y, x).
        parts: Of the forms SHIFT, EDGE, TRACK; others are not read.
        centre_x: Host's centroid from the centre of the stamp, pixels, (n,).
        centre_y: The same along y.
        grid: The stamp's pixels.
        scale: What the flux of the tracks is multiplied by, (n,).

    Returns:
        Changed stamps, of the shape of `pixels`; bands that no part names are as they were.
    """
    axis = torch.arange(grid.size_px, device=pixels.device, dtype=pixels.dtype)
    axis = axis - (grid.size_px - 1) / 2
    pixels = _shifted(pixels, parts)
    pixels = pixels.clone()
    for form in (Form.TRACK, Form.EDGE):
        row, slot = parts.at(form)
        if not len(row):
            continue
        own = parts.values[row, slot].to(pixels.dtype)
        x = (axis - centre_x[row, None]) * grid.pixel_scale_arcsec - own[:, X, None]
        y = (axis - centre_y[row, None]) * grid.pixel_scale_arcsec - own[:, Y, None]
        cos, sin = torch.cos(own[:, PHI])[:, None, None], torch.sin(own[:, PHI])[:, None, None]
        x, y = x[:, None, :], y[:, :, None]
        u, v = cos * x + sin * y, cos * y - sin * x
        seen = _bands(own, pixels.shape[1])[:, :, None, None]
        if form == Form.TRACK:
            flux = own[:, SHARE] * scale[row]
            light = _track(u, v, own, grid.pixel_scale_arcsec) * flux[:, None, None]
            pixels.index_add_(0, row, light[:, None] * seen)
        else:
            is_beyond = torch.zeros_like(pixels).index_add_(0, row, (u > 0)[:, None] * seen)
            pixels = torch.where(is_beyond > 0, 0, pixels)
    return pixels


def _bands(own: Tensor, count: int) -> Tensor:
    """Whether a part is done to each band, 1 or 0, (m, band)."""
    band = own[:, LAYER, None]
    named = band == torch.arange(count, device=own.device)
    return (named | (band < 0)).to(own.dtype)


def _shifted(pixels: Tensor, parts: Parts) -> Tensor:
    """Bands moved by any part of a pixel: by their spectra, which keeps the texture of the noise.

    Interpolated pixels would be smoother than their neighbours in the other bands.
    """
    row, slot = parts.at(Form.SHIFT)
    if not len(row):
        return pixels
    own = parts.values[row, slot].to(pixels.dtype)
    seen = _bands(own, pixels.shape[1])
    step = torch.zeros(*pixels.shape[:2], 2, device=pixels.device, dtype=pixels.dtype)
    step.index_add_(0, row, seen[:, :, None] * own[:, None, OWN : OWN + 2])
    edge = min(_MARGIN_PX, pixels.shape[-1] - 1)
    wide = torch.nn.functional.pad(pixels, (edge,) * 4, mode="reflect")
    size = wide.shape[-1]
    turns = -2j * math.pi * step
    along_x = torch.exp(turns[..., 0, None] * torch.fft.rfftfreq(size, device=pixels.device))
    along_y = torch.exp(turns[..., 1, None] * torch.fft.fftfreq(size, device=pixels.device))
    spectrum = torch.fft.rfft2(wide) * along_x[:, :, None, :] * along_y[:, :, :, None]
    moved = torch.fft.irfft2(spectrum, s=(size, size))[..., edge:-edge, edge:-edge]
    is_moved = (step != 0).any(2)[:, :, None, None]
    return torch.where(is_moved, moved, pixels)


def _track(u: Tensor, v: Tensor, own: Tensor, width: float) -> Tensor:
    """Share of a track's flux in each pixel `width` arcsec wide, (m, y, x)."""
    half, sigma = own[:, OWN, None, None], own[:, OWN + 1, None, None]
    sigma = sigma.clamp_min(LEAST_SIGMA_PX * width)
    along = ((half - u.abs()) / width + 0.5).clamp(0, 1)
    across = torch.exp(-0.5 * (v / sigma) ** 2)
    return along * across * width**2 / (2 * half * sigma * math.sqrt(2 * math.pi))
