"""`[report]`: what is evaluated, in which strata, and under which name it may be quoted."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import StageConfig
from darkhaloscope.core.settings.ensemble import EnsembleConfig
from darkhaloscope.core.settings.mined import MinedConfig

Edges = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


class ReportConfig(StageConfig):
    """One evaluation of one model's scores: metrics, intervals, galleries."""

    mined: MinedConfig | None = None
    """`[mined]`, by which rounds are compared; not written here but handed over."""

    ensemble: EnsembleConfig | None = None
    """The `[ensemble.NAME]` that is reported, if any; not written here but handed over."""

    model: str = Field(min_length=1)
    """Name of the model or ensemble reported, as in `[model.NAME]` or `[ensemble.NAME]`."""
    seed: int = Field(ge=0)
    """Seed of the named draws that intervals are made with."""
    sky: Literal["simulated", "real"]
    """What the hosts and the negatives are; stands beside every headline figure."""
    lens_weight: Literal["equal", "weight_population"]
    """`equal`: every lens galaxy counts once; `weight_population`: it stands for its population."""
    theta_e_edges_arcsec: Edges
    """Edges of the bins of theta_E, arcsec; the last bin has no upper end."""
    theta_e_over_fwhm_r_edges: Edges
    """Edges of the bins of theta_E over the r-band PSF's FWHM; the last bin has no upper end."""
    theta_e_over_psfsize_r_edges: Edges
    """Edges of the bins of theta_E over psfsize_r, which is no FWHM: the first run's table."""
    arc_snr_edges: Edges
    """Edges of the bins of the arc's integrated S/N in `arc_snr_band`."""
    psf_fwhm_r_edges_arcsec: Edges
    """Edges of the bins of the target's seeing, r-band FWHM; both classes are restricted."""
    depth_r_edges_mag: Edges
    """Edges of the bins of the target's 5-sigma depth in r; both classes are restricted."""
    host_mag_z_edges: Edges
    """Edges of the bins of the target's z magnitude; both classes are restricted."""
    seconds_per_stamp: float = Field(gt=0, le=600)
    """Time that a person takes to judge a stamp: makes hours of review of false positives."""
    arc_snr_band: str
    """Band whose arc S/N defines strata, one of the run's bands; the headline is defined in g."""
    headline_theta_e_over_fwhm_r_min: float = Field(ge=0)
    """Headline stratum: theta_E over FWHM_r at least this (1.2: what experts recover)."""
    headline_arc_snr_min: float = Field(ge=0)
    """Headline stratum: arc S/N at least this (25: what experts recover)."""
    prevalences: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    """Lenses per target for which purity is stated."""
    planted_lenses: tuple[str, ...] = ()
    """Lists of the lenses that whoever made the sky put there, such as `truth/lenses.parquet` of a
    simulated one: counted among what was mined, and read by nothing else."""
    interval_draws: int = Field(500, ge=200, le=100_000)
    """Draws per interval; more of them change its ends by less than 1 % of its width."""
    gallery_stamps: int = Field(12, ge=0, le=100)
    """Pictures in each gallery."""
    top_candidates: int = Field(40, ge=0, le=1000)
    """Rows of the candidate table that the page shows."""

    @property
    def lists(self) -> tuple[str, ...]:
        """Addresses of every list of positions."""
        return self.planted_lenses

    @model_validator(mode="after")
    def _strata_can_be_made(self) -> Self:
        for name in (
            "theta_e_edges_arcsec",
            "theta_e_over_fwhm_r_edges",
            "theta_e_over_psfsize_r_edges",
            "arc_snr_edges",
            "psf_fwhm_r_edges_arcsec",
            "depth_r_edges_mag",
            "host_mag_z_edges",
        ):
            edges = getattr(self, name)
            if any(b <= a for a, b in pairwise(edges)):
                raise ValueError(f"{name} must rise: a bin needs a width; got {list(edges)}")
        if self.arc_snr_band not in self.bands:
            raise ValueError(
                f"arc_snr_band {self.arc_snr_band} is not among the run's bands "
                f"{', '.join(self.bands)}: no arc S/N is measured there"
            )
        if "r" not in self.bands:
            raise ValueError("strata of theta_E over FWHM_r need the band r among the run's bands")
        return self
