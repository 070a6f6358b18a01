"""Parts of look-alikes: form, flux, layers, and what may not be a negative."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.modeling.models import Sersic2D
from lensing_builders import GRID, SCALE
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import dblquad, quad
from scipy.special import erf
from torch import Tensor

from darkhaloscope.lensing.blur import Frame
from darkhaloscope.lensing.contaminants import Parts, require_no_arc
from darkhaloscope.lensing.parts import LAYER, SHARE, Form, part
from darkhaloscope.lensing.psf import moffat_from_psfsize
from darkhaloscope.lensing.render import (
    DEFAULT,
    REFERENCE,
    Cut,
    Lens,
    Painted,
    Sersic,
    paint,
    render_cut,
    render_lensed,
)

PSF = moffat_from_psfsize(torch.tensor([[1.2, 1.1]]), torch.tensor([[2.8, 2.8]]))
FRAME = Frame.around(GRID, DEFAULT.margin_px)
CELL = SCALE / 2
FINELY = replace(REFERENCE, margin_px=DEFAULT.margin_px)
F8 = NDArray[np.float64]


def place(n: int) -> dict[str, Tensor | object]:
    zero = torch.zeros(n)
    return {"psf": PSF, "centre_x": zero, "centre_y": zero, "grid": GRID}


def parts(*rows: F8 | NDArray[np.float32], second: ArrayLike | None = None) -> Parts:
    """Look-alikes of some parts each; the second layer's share of two bands."""
    share = None if second is None else torch.tensor(np.asarray(second, np.float32))
    return Parts.of(torch.from_numpy(np.stack(rows, 1).astype(np.float32)), share)


def drawn(*rows: NDArray[np.float32], finer: int = 4) -> F8:
    """Share of light of one look-alike in each fine cell, float64, (cells, cells)."""
    values = torch.from_numpy(np.stack(rows, 1)).double()
    zero = torch.zeros(1, dtype=torch.float64)
    return Parts.of(values).sampled(x0=zero, y0=zero, frame=FRAME, finer=finer)[0, 0].numpy()


def cells() -> tuple[F8, F8]:
    """Midpoints of the fine cells, arcsec."""
    axis = FRAME.centres_px(FRAME.fine_px, torch.zeros(1, dtype=torch.float64)).numpy() * SCALE
    return np.meshgrid(axis, axis)


def over_cells(brightness: Callable[[F8, F8], F8], finer: int = 8) -> F8:
    """Share of light in each fine cell by plain summing over many points of it."""
    x, y = cells()
    at = ((np.arange(finer) + 0.5) / finer - 0.5) * CELL
    light = sum(brightness(x + right, y + up) for right in at for up in at)
    return np.asarray(light / light.sum())


def off(got: F8, expected: F8) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


BLOB = part(Form.BLOB, 1, 1.1, 0.6, 1.3, phi=0.7, x=0.4, y=-0.3)
RING = part(Form.RING, 1, 2.5, 0.3, 0.7, 0.6, 3, 0.4, phi=1.1, x=0.2)
ARMS = part(Form.ARMS, 1, 1.0, 0.25, 0.8, 2, 0.4, 2.0, 0.3, phi=0.5)
TAIL = part(Form.ARC, 1, 3.0, 0.35, 0.6, 0.4, phi=2.0)
SHELL = part(Form.ARC, 1, 4.0, 0.5, 0.5, 0, 1, phi=-1.0)
LINE = part(Form.LINE, 1, 3.0, 0.2, phi=0.6, y=1.0)
FORMS = {
    "blob": BLOB, "ring": RING, "arms": ARMS, "tail": TAIL, "shell": SHELL, "line": LINE,
}  # fmt: skip


# Each form against an evaluation that shares no code


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("r_eff", "q"), [(1.1, 0.6), (0.3, 0.9)])
def test_a_blob_is_astropys_sersic_profile(n: float, r_eff: float, q: float) -> None:
    # astropy's r_eff is the major axis, ours sqrt(ab)
    law = Sersic2D(1, r_eff / math.sqrt(q), n, 0.4, -0.3, 1 - q, 0.7)
    expected = over_cells(law, finer=24)
    for finer in (1, 4):
        got = drawn(part(Form.BLOB, 1, r_eff, q, n, phi=0.7, x=0.4, y=-0.3), finer=finer)
        blurred = [_blurred(image) for image in (got, expected)]
        assert off(*blurred) < 3e-3


