"""Paint rows of the manifest onto their cutouts: injected light as the survey would have seen it.

The one way from a row's numbers to pixels, used for stamps that are stored and for those drawn
while training. Every kind's light goes through the same PSF, dust, pixels and photon noise. The
noise of the sky and of the host is in the cutout already.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import ZERO_POINT_MAG
from darkhaloscope.data import pixels
from darkhaloscope.lensing.apertures import aperture_flux
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.contaminants import places_of
from darkhaloscope.lensing.noise import photon_noise
from darkhaloscope.lensing.profiles import checked
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml.painters import (
    PAINTERS,
    Batch,
    Camera,
    Edge,
    Ground,
    Light,
    Painter,
    batch_of,
    host_numbers,
    painted_by,
)

__all__ = [
    "Camera",
    "Injected",
    "Pieces",
    "Work",
    "add_light",
    "described",
    "ground_visible",
    "paint_rows",
]

T = TypeVar("T")
log = logging.getLogger(__name__)

REFERENCE_BAND = "r"  # its share inside the stamp, and its seeing, stand for the stamp

# S/N and magnification above which a lens is plain from the ground (Collett 2015)
VISIBLE_SNR, VISIBLE_MAGNIFICATION = 20.0, 3.0


@dataclass(frozen=True, slots=True)
class Injected:
    """n stamps and what was added to them; NaN where nothing was, or it does not apply.

    Attributes:
        pixels: Stamp, nmgy, shape (n, band, size, size).
        arc_snr: Integrated S/N of the added light, (n, band).
        arc_snr_mf: Its matched-filter S/N, (n, band).
        arc_snr_peak: S/N of its best pixel, (n, band).
        injected_flux: Added light inside the stamp, before its photon noise, nmgy, (n, band).
        aperture_flux: The same within `schemas.ARC_APERTURES_ARCSEC` of the host's centroid, nmgy,
            (n, band, radius).
        inside_share: Share of that light inside the stamp, reference band, (n,).
        magnification: Lensed over unlensed flux; only of what is seen through a lens, (n,).
        src_mag: Magnitude of the unlensed source, or of the painted shape, as painted, without
            dust; NaN where a band has no light, (n, band).
    """

    pixels: Tensor
    arc_snr: Tensor
    arc_snr_mf: Tensor
    arc_snr_peak: Tensor
    injected_flux: Tensor
    aperture_flux: Tensor
    inside_share: Tensor
    magnification: Tensor
    src_mag: Tensor


def paint_rows(
    rows: pa.Table,
    hosts: pa.Table,
    cutouts: NDArray[np.float32] | Tensor,
    *,
    camera: Camera,
    seed: int,
    device: str = "cpu",
    bank: Bank | None = None,
) -> Injected:
    """Make the stamps of some rows of the manifest, and measure what was added.

    Args:
        rows: Rows of `manifest`, of any kinds.
        hosts: The cutout of each row without its pixels: centroid, psfsize, noise, exposures; PSF
            images, where the camera asks for them.
        cutouts: Pixels of each row's cutout, nmgy, shape (n, band, y, x), at least `size_px` wide.
        camera: How light becomes pixels.
        seed: Of the photon noise, with each row's stamp_id.
        device: Where to paint; the result stays there.
        bank: Pictures of sources, on that device; None where no row names one.

    Raises:
        DataError: a stamp has a pixel that is not finite; the message names the stamps.
        ValueError: a row lacks a number that its kind needs.
    """
    size = camera.size_px
    edge = (cutouts.shape[-1] - size) // 2
    inner = cutouts[..., edge : edge + size, edge : edge + size]
    numbers = host_numbers(hosts, camera.bands)
    psfs = psf_images(hosts) if camera.psf_profile == "image" else None

    def painted(part: slice) -> Injected:
        work = described(
            rows.slice(part.start, part.stop - part.start),
            numbers[part],
            camera=camera,
            seed=seed,
            edge_px=edge,
            bank=bank,
        )
        work = work.to(device)
        if psfs is not None:
            work = work.with_psfs(sent(np.array(psfs[part]), device))
        return _measured(work, _copy(inner[part], device))

    parts = Pieces(camera.batch_rows).each(rows.num_rows, painted)
    joined = Injected(*[torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Injected)])
    _check_finite(joined.pixels, rows["stamp_id"].to_numpy())
    return joined


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one painter.

    Attributes:
        painter: What paints them.
        part: Where they stand in the order of the painters.
        rows: Which they are, on the host.
        places: Where the places of their parts stand in `Work.indices`.
    """

    painter: Painter
    part: slice
    rows: NDArray[np.intp]
    places: slice


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be painted on n stamps, checked on the host; then on the device, in three copies.

    Attributes:
        batch: The numbers of all rows.
        indices: Photon keys, and rows in the order of their painters; then the places of the parts
            of each painter's rows: (2, n + parts) int64.
        groups: The rows of each painter.
    """

    batch: Batch
    indices: Tensor
    groups: tuple[Group, ...]

    def to(self, device: torch.device | str) -> "Work":
        """The same on another device; on a GPU nothing waits for the copies."""
        batch = self.batch
        parts = None if batch.parts is None else sent(batch.parts.numpy(), device)
        batch = replace(batch, values=sent(batch.values.numpy(), device), parts=parts)
        return Work(batch, sent(self.indices.numpy(), device), self.groups)

    def with_psfs(self, images: Tensor) -> "Work":
        """The same with the hosts' PSF images, (n, band, k, k), on the device of the numbers."""
        return replace(self, batch=replace(self.batch, psf_images=images))


