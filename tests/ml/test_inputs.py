"""Numbers beside the pixels: which, in which scale, whose, and that a network learns from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ml_builders import BANDS, cutouts, recipe, training, validation

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.ml import inputs, networks
from darkhaloscope.ml.fit import Fitted, fit
from darkhaloscope.ml.pixel_table import Raw

NAMES = ("psf_fwhm_r_arcsec", "depth_g_mag")


def test_every_allowed_input_has_a_scale_and_no_other_column_of_cutouts_has() -> None:
    assert tuple(inputs.SCALES) == schemas.EXTRA_INPUTS
    allowed = schemas.extra_inputs(BANDS)
    for name in schemas.cutouts(BANDS).names:
        if name in allowed:
            assert inputs.scale_of(name) in inputs.SCALES.values()
        else:
            with pytest.raises(ConfigError, match="no input that a network may be told"):
                inputs.scale_of(name)
    assert len(set(allowed) & set(schemas.cutouts(BANDS).names)) == 6


def test_values_are_those_of_each_rows_own_galaxy() -> None:
    held = cutouts(4, psf_fwhm_r_arcsec=np.array([1.0, 1.1, 1.2, 1.3], np.float32))
    rows = pa.table({"target_id": [103, 101, 103]})
    found = inputs.of_galaxies(rows, held.take([3, 0, 2, 1]), NAMES)
    assert found is not None
    np.testing.assert_allclose(found, [[1.2, 24], [1.0, 24], [1.2, 24]], rtol=1e-6)
    seen = inputs.seen_of(rows, held, NAMES)
    assert seen is not None
    np.testing.assert_allclose(seen, [[0.5, 0.25], [-0.5, 0.25], [0.5, 0.25]], atol=1e-5)
    assert inputs.of_galaxies(rows, held, ()) is None


def test_a_value_far_from_all_that_was_seen_says_no_more_than_that() -> None:
    found = inputs.normalised(torch.tensor([[30.0, 5.0]]), NAMES)
    assert found.tolist() == [[4.0, -4.0]]


def test_rows_that_lack_a_value_are_named_all_together() -> None:
    fwhm = pa.array([1.0, None, 1.2], pa.float32())
    depth = np.array([np.nan, 24, 24], np.float32)
    held = cutouts(3, psf_fwhm_r_arcsec=fwhm, depth_g_mag=depth)
    fault = r"2 of 3 rows lack .* psf_fwhm_r_arcsec, depth_g_mag, .*target_id 101, 102\)"
    with pytest.raises(DataError, match=fault):
        inputs.of_table(held, NAMES, of="target_id")


def test_a_galaxy_without_a_cutout_is_named() -> None:
    with pytest.raises(DataError, match="1 of 2 rows have no cutout, the first target_id 999"):
        inputs.of_galaxies(pa.table({"target_id": [101, 999]}), cutouts(3), NAMES)
    with pytest.raises(DataError, match="have no cutout"):
        inputs.of_galaxies(pa.table({"target_id": [101]}), cutouts(3)[:0], NAMES)


def told(folder: Path, *, is_told: bool) -> Fitted:
    """Lenses and negatives of equal pixels; a number has the label's sign."""
    both = []
    for source in (training(), validation()):
        sign = 2 * source.rows["label"].to_numpy().astype(np.float32) - 1
        make = source.make

        def blank(part: pa.Table, *how: object, make: object = make) -> Raw:
            raw = make(part, *how)  # type: ignore[operator]
            return Raw(torch.zeros_like(raw.pixels), raw.sky_median)

        extra = sign[:, None] if is_told else None
        both.append(replace(source, make=blank, extra=extra))
    network = networks.make("small", bands=2, seed=1, inputs=int(is_told))
    return fit(network, *both, recipe=recipe(), scratch=folder, device=Device(threads=1))


def test_a_network_learns_what_only_a_number_tells(tmp_path: Path) -> None:
    assert told(tmp_path / "with", is_told=True).history[-1].val_auroc == 1.0
    assert told(tmp_path / "without", is_told=False).history[-1].val_auroc == 0.5


@pytest.mark.parametrize("name", ["small", "compact", "resnet18"])
def test_a_new_network_heeds_no_number_and_learns_to(name: str) -> None:
    network = networks.make(name, bands=2, seed=1, inputs=2).eval()
    stamps, one, other = torch.randn(3, 2, 32, 32), torch.zeros(3, 2), torch.ones(3, 2)
    torch.testing.assert_close(network(stamps, one), network(stamps, other), rtol=0, atol=0)
    network(stamps, other).sum().backward()
    assert network.told is not None
    last = network.told.layers[-1]
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0
    plain = networks.make(name, bands=2, seed=1).eval()
    assert torch.equal(plain(stamps), network(stamps, one))
