"""`[manifest.shapes]`: what the look-alikes are made of.

Every kind has forms, its variants, and the share of each. A range is drawn from evenly. The light
of a look-alike is a lens's: nothing here says how bright or blue it is, but how it is laid out.
What a lens could make is refused: a thin, round, centred ring of an arc's colour is an Einstein
ring.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from darkhaloscope.core.settings.base import Model, Span

Share = Annotated[float, Field(ge=0, le=1)]
ROUNDEST_RING = 0.9  # axis ratio: a centred ring rounder than that is an Einstein ring
THINNEST_RING = 0.1  # Gaussian sigma over the radius
THINNEST_HALO = 1.5  # FWHM over the PSF's
LEAST_RADIAL_SHEAR = 0.2  # a piece of axis ratio 1.5
MOST_COMPANION_TURN_DEG = 120


def shares(variants: dict[str, float]) -> dict[str, float]:
    """Shares that add up to 1."""
    total = math.fsum(variants.values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"shares of the variants must add up to 1; they add up to {total:g}")
    return variants


def positive(span: Span) -> Span:
    """Lengths and sizes."""
    if span.low <= 0:
        raise ValueError(f"must be above 0; got {text(span)}")
    return span


def not_negative(span: Span) -> Span:
    """Distances and amounts that may be nothing."""
    if span.low < 0:
        raise ValueError(f"must not be negative; got {text(span)}")
    return span


def axis_ratio(span: Span) -> Span:
    """Minor over major axis."""
    if not 0.1 <= span.low <= span.high <= 1:
        raise ValueError(f"is minor over major axis, within 0.1 and 1; got {text(span)}")
    return span


def unit(span: Span) -> Span:
    """Shares and contrasts."""
    if not 0 <= span.low <= span.high <= 1:
        raise ValueError(f"is within 0 and 1; got {text(span)}")
    return span


def pitch(span: Span) -> Span:
    """Angles between an arm and a circle, degrees."""
    if not 0 < span.low <= span.high < 90:
        raise ValueError(f"is within 0 and 90; got {text(span)}")
    return span


def text(span: Span) -> str:
    """A range in words."""
    return f"{span.low:g} to {span.high:g}"


Positive = Annotated[Span, AfterValidator(positive)]
NotNegative = Annotated[Span, AfterValidator(not_negative)]
AxisRatio = Annotated[Span, AfterValidator(axis_ratio)]
Unit = Annotated[Span, AfterValidator(unit)]
Pitch = Annotated[Span, AfterValidator(pitch)]
Counts = Annotated[tuple[Annotated[int, Field(ge=0, le=4)], ...], Field(min_length=1)]
PieceShares = Annotated[dict[Literal["one", "two", "three"], Share], AfterValidator(shares)]


class RingShapes(Model):
    """Rings round a galaxy that are no Einstein rings."""

    variants: Annotated[
        dict[Literal["detached", "inner", "polar", "collisional"], Share], AfterValidator(shares)
    ]
    """Share of each: round the galaxy with a gap (Hoag); in its disc; across it, seen nearly
    edge-on; pushed off the centre and clumpy, as after a collision."""
    radius_arcsec: Positive
    """Elliptical radius sqrt(ab) of the crest."""
    width_over_radius: Positive
    """Gaussian sigma across the ring over its radius."""
    q: AxisRatio
    """Axis ratio of a detached and an inner ring: thin, round and centred would be a lens."""
    polar_q: AxisRatio
    """Axis ratio of a polar ring."""
    phi_scatter_deg: float = Field(ge=0, le=90)
    """Scatter of an inner ring about the host's major axis, and of a polar one about its minor
    axis, degrees. The others lie anyhow."""
    contrast: Unit
    """Depth of the modulation along the ring."""
    offset_over_radius: Unit
    """Distance of a collisional ring's centre from the host's."""
    clumps: Counts
    """Numbers of clumps on a collisional ring, each as probable."""
    clump_share: Unit
    """Of the ring's young light that is in clumps, where there are any."""
    young_share_r: Unit
    """Of the light in r that is young: the ring; the rest is an old disc."""

    @model_validator(mode="after")
    def _no_lens(self) -> Self:
        if self.q.high > ROUNDEST_RING or self.width_over_radius.low < THINNEST_RING:
            raise ValueError(
                f"q must not exceed {ROUNDEST_RING} nor width_over_radius fall below "
                f"{THINNEST_RING}: a thin, round, centred ring is an Einstein ring; got q "
                f"{text(self.q)}, width_over_radius {text(self.width_over_radius)}"
            )
        if self.polar_q.high > ROUNDEST_RING:
            raise ValueError(f"polar_q must not exceed {ROUNDEST_RING}; got {text(self.polar_q)}")
        if self.variants.get("collisional") and self.offset_over_radius.low < 0.15:
            raise ValueError(
                "offset_over_radius must be 0.15 or more: a centred collisional ring may be round; "
                f"got {text(self.offset_over_radius)}"
            )
        return self


