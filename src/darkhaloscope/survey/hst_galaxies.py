r"""Galaxies from HST images, in the files of GalSim's `RealGalaxyCatalog`, made fit to be sources.

Each comes with its PSF and the correlation of its noise, in a stamp that may hold other galaxies.
A source must hold neither: its light is lensed and blurred again, so that noise would be lensed
noise, a neighbour a second source, and the PSF would count twice. For each galaxy, in this order:

1. *Segmentation.* The stamp is smoothed by a Gaussian (sigma 2 px); what exceeds 1.5 sigma of its
   noise is split into connected regions. The one at the middle is the galaxy, without parts that
   stand apart, hold a tenth of the light or more, and lie beyond two half-light radii of the whole
   or four of the galaxy's own part (2.5, if they outshine that): nearer ones are its clumps.
2. *Neighbours* are masked, grown by 3 px, and replaced by the stamp turned by 180 degrees about the
   galaxy's centroid, or by 0 where that is masked too.
3. *Window.* Everything outside the galaxy's region, grown by 4 px and a quarter of its half-light
   radius, becomes 0, with an edge as soft as that quarter. So does what lies outside the largest
   circle about the centroid that is in the stamp; it fades from 0.8 of that circle's radius on.
4. *PSF and noise* together: a Wiener filter, :math:`(1 - N/P)/\mathrm{PSF}` with P the image's
   azimuthal power and N that of its noise (correlation times variance), in which 1 - N/P has the
   form of a Gaussian that is 1/2 where it is: a cut-off of any other form rings. The Gaussian is
   the resolution that is left; it is never finer than a stated one.
5. *Noise that is left*: each part is smoothed just so far that it stands out of it; the smoothing
   changes from part to part no faster than the resolution, or a bright part would end in a cliff.
6. *Picture.* Centred on the centroid, resampled so that half of the light lies within a tenth of
   the picture's width, tapered to 0 at its edge, normalised.

A galaxy that is too faint, cut off, crowded, unresolved, or lacks a file is refused, with a reason.
Cut off is one that has 3 % of its light in the outermost 2 px of the stamp, or that is still a
fifth as bright at the rim of that circle as within it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.survey.deblend import Mask, half_light_px, regions
from darkhaloscope.survey.hst_catalogue import Catalogue, Files, Image, Stamp

log = logging.getLogger(__name__)

COLOUR_BANDS = ("g", "r", "i", "z")  # of HSC, as the companion catalogue names them
REFUSALS = (
    "its image or PSF is missing",
    "its image holds pixels that are not finite",
    "its signal-to-noise ratio is too low",
    "it is cut off by the stamp's edge",
    "it is crowded by neighbours",
    "it is not resolved",
)
(NO_FILE, NOT_FINITE, TOO_FAINT, CUT_OFF, CROWDED, UNRESOLVED) = REFUSALS

_GROW_NEIGHBOUR_PX, _GROW_GALAXY_PX = 3, 4
_SOFT_OF_HALF_LIGHT = 0.25
_MAX_MASKED, _MAX_AT_EDGE, _EDGE_PX = 0.1, 0.03, 2
_MAX_BRIGHTNESS_AT_RIM, _RIM = 0.2, 0.8  # the rim: from 0.8 of the largest circle in the stamp
_SMOOTHINGS_PX, _STANDS_OUT = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), (4.0, 8.0)
_LEAST_PSF_POWER = 1e-4
_LEAST_RADIUS = 0.75  # half-light radius over the FWHM of the resolution: a point has 0.5
_CENTRINGS = 3
_PAD_PX = 32
_HALF_LIGHT_OF_SIZE = 0.1
_TAPER = 0.15  # of the picture's width
_LOG_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Cleaning:
    """How galaxies are chosen and made fit.

    Attributes:
        size_px: Width of the pictures.
        least_snr: Least signal-to-noise ratio of a galaxy's light within its region.
        gaussian_fwhm_arcsec: Resolution that is left in the picture of a bright galaxy.
    """

    size_px: int
    least_snr: float
    gaussian_fwhm_arcsec: float


@dataclass(frozen=True, slots=True)
class HstGalaxy:
    """One galaxy of the catalogue, or why it is refused.

    Attributes:
        ident: The catalogue's IDENT.
        refused: Why it has no picture; None: it has.
        filters: HST filter of each layer, the reddest first.
        pictures: Light in each filter, >= 0, each adding up to 1, centroid in the middle,
            (layer, size, size); of no layers where refused.
        scale_arcsec: Width of a picture's pixel.
        fwhm_arcsec: Resolution that is left in the pictures, a Gaussian's.
        mag: AB magnitude in the first filter, as catalogued.
        colour_mags: HSC magnitudes by band, where the companion catalogue has them.
        z_phot: Photometric redshift; None: not known.
        snr: Signal-to-noise ratio; NaN where it could not be measured.
        flux_counts: Flux in the first filter, in the units of its image.
        masked_share: Share of the circle that holds half the light that a neighbour covered.
        file: Image file of the first filter, and the place in it.
    """

    ident: int
    refused: str | None
    filters: tuple[str, ...] = ()
    pictures: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    scale_arcsec: float = np.nan
    fwhm_arcsec: float = np.nan
    mag: float = np.nan
    colour_mags: Mapping[str, float] = field(default_factory=dict)
    z_phot: float | None = None
    snr: float = np.nan
    flux_counts: float = np.nan
    masked_share: float = np.nan
    file: str = ""


def galaxies(catalogues: Sequence[Path], cleaning: Cleaning) -> Iterator[HstGalaxy]:
    """Every galaxy of a set, file by file; one image is in memory at a time.

    Args:
        catalogues: Catalogue files of one set, one a filter, the reddest first; a galaxy that
            stands in several gets as many layers. The other files lie beside them.
        cleaning: How they are made fit.

    Raises:
        DataError: a catalogue cannot be read, or lacks a column.
    """
    tables = [Catalogue.read(path) for path in catalogues]
    first, done = tables[0], 0
    beside = [{int(i): row for row, i in enumerate(t.rows["IDENT"])} for t in tables[1:]]
    order = np.lexsort((first.rows["GAL_HDU"], first.rows["GAL_FILENAME"]))
    with closing(Files()) as shelf:
        for row in order.tolist():
            places = [(first, row)]
            ident = int(first.rows["IDENT"][row])
            others = zip(tables[1:], beside, strict=True)
            places += [(table, at[ident]) for table, at in others if ident in at]
            yield _galaxy(places, shelf, cleaning)
            done += 1
            if done % _LOG_EVERY == 0:
                log.info("%d of %d galaxies of %s", done, len(order), catalogues[0].name)


def clean(stamps: Sequence[Stamp], cleaning: Cleaning) -> HstGalaxy:
    """Make one galaxy fit to be a source; everything that the catalogue knows is left empty.

    Args:
        stamps: Its stamps of one size, one a filter; the first decides on region and centroid.
        cleaning: How.
    """
    stamp = stamps[0]
    if not all(np.isfinite(s.image).all() and np.isfinite(s.psf).all() for s in stamps):
        return HstGalaxy(0, NOT_FINITE)
    labels, middle = regions(stamp)
    if middle == 0:
        return HstGalaxy(0, TOO_FAINT)
    region = labels == middle
    correlated = max(float(stamp.correlation.sum() / stamp.correlation.max()), 1.0)
    noise = np.sqrt(stamp.variance * correlated * region.sum())
    snr = float(stamp.image[region].sum() / noise)
    if snr < cleaning.least_snr:
        return HstGalaxy(0, TOO_FAINT, snr=snr)
    if _share_at_edge(stamp.image, region) > _MAX_AT_EDGE:
        return HstGalaxy(0, CUT_OFF, snr=snr)
    neighbours = ndimage.binary_dilation((labels > 0) & ~region, iterations=_GROW_NEIGHBOUR_PX)
    neighbours &= ~region
    y, x = _centroid(np.where(region, np.maximum(stamp.image, 0), 0))
    half_light = half_light_px(np.where(region, stamp.image, 0), y, x)
    yy, xx = np.indices(region.shape)
    within = np.hypot(yy - y, xx - x) < 2 * half_light
    masked = float((neighbours & within).sum() / max(within.sum(), 1))
    alone = [_without(s.image, neighbours, y, x) for s in stamps]
    at_rim = _brightness_at_rim(alone[0], y, x, stamp.variance * correlated)
    if masked > _MAX_MASKED or at_rim > _MAX_BRIGHTNESS_AT_RIM:
        why = CROWDED if masked > _MAX_MASKED else CUT_OFF
        return HstGalaxy(0, why, snr=snr, masked_share=masked)
    window = _window(region, neighbours, y, x, half_light)
    sharp, fwhm = zip(
        *[
            _deconvolved(image * window, window, s, cleaning)
            for image, s in zip(alone, stamps, strict=True)
        ],
        strict=True,
    )
    cleaned = _picture(sharp, max(fwhm), stamp.scale_arcsec, cleaning.size_px)
    return replace(cleaned, snr=snr, masked_share=masked)


def _galaxy(places: Sequence[tuple[Catalogue, int]], shelf: Files, cleaning: Cleaning) -> HstGalaxy:
    """One galaxy with what its catalogues know of it."""
    catalogue, row = places[0]
    stamps = [shelf.stamp(*place) for place in places]
    there = [stamp for stamp in stamps if stamp is not None]
    same = [s for s in there if s.image.shape == there[0].image.shape]
    cleaned = (
        HstGalaxy(0, NO_FILE)
        if len(there) < len(stamps) or len(same) < len(there)
        else clean(there, cleaning)
    )
    z_phot = catalogue.beside(row, "ZPHOT", "zphot")
    colours = {b: catalogue.beside(row, f"HSC_{b}") for b in COLOUR_BANDS}
    return replace(
        cleaned,
        ident=int(catalogue.rows["IDENT"][row]),
        filters=tuple(c.text("BAND", r) for c, r in places),
        mag=float(catalogue.rows["MAG"][row]),
        colour_mags={b: mag for b, mag in colours.items() if np.isfinite(mag)},
        z_phot=None if np.isnan(z_phot) else z_phot,
        file=f"{catalogue.text('GAL_FILENAME', row)}[{int(catalogue.rows['GAL_HDU'][row])}]",
    )


def _share_at_edge(image: Image, region: Mask) -> float:
    """Share of the galaxy's light in the stamp's outermost two pixels."""
    edge = np.ones_like(region)
    edge[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = False
    return float(image[region & edge].sum() / image[region].sum())


def _brightness_at_rim(image: Image, y: float, x: float, variance: float) -> float:
    """Surely reached brightness at the rim of the largest circle in the stamp, over that within.

    The mean less one standard deviation. It is the ratio of Petrosian 1976, ApJ 209, L1: where it
    is 0.2, 7 % of an exponential galaxy are still outside, and 24 % of a de Vaucouleurs one,
    however little of either the outermost pixels hold.

    Args:
        image: The galaxy without its neighbours.
        y: Row of its centroid.
        x: Column of its centroid.
        variance: Of the noise of a mean of n pixels, times n.
    """
    away = _of_largest_circle(image.shape, y, x)
    rim = (away > _RIM) & (away <= 1)
    error = np.sqrt(variance / max(int(rim.sum()), 1))
    return float((image[rim].sum() / max(int(rim.sum()), 1) - error) / image[away <= 1].mean())


def _of_largest_circle(shape: Sequence[int], y: float, x: float) -> Image:
    """Distance of each pixel from a point, over that of the stamp's nearest edge from it."""
    rows, columns = np.indices(shape)
    radius = min(y, x, shape[0] - 1 - y, shape[1] - 1 - x) + 0.5
    return np.asarray(np.hypot(rows - y, columns - x) / radius)


