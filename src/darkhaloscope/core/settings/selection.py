"""`[selection]`: the selection function, its threshold, its cells, and what a cell has to hold."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.schemas import ARC_APERTURES_ARCSEC
from darkhaloscope.core.settings.base import StageConfig
from darkhaloscope.core.settings.targets import TargetsConfig

Edges = Annotated[tuple[float, ...], Field(min_length=2)]


class SelectionConfig(StageConfig):
    """Completeness in cells of theta_E, source magnitude, seeing and depth, and a smooth fit."""

    targets: TargetsConfig
    """`[targets]`, whose cuts are applied again; not written here but handed over."""
    sky: Literal["simulated", "real"]
    """`sky` of `[report]`; not written here but handed over."""

    model: str = Field(min_length=1)
    """Name of the model whose lenses are counted, as in `[model.NAME]`."""
    seed: int = Field(ge=0)
    """Seed of the draw that holds hosts out of the fit."""
    at_fpr: float = Field(gt=0, lt=1)
    """The threshold is the lowest whose false-positive rate on the sky is at most this on the set
    `calib`."""
    aperture_arcsec: float
    """Arc light within this radius of the host's centroid is added to the catalogue's fluxes before
    the target cuts are applied again: 1.0, 1.5, 2.0 or 3.5, apertures that `stamps` measures."""
    theta_e_edges_arcsec: Edges
    """Edges of the cells of theta_E, arcsec; a cell holds its lower edge."""
    src_mag_edges: Edges
    """Edges of the cells of the unlensed source's r magnitude."""
    psf_fwhm_edges_arcsec: Edges
    """Edges of the cells of the r-band PSF's FWHM, arcsec."""
    depth_edges_mag: Edges
    """Edges of the cells of the 5-sigma point-source depth in r, mag."""
    least_injections: int = Field(ge=1)
    """Injections that a cell needs to stand by itself; with fewer it is written and flagged."""
    least_hosts: int = Field(ge=1)
    """Host galaxies that it needs."""
    least_sources: int = Field(ge=1)
    """Sources that it needs."""
    held_out_share: float = Field(ge=0.1, le=0.9)
    """Share of the hosts that the fit does not see and is checked on."""
    slope_tolerance: float = Field(gt=0, lt=1)
    """The calibration slope of the held-out injections may differ from 1 by this much."""

    @property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """Edges by axis, named as in `evaluate.selection_cells.AXES`."""
        return {
            "theta_e": self.theta_e_edges_arcsec,
            "src_mag": self.src_mag_edges,
            "psf_fwhm": self.psf_fwhm_edges_arcsec,
            "depth": self.depth_edges_mag,
        }

    @model_validator(mode="after")
    def _cells_can_be_made(self) -> Self:
        for name, edges in self.edges.items():
            if any(b <= a for a, b in pairwise(edges)):
                raise ValueError(f"edges of {name} must rise: a cell needs a width; got {edges}")
        for name in ("theta_e", "psf_fwhm"):
            if self.edges[name][0] <= 0:
                raise ValueError(f"edges of {name} are widths on the sky, > 0: the fit takes logs")
        if self.aperture_arcsec not in ARC_APERTURES_ARCSEC.values():
            measured = ", ".join(str(radius) for radius in ARC_APERTURES_ARCSEC.values())
            raise ValueError(
                f"aperture_arcsec {self.aperture_arcsec:g} is not measured; stamps has {measured}"
            )
        if lacking := [band for band in ("r", "z") if band not in self.bands]:
            raise ValueError(f"the target cuts need the band {' and '.join(lacking)} in the run")
        return self
