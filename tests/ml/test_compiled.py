"""The compiled loops do to pixels what torch does."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from manifest_builders import BANDS, SCALE

from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.noise import standard_normal
from darkhaloscope.ml import transforms
from darkhaloscope.ml.paint_batch import _COLUMNS, _PER_BAND, Batch, Camera, Ground

CAMERA = Camera(BANDS, SCALE, 16, "moffat", (2.8, 2.8, 2.8), (3500.0, 3500.0, 3500.0))
NORMALISE = transforms.Normalisation("asinh", (0.01, 0.02, 0.5))


def both(monkeypatch: pytest.MonkeyPatch, made: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """What the compiled loops and what torch make."""
    compiled = made()
    monkeypatch.setattr(cpu, "is_available", lambda: False)
    return [compiled, made()]


def stamps(n: int, size: int = 20) -> torch.Tensor:
    return 0.05 * standard_normal(torch.arange(n), (3, size, size), stream="stamps")


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("size", [20, 14])
def test_views_are_moved_and_turned_alike_to_the_bit(
    n: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(n, dtype=np.int64)
    how = transforms.augmentation(ids, ids, seed=4, max_shift_px=5)  # also beyond the edge
    compiled, plain = both(monkeypatch, lambda: transforms.augment(stamps(n), size, how))
    assert torch.equal(compiled, plain)


def test_normalised_pixels_are_alike_from_the_faintest_to_the_brightest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = stamps(8)
    pixels[1] *= 1e6
    pixels[2] *= 1e-6
    pixels[3, 0, 0, :2] = torch.tensor([torch.nan, torch.inf])
    sky = 1e-3 * torch.arange(24.0).view(8, 3)
    compiled, plain = both(monkeypatch, lambda: NORMALISE(pixels, sky))
    finite = plain.isfinite()
    torch.testing.assert_close(compiled[finite], plain[finite], rtol=2e-6, atol=1e-7)
    assert bool(compiled[3, 0, 0, 0].isnan())


def test_the_matched_filter_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    n, rows = 5, torch.tensor([4, 0, 0, 7, 2])
    values = torch.zeros(len(_COLUMNS) + 3 * len(_PER_BAND), n)
    batch = Batch(values, CAMERA)
    for name, low in (("sky_sigma", 0.003), ("sky_median", -0.001), ("electrons", 2000.0)):
        start = len(_COLUMNS) + 3 * _PER_BAND.index(name)
        values[start : start + 3] = low * (1 + torch.arange(3 * n).view(3, n) / 10)
    ground = Ground(stamps(8, 16), rows, batch)
    light = stamps(n, 16).abs()
    compiled, plain = both(monkeypatch, lambda: ground.matched_snr(light))
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=0)
    expected = (light.square() / ground.variance()).sum((2, 3)).sqrt()
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=0)
