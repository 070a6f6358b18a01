"""Only galaxies of train are mined, and no lens among them becomes a negative unseen."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.mined import MinedConfig
from darkhaloscope.stages import mined
from darkhaloscope.survey.positions import SCHEMA

BANDS = ("g", "r", "z")
PLANTED = 39  # the galaxy of train whose score is highest
STEP_DEG = 0.01


def config(**changed: Any) -> MinedConfig:
    """Settings that take ten galaxies and know no list."""
    stated: dict[str, Any] = {
        "bands": BANDS, "pixel_scale_arcsec": 0.262, "lens_weight": "equal", "model": "small",
        "rounds": 2, "top": 10, "merge_arcsec": 1.0, "prevalence": 1e-3, "review_above": 0.1,
        "known_lenses": [], "known_radius_arcsec": 2.0, "grades": [], "false_positives": [],
        "graded_radius_arcsec": 2.0, "completeness": [0.5], "least_gain": 0.1, "seed": 3,
        "interval_draws": 200,
    }  # fmt: skip
    return MinedConfig.model_validate({**stated, **changed})


def scores(n_train: int = 40, n_calib: int = 2000) -> pa.Table:
    """The sky of train, logits rising along it, and calib: negatives around -4, lenses around 2."""
    r = np.random.default_rng(1)
    n_lenses, n_test = n_calib // 4, 3
    logit = np.concatenate(
        [
            np.linspace(-8, 3, n_train),
            np.full(n_test, 9.0),
            r.normal(-4, 1.5, n_calib),
            r.normal(2, 2, n_lenses),
        ]
    )
    n = len(logit)
    is_sky = np.arange(n) < n_train + n_test
    is_lens = np.arange(n) >= n - n_lenses
    split = np.where(np.arange(n) < n_train, "train", np.where(is_sky, "test", "calib"))
    label = np.where(is_lens, 1, 0)
    return of_schema(
        mined._scores_read(BANDS),
        n,
        stamp_id=np.arange(n) + 1000,
        target_id=np.arange(n),
        region_id=np.zeros(n, np.int64),
        split=split,
        set=np.where(is_sky, "sky", "calib"),
        kind=np.where(is_sky, "sky", np.where(is_lens, "lens", "control")),
        label=pa.array(label.astype(np.int8), mask=is_sky),
        sky_weight=np.ones(n),
        area_deg2=np.full(n, 1e-3),
        ra_deg=STEP_DEG * np.arange(n),
        dec_deg=np.zeros(n),
        logit=logit.astype(np.float32),
    )


def manifest(table: pa.Table, *, n_test: int = 5) -> pa.Table:
    """Rows of kind sky of every target of the sky, and test stamps of other galaxies."""
    sky = table.filter(pa.compute.equal(table["set"], "sky"))
    n = sky.num_rows
    test = np.arange(n_test)
    return of_schema(
        mined._manifest_read(BANDS),
        n + n_test,
        stamp_id=np.concatenate([sky["stamp_id"].to_numpy(), 90_000 + test]),
        target_id=np.concatenate([sky["target_id"].to_numpy(), 80_000 + test]),
        split=sky["split"].to_pylist() + ["test"] * n_test,
        kind=["sky"] * n + ["control"] * n_test,
    )


def of_schema(schema: pa.Schema, n: int, **columns: Any) -> pa.Table:
    """A table; what is not given is null."""
    made = [columns[f.name] if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.table(
        [
            c if isinstance(c, pa.Array) else pa.array(c, f.type)
            for c, f in zip(made, schema, strict=True)
        ],
        schema=schema,
    )


def positions(*places: tuple[int, str | None]) -> pa.Table:
    """A list with an entry 1 arcsec beside each galaxy, and its grade."""
    n = len(places)
    return of_schema(
        SCHEMA,
        n,
        name=[f"J{galaxy:04d}" for galaxy, _ in places],
        ra_deg=np.array([STEP_DEG * galaxy + 1 / 3600 for galaxy, _ in places]),
        dec_deg=np.zeros(n),
        grade=[grade for _, grade in places],
    )


def mine(
    table: pa.Table | None = None, lists: dict[str, pa.Table] | None = None, **changed: Any
) -> dict[int, dict[str, Any]]:
    """Rows by galaxy."""
    table = scores() if table is None else table
    made = mined.run(
        scores=table, manifest=manifest(table), partition="small/round=1", lists=lists or {},
        config=config(**changed),
    )  # fmt: skip
    schemas.conform(made, schemas.mined(BANDS), where="mined")
    return {row["target_id"]: row for row in made.to_pylist()}


def negatives(rows: dict[int, dict[str, Any]]) -> set[int]:
    return {galaxy for galaxy, row in rows.items() if row["use"] == "negative"}


def test_the_most_lens_like_galaxies_of_train_are_mined_and_no_others() -> None:
    rows = mine()
    assert sorted(rows) == list(range(30, 40))
    assert {row["split"] for row in rows.values()} == {"train"}
    assert [rows[g]["rank"] for g in (39, 38, 30)] == [1, 2, 10]
    assert {row["round"] for row in rows.values()} == {1}


def test_a_share_of_the_targets_may_be_asked_for() -> None:
    assert len(mine(top=0.25)) == 10
    assert len(mine(top=1)) == 1


def test_a_negative_weighs_what_it_is_likely_to_be_one() -> None:
    rows = mine()
    for galaxy in negatives(rows):
        row = rows[galaxy]
        assert row["weight"] == pytest.approx(1 - row["p_lens"])
        assert row["p_lens_low"] <= row["p_lens"] <= row["p_lens_high"]
        assert 0 < row["p_lens"] <= 0.1
    p = [rows[galaxy]["p_lens"] for galaxy in sorted(rows)]
    assert p == sorted(p)


@pytest.mark.parametrize(
    ("section", "grade"), [("known_lenses", None), ("grades", "A"), ("grades", "C?")]
)
def test_a_planted_lens_that_a_list_names_is_left_out(section: str, grade: str | None) -> None:
    assert PLANTED in negatives(mine(review_above=0.99))
    rows = mine(
        lists={"list.csv": positions((PLANTED, grade))},
        review_above=0.99,
        **{section: ["list.csv"]},
    )
    row = rows[PLANTED]
    assert (row["use"], row["weight"], row["known_name"]) == ("left_out", 0, "J0039")
    assert row["known_separation_arcsec"] == pytest.approx(1, rel=1e-4)
    assert negatives(rows) == set(range(30, 39))


def test_a_planted_lens_that_no_list_names_waits_for_a_person() -> None:
    row = mine()[PLANTED]
    assert (row["use"], row["weight"]) == ("review", 0)
    assert row["p_lens"] > 0.1
    assert row["reason"].startswith("a lens with probability")


def test_a_known_lens_is_left_out_however_it_scores() -> None:
    rows = mine(lists={"a": positions((5, None))}, known_lenses=["a"])
    assert rows[5]["use"] == "left_out"
    assert sorted(rows) == [5, *range(30, 40)]


def test_a_list_says_itself_how_near_is_near() -> None:
    wide = positions((31, None)).set_column(1, "ra_deg", pa.array([31 * STEP_DEG + 5 / 3600]))
    assert mine(lists={"a": wide}, known_lenses=["a"])[31]["use"] == "negative"
    wide = wide.set_column(5, "radius_arcsec", pa.array([6.0]))
    assert mine(lists={"a": wide}, known_lenses=["a"])[31]["use"] == "left_out"


@pytest.mark.parametrize(("section", "grade"), [("grades", "X"), ("false_positives", None)])
def test_what_a_person_calls_no_lens_is_a_negative_of_full_weight(
    section: str, grade: str | None
) -> None:
    listed = positions((PLANTED, grade), (3, grade))
    rows = mine(lists={"a": listed}, **{section: ["a"]})
    for galaxy in (PLANTED, 3):
        row = rows[galaxy]
        assert (row["use"], row["weight"], row["p_lens"]) == ("negative", 1, 0)
        assert row["reason"]


def test_a_known_lens_that_is_also_listed_as_a_false_positive_is_left_out() -> None:
    both = {"known": positions((PLANTED, None)), "false": positions((PLANTED, None))}
    rows = mine(lists=both, known_lenses=["known"], false_positives=["false"])
    assert rows[PLANTED]["use"] == "left_out"


def test_a_grade_without_a_meaning_is_refused_and_an_empty_one_says_nothing() -> None:
    some = positions((PLANTED, None), (3, "X"))
    assert mine(lists={"a": some}, grades=["a"])[PLANTED]["use"] == "review"
    with pytest.raises(DataError, match="a: none of its 1 entries is graded"):
        mine(lists={"a": positions((PLANTED, None))}, grades=["a"])
    with pytest.raises(DataError, match="a: no meaning is known of the grades maybe"):
        mine(lists={"a": positions((PLANTED, "maybe"))}, grades=["a"])


def test_targets_at_one_place_are_one_row() -> None:
    table = scores()
    ra = table["ra_deg"].to_numpy().copy()
    ra[38] = ra[39] + 0.5 / 3600
    rows = mine(table.set_column(table.schema.get_field_index("ra_deg"), "ra_deg", pa.array(ra)))
    assert 38 not in rows
    assert rows[39]["n_merged"] == 2
    assert sorted(rows) == [*range(29, 38), 39]


@pytest.mark.parametrize("split", ["val", "calib", "test"])
def test_a_galaxy_that_stands_in_another_split_refuses_the_round(split: str) -> None:
    table = scores()
    rows = manifest(table)
    again = rows.slice(35, 1).set_column(3, "split", pa.array([split]))
    again = again.cast(rows.schema)
    with pytest.raises(DataError, match=rf"1 of the galaxies .* target_id 35 \({split}\)"):
        mined.run(
            scores=table, manifest=pa.concat_tables([rows, again]), partition="small/round=0",
            lists={}, config=config(),
        )  # fmt: skip


def test_a_test_set_that_has_changed_refuses_the_round() -> None:
    table = scores()
    whole = {"scores": table, "lists": {}, "config": config()}
    first = mined.run(manifest=manifest(table), partition="small/round=0", **whole)
    again = mined.run(manifest=manifest(table), partition="small/round=1", earlier=first, **whole)
    assert again["test_sha256"][0] == first["test_sha256"][0]
    with pytest.raises(DataError, match="the test set has changed since mining began"):
        mined.run(
            manifest=manifest(table, n_test=6), partition="small/round=1", earlier=first, **whole
        )


def test_the_order_of_rows_changes_nothing() -> None:
    table, order = scores(), np.random.default_rng(2).permutation(scores().num_rows)
    rows = manifest(table)
    straight, shuffled = (
        mined.run(scores=t, manifest=m, partition="small/round=0", lists={}, config=config())
        for t, m in (
            (table, rows),
            (table.take(order), rows.take(pa.array(range(rows.num_rows))[::-1])),
        )
    )
    assert straight.equals(shuffled)


def test_a_sky_of_train_without_a_target_mines_nothing() -> None:
    table = scores()
    made = mine(table.filter(pa.compute.not_equal(table["split"], "train")))
    assert made == {}


def test_a_score_that_is_nan_is_refused() -> None:
    table = scores()
    logit: NDArray[np.float32] = table["logit"].to_numpy().copy()
    logit[7] = np.nan
    spoilt = table.set_column(table.schema.get_field_index("logit"), "logit", pa.array(logit))
    with pytest.raises(DataError, match="1 of 40 scores of the sky are NaN"):
        mine(spoilt)