class SpiralShapes(Model):
    """Logarithmic arms, with what they lie in."""

    variants: Annotated[dict[Literal["plain", "barred", "clumpy"], Share], AfterValidator(shares)]
    """Share of each: arms alone; arms that begin at a bar; arms with clumps of young stars."""
    radius_arcsec: Positive
    """Where the arms begin."""
    arms: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(min_length=1)
    """Numbers of arms, each as probable."""
    pitch_deg: Pitch
    """Angle between arm and circle; either sense of winding."""
    width_arcsec: Positive
    """Gaussian sigma of an arm."""
    r_eff_over_radius: Positive
    """Half-light radius of the disc whose light the arms follow, over where they begin."""
    q: AxisRatio
    """Axis ratio of the disc as it is seen: 1 is face-on."""
    phi_scatter_deg: float = Field(ge=0, le=90)
    """Scatter of the disc about the host's major axis, degrees."""
    bulge_share: Unit
    """Of the old light that is the bulge's; the rest is the disc's, and the bar's."""
    bulge_r_eff_arcsec: Positive
    """Half-light radius of the bulge."""
    bar_share: Unit
    """Of the old light that is a bar's, where there is one."""
    clumps: Counts
    """Numbers of clumps, each as probable."""
    clump_share: Unit
    """Of the young light that is in clumps, where there are any."""
    young_share_r: Unit
    """Of the light in r that is young: arms and clumps."""


class EdgeOnShapes(Model):
    """Discs seen on their edge."""

    variants: Annotated[
        dict[Literal["thin", "bulged", "dusty", "warped"], Share], AfterValidator(shares)
    ]
    """Share of each: a disc alone; with a bulge; with a bulge and a dust lane; bent."""
    half_length_arcsec: Positive
    """Half-light radius along the disc."""
    q: AxisRatio
    """Axis ratio of the disc."""
    phi_scatter_deg: float = Field(ge=0, le=90)
    """Scatter of the disc about the host's major axis, degrees."""
    bulge_r_eff_arcsec: Positive
    """Half-light radius of the bulge."""
    lane_depth: Unit
    """Share of the light that a dust lane takes at its middle."""
    lane_width: Positive
    """Gaussian sigma of the lane over the disc's half-light radius across."""
    warp: NotNegative
    """At the half-light radius along the disc: by how much of it the disc is bent aside."""
    young_share_r: Unit
    """Of the light in r that is young: the disc's; the old light is bulge and thick disc."""


class MergerShapes(Model):
    """A second nucleus, and what it has torn out."""

    variants: Annotated[dict[Literal["nucleus", "tails", "shells"], Share], AfterValidator(shares)]
    """Share of each: a second nucleus in a common envelope; with tidal tails; with shells."""
    separation_arcsec: Positive
    """Distance of the second nucleus."""
    nucleus_r_eff_arcsec: Positive
    """Half-light radius of the second nucleus."""
    nucleus_q: AxisRatio
    """Its axis ratio."""
    nucleus_share: Unit
    """Of the old light that is the nucleus's; the rest is the envelope's or the shells'."""
    radius_arcsec: Positive
    """Radius of the middle of a tail, and of the outermost shell."""
    width_over_radius: Positive
    """Gaussian sigma across a tail; how far a shell reaches inwards."""
    opening_rad: Positive
    """Gaussian sigma along a tail or a shell."""
    pitch_deg: Pitch
    """Angle between a tail and a circle; either sense."""
    young_share_r: Unit
    """Of the light in r that is young: the tails'. Shells are old."""