def _blurred(image: F8, fwhm: float = 0.8) -> F8:
    """Convolved with a Gaussian, as what lies within a cell is seen only through a PSF."""
    freq = np.fft.fftfreq(len(image), CELL)
    transfer = np.exp(-2 * (np.pi * fwhm / 2.3548 * freq) ** 2)
    transfer = transfer[:, None] * transfer
    return np.asarray(np.fft.ifft2(np.fft.fft2(image) * transfer).real)


@pytest.mark.parametrize("r_eff", [0.01, 0.05])
@pytest.mark.parametrize("at", [(0.0, 0.0), (0.031, -0.05), (0.0655, 0.0655)])
def test_a_point_stands_where_it_is_to_the_hundredth_of_a_pixel(
    r_eff: float, at: tuple[float, float]
) -> None:
    got = drawn(part(Form.BLOB, 1, r_eff, 1, 0.5, x=at[0], y=at[1]), finer=1)
    x, y = cells()
    assert float((got * x).sum()) == pytest.approx(at[0], abs=0.01 * SCALE)
    assert float((got * y).sum()) == pytest.approx(at[1], abs=0.01 * SCALE)
    # as wide as the source and the box of a cell, which the blur divides out
    variance = float((got * (x - at[0]) ** 2).sum())
    expected = CELL**2 / 12 + (r_eff / 1.1774) ** 2
    assert variance == pytest.approx(expected, abs=CELL**2 / 80)  # to the width of a piece


def test_a_dust_lane_takes_its_share_along_the_major_axis() -> None:
    depth, lane = 0.8, 0.3
    clear = drawn(part(Form.BLOB, 1, 1.5, 0.3, 1, phi=0.4))
    dusty = drawn(part(Form.BLOB, 1, 1.5, 0.3, 1, depth, lane, phi=0.4))
    x, y = cells()
    v = np.cos(0.4) * y - np.sin(0.4) * x
    left = clear * (1 - depth * np.exp(-0.5 * (v / lane) ** 2))
    assert off(dusty, left / left.sum()) < 1e-2
    u = np.cos(0.4) * x + np.sin(0.4) * y
    on, beside = (dusty[np.hypot(u - 1, v - at) < 0.15].mean() for at in (0.0, 0.35))
    assert on < beside


def test_a_warp_bends_a_disc_the_other_way_at_either_end() -> None:
    got = drawn(part(Form.BLOB, 1, 2.0, 0.15, 1, 0, 0, 0.2))
    x, y = cells()
    right, left = np.abs(x - 3) < 0.2, np.abs(x + 3) < 0.2
    height = [float((got * y)[where].sum() / got[where].sum()) for where in (right, left)]
    assert height[0] == pytest.approx(0.2 * 9 / 2, rel=0.05)
    assert height[1] == pytest.approx(-0.2 * 9 / 2, rel=0.05)


def test_a_rings_total_is_its_closed_form() -> None:
    # in elliptical radius the area element is that of a circle: 2 pi R dR
    radius, sigma = 2.0, 0.3
    through, _ = quad(lambda r: r * math.exp(-0.5 * ((r - radius) / sigma) ** 2), 0, 8)
    z = radius / (sigma * math.sqrt(2))
    closed = sigma**2 * math.exp(-(z**2)) + radius * sigma * math.sqrt(math.pi / 2) * (1 + erf(z))
    assert closed == pytest.approx(through, rel=1e-9)
    crest = 1 / (2 * math.pi * closed)  # brightness of the crest for a flux of 1, per arcsec^2
    # the mean over a cell is lower, as the crest is convex
    for q in (1.0, 0.5):
        got = drawn(part(Form.RING, 1, radius, sigma, q))
        mean = crest * (1 - (CELL / sigma) ** 2 / 24)
        assert got.max() / CELL**2 == pytest.approx(mean, rel=5e-3)


def test_a_ring_has_its_lobes_where_they_are_asked_for() -> None:
    def ring(x: F8, y: F8) -> F8:
        x = x - 0.2
        u, v = (
            np.cos(1.1) * x + np.sin(1.1) * y,
            np.cos(1.1) * y - np.sin(1.1) * x,
        )
        light = np.exp(-0.5 * ((np.sqrt(0.7 * u**2 + v**2 / 0.7) - 2.5) / 0.3) ** 2)
        return np.asarray(light * (1 + 0.6 * np.cos(3 * (np.arctan2(y, x) - 0.4))))

    assert off(drawn(RING, finer=1), over_cells(ring)) < 2e-3


