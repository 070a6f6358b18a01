"""Which painter makes which light: pieces of a source, parts, and what is done to pixels."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from injection_builders import NOISY, QUIET, rows_of, untargeted, with_column, with_parts
from manifest_builders import BANDS, SCALE, cutouts, splits
from numpy.typing import NDArray

from darkhaloscope.data import pixels
from darkhaloscope.lensing.parts import PART, Form, part
from darkhaloscope.lensing.render import Lens, Sersic, render_lensed
from darkhaloscope.ml import injection
from darkhaloscope.ml.injection import Injected
from darkhaloscope.ml.paint_batch import batch_of, host_numbers, psf_of
from darkhaloscope.ml.painters import PAINTERS, painted_by, parts_of

EDGE = 8  # pixels of a cutout before the stamp's first


def hosts_of(rows: pa.Table) -> pa.Table:
    """The cutout of each row."""
    made = cutouts(splits(rows["target_id"].combine_chunks().unique().__len__() or 1))
    return made.take(pc.index_in(rows["target_id"], value_set=made["target_id"].combine_chunks()))


def painted(
    rows: pa.Table, camera: injection.Camera = QUIET
) -> tuple[torch.Tensor, torch.Tensor, Injected]:
    """Stamps, the same before, and what was added."""
    hosts = hosts_of(rows)
    images = pixels.decode(hosts["pixels"], hosts.field("pixels")).copy()
    made = injection.paint_rows(rows, hosts, images, camera=camera, seed=1)
    before = torch.from_numpy(pixels.crop(images, camera.size_px).copy())
    return made.pixels, before, made


def one(kind: str, *parts: NDArray[np.float32], n: int = 3) -> pa.Table:
    """Rows of one kind with these parts, in their own light."""
    rows = with_parts(untargeted(rows_of(n, kinds=(kind,))), *parts)
    rows = with_column(rows, "light_scale_max", None)
    for band in BANDS:
        rows = with_column(rows, f"src_mag_{band}", 20.0)
    return rows


# Reading


def test_parts_are_read_in_order_whatever_their_number() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.random(PART * k).astype("f4").tolist() if k is not None else None
             for k in (2, None, 0, 3, 1)]  # fmt: skip
    column = pa.chunked_array([pa.array(lists[:2], pa.list_(pa.float32())),
                               pa.array(lists[2:], pa.list_(pa.float32()))])  # fmt: skip
    rows = pa.table({"shape_parts": column})
    got = parts_of(rows)
    assert got.shape == (5, 3, PART)
    for row, numbers in enumerate(lists):
        count = len(numbers or []) // PART
        assert got[row, :count].ravel().tolist() == (numbers or [])
        assert not got[row, count:].any()
    assert np.array_equal(parts_of(rows.slice(3, 2)), got[3:])
    assert parts_of(rows.slice(0, 0)).shape == (0, 0, PART)


@pytest.mark.parametrize("numbers", [PART - 1, 17 * PART])
def test_numbers_that_are_no_parts_are_refused(numbers: int) -> None:
    rows = pa.table({"shape_parts": pa.array([None, [1.0] * numbers], pa.list_(pa.float32()))})
    with pytest.raises(ValueError, match=f"got {numbers} numbers in row 1"):
        parts_of(rows)


# One painter a row


def test_each_row_has_one_painter_and_no_light_has_none() -> None:
    forms = np.zeros((7, 2), np.int8)
    forms[2, 0], forms[3, 0], forms[4, 1] = Form.RING, Form.SHIFT, Form.PIECE
    kinds = np.array(["lens", "lens", "ring", "artefact", "companion", "control", "mined"])
    has_picture = np.array([False, True, False, False, True, False, False])
    got = painted_by(kinds, has_picture, forms)
    assert got.tolist() == ["profiles", "pictures", "parts", "pixels", "pictures", "", ""]
    assert [p.name for p in PAINTERS] == ["profiles", "pictures", "parts", "pixels"]


@pytest.mark.parametrize(
    ("kind", "forms", "words"),
    [
        ("lens", [Form.RING, 0], "not made of parts; lens in row 0"),
        ("ring", [Form.SHIFT, 0], "not done to pixels"),
        ("ring", [Form.PIECE, Form.RING], "not made of pieces"),
        ("ring", [0, 0], "made of parts, and it has none"),
        ("scrambled", [0, 0], "made of pieces, and it has none"),
        ("artefact", [Form.LINE, Form.TRACK], "parts of light and parts done to pixels"),
    ],
)
def test_parts_that_are_not_of_the_kind_are_refused(
    kind: str, forms: list[int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        painted_by(np.array([kind]), np.array([False]), np.array([forms], np.int8))


def test_a_real_galaxy_of_a_kind_has_nothing_painted_on_it() -> None:
    rows = with_column(rows_of(2, kinds=("spiral",)), "shape_parts", None)
    real = with_column(rows, "family", "look_alike")
    got, before, made = painted(real)
    assert torch.equal(got, before)
    assert bool(made.injected_flux.isnan().all())


# Light of parts


def test_a_band_without_a_magnitude_has_no_light_in_an_artefact_alone() -> None:
    line = part(Form.LINE, 1, 4.0, 0.3)
    rows = with_column(one("artefact", line), "src_mag_r", None)
    got, before, made = painted(rows, NOISY)
    assert torch.equal(got[:, 1], before[:, 1])
    assert bool((got[:, [0, 2]] - before[:, [0, 2]]).abs().sum((2, 3)).min() > 0)
    assert bool(made.src_mag[:, 1].isnan().all())
    with pytest.raises(ValueError, match="a flux is finite"):
        painted(with_column(one("ring", part(Form.RING, 1, 2, 0.4, 1)), "src_mag_r", None))


def test_each_layer_that_has_light_has_parts() -> None:
    rows = one("spiral", part(Form.BLOB, 1, 0.5, 1, 1))
    mixed = with_column(rows, "layer_share_g", 0.4)
    with pytest.raises(ValueError, match="a share of layer 1 has parts in it"):
        painted(mixed)
    bulge, arms = part(Form.BLOB, 1, 0.5, 1, 1), part(Form.RING, 1, 3, 0.4, 1, layer=1)
    both = with_column(one("spiral", bulge, arms), "layer_share_g", 0.4)
    got, before, _ = painted(both)
    alone, _, _ = painted(one("spiral", bulge, arms))
    light, first = got - before, alone - before
    assert torch.equal(light[:, 1], first[:, 1])
    middle = light[:, 0, 31:33, 31:33].sum() / first[:, 0, 31:33, 31:33].sum()
    assert float(middle) == pytest.approx(0.6, abs=0.02)


# Pieces of a source


def source_of(rows: pa.Table, x: float, y: float, lens: Lens, flux: torch.Tensor) -> torch.Tensor:
    """The rows' own sources at one place behind `lens`, straight from the renderer."""
    batch = batch_of(rows, host_numbers(hosts_of(rows), BANDS), QUIET, edge_px=EDGE)
    n = len(batch)
    source = Sersic(torch.full((n,), x), torch.full((n,), y), *[
        batch.column(f"src_{name}") for name in ("r_eff_arcsec", "n", "q")
    ], batch.angle("src_phi_deg"))  # fmt: skip
    made = render_lensed(
        source, lens, flux=flux, psf=psf_of(batch), centre_x=batch.column("centre_x"),
        centre_y=batch.column("centre_y"), grid=QUIET.grid,
    )  # fmt: skip
    return made.pixels


