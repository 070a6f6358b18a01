"""Light of look-alikes: a lens's in every number but where it lies, and held to the target cuts.

A contaminant has the magnitudes and colours of a source as a lens magnifies it. A part of it is of
an older kind, redder by what separates the two at the host's redshift, so that the arms of a spiral
are bluer than its disc; together they have the source's colours. With that light the host has to
remain a target, as a network is never shown a galaxy that the cuts take out: `light_scale_max` is
the most that the light may be scaled by, and in sets that judge it is dimmed to that at once.

Counterfactuals copy a lens's flux and have no such limit, and artefacts are no galaxy's light.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from darkhaloscope.core.units import mag_from_nmgy, nmgy_from_mag
from darkhaloscope.lensing import (
    morphology,
    morphology_artefacts,
    morphology_discs,
    morphology_mixed,
    pieces,
    priors,
)
from darkhaloscope.lensing.morphology import Drawn, Draws, Places
from darkhaloscope.lensing.priors import Columns, Hosts, Ids, Values
from darkhaloscope.survey.lrg import VARIANTS

CONTAMINANTS = ("ring", "spiral", "edge_on", "merger", "agn_jet", "artefact")
COPIES = ("companion", "radial_arc", "scrambled")  # of a lens, drawn with its id
PAINTED = (*CONTAMINANTS, "halo_ring")
WITHIN_THE_CUTS = 0.999  # of the limit: light is kept as float32
_FAINTEST = 1e-6  # what is left of light on a host that is on the edge of the cuts itself
_GALAXIES = {
    "ring": morphology_discs.ring,
    "spiral": morphology_discs.spiral,
    "edge_on": morphology_discs.edge_on,
    "merger": morphology_mixed.merger,
    "agn_jet": morphology_mixed.agn_jet,
    "halo_ring": morphology_mixed.halo_ring,
}


class Settings(Protocol):
    """What is asked of `core.settings.manifest.ManifestConfig`."""

    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def target_variant(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def shapes(self) -> Any: ...  # noqa: D102


def painted(
    ids: Ids,
    hosts: pa.Table,
    seen: Hosts,
    kind: str,
    source: Columns,
    *,
    config: Settings,
    is_held: bool,
) -> tuple[Columns, dict[str, Any]]:
    """A look-alike of one of `PAINTED`: the light of a source, magnified as arcs are.

    Args:
        ids: Row ids, (n,).
        hosts: The galaxies, one a row.
        seen: What is drawn from of them.
        kind: The kind.
        source: Columns of the sources whose light it is.
        config: Settings of the manifest.
        is_held: Whether light that would take its host out of the targets is dimmed.

    Returns:
        Columns of numbers, and of other values.
    """
    asked = getattr(config.shapes, kind)
    draw = Draws(ids, kind, seed=config.seed)
    brighter = 2.5 * np.log10(priors.shape_magnification(ids, seed=config.seed))
    mags = {b: source[f"src_mag_{b}"] - brighter for b in config.bands}
    columns: Columns = {k: source[k] for k in ("src_z", "arc_snr_target") if k in source}
    if kind == "artefact":
        flux = np.stack([nmgy_from_mag(mags[b]) for b in config.bands], 1)
        drawn = morphology_artefacts.artefact(draw, flux, asked)
        mags = {b: m - drawn.brighter_mag for b, m in mags.items()}
        mags = {b: np.where(drawn.lit[:, i], m, np.nan) for i, (b, m) in enumerate(mags.items())}
        if "arc_snr_target" in columns:
            is_lit = drawn.lit.any(1)
            columns["arc_snr_target"] = np.where(is_lit, columns["arc_snr_target"], np.nan)
    else:
        drawn = _GALAXIES[kind](draw, _places(hosts, seen), asked)
    if kind == "halo_ring":
        mags = _host_coloured(mags, hosts, drawn, config.bands)
    elif kind != "artefact":
        limit = light_scale_max(hosts, mags, config)
        if is_held:
            dimmed = np.clip(WITHIN_THE_CUTS * limit, _FAINTEST, 1.0)
            mags = {band: mag - 2.5 * np.log10(dimmed) for band, mag in mags.items()}
            limit = limit / dimmed
        columns["light_scale_max"] = np.where(np.isfinite(limit), limit, np.nan)
    columns |= {f"src_mag_{band}": mag for band, mag in mags.items()}
    young = np.where(morphology.holds_light(drawn.parts, morphology.OLD), drawn.young_share_r, 1.0)
    young = np.where(morphology.holds_light(drawn.parts, morphology.YOUNG), young, 0.0)
    columns |= morphology.layer_shares(young, seen.mag_r - seen.mag_z, config.bands)
    columns |= _described(drawn)
    return columns, _parts(drawn)


def in_pieces(
    ids: Ids, hosts: pa.Table, seen: Hosts, kind: str, lens: Columns, *, config: Settings
) -> tuple[Columns, dict[str, Any]]:
    """A lens's source in pieces; `lens` is the lens that is copied, further arguments as above."""
    makers: dict[str, Callable[..., Drawn]] = {
        "companion": pieces.companion,
        "radial_arc": pieces.radial_arc,
        "scrambled": partial(pieces.scrambled, hosts=_places(hosts, seen)),
    }
    drawn = makers[kind](
        Draws(ids, kind, seed=config.seed),
        lens["theta_e_arcsec"],
        lens["src_x_arcsec"],
        lens["src_y_arcsec"],
        getattr(config.shapes, kind),
    )
    return {"shape_radius_arcsec": drawn.radius}, _parts(drawn)


