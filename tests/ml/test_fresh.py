"""Injections drawn while training: new each time, on the same galaxies, painted as stamps are."""

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pytest
import torch

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import injection, manifesting
from darkhaloscope.ml.fresh import Injections
from darkhaloscope.ml.pixel_table import PixelTable

N = 6
PAINTING = StampsConfig(
    bands=mb.BANDS,
    pixel_scale_arcsec=mb.SCALE,
    seed=2,
    size_px=64,
    sets=("val",),
    psf_profile="moffat",
    psf_beta=(2.9, 2.9, 2.9),
    electrons_per_nmgy_per_exposure=(3500.0, 3500.0, 3500.0),
)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.004, (N, 3, 80, 80)).astype(np.float32)


def injections(pixels: np.ndarray, margin_px: int = 0) -> Injections:
    splits = mb.splits(N, split="train")
    heads = mb.cutouts_head(splits)
    table = PixelTable(
        heads, [pixels], Layout(mb.BANDS, 80, mb.SCALE), of="target_id", device=Device()
    )
    return Injections(splits, table, mb.config(), PAINTING, margin_px=margin_px, device=Device())


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    splits = mb.splits(N, split="train")
    hosts = manifesting.hosts_of(splits, mb.cutouts_head(splits), mb.BANDS)
    return manifesting.draw(hosts, split="train", config=mb.config())


def test_a_row_not_taken_before_is_the_manifests_own(pixels: np.ndarray, rows: pa.Table) -> None:
    drawn = injections(pixels).redraw(rows, np.zeros(rows.num_rows, np.int64))
    assert drawn.equals(rows)


def test_each_further_time_gives_another_injection_on_the_same_galaxy(
    pixels: np.ndarray, rows: pa.Table
) -> None:
    before = np.arange(rows.num_rows, dtype=np.int64) % 3
    drawn = injections(pixels).redraw(rows, before)
    assert drawn["target_id"].equals(rows["target_id"])
    assert drawn["kind"].equals(rows["kind"])
    is_same = drawn["stamp_id"].to_numpy() == rows["stamp_id"].to_numpy()
    np.testing.assert_array_equal(is_same, before == 0)
    theta_e = [t["theta_e_arcsec"].to_numpy(zero_copy_only=False) for t in (rows, drawn)]
    is_lens = np.array(rows["kind"].to_pylist()) == "lens"
    assert (theta_e[0] != theta_e[1])[is_lens & (before > 0)].all()


def test_a_drawing_belongs_to_its_row_and_time(pixels: np.ndarray, rows: pa.Table) -> None:
    before = np.arange(rows.num_rows, dtype=np.int64) % 4
    whole = injections(pixels).redraw(rows, before)
    order = np.random.default_rng(2).permutation(rows.num_rows)
    mixed = injections(pixels).redraw(rows.take(order), before[order])
    assert mixed.equals(whole.take(order))


def test_stamps_are_painted_as_the_stage_does(pixels: np.ndarray, rows: pa.Table) -> None:
    some = rows[:7]
    made = injections(pixels).make(some)
    camera = injection.Camera(
        mb.BANDS, mb.SCALE, 64, "moffat", (2.9, 2.9, 2.9), (3500.0, 3500.0, 3500.0)
    )
    heads = mb.cutouts_head(mb.splits(N, split="train"))
    at = [heads["target_id"].to_pylist().index(t) for t in some["target_id"].to_pylist()]
    painted = injection.paint_rows(some, heads.take(at), pixels[at], camera=camera, seed=2)
    torch.testing.assert_close(made.pixels, painted.pixels)


def test_the_margin_makes_a_stamp_wider_about_the_same_centre(
    pixels: np.ndarray, rows: pa.Table
) -> None:
    controls = rows.filter(pa.compute.equal(rows["kind"], "control"))
    wide = injections(pixels, margin_px=4).make(controls).pixels
    assert wide.shape == (N, 3, 72, 72)
    torch.testing.assert_close(wide[:, :, 4:-4, 4:-4], torch.from_numpy(pixels[:, :, 8:-8, 8:-8]))


def test_no_rows_can_be_redrawn_and_made(pixels: np.ndarray, rows: pa.Table) -> None:
    fresh = injections(pixels)
    none = fresh.redraw(rows[:0], np.empty(0, np.int64))
    assert fresh.make(none).pixels.shape == (0, 3, 64, 64)
