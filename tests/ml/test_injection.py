"""From a row's numbers to its pixels: flux, place, noise, and what must not change anything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from astropy.io import fits
from injection_builders import NOISY, QUIET, rows_of, untargeted, with_column, with_parts
from manifest_builders import BANDS, KINDS, cutouts, cutouts_head, splits

from darkhaloscope.core import units
from darkhaloscope.core.errors import DataError
from darkhaloscope.data import pixels
from darkhaloscope.lensing.parts import Form, part
from darkhaloscope.lensing.render import REFERENCE
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Camera, Injected, ground_visible
from darkhaloscope.ml.painters import MAX_OTHER_BAND

LIT = [kind for kind in KINDS if kind != "control"]
OF_LIGHT = [kind for kind in LIT if kind != "artefact"]  # an artefact may be done to the pixels
CUT = ("companion", "radial_arc", "scrambled")  # the arc's own source in pieces


def hosts_and_pixels(rows: pa.Table, size: int = 80) -> tuple[pa.Table, np.ndarray]:
    targets = splits(rows["target_id"].combine_chunks().unique().__len__() or 1)
    made = cutouts(targets, size=size)
    at = pc.index_in(rows["target_id"], value_set=made["target_id"].combine_chunks())
    assert not at.null_count
    made = made.take(at)
    return made, pixels.decode(made["pixels"], pixels.layout_of(made.field("pixels"))).copy()


def paint(
    rows: pa.Table, camera: Camera = QUIET, *, size: int = 80, device: str = "cpu"
) -> tuple[Injected, torch.Tensor]:
    """The stamps, and their cutouts' pixels."""
    hosts, images = hosts_and_pixels(rows, size)
    made = injection.paint_rows(rows, hosts, images, camera=camera, seed=1, device=device)
    return made, torch.from_numpy(pixels.crop(images, camera.size_px).copy())


