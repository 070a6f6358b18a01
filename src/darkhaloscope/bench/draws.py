"""Lenses and sources that the renderers are measured on: named draws, equal on every machine."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from darkhaloscope.bench.truth import Row
from darkhaloscope.core import keys
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.profiles import Lens
from darkhaloscope.lensing.psf import Gaussian, Moffat, moffat_from_psfsize
from darkhaloscope.lensing.render import Grid

GRID = Grid(64, 0.262)
GAUSSIAN_FWHM_ARCSEC = (1.5, 1.3, 1.1)  # g, r, z
FLUX_NMGY = (1.0, 2.0, 3.0)
_SEED = 20261123

Record = TypeVar("Record", bound=Lens | Sersic | Gaussian | Moffat)


@dataclass(frozen=True, slots=True)
class Draws:
    """n lenses with their sources, fluxes and PSFs, float32.

    Attributes:
        lens: n lenses.
        source: n sources.
        flux: Unlensed flux, nmgy, shape (n, band).
        centre_x: Host's centre from the stamp's, pixels, shape (n,).
        centre_y: The same along y.
        psfs: By name; a width for each stamp and band.
    """

    lens: Lens
    source: Sersic
    flux: Tensor
    centre_x: Tensor
    centre_y: Tensor
    psfs: dict[str, Gaussian | Moffat]

    def __len__(self) -> int:
        """Stamps."""
        return len(self.flux)

    def to(self, device: str) -> "Draws":
        """The same numbers on another device."""
        return Draws(
            lens=_moved(self.lens, device),
            source=_moved(self.source, device),
            flux=self.flux.to(device),
            centre_x=self.centre_x.to(device),
            centre_y=self.centre_y.to(device),
            psfs={name: _moved(psf, device) for name, psf in self.psfs.items()},
        )

    def rows(self) -> list[Row]:
        """The same lenses for the slow renderer, to the last digit of what the fast one is told."""
        return rows(self.source, self.lens, self.centre_x, self.centre_y)


def comparison(count: int) -> Draws:
    """The draws by which renderers are compared.

    SIE of theta_E 0.5-2.5" and q 0.5-0.98, shear 0.05; Sersic of n 1-4, r_eff 0.08-0.3", q 0.5-1,
    evenly over the disc within half an Einstein radius; the host within half a pixel of the stamp's
    centre. Gaussian PSFs of FWHM 1.5, 1.3, 1.1"; Moffat PSFs of psfsize 1.3" +- 10 % and beta
    2.6-2.8. The pixel is not in these PSFs: both renderers apply it.
    """

    def drawn(stream: str, low: float, high: float, bands: int = 0) -> Tensor:
        ids = np.arange(count * max(bands, 1))
        values = low + (high - low) * keys.uniform(ids, seed=_SEED, stream=f"bench {stream}")
        tensor = torch.from_numpy(values).float()
        return tensor.reshape(count, bands) if bands else tensor

    theta_e = drawn("theta_e", 0.5, 2.5)
    radius = 0.5 * theta_e * drawn("radius", 0, 1).sqrt()
    angle = drawn("angle", 0, 2 * math.pi)
    bands = len(FLUX_NMGY)
    moffat = moffat_from_psfsize(
        drawn("psfsize", 0.9 * 1.3, 1.1 * 1.3, bands), drawn("beta", 2.6, 2.8, bands)
    )
    return Draws(
        lens=Lens(
            theta_e=theta_e,
            q=drawn("q", 0.5, 0.98),
            phi=drawn("phi", 0, math.pi),
            shear=torch.full((count,), 0.05),
            shear_phi=drawn("shear_phi", 0, math.pi),
        ),
        source=Sersic(
            x=radius * torch.cos(angle),
            y=radius * torch.sin(angle),
            r_eff=drawn("r_eff", 0.08, 0.3),
            n=drawn("n", 1, 4),
            q=drawn("src_q", 0.5, 1),
            phi=drawn("src_phi", 0, math.pi),
        ),
        flux=torch.tensor(FLUX_NMGY).repeat(count, 1),
        centre_x=drawn("centre_x", -0.5, 0.5),
        centre_y=drawn("centre_y", -0.5, 0.5),
        psfs={
            "gaussian": Gaussian(
                torch.tensor(GAUSSIAN_FWHM_ARCSEC).repeat(count, 1), includes_pixel=False
            ),
            "moffat": Moffat(moffat.alpha, moffat.beta, includes_pixel=False),
        },
    )


def wide(count: int) -> Draws:
    """Draws beyond the comparison's: the range of the priors that training draws from.

    theta_E 0.5-2.5", q 0.5-1, shear to 0.1; n 0.5-4, r_eff 0.08-0.4" (log-uniform), q 0.35-1,
    within 0.7 theta_E. Moffat PSFs as the survey's: psfsize 1.41, 1.31, 1.24", beta 2.8, the pixel
    in them.
    """

    def drawn(stream: str, low: float, high: float) -> Tensor:
        values = keys.uniform(np.arange(count), seed=_SEED, stream=f"wide {stream}")
        return torch.from_numpy(low + (high - low) * values).float()

    theta_e = drawn("theta_e", 0.5, 2.5)
    radius = 0.7 * theta_e * drawn("radius", 0, 1).sqrt()
    angle = drawn("angle", 0, 2 * math.pi)
    bands = len(FLUX_NMGY)
    psfsize = torch.tensor([1.41, 1.31, 1.24]).repeat(count, 1)
    return Draws(
        lens=Lens(
            theta_e=theta_e,
            q=drawn("q", 0.5, 1),
            phi=drawn("phi", 0, math.pi),
            shear=drawn("shear", 0, 0.1),
            shear_phi=drawn("shear_phi", 0, math.pi),
        ),
        source=Sersic(
            x=radius * torch.cos(angle),
            y=radius * torch.sin(angle),
            r_eff=0.08 * (0.4 / 0.08) ** drawn("r_eff", 0, 1),
            n=drawn("n", 0.5, 4),
            q=drawn("src_q", 0.35, 1),
            phi=drawn("src_phi", 0, math.pi),
        ),
        flux=torch.ones(count, bands),
        centre_x=drawn("centre_x", -0.5, 0.5),
        centre_y=drawn("centre_y", -0.5, 0.5),
        psfs={"moffat": moffat_from_psfsize(psfsize, torch.full((count, bands), 2.8))},
    )


def rows(source: Sersic, lens: Lens, centre_x: Tensor, centre_y: Tensor) -> list[Row]:
    """Lenses for the slow renderer; centres are pixels of `GRID`."""
    mass = [lens.theta_e, lens.q, lens.phi, lens.shear, lens.shear_phi]
    light = [source.x, source.y, source.r_eff, source.n, source.q, source.phi]
    at = [part.double() * GRID.pixel_scale_arcsec for part in (centre_x, centre_y)]
    columns = [part.double().tolist() for part in mass + light + at]
    return [Row(*values) for values in zip(*columns, strict=True)]


def _moved(record: Record, device: str) -> Record:
    """A record of tensors on another device."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    moved: dict[str, Any] = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in values.items()
    }
    return replace(record, **moved)
