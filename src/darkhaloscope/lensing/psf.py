"""Point-spread functions, as transfer functions: one per stamp and band, on any frequency grid.

A blurred image is the product of two spectra, so a PSF here has no kernel that could be cut off, be
off-centre or outgrow the stamp. Frequencies are cycles per arcsec. Widths have shape (n, band); a
PSF of one row, (1, band), serves every stamp.

Widths that the survey states, and its PSF images, already contain the pixel (`includes_pixel`);
only a PSF that does not is multiplied by the pixel's own transfer function, by the renderer.
"""

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from darkhaloscope.core.units import FWHM_PER_SIGMA, moffat_alpha_from_psfsize, moffat_fwhm
from darkhaloscope.lensing.profiles import Part, require

MOFFAT_BETA_MIN, MOFFAT_BETA_MAX = 1.4, 8.0

_NODES = 24  # Gaussians that make a Moffat


class Psf(Protocol):
    """What the renderer asks of a point-spread function.

    Attributes:
        includes_pixel: Whether the profile is already averaged over the survey's pixel.
    """

    @property
    def includes_pixel(self) -> bool:
        """Whether the profile is already averaged over the survey's pixel."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bands, (n, band); one row serves all stamps."""
        ...

    def transfer(self, freq_x: Tensor, freq_y: Tensor) -> Tensor:
        """Transfer function at frequencies (kx,) and (ky,): shape (n, band, ky, kx), 1 at 0."""
        ...

    def mixture(self) -> "Mixture | None":
        """The transfer function as a sum of Gaussians, where it is one."""
        ...

    def rows(self, part: Part) -> Self:
        """The PSFs of some of the stamps."""
        ...


@dataclass(frozen=True, slots=True)
class Mixture:
    """A round transfer function, sum over j of weight exp(exponent k^2), k in cycles per arcsec.

    Attributes:
        exponent: arcsec^2, <= 0, shape (n, band, j).
        weight: Shape (n, band, j); adds up to 1, but for what is wider than any grid and is seen
            at frequency 0 alone.
    """

    exponent: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A round Gaussian.

    Attributes:
        fwhm: Full width at half maximum, arcsec, > 0, shape (n, band).
        includes_pixel: Whether `fwhm` was measured with the pixel, as the survey's widths are.
    """

    fwhm: Tensor
    includes_pixel: bool = True

    def __post_init__(self) -> None:
        """Refuse a width that is none."""
        require((self.fwhm > 0) & self.fwhm.isfinite(), self.fwhm, "a PSF's fwhm is in arcsec, > 0")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bands."""
        return self.fwhm.shape[0], self.fwhm.shape[1]

    def transfer(self, freq_x: Tensor, freq_y: Tensor) -> Tensor:
        """exp(-2 pi^2 sigma^2 k^2), shape (n, band, ky, kx)."""
        scale = self.mixture().exponent
        along_x, along_y = _decay(scale * freq_x**2), _decay(scale * freq_y**2)
        return along_y[..., :, None] * along_x[..., None, :]

    def mixture(self) -> Mixture:
        """The one Gaussian."""
        scale = -2 * (math.pi / FWHM_PER_SIGMA * self.fwhm[..., None]) ** 2
        return Mixture(scale, torch.ones_like(scale))

    def rows(self, part: Part) -> "Gaussian":
        """The PSFs of some of the stamps."""
        return self if self.shape[0] == 1 else Gaussian(self.fwhm[part], self.includes_pixel)


