r"""Galaxies from HST images, in the files of GalSim's `RealGalaxyCatalog`, made fit to be sources.

Each comes with its PSF and the correlation of its noise, in a stamp that may hold other galaxies.
A source must hold neither: its light is lensed and blurred again, so that noise would be lensed
noise, a neighbour a second source, and the PSF would count twice. For each galaxy, in this order:

1. *Segmentation.* The stamp is smoothed by a Gaussian (sigma 2 px); what exceeds 1.5 sigma of its
   noise is split into connected regions. The one at the middle is the galaxy, without parts that
   stand apart, hold a tenth of the light or more, and lie beyond two half-light radii of the whole
   or four of the galaxy's own part (two, if they outshine that): nearer ones are its clumps.
2. *Neighbours* are masked, grown by 3 px, and replaced by the stamp turned by 180 degrees about the
   galaxy's centroid, or by 0 where that is masked too.
3. *Window.* Everything outside the galaxy's region, grown by 4 px with a soft edge, becomes 0.
4. *PSF and noise* together: a Wiener filter, :math:`(1 - N/P)/\mathrm{PSF}` with P the image's
   azimuthal power and N that of its noise (correlation times variance), in which 1 - N/P has the
   form of a Gaussian that is 1/2 where it is: a cut-off of any other form rings. The Gaussian is
   the resolution that is left; it is never finer than a stated one.
5. *Noise that is left*: each part is smoothed just so far that it stands out of it.
6. *Picture.* Centred on the centroid, resampled so that half of the light lies within a tenth of
   the picture's width, tapered to 0 at its edge, normalised.

A galaxy that is too faint, cut off, crowded, unresolved, or lacks a file is refused, with a reason.
"""

import heapq
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import fft, ndimage

from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import FWHM_PER_SIGMA

log = logging.getLogger(__name__)

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

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

_SMOOTHING_PX, _THRESHOLD = 2.0, 1.5
_NEIGHBOUR_SHARE, _BLEND_RADII = 0.1, 2.0
_OWN_RADII = {False: 4.0, True: 2.0}  # True: the part outshines the galaxy's own
_GROW_NEIGHBOUR_PX, _GROW_GALAXY_PX, _SOFT_PX = 3, 4, 1.5
_MAX_MASKED, _MAX_AT_EDGE, _EDGE_PX = 0.1, 0.03, 2
_LEVELS, _VALLEY = 12, 0.75
_SMOOTHINGS_PX, _STANDS_OUT = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), (4.0, 8.0)
_LEAST_PSF_POWER = 1e-4
_LEAST_RADIUS = 0.75  # half-light radius over the FWHM of the resolution: a point has 0.5
_CENTRINGS = 3
_FILES_OPEN = 8
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


