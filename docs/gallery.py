"""The pictures of docs/gallery.md: what injected light looks like.

    OMP_NUM_THREADS=1 python docs/gallery.py [--shared DIR]

Writes docs/images/gallery-*.png in a few seconds on one core. Figures with real galaxies or real
pixels need the tests' data (DIR, by default $DHS_SHARED or ../shared); without it they are left as
they are.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from population_builders import (
    ELECTRONS_PER_NMGY,
    NOISE_NMGY,
    PSF_BETA,
    PSFSIZE_ARCSEC,
    SOURCES,
    span,
)
from real_builders import EMPTY, OBJECTS, RealBrick

from darkhaloscope.core import keys, units
from darkhaloscope.evaluate.pictures import rgb
from darkhaloscope.lensing import clumpy, noise, priors
from darkhaloscope.lensing.bank import Bank, Pictures
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.psf import Gaussian, Kernel, Moffat, Psf, moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, render_lensed
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.survey import hst_galaxies

IMAGES = REPOSITORY / "docs" / "images"
BANDS = ("g", "r", "z")
GRID = Grid(64, 0.262)
SHARP = Grid(256, 0.0655)  # the same sky, four times as fine
SHARP_FWHM = 0.13
BETA = 2.6  # as tests/real holds against this coadd's PSF
SEED = 21
COSMOS = Path("cosmos-hst-sources/galsim_f814w_100/real_galaxy_catalog_26_extension_example.fits")

SHOWN = (38, 4)  # IDENT of real galaxies at z = 0.95 with structure

# The training prior of the preset legacy-dr10, of which theta_E and S/N are laid out as a grid.
THETA_E = (0.6, 0.9, 1.3, 1.8, 2.4)
ARC_SNR = (10, 25, 50, 100, 200)
PRIOR = SimpleNamespace(
    theta_e_arcsec=span(0.5, 2.5), lens_q=span(0.5, 1.0), shear=span(0.0, 0.1),
    src_mag_r=span(21.5, 25.0), src_r_eff_arcsec=span(0.08, 0.6), src_q=span(0.35, 1.0),
)  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--shared", type=Path, default=os.environ.get("DHS_SHARED"))
    given = asked.parse_args()
    torch.set_num_threads(1)
    data = (given.shared or REPOSITORY.parent / "shared") / "data"
    save(prior_figure(), "prior")
    if not (data / COSMOS).is_file() or not (data / "dr9-coadd-cutout").is_dir():
        print(f"no real files under {data}: sources, psf and real are left as they are")
        return
    galaxies, brick = cosmos_galaxies(data), RealBrick.read(data)
    save(sources_figure(galaxies), "sources")
    save(psf_figure(brick), "psf")
    save(real_figure(galaxies, brick), "real")


# What is drawn and painted


def survey_psf() -> Moffat:
    """The Moffat of the real coadd's psfsize."""
    return moffat_from_psfsize(torch.tensor([PSFSIZE_ARCSEC]), torch.tensor([PSF_BETA]))


def lens_of(theta_e: float, q: float = 0.75, phi_deg: float = 30.0, shear: float = 0.04) -> Lens:
    """One lens, sheared across its mass."""
    values = (theta_e, q, np.radians(phi_deg), shear, np.radians(phi_deg + 70))
    return Lens(*[torch.tensor([float(value)]) for value in values])


def no_lens() -> Lens:
    return Lens.none(torch.zeros(1))


def sersic(x: float, y: float, r_eff: float, n: float, q: float = 0.6, phi: float = 1.0) -> Sersic:
    """One Sersic profile."""
    return Sersic(*[torch.tensor([float(value)]) for value in (x, y, r_eff, n, q, phi)])


def picture(bank: Bank, x: float, y: float, r_eff: float, phi: float = 0.0) -> Pictures:
    """The one galaxy of a bank as a source."""
    place = [torch.tensor([float(value)]) for value in (x, y, r_eff, phi)]
    return Pictures(bank, torch.tensor([0]), *place, torch.tensor([False]))


def clumpy_bank(galaxy: int) -> Bank:
    """One generated galaxy."""
    return clumpy.galaxies(np.array([galaxy]), bands=BANDS, size_px=96, seed=8)


