"""Published figures as a file: which contradict each other, and in which figures."""

import re
from pathlib import Path

import pytest
from score_tables import lines

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import claims
from darkhaloscope.evaluate.claims import Claim

FIRST_RUN = Path(__file__).parents[2] / "docs/examples/first-run-published.toml"


def claim(*points: tuple[float, float], auroc: float | None = None) -> Claim:
    return Claim("x", "", auroc, {"t": points})


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as fault:
        claims.load(path)
    return str(fault.value)


def test_the_first_runs_published_figures_have_exactly_two_contradictions() -> None:
    said = claims.load(FIRST_RUN)
    falls, area = claims.judged(said)
    assert falls.name == "not_monotone"
    assert "74.7 % at FPR 0.0102 and only 70 % at the higher FPR 0.0179" in falls.message
    assert area.name == "auroc_bound"
    bound = re.fullmatch(
        r"AUROC 0\.9963 cannot come from the table “FPR at TPR”, whose rates allow "
        r"0\.\d{4} to (0\.\d{4})",
        area.message,
    )
    assert bound is not None
    assert round(float(bound[1]), 3) == 0.975
    text = claims.text(said, [falls, area])
    assert "cannot come from one set of scores: 2 contradictions" in text


def test_each_table_of_the_first_run_alone_rises() -> None:
    said = claims.load(FIRST_RUN)
    for points in said.tables.values():
        assert claims.judged(Claim("t", "", None, {"t": points})) == []


def test_pairs_with_a_point_in_common_are_one_contradiction_and_the_widest_is_named() -> None:
    found = claims.judged(claim((0.1, 0.6), (0.2, 0.5), (0.3, 0.4), (0.5, 0.8), (0.6, 0.75)))
    assert [c.name for c in found] == ["not_monotone", "not_monotone"]
    messages = "\n".join(c.message for c in found)
    assert "60 % at FPR 0.1 and only 40 % at the higher FPR 0.3" in messages
    assert "2 more pairs" in messages
    assert "80 % at FPR 0.5 and only 75 % at the higher FPR 0.6 cannot lie on one curve" in messages


def test_figures_that_can_belong_together_are_said_to() -> None:
    fine = claim((0.1, 0.6), (0.2, 0.7), auroc=0.8)
    assert claims.judged(fine) == []
    assert "2 rates and AUROC 0.8 can belong to one curve" in claims.text(fine, [])


def test_rounding_has_room_that_can_be_widened() -> None:
    rounded = claim((0.1, 0.74), (0.2, 0.73))
    assert len(claims.judged(rounded)) == 1
    assert claims.judged(rounded, tolerance=0.01) == []


def test_a_csv_of_rates_may_be_given_its_area_beside(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "fpr,tpr", "0.1,0.5", "0.2,0.6")
    said = claims.load(path, 0.999)
    assert said.points == ((0.1, 0.5), (0.2, 0.6))
    assert [c.name for c in claims.judged(said)] == ["auroc_bound"]


def test_all_faults_of_a_file_are_in_one_message(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "t.toml",
        "auroc = 99.6",
        "colour = 1",
        "[[tables]]",
        'name = "a"',
        "rates = [{ tpr = 90, fpr = 0.1 }, { tpr = 0.9, fp = 0.1 }]",
        "[[tables]]",
        "rates = []",
    )
    said = refusal(path)
    for part in (
        "auroc: expected a fraction within 0 to 1, got 99.6",
        "colour: not known here",
        "tables[0].rates[0].tpr: expected a fraction within 0 to 1, got 90",
        "tables[0].rates[1].fp: not known here",
        "tables[0].rates[1].fpr: expected a fraction",
        "tables[1]: expected a name and rates",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "auroc = ", "is no TOML"),
        ("b.toml", "auroc = 0.9", "tables: expected one or more"),
        ("c.csv", "tpr\n0.5", "has no column fpr"),
        ("d.csv", "tpr,fpr\nhigh,0.5", "column tpr: 1 cell: 'high'"),
        ("e.csv", "tpr,fpr\n,0.5", "expected a fraction within 0 to 1, got nan"),
    ],
)
def test_what_is_no_file_of_figures_is_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    assert said in refusal(lines(tmp_path / name, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "no.toml")
