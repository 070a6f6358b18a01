"""Pictures as sources: what a sampled Sersic must give back, and what is refused."""

import math

import numpy as np
import pytest
import torch
from bank_builders import bank_of, pictures, profile
from lensing_builders import GRID

from darkhaloscope.lensing.bank import Bank, Pictures, half_light_radius
from darkhaloscope.lensing.light import sersic_brightness
from darkhaloscope.lensing.psf import Gaussian
from darkhaloscope.lensing.render import REFERENCE, Lens, Sersic, render_lensed

AXIS = torch.linspace(-9, 9, 1201, dtype=torch.float64)
ETA, XI = (part.reshape(1, -1) for part in torch.meshgrid(AXIS, AXIS, indexing="ij"))
AREA = float(AXIS[1] - AXIS[0]) ** 2


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("r_eff_px", [3.0, 6.0, 9.0])
def test_half_of_a_sersic_lies_within_its_half_light_radius(n: float, r_eff_px: float) -> None:
    picture = torch.from_numpy(profile(160, r_eff_px, n=n))[None, None]
    found = half_light_radius(picture / picture.sum(), torch.ones(1, 1, 1))
    # the picture lacks what lies outside of it: 0.3 % of the light for n = 2
    assert float(found) == pytest.approx(r_eff_px, rel=0.005, abs=0.05)


def test_flux_is_one_wherever_the_picture_is_sampled() -> None:
    bank = bank_of(profile(64, 5.0), profile(64, 8.0, q=0.5))
    light = pictures(bank).brightness(XI, ETA)
    assert light.shape == (1, 2, XI.shape[1])
    np.testing.assert_allclose(light.sum(2) * AREA, 1.0, rtol=1e-4)


def test_brightness_is_that_of_the_profile() -> None:
    bank = bank_of(profile(256, 20.0, n=1.0))
    radius = torch.tensor([[0.3, 1.0, 2.0, 4.0]], dtype=torch.float64)
    got = pictures(bank).brightness(radius, torch.zeros_like(radius))[0, 0]
    one = torch.ones(1, dtype=torch.float64)
    expected = sersic_brightness(radius, 0 * radius, r_eff=one, n=one, q=one, phi=0 * one)[0]
    torch.testing.assert_close(got, expected, rtol=0.01, atol=0)


def test_positions_and_angles_do_not_reach_into_brightness() -> None:
    bank = bank_of(profile(64, 5.0, q=0.4))
    here = pictures(bank).brightness(XI, ETA)
    there = pictures(bank, x=3.0, y=-2.0, phi=1.0, r_eff=0.2).brightness(XI, ETA)
    assert torch.equal(here, there)


def test_a_mirrored_picture_is_its_mirror_image() -> None:
    bank = bank_of(profile(64, 5.0, q=0.3, phi=0.6))
    plain = pictures(bank).brightness(-XI, ETA)
    turned = pictures(bank, mirrored=True).brightness(XI, ETA)
    assert torch.equal(plain, turned)
    assert not torch.allclose(turned, pictures(bank).brightness(XI, ETA), atol=1e-3)


def test_nothing_shines_outside_the_picture() -> None:
    bank = bank_of(np.ones((32, 32)))
    edge = 16.5 / float(bank.half_light_px)
    at = torch.tensor([[edge + 1e-3, -edge - 1e-3, 1e3, -1e9, edge - 0.2]])
    light = pictures(bank).brightness(at, torch.zeros_like(at))[0, 0]
    assert light[:4].tolist() == [0, 0, 0, 0]
    assert float(light[4]) > 0


def test_a_batch_may_be_empty_and_rows_are_independent() -> None:
    bank = bank_of(profile(32, 4.0))
    assert pictures(bank, 0).brightness(XI[:0], ETA[:0]).shape == (0, 1, XI.shape[1])
    three = pictures(bank, 3)
    part = three.rows(slice(1, 3))
    assert len(part.index) == 2
    whole = three.brightness(XI.expand(3, -1), ETA.expand(3, -1))
    torch.testing.assert_close(part.brightness(XI.expand(2, -1), ETA.expand(2, -1)), whole[1:])


