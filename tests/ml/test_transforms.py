"""Normalisation by hand; augmentation as a group."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.ml import transforms
from darkhaloscope.ml.transforms import Augmentation, Normalisation

IDS = np.arange(5000, dtype=np.int64) * 7919


def ramp(n: int, size: int, bands: int = 2) -> torch.Tensor:
    return torch.arange(n * bands * size * size, dtype=torch.float32).reshape(n, bands, size, size)


def test_asinh_subtracts_the_sky_and_divides_by_the_softening_of_its_band() -> None:
    pixels = torch.tensor([[[[0.05]], [[-0.1]]]])
    got = Normalisation("asinh", (0.01, 0.02))(pixels, torch.tensor([[0.01, 0.02]]))
    assert got.flatten().tolist() == pytest.approx([math.asinh(4.0), math.asinh(-6.0)], rel=1e-6)


def test_sqrt_keeps_the_sign_and_is_symmetric_about_the_sky() -> None:
    pixels = torch.tensor([[[[0.05, 0.01, -0.03]], [[-0.16, 0.02, 0.2]]]])
    got = Normalisation("sqrt", (0.01, 0.02))(pixels, torch.tensor([[0.01, 0.02]]))
    expected = [2.0, 0.0, -2.0, -3.0, 0.0, 3.0]
    assert got.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert Normalisation("sqrt", (1.0,))(
        torch.full((1, 1, 1, 1), torch.nan), torch.zeros(1, 1)
    ).isnan()


def test_asinh_is_accurate_from_the_noise_to_the_brightest_star() -> None:
    fluxes = np.concatenate([[0.0], np.geomspace(1e-9, 1e6, 500)])
    fluxes = np.concatenate([-fluxes, fluxes]).astype(np.float32)
    pixels = torch.from_numpy(fluxes)[None, None, None]
    got = Normalisation("asinh", (0.01,))(pixels, torch.zeros(1, 1)).numpy().ravel()
    np.testing.assert_allclose(got, np.arcsinh(fluxes.astype(np.float64) / 0.01), rtol=1e-6)


def test_an_arc_changes_no_pixel_outside_itself_under_asinh_but_does_under_first_run() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 0.01, (1, 1, 16, 16))).float()
    arc = noise.clone()
    arc[:, :, :8] += 0.3
    sky = torch.zeros(1, 1)
    moved = {}
    for name in ("asinh", "first_run"):
        normalise = Normalisation(name, (0.01,))  # type: ignore[arg-type]
        moved[name] = float((normalise(arc, sky) - normalise(noise, sky))[:, :, 8:].abs().max())
    assert moved["asinh"] == 0
    assert moved["first_run"] > 1


def test_first_run_is_the_median_and_mad_of_each_band_clipped() -> None:
    pixels = torch.tensor([0.0, 1.0, 2.0, 3.0, 100.0, 2.0, 2.5, 1.5, 2.0]).reshape(1, 1, 3, 3)
    flat = pixels.numpy().ravel()
    mad = np.median(np.abs(flat - np.median(flat)))
    expected = np.clip((flat - np.median(flat)) / (1.4826 * mad), -10, 10)
    got = Normalisation("first_run", (1.0,))(pixels, torch.zeros(1, 1)).numpy().ravel()
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got.max() == 10


def test_first_run_of_a_constant_band_is_finite() -> None:
    got = Normalisation("first_run", (1.0,))(torch.full((2, 1, 4, 4), 3.0), torch.zeros(2, 1))
    assert bool((got == 0).all())


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_softening_that_is_not_positive_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="softening is a flux"):
        Normalisation("asinh", (0.01, bad))


def test_the_eight_symmetries_differ_and_keep_every_value() -> None:
    stamp = ramp(1, 5).expand(8, -1, -1, -1)
    got = transforms.turned(stamp, np.arange(8))
    assert len({tuple(g.flatten().tolist()) for g in got}) == 8
    for turned in got:
        assert sorted(turned[1].flatten().tolist()) == sorted(stamp[0, 1].flatten().tolist())
    torch.testing.assert_close(got[0], stamp[0])


def test_symmetries_turn_about_the_centre_of_the_stamp() -> None:
    axis = torch.arange(6) - 2.5
    radius = (axis[:, None] ** 2 + axis[None] ** 2).expand(8, 1, 6, 6)
    torch.testing.assert_close(transforms.turned(radius, np.arange(8)), radius)


@settings(deadline=None, max_examples=25)
@given(x=st.integers(-4, 4), y=st.integers(-4, 4))
def test_a_shift_moves_the_view_by_whole_pixels(x: int, y: int) -> None:
    pixels = ramp(1, 20)
    got = transforms.crop(pixels, 12, torch.tensor([x]), torch.tensor([y]))
    torch.testing.assert_close(got, pixels[:, :, 4 + y : 16 + y, 4 + x : 16 + x])


def test_beyond_the_edge_the_image_goes_on_mirrored() -> None:
    pixels = ramp(1, 6, bands=1)
    got = transforms.crop(pixels, 6, torch.tensor([2]), torch.tensor([-1]))[0, 0]
    expected = np.pad(pixels[0, 0].numpy(), 2, mode="reflect")[1:7, 4:10]
    np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("size", [7, 22])
def test_a_crop_that_would_move_the_centre_or_does_not_fit_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="about the centre"):
        transforms.crop(ramp(1, 20), size, torch.tensor([0]), torch.tensor([0]))


def test_rows_are_augmented_independently_of_their_batch() -> None:
    pixels, ids = ramp(6, 12), IDS[:6]
    how = transforms.augmentation(ids, ids % 3, seed=3, max_shift_px=2)
    whole = transforms.augment(pixels, 8, how)
    for row in range(6):
        alone = transforms.augmentation(ids[row:][:1], ids[row:][:1] % 3, seed=3, max_shift_px=2)
        got = transforms.augment(pixels[row : row + 1], 8, alone)
        torch.testing.assert_close(got[0], whole[row])


def test_augmentation_commutes_with_normalisation() -> None:
    pixels, sky = torch.randn(8, 2, 12, 12) * 0.1, torch.zeros(8, 2)
    how = Augmentation(np.arange(8), np.full(8, 1), np.full(8, -2))
    normalise = Normalisation("asinh", (0.01, 0.02))
    torch.testing.assert_close(
        transforms.augment(normalise(pixels, sky), 8, how),
        normalise(transforms.augment(pixels, 8, how), sky),
    )


def test_all_turns_and_shifts_are_equally_frequent_and_change_with_the_time() -> None:
    first = transforms.augmentation(IDS, np.full(len(IDS), 0), seed=3, max_shift_px=4)
    second = transforms.augmentation(IDS, np.full(len(IDS), 1), seed=3, max_shift_px=4)
    for values, low, high in (
        (first.symmetry, 0, 7),
        (first.shift_x, -4, 4),
        (first.shift_y, -4, 4),
    ):
        counts = np.bincount(values - low, minlength=high - low + 1)
        expected = len(IDS) / (high - low + 1)
        assert counts.size == high - low + 1
        assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)
    assert 0.05 < np.mean(first.symmetry == second.symmetry) < 0.2
    assert abs(np.corrcoef(first.shift_x, first.shift_y)[0, 1]) < 0.05


def test_nothing_is_done_to_an_empty_batch() -> None:
    got = transforms.augment(torch.empty(0, 2, 12, 12), 8, transforms.unmoved(0))
    assert got.shape == (0, 2, 8, 8)
    assert Normalisation("first_run", (1.0, 1.0))(got, torch.empty(0, 2)).shape == (0, 2, 8, 8)
