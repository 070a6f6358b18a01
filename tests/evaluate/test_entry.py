"""`dhs evaluate`: words in, report out; what is refused, and that nothing is written by halves."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluate_builders import scores
from score_tables import changed, foreign, lines, renamed, saved, without

from darkhaloscope.core.errors import ConfigError, DarkHaloScopeError
from darkhaloscope.evaluate import entry, folder, intervals, metrics
from darkhaloscope.evaluate.entry import run
from darkhaloscope.evaluate.options import understood

FILES = ["index.html", "metrics.json", "metrics.parquet", "thresholds.json"]


def refusal(*words: str | Path) -> str:
    with pytest.raises(DarkHaloScopeError) as fault:
        run([str(word) for word in words])
    return str(fault.value)


def figures(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    assert run([*(str(word) for word in words), "--json"]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


@pytest.fixture
def test_csv(tmp_path: Path) -> Path:
    return saved(foreign(), tmp_path / "test.csv")


@pytest.fixture
def calib_csv(tmp_path: Path) -> Path:
    return saved(foreign(of="calib"), tmp_path / "calib.csv")


def test_the_terminal_says_the_headline_with_stratum_origin_size_and_interval(
    test_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(test_csv), "--headline", "theta_e=1", "--lenses", "injected", "--sky", "real"]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"Completeness [\d.]+ % \([\d.]+ to [\d.]+ %\) of \d+ lenses \(sim\) with theta_e >= 1, "
        r"at FPR 0\.01",
        said,
    )
    assert "not resolvable with 1,200 negatives: bounding it needs 36,887" in said
    assert "thresholds placed on this same table" in said
    assert "12 regions" in said
    assert "no group" not in said
    assert re.search(r"AUROC 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\) of all 150 lenses", said)


def test_json_is_all_that_is_printed_and_is_what_is_written(
    test_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = figures(capsys, test_csv, "--out", tmp_path / "out")
    assert made == json.loads((tmp_path / "out/metrics.json").read_text())
    assert made["table"]["columns"]["score"] == "score"
    assert made["consistency"]["passed"]


def test_the_folder_holds_page_figures_table_and_thresholds(test_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert run([str(test_csv), "--out", str(out), "--title", "My <finder>"]) == 0
    assert sorted(p.name for p in out.iterdir()) == FILES
    page = (out / "index.html").read_text()
    assert "<h1>My &lt;finder&gt;</h1>" in page
    assert "test set" not in page
    held = json.loads((out / "metrics.json").read_text())
    flat = pq.read_table(out / "metrics.parquet").to_pylist()
    (area,) = [r["value"] for r in flat if (r["measure"], r["stratum"]) == ("auroc", "all")]
    assert area == held["auroc"]["value"]
    assert [p["at"] for p in json.loads((out / "thresholds.json").read_text())["thresholds"]] == [
        0.1,
        0.01,
    ]


def test_a_folder_of_its_own_is_written_again_and_another_is_not_touched(
    test_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert run([str(test_csv), "--out", str(out), "--no-page"]) == 0
    assert sorted(p.name for p in out.iterdir()) == FILES[1:]
    (out / "notes.txt").write_text("mine")
    assert "has not written (notes.txt); nothing was overwritten" in refusal(test_csv, "--out", out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    assert "has not written (index.html)" in refusal(test_csv, "--out", other)
    assert (other / "index.html").read_text() == "mine"
    assert "is a file; name a folder" in refusal(test_csv, "--out", test_csv)


def test_a_fault_while_writing_leaves_the_older_folder_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder.write(out, lambda made: (made / "metrics.json").write_text("old"))

    def broken(made: Path) -> None:
        (made / "metrics.json").write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        folder.write(out, broken)
    assert (out / "metrics.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_thresholds_of_other_data_make_exact_intervals_and_are_named(
    test_csv: Path, calib_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(calib_csv), "--out", str(tmp_path / "calib"), "--no-page"]) == 0
    file = tmp_path / "calib/thresholds.json"
    capsys.readouterr()
    out = tmp_path / "out"
    assert run([str(test_csv), "--thresholds", str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "at thresholds fixed on calib.csv, 1,200 negatives" in said
    assert "not resolvable with 1,200 negatives of calib.csv" in said
    held = json.loads((out / "metrics.json").read_text())
    point = held["operating_points"][0]
    assert point["fpr"]["method"] == "threshold from other data: Clopper-Pearson"
    chosen = json.loads(file.read_text())["thresholds"][0]["threshold"]
    assert point["threshold"] == chosen
    score = foreign()["score"].to_numpy()
    is_lens = foreign()["label"].to_numpy() == 1
    assert point["tpr"]["value"] == pytest.approx((score[is_lens] >= chosen).mean())
    page = (out / "index.html").read_text()
    assert "Threshold fixed on calib.csv" in page
    assert "Thresholds  none written" in said
    assert not (out / "thresholds.json").exists()


def test_the_folder_of_the_thresholds_that_are_read_is_not_overwritten(
    test_csv: Path, calib_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "calib"
    assert run([str(calib_csv), "--out", str(out), "--no-page"]) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for there in (out, tmp_path / "x" / ".." / "calib"):
        (tmp_path / "x").mkdir(exist_ok=True)
        said = refusal(test_csv, "--thresholds", out / "thresholds.json", "--out", there)
        assert "holds the file that --thresholds reads" in said
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_file_that_holds_no_thresholds_is_refused_with_how_to_make_one(
    test_csv: Path, tmp_path: Path
) -> None:
    other = lines(tmp_path / "other.json", "{}")
    for path, what in (
        (tmp_path / "absent.json", "cannot be read: no such file"),
        (test_csv, "is no file of thresholds: expected JSON"),
        (other, "chosen_on: expected a name"),
    ):
        said = refusal(test_csv, "--thresholds", path)
        assert what in said
        assert "make one: `dhs evaluate CALIB --out DIR`" in said
        assert "Errno" not in said
        assert "Expecting" not in said


def test_without_weights_to_the_sky_no_rate_is_called_one_of_the_sky(tmp_path: Path) -> None:
    is_ring = foreign()["kind"].to_numpy() == "ring"
    to_sky = changed(foreign(), {"sky_weight": np.where(is_ring, 0.25, 1.0)})
    for name, table in (("plain", foreign()), ("weighted", to_sky)):
        path = saved(table, tmp_path / f"{name}.csv")
        assert run([str(path), "--out", str(tmp_path / name)]) == 0
    plain, weighted = (
        (tmp_path / name / "index.html").read_text() for name in ("plain", "weighted")
    )
    for said in (
        "FPR on the sky",
        "false-positive rate on the sky",
        "part of the sky<",
        "stress, ",
    ):
        assert said in weighted
        assert said not in plain
    for said in ("FPR in this table", "false-positive rate in this table", "part of this table<"):
        assert said in plain
        assert said not in weighted


def test_a_table_without_galaxies_is_told_so_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(without(foreign(), ["group"]), tmp_path / "t.csv")
    assert run([str(path)]) == 0
    assert "no group: every row counts as a galaxy of its own" in capsys.readouterr().out


def test_thresholds_of_the_table_itself_and_of_other_scores_are_refused(
    test_csv: Path, tmp_path: Path
) -> None:
    assert run([str(test_csv), "--out", str(tmp_path / "own"), "--no-page"]) == 0
    file = tmp_path / "own/thresholds.json"
    assert "was chosen on the negatives of" in refusal(test_csv, "--thresholds", file)
    unlike = changed(foreign(), {"score": 1 / (1 + np.exp(-foreign()["score"].to_numpy()))})
    path = saved(unlike, tmp_path / "p.csv")
    said = refusal(path, "--score-kind", "probability", "--thresholds", file)
    assert "holds thresholds of kind logit, the scores are of kind probability" in said


def test_a_table_that_can_choose_no_threshold_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(foreign(10, 20), tmp_path / "t.csv")
    assert run([str(path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "No headline: not resolvable with 20 negatives: bounding it needs 36" in said
    assert "Thresholds  none: 20 negatives can bound none" in said
    assert not (tmp_path / "out/thresholds.json").exists()


@pytest.mark.parametrize("headline", ["theta_e=100", "theta_e=0.1", "all"])
@pytest.mark.parametrize("score", ["inf", "1"])
def test_constant_and_infinite_scores_and_empty_strata_have_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], headline: str, score: str
) -> None:
    rows = ["score,label,theta_e", *[f"{score},1,1"] * 20, *[f"{score},0,"] * 400, "-inf,0,"]
    path = lines(tmp_path / "t.csv", *rows)
    words = ["--headline", headline, "--out", str(tmp_path / "out")]
    assert run([str(path), *words]) == 0
    said = capsys.readouterr().out
    assert ("No headline: no lens with theta_e >= 100" in said) == (headline == "theta_e=100")
    assert "AUROC" in said


def test_the_faults_of_all_files_come_in_one_message(tmp_path: Path) -> None:
    first = lines(tmp_path / "a.csv", "score,label", "high,1", "0,0")
    second = lines(tmp_path / "b.csv", "p,label", "1,1", "0,0")
    said = refusal(first, "--against", second, "--thresholds", tmp_path / "none.json")
    for part in ("column score: 1 cell: 'high'", "b.csv cannot be evaluated", "none.json cannot"):
        assert part in said


def test_a_failed_self_check_is_a_bug_and_nothing_is_written(
    test_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = intervals.auroc

    def wrong(*sides: Any) -> Any:
        value, *rest = honest(*sides)
        return value - 1e-3, *rest

    monkeypatch.setattr(intervals, "auroc", wrong)
    assert run([str(test_csv), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "the self-check failed" in said
    assert "area by trapezoids equals the rank statistic: differs by" in said
    assert not (tmp_path / "out").exists()


def test_our_own_tables_bring_their_strata_and_headline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(scores(60, 500), tmp_path / "scores.parquet")
    made = figures(capsys, path)
    assert made["headline"]["stratum"] == "theta_e_over_fwhm_r >= 1.2 and arc_snr_g >= 25"
    assert made["headline"]["origin"] == "sim"
    assert "theta_e_arcsec:1.0-1.25" in made["by_stratum"]
    assert made["is_weighted_to_sky"]
    every = figures(capsys, path, "--headline", "all", "--stratum", "theta_e_arcsec=1")
    assert every["headline"]["stratum"] == "all lenses"
    assert every["headline"]["n_lenses"] == every["n_lenses"] == 60


def test_a_name_of_columns_kinds_and_copies_changes_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = without(foreign(), ["id"])
    plain = figures(capsys, saved(table, tmp_path / "a.parquet"))
    other = renamed(table, {"score": "p", "label": "truth", "group": "host"})
    words = [w for r in ("score=p", "label=truth", "group=host") for w in ("--column", r)]
    again = figures(capsys, saved(other, tmp_path / "b.csv"), *words)
    for name in ("auroc", "fpr_at_tpr", "tpr_at_fpr", "by_kind", "tpr_0", "stress"):
        assert plain[name] == again[name]


def test_ranks_give_the_figures_of_the_scores_that_they_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = foreign()
    score = table["score"].to_numpy()
    _, place = np.unique(-score, return_inverse=True)
    ranked = changed(table, {"score": place + 1})
    by_score = figures(capsys, saved(table, tmp_path / "a.csv"))
    by_rank = figures(capsys, saved(ranked, tmp_path / "b.csv"), "--score-kind", "rank")
    assert by_rank["auroc"] == by_score["auroc"]
    for one, other in zip(by_rank["tpr_at_fpr"], by_score["tpr_at_fpr"], strict=True):
        assert {k: v for k, v in one.items() if k != "threshold"} == {
            k: v for k, v in other.items() if k != "threshold"
        }
    assert by_rank["tpr_at_fpr"][0]["threshold"] < 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "SCORES is missing"),
        (["t.csv", "--colour", "red"], "unrecognized arguments: --colour red"),
        (["t.csv", "--score-kind", "odds"], "invalid choice: 'odds'"),
        (["t.csv", "--published", "p.toml"], "--published stands alone"),
        (["t.csv", "--against-column", "score=x"], "there is no --against SCORES2"),
        (["t.csv", "--stratum", "a=1", "--target-stratum", "a=1"], "a cannot be both"),
        (["t.csv", "--auroc", "0.9"], "--auroc belongs to --published"),
    ],
)
def test_words_that_cannot_be_used_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as fault:
        understood(words)
    assert said in str(fault.value)
    assert "dhs evaluate --help" in str(fault.value)


def test_all_values_that_cannot_be_used_come_in_one_message() -> None:
    words = [
        *("t.csv", "--column", "colour=x", "--stratum", "theta=2,1", "--target-stratum", "psf"),
        *("--headline", "theta=much", "--prevalence", "1e-3,2", "--seconds-per-stamp", "0"),
    ]
    with pytest.raises(ConfigError) as fault:
        understood(words)
    for part in (
        "--column 'colour=x' is no ROLE=NAME; the roles are score, label",
        "--stratum 'theta=2,1' is no NAME=E1,E2,... with edges that rise",
        "--target-stratum 'psf' is no NAME=E1,E2,...",
        "--headline 'theta=much' is no NAME=MIN",
        "--prevalence '1e-3,2': lenses per target lie between 0 and 1",
        "--seconds-per-stamp '0' is no number above 0",
    ):
        assert part in str(fault.value)


def test_published_figures_that_contradict_each_other_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = lines(tmp_path / "bad.csv", "tpr,fpr", "0.7,0.018", "0.747,0.0102")
    assert "one contradiction" in refusal("--published", bad)
    assert "one contradiction" in refusal("--published", bad, "--auroc", "0.9")
    assert "2 contradictions" in refusal("--published", bad, "--auroc", "0.999")
    good = lines(tmp_path / "good.csv", "tpr,fpr", "0.7,0.018")
    assert run(["--published", str(good)]) == 0
    assert "can belong to one curve" in capsys.readouterr().out


def test_the_page_needs_packages_that_are_named_before_any_work(
    test_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "PAGE_NEEDS", ("jinja2", "a_package_that_is_not"))
    monkeypatch.setattr(metrics, "evaluate", None)
    said = refusal(test_csv, "--out", tmp_path / "out")
    assert "the page needs a_package_that_is_not, not installed here" in said
    assert "--no-page" in said


def test_another_finder_on_the_same_stamps_is_compared_stamp_by_stamp(
    test_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = foreign()
    noise = np.random.default_rng(4).normal(size=1350)
    worse = changed(table, {"p": table["score"].to_numpy() + 1.5 * noise}).slice(0, 1300)
    second = saved(renamed(without(worse, ["score"]), {"p": "mark"}), tmp_path / "b.parquet")
    out = tmp_path / "out"
    words = [test_csv, "--against", second, "--against-column", "score=mark", "--out", out]
    assert run([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert "b.parquet: 1,300 stamps matched by id; 50 are in the first alone" in said
    assert re.search(r"0\.1 .*\) +\+[\d.]+ points \(\+[\d.]+ to \+[\d.]+\)", said)
    held = json.loads((out / "metrics.json").read_text())["against"]
    assert held["auroc"]["low"] > 0
    assert (held["n_matched"], held["n_first_only"], held["n_second_only"]) == (1300, 50, 0)
    page = (out / "index.html").read_text()
    assert "1,300 stamps are in both tables, matched by id; 50 are in the first alone" in page
    assert 'href="#against"' in page
    assert "no stamp in common" in refusal(
        test_csv, "--against", saved(foreign(of="calib"), tmp_path / "c.csv")
    )


def test_a_finder_against_itself_differs_by_nothing(
    test_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = figures(capsys, test_csv, "--against", test_csv)["against"]
    for rate in held["tpr_at_fpr"]:
        if rate["resolvable"]:
            assert rate["difference"] == 0
            assert rate["correlation"] == pytest.approx(1)
            assert rate["low"] <= 0 <= rate["high"]
            value = rate["first"]["value"]
            below, above = value - rate["first"]["low"], rate["first"]["high"] - value
            assert rate["high"] < max(below, above)


def test_the_page_shows_what_the_table_has(tmp_path: Path) -> None:
    table = foreign()
    p = 1 / (1 + np.exp(1 - table["score"].to_numpy()))
    path = saved(changed(table, {"score": p}), tmp_path / "t.csv")
    out = tmp_path / "out"
    words = ["--score-kind", "probability", "--target-stratum", "seeing=1.1", "--out", str(out)]
    assert run([str(path), *words]) == 0
    page = (out / "index.html").read_text()
    for part in ("#calibration", "#target", "Intervals over regions", "review, hours"):
        assert part in page
    for part in ("#strata", "#drawn", "#galleries", "Splits", "#against"):
        assert part not in page
    assert run([str(saved(without(table, ["region"]), tmp_path / "u.csv")), "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert "no region is known: differences from region to region are in no interval" in page
    assert "Intervals over regions" not in page
    assert "No calibration: scores are of the kind logit" in page
