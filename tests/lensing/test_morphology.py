"""Parts of painted look-alikes: what is drawn keeps its ranges, its row, and makes no lens."""

from typing import Any

import numpy as np
import pytest
from manifest_builders import SHAPES, config

from darkhaloscope.lensing import (
    morphology,
    morphology_artefacts,
    morphology_discs,
    morphology_mixed,
)
from darkhaloscope.lensing.morphology import OLD, YOUNG, Drawn, Draws, Places
from darkhaloscope.lensing.parts import (
    FORM,
    LAYER,
    MOST_PARTS,
    ON_PIXELS,
    OWN,
    PART,
    PHI,
    SHARE,
    Form,
    X,
    Y,
)

N = 2000
GALAXIES = {
    "ring": morphology_discs.ring,
    "spiral": morphology_discs.spiral,
    "edge_on": morphology_discs.edge_on,
    "merger": morphology_mixed.merger,
    "agn_jet": morphology_mixed.agn_jet,
    "halo_ring": morphology_mixed.halo_ring,
}
KINDS = (*GALAXIES, "artefact")
PLACES = Places(light_phi=np.linspace(0, np.pi, N), psf_fwhm_r=np.linspace(0.8, 1.4, N))
FLUX = np.array([0.5, 1.0, 2.0]) * np.ones((N, 1))


def drawn(kind: str, n: int = N, **changes: Any) -> Drawn:
    shapes = config().shapes.model_validate({**SHAPES, kind: {**SHAPES[kind], **changes}})
    asked = getattr(shapes, kind)
    draw = Draws(np.arange(n), kind, seed=5)
    if kind == "artefact":
        return morphology_artefacts.artefact(draw, FLUX[:n], asked)
    places = Places(PLACES.light_phi[:n], PLACES.psf_fwhm_r[:n])
    return GALAXIES[kind](draw, places, asked)


def only(kind: str, variant: str, **changes: Any) -> Drawn:
    """Look-alikes of one variant alone."""
    shares = {name: float(name == variant) for name in SHAPES[kind]["variants"]}
    return drawn(kind, variants=shares, **changes)


def of_form(made: Drawn, form: Form) -> np.ndarray:
    """All parts of a form, (m, PART)."""
    return made.parts[made.parts[..., FORM] == form]


@pytest.mark.parametrize("kind", KINDS)
def test_every_look_alike_has_finite_parts_and_not_too_many(kind: str) -> None:
    made = drawn(kind)
    assert made.parts.shape[2] == PART
    assert np.isfinite(made.parts).all()
    counts = (made.parts[..., FORM] != Form.NONE).sum(1)
    assert 1 <= counts.min() <= counts.max() <= MOST_PARTS
    assert (made.parts[..., SHARE] >= 0).all()
    assert np.isfinite(made.radius[variant_of(made) != "misregistered"]).all()


def variant_of(made: Drawn) -> np.ndarray:
    return np.array(made.variants)[made.variant]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_belong_to_their_row(kind: str) -> None:
    np.testing.assert_array_equal(drawn(kind, 30).parts, drawn(kind).parts[:30])


@pytest.mark.parametrize("kind", KINDS)
def test_variants_come_in_their_shares(kind: str) -> None:
    names = variant_of(drawn(kind))
    for name, share in SHAPES[kind]["variants"].items():
        assert (names == name).mean() == pytest.approx(share, abs=4 * np.sqrt(share / N))


@pytest.mark.parametrize("kind", GALAXIES)
def test_a_layer_that_has_light_has_parts_to_hold_it(kind: str) -> None:
    made = drawn(kind)
    for layer, share in ((OLD, 1 - made.young_share_r), (YOUNG, made.young_share_r)):
        lit = (made.parts[..., LAYER] == layer) * made.parts[..., SHARE]
        lit = np.where(made.parts[..., FORM] != Form.NONE, lit, 0).sum(1)
        assert (lit[share > 1e-6] > 0).all()


def test_a_ring_is_flat_wide_or_off_the_centre() -> None:
    made, names = drawn("ring"), variant_of(drawn("ring"))
    ring = of_form(made, Form.RING)
    off = np.hypot(ring[:, X], ring[:, Y]) / ring[:, OWN]
    assert (off[names == "collisional"] >= 0.2 - 1e-5).all()
    assert not off[names != "collisional"].any()
    assert ring[:, OWN + 2].max() <= 0.85 + 1e-6
    assert (ring[:, OWN + 1] / ring[:, OWN]).min() >= 0.15 - 1e-6


