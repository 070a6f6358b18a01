"""What all injected light goes through, whatever its kind: PSF images, photons, dust."""

from dataclasses import replace

import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from injection_builders import NOISY, QUIET, rows_of, untargeted, with_column, with_parts
from manifest_builders import BANDS, SCALE, cutouts, splits, with_psf_images

from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import COADD_RMS_FACTOR, moffat_alpha_from_psfsize
from darkhaloscope.data import pixels
from darkhaloscope.lensing.parts import Form, part
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Camera, Injected
from darkhaloscope.ml.painters import PAINTERS

PAINTED = tuple(
    dict.fromkeys(kind for painter in PAINTERS if painter.has_photons for kind in painter.kinds)
)
BETAS = (2.8, 2.7, 2.6)  # as of QUIET
IMAGED = replace(QUIET, psf_profile="image")


def lit_rows(n: int, *, kinds: tuple[str, ...] = PAINTED) -> pa.Table:
    """Rows whose light is not scaled; an artefact is a line of light in every band."""
    rows = untargeted(rows_of(n, kinds=kinds))
    is_artefact = pc.equal(rows["kind"], "artefact")
    lines = rows.filter(is_artefact)
    if lines.num_rows:
        lines = with_parts(lines, part(Form.LINE, 1, 6.0, 0.3, phi=0.4))
        for band in BANDS:
            lines = with_column(lines, f"src_mag_{band}", 20.0)
    return pa.concat_tables([rows.filter(pc.invert(is_artefact)), lines])


def hosts_of(rows: pa.Table) -> pa.Table:
    """The cutout of each row."""
    made = cutouts(splits(rows["target_id"].combine_chunks().unique().__len__() or 1))
    return made.take(pc.index_in(rows["target_id"], value_set=made["target_id"].combine_chunks()))


def added(
    rows: pa.Table, hosts: pa.Table, camera: Camera, seed: int = 1
) -> tuple[torch.Tensor, Injected]:
    """What was added to each stamp, and what is said of it."""
    images = pixels.decode(hosts["pixels"], hosts.field("pixels")).copy()
    made = injection.paint_rows(rows, hosts, images, camera=camera, seed=seed)
    before = torch.from_numpy(pixels.crop(images, camera.size_px).copy())
    return made.pixels.double() - before.double(), made


def moffats(hosts: pa.Table, size: int = 63) -> np.ndarray:
    """The images of the Moffats that the hosts' psfsize would give, (n, band, k, k)."""
    widths = pixels.per_band(hosts, "psf_nea_{b}_arcsec", BANDS)
    alpha = moffat_alpha_from_psfsize(widths, np.array(BETAS)) / SCALE
    made = [[psfs.moffat(a, b, size) for a, b in zip(row, BETAS, strict=True)] for row in alpha]
    return np.array(made, np.float32)


def kinds_of(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["kind"].to_pylist())


def test_every_kind_is_blurred_by_its_hosts_own_image() -> None:
    rows = lit_rows(3)
    assert set(kinds_of(rows)) == set(PAINTED)
    hosts = hosts_of(rows)
    expected, _ = added(rows, hosts, QUIET)
    images = moffats(hosts)
    got, _ = added(rows, with_psf_images(hosts, images), IMAGED)
    peak = expected.amax((2, 3))
    worst = (got - expected).abs().amax((2, 3)) / peak
    assert float(worst.max()) < 6e-3  # light outside of 63 px, and a cusp of 0.3 FWHM a pixel
    images[::2] = moffats(hosts)[::2, ::-1]  # other PSFs for every second row
    moved, _ = added(rows, with_psf_images(hosts, images), IMAGED)
    assert torch.equal(moved[1::2], got[1::2])
    assert bool(((moved - got)[::2, 0].abs().amax((1, 2)) > 1e-2 * peak[::2, 0]).all())


def test_a_cutout_without_a_psf_image_is_an_error_and_not_another_profile() -> None:
    rows = rows_of(2, kinds=("lens",))
    with pytest.raises(DataError, match="2 of 2 rows have no pixels"):
        added(rows, hosts_of(rows), IMAGED)


def with_gain(hosts: pa.Table, electrons: dict[str, float]) -> pa.Table:
    """Cutouts whose coadds have a known gain."""
    for band, value in electrons.items():
        hosts = with_column(hosts, f"electrons_per_nmgy_{band}", value)
    return hosts


