"""The stage `stamps`: one row per row of the manifest, whatever the chunk."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from manifest_builders import BANDS, KINDS, SCALE, config, cutouts, splits
from pydantic import ValidationError

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data import pixels
from darkhaloscope.stages import manifest, stamps


def settings(**changes: object) -> StampsConfig:
    given: dict[str, object] = {
        "bands": BANDS,
        "pixel_scale_arcsec": SCALE,
        "seed": 4,
        "size_px": 64,
        "sets": ("val", "calib", "test"),
        "psf_profile": "moffat",
        "psf_beta": (2.8, 2.7, 2.6),
        "electrons_per_nmgy_per_exposure": (3500.0, 3500.0, 3500.0),
        "batch_rows": 32,
    }
    return StampsConfig.model_validate({**given, **changes})


def tile(n: int = 40, *, split: str = "test") -> tuple[pa.Table, pa.Table]:
    targets = splits(n, split=split)
    held = cutouts(targets)
    return manifest.run(targets, held, config=config()), held


def made(n: int = 40, **changes: object) -> pa.Table:
    rows, held = tile(n)
    return stamps.run(rows, held, device=Device(), config=settings(**changes))


def test_every_row_but_the_sky_becomes_a_stamp_of_its_schema() -> None:
    rows, _ = tile(160)
    table = schemas.conform(made(160), schemas.stamps(BANDS), where="test")
    asked = rows.filter(pc.not_equal(rows["kind"], "sky"))
    assert table["stamp_id"].equals(asked["stamp_id"])
    layout = pixels.layout_of(table.field("pixels"))
    assert (layout.bands, layout.size) == (BANDS, 64)
    assert np.isfinite(pixels.decode(table["pixels"], layout)).all()
    assert set(table["kind"].to_pylist()) == set(KINDS)


def test_neither_chunk_nor_batch_changes_a_row() -> None:
    rows, held = tile()
    parts = [
        stamps.run(rows[start : start + 17], held, device=Device(), config=settings(batch_rows=5))
        for start in range(0, rows.num_rows, 17)
    ]
    joined, whole = pa.concat_tables(parts), made()
    for name in set(whole.column_names) - {"pixels"}:
        got, expected = (t[name].to_numpy(zero_copy_only=False) for t in (joined, whole))
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=name)
        else:
            assert got.tolist() == expected.tolist()
    layout = pixels.layout_of(whole.field("pixels"))
    got, expected = (pixels.decode(t["pixels"], layout) for t in (joined, whole))
    np.testing.assert_allclose(got, expected, atol=1e-5 * expected.max())


def test_only_lenses_are_said_to_be_visible_and_only_what_is_lensed_is_magnified() -> None:
    table = made()
    kind = np.asarray(table["kind"].to_pylist())
    visible = table["ground_visible"].is_valid().to_numpy()
    np.testing.assert_array_equal(visible, kind == "lens")
    through = np.isin(kind, ["lens", "single_image"])
    for name in ("theta_e_arcsec", "theta_e_over_fwhm_r", "magnification"):
        np.testing.assert_array_equal(table[name].is_valid().to_numpy(), through, err_msg=name)
    for name in ("arc_snr_g", "injected_flux_r_nmgy", "src_mag_r", "injected_inside_share"):
        valid = table[name].is_valid().to_numpy()[kind != "artefact"]
        lit = kind[kind != "artefact"] != "control"
        np.testing.assert_array_equal(valid, lit, err_msg=name)


def test_lenses_are_magnified_and_brighter_signal_is_seen_in_more_of_them() -> None:
    table = made(120)
    lenses = table.filter(pc.equal(table["kind"], "lens"))
    assert pc.min(lenses["magnification"]).as_py() > 1
    snr = np.stack([lenses[f"arc_snr_{band}"].to_numpy() for band in BANDS]).max(0)
    visible = lenses["ground_visible"].to_numpy(zero_copy_only=False)
    assert not visible[snr < 20].any()


def test_controls_are_the_centre_of_their_cutout() -> None:
    rows, held = tile()
    table = stamps.run(rows, held, device=Device(), config=settings())
    controls = table.filter(pc.equal(table["kind"], "control"))
    at = pc.index_in(controls["target_id"], value_set=held["target_id"].combine_chunks())
    whole = pixels.decode(held["pixels"], pixels.layout_of(held.field("pixels")))
    expected = pixels.crop(whole[at.to_numpy()], 64)
    got = pixels.decode(controls["pixels"], pixels.layout_of(controls.field("pixels")))
    np.testing.assert_array_equal(got, expected)


def test_sets_that_are_not_asked_for_are_empty() -> None:
    rows, held = tile(split="train")
    table = stamps.run(rows, held, device=Device(), config=settings())
    assert table.num_rows == 0
    assert schemas.conform(table, schemas.stamps(BANDS), where="test").num_rows == 0
    table = stamps.run(rows[:20], held, device=Device(), config=settings(sets=("train",)))
    assert table.num_rows == 20 - pc.sum(pc.equal(rows[:20]["kind"], "sky")).as_py()


def test_a_row_without_a_cutout_names_the_stage_to_rerun() -> None:
    rows, held = tile()
    with pytest.raises(DataError, match="have no cutout; rerun stage manifest"):
        stamps.run(rows, held[:3], device=Device(), config=settings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"psf_beta": (2.8, 2.7)}, "one value for each of g, r, z"),
        ({"psf_beta": (1.0, 2.7, 2.6)}, "Moffat exponent"),
        ({"electrons_per_nmgy_per_exposure": (-1.0, 1.0, 1.0)}, "cannot be negative"),
        ({"sets": ("guard",)}, "test"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)
