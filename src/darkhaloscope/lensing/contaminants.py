"""Light that is no arc: rings, spirals, companions, painted as a lensed source is.

No kind differs from a lens in anything but geometry: the light goes through the same sampling grid,
PSF and pixels (`render`), is given as a flux per band from the same sources, and gets its photon
noise where arcs get theirs (`noise`). A companion is an unlensed source itself. The other shapes
hold exactly their flux in the stamp and its margin.

Shapes are centred on their host; their parameters have shape (n,), lengths are arcsec, angles
radians from +x towards +y. An elliptical radius is sqrt(q u^2 + v^2 / q), (u, v) along the axes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.lensing.blur import Grid
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.profiles import Lens, require
from darkhaloscope.lensing.psf import Psf
from darkhaloscope.lensing.render import DEFAULT, Painted, Plan, paint, render_lensed

WIDE_IN_FWHM = 1.5  # a ring wider than this many PSF widths is no arc
EXPONENTIAL_B = 1.6783469900166605  # b of a Sersic profile with n = 1
_MOST_ARMS = 8
_PACKED = 10  # numbers a row in the compiled loops


@dataclass(frozen=True, slots=True)
class Ring:
    """Elliptical rings with a Gaussian profile, even or brighter on some sides; each (n,).

    Attributes:
        radius: Elliptical radius of the crest, > 0.
        sigma: Gaussian width across the crest, > 0.
        q: Axis ratio, in (0, 1].
        phi: Position angle of the major axis.
        contrast: Depth of the modulation along the ring, from 0 (even) to 1; None: all are even,
            and the next two are not read.
        lobes: Bright parts round the ring.
        lobe_phi: Angle of one of them.
    """

    radius: Tensor
    sigma: Tensor
    q: Tensor
    phi: Tensor
    contrast: Tensor | None = None
    lobes: Tensor | None = None
    lobe_phi: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse parameters outside their ranges."""
        require((self.radius > 0) & self.radius.isfinite(), self.radius, "a ring's radius is > 0")
        require((self.sigma > 0) & self.sigma.isfinite(), self.sigma, "a ring's sigma is > 0")
        _require_axis_ratio(self.q)
        if self.contrast is not None:
            in_range = (self.contrast >= 0) & (self.contrast <= 1)
            require(in_range, self.contrast, "a ring's contrast is from 0 to 1")

    @classmethod
    def even(cls, *, radius: Tensor, sigma: Tensor, q: Tensor, phi: Tensor) -> "Ring":
        """Rings equally bright all round."""
        return cls(radius, sigma, q, phi)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Brightness at (x, y), shape (n, m), 1 on an even crest."""
        u, v = _along_axes(x, y, self.phi)
        across = (_elliptical(u, v, self.q) - self.radius[:, None]) / self.sigma[:, None]
        light = torch.exp(-0.5 * across**2)
        if self.contrast is None or self.lobes is None or self.lobe_phi is None:
            return light
        angle = torch.atan2(y, x) - self.lobe_phi[:, None]
        return light * (1 + self.contrast[:, None] * torch.cos(self.lobes[:, None] * angle))

    def rows(self, part: slice) -> "Ring":
        """The rings of some of the stamps."""
        shape = [field[part] for field in (self.radius, self.sigma, self.q, self.phi)]
        lobes = (self.contrast, self.lobes, self.lobe_phi)
        return Ring(*shape, *[None if field is None else field[part] for field in lobes])

    def packed(self) -> Tensor | None:
        """What the compiled loops read of even rings, (n, 10)."""
        if self.contrast is not None:
            return None
        shape = (torch.cos(self.phi), torch.sin(self.phi), self.q, self.radius, 1 / self.sigma)
        return torch.nn.functional.pad(torch.stack(shape, 1), (0, _PACKED - len(shape)))


@dataclass(frozen=True, slots=True)
class Spiral:
    """Logarithmic arms in an exponential disc, without the disc itself; each (n,).

    Attributes:
        radius: Elliptical radius at which the arms begin, > 0.
        sigma: Gaussian width across an arm, > 0.
        r_eff: Half-light radius of the disc whose light the arms follow outwards, > 0.
        n_arms: Number of arms, 1 or more.
        pitch: Angle between arm and circle, 0 < |pitch| < pi/2; negative winds the other way.
        q: Axis ratio of the disc as seen, in (0, 1].
        phi: Position angle of its major axis.
        arm_phi: Angle, in the disc, at which one arm begins.
    """

    radius: Tensor
    sigma: Tensor
    r_eff: Tensor
    n_arms: Tensor
    pitch: Tensor
    q: Tensor
    phi: Tensor
    arm_phi: Tensor

    def __post_init__(self) -> None:
        """Refuse parameters outside their ranges."""
        for name in ("radius", "sigma", "r_eff"):
            length = getattr(self, name)
            require((length > 0) & length.isfinite(), length, f"a spiral's {name} is > 0")
        _require_axis_ratio(self.q)
        in_range = (self.n_arms >= 1) & (self.n_arms <= _MOST_ARMS)
        require(in_range, self.n_arms, f"a spiral has 1 to {_MOST_ARMS} arms")
        pitch = self.pitch.abs()
        require((pitch > 0) & (pitch < math.pi / 2), self.pitch, "0 < |pitch| < pi/2")

    @classmethod
    def plain(
        cls,
        *,
        radius: Tensor,
        sigma: Tensor,
        n_arms: Tensor,
        pitch: Tensor,
        q: Tensor,
        phi: Tensor,
    ) -> "Spiral":
        """Arms that begin on the major axis, in a disc of twice the radius at which they do."""
        return cls(radius, sigma, 2 * radius, n_arms, pitch, q, phi, arm_phi=torch.zeros_like(phi))

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Brightness at (x, y), shape (n, m)."""
        radius, arms, pitch = self.radius[:, None], self.n_arms[:, None], self.pitch[:, None]
        u, v = _along_axes(x, y, self.phi)
        at = _elliptical(u, v, self.q).clamp_min(1e-6)
        in_disc = torch.atan2(v, self.q[:, None] * u)
        crest = torch.log(at / radius) / torch.tan(pitch) + self.arm_phi[:, None]
        # To the nearest arm: along the circle by remainder, across the arm by the pitch.
        gap = 2 * math.pi / arms
        along = torch.remainder(in_disc - crest + gap / 2, gap) - gap / 2
        across = at * along * torch.sin(pitch) / self.sigma[:, None]
        begun = torch.sigmoid((at - radius) / (0.1 * radius))
        fading = -EXPONENTIAL_B * at / self.r_eff[:, None]
        return begun * torch.exp(fading - 0.5 * across**2)

    def rows(self, part: slice) -> "Spiral":
        """The spirals of some of the stamps."""
        sizes = (self.radius, self.sigma, self.r_eff, self.n_arms, self.pitch)
        return Spiral(*[field[part] for field in (*sizes, self.q, self.phi, self.arm_phi)])

    def packed(self) -> Tensor:
        """What the compiled loops read, (n, 10)."""
        axes = (torch.cos(self.phi), torch.sin(self.phi), self.q, self.radius, 1 / self.sigma)
        pitch = (1 / torch.tan(self.pitch), torch.sin(self.pitch))
        arms = (-EXPONENTIAL_B / self.r_eff, self.n_arms, *pitch, self.arm_phi)
        columns = torch.stack((*axes, *arms), 1)
        return torch.nn.functional.pad(columns, (0, _PACKED - columns.shape[1]))