def test_a_piece_without_shear_is_the_source_itself_where_it_is_put() -> None:
    pieces = [part(Form.PIECE, 1, 0.0, x=2.0, y=-1.0, share=3.0), part(Form.PIECE, 1, 0.0, x=-1.5)]
    rows = one("companion", *pieces, n=4)
    got, before, made = painted(rows)
    flux = 10 ** (-0.4 * (made.src_mag - 22.5)) * 0.9  # less the dust's share
    none = Lens.none(torch.zeros(4))
    expected = source_of(rows, 2.0, -1.0, none, 0.75 * flux)
    expected = expected + source_of(rows, -1.5, 0.0, none, 0.25 * flux)
    worst = ((got - before) - expected).abs().amax((1, 2, 3)) / expected.amax((1, 2, 3))
    assert float(worst.max()) < 1e-4


@pytest.mark.parametrize("shear", [0.2, 0.4])
def test_a_sheared_piece_stands_where_it_is_put_and_is_stretched(shear: float) -> None:
    phi = 0.7
    piece = part(Form.PIECE, 1, shear, x=1.2, y=-0.9, phi=phi)
    rows = with_column(one("radial_arc", piece, n=4), "src_q", 1.0)
    rows = with_column(with_column(rows, "src_n", 0.5), "src_r_eff_arcsec", 0.35)
    got, before, made = painted(rows)
    light = (got - before)[:, 1].double()
    batch = batch_of(rows, host_numbers(hosts_of(rows), BANDS), QUIET, edge_px=EDGE)
    axis = (torch.arange(64).double() - 31.5) * SCALE
    total = light.sum((1, 2))
    x = (light.sum(1) * axis).sum(1) / total - batch.column("centre_x") * SCALE
    y = (light.sum(2) * axis).sum(1) / total - batch.column("centre_y") * SCALE
    torch.testing.assert_close(x, torch.full_like(x, 1.2), rtol=0, atol=0.03)
    torch.testing.assert_close(y, torch.full_like(y, -0.9), rtol=0, atol=0.03)
    # the flux is that of the arc, whatever the shear magnifies
    flux = 10 ** (-0.4 * (made.src_mag[:, 1] - 22.5)) * 0.9
    torch.testing.assert_close(total.float(), flux * made.inside_share, rtol=2e-3, atol=0)
    assert bool((made.inside_share > 0.99).all())
    # widths along and across, without the PSF's: the same light unsheared measures that
    still, _, _ = painted(with_parts(rows, part(Form.PIECE, 1, 0.0, x=1.2, y=-0.9)))
    along, across = (
        _variance(light, x, y, a, batch)
        - _variance((still - before)[:, 1].double(), x, y, a, batch)
        for a in (phi, phi + math.pi / 2)
    )
    sigma2 = (0.35 / 1.17741) ** 2
    grown = along / sigma2 + 1, across / sigma2 + 1
    ratio = (grown[0] / grown[1]).sqrt()
    expected = torch.full_like(ratio, (1 + shear) / (1 - shear))
    torch.testing.assert_close(ratio, expected, rtol=0.03, atol=0)