@pytest.mark.parametrize("pitch", [0.4, -0.25])
@pytest.mark.parametrize("arms", [1, 3])
def test_arms_are_those_of_a_logarithmic_spiral(pitch: float, arms: int) -> None:
    own = part(Form.ARMS, 1, 1.0, 0.25, 0.8, arms, pitch, 2.0, 0.3, phi=0.5)

    def spiral(x: F8, y: F8) -> F8:
        u, v = np.cos(0.5) * x + np.sin(0.5) * y, np.cos(0.5) * y - np.sin(0.5) * x
        z = math.sqrt(0.8) * u + 1j * v / math.sqrt(0.8)
        at = np.maximum(np.abs(z), 1e-6)
        begin = np.log(at / 1.0) / math.tan(pitch) + 0.3
        gaps = [np.angle(z * np.exp(-1j * (begin + 2 * np.pi * k / arms))) for k in range(arms)]
        nearest = np.min(np.abs(gaps), axis=0)
        across = at * nearest * math.sin(pitch) / 0.25
        begun = 1 / (1 + np.exp(-(at - 1.0) / 0.1))
        return np.asarray(begun * np.exp(-1.67835 * at / 2.0 - 0.5 * across**2))

    assert off(_blurred(drawn(own, finer=1)), _blurred(over_cells(spiral))) < 2e-3


def test_a_tail_winds_outwards_by_its_pitch() -> None:
    def tail(x: F8, y: F8) -> F8:
        along = np.angle((x + 1j * y) * np.exp(-2.0j))
        across = (np.hypot(x, y) - 3.0 * np.exp(along * math.tan(0.4))) * math.cos(0.4)
        return np.asarray(np.exp(-0.5 * (across / 0.35) ** 2 - 0.5 * (along / 0.6) ** 2))

    assert off(drawn(TAIL, finer=1), over_cells(tail)) < 2e-3


def test_a_shell_is_sharp_outwards_and_fades_inwards() -> None:
    def shell(x: F8, y: F8) -> F8:
        beyond = np.hypot(x, y) - 4.0
        along = np.angle((x + 1j * y) * np.exp(1.0j))
        profile = np.where(beyond > 0, 0, np.exp(np.minimum(beyond, 0) / 0.5))
        return np.asarray(profile * np.exp(-0.5 * (along / 0.5) ** 2))

    got, expected = drawn(SHELL, finer=1), over_cells(shell)
    assert off(_blurred(got), _blurred(expected)) < 3e-3
    x, y = cells()
    assert got[np.hypot(x, y) > 4.0 + CELL].sum() < 1e-6


@pytest.mark.parametrize("fades", [0, 1])
def test_a_line_ends_where_it_ends(fades: int) -> None:
    own = part(Form.LINE, 1, 3.0, 0.2, fades, phi=0.6, y=1.0)

    def line(x: F8, y: F8) -> F8:
        y = y - 1.0
        u, v = np.cos(0.6) * x + np.sin(0.6) * y, np.cos(0.6) * y - np.sin(0.6) * x
        along = np.maximum(1 - np.abs(u) / 3, 0) if fades else np.where(np.abs(u) < 3, 1.0, 0.0)
        return np.asarray(along * np.exp(-0.5 * (v / 0.2) ** 2))

    assert off(_blurred(drawn(own, finer=1)), _blurred(over_cells(line))) < 3e-3


def test_a_thin_line_is_even_along_itself() -> None:
    image = drawn(part(Form.LINE, 1, 8.0, 0.02, phi=0.35), finer=1)
    x, y = cells()
    u = np.cos(0.35) * x + np.sin(0.35) * y
    windows = [np.exp(-0.5 * ((u - at) / 0.4) ** 2) for at in np.arange(-5, 5.1, 0.33)]
    along = [(image * window).sum() for window in windows]
    assert np.std(along) / np.mean(along) < 2e-3


def test_a_blobs_share_of_light_in_the_frame_is_all_of_it() -> None:
    # a galaxy half outside: its share is of what is in the stamp and its margin
    edge = FRAME.padded_px / 2 * SCALE
    got = drawn(part(Form.BLOB, 1, 1.0, 1, 0.5, x=edge), part(Form.BLOB, 1, 0.5, 1, 1.0))
    x, _ = cells()
    assert float(got.sum()) == pytest.approx(1, rel=1e-9)
    assert float(got[x > 4].sum()) == pytest.approx(0.5, abs=0.01)


