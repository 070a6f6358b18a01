"""Painters: from the numbers of a kind's rows to its light, one renderer call a painter.

The numbers of a batch go to the device once, as one table, after the host has checked them: on a
GPU every check would wait for all that was asked of it before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import units
from darkhaloscope.lensing import contaminants, cpu
from darkhaloscope.lensing.bank import Bank, Pictures
from darkhaloscope.lensing.profiles import require
from darkhaloscope.lensing.psf import Gaussian, Kernel, Psf, moffat_from_psfsize
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
NO_PHOTON_NOISE = 1e30  # electrons per nmgy that leave none

_OF_ROWS = (
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
    "src_picture",
    "src_is_mirrored",
    "shape_radius_arcsec",
    "shape_width_arcsec",
    "shape_n_arms",
    "shape_pitch_deg",
    "shape_phi_deg",
    "inner_radius_arcsec",
    "inner_phi_deg",
    "inner_share",
    "arc_snr_target",
)
_OF_HOSTS = ("host_x_px", "host_y_px")
_OF_HOSTS_PER_BAND = (
    "psf_nea_{b}_arcsec",
    "noise_{b}_nmgy",
    "sky_median_{b}_nmgy",
    "n_exposures_{b}",
    "electrons_per_nmgy_{b}",
)
_COLUMNS = (*_OF_ROWS, "centre_x", "centre_y")
_PER_BAND = ("flux", "dust", "psfsize", "sky_sigma", "sky_median", "electrons")


Edge = int | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Camera:
    """How light becomes pixels.

    Attributes:
        bands: Filters, in the order of every pixel array.
        pixel_scale_arcsec: Width of a pixel.
        size_px: Width of a stamp, the centre of the cutout by whole pixels.
        psf_profile: A Moffat from psfsize, a Gaussian whose FWHM is taken to be psfsize, or each
            host's own PSF images, on the pixels of the survey.
        psf_beta: Moffat exponent, one a band.
        electrons_per_nmgy_per_exposure: One a band, for hosts whose own gain is not known; 0 for no
            photon noise on any.
        batch_rows: Rows painted at once; changes no result.
        plan: How finely the renderer samples.
    """

    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    size_px: int
    psf_profile: Literal["moffat", "gaussian", "image"]
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
    """Numbers of n rows and their hosts, on one device.

    Attributes:
        values: The numbers, float32, NaN where null, (column, n).
        camera: How light becomes pixels.
        n_last: How many rows, at the end, are of the painter's last kind.
        psf_images: The hosts' PSFs, of sum 1, (n, band, k, k); where the camera asks for them.
        bank: Where the rows' pictures are, on the device that paints; None: no row has one.
    """

    values: Tensor
    camera: Camera
    n_last: int = 0
    psf_images: Tensor | None = None
    bank: Bank | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return self.values.shape[1]

    def column(self, name: str) -> Tensor:
        """One number a row, (n,)."""
        return self.values[_COLUMNS.index(name)]

    def angle(self, name: str) -> Tensor:
        """A column in degrees as radians, (n,)."""
        return torch.deg2rad(self.column(name))

    def per_band(self, name: str) -> Tensor:
        """One number a row and band, (n, band)."""
        count = len(self.camera.bands)
        start = len(_COLUMNS) + count * _PER_BAND.index(name)
        return self.values[start : start + count].T.contiguous()

    def take(self, rows: Tensor, *, n_last: int = 0) -> "Batch":
        """Some of the rows, (k,)."""
        images = None if self.psf_images is None else self.psf_images[rows]
        return replace(self, values=self.values[:, rows], n_last=n_last, psf_images=images)

    def place(self) -> dict[str, Any]:
        """Where and how the renderer puts light."""
        return {
            "psf": _psf(self),
            "centre_x": self.column("centre_x"),
            "centre_y": self.column("centre_y"),
            "grid": self.camera.grid,
            "plan": self.camera.plan,
        }


@dataclass(frozen=True, slots=True)
class Ground:
    """What injected light has to stand out from: the pixels of n rows before it is added.

    Attributes:
        pixels: Stamps, nmgy, (m, band, y, x).
        rows: Which of them are meant, (n,).
        batch: Their numbers, n rows.
    """

    pixels: Tensor
    rows: Tensor
    batch: Batch

    def variance(self) -> Tensor:
        """Noise variance of the sky and of the host's photons, nmgy^2, (n, band, y, x)."""
        sky, sigma = self.batch.per_band("sky_median"), self.batch.per_band("sky_sigma")
        photons = (self.pixels[self.rows] - sky[:, :, None, None]).clamp_min_(0)
        per_light = self._per_light()[:, :, None, None]
        return torch.addcmul(sigma.square()[:, :, None, None], photons, per_light)

    def matched_snr(self, light: Tensor) -> Tensor:
        """Matched-filter S/N of light on these rows, (n, band, y, x): shape (n, band)."""
        is_float = light.dtype == self.pixels.dtype == torch.float32
        if light.device.type == "cpu" and is_float and cpu.is_available():
            matched_rows = cpu.loops("darkhaloscope.ml.compiled").matched_rows

            snr = light.new_empty(light.shape[:2])
            of_sky = (self.batch.per_band("sky_median"), self.batch.per_band("sky_sigma"))
            matched_rows(
                light.flatten(2).numpy(), self.pixels.flatten(2).numpy(), self.rows.numpy(),
                of_sky[0].numpy(), self._per_light().numpy(), of_sky[1].numpy(), snr.numpy(),
            )  # fmt: skip
            return snr
        return (light.square() / self.variance()).sum((2, 3)).sqrt()

    def _per_light(self) -> Tensor:
        """Variance that each nmgy of the host adds, nmgy, (n, band)."""
        return units.COADD_RMS_FACTOR**2 / self.batch.per_band("electrons")


