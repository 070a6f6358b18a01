"""The renderer's inner loops compiled for the CPU: the sampling and blurring of `sampling`, `blur`.

The same plan of refinement, cell by cell, in float32; `render` uses it where numba is installed and
the tensors are float32 on a CPU, and is held to the same answer by tests. numba compiles at the
first import on a machine and keeps the result beside this file, or in the user's cache folder where
that is not writable: no compiler is needed and later processes load it in a fraction of a second.
`cpu.loops` lets processes that start at once wait for one compilation.

Why it looks as it does: numba has no vectorised exp, log or atan, so they are polynomials here.
LLVM turns a loop into SIMD instructions when it sees few arrays, indices that cannot be negative
and no division checks, so loops are short, run over slices, and index by unsigned numbers where a
plain one would do in Python. The 16 children of m cells are stored child by child, (16, m), which
makes every step over a block a step over contiguous memory.
"""

import math
from typing import Any

import numpy as np
from numba import float32, float64, int64, njit, void

from darkhaloscope.lensing.polynomials import series

F4 = np.float32
I4 = np.int32
U8 = np.uint64

_OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "nogil": True}
_INLINE = {**_OPTIONS, "inline": "always"}
_ENTRY = {**_OPTIONS, "cache": True}  # what is called from Python is kept on disk, with its callees

ROW = 19  # numbers a row that `pack` of `render` lays out: see `_rays` and `_sersic`
_FLATTEST = 0.42  # axis ratio below which the angles are halved once more
_BINS = 4096
_BIN_BITS = 18  # of a float32 left out when it is binned: 5 bits of mantissa, 2 % wide bins
_FINE_BINS = 256
_LOWEST_BIN = (127 - 44) << 5  # numbers below 2^-44 share the first bin
_SPLIT = 4
_DARK = 1e-5  # where a transfer function falls below it, along an axis, it is taken to be 0


# In t, the square of the argument: up to (1 - q) / (1 + q) at `_FLATTEST`.
A0, A1, A2, A3, A4, A5, A6, A7 = series(lambda t: np.arctan(np.sqrt(t)) / np.sqrt(t), 7, 0.0, 0.41)
H0, H1, H2, H3, H4, H5, H6, H7 = series(lambda t: np.arctanh(np.sqrt(t)) / np.sqrt(t), 7, 0.0, 0.41)
L0, L1, L2, L3, L4, L5, L6, L7 = series(lambda m: np.log2(1 + m) / m, 7, 0.0, 1.0)
E0, E1, E2, E3, E4, E5 = series(lambda m: np.asarray(2**m), 5, 0.0, 1.0)


@njit(**_INLINE)
def _log2(x):  # type: ignore[no-untyped-def]
    """log2 of x > 0, within 1e-6."""
    bits = F4(x).view(np.int32)
    exponent = F4(I4(bits >> I4(23)) - I4(127))
    m = I4(I4(bits & I4(0x7FFFFF)) | I4(0x3F800000)).view(np.float32) - F4(1)
    rest = L1 + m * (L2 + m * (L3 + m * (L4 + m * (L5 + m * (L6 + m * L7)))))
    return exponent + m * (L0 + m * rest)


@njit(**_INLINE)
def _exp2(x):  # type: ignore[no-untyped-def]
    """2^x, relative error below 1e-6; below 2^-120 it stays there, clear of slow numbers."""
    x = max(x, F4(-120))
    whole = I4(x + F4(128)) - I4(128)
    m = x - F4(whole)
    value = E0 + m * (E1 + m * (E2 + m * (E3 + m * (E4 + m * E5))))
    return value * I4((whole + I4(127)) << I4(23)).view(np.float32)


@njit(**_INLINE)
def _atan(w):  # type: ignore[no-untyped-def]
    t = w * w
    rest = A2 + t * (A3 + t * (A4 + t * (A5 + t * (A6 + t * A7))))
    return w * (A0 + t * (A1 + t * rest))


@njit(**_INLINE)
def _atanh(w):  # type: ignore[no-untyped-def]
    t = w * w
    rest = H2 + t * (H3 + t * (H4 + t * (H5 + t * (H6 + t * H7))))
    return w * (H0 + t * (H1 + t * rest))


