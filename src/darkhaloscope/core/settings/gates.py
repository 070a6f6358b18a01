"""`[gates]`: what the set that teaches must hold to before a network is trained on it."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from darkhaloscope.core.settings.base import Model, Span, StageConfig, of_known
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.core.settings.splits import SplitsConfig
from darkhaloscope.core.settings.stamps import StampsConfig

GateName = Literal[
    "resolution",
    "core_only",
    "total_flux",
    "radial_profile",
    "annulus_colour",
    "sky_stats",
    "metadata",
    "control_copies",
    "splits_leak",
    "pixels",
    "brightness",
    "texture",
    "noise_only",
]
NAMES: tuple[str, ...] = get_args(GateName)
Area = Annotated[float, Field(ge=0.5, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Reason = Annotated[str, Field(min_length=10)]


class SeenAs(Model):
    """How a model sees pixels: `normalisation` and `softening_nmgy` of `[model.NAME]`."""

    normalisation: Literal["asinh", "sqrt", "first_run"]
    """As in `[model.NAME]`."""
    softening_nmgy: dict[str, float]
    """As in `[model.NAME]`."""


class GateLimits(Model):
    """The limit of each gate; areas are areas under the ROC curve of a trivial model."""

    core_only: Area
    """Largest area of the central 10 x 10 px, lenses against companions of equal flux."""
    total_flux: Area
    """Largest area of the flux in each band, against the same."""
    radial_profile: Area
    """Largest area of the azimuthal means, against the same."""
    annulus_colour: Area
    """Largest area of fluxes and colours in annuli, against the same."""
    sky_stats: Area
    """Largest area of median, MAD and rms of the outer sky, lenses against all negatives."""
    metadata: Area
    """Largest area of seeing, depth, noise, exposures, position and host, against the same."""
    texture: Area
    """Largest area of statistics finer than the seeing, lenses against companions."""
    noise_only: Span
    """Range of the area of those statistics with the injected light taken off its photon noise."""
    unresolved_share: Share
    """Largest share of the lenses with theta_E below half of the r-band PSF's FWHM."""
    resolved_share: Share
    """Least share of the lenses with theta_E of a FWHM or more."""
    arc_snr_high: float = Field(gt=0)
    """An arc above this integrated S/N in g is bright."""
    bright_share: Share
    """Largest share of bright arcs."""
    arc_snr_low: float = Field(gt=0)
    """An arc below this integrated S/N in g is not seen."""
    faint_share: Share
    """Largest share of arcs that are not seen."""
    sources_over_counts: float = Field(gt=0)
    """Largest ratio of the median painted source's flux to that of the counts of galaxies in the
    magnitudes of `[manifest.physical]`."""
    copies: float = Field(ge=1)
    """Largest number of rows of one kind of negative on one galaxy."""
    clipped_share: Share
    """Largest share of the central 10 x 10 px of the lenses that a model's normalisation clips."""
    flux_closure: float = Field(gt=0, le=0.1)
    """Largest difference of stamps minus cutouts from the light that was to be added, as a
    share."""
    mean_difference: float = Field(gt=0, le=2)
    """Largest difference of the classes' mean seeing, depth or host magnitude, in standard
    deviations."""


class GatesConfig(StageConfig):
    """Checks of the training set before training: limits, the sample judged, and waivers."""

    manifest: ManifestConfig
    """`[manifest]`; not written here but handed over."""
    stamps: StampsConfig
    """`[stamps]`, by which rows are painted; not written here but handed over."""
    splits: SplitsConfig
    """`[splits]`, whose shares and guard are checked; not written here but handed over."""
    models: dict[str, SeenAs]
    """How each model sees pixels; not written here but handed over."""

    seed: int = Field(ge=0)
    """Seed of the sample, of the folds and of the intervals' draws."""
    stamps_per_kind: int = Field(ge=50, le=100_000)
    """Lenses, companions and controls that are painted and judged, of each at most: a galaxy's
    first copy before its second. With 2,000 two standard errors of an area are 0.018 where the
    classes share no galaxy; where they do, as in the demo, some 0.003 for `noise_only`."""
    stamps_per_other_kind: int = Field(ge=20, le=100_000)
    """The same of each other kind; they count in the gates against all negatives."""
    least_galaxies: int = Field(ge=20)
    """Galaxies that either class needs; with fewer a gate of pixels fails."""
    folds: int = Field(ge=2, le=20)
    """Parts of the sky that are held back in turns when a trivial model is fitted."""
    theta_e_over_fwhm_r_edges: tuple[float, ...] = Field(min_length=1)
    """Edges of the strata of theta_E over the r-band PSF's FWHM; the last has no upper end."""
    interval_draws: int = Field(300, ge=100, le=100_000)
    """Bootstrap draws per interval."""
    limits: GateLimits
    """`[gates.limits]`."""
    waive: dict[GateName, Reason] = Field(default_factory=dict)
    """`[gates.waive]`: NAME = "reason". A gate that fails and is named here does not stop the run;
    the reason, of 10 characters or more, is shown wherever the gates are."""

    @field_validator("waive", mode="before")
    @classmethod
    def _known(cls, waive: Any) -> Any:
        return of_known(waive, NAMES, "gate")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        edges = self.theta_e_over_fwhm_r_edges
        if any(b <= a for a, b in pairwise(edges)):
            raise ValueError(f"theta_e_over_fwhm_r_edges must rise; got {list(edges)}")
        return self

    @model_validator(mode="after")
    def _corners_are_sky(self) -> Self:
        if self.stamps.size_px < 60:
            raise ValueError(
                f"stamps.size_px {self.stamps.size_px} leaves no sky beyond 28 px: the gate "
                "sky_stats needs 60 or more"
            )
        return self