def test_polar_rings_lie_across_the_host_and_inner_ones_along_it() -> None:
    for variant, across in (("polar", 90.0), ("inner", 0.0)):
        ring = of_form(only("ring", variant), Form.RING)
        off = np.degrees(ring[:, PHI] - PLACES.light_phi) - across
        assert np.mean(off) == pytest.approx(0, abs=4 * 15 / np.sqrt(N))
        assert np.std(off) == pytest.approx(15, rel=0.1)


def test_clumps_of_a_ring_lie_on_it_and_those_of_a_spiral_on_an_arm() -> None:
    made = only("ring", "collisional", clumps=[4])
    ring = of_form(made, Form.RING)
    clumps = made.parts[:, 1:5]
    assert (clumps[..., FORM] == Form.BLOB).all()
    u, v = along(clumps[..., X] - ring[:, None, X], clumps[..., Y] - ring[:, None, Y], ring[:, PHI])
    q = ring[:, None, OWN + 2]
    np.testing.assert_allclose(np.sqrt(q * u**2 + v**2 / q), ring[:, None, OWN] + 0 * u, rtol=1e-3)

    made = only("spiral", "clumpy", clumps=[4])
    arms = of_form(made, Form.ARMS)
    clumps = made.parts[:, 1:5]
    u, v = along(clumps[..., X], clumps[..., Y], arms[:, PHI])
    radius, _, q, number, pitch, _, begin = (arms[:, None, OWN + i] for i in range(7))
    at = np.sqrt(q * u**2 + v**2 / q)
    crest = np.log(at / radius) / np.tan(pitch) + begin
    gap = 2 * np.pi / number
    off = (np.arctan2(v, q * u) - crest + gap / 2) % gap - gap / 2
    assert np.abs(off * at).max() < 0.01


