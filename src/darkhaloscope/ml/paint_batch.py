"""What painters are handed: the numbers of rows and their hosts, on one device.

The numbers of a batch go to the device once, as tables, after the host has checked them: on a GPU
every check would wait for all that was asked of it before. Which forms the parts of a row have is
kept on the host, so that nothing need be asked of the device.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import units
from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.contaminants import Parts, forms_of
from darkhaloscope.lensing.parts import MOST_PARTS, PART
from darkhaloscope.lensing.psf import Gaussian, Kernel, Psf, moffat_from_psfsize
from darkhaloscope.lensing.render import DEFAULT, Grid, Plan

NO_PHOTON_NOISE = 1e30  # electrons per nmgy that leave none
MAY_LACK_A_BAND = "artefact"  # the kind whose light may be in some bands alone

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
    "arc_snr_target",
    "light_scale_max",
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
_PER_BAND = ("flux", "dust", "second", "psfsize", "sky_sigma", "sky_median", "electrons")

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
        parts: Their parts, (n, K, PART); None: no row has any.
        forms: The forms of those, on the host, (n, K).
        places: `contaminants.places_of` them, on the device; None: sent when asked for.
        psf_images: The hosts' PSFs, of sum 1, (n, band, k, k); where the camera asks for them.
        bank: Where the rows' pictures are, on the device that paints; None: no row has one.
    """

    values: Tensor
    camera: Camera
    parts: Tensor | None = None
    forms: NDArray[np.int8] | None = None
    places: Tensor | None = None
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

    def take(
        self, rows: Tensor, on_host: NDArray[np.intp], places: Tensor | None = None
    ) -> "Batch":
        """Some of the rows, (k,), which are known on the host, too, and where their parts are."""
        return replace(
            self,
            values=self.values[:, rows],
            parts=None if self.parts is None else self.parts[rows],
            forms=None if self.forms is None else self.forms[on_host],
            places=places,
            psf_images=None if self.psf_images is None else self.psf_images[rows],
        )

    def shapes(self) -> Parts:
        """The rows' parts, in two layers."""
        if self.parts is None or self.forms is None:
            nothing = np.zeros((len(self), 0), np.int8)
            return Parts(self.values.new_zeros(len(self), 0, PART), nothing)
        return Parts(self.parts, self.forms, self.per_band("second"), self.places)

    def place(self) -> dict[str, Any]:
        """Where and how the renderer puts light."""
        return {
            "psf": psf_of(self),
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
        inside: Share of the light that falls inside the stamp, NaN where it does not apply,
            (n, band).
        magnification: Lensed over unlensed flux, NaN where it does not apply, (n,).
        flux: Of the unlensed source or the shape, without dust, nmgy, (n, band); NaN where neither
            is there.
    """

    pixels: Tensor
    inside: Tensor
    magnification: Tensor
    flux: Tensor


def psf_of(batch: Batch) -> Psf:
    """PSFs of the rows' hosts."""
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

    A band without a magnitude has no light in an artefact, and is a fault in other kinds.

    Args:
        rows: Rows of `manifest`.
        hosts: Of each row's cutout: `host_numbers`.
        camera: How light becomes pixels.
        edge_px: Pixels of the cutout before the stamp's first, one number or (n, 2): along x and y.

    Raises:
        ValueError: parts of a row are no parts.
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
    flux = units.nmgy_from_mag(_per_band(rows, "src_mag_{b}", bands))
    may_lack = pc.equal(rows["kind"], MAY_LACK_A_BAND).to_numpy()
    per_band = {
        "flux": np.where(may_lack[:, None] & np.isnan(flux), 0.0, flux),
        "dust": np.nan_to_num(_per_band(rows, "mw_transmission_{b}", bands), nan=1.0),
        "second": np.nan_to_num(_per_band(rows, "layer_share_{b}", bands), nan=0.0),
        "psfsize": psfsize,
        "sky_sigma": sky_sigma,
        "sky_median": sky_median,
        "electrons": np.where(gain > 0, electrons, NO_PHOTON_NOISE),
    }
    columns = [_numbers(rows, name) for name in _OF_ROWS]
    columns += [hosts[:, axis] - centre[:, axis] for axis in range(at)]
    values = np.concatenate([np.stack(columns), *(per_band[name].T for name in _PER_BAND)])
    parts = parts_of(rows)
    return Batch(
        torch.from_numpy(values.astype(np.float32)),
        camera,
        torch.from_numpy(parts),
        forms_of(parts),
    )


def parts_of(rows: pa.Table) -> NDArray[np.float32]:
    """The parts of rows of `manifest`, (n, K, PART), filled up with parts of no form.

    Raises:
        ValueError: a row's numbers are not whole parts, or too many.
    """
    lists = rows["shape_parts"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    counts, rest = np.divmod(lengths, PART)
    wrong = (rest != 0) | (counts > MOST_PARTS)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"shape_parts holds up to {MOST_PARTS} parts of {PART} numbers; got {lengths[row]} "
            f"numbers in row {row}"
        )
    parts = np.zeros((len(lists), int(counts.max(initial=0)), PART), np.float32)
    numbers = lists.flatten().to_numpy(zero_copy_only=False)
    parts[np.arange(parts.shape[1]) < counts[:, None]] = numbers.reshape(-1, PART)
    return parts


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _per_band(table: pa.Table, template: str, bands: tuple[str, ...]) -> NDArray[np.float64]:
    return np.stack([_numbers(table, template.format(b=band)) for band in bands], 1)
