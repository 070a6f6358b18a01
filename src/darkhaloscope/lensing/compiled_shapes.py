"""Rings and spiral arms compiled for the CPU: the loops of `sampling.sample_shape`.

The same cells are sampled, none of them split, in float32; `cpu` uses it where the compiled
renderer is used, and tests hold it to the answer of torch. `compiled` says why the loops look as
they do.
"""

import math
from typing import Any

import numpy as np
from numba import float32, njit, void

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
_PI, _HALF_PI = F4(math.pi), F4(math.pi / 2)

ROW = 10  # numbers a row, in the order of `_ring` and `_spiral`


# atan(w) / w in w^2, within 1e-7 up to 1
A0, A1, A2, A3, A4, A5, A6, A7, A8 = series(
    lambda t: np.arctan(np.sqrt(t)) / np.sqrt(t), 8, 0.0, 1.0
)
L0, L1, L2, L3, L4, L5, L6, L7 = series(lambda m: np.log2(1 + m) / m, 7, 0.0, 1.0)
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
    """2^x for x to 100, relative error below 1e-6; from -120 down it stays there."""
    x = min(max(x, F4(-120)), F4(100))
    whole = I4(x + F4(128)) - I4(128)
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


@njit(**_OPTIONS)
def _ring(x, y, row, light):  # type: ignore[no-untyped-def]
    """Brightness of an even ring at n points: `contaminants.Ring`."""
    cos, sin, q, radius, per_sigma = row[0], row[1], row[2], row[3], row[4]
    for i in range(len(light)):
        u, v = cos * x[i] + sin * y[i], cos * y[i] - sin * x[i]
        across = (math.sqrt(q * u * u + v * v / q) - radius) * per_sigma
        light[i] = _exp2(F4(-0.5) * _PER_E * across * across)


@njit(**_OPTIONS)
def _spiral(x, y, row, light):  # type: ignore[no-untyped-def]
    """Brightness of spiral arms at n points: `contaminants.Spiral`."""
    cos, sin, q, radius, per_sigma = row[0], row[1], row[2], row[3], row[4]
    fading, arms, per_tan, sin_pitch, arm_phi = row[5], row[6], row[7], row[8], row[9]
    gap = F4(2 * math.pi) / arms
    for i in range(len(light)):
        u, v = cos * x[i] + sin * y[i], cos * y[i] - sin * x[i]
        at = max(math.sqrt(q * u * u + v * v / q), F4(1e-6))
        crest = _log2(at / radius) / _PER_E * per_tan + arm_phi
        along = (_angle(v, q * u) - crest) / gap
        along = (along - math.floor(along + F4(0.5))) * gap
        across = at * along * sin_pitch * per_sigma
        begun = F4(1) / (F4(1) + _exp2(F4(-10) * _PER_E * (at / radius - F4(1))))
        light[i] = begun * _exp2(_PER_E * (fading * at - F4(0.5) * across * across))


@njit(**_OPTIONS)
def _shine(x, y, row, light):  # type: ignore[no-untyped-def]
    """Brightness at n points; a shape without arms is a ring."""
    if row[6] == F4(0):
        _ring(x, y, row, light)
    else:
        _spiral(x, y, row, light)


@njit(**_OPTIONS)
def _means(below, here, above, out):  # type: ignore[no-untyped-def]
    """Means over the cells of a row from their midpoints and their neighbours'."""
    n = len(here)
    for i in range(1, n - 1):
        step = here[i - 1] + here[i + 1] + below[i] + above[i] - F4(4) * here[i]
        step = min(max(step * F4(1 / 24), F4(-0.25) * here[i]), F4(0.25) * here[i])
        out[i] = here[i] + step
    for i in (0, n - 1):
        beside = here[1] if i == 0 else here[n - 2]
        step = here[i] + beside + below[i] + above[i] - F4(4) * here[i]
        step = min(max(step * F4(1 / 24), F4(-0.25) * here[i]), F4(0.25) * here[i])
        out[i] = here[i] + step


@njit(**_OPTIONS)
def _row_of_points(axis, x0, scale, x):  # type: ignore[no-untyped-def]
    for i in range(len(axis)):
        x[i] = (axis[i] - x0) * scale


@njit(**_OPTIONS)
def _sum(values):  # type: ignore[no-untyped-def]
    total = F4(0)
    for i in range(len(values)):
        total += values[i]
    return total


@njit(**_OPTIONS)
def _scale(values, factor):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        values[i] *= factor


@njit(
    void(
        float32[:, ::1], float32[::1], float32[::1], float32[::1], float32, float32[:, :, ::1]
    ),
    **_OPTIONS,
)  # fmt: skip
def sample_shape_rows(rows, x0, y0, axis, scale, fine):  # type: ignore[no-untyped-def]
    """Flux of each fine cell, normalised to a total of 1: `sampling.sample_shape`.

    Args:
        rows: The numbers of n shapes, as their `packed` lays them out, (n, ROW).
        x0: Centre of the shape from the stamp's, pixels, (n,).
        y0: The same along y.
        axis: Centres of the fine cells along a side, pixels from the stamp's centre.
        scale: Width of a pixel, arcsec.
        fine: Filled: (n, fine_px, fine_px).
    """
    side = len(axis)
    light = np.empty((side, side), F4)
    x, y, level = np.empty(side, F4), np.empty(side, F4), np.empty(side, F4)
    for r in range(len(rows)):
        _row_of_points(axis, x0[r], scale, x)
        _row_of_points(axis, y0[r], scale, y)
        for j in range(side):
            level[:] = y[j]
            _shine(x, level, rows[r], light[j])
        for j in range(side):
            below, above = max(j - 1, 0), min(j + 1, side - 1)
            _means(light[below], light[j], light[above], fine[r, j])
        canvas = fine[r].reshape(side * side)
        _scale(canvas, F4(1) / _sum(canvas))
