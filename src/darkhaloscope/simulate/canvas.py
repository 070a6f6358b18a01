"""Light of a brick before noise: profiles, shapes, arcs and stars on one array, (band, y, x).

Profiles are worked on in groups of one stamp size, a few hundred at a time, so that memory does not
grow with the number of galaxies; each stamp is then added where it belongs.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC
from darkhaloscope.lensing import render
from darkhaloscope.lensing.psf import Moffat, moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, Painted, Sersic
from darkhaloscope.simulate.draws import Rows, Values
from darkhaloscope.simulate.observing import Conditions
from darkhaloscope.simulate.parts import STAMP_SIZES, moffat_brightness
from darkhaloscope.simulate.shapes import Brightness

Light = NDArray[np.float32]
_BATCH_PX = 1 << 21  # pixels of a batch of stamps, bands included
_FAINT_NMGY = 1.0  # in every band: such a galaxy is sampled coarsely (2 % of 22.5 mag is no matter)
_STAR_SIZES = ((1.0, 32), (30.0, 96), (np.inf, 384))  # flux below which a star gets this stamp


class Canvas:
    """The light of one brick.

    Attributes:
        light: Flux per pixel without noise, nmgy, shape (band, y, x).
        seen: Conditions of the brick.
        psf: Its PSF, one row for all.
    """

    def __init__(self, seen: Conditions, size_px: int) -> None:
        """An empty sky of `size_px` pixels a side."""
        self.seen = seen
        self.light: Light = np.zeros((len(seen.bands), size_px, size_px), np.float32)
        self.psf = brick_psf(seen)

    def add_profiles(self, parts: Rows) -> None:
        """Add Sersic profiles, rows of `part_dtype`."""
        is_faint = (parts["flux"] < _FAINT_NMGY).all(axis=1) & (parts["size"] == STAMP_SIZES[0])
        for size in STAMP_SIZES:
            for faint in (False, True):
                group = parts[(parts["size"] == size) & (is_faint == faint)]
                plan = render.CHEAP if faint else render.DEFAULT
                rows = max(1, _BATCH_PX // (size * size * len(self.seen.bands)))
                for start in range(0, len(group), rows):
                    self._add_batch(group[start : start + rows], size, plan)

    def _add_batch(self, parts: Rows, size: int, plan: render.Plan) -> None:
        left_x, left_y, offset_x, offset_y = stamp_corner(parts["x"], parts["y"], size)
        zero = torch.zeros(len(parts), dtype=torch.float32)
        painted = render.render_lensed(
            sersic(zero, zero, *(parts[name] for name in ("r_eff", "n", "q", "phi"))),
            Lens.none(zero),
            flux=tensor(parts["flux"]),
            psf=self.psf,
            centre_x=offset_x,
            centre_y=offset_y,
            grid=Grid(size, PIXEL_SCALE_ARCSEC),
            plan=plan,
        )
        self.add_stamps(painted.pixels.numpy(), left_x, left_y)

    def add_shape(
        self, brightness: Brightness, x: Values, y: Values, flux: Values, size: int
    ) -> None:
        """Add light of any shape: centres in pixels (n,), total flux (n, band)."""
        if not len(x):
            return
        left_x, left_y, offset_x, offset_y = stamp_corner(x, y, size)
        painted = render.paint(
            brightness,
            flux=tensor(flux),
            psf=self.psf,
            centre_x=offset_x,
            centre_y=offset_y,
            grid=Grid(size, PIXEL_SCALE_ARCSEC),
        )
        self.add_stamps(painted.pixels.numpy(), left_x, left_y)

    def add_arcs(self, lenses: Rows, x: Values, y: Values, size: int) -> Painted:
        """Add the lensed sources of hosts at pixels (x, y), each (n,); return them, too."""
        left_x, left_y, offset_x, offset_y = stamp_corner(x, y, size)
        names = ("theta_e", "q", "phi", "shear", "shear_phi")
        shape = (lenses[f"src_{name}"] for name in ("r_eff", "n", "q", "phi"))
        painted = render.render_lensed(
            sersic(tensor(lenses["src_x"]), tensor(lenses["src_y"]), *shape),
            Lens(**{name: tensor(lenses[name]) for name in names}),
            flux=tensor(self.seen.flux(lenses["src_mag"])),
            psf=self.psf,
            centre_x=offset_x,
            centre_y=offset_y,
            grid=Grid(size, PIXEL_SCALE_ARCSEC),
        )
        self.add_stamps(painted.pixels.numpy(), left_x, left_y)
        return painted

    def add_stars(self, x: Values, y: Values, flux: Values) -> Light:
        """Add points of flux (n, band); return the light of stars alone.

        The PSF holds the pixel, so a star's pixel is the PSF's value at the pixel's centre.
        """
        alone = Canvas(self.seen, self.light.shape[-1])
        brightest, least = flux.max(axis=1, initial=0), 0.0
        for limit, size in _STAR_SIZES:
            for row in np.flatnonzero((brightest >= least) & (brightest < limit)):
                left_x, left_y, _, _ = stamp_corner(x[row : row + 1], y[row : row + 1], size)
                dx, dy = left_x[0] - x[row] + np.arange(size), left_y[0] - y[row] + np.arange(size)
                radius = np.hypot(dy[:, None], dx[None, :]) * PIXEL_SCALE_ARCSEC
                stamp = moffat_brightness(self.seen, radius) * flux[row] * PIXEL_SCALE_ARCSEC**2
                alone.add_stamps(np.moveaxis(stamp, -1, 0)[None], left_x, left_y)
            least = limit
        self.light += alone.light
        return alone.light

    def add_stamps(
        self, stamps: NDArray[np.floating], left_x: NDArray[np.int64], left_y: NDArray[np.int64]
    ) -> None:
        """Add stamps (n, band, y, x) with these lower left pixels; what lies outside is cut."""
        size, full = stamps.shape[-1], self.light.shape[-1]
        for stamp, x0, y0 in zip(stamps, left_x, left_y, strict=True):
            if x0 <= -size or y0 <= -size or x0 >= full or y0 >= full:
                continue
            here_x, here_y = (
                slice(max(x0, 0), min(x0 + size, full)),
                slice(max(y0, 0), min(y0 + size, full)),
            )
            part = stamp[
                :, here_y.start - y0 : here_y.stop - y0, here_x.start - x0 : here_x.stop - x0
            ]
            self.light[:, here_y, here_x] += part


def brick_psf(seen: Conditions) -> Moffat:
    """The brick's PSF as the renderer takes it, one row for all galaxies."""
    return moffat_from_psfsize(tensor(seen.psfsize[None]), tensor(seen.beta[None]))