@njit(**_OPTIONS)
def _rays(u, v, row, xi, eta):  # type: ignore[no-untyped-def]
    """Where rays end in the source's scaled axes: `sampling.Rays.trace`."""
    q2, f, q = row[0], row[1], row[2]
    m0, m1, m2, m3 = row[3], row[4], row[5], row[6]
    p0, p1, p2, p3 = row[7], row[8], row[9], row[10]
    s0, s1 = row[11], row[12]
    tiny = F4(1e-30)
    if q >= F4(_FLATTEST):
        for i in range(len(u)):
            a, b = u[i], v[i]
            psi, r = math.sqrt(q2 * a * a + b * b), math.sqrt(a * a + b * b)
            at, bt = _atan(f * a / (psi + r + tiny)), _atanh(f * b / (psi + q * r + tiny))
            xi[i] = m0 * a + m1 * b + p0 * at + p1 * bt + s0
            eta[i] = m2 * a + m3 * b + p2 * at + p3 * bt + s1
    else:
        for i in range(len(u)):
            a, b = u[i], v[i]
            psi, r = math.sqrt(q2 * a * a + b * b), math.sqrt(a * a + b * b)
            w, z = f * a / (psi + r + tiny), f * b / (psi + q * r + tiny)
            at = F4(2) * _atan(w / (F4(1) + math.sqrt(F4(1) + w * w)))
            bt = F4(2) * _atanh(z / (F4(1) + math.sqrt(F4(1) - z * z)))
            xi[i] = m0 * a + m1 * b + p0 * at + p1 * bt + s0
            eta[i] = m2 * a + m3 * b + p2 * at + p3 * bt + s1


@njit(**_OPTIONS)
def _radius2(xi, eta, radius2):  # type: ignore[no-untyped-def]
    for i in range(len(xi)):
        radius2[i] = xi[i] * xi[i] + eta[i] * eta[i] + F4(1e-12)


@njit(**_OPTIONS)
def _sersic(radius2, row, light):  # type: ignore[no-untyped-def]
    """Brightness from the squared radius: exp2(peak - b radius^(1 / n)), in powers of 2."""
    exponent, minus_b, log_peak = row[13], row[14], row[15]
    for i in range(len(radius2)):
        light[i] = _exp2(log_peak + minus_b * _exp2(exponent * _log2(radius2[i])))


@njit(**_OPTIONS)
def _along(at, middle, size, pixel, low, high):  # type: ignore[no-untyped-def]
    """Where points lie between a picture's pixels along one axis, and the weights of both.

    What lies outside the picture is 0: a point within a pixel of its edge has one neighbour.
    """
    last = I4(size - 1)
    for i in range(U8(len(at))):
        x = min(max(at[i] + middle, F4(-1)), F4(size))
        k = I4(x + F4(1)) - I4(1)
        rest = x - F4(k)
        is_before = k < I4(0)
        low[i] = rest if is_before else (F4(1) - rest if k <= last else F4(0))
        high[i] = F4(0) if is_before or k >= last else rest
        pixel[i] = min(max(k, I4(0)), last)


@njit(**_OPTIONS)
def _picture(pixel, weight, picture, factor, light):  # type: ignore[no-untyped-def]
    """Brightness of one layer of a picture: `bank.Pictures.brightness`."""
    size = I4(picture.shape[0])
    flat, last = picture.reshape(picture.size), I4(picture.size - 1)
    for i in range(U8(len(light))):
        at = pixel[1, i] * size + pixel[0, i]
        right, up = U8(min(at + I4(1), last)), U8(min(at + size, last))
        both = U8(min(at + size + I4(1), last))
        low = flat[U8(at)] * weight[0, i] + flat[right] * weight[1, i]
        high = flat[up] * weight[0, i] + flat[both] * weight[1, i]
        light[i] = (low * weight[2, i] + high * weight[3, i]) * factor


@njit(**_OPTIONS)
def _innermost(u, v, stretch, width, key):  # type: ignore[no-untyped-def]
    """From squared radii of midpoints to squares of `sampling.Rays.innermost`, in place."""
    half = F4(0.5) * width * stretch
    for i in range(len(key)):
        radius = math.sqrt(key[i])
        covered = half / (math.sqrt(u[i] * u[i] + v[i] * v[i]) + F4(1e-9))
        inner = max(radius - covered, F4(0)) + F4(1e-3) * radius
        key[i] = inner * inner


