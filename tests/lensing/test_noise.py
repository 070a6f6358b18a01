"""Draws that belong to a key: moments, independence, and the same whatever the batch."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from darkhaloscope.core import keys as named
from darkhaloscope.core.units import COADD_RMS_FACTOR
from darkhaloscope.lensing import cpu, noise
from darkhaloscope.lensing.noise import photon_noise, standard_normal

KEYS = torch.arange(40)


def test_draws_are_standard_normal() -> None:
    draws = standard_normal(KEYS, (2, 50, 50), stream="photons").numpy().ravel()
    assert kstest(draws, "norm").pvalue > 1e-3
    assert abs(draws.mean()) < 5 / len(draws) ** 0.5
    assert draws.std() == pytest.approx(1, abs=5 / (2 * len(draws)) ** 0.5)
    assert (draws**4).mean() == pytest.approx(3, abs=0.15)


def test_keys_streams_and_pixels_are_independent() -> None:
    count = 40_000
    first = standard_normal(torch.tensor([1, 2]), (count,), stream="a").numpy()
    other = standard_normal(torch.tensor([1]), (count,), stream="b").numpy()
    pairs = [(first[0], first[1]), (first[0], other[0]), (first[0, :-1], first[0, 1:])]
    pairs.append((first[0, 0::2], first[0, 1::2]))
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / len(a) ** 0.5
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5 / len(a) ** 0.5


def test_draws_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = standard_normal(KEYS, (3, 7, 7), stream="photons")
    assert torch.equal(whole[7:9], standard_normal(KEYS[7:9], (3, 7, 7), stream="photons"))
    assert torch.equal(whole.flip(0), standard_normal(KEYS.flip(0), (3, 7, 7), stream="photons"))
    monkeypatch.setattr(noise, "_BUDGET", 300)
    assert torch.equal(whole, standard_normal(KEYS, (3, 7, 7), stream="photons"))


def test_a_draw_belongs_to_its_place_in_the_row() -> None:
    long = standard_normal(KEYS, (9,), stream="photons")
    assert torch.equal(long[:, :5], standard_normal(KEYS, (5,), stream="photons"))


def test_the_integers_are_those_of_the_named_draws() -> None:
    values = np.array([0, 1, -1, 2**62, -(2**63)], np.int64)
    mixed = noise._mix(torch.from_numpy(values)).numpy().view(np.uint64)
    assert mixed.tolist() == named._mix(values.astype(np.uint64)).tolist()


def test_any_64_bits_are_a_key() -> None:
    extreme = torch.tensor([-(2**63), -1, 0, 2**63 - 1])
    draws = standard_normal(extreme, (100,), stream="photons")
    assert bool(draws.isfinite().all())
    assert len(draws[:, 0].unique()) == 4


def test_keys_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="keys are int64"):
        standard_normal(torch.zeros(2), (3,), stream="photons")


def test_photon_noise_has_the_variance_of_the_photons() -> None:
    light = torch.tensor([2.0, 0.5]).view(1, 2, 1, 1).expand(50, 2, 60, 60)
    gain = torch.tensor([[3500.0, 1000.0]]).expand(50, 2)
    drawn = photon_noise(light, gain, torch.arange(50), stream="photons")[..., 3:-3, 3:-3]
    variance = drawn.var(dim=(0, 2, 3)).numpy()
    expected = COADD_RMS_FACTOR**2 * np.array([2 / 3500, 0.5 / 1000])
    np.testing.assert_allclose(variance, expected, rtol=0.02)
    assert abs(float(drawn.mean())) < 1e-4


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("lag", "expected"), [(1, 0.12), (2, -0.07), (5, 0.0)])
def test_photon_noise_is_shared_by_neighbours_as_the_hosts_noise_is(
    lag: int, expected: float, axis: int
) -> None:
    light = torch.ones(40, 1, 64, 64)
    drawn = photon_noise(light, torch.ones(40, 1), KEYS, stream="photons")
    moved = drawn[..., 3:-3, 3:-3].movedim(axis, 0)
    shared = (moved[lag:] * moved[:-lag]).mean() / moved.var()
    assert float(shared) == pytest.approx(expected, abs=0.015)


def test_no_light_makes_no_noise() -> None:
    light = torch.full((1, 1, 1, 9), -1e-6)
    light[..., 8] = 1.0
    drawn = photon_noise(light, torch.ones(1, 1), torch.tensor([4]), stream="photons")
    assert drawn[0, 0, 0, :5].tolist() == [0.0] * 5
    assert drawn[0, 0, 0, 8] != 0


def test_a_gain_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="electrons per nmgy are more than 0; got 0 in row 0"):
        photon_noise(torch.ones(1, 1, 2, 2), torch.zeros(1, 1), torch.tensor([4]), stream="photons")


def test_no_keys_make_no_draws() -> None:
    assert standard_normal(KEYS[:0], (3, 4), stream="photons").shape == (0, 3, 4)


@pytest.mark.parametrize("shape", [(3, 2, 20, 24), (1, 1, 3, 3), (0, 3, 5, 5)])
def test_the_compiled_loops_draw_what_torch_does(
    shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    light = standard_normal(torch.arange(shape[0]), shape[1:], stream="light")  # half of it dark
    gain = torch.full(shape[:2], 2000.0)
    compiled = photon_noise(light, gain, torch.arange(shape[0]) - 1, stream="photons")
    monkeypatch.setattr(cpu, "is_available", lambda: False)
    plain = photon_noise(light, gain, torch.arange(shape[0]) - 1, stream="photons")
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-7)