@dataclass(frozen=True, slots=True)
class Light:
    """Light of n rows, dust and training's rescaling included.

    Attributes:
        pixels: Flux per pixel, nmgy, (n, band, y, x).
        inside: Share of the light that falls inside the stamp, (n, band).
        magnification: Lensed over unlensed flux, NaN where it does not apply, (n,).
        flux: Of the unlensed source or the shape, without dust, nmgy, (n, band).
    """

    pixels: Tensor
    inside: Tensor
    magnification: Tensor
    flux: Tensor


@dataclass(frozen=True, slots=True)
class Painter:
    """What makes the light of some kinds.

    Attributes:
        kinds: The kinds; rows come in this order.
        shapes: Makes what is rendered, which refuses numbers outside their ranges.
        paint: Light of rows on their ground.
        has_pictures: Whether it paints the rows whose source is a picture, or the others.
    """

    kinds: tuple[str, ...]
    shapes: Callable[[Batch], object]
    paint: Callable[[Batch, Ground], Light]
    has_pictures: bool = False

    def check(self, batch: Batch) -> None:
        """Refuse rows that cannot be painted.

        Raises:
            ValueError: a number is missing or outside its range.
        """
        if batch.camera.psf_profile != "image":  # images are checked before they are kept
            _psf(batch)
        flux = batch.per_band("flux") * batch.per_band("dust")
        require(flux.isfinite(), flux, "a flux is finite")
        for axis in ("centre_x", "centre_y"):
            require(batch.column(axis).isfinite(), batch.column(axis), "a centre is finite")
        for name, meaning in _ABOVE_0.items():
            value = batch.per_band(name)
            require((value > 0) & value.isfinite(), value, meaning)
        self.shapes(batch)


_ABOVE_0 = {
    "electrons": "electrons per nmgy are more than 0",
    "sky_sigma": "the noise of the sky is more than 0 nmgy",
}


def _sources(batch: Batch, source: "_Source") -> tuple[Sersic | Pictures, Lens]:
    """Sources behind lenses; then the last kind, the companions, without theirs: outer, inner."""
    lens = Lens(
        batch.column("theta_e_arcsec"),
        batch.column("lens_q"),
        batch.angle("lens_phi_deg"),
        batch.column("shear"),
        batch.angle("shear_phi_deg"),
    )
    x, y = batch.column("src_x_arcsec"), batch.column("src_y_arcsec")
    companions = _tail(batch)
    share = companions.column("inner_share")
    require((share >= 0) & (share <= 1), share, "inner_share is within 0 and 1")
    for piece in ("shape", "inner"):
        radius, phi = (
            companions.column(f"{piece}_radius_arcsec"),
            companions.angle(f"{piece}_phi_deg"),
        )
        x, y = torch.cat([x, radius * torch.cos(phi)]), torch.cat([y, radius * torch.sin(phi)])
    none = Lens.none(torch.cat([share, share]))
    both = Lens(*[torch.cat([getattr(part, f) for part in (lens, none)]) for f in _LENS])
    return source(_with_tails(batch), x, y), both


_LENS = ("theta_e", "q", "phi", "shear", "shear_phi")


