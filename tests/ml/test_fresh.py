"""Injections drawn while training: new each time, on the same galaxies, painted as stamps are."""

from functools import partial
from typing import Any

import manifest_builders as mb
import numpy as np
import psf_builders as psfs
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data.pixels import Layout
from darkhaloscope.lensing.render import REFERENCE
from darkhaloscope.ml import fresh, injection, manifesting, transforms
from darkhaloscope.ml.fresh import Injections
from darkhaloscope.ml.pixel_table import PixelTable
from darkhaloscope.ml.transforms import Augmentation

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


def injections(
    pixels: np.ndarray, margin_px: int = 0, painting: StampsConfig = PAINTING
) -> Injections:
    splits = mb.splits(N, split="train")
    heads = mb.cutouts_head(splits)
    table = PixelTable(
        heads, [pixels], Layout(mb.BANDS, 80, mb.SCALE), of="target_id", device=Device()
    )
    return Injections(splits, table, mb.config(), painting, margin_px=margin_px, device=Device())


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


def test_galaxies_as_observed_stay_as_they_are(
    pixels: np.ndarray, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = np.array(rows["kind"].to_pylist(), dtype=object)
    families = np.array(rows["family"].to_pylist(), dtype=object)
    is_known, is_mined = kinds == "control", kinds == "companion"
    families[is_known] = "look_alike"
    kinds[is_mined] = "mined"
    for name, values in (("kind", kinds), ("family", families)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values.tolist()))
    redraw = manifesting.redraw
    asked: list[tuple[str, str]] = []

    def watched(part: pa.Table, *args: Any, **kwargs: Any) -> pa.Table:
        asked.extend(zip(part["kind"].to_pylist(), part["family"].to_pylist(), strict=True))
        return redraw(part, *args, **kwargs)

    monkeypatch.setattr(manifesting, "redraw", watched)
    drawn = injections(pixels).redraw(rows, np.full(rows.num_rows, 3))
    stays = is_known | is_mined
    assert drawn.filter(pa.array(stays)).equals(rows.filter(pa.array(stays)))
    is_same = drawn["stamp_id"].to_numpy() == rows["stamp_id"].to_numpy()
    np.testing.assert_array_equal(is_same, stays)
    assert asked
    assert not any(kind == "mined" or family == "look_alike" for kind, family in asked)


def test_nothing_is_painted_on_a_mined_galaxy(pixels: np.ndarray) -> None:
    splits = mb.splits(N, split="train")
    sky = manifesting.sky_rows(
        manifesting.hosts_of(splits, mb.cutouts_head(splits), mb.BANDS), mb.BANDS
    )
    at = sky.schema.get_field_index("kind")
    mined = sky.set_column(at, sky.schema.field(at), pa.array(["mined"] * N))
    expected = hosts_of(mined, pixels)[:, :, 4:-4, 4:-4]
    assert torch.equal(injections(pixels).make(mined).pixels, expected)


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


def test_psf_images_go_with_their_galaxies(pixels: np.ndarray, rows: pa.Table) -> None:
    rng = np.random.default_rng(6)
    blobs = np.stack([[psfs.moffat(2.5 + rng.uniform(), 3.0, 31)] * 3 for _ in range(N)])
    images = (blobs / blobs.sum((2, 3), keepdims=True)).astype(np.float32)
    splits = mb.splits(N, split="train")
    held = mb.with_psf_images(mb.cutouts(splits), images)
    tables = [
        PixelTable(
            mb.cutouts_head(splits), [values], Layout(mb.BANDS, values.shape[-1], mb.SCALE),
            of="target_id", device=Device(),
        )
        for values in (pixels, images)
    ]  # fmt: skip
    painting = PAINTING.model_copy(update={"psf_profile": "image"})
    fresh = Injections(
        splits, tables[0], mb.config(), painting, margin_px=0, device=Device(), psfs=tables[1]
    )
    some = rows[3:12]
    camera = injection.Camera(
        mb.BANDS, mb.SCALE, 64, "image", (2.9, 2.9, 2.9), (3500.0, 3500.0, 3500.0)
    )
    at = [held["target_id"].to_pylist().index(t) for t in some["target_id"].to_pylist()]
    painted = injection.paint_rows(some, held.take(at), pixels[at], camera=camera, seed=2)
    torch.testing.assert_close(fresh.make(some).pixels, painted.pixels)


def test_a_stamp_that_is_moved_is_painted_where_it_ends(
    pixels: np.ndarray, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "Camera", partial(injection.Camera, plan=REFERENCE))
    # Trails and ghosts leave the stamp: what they have in it depends on where it ends.
    rows = rows.filter(pc.not_equal(rows["kind"], "artefact"))
    rows = rows.set_column(
        rows.schema.get_field_index("arc_snr_target"),
        "arc_snr_target",
        pa.nulls(rows.num_rows, pa.float32()),  # the S/N is that of what is seen
    )
    by = np.arange(rows.num_rows) % 9 - 4
    moved = Augmentation(np.zeros_like(by), by, by[::-1].copy())
    quiet = PAINTING.model_copy(update={"electrons_per_nmgy_per_exposure": (0.0, 0.0, 0.0)})
    wide = quiet.model_copy(update={"size_px": 72})
    got = injections(pixels, margin_px=4, painting=quiet).make(rows, moved).pixels
    whole = injections(pixels, painting=wide).make(rows).pixels
    expected = transforms.moved(whole, 64, moved)
    light = (expected - transforms.moved(hosts_of(rows, pixels), 64, moved)).amax((1, 2, 3))
    worst = (got - expected).abs().amax((1, 2, 3))
    off = worst - 2e-3 * light
    assert float(off.max()) <= 1e-6, rows["kind"][int(off.argmax())]
    is_control = torch.from_numpy(np.array(rows["kind"].to_pylist()) == "control")
    assert torch.equal(got[is_control], expected[is_control])


def hosts_of(rows: pa.Table, pixels: np.ndarray) -> torch.Tensor:
    targets = mb.splits(N, split="train")["target_id"].to_pylist()
    at = [targets.index(t) for t in rows["target_id"].to_pylist()]
    return torch.from_numpy(pixels[at][:, :, 4:-4, 4:-4].copy())


def test_cutouts_too_narrow_for_the_moves_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"80 px do not hold stamps of 64 px .* by up to 9"):
        injections(pixels, margin_px=9)


def test_no_rows_can_be_redrawn_and_made(pixels: np.ndarray, rows: pa.Table) -> None:
    fresh = injections(pixels)
    none = fresh.redraw(rows[:0], np.empty(0, np.int64))
    assert fresh.make(none).pixels.shape == (0, 3, 64, 64)