# Flux, layers, shares


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
@pytest.mark.parametrize("name", FORMS)
def test_a_part_has_the_flux_asked_for(name: str, kernel: str) -> None:
    shape = parts(np.repeat(FORMS[name], 3, 0))
    flux = torch.tensor([[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]])
    got: Painted = paint(shape, flux=flux, kernel=kernel, **place(3))  # type: ignore[arg-type]
    torch.testing.assert_close(got.pixels.sum((2, 3)), flux * got.inside, rtol=1e-4, atol=1e-6)
    assert float(got.inside.min()) > 0.95
    assert bool((got.pixels[1, 0] == 0).all())


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_shares_are_of_the_light_of_a_layer(kernel: str) -> None:
    left = part(Form.BLOB, 1, 0.3, 1, 1, x=-4.0, share=3.0)
    right = part(Form.BLOB, 1, 0.3, 1, 1, x=4.0, share=1.0)
    beyond = part(Form.BLOB, 1, 0.3, 1, 1, x=400.0, share=50.0)  # no light in the frame
    got = paint(parts(left, right, beyond), flux=torch.ones(1, 2), kernel=kernel, **place(1))  # type: ignore[arg-type]
    halves = got.pixels[0, 0, :, :32].sum(), got.pixels[0, 0, :, 32:].sum()
    assert float(halves[0] / halves[1]) == pytest.approx(3, rel=0.01)
    assert float(got.inside[0, 0]) > 0.99


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_two_layers_are_mixed_band_by_band(kernel: str) -> None:
    old, young = part(Form.BLOB, 1, 0.6, 0.7, 2), part(Form.RING, 1, 3.0, 0.3, 0.8, layer=1)
    flux = torch.tensor([[2.0, 5.0]])
    both = paint(parts(old, young, second=[[0.25, 1.0]]), flux=flux, kernel=kernel, **place(1))  # type: ignore[arg-type]
    apart = []
    for one in (old, young):
        alone = one.copy()
        alone[:, LAYER] = 0
        apart.append(paint(parts(alone), flux=flux, kernel=kernel, **place(1)).pixels[0])  # type: ignore[arg-type]
    expected = torch.stack([0.75 * apart[0][0] + 0.25 * apart[1][0], apart[1][1]])
    torch.testing.assert_close(both.pixels[0], expected, rtol=0, atol=2e-6 * float(flux.max()))


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_without_a_second_share_all_light_is_in_the_first_layer(kernel: str) -> None:
    young = part(Form.RING, 1, 3.0, 0.3, 0.8, layer=1)
    flux = torch.ones(1, 2)
    got = paint(parts(BLOB, young), flux=flux, kernel=kernel, **place(1))  # type: ignore[arg-type]
    alone = paint(parts(BLOB), flux=flux, kernel=kernel, **place(1))  # type: ignore[arg-type]
    assert torch.equal(got.pixels, alone.pixels)
    none = paint(parts(BLOB, young, second=[[0.0, 0.0]]), flux=flux, kernel=kernel, **place(1))  # type: ignore[arg-type]
    torch.testing.assert_close(none.pixels, alone.pixels, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_a_layer_that_needs_light_and_has_none_is_refused(kernel: str) -> None:
    beyond = part(Form.RING, 2, 0.5, 0.2, 1, layer=1, x=[0.0, 60.0])
    shape = parts(np.repeat(BLOB, 2, 0), beyond, second=[[0.5, 0.5], [0.5, 0.0]])
    with pytest.raises(ValueError, match="row 1 has flux in layer 1, where no part has light"):
        paint(shape, flux=torch.ones(2, 2), kernel=kernel, **place(2))  # type: ignore[arg-type]
    unlit = torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # no flux in the band that would need it
    assert bool(paint(shape, flux=unlit, kernel=kernel, **place(2)).pixels.isfinite().all())  # type: ignore[arg-type]


# Kernels, batches


def many(n: int = 48) -> Parts:
    """All forms mixed, up to five parts a row, in two layers."""
    rng = np.random.default_rng(5)

    def between(low: float, high: float) -> F8:
        return rng.uniform(low, high, n)

    phi = between(0, 2 * math.pi)
    lit = [
        part(Form.BLOB, n, between(0.05, 1.5), between(0.15, 1), between(0.5, 2),
             between(0, 0.9), between(0.1, 0.4), between(-0.1, 0.1), phi=phi,
             x=between(-3, 3), y=between(-3, 3)),
        part(Form.RING, n, between(0.8, 4), between(0.1, 0.6), between(0.4, 1), between(0, 1),
             np.floor(between(0, 4)), phi, layer=1),
        part(Form.ARMS, n, between(0.5, 1.5), between(0.15, 0.5), between(0.4, 1),
             np.floor(between(1, 5)), between(0.17, 0.6) * np.sign(between(-1, 1)),
             between(0.8, 4), phi, phi=phi[::-1], layer=1),
        part(Form.ARC, n, between(1, 5), between(0.1, 0.6), between(0.2, 0.8),
             between(-0.5, 0.5), np.floor(between(0, 2)), phi=phi),
        part(Form.LINE, n, between(1, 12), between(0.1, 0.4), np.floor(between(0, 2)), phi=phi,
             x=between(-2, 2)),
    ]  # fmt: skip
    values = np.stack(lit, 1)
    values[:, :, SHARE] = rng.uniform(0.2, 1, values.shape[:2])
    values[rng.random(values.shape[:2]) < 0.3] = 0  # Form.NONE
    values[:, 0], values[:, 1] = lit[0], lit[1]
    return Parts.of(torch.from_numpy(values), torch.from_numpy(rng.random((n, 2)).astype("f4")))


def at(n: int) -> dict[str, Tensor | object]:
    rng = np.random.default_rng(6)
    x, y = torch.from_numpy(rng.uniform(-0.5, 0.5, (2, n)).astype("f4"))
    flux = torch.from_numpy(rng.uniform(1, 9, (n, 2)).astype("f4"))
    return {**place(n), "centre_x": x, "centre_y": y, "flux": flux}


def test_the_compiled_loops_paint_what_torch_does() -> None:
    n = 48
    compiled = paint(many(n), kernel="compiled", **at(n))  # type: ignore[arg-type]
    plain = paint(many(n), kernel="torch", **at(n))  # type: ignore[arg-type]
    worst = (compiled.pixels - plain.pixels).abs().amax((2, 3)) / plain.pixels.amax((2, 3))
    assert float(worst.max()) < 1e-3
    torch.testing.assert_close(compiled.inside, plain.inside, rtol=2e-4, atol=0)


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_parts_are_painted_as_finely_sampled_ones_are(kernel: str) -> None:
    n = 12
    shape = many(n)
    got = paint(shape, kernel=kernel, **at(n)).pixels  # type: ignore[arg-type]
    finely = paint(shape, plan=FINELY, **at(n)).pixels  # type: ignore[arg-type]
    apart = (got - finely).square().sum((2, 3)).sqrt() / finely.square().sum((2, 3)).sqrt()
    assert float(apart.median()) < 1e-3
    assert float(apart.max()) < 1e-2  # a disc of 0.14 arcsec on edge is thinner than a cell


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_neither_batch_nor_order_changes_a_stamp(kernel: str) -> None:
    n = 40  # more than one piece
    shape, where = many(n), at(n)
    whole = paint(shape, kernel=kernel, **where).pixels  # type: ignore[arg-type]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    turned = {k: v[order] if isinstance(v, Tensor) else v for k, v in where.items()}
    got = paint(shape.rows(order), kernel=kernel, **turned).pixels  # type: ignore[arg-type]
    torch.testing.assert_close(got, whole[order], rtol=0, atol=1e-5 * float(whole.max()))
    one = {k: v[37:38] if isinstance(v, Tensor) else v for k, v in where.items()}
    alone = paint(shape.rows(slice(37, 38)), kernel=kernel, **one).pixels  # type: ignore[arg-type]
    torch.testing.assert_close(alone, whole[37:38], rtol=0, atol=1e-5 * float(alone.max()))


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
@pytest.mark.parametrize("places", [0, 3])
def test_no_rows_make_no_stamps(kernel: str, places: int) -> None:
    shape = Parts.of(torch.zeros(0, places, 13), torch.zeros(0, 2))
    got = paint(shape, flux=torch.ones(0, 2), kernel=kernel, **place(0))  # type: ignore[arg-type]
    assert got.pixels.shape == (0, 2, 64, 64)


@pytest.mark.gpu
def test_a_gpu_paints_what_the_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    n = 48
    shape, where = many(n), at(n)
    plain = paint(shape, **where).pixels  # type: ignore[arg-type]
    psf = moffat_from_psfsize(
        torch.tensor([[1.2, 1.1]], device="cuda"), torch.tensor([[2.8, 2.8]], device="cuda")
    )
    there = {k: v.to("cuda") if isinstance(v, Tensor) else v for k, v in where.items()}
    moved = Parts(shape.values.to("cuda"), shape.forms, shape.second_share.to("cuda"))  # type: ignore[union-attr]
    got = paint(moved, **{**there, "psf": psf}).pixels.cpu()  # type: ignore[arg-type]
    worst = (got - plain).abs().amax((2, 3)) / plain.amax((2, 3))
    assert float(worst.max()) < 2e-3


# Ranges


def test_a_thin_ring_of_an_arcs_colour_is_refused_as_a_negative() -> None:
    fwhm = torch.tensor([1.0, 1.0])
    thin = parts(part(Form.RING, 2, 1.8, 0.5, 1))  # FWHM 1.18 arcsec
    wide = parts(part(Form.RING, 2, 1.8, 0.7, 1))  # 1.65 arcsec
    of_arc, of_host = torch.tensor([True, False]), torch.tensor([True, True])
    with pytest.raises(ValueError, match=r"a thin ring of an arc's colour is a lens.* in row 1"):
        require_no_arc(thin, is_host_coloured=of_arc, psf_fwhm=fwhm)
    require_no_arc(thin, is_host_coloured=of_host, psf_fwhm=fwhm)
    require_no_arc(wide, is_host_coloured=of_arc, psf_fwhm=fwhm)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (part(Form.RING, 1, 0, 0.2, 1), "a ring's radius is > 0"),
        (part(Form.RING, 1, 1, 0.2, 1, 1.5), "a ring's contrast is from 0 to 1"),
        (part(Form.RING, 1, 1, 0.2, 1.1), "q is minor over major axis"),
        (part(Form.RING, 1, 1, math.nan, 1), "the numbers of a part are finite"),
        (part(Form.ARMS, 1, 1, 0.2, 1, 2, 0, 1), r"0 < \|pitch\| < pi/2"),
        (part(Form.ARMS, 1, 1, 0.2, 1, 9, 0.3, 1), "1 to 8 arms"),
        (part(Form.BLOB, 1, 1, 1, 4), "Sersic index is from 0.5 to 2"),
        (part(Form.BLOB, 1, 1, 1, 1, 0.5), "sigma of a dust lane"),
        (part(Form.BLOB, 1, 1, 1, 1, layer=2), "in layer 0 or 1"),
        (part(Form.BLOB, 1, 1, 1, 1, share=-1), "share is >= 0"),
        (part(Form.ARC, 1, 2, 0.2, 0), "sigma along itself is > 0"),
        (part(Form.LINE, 1, 0, 0.2), "a line's half length is > 0"),
        (part(Form.PIECE, 1, 1.0), "shear is a strength"),
        (part(Form.BLOB, 1, 1, 1, 1) + 20, "form of a part is from 0 to 9"),
    ],
)
def test_a_part_outside_its_range_is_refused(own: NDArray[np.float32], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parts(own)


def test_the_second_layers_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="second layer's share is within 0 and 1"):
        parts(BLOB, second=[[0.5, 1.2]])