def _without(image: Image, neighbours: Mask, y: float, x: float) -> Image:
    """Neighbours replaced by what lies on the other side of the centroid, or by nothing."""
    if not neighbours.any():
        return image
    rows, columns = np.indices(image.shape)
    opposite = [2 * y - rows, 2 * x - columns]
    light = ndimage.map_coordinates(np.where(neighbours, 0, image), opposite, order=1)
    covered = ndimage.map_coordinates(neighbours.astype(float), opposite, order=1, cval=1.0)
    return np.where(neighbours, np.where(covered < 0.01, light, 0.0), image)


def _window(region: Mask, neighbours: Mask, y: float, x: float, half_light: float) -> Image:
    """1 on the galaxy and where a neighbour may cover it, 0 outside, with a soft edge.

    It ends within the largest circle in the stamp, or faint light would show the stamp's shape.
    """
    rows, columns = np.indices(region.shape)
    opposite = ndimage.map_coordinates(
        region.astype(float), [2 * y - rows, 2 * x - columns], order=1
    )
    whole = ndimage.binary_fill_holes(region | (neighbours & (opposite > 0.5)))
    sigma = _SOFT_OF_HALF_LIGHT * half_light
    grown = ndimage.binary_dilation(whole, iterations=_GROW_GALAXY_PX + round(sigma))
    soft = ndimage.gaussian_filter(grown.astype(float), sigma)
    return np.asarray(soft * _fade((1 - _of_largest_circle(region.shape, y, x)) / (1 - _RIM)))