def test_banks_are_joined_in_order_and_lacking_layers_hold_nothing() -> None:
    one, two = bank_of(profile(32, 4.0)), bank_of(profile(32, 3.0), profile(32, 6.0))
    joined = Bank.joined([one, two])
    assert (joined.count, joined.pictures.shape[1]) == (2, 2)
    assert joined.share[0].tolist() == [[1.0] * 3, [0.0] * 3]
    np.testing.assert_allclose(joined.share[1], two.share[0])
    assert joined.half_light_px.tolist() == [
        *one.half_light_px.tolist(),
        *two.half_light_px.tolist(),
    ]
    taken = joined.take(torch.tensor([1]))
    assert torch.equal(taken.pictures, two.pictures)
    with pytest.raises(ValueError, match="agree in size"):
        Bank.joined([one, bank_of(profile(48, 4.0))])


def test_what_is_no_bank_is_refused() -> None:
    good = bank_of(profile(32, 4.0))
    share, half_light = good.share, good.half_light_px
    with pytest.raises(ValueError, match="add up to 1; got 2"):
        Bank(2 * good.pictures, half_light, share)
    spoilt = good.pictures.clone()
    spoilt[0, 0, 0, 0], spoilt[0, 0, 0, 1] = -1.0, 1.0
    with pytest.raises(ValueError, match="not negative"):
        Bank(spoilt, half_light, share)
    with pytest.raises(ValueError, match="shares add up to 1"):
        Bank(good.pictures, half_light, 0.5 * share)
    with pytest.raises(ValueError, match="radius in pixels"):
        Bank(good.pictures, 0 * half_light, share)
    with pytest.raises(ValueError, match="count, layer, size, size"):
        Bank(good.pictures[0], half_light, share)
    with pytest.raises(ValueError, match="count, layer, band"):
        Bank(good.pictures, half_light, share[:, :0])


def test_sources_that_the_bank_lacks_are_refused() -> None:
    bank = bank_of(profile(32, 4.0))
    fine = pictures(bank)
    with pytest.raises(ValueError, match="a row of a bank of 1; got 1"):
        Pictures(bank, fine.index + 1, fine.x, fine.y, fine.r_eff, fine.phi, fine.is_mirrored)
    with pytest.raises(ValueError, match="radius in arcsec"):
        pictures(bank, r_eff=0.0)
    with pytest.raises(ValueError, match="position and angle"):
        pictures(bank, x=math.nan)
    with pytest.raises(ValueError, match="index is int64"):
        Pictures(bank, fine.x, fine.x, fine.y, fine.r_eff, fine.phi, fine.is_mirrored)


@pytest.mark.parametrize("theta_e", [0.0, 1.2])
def test_a_picture_of_a_sersic_renders_as_the_sersic_does(theta_e: float) -> None:
    q, phi, r_eff = 0.6, 0.7, 0.25
    bank = bank_of(profile(192, 14.0, n=1.0, q=q))
    one = torch.ones(1)
    # r_eff of a picture is that of a circle, of a profile sqrt(ab)
    scale = float(bank.half_light_px) / 14.0
    taken = pictures(bank, x=0.15, y=-0.1, r_eff=r_eff * scale, phi=phi)
    same = Sersic(0.15 * one, -0.1 * one, r_eff * one, one, q * one, phi * one)
    lens = Lens(theta_e * one, 0.7 * one, 0.3 * one, 0 * one, 0 * one)
    place = {
        "flux": torch.tensor([[1.0, 2.0, 3.0]]),
        "psf": Gaussian(torch.tensor([[1.2, 1.1, 1.0]])),
        "centre_x": 0 * one,
        "centre_y": 0 * one,
        "grid": GRID,
        "plan": REFERENCE,
    }
    got, expected = render_lensed(taken, lens, **place), render_lensed(same, lens, **place)
    torch.testing.assert_close(got.magnification, expected.magnification, rtol=0.01, atol=0)
    error = (got.pixels - expected.pixels).square().sum().sqrt()
    assert float(error / expected.pixels.square().sum().sqrt()) < 0.01


def test_each_band_has_its_own_shares_of_the_layers() -> None:
    wide, narrow = profile(96, 14.0), profile(96, 5.0)
    share = [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]
    both = bank_of(wide, narrow, share=share)
    one = torch.ones(1)
    place = {
        "flux": torch.ones(1, 3),
        "psf": Gaussian(torch.full((1, 3), 0.9)),
        "centre_x": 0 * one,
        "centre_y": 0 * one,
        "grid": GRID,
        "plan": REFERENCE,
    }
    found = render_lensed(pictures(both, r_eff=1.2), Lens.none(one), **place).pixels[0]
    peak = found.amax((1, 2))
    assert float(peak[0]) < 0.7 * float(peak[2])
    torch.testing.assert_close(found[1], (found[0] + found[2]) / 2, rtol=1e-4, atol=1e-6)
