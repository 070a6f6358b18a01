"""What the audit paints is what it says, and what it measures on pixels is what they hold."""

from types import SimpleNamespace

import audit_builders as ab
import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from darkhaloscope.core.settings.base import Span
from darkhaloscope.ml import auditing, auditing_pixels
from darkhaloscope.ml.auditing import Studio
from darkhaloscope.ml.injection import paint_rows
from darkhaloscope.ml.painters import Camera

CAMERA = Camera(mb.BANDS, mb.SCALE, ab.SIZE_PX, "moffat", (2.9,) * 3, (3500.0,) * 3)
NOISELESS = Camera(mb.BANDS, mb.SCALE, ab.SIZE_PX, "moffat", (2.9,) * 3, (0.0,) * 3)
ASKED = SimpleNamespace(arc_snr_g=Span(low=15, high=40), radius_arcsec=Span(low=1, high=3))
Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def world() -> ab.World:
    return ab.world(120, train=0)


def of_kind(world: ab.World, kind: str) -> pa.Table:
    return world.manifest.filter(pc.equal(world.manifest["kind"], kind))


def untargeted(rows: pa.Table) -> pa.Table:
    at = rows.schema.get_field_index("arc_snr_target")
    return rows.set_column(at, rows.schema.field(at), pa.nulls(rows.num_rows, pa.float32()))


def light(rows: pa.Table, world: ab.World) -> Images:
    """What painting adds, without its photon noise, (n, band, y, x)."""
    at = pc.index_in(rows["target_id"], value_set=world.cutouts["target_id"].combine_chunks())
    cutouts = world.pixels_of_cutouts[at.to_numpy()]
    painted = paint_rows(rows, world.heads.take(at), cutouts, camera=NOISELESS, seed=2)
    return painted.pixels.numpy() - cutouts[:, :, 8:-8, 8:-8]


def studio(world: ab.World, score: auditing.Score = ab.blue_flux) -> Studio:
    return Studio(world.heads, ab.Stored(world), CAMERA, ab.STAMPS["seed"], score)