@dataclass(frozen=True, slots=True)
class Stamp:
    """One galaxy in one filter: what its files hold.

    Attributes:
        image: Counts, sky-subtracted, (y, x).
        psf: Of any total, its centre anywhere near the middle, in pixels of the image, (y, x).
        correlation: Noise correlation, its value at no lag in the middle, (y, x) of odd width.
        variance: Of a pixel's noise, counts squared.
        scale_arcsec: Width of a pixel.
    """

    image: Image
    psf: Image
    correlation: Image
    variance: float
    scale_arcsec: float


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
    with closing(_Files()) as shelf:
        for row in order.tolist():
            places = [(first, row)]
            ident = int(first.rows["IDENT"][row])
            others = zip(tables[1:], beside, strict=True)
            places += [(table, at[ident]) for table, at in others if ident in at]
            yield _galaxy(places, shelf, cleaning)
            done += 1
            if done % _LOG_EVERY == 0:
                log.info("%d of %d galaxies of %s", done, len(order), catalogues[0].name)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue file and its companion with photometry.

    Attributes:
        folder: Where the files that it names lie.
        rows: Its columns.
        photometry: Columns of the companion `<name>_fits.fits`; empty where there is none.
        by_ident: Row of the companion by IDENT.
    """

    folder: Path
    rows: Mapping[str, NDArray[Any]]
    photometry: Mapping[str, NDArray[Any]]
    by_ident: Mapping[int, int]

    @classmethod
    def read(cls, path: Path) -> "Catalogue":
        """Read a catalogue and, where there is one, its companion.

        Raises:
            DataError: it is not there, is no FITS table, or lacks a column.
        """
        rows = _columns(path)
        wanted = (
            "IDENT", "MAG", "BAND", "GAL_FILENAME", "PSF_FILENAME", "GAL_HDU", "PSF_HDU",
            "PIXEL_SCALE", "NOISE_VARIANCE", "NOISE_FILENAME",
        )  # fmt: skip
        lacking = [name for name in wanted if name not in rows]
        if lacking:
            raise DataError(
                f"{path} is no catalogue in RealGalaxyCatalog's format: it lacks "
                f"{', '.join(lacking)}; name the file real_galaxy_catalog_....fits itself"
            )
        companion = companion_of(path)
        photometry = _columns(companion) if companion.is_file() else {}
        ident = photometry.get("IDENT", np.zeros(0, np.int64))
        return cls(path.parent, rows, photometry, {int(i): n for n, i in enumerate(ident)})

    def files(self) -> list[str]:
        """Names of all files that it names: images, PSFs, noise correlations; sorted."""
        columns = (self.rows[f"{kind}_FILENAME"] for kind in ("GAL", "PSF", "NOISE"))
        return sorted({str(name).strip() for column in columns for name in np.unique(column)})

    def text(self, name: str, row: int) -> str:
        """A text of the catalogue, such as the name of a file."""
        return str(self.rows[name][row]).strip()

    def beside(self, row: int, *names: str) -> float:
        """A number of the companion catalogue under the first name it has; NaN: not known."""
        at = self.by_ident.get(int(self.rows["IDENT"][row]))
        found = next((name for name in names if name in self.photometry), None)
        if at is None or found is None:
            return np.nan
        value = float(self.photometry[found][at])
        return value if np.isfinite(value) and 0 < value < 90 else np.nan


def companion_of(path: Path) -> Path:
    """The companion of a catalogue file, which has photometry and redshifts."""
    return path.with_name(f"{path.stem}_fits.fits")


def clean(stamps: Sequence[Stamp], cleaning: Cleaning) -> HstGalaxy:
    """Make one galaxy fit to be a source; everything that the catalogue knows is left empty.

    Args:
        stamps: Its stamps of one size, one a filter; the first decides on region and centroid.
        cleaning: How.
    """
    stamp = stamps[0]
    if not all(np.isfinite(s.image).all() and np.isfinite(s.psf).all() for s in stamps):
        return HstGalaxy(0, NOT_FINITE)
    regions, middle = _regions(stamp)
    if middle == 0:
        return HstGalaxy(0, TOO_FAINT)
    region = regions == middle
    correlated = stamp.correlation.sum() / stamp.correlation.max()
    noise = np.sqrt(stamp.variance * max(correlated, 1.0) * region.sum())
    snr = float(stamp.image[region].sum() / noise)
    if snr < cleaning.least_snr:
        return HstGalaxy(0, TOO_FAINT, snr=snr)
    if _share_at_edge(stamp.image, region) > _MAX_AT_EDGE:
        return HstGalaxy(0, CUT_OFF, snr=snr)
    neighbours = ndimage.binary_dilation((regions > 0) & ~region, iterations=_GROW_NEIGHBOUR_PX)
    neighbours &= ~region
    y, x = _centroid(np.where(region, np.maximum(stamp.image, 0), 0))
    half_light = _half_light(np.where(region, stamp.image, 0), y, x)
    yy, xx = np.indices(region.shape)
    within = np.hypot(yy - y, xx - x) < 2 * half_light
    masked = float((neighbours & within).sum() / max(within.sum(), 1))
    if masked > _MAX_MASKED:
        return HstGalaxy(0, CROWDED, snr=snr, masked_share=masked)
    window = _window(region, neighbours, y, x)
    sharp, fwhm = zip(
        *[
            _deconvolved(_without(s.image, neighbours, y, x) * window, window, s, cleaning)
            for s in stamps
        ],
        strict=True,
    )
    cleaned = _picture(sharp, max(fwhm), stamp.scale_arcsec, cleaning.size_px)
    return replace(cleaned, snr=snr, masked_share=masked)


def _galaxy(
    places: Sequence[tuple[Catalogue, int]], shelf: "_Files", cleaning: Cleaning
) -> HstGalaxy:
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


class _Files:
    """Image files, the last few kept open; noise correlations, read once."""

    def __init__(self) -> None:
        self._open = dict[Path, Any]()
        self._correlations = dict[Path, Image]()

    def close(self) -> None:
        """Close all that is open."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def stamp(self, catalogue: Catalogue, row: int) -> Stamp | None:
        """What the files hold of a galaxy in one filter; None: an image is missing."""
        image = self._image(catalogue, "GAL", row)
        psf = self._image(catalogue, "PSF", row)
        if image is None or psf is None:
            return None
        return Stamp(
            image=image,
            psf=psf,
            correlation=self._correlation(catalogue.folder / catalogue.text("NOISE_FILENAME", row)),
            variance=float(catalogue.rows["NOISE_VARIANCE"][row]),
            scale_arcsec=float(catalogue.rows["PIXEL_SCALE"][row]),
        )

    def _image(self, catalogue: Catalogue, kind: str, row: int) -> Image | None:
        path = catalogue.folder / catalogue.text(f"{kind}_FILENAME", row)
        if path not in self._open:
            if not path.is_file():
                return None
            if len(self._open) >= _FILES_OPEN:
                self.close()
            self._open[path] = fits.open(path)
        hdus, place = self._open[path], int(catalogue.rows[f"{kind}_HDU"][row])
        try:
            # a section is read anew and not kept: a file of 1,000 images never is in memory
            return np.asarray(hdus[place].section[:, :], np.float64)
        except (IndexError, AttributeError, OSError):
            return None

    def _correlation(self, path: Path) -> Image:
        if path not in self._correlations:
            if not path.is_file():
                raise DataError(
                    f"{path} is not there, though the catalogue names it as the correlation of its "
                    "noise; GalSim brings it in its share folder: put a copy beside the catalogue"
                )
            self._correlations[path] = np.asarray(fits.getdata(path), np.float64)
        return self._correlations[path]


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The first table of a FITS file, its columns by name."""
    try:
        with fits.open(path) as hdus:
            table = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU))
            return {name: np.array(table.data[name]) for name in table.columns.names}
    except (OSError, StopIteration) as error:
        raise DataError(f"{path} cannot be read as a FITS catalogue: {error}") from error


def _regions(stamp: Stamp) -> tuple[NDArray[np.int32], int]:
    """Label of the object that each pixel belongs to, 0 for the sky, and the galaxy's label."""
    smooth = ndimage.gaussian_filter(stamp.image, _SMOOTHING_PX)
    threshold = _THRESHOLD * np.sqrt(_smoothed_variance(stamp))
    labels, _ = ndimage.label(smooth > threshold)
    middle = _label_at_middle(labels)
    if middle == 0:
        return labels, 0
    own = labels == middle
    peak = _peak_from_middle(smooth, own)
    parts = _separate_parts(stamp.image, smooth, own, peak, threshold)
    if not parts:
        return labels, middle
    light = np.where(own, stamp.image, 0)
    basins = _basins(smooth, own, peak, parts)
    # a blend is wider than its galaxies: the galaxy's own part says how large it is
    share = np.bincount(basins[own], light[own], minlength=len(parts) + 2)
    alone, whole = _half_light(np.where(basins == 1, light, 0), *peak), _half_light(light, *peak)
    others = [
        part
        for number, part in enumerate(parts, start=2)
        if _distance_of_top(smooth, part, peak)
        > min(_BLEND_RADII * whole, _OWN_RADII[share[number] > share[1]] * alone)
    ]
    if others:
        basins = _basins(smooth, own, peak, others)
        labels = np.where(own & (basins > 1), labels.max() + basins, labels)
    return labels, middle


