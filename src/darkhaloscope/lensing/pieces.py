"""Counterfactuals made of a lens's own source: companions, radial arcs and scrambled arcs.

Each has the light, the colours and the radii of the lens that it copies. What differs is where
about the host the light lies, and along which way it is stretched:

companion    unlensed galaxies, not opposite each other
radial_arc   pieces stretched towards the host
scrambled    pieces stretched, turned by 45 degrees or more from the tangent, at unequal radii

A round lens has two images, at theta_E + beta and theta_E - beta, magnified theta_E / beta + 1 and
- 1. The first two pieces of companions and radial arcs stand at these radii and share the light as
these images do; a third lies between them and takes a third of the light.

A rotated pair of images can be the image of a valid lens. So the positions of a scrambled arc are
compared with those of the best isothermal lens along the host's axis (`isothermal`). The first of
up to eight sets of places that no such lens fits is taken. Where a lens fits them all (small arcs:
its images are within a third of the outer radius of most sets), the one that fits worst is scaled
up about the host until it does not: the misfit grows with the scale, as an isothermal lens has
none.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.lensing.isothermal import misfit_arcsec
from darkhaloscope.lensing.morphology import OLD, Drawn, Draws, Places
from darkhaloscope.lensing.parts import Form, part
from darkhaloscope.lensing.priors import Values

TRIES = (1, 2, 5)  # sets of places that are looked at together: most rows need only the first
_NUMBER = {"one": 1, "two": 2, "three": 3}
_MARGIN = 1.02  # beyond the least misfit, of arcs that are scaled up
_THIRD_SHARE = 1 / 3


def companion(draw: Draws, theta_e: Values, x: Values, y: Values, asked: Any) -> Drawn:
    """Unlensed galaxies.

    Args:
        draw: Named draws of n rows.
        theta_e: Einstein radius of the lens that is copied, arcsec, (n,).
        x: Its source's place, arcsec from the host, (n,).
        y: The same along y.
        asked: Settings of the kind.
    """
    radius, phi, share, variant, names = _like_two_images(draw, theta_e, x, y, asked)
    none = np.zeros_like(radius)
    return _drawn(radius, phi, share, none, none, variant, names)


def radial_arc(draw: Draws, theta_e: Values, x: Values, y: Values, asked: Any) -> Drawn:
    """Pieces stretched towards the host; arguments as of `companion`."""
    radius, phi, share, variant, names = _like_two_images(draw, theta_e, x, y, asked)
    shear = np.stack([draw.flat(asked.shear, f"shear_{i}") for i in range(3)], 1)
    return _drawn(radius, phi, share, phi, shear, variant, names)


def scrambled(
    draw: Draws, theta_e: Values, x: Values, y: Values, asked: Any, hosts: Places
) -> Drawn:
    """Stretched pieces whose places no isothermal lens explains.

    Further arguments as of `companion`, and:
        hosts: Whose light gives the axis of the lens.
    """
    variant, names = draw.variant(asked.variants)
    count = np.array([_NUMBER[name] for name in names])[variant]
    outer, first = np.hypot(x, y) + theta_e, np.arctan2(y, x)
    radii, phi, misfit = _unlike_a_lens(draw, outer, first, count, asked, hosts)
    wanted = _MARGIN * asked.least_misfit_arcsec
    scale = np.where(misfit < asked.least_misfit_arcsec, wanted / np.maximum(misfit, 1e-3), 1.0)
    radii = radii * scale[:, None]
    turned = [
        draw.sign(f"sense_{i}") * np.radians(draw.flat(asked.turned_deg, f"turned_{i}"))
        for i in range(3)
    ]
    axis = phi + np.pi / 2 + np.stack(turned, 1)
    shear = np.stack([draw.flat(asked.shear, f"shear_{i}") for i in range(3)], 1)
    share = np.where(np.arange(3) < count[:, None], radii, 0.0)
    share /= share.sum(1, keepdims=True)
    return _drawn(radii, phi, share, axis, shear, variant, names)


def _unlike_a_lens(
    draw: Draws, outer: Values, first: Values, count: NDArray[np.int64], asked: Any, hosts: Places
) -> tuple[Values, Values, Values]:
    """Radii and angles of the pieces, (n, 3), and how far the best lens's images are, (n,)."""
    n, done = len(draw), 0
    radii, phi, misfit = np.ones((n, 3)), np.zeros((n, 3)), np.full(n, -1.0)
    for together in TRIES:
        left = np.flatnonzero(misfit < asked.least_misfit_arcsec)
        if not len(left):
            break
        again, rows, trials = draw.take(left), np.tile(left, together), range(done, done + together)
        tried = [_strewn(again, outer[left], first[left], trial, asked) for trial in trials]
        radius, angle = (np.concatenate(values) for values in zip(*tried, strict=True))
        seen = np.where(np.arange(3) < count[rows, None], radius, np.nan)
        found = misfit_arcsec(seen * np.cos(angle), seen * np.sin(angle), hosts.light_phi[rows])
        found = found.reshape(together, -1)
        # The first set that no lens fits; where there is none, the one that fits worst.
        fails = found >= asked.least_misfit_arcsec
        chosen = np.where(fails.any(0), fails.argmax(0), found.argmax(0))
        picked = chosen * len(left) + np.arange(len(left))
        better = found.ravel()[picked] > misfit[left]
        at, picked = left[better], picked[better]
        radii[at], phi[at], misfit[at] = radius[picked], angle[picked], found.ravel()[picked]
        done += together
    return radii, phi, misfit


