import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import metrics, thresholds
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Plan
from darkhaloscope.evaluate.rows import Rows, rows
from darkhaloscope.evaluate.thresholds import Thresholds

PLAN = Plan(Draws(1, 200), "sim", "drawn", (1e-3,), {}, {})


def table(n_negatives: int = 5000, seed: int = 1, **changed: object) -> Rows:
    rng = np.random.default_rng(seed)
    is_lens = np.arange(n_negatives + 300) < 300
    return rows(score=rng.normal(size=len(is_lens)) + 2.5 * is_lens, is_lens=is_lens, **changed)


def test_a_threshold_is_the_lowest_that_keeps_few_enough_negatives() -> None:
    made = table()
    chosen = dict(thresholds.chosen(made, at=(0.1, 0.01)).points)
    negatives = made.score[~made.is_lens]
    for fpr, threshold in chosen.items():
        assert (negatives >= threshold).mean() <= fpr
        lower = made.score[made.score < threshold].max()
        assert (negatives >= lower).mean() > fpr


def test_what_the_negatives_cannot_bound_has_no_threshold_but_a_reason() -> None:
    made = thresholds.chosen(table(), on="calib")
    assert [at for at, _ in made.points] == [0.1, 0.01, 0.001]
    assert made.missing == (
        (1e-4, "not resolvable with 5,000 negatives of calib: bounding it needs 36,887"),
        (1e-5, "not resolvable with 5,000 negatives of calib: bounding it needs 368,887"),
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    made = thresholds.chosen(table(), on="held out")
    made.save(tmp_path / "t.json")
    assert thresholds.load(tmp_path / "t.json") == made
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["format"] == 1
    assert content["thresholds"][0] == {"at": 0.1, "threshold": made.points[0][1]}


def test_an_infinite_threshold_survives_the_file(tmp_path: Path) -> None:
    made = Thresholds("calib", 100, ((0.1, float("inf")), (0.2, float("-inf"))))
    made.save(tmp_path / "t.json")
    assert thresholds.load(tmp_path / "t.json") == made


def test_all_faults_of_a_file_are_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    points = [{"at": 0.1, "threshold": 1.0}, {"at": 2}, {"at": 3, "threshold": 1}]
    path.write_text(json.dumps({"format": 2, "score_kind": "odds", "thresholds": points}))
    with pytest.raises(DataError) as fault:
        thresholds.load(path)
    for said in (
        "format: expected 1, got 2",
        "chosen_on: expected a name, got None",
        "n_negatives: expected a whole number",
        "score_kind: expected one of logit, probability, rank, got 'odds'",
        "thresholds[1]: expected at and threshold",
        "thresholds[2]: at is a false-positive rate in (0, 1], got 3",
    ):
        assert said in str(fault.value)
    assert "thresholds[0]" not in str(fault.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"thresholds": []}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=r"t\.json"):
        thresholds.load(tmp_path / "t.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        thresholds.load(tmp_path / "nowhere.json")


def test_calib_and_its_thresholds_say_the_same() -> None:
    test, calib = table(seed=2), table(seed=3)
    by_rows = metrics.evaluate(test, PLAN, calib=calib).metrics
    fixed = thresholds.chosen(calib)
    by_file = metrics.evaluate(test, PLAN, thresholds=fixed).metrics
    assert by_file["operating_points"] == by_rows["operating_points"]


def test_at_a_fixed_threshold_intervals_are_clopper_and_pearsons() -> None:
    test = table(seed=2)
    fixed = Thresholds("elsewhere", 10_000, ((0.01, 2.3),))
    (point,) = metrics.evaluate(test, PLAN, thresholds=fixed).metrics["operating_points"]
    for name, mine in (("tpr", test.is_lens), ("fpr", ~test.is_lens)):
        k, n = int((test.score[mine] >= 2.3).sum()), int(mine.sum())
        exact = stats.binomtest(k, n).proportion_ci(method="exact")
        assert (point[name]["k"], point[name]["n"]) == (k, n)
        ends = point[name]["low"], point[name]["high"]
        assert ends == pytest.approx((exact.low, exact.high))
    assert (point["chosen_on"], point["n_chosen_on"]) == ("elsewhere", 10_000)


def test_thresholds_of_other_scores_are_refused() -> None:
    fixed = Thresholds("calib", 1000, ((0.01, 0.9),), "probability")
    with pytest.raises(DataError, match=r"of the kind probability, the scores of the kind logit"):
        metrics.evaluate(table(), PLAN, thresholds=fixed)