def _paint_sources(batch: Batch, ground: Ground, source: "_Source") -> Light:
    """Arcs, single images of sources outside the caustic, and companions.

    A companion is the arc's light and colours in two unlensed galaxies: its arc is rendered too, to
    know how bright that is.
    """
    count, tail = len(batch), batch.n_last
    light, lens = _sources(batch, source)
    every = _with_tails(batch)
    flux = every.per_band("flux")
    painted = render_lensed(light, lens, flux=flux * every.per_band("dust"), **every.place())
    scale = _training_scale(painted.pixels[:count], ground)
    magnified = scale[count - tail :] * painted.magnification[count - tail : count]
    kept = count - tail
    scale = torch.cat([scale[:kept], magnified])
    share = _tail(batch).column("inner_share")
    drawn = Painted(
        _with_pieces(painted.pixels, kept, share),
        _with_pieces(painted.inside, kept, share),
        painted.magnification[:count],
    )
    is_seen = torch.arange(count, device=scale.device) < kept
    magnification = torch.where(is_seen, drawn.magnification, torch.nan)
    return _light(drawn, batch.per_band("flux"), scale, magnification)


def _shape_painter(
    kinds: tuple[str, ...], shape: Callable[[Batch], contaminants.Ring | contaminants.Spiral]
) -> Painter:
    """A painter of shapes whose light is not lensed."""

    def painted(batch: Batch, ground: Ground) -> Light:
        flux = batch.per_band("flux")
        made = paint(shape(batch), flux=flux * batch.per_band("dust"), **batch.place())
        scale = _training_scale(made.pixels, ground)
        return _light(made, flux, scale, torch.full_like(scale, torch.nan))

    return Painter(kinds, shape, painted)


def _ring(batch: Batch) -> contaminants.Ring:
    return contaminants.Ring.even(
        radius=batch.column("shape_radius_arcsec"),
        sigma=batch.column("shape_width_arcsec"),
        q=batch.column("src_q"),
        phi=batch.angle("src_phi_deg"),
    )


def _spiral(batch: Batch) -> contaminants.Spiral:
    return contaminants.Spiral(
        radius=batch.column("shape_radius_arcsec"),
        sigma=batch.column("shape_width_arcsec"),
        r_eff=batch.column("src_r_eff_arcsec"),
        n_arms=batch.column("shape_n_arms"),
        pitch=batch.angle("shape_pitch_deg"),
        q=batch.column("src_q"),
        phi=batch.angle("src_phi_deg"),
        arm_phi=batch.angle("shape_phi_deg"),
    )


def _source_painter(source: "_Source", *, has_pictures: bool) -> Painter:
    """A painter of galaxies behind lenses, or beside their hosts."""
    return Painter(
        ("lens", "single_image", "companion"),
        partial(_sources, source=source),
        partial(_paint_sources, source=source),
        has_pictures,
    )


def _sersic(batch: Batch, x: Tensor, y: Tensor) -> Sersic:
    return Sersic(
        x,
        y,
        batch.column("src_r_eff_arcsec"),
        batch.column("src_n"),
        batch.column("src_q"),
        batch.angle("src_phi_deg"),
    )


def _pictures(batch: Batch, x: Tensor, y: Tensor) -> Pictures:
    if batch.bank is None:
        raise ValueError("rows name pictures of galaxies, but no bank of sources was handed over")
    row = batch.column("src_picture")
    require(row.isfinite(), row, "src_picture is a row of the bank")
    return Pictures(
        batch.bank,
        row.long(),
        x,
        y,
        batch.column("src_r_eff_arcsec"),
        batch.angle("src_phi_deg"),
        batch.column("src_is_mirrored") > 0,
    )


_Source = Callable[[Batch, Tensor, Tensor], Sersic | Pictures]

PAINTERS = (
    _source_painter(_sersic, has_pictures=False),
    _source_painter(_pictures, has_pictures=True),
    _shape_painter(("ring", "halo_ring"), _ring),
    _shape_painter(("spiral",), _spiral),
)


def _tail(batch: Batch) -> Batch:
    """The rows of the painter's last kind."""
    start, images = len(batch) - batch.n_last, batch.psf_images
    tail = None if images is None else images[start:]
    return replace(batch, values=batch.values[:, start:], n_last=0, psf_images=tail)


def _with_tails(batch: Batch) -> Batch:
    """All rows, and those of the last kind twice more."""
    tail, images = _tail(batch), batch.psf_images
    if images is not None and tail.psf_images is not None:
        images = torch.cat([images, tail.psf_images, tail.psf_images])
    values = torch.cat([batch.values, tail.values, tail.values], 1)
    return replace(batch, values=values, n_last=0, psf_images=images)