def test_a_slice_of_a_ring_integrates_to_its_part_of_the_plane() -> None:
    # a ring with one lobe and full contrast: the brighter half holds 1/2 + 1/pi of the light
    got = drawn(part(Form.RING, 1, 2.0, 0.2, 1, 1, 1, 0.0))
    x, _ = cells()
    bright, _ = dblquad(lambda r, a: (1 + math.cos(a)) * r * math.exp(-0.5 * ((r - 2) / 0.2) ** 2),
                        -math.pi / 2, math.pi / 2, 0, 4)  # fmt: skip
    whole, _ = dblquad(lambda r, a: (1 + math.cos(a)) * r * math.exp(-0.5 * ((r - 2) / 0.2) ** 2),
                       -math.pi, math.pi, 0, 4)  # fmt: skip
    assert float(got[x > 0].sum()) == pytest.approx(bright / whole, rel=1e-4)
    assert bright / whole == pytest.approx(0.5 + 1 / math.pi, rel=1e-6)


# Sources in pieces


def cut_sources(n: int = 20) -> tuple[Sersic, Lens, Cut]:
    """Sources behind lenses, some in up to three sheared pieces, a few of which lie far out."""
    rng = np.random.default_rng(8)

    def between(low: float, high: float, count: int = n) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, count).astype("f4"))

    own = [between(low, high) for low, high in ((0.1, 0.5), (0.6, 3.5), (0.3, 1), (0, 3))]
    source = Sersic(between(-0.3, 0.3), between(-0.3, 0.3), *own)
    turn, shear = between(0, 3), between(0, 0.1)
    lens = Lens(between(0.8, 2), between(0.5, 1), turn, shear, turn)
    row = torch.from_numpy(np.repeat(np.arange(n), np.arange(n) % 4))
    k = len(row)
    x, y = between(-4, 4, k), between(-4, 4, k)
    x[::7] += 6.5
    pieces = Sersic(x, y, *[value[row] for value in own])
    none = torch.zeros(k)
    sheared = Lens(none, none + 1, none, between(0, 0.4, k), between(0, 3, k))
    return source, lens, Cut(pieces, sheared, row, between(0.2, 0.8, k))


