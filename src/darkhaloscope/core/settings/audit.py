"""`[audit]`: what a trained network must hold to, on counterfactuals and on plain cutouts."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from darkhaloscope.core.settings.base import Model, Span, StageConfig, of_known
from darkhaloscope.core.settings.stamps import StampsConfig

CheckName = Literal[
    "operating_point",
    "zero_flux",
    "arc_removed",
    "companion",
    "radial_arc",
    "scrambled",
    "halo_ring",
    "gaussian_ring",
    "rises_with_snr",
    "rises_with_theta_e",
    "plain_scores",
    "plain_sky",
    "plain_detections",
    "plain_hosts",
    "known_hosts",
    "realism",
]
NAMES: tuple[str, ...] = get_args(CheckName)
Share = Annotated[float, Field(ge=0, le=1)]
Shift = Annotated[float, Field(gt=0)]
Reason = Annotated[str, Field(min_length=10)]
Address = Annotated[str, Field(min_length=1)]


class GaussianRing(Model):
    """`[audit.gaussian_ring]`: the faint rings that are added to plain galaxies."""

    arc_snr_g: Span
    """Matched-filter S/N in g that a ring's light is scaled to."""
    radius_arcsec: Span
    """Its radius."""
    wide_fwhm_over_psf: Span
    """Width of rings with the colours of arcs, over the r-band PSF's FWHM: 1.5 and more, as a thin
    one of such colours is an Einstein ring."""
    host_coloured_fwhm_over_psf: Span
    """Width of rings with the colours of their host."""

    @model_validator(mode="after")
    def _is_no_lens(self) -> Self:
        if self.wide_fwhm_over_psf.low < 1.5:
            raise ValueError(
                "wide_fwhm_over_psf begins at 1.5 or above: a thin ring of an arc's colours is an "
                f"Einstein ring; got {self.wide_fwhm_over_psf.low:g}"
            )
        for name in ("arc_snr_g", "radius_arcsec", "host_coloured_fwhm_over_psf"):
            if not getattr(self, name).low > 0:
                raise ValueError(f"{name} is above 0; got {getattr(self, name).low:g}")
        return self


class Rising(Model):
    """`[audit.rising]`: where the score must rise with flux and with theta_E."""

    arc_snr_g: Span
    """Integrated S/N in g at both ends of a step; beyond its upper end scores are saturated."""
    theta_e_over_fwhm_r: Span
    """theta_E over the r-band PSF's FWHM at both ends of a step."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("arc_snr_g", "theta_e_over_fwhm_r"):
            if not getattr(self, name).low > 0:
                raise ValueError(f"{name} is above 0; got {getattr(self, name).low:g}")
        return self


class AuditLimits(Model):
    """`[audit.limits]`: a check fails where its whole 95 % interval is beyond the limit."""

    zero_flux: Span
    """Range of the area under the ROC curve of hosts of lenses, their arcs at no flux, against
    control hosts; 0.5 is chance."""
    arc_removed: Share
    """Largest share of the lenses above the operating point whose host alone stays above it."""
    companion: Share
    """Largest share of companions above the operating point."""
    radial_arc: Share
    """The same of radial arcs."""
    scrambled: Share
    """The same of arcs in pieces where no lens puts them."""
    halo_ring: Share
    """The same of wide or host-coloured rings."""
    gaussian_ring: Share
    """The same of plain galaxies with a faint Gaussian ring."""
    rises_with_snr: float = Field(gt=0)
    """Least mean step of the logit for twice the flux; the interval must be above 0 as well."""
    rises_with_theta_e: float = Field(gt=0)
    """Least mean step of the logit for twice theta_E; the interval must be above 0 as well."""
    plain_scores: Shift | None = None
    """Largest shift of the scores of plain cutouts against controls, standard deviations; left out:
    a warning only, as for those below."""
    plain_sky: Shift | None = None
    """The same of the lag-1 autocorrelation of the sky, in each band."""
    plain_detections: Shift | None = None
    """The same of the number of detections in a stamp."""
    plain_hosts: Shift | None = None
    """The same of what is left of the host after its 180-degree rotation is taken off."""
    known_hosts: Shift | None = None
    """The same of the scores of targets of train against those of val and calib."""
    realism: Annotated[float, Field(ge=0.5, le=1)] | None = None
    """Largest area of a linear probe on the network's features, injected against real lenses."""


class AuditConfig(StageConfig):
    """Checks of a trained network: on counterfactuals of one set, and on plain survey cutouts."""

    stamps: StampsConfig
    """`[stamps]`, by which rows are painted; not written here but handed over."""
    sky: Literal["simulated", "real"]
    """`sky` of `[report]`; not written here but handed over."""
    arc_snr_band: str
    """`arc_snr_band` of `[report]`; not written here but handed over."""
    headline_theta_e_over_fwhm_r_min: float = Field(ge=0)
    """The same of `[report]`; not written here but handed over."""
    headline_arc_snr_min: float = Field(ge=0)
    """The same of `[report]`; not written here but handed over."""

    set: Literal["val", "calib"]
    """The set whose stamps and galaxies are looked at; `test` is never."""
    stop: bool
    """Whether a failed audit ends the run with exit status 2, once everything else is made."""
    seed: int = Field(ge=0)
    """Seed of the samples, of the rings and of the intervals' draws."""
    completeness: float = Field(gt=0, lt=1)
    """The operating point is the threshold that keeps this share of the set's headline lenses."""
    lenses: int = Field(ge=20, le=100_000)
    """Galaxies whose injected lens is painted again, at most."""
    rings: int = Field(ge=20, le=100_000)
    """Plain galaxies that either sort of Gaussian ring is added to, at most."""
    plain_cutouts: int = Field(ge=20, le=1_000_000)
    """Survey cutouts, and controls, whose pixels are compared, at most."""
    least_galaxies: int = Field(ge=10)
    """Galaxies that a check needs; with fewer it has no verdict."""
    interval_draws: int = Field(1000, ge=200, le=100_000)
    """Bootstrap draws per interval."""
    gaussian_ring: GaussianRing
    """`[audit.gaussian_ring]`."""
    rising: Rising
    """`[audit.rising]`."""
    real_lenses: tuple[Address, ...]
    """Lists of real lenses, as files or addresses; none: the check `realism` has no verdict."""
    real_lenses_radius_arcsec: float = Field(gt=0, le=10)
    """A target within this of an entry is that lens, where the list states no radius."""
    least_real: int = Field(ge=20)
    """Real lenses that the check `realism` needs among the targets."""
    limits: AuditLimits
    """`[audit.limits]`."""
    waive: dict[CheckName, Reason] = Field(default_factory=dict)
    """`[audit.waive]`: NAME = "reason". A check that fails and is named here does not stop the run;
    the reason, of 10 characters or more, is shown wherever the audit is."""

    @property
    def lists(self) -> tuple[str, ...]:
        """Lists of positions that the stage is handed."""
        return self.real_lenses

    @field_validator("waive", mode="before")
    @classmethod
    def _known(cls, waive: Any) -> Any:
        return of_known(waive, NAMES, "check")

    @model_validator(mode="after")
    def _can_be_looked_at(self) -> Self:
        if self.set not in self.stamps.sets:
            raise ValueError(
                f"set {self.set!r} is not written as stamps; stamps.sets has "
                f"{', '.join(self.stamps.sets) or 'none'}"
            )
        if lacking := [b for b in ("g", "r") if b not in self.bands]:
            raise ValueError(
                f"the audit needs the band {' and '.join(lacking)}: rings have a S/N in g, stamps "
                "a seeing in r"
            )
        return self