def _deconvolved(
    image: Image, window: Image, stamp: Stamp, cleaning: Cleaning
) -> tuple[Image, float]:
    """A windowed galaxy without its PSF and noise, >= 0, and the FWHM that is left, arcsec."""
    sides = zip(image.shape, stamp.psf.shape, strict=True)
    shape = [fft.next_fast_len(max(n + 2 * _PAD_PX, m)) for n, m in sides]
    ky, kx = fft.fftfreq(shape[0])[:, None], fft.fftfreq(shape[1])[None]
    k = np.hypot(ky, kx)
    transform = fft.fft2(image, shape)
    noise = stamp.variance * _noise_spectrum(stamp.correlation, shape)
    half = _half_frequency(np.abs(transform) ** 2, noise * (window**2).sum(), k)
    sigma = cleaning.gaussian_fwhm_arcsec / FWHM_PER_SIGMA / stamp.scale_arcsec
    sigma = max(sigma, np.sqrt(np.log(2) / 2) / np.pi / half)
    y, x = _centroid_of_core(stamp.psf)
    psf = fft.fft2(stamp.psf / stamp.psf.sum(), shape) * np.exp(2j * np.pi * (ky * y + kx * x))
    keep = np.exp(-2 * (np.pi * sigma * k) ** 2) * psf.conj()
    keep = keep / (np.abs(psf) ** 2 + _LEAST_PSF_POWER)
    sharp = _denoised(fft.ifft2(transform * keep).real, noise * np.abs(keep) ** 2, k, sigma)
    sharp = sharp[: image.shape[0], : image.shape[1]]
    return np.maximum(sharp * window, 0), sigma * FWHM_PER_SIGMA * stamp.scale_arcsec