def cosmos_galaxies(data: Path) -> list[hst_galaxies.HstGalaxy]:
    """Real galaxies that are fit to be sources and have colours, that of the best S/N first."""
    asked = hst_galaxies.Cleaning(size_px=96, least_snr=20, gaussian_fwhm_arcsec=0.12)
    found = [g for g in hst_galaxies.galaxies([data / COSMOS], asked) if g.refused is None]
    return sorted((g for g in found if set(BANDS) <= set(g.colour_mags)), key=lambda g: -g.snr)


def bank_of(galaxy: hst_galaxies.HstGalaxy) -> Bank:
    """One real galaxy."""
    return Bank.measured(torch.from_numpy(galaxy.pictures[None, :1]), torch.ones(1, 1, len(BANDS)))


def flux_of(mag_r: float, g_r: float, r_z: float) -> Tensor:
    """Flux in g, r, z, nmgy, (1, 3)."""
    return torch.tensor(units.nmgy_from_mag([[mag_r + g_r, mag_r, mag_r - r_z]])).float()


def flux_like(galaxy: hst_galaxies.HstGalaxy, mag_r: float) -> Tensor:
    """Flux of a given r magnitude with a real galaxy's colours."""
    m = galaxy.colour_mags
    return flux_of(mag_r, m["g"] - m["r"], m["r"] - m["z"])


def light(
    source: Sersic | Pictures, lens: Lens, flux: Tensor, psf: Psf, grid: Grid = GRID,
    at: tuple[float, float] = (0.0, 0.0),
) -> Tensor:  # fmt: skip
    """Noiseless light, nmgy per pixel, centred `at` pixels from the middle."""
    x, y = (torch.full((len(flux),), value) for value in at)
    made = render_lensed(source, lens, flux=flux, psf=psf, centre_x=x, centre_y=y, grid=grid)
    return made.pixels


def sharp(source: Sersic | Pictures, lens: Lens, flux: Tensor, grid: Grid = SHARP) -> Tensor:
    """Light at nearly HST's sharpness, nmgy per pixel of the survey, so that colours compare."""
    psf = Gaussian(torch.full((1, len(BANDS)), SHARP_FWHM))
    pixels = light(source, lens, flux, psf, grid)
    return pixels * (GRID.pixel_scale_arcsec / grid.pixel_scale_arcsec) ** 2


def scaled_to(arc: Tensor, under: Tensor, sigma: Tensor, snr: Tensor) -> Tensor:
    """An arc scaled to a matched-filter S/N in g over the sky's noise and a host's photons."""
    variance = sigma[..., None, None] ** 2
    variance = variance + units.COADD_RMS_FACTOR**2 * under.clamp_min(0) / ELECTRONS_PER_NMGY
    return arc * (snr / arc_snr(arc, sigma, variance).matched[:, 0])[:, None, None, None]


def photons(pixels: Tensor, stream: str) -> Tensor:
    """Noise of light, as a coadd has it."""
    gain = torch.full(pixels.shape[:2], ELECTRONS_PER_NMGY)
    row_keys = torch.arange(len(pixels)) + SEED
    return noise.photon_noise(pixels.contiguous(), gain, row_keys, stream=stream)


def sky_noise(rows: int, stream: str) -> Tensor:
    """Noise of the real coadd's depth: that of as many photons as it takes; no light is added."""
    level = (torch.tensor(NOISE_NMGY) / units.COADD_RMS_FACTOR) ** 2 * ELECTRONS_PER_NMGY
    size, edge = GRID.size_px, 3  # the kernel's reach, where noise would lack neighbours
    wide = level[None, :, None, None].expand(rows, -1, size + 2 * edge, size + 2 * edge)
    return photons(wide, stream)[..., edge:-edge, edge:-edge]


# The figures


