"""Any finder's table as rows: what is understood, what is left out, what is refused and how."""

import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluate_builders import scores
from score_tables import changed, foreign, lines, renamed, saved, without

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import tables
from darkhaloscope.evaluate.reading import Asked, Scored, read
from darkhaloscope.evaluate.rows import from_scores


def scored(path: Path, **asked: object) -> Scored:
    return read(tables.find(path), Asked(**asked))  # type: ignore[arg-type]


def refusal(path: Path, **asked: object) -> str:
    with pytest.raises(DataError) as fault:
        scored(path, **asked)
    return str(fault.value)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_csv_and_parquet_say_the_same(tmp_path: Path, name: str) -> None:
    table = foreign()
    read_back = scored(saved(table, tmp_path / name), strata=("theta_e", "seeing"))
    rows = read_back.rows
    np.testing.assert_array_equal(rows.score, table["score"].to_numpy())
    np.testing.assert_array_equal(rows.is_lens, table["label"].to_numpy() == 1)
    np.testing.assert_array_equal(
        rows.columns["theta_e"], table["theta_e"].to_numpy(zero_copy_only=False)
    )
    names = [rows.kinds[k] for k in rows.kind]
    assert names == table["kind"].to_pylist()
    assert rows.n_regions == 12
    assert len(np.unique(rows.galaxy)) == len(table)
    assert read_back.n_left_out == 0


def test_a_folder_of_parquet_is_read_whole_with_what_its_folders_say(tmp_path: Path) -> None:
    for part in ("test", "calib"):
        for tile in (0, 1):
            table = foreign(20, 60, of=f"{part}{tile}")
            saved(without(table, ["kind"]), tmp_path / f"set={part}/tile={tile}.parquet")
    (tmp_path / "set=test" / "done.json").write_text("{}")
    assert "it holds the sets calib, test; choose one: --set NAME" in refusal(tmp_path)
    assert len(scored(tmp_path, chosen_set="test").rows) == 160
    assert len(scored(tmp_path, chosen_set="all").rows) == 320
    assert scored(tmp_path / "set=test").name == "test"
    assert "--set tset: there is no such set; there are calib, test" in refusal(
        tmp_path, chosen_set="tset"
    )


def test_a_set_may_be_a_column(tmp_path: Path) -> None:
    table = changed(foreign(), {"split": np.where(np.arange(1350) % 2, "train", "test")})
    path = saved(table, tmp_path / "t.csv")
    assert "it holds the sets test, train" in refusal(path)
    assert len(scored(path, chosen_set="test").rows) == 675
    assert "no column says of which set" in refusal(
        saved(foreign(), tmp_path / "u.csv"), chosen_set="test"
    )


def test_our_own_tables_are_read_as_the_report_reads_them(tmp_path: Path) -> None:
    table = scores(60, 400)
    mine = scored(saved(table, tmp_path / "scores.parquet"))
    theirs = from_scores(table, weight=None)
    assert mine.is_own
    for name in ("score", "is_lens", "galaxy", "sky_weight", "area_deg2", "region", "source"):
        np.testing.assert_array_equal(getattr(mine.rows, name), getattr(theirs, name))
    for name in ("kinds", "n_sources", "n_regions", "sources_by_kind", "score_kind"):
        assert getattr(mine.rows, name) == getattr(theirs, name)
    np.testing.assert_array_equal(mine.rows.kind, theirs.kind)


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    table = renamed(foreign(), {"score": "p_lens", "label": "truth", "group": "host"})
    path = saved(table, tmp_path / "t.csv")
    said = refusal(path)
    assert "no column score (near it: p_lens); name it: --column score=NAME" in said
    assert "no column label (near it: truth); name it: --column label=NAME" in said
    assert "the columns are: id, p_lens, truth, host" in said
    names = {"score": "p_lens", "label": "truth", "group": "host"}
    assert scored(path, columns=names).columns["group"] == "host"
    assert "no column hots (near it: host)" in refusal(path, columns={**names, "group": "hots"})