def _denoised(sharp: Image, noise: Image, k: Image, resolution: float) -> Image:
    """Each part of an image at the finest smoothing at which it stands out of the noise.

    After Ebeling, White & Rangarajan 2006, MNRAS 368, 65: from fine to coarse, what stands out is
    taken, and only the rest is smoothed further. No flux is lost or made. The share that is taken
    is smooth itself: a light that falls steeply would else be cut at where it no more stands out,
    and the picture's spline would undershoot there, a dark rim.

    Args:
        sharp: The image.
        noise: Power of its noise, of one pixel, at each frequency.
        k: Frequencies, cycles per pixel.
        resolution: Of the image, sigma, px.
    """
    rest, taken, smoothed = sharp, np.zeros(sharp.shape), 0.0
    low, high = _STANDS_OUT
    for sigma in _SMOOTHINGS_PX:
        rest = ndimage.gaussian_filter(rest, np.sqrt(sigma**2 - smoothed**2), mode="constant")
        rms = np.sqrt(np.mean(noise * np.exp(-4 * (np.pi * sigma * k) ** 2)))
        share = np.clip((rest / rms - low) / (high - low), 0, 1)
        share = ndimage.gaussian_filter(share, max(sigma, resolution))
        taken, rest, smoothed = taken + share * rest, (1 - share) * rest, sigma
    return np.asarray(taken + rest)