def prior_figure() -> Figure:
    """Rows of arc S/N, columns of theta_E, everything else drawn from the training prior."""
    n = len(THETA_E) * len(ARC_SNR)
    ids = np.arange(n, dtype=np.int64)
    draw = {s: keys.uniform(ids, seed=SEED, stream=s) for s in ("mag", "size", "q", "phi")}
    mag_r, light_phi = 18.3 + 1.7 * draw["mag"], np.pi * draw["phi"]
    light_q = 0.6 + 0.4 * draw["q"]
    hosts = priors.Hosts(mag_r, mag_r - 1.0, light_q, light_phi, np.full(n, 0.5))
    columns = priors.broad(ids, hosts, PRIOR, seed=SEED)
    columns["theta_e_arcsec"] = np.tile(THETA_E, len(ARC_SNR))
    columns |= priors.source_light(
        ids, columns["src_z"], columns["src_mag_r"], SOURCES, BANDS, seed=SEED
    )
    x, y = priors.positions_inside(ids, columns, seed=SEED)
    columns |= {"src_x_arcsec": x, "src_y_arcsec": y}

    def of(*names: str) -> list[Tensor]:
        values = [columns[name] for name in names]
        turned = [np.radians(v) if k.endswith("_deg") else v for k, v in zip(names, values)]
        return [torch.from_numpy(v).float() for v in turned]

    source = Sersic(*of("src_x_arcsec", "src_y_arcsec", "src_r_eff_arcsec", "src_n", "src_q",
                        "src_phi_deg"))  # fmt: skip
    lens = Lens(*of("theta_e_arcsec", "lens_q", "lens_phi_deg", "shear", "shear_phi_deg"))
    mags = np.stack([columns[f"src_mag_{band}"] for band in BANDS], 1)
    arc = light(source, lens, torch.from_numpy(units.nmgy_from_mag(mags)).float(), survey_psf())

    zero = torch.zeros(n)
    r_eff = torch.from_numpy(0.8 + 0.8 * draw["size"]).float()
    q, phi = torch.from_numpy(light_q).float(), torch.from_numpy(light_phi).float()
    host = Sersic(zero, zero, r_eff, torch.full((n,), 4.0), q, phi)
    host_flux = torch.cat([flux_of(float(mag), 1.6, 1.0) for mag in mag_r])
    under = light(host, Lens.none(zero), host_flux, survey_psf())
    snr = torch.tensor(ARC_SNR).float().repeat_interleave(len(THETA_E))
    arc = scaled_to(arc, under, torch.tensor([NOISE_NMGY]).expand(n, -1), snr)
    seen = under + arc + photons(under, "host") + photons(arc, "arc") + sky_noise(n, "sky")
    figure, panels = sheet(len(ARC_SNR), 2 * len(THETA_E), 1.1)
    for axes, pixels in ((panels[:, : len(THETA_E)], seen), (panels[:, len(THETA_E) :], arc)):
        for panel, row in zip(axes.ravel(), pixels, strict=True):
            show(panel, row, 44)
    for axes, value in zip(panels[0], 2 * THETA_E, strict=True):
        axes.set_title(f'$\\theta_E$ {value}"', fontsize=9)
    for axes, value in zip(panels[:, 0], ARC_SNR, strict=True):
        axes.set_ylabel(f"S/N {value}", fontsize=9)
    return figure


