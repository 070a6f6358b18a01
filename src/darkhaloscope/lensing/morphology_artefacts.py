"""Parts of artefacts: what the telescope, the detector or the coadd has made; see `morphology`.

Satellites, spikes and ghosts are light from above and go through the PSF. Cosmic rays and bleeding
columns are made in the detector, a shift and an end of the data in the coadd: those are done to the
pixels, and no source is drawn for them.
"""

from typing import Any

import numpy as np

from darkhaloscope.lensing.morphology import OLD, Drawn, Draws, is_any, only_where
from darkhaloscope.lensing.parts import Form, part
from darkhaloscope.lensing.priors import Values

LIGHT = ("satellite", "spikes", "ghost")  # the others are done to pixels
_ALL_BANDS = -1
_FAR_ARCSEC = 14.0  # half length of what crosses a stamp from side to side
_SPIKES_FADE, _STAR_SHARE = 1.0, 0.3
_AXIS_SCATTER_RAD = 0.05  # of the detectors' edges about the axes of a coadd


def artefact(draw: Draws, flux: Values, asked: Any) -> Drawn:
    """Artefacts.

    Args:
        draw: Named draws of n rows.
        flux: What a lens's light would have in each band, nmgy, (n, band): the scale of what is
            done to pixels.
        asked: Settings of the kind.
    """
    n, n_bands = flux.shape
    variant, names = draw.variant(asked.variants)
    band = draw.one_of(range(n_bands), "band").astype(np.int64)
    brighter = draw.flat(asked.brighter_mag, "brighter")
    own_flux = flux[np.arange(n), band] * 10 ** (0.4 * brighter)
    is_one_band = draw.uniform("one_band") < 0.5
    layer = np.where(is_one_band, band, _ALL_BANDS)
    phi, track = draw.angle("phi"), draw.flat(asked.track_width_arcsec, "track_width")

    def is_(*wanted: str) -> Any:
        return is_any(variant, names, *wanted)

    def beside(distance: Values, direction: Values) -> dict[str, Values]:
        return {"x": distance * np.cos(direction), "y": distance * np.sin(direction)}

    passes = draw.flat(asked.satellite_distance_arcsec, "satellite_distance")
    trail = draw.flat(asked.satellite_width_arcsec, "satellite_width")
    satellite = part(
        Form.LINE, n, _FAR_ARCSEC, trail, layer=OLD, phi=phi, **beside(passes, phi + np.pi / 2)
    )
    far = draw.flat(asked.cosmic_ray_distance_arcsec, "cosmic_ray_distance")
    ray = part(
        Form.TRACK, n, draw.flat(asked.cosmic_ray_half_length_arcsec, "cosmic_ray_length"), track,
        share=flux[np.arange(n), band], layer=band, phi=phi, **beside(far, draw.angle("place")),
    )  # fmt: skip
    star = beside(draw.flat(asked.spikes_distance_arcsec, "spikes_distance"), draw.angle("star"))
    spike_phi = np.radians(draw.flat(asked.spikes_phi_deg, "spikes_phi"))
    spikes = [
        part(
            Form.LINE, n, _FAR_ARCSEC, trail, _SPIKES_FADE,
            share=(1 - _STAR_SHARE) / 2, layer=OLD, phi=spike_phi + turned, **star,
        )
        for turned in (0.0, np.pi / 2)
    ]  # fmt: skip
    spikes.append(part(Form.BLOB, n, 0.02, 1.0, 0.5, share=_STAR_SHARE, layer=OLD, **star))
    aside = draw.sign("bleed_side") * draw.flat(asked.bleed_distance_arcsec, "bleed_distance")
    bleed = part(
        Form.TRACK, n, _FAR_ARCSEC, track, share=own_flux, layer=layer, x=aside, phi=np.pi / 2
    )
    radius = draw.flat(asked.ghost_radius_arcsec, "ghost_radius")
    ghost_width = radius * draw.flat(asked.ghost_width_over_radius, "ghost_width")
    off = radius * draw.flat(asked.ghost_distance_over_radius, "ghost_distance")
    ghost = part(
        Form.RING, n, radius, ghost_width, 1.0, layer=OLD, **beside(off, draw.angle("place"))
    )
    shift = draw.flat(asked.shift_px, "shift")
    moved = part(Form.SHIFT, n, shift * np.cos(phi), shift * np.sin(phi), layer=band)
    end = draw.flat(asked.edge_distance_arcsec, "edge_distance")
    side = np.floor(4 * draw.uniform("side")) * np.pi / 2
    side = side + _AXIS_SCATTER_RAD * draw.normal("side_turn")
    edge = part(Form.EDGE, n, layer=layer, phi=side, **beside(end, side))

    made = [
        only_where(is_(name), one)
        for name, ones in {
            "satellite": [satellite],
            "cosmic_ray": [ray],
            "spikes": spikes,
            "bleed": [bleed],
            "ghost": [ghost],
            "misregistered": [moved],
            "edge": [edge],
        }.items()
        for one in ones
    ]
    bands = np.arange(n_bands)
    lit = np.where(is_("satellite")[:, None], bands == band[:, None], is_(*LIGHT)[:, None])
    described = {
        "satellite": passes,
        "cosmic_ray": far,
        "bleed": np.abs(aside),
        "ghost": radius,
        "edge": end,
        "spikes": np.hypot(star["x"], star["y"]),
    }
    sizes = np.full(n, np.nan)
    for name, values in described.items():
        sizes = np.where(is_(name), values, sizes)
    widths = np.where(is_("satellite", "spikes"), trail, np.nan)
    widths = np.where(is_("cosmic_ray", "bleed"), track, widths)
    widths = np.where(is_("ghost"), ghost_width, widths)
    none = np.full(n, np.nan)
    return Drawn(
        np.stack(made, 1), variant, names, sizes, widths, none, none, np.zeros(n), lit, brighter
    )