def companion(
    source: Sersic,
    *,
    flux: Tensor,
    psf: Psf,
    centre_x: Tensor,
    centre_y: Tensor,
    grid: Grid,
    plan: Plan = DEFAULT,
) -> Painted:
    """The sources of lenses, unlensed where they stand; arguments as of `render.render_lensed`."""
    return render_lensed(
        source,
        Lens.none(source.x),
        flux=flux,
        psf=psf,
        centre_x=centre_x,
        centre_y=centre_y,
        grid=grid,
        plan=plan,
    )


def halo_ring(
    shape: Ring,
    *,
    is_host_coloured: Tensor,
    psf_fwhm: Tensor,
    flux: Tensor,
    psf: Psf,
    centre_x: Tensor,
    centre_y: Tensor,
    grid: Grid,
    plan: Plan = DEFAULT,
) -> Painted:
    """A ring that no lens makes: of the host's colour, or too wide.

    A thin, centred ring with an arc's colour is an Einstein ring and may be no negative; it is
    refused.

    Args:
        shape: The rings.
        is_host_coloured: Whether `flux` has the host's colours, shape (n,).
        psf_fwhm: FWHM of the PSF, arcsec, shape (n,).
        flux: Total flux in the stamp and its margin, nmgy, shape (n, band).
        psf: PSF of n rows, or of one for all.
        centre_x: Host's centroid from the centre of the stamp, pixels, shape (n,).
        centre_y: The same along y.
        grid: The stamp's pixels.
        plan: How finely light is sampled.

    Returns:
        As of `render.paint`.

    Raises:
        ValueError: a ring is neither of its host's colour nor wider (FWHM) than 1.5 PSF FWHM.
    """
    width = FWHM_PER_SIGMA * shape.sigma
    allowed = is_host_coloured | (width > WIDE_IN_FWHM * psf_fwhm)
    require(allowed, width, "a thin ring of an arc's colour is a lens; FWHM must pass 1.5 PSF FWHM")
    return paint(
        shape, flux=flux, psf=psf, centre_x=centre_x, centre_y=centre_y, grid=grid, plan=plan
    )


def _along_axes(x: Tensor, y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Points (n, m) along the major and minor axis."""
    cos, sin = torch.cos(phi)[:, None], torch.sin(phi)[:, None]
    return cos * x + sin * y, cos * y - sin * x


def _elliptical(u: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """Elliptical radius sqrt(q u^2 + v^2 / q) of points (n, m)."""
    return torch.sqrt(q[:, None] * u * u + v * v / q[:, None])


def _require_axis_ratio(q: Tensor) -> None:
    require((q > 0) & (q <= 1), q, "q is minor over major axis, in (0, 1]")