@njit(**_OPTIONS)
def _edge(held, count):  # type: ignore[no-untyped-def]
    """The bin in which the `count`-th number lies, and how many of it belong to them."""
    below, edge = 0, 0
    while below + held[edge] < count:
        below += held[edge]
        edge += 1
    return edge, count - below


@njit(**_OPTIONS)
def _smallest(key, count, bins, held, chosen, is_exact):  # type: ignore[no-untyped-def]
    """Indices of the `count` smallest of positive numbers; among those of the last bin, the first.

    Counting into bins by the leading bits of the float finds them in three passes. A bin is 2 %
    wide, which moves no cell of a smooth source that matters; for pictures the last bin is counted
    into bins of its own, 0.01 % wide.
    """
    n = len(key)
    if count >= n:
        for i in range(n):
            chosen[i] = i
        return n
    held[:] = 0
    for i in range(n):
        k = I4(F4(key[i]).view(np.int32) >> I4(_BIN_BITS)) - I4(_LOWEST_BIN)
        bins[i] = min(max(k, I4(0)), I4(_BINS - 1))
    for i in range(n):
        held[U8(bins[i])] += 1
    edge, rest = _edge(held, count)
    if is_exact:
        held[:_FINE_BINS] = 0
        for i in range(n):
            if bins[i] == I4(edge):
                part = F4(key[i]).view(np.int32) >> I4(_BIN_BITS - 8)
                bins[i] = I4(part & I4(_FINE_BINS - 1))
                held[U8(bins[i])] += 1
            else:
                bins[i] = I4(-1) if bins[i] < I4(edge) else I4(_FINE_BINS)
        edge, rest = _edge(held, rest)
    left, found, last = I4(rest), U8(0), I4(edge)
    for i in range(n):
        chosen[found] = i
        is_last = bins[i] == last
        found += U8((bins[i] < last) or (is_last and left > 0))
        left -= I4(is_last)
    return count