def light_scale_max(hosts: pa.Table, mags: dict[str, Values], config: Settings) -> Values:
    """The most that light may be scaled by so that host and light pass the cuts, inf: any, (n,).

    The cuts are those in r - z and in z - W1; light can only make a host brighter in z.

    Args:
        hosts: The galaxies, one a row: magnitudes as the cuts used them.
        mags: The light's magnitudes, without dust, by band.
        config: The cuts' variant, and the light's own z - W1.
    """
    cuts = VARIANTS[config.target_variant]
    light = {
        "r": nmgy_from_mag(mags["r"]),
        "z": nmgy_from_mag(mags["z"]),
        "w1": nmgy_from_mag(mags["z"] - config.shapes.light_z_minus_w1),
    }
    host = {band: nmgy_from_mag(_values(hosts, f"mag_{band}")) for band in light}
    # 1 where the cuts were made without the Galaxy's dust; else what the dust leaves.
    light = {
        band: flux
        * host[band]
        * _values(hosts, f"mw_transmission_{band}")
        / _values(hosts, f"flux_{band}_nmgy")
        for band, flux in light.items()
    }
    limits = [
        _most(host[red] - ratio * host[blue], ratio * light[blue] - light[red])
        for blue, red, ratio in (
            ("r", "z", 10 ** (0.4 * cuts.r_z_above)),
            ("z", "w1", 10 ** (0.4 * cuts.z_w1_above)),
        )
    ]
    return np.asarray(np.nan_to_num(np.minimum(*limits), nan=0.0, posinf=np.inf))


def dereddened_mag(hosts: pa.Table, band: str) -> Values:
    """Magnitude of the catalogue's flux without the Galaxy's dust; NaN where not positive."""
    flux, left = _values(hosts, f"flux_{band}_nmgy"), _values(hosts, f"mw_transmission_{band}")
    clean = np.nan_to_num(flux, nan=-1.0) / np.where(left > 0, left, 1.0)  # no dust where not known
    return mag_from_nmgy(np.asarray(clean))


def _most(margin: Values, lost: Values) -> Values:
    """By how much light may be scaled that takes `lost` of a margin for each of its own."""
    is_lost = lost > 0
    return np.where(is_lost, np.maximum(margin, 0.0) / np.where(is_lost, lost, 1.0), np.inf)


def _host_coloured(
    mags: dict[str, Values], hosts: pa.Table, drawn: Drawn, bands: Sequence[str]
) -> dict[str, Values]:
    is_coloured = morphology.is_any(drawn.variant, drawn.variants, "host_coloured")
    of_host = {band: dereddened_mag(hosts, band) for band in bands}
    return {
        band: np.where(
            is_coloured, mags["r"] + np.nan_to_num(of_host[band] - of_host["r"]), mags[band]
        )
        for band in bands
    }


def _places(hosts: pa.Table, seen: Hosts) -> Places:
    return Places(light_phi=seen.light_phi, psf_fwhm_r=_values(hosts, "psf_fwhm_r_arcsec"))


def _described(drawn: Drawn) -> Columns:
    return {
        "shape_radius_arcsec": drawn.radius,
        "shape_width_arcsec": drawn.width,
        "src_q": drawn.q,
        "src_phi_deg": np.mod(np.degrees(drawn.phi), 180.0),
    }


def _parts(drawn: Drawn) -> dict[str, Any]:
    """The columns that are no numbers."""
    ends, numbers = morphology.flattened(drawn.parts)
    names = pa.array(drawn.variants, pa.string())
    return {
        "shape_variant": names.take(pa.array(drawn.variant)),
        "shape_parts": pa.ListArray.from_arrays(pa.array(ends), pa.array(numbers)),
    }


def _values(hosts: pa.Table, name: str) -> Values:
    return np.asarray(hosts[name].to_numpy(zero_copy_only=False), np.float64)
