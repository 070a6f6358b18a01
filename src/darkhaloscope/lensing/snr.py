"""How strongly injected light stands out: three signal-to-noise ratios, all per band."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ArcSnr:
    """Signal-to-noise ratios of injected light, each of shape (n, band).

    Attributes:
        snr: Integrated over the pixels in which the light exceeds one sky sigma; 0 where none does.
        matched: Of the matched filter, over all pixels: the most that any weighting can reach.
        peak: Of the best pixel.
    """

    snr: Tensor
    matched: Tensor
    peak: Tensor


def arc_snr(arc: Tensor, sky_sigma: Tensor, variance: Tensor) -> ArcSnr:
    """Signal-to-noise ratios of a blurred arc.

    With f the arc and sigma^2 the variance of a pixel, `snr` is sum f / sqrt(sum sigma^2) over the
    pixels where f exceeds `sky_sigma`, `matched` is sqrt(sum f^2 / sigma^2) over all of them, and
    `peak` the largest f / sigma. Neighbouring pixels count as independent.

    Args:
        arc: Injected light, nmgy per pixel, shape (n, band, y, x).
        sky_sigma: Noise of a pixel of empty sky, nmgy, > 0, shape (n, band).
        variance: Noise variance with the host's light, nmgy^2, > 0, shape (n, band, y, x), or any
            that broadcasts to it.

    Returns:
        The three ratios, in the precision of `arc`.
    """
    above = arc > sky_sigma[..., None, None]
    signal = torch.where(above, arc, 0).sum((-2, -1))
    noise = torch.where(above, variance, 0).sum((-2, -1)).sqrt()
    snr = torch.where(noise > 0, signal / torch.where(noise > 0, noise, 1), 0)
    ratio = arc / variance.sqrt()
    return ArcSnr(snr, ratio.square().sum((-2, -1)).sqrt(), ratio.amax((-2, -1)))
