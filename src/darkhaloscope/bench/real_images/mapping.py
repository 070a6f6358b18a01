"""From flux to the colours of a picture, as the makers of the Space Warps pictures did it.

The arcsinh mapping of Lupton et al. 2004 (PASP 116, 133) with the channels' scales, as HumVI
applies it: with I the sum of the scaled channels, each channel is multiplied by
asinh(alpha Q I) / (Q I), clipped to [0, 1] ("saturate to white") and cut to 8 bits. The pictures
were then enlarged threefold for the volunteers and, for our copy, reduced again, which smooths
them a little. HumVI's documentation gives alpha and the scales for CFHTLS with fluxes in units of
AB 30; what it leaves open was fitted on sky and hosts, without the grades (docs/real-images.md).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys

UNITS_PER_NMGY = 1e3  # of AB 30
_LEVELS = 255
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Mapping:
    """How flux becomes colour; a number, or one a stamp, (n, 1).

    Attributes:
        alpha: Slope at low flux.
        q: Where the mapping turns from linear to logarithmic.
        scales: Of red, green and blue, (3,) or (n, 3); only their ratios matter.
        black: Sky level that is left in red, green and blue, units of AB 30, (3,) or (n, 3).
        smoothing: Share of a pixel that each neighbour along an axis gets: the enlarging and
            reducing of the pictures.
        r_in_g: Share of the g channel that is seen in r: MegaCam's g reaches further to the red
            than the simulated sky's.
    """

    alpha: float | Tensor = 0.09
    q: float | Tensor = 1.0
    scales: tuple[float, float, float] | Tensor = (0.4, 0.6, 1.7)
    black: tuple[float, float, float] | Tensor = (-0.5, -0.4, -0.3)
    smoothing: float | Tensor = 0.15
    r_in_g: float = 0.09

    def __call__(self, flux: Tensor) -> Tensor:
        """Colours of stamps.

        Args:
            flux: Of g, r, i, nmgy, (n, 3, y, x).

        Returns:
            Red, green, blue in [0, 1], in steps of 1/255, (n, 3, y, x).
        """
        scales = torch.as_tensor(self.scales, dtype=flux.dtype, device=flux.device)
        scales = (3 * scales / scales.sum(-1, keepdim=True))[..., None, None]
        black = torch.as_tensor(self.black, dtype=flux.dtype, device=flux.device)[..., None, None]
        g, r, i = flux.mul(UNITS_PER_NMGY).unbind(1)
        g = (1 - self.r_in_g) * g + self.r_in_g * _R_OF_WHITE * r
        scaled = (torch.stack([i, r, g], 1) + black) * scales
        q, alpha = _over_pixels(self.q), _over_pixels(self.alpha)
        intensity = q * scaled.sum(1, keepdim=True)
        safe = torch.where(intensity.abs() < _LEAST, _LEAST, intensity)
        colours = scaled * (_asinh(alpha * safe) / safe)
        colours = (colours.clamp(0, 1) * _LEVELS).floor_()  # as the makers' conversion to 8 bits
        share = _over_pixels(self.smoothing)
        return smoothed(colours, share).round_().clamp_(0, _LEVELS).div_(_LEVELS)

    def varied(self, ids: NDArray[np.int64], *, seed: int, by: float) -> "Mapping":
        """One mapping a stamp: named draws about this one.

        Args:
            ids: Of the stamps and the time they are taken, (n,).
            seed: Of the draws.
            by: How far, 1 being 15 % in a channel's scale, a quarter in alpha and Q, and 0.2
                units of sky.
        """

        def spread(name: str) -> Tensor:
            u = keys.uniform(ids, seed=seed, stream=f"mapping {name}")
            return torch.from_numpy((by * (2 * u - 1)).astype(np.float32))[:, None]

        def three(name: str) -> Tensor:
            return torch.cat([spread(f"{name} {channel}") for channel in "rgb"], 1)

        return replace(
            self,
            alpha=self.alpha * torch.exp(0.25 * spread("alpha")),
            q=self.q * torch.exp(0.25 * spread("q")),
            scales=torch.as_tensor(self.scales) * torch.exp(0.15 * three("scale")),
            black=torch.as_tensor(self.black) + 0.2 * spread("sky") + 0.1 * three("black"),
            smoothing=self.smoothing + 0.04 * spread("smoothing"),
        )


# r over g flux of a galaxy whose colour the mixing leaves alone, g - r = 0.3, inverted
_R_OF_WHITE = 10 ** (-0.4 * 0.3)


def _asinh(x: Tensor) -> Tensor:
    """The same as torch's, which is not vectorised on a CPU."""
    square = x.square()
    return (x.abs() + square / (1 + (square + 1).sqrt_())).log1p_().copysign_(x)


def _over_pixels(value: float | Tensor) -> float | Tensor:
    return value[..., None, None] if isinstance(value, Tensor) else value


def smoothed(colours: Tensor, share: float | Tensor) -> Tensor:
    """Each pixel shared with its neighbours, along both axes; `share` each."""
    for axis in (2, 3):
        width = colours.shape[axis]
        before = torch.cat([colours.narrow(axis, 0, 1), colours.narrow(axis, 0, width - 1)], axis)
        after = torch.cat(
            [colours.narrow(axis, 1, width - 1), colours.narrow(axis, width - 1, 1)], axis
        )
        colours = (1 - 2 * share) * colours + share * (before + after)
    return colours