def sources_figure(galaxies: Sequence[hst_galaxies.HstGalaxy]) -> Figure:
    """One lens, five sources: without a lens, lensed, as the survey sees it, and with its noise."""
    x, y, r_eff, mag = 0.3, 0.18, 0.28, 22.5
    lens, blue = lens_of(1.6), flux_of(mag, 0.3, 0.35)
    first, second = (next(g for g in galaxies if g.ident == ident) for ident in SHOWN)
    rows: list[tuple[str, Sersic | Pictures, Tensor]] = [
        ("Sersic n = 1", sersic(x, y, r_eff, 1.0), blue),
        ("clumpy, generated", picture(clumpy_bank(3), x, y, r_eff), blue),
        ("clumpy, generated", picture(clumpy_bank(7), x, y, r_eff), blue),
        (f"COSMOS {first.ident}", picture(bank_of(first), x, y, r_eff), flux_like(first, mag)),
        (f"COSMOS {second.ident}", picture(bank_of(second), x, y, r_eff), flux_like(second, mag)),
    ]
    figure, panels = sheet(len(rows), 4, 1.75)
    close = Grid(96, 0.025)
    for axes, (name, source, flux) in zip(panels, rows, strict=True):
        seen = light(source, lens, flux, survey_psf())
        noisy = seen + photons(seen, "arc") + sky_noise(1, "sky")
        show(axes[0], sharp(source, no_lens(), flux, close)[0], 96)
        show(axes[1], sharp(source, lens, flux)[0], 144)
        show(axes[2], seen[0], 36)
        show(axes[3], noisy[0], 36)
        axes[0].set_ylabel(name, fontsize=9)
    titles = ('source, 2.4" wide', 'lensed, 9.4" wide', "at survey seeing", "with noise")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def psf_figure(brick: RealBrick) -> Figure:
    """One arc in r through the coadd's PSF image, and through the models of the same psfsize."""
    image = torch.from_numpy(brick.psfs["r"][None, None]).float()
    width = torch.tensor([[brick.psfsize("r")]])
    psfs: dict[str, Psf] = {
        "coadd's PSF image": Kernel(image, GRID.pixel_scale_arcsec),
        "Moffat of its psfsize": moffat_from_psfsize(width, torch.tensor([[BETA]])),
        "Gaussian of its psfsize": Gaussian(width),
    }
    source, lens, flux = sersic(0.15, 0.1, 0.2, 1.0), lens_of(1.5), torch.tensor([[1.0]])
    arcs = {name: light(source, lens, flux, psf)[0, 0].numpy() for name, psf in psfs.items()}
    point = sersic(0, 0, 0.02, 1.0)
    stars = {name: light(point, no_lens(), flux, psf)[0, 0].numpy() for name, psf in psfs.items()}
    true = arcs["coadd's PSF image"]
    figure, panels = sheet(2, 3, 2.3)
    figure.get_layout_engine().set(w_pad=0.08)
    for column, (name, arc) in enumerate(arcs.items()):
        inner = slice(8, -8)
        panels[0, column].imshow(arc[inner, inner], cmap="magma", origin="lower", vmin=0,
                                 vmax=true.max())  # fmt: skip
        panels[0, column].set_title(name, fontsize=9)
        if column:
            off = 100 * (arc - true) / true.max()
            shown = panels[1, column].imshow(off[inner, inner], cmap="RdBu_r", origin="lower",
                                             vmin=-12, vmax=12)  # fmt: skip
            low, high = off.min(), off.max()
            panels[1, column].set_title(f"less the first: {low:+.1f} to {high:+.1f} %", fontsize=8)
    figure.colorbar(shown, ax=panels[1, 1:], label="% of the arc's peak", shrink=0.85)
    axes = panels[1, 0]
    axis = (np.arange(GRID.size_px) - (GRID.size_px - 1) / 2) * GRID.pixel_scale_arcsec
    radius = np.hypot(axis, axis[:, None])
    edges = np.arange(0, 7.4, GRID.pixel_scale_arcsec)
    ring = np.digitize(radius, edges).ravel()
    for (name, star), style in zip(stars.items(), ("k.", "-", "--"), strict=True):
        mean = [star.ravel()[ring == k].mean() for k in range(1, len(edges))]
        middle = (edges[1:] + edges[:-1]) / 2
        axes.semilogy(middle, mean, style, lw=1.2, ms=4, label=name.split()[0])
    axes.set(ylim=(1e-6, 0.1), xlabel='radius, "', xticks=(0, 2, 4, 6), yticks=(1e-5, 1e-3, 1e-1))
    axes.set_box_aspect(1)
    axes.tick_params(labelsize=7)
    axes.set_title("a star, mean of rings", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
    return figure


def real_figure(galaxies: Sequence[hst_galaxies.HstGalaxy], brick: RealBrick) -> Figure:
    """Real pixels before and after, and what was added to them."""
    psf = Kernel(
        torch.from_numpy(np.stack([brick.psfs[b] for b in BANDS])[None]).float(),
        GRID.pixel_scale_arcsec,
    )
    first, second = (next(g for g in galaxies if g.ident == ident) for ident in SHOWN)
    blue = flux_of(23.0, 0.3, 0.35)
    real = [(bank_of(g), flux_like(g, 23.0)) for g in (first, second)]
    cosmos = [f"COSMOS {g.ident}" for g in (first, second)]
    # name, place in the brick, whether a simulated galaxy is put there, source, flux, lens, S/N
    rows: list[tuple[str, tuple[float, float], bool, Sersic | Pictures, Tensor, Lens, float]] = [
        (f"real disc\n{cosmos[0]}", OBJECTS[1], False, picture(real[0][0], 0.4, 0.2, 0.25),
         real[0][1], lens_of(2.4), 120),
        ("real disc\nclumpy", OBJECTS[0], False, picture(clumpy_bank(7), 0.3, -0.3, 0.25),
         blue, lens_of(2.2, phi_deg=100), 120),
        (f"real sky, sim. galaxy\n{cosmos[0]}", EMPTY[0], True,
         picture(real[0][0], 0.35, 0.3, 0.25), real[0][1], lens_of(1.7, phi_deg=60), 120),
        (f"real sky, sim. galaxy\n{cosmos[1]}", EMPTY[1], True,
         picture(real[1][0], -0.4, 0.25, 0.25), real[1][1], lens_of(2.1, phi_deg=140), 120),
        ("real sky, sim. galaxy\nclumpy", EMPTY[0], True, picture(clumpy_bank(3), 0.2, 0.4, 0.25),
         blue, lens_of(2.0, phi_deg=20), 80),
        ("real sky, sim. galaxy\nSersic", EMPTY[1], True, sersic(0.4, 0.1, 0.15, 1.0), blue,
         lens_of(1.3, phi_deg=20), 40),
    ]  # fmt: skip
    figure, panels = sheet(len(rows), 3, 1.9)
    for axes, (name, place, has_host, source, flux, lens, snr) in zip(panels, rows, strict=True):
        before, sigma, at = cut(brick, place)
        host = torch.zeros_like(before)
        if has_host:
            host = light(sersic(0, 0, 0.9, 4.0, 0.8, float(lens.phi)), no_lens(),
                         flux_of(19.3, 1.6, 1.0), psf, at=at)  # fmt: skip
        arc = light(source, lens, flux, psf, at=at)
        arc = scaled_to(arc, before + host, sigma, torch.tensor([float(snr)]))
        after = before + host + arc + photons(host, "host") + photons(arc, "arc")
        for axis, pixels in zip(axes, (before, after, arc), strict=True):
            show(axis, pixels[0], 48)
        axes[0].set_ylabel(name, fontsize=8)
        axes[2].set_xlabel(f'$\\theta_E$ {float(lens.theta_e):.1f}", S/N {snr:g}', fontsize=8)
    for axes, title in zip(panels[0], ("real pixels", "after", "the arc alone"), strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def cut(brick: RealBrick, place: tuple[float, float]) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """A stamp of the brick, its noise by band, and how far the place lies from its middle, px."""
    size = GRID.size_px
    left, below = (round(value) - size // 2 for value in place)
    part = np.s_[below : below + size, left : left + size]
    pixels = np.stack([brick.units["image", b][part] for b in BANDS])
    weight = np.array([np.median(brick.units["invvar", b][part]) for b in BANDS])
    sigma = torch.from_numpy(units.COADD_RMS_FACTOR / np.sqrt(weight))[None].float()
    at = (place[0] - left - (size - 1) / 2, place[1] - below - (size - 1) / 2)
    return torch.from_numpy(pixels)[None].float(), sigma, at


def sheet(rows: int, columns: int, inches: float) -> tuple[Figure, Any]:
    """A figure of square panels without ticks."""
    figure = Figure(figsize=(inches * columns + 0.5, inches * rows + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    return figure, panels


def show(axes: Any, pixels: Tensor, size: int) -> None:
    """The middle of an image in colour, (band, y, x), north up."""
    edge = (pixels.shape[-1] - size) // 2
    inner = pixels[None, :, edge : edge + size, edge : edge + size]
    axes.imshow(rgb(inner.numpy(), BANDS)[0], interpolation="nearest")


def save(figure: Figure, name: str) -> None:
    """Write a figure, the same bytes for the same picture."""
    file = IMAGES / f"gallery-{name}.png"
    figure.savefig(file, dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(f"{file.relative_to(REPOSITORY)}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
