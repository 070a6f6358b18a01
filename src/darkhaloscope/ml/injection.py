"""Paint rows of the manifest onto their cutouts: injected light as the survey would have seen it.

The one way from a row's numbers to pixels, used for stamps that are stored and for those drawn
while training. Every kind's light goes through the same PSF, dust, pixels and photon noise. The
noise of the sky and of the host is in the cutout already.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import ZERO_POINT_MAG
from darkhaloscope.lensing.noise import photon_noise
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.ml.painters import PAINTERS, Camera, batch_of

__all__ = ["Camera", "Injected", "ground_visible", "paint_rows"]

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
        inside_share: Share of that light inside the stamp, reference band, (n,).
        magnification: Lensed over unlensed flux; only of what is seen through a lens, (n,).
        src_mag: Magnitude of the unlensed source, or of the painted shape, as painted, without
            dust, (n, band).
    """

    pixels: Tensor
    arc_snr: Tensor
    arc_snr_mf: Tensor
    arc_snr_peak: Tensor
    injected_flux: Tensor
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
    measure: bool = True,
) -> Injected:
    """Make the stamps of some rows of the manifest.

    Args:
        rows: Rows of `manifest`, of any kinds.
        hosts: The cutout of each row without its pixels: centroid, psfsize, noise, exposures.
        cutouts: Pixels of each row's cutout, nmgy, shape (n, band, y, x), at least `size_px` wide.
        camera: How light becomes pixels.
        seed: Of the photon noise, with each row's stamp_id.
        device: Where to paint; the result stays there.
        measure: False leaves out the S/N ratios, which training does not ask for.

    Raises:
        DataError: a stamp has a pixel that is not finite; the message names the stamps.
        ValueError: a row lacks a number that its kind needs.
    """
    step = camera.batch_rows
    parts = [
        _paint(
            rows.slice(start, step),
            hosts.slice(start, step),
            _tensor(cutouts[start : start + step]).to(device),
            camera,
            seed,
            measure,
        )
        for start in range(0, max(rows.num_rows, 1), step)  # one empty batch keeps the shapes
    ]
    if len(parts) == 1:
        return parts[0]
    return Injected(*[torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Injected)])


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


def _paint(
    rows: pa.Table, hosts: pa.Table, cutouts: Tensor, camera: Camera, seed: int, measure: bool
) -> Injected:
    ids = rows["stamp_id"].to_numpy()
    edge = (cutouts.shape[-1] - camera.size_px) // 2
    pixels = cutouts[..., edge : edge + camera.size_px, edge : edge + camera.size_px]
    kinds = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    batch = batch_of(rows, hosts, pixels, camera, edge_px=edge)
    n, bands = len(kinds), len(camera.bands)
    light = torch.zeros_like(pixels)
    nothing = pixels.new_full((n, bands), torch.nan)
    inside, flux, magnification = nothing.clone(), nothing.clone(), nothing[:, 0].clone()
    for painted_kinds, painter in PAINTERS.items():
        place = np.flatnonzero(np.isin(kinds, painted_kinds))
        if not len(place):
            continue
        at = torch.from_numpy(place).to(pixels.device)
        painted = painter(batch.take(at))
        light[at], inside[at] = painted.pixels, painted.inside
        flux[at], magnification[at] = painted.flux, painted.magnification
    key = torch.from_numpy(keys.bits(ids, seed=seed, stream="photons").view(np.int64))
    lit = light.flatten(1).any(1).nonzero()[:, 0]  # elsewhere the draws would be multiplied by 0
    stamps = pixels + light
    stamps[lit] += photon_noise(
        light[lit], batch.electrons[lit], key.to(pixels.device)[lit], stream="photons"
    )
    _check_finite(stamps, ids)
    is_dark = torch.isnan(inside)
    snr, matched, peak = nothing, nothing, nothing
    if measure:
        found = arc_snr(light, batch.sky_sigma, batch.variance)
        snr, matched, peak = (
            torch.where(is_dark, torch.nan, v) for v in (found.snr, found.matched, found.peak)
        )
    return Injected(
        pixels=stamps,
        arc_snr=snr,
        arc_snr_mf=matched,
        arc_snr_peak=peak,
        injected_flux=torch.where(is_dark, torch.nan, light.sum((2, 3))),
        inside_share=inside[:, camera.bands.index(REFERENCE_BAND)],
        magnification=magnification,
        src_mag=ZERO_POINT_MAG - 2.5 * torch.log10(flux),
    )


def _tensor(pixels: NDArray[np.float32] | Tensor) -> Tensor:
    """A tensor; pixels that were read from a table may not be written to, and are copied."""
    return pixels if isinstance(pixels, Tensor) else torch.tensor(pixels)


def _check_finite(stamps: Tensor, ids: NDArray[np.int64]) -> None:
    """Refuse stamps with a pixel that is not finite, by name."""
    is_finite = torch.isfinite(stamps).flatten(1).all(1).cpu().numpy()
    if not is_finite.all():
        bad = ids[~is_finite]
        named = ", ".join(str(i) for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise DataError(
            f"{len(bad)} of {len(ids)} stamps have a pixel that is not finite: stamp_id {named}; "
            "look at their rows in manifest and their cutouts"
        )