def described(
    rows: pa.Table,
    hosts: NDArray[np.float64],
    *,
    camera: Camera,
    seed: int,
    edge_px: Edge,
    bank: Bank | None = None,
) -> Work:
    """What some rows of the manifest ask for.

    Args:
        rows: Rows of `manifest`, of any kinds.
        hosts: `painters.host_numbers` of each row's cutout.
        camera: How light becomes pixels.
        seed: Of the photon noise, with each row's stamp_id.
        edge_px: Pixels of the cutout before the stamp's first, one number or (n, 2): along x and y.
        bank: Pictures of sources, on the device that will paint; None where no row names one.

    Raises:
        ValueError: a row lacks a number that its kind needs, or it is outside its range.
    """
    batch = replace(batch_of(rows, hosts, camera, edge_px=edge_px), bank=bank)
    painted = pc.if_else(pc.equal(rows["family"], "look_alike"), "", rows["kind"])
    kinds = np.asarray(painted.to_pylist(), dtype=np.str_)
    names = painted_by(kinds, rows["src_picture"].is_valid().to_numpy(), batch.shapes().forms)
    groups, places, start, stop = [], [], 0, len(kinds)
    for painter in PAINTERS:
        takes = names == painter.name
        place = np.concatenate([np.flatnonzero(takes & (kinds == kind)) for kind in painter.kinds])
        if not len(place):
            continue
        own = batch.take(torch.from_numpy(place), place)
        painter.check(own)
        places.append(places_of(own.shapes().forms))
        count = places[-1].shape[1]
        part = slice(start, start + len(place))
        groups.append(Group(painter, part, place, slice(stop, stop + count)))
        start, stop = part.stop, stop + count
    indices = np.zeros((2, len(kinds)), np.int64)
    indices[0] = keys.bits(rows["stamp_id"].to_numpy(), seed=seed, stream="photons").view(np.int64)
    indices[1, :start] = np.concatenate([group.rows for group in groups]) if groups else []
    indices = np.concatenate([indices, *places], 1)
    return Work(batch, torch.from_numpy(indices), tuple(groups))


def add_light(work: Work, pixels: Tensor) -> Iterator[tuple[Ground, Light]]:
    """Add light and its photon noise to stamps, one painter after the other.

    On a GPU nothing is copied to the host, and nothing waits.

    Args:
        work: On the device of the pixels.
        pixels: The hosts' stamps, nmgy, (n, band, y, x), contiguous; changed in place.

    Yields:
        Of each painter: the ground and the light, which is added when the next one is asked for.
    """
    photon_keys, order = work.indices
    for group in work.groups:
        rows = order[group.part]
        batch = work.batch.take(rows, group.rows, work.indices[:, group.places])
        ground = Ground(pixels, rows, batch)
        with checked():
            light = group.painter.paint(batch, ground)
            added = light.pixels
            if group.painter.has_photons:
                noise = photon_noise(
                    added, batch.per_band("electrons"), photon_keys[rows], stream="photons"
                )
                added = noise.add_(added)
        yield ground, light
        pixels.index_add_(0, rows, added)