@pytest.mark.parametrize("kind", PAINTED)
def test_photon_noise_is_that_of_the_light_for_every_kind(kind: str) -> None:
    n = 240 if kind == "companion" else 60  # its light stands on few pixels
    rows = lit_rows(n, kinds=(kind,))
    for band, mag in zip(BANDS, (21.0, 20.8, 20.6), strict=True):
        rows = with_column(rows, f"src_mag_{band}", mag)
    own = {"g": 14_000.0, "r": 6_000.0, "z": 900.0}
    hosts = with_gain(hosts_of(rows), own)
    light, _ = added(rows, hosts, QUIET)
    noisy, said = added(rows, hosts, NOISY)
    noise = noisy - light
    total = light.clamp_min(0).sum((0, 2, 3))
    expected = COADD_RMS_FACTOR**2 * total / torch.tensor(list(own.values()))
    ratio = noise.square().sum((0, 2, 3)) / expected
    torch.testing.assert_close(ratio, torch.ones(3, dtype=ratio.dtype), rtol=0, atol=0.08)
    power = noise.square().sum()
    for axis in (2, 3):
        one, two = (
            (noise.narrow(axis, lag, 64 - lag) * noise.narrow(axis, 0, 64 - lag)).sum() / power
            for lag in (1, 2)
        )
        assert float(one) == pytest.approx(0.12, abs=0.04)
        assert float(two) == pytest.approx(-0.07, abs=0.04)
    torch.testing.assert_close(said.injected_flux.double(), light.sum((2, 3)), rtol=1e-3, atol=1e-3)


def test_the_number_of_exposures_serves_where_the_gain_is_not_known() -> None:
    rows = untargeted(rows_of(20, kinds=("ring",)))
    hosts = hosts_of(rows)  # four exposures
    alike = with_gain(hosts, dict.fromkeys(BANDS, 4 * 3500.0))
    assert torch.equal(added(rows, hosts, NOISY)[0], added(rows, alike, NOISY)[0])
    light, _ = added(rows, hosts, QUIET)
    silent = added(rows, alike, QUIET)[0]  # 0 in the run file: no photon noise on any
    assert torch.equal(silent, light)


def test_without_light_no_kind_draws_anything_to_the_bit() -> None:
    rows = lit_rows(3, kinds=(*PAINTED, "control"))
    for band in BANDS:
        rows = with_column(rows, f"src_mag_{band}", np.inf)
    hosts = with_gain(hosts_of(rows), dict.fromkeys(BANDS, 3.0))
    hosts = with_psf_images(hosts, moffats(hosts, 31))
    for camera in (NOISY, replace(NOISY, psf_profile="image")):
        assert not added(rows, hosts, camera)[0].any()


def test_draws_belong_to_the_stamp_and_to_the_seed() -> None:
    rows = untargeted(rows_of(8, kinds=("lens", "ring")))
    hosts = hosts_of(rows)
    whole, _ = added(rows, hosts, NOISY)
    some = pa.array([5, 2])
    part, _ = added(rows.take(some), hosts.take(some), NOISY)
    peak = float(whole.abs().max())
    torch.testing.assert_close(part, whole[[5, 2]], rtol=0, atol=1e-5 * peak)
    assert not torch.equal(added(rows, hosts, NOISY, seed=2)[0], whole)


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("kind", PAINTED)
def test_dust_dims_each_kind_in_its_band_exactly_once(kind: str, band: str) -> None:
    rows = lit_rows(3, kinds=(kind,))
    for other in BANDS:
        rows = with_column(rows, f"mw_transmission_{other}", 1.0)
    hosts = hosts_of(rows)
    clear, of_clear = added(rows, hosts, QUIET)
    dusty, of_dusty = added(with_column(rows, f"mw_transmission_{band}", 0.6), hosts, QUIET)
    expected = torch.ones(3, dtype=torch.float64)
    expected[BANDS.index(band)] = 0.6
    ratio = dusty.sum((2, 3)) / clear.sum((2, 3))
    torch.testing.assert_close(ratio, expected.expand_as(ratio), rtol=2e-4, atol=0)
    said = (of_dusty.injected_flux / of_clear.injected_flux).double()
    torch.testing.assert_close(said, expected.expand_as(said), rtol=1e-5, atol=0)
    # the source itself is as bright as before: dust is ours
    torch.testing.assert_close(of_dusty.src_mag, of_clear.src_mag, rtol=1e-6, atol=0)


def test_a_row_without_a_transmission_is_not_dimmed() -> None:
    rows = untargeted(rows_of(3, kinds=("lens",)))
    clear = with_column(rows, "mw_transmission_g", 1.0)
    at = rows.schema.get_field_index("mw_transmission_g")
    unknown = rows.set_column(at, rows.schema.field(at), pa.nulls(rows.num_rows, pa.float32()))
    hosts = hosts_of(rows)
    assert torch.equal(added(unknown, hosts, QUIET)[0], added(clear, hosts, QUIET)[0])
