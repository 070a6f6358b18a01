"""Two score tables of the same stamps: what matches, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from score_tables import changed, foreign, renamed, saved, without

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import tables
from darkhaloscope.evaluate.pairing import pair
from darkhaloscope.evaluate.reading import Asked, Scored, read


def scored(table: pa.Table, path: Path, **asked: object) -> Scored:
    return read(tables.find(saved(table, path)), Asked(**asked))  # type: ignore[arg-type]


def test_stamps_are_matched_by_their_names_in_any_order(tmp_path: Path) -> None:
    table = foreign()
    order = np.random.default_rng(3).permutation(len(table))[:900]
    other = changed(table, {"score": -table["score"].to_numpy()}).take(order)
    first = scored(table, tmp_path / "a.parquet", strata=("theta_e",))
    made = pair(first, scored(other, tmp_path / "b.csv"))
    np.testing.assert_array_equal(made.second.score, -made.first.score)
    assert (made.by, len(made.first), made.n_first_only, made.n_second_only) == ("id", 900, 450, 0)
    assert len(made.first.columns["theta_e"]) == 900
    np.testing.assert_array_equal(made.first.is_lens, made.second.is_lens)
    np.testing.assert_array_equal(made.first.galaxy, made.second.galaxy)


def test_numbers_in_one_table_match_their_digits_in_the_other(tmp_path: Path) -> None:
    table = changed(foreign(), {"id": np.arange(1350)})
    first = scored(table, tmp_path / "a.parquet")
    assert len(pair(first, scored(table, tmp_path / "b.csv")).first) == 1350


def test_galaxies_match_where_stamps_have_no_name_and_each_galaxy_one_row(tmp_path: Path) -> None:
    table = without(foreign(), ["id"])
    first = scored(table, tmp_path / "a.csv")
    assert pair(first, scored(table, tmp_path / "b.csv")).by == "group"
    twice = changed(table, {"group": np.arange(1350) // 2})
    with pytest.raises(DataError, match=r"nothing says which stamp of .*a.csv is which of .*c.csv"):
        pair(first, scored(twice, tmp_path / "c.csv"))


def test_nothing_in_common_is_refused_with_a_name_of_each(tmp_path: Path) -> None:
    first = scored(foreign(), tmp_path / "a.csv")
    with pytest.raises(DataError) as fault:
        pair(first, scored(foreign(of="calib"), tmp_path / "b.csv"))
    assert "no stamp in common: id is test-0 in the first row of one, calib-0" in str(fault.value)


def test_names_that_repeat_are_refused_in_both_tables_at_once(tmp_path: Path) -> None:
    table = changed(foreign(), {"id": np.arange(1350) // 2})
    with pytest.raises(DataError) as fault:
        pair(scored(table, tmp_path / "a.csv"), scored(table, tmp_path / "b.csv"))
    assert str(fault.value).count("column id repeats or lacks 675 of 1,350 names") == 2


def test_truths_that_differ_are_refused(tmp_path: Path) -> None:
    table = foreign()
    label = table["label"].to_numpy().copy()
    label[:3] = 0
    other = changed(renamed(table, {}), {"label": label, "kind": ["ring"] * 1350})
    with pytest.raises(DataError, match="3 of 1,350 stamps are a lens in one of"):
        pair(scored(table, tmp_path / "a.csv"), scored(other, tmp_path / "b.csv"))