@njit(**_OPTIONS)
def _children(u, v, chosen, count, axes, width, at, out_u, out_v):  # type: ignore[no-untyped-def]
    """Midpoints of the 16 children of some cells, child by child."""
    cos, sin = axes
    m = U8(count)
    for i in range(m):
        at[0, i] = u[U8(chosen[i])]
        at[1, i] = v[U8(chosen[i])]
    for j in range(_SPLIT * _SPLIT):
        right = ((F4(j % _SPLIT) + F4(0.5)) / F4(_SPLIT) - F4(0.5)) * width
        up = ((F4(j // _SPLIT) + F4(0.5)) / F4(_SPLIT) - F4(0.5)) * width
        step_u, step_v, first = cos * right + sin * up, cos * up - sin * right, U8(j) * m
        for i in range(m):
            out_u[first + i] = at[0, i] + step_u
        for i in range(m):
            out_v[first + i] = at[1, i] + step_v


@njit(**_OPTIONS)
def _averaged(light, count, area, out):  # type: ignore[no-untyped-def]
    """Flux of cells from the midpoints of their block of 4 x 4: `sampling._averaged`."""
    m = U8(count)
    for j in range(_SPLIT * _SPLIT):
        y, x = j // _SPLIT, j % _SPLIT
        row, column = 1 if y < 2 else 2, 1 if x < 2 else 2
        below, level = U8((row - 1) * _SPLIT + x) * m, U8(row * _SPLIT + x) * m
        above = U8((row + 1) * _SPLIT + x) * m
        left, middle = U8(y * _SPLIT + column - 1) * m, U8(y * _SPLIT + column) * m
        right, own = U8(y * _SPLIT + column + 1) * m, U8(j) * m
        for i in range(m):
            midpoint = light[own + i]
            step = light[below + i] + light[above + i] + light[left + i] + light[right + i]
            step = (step - F4(2) * (light[level + i] + light[middle + i])) * F4(1 / 24)
            step = min(max(step, F4(-0.25) * midpoint), F4(0.25) * midpoint)
            out[own + i] = (midpoint + step) * area


@njit(**_OPTIONS)
def _grid(axis, x0, y0, scale, axes, u, v):  # type: ignore[no-untyped-def]
    """Midpoints of the base cells along the axes of the mass, arcsec from the host."""
    cos, sin = axes
    across = len(axis)
    for j in range(across):
        y = (axis[j] - y0) * scale
        row_u, row_v = u[j * across : (j + 1) * across], v[j * across : (j + 1) * across]
        for k in range(across):
            row_u[k] = cos * (axis[k] - x0) * scale + sin * y
        for k in range(across):
            row_v[k] = cos * y - sin * (axis[k] - x0) * scale


@njit(**_OPTIONS)
def _shine(u, v, row, source, room, radius2, light):  # type: ignore[no-untyped-def]
    """Brightness of every layer at n points, (layer, n), and their squared source radius."""
    picture, half_light_px, mirror = source
    n = len(u)
    rays, pixel, weight = room
    xi, eta = rays[0, :n], rays[1, :n]
    _rays(u, v, row, xi, eta)
    _radius2(xi, eta, radius2[:n])
    size = picture.shape[1]
    if size == 0:
        _sersic(radius2[:n], row, light[0, :n])
        return
    for i in range(n):
        xi[i] *= mirror * half_light_px
        eta[i] *= half_light_px
    middle = F4(size - 1) / F4(2)
    _along(xi, middle, size, pixel[0], weight[0], weight[1])
    _along(eta, middle, size, pixel[1], weight[2], weight[3])
    factor = half_light_px * half_light_px * _exp2(row[15])
    for layer in range(len(picture)):
        _picture(pixel, weight, picture[layer], factor, light[layer, :n])


@njit(**_OPTIONS)
def _structure(u, v, width, light, flux, key):  # type: ignore[no-untyped-def]
    """A key that is small where the mean of a cell is far from its midpoint, and at the lens."""
    area = width * width
    key[:] = F4(1e-20)
    for layer in range(len(light)):
        for i in range(len(key)):
            key[i] += abs(flux[layer, i] - light[layer, i] * area)
    for i in range(len(key)):
        is_torn = u[i] * u[i] + v[i] * v[i] < area
        key[i] = F4(1e-30) if is_torn else F4(1) / key[i]


@njit(**_OPTIONS)
def _spread(base, area, across, line, fine):  # type: ignore[no-untyped-def]
    """Flux of base cells shared out evenly to their fine cells."""
    share = area / F4(_SPLIT * _SPLIT)
    for j in range(across):
        row = base[j * across : (j + 1) * across]
        for k in range(across):
            value, at = row[k] * share, U8(_SPLIT * k)
            line[at], line[at + U8(1)] = value, value
            line[at + U8(2)], line[at + U8(3)] = value, value
        for step in range(_SPLIT):
            y = _SPLIT * j + step
            for k in range(U8(len(line))):
                fine[y, k] = line[k]


@njit(**_OPTIONS)
def _put_back(flux, count, cell, weights, share, side, fine):  # type: ignore[no-untyped-def]
    """Add the flux inside some fine cells around these cells: `sampling._put_back`."""
    m, total = U8(count), int64(side * side)
    for p in range(9):
        for i in range(m):
            share[i] = F4(0)
        for j in range(_SPLIT * _SPLIT):
            weight, first = weights[j, p], U8(j) * m
            for i in range(m):
                share[i] += weight * flux[first + i]
        step = (p // 3 - 1) * side + p % 3 - 1
        for i in range(m):
            at = cell[i] + step
            at = at + total if at < 0 else at
            at = at - total if at >= total else at
            fine[U8(at)] += share[i]


@njit(**_OPTIONS)
def _collect(flux, count, chosen, out):  # type: ignore[no-untyped-def]
    """Put the sums of the 16 children of some cells in these cells' places."""
    m = U8(count)
    for i in range(m):
        total = F4(0)
        for j in range(U8(_SPLIT * _SPLIT)):
            total += flux[j * m + i]
        out[U8(chosen[i])] = total


@njit(**_OPTIONS)
def _fine_cells(chosen, m, across, cell):  # type: ignore[no-untyped-def]
    """Index of the 16 fine cells of each of m base cells, child by child."""
    side = _SPLIT * across
    for i in range(m):
        corner = chosen[i] // across * _SPLIT * side + chosen[i] % across * _SPLIT
        for j in range(_SPLIT * _SPLIT):
            cell[j * m + i] = corner + j // _SPLIT * side + j % _SPLIT


@njit(**_OPTIONS)
def _clear(flux, chosen, m):  # type: ignore[no-untyped-def]
    """Take the light of m chosen cells out of every layer."""
    for layer in range(len(flux)):
        for i in range(m):
            flux[layer, U8(chosen[i])] = F4(0)


@njit(**_OPTIONS)
def _set_down(flux, cell, n, canvas):  # type: ignore[no-untyped-def]
    """Put the light of n fine cells, in every layer, where they are."""
    for layer in range(len(flux)):
        for i in range(n):
            canvas[layer, U8(cell[i])] = flux[layer, i]


@njit(
    void(
        float32[:, ::1], float32[::1], float32[::1], float32[::1], float32, int64[::1],
        float32[:, ::1], float32[:, :, :, ::1], int64[::1], float32[::1], float32[::1],
        float32[:, :, :, ::1],
    ),
    **_ENTRY,
)  # fmt: skip
def sample_rows(  # type: ignore[no-untyped-def]  # noqa: C901, PLR0912, PLR0913, PLR0917
    rows, x0, y0, axis, scale, splits, weights, pictures, which, half_light_px, mirror, fine
):
    """Flux of each fine cell, for an unlensed flux of 1: `sampling.sample`.

    Args:
        rows: The numbers of n rows, as `render` packs them, (n, ROW).
        x0: Host's centre from the stamp's, pixels, (n,).
        y0: The same along y.
        axis: Centres of the base cells along a side, pixels from the stamp's centre.
        scale: Width of a pixel, arcsec.
        splits: Cells split 4 x 4 at each level.
        weights: What the 16 children of a fine cell give to its 9 neighbours, (16, 9).
        pictures: Of sources, (count, layer, size, size); (1, 1, 0, 0) where they are Sersic.
        which: Each row's picture, (n,).
        half_light_px: Half-light radius of each row's picture, (n,).
        mirror: 1, or -1 for a mirrored picture, (n,).
        fine: Filled: (n, layer, fine_px, fine_px).
    """
    across, levels, layers = len(axis), len(splits), fine.shape[1]
    side, n_base = _SPLIT * across, across * across
    cap = max(n_base, _SPLIT * _SPLIT * splits.max())
    at_u, at_v = np.empty((levels + 1, cap), F4), np.empty((levels + 1, cap), F4)
    flux, light = np.empty((levels + 1, layers, cap), F4), np.empty((layers, cap), F4)
    key, room = (
        np.empty(cap, F4),
        (np.empty((2, cap), F4), np.empty((2, cap), I4), np.empty((4, cap), F4)),
    )
    spare, line = np.empty((2, cap), F4), np.empty(side, F4)
    bins, held = np.empty(cap, np.int32), np.empty(_BINS, np.int32)
    chosen, count = np.empty((levels, cap), np.int64), np.empty(levels + 1, np.int64)
    cell, inner = np.empty(cap, np.int64), np.empty(cap, np.int64)
    for r in range(len(rows)):
        row = rows[r]
        axes = (row[16], row[17])
        source = (pictures[which[r]], half_light_px[r], mirror[r])
        is_picture = pictures.shape[2] > 0
        canvas = fine[r].reshape((layers, side * side))
        width = F4(2) * scale
        _grid(axis, x0[r], y0[r], scale, axes, at_u[0], at_v[0])
        _shine(at_u[0, :n_base], at_v[0, :n_base], row, source, room, key, flux[0])
        _innermost(at_u[0, :n_base], at_v[0, :n_base], row[18], width, key[:n_base])
        m = _smallest(key[:n_base], splits[0], bins, held, chosen[0], is_picture)
        _clear(flux[0], chosen[0], m)
        for layer in range(layers):
            _spread(flux[0, layer], width * width, across, line, fine[r, layer])
        for level in range(1, levels + 1):
            n = _SPLIT * _SPLIT * m
            _children(at_u[level - 1], at_v[level - 1], chosen[level - 1], m, axes, width,
                      spare, at_u[level], at_v[level])  # fmt: skip
            width /= F4(_SPLIT)
            _shine(at_u[level, :n], at_v[level, :n], row, source, room, key, light)
            for layer in range(layers):
                _averaged(light[layer], m, width * width, flux[level, layer])
            if level == 1:
                _fine_cells(chosen[0], m, across, cell)
            count[level - 1] = m
            if level < levels:
                if is_picture:
                    _structure(at_u[level, :n], at_v[level, :n], width, light[:, :n],
                               flux[level, :, :n], key[:n])  # fmt: skip
                else:
                    _innermost(at_u[level, :n], at_v[level, :n], row[18], width, key[:n])
                m = _smallest(key[:n], splits[level], bins, held, chosen[level], is_picture)
            if level == 1:
                if levels > 1:
                    _clear(flux[1], chosen[1], m)
                    for i in range(m):
                        inner[i] = cell[U8(chosen[1, i])]
                _set_down(flux[1], cell, n, canvas)
        for layer in range(layers):
            for level in range(levels, 2, -1):
                _collect(flux[level, layer], count[level - 1], chosen[level - 1],
                         flux[level - 1, layer])  # fmt: skip
            if levels > 1:
                _put_back(flux[2, layer], count[1], inner, weights, spare[0], side, canvas[layer])


@njit(**_OPTIONS)
def _times(spectrum, phase, y, m, real, imaginary):  # type: ignore[no-untyped-def]
    """A row of a product of complex numbers stored in pairs, its parts apart."""
    for x in range(U8(m)):
        a, b = spectrum[y, U8(2) * x], spectrum[y, U8(2) * x + U8(1)]
        c, d = phase[y, U8(2) * x], phase[y, U8(2) * x + U8(1)]
        real[y, x] = a * c - b * d
        imaginary[y, x] = a * d + b * c


@njit(**_OPTIONS)
def _next_wave(wave, ratio, growth):  # type: ignore[no-untyped-def]
    for j in range(len(wave)):
        wave[j] = max(wave[j] * ratio[j], 1e-30)
        ratio[j] = max(ratio[j] * growth[j], 1e-30)


@njit(**_OPTIONS)
def _waves(exponent, weight, step2, weighted, waves):  # type: ignore[no-untyped-def]
    """exp(exponent k^2) at k = 0, 1, ... steps, for each Gaussian of a mixture.

    Neighbouring values have a ratio that is itself a geometric series: no exponential is taken.

    Returns:
        At how many of the frequencies the transfer function is above `_DARK`.
    """
    ratio = np.exp(exponent * step2)
    growth, wave = ratio * ratio, np.ones_like(ratio)
    for k in range(len(weighted)):
        total = 0.0
        for j in range(len(wave)):
            total += weight[j] * wave[j]
        if k > 0 and total < _DARK:
            return k
        for j in range(len(wave)):
            weighted[k, j] = weight[j] * wave[j]
            waves[j, k] = wave[j]
        _next_wave(wave, ratio, growth)
    return len(weighted)


@njit(**_OPTIONS)
def _transfer(weighted, waves, m, used, out):  # type: ignore[no-untyped-def]
    """The mixture's transfer function at frequencies below m; 0 from there to `used`."""
    for y in range(used):
        for x in range(U8(used)):
            out[y, x] = F4(0)
        for j in range(len(waves) if y < m else 0):
            factor = weighted[y, j]
            if factor > F4(1e-9):
                for x in range(U8(m)):
                    out[y, x] += factor * waves[j, x]
    out[0, 0] = F4(1)


@njit(**_OPTIONS)
def _multiply(part, transfer, m, out):  # type: ignore[no-untyped-def]
    """One part of a spectrum times a transfer function, rows that look alike added up.

    `out` has the pixels' rows, (P, P + 1); beyond the m frequencies it is left as it was.
    """
    padded = len(out)
    for y in range(min(m, padded)):
        for x in range(U8(m)):
            out[y, x] = part[y, x] * transfer[y, x]
    for k in range(1, m):
        y, mirrored = padded - k, 2 * padded - k
        if y < m:
            for x in range(U8(m)):
                out[y, x] += part[mirrored, x] * transfer[k, x]
        else:
            for x in range(U8(m)):
                out[y, x] = part[mirrored, x] * transfer[k, x]


@njit(**_OPTIONS)
def _fold(re, im, m, line, out):  # type: ignore[no-untyped-def]
    """Add up the columns that look alike, and store in pairs: `blur._fold`."""
    padded = len(out)
    half, last = U8(padded // 2 + 1), U8(padded)
    for y in range(padded):
        other = padded - y if y > 0 else 0
        for x in range(half):
            line[0, x] = re[y, x]
            line[1, x] = im[y, x]
        if m >= half:
            for x in range(half):
                line[0, x] += re[other, last - x]
            for x in range(half):
                line[1, x] -= im[other, last - x]
        for x in range(half):
            out[y, U8(2) * x] = line[0, x]
            out[y, U8(2) * x + U8(1)] = line[1, x]


@njit(**_OPTIONS)
def _mixed(parts, share, m, padded, out):  # type: ignore[no-untyped-def]
    """A band's light from that of the layers, at the frequencies that are used."""
    for y in range(2 * padded):
        if m <= y <= 2 * padded - m:
            continue
        for x in range(U8(m)):
            out[y, x] = share[0] * parts[0, y, x]
        for layer in range(1, len(parts)):
            for x in range(U8(m)):
                out[y, x] += share[layer] * parts[layer, y, x]


@njit(
    void(
        float32[:, :, :, ::1], float32[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64,
        float32[:, :, ::1], float32[:, :, :, ::1],
    ),
    **_ENTRY,
)  # fmt: skip
def blur_spectra(  # type: ignore[no-untyped-def]  # noqa: C901
    spectra, phase, exponent, weight, step2, share, out
):
    """From spectra on the fine grid to those of each band's pixels, folded: `blur.blur`.

    Args:
        spectra: Half-spectra of the light, pairs of numbers, (n, layer, 2 P, 2 (P + 1)).
        phase: What multiplies all of them, in pairs, (2 P, 2 (P + 1)).
        exponent: Of each Gaussian of the PSF per squared frequency, arcsec^2, (n or 1, band, j).
        weight: Its share of the light, (n or 1, band, j).
        step2: Square of the step in frequency, 1 / arcsec^2.
        share: Of a band's flux in each layer, (n, layer, band).
        out: Filled: (n, band, P, 2 (P / 2 + 1)).
    """
    layers, bands, padded = spectra.shape[1], out.shape[1], out.shape[2]
    wide = padded + 1
    real, imaginary = (
        np.empty((layers, 2 * padded, wide), F4),
        np.empty((layers, 2 * padded, wide), F4),
    )
    band_real, band_imaginary = np.empty((2 * padded, wide), F4), np.empty((2 * padded, wide), F4)
    re, im, line = (
        np.zeros((padded, wide), F4),
        np.zeros((padded, wide), F4),
        np.empty((2, wide), F4),
    )
    weighted = np.empty((bands, wide, exponent.shape[2]), F4)
    waves = np.empty((bands, exponent.shape[2], wide), F4)
    transfer, seen, used = np.empty((bands, wide, wide), F4), np.zeros(bands, np.int64), 0
    for r in range(len(spectra)):
        if r == 0 or len(exponent) > 1:
            for b in range(bands):
                seen[b] = _waves(exponent[r, b], weight[r, b], step2, weighted[b], waves[b])
            before, used = used, seen.max()
            for b in range(bands):
                _transfer(weighted[b], waves[b], seen[b], used, transfer[b])
            if used < before:
                re[:] = F4(0)
                im[:] = F4(0)
        for layer in range(layers):
            for y in range(2 * padded):
                if y < used or y > 2 * padded - used:
                    _times(spectra[r, layer], phase, y, used, real[layer], imaginary[layer])
        for b in range(bands):
            if layers == 1:
                _multiply(real[0], transfer[b], used, re)
                _multiply(imaginary[0], transfer[b], used, im)
            else:
                _mixed(real, share[r, :, b], used, padded, band_real)
                _mixed(imaginary, share[r, :, b], used, padded, band_imaginary)
                _multiply(band_real, transfer[b], used, re)
                _multiply(band_imaginary, transfer[b], used, im)
            _fold(re, im, used, line, out[r, b])


@njit(
    void(
        float32[:, :, :, ::1], float32[:, ::1], int64, float32[:, :, :, ::1], float32[:, ::1],
    ),
    **_ENTRY,
)  # fmt: skip
def read_off(blurred, flux, lead, pixels, inside):  # type: ignore[no-untyped-def]
    """Crop the frame to the stamp, times the flux; and add up the light inside for a flux of 1.

    Args:
        blurred: The frame's pixels, (n, band, P, P).
        flux: (n, band).
        lead: Pixels of margin before the stamp's first.
        pixels: Filled: (n, band, size, size).
        inside: Filled: (n, band).
    """
    size = pixels.shape[2]
    for r in range(len(blurred)):
        for b in range(blurred.shape[1]):
            light, factor = F4(0), flux[r, b]
            for y in range(size):
                row, out = blurred[r, b, y + lead, lead : lead + size], pixels[r, b, y]
                for x in range(size):
                    light += row[x]
                for x in range(size):
                    out[x] = row[x] * factor
            inside[r, b] = light
