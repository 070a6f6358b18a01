"""Parts of look-alikes compiled for the CPU: the loops of `contaminants.Parts.sampled`.

The same cells are sampled in float32, those alone in which a part has light: a box round it, beyond
which it is fainter than 1e-6 of its brightest. `cpu` uses it where the compiled renderer is used,
and tests hold it to the answer of torch. `compiled` says why the loops look as they do.
"""

import math
from typing import Any

import numpy as np
import torch
from numba import boolean, float32, int64, njit, void

from darkhaloscope.lensing.contaminants import (
    ARMS_BEGIN,
    CORE,
    EXPONENTIAL_B,
    FADE,
    LEAST_LIGHT,
    LEAST_SIGMA,
    PIECES,
)
from darkhaloscope.lensing.light import sersic_b
from darkhaloscope.lensing.parts import FORM, LAYER, OWN, PHI, SHARE, Form, X, Y
from darkhaloscope.lensing.polynomials import series

F4 = np.float32
I4 = np.int32

_OPTIONS: dict[str, Any] = {
    "fastmath": True,
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
_INLINE = {**_OPTIONS, "inline": "always"}
_PER_E = F4(1 / math.log(2))
_PI, _HALF_PI, _TURN = F4(math.pi), F4(math.pi / 2), F4(2 * math.pi)
_HALF = F4(0.5)

_BLOB, _RING, _ARMS, _ARC, _LINE = (
    int(form) for form in (Form.BLOB, Form.RING, Form.ARMS, Form.ARC, Form.LINE)
)
_FADED = 13.8  # of an exponential: 1e-6
_SIGMAS = 5.26  # of a Gaussian: 1e-6
_NUMBERS = 12  # a part's, as the loops read them
_STEPS = 32  # at which an arc's box is looked for
_FINER = CORE * PIECES  # pieces along a core
_FADED_OUT, _PER_FADE = F4(FADE[1]), F4(1 / (FADE[1] - FADE[0]))
_BEGIN = F4(1 / ARMS_BEGIN)
_DISC = EXPONENTIAL_B
_LEAST = F4(LEAST_LIGHT)


# atan(w) / w in w^2, within 1e-7 up to 1
A0, A1, A2, A3, A4, A5, A6, A7, A8 = series(
    lambda t: np.arctan(np.sqrt(t)) / np.sqrt(t), 8, 0.0, 1.0
)
L0, L1, L2, L3, L4, L5, L6, L7 = series(lambda m: np.log2(1 + m) / m, 7, 0.0, 1.0)
# cos(2 pi t) in t^2, within 1e-6 up to half a turn
C0, C1, C2, C3, C4, C5, C6 = series(lambda t: np.cos(2 * np.pi * np.sqrt(t)), 6, 0.0, 0.25)
# b of a Sersic profile in n, within 1e-5
B0, B1, B2, B3, B4, B5, B6, B7, B8 = series(
    lambda n: sersic_b(torch.from_numpy(n)).numpy(), 8, 0.5, 2.0
)
E0, E1, E2, E3, E4, E5 = series(lambda m: np.asarray(2**m), 5, 0.0, 1.0)


@njit(**_INLINE)
def _log2(x):  # type: ignore[no-untyped-def]
    """log2 of x > 0, within 1e-6."""
    bits = F4(x).view(np.int32)
    exponent = F4(I4(bits >> I4(23)) - I4(127))
    m = I4(I4(bits & I4(0x7FFFFF)) | I4(0x3F800000)).view(np.float32) - F4(1)
    rest = L3 + m * (L4 + m * (L5 + m * (L6 + m * L7)))
    return exponent + m * (L0 + m * (L1 + m * (L2 + m * rest)))


@njit(**_INLINE)
def _exp2(x):  # type: ignore[no-untyped-def]
    """2^x for x to 100, relative error below 1e-6; from -40 down it stays there.

    So no product of what is made of it is denormal, which would be a hundred times as slow.
    """
    x = min(max(x, F4(-40)), F4(100))
    whole = I4(I4(x + F4(128)) - I4(128))
    m = x - F4(whole)
    value = E0 + m * (E1 + m * (E2 + m * (E3 + m * (E4 + m * E5))))
    return value * I4((whole + I4(127)) << I4(23)).view(np.float32)


@njit(**_INLINE)
def _angle(y, x):  # type: ignore[no-untyped-def]
    """atan2(y, x); 0 at the origin."""
    a, b = abs(x), abs(y)
    w = min(a, b) / max(a, b, F4(1e-30))
    t = w * w
    rest = A4 + t * (A5 + t * (A6 + t * (A7 + t * A8)))
    angle = w * (A0 + t * (A1 + t * (A2 + t * (A3 + t * rest))))
    angle = _HALF_PI - angle if b > a else angle
    angle = _PI - angle if x < F4(0) else angle
    return -angle if y < F4(0) else angle


@njit(**_INLINE)
def _bell(t):  # type: ignore[no-untyped-def]
    """exp(-t^2 / 2)."""
    return _exp2(-_HALF * _PER_E * t * t)


@njit(**_INLINE)
def _nearest(x):  # type: ignore[no-untyped-def]
    """The whole number nearest to x, for |x| to 4000."""
    return F4(I4(I4(x + F4(4096.5)) - I4(4096)))


@njit(**_INLINE)
def _radius2(x, y, own):  # type: ignore[no-untyped-def]
    """Squared radius in a blob over r_eff^2."""
    u, v = own[0] * x + own[1] * y, own[0] * y - own[1] * x
    v -= own[8] * u * abs(u)
    return (own[2] * u * u + v * v * own[9]) * own[3]


@njit(**_OPTIONS)
def _blob(x, y, own, light):  # type: ignore[no-untyped-def]
    """Brightness at a row of n points from a part's centre: `contaminants._blob`.

    Roots serve for the Sersic indices that are drawn most, a half, 1 and 2.
    """
    half_per_n, minus_b = own[4], own[5]
    if half_per_n == F4(1):
        for i in range(len(light)):
            light[i] = _exp2(minus_b * _radius2(x[i], y, own))
    elif half_per_n == F4(0.5):
        for i in range(len(light)):
            light[i] = _exp2(minus_b * math.sqrt(_radius2(x[i], y, own)))
    elif half_per_n == F4(0.25):
        for i in range(len(light)):
            light[i] = _exp2(minus_b * math.sqrt(math.sqrt(_radius2(x[i], y, own))))
    else:
        for i in range(len(light)):
            radius2 = max(_radius2(x[i], y, own), F4(1e-30))
            light[i] = _exp2(minus_b * _exp2(half_per_n * _log2(radius2)))
    depth, per_lane = own[6], own[7]
    if depth > F4(0):
        for i in range(len(light)):
            u, v = own[0] * x[i] + own[1] * y, own[0] * y - own[1] * x[i]
            light[i] *= F4(1) - depth * _bell((v - own[8] * u * abs(u)) * per_lane)


@njit(**_OPTIONS)
def _ring(x, y, own, light):  # type: ignore[no-untyped-def]
    """The same of a ring."""
    cos, sin, q, radius, per_sigma = own[0], own[1], own[2], own[3], own[4]
    contrast, lobes, lobe_phi = own[5], own[6], own[7]
    for i in range(len(light)):
        u, v = cos * x[i] + sin * y, cos * y - sin * x[i]
        light[i] = _bell((math.sqrt(q * u * u + v * v / q) - radius) * per_sigma)
    if contrast > F4(0):
        for i in range(len(light)):
            turn = lobes * (_angle(y, x[i]) - lobe_phi) / _TURN
            turn -= _nearest(turn)
            t = turn * turn
            wave = C0 + t * (C1 + t * (C2 + t * (C3 + t * (C4 + t * (C5 + t * C6)))))
            light[i] *= F4(1) + contrast * wave


@njit(**_OPTIONS)
def _arms(x, y, own, light):  # type: ignore[no-untyped-def]
    """The same of spiral arms."""
    cos, sin, q, radius, per_sigma = own[0], own[1], own[2], own[3], own[4]
    fading, gap, per_tan, sin_pitch, begin = own[5], own[6], own[7], own[8], own[9]
    for i in range(len(light)):
        u, v = cos * x[i] + sin * y, cos * y - sin * x[i]
        at = max(math.sqrt(q * u * u + v * v / q), F4(1e-6))
        crest = _log2(at / radius) / _PER_E * per_tan + begin
        along = (_angle(v, q * u) - crest) / gap
        along = (along - _nearest(along)) * gap
        across = at * along * sin_pitch * per_sigma
        begun = F4(1) / (F4(1) + _exp2(_BEGIN * _PER_E * (F4(1) - at / radius)))
        light[i] = begun * _exp2(_PER_E * (fading * at - _HALF * across * across))


@njit(**_OPTIONS)
def _arc(x, y, own, light):  # type: ignore[no-untyped-def]
    """The same of a tail or a shell."""
    phi, radius, per_sigma, per_sigma_phi = own[0], own[1], own[2], own[3]
    tan_pitch, cos_pitch, half = own[4], own[5], own[6]
    for i in range(len(light)):
        along = (_angle(y, x[i]) - phi) / _TURN
        along = (along - _nearest(along)) * _TURN
        crest = radius * _exp2(_PER_E * tan_pitch * along)
        beyond = (math.sqrt(x[i] * x[i] + y * y) - crest) * cos_pitch * per_sigma
        along *= per_sigma_phi
        if half > F4(0):
            outer = _exp2(_PER_E * min(beyond + half, F4(0)))
            inner = _exp2(_PER_E * min(beyond - half, F4(0)))
            light[i] = (outer - inner) / (F4(2) * half) * _bell(along)
        else:
            light[i] = _exp2(-_HALF * _PER_E * (beyond * beyond + along * along))


@njit(**_OPTIONS)
def _line(x, y, own, light):  # type: ignore[no-untyped-def]
    """The same of a line."""
    cos, sin, half, per_sigma, slope, edge = own[0], own[1], own[2], own[3], own[4], own[5]
    for i in range(len(light)):
        u, v = cos * x[i] + sin * y, cos * y - sin * x[i]
        along = min(max((half - abs(u)) * slope + edge, F4(0)), F4(1))
        light[i] = along * _bell(v * per_sigma)


@njit(**_OPTIONS)
def _shine(form, x, y, own, light):  # type: ignore[no-untyped-def]
    if form == _BLOB:
        _blob(x, y, own, light)
    elif form == _RING:
        _ring(x, y, own, light)
    elif form == _ARMS:
        _arms(x, y, own, light)
    elif form == _ARC:
        _arc(x, y, own, light)
    else:
        _line(x, y, own, light)


@njit(**_OPTIONS)
def _turned(cos, sin, a, b, box):  # type: ignore[no-untyped-def]
    """Half widths of the box round a rectangle of half widths a, b."""
    box[0], box[1] = -abs(cos) * a - abs(sin) * b, abs(cos) * a + abs(sin) * b
    box[2], box[3] = -abs(sin) * a - abs(cos) * b, abs(sin) * a + abs(cos) * b


@njit(**_OPTIONS)
def _round_arc(phi, radius, reach, tan_pitch, width, box):  # type: ignore[no-untyped-def]
    """Box round an arc of a spiral, `width` to either side."""
    for step in range(_STEPS + 1):
        along = reach * (2 * step / _STEPS - 1)
        at = radius * math.exp(along * tan_pitch)
        # between two steps an arc bulges, and a spiral has grown
        room = width + at * (reach / _STEPS) * (0.5 * reach / _STEPS + abs(tan_pitch))
        x, y = at * math.cos(phi + along), at * math.sin(phi + along)
        if step == 0:
            box[0], box[1], box[2], box[3] = x - room, x + room, y - room, y + room
        box[0], box[1] = min(box[0], x - room), max(box[1], x + room)
        box[2], box[3] = min(box[2], y - room), max(box[3], y + room)


@njit(**_OPTIONS)
def _described(part, width, own, box):  # type: ignore[no-untyped-def]  # noqa: PLR0915
    """What the loops read of a part, and the box in which it shines, arcsec from its centre."""
    form = int(part[FORM])
    cos, sin = math.cos(part[PHI]), math.sin(part[PHI])
    own[0], own[1], own[10] = cos, sin, F4(0)
    if form == _BLOB:
        r_eff, q, n, warp = part[OWN], part[OWN + 1], part[OWN + 2], part[OWN + 5]
        rest = B4 + n * (B5 + n * (B6 + n * (B7 + n * B8)))
        b = B0 + n * (B1 + n * (B2 + n * (B3 + n * rest)))
        own[2], own[3], own[4] = q, 1 / (r_eff * r_eff), 0.5 / n
        own[5], own[6], own[8] = -b * _PER_E, part[OWN + 3], warp / r_eff
        own[9] = 1 / q
        own[7] = 1 / part[OWN + 4] if part[OWN + 4] > 0 else F4(0)
        reach = r_eff * math.exp(n * math.log(_FADED / b))
        a, c = reach / math.sqrt(q), reach * math.sqrt(q)
        if warp == 0:
            own[10] = reach
            half_x = math.sqrt((cos * a) ** 2 + (sin * c) ** 2)
            half_y = math.sqrt((sin * a) ** 2 + (cos * c) ** 2)
            box[0], box[1], box[2], box[3] = -half_x, half_x, -half_y, half_y
        else:
            _turned(cos, sin, a, c + abs(warp) * a * a / r_eff, box)
    elif form in (_RING, _ARMS):
        q = part[OWN + 2]
        sigma = max(part[OWN + 1], F4(LEAST_SIGMA) * width / math.sqrt(q))
        own[2], own[3], own[4] = q, part[OWN], 1 / sigma
        if form == _RING:
            own[5], own[6], own[7] = part[OWN + 3], part[OWN + 4], part[OWN + 5]
            reach = part[OWN] + _SIGMAS * sigma
        else:
            own[5], own[6] = -_DISC / part[OWN + 5], 2 * math.pi / part[OWN + 3]
            own[7], own[8] = 1 / math.tan(part[OWN + 4]), math.sin(part[OWN + 4])
            own[9] = part[OWN + 6]
            reach = part[OWN] + _FADED / _DISC * part[OWN + 5]
        own[10] = reach
        a, c = reach / math.sqrt(q), reach * math.sqrt(q)
        half_x = math.sqrt((cos * a) ** 2 + (sin * c) ** 2)
        half_y = math.sqrt((sin * a) ** 2 + (cos * c) ** 2)
        box[0], box[1], box[2], box[3] = -half_x, half_x, -half_y, half_y
    elif form == _ARC:
        sigma = max(part[OWN + 1], F4(LEAST_SIGMA) * width)
        pitch, is_sharp = part[OWN + 3], part[OWN + 4] > 0
        own[0], own[1], own[2], own[3] = part[PHI], part[OWN], 1 / sigma, 1 / part[OWN + 2]
        own[4], own[5] = math.tan(pitch), math.cos(pitch)
        own[6] = 0.5 * width / sigma if is_sharp else F4(0)
        reach = min(_SIGMAS * part[OWN + 2], math.pi)
        wide = _FADED * sigma + width if is_sharp else _SIGMAS * sigma
        _round_arc(part[PHI], part[OWN], reach, own[4], wide / own[5], box)
    else:
        sigma = max(part[OWN + 1], F4(LEAST_SIGMA) * width)
        fades = part[OWN + 2] > 0
        own[2], own[3] = part[OWN], 1 / sigma
        own[4], own[5] = 1 / part[OWN] if fades else 1 / width, F4(0) if fades else F4(0.5)
        own[10] = _SIGMAS * sigma
        _turned(cos, sin, part[OWN] + width, own[10], box)


@njit(**_OPTIONS)
def _span(form, own, x, y, width):  # type: ignore[no-untyped-def]
    """From which of a row's points on a part shines, and to which."""
    cos, sin, reach, n = own[0], own[1], own[10], len(x)
    if reach <= F4(0):
        return 0, n
    if form == _LINE:
        if abs(sin) < F4(1e-3):
            return 0, n
        middle, half = cos * y / sin, reach / abs(sin)
    else:  # where the ellipse of the reach cuts the row
        a = own[2] * cos * cos + sin * sin / own[2]
        b = cos * sin * (own[2] - F4(1) / own[2]) * y
        c = (own[2] * sin * sin + cos * cos / own[2]) * y * y - reach * reach
        cut = b * b - a * c
        if cut <= F4(0):
            return 0, 0
        middle, half = -b / a, math.sqrt(cut) / a
    first = int(min(max((middle - half - x[0]) / width, F4(0)), F4(n)))
    last = int(min(max((middle + half - x[0]) / width + F4(2), F4(0)), F4(n)))
    return first, last


@njit(**_OPTIONS)
def _means(below, here, above, out):  # type: ignore[no-untyped-def]
    """Means over the cells of a row from their midpoints and their neighbours'; their sum."""
    n, total = len(here), F4(0)
    for i in range(1, n - 1):
        step = here[i - 1] + here[i + 1] + below[i] + above[i] - F4(4) * here[i]
        step = min(max(step * F4(1 / 24), F4(-0.25) * here[i]), F4(0.25) * here[i])
        out[i] = here[i] + step
        total += here[i] + step
    for i in range(0, n, max(n - 1, 1)):  # the first and the last
        left, right = here[max(i - 1, 0)], here[min(i + 1, n - 1)]
        step = left + right + below[i] + above[i] - F4(4) * here[i]
        step = min(max(step * F4(1 / 24), F4(-0.25) * here[i]), F4(0.25) * here[i])
        out[i] = here[i] + step
        total += here[i] + step
    return total


@njit(**_OPTIONS)
def _row_of_points(first, step, x):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        x[i] = first + F4(i) * step


@njit(**_OPTIONS)
def _sum(values):  # type: ignore[no-untyped-def]
    total = F4(0)
    for i in range(len(values)):
        total += values[i]
    return total


@njit(**_OPTIONS)
def _clear(values):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        values[i] = F4(0)


@njit(**_OPTIONS)
def _dot(one, other):  # type: ignore[no-untyped-def]
    total = F4(0)
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@njit(**_OPTIONS)
def _scale(values, factor):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        values[i] *= factor


@njit(**_OPTIONS)
def _add(values, factor, out):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        out[i] += factor * values[i]


@njit(**_INLINE)
def _middle(x, y, per_width):  # type: ignore[no-untyped-def]
    """What is sampled in pieces of cells: `contaminants._middle`."""
    t = (_FADED_OUT - math.sqrt(x * x + y * y) * per_width) * _PER_FADE
    t = min(max(t, F4(0)), F4(1))
    return t * t * t * (F4(10) - F4(15) * t + F4(6) * t * t)


@njit(**_OPTIONS)
def _middle_of_blob(x, y, own, per_width, light):  # type: ignore[no-untyped-def]
    _blob(x, y, own, light)
    for i in range(len(light)):
        light[i] *= _middle(x[i], y, per_width)


@njit(**_OPTIONS)
def _split(own, left, low, width, line, mean, light):  # type: ignore[no-untyped-def]
    """The middle of a blob in the pieces of cells from (left, low) on; `mean` is room for a row."""
    fine, per_width = width / F4(PIECES), F4(1) / width
    _row_of_points(left + _HALF * fine, fine, line)
    for j in range(_FINER):
        _middle_of_blob(line, low + (F4(j) + _HALF) * fine, own, per_width, light[j])
    first_x = I4(round(-left / fine)) - I4(CORE // 2)
    first_y = I4(round(-low / fine)) - I4(CORE // 2)
    finest = fine / F4(PIECES)
    _row_of_points(left + F4(first_x) * fine + _HALF * finest, finest, line)
    for j in range(_FINER):
        y = low + F4(first_y) * fine + (F4(j) + _HALF) * finest
        _middle_of_blob(line, y, own, per_width, mean)
        if j % PIECES == 0:
            for i in range(CORE):
                light[first_y + j // PIECES, first_x + i] = F4(0)
        for i in range(_FINER):
            light[first_y + j // PIECES, first_x + i // PIECES] += mean[i] * F4(1 / PIECES**2)


@njit(**_OPTIONS)
def _fade_out(x, start_y, width, light):  # type: ignore[no-untyped-def]
    """Take the middle of a blob out of its cells."""
    reach = FADE[1] * width
    low, high = int((-reach - start_y) / width), int((reach - start_y) / width) + 2
    left, right = int((-reach - x[0]) / width), int((reach - x[0]) / width) + 2
    for j in range(max(low, 0), min(high, len(light))):
        y = start_y + F4(j) * width
        for i in range(max(left, 0), min(right, len(x))):
            light[j, i] *= F4(1) - _middle(x[i], y, F4(1) / width)


@njit(**_OPTIONS)
def _core(own, start_x, start_y, width, room, weights, patch):  # type: ignore[no-untyped-def]
    """The middle of a blob on the cells round it; where the first of them is, from the start.

    The start is the midpoint of the box's first cell. What is in a piece of a cell is shared among
    nine.
    """
    line, mean, light, along = room
    half = CORE // 2
    edge_x, edge_y = round(-start_x / width + _HALF), round(-start_y / width + _HALF)
    left = start_x + (F4(edge_x - half) - _HALF) * width
    low = start_y + (F4(edge_y - half) - _HALF) * width
    _split(own, left, low, width, line, mean, light)
    for i in range(CORE + 2):
        for j in range(_FINER):
            along[i, j] = _dot(light[j], weights[i])
    for j in range(CORE + 2):
        for i in range(CORE + 2):
            patch[j, i] = _dot(along[i], weights[j])
    return edge_x - half - 1, edge_y - half - 1


@njit(**_OPTIONS)
def _inside(first_x, first_y, side):  # type: ignore[no-untyped-def]
    """Which of the cells of a core lie in the frame: along x from, to, along y from, to."""
    wide = CORE + 2
    return (
        min(max(-first_x, 0), wide), max(min(side - first_x, wide), 0),
        min(max(-first_y, 0), wide), max(min(side - first_y, wide), 0),
    )  # fmt: skip


@njit(
    void(
        float32[:, :, ::1], float32[::1], float32[::1], float32[::1], float32,
        float32[:, ::1], float32[:, :, :, ::1], boolean[:, ::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def sample_part_rows(  # type: ignore[no-untyped-def]  # noqa: C901, PLR0912, PLR0915
    parts, x0, y0, axis, scale, weights, fine, lit
):
    """Flux of each fine cell, each layer normalised to a total of 1: `contaminants.Parts.sampled`.

    Args:
        parts: The parts of n look-alikes, (n, K, PART).
        x0: The host's centre from the stamp's, pixels, (n,).
        y0: The same along y.
        axis: Centres of the fine cells along a side, pixels from the stamp's centre.
        scale: Width of a pixel, arcsec.
        weights: What the pieces of a core give to its cells, (CORE + 2, CORE PIECES).
        fine: Filled: (n, layer, fine_px, fine_px); layers without light are 0.
        lit: Filled: whether a layer has light, (n, layer).
    """
    side, layers = len(axis), fine.shape[1]
    width = (axis[1] - axis[0]) * scale
    light, means = np.empty((side, side), F4), np.empty((side, side), F4)
    begins, ends = np.empty(side, np.int64), np.empty(side, np.int64)
    patch, total = np.empty((CORE + 2, CORE + 2), F4), np.empty(layers, F4)
    x, own, box = np.empty(side, F4), np.empty(_NUMBERS, F4), np.empty(4, F4)
    room = (
        np.empty(_FINER, F4),
        np.empty(_FINER, F4),
        np.empty((_FINER, _FINER), F4),
        np.empty((CORE + 2, _FINER), F4),
    )
    for r in range(len(parts)):
        for layer in range(layers):
            _clear(fine[r, layer].reshape(side * side))
            lit[r, layer] = False
            total[layer] = F4(0)
        for k in range(parts.shape[1]):
            part = parts[r, k]
            form, layer, share = int(part[FORM]), int(part[LAYER]), part[SHARE]
            if form < _BLOB or form > _LINE or layer >= layers or share <= F4(0):
                continue
            _described(part, width, own, box)
            # from the centre to the first cell's midpoint
            first_x = (axis[0] - x0[r]) * scale - part[X]
            first_y = (axis[0] - y0[r]) * scale - part[Y]
            left = int(min(max((box[0] - first_x) / width, F4(0)), F4(side)))
            right = int(min(max((box[1] - first_x) / width + F4(2), F4(0)), F4(side)))
            low = int(min(max((box[2] - first_y) / width, F4(0)), F4(side)))
            high = int(min(max((box[3] - first_y) / width + F4(2), F4(0)), F4(side)))
            across, up = right - left, high - low
            if across <= 0 or up <= 0:
                continue
            start_x, start_y = first_x + F4(left) * width, first_y + F4(low) * width
            _row_of_points(start_x, width, x[:across])
            for j in range(up):
                y = start_y + F4(j) * width
                begin, end = _span(form, own, x[:across], y, width)
                begins[j], ends[j] = begin, end
                _clear(light[j, :begin])
                _clear(light[j, end:across])
                _shine(form, x[begin:end], y, own, light[j, begin:end])
            if form == _BLOB:
                _fade_out(x[:across], start_y, width, light[:up, :across])
            image, held = light, F4(0)
            if form == _ARC and own[6] > F4(0):  # means already
                for j in range(up):
                    held += _sum(light[j, :across])
            else:
                image = means
                for j in range(up):
                    below, above = max(j - 1, 0), min(j + 1, up - 1)
                    begin = max(min(begins[below], begins[j], begins[above]) - 1, 0)
                    end = min(max(ends[below], ends[j], ends[above]) + 1, across)
                    if end > begin:
                        held += _means(light[below, begin:end], light[j, begin:end],
                                       light[above, begin:end], means[j, begin:end])  # fmt: skip
            from_x, to_x, from_y, to_y, core_x, core_y = 0, 0, 0, 0, 0, 0
            if form == _BLOB:
                core_x, core_y = _core(own, first_x, first_y, width, room, weights, patch)
                from_x, to_x, from_y, to_y = _inside(core_x, core_y, side)
                for j in range(from_y, to_y):
                    held += _sum(patch[j, from_x:to_x])
            if held <= _LEAST:
                continue
            lit[r, layer] = True
            total[layer] += share
            factor, canvas = share / held, fine[r, layer]
            for j in range(up):
                below, above = max(j - 1, 0), min(j + 1, up - 1)
                begin = max(min(begins[below], begins[j], begins[above]) - 1, 0)
                end = min(max(ends[below], ends[j], ends[above]) + 1, across)
                if end > begin:
                    _add(image[j, begin:end], factor, canvas[low + j, left + begin : left + end])
            for j in range(from_y, to_y):
                _add(patch[j, from_x:to_x], factor,
                     canvas[core_y + j, core_x + from_x : core_x + to_x])  # fmt: skip
        for layer in range(layers):
            if lit[r, layer]:
                _scale(fine[r, layer].reshape(side * side), F4(1) / total[layer])


@njit(
    void(float32[:, :, :, ::1], int64[::1], float32[::1], float32[:, :, :, ::1]),
    **_OPTIONS,
)
def add_pieces(pieces, row, weight, fine):  # type: ignore[no-untyped-def]
    """Add light in pieces to that of their rows.

    Args:
        pieces: Light of each piece, (k, layer, fine_px, fine_px).
        row: Whose they are, (k,).
        weight: What each is multiplied by, (k,).
        fine: Light of the rows, added to, (n, layer, fine_px, fine_px).
    """
    for k in range(len(pieces)):
        for layer in range(pieces.shape[1]):
            _add(pieces[k, layer].ravel(), weight[k], fine[row[k], layer].ravel())
