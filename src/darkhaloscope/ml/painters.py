"""Painters: from the numbers of a kind's rows to its light, one renderer call a kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import units
from darkhaloscope.lensing import contaminants
from darkhaloscope.lensing.psf import Gaussian, Psf, moffat_from_psfsize
from darkhaloscope.lensing.render import (
    DEFAULT,
    Grid,
    Lens,
    Painted,
    Plan,
    Sersic,
    paint,
    render_lensed,
)

TARGET_BAND = "g"  # arc_snr_target is the matched-filter S/N in it
MAX_OTHER_BAND = 2.0  # S/N of any band over the target, at most
MAX_SCALE = 1000.0  # of a source that training rescales: light that misses the stamp stays faint

_COLUMNS = (
    "theta_e_arcsec",
    "lens_q",
    "lens_phi_deg",
    "shear",
    "shear_phi_deg",
    "src_x_arcsec",
    "src_y_arcsec",
    "src_r_eff_arcsec",
    "src_n",
    "src_q",
    "src_phi_deg",
    "shape_radius_arcsec",
    "shape_width_arcsec",
    "shape_n_arms",
    "shape_pitch_deg",
    "shape_phi_deg",
)


@dataclass(frozen=True, slots=True)
class Camera:
    """How light becomes pixels.

    Attributes:
        bands: Filters, in the order of every pixel array.
        pixel_scale_arcsec: Width of a pixel.
        size_px: Width of a stamp, the centre of the cutout by whole pixels.
        psf_profile: A Moffat from psfsize, or a Gaussian whose FWHM is taken to be psfsize.
        psf_beta: Moffat exponent, one a band.
        electrons_per_nmgy_per_exposure: One a band; 0 for no photon noise.
        batch_rows: Rows painted at once; changes no result.
        plan: How finely the renderer samples.
    """

    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    size_px: int
    psf_profile: Literal["moffat", "gaussian"]
    psf_beta: tuple[float, ...]
    electrons_per_nmgy_per_exposure: tuple[float, ...]
    batch_rows: int = 128
    plan: Plan = DEFAULT

    @property
    def grid(self) -> Grid:
        """The stamp's pixels."""
        return Grid(self.size_px, self.pixel_scale_arcsec)


@dataclass(frozen=True, slots=True)
class Batch:
    """Numbers of some rows on the device: columns (n,) and per-band values (n, band)."""

    columns: dict[str, Tensor]
    flux: Tensor
    dust: Tensor
    psfsize: Tensor
    sky_sigma: Tensor
    variance: Tensor
    electrons: Tensor
    target_snr: Tensor
    camera: Camera

    def take(self, rows: Tensor) -> "Batch":
        """Some of the rows."""
        return Batch(
            columns={name: values[rows] for name, values in self.columns.items()},
            flux=self.flux[rows],
            dust=self.dust[rows],
            psfsize=self.psfsize[rows],
            sky_sigma=self.sky_sigma[rows],
            variance=self.variance[rows],
            electrons=self.electrons[rows],
            target_snr=self.target_snr[rows],
            camera=self.camera,
        )

    def place(self) -> dict[str, Any]:
        """Where and how the renderer puts light."""
        return {
            "psf": _psf(self.psfsize, self.camera),
            "centre_x": self.columns["centre_x"],
            "centre_y": self.columns["centre_y"],
            "grid": self.camera.grid,
            "plan": self.camera.plan,
        }


@dataclass(frozen=True, slots=True)
class Light:
    """Light of n rows of a kind, dust and training's rescaling included."""

    pixels: Tensor
    inside: Tensor
    magnification: Tensor
    flux: Tensor  # of the unlensed source or the shape, without dust


def _lensed(batch: Batch) -> Light:
    """Arcs, and single images of sources outside the caustic."""
    painted = _behind_a_lens(batch)
    scale = _training_scale(painted.pixels, batch)
    return _light(painted, batch.flux, scale, painted.magnification)


def _companion(batch: Batch) -> Light:
    """The arc's light and colours in an unlensed galaxy, where its brightest image would be."""
    arc = _behind_a_lens(batch)
    flux = batch.flux * (_training_scale(arc.pixels, batch) * arc.magnification)[:, None]
    radius, phi = (
        batch.columns["shape_radius_arcsec"],
        torch.deg2rad(batch.columns["shape_phi_deg"]),
    )
    source = _sersic(batch, radius * torch.cos(phi), radius * torch.sin(phi))
    painted = contaminants.companion(source, flux=flux * batch.dust, **batch.place())
    return Light(painted.pixels, painted.inside, torch.full_like(phi, torch.nan), flux)


def _shape_painter(paint: Callable[[Batch], Painted]) -> Callable[[Batch], Light]:
    """A painter of shapes whose light is not lensed."""

    def painter(batch: Batch) -> Light:
        painted = paint(batch)
        scale = _training_scale(painted.pixels, batch)
        return _light(painted, batch.flux, scale, torch.full_like(scale, torch.nan))

    return painter


def _ring(batch: Batch) -> Painted:
    c = batch.columns
    shape = contaminants.Ring.even(
        radius=c["shape_radius_arcsec"],
        sigma=c["shape_width_arcsec"],
        q=c["src_q"],
        phi=torch.deg2rad(c["src_phi_deg"]),
    )
    return paint(shape, flux=batch.flux * batch.dust, **batch.place())


