"""`[cutouts]`: the pixels of a target, and when they are refused."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import StageConfig

MaskBit = Literal[
    "NPRIMARY",
    "BRIGHT",
    "SATUR",
    "ALLMASK",
    "WISEM1",
    "WISEM2",
    "BAILOUT",
    "MEDIUM",
    "GALAXY",
    "CLUSTER",
]


class CutoutsConfig(StageConfig):
    """The pixels of a target, and when they are refused."""

    size_px: int = Field(ge=8, le=1024)
    """Width of a cutout; larger than a stamp by the shifts of augmentation and the sky annulus."""
    sky_inner_px: float = Field(ge=0)
    """Inner radius of the annulus of sky statistics: outside any arc."""
    sky_outer_px: float = Field(gt=0)
    """Outer radius of the annulus of sky statistics."""
    masked_bits: tuple[MaskBit, ...]
    """Bits of `maskbits` that make a pixel bad; SATUR and ALLMASK count in their own band only."""
    max_masked_fraction: float = Field(ge=0, lt=1)
    """A target is refused when more of its pixels are bad in any one band."""
    psf_beta: dict[str, float]
    """Moffat exponent of each band's PSF: it turns the survey's `psfsize` into a FWHM."""
    psf_image_px: int | None = Field(default=None, ge=9, le=255)
    """Width of the PSF images kept beside the pixels, odd: 63 px hold 99.7 % of a Moffat's light.
    With it `survey.psf_images` is read, a target without a PSF image is refused, and PSF widths are
    measured on the images; none: no images are kept and widths come from `psfsize`."""

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if not self.sky_inner_px < self.sky_outer_px <= self.size_px / 2:
            raise ValueError(
                f"the sky annulus {self.sky_inner_px:g}-{self.sky_outer_px:g} px must rise and fit "
                f"a cutout of {self.size_px} px"
            )
        if set(self.psf_beta) != set(self.bands):
            raise ValueError(
                f"psf_beta names bands {sorted(self.psf_beta)}; the run has {sorted(self.bands)}"
            )
        if any(not 1 < beta <= 100 for beta in self.psf_beta.values()):
            raise ValueError(f"a Moffat profile has a flux for beta > 1; got {self.psf_beta}")
        if self.psf_image_px is not None and self.psf_image_px % 2 == 0:
            raise ValueError(f"psf_image_px is odd, so that there is a middle; {self.psf_image_px}")
        return self
