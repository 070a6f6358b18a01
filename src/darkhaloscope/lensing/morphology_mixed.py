"""Parts of mergers, of active nuclei with jets and of halo rings; see `morphology`."""

from typing import Any

import numpy as np

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.lensing.morphology import (
    OLD,
    YOUNG,
    Drawn,
    Draws,
    Places,
    is_any,
    only_where,
)
from darkhaloscope.lensing.parts import Form, part

_ENVELOPE_OVER_SEPARATION, _ENVELOPE_Q = 1.0, 0.7  # half-light radius of what holds two nuclei
_TAIL_SCATTER_RAD, _TAIL_RADII = 0.4, (0.7, 1.1)  # the second tail, opposite to the first
_SHELL_RADII = (1.0, 0.72, 0.5)  # interleaved in radius and side, as in NGC 3923
_POINT_R_EFF_ARCSEC = 0.02  # far below a pixel
_MOST_KNOTS = 4
HALO_COLOURED_WIDTH = 0.5  # a host-coloured ring's width over a blue one's


def merger(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """A second nucleus in a common envelope; with two tidal tails, or with shells."""
    del hosts
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    has_tails, has_shells = (is_any(variant, names, name) for name in ("tails", "shells"))
    apart, to = draw.flat(asked.separation_arcsec, "separation"), draw.angle("nucleus_phi")
    x, y = apart * np.cos(to), apart * np.sin(to)
    radius = draw.flat(asked.radius_arcsec, "radius")
    width = draw.flat(asked.width_over_radius, "width")
    opening = draw.flat(asked.opening_rad, "opening")
    of_nucleus = draw.flat(asked.nucleus_share, "nucleus_share")
    nucleus = (
        draw.flat(asked.nucleus_r_eff_arcsec, "nucleus_r_eff"),
        draw.flat(asked.nucleus_q, "nucleus_q"),
        1.5,
    )
    direction = draw.angle("nucleus_axis") / 2
    envelope = part(
        Form.BLOB, n, _ENVELOPE_OVER_SEPARATION * apart, _ENVELOPE_Q, 1.0,
        share=1 - of_nucleus, layer=OLD, x=x / 2, y=y / 2, phi=to,
    )  # fmt: skip
    burst = part(Form.BLOB, n, *nucleus, layer=YOUNG, x=x, y=y, phi=direction)
    made = [
        part(Form.BLOB, n, *nucleus, share=of_nucleus, layer=OLD, x=x, y=y, phi=direction),
        only_where(~has_shells, envelope),
        only_where(~has_tails & ~has_shells, burst),
    ]
    pitch = draw.sign("tail_sense") * np.radians(draw.flat(asked.pitch_deg, "pitch"))
    first = draw.angle("tail_phi")
    opposite = first + np.pi + _TAIL_SCATTER_RAD * draw.normal("tail_opposite")
    low, high = _TAIL_RADII
    inner = radius * (low + (high - low) * draw.uniform("tail_radius"))
    for at, middle in ((radius, first), (inner, opposite)):
        tail = part(
            Form.ARC, n, at, width * at, opening, pitch, share=at, layer=YOUNG, phi=middle
        )  # fmt: skip
        made.append(only_where(has_tails, tail))
    for place, ratio in enumerate(_SHELL_RADII):
        at = ratio * radius
        side = first + np.pi * place
        shell = part(
            Form.ARC, n, at, width * at, opening, 0.0, 1.0,
            share=(1 - of_nucleus) * ratio / sum(_SHELL_RADII), layer=OLD, phi=side,
        )  # fmt: skip
        made.append(only_where(has_shells, shell))
    young = np.where(has_shells, 0.0, draw.flat(asked.young_share_r, "young_share"))
    is_wide = has_tails | has_shells
    return Drawn(
        np.stack(made, 1), variant, names,
        np.where(is_wide, radius, apart), np.where(is_wide, width * radius, np.nan),
        nucleus[1], direction, young,
    )  # fmt: skip


def agn_jet(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """A point source with a jet; with knots on one side, or lobes on both.

    Lobes are stretched along the axis and joined to the nucleus by the jet: two round ones on
    opposite sides would be the images of a lens.
    """
    del hosts
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    has_knots, has_lobes = (is_any(variant, names, name) for name in ("knots", "lobes"))
    reach, axis = draw.flat(asked.reach_arcsec, "reach"), draw.angle("axis")
    width = draw.flat(asked.jet_width_arcsec, "jet_width")
    of_point = draw.flat(asked.point_share, "point_share")
    cos, sin = np.cos(axis), np.sin(axis)
    middle = np.where(has_lobes, 0.0, reach / 2)
    count = np.where(has_knots, draw.one_of(asked.knots, "knots"), 0)
    of_jet = (1 - of_point) / (1 + count)
    made = [
        part(Form.BLOB, n, _POINT_R_EFF_ARCSEC, 1.0, 0.5, share=of_point, layer=YOUNG),
        part(
            Form.LINE, n, np.where(has_lobes, reach, reach / 2), width, 1.0,
            share=of_jet, layer=YOUNG, x=middle * cos, y=middle * sin, phi=axis,
        ),
    ]  # fmt: skip
    knot_r_eff = draw.flat(asked.knot_r_eff_arcsec, "knot_r_eff")
    for place in range(_MOST_KNOTS):
        jitter = 0.5 * (draw.uniform(f"knot_{place}") - 0.5)
        at = reach * (place + 1 + jitter) / np.maximum(count, 1)
        knot = part(
            Form.BLOB, n, knot_r_eff, 1.0, 1.0,
            share=of_jet, layer=YOUNG, x=at * cos, y=at * sin,
        )  # fmt: skip
        made.append(only_where(place < count, knot))
    lobe_q = draw.flat(asked.lobe_q, "lobe_q")
    lobe_r_eff = reach * draw.flat(asked.lobe_r_eff_over_reach, "lobe_r_eff")
    bright = 0.3 + 0.4 * draw.uniform("lobe_share")
    for side, share in ((1, bright), (-1, 1 - bright)):
        lobe = part(
            Form.BLOB, n, lobe_r_eff, lobe_q, 1.0,
            share=share, layer=OLD, x=side * reach * cos, y=side * reach * sin, phi=axis,
        )  # fmt: skip
        made.append(only_where(has_lobes, lobe))
    young = np.where(has_lobes, draw.flat(asked.young_share_r, "young_share"), 1.0)
    return Drawn(
        np.stack(made, 1), variant, names, reach, width,
        np.where(has_lobes, lobe_q, 1.0), axis, young,
    )  # fmt: skip


def halo_ring(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """Round rings about the host, of its colours or wider than an arc can be."""
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    is_coloured = is_any(variant, names, "host_coloured")
    radius, q = draw.flat(asked.radius_arcsec, "radius"), draw.flat(asked.q, "q")
    fwhm = hosts.psf_fwhm_r * draw.flat(asked.fwhm_over_psf, "width")
    width = fwhm * np.where(is_coloured, HALO_COLOURED_WIDTH, 1.0) / FWHM_PER_SIGMA
    phi = draw.angle("phi") / 2
    made = part(Form.RING, n, radius, width, q, layer=OLD, phi=phi)
    return Drawn(made[:, None], variant, names, radius, width, q, phi, np.zeros(n))
