"""Photon noise of injected light compiled for the CPU: the loops of `noise.photon_noise`.

The same draws in the same order; `noise` uses it where numba is installed and the tensors are
float32 on a CPU, and is held to the same answer by tests. Logarithm, sine and cosine are
polynomials, which LLVM turns into SIMD instructions; numba has no vectorised ones. Loops run over
blocks that stay in the first cache.
"""

import math
from typing import Any

import numpy as np
from numba import float32, njit, uint64, void

from darkhaloscope.lensing.polynomials import series

F4 = np.float32
I4 = np.int32
U8 = np.uint64

_OPTIONS: dict[str, Any] = {
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
_INLINE = {**_OPTIONS, "inline": "always"}
_BLOCK = 1024  # pairs of draws made at once

# SplitMix64, as in core.keys
_GAMMA = U8(0x9E3779B97F4A7C15)
_FIRST, _SECOND = U8(0xBF58476D1CE4E5B9), U8(0x94D049BB133111EB)


# log(1 + t) / t about 1, where the draws that fall near 0 come from; sin(pi h) / h and cos(pi h)
# of h^2, h within half a turn's half.
L0, L1, L2, L3, L4, L5, L6, L7, L8 = series(lambda t: np.log1p(t) / t, 8, -0.2951, 0.4101)
S0, S1, S2, S3, S4 = series(lambda t: np.sin(np.pi * np.sqrt(t)) / np.sqrt(t), 4, 1e-9, 0.25)
C0, C1, C2, C3, C4 = series(lambda t: np.cos(np.pi * np.sqrt(t)), 4, 0.0, 0.25)
_LN2 = F4(math.log(2))
_STEP = F4(2.0**-24)


@njit(**_INLINE)
def _finalised(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> U8(30))) * _FIRST
    z = (z ^ (z >> U8(27))) * _SECOND
    return z ^ (z >> U8(31))


@njit(**_INLINE)
def _log(x):  # type: ignore[no-untyped-def]
    """Natural logarithm of x > 0, relative error below 1e-6 about 1 too."""
    bits = I4(F4(x).view(np.int32) - I4(0x3F348000))
    exponent = I4(bits >> I4(23))
    t = I4(I4(bits & I4(0x7FFFFF)) + I4(0x3F348000)).view(np.float32) - F4(1)
    rest = L3 + t * (L4 + t * (L5 + t * (L6 + t * (L7 + t * L8))))
    return F4(exponent) * _LN2 + t * (L0 + t * (L1 + t * (L2 + t * rest)))


@njit(**_OPTIONS)
def _bits(state, first, radius, angle):  # type: ignore[no-untyped-def]
    """24 bits each for the radius and the angle of pairs `first`, `first` + 1, ..."""
    for i in range(len(radius)):
        z = _finalised(state + (U8(i) + first + U8(1)) * _GAMMA)
        radius[i] = I4(z >> U8(40))
        angle[i] = I4((z >> U8(8)) & U8(0xFFFFFF))


@njit(**_OPTIONS)
def _pairs(radius, angle, out):  # type: ignore[no-untyped-def]
    """Box and Muller's two normal deviates of each pair, one after the other."""
    for i in range(len(radius)):
        size = math.sqrt(F4(-2) * _log((F4(radius[i]) + F4(0.5)) * _STEP))
        h = F4(angle[i]) * _STEP - F4(0.5)
        t = h * h
        sin = h * (S0 + t * (S1 + t * (S2 + t * (S3 + t * S4))))
        cos = C0 + t * (C1 + t * (C2 + t * (C3 + t * C4)))
        out[U8(2 * i)] = size * (F4(2) * sin * sin - F4(1))
        out[U8(2 * i + 1)] = size * F4(-2) * sin * cos


@njit(**_OPTIONS)
def _times_sigma(light, electrons, white):  # type: ignore[no-untyped-def]
    """Draws times the standard deviation of the photons."""
    for i in range(len(light)):
        white[i] *= math.sqrt(max(light[i], F4(0)) * electrons)


@njit(**_OPTIONS)
def _add(weight, values, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += weight * values[i]


@njit(
    void(float32[:, :, :, ::1], float32[:, ::1], uint64[::1], float32[::1], float32[:, :, :, ::1]),
    **_OPTIONS,
)
def photon_noise_rows(light, electrons, states, kernel, out):  # type: ignore[no-untyped-def]
    """Noise of the photons that light is made of, resampled as a coadd is.

    Args:
        light: nmgy per pixel, (n, band, y, x).
        electrons: Electrons of one nmgy, > 0, (n, band).
        states: What a row's draws begin from: its key mixed with the stream, (n,).
        kernel: The coadd's weights along an axis, an odd number of them.
        out: Filled: noise of the shape of `light`.
    """
    bands, height, width = light.shape[1:]
    count, reach = bands * height * width, len(kernel) // 2
    pairs = (count + 1) // 2
    white = np.empty(2 * pairs, F4)
    radius, angle = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    rows = np.zeros((height + 2 * reach, width), F4)  # no light beyond the edges
    line = np.zeros(width + 2 * reach, F4)
    for r in range(len(light)):
        for first in range(0, pairs, _BLOCK):
            m = min(_BLOCK, pairs - first)
            _bits(states[r], U8(first), radius[:m], angle[:m])
            _pairs(radius[:m], angle[:m], white[2 * first : 2 * (first + m)])
        for b in range(bands):
            here = white[b * height * width : (b + 1) * height * width]
            _times_sigma(light[r, b].reshape(-1), F4(1) / electrons[r, b], here)
            for y in range(height):
                line[reach : reach + width] = here[y * width : (y + 1) * width]
                rows[reach + y, :] = F4(0)
                for k in range(len(kernel)):
                    _add(kernel[k], line[k : k + width], rows[reach + y])
            for y in range(height):
                out[r, b, y, :] = F4(0)
                for k in range(len(kernel)):
                    _add(kernel[k], rows[y + k], out[r, b, y])
