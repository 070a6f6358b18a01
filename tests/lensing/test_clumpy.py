"""Generated galaxies: the same from the same ids, centred, clumpy, bluer where they are young."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from darkhaloscope.lensing import clumpy

GRZ = ("g", "r", "z")
IDS = np.arange(1, 41) * 7919
SIZE = 96


@pytest.fixture(scope="module")
def bank() -> clumpy.Bank:
    return clumpy.galaxies(IDS, bands=GRZ, size_px=SIZE, seed=3)


def test_a_galaxy_belongs_to_its_id_and_seed(bank: clumpy.Bank) -> None:
    some = clumpy.galaxies(IDS[[30, 2]], bands=GRZ, size_px=SIZE, seed=3)
    torch.testing.assert_close(some.pictures, bank.pictures[[30, 2]], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(some.share, bank.share[[30, 2]])
    other = clumpy.galaxies(IDS[:2], bands=GRZ, size_px=SIZE, seed=4)
    assert float((other.pictures - bank.pictures[:2]).abs().max()) > 1e-4


def test_light_is_centred_and_gone_at_the_edge(bank: clumpy.Bank) -> None:
    weight = bank.share.mean(2)[:, :, None, None]
    white = (bank.pictures * weight).sum(1)
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    assert float((white.sum(1) * axis).sum(1).abs().max()) < 0.02
    assert float((white.sum(2) * axis).sum(1).abs().max()) < 0.02
    frame = torch.ones(SIZE, SIZE, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert float(bank.pictures[:, :, frame].sum(2).max()) < 1e-6
    over_size = bank.half_light_px / SIZE
    assert 0.03 < float(over_size.min()) <= float(over_size.max()) < 0.15


def test_young_stars_are_clumpier_than_old_ones(bank: clumpy.Bank) -> None:
    def peaks(picture: np.ndarray) -> int:
        top = ndimage.maximum_filter(picture, 5) == picture
        return int((top & (picture > 0.05 * picture.max())).sum())

    old, young = (np.array([peaks(p) for p in bank.pictures[:, layer].numpy()]) for layer in (0, 1))
    assert old.max() == 1
    assert young.mean() > 4
    assert young.max() <= clumpy.MAX_CLUMPS + 4  # the uneven disc has peaks of its own


def test_the_young_are_bluer_the_more_so_the_nearer() -> None:
    ids = np.arange(1, 2001) * 7919
    share, z = clumpy.shares(ids, GRZ, seed=3), clumpy.redshift(ids, seed=3)
    old, young = share[:, 0], share[:, 1]
    g_minus_z = -2.5 * np.log10(young[:, 0] / old[:, 0] * old[:, 2] / young[:, 2])
    near, far = g_minus_z[z < 1.2], g_minus_z[z > 2.4]
    assert -2 < near.mean() < -1
    assert -0.6 < far.mean() < -0.1
    assert near.max() < 0


@pytest.mark.parametrize("bands", [("g",), ("r", "i", "z"), ("z", "g", "r", "i")])
def test_any_bands_that_have_templates(bands: tuple[str, ...]) -> None:
    few = clumpy.galaxies(IDS[:3], bands=bands, size_px=48, seed=3)
    assert few.share.shape == (3, 2, len(bands))
    np.testing.assert_allclose(few.share.sum(1), 1, rtol=1e-6)


def test_a_band_without_a_template_and_a_picture_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="known in g, r, i, z"):
        clumpy.galaxies(IDS[:1], bands=("u",), size_px=48, seed=3)
    with pytest.raises(ValueError, match="at least 32 px"):
        clumpy.galaxies(IDS[:1], bands=GRZ, size_px=16, seed=3)


def test_no_ids_give_no_galaxies() -> None:
    assert clumpy.galaxies(IDS[:0], bands=GRZ, size_px=48, seed=3).count == 0
