"""How a brick is observed: PSF, depth, exposures, dust, and the pixels that have no data.

`psfsize` is the survey's noise-equivalent width, 2.355 sqrt(Neff / 4 pi), and holds the pixel;
depths are of point sources, so invvar = psfdepth x Neff, Neff in pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import units
from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC, SimulateConfig
from darkhaloscope.simulate.colours import EXTINCTION, FILTERS
from darkhaloscope.simulate.draws import Draws, Values, generator
from darkhaloscope.simulate.sky import Brick

# bits of the coadds' maskbits (https://www.legacysurvey.org/dr10/bitmasks)
NPRIMARY, BRIGHT, MEDIUM = 0x1, 0x2, 0x800
SATURATED = {"g": 0x4, "r": 0x8, "z": 0x10, "i": 0x4000}
ALL_MASKED = {"g": 0x20, "r": 0x40, "z": 0x80, "i": 0x8000}
SATURATION_NMGY = 12.0  # light of a star in one pixel above which there is no data
_STRIP_PX = ((2, 5), (60, 300))  # width and length of a strip without data


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is the same all over a brick; arrays are by band, in the settings' order.

    Attributes:
        bands: Filters.
        psfsize: Noise-equivalent width, arcsec, shape (band,).
        beta: Moffat exponent, shape (band,).
        depth: 5-sigma point-source depth where all exposures overlap, mag, shape (band,).
        exposures: Their number, shape (band,).
        gain: Electrons per nanomaggy of one exposure.
        ebv: Reddening, mag.
    """

    bands: tuple[str, ...]
    psfsize: Values
    beta: Values
    depth: Values
    exposures: NDArray[np.int64]
    gain: float
    ebv: float

    @property
    def columns(self) -> list[int]:
        """Where the bands stand among FILTERS."""
        return [FILTERS.index(band) for band in self.bands]

    @property
    def transmission(self) -> Values:
        """Share of light that dust leaves, FILTERS, shape (6,)."""
        return np.asarray(10 ** (-0.4 * EXTINCTION * self.ebv))

    @property
    def neff_px(self) -> Values:
        """Noise-equivalent area of the PSF, pixels, shape (band,)."""
        return units.neff_px_from_psfsize(self.psfsize, PIXEL_SCALE_ARCSEC)

    @property
    def invvar(self) -> Values:
        """Inverse variance of a pixel where all exposures overlap, 1/nmgy^2, shape (band,)."""
        return np.asarray((5 / units.nmgy_from_mag(self.depth)) ** 2 * self.neff_px)

    def flux(self, mag: Values) -> Values:
        """Observed flux, nmgy, shape (n, band), of dust-free magnitudes (n, 6)."""
        return np.asarray((units.nmgy_from_mag(mag) * self.transmission)[:, self.columns])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Maps of a brick, (y, x) by band.

    Attributes:
        nexp: Exposures, int16.
        invvar: Inverse variance without photon noise of sources, float32, 1/nmgy^2; 0: no data.
        maskbits: Bits of all bands, int32.
    """

    nexp: dict[str, NDArray[np.int16]]
    invvar: dict[str, NDArray[np.float32]]
    maskbits: NDArray[np.int32]


def conditions(brick: Brick, config: SimulateConfig) -> Conditions:
    """Draw how a brick is observed."""
    one = Draws(np.array([brick.brickid]), config.seed)
    field = Draws(np.array([brick.field]), config.seed)
    seeing = config.psfsize_r_arcsec * math.exp(one.normal("psfsize", config.psfsize_scatter)[0])

    def by_band(stream: str, draw: str) -> float:
        return float(getattr(one, draw)(f"{stream}")[0])

    psfsize, beta, depth, exposures = [], [], [], []
    for band in config.bands:
        own = math.exp(0.03 * by_band(f"psfsize {band}", "normal"))
        psfsize.append(min(max(seeing * config.psfsize_over_r[band] * own, 0.7), 3.0))
        beta.append(float(one.span(f"beta {band}", config.psf_beta)[0]))
        depth.append(float(one.span(f"depth {band}", config.depth_mag[band])[0]))
        low, high = config.n_exposures
        exposures.append(low + int(by_band(f"exposures {band}", "uniform") * (high - low + 1)))
    return Conditions(
        bands=config.bands,
        psfsize=np.array(psfsize),
        beta=np.array(beta),
        depth=np.array(depth),
        exposures=np.array(exposures),
        gain=config.electrons_per_nmgy,
        ebv=config.ebv_median * math.exp(float(field.normal("ebv", 0.4)[0])),
    )


def coverage(
    brick: Brick,
    seen: Conditions,
    starlight: NDArray[np.float32],
    haloes: list[tuple[float, float, float, int]],
    config: SimulateConfig,
) -> Coverage:
    """Maps of exposures, weight and masks.

    Args:
        brick: The brick.
        seen: Its conditions.
        starlight: Light of stars, nmgy, shape (band, y, x): where it saturates there is no data.
        haloes: Circles of bright stars: x, y, radius in pixels, and the bit.
        config: Rates of strips without data.
    """
    size = config.brick_size_px
    maskbits = np.zeros((size, size), np.int32)
    own = round(config.own_width_deg * 3600 / PIXEL_SCALE_ARCSEC / 2)
    inner = slice(max(size // 2 - own, 0), size // 2 + own)
    is_outer = np.ones((size, size), bool)
    is_outer[inner, inner] = False
    maskbits[is_outer] |= NPRIMARY
    for x, y, radius, bit in haloes:
        _circle(maskbits, x, y, radius, bit)
    nexp, invvar = {}, {}
    for at, band in enumerate(seen.bands):
        count = _exposure_map(brick, band, int(seen.exposures[at]), size, config)
        saturated = starlight[at] > SATURATION_NMGY
        count[saturated] = 0
        maskbits[saturated] |= SATURATED[band]
        maskbits[count == 0] |= ALL_MASKED[band]
        nexp[band] = count
        invvar[band] = (seen.invvar[at] * count / seen.exposures[at]).astype(np.float32)
    return Coverage(nexp, invvar, maskbits)


def _exposure_map(
    brick: Brick, band: str, most: int, size: int, config: SimulateConfig
) -> NDArray[np.int16]:
    """Exposures at each pixel: one fewer beyond two edges of detectors, none in the strips."""
    random = generator(brick.brickid, seed=config.seed, stream=f"exposures {band}")
    count = np.full((size, size), most, np.int16)
    x, y = random.integers(0, size, 2)
    if most > 1:
        count[:, x : x + size // 2] -= 1
    if most > 3:
        count[y : y + size // 2] -= 1
    area = size**2 * (PIXEL_SCALE_ARCSEC / 3600) ** 2
    for _ in range(random.poisson(config.bad_strips_per_deg2 * area)):
        (narrow, wide), (short, long) = _STRIP_PX
        width, length = random.integers(narrow, wide + 1), random.integers(short, long + 1)
        at_y, at_x = random.integers(0, size, 2)
        tall = random.random() < 0.5
        high, broad = (length, width) if tall else (width, length)
        count[at_y : at_y + high, at_x : at_x + broad] = 0
    return count


def _circle(maskbits: NDArray[np.int32], x: float, y: float, radius: float, bit: int) -> None:
    """Set a bit inside a circle, all in pixels."""
    size = len(maskbits)
    low_y, high_y = (int(np.clip(y + s * (radius + 1), 0, size)) for s in (-1, 1))
    low_x, high_x = (int(np.clip(x + s * (radius + 1), 0, size)) for s in (-1, 1))
    yy, xx = np.ogrid[low_y:high_y, low_x:high_x]
    inside = (yy - y) ** 2 + (xx - x) ** 2 < radius**2
    maskbits[low_y:high_y, low_x:high_x][inside] |= bit
