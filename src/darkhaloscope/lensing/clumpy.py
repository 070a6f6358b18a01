"""Generated star-forming galaxies of redshift 0.7 to 3: smooth old stars, clumps of young ones.

A galaxy is two layers: the old stars, a disc with a bulge, and the young ones, a wider, uneven
disc on which clumps stand. The layers have colours of their own, so clumps are bluer than what they
stand on. Everything is drawn from a galaxy's id, so that anyone can rebuild it.

What is drawn, and after whom:

- Half of a galaxy's light lies within some 1/12 of the picture's width; discs are 0.25 as thick as
  wide and seen from any side, which gives the axis ratios of chain and clump-cluster galaxies
  (Elmegreen et al. 2005, ApJ 631, 85).
- Clumps hold 8 to 45 % of the young light: 8 % is the least of one clump of Guo et al. 2015 (ApJ
  800, 39); all clumps of a clumpy galaxy together hold 19 % of its ultraviolet light on average
  (Soto et al. 2017, ApJ 837, 6).
- Luminosities of clumps follow dN/dL ~ L^-1.8 over a factor of 30: slopes of -1.7 to -2 are those
  of clumps in lensed galaxies and of nearby HII regions (Livermore et al. 2012, MNRAS 427, 688;
  Dessauges-Zavadsky & Adamo 2018, MNRAS 479, L118). There are 3 to 16; up to 8 are bright enough to
  be told apart without a lens (Soto et al. 2017).
- Their half-light radii are some 0.1 to 0.25 of the galaxy's, the brighter the larger: 250 to 600
  pc for one of 2.5 kpc, the upper half of those in lensed galaxies (Livermore et al. 2015, MNRAS
  450, 1812), as the smallest would be points on the picture.
- They lie where an exponential disc has its light, outside its innermost part (Guo et al. 2018, ApJ
  853, 108, find them at 0.5 to 2 half-light radii).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.lensing import populations
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.light import sersic_brightness

Ids = NDArray[np.int64]
Values = NDArray[np.float64]
Draw = Callable[..., Tensor]  # of a stream's name, and the ends of its range

REDSHIFTS = (0.7, 3.0)
MAX_CLUMPS = 16

_THICKNESS = 0.25
_R_EFF_OVER_SIZE = 0.1
_CLUMP_SHARE = (0.08, 0.45)  # of the young light; its mean, 0.2, by a square
_LUMINOSITY_SLOPE, _LUMINOSITY_RANGE = 1.8, 30.0
_CLUMP_RADII = (0.08, 0.2)  # of 1/10 of the picture's width
_HALF_LIGHT_SIGMAS = 1.1774  # half-light radius of a round Gaussian
_RIPPLES = 8  # waves that make the young disc uneven
_CENTRINGS = 3  # each moves the centroid by what it was off: 0.01 px after three
_CHUNK = 64


def galaxies(ids: Ids, *, bands: tuple[str, ...], size_px: int, seed: int) -> Bank:
    """Galaxies of two layers, old stars first.

    Args:
        ids: Of the galaxies, (n,).
        bands: Of the shares, among g r i z.
        size_px: Width of a picture, pixels, at least 32.
        seed: Of all draws.

    Returns:
        A bank of n galaxies on the CPU, in the order of the ids.

    Raises:
        ValueError: a band has no template, or the pictures are too small for a clump.
    """
    if size_px < 32:
        raise ValueError(f"a clumpy galaxy needs a picture of at least 32 px; got {size_px}")
    share = torch.from_numpy(shares(ids, bands, seed=seed)).float()
    parts = [
        _pictures(ids[start : start + _CHUNK], share[start : start + _CHUNK], size_px, seed)
        for start in range(0, max(len(ids), 1), _CHUNK)
    ]
    return Bank.measured(torch.cat(parts), share)


def redshift(ids: Ids, *, seed: int) -> Values:
    """Redshift whose colours a galaxy has, flat within `REDSHIFTS`, (n,)."""
    low, high = REDSHIFTS
    return low + (high - low) * keys.uniform(ids, seed=seed, stream="clumpy_z")


def shares(ids: Ids, bands: tuple[str, ...], *, seed: int) -> Values:
    """Share of a band's flux in the old and in the young layer, (n, 2, band), float64.

    The young hold 0.35 to 0.85 of the r band, which is the rest-frame ultraviolet. Their colours
    lie between those of the template Im and half-way to a young burst, those of the old between Sbc
    and Scd, at the redshift of the galaxy.
    """
    draw = partial(keys.uniform, ids, seed=seed)
    young_r = 0.35 + 0.5 * draw(stream="clumpy_young_share")
    z, age = redshift(ids, seed=seed), draw(stream="clumpy_old_colour")
    burst = 0.5 * draw(stream="clumpy_young_colour")
    ones, blue = np.ones(len(ids)), np.zeros(len(ids), bool)
    parts = []
    for band in bands:
        sbc = populations.source_colour(band, z, ones, ~blue)
        scd = populations.source_colour(band, z, 0 * ones, blue)
        of_young = populations.source_colour(band, z, ones + burst, blue)
        old = (1 - young_r) * 10 ** (-0.4 * (age * sbc + (1 - age) * scd))
        young = young_r * 10 ** (-0.4 * of_young)
        parts.append(np.stack([old, young], 1) / (old + young)[:, None])
    return np.stack(parts, 2)


def _pictures(ids: Ids, share: Tensor, size: int, seed: int) -> Tensor:
    """Both layers of some galaxies, centred on the centroid of all their light, (n, 2, y, x)."""
    x0 = torch.zeros(len(ids), dtype=torch.float64)
    y0 = torch.zeros_like(x0)
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weight = share.double().mean(2)[:, :, None, None]
    layers = _layers(ids, x0, y0, size, seed)
    for _ in range(_CENTRINGS):
        white = (layers * weight).sum(1)
        x0 = x0 - (white.sum(1) * axis).sum(1)
        y0 = y0 - (white.sum(2) * axis).sum(1)
        layers = _layers(ids, x0, y0, size, seed)
    return layers.float()


def _layers(ids: Ids, x0: Tensor, y0: Tensor, size: int, seed: int) -> Tensor:
    """Old and young light with the discs' centres at (x0, y0) px from the middle, float64."""

    def draw(stream: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.from_numpy(low + (high - low) * keys.uniform(ids, seed=seed, stream=stream))

    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    plane = torch.zeros(len(ids), size, size, dtype=torch.float64)
    x = plane + axis - x0[:, None, None]
    y = plane + axis[:, None] - y0[:, None, None]
    radius = torch.full_like(x0, _R_EFF_OVER_SIZE * size)
    phi, cos_i = draw("clumpy_phi", 0, torch.pi), draw("clumpy_inclination")
    q = (cos_i**2 * (1 - _THICKNESS**2) + _THICKNESS**2).sqrt()
    disc = sersic_brightness(
        x, y, r_eff=0.9 * radius * q.sqrt(), n=draw("clumpy_disc_n", 0.7, 1.3), q=q, phi=phi
    )
    bulge = sersic_brightness(
        x,
        y,
        r_eff=radius * draw("clumpy_bulge_r", 0.15, 0.35),
        n=draw("clumpy_bulge_n", 1.0, 2.0),
        q=(0.7 + 0.3 * q),
        phi=phi,
    )
    bulge_share = draw("clumpy_bulge_share", 0, 0.7)[:, None, None] ** 2
    wide = radius * draw("clumpy_young_r", 1.0, 1.4) * q.sqrt()
    smooth = sersic_brightness(
        x, y, r_eff=wide, n=draw("clumpy_young_n", 0.5, 1.0), q=q, phi=phi
    ) * _unevenness(x / radius[:, None, None], y / radius[:, None, None], draw)
    clumps = _clumps(x0, y0, q, phi, radius, axis, draw)
    low, high = _CLUMP_SHARE
    clumped = low + (high - low) * draw("clumpy_share")[:, None, None] ** 2
    old = (1 - bulge_share) * disc + bulge_share * bulge
    young = (1 - clumped) * _to_one(smooth) + clumped * _to_one(clumps)
    edge = (size / 2 - torch.hypot(axis[:, None], axis[None])) / (0.15 * size)
    taper = torch.sin(torch.pi / 2 * edge.clamp(0, 1)) ** 2
    return torch.stack([_to_one(old * taper), _to_one(young * taper)], 1)


def _clumps(
    x0: Tensor, y0: Tensor, q: Tensor, phi: Tensor, radius: Tensor, axis: Tensor, draw: Draw
) -> Tensor:
    """Round Gaussians in the plane of the disc, (n, y, x), of any total."""
    number = 3 + torch.floor((MAX_CLUMPS - 2) * draw("clumpy_number") ** 1.5)
    each = [
        torch.stack([draw(f"clump_{name}_{k}") for k in range(MAX_CLUMPS)], 1)
        for name in ("light", "r", "r_more", "angle", "height")
    ]
    light, r, r_more, angle, height = each  # (n, clump)
    slope = 1 - _LUMINOSITY_SLOPE
    luminosity = (1 - light * (1 - _LUMINOSITY_RANGE**slope)) ** (1 / slope)
    low, high = _CLUMP_RADII
    exponent = np.log(high / low) / np.log(_LUMINOSITY_RANGE)
    sigma = low * luminosity**exponent * radius[:, None] / _HALF_LIGHT_SIGMAS
    # light of an exponential disc: a gamma distribution of the radius, the sum of two exponentials
    scale_length = radius[:, None] / 1.678
    out = -(torch.log1p(-0.93 * r) + torch.log1p(-0.93 * r_more)) + 0.4
    u = out * scale_length * torch.cos(2 * torch.pi * angle)
    v = out * scale_length * torch.sin(2 * torch.pi * angle) * q[:, None]
    v = v + _THICKNESS * scale_length * (height - 0.5)
    cos, sin = torch.cos(phi)[:, None], torch.sin(phi)[:, None]
    x, y = x0[:, None] + cos * u - sin * v, y0[:, None] + sin * u + cos * v
    there = torch.arange(MAX_CLUMPS) < number[:, None]
    across = torch.exp(-0.5 * ((axis - x[:, :, None]) / sigma[:, :, None]) ** 2)
    along = torch.exp(-0.5 * ((axis - y[:, :, None]) / sigma[:, :, None]) ** 2)
    height_of_peak = there * luminosity / sigma**2
    return torch.einsum("nky,nkx->nyx", height_of_peak[:, :, None] * along, across)


def _unevenness(x: Tensor, y: Tensor, draw: Draw) -> Tensor:
    """A positive field about 1 with structure of the size of a disc's half-light radius."""
    total = torch.zeros_like(x)
    for k in range(_RIPPLES):
        length = draw(f"clumpy_ripple_length_{k}", 1.2, 4.0)
        angle = draw(f"clumpy_ripple_angle_{k}", 0, 2 * torch.pi)
        phase = draw(f"clumpy_ripple_phase_{k}", 0, 2 * torch.pi)
        wave = 2 * torch.pi / length
        along, up = (wave * torch.cos(angle), wave * torch.sin(angle))
        total = total + torch.cos(
            along[:, None, None] * x + up[:, None, None] * y + phase[:, None, None]
        )
    strength = draw("clumpy_unevenness", 0.1, 0.4)[:, None, None]
    return torch.exp(strength * total)


def _to_one(picture: Tensor) -> Tensor:
    return picture / picture.sum((-2, -1), keepdim=True)
