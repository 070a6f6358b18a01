"""A slow float64 renderer to test the fast one against; it shares no code with the package.

Rays are traced on a grid 16 times finer than the pixels, and cells near the source's cusp refined
3 x 3 again and again; the light is then blurred without any Fourier transform of the PSF: by the
exact Gaussian (error functions with the pixel, exponentials without), or by a Moffat profile
evaluated at every offset and convolved on a grid with room for all of it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import erf, gamma, gammaincinv

F8 = NDArray[np.float64]
PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Row:
    """One lens and source: arcsec and radians, the lens at (lens_x, lens_y) from the middle."""

    theta_e: float
    q: float
    phi: float
    shear: float
    shear_phi: float
    src_x: float
    src_y: float
    r_eff: float
    n: float
    src_q: float
    src_phi: float
    lens_x: float = 0.0
    lens_y: float = 0.0


def trace(row: Row, x: F8, y: F8) -> tuple[F8, F8]:
    """Where rays at (x, y), arcsec from the middle, leave the source plane, from the lens."""
    dx, dy = x - row.lens_x, y - row.lens_y
    c, s = math.cos(row.phi), math.sin(row.phi)
    u, v = c * dx + s * dy, c * dy - s * dx
    f = math.sqrt(max(1 - row.q**2, 1e-14))
    psi = np.sqrt(row.q**2 * u**2 + v**2) + 1e-300
    scale = row.theta_e * math.sqrt(row.q) / f
    au, av = (
        scale * np.arctan(f * u / psi),
        scale * np.arctanh(np.clip(f * v / psi, -1 + 1e-15, 1 - 1e-15)),
    )
    g1, g2 = row.shear * math.cos(2 * row.shear_phi), row.shear * math.sin(2 * row.shear_phi)
    return (
        dx - (c * au - s * av) - (g1 * dx + g2 * dy),
        dy - (s * au + c * av) - (g2 * dx - g1 * dy),
    )


def radius(row: Row, x: F8, y: F8) -> F8:
    """Elliptical radius of source-plane points, in r_eff."""
    dx, dy = x - row.src_x, y - row.src_y
    c, s = math.cos(row.src_phi), math.sin(row.src_phi)
    u, v = c * dx + s * dy, c * dy - s * dx
    return np.asarray(np.sqrt(row.src_q * u**2 + v**2 / row.src_q) / row.r_eff)


def brightness(row: Row, x: F8, y: F8) -> tuple[F8, F8]:
    """Flux per arcsec^2 of the lensed source of unlensed flux 1, and the source-plane radius."""
    at = radius(row, *trace(row, x, y))
    b = gammaincinv(2 * row.n, 0.5)
    total = 2 * math.pi * row.n * row.r_eff**2 * b ** (-2 * row.n) * gamma(2 * row.n)
    return np.exp(-b * at ** (1 / row.n)) / total, at


def axis(cells: int, step: float) -> F8:
    return (np.arange(cells) - (cells - 1) / 2) * step


@dataclass(frozen=True)
class Light:
    """Flux of one row: cells of a fine grid over `field` pixels, and points that replace some."""

    cells: F8
    x: F8
    y: F8
    flux: F8
    field: int
    scale: float

    @property
    def total(self) -> float:
        return float(self.cells.sum() + self.flux.sum())


def light_of(row: Row, field: int, scale: float, fine: int = 8, levels: int = 5) -> Light:
    """Cells of scale / fine; near the cusp and round the lens refined 3 x 3, `levels` times."""
    width = scale / fine
    x, y = np.meshgrid(axis(field * fine, width), axis(field * fine, width))
    light, at = brightness(row, x, y)
    # a midpoint is too low where light is convex: wide margins, so that this is no error here
    near = at * row.r_eff < np.maximum(10 * width, min(1.5 * row.r_eff, 0.3))
    if row.theta_e > 0:  # the map is torn at the lens
        near |= np.hypot(x - row.lens_x, y - row.lens_y) < 3 * width
    cells = np.where(near, 0.0, light * width**2)
    cx, cy, points = x[near], y[near], []
    for level in range(levels):
        steps = axis(3, width / 3)
        cx, cy = (
            (cx[:, None] + np.tile(steps, 3)).ravel(),
            (cy[:, None] + np.repeat(steps, 3)).ravel(),
        )
        width /= 3
        light, at = brightness(row, cx, cy)
        deep = (at * row.r_eff < 10 * width) & (level < levels - 1)
        points.append((cx[~deep], cy[~deep], light[~deep] * width**2))
        cx, cy = cx[deep], cy[deep]
    return Light(cells, *[np.concatenate(part) for part in zip(*points, strict=True)], field, scale)


def gaussian_pixels(light: Light, size: int, fwhm: float, *, with_pixel: bool) -> F8:
    """Blur by a Gaussian, with the pixel's box or without, at the middle `size` pixels."""
    sigma = fwhm / PER_SIGMA

    def along(at: F8) -> F8:
        if with_pixel:
            edges = (np.arange(size + 1) - size / 2) * light.scale
            cdf = 0.5 * (1 + erf((edges[:, None] - at) / (sigma * math.sqrt(2))))
            return np.asarray(np.diff(cdf, axis=0))
        step = axis(size, light.scale)[:, None] - at
        peak = light.scale / (sigma * math.sqrt(2 * math.pi))
        return np.asarray(peak * np.exp(-0.5 * (step / sigma) ** 2))

    grid = along(axis(len(light.cells), light.scale * light.field / len(light.cells)))
    return np.asarray(
        grid @ light.cells @ grid.T + (along(light.y) * light.flux) @ along(light.x).T
    )


def moffat_pixels(light: Light, size: int, alpha: float, beta: float) -> F8:
    """Blur by a Moffat that has the pixel in it, at the middle `size` pixels."""
    cells, scale = len(light.cells), light.scale
    per_px, step = cells // light.field, scale * light.field / cells

    def kernel(r2: F8) -> F8:
        peak = (beta - 1) / (math.pi * alpha**2) * scale**2
        return np.asarray(peak * (1 + r2 / alpha**2) ** -beta)

    offset = (np.arange(2 * cells) - cells + 0.5) * step  # a pixel's centre is a corner of cells
    blurred = fftconvolve(light.cells, kernel(offset**2 + offset[:, None] ** 2), mode="full")
    first = cells + (cells - size * per_px + per_px) // 2 - 1
    pixels = blurred[first::per_px, first::per_px][:size, :size].copy()
    at = axis(size, scale)
    for x, y, flux in zip(light.x, light.y, light.flux, strict=True):
        pixels += flux * kernel((at - x) ** 2 + (at[:, None] - y) ** 2)
    return pixels


def errors(image: F8, truth: F8) -> tuple[F8, F8]:
    """Relative error of image (L2) and flux, of arrays (..., y, x)."""
    image = np.asarray(image, np.float64)
    l2 = np.sqrt(((image - truth) ** 2).sum((-2, -1)) / (truth**2).sum((-2, -1)))
    return l2, np.abs(image.sum((-2, -1)) / truth.sum((-2, -1)) - 1)