def _noise_spectrum(correlation: Image, shape: Sequence[int]) -> Image:
    """Power of unit-variance noise, 1 on average over all frequencies, >= 0."""
    rows, columns = correlation.shape
    padded = np.zeros((max(shape[0], rows), max(shape[1], columns)))
    padded[:rows, :columns] = correlation / correlation.max()
    at_origin = np.roll(padded, (-(rows // 2), -(columns // 2)), (0, 1))
    if padded.shape != tuple(shape):
        reach = [min(n // 2, m // 2) for n, m in zip(shape, correlation.shape, strict=True)]
        cut = correlation[
            rows // 2 - reach[0] + 1 : rows // 2 + reach[0],
            columns // 2 - reach[1] + 1 : columns // 2 + reach[1],
        ]
        return _noise_spectrum(cut, shape)
    return np.asarray(np.maximum(fft.fft2(at_origin).real, 1e-3))


def _half_frequency(power: Image, noise: Image, k: Image) -> float:
    """Frequency, cycles per pixel, above which less than half of the power is the galaxy's."""
    width = 1 / min(power.shape)
    ring = np.round(k / width).astype(np.intp).ravel()
    excess = np.bincount(ring, power.ravel()) - 2 * np.bincount(ring, noise.ravel())
    noisy = np.flatnonzero(excess[1:] < 0)
    first = int(noisy[0]) + 1 if len(noisy) else len(excess)
    return float(width * (first - 0.5))


def _picture(
    sharp: Sequence[Image], fwhm_arcsec: float, scale_arcsec: float, size: int
) -> HstGalaxy:
    """Layers resampled on one square picture about the centroid of their light."""
    flux = float(sharp[0].sum())
    if any(layer.sum() <= 0 for layer in sharp):
        return HstGalaxy(0, TOO_FAINT)
    y, x = _centroid(sharp[0])
    half_light = half_light_px(sharp[0], y, x)
    if half_light * scale_arcsec < _LEAST_RADIUS * fwhm_arcsec:
        return HstGalaxy(0, UNRESOLVED)
    step = half_light / (_HALF_LIGHT_OF_SIZE * size)
    if step > 1:  # a coarser grid must not alias
        sharp = [ndimage.gaussian_filter(s, 0.5 * np.sqrt(step**2 - 1)) for s in sharp]
    axis = np.arange(size) - (size - 1) / 2
    taper = _fade((size / 2 - np.hypot(axis[:, None], axis[None])) / (_TAPER * size))
    for _ in range(_CENTRINGS):
        at = np.meshgrid(y + step * axis, x + step * axis, indexing="ij")
        layers = np.stack([ndimage.map_coordinates(s, at, order=3) for s in sharp])
        layers = np.maximum(layers, 0) * taper
        off = _centroid(layers.sum(0))
        y, x = (c + step * (o - (size - 1) / 2) for c, o in zip((y, x), off, strict=True))
    return HstGalaxy(
        0,
        None,
        pictures=(layers / layers.sum((1, 2), keepdims=True)).astype(np.float32),
        scale_arcsec=step * scale_arcsec,
        fwhm_arcsec=fwhm_arcsec,
        flux_counts=flux,
    )


def _fade(inward: Image) -> Image:
    """0 at and beyond an edge, 1 from a distance of 1 inward."""
    return np.asarray(np.sin(np.pi / 2 * np.clip(inward, 0, 1)) ** 2)


def _centroid(image: Image) -> tuple[float, float]:
    """Row and column of the centre of light."""
    y, x = np.indices(image.shape)
    total = image.sum()
    return float((y * image).sum() / total), float((x * image).sum() / total)


def _centroid_of_core(psf: Image) -> tuple[float, float]:
    """Centre of light of a PSF's core; noise in its wings would move that of the whole."""
    row, column = np.unravel_index(np.argmax(psf), psf.shape)
    y, x = np.indices(psf.shape)
    return _centroid(np.where(np.hypot(y - row, x - column) <= 5, psf, 0))