def _spiral(batch: Batch) -> Painted:
    c = batch.columns
    shape = contaminants.Spiral(
        radius=c["shape_radius_arcsec"],
        sigma=c["shape_width_arcsec"],
        r_eff=c["src_r_eff_arcsec"],
        n_arms=c["shape_n_arms"],
        pitch=torch.deg2rad(c["shape_pitch_deg"]),
        q=c["src_q"],
        phi=torch.deg2rad(c["src_phi_deg"]),
        arm_phi=torch.deg2rad(c["shape_phi_deg"]),
    )
    return paint(shape, flux=batch.flux * batch.dust, **batch.place())


PAINTERS: dict[tuple[str, ...], Callable[[Batch], Light]] = {
    ("lens", "single_image"): _lensed,
    ("companion",): _companion,
    ("ring", "halo_ring"): _shape_painter(_ring),
    ("spiral",): _shape_painter(_spiral),
}


def _behind_a_lens(batch: Batch) -> Painted:
    c = batch.columns
    lens = Lens(
        c["theta_e_arcsec"],
        c["lens_q"],
        torch.deg2rad(c["lens_phi_deg"]),
        c["shear"],
        torch.deg2rad(c["shear_phi_deg"]),
    )
    source = _sersic(batch, c["src_x_arcsec"], c["src_y_arcsec"])
    return render_lensed(source, lens, flux=batch.flux * batch.dust, **batch.place())


def _sersic(batch: Batch, x: Tensor, y: Tensor) -> Sersic:
    c = batch.columns
    phi = torch.deg2rad(c["src_phi_deg"])
    return Sersic(x, y, c["src_r_eff_arcsec"], c["src_n"], c["src_q"], phi)


def _light(painted: Painted, flux: Tensor, scale: Tensor, magnification: Tensor) -> Light:
    pixels = painted.pixels * scale[:, None, None, None]
    return Light(pixels, painted.inside, magnification, flux * scale[:, None])


def _training_scale(light: Tensor, batch: Batch) -> Tensor:
    """What brings the matched-filter S/N to its target; 1 where there is none, (n,).

    The target is that in g. Light so red that another band would stand out by more than
    `MAX_OTHER_BAND` times as much is held there: else a red source would outshine its host.
    """
    band = batch.camera.bands.index(TARGET_BAND)
    matched = (light.square() / batch.variance).sum((2, 3)).sqrt()
    reached = torch.maximum(matched[:, band], matched.amax(1) / MAX_OTHER_BAND)
    has_target = torch.isfinite(batch.target_snr) & (reached > 0)
    scale = batch.target_snr / torch.where(has_target, reached, 1.0)
    return torch.where(has_target, scale.clamp(max=MAX_SCALE), 1.0)


def _psf(psfsize: Tensor, camera: Camera) -> Psf:
    if camera.psf_profile == "gaussian":
        return Gaussian(psfsize)
    beta = psfsize.new_tensor(camera.psf_beta)[None]
    return moffat_from_psfsize(psfsize, beta)


def batch_of(
    rows: pa.Table, hosts: pa.Table, pixels: Tensor, camera: Camera, *, edge_px: int
) -> Batch:
    """The numbers of some rows on the device of their stamps' pixels.

    Args:
        rows: Rows of `manifest`.
        hosts: The cutout of each row without its pixels.
        pixels: Host's pixels of each stamp, nmgy, shape (n, band, y, x).
        camera: How light becomes pixels.
        edge_px: Pixels of the cutout before the stamp's first.
    """

    def to_device(values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(pixels.device)

    def of_hosts(template: str) -> Tensor:
        return to_device(_per_band(hosts, template, camera.bands))

    dust = np.nan_to_num(_per_band(rows, "mw_transmission_{b}", camera.bands), nan=1.0)
    flux = units.nmgy_from_mag(_per_band(rows, "src_mag_{b}", camera.bands))
    centre = edge_px + (camera.size_px - 1) / 2
    columns = {name: to_device(_numbers(rows, name)) for name in _COLUMNS}
    columns |= {
        f"centre_{axis}": to_device(_numbers(hosts, f"host_{axis}_px") - centre)
        for axis in ("x", "y")
    }
    gain = np.asarray(camera.electrons_per_nmgy_per_exposure)
    exposures = np.nan_to_num(_per_band(hosts, "n_exposures_{b}", camera.bands), nan=1.0)
    electrons = to_device(np.where(gain > 0, gain, 1e30) * np.maximum(exposures, 1.0))
    sky_sigma, sky = of_hosts("noise_{b}_nmgy"), of_hosts("sky_median_{b}_nmgy")
    host_light = (pixels - sky[:, :, None, None]).clamp_min_(0)
    photons = units.COADD_RMS_FACTOR**2 * host_light / electrons[:, :, None, None]
    variance = photons + sky_sigma.square()[:, :, None, None]
    return Batch(
        columns,
        flux=to_device(flux),
        dust=to_device(dust),
        psfsize=of_hosts("psf_nea_{b}_arcsec"),
        sky_sigma=sky_sigma,
        variance=variance,
        electrons=electrons,
        target_snr=to_device(_numbers(rows, "arc_snr_target")),
        camera=camera,
    )


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _per_band(table: pa.Table, template: str, bands: tuple[str, ...]) -> NDArray[np.float64]:
    return np.stack([_numbers(table, template.format(b=band)) for band in bands], 1)