def test_a_network_is_told_of_each_rows_own_galaxy(world: ab.World) -> None:
    n = world.heads.num_rows
    at = world.heads.schema.get_field_index("depth_r_mag")
    depth = pa.array(np.linspace(23, 25, n), pa.float32())
    heads = world.heads.set_column(at, "depth_r_mag", depth)

    def told(stamps: Tensor, sky: Tensor, extra: Tensor) -> Tensor:
        assert extra.shape == (len(stamps), 1)
        return extra[:, 0]

    rows = of_kind(world, "lens").slice(0, 12).take([7, 2, 2, 9, 0, 11, 5])
    stored = ab.Stored(world)
    seen = Studio(heads, stored, CAMERA, ab.STAMPS["seed"], told, inputs=("depth_r_mag",))
    found = auditing.scored(rows, seen).logit
    galaxy = dict(zip(heads["target_id"].to_pylist(), depth.to_pylist(), strict=True))
    expected = [galaxy[target] for target in rows["target_id"].to_pylist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert len(set(expected)) == 6


@pytest.mark.parametrize("is_targeted", [True, False])
def test_flux_times_a_factor_is_that_much_light_everywhere(
    world: ab.World, is_targeted: bool
) -> None:
    rows = of_kind(world, "lens").slice(0, 8)
    rows = rows if is_targeted else untargeted(rows)
    assert (rows["arc_snr_target"].null_count == 0) is is_targeted
    once, thrice = light(rows, world), light(auditing.at_flux(rows, 3.0, mb.BANDS), world)
    np.testing.assert_allclose(thrice, 3 * once, atol=1e-4 * float(once.max()))


def test_no_flux_leaves_the_host_as_it_is(world: ab.World) -> None:
    rows = auditing.at_flux(of_kind(world, "lens").slice(0, 8), auditing.NO_FLUX, mb.BANDS)
    assert np.abs(light(rows, world)).max() < 1e-3 * 0.003  # of a pixel's noise in g


def test_theta_e_times_a_factor_moves_the_images_out_by_it(world: ab.World) -> None:
    rows = of_kind(world, "lens").slice(0, 12)
    wider = auditing.at_theta_e(rows, 1.25)
    for name in ("theta_e_over_fwhm_r", "src_x_arcsec"):
        ratio = wider[name].to_numpy() / rows[name].to_numpy()
        np.testing.assert_allclose(ratio, 1.25, rtol=1e-5)
    at = pc.index_in(rows["target_id"], value_set=world.cutouts["target_id"].combine_chunks())
    x, y = (world.cutouts[f"host_{a}_px"].to_numpy()[at.to_numpy()] - 8 for a in "xy")
    grid = np.arange(ab.SIZE_PX)
    radius = np.hypot(grid - x[:, None, None], grid[:, None] - y[:, None, None])

    def reach(rows: pa.Table) -> NDArray[np.float64]:
        flux = light(rows, world)[:, 1]
        return np.asarray((flux * radius).sum((1, 2)) / flux.sum((1, 2)))

    ratio = reach(wider) / reach(rows)
    assert np.median(ratio) == pytest.approx(1.2, abs=0.08)  # the PSF's share does not grow


def test_rows_painted_as_they_stand_score_as_the_set_s_stamps(world: ab.World) -> None:
    rows = world.manifest.filter(pc.not_equal(world.manifest["kind"], "sky"))
    found = auditing.scored(rows.take(pa.array(np.arange(rows.num_rows)[::-1])), studio(world))
    stored = ab.blue_flux(torch.from_numpy(ab.decoded(world.stamps).copy()), torch.zeros(1, 3))
    np.testing.assert_allclose(found.logit[::-1], stored.numpy(), atol=2e-4)
    snr = world.stamps["arc_snr_g"].to_numpy(zero_copy_only=False)
    np.testing.assert_allclose(found.arc_snr[::-1, 0], snr, rtol=1e-4)


def test_rings_have_the_signal_the_width_and_the_colours_that_are_asked_for(
    world: ab.World,
) -> None:
    hosts = of_kind(world, "control")
    n = hosts.num_rows
    mags = {"g": np.full(n, 22.0), "r": np.full(n, 21.5), "z": np.full(n, 21.4)}
    made = auditing.rings(
        hosts, mags, np.ones(n), width_over_fwhm=Span(low=1.5, high=2.5), asked=ASKED, seed=1
    )
    assert set(made["kind"].to_pylist()) == {"halo_ring"}
    assert set(made["stamp_id"].to_pylist()).isdisjoint(hosts["stamp_id"].to_pylist())
    at = pc.index_in(made["target_id"], value_set=world.cutouts["target_id"].combine_chunks())
    cutouts = world.pixels_of_cutouts[at.to_numpy()]
    painted = paint_rows(made, world.heads.take(at), cutouts, camera=NOISELESS, seed=2)
    asked = made["arc_snr_target"].to_numpy()
    assert asked.min() > 15
    assert asked.max() < 40
    np.testing.assert_allclose(painted.arc_snr_mf[:, 0].numpy(), asked, rtol=0.01)
    flux = light(made, world).sum((2, 3)) / _dust(made)
    np.testing.assert_allclose(-2.5 * np.log10(flux[:, 0] / flux[:, 1]), 0.5, atol=0.05)
    width = made["shape_width_arcsec"].to_numpy() * 2.3548
    assert 1.5 <= width.min() < width.max() <= 2.5
    turned = light(made, world)[:, 1]
    around = np.abs(turned - np.rot90(turned, axes=(1, 2))).max((1, 2)) / turned.max((1, 2))
    assert np.median(around) < 0.35  # round about a host that is off the middle by half a pixel


def _dust(rows: pa.Table) -> NDArray[np.float64]:
    columns = [rows[f"mw_transmission_{b}"].to_numpy() for b in mb.BANDS]
    return np.stack(columns, 1).astype(np.float64)


def test_a_sample_has_a_galaxy_once_and_two_tables_share_their_galaxies(world: ab.World) -> None:
    rows = pa.concat_tables([world.manifest, world.manifest])
    some = auditing.one_a_galaxy(rows, 50, seed=3, stream="x")
    ids = some["target_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 50
    other = auditing.one_a_galaxy(of_kind(world, "sky"), 50, seed=3, stream="x")
    assert set(other["target_id"].to_pylist()) == set(ids)
    more = auditing.one_a_galaxy(rows, 60, seed=3, stream="x")
    assert set(ids) < set(more["target_id"].to_pylist())


def noise(n: int, smoothed: float = 0.0, *, seed: int = 4) -> Images:
    """Sky of standard deviation 0.01, (n, 1, y, x)."""
    white = np.random.default_rng(seed).normal(0, 0.01, (n, 1, ab.SIZE_PX, ab.SIZE_PX))
    if smoothed:
        white += smoothed * (np.roll(white, 1, -1) + np.roll(white, 1, -2))
    return white.astype(np.float32)


def one(n: int, value: float = 0.01) -> NDArray[np.float64]:
    return np.full((n, 1), value)


def test_the_autocorrelation_is_that_of_the_noise() -> None:
    white = auditing_pixels.sky_autocorrelation(noise(400), one(400, 0.0), one(400))
    assert white.mean() == pytest.approx(0, abs=0.004)
    a = 0.3
    held = auditing_pixels.sky_autocorrelation(noise(400, a), one(400, 0.0), one(400, 0.011))
    expected = a / (1 + 2 * a**2)
    assert held.mean() == pytest.approx(expected, abs=0.02)


def test_a_source_in_the_sky_changes_its_autocorrelation_little() -> None:
    stamps = noise(200)
    stamps[:, 0, 2:6, 2:6] += 1.0
    found = auditing_pixels.sky_autocorrelation(stamps, one(200, 0.0), one(200))
    assert found.mean() == pytest.approx(0, abs=0.01)


def test_detections_count_point_sources_and_no_noise() -> None:
    n = 60
    image = noise(n)[:, 0].astype(np.float64)
    empty = auditing_pixels.detections(image, np.zeros(n), one(n)[:, 0], np.full(n, 4.0))
    assert empty.mean() < 0.1
    for x, y in ((12, 40), (45, 20), (32, 32)):
        image[:, y, x] += 3.0
    image = ndimage.gaussian_filter(image, (0, 1.7, 1.7)) + noise(n, seed=9)[:, 0]
    found = auditing_pixels.detections(image, np.zeros(n), one(n)[:, 0] * 1.01, np.full(n, 4.0))
    assert np.median(found) == 3


def test_what_is_left_of_a_host_is_noise_where_it_is_symmetric() -> None:
    n = 100
    y, x = np.mgrid[: ab.SIZE_PX, : ab.SIZE_PX]
    at = np.full(n, 31.5)
    host = np.exp(-((x - 31.5) ** 2 + 2 * (y - 31.5) ** 2) / 30)
    image = noise(n)[:, 0] + host.astype(np.float32)
    left = auditing_pixels.host_residual(image, one(n)[:, 0], at, at)
    assert left.mean() == pytest.approx(1, abs=0.02)
    image[:, 34:37, 36:40] += 0.1
    assert (auditing_pixels.host_residual(image, one(n)[:, 0], at, at) > left).all()


def test_scores_of_no_stamps_are_none() -> None:
    def network(stamps: Tensor, sky: Tensor) -> Tensor:
        return stamps.sum((1, 2, 3))

    none = np.zeros((0, 3, 8, 8), np.float32)
    assert auditing.score(none, np.zeros((0, 3), np.float32), network, "cpu").shape == (0,)