def kinds_of(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["kind"].to_pylist())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_neither_the_batch_nor_the_device_changes_a_pixel(batch_rows: int, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    rows = rows_of(2)
    whole, _ = paint(rows, NOISY)
    got, _ = paint(rows, replace(NOISY, batch_rows=batch_rows), device=device)
    worst = (got.pixels.cpu() - whole.pixels).abs().amax((1, 2, 3))
    assert (worst <= 1e-5 * whole.pixels.amax((1, 2, 3))).all()


def test_light_without_flux_changes_nothing_to_the_bit() -> None:
    rows = rows_of(2)
    for band in BANDS:
        rows = with_column(rows, f"src_mag_{band}", np.inf)
    made, before = paint(rows, NOISY)
    assert set(kinds_of(rows)) == set(KINDS)
    assert torch.equal(made.pixels, before)


def test_a_control_is_its_cutout_to_the_bit() -> None:
    rows = rows_of(3, kinds=("control",))
    made, before = paint(rows, NOISY)
    assert torch.equal(made.pixels, before)
    for name in ("arc_snr", "injected_flux", "inside_share", "magnification", "src_mag"):
        assert bool(torch.isnan(getattr(made, name)).all())


def test_what_is_added_is_the_injected_flux() -> None:
    rows = rows_of(3)
    made, before = paint(rows)
    added = (made.pixels.double() - before.double()).sum((2, 3))
    lit = torch.from_numpy(kinds_of(rows) != "control")
    torch.testing.assert_close(added[lit], made.injected_flux[lit].double(), rtol=1e-4, atol=2e-4)
    of_light = torch.from_numpy(np.isin(kinds_of(rows), OF_LIGHT))
    assert bool((made.injected_flux[of_light] > 0).all())


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pieces_of_a_source_have_the_magnified_flux_of_its_lens(split: str, kind: str) -> None:
    rows = rows_of(12, kinds=(kind,))
    rows = with_column(rows, "light_scale_max", None)
    if split == "test":  # not rescaled to a signal-to-noise ratio
        rows = untargeted(rows)
    as_lens = with_column(with_column(rows, "kind", "lens"), "shape_parts", None)
    lens, cut = paint(as_lens)[0], paint(rows)[0]
    lensed = 10 ** (-0.4 * (lens.src_mag - 22.5)) * lens.magnification[:, None]
    flux = 10 ** (-0.4 * (cut.src_mag - 22.5))
    torch.testing.assert_close(flux, lensed, rtol=1e-4, atol=0)
    seen = cut.injected_flux[:, 1] / cut.inside_share
    arc = lens.injected_flux[:, 1] / lens.inside_share
    torch.testing.assert_close(seen, arc, rtol=2e-3, atol=0)
    assert bool(torch.isnan(cut.magnification).all())


def test_training_light_of_every_kind_reaches_its_target_signal() -> None:
    rows = rows_of(6, kinds=tuple(k for k in OF_LIGHT if k not in CUT))
    rows = with_column(rows, "light_scale_max", None)
    made, _ = paint(rows)
    target = torch.tensor(rows["arc_snr_target"].to_numpy())
    in_g, best = made.arc_snr_mf[:, 0], made.arc_snr_mf.amax(1)
    reached = torch.maximum(in_g, best / MAX_OTHER_BAND)
    torch.testing.assert_close(reached, target, rtol=1e-4, atol=0)
    assert bool((in_g > 0.999 * target).any())  # blue light reaches it in g
    assert bool((in_g < 0.999 * target).any())  # red light is held back by its brightest band


@pytest.mark.parametrize("kind", OF_LIGHT)
def test_no_light_is_scaled_beyond_what_leaves_its_host_a_target(kind: str) -> None:
    rows = with_column(rows_of(6, kinds=(kind,)), "light_scale_max", None)
    free = 10 ** (-0.4 * paint(rows)[0].src_mag)
    plain = 10 ** (-0.4 * paint(untargeted(rows))[0].src_mag)
    scale = (free / plain)[:, :1]
    for most in (0.3, 1.7):
        held = with_column(rows, "light_scale_max", most)
        got = 10 ** (-0.4 * paint(held)[0].src_mag)
        torch.testing.assert_close(got, plain * scale.clamp(max=most), rtol=1e-4, atol=0)
        got = 10 ** (-0.4 * paint(untargeted(held))[0].src_mag)  # also where there is no target
        torch.testing.assert_close(got, plain * min(1.0, most), rtol=1e-4, atol=0)


def test_a_rescaled_source_says_its_new_magnitude() -> None:
    rows = rows_of(6, kinds=("ring",))
    made, _ = paint(rows)
    total = made.injected_flux[:, 1] / made.inside_share / 0.9  # less the dust's share
    expected = 22.5 - 2.5 * torch.log10(total)
    torch.testing.assert_close(made.src_mag[:, 1], expected, rtol=0, atol=5e-3)


def test_dust_dims_injected_light_by_its_transmission() -> None:
    rows = rows_of(4, kinds=("lens",))
    rows = untargeted(rows)
    clear, dusty = (paint(with_column(rows, "mw_transmission_g", t))[0] for t in (1.0, 0.7))
    ratio = dusty.injected_flux / clear.injected_flux
    torch.testing.assert_close(ratio[:, 0], torch.full((4,), 0.7), rtol=1e-4, atol=0)
    torch.testing.assert_close(ratio[:, 1], torch.ones(4), rtol=1e-5, atol=0)


def test_photon_noise_has_the_variance_of_the_injected_electrons() -> None:
    rows = untargeted(rows_of(30, kinds=("spiral",)))
    quiet, before = paint(rows)
    noisy, _ = paint(rows, NOISY)
    light = (quiet.pixels - before).clamp_min(0)
    noise = noisy.pixels - quiet.pixels
    expected = units.COADD_RMS_FACTOR**2 * light / (3500 * 4)  # four exposures
    assert float(noise.square().sum() / expected.sum()) == pytest.approx(1, abs=0.05)
    inside = light > 1e-3
    assert abs(float((noise[inside] / expected[inside].sqrt()).mean())) < 0.05


def test_light_sits_on_the_catalogue_centroid_and_not_on_the_stamps_centre() -> None:
    rows = with_parts(untargeted(rows_of(5, kinds=("ring",))), part(Form.RING, 1, 2.0, 0.4, 1.0))
    hosts, _ = hosts_and_pixels(rows)
    made, before = paint(rows)
    light = (made.pixels - before)[:, 1]
    axis = torch.arange(64, dtype=light.dtype)
    for name, margin in (("x", 1), ("y", 2)):
        along = light.sum(margin)
        centroid = (along * axis).sum(1) / along.sum(1)
        expected = torch.tensor(hosts[f"host_{name}_px"].to_numpy()) - 8
        torch.testing.assert_close(centroid, expected, rtol=0, atol=0.02)


def test_a_wider_stamp_holds_the_narrower_one() -> None:
    rows = rows_of(2, kinds=("lens", "ring"))
    rows = untargeted(rows)
    finely = replace(QUIET, plan=REFERENCE)
    narrow, before = paint(rows, finely)
    wide, _ = paint(rows, replace(finely, size_px=72))
    apart = (wide.pixels[..., 4:68, 4:68] - narrow.pixels).square().sum((1, 2, 3)).sqrt()
    light = (narrow.pixels - before).square().sum((1, 2, 3)).sqrt()
    assert bool((apart < 1e-3 * light).all())


def test_signal_is_measured_against_sky_and_host() -> None:
    rows = rows_of(3, kinds=("lens",))
    quiet, noisy = paint(rows, QUIET)[0], paint(rows, NOISY)[0]
    assert bool((noisy.arc_snr_mf[:, 0] > 0).all())
    # the same targets in g: photons of the red host hide more of the arc in z
    ratio = noisy.arc_snr_mf / quiet.arc_snr_mf
    assert bool((ratio[:, 0] > 0.999).all())
    assert bool((noisy.arc_snr_peak <= noisy.arc_snr_mf + 1e-4).all())


def test_stamps_with_a_pixel_that_is_not_finite_are_named() -> None:
    rows = rows_of(3, kinds=("lens",))
    hosts, images = hosts_and_pixels(rows)
    images[1, 2, 40, 40] = np.nan
    with pytest.raises(DataError, match=f"1 of 3 stamps.*{rows['stamp_id'][1].as_py()}"):
        injection.paint_rows(rows, hosts, images, camera=QUIET, seed=1)


def test_no_rows_give_no_stamps_of_the_right_shape() -> None:
    rows = rows_of(1)[:0]
    hosts = cutouts_head(splits(1))[:0]
    made = injection.paint_rows(
        rows, hosts, np.zeros((0, 3, 80, 80), np.float32), camera=NOISY, seed=1
    )
    assert made.pixels.shape == (0, 3, 64, 64)
    assert made.arc_snr.shape == (0, 3)


def test_the_first_runs_psf_is_a_gaussian_of_psfsize() -> None:
    rows = rows_of(4, kinds=("lens",))
    moffat, gaussian = paint(rows)[0], paint(rows, replace(QUIET, psf_profile="gaussian"))[0]
    assert bool((gaussian.arc_snr_peak[:, 1] < moffat.arc_snr_peak[:, 1]).all())


def test_what_is_visible_from_the_ground_by_hand() -> None:
    #                        plain  close  short  faint  weak
    theta_e = np.array([1.2, 0.6, 1.2, 1.2, 1.2])
    r_eff = np.array([0.2, 0.2, 0.05, 0.2, 0.45])
    magnification = np.array([8.0, 8.0, 8.0, 8.0, 2.9])
    snr = np.array([30.0, 30.0, 30.0, 19.0, 30.0])
    got = ground_visible(theta_e, r_eff, magnification, np.full(5, 1.2), snr)
    assert got.tolist() == [True, False, False, False, False]


@pytest.mark.real
def test_an_arc_adds_exactly_its_flux_to_a_real_coadd(shared_data: Path) -> None:
    path = shared_data / "dr9-coadd-cutout" / "cutout_59.1067_-30.4848.fits"
    with fits.open(path) as file:
        image = np.stack([file[1 + 2 * b].data[90:170, 90:170] for b in range(3)]).astype("f4")
    rows = rows_of(8, kinds=("lens", "companion", "ring"))
    hosts, _ = hosts_and_pixels(rows)
    images = np.repeat(image[None], rows.num_rows, 0)
    made = injection.paint_rows(rows, hosts, images, camera=QUIET, seed=1)
    before = torch.from_numpy(pixels.crop(images, 64).copy()).double()
    added = (made.pixels.double() - before).sum((2, 3))
    lensed = torch.nan_to_num(made.magnification, nan=1.0)[:, None]
    flux = 10 ** (-0.4 * (made.src_mag.double() - 22.5)) * 0.9 * lensed
    share = added[:, 1] / flux[:, 1]
    torch.testing.assert_close(share, made.inside_share.double(), rtol=1e-3, atol=0)


def test_light_within_an_aperture_is_part_of_the_injected_light() -> None:
    rows = rows_of(4, kinds=("lens", "control"))
    made, before = paint(rows)
    is_lens = torch.from_numpy(kinds_of(rows) == "lens")
    within = made.aperture_flux[is_lens]
    assert bool((within.diff(dim=-1) >= 0).all())
    assert bool((within[..., -1] <= made.injected_flux[is_lens] * (1 + 1e-5)).all())
    assert bool(torch.isnan(made.aperture_flux[~is_lens]).all())
    # the host's centroid is where the catalogue has it, not the stamp's middle
    hosts, _ = hosts_and_pixels(rows)
    at = np.flatnonzero(is_lens.numpy())[0]
    edge = (80 - QUIET.size_px) // 2
    x, y = (hosts[f"host_{axis}_px"].to_numpy()[at] - edge for axis in "xy")
    row, column = np.mgrid[: QUIET.size_px, : QUIET.size_px]
    inside = np.hypot(column - x, row - y) * QUIET.pixel_scale_arcsec < 3.5
    added = (made.pixels - before)[at, 1].numpy()
    assert float(made.aperture_flux[at, 1, -1]) == pytest.approx(added[inside].sum(), rel=0.05)
