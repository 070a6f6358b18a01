"""Settings of `stamps`: how the manifest's rows become pixels."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import StageConfig


class StampsConfig(StageConfig):
    """How injected light is blurred, dimmed and made noisy, and which sets are written."""

    seed: int
    """Seed of the photon noise; each stamp's own is drawn from it and the stamp's id."""
    size_px: int = Field(ge=16, le=256)
    """Width of a stamp, px: the centre of the cutout, by whole pixels."""
    sets: tuple[Literal["train", "val", "calib", "test"], ...]
    """Sets written as stamps; `train` is drawn afresh every epoch and need not be."""
    psf_profile: Literal["moffat", "gaussian", "image"]
    """Shape of the PSF. `moffat`: of the survey's psfsize, a noise-equivalent width that holds the
    pixel already; `gaussian`: of that FWHM, as the first run had it; `image`: the PSF images of
    `survey.psf_images`, kept by `cutouts.psf_image_px`."""
    psf_beta: tuple[float, ...]
    """Moffat exponent, one a band; real coadds fit 2.6 to 2.8."""
    electrons_per_nmgy_per_exposure: tuple[float, ...]
    """Electrons that a nanomaggy makes in one exposure, one a band, for the photon noise of all
    injected light; about 3,500 in a 90 s exposure. It serves where the survey has no table of a
    brick's CCDs from which the coadd's own gain follows; where it has no `nexp` either, one
    exposure is assumed. 0: no photon noise at all."""
    batch_rows: int = Field(default=128, ge=1, json_schema_extra={"speed_only": True})
    """Stamps painted at once; changes memory and speed, no result."""

    @model_validator(mode="after")
    def _per_band(self) -> Self:
        for name in ("psf_beta", "electrons_per_nmgy_per_exposure"):
            values = getattr(self, name)
            if len(values) != len(self.bands):
                raise ValueError(
                    f"{name} needs one value for each of {', '.join(self.bands)}; got {len(values)}"
                )
        if any(not 1.5 <= beta <= 8 for beta in self.psf_beta):
            raise ValueError(f"psf_beta is a Moffat exponent within 1.5 and 8; got {self.psf_beta}")
        if any(gain < 0 for gain in self.electrons_per_nmgy_per_exposure):
            raise ValueError("electrons_per_nmgy_per_exposure cannot be negative")
        return self