class Pieces:
    """How many rows are worked on at once: half as many once a GPU's memory did not hold them."""

    def __init__(self, rows: int) -> None:
        """Begin with `rows`, 1 or more."""
        self.rows = rows

    def each(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Results of `work` on consecutive rows, in order; on no rows too, for the shapes' sake.

        What `work` makes of a row may not depend on the rows beside it.

        Raises:
            torch.OutOfMemoryError: one row is too much.
        """
        done: list[T] = []
        start = 0
        while start < count or not done:
            stop = min(start + self.rows, count)
            if self._is_done(work, slice(start, stop), done):
                start = stop
        return done

    def _is_done(self, work: Callable[[slice], T], part: slice, done: list[T]) -> bool:
        try:
            done.append(work(part))
        except torch.OutOfMemoryError:
            if self.rows == 1:
                raise
        else:
            return True
        # out of the handler, whose traceback holds the tensors that were made
        self.rows = max(1, min(self.rows, part.stop - part.start) // 2)
        log.warning("the device's memory is full: from now on %d stamps at once", self.rows)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return False


def psf_images(hosts: pa.Table) -> NDArray[np.float32]:
    """PSF images of cutouts, shape (n, band, k, k).

    Raises:
        DataError: a cutout has none.
    """
    return pixels.decode(hosts["psf_image"], hosts.field("psf_image"))


def ground_visible(
    theta_e: NDArray[np.floating],
    r_eff: NDArray[np.floating],
    magnification: NDArray[np.floating],
    fwhm: NDArray[np.floating],
    arc_snr: NDArray[np.floating],
) -> NDArray[np.bool_]:
    """Whether a lens can be told from the ground.

    The images are separate (theta_E^2 > r_s^2 + (FWHM/2)^2), the arc is resolved along itself
    (mu r_s > FWHM), strongly magnified (mu > 3) and well detected (S/N > 20).

    Args:
        theta_e: Einstein radius, arcsec, (n,).
        r_eff: Half-light radius of the unlensed source, arcsec, (n,).
        magnification: Total magnification, (n,).
        fwhm: Seeing, arcsec, (n,).
        arc_snr: Integrated S/N in the best band, (n,).

    References:
        Collett 2015, ApJ 811, 20.

    Examples:
        >>> one = np.ones(1)
        >>> ground_visible(one, 0.2 * one, 8 * one, 1.2 * one, 30 * one).tolist()
        [True]
        >>> ground_visible(one, 0.2 * one, 8 * one, 2.2 * one, 30 * one).tolist()
        [False]
    """
    is_separate = theta_e**2 > r_eff**2 + (fwhm / 2) ** 2
    is_stretched = (magnification * r_eff > fwhm) & (magnification > VISIBLE_MAGNIFICATION)
    return np.asarray(is_separate & is_stretched & (arc_snr > VISIBLE_SNR))


def _measured(work: Work, pixels: Tensor) -> Injected:
    """Paint, and say what was added."""
    n, bands = pixels.shape[:2]
    nothing = pixels.new_full((n, bands), torch.nan)
    snr, matched, peak, added, inside, flux = (nothing.clone() for _ in range(6))
    magnification = nothing[:, 0].clone()
    radii = tuple(schemas.ARC_APERTURES_ARCSEC.values())
    within = pixels.new_full((n, bands, len(radii)), torch.nan)
    for ground, light in add_light(work, pixels):
        rows, sky_sigma = ground.rows, ground.batch.per_band("sky_sigma")
        found = arc_snr(light.pixels, sky_sigma, ground.variance())
        snr[rows], matched[rows], peak[rows] = found.snr, found.matched, found.peak
        added[rows], inside[rows] = light.pixels.sum((2, 3)), light.inside
        flux[rows], magnification[rows] = light.flux, light.magnification
        x, y = (ground.batch.column(f"centre_{axis}") for axis in "xy")
        grid = ground.batch.camera.grid
        within[rows] = aperture_flux(light.pixels, x=x, y=y, radii=radii, grid=grid)
    return Injected(
        pixels=pixels,
        arc_snr=snr,
        arc_snr_mf=matched,
        arc_snr_peak=peak,
        injected_flux=added,
        aperture_flux=within,
        inside_share=inside[:, work.batch.camera.bands.index(REFERENCE_BAND)],
        magnification=magnification,
        src_mag=ZERO_POINT_MAG - 2.5 * torch.log10(torch.where(flux > 0, flux, torch.nan)),
    )


def _copy(pixels: NDArray[np.float32] | Tensor, device: str) -> Tensor:
    """A tensor on the device that may be written to."""
    if isinstance(pixels, Tensor):
        return pixels.to(device, copy=True).contiguous()
    return sent(np.array(pixels, order="C"), device)


def _check_finite(stamps: Tensor, ids: NDArray[np.int64]) -> None:
    """Refuse stamps with a pixel that is not finite, by name."""
    is_finite = stamps.sum((1, 2, 3)).isfinite().cpu().numpy()
    if not is_finite.all():
        bad = ids[~is_finite]
        named = ", ".join(str(i) for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise DataError(
            f"{len(bad)} of {len(ids)} stamps have a pixel that is not finite: stamp_id {named}; "
            "look at their rows in manifest and their cutouts"
        )
