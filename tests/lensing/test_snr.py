"""Signal-to-noise ratios of stamps small enough to do by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.lensing.snr import arc_snr

ARC = torch.tensor([[[[0.5, 3.0], [4.0, 0.0]]]])  # (1, 1, y, x)
SKY = torch.tensor([[1.0]])


def test_the_integrated_ratio_sums_the_pixels_above_the_sky() -> None:
    found = arc_snr(ARC, SKY, torch.full_like(ARC, 4.0))
    assert found.snr.item() == pytest.approx(7 / 8**0.5)
    assert found.matched.item() == pytest.approx(((0.25 + 9 + 16) / 4) ** 0.5)
    assert found.peak.item() == pytest.approx(2.0)


def test_the_mask_is_the_skys_and_the_noise_is_the_hosts() -> None:
    bright_host = torch.tensor([[[[4.0, 4.0], [100.0, 4.0]]]])
    found = arc_snr(ARC, SKY, bright_host)
    assert found.snr.item() == pytest.approx(7 / 104**0.5)
    assert found.peak.item() == pytest.approx(1.5)


def test_an_arc_below_the_sky_has_no_integrated_signal() -> None:
    found = arc_snr(ARC / 10, SKY, torch.ones_like(ARC))
    assert found.snr.item() == 0.0
    assert found.matched.item() > 0
    assert found.peak.item() == pytest.approx(0.4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 100), min_size=9, max_size=9))
def test_no_weighting_beats_the_matched_filter(values: list[float]) -> None:
    arc = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 3, 3)
    found = arc_snr(arc, SKY, 1 + arc)
    bound = found.matched.item() * (1 + 1e-9) + 1e-150  # the square of less underflows
    assert found.snr.item() <= bound
    assert found.peak.item() <= bound


def test_no_stamps_have_no_ratios() -> None:
    found = arc_snr(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3), torch.zeros(0, 3, 4, 4))
    assert found.snr.shape == found.matched.shape == found.peak.shape == (0, 3)