def test_all_faults_of_a_table_are_in_one_message(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "t.csv",
        "score,label,group,sky_weight,kind",
        "high,1,a,,lens",
        "nan,1,b,,lens",
        "0.5,maybe,c,1,ring",
        "0.4,0,,1,lens",
        "0.3,0,e,-1,ring",
    )
    said = refusal(path, strata=("theta_e",))
    for part in (
        "column score: 1 cell: 'high' (row 1); expected numbers",
        "column label: 1 cell: 'maybe' (row 3); expected 0 or 1, true or false",
        "column score: 1 of 4 scores are NaN or empty, the first in row 2:",
        "column group: 1 of 4 rows have no galaxy",
        "column sky_weight: 1 of 2 negatives have a weight empty, negative or infinite",
        "column kind: 1 of 2 negatives are called lens",
        "no column theta_e",
        "the columns are: score, label, group, sky_weight, kind",
    ):
        assert part in said


@pytest.mark.parametrize(("text", "value"), [("inf", np.inf), ("-INF", -np.inf), ("1e3", 1e3)])
def test_scores_may_be_infinite(tmp_path: Path, text: str, value: float) -> None:
    path = lines(tmp_path / "t.csv", "score,label", f"{text},1", "0,0")
    assert scored(path).rows.score[0] == value


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "null", "None", "  "])
def test_a_score_that_is_not_there_is_refused_and_a_label_leaves_its_row_out(
    tmp_path: Path, cell: str
) -> None:
    rows = ["score,label", "2,1", "1,0"]
    assert "1 of 3 scores are NaN or empty" in refusal(
        lines(tmp_path / "score.csv", *rows, f"{cell},0")
    )
    made = scored(lines(tmp_path / "label.csv", *rows, f"nan,{cell}"))
    assert (len(made.rows), made.n_left_out) == (2, 1)


@pytest.mark.parametrize("pair", [("1", "0"), ("true", "false"), ("TRUE", "False"), ("1.0", "0.0")])
def test_labels_are_zero_and_one_or_true_and_false(tmp_path: Path, pair: tuple[str, str]) -> None:
    made = scored(lines(tmp_path / "t.csv", "score,label", f"2,{pair[0]}", f"1,{pair[1]}"))
    assert made.rows.is_lens.tolist() == [True, False]


@pytest.mark.parametrize("label", ["2", "-1", "lens", "yes", "0.5"])
def test_other_labels_are_refused(tmp_path: Path, label: str) -> None:
    said = refusal(lines(tmp_path / "t.csv", "score,label", "2,1", "1,0", f"0,{label}"))
    assert f"column label: 1 cell: '{label}' (row 3); expected 0 or 1" in said


def test_rows_are_counted_over_rows_without_a_label_and_over_batches(tmp_path: Path) -> None:
    few = lines(tmp_path / "t.csv", "score,label", "2,1", ",", ",", "1,0", ",0", "nan,1")
    assert "2 of 4 scores are NaN or empty, the first in row 5:" in refusal(few)
    n = (1 << 18) + 5
    score = np.zeros(n)
    score[[n - 3, n - 1]] = np.nan
    label = np.arange(n) % 2
    label[[n - 2, n - 4]] = 7
    said = refusal(saved(pa.table({"score": score, "label": label}), tmp_path / "t.parquet"))
    assert f"2 cells such as 7 (the first in row {n - 3})" in said
    assert f"the first in row {n - 2}" in said


