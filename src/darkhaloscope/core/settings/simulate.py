"""`[simulate]`: the sky that `dhs simulate` draws, and how it is observed.

Everything is drawn from `seed` and the ids of bricks and galaxies; the numbers here are rates,
ranges and medians. `docs/simulated-sky.md` says where each comes from and what it flatters.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import Model, Span

PIXEL_SCALE_ARCSEC = 0.262  # the Legacy Surveys' coadds
OVERLAP_ARCSEC = 21.6  # by which a brick's image reaches beyond the brick, on each side
NAME_STEP_DEG = 0.1  # brick names are cut to a tenth of a degree

Filter = Literal["g", "r", "i", "z"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Rates(Model):
    """How common the kinds of target are on the sky; what is left is early type."""

    disc: Share
    """Discs with a bulge and no visible structure, share of targets."""
    spiral: Share
    """Discs whose arms show, share of targets."""
    edge_on: Share
    """Discs seen from the side (axis ratio below 0.22), share of targets."""
    ring: Share
    """Red galaxies with a blue ring around them, share of targets."""
    merger: Share
    """Two early types within 1-3 arcsec at one redshift, with debris, share of targets."""
    twist: Share
    """Isophotes that turn with radius (two components), share of early types."""
    shells: Share
    """Shells or tidal arcs of the galaxy's own colour, share of early types."""
    intracluster: Share
    """Light of a group or cluster around the brightest (M_r < -22.6), share of these."""

    @model_validator(mode="after")
    def _leaves_early_types(self) -> Self:
        total = self.disc + self.spiral + self.edge_on + self.ring + self.merger
        if total > 0.9:
            raise ValueError(
                f"disc, spiral, edge_on, ring and merger are {total:.2f} of the targets together;"
                " at least 0.1 must be left for early types, the only hosts of lenses"
            )
        return self


class Floors(Model):
    """Least numbers in the whole sky, so that a small one holds some; 0: natural rates alone.

    What is added to reach them is marked `floor` in the truth and has no natural rate.
    """

    lens: Count
    """Lenses with theta_E and source as bright as the two limits below, drawn from the prior."""
    lens_min_theta_e_arcsec: float = Field(ge=0, le=3)
    """Least Einstein radius of a lens that counts towards the floor."""
    lens_max_src_mag_r: float = Field(ge=20, le=26)
    """Faintest unlensed source of a lens that counts towards the floor."""
    spiral: Count
    edge_on: Count
    ring: Count
    merger: Count