def _variance(
    light: torch.Tensor, x: torch.Tensor, y: torch.Tensor, angle: float, batch: injection.Batch
) -> torch.Tensor:
    """Second moment along a direction within 4 arcsec, arcsec^2, (n,)."""
    axis = (torch.arange(64).double() - 31.5) * SCALE
    right = axis[None, None, :] - (x + batch.column("centre_x") * SCALE)[:, None, None]
    up = axis[None, :, None] - (y + batch.column("centre_y") * SCALE)[:, None, None]
    u = math.cos(angle) * right + math.sin(angle) * up
    light = torch.where(right**2 + up**2 < 4**2, light, 0)
    return (light * u**2).sum((1, 2)) / light.sum((1, 2))


# Done to pixels


@pytest.mark.parametrize("band", [-1, 2])
@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (-2, 3)])
def test_bands_out_of_register_are_rolled_by_whole_pixels(band: int, dx: int, dy: int) -> None:
    got, before, _ = painted(one("artefact", part(Form.SHIFT, 1, dx, dy, layer=band)), NOISY)
    inner = (slice(None), slice(6, -6), slice(6, -6))
    for b in range(3):
        expected = before[:, b]
        if band in (-1, b):
            expected = torch.from_numpy(np.roll(before[:, b].numpy(), (dy, dx), (1, 2)))
            peak = float(before[:, b].max())
            torch.testing.assert_close(got[:, b][inner], expected[inner], rtol=0, atol=1e-5 * peak)
        else:
            torch.testing.assert_close(got[:, b], expected, rtol=0, atol=1e-7)


def test_a_shift_by_part_of_a_pixel_moves_the_light_and_keeps_its_noise() -> None:
    rows = one("artefact", part(Form.SHIFT, 1, 0.5, -0.3, layer=0), n=8)
    hosts = hosts_of(rows)
    y, x = np.mgrid[:80, :80].astype("f4")
    star = np.exp(-0.5 * ((x - 41) ** 2 + (y - 38) ** 2) / 2.0**2)
    noise = np.random.default_rng(1).normal(0, 0.01, (8, 3, 80, 80)).astype("f4")
    made = injection.paint_rows(rows, hosts, star + noise, camera=NOISY, seed=1).pixels.numpy()
    moved = np.exp(-0.5 * ((x - 41.5) ** 2 + (y - 37.7) ** 2) / 2.0**2)[8:-8, 8:-8]
    rest = made[:, 0] - moved
    assert abs(rest.mean()) < 3e-4
    assert rest[:, 8:-8, 8:-8].std() == pytest.approx(0.01, rel=0.03)
    assert np.array_equal(made[:, 1:], (star + noise)[:, 1:, 8:-8, 8:-8])