def test_what_could_not_be_read_is_not_called_a_table_without_labels(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "score,label", "2,a", "1,b")
    assert "no rows" not in refusal(path)
    rows = "".join(f"{i % 7},{i % 2},ring\n" for i in range(20_000))
    path = tmp_path / "latin.csv"
    path.write_bytes(f"score,label,kind\n{rows}1,0,écrin\n".encode("latin-1"))
    said = refusal(path)
    assert "is not in UTF-8: save it as UTF-8" in said
    assert "no rows" not in said


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.float32(), pa.bool_(), pa.string()])
def test_labels_of_any_type_that_has_them(tmp_path: Path, kind: pa.DataType) -> None:
    text = pa.array(["1", "0", None]) if kind == pa.string() else pa.array([1, 0, None]).cast(kind)
    table = pa.table({"score": [2.0, 1.0, 0.0], "label": text})
    made = scored(saved(table, tmp_path / "t.parquet"))
    assert made.rows.is_lens.tolist() == [True, False]
    assert made.n_left_out == 1


def test_numbers_and_texts_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    dates = pa.array([1, 2], pa.timestamp("s"))
    table = pa.table({"score": dates, "label": [1, 2], "group": [1.5, float(2**60)]})
    said = refusal(saved(table, tmp_path / "t.parquet"))
    assert "column score: 2 cells such as" in said
    assert "column label: 1 cell: 2" in said
    assert (
        "column group: 2 cells such as 1.5, 1.152921504606847e+18 (the first in row 1); "
        "expected text or whole" in said
    )


def test_galaxies_that_a_float_has_merged_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "score,label,group", "1,1,3.9627e+16", "0,0,3.9627e+16")
    assert "column group: 2 cells such as '3.9627e+16'" in refusal(path)


def test_whole_floats_name_galaxies(tmp_path: Path) -> None:
    table = pa.table({"score": [3.0, 2.0, 1.0], "label": [1, 0, 0], "group": [1.0, 7.0, 7.0]})
    assert scored(saved(table, tmp_path / "t.parquet")).rows.galaxy.tolist() == [1, 7, 7]


def test_files_of_one_table_may_hold_names_as_numbers_and_as_text(tmp_path: Path) -> None:
    saved(pa.table({"score": [2.0, 1.0], "label": [1, 0], "group": [5, 6]}), tmp_path / "a.parquet")
    text = pa.table({"score": [2.0, 1.0], "label": [1, 0], "group": ["5", "x"]})
    saved(text, tmp_path / "b.parquet")
    galaxy = scored(tmp_path).rows.galaxy
    assert galaxy[0] == galaxy[2]
    assert len(set(galaxy.tolist())) == 3


def test_probabilities_and_ranks_are_checked_and_ranks_turned(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "score,label", "1,1", "2,0", "3,0")
    assert scored(path, score_kind="rank").rows.score.tolist() == [-1, -2, -3]
    said = refusal(path, score_kind="probability")
    assert re.search(r"2 of 3 scores are outside 0 to 1 \(2 to 3, the first in row \d\)", said)
    assert "--score-kind logit, the default" in said
    broken = lines(tmp_path / "u.csv", "score,label", "0,1", "2.5,0", "3,0")
    assert "2 of 3 scores are no rank" in refusal(broken, score_kind="rank")


def test_one_class_and_no_rows_are_refused(tmp_path: Path) -> None:
    said = refusal(lines(tmp_path / "t.csv", "score,label", "1,1", "2,1"))
    assert "one class only: 2 rows and no negative" in said
    assert "add rows of label 0, or name the column" in said
    assert "no rows" in refusal(lines(tmp_path / "u.csv", "score,label"))
    assert "no rows" in refusal(lines(tmp_path / "v.csv", "score,label", "1,"))


def test_weights_belong_to_all_of_a_class_or_to_none(tmp_path: Path) -> None:
    head = "score,label,sky_weight,weight"
    none = scored(lines(tmp_path / "t.csv", head, "2,1,,", "1,0,,"))
    assert none.rows.sky_weight is None
    assert none.rows.weight is None
    assert "weight" not in none.columns
    both = scored(lines(tmp_path / "u.csv", head, "2,1,,3", "1,0,0.5,"))
    assert both.rows.sky_weight is not None
    assert both.rows.weight is not None
    said = refusal(lines(tmp_path / "v.csv", head, "2,1,,0", "1,0,0.5,", "1,0,,"))
    assert "column sky_weight: 1 of 2 negatives have a weight empty" in said
    assert "column weight: every weight of lenses is 0" in said