class SimulateConfig(Model):
    """A simulated sky in the Legacy Surveys' layout: where, how much of it, and how it is seen."""

    seed: int = Field(ge=0)
    """Every draw comes from it; another seed is another sky."""
    bands: tuple[Filter, ...] = Field(min_length=1)
    """Filters that are observed."""

    n_fields: int = Field(ge=1, le=2000)
    """Separate patches of sky."""
    field_spacing_deg: float = Field(gt=0, le=30)
    """From one patch to the next; at least one degree of nothing must lie between them."""
    first_field_deg: tuple[float, float]
    """Right ascension and declination of the first patch's corner."""
    bricks_per_field: tuple[int, int]
    """Bricks of a patch along right ascension and declination."""
    brick_size_px: int = Field(ge=256, le=3600)
    """Width of a brick's image; 3600 in the survey. Images overlap by 21.6 arcsec on each side;
    bricks narrower than 0.1 degree stand apart, as their names would be equal."""

    lrg_per_deg2: float = Field(gt=0, le=30_000)
    """Targets (variant v3) per square degree; about 1,500-2,500 on the sky."""
    satellites_per_target: float = Field(ge=0, le=20)
    """Mean number of red satellites within 15 arcsec of a target with M_r = -22, to z 23."""
    galaxies_per_deg2: float = Field(ge=0, le=100_000)
    """Field galaxies brighter than r 22.5 per square degree: 15,500 gives 3 % of all targets one
    at 1-3 arcsec."""
    galaxy_mag_r: Span
    """Field galaxies drawn, r magnitude; the counts rise as 10^(0.35 m)."""
    stars_per_deg2: float = Field(ge=0, le=100_000)
    """Stars per square degree within `star_mag_r`."""
    star_mag_r: Span
    """Stars drawn, r magnitude."""

    rates: Rates
    floors: Floors
    src_per_arcsec2: float = Field(ge=0, le=0.1)
    """Sources per square arcsec within `src_mag_r`: with the area inside the caustic it gives the
    natural rate of lenses."""
    src_mag_r: Span
    """Unlensed magnitude of the sources behind lenses."""
    src_z_median: float = Field(gt=0, le=3)
    """Median redshift of these sources."""

    psfsize_r_arcsec: float = Field(gt=0.5, le=3)
    """Median over bricks of psfsize_r, the survey's noise-equivalent width (not a FWHM)."""
    psfsize_scatter: float = Field(ge=0, le=0.5)
    """Scatter of ln psfsize from brick to brick, common to the bands."""
    psfsize_over_r: dict[Filter, float]
    """Median psfsize of each band over that of r."""
    psf_beta: Span
    """Moffat exponent of the coadd's PSF, drawn per brick and band."""
    depth_mag: dict[Filter, Span]
    """5-sigma depth of a point source, drawn per brick and band."""
    n_exposures: tuple[int, int]
    """Fewest and most exposures of a brick in a band."""
    electrons_per_nmgy: float = Field(gt=0)
    """Electrons per nanomaggy in one exposure: sets the photon noise of galaxies and stars."""
    ebv_median: float = Field(ge=0, le=1)
    """Median reddening E(B-V) of a patch, mag."""
    oversubtraction: float = Field(ge=0, le=0.2)
    """Share of a bright galaxy's light that the sky model takes away around it."""
    bad_strips_per_deg2: float = Field(ge=0, le=20_000)
    """Strips without data (trails, columns) per square degree and band."""
    bricks_without_band: int = Field(ge=0)
    """Bricks in which one band was never observed: its files are not written."""
    band_without: Filter
    """The band that these bricks lack."""

    @property
    def own_width_deg(self) -> float:
        """Width of the sky that a brick owns: its image less the overlap."""
        return (self.brick_size_px * PIXEL_SCALE_ARCSEC - 2 * OVERLAP_ARCSEC) / 3600

    @property
    def brick_step_deg(self) -> float:
        """From one brick of a patch to the next."""
        return max(self.own_width_deg, NAME_STEP_DEG)

    @model_validator(mode="after")
    def _patches_lie_apart(self) -> Self:
        nx, ny = self.bricks_per_field
        if min(nx, ny) < 1:
            raise ValueError(f"bricks_per_field must be at least 1 each way; got {nx} x {ny}")
        extent = max(nx, ny) * self.brick_step_deg
        if self.field_spacing_deg < extent + 1:
            raise ValueError(
                f"a patch is {extent:.2f} degrees wide: field_spacing_deg must be at least"
                f" {extent + 1:.2f} to leave a degree between them; got {self.field_spacing_deg:g}"
            )
        across = fields_across(self.n_fields)
        rows = math.ceil(self.n_fields / across)
        ra, dec = self.first_field_deg
        top = dec + rows * self.field_spacing_deg
        east = ra + across * self.field_spacing_deg / math.cos(
            math.radians(max(abs(dec), abs(top)))
        )
        if dec < -60 or top > 60 or ra < 0 or east > 360:
            raise ValueError(
                f"patches would reach from RA {ra:g}, Dec {dec:g} to RA {east:.0f}, Dec {top:.0f};"
                " they must stay within RA 0 to 360 and Dec -60 to 60:"
                " lower n_fields or field_spacing_deg, or move first_field_deg"
            )
        if self.bricks_without_band > self.n_fields * nx * ny:
            raise ValueError(
                f"bricks_without_band is {self.bricks_without_band}, more than there are bricks"
            )
        return self

    @model_validator(mode="after")
    def _observable(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands name a filter twice: {list(self.bands)}")
        for name, values in (
            ("psfsize_over_r", self.psfsize_over_r),
            ("depth_mag", self.depth_mag),
        ):
            missing = [band for band in self.bands if band not in values]
            if missing:
                raise ValueError(f"{name} has no value for band {', '.join(missing)}")
        if self.bricks_without_band and self.band_without not in self.bands:
            raise ValueError(f"band_without is {self.band_without}, which is not among the bands")
        if self.psf_beta.low <= 1.5:
            raise ValueError(f"a Moffat of exponent {self.psf_beta.low:g} is too wide; above 1.5")
        if not 1 <= self.n_exposures[0] <= self.n_exposures[1] <= 99:
            raise ValueError(f"n_exposures must rise within 1..99; got {list(self.n_exposures)}")
        return self


def fields_across(n_fields: int) -> int:
    """Patches in a row of constant declination: about twice as many as there are rows."""
    return math.ceil(math.sqrt(2 * n_fields))
