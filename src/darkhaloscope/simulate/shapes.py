"""Light that is no ellipse: shells, debris, rings and spiral arms, as brightness at a point.

They are natural objects of the sky, and deliberately not the contaminants that training injects:
what a network meets on the sky is not drawn by the painter that taught it. Each function returns
brightness in any unit at points (x, y), arcsec from the galaxy, shape (n, m); parameters are (n,).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from darkhaloscope.simulate.draws import Draws, Rows, Values

Brightness = Callable[[Tensor, Tensor], Tensor]
EXTRA_SHARE = {"shells": 0.04, "merger": 0.10}  # of the galaxy's flux, on top of it


def ring(radius: Values, width: Values, q: Values, phi: Values, clumps: Values) -> Brightness:
    """A Gaussian ring, inclined, brighter and fainter along its way by up to a half."""
    r0, sigma, flat, angle, wave = _columns(radius, width, q, phi, clumps)

    def brightness(x: Tensor, y: Tensor) -> Tensor:
        u, v = _turn(x, y, angle)
        r, theta = torch.hypot(u, v / flat), torch.atan2(v / flat, u)
        knots = 1 + 0.3 * torch.cos(2 * theta + wave) + 0.2 * torch.cos(5 * theta - 3 * wave)
        return torch.exp(-0.5 * ((r - r0) / sigma) ** 2) * knots

    return brightness


def spiral(scale: Values, q: Values, phi: Values, pitch: Values, arms: Values) -> Brightness:
    """Logarithmic arms on an exponential disc of the given scale length, inclined by `q`."""
    h, flat, angle, tangent, number = _columns(scale, q, phi, np.tan(pitch), arms)

    def brightness(x: Tensor, y: Tensor) -> Tensor:
        u, v = _turn(x, y, angle)
        r, theta = torch.hypot(u, v / flat), torch.atan2(v / flat, u)
        phase = number * (theta - torch.log(r.clamp_min(0.05) / h) / tangent)
        crest = torch.exp(4.0 * (torch.cos(phase) - 1))
        return torch.exp(-r / h) * crest * (1 - torch.exp(-((r / (0.5 * h)) ** 2)))

    return brightness


def shells(radius: Values, width: Values, phi: Values, opening: Values) -> Brightness:
    """Two arcs on opposite sides, the outer at `radius`, the other nearer: sharp outwards."""
    r0, depth, angle, half = _columns(radius, width, phi, opening)

    def brightness(x: Tensor, y: Tensor) -> Tensor:
        u, v = _turn(x, y, angle)
        r, theta = torch.hypot(u, v), torch.atan2(v, u)
        total = torch.zeros_like(r)
        for side, at in ((0.0, r0), (np.pi, 0.72 * r0)):
            turn = torch.remainder(theta - side + np.pi, 2 * np.pi) - np.pi
            inward = torch.where(r < at, torch.exp(-(at - r) / depth), torch.zeros_like(r))
            total = total + inward * torch.exp(-0.5 * (turn / half) ** 2)
        return total

    return brightness


def shell_parameters(galaxies: Rows, draws: Draws) -> tuple[Values, Values, Values, Values]:
    """Radius, depth, direction and opening of the shells or tidal arcs of early types."""
    radius = galaxies["r_eff"] * draws.uniform("shell radius", 2.5, 4.5)
    phi = galaxies["phi"] + draws.normal("shell phi", 0.3)
    return (
        radius.clip(1.5, 9.0),
        0.18 * radius.clip(1.5, 9.0),
        phi,
        draws.uniform("shell opening", 0.3, 0.7),
    )


def ring_parameters(galaxies: Rows, draws: Draws) -> tuple[Values, Values, Values, Values, Values]:
    """Radius, width, axis ratio, angle and clumps of the ring round a galaxy, arcsec and rad."""
    radius = (galaxies["r_eff"] * draws.uniform("ring radius", 1.4, 2.6)).clip(1.0, 3.5)
    width = radius * draws.uniform("ring width", 0.10, 0.22)
    q = draws.uniform("ring q", 0.45, 1.0)
    return (
        radius,
        width,
        q,
        draws.uniform("ring phi", 0, np.pi),
        draws.uniform("ring knots", 0, 6.0),
    )


def spiral_parameters(
    galaxies: Rows, draws: Draws
) -> tuple[Values, Values, Values, Values, Values]:
    """Scale length, axis ratio, angle, pitch (10-30 degrees, either way) and number of arms."""
    scale = galaxies["r_eff"] / np.sqrt(galaxies["q"]) / 1.678
    way = np.where(draws.uniform("winds") < 0.5, -1.0, 1.0)
    pitch = way * np.radians(draws.uniform("pitch", 12.0, 30.0))
    arms = np.where(draws.uniform("arms") < 0.7, 2.0, 3.0)
    return scale, galaxies["q"], galaxies["phi"], pitch, arms


def _columns(*values: Values) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(v, np.float32))[:, None] for v in values]


def _turn(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x
