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
from darkhaloscope.lensing.profiles import require

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

    def rows(self, part: slice) -> Self:
        """The PSFs of some of the stamps."""
        ...


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
        scale = -2 * (math.pi / FWHM_PER_SIGMA * self.fwhm[..., None]) ** 2
        along_x, along_y = _decay(scale * freq_x**2), _decay(scale * freq_y**2)
        return along_y[..., :, None] * along_x[..., None, :]

    def rows(self, part: slice) -> "Gaussian":
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
        nu = (self.beta - 1)[..., None]
        # The integrand in log t is below 1e-6 outside; below -12 it is wider than any grid.
        low, high = (-14 / nu).clamp_min(-12.0), 3.4
        step = (high - low) / (_NODES - 1)
        log_t = low + step * torch.arange(_NODES, dtype=nu.dtype, device=nu.device)
        weight = step * torch.exp(nu * log_t - torch.exp(log_t) - torch.lgamma(nu))
        scale = -((math.pi * self.alpha[..., None]) ** 2) * torch.exp(-log_t)
        along_x = _decay(scale[..., :, None] * freq_x**2)
        along_y = _decay(scale[..., None, :] * freq_y[:, None] ** 2) * weight[..., None, :]
        # What the nodes leave out is wider than any grid: it is seen at frequency 0 alone.
        missing = (1 - weight.sum(-1))[..., None]
        along_x = torch.cat([along_x, (freq_x == 0).expand_as(along_x[..., :1, :])], dim=-2)
        along_y = torch.cat([along_y, ((freq_y == 0) * missing)[..., None]], dim=-1)
        return along_y @ along_x

    def rows(self, part: slice) -> "Moffat":
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
    """A PSF image on the survey's own pixels, such as a coadd PSF, centred on its middle pixel.

    Between the pixels it is the band-limited curve through them: above the pixels' Nyquist
    frequency there is nothing.

    Attributes:
        images: Pixel values, any normalisation with a positive sum, shape (n, band, k, k), k odd.
        pixel_scale_arcsec: Width of its pixels.
        includes_pixel: Whether the values are averages over pixels, as a coadd PSF's are.
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
        size = normed.shape[-1]
        at = torch.arange(size, dtype=normed.dtype, device=normed.device) - (size - 1) / 2
        waves = [self._waves(at, freq) for freq in (freq_y, freq_x)]
        return waves[0] @ normed.to(waves[0].dtype) @ waves[1].T

    def rows(self, part: slice) -> "Kernel":
        """The PSFs of some of the stamps."""
        if self.shape[0] == 1:
            return self
        return Kernel(self.images[part], self.pixel_scale_arcsec, self.includes_pixel)

    def _waves(self, at: Tensor, freq: Tensor) -> Tensor:
        """exp(-2 pi i k x), (k, pixel), 0 above the Nyquist frequency."""
        cycles = freq[:, None] * self.pixel_scale_arcsec
        waves = torch.exp(-2j * math.pi * cycles * at)
        return torch.where(cycles.abs() < 0.5, waves, 0)


def _decay(exponent: Tensor) -> Tensor:
    """exp, held above 1e-13: products of two stay clear of the slow numbers near underflow."""
    return exponent.clamp_min_(-30).exp_()
