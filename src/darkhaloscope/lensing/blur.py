"""From flux on a fine grid to the pixels of a stamp: PSF and sampling, in one pass of spectra.

The fine grid has half the survey's pixel and a margin round the stamp, so that light from outside
blurs in. Its spectrum is made once and multiplied by each band's transfer function. Only the
survey's pixels are wanted, which are every second point of the blurred image: the spectrum is
folded onto their own frequencies first, which is exact, and the inverse is four times smaller.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from darkhaloscope.lensing.psf import Psf

FINE_PER_PX = 2  # fine cells along a pixel
_BASE_PX = 2  # the frame is made of whole base cells of the sampler, two pixels wide


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of a stamp: square, centred on the middle of the array.

    Attributes:
        size_px: Pixels along a side.
        pixel_scale_arcsec: Width of a pixel.
    """

    size_px: int
    pixel_scale_arcsec: float

    def __post_init__(self) -> None:
        """Refuse a grid without pixels."""
        if self.size_px < 1 or not 0 < self.pixel_scale_arcsec < math.inf:
            raise ValueError(f"a stamp has pixels, of a width > 0; got {self}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A stamp with its margin.

    Attributes:
        grid: The stamp's pixels.
        padded_px: Pixels along a side, margin included; even, with small prime factors.
        lead_px: Pixels of margin before the stamp's first.
    """

    grid: Grid
    padded_px: int
    lead_px: int

    @classmethod
    def around(cls, grid: Grid, margin_px: int) -> "Frame":
        """The smallest frame with at least this margin that transforms fast."""
        padded = grid.size_px + 2 * margin_px
        while padded % _BASE_PX or not _is_smooth(padded):
            padded += 1
        return cls(grid, padded, (padded - grid.size_px) // 2)

    @property
    def fine_px(self) -> int:
        """Fine cells along a side."""
        return FINE_PER_PX * self.padded_px

    def centres_px(self, cells: int, like: Tensor) -> Tensor:
        """Centres of `cells` equal cells across the frame, pixels from the stamp's centre."""
        width = self.padded_px / cells
        at = torch.arange(cells, dtype=torch.float64, device=like.device)
        first = -self.lead_px - 0.5 - (self.grid.size_px - 1) / 2
        return (first + (at + 0.5) * width).to(like.dtype)


def blur(fine: Tensor, *, share: Tensor | None, psf: Psf, frame: Frame) -> Tensor:
    """Blur light on the fine grid and read it off at the stamp's pixels.

    Args:
        fine: Flux in each fine cell, integrals over the cells, (n, layer, fine_px, fine_px).
        share: Share of a band's flux in each layer, (n, layer, band); None where there is one.
        psf: Its transfer function is taken on this grid; rows as `fine`, or one.
        frame: Stamp and margin.

    Returns:
        Flux per pixel of each band, shape (n, band, size, size). The frame is periodic: what a wing
        carries over its edge comes back on the other side, a full margin away from the stamp.
    """
    padded, lead, size = frame.padded_px, frame.lead_px, frame.grid.size_px
    folded = fold(torch.fft.rfft2(fine), share=share, psf=psf, frame=frame)
    pixels: Tensor = torch.fft.irfft2(folded, s=(padded, padded))
    return pixels[..., lead : lead + size, lead : lead + size]


def fold(spectra: Tensor, *, share: Tensor | None, psf: Psf, frame: Frame) -> Tensor:
    """Spectra on the fine grid to those of each band's pixels.

    Args:
        spectra: Half-spectra of the light in each layer, (n, layer, 2 P, P + 1), P = padded_px.
        share: As of `blur`.
        psf: As of `blur`.
        frame: Stamp and margin.

    Returns:
        Half-spectra of the frame's pixels, (n, band, P, P / 2 + 1).
    """
    factors = frequencies(frame, psf.includes_pixel, spectra.real.dtype, spectra.device)
    bands = spectra * factors.phase
    if share is not None:
        bands = torch.einsum("nlyx,nlb->nbyx", bands, share.to(bands.dtype))
    transfer = psf.transfer(factors.freq_x, factors.freq_y)
    if transfer.is_complex():
        blurred = bands * transfer
        real, imaginary = blurred.real, blurred.imag
    else:  # twice as fast as a product that promotes the transfer function to complex
        parts = torch.view_as_real(bands).unbind(-1)
        real, imaginary = parts[0].contiguous() * transfer, parts[1].contiguous() * transfer
    return torch.complex(_fold(real, frame.padded_px, 1), _fold(imaginary, frame.padded_px, -1))


def _fold(part: Tensor, padded: int, sign: int) -> Tensor:
    """Add up the frequencies that look alike to the survey's pixels.

    `part` is the real (sign 1) or imaginary (sign -1) part of a half-spectrum of the fine grid,
    (..., 2 P, P + 1); the result has shape (..., P, P/2 + 1).
    """
    rows = part[..., :padded, :] + part[..., padded:, :]
    half = padded // 2 + 1
    # Column c + P is the conjugate of column P - c, at the opposite row.
    mirrored = rows[..., padded - half + 1 :].flip((-2, -1))
    folded = rows[..., :half].contiguous()
    folded[..., 0, :].add_(mirrored[..., -1, :], alpha=sign)
    folded[..., 1:, :].add_(mirrored[..., :-1, :], alpha=sign)
    return folded


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Of the fine grid's half-spectrum.

    Attributes:
        freq_x: Cycles per arcsec, none negative, (P + 1,).
        freq_y: Cycles per arcsec, (2 P,).
        phase: What multiplies every spectrum, complex, (2 P, P + 1).
    """

    freq_x: Tensor
    freq_y: Tensor
    phase: Tensor


@lru_cache(maxsize=32)
def frequencies(
    frame: Frame, includes_pixel: bool, dtype: torch.dtype, device: torch.device
) -> Frequencies:
    """Frequencies of a frame, and what does not depend on the stamp.

    The phase is the step of half a fine cell from a cell's centre to a pixel's; the box of a fine
    cell, divided out; the pixel's own transfer function where the PSF lacks it; and 0 at the fine
    Nyquist frequency, whose phase is not defined.
    """
    count, scale = frame.fine_px, frame.grid.pixel_scale_arcsec
    index_y = torch.fft.fftfreq(count, 1 / count, dtype=torch.float64, device=device)
    index_x = torch.arange(count // 2 + 1, dtype=torch.float64, device=device)
    factors = []
    for index in (index_y, index_x):
        factor = torch.exp(1j * math.pi * index / count) / torch.sinc(index / count)
        if not includes_pixel:
            factor = factor * torch.sinc(index / frame.padded_px)
        factors.append(torch.where(index.abs() == frame.padded_px, 0, factor))
    phase = (factors[0][:, None] * factors[1]).to(
        torch.complex64 if dtype == torch.float32 else torch.complex128
    )
    width = frame.padded_px * scale
    return Frequencies((index_x / width).to(dtype), (index_y / width).to(dtype), phase)


def _is_smooth(number: int) -> bool:
    """Whether 2, 3 and 5 are its only prime factors."""
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
