"""What earlier rounds mined becomes negatives, once each; what may not be trained on is refused."""

from typing import Any

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pytest

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import manifesting
from darkhaloscope.ml.mined_rows import Mined, training_rows

N = 12
SPLITS = pa.concat_tables([mb.splits(N, split="train")[:8], mb.splits(N, split="test")[8:]])
IDS = SPLITS["target_id"].to_numpy()
SKY = manifesting.sky_rows(
    manifesting.hosts_of(SPLITS, mb.cutouts_head(SPLITS), mb.BANDS), mb.BANDS
)


def chosen(*rows: tuple[int, int, str, float], test: str = "abc") -> pa.Table:
    """Rows of `mined`: place of the galaxy, round, use, weight."""
    place, number, use, weight = (list(values) for values in zip(*rows, strict=True))
    at = np.array(place)
    columns: dict[str, Any] = {
        "target_id": IDS[at],
        "stamp_id": SKY["stamp_id"].to_numpy()[at],
        "round": number,
        "rank": np.arange(len(at)) + 1,
        "use": use,
        "weight": weight,
        "split": ["train"] * len(at),
        "reason": [""] * len(at),
        "test_sha256": [test] * len(at),
    }
    return mb.table(columns, schemas.mined(mb.BANDS), len(at))


def taken(mined: pa.Table | None, manifest: pa.Table = SKY) -> Mined:
    return training_rows(mined, manifest, SPLITS)


@pytest.mark.parametrize("mined", [None, chosen((0, 0, "negative", 1.0))[:0]])
def test_the_first_round_has_nothing_mined(mined: pa.Table | None) -> None:
    found = taken(mined)
    assert found.rows.num_rows == len(found.weights) == 0
    assert found.without_left_out(SKY).equals(SKY)


def test_a_negative_is_its_row_of_the_sky_with_a_label_and_a_weight() -> None:
    found = taken(chosen((3, 0, "negative", 0.97), (1, 0, "negative", 0.95)))
    assert found.rows["target_id"].to_pylist() == sorted(IDS[[1, 3]].tolist())
    expected = SKY.take(pa.array([1, 3]))
    for name in SKY.column_names:
        if name not in ("kind", "label"):
            assert found.rows[name].equals(expected[name]), name
    assert found.rows["kind"].to_pylist() == ["mined"] * 2
    assert found.rows["label"].to_pylist() == [0, 0]
    assert found.rows.schema.equals(SKY.schema)
    np.testing.assert_allclose(found.weights, [0.95, 0.97])


def test_a_round_without_negatives_adds_none() -> None:
    found = taken(chosen((1, 0, "review", 0.0)))
    assert found.rows.num_rows == len(found.weights) == 0
    assert found.left_out.tolist() == [IDS[1]]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_a_galaxy_of_several_rounds_counts_once_with_its_latest_weight(order: list[int]) -> None:
    mined = chosen((2, 0, "negative", 0.91), (2, 2, "negative", 0.99), (2, 1, "negative", 0.95))
    found = taken(mined.take(order))
    assert found.rows.num_rows == 1
    np.testing.assert_allclose(found.weights, [0.99])


def test_review_and_left_out_galaxies_are_trained_on_in_no_way() -> None:
    mined = chosen(
        (0, 0, "negative", 0.95), (1, 0, "review", 0.0), (2, 0, "left_out", 0.0),
        (3, 0, "review", 0.0), (3, 1, "negative", 0.95),
    )  # fmt: skip
    found = taken(mined)
    assert found.rows["target_id"].to_pylist() == [IDS[0]]
    assert set(found.left_out.tolist()) == set(IDS[[1, 2, 3]].tolist())
    left = found.without_left_out(SKY)["target_id"].to_pylist()
    assert left == [*IDS[[0]].tolist(), *IDS[4:].tolist()]


def test_a_mix_without_mined_leaves_out_what_is_left_out_all_the_same() -> None:
    found = taken(chosen((0, 0, "negative", 0.95), (1, 0, "review", 0.0)))
    assert found.taken({"lens": 1.0, "mined": 0.1}) is found
    without = found.taken({"lens": 1.0})
    assert without.rows.num_rows == len(without.weights) == 0
    assert without.left_out.tolist() == [IDS[1]]


def with_lens(place: int, family: str) -> pa.Table:
    """A manifest that holds one galaxy as a lens."""
    row = SKY[place : place + 1]
    for name, value in (("kind", "lens"), ("family", family), ("label", 1)):
        at = row.schema.get_field_index(name)
        field = row.schema.field(at)
        row = row.set_column(at, field, pa.array([value], field.type))
    return pa.concat_tables([SKY, row])


def test_the_host_of_an_injected_lens_may_be_mined() -> None:
    assert taken(chosen((0, 0, "negative", 0.9)), with_lens(0, "injection")).rows.num_rows == 1


@pytest.mark.parametrize(
    ("mined", "manifest", "message"),
    [
        (chosen((9, 0, "negative", 0.9)), SKY, f"1 of test .target_id {IDS[9]}"),
        (chosen((9, 0, "review", 0.9)), SKY, f"1 of test .target_id {IDS[9]}"),
        (chosen((0, 0, "negative", 0.9)), with_lens(0, "look_alike"), "1 known for lenses"),
        (
            chosen((0, 0, "left_out", 0.0), (0, 1, "negative", 0.9)),
            SKY,
            f"1 known for lenses .target_id {IDS[0]}",
        ),
        (chosen((0, 0, "negative", 0.9)), SKY[1:], "1 without a row of kind sky"),
        (chosen((0, 0, "negative", 0.0)), SKY, "1 with a weight outside"),
        (chosen((0, 0, "negative", 1.5)), SKY, "1 with a weight outside"),
        (
            pa.concat_tables(
                [chosen((0, 0, "negative", 0.9)), chosen((1, 1, "negative", 0.9), test="def")]
            ),
            SKY,
            r"not the same in all rounds \(abc in round 0, def in round 1\)",
        ),
    ],
)
def test_what_may_not_be_trained_on_refuses_the_round(
    mined: pa.Table, manifest: pa.Table, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        taken(mined, manifest)


def test_all_faults_come_in_one_message() -> None:
    rows = [(place, 0, "negative", 0.9) for place in range(8, 12)]
    unknown = chosen((0, 0, "negative", 2.0), *rows)
    at = unknown.schema.get_field_index("target_id")
    ids = unknown["target_id"].to_numpy().copy()
    ids[-1] += 10**6
    unknown = unknown.set_column(at, unknown.schema.field(at), pa.array(ids))
    with pytest.raises(DataError) as raised:
        taken(unknown)
    said = str(raised.value)
    for part in ("3 of test", "1 of no split", "1 without a row of kind sky", "1 with a weight"):
        assert part in said