def along(x: np.ndarray, y: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.cos(phi)[:, None], np.sin(phi)[:, None]
    return cos * x + sin * y, cos * y - sin * x


def test_a_disc_on_its_edge_is_bent_at_its_half_light_radius_by_what_is_asked() -> None:
    made = only("edge_on", "warped", warp={"low": 0.1, "high": 0.1}).parts[:, 0]
    r_eff, q, warp = (made[:, OWN + i] for i in (0, 1, 5))
    a = r_eff / np.sqrt(q)
    np.testing.assert_allclose(np.abs(warp) * a**2 / r_eff, 0.1 * a, rtol=1e-4)


def test_only_dusty_discs_have_a_lane() -> None:
    made = drawn("edge_on")
    depth = made.parts[:, 0, OWN + 3]
    np.testing.assert_array_equal(depth > 0, variant_of(made) == "dusty")


def test_the_lobes_of_a_jet_lie_opposite_each_other_and_are_joined_to_the_nucleus() -> None:
    made = only("agn_jet", "lobes")
    lobes = made.parts[:, -2:]
    np.testing.assert_allclose(lobes[:, 0, X], -lobes[:, 1, X], atol=1e-5)
    assert lobes[..., OWN + 1].max() <= 0.65 + 1e-6  # stretched along the axis
    jet = of_form(made, Form.LINE)
    np.testing.assert_allclose(jet[:, OWN], np.hypot(lobes[:, 0, X], lobes[:, 0, Y]), rtol=1e-4)
    np.testing.assert_allclose(np.sin(jet[:, PHI] - lobes[:, 0, PHI]), 0, atol=1e-5)


def test_tails_leave_the_circle_and_shells_do_not() -> None:
    tails = of_form(only("merger", "tails"), Form.ARC)
    assert np.degrees(np.abs(tails[:, OWN + 3])).min() >= 15 - 1e-3
    made = only("merger", "shells")
    shells = of_form(made, Form.ARC)
    assert not shells[:, OWN + 3].any()
    assert (shells[:, OWN + 4] == 1).all()
    assert not made.young_share_r.any()


def test_a_halo_ring_is_host_coloured_or_wider_than_an_arc() -> None:
    made = drawn("halo_ring")
    fwhm = made.width * np.sqrt(8 * np.log(2)) / PLACES.psf_fwhm_r
    is_wide = variant_of(made) == "wide"
    assert fwhm[is_wide].min() >= 1.5 - 1e-6
    assert fwhm[~is_wide].max() <= 1.25 + 1e-6


def test_artefacts_are_light_or_are_done_to_pixels() -> None:
    made, names = drawn("artefact"), variant_of(drawn("artefact"))
    on_pixels = np.isin(made.parts[..., FORM], ON_PIXELS).any(1)
    np.testing.assert_array_equal(on_pixels, ~np.isin(names, morphology_artefacts.LIGHT))
    np.testing.assert_array_equal(made.lit.any(1), ~on_pixels)
    assert (made.lit[names == "satellite"].sum(1) == 1).all()
    assert made.lit[names == "spikes"].all()


def test_a_cosmic_ray_has_the_flux_of_its_band_and_a_bleeding_column_is_upright() -> None:
    rays = of_form(only("artefact", "cosmic_ray"), Form.TRACK)
    np.testing.assert_allclose(rays[:, SHARE], FLUX[0][rays[:, LAYER].astype(int)], rtol=1e-6)
    assert set(rays[:, LAYER]) == {0, 1, 2}
    bleeding = of_form(only("artefact", "bleed"), Form.TRACK)
    np.testing.assert_allclose(np.cos(bleeding[:, PHI]), 0, atol=1e-6)
    assert set(bleeding[:, LAYER]) == {-1, 0, 1, 2}


def test_a_satellite_passes_the_host_as_near_as_is_asked() -> None:
    made = only("artefact", "satellite", satellite_distance_arcsec={"low": 2, "high": 2})
    trail = of_form(made, Form.LINE)
    off = np.cos(trail[:, PHI]) * trail[:, Y] - np.sin(trail[:, PHI]) * trail[:, X]
    np.testing.assert_allclose(np.abs(off), 2, rtol=1e-4)


def test_ghosts_and_ends_of_data_leave_the_host_alone() -> None:
    ghost = of_form(only("artefact", "ghost"), Form.RING)
    assert (np.hypot(ghost[:, X], ghost[:, Y]) / ghost[:, OWN]).min() >= 0.3 - 1e-5
    edge = of_form(only("artefact", "edge"), Form.EDGE)
    assert np.hypot(edge[:, X], edge[:, Y]).min() >= 2 - 1e-4
    inwards = edge[:, X] * np.cos(edge[:, PHI]) + edge[:, Y] * np.sin(edge[:, PHI])
    assert (inwards > 0).all()  # the host, at the origin, is on the side that is kept


def test_the_young_layer_is_the_bluer_one_and_r_has_the_share_that_is_asked() -> None:
    shares = morphology.layer_shares(
        np.array([0.0, 0.3, 0.6, 1.0]), np.array([0.8, 1.0, 1.3, 1.8]), ("g", "r", "z")
    )
    np.testing.assert_allclose(shares["layer_share_r"], [0.0, 0.3, 0.6, 1.0])
    assert (shares["layer_share_g"][1:3] > shares["layer_share_r"][1:3]).all()
    assert (shares["layer_share_z"][1:3] < shares["layer_share_r"][1:3]).all()
    np.testing.assert_allclose(shares["layer_share_g"][[0, 3]], [0, 1])


def test_parts_are_kept_one_after_the_other_without_those_that_are_none() -> None:
    parts = np.zeros((3, 2, PART), np.float32)
    parts[0, 1, FORM], parts[2, :, FORM] = Form.BLOB, Form.RING
    ends, numbers = morphology.flattened(parts)
    assert ends.tolist() == [0, PART, PART, 3 * PART]
    assert numbers[::PART].tolist() == [Form.BLOB, Form.RING, Form.RING]


def test_no_rows_are_drawn_of_none() -> None:
    asked = config().shapes
    places = Places(np.zeros(0), np.zeros(0))
    for kind, maker in GALAXIES.items():
        made = maker(Draws(np.zeros(0, np.int64), kind, seed=1), places, getattr(asked, kind))
        assert made.parts.shape[0] == 0
        assert morphology.flattened(made.parts)[0].tolist() == [0]