def _strewn(
    draw: Draws, outer: Values, first: Values, trial: int, asked: Any
) -> tuple[Values, Values]:
    """Radii and angles of three pieces, each inwards of the one before and turned, (n, 3)."""
    inward = [draw.flat(asked.inner_over_outer, f"inward_{trial}_{i}") for i in range(2)]
    turns = [
        draw.sign(f"way_{trial}_{i}") * np.radians(draw.flat(asked.turn_deg, f"turn_{trial}_{i}"))
        for i in range(2)
    ]
    radii = (outer, outer * inward[0], outer * inward[0] * inward[1])
    return np.stack(radii, 1), np.stack([first, first + turns[0], first + turns[0] + turns[1]], 1)


def _like_two_images(
    draw: Draws, theta_e: Values, x: Values, y: Values, asked: Any
) -> tuple[Values, Values, Values, NDArray[np.int64], tuple[str, ...]]:
    """Radii, angles and shares of three places, (n, 3), absent ones with share 0; the variant."""
    variant, names = draw.variant(asked.variants)
    count = np.array([_NUMBER[name] for name in names])[variant]
    beta = np.hypot(x, y)
    outer, inner = theta_e + beta, np.maximum(theta_e - beta, 0.0)
    of_inner = inner / (2 * theta_e)
    is_inner = draw.uniform("which") < of_inner  # of one piece: of its light
    between = inner + (outer - inner) * draw.uniform("third_radius")
    radius = np.stack([np.where((count == 1) & is_inner, inner, outer), inner, between], 1)

    first = np.arctan2(y, x)
    sense = draw.sign("sense")
    turns = [sense * np.radians(draw.flat(asked.turn_deg, name)) for name in ("turn", "third_turn")]
    phi = np.stack([first, first + turns[0], first - turns[1]], 1)

    of_third = np.where(count == 3, _THIRD_SHARE, 0.0)
    of_inner = np.where(count == 1, 0.0, of_inner) * (1 - of_third)
    share = np.stack([1 - of_inner - of_third, of_inner, of_third], 1)
    return radius, phi, share, variant, names


def _drawn(
    radius: Values, phi: Values, share: Values, axis: Values, shear: Values,
    variant: NDArray[np.int64], names: tuple[str, ...],
) -> Drawn:  # fmt: skip
    """Pieces at places, (n, 3) each; those with share 0 are no parts."""
    n = len(radius)
    made = [
        part(
            Form.PIECE, n, shear[:, i], share=share[:, i], layer=OLD, phi=axis[:, i],
            x=radius[:, i] * np.cos(phi[:, i]), y=radius[:, i] * np.sin(phi[:, i]),
        )
        for i in range(radius.shape[1])
    ]  # fmt: skip
    parts = np.stack(made, 1)
    parts[share <= 0] = 0
    farthest = np.where(share > 0, radius, 0.0).max(1)
    none = np.full(n, np.nan)
    return Drawn(parts, variant, names, farthest, none, none, none, np.zeros(n))