def test_pieces_added_up_before_they_are_blurred_are_as_those_blurred_one_by_one() -> None:
    n = 20
    (source, lens, cut), rng = cut_sources(n), np.random.default_rng(9)
    psfsize = torch.from_numpy(rng.uniform(1.0, 1.6, (n, 2)).astype("f4"))
    psf = moffat_from_psfsize(psfsize, torch.full((n, 2), 2.8))
    x, y = torch.from_numpy(rng.uniform(-0.5, 0.5, (2, n)).astype("f4"))
    flux, row = torch.from_numpy(rng.uniform(1, 9, (n, 2)).astype("f4")), cut.row
    arcs, got = render_cut(
        source, lens, cut, flux=flux, psf=psf, centre_x=x, centre_y=y, grid=GRID, kernel="compiled"
    )
    whole = render_lensed(
        source, lens, flux=flux, psf=psf, centre_x=x, centre_y=y, grid=GRID, kernel="compiled"
    )
    apart = render_lensed(
        cut.source, cut.lens, flux=flux[row] * cut.weight[:, None], psf=psf.rows(row),
        centre_x=x[row], centre_y=y[row], grid=GRID, kernel="compiled",
    )  # fmt: skip
    is_cut = torch.isin(torch.arange(n), row)
    expected = torch.where(is_cut[:, None, None, None], 0, whole.pixels)
    expected.index_add_(0, row, apart.pixels)
    worst = (got.pixels - expected).abs().amax((2, 3)) / expected.amax((2, 3))
    # where one of a row's pieces lies far out, all have the wider margin that it needs
    has_far = torch.isin(torch.arange(n), row[::7])
    assert float(worst[~has_far].max()) < 1e-6
    assert float(worst[has_far].max()) < 1e-3
    torch.testing.assert_close(arcs.pixels, whole.pixels, rtol=0, atol=1e-6 * float(flux.max()))
    inside = torch.where(is_cut[:, None], 0, whole.inside)
    inside.index_add_(0, row, apart.inside * cut.weight[:, None])
    torch.testing.assert_close(got.inside, inside, rtol=2e-4, atol=1e-5)


def test_both_kernels_paint_the_same_pieces() -> None:
    n = 20
    compiled, plain = (
        render_cut(*cut_sources(n), kernel=kernel, **at(n))[1]  # type: ignore[arg-type]
        for kernel in ("compiled", "torch")
    )
    apart = (compiled.pixels - plain.pixels).square().sum((2, 3)).sqrt()
    assert float((apart / plain.pixels.square().sum((2, 3)).sqrt()).max()) < 2e-3


def test_an_arc_that_is_not_asked_for_has_its_magnification_all_the_same() -> None:
    n = 20
    seen, _ = render_cut(*cut_sources(n), kernel="compiled", **at(n))  # type: ignore[arg-type]
    none = torch.zeros(n, dtype=torch.bool)
    unseen, light = render_cut(*cut_sources(n), kernel="compiled", is_seen=none, **at(n))  # type: ignore[arg-type]
    torch.testing.assert_close(unseen.magnification, seen.magnification, rtol=1e-5, atol=0)
    _, asked = render_cut(*cut_sources(n), kernel="compiled", **at(n))  # type: ignore[arg-type]
    torch.testing.assert_close(light.pixels, asked.pixels, rtol=0, atol=0)
