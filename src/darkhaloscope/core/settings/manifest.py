"""Settings of `manifest`: what is injected into which target, and what a negative stands for."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import Model, Span, StageConfig
from darkhaloscope.core.settings.look_alikes import LookAlikesConfig, VotesTable
from darkhaloscope.core.settings.shapes import Shapes
from darkhaloscope.core.settings.sources import PictureBank, SourceKind, check_kinds
from darkhaloscope.core.settings.targets import Variant

NegativeKind = Literal[
    "single_image", "control", "ring", "spiral", "edge_on", "merger", "agn_jet", "artefact",
    "companion", "radial_arc", "scrambled", "halo_ring",
]  # fmt: skip
Kind = Literal["lens"] | NegativeKind
SetName = Literal["train", "val", "calib", "test"]
Share = Annotated[float, Field(ge=0, le=1)]
Copies = Annotated[int, Field(ge=1, le=1000)]

OFF_THE_SKY = ("radial_arc", "scrambled", "halo_ring")  # no survey holds them: their weight is 0


class BroadPrior(Model):
    """Flat, wide ranges: they teach, and favour no lens over another."""

    prior: Literal["broad"]
    """Flat ranges, stated below."""
    theta_e_arcsec: Span
    """Einstein radius, arcsec, flat; its lower end rises with the seeing."""
    lens_q: Span
    """Axis ratio of the mass, flat."""
    shear: Span
    """External shear, flat."""
    src_mag_r: Span
    """Unlensed source in r, dust-free AB magnitude, flat; `arc_snr_g` then scales it."""
    src_r_eff_arcsec: Span
    """Half-light radius of the source, arcsec, flat in its logarithm."""
    src_q: Span
    """Axis ratio of the source, flat."""
    arc_snr_g: Span
    """Matched-filter S/N in g that the injected light of every kind is scaled to, flat in log."""

    @model_validator(mode="after")
    def _physical(self) -> Self:
        _positive("theta_e_arcsec", self.theta_e_arcsec)
        _positive("src_r_eff_arcsec", self.src_r_eff_arcsec)
        _positive("arc_snr_g", self.arc_snr_g)
        _axis_ratio("lens_q", self.lens_q)
        _axis_ratio("src_q", self.src_q)
        _shear(self.shear)
        return self


class GridPrior(Model):
    """A grid of values, each cell as probable as any other; no scaling to a S/N."""

    prior: Literal["grid_small", "grid_sota"]
    """grid_small: theta_E 0.3 0.6 1.0", source fainter than the host by 1 or 2 mag, r_eff 0.08 or
    0.15", ellipticity 0 or 0.3, shear 0 or 0.03. grid_sota: theta_E 0.5 0.75 1 1.25 1.5 2 2.5",
    0.5 1 1.5 2 mag, r_eff 0.06 0.10 0.15 0.20", ellipticity 0 0.2 0.4, shear 0 0.02 0.04."""
    lens_q: Span
    """Axis ratio of the mass, flat: the grids do not state it."""

    @model_validator(mode="after")
    def _physical(self) -> Self:
        _axis_ratio("lens_q", self.lens_q)
        return self


class PhysicalPrior(Model):
    """The population that judges: dispersion and redshift from the host, sources from counts."""

    src_mag_r: Span
    """Unlensed source in r, dust-free AB magnitude: drawn flat, weighted by the counts."""
    max_theta_e_arcsec: float = Field(gt=0, le=10)
    """Largest Einstein radius, arcsec: 4 leaves clusters out."""
    host_z_scatter: float = Field(ge=0, le=0.5)
    """Error of the hosts' redshift from their colour, over 1 + z."""
    dispersion_scatter_dex: float = Field(gt=0, le=0.5)
    """Scatter of velocity dispersion at given luminosity, dex."""
    group_share: Share
    """Share of the hosts at the centre of a group of galaxies whose halo adds to the lens."""
    group_offset_dex: float = Field(ge=0, le=0.5)
    """Mean log10 of the dispersion of galaxy and group as one isothermal lens over that of such a
    galaxy alone. theta_E grows by twice as much."""
    group_scatter_dex: float = Field(gt=0, le=0.5)
    """Scatter of the same, dex, that of the galaxies included."""
    mass_phi_scatter_deg: float = Field(ge=0, le=90)
    """Scatter of the mass's position angle about the light's, degrees."""
    shear_scale: float = Field(ge=0, le=0.3)
    """External shear is Rayleigh with this scale: its mean is 1.25 times that."""
    src_r_eff_scatter_dex: float = Field(ge=0, le=1)
    """Scatter of source size at given luminosity and redshift, dex."""
    src_q: Span
    """Axis ratio of the source, flat."""
    flat_theta_e_share: Share
    """Share of the lenses drawn flat in source redshift and log theta_E, up to 4 sigma of the
    dispersion, so that every bin of theta_E is filled; `weight_population` undoes it."""
    keep_weight: float = Field(ge=0)
    """A drawn lens that stands for at least this many on the sky is kept, one of weight w with
    the probability w over this, and then stands for this many. 0 keeps all, however improbable."""

    @model_validator(mode="after")
    def _physical(self) -> Self:
        _axis_ratio("src_q", self.src_q)
        return self


class Sources(Model):
    """What the sources of every kind of injected light share."""

    src_n: Span
    """Sersic index, flat."""
    red_share: Share
    """Share of early-type or dusty sources."""
    colour_scatter_mag: float = Field(ge=0, le=1)
    """Scatter of each colour about its template, mag."""
    kinds: dict[SourceKind, Share] = Field(min_length=1)
    """Share of the sources that are a `sersic` profile, a generated `clumpy` galaxy, or a real one
    of a `catalogue`; the same for every kind of stamp. They add up to 1."""
    bank: PictureBank | None = None
    """`[manifest.sources.bank]`: needed by `clumpy` and `catalogue`."""

    @model_validator(mode="after")
    def _drawn_from(self) -> Self:
        check_kinds(self.kinds, self.bank)
        return self

    @model_validator(mode="after")
    def _physical(self) -> Self:
        if not 0.3 <= self.src_n.low <= self.src_n.high <= 6:
            raise ValueError(f"src_n is a Sersic index within 0.3 and 6; got {_text(self.src_n)}")
        return self