class AgnJetShapes(Model):
    """A point source with what it throws out along one axis."""

    variants: Annotated[dict[Literal["point", "knots", "lobes"], Share], AfterValidator(shares)]
    """Share of each: a point source with a jet; knots along one side; lobes on both."""
    point_share: Unit
    """Of the young light that is the point source's."""
    reach_arcsec: Positive
    """How far jet, knots or lobes reach."""
    knots: Counts
    """Numbers of knots, each as probable."""
    knot_r_eff_arcsec: Positive
    """Half-light radius of a knot."""
    lobe_r_eff_over_reach: Positive
    """Half-light radius of a lobe over its distance."""
    lobe_q: AxisRatio
    """Axis ratio of a lobe, which lies along the axis."""
    jet_width_arcsec: Positive
    """Gaussian sigma across the jet."""
    young_share_r: Unit
    """Of the light in r that is young: point source, jet and knots; the lobes are older."""


class ArtefactShapes(Model):
    """What the telescope, the detector or the coadd has made. Its light is no galaxy's."""

    variants: Annotated[
        dict[
            Literal["satellite", "cosmic_ray", "spikes", "bleed", "ghost", "misregistered", "edge"],
            Share,
        ],
        AfterValidator(shares),
    ]
    """Share of each: a satellite's trail; a cosmic ray; the spikes of a bright star; a bleeding
    column; the ring-like image of a bright star; a band that is shifted; the end of the data."""
    brighter_mag: NotNegative
    """By how much the light of a trail, of spikes, a bleeding column or a ghost is brighter than a
    lens's would be, magnitudes."""
    satellite_width_arcsec: Positive
    """Gaussian sigma of a satellite's trail."""
    satellite_distance_arcsec: NotNegative
    """How far from the host it passes."""
    cosmic_ray_half_length_arcsec: Positive
    """Half of a cosmic ray's length."""
    cosmic_ray_distance_arcsec: NotNegative
    """Distance of its middle from the host."""
    track_width_arcsec: Positive
    """Gaussian sigma of a cosmic ray and of a bleeding column: no PSF widens them."""
    spikes_distance_arcsec: Positive
    """Distance of the star whose spikes are seen."""
    spikes_phi_deg: Span
    """Angle of the first spike; three more at right angles."""
    bleed_distance_arcsec: NotNegative
    """How far from the host the bleeding column passes."""
    ghost_radius_arcsec: Positive
    """Radius of a ghost."""
    ghost_width_over_radius: Positive
    """Gaussian sigma of a ghost over its radius."""
    ghost_distance_over_radius: Positive
    """Distance of a ghost's centre from the host, over its radius: 0.3 or more."""
    shift_px: Positive
    """By how far a band is shifted, pixels."""
    edge_distance_arcsec: Positive
    """Distance of the end of the data from the host."""

    @model_validator(mode="after")
    def _off_centre(self) -> Self:
        if self.ghost_distance_over_radius.low < 0.3:
            raise ValueError(
                "ghost_distance_over_radius must be 0.3 or more: a ghost centred on the host would "
                f"be a ring round it; got {text(self.ghost_distance_over_radius)}"
            )
        return self


class CompanionShapes(Model):
    """The light of a lens in galaxies that nothing lenses."""

    variants: PieceShares
    """Share of one, two and three galaxies. Two, at the radii of a lens's two images, are what
    keeps trivial models from telling a lens by where its light lies."""
    turn_deg: Positive
    """Angle about the host between the first and the second galaxy: the two images of a lens are
    168 apart (median), and nearer than 120 in 0.2 % of the lenses."""

    @model_validator(mode="after")
    def _no_lens(self) -> Self:
        if self.turn_deg.high > MOST_COMPANION_TURN_DEG:
            raise ValueError(
                f"turn_deg must not go beyond {MOST_COMPANION_TURN_DEG}: nearly opposite galaxies "
                f"of one colour are the two images of a lens; got {text(self.turn_deg)}"
            )
        return self


