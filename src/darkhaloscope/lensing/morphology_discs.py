"""Parts of rings, spirals and discs seen on their edge; see `morphology`."""

from typing import Any

import numpy as np

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
from darkhaloscope.lensing.priors import Values

RING_LOBES = (1, 2, 3)
MOST_CLUMPS = 4
_CORE_OVER_RING = 0.4  # half-light radius of the old light inside a ring that lies in no disc
_BULGE_N, _BULGE_Q = 2.0, 0.7
_BAR_N, _BAR_Q, _BAR_OVER_RADIUS = 0.5, 0.35, 0.7  # its half-light radius over where arms begin
_CLUMPS_REACH = 2.5  # clumps lie on the arms, out to this many times where they begin
_THICKER, _THICKEST_Q = 2.0, 0.5  # thick disc: axis ratio over the thin one's, at most
_BULGE_IN_OLD = 0.5  # share of a bulge in the old light of a disc seen on its edge


def ring(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """Detached, inner, polar and collisional rings."""
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    is_inner, is_polar, is_off = (
        is_any(variant, names, name) for name in ("inner", "polar", "collisional")
    )
    radius = draw.flat(asked.radius_arcsec, "radius")
    width = radius * draw.flat(asked.width_over_radius, "width")
    q = np.where(is_polar, draw.flat(asked.polar_q, "polar_q"), draw.flat(asked.q, "q"))
    turn = np.radians(asked.phi_scatter_deg) * draw.normal("turn")
    along = hosts.light_phi + turn + np.where(is_polar, np.pi / 2, 0.0)
    phi = np.where(is_inner | is_polar, along, draw.angle("phi") / 2)
    away = np.where(is_off, radius * draw.flat(asked.offset_over_radius, "offset"), 0.0)
    to = draw.angle("offset_phi")
    x, y = away * np.cos(to), away * np.sin(to)

    count = np.where(is_off, draw.one_of(asked.clumps, "clumps"), 0)
    in_clumps = np.where(count > 0, draw.flat(asked.clump_share, "clump_share"), 0.0)
    crest = part(
        Form.RING, n, radius, width, q,
        draw.flat(asked.contrast, "contrast"), draw.one_of(RING_LOBES, "lobes"),
        draw.angle("lobe_phi"), share=1 - in_clumps, layer=YOUNG, x=x, y=y, phi=phi,
    )  # fmt: skip
    made = [crest]
    for place in range(MOST_CLUMPS):
        at = draw.angle(f"clump_{place}")
        dx, dy = _on_ellipse(radius, at, q, phi)
        clump = part(
            Form.BLOB, n, width, 1.0, 1.0,
            share=in_clumps / np.maximum(count, 1), layer=YOUNG, x=x + dx, y=y + dy,
        )  # fmt: skip
        made.append(only_where(place < count, clump))
    r_eff = np.where(is_inner, radius, _CORE_OVER_RING * radius)
    made.append(part(Form.BLOB, n, r_eff, np.maximum(q, 0.4), 1.0, layer=OLD, phi=phi))
    return Drawn(
        np.stack(made, 1), variant, names, radius, width, q, phi,
        draw.flat(asked.young_share_r, "young_share"),
    )  # fmt: skip


def spiral(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """Logarithmic arms in a disc with a bulge; with a bar, or with clumps on the arms."""
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    is_barred, is_clumpy = (is_any(variant, names, name) for name in ("barred", "clumpy"))
    radius = draw.flat(asked.radius_arcsec, "radius")
    width, q = draw.flat(asked.width_arcsec, "width"), draw.flat(asked.q, "q")
    pitch = draw.sign("sense") * np.radians(draw.flat(asked.pitch_deg, "pitch"))
    arms, begin = draw.one_of(asked.arms, "arms"), draw.angle("begin")
    r_eff = radius * draw.flat(asked.r_eff_over_radius, "r_eff")
    phi = hosts.light_phi + np.radians(asked.phi_scatter_deg) * draw.normal("turn")

    count = np.where(is_clumpy, draw.one_of(asked.clumps, "clumps"), 0)
    in_clumps = np.where(count > 0, draw.flat(asked.clump_share, "clump_share"), 0.0)
    made = [
        part(
            Form.ARMS, n, radius, width, q, arms, pitch, r_eff, begin,
            share=1 - in_clumps, layer=YOUNG, phi=phi,
        )
    ]  # fmt: skip
    for place in range(MOST_CLUMPS):
        at = radius * (1 + (_CLUMPS_REACH - 1) * draw.uniform(f"clump_{place}"))
        arm = np.floor(arms * draw.uniform(f"clump_arm_{place}"))
        crest = np.log(at / radius) / np.tan(pitch) + begin + 2 * np.pi * arm / arms
        x, y = _on_ellipse(at, crest, q, phi)
        clump = part(
            Form.BLOB, n, width, 1.0, 1.0,
            share=in_clumps / np.maximum(count, 1), layer=YOUNG, x=x, y=y,
        )  # fmt: skip
        made.append(only_where(place < count, clump))

    of_bulge = draw.flat(asked.bulge_share, "bulge_share")
    of_bar = np.where(is_barred, draw.flat(asked.bar_share, "bar_share"), 0.0) * (1 - of_bulge)
    bulge_r_eff = draw.flat(asked.bulge_r_eff_arcsec, "bulge_r_eff")
    bar_x, bar_y = _on_ellipse(radius, begin, q, phi)
    bar = part(
        Form.BLOB, n, _BAR_OVER_RADIUS * np.hypot(bar_x, bar_y) * np.sqrt(_BAR_Q), _BAR_Q, _BAR_N,
        share=of_bar, layer=OLD, phi=np.arctan2(bar_y, bar_x),
    )  # fmt: skip
    made += [
        part(Form.BLOB, n, r_eff, q, 1.0, share=1 - of_bulge - of_bar, layer=OLD, phi=phi),
        part(
            Form.BLOB, n, bulge_r_eff, np.maximum(q, _BULGE_Q), _BULGE_N,
            share=of_bulge, layer=OLD, phi=phi,
        ),
        only_where(is_barred, bar),
    ]  # fmt: skip
    return Drawn(
        np.stack(made, 1), variant, names, radius, width, q, phi,
        draw.flat(asked.young_share_r, "young_share"),
    )  # fmt: skip


def edge_on(draw: Draws, hosts: Places, asked: Any) -> Drawn:
    """A thin disc in a thick one; with a bulge, a dust lane, or a warp."""
    n = len(draw)
    variant, names = draw.variant(asked.variants)
    has_bulge = is_any(variant, names, "bulged", "dusty")
    long, q = draw.flat(asked.half_length_arcsec, "half_length"), draw.flat(asked.q, "q")
    phi = hosts.light_phi + np.radians(asked.phi_scatter_deg) * draw.normal("turn")
    depth = np.where(
        is_any(variant, names, "dusty"), draw.flat(asked.lane_depth, "lane_depth"), 0.0
    )
    lane = draw.flat(asked.lane_width, "lane_width") * long * q
    # A part's warp is in units of u |u| / sqrt(ab), the setting's in those of a itself.
    bent = draw.sign("warp_sense") * draw.flat(asked.warp, "warp") * np.sqrt(q)
    warp = np.where(is_any(variant, names, "warped"), bent, 0.0)
    thick_q = np.minimum(_THICKER * q, _THICKEST_Q)
    of_bulge = np.where(has_bulge, _BULGE_IN_OLD, 0.0)
    bulge = part(
        Form.BLOB, n, draw.flat(asked.bulge_r_eff_arcsec, "bulge_r_eff"), _BULGE_Q, _BULGE_N,
        share=of_bulge, layer=OLD, phi=phi,
    )  # fmt: skip
    made = [
        part(Form.BLOB, n, long * np.sqrt(q), q, 1.0, depth, lane, warp, layer=YOUNG, phi=phi),
        part(
            Form.BLOB, n, long * np.sqrt(thick_q), thick_q, 1.0, depth, lane, warp,
            share=1 - of_bulge, layer=OLD, phi=phi,
        ),
        only_where(has_bulge, bulge),
    ]  # fmt: skip
    return Drawn(
        np.stack(made, 1), variant, names, long, long * q, q, phi,
        draw.flat(asked.young_share_r, "young_share"),
    )  # fmt: skip


def _on_ellipse(radius: Values, angle: Values, q: Values, phi: Values) -> tuple[Values, Values]:
    """Point of a disc seen at axis ratio q, from its elliptical radius and its angle in it."""
    u, v = radius * np.cos(angle) / np.sqrt(q), radius * np.sin(angle) * np.sqrt(q)
    cos, sin = np.cos(phi), np.sin(phi)
    return cos * u - sin * v, sin * u + cos * v