def _smoothed_variance(stamp: Stamp) -> float:
    """Variance of the noise after the smoothing of the segmentation."""
    cf = stamp.correlation / stamp.correlation.max()
    y, x = np.indices(cf.shape)
    lag2 = (y - cf.shape[0] // 2) ** 2 + (x - cf.shape[1] // 2) ** 2
    weight = np.exp(-lag2 / (4 * _SMOOTHING_PX**2)) / (4 * np.pi * _SMOOTHING_PX**2)
    return float(stamp.variance * (cf * weight).sum())


def _label_at_middle(labels: NDArray[np.int32]) -> int:
    """The region at the middle of the stamp, or the nearest within 8 px; 0: there is none."""
    y, x = np.indices(labels.shape)
    away = np.hypot(y - (labels.shape[0] - 1) / 2, x - (labels.shape[1] - 1) / 2)
    away[labels == 0] = np.inf
    nearest = np.unravel_index(np.argmin(away), away.shape)
    return int(labels[nearest]) if away[nearest] <= 8 else 0


def _peak_from_middle(smooth: Image, own: Mask) -> tuple[int, int]:
    """The top of the hill on which the stamp's middle, or the region's pixel nearest it, stands.

    The brightest pixel of all might be a neighbour's.
    """
    y, x = np.indices(own.shape)
    away = np.hypot(y - (own.shape[0] - 1) / 2, x - (own.shape[1] - 1) / 2)
    at = np.unravel_index(np.argmin(np.where(own, away, np.inf)), own.shape)
    row, column = int(at[0]), int(at[1])
    while True:
        near = smooth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        up, right = np.unravel_index(np.argmax(near), near.shape)
        higher = (max(row - 1, 0) + int(up), max(column - 1, 0) + int(right))
        if smooth[higher] <= smooth[row, column]:
            return row, column
        row, column = higher


def _separate_parts(
    image: Image, smooth: Image, own: Mask, peak: tuple[int, int], threshold: float
) -> list[Mask]:
    """Parts of a region that hold a tenth of it, behind a valley of 3/4 of the peak or deeper."""
    light = np.where(own, image, 0)
    found: list[Mask] = []
    for level in np.geomspace(threshold, max(threshold, _VALLEY * smooth[peak]), _LEVELS)[1:]:
        labels, number = ndimage.label((smooth > level) & own)
        for label in range(1, number + 1):
            part = labels == label
            if part[peak] or any((part & other).any() for other in found):
                continue
            if light[part].sum() > _NEIGHBOUR_SHARE * light.sum():
                found.append(part)
    return found


def _basins(
    smooth: Image, own: Mask, peak: tuple[int, int], parts: Sequence[Mask]
) -> NDArray[np.int32]:
    """A region divided along its valleys: 1 round the peak, 2 and more round the parts, else 0.

    Flooded from the brightest pixel down: a pixel joins the neighbour through which it is reached.
    """
    basins = np.zeros(own.shape, np.int32)
    for number, part in enumerate(parts, start=2):
        basins[part] = number
    basins[peak] = 1
    shore = [(-smooth[y, x], int(y), int(x)) for y, x in zip(*np.nonzero(basins), strict=True)]
    heapq.heapify(shore)
    while shore:
        _, y, x = heapq.heappop(shore)
        for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= j < own.shape[0] and 0 <= i < own.shape[1]
            if inside and own[j, i] and not basins[j, i]:
                basins[j, i] = basins[y, x]
                heapq.heappush(shore, (-smooth[j, i], j, i))
    return basins


def _distance_of_top(smooth: Image, part: Mask, peak: tuple[int, int]) -> float:
    """How far the brightest pixel of a part is from the peak, px."""
    row, column = np.unravel_index(np.argmax(np.where(part, smooth, -np.inf)), part.shape)
    return float(np.hypot(row - peak[0], column - peak[1]))


def _share_at_edge(image: Image, region: Mask) -> float:
    """Share of the galaxy's light in the stamp's outermost two pixels."""
    edge = np.ones_like(region)
    edge[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = False
    return float(image[region & edge].sum() / image[region].sum())


def _without(image: Image, neighbours: Mask, y: float, x: float) -> Image:
    """Neighbours replaced by what lies on the other side of the centroid, or by nothing."""
    if not neighbours.any():
        return image
    rows, columns = np.indices(image.shape)
    opposite = [2 * y - rows, 2 * x - columns]
    light = ndimage.map_coordinates(np.where(neighbours, 0, image), opposite, order=1)
    covered = ndimage.map_coordinates(neighbours.astype(float), opposite, order=1, cval=1.0)
    return np.where(neighbours, np.where(covered < 0.01, light, 0.0), image)


def _window(region: Mask, neighbours: Mask, y: float, x: float) -> Image:
    """1 on the galaxy and where a neighbour may cover it, 0 outside, with a soft edge."""
    rows, columns = np.indices(region.shape)
    opposite = ndimage.map_coordinates(
        region.astype(float), [2 * y - rows, 2 * x - columns], order=1
    )
    whole = ndimage.binary_fill_holes(region | (neighbours & (opposite > 0.5)))
    grown = ndimage.binary_dilation(whole, iterations=_GROW_GALAXY_PX)
    inner = np.zeros_like(grown)
    inner[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = True  # falls to 0 within the stamp
    grown &= inner
    return np.asarray(ndimage.gaussian_filter(grown.astype(float), _SOFT_PX, mode="constant"))


def _deconvolved(
    image: Image, window: Image, stamp: Stamp, cleaning: Cleaning
) -> tuple[Image, float]:
    """A windowed galaxy without its PSF and noise, >= 0, and the FWHM that is left, arcsec."""
    shape = [fft.next_fast_len(n + 2 * _PAD_PX) for n in image.shape]
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
    sharp = _denoised(fft.ifft2(transform * keep).real, noise * np.abs(keep) ** 2, k)
    sharp = sharp[: image.shape[0], : image.shape[1]]
    return np.maximum(sharp * window, 0), sigma * FWHM_PER_SIGMA * stamp.scale_arcsec


def _denoised(sharp: Image, noise: Image, k: Image) -> Image:
    """Each part of an image at the finest smoothing at which it stands out of the noise.

    After Ebeling, White & Rangarajan 2006, MNRAS 368, 65: from fine to coarse, what stands out is
    taken, and only the rest is smoothed further. No flux is lost or made.

    Args:
        sharp: The image.
        noise: Power of its noise, of one pixel, at each frequency.
        k: Frequencies, cycles per pixel.
    """
    rest, taken, smoothed = sharp, np.zeros(sharp.shape), 0.0
    low, high = _STANDS_OUT
    for sigma in _SMOOTHINGS_PX:
        rest = ndimage.gaussian_filter(rest, np.sqrt(sigma**2 - smoothed**2), mode="constant")
        rms = np.sqrt(np.mean(noise * np.exp(-4 * (np.pi * sigma * k) ** 2)))
        share = np.clip((rest / rms - low) / (high - low), 0, 1)
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
    half_light = _half_light(sharp[0], y, x)
    if half_light * scale_arcsec < _LEAST_RADIUS * fwhm_arcsec:
        return HstGalaxy(0, UNRESOLVED)
    step = half_light / (_HALF_LIGHT_OF_SIZE * size)
    if step > 1:  # a coarser grid must not alias
        sharp = [ndimage.gaussian_filter(s, 0.5 * np.sqrt(step**2 - 1)) for s in sharp]
    axis = np.arange(size) - (size - 1) / 2
    edge = (size / 2 - np.hypot(axis[:, None], axis[None])) / (_TAPER * size)
    taper = np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2
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


def _half_light(image: Image, y: float, x: float) -> float:
    """Radius, px, of the circle about a point that holds half of an image's light."""
    rows, columns = np.indices(image.shape)
    away = np.hypot(rows - y, columns - x).ravel()
    order = np.argsort(away)
    grown = np.maximum.accumulate(np.cumsum(image.ravel()[order]))
    return float(np.interp(0.5 * grown[-1], grown, away[order]))
