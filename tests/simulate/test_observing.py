"""Conditions of bricks: PSF, depth, dust, maps."""

import numpy as np
import pytest
from simulate_builders import simulate_config

from darkhaloscope.core.units import mag_from_nmgy
from darkhaloscope.simulate import observing, sky

MANY = simulate_config(n_fields=150, field_spacing_deg=1.5, first_field_deg=(5.0, -15.0))
BRICKS = sky.bricks(MANY)
ALL = [observing.conditions(brick, MANY) for brick in BRICKS]


def test_the_seeing_of_bricks_is_distributed_as_asked() -> None:
    r = np.array([seen.psfsize[1] for seen in ALL])
    assert np.median(r) == pytest.approx(1.31, rel=0.03)
    assert np.log(r).std() == pytest.approx(np.hypot(0.12, 0.03), rel=0.15)
    g, z = (np.array([seen.psfsize[i] for seen in ALL]) for i in (0, 2))
    assert np.median(g / r) == pytest.approx(1.08, rel=0.02)
    assert np.median(z / r) == pytest.approx(0.95, rel=0.02)


def test_depths_exponents_and_exposures_stay_in_their_ranges() -> None:
    depth = np.array([seen.depth for seen in ALL])
    assert depth[:, 0].min() > 24.3
    assert depth[:, 0].max() < 25.3
    assert depth[:, 2].min() > 22.8
    assert depth[:, 2].max() < 23.8
    beta = np.array([seen.beta for seen in ALL])
    assert beta.min() > 2.5
    assert beta.max() < 3.5
    assert {int(n) for seen in ALL for n in seen.exposures} == {2, 3, 4, 5, 6}


def test_invvar_and_psfsize_give_back_the_depth() -> None:
    seen = ALL[0]
    psfdepth = seen.invvar / seen.neff_px
    np.testing.assert_allclose(mag_from_nmgy(5 / np.sqrt(psfdepth)), seen.depth)


def test_bricks_of_a_patch_share_their_dust() -> None:
    assert ALL[0].ebv == ALL[1].ebv
    assert ALL[0].ebv != ALL[2].ebv
    assert (np.diff(ALL[0].transmission) > 0).all()  # less dust in the red


def maps(starlight: float = 0.0, haloes: list = ()) -> observing.Coverage:  # type: ignore[assignment,type-arg]
    light = np.zeros((3, 400, 400), np.float32)
    light[:, 200, 200] = starlight
    return observing.coverage(BRICKS[0], ALL[0], light, list(haloes), MANY)


def test_weight_is_in_step_with_exposures() -> None:
    found, seen = maps(), ALL[0]
    for at, band in enumerate(seen.bands):
        expected = seen.invvar[at] * found.nexp[band] / seen.exposures[at]
        np.testing.assert_allclose(found.invvar[band], expected, rtol=1e-6)
        assert found.nexp[band].max() == seen.exposures[at]


def test_pixels_without_exposures_are_marked() -> None:
    found = maps()
    for band, bit in (("g", 0x20), ("r", 0x40), ("z", 0x80)):
        assert np.array_equal((found.maskbits & bit) > 0, found.nexp[band] == 0)


def test_saturated_stars_and_haloes_are_marked() -> None:
    found = maps(1000.0, [(50.0, 60.0, 10.0, observing.MEDIUM)])
    assert found.maskbits[200, 200] & (0x4 | 0x8 | 0x10) == 0x1C
    assert found.invvar["r"][200, 200] == 0
    inside = (found.maskbits & observing.MEDIUM) > 0
    assert inside.sum() == pytest.approx(np.pi * 100, rel=0.05)
    assert inside[60, 50]


def test_only_the_overlap_is_marked_as_not_the_bricks_own() -> None:
    own = (maps().maskbits & observing.NPRIMARY) == 0
    assert own.sum() == pytest.approx((400 - 2 * 21.6 / 0.262) ** 2, rel=0.02)
