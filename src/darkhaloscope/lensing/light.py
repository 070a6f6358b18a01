r"""Light profiles: the elliptical Sersic law, normalised to a total flux of 1.

.. math:: I(R) \propto \exp(-b_n (R / r_{eff})^{1/n}), \quad R^2 = q u^2 + v^2 / q

with (u, v) along the major and minor axis. r_eff = sqrt(ab) is the intermediate axis of the ellipse
that holds half of the light, and b_n is such that it really holds half: approximations such as
1.9992 n - 0.3271 put the half elsewhere and change the flux for small n.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from darkhaloscope.lensing.profiles import like, require

SERSIC_N_MIN, SERSIC_N_MAX = 0.3, 10.0


@dataclass(frozen=True, slots=True)
class Sersic:
    """Elliptical Sersic sources; each (n,).

    Attributes:
        x: Unlensed position from the host's centre, arcsec, +x.
        y: Unlensed position from the host's centre, arcsec, +y.
        r_eff: Half-light radius sqrt(ab), arcsec, > 0.
        n: Sersic index, from 0.3 to 10.
        q: Axis ratio, minor over major, in (0, 1].
        phi: Position angle of the major axis, radians.
    """

    x: Tensor
    y: Tensor
    r_eff: Tensor
    n: Tensor
    q: Tensor
    phi: Tensor

    def __post_init__(self) -> None:
        """Refuse parameters outside their ranges."""
        check_sersic(r_eff=self.r_eff, n=self.n, q=self.q)
        require(self.x.isfinite() & self.y.isfinite(), self.x, "a source's position is finite")


def sersic_b(n: Tensor) -> Tensor:
    """The coefficient b_n for which r_eff holds half of the light, shape of `n`, float64.

    Starts at the expansion of Ciotti & Bertin 1999, A&A 352, 447, and takes three Newton steps on
    the regularised incomplete gamma function: P(2n, b) = 1/2 within 1e-10.

    Args:
        n: Sersic index, from 0.3 to 10, any shape.

    Examples:
        >>> [round(b, 4) for b in sersic_b(torch.tensor([0.5, 1.0, 4.0])).tolist()]
        [0.6931, 1.6783, 7.6692]
    """
    n = n.double()
    a = 2 * n
    b = a - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2)
    for _ in range(3):
        density = torch.exp((a - 1) * torch.log(b) - b - torch.lgamma(a))
        b = (b - (torch.special.gammainc(a, b) - 0.5) / density).clamp_min(1e-3)
    return b


def sersic_log_peak(n: Tensor, r_eff: Tensor) -> Tensor:
    """Log of the central brightness per arcsec^2 of a profile of total flux 1, float64, (n,)."""
    n, r_eff, b = n.double(), r_eff.double(), sersic_b(n)
    log_area = torch.log(2 * torch.pi * n * r_eff**2) - 2 * n * torch.log(b) + torch.lgamma(2 * n)
    return -log_area


def sersic_brightness(
    x: Tensor, y: Tensor, *, r_eff: Tensor, n: Tensor, q: Tensor, phi: Tensor
) -> Tensor:
    """Surface brightness of an elliptical Sersic profile of total flux 1.

    Args:
        x: Position from the profile's centre, arcsec, shape (n, ...).
        y: Position from the profile's centre, arcsec, the shape of `x`.
        r_eff: Half-light radius sqrt(ab), arcsec, > 0, shape (n,).
        n: Sersic index, from 0.3 to 10, shape (n,).
        q: Axis ratio, minor over major, in (0, 1], shape (n,).
        phi: Position angle of the major axis, radians, shape (n,).

    Returns:
        Flux per arcsec^2, shape of `x`; its integral over the plane is 1.

    Raises:
        ValueError: a parameter is outside its range, in any row.
    """
    check_sersic(r_eff=r_eff, n=n, q=q)
    b, log_peak = sersic_b(n).to(x.dtype), sersic_log_peak(n, r_eff).to(x.dtype)
    r_eff, n, q, phi, b, log_peak = (like(p, x) for p in (r_eff, n, q, phi, b, log_peak))
    cos, sin = torch.cos(phi), torch.sin(phi)
    u, v = cos * x + sin * y, cos * y - sin * x
    radius2 = (q * u * u + v * v / q) / r_eff**2
    return torch.exp(log_peak - b * radius2 ** (0.5 / n))


def check_sersic(*, r_eff: Tensor, n: Tensor, q: Tensor) -> None:
    """Refuse Sersic parameters outside their ranges, each of shape (n,).

    Raises:
        ValueError: the first parameter and row outside its range.
    """
    in_range = (n >= SERSIC_N_MIN) & (n <= SERSIC_N_MAX)
    require(in_range, n, f"a Sersic index is from {SERSIC_N_MIN:g} to {SERSIC_N_MAX:g}")
    require((q > 0) & (q <= 1), q, "q is minor over major axis, in (0, 1]")
    require((r_eff > 0) & r_eff.isfinite(), r_eff, "r_eff is a radius in arcsec, > 0")