class RadialArcShapes(Model):
    """The light of a lens in pieces that are stretched towards the host."""

    variants: PieceShares
    """Share of one, two and three pieces."""
    shear: Unit
    """Pure shear g of a piece: its axis ratio is (1 - g) / (1 + g)."""
    turn_deg: Positive
    """Angle about the host between one piece and the next."""

    @model_validator(mode="after")
    def _stretched(self) -> Self:
        _stretched(self.shear)
        return self


class ScrambledShapes(Model):
    """The light of a lens in pieces that are stretched, but not round the host."""

    variants: Annotated[dict[Literal["two", "three"], Share], AfterValidator(shares)]
    """Share of two and three pieces: one is no test of a lens."""
    shear: Unit
    """Pure shear g of a piece: its axis ratio is (1 - g) / (1 + g)."""
    turned_deg: Annotated[Span, Field()]
    """Angle between a piece's long axis and the tangent, 45 to 90, either sense."""
    inner_over_outer: Unit
    """Radius of a piece over that of the piece outside it: below 0.9, they are unequal."""
    turn_deg: Positive
    """Angle about the host between one piece and the next."""
    least_misfit_arcsec: float = Field(gt=0, le=2)
    """No isothermal lens along the host's axis may have images this near the pieces, rms."""

    @model_validator(mode="after")
    def _scrambled(self) -> Self:
        _stretched(self.shear)
        if not 45 <= self.turned_deg.low <= self.turned_deg.high <= 90:
            raise ValueError(f"turned_deg is within 45 and 90; got {text(self.turned_deg)}")
        if not 0 < self.inner_over_outer.low <= self.inner_over_outer.high <= 0.9:
            raise ValueError(
                f"inner_over_outer is above 0 and at most 0.9; got {text(self.inner_over_outer)}"
            )
        return self


class HaloRingShapes(Model):
    """Round, centred rings that differ from an Einstein ring in colour or width alone."""

    variants: Annotated[dict[Literal["host_coloured", "wide"], Share], AfterValidator(shares)]
    """Share of rings with the host's colours, and of rings with an arc's that are too wide."""
    radius_arcsec: Positive
    """Elliptical radius."""
    fwhm_over_psf: Span
    """Width of a wide ring, FWHM over the PSF's in r: 1.5 or more, or it is a lens. Those with the
    host's colours are half as wide."""
    q: AxisRatio
    """Axis ratio."""

    @model_validator(mode="after")
    def _no_lens(self) -> Self:
        if self.fwhm_over_psf.low < THINNEST_HALO:
            raise ValueError(
                f"fwhm_over_psf must be at least {THINNEST_HALO}: a thin arc-coloured centred ring "
                f"is an Einstein ring; got {text(self.fwhm_over_psf)}"
            )
        return self


class Shapes(Model):
    """What is painted that is no arc; the light is drawn like a lens's."""

    single_image_reach: float = Field(gt=1, le=5)
    """Sources of `single_image` lie outside the caustic and within this many times its reach."""
    light_z_minus_w1: float = Field(ge=-1, le=3)
    """z - W1 of painted light, AB: no source colours are tabulated in W1, and the target cuts ask
    for it. The light of a contaminant is held to what keeps its host a target."""
    ring: RingShapes
    spiral: SpiralShapes
    edge_on: EdgeOnShapes
    merger: MergerShapes
    agn_jet: AgnJetShapes
    artefact: ArtefactShapes
    companion: CompanionShapes
    radial_arc: RadialArcShapes
    scrambled: ScrambledShapes
    halo_ring: HaloRingShapes


def _stretched(shear: Span) -> None:
    if not LEAST_RADIAL_SHEAR <= shear.low <= shear.high <= 0.9:
        raise ValueError(
            f"shear is within {LEAST_RADIAL_SHEAR} and 0.9: less is no stretch to be seen; got "
            f"{text(shear)}"
        )
