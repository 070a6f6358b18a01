"""The renderer that others use, beside ours: lenstronomy, called as its users call it.

Everything that does not change from stamp to stamp, and every PSF kernel, is made before the clock
starts; a call converts one row of parameters and renders three bands.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import gamma, gammaincinv

from darkhaloscope.bench.draws import GRID, Draws
from darkhaloscope.bench.truth import PER_SIGMA, Row
from darkhaloscope.lensing.psf import Gaussian, Moffat

F8 = NDArray[np.float64]

SUPERSAMPLING = 5
KERNEL_PX = 63  # of a Moffat: as wide as the stamp


def has_lenstronomy() -> bool:
    """Whether lenstronomy is installed."""
    return importlib.util.find_spec("lenstronomy") is not None


@dataclass(frozen=True, slots=True)
class Peer:
    """lenstronomy, ready to render the rows of some draws.

    Attributes:
        render: Pixels of a row by its number: (band, y, x), flux per pixel.
        count: Rows.
    """

    render: Callable[[int], F8]
    count: int

    def all(self) -> F8:
        """Every row, shape (n, band, y, x)."""
        return np.stack([self.render(row) for row in range(self.count)])


def one_model_a_band(draws: Draws, psf: Gaussian | Moffat) -> Peer:
    """The yardstick: an ImageModel for each band, which traces the lens once for each band."""
    from lenstronomy.Data.psf import PSF

    flux, parameters = draws.flux.double().numpy(), [_parameters(row) for row in draws.rows()]
    if isinstance(psf, Gaussian):
        widths = psf.fwhm.double().numpy()
        scale = GRID.pixel_scale_arcsec
        # draws that share a width share its model
        blurs = [[("fwhm", float(f)) for f in row] for row in widths]
        made: dict[tuple[str, float], Any] = {
            key: _image_model(PSF(psf_type="GAUSSIAN", fwhm=key[1], pixel_size=scale))
            for key in {key for row in blurs for key in row}
        }
        models = [[made[key] for key in row] for row in blurs]
    else:
        models = [
            [_image_model(PSF(psf_type="PIXEL", kernel_point_source=k)) for k in row]
            for row in _moffat_kernels(psf)
        ]

    def render(row: int) -> F8:
        lens, light = parameters[row]
        bands = [model.image(lens, light) for model in models[row]]
        return np.asarray(np.stack(bands) * flux[row][:, None, None])

    return Peer(render, len(draws))


def traced_once(draws: Draws, psf: Gaussian | Moffat) -> Peer:
    """The best that a careful user gets: traced once, each band blurred by scipy."""
    from lenstronomy.Data.psf import PSF

    flux, parameters = draws.flux.double().numpy(), [_parameters(row) for row in draws.rows()]
    model = _image_model(PSF(psf_type="NONE"))
    blur: Callable[[F8, int, int], F8]
    if isinstance(psf, Gaussian):
        sigmas = psf.fwhm.double().numpy() / PER_SIGMA / GRID.pixel_scale_arcsec

        def blur(image: F8, row: int, band: int) -> F8:
            return np.asarray(gaussian_filter(image, sigmas[row, band], mode="constant"))
    else:
        kernels = _moffat_kernels(psf)

        def blur(image: F8, row: int, band: int) -> F8:
            return np.asarray(fftconvolve(image, kernels[row][band], mode="same"))

    def render(row: int) -> F8:
        image = model.image(*parameters[row])
        bands = [blur(image, row, band) for band in range(flux.shape[1])]
        return np.asarray(np.stack(bands) * flux[row][:, None, None])

    return Peer(render, len(draws))


def _image_model(psf: Any) -> Any:
    """The model of one band on our pixels."""
    from lenstronomy.Data.pixel_grid import PixelGrid
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    size, scale = GRID.size_px, GRID.pixel_scale_arcsec
    start = -(size - 1) / 2 * scale
    grid = PixelGrid(
        nx=size,
        ny=size,
        transform_pix2angle=np.eye(2) * scale,
        ra_at_xy_0=start,
        dec_at_xy_0=start,
    )
    numerics = {"supersampling_factor": SUPERSAMPLING, "supersampling_convolution": False}
    return ImageModel(
        grid,
        psf,
        LensModel(["SIE", "SHEAR"]),
        LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics=numerics,
    )


def _parameters(row: Row) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """A row in lenstronomy's words: lenses, and the source of unlensed flux 1."""
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    e1, e2 = phi_q2_ellipticity(phi=row.phi, q=row.q)
    place = {"center_x": row.lens_x, "center_y": row.lens_y}
    mass = {"theta_E": row.theta_e, "e1": e1, "e2": e2, **place}
    shear = {
        "gamma1": row.shear * math.cos(2 * row.shear_phi),
        "gamma2": row.shear * math.sin(2 * row.shear_phi),
        "ra_0": row.lens_x,
        "dec_0": row.lens_y,
    }
    # lenstronomy's b_n is an approximation: with the radius scaled its profile is exactly ours.
    n, theirs, b = row.n, 1.9992 * row.n - 0.3271, gammaincinv(2 * row.n, 0.5)
    r_eff = row.r_eff * (theirs / b) ** n
    total = 2 * math.pi * n * r_eff**2 * math.exp(theirs) * theirs ** (-2 * n) * gamma(2 * n)
    e1, e2 = phi_q2_ellipticity(phi=row.src_phi, q=row.src_q)
    light = {
        "amp": 1 / total,
        "R_sersic": r_eff,
        "n_sersic": n,
        "e1": e1,
        "e2": e2,
        "center_x": row.lens_x + row.src_x,
        "center_y": row.lens_y + row.src_y,
    }
    return [mass, shear], [light]


def _moffat_kernels(psf: Moffat) -> list[list[F8]]:
    """The profile at the centres of `KERNEL_PX` squared pixels, of each row and band."""
    at = (np.arange(KERNEL_PX) - KERNEL_PX // 2) * GRID.pixel_scale_arcsec
    r2 = at**2 + at[:, None] ** 2
    alpha, beta = psf.alpha.double().numpy(), psf.beta.double().numpy()
    peaks = (beta - 1) / (math.pi * alpha**2) * GRID.pixel_scale_arcsec**2
    return [
        [np.asarray(p * (1 + r2 / a**2) ** -b) for p, a, b in zip(row_p, row_a, row_b, strict=True)]
        for row_p, row_a, row_b in zip(peaks, alpha, beta, strict=True)
    ]