def _with_pieces(values: Tensor, kept: int, share: Tensor) -> Tensor:
    """Of arcs, outer and inner pieces: the first `kept`, then the pieces by their shares."""
    tail = len(share)
    if not tail:
        return values
    share = share.view(-1, *[1] * (values.ndim - 1))
    outer, inner = values[kept + tail : kept + 2 * tail], values[kept + 2 * tail :]
    return torch.cat([values[:kept], torch.lerp(outer, inner, share)])


def _light(painted: Painted, flux: Tensor, scale: Tensor, magnification: Tensor) -> Light:
    pixels = painted.pixels * scale[:, None, None, None]
    return Light(pixels, painted.inside, magnification, flux * scale[:, None])


def _training_scale(light: Tensor, ground: Ground) -> Tensor:
    """What brings the matched-filter S/N to its target; 1 where there is none, (n,).

    The target is that in g. Light so red that another band would stand out by more than
    `MAX_OTHER_BAND` times as much is held there: else a red source would outshine its host.
    """
    band = ground.batch.camera.bands.index(TARGET_BAND)
    target = ground.batch.column("arc_snr_target")
    matched = ground.matched_snr(light)
    reached = torch.maximum(matched[:, band], matched.amax(1) / MAX_OTHER_BAND)
    has_target = torch.isfinite(target) & (reached > 0)
    scale = target / torch.where(has_target, reached, 1.0)
    return torch.where(has_target, scale.clamp(max=MAX_SCALE), 1.0)


def _psf(batch: Batch) -> Psf:
    camera, psfsize = batch.camera, batch.per_band("psfsize")
    if camera.psf_profile == "image":
        if batch.psf_images is None:
            raise ValueError("the camera asks for PSF images; none were handed over")
        return Kernel(batch.psf_images, camera.pixel_scale_arcsec)
    if camera.psf_profile == "gaussian":
        return Gaussian(psfsize)
    return moffat_from_psfsize(psfsize, _beta(camera.psf_beta, psfsize.device))


@lru_cache(maxsize=16)
def _beta(beta: tuple[float, ...], device: torch.device) -> Tensor:
    """Moffat exponents on the device, (1, band); sent once, as sending waits for a GPU."""
    return torch.tensor(beta, device=device)[None]


def host_numbers(hosts: pa.Table, bands: tuple[str, ...]) -> NDArray[np.float64]:
    """What painters ask of cutouts without their pixels, (n, column), NaN where null."""
    names = [*_OF_HOSTS, *(name.format(b=b) for name in _OF_HOSTS_PER_BAND for b in bands)]
    return np.stack([_numbers(hosts, name) for name in names], 1)


def batch_of(rows: pa.Table, hosts: NDArray[np.float64], camera: Camera, *, edge_px: Edge) -> Batch:
    """The numbers of some rows, on the host.

    Args:
        rows: Rows of `manifest`.
        hosts: Of each row's cutout: `host_numbers`.
        camera: How light becomes pixels.
        edge_px: Pixels of the cutout before the stamp's first, one number or (n, 2): along x and y.
    """
    bands, at = camera.bands, len(_OF_HOSTS)
    centre = np.broadcast_to(edge_px, (len(hosts), at)) + (camera.size_px - 1) / 2
    psfsize, sky_sigma, sky_median, exposures, own = (
        hosts[:, at + i * len(bands) : at + (i + 1) * len(bands)]
        for i in range(len(_OF_HOSTS_PER_BAND))
    )
    gain = np.asarray(camera.electrons_per_nmgy_per_exposure)
    typical = gain * np.maximum(np.nan_to_num(exposures, nan=1.0), 1.0)
    electrons = np.where(own > 0, own, typical)
    per_band = {
        "flux": units.nmgy_from_mag(_per_band(rows, "src_mag_{b}", bands)),
        "dust": np.nan_to_num(_per_band(rows, "mw_transmission_{b}", bands), nan=1.0),
        "psfsize": psfsize,
        "sky_sigma": sky_sigma,
        "sky_median": sky_median,
        "electrons": np.where(gain > 0, electrons, NO_PHOTON_NOISE),
    }
    columns = [_numbers(rows, name) for name in _OF_ROWS]
    columns += [hosts[:, axis] - centre[:, axis] for axis in range(at)]
    values = np.concatenate([np.stack(columns), *(per_band[name].T for name in _PER_BAND)])
    return Batch(torch.from_numpy(values.astype(np.float32)), camera)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _per_band(table: pa.Table, template: str, bands: tuple[str, ...]) -> NDArray[np.float64]:
    return np.stack([_numbers(table, template.format(b=band)) for band in bands], 1)