def test_graded_rows_sources_and_their_kinds_are_read(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "t.csv",
        "score,label,graded,source,source_kind",
        *("3,1,,s1,sersic", "3,1,,s1,sersic", "3,1,,s2,catalogue", "1,0,1,,", "0,0,0,,"),
    )
    rows = scored(path).rows
    assert rows.is_graded is not None
    assert rows.is_graded.tolist() == [False, False, False, True, False]
    assert rows.n_sources == 2
    assert rows.sources_by_kind == {"catalogue": 1, "sersic": 1}


def test_a_lens_is_a_lens_and_a_nameless_negative_a_negative(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "score,label,kind", "2,1,ring", "1,0,ring", "0,0,")
    rows = scored(path).rows
    assert [rows.kinds[k] for k in rows.kind] == ["lens", "ring", "negative"]
    assert rows.kinds == ("lens", "negative", "ring")


def test_a_column_of_strata_may_have_a_role_too(tmp_path: Path) -> None:
    rows = scored(saved(foreign(), tmp_path / "t.csv"), strata=("region", "score")).rows
    assert rows.columns["region"][:3].tolist() == [0, 1, 2]
    assert rows.n_regions == 12


def test_text_with_marks_blanks_and_endings_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffscore , label,group\r\n  2 ,1,"a,b"\r\n1, 0,c\r\n'.encode())
    assert scored(path).rows.is_lens.tolist() == [True, False]
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(b"score,label\n2,1\n1,0\n"))
    assert scored(packed).rows.score.tolist() == [2, 1]
    tabs = tmp_path / "t.tsv"
    tabs.write_text("score\tlabel\n2\t1\n1\t0\n")
    assert scored(tabs).rows.score.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "is empty"),
        ("b.csv", b"score;label\n1;0\n", "has no commas between its columns: 'score;label'"),
        ("c.csv", b"score,label\n1,1\n\xff\xfe,0\n", "no table that can be read"),
        ("d.csv", b"score,label,score\n1,1,2\n", "has columns twice: 'score'"),
        ("e.csv", b"score,label\n1,1\n2,0,5\n3\n", "2 lines are broken; the first has 3 columns"),
        ("f.parquet", b"PAR1 and no more", "is no whole Parquet file"),
        ("g.parquet", b"score,label\n", "is no whole Parquet file"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert said in message
    assert name in message


def test_a_file_that_breaks_off_in_its_pages_is_named(tmp_path: Path) -> None:
    path = saved(without(foreign(), ["id"]), tmp_path / "t.parquet")
    whole = bytearray(path.read_bytes())
    whole[200:2000] = bytes(1800)
    path.write_bytes(whole)
    assert "breaks off or is damaged" in refusal(path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "no.csv")
    assert "holds no Parquet file" in refusal(tmp_path)


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    whole = pq.ParquetFile.iter_batches

    def watched(self: pq.ParquetFile, size: int, columns: list[str]) -> object:
        seen.append(columns)
        return whole(self, size, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    table = changed(foreign(), {"pixels": [b"x" * 10] * 1350})
    scored(saved(table, tmp_path / "t.parquet"))
    assert seen == [["score", "label", "group", "kind", "region", "id"]]


def test_many_batches_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = foreign()
    once = scored(saved(table, tmp_path / "t.parquet")).rows
    monkeypatch.setattr(tables, "BATCH_ROWS", 100)
    monkeypatch.setattr(tables, "CSV_BLOCK_BYTES", 4096)
    for path in (tmp_path / "t.parquet", saved(table, tmp_path / "t.csv")):
        again = scored(path).rows
        np.testing.assert_array_equal(again.score, once.score)
        np.testing.assert_array_equal(again.galaxy, once.galaxy)
        np.testing.assert_array_equal(again.kind, once.kind)
