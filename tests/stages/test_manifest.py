"""The stage `manifest`: what it promises, and what its settings refuse."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_builders import (
    BANDS,
    BROAD,
    ONE_KIND_EACH,
    PAIRED,
    PHYSICAL,
    SHAPES,
    SKY_SHARES,
    config,
    cutouts_head,
    span,
    splits,
)  # fmt: skip
from pydantic import ValidationError

from darkhaloscope.core import schemas
from darkhaloscope.stages import manifest


@settings(deadline=None, max_examples=6)
@given(cut=st.integers(0, 60), seed=st.integers(0, 2**31))
def test_rows_do_not_depend_on_how_targets_are_partitioned(cut: int, seed: int) -> None:
    whole, settled = splits(60), config(seed=seed)
    head = cutouts_head(whole)
    parts = [manifest.run(part, head, config=settled) for part in (whole[:cut], whole[cut:])]
    joined = pa.concat_tables(parts).sort_by("stamp_id")
    assert joined.equals(manifest.run(whole, head, config=settled).sort_by("stamp_id"))


@pytest.mark.parametrize("n", [0, 1, 60])
def test_the_table_matches_its_schema(n: int) -> None:
    targets = splits(n)
    rows = manifest.run(targets, cutouts_head(targets), config=config())
    checked = schemas.conform(rows, schemas.manifest(BANDS), where="test")
    assert checked.num_rows == rows.num_rows >= n
    assert len(pc.unique(rows["stamp_id"])) == rows.num_rows


def test_every_usable_target_has_one_sky_row_and_guards_nothing_else() -> None:
    targets = splits(50)
    rows = manifest.run(targets, cutouts_head(targets), config=config())
    sky = rows.filter(pc.equal(rows["kind"], "sky"))
    assert sorted(sky["target_id"].to_pylist()) == sorted(targets["target_id"].to_pylist())
    guarded = rows.filter(pc.equal(rows["split"], "guard"))
    assert set(guarded["kind"].to_pylist()) == {"sky"}


def test_numbers_of_a_row_are_finite_or_null() -> None:
    targets = splits(100)
    rows = manifest.run(targets, cutouts_head(targets), config=config())
    for field in rows.schema:
        if pa.types.is_floating(field.type):
            values = rows[field.name].drop_null().to_numpy()
            assert np.isfinite(values).all(), field.name


def test_no_pixel_is_asked_for() -> None:
    (asked,) = [i for i in manifest.STAGE.inputs if i.table == "cutouts"]
    assert "pixels" not in asked.schema(BANDS).names


def changed(section: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**section, **changes}


def shaped(kind: str, **changes: Any) -> dict[str, Any]:
    """The shapes, with some settings of one kind changed."""
    return {**SHAPES, kind: {**SHAPES[kind], **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": {"test": changed(ONE_KIND_EACH, shares={})}}, "must name the same kinds"),
        ({"sets": {"train": changed(PAIRED, shares={"lens": 1.0})}}, "shares must be left out"),
        (
            {
                "sets": {
                    "test": changed(ONE_KIND_EACH, shares={**ONE_KIND_EACH["shares"], "lens": 1})
                }
            },
            "add up to 1",
        ),
        (
            {
                "sets": {
                    "test": changed(ONE_KIND_EACH, copies={**ONE_KIND_EACH["copies"], "ring": 2})
                }
            },
            "a negative galaxy counts once",
        ),
        ({"sky_shares": {"control": 0.9}}, "sky_shares must say how common"),
        ({"sky_shares": {**SKY_SHARES, "control": 0.99}}, "over 1"),
        ({"shapes": shaped("halo_ring", fwhm_over_psf=span(1.0, 2.0))}, "Einstein ring"),
        ({"shapes": shaped("ring", q=span(0.5, 1.5))}, "minor over major axis"),
        ({"shapes": shaped("ring", q=span(0.5, 1.0))}, "round, centred ring is an Einstein ring"),
        ({"shapes": shaped("ring", width_over_radius=span(0.05, 0.2))}, "Einstein ring"),
        ({"shapes": shaped("ring", offset_over_radius=span(0.0, 0.5))}, "0.15 or more"),
        ({"shapes": shaped("spiral", pitch_deg=span(0.0, 90.0))}, "within 0 and 90"),
        ({"shapes": shaped("spiral", young_share_r=span(0.5, 1.5))}, "within 0 and 1"),
        ({"shapes": shaped("merger", variants={"tails": 0.5})}, "must add up to 1"),
        ({"shapes": shaped("artefact", ghost_distance_over_radius=span(0.1, 1.0))}, "0.3 or more"),
        ({"shapes": shaped("companion", turn_deg=span(80.0, 170.0))}, "two images of a lens"),
        ({"shapes": shaped("radial_arc", shear=span(0.0, 0.5))}, "no stretch to be seen"),
        ({"shapes": shaped("scrambled", turned_deg=span(20.0, 90.0))}, "within 45 and 90"),
        ({"shapes": shaped("scrambled", inner_over_outer=span(0.5, 1.0))}, "at most 0.9"),
        (
            {"sky_shares": {**SKY_SHARES, "control": 0.8, "scrambled": 0.001}},
            "a counterfactual that no survey",
        ),
        ({"training": changed(BROAD, theta_e_arcsec=span(2.0, 1.0))}, "is above high"),
        ({"training": changed(BROAD, arc_snr_g=span(0.0, 10.0))}, "above 0"),
        ({"training": {"prior": "grid_large", "lens_q": span(0.5, 1)}}, "grid_small"),
        ({"physical": changed(PHYSICAL, src_q=span(0.0, 1.0))}, "minor over major axis"),
        ({"bands": ("g", "r")}, "need the bands g, r and z"),
        ({"sead": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
