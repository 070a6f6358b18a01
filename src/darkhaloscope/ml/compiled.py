"""What is done to every pixel of a batch, compiled for the CPU: one pass where torch takes ten.

`transforms` and `painters` use these loops where numba is installed and the tensors are float32 on
a CPU; tests hold them to torch's answer. Without numba, and on a GPU, torch does the same.
"""

import math
from typing import Any

import numpy as np
from numba import float32, int32, int64, njit, void

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


L0, L1, L2, L3, L4, L5, L6, L7, L8 = series(lambda t: np.log1p(t) / t, 8, -0.2951, 0.4101)
_LN2 = F4(math.log(2))
_LOWEST = 0x3F348000  # the float from which a mantissa counts: 0.705


@njit(**_INLINE)
def _log1p(x):  # type: ignore[no-untyped-def]
    """log(1 + x) of x >= 0, relative error below 1e-6."""
    bits = I4(F4(x + F4(1)).view(np.int32) - I4(_LOWEST))
    exponent = F4(I4(bits >> I4(23)))
    t = I4(I4(bits & I4(0x7FFFFF)) + I4(_LOWEST)).view(np.float32) - F4(1)
    t = x if exponent == F4(0) else t  # 1 + x has lost the digits of a small x
    rest = L3 + t * (L4 + t * (L5 + t * (L6 + t * (L7 + t * L8))))
    return exponent * _LN2 + t * (L0 + t * (L1 + t * (L2 + t * rest)))


@njit(**_OPTIONS)
def _asinh(pixels, sky, softening, out):  # type: ignore[no-untyped-def]
    for i in range(len(pixels)):
        x = (pixels[i] - sky) / softening
        size = min(abs(x), F4(1e18))  # its square is finite
        value = _log1p(size + size * size / (F4(1) + math.sqrt(size * size + F4(1))))
        value = -value if x < F4(0) else value
        out[i] = x if math.isnan(x) else value


@njit(void(float32[:, :, ::1], float32[:, ::1], float32[::1], float32[:, :, ::1]), **_OPTIONS)
def asinh_rows(pixels, sky, softening, out):  # type: ignore[no-untyped-def]
    """asinh((pixels - sky) / softening), for quotients up to 1e18; NaN stays NaN.

    Args:
        pixels: (n, band, pixel).
        sky: (n, band).
        softening: (band,).
        out: Filled: the shape of `pixels`.
    """
    for r in range(pixels.shape[0]):
        for b in range(pixels.shape[1]):
            _asinh(pixels[r, b], sky[r, b], softening[b], out[r, b])


@njit(**_OPTIONS)
def _taken(values, at, out):  # type: ignore[no-untyped-def]
    for i in range(len(at)):
        out[i] = values[U8(at[i])]


@njit(
    void(
        float32[:, :, ::1], int64[:, ::1], int64[:, ::1], int64, int32[:, ::1], float32[:, :, ::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def seen_rows(pixels, rows, columns, width, turns, out):  # type: ignore[no-untyped-def]
    """Views of stamps, turned: `transforms._seen`.

    Args:
        pixels: (n, band, pixel).
        rows: Row of the image in each row of the view, (n, size).
        columns: The same of the columns, (n, size).
        width: Pixels along a row of the image.
        turns: Which pixel of the view each pixel of its turned form shows, (n, size^2).
        out: Filled: (n, band, size^2).
    """
    size = rows.shape[1]
    flat, at = np.empty(size * size, np.int32), np.empty(size * size, np.int32)
    for r in range(pixels.shape[0]):
        for y in range(size):
            for x in range(size):
                flat[y * size + x] = rows[r, y] * width + columns[r, x]
        for i in range(size * size):
            at[i] = flat[U8(turns[r, i])]
        for b in range(pixels.shape[1]):
            _taken(pixels[r, b], at, out[r, b])


@njit(**_OPTIONS)
def _signal(light, pixels, sky, per_light, sky_variance):  # type: ignore[no-untyped-def]
    total = F4(0)
    for i in range(len(light)):
        variance = max(pixels[i] - sky, F4(0)) * per_light + sky_variance
        total += light[i] * light[i] / variance
    return total


@njit(
    void(
        float32[:, :, ::1], float32[:, :, ::1], int64[::1], float32[:, ::1], float32[:, ::1],
        float32[:, ::1], float32[:, ::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def matched_rows(light, pixels, rows, sky, per_light, sigma, out):  # type: ignore[no-untyped-def]
    """Matched-filter S/N of light on its host: `snr.arc_snr`, with `painters.Batch.variance`.

    Args:
        light: nmgy, (n, band, pixel).
        pixels: Of hosts, nmgy, (m, band, pixel).
        rows: Each light's host, (n,).
        sky: nmgy, (n, band).
        per_light: Variance of a nmgy of the host, nmgy, (n, band).
        sigma: Noise of the sky, nmgy, (n, band).
        out: Filled: (n, band).
    """
    for r in range(light.shape[0]):
        for b in range(light.shape[1]):
            total = _signal(
                light[r, b], pixels[U8(rows[r]), b], sky[r, b], per_light[r, b],
                sigma[r, b] * sigma[r, b],
            )  # fmt: skip
            out[r, b] = math.sqrt(total)