def sky_bowl(
    x: Values, y: Values, flux: Values, share: float, size_px: int, sigma_px: float
) -> Light:
    """What the sky model takes away around bright galaxies: a broad bowl, <= 0, (band, y, x).

    Args:
        x: Galaxies' positions, pixels, (n,).
        y: Galaxies' positions, pixels, (n,).
        flux: Their flux, nmgy, (n, band).
        share: Share of it in the bowl.
        size_px: Pixels of the image along a side.
        sigma_px: Width of the bowl, pixels.
    """
    bowl = np.zeros((flux.shape[1], size_px, size_px), np.float32)
    reach = round(3.5 * sigma_px)
    for at_x, at_y, light in zip(x, y, flux, strict=True):
        x0, x1 = (int(np.clip(at_x + s * reach, 0, size_px)) for s in (-1, 1))
        y0, y1 = (int(np.clip(at_y + s * reach, 0, size_px)) for s in (-1, 1))
        along_x = np.exp(-0.5 * ((np.arange(x0, x1) - at_x) / sigma_px) ** 2)
        along_y = np.exp(-0.5 * ((np.arange(y0, y1) - at_y) / sigma_px) ** 2)
        patch = along_y[:, None] * along_x * (share / (2 * np.pi * sigma_px**2))
        bowl[:, y0:y1, x0:x1] -= (light[:, None, None] * patch).astype(np.float32)
    return bowl


def stamp_corner(
    x: Values, y: Values, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Tensor, Tensor]:
    """Lower left pixel of the stamp around each position, and the step off the stamp's centre."""
    left_x, left_y = (np.round(at - (size - 1) / 2).astype(np.int64) for at in (x, y))
    return left_x, left_y, tensor(x - left_x - (size - 1) / 2), tensor(y - left_y - (size - 1) / 2)


def sersic(x: Tensor, y: Tensor, r_eff: Values, n: Values, q: Values, phi: Values) -> Sersic:
    """The renderer's source from columns of a table."""
    shape = {"r_eff": r_eff, "n": n, "q": q, "phi": phi}
    return Sersic(x=x, y=y, **{name: tensor(values) for name, values in shape.items()})


def tensor(values: Values) -> Tensor:
    """Float32 tensor of a column."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
