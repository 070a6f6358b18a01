"""Injected light against a real coadd: its PSF, and the sum of what is added."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from real_builders import BANDS, SCALE, Line, RealBrick, stacked

from darkhaloscope.bench.truth import Row, light_of, moffat_pixels
from darkhaloscope.core import config
from darkhaloscope.data import pixels
from darkhaloscope.lensing.psf import Gaussian, Kernel, Psf, moffat_from_psfsize
from darkhaloscope.ml import injection, manifesting
from darkhaloscope.ml.injection import Camera, Injected

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real-line")]

BETA = 2.6
# Arcsec. From half a core to where an arc's light ends; the coadd's PSF image is cut off at 8.
RADII = np.array([0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0])
FINE, CELLS = 5, 640  # a grid of a fifth of a pixel, 33" wide
CAMERA = Camera(BANDS, SCALE, 64, "moffat", (BETA, BETA, BETA), (0.0, 0.0, 0.0))


def encircled_energy(psf: Psf) -> NDArray[np.float64]:
    """Share of a star's light within RADII, shape (band, radius)."""
    step = SCALE / FINE
    freq = torch.fft.fftfreq(CELLS, step, dtype=torch.float64)
    image = torch.fft.ifft2(psf.transfer(freq, freq)[0].to(torch.complex128)).real.numpy()
    at = np.fft.fftfreq(CELLS, 1 / (CELLS * step))
    radius = np.hypot(at[:, None], at)
    return np.stack([image[:, radius <= limit].sum(1) for limit in RADII], 1)


@pytest.fixture(scope="module")
def widths(real_brick: RealBrick) -> torch.Tensor:
    """psfsize of the three bands, (1, band)."""
    return torch.tensor([[real_brick.psfsize(band) for band in BANDS]], dtype=torch.float64)


@pytest.fixture(scope="module")
def real_energy(real_brick: RealBrick) -> NDArray[np.float64]:
    """Encircled energy of the coadd's PSF image."""
    images = torch.from_numpy(np.stack([real_brick.psfs[band] for band in BANDS])[None])
    return encircled_energy(Kernel(images, SCALE))


def test_the_moffat_of_psfsize_has_the_encircled_energy_of_the_real_psf(
    widths: torch.Tensor, real_energy: NDArray[np.float64]
) -> None:
    beta = torch.full((1, 3), BETA, dtype=torch.float64)
    got = encircled_energy(moffat_from_psfsize(widths, beta))
    np.testing.assert_allclose(got, real_energy, rtol=0.03)


def test_a_gaussian_of_psfsize_has_not(
    widths: torch.Tensor, real_energy: NDArray[np.float64]
) -> None:
    off = encircled_energy(Gaussian(widths)) / real_energy - 1
    assert (np.abs(off[:, RADII == 1.5]) > 0.08).all()


def test_the_energy_of_the_kernel_is_that_of_its_pixels(
    real_brick: RealBrick, real_energy: NDArray[np.float64]
) -> None:
    for number, band in enumerate(BANDS):
        image = real_brick.psfs[band]
        at = np.arange(len(image)) - len(image) // 2
        within = np.hypot(at[:, None], at) * SCALE <= 3.0
        assert real_energy[number, -1] == pytest.approx(image[within].sum(), abs=0.003)


@pytest.fixture(scope="module")
def lenses(real_line: Line) -> tuple[pa.Table, Injected, torch.Tensor]:
    """One lens on each usable real galaxy: rows, stamps, and the real pixels under them."""
    settings = config.load(real_line.run_file)
    only_sersic = settings.manifest.sources.model_copy(
        update={"kinds": {"sersic": 1.0}, "bank": None}
    )
    asked = settings.manifest.model_copy(update={"sources": only_sersic})
    cutouts = real_line.usable()
    head = cutouts.drop_columns(["pixels"])
    splits = real_line.real("splits")
    splits = splits.set_column(
        splits.schema.get_field_index("split"),
        splits.schema.field("split"),
        pa.array(["train"] * splits.num_rows),
    )
    hosts = manifesting.hosts_of(splits, real_line.real("cutouts"), BANDS)
    rows = manifesting.draw(hosts, split="train", config=asked)
    rows = rows.filter(pa.compute.equal(rows["kind"], "lens"))
    at = rows.schema.get_field_index("arc_snr_target")
    rows = rows.set_column(at, rows.schema.field(at), pa.nulls(rows.num_rows, pa.float32()))
    beside = pa.compute.index_in(rows["target_id"], cutouts["target_id"].combine_chunks())
    images = stacked(cutouts)[beside.to_numpy()]
    made = injection.paint_rows(rows, head.take(beside), images, camera=CAMERA, seed=1)
    under = torch.from_numpy(pixels.crop(images, CAMERA.size_px).copy())
    return rows.append_column("host", beside), made, under


def test_an_arc_adds_exactly_its_flux_to_real_pixels(
    lenses: tuple[pa.Table, Injected, torch.Tensor],
) -> None:
    rows, made, under = lenses
    assert rows.num_rows >= 8
    added = (made.pixels.double() - under.double()).sum((2, 3))
    torch.testing.assert_close(added, made.injected_flux.double(), rtol=1e-4, atol=1e-5)


def test_the_flux_of_an_arc_is_that_of_an_independent_ray_tracer(
    real_line: Line, lenses: tuple[pa.Table, Injected, torch.Tensor], widths: torch.Tensor
) -> None:
    rows, made, under = lenses
    added = (made.pixels.double() - under.double()).sum((2, 3)).numpy()
    cutouts = real_line.usable()
    off = []
    for number, row in enumerate(rows.to_pylist()[:4]):
        host = cutouts.slice(row["host"], 1).to_pylist()[0]
        column = number % len(BANDS)
        moffat = moffat_from_psfsize(widths[:, column : column + 1], torch.tensor([[BETA]]))
        light = light_of(traced(row, host, (80 - 1) / 2), 72, SCALE)
        share = moffat_pixels(light, 64, float(moffat.alpha), BETA).sum()
        band = BANDS[column]
        flux = 10 ** (-0.4 * (row[f"src_mag_{band}"] - 22.5)) * row[f"mw_transmission_{band}"]
        off.append(added[number, column] / (share * flux) - 1)
    np.testing.assert_allclose(off, 0, atol=0.01)


def traced(row: dict[str, float], host: dict[str, float], middle: float) -> Row:
    """A row of the manifest for the slow renderer."""
    return Row(
        row["theta_e_arcsec"],
        row["lens_q"],
        np.radians(row["lens_phi_deg"]),
        row["shear"],
        np.radians(row["shear_phi_deg"]),
        row["src_x_arcsec"],
        row["src_y_arcsec"],
        row["src_r_eff_arcsec"],
        row["src_n"],
        row["src_q"],
        np.radians(row["src_phi_deg"]),
        lens_x=(host["host_x_px"] - middle) * SCALE,
        lens_y=(host["host_y_px"] - middle) * SCALE,
    )
