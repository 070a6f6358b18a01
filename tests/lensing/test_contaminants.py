"""Rings, arms and companions: flux, symmetry, and what may not be a negative."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from lensing_builders import GRID, SCALE, sersic, uniform
from torch import Tensor

from darkhaloscope.lensing.contaminants import Ring, Spiral, companion, halo_ring
from darkhaloscope.lensing.psf import moffat_from_psfsize
from darkhaloscope.lensing.render import (
    DEFAULT,
    REFERENCE,
    Lens,
    Painted,
    paint,
    render_lensed,
)

PSF = moffat_from_psfsize(torch.tensor([[1.2, 1.1]]), torch.tensor([[2.8, 2.8]]))
WIDE = replace(DEFAULT, margin_px=64, far_margin_px=64)


def place(n: int) -> dict[str, object]:
    zero = torch.zeros(n)
    return {"psf": PSF, "centre_x": zero, "centre_y": zero, "grid": GRID}


def rings(n: int, **values: float) -> Ring:
    fields = {"radius": 1.8, "sigma": 0.2, "q": 1.0, "phi": 0.0}
    fields |= {"contrast": 0.0, "lobes": 0.0, "lobe_phi": 0.0} | values
    return Ring(**{name: torch.full((n,), value) for name, value in fields.items()})


def spirals(n: int, **values: float) -> Spiral:
    fields = {"radius": 1.0, "sigma": 0.2, "r_eff": 2.0, "n_arms": 2.0, "pitch": 0.4}
    fields |= {"q": 1.0, "phi": 0.0, "arm_phi": 0.0} | values
    return Spiral(**{name: torch.full((n,), value) for name, value in fields.items()})


def about_centre(image: Tensor, turns: float) -> Tensor:
    """The part of an image (y, x) that a turn by 2 pi / turns leaves alone, by its moments."""
    axis = (torch.arange(64) - 31.5) * SCALE
    angle, radius = torch.atan2(axis[:, None], axis), torch.hypot(axis[:, None], axis)
    inside = image * (radius < 6)
    return (
        (inside * torch.cos(turns * angle)).sum() ** 2
        + (inside * torch.sin(turns * angle)).sum() ** 2
    ).sqrt() / inside.sum()


@pytest.mark.parametrize("shapes", [rings, spirals])
def test_a_shape_has_the_flux_asked_for(shapes: Callable[..., Ring | Spiral]) -> None:
    shape = shapes(3, q=0.7)
    flux = torch.tensor([[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]])
    got: Painted = paint(shape, flux=flux, **place(3))
    torch.testing.assert_close(got.pixels.sum((2, 3)), flux * got.inside, rtol=1e-4, atol=1e-6)
    assert float(got.inside.min()) > 0.98
    assert bool((got.pixels[1, 0] == 0).all())


def test_a_ring_is_brightest_at_its_radius() -> None:
    got = paint(rings(1, radius=2.5), flux=torch.ones(1, 2), **place(1)).pixels[0, 0]
    profile = (got[31] + got[32])[32:]
    assert abs((float(profile.argmax()) + 0.5) * SCALE - 2.5) < SCALE
    assert float(profile[0]) < 0.1 * float(profile.max())


def test_an_even_ring_is_round_and_lobes_are_counted() -> None:
    flux = torch.ones(1, 2)
    even = paint(rings(1), flux=flux, **place(1)).pixels[0, 0]
    lobed = paint(rings(1, contrast=0.8, lobes=3.0), flux=flux, **place(1)).pixels[0, 0]
    assert float(about_centre(even, 3)) < 1e-3
    assert float(about_centre(lobed, 3)) > 0.1
    assert float(about_centre(lobed, 2)) < 1e-3


@pytest.mark.parametrize("n_arms", [2.0, 3.0, 4.0])
def test_a_spiral_has_as_many_arms_as_asked_for(n_arms: float) -> None:
    got = paint(spirals(1, n_arms=n_arms), flux=torch.ones(1, 2), **place(1)).pixels[0, 1]
    strength = {arms: float(about_centre(got, arms)) for arms in (1, 2, 3, 4)}
    assert max(strength, key=strength.__getitem__) == n_arms


def test_a_negative_pitch_winds_the_other_way() -> None:
    flux = torch.ones(1, 2)
    left = paint(spirals(1), flux=flux, **place(1)).pixels
    right = paint(spirals(1, pitch=-0.4), flux=flux, **place(1)).pixels
    torch.testing.assert_close(left.flip(-2), right, rtol=0, atol=1e-4 * float(left.max()))
    assert float((left - right).abs().max()) > 0.1 * float(left.max())


def test_a_companion_is_the_source_without_a_lens() -> None:
    source = sersic(2, dtype=torch.float32, x=1.2, y=-0.8, q=0.6, phi=0.7)
    got = companion(source, flux=torch.ones(2, 2), **place(2))
    at = (torch.arange(64) - 31.5) * SCALE
    image = got.pixels[0, 0]
    assert float((image.sum(0) * at).sum() / image.sum()) == pytest.approx(1.2, abs=0.02)
    assert float((image.sum(1) * at).sum() / image.sum()) == pytest.approx(-0.8, abs=0.02)
    assert got.magnification.tolist() == [1.0, 1.0]


def test_thin_rings_are_sampled_well_enough() -> None:
    n = 6
    shape = Ring.even(
        radius=uniform(n, "radius", 0.8, 3, torch.float32),
        sigma=uniform(n, "sigma", 0.05, 0.3, torch.float32),
        q=uniform(n, "q", 0.5, 1, torch.float32),
        phi=uniform(n, "phi", 0, 3, torch.float32),
    )
    flux = torch.ones(n, 2)
    fine = paint(shape, flux=flux, **place(n), plan=REFERENCE).pixels
    off = ((paint(shape, flux=flux, **place(n)).pixels - fine) ** 2).sum((2, 3)) / (fine**2).sum(
        (2, 3)
    )
    assert float(off.max()) ** 0.5 < 0.01


def test_painting_in_pieces_changes_nothing() -> None:
    n = 40  # more than one piece
    shape = spirals(n, q=0.8)
    got = paint(shape, flux=torch.ones(n, 2), **place(n)).pixels
    alone = paint(shape.rows(slice(37, 38)), flux=torch.ones(1, 2), **place(1)).pixels
    torch.testing.assert_close(got[37:38], alone, rtol=0, atol=1e-5 * float(alone.max()))


def test_a_thin_ring_of_an_arcs_colour_is_refused_as_a_negative() -> None:
    flux, fwhm = torch.ones(2, 2), torch.tensor([1.0, 1.0])
    thin, wide = rings(2, sigma=0.5), rings(2, sigma=0.7)  # FWHM 1.18 and 1.65 arcsec
    of_arc, of_host = torch.tensor([True, False]), torch.tensor([True, True])
    with pytest.raises(ValueError, match=r"a thin ring of an arc's colour is a lens.* in row 1"):
        halo_ring(thin, is_host_coloured=of_arc, psf_fwhm=fwhm, flux=flux, **place(2))
    for shape, colour in ((wide, of_arc), (thin, of_host)):
        got = halo_ring(shape, is_host_coloured=colour, psf_fwhm=fwhm, flux=flux, **place(2))
        assert bool(got.pixels.isfinite().all())


def test_a_companion_far_outside_adds_next_to_nothing() -> None:
    source = sersic(1, dtype=torch.float32, x=30.0)
    got = render_lensed(source, Lens.none(source.x), flux=torch.ones(1, 2), **place(1), plan=WIDE)
    assert float(got.pixels.sum()) < 2e-3
    assert bool(got.pixels.isfinite().all())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rings(1, radius=0.0), "a ring's radius is > 0"),
        (lambda: rings(1, contrast=1.5), "a ring's contrast is from 0 to 1"),
        (lambda: rings(1, q=1.1), "q is minor over major axis"),
        (lambda: spirals(1, sigma=math.nan), "a spiral's sigma is > 0"),
        (lambda: spirals(1, pitch=0.0), r"0 < \|pitch\| < pi/2"),
        (lambda: spirals(1, n_arms=0.0), "a spiral has 1 to 8 arms"),
    ],
)
def test_a_shape_outside_its_range_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("shapes", [rings, spirals])
def test_no_rows_make_no_stamps(shapes: Callable[..., Ring | Spiral]) -> None:
    shape = shapes(0)
    got: Painted = paint(shape, flux=torch.ones(0, 2), **place(0))
    assert got.pixels.shape == (0, 2, 64, 64)


def named(stream: str, n: int, low: float, high: float) -> Tensor:
    return uniform(n, stream, low, high, torch.float32)


@pytest.mark.parametrize("what", ["ring", "spiral"])
def test_the_compiled_loops_paint_what_torch_does(what: str) -> None:
    n = 40
    q, phi = named("q", n, 0.4, 1), named("phi", n, 0, math.pi)
    sigma = named("sigma", n, 0.18, 0.8)
    shapes = {
        "ring": Ring.even(radius=named("radius", n, 0.8, 4), sigma=sigma, q=q, phi=phi),
        "spiral": Spiral(
            radius=named("radius", n, 0.5, 1.5),
            sigma=sigma,
            r_eff=named("r_eff", n, 0.8, 4),
            n_arms=named("arms", n, 1, 5).floor(),
            pitch=named("pitch", n, 0.17, 0.6) * named("sense", n, -1, 1).sign(),
            q=q,
            phi=phi,
            arm_phi=named("arm_phi", n, 0, 2 * math.pi),
        ),
    }
    at = {
        **place(n),
        "centre_x": named("x", n, -0.5, 0.5),
        "centre_y": named("y", n, -0.5, 0.5),
        "flux": torch.tensor([[2.0, 3.0]]).expand(n, 2),
    }
    compiled = paint(shapes[what], kernel="compiled", **at)  # type: ignore[arg-type]
    plain = paint(shapes[what], kernel="torch", **at)  # type: ignore[arg-type]
    worst = (compiled.pixels - plain.pixels).abs().amax((2, 3)) / plain.pixels.amax((2, 3))
    assert float(worst.max()) < 1e-4
    torch.testing.assert_close(compiled.inside, plain.inside, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_arms_are_painted_as_finely_sampled_ones_are(kernel: str) -> None:
    shape, at = spirals(1, radius=0.6, sigma=0.25, pitch=0.5), place(1)
    flux = torch.ones(1, 2)
    got = paint(shape, kernel=kernel, flux=flux, **at).pixels  # type: ignore[arg-type]
    finely = paint(shape, plan=replace(REFERENCE, margin_px=8), flux=flux, **at).pixels  # type: ignore[arg-type]
    assert float((got - finely).norm() / finely.norm()) < 2e-3


def test_a_ring_brighter_on_one_side_is_none_of_the_compiled_shapes() -> None:
    assert rings(1, contrast=0.5, lobes=1.0).packed() is None
