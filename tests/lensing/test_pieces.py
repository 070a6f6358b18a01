"""Counterfactuals of a lens's own source: what they share with it, and what no lens explains."""

import numpy as np
import pytest
from manifest_builders import SHAPES, config

from darkhaloscope.lensing import pieces
from darkhaloscope.lensing.isothermal import misfit_arcsec
from darkhaloscope.lensing.morphology import Drawn, Draws, Places
from darkhaloscope.lensing.parts import FORM, OWN, PHI, SHARE, Form, X, Y

N = 1500
ASKED = config().shapes


def lenses() -> tuple[np.ndarray, np.ndarray, np.ndarray, Places]:
    """Einstein radii, source places, and what is seen of the hosts."""
    rng = np.random.default_rng(1)
    theta_e = rng.uniform(0.5, 2.5, N)
    beta, angle = theta_e * 0.6 * np.sqrt(rng.uniform(size=N)), rng.uniform(0, 2 * np.pi, N)
    hosts = Places(light_phi=rng.uniform(0, np.pi, N), psf_fwhm_r=np.ones(N))
    return theta_e, beta * np.cos(angle), beta * np.sin(angle), hosts


def drawn(kind: str, n: int = N, **changes: object) -> Drawn:
    theta_e, x, y, hosts = lenses()
    theta_e, x, y = theta_e[:n], x[:n], y[:n]
    hosts = Places(hosts.light_phi[:n], hosts.psf_fwhm_r[:n])
    shapes = ASKED.model_validate({**SHAPES, kind: {**SHAPES[kind], **changes}})
    draw = Draws(np.arange(n), kind, seed=3)
    if kind == "scrambled":
        return pieces.scrambled(draw, theta_e, x, y, shapes.scrambled, hosts)
    maker = {"companion": pieces.companion, "radial_arc": pieces.radial_arc}[kind]
    return maker(draw, theta_e, x, y, getattr(shapes, kind))


def places(made: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Where the pieces are, NaN for absent ones, (n, 3)."""
    there = made.parts[..., FORM] == Form.PIECE
    return tuple(np.where(there, made.parts[..., c], np.nan).astype(float) for c in (X, Y))


def variant_of(made: Drawn) -> np.ndarray:
    return np.array(made.variants)[made.variant]


@pytest.mark.parametrize("kind", ["companion", "radial_arc", "scrambled"])
def test_there_are_as_many_pieces_as_the_variant_says_and_they_share_the_light(kind: str) -> None:
    made = drawn(kind)
    counts = (made.parts[..., FORM] == Form.PIECE).sum(1)
    number = np.array([{"one": 1, "two": 2, "three": 3}[name] for name in variant_of(made)])
    lacks = kind != "scrambled"  # the second image of a source outside theta_E, which has no light
    assert (counts <= number).all()
    assert (counts == number).mean() == 1 or lacks
    np.testing.assert_allclose(made.parts[..., SHARE].sum(1), 1, rtol=1e-5)
    shares = {name: (variant_of(made) == name).mean() for name in made.variants}
    for name, share in SHAPES[kind]["variants"].items():
        assert shares[name] == pytest.approx(share, abs=4 * np.sqrt(share / N))


@pytest.mark.parametrize("kind", ["companion", "radial_arc"])
def test_two_pieces_have_the_radii_and_the_shares_of_a_round_lenss_images(kind: str) -> None:
    made = drawn(kind, variants={"one": 0.0, "two": 1.0, "three": 0.0})
    theta_e, src_x, src_y, _ = lenses()
    beta = np.hypot(src_x, src_y)
    x, y = places(made)
    radius = np.hypot(x, y)
    np.testing.assert_allclose(radius[:, 0], theta_e + beta, rtol=1e-5)
    np.testing.assert_allclose(radius[:, 1], theta_e - beta, rtol=1e-4)
    magnified = theta_e / beta + 1, theta_e / beta - 1
    np.testing.assert_allclose(made.parts[:, 1, SHARE], magnified[1] / sum(magnified), rtol=1e-4)
    np.testing.assert_allclose(made.radius, theta_e + beta, rtol=1e-5)
    assert (np.hypot(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1]) > 0.1).all()
    turn = np.degrees(np.abs(np.arctan2(y[:, 0], x[:, 0]) - np.arctan2(y[:, 1], x[:, 1])))
    turn = np.minimum(turn, 360 - turn)
    low, high = (SHAPES[kind]["turn_deg"][end] for end in ("low", "high"))
    assert low - 1e-3 <= turn.min()
    assert turn.max() <= high + 1e-3


def test_one_companion_stands_at_either_image_by_its_light() -> None:
    made = drawn("companion", variants={"one": 1.0, "two": 0.0, "three": 0.0})
    theta_e, src_x, src_y, _ = lenses()
    beta = np.hypot(src_x, src_y)
    is_outer = np.isclose(made.radius, theta_e + beta, rtol=1e-5)
    np.testing.assert_allclose(made.radius[~is_outer], (theta_e - beta)[~is_outer], rtol=1e-4)
    expected = ((theta_e + beta) / (2 * theta_e)).mean()
    assert is_outer.mean() == pytest.approx(expected, abs=4 * np.sqrt(0.25 / N))


def test_companions_are_not_stretched_and_radial_arcs_point_at_the_host() -> None:
    assert not drawn("companion").parts[..., OWN].any()
    made = drawn("radial_arc")
    there = made.parts[..., FORM] == Form.PIECE
    shear = made.parts[..., OWN][there]
    assert (shear.min(), shear.max()) == pytest.approx((0.3, 0.6), abs=0.01)
    off = made.parts[..., PHI] - np.arctan2(made.parts[..., Y], made.parts[..., X])
    np.testing.assert_allclose(np.sin(off[there]), 0, atol=1e-4)


def test_scrambled_pieces_are_turned_from_the_tangent_and_at_unequal_radii() -> None:
    made = drawn("scrambled")
    x, y = places(made)
    there = np.isfinite(x)
    tangent = np.arctan2(y, x) + np.pi / 2
    off = np.degrees(np.abs((made.parts[..., PHI] - tangent + np.pi / 2) % np.pi - np.pi / 2))
    assert off[there].min() >= 45 - 1e-3
    radius = np.hypot(x, y)
    ratio = radius[:, 1] / radius[:, 0]
    assert 0.35 - 1e-4 <= ratio.min() <= ratio.max() <= 0.6 + 1e-4


def test_no_isothermal_lens_along_the_hosts_axis_has_its_images_at_scrambled_pieces() -> None:
    made = drawn("scrambled")
    x, y = places(made)
    assert misfit_arcsec(x, y, lenses()[3].light_phi).min() > 0.3


def test_few_scrambled_arcs_are_scaled_up_and_those_are_small() -> None:
    made = drawn("scrambled")
    theta_e, src_x, src_y, _ = lenses()
    scale = made.radius / (theta_e + np.hypot(src_x, src_y))
    is_scaled = scale > 1 + 1e-6
    assert scale.min() == pytest.approx(1, abs=1e-6)
    assert 0 < is_scaled.mean() < 0.15
    assert scale.max() < 3.5
    assert np.median(theta_e[is_scaled]) < 0.5 * np.median(theta_e)


@pytest.mark.parametrize("kind", ["companion", "radial_arc", "scrambled"])
def test_pieces_belong_to_their_row(kind: str) -> None:
    np.testing.assert_array_equal(drawn(kind, 40).parts, drawn(kind, 1500).parts[:40])