@pytest.mark.parametrize("phi", [0.0, 2.1])
def test_an_edge_empties_exactly_one_side(phi: float) -> None:
    rows = one("artefact", part(Form.EDGE, 1, x=1.5, y=-0.7, phi=phi, layer=-1))
    got, before, made = painted(rows, NOISY)
    batch = batch_of(rows, host_numbers(hosts_of(rows), BANDS), QUIET, edge_px=EDGE)
    axis = np.arange(64) - 31.5
    for row in range(3):
        x = (axis - float(batch.column("centre_x")[row])) * SCALE - 1.5
        y = (axis - float(batch.column("centre_y")[row])) * SCALE + 0.7
        beyond = x[None, :] * math.cos(phi) + y[:, None] * math.sin(phi) > 0
        assert 0.2 < beyond.mean() < 0.8
        assert bool((got[row][:, beyond].abs() < 1e-6 * before[row].max()).all())
        torch.testing.assert_close(got[row][:, ~beyond], before[row][:, ~beyond], rtol=0, atol=1e-7)
    assert bool(made.magnification.isnan().all())
    assert bool(made.src_mag.isnan().all())


@pytest.mark.parametrize("phi", [0.0, 0.6, math.pi / 2])
def test_a_track_is_sharp_and_holds_its_flux(phi: float) -> None:
    rows = one(
        "artefact", part(Form.TRACK, 1, 2.0, 0.15, x=0.5, y=1.0, phi=phi, share=7.0, layer=1)
    )
    got, before, _ = painted(rows, NOISY)
    added = (got - before).double()
    torch.testing.assert_close(added[:, 1].sum((1, 2)), torch.full((3,), 7.0).double(), rtol=1e-2,
                               atol=0)  # fmt: skip
    assert torch.equal(got[:, [0, 2]], before[:, [0, 2]])
    # sharper than any PSF: 16 px long, and no more than four wide above a twentieth of its peak
    lit = (added[:, 1] > 0.05 * added[:, 1].amax((1, 2))[:, None, None]).sum((1, 2))
    assert bool((lit < 17 * 4).all())
    held, _, _ = painted(with_column(rows, "light_scale_max", 0.25), NOISY)
    torch.testing.assert_close(
        (held - before)[:, 1].double(), 0.25 * added[:, 1], rtol=0, atol=1e-5
    )


def test_what_is_done_to_pixels_has_no_photon_noise() -> None:
    track = part(Form.TRACK, 1, 2.0, 0.15, share=50.0, layer=-1)
    spoilt = one("artefact", track, part(Form.SHIFT, 1, 0.4, 0.2, layer=0))
    assert torch.equal(painted(spoilt, NOISY)[0], painted(spoilt, QUIET)[0])
    lit = one("artefact", part(Form.LINE, 1, 4.0, 0.3))
    assert not torch.equal(painted(lit, NOISY)[0], painted(lit, QUIET)[0])


def test_all_kinds_together_are_what_each_is_alone() -> None:
    rows = rows_of(2)
    order = np.random.default_rng(2).permutation(rows.num_rows)
    hosts = hosts_of(rows)
    images = pixels.decode(hosts["pixels"], hosts.field("pixels")).copy()
    whole = injection.paint_rows(rows, hosts, images, camera=NOISY, seed=1).pixels
    mixed = injection.paint_rows(
        rows.take(pa.array(order)), hosts.take(pa.array(order)), images[order], camera=NOISY, seed=1
    ).pixels
    worst = (mixed - whole[order]).abs().amax((1, 2, 3))
    assert bool((worst <= 1e-5 * whole[order].amax((1, 2, 3))).all())
    for row in (0, rows.num_rows - 1):
        alone = injection.paint_rows(
            rows.slice(row, 1), hosts.slice(row, 1), images[row : row + 1], camera=NOISY, seed=1
        ).pixels[0]
        assert float((alone - whole[row]).abs().max()) <= 1e-5 * float(whole[row].max())
