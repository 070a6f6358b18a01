"""The physical population on real luminous red galaxies, seen as a real coadd would show it.

Used by the tests against published lenses and by `docs/populations.py`, which draws the figure of
docs/populations.md.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from astropy.io import fits

from darkhaloscope.core import keys, units
from darkhaloscope.lensing import priors
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.psf import moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, render_lensed
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.ml.injection import ground_visible

Values = np.ndarray
BANDS = ("g", "r", "z")
SIZE_PX, SCALE = 64, 0.262
# Of the real coadd cutout (DR9, in the DES area): 0.91 / sqrt(invvar), nmgy, and psfsize, arcsec.
NOISE_NMGY = (0.0018, 0.0023, 0.0081)
PSFSIZE_ARCSEC = (1.37, 1.25, 1.25)
PSF_BETA = (2.9, 2.9, 2.9)
ELECTRONS_PER_NMGY = 3500.0 * 4  # four exposures
HOST_R_EFF_ARCSEC = 1.2
CHUNK = 256


def span(low: float, high: float) -> SimpleNamespace:
    return SimpleNamespace(low=low, high=high)


def prior(**changes: object) -> SimpleNamespace:
    """The physical prior of the preset for DR10; sources reach a magnitude fainter."""
    given: dict[str, object] = {
        "src_mag_r": span(20.5, 26.5), "max_theta_e_arcsec": 4.0, "host_z_scatter": 0.03,
        "dispersion_scatter_dex": 0.07, "group_share": 0.05, "group_offset_dex": 0.12,
        "group_scatter_dex": 0.07, "mass_phi_scatter_deg": 10.0, "shear_scale": 0.04,
        "src_r_eff_scatter_dex": 0.2, "src_q": span(0.35, 1.0), "flat_theta_e_share": 0.5,
        "keep_weight": 0.001,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **changes})


SOURCES = SimpleNamespace(src_n=span(0.5, 4.0), red_share=0.1, colour_scatter_mag=0.1)


def luminous_red_galaxies(shared: Path) -> tuple[Values, Values]:
    """Dereddened r and z of the DR8 targets that pass the cuts z < 20.4, r-z > 0.4, z-W1 > 0.8."""
    path = shared / "tractor-sweep-samples" / "targets.fits"
    with fits.open(path) as file:
        rows = file[1].data
        flux = {b: rows[f"FLUX_{b}"] / rows[f"MW_TRANSMISSION_{b}"] for b in ("R", "Z", "W1")}
    seen = np.all([values > 0 for values in flux.values()], 0)
    r, z, w1 = (22.5 - 2.5 * np.log10(flux[b][seen].astype(np.float64)) for b in ("R", "Z", "W1"))
    chosen = (z < 20.4) & (r - z > 0.4) & (z - w1 > 0.8)
    return r[chosen], z[chosen]


def hosts(mag_r: Values, mag_z: Values, n: int, *, least_theta_e: float = 0.5) -> priors.Hosts:
    """n hosts, each galaxy as often; axis ratios as Collett 2015 draws them (Rayleigh, 0.23)."""
    at, ids = np.arange(n) % len(mag_r), np.arange(n)
    flat = keys.uniform(ids, seed=1, stream="host_e")
    return priors.Hosts(
        mag_r=mag_r[at],
        mag_z=mag_z[at],
        light_q=np.clip(1 - 0.23 * np.sqrt(-2 * np.log1p(-flat)), 0.3, 1.0),
        light_phi=np.pi * keys.uniform(ids, seed=1, stream="host_phi"),
        least_theta_e=np.full(n, least_theta_e),
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """Lenses that were kept, one row each, and what a coadd would show of them."""

    columns: dict[str, Values]
    weight: Values
    is_visible: Values
    n_hosts: int


def drawn(
    mag_r: Values,
    mag_z: Values,
    n: int,
    *,
    seed: int = 5,
    psfsize_arcsec: tuple[float, ...] = PSFSIZE_ARCSEC,
    **changes: object,
) -> Drawn:
    """The physical population on n hosts, painted; `changes` are settings of the prior."""
    ids, galaxies = np.arange(n, dtype=np.int64), hosts(mag_r, mag_z, n)
    columns, kept = priors.physical(ids, galaxies, prior(**changes), seed=seed)
    rows = np.flatnonzero(kept)
    ids, columns = ids[rows], {name: values[rows] for name, values in columns.items()}
    galaxies = galaxies.take(rows)
    light = priors.source_light(
        ids, columns["src_z"], columns["src_mag_r"], SOURCES, BANDS, seed=seed
    )
    columns = {**columns, **light, "host_mag_z": galaxies.mag_z, "host_mag_r": galaxies.mag_r}
    x, y = priors.positions_inside(ids, columns, seed=seed)
    columns |= {"src_x_arcsec": x, "src_y_arcsec": y}
    starts = range(0, len(rows), CHUNK)
    parts = [_painted(columns, slice(at, at + CHUNK), psfsize_arcsec) for at in starts]
    for name, values in zip(("magnification", "arc_snr"), zip(*parts, strict=True), strict=True):
        columns[name] = np.concatenate(values)
    alpha = units.moffat_alpha_from_psfsize(psfsize_arcsec[1], PSF_BETA[1])
    fwhm = np.full(len(rows), units.moffat_fwhm(alpha, PSF_BETA[1]))
    columns["theta_e_over_fwhm_r"] = columns["theta_e_arcsec"] / fwhm
    visible = ground_visible(
        columns["theta_e_arcsec"],
        columns["src_r_eff_arcsec"],
        columns["magnification"],
        fwhm,
        columns["arc_snr"],
    )
    return Drawn(columns, columns["weight_population"], visible, n)


def _painted(
    columns: dict[str, Values], rows: slice, psfsize_arcsec: tuple[float, ...]
) -> tuple[Values, Values]:
    """Magnification, and the arc's S/N in its best band, of some rows."""

    def of(name: str) -> torch.Tensor:
        values = columns[name][rows]
        return torch.from_numpy(np.radians(values) if name.endswith("_deg") else values).float()

    source = Sersic(*[of(f"src_{n}") for n in ("x_arcsec", "y_arcsec", "r_eff_arcsec", "n", "q",
                                               "phi_deg")])  # fmt: skip
    lens = Lens(*[of(n) for n in ("theta_e_arcsec", "lens_q", "lens_phi_deg", "shear",
                                  "shear_phi_deg")])  # fmt: skip
    mags = np.stack([columns[f"src_mag_{b}"][rows] for b in BANDS], 1)
    flux = torch.from_numpy(units.nmgy_from_mag(mags)).float()
    middle = torch.zeros(len(flux))
    made = render_lensed(
        source,
        lens,
        flux=flux,
        psf=moffat_from_psfsize(torch.tensor([psfsize_arcsec]), torch.tensor([PSF_BETA])),
        centre_x=middle,
        centre_y=middle,
        grid=Grid(SIZE_PX, SCALE),
    )
    sigma = torch.tensor([NOISE_NMGY]).expand(len(flux), -1)
    photons = _host_light(columns, rows) / ELECTRONS_PER_NMGY
    variance = sigma[..., None, None] ** 2 + units.COADD_RMS_FACTOR**2 * photons
    snr = arc_snr(made.pixels, sigma, variance).snr
    return made.magnification.double().numpy(), snr.amax(1).double().numpy()


def _host_light(columns: dict[str, Values], rows: slice) -> torch.Tensor:
    """A round de Vaucouleurs host, nmgy per pixel: only for its photon noise, so never blurred."""
    axis = (np.arange(SIZE_PX) - (SIZE_PX - 1) / 2) * SCALE
    r = np.hypot(axis[None], axis[:, None])
    profile = np.exp(-7.669 * ((r / HOST_R_EFF_ARCSEC) ** 0.25 - 1))
    profile /= profile.sum()
    r_mag, z_mag = columns["host_mag_r"][rows], columns["host_mag_z"][rows]
    flux = units.nmgy_from_mag(np.stack([r_mag + 1.8, r_mag, z_mag], 1))  # g-r of the red sequence
    return torch.from_numpy(flux[..., None, None] * profile).float()