@dataclass(frozen=True, slots=True)
class Moffat:
    r"""A round Moffat profile, (1 + r^2 / alpha^2)^-beta, wings and all.

    Its transfer function is 2 (x/2)^nu K_nu(x) / Gamma(nu) with nu = beta - 1 and
    x = 2 pi k alpha. K_nu is taken from its integral representation (DLMF 10.32.10),

    .. math:: 2 (x/2)^\nu K_\nu(x) = \int_0^\infty t^{\nu - 1} \exp(-t - x^2 / 4 t) dt

    summed over a few t: a Moffat is a mixture of Gaussians, and each Gaussian is separable in the
    two frequencies. Within 1e-5 of scipy's Bessel function for beta from 1.5 to 6.

    Attributes:
        alpha: Scale radius, arcsec, > 0, shape (n, band).
        beta: Exponent, from 1.4 to 8, shape (n, band).
        includes_pixel: Whether the profile was measured with the pixel, as the survey's are.
    """

    alpha: Tensor
    beta: Tensor
    includes_pixel: bool = True

    def __post_init__(self) -> None:
        """Refuse a profile that is none."""
        alpha, beta = self.alpha, self.beta
        require((alpha > 0) & alpha.isfinite(), alpha, "a Moffat's alpha is in arcsec, > 0")
        in_range = (beta >= MOFFAT_BETA_MIN) & (beta <= MOFFAT_BETA_MAX)
        require(
            in_range, beta, f"a Moffat's beta is from {MOFFAT_BETA_MIN:g} to {MOFFAT_BETA_MAX:g}"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bands."""
        return self.alpha.shape[0], self.alpha.shape[1]

    @property
    def fwhm(self) -> Tensor:
        """Full width at half maximum, arcsec, shape (n, band)."""
        fwhm: Tensor = moffat_fwhm(self.alpha, self.beta)
        return fwhm

    def transfer(self, freq_x: Tensor, freq_y: Tensor) -> Tensor:
        """The mixture of Gaussians, shape (n, band, ky, kx)."""
        mixture = self.mixture()
        scale, weight = mixture.exponent, mixture.weight
        along_x = _decay(scale[..., :, None] * freq_x**2)
        along_y = _decay(scale[..., None, :] * freq_y[:, None] ** 2) * weight[..., None, :]
        # What the nodes leave out is wider than any grid: it is seen at frequency 0 alone.
        missing = (1 - weight.sum(-1))[..., None]
        along_x = torch.cat([along_x, (freq_x == 0).expand_as(along_x[..., :1, :])], dim=-2)
        along_y = torch.cat([along_y, ((freq_y == 0) * missing)[..., None]], dim=-1)
        return along_y @ along_x

    def mixture(self) -> Mixture:
        """The Gaussians at the nodes of the integral over log t."""
        nu = (self.beta - 1)[..., None]
        # The integrand in log t is below 1e-6 outside; below -12 it is wider than any grid.
        low, high = (-14 / nu).clamp_min(-12.0), 3.4
        step = (high - low) / (_NODES - 1)
        log_t = low + step * torch.arange(_NODES, dtype=nu.dtype, device=nu.device)
        weight = step * torch.exp(nu * log_t - torch.exp(log_t) - torch.lgamma(nu))
        scale = -((math.pi * self.alpha[..., None]) ** 2) * torch.exp(-log_t)
        return Mixture(scale, weight)

    def rows(self, part: Part) -> "Moffat":
        """The PSFs of some of the stamps."""
        if self.shape[0] == 1:
            return self
        return Moffat(self.alpha[part], self.beta[part], self.includes_pixel)


def moffat_from_psfsize(psfsize: Tensor, beta: Tensor) -> Moffat:
    """The Moffat that has the survey's `psfsize`, a noise-equivalent width and no FWHM.

    Args:
        psfsize: 2.355 sqrt(Neff / 4 pi), arcsec, > 0, shape (n, band).
        beta: Exponent, shape (n, band) or (1, band). Real coadds fit 2.6-2.8.

    Returns:
        A profile with the pixel in it, as `psfsize` has: Neff = 1 / int P^2 dA is kept.
    """
    alpha: Tensor = moffat_alpha_from_psfsize(psfsize, beta)
    return Moffat(alpha, beta.expand_as(alpha).to(alpha.dtype))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A PSF image, such as a coadd PSF or what a PsfEx model gives at a place, of any size.

    It is centred on its middle pixel; a light that is not moves what is blurred by as much. Between
    its pixels it is the band-limited curve through them: above the pixels' Nyquist frequency there
    is nothing. That is within 0.7 % of a Moffat's peak anywhere between pixels of FWHM / 2.5, 0.2 %
    of FWHM / 3 and 0.02 % of FWHM / 4; an arc that it blurs is within 0.22, 0.04 and 0.02 % of its
    peak of the arc that the Moffat itself blurs.

    Attributes:
        images: Pixel values, any normalisation with a positive sum, axes (y, x) as of a stamp,
            shape (n, band, k, k), k odd.
        pixel_scale_arcsec: Width of its pixels, which need not be the survey's.
        includes_pixel: Whether the survey's pixel is in it already, as in a coadd PSF, whose values
            are those of stars, and in a PsfEx model; not so in an optical PSF.
    """

    images: Tensor
    pixel_scale_arcsec: float
    includes_pixel: bool = True

    def __post_init__(self) -> None:
        """Refuse an image without a middle pixel, or without light."""
        size = tuple(self.images.shape[-2:])
        if self.images.ndim != 4 or size[0] != size[1] or size[0] % 2 == 0:
            raise ValueError(
                f"a PSF image is (n, band, k, k) with k odd; got {tuple(self.images.shape)}"
            )
        total = self.images.sum((2, 3))
        require((total > 0) & total.isfinite(), total, "a PSF image's sum is above 0")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bands."""
        return self.images.shape[0], self.images.shape[1]

    def transfer(self, freq_x: Tensor, freq_y: Tensor) -> Tensor:
        """The image's Fourier sum, complex, shape (n, band, ky, kx)."""
        normed = self.images / self.images.sum((2, 3), keepdim=True)
        if normed.device.type != "cpu":  # choosing frequencies would wait for the device
            return _sum(normed, self._waves(freq_y), self._waves(freq_x))
        below_y, below_x = (self._is_below_nyquist(f).nonzero()[:, 0] for f in (freq_y, freq_x))
        below = _sum(normed, self._waves(freq_y[below_y]), self._waves(freq_x[below_x]))
        whole = below.new_zeros((*self.shape, len(freq_y), len(freq_x)))
        whole[:, :, below_y[:, None], below_x] = below
        return whole

    def mixture(self) -> None:
        """None: an image is no sum of round Gaussians."""

    def rows(self, part: Part) -> "Kernel":
        """The PSFs of some of the stamps."""
        if self.shape[0] == 1:
            return self
        return Kernel(self.images[part], self.pixel_scale_arcsec, self.includes_pixel)

    def _waves(self, freq: Tensor) -> Tensor:
        """exp(-2 pi i k x), (k, pixel), 0 above the Nyquist frequency."""
        size = self.images.shape[-1]
        at = torch.arange(size, dtype=freq.dtype, device=freq.device) - (size - 1) / 2
        waves = torch.exp(-2j * math.pi * (freq[:, None] * self.pixel_scale_arcsec) * at)
        return torch.where(self._is_below_nyquist(freq)[:, None], waves, 0)

    def _is_below_nyquist(self, freq: Tensor) -> Tensor:
        return (freq * self.pixel_scale_arcsec).abs() < 0.5


def _sum(images: Tensor, waves_y: Tensor, waves_x: Tensor) -> Tensor:
    """waves_y image waves_x^T of each image, complex; the images are real in the first product."""
    count = len(waves_y)
    along_y = torch.cat([waves_y.real, waves_y.imag]) @ images
    return torch.complex(along_y[..., :count, :], along_y[..., count:, :]) @ waves_x.T


def _decay(exponent: Tensor) -> Tensor:
    """exp, held above 1e-13: products of two stay clear of the slow numbers near underflow."""
    return exponent.clamp_min_(-30).exp_()