class SetPlan(Model):
    """What one of train, val, calib and test is made of."""

    population: Literal["training", "physical"]
    """Which prior its injections follow: the training prior teaches, the physical one judges."""
    controls: Literal["paired", "unpaired", "host_matched"]
    """paired: every galaxy plays every kind. unpaired: each galaxy plays one kind, drawn by
    `shares`. host_matched: as unpaired, and of the controls only the galaxies closest to a lens's
    host in z magnitude, r-z and seeing are kept, one for each host of the tile."""
    copies: dict[Kind, Copies] = Field(min_length=1)
    """Stamps of each kind on a galaxy that plays it; kinds not named are not made."""
    shares: dict[Kind, Share] = Field(default_factory=dict)
    """Share of the galaxies that plays each kind; only where not paired. They add up to 1."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.controls == "paired":
            if self.shares:
                raise ValueError(
                    "paired: every galaxy plays every kind, so shares must be left out"
                )
            return self
        if set(self.shares) != set(self.copies):
            raise ValueError(
                f"{self.controls}: shares and copies must name the same kinds; got "
                f"{sorted(self.shares)} and {sorted(self.copies)}"
            )
        if not math.isclose(sum(self.shares.values()), 1, abs_tol=1e-6):
            raise ValueError(
                f"shares must add up to 1; they add up to {sum(self.shares.values()):g}"
            )
        repeated = sorted(k for k, n in self.copies.items() if k != "lens" and n > 1)
        if repeated:
            raise ValueError(
                f"a negative galaxy counts once: copies of {', '.join(repeated)} must be 1"
            )
        return self


class ManifestConfig(StageConfig):
    """What is injected into which target."""

    target_variant: Variant
    """`[targets] variant`, whose cuts a contaminant has to pass; not written here but handed
    over."""
    seed: int
    """Seed of every draw of the injections."""
    min_theta_e_over_fwhm: float = Field(ge=0, le=5)
    """Least Einstein radius over the r-band PSF's FWHM; a target that can hold none is dropped."""
    training: Annotated[BroadPrior | GridPrior, Field(discriminator="prior")]
    """The prior that teaches."""
    physical: PhysicalPrior
    """The prior that judges."""
    sources: Sources
    """What the sources of both share."""
    shapes: Shapes
    """`[manifest.shapes]`: look-alikes, and what each is made of."""
    sets: dict[SetName, SetPlan] = Field(min_length=1)
    """`[manifest.sets.train]`, `val`, `calib`, `test`: what each is made of."""
    sky_shares: dict[NegativeKind, Share]
    """Share of the targets that looks like each kind of negative: the weights to the sky."""
    look_alikes: LookAlikesConfig | None = None
    """`[manifest.look_alikes]`: real galaxies that are negatives of a kind, by votes or by the
    catalogue. Left out: none is."""

    @property
    def lists(self) -> tuple[str, ...]:
        """Addresses of the lists that `look_alikes` names."""
        return () if self.look_alikes is None else self.look_alikes.lists

    @property
    def votes(self) -> Mapping[str, VotesTable]:
        """Those that are tables of votes, by address."""
        return {} if self.look_alikes is None else self.look_alikes.votes

    @model_validator(mode="after")
    def _weighted(self) -> Self:
        made = {kind for plan in self.sets.values() for kind in plan.copies if kind != "lens"}
        missing = sorted(made - set(self.sky_shares) - set(OFF_THE_SKY))
        if missing:
            raise ValueError(
                f"sky_shares must say how common {', '.join(missing)} are on the sky, for a set "
                f"makes them: add `{missing[0]} = 0.01`, or what their share is, to "
                "[manifest.sky_shares]"
            )
        if math.fsum(self.sky_shares.values()) > 1 + 1e-6:
            raise ValueError(
                f"sky_shares add up to {math.fsum(self.sky_shares.values()):g}, over 1"
            )
        on_sky = [k for k in OFF_THE_SKY if self.sky_shares.get(k)]  # type: ignore[call-overload]
        if on_sky:
            raise ValueError(
                f"{', '.join(on_sky)}: a counterfactual that no survey holds; leave it out"
            )
        if self.training.prior == "broad":
            scaled = [
                n for n, p in self.sets.items() if n != "train" and p.population != "physical"
            ]
            if scaled:
                raise ValueError(
                    f"the broad prior scales sources to an arc S/N, which only train may: "
                    f"population of {', '.join(scaled)} must be physical"
                )
        if "r" not in self.bands or "z" not in self.bands or "g" not in self.bands:
            raise ValueError(f"injections need the bands g, r and z; got {list(self.bands)}")
        return self


def _text(span: Span) -> str:
    return f"{span.low:g} to {span.high:g}"


def _positive(name: str, span: Span) -> None:
    if span.low <= 0:
        raise ValueError(f"{name} must be above 0; got {_text(span)}")


def _axis_ratio(name: str, span: Span) -> None:
    if not 0.1 <= span.low <= span.high <= 1:
        raise ValueError(f"{name} is minor over major axis, within 0.1 and 1; got {_text(span)}")


def _shear(span: Span) -> None:
    if not 0 <= span.low <= span.high <= 0.5:
        raise ValueError(f"shear is within 0 and 0.5; got {_text(span)}")
