"""The stage on tables, and brought up to date from the scores that a run holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from evaluate_builders import (
    BANDS,
    cutouts,
    hosts,
    manifest,
    replaced,
    report_config,
    scores,
    sky,
)
from run_builders import preset, tiny_tables

from darkhaloscope.core import config as settings
from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import Device, Scratch
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.core.settings.candidates import CandidatesConfig
from darkhaloscope.core.settings.ensemble import EnsembleConfig
from darkhaloscope.core.settings.mined import MinedConfig
from darkhaloscope.data import store
from darkhaloscope.ml import calibrate
from darkhaloscope.pipeline.layout import Layout
from darkhaloscope.pipeline.task import Task
from darkhaloscope.stages import candidates, ensemble, report
from darkhaloscope.survey.files import Survey

TILES = {"32-7": {"train": 5, "val": 1}, "32-12": {"calib": 2, "test": 3}}
SECTION = {
    "members": ["small", "other"],
    "combine": "stack",
    "calibration": "auto",
    "prevalence": 1e-3,
    "contaminants_times": 3,
    "seed": 1,
    "folds": 5,
}


def config(**changed: Any) -> EnsembleConfig:
    values = {**SECTION, "bands": BANDS, "pixel_scale_arcsec": 0.262, "lens_weight": "equal"}
    return EnsembleConfig(**{**values, **changed})


def seen_by(member: str, table: pa.Table) -> pa.Table:
    """The same stamps as another network scores them."""
    noise = keys.normal(table["stamp_id"].to_numpy(), seed=1, stream=member)
    logit = table["logit"].to_numpy() + noise
    return replaced(table, {"logit": pa.array(logit.astype(np.float32))})


def votes(tables: dict[str, pa.Table]) -> pa.Table:
    parts = [
        pa.table({"member": [name] * t.num_rows, "stamp_id": t["stamp_id"], "logit": t["logit"]})
        for name, t in tables.items()
    ]
    return pa.concat_tables(parts)


def made(of: pa.Table, name: str, members: tuple[str, ...] = ("a", "b"), **changed: Any) -> Any:
    calib = scores(200, 2000, of="calib")
    own = {m: seen_by(m, of) for m in members}
    fitted = {m: seen_by(m, calib) for m in members}
    table = ensemble.run(
        rows=own[members[0]],
        votes=votes(own),
        calib=fitted[members[0]],
        calib_votes=votes(fitted),
        partition=f"two/set={name}",
        config=config(members=members, **changed),
    )
    return schemas.conform(table, schemas.ensemble(BANDS), where="ensemble")


def test_a_row_has_what_its_members_said_and_what_the_committee_makes_of_it() -> None:
    test = scores(100, 900)
    table = made(test, "test")
    assert table["stamp_id"].equals(test["stamp_id"])
    said = np.array(table["member_logits"].to_pylist())
    for j, member in enumerate("ab"):
        assert said[:, j] == pytest.approx(seen_by(member, test)["logit"].to_numpy())
    p = table["probability"].to_numpy()
    assert ((p > 0) & (p < 1)).all()
    assert (table["probability_contaminated"].to_numpy() <= p + 0.02).all()
    assert table["fold"].null_count == table.num_rows
    assert (table["disagreement"].to_numpy() >= 0).all()


def test_rows_of_calib_are_scored_by_fits_without_their_fold_and_others_by_the_fit_to_all() -> None:
    calib = scores(200, 2000, of="calib")
    own, other = made(calib, "calib"), made(calib, "test")
    assert set(own["fold"].to_pylist()) == set(range(5))
    assert own["logit"].to_numpy() != pytest.approx(other["logit"].to_numpy(), abs=1e-6)
    assert own["logit"].to_numpy() == pytest.approx(other["logit"].to_numpy(), abs=1.0)


def test_the_sky_has_no_label_and_gets_the_same_columns() -> None:
    table = made(sky(30), "sky")
    assert (table.num_rows, table["label"].null_count) == (30, 30)
    assert np.isfinite(table["probability"].to_numpy()).all()


def test_one_member_alone_is_calibrated_and_keeps_its_order() -> None:
    test = scores(50, 400)
    table = made(test, "test", members=("a",))
    assert table["disagreement"].null_count == table.num_rows
    assert table["logit"].to_numpy() == pytest.approx(seen_by("a", test)["logit"].to_numpy())


def test_a_set_without_a_stamp_gives_an_empty_table() -> None:
    assert made(scores(5, 5).slice(0, 0), "val").num_rows == 0


def test_a_stamp_that_a_member_lacks_is_a_fault_with_names_and_counts() -> None:
    whole = scores(5, 20)
    said = votes({"a/round=0": whole, "b/round=0": whole.slice(3), "c/round=1": whole.slice(1)})
    with pytest.raises(DataError) as fault:
        ensemble.aligned(whole, said, where="ensemble two, set test")
    assert str(fault.value) == (
        "ensemble two, set test: the members have not scored the same stamps\n"
        "  b/round=0 lacks 3 of 25 stamps\n"
        "  c/round=1 lacks 1 of 25 stamps\n"
        "  make all of them current: `dhs run FILE scores`"
    )


def test_members_are_matched_by_stamp_not_by_row() -> None:
    whole = scores(5, 20)
    order = np.random.default_rng(0).permutation(25)
    logits = ensemble.aligned(whole, votes({"a": whole, "b": whole.take(order)}), where="")
    assert (logits[:, 0] == logits[:, 1]).all()


def test_a_calib_of_one_class_is_a_fault() -> None:
    only = scores(0, 40, of="calib")
    with pytest.raises(DataError, match="two cannot be fitted on calib:\n  40 rows and no lens"):
        ensemble.fitted(only, np.zeros((40, 2)), config(), where="two")


def test_lenses_weigh_as_the_report_says() -> None:
    calib = scores(200, 2000, of="calib")
    logits = calib["logit"].to_numpy().astype(np.float64)[:, None]
    _, even = ensemble.fitted(calib, logits, config(members=("a",)), where="")
    _, of_population = ensemble.fitted(
        calib, logits, config(members=("a",), lens_weight="weight_population"), where=""
    )
    assert even.curve.line.intercept != of_population.curve.line.intercept
    at = np.array([0.0])
    assert calibrate.at_prevalence(even.llr(at), 0.5) == pytest.approx(
        calibrate.at_prevalence(of_population.llr(at), 0.5), abs=0.1
    )


def parsed(folder: Path, **changed: Any) -> settings.RunConfig:
    tables = tiny_tables()
    tables["model"]["other"] = dict(tables["model"]["small"])
    tables["ensemble"] = {"two": {**SECTION, **changed}}
    tables["report"]["model"] = tables["candidates"]["model"] = "small"
    return settings.parse({**tables, "root": "run"}, folder=folder, where="tiny")


def test_a_run_makes_each_set_from_all_tiles_of_all_members(tmp_path: Path) -> None:
    run = parsed(tmp_path)
    layout = Layout(run, {}, TILES)
    sets = {"val": "32-7", "calib": "32-12", "test": "32-12"}
    for member in ("small", "other"):
        for name, tile in sets.items():
            whole = seen_by(member, scores(200, 2000, of=name))
            path = layout.path("scores", f"{member}/round=0/set={name}/tile={tile}")
            store.write([whole], path, schema=whole.schema, digest=f"{member} {name}")
    for tile in TILES:
        for member in ("small", "other"):
            few = seen_by(member, sky(30)) if tile == "32-7" else sky(1).slice(0, 0)
            path = layout.path("scores", f"{member}/round=0/set=sky/tile={tile}")
            store.write([few], path, schema=few.schema, digest=f"{member} {tile}")
    task = Task("ensemble", layout, Survey(run.survey), Device())
    keyed = layout.partitions(task.stage)
    assert keyed == [f"two/set={s}" for s in ("val", "calib", "test", "sky")]
    for key in keyed:
        report = task(key)
        assert report.state == "written", report.message
        assert task.state(key) == "current"
    table = store.read(f"{run.root}/ensemble/two/set=test.parquet")
    assert table.num_rows == 2200
    assert {len(v) for v in table["member_logits"].to_pylist()} == {2}
    auroc = [_area(table["label"], x) for x in (table["logit"], _first(table))]
    assert auroc[0] > auroc[1]
    changed = Task("ensemble", Layout(parsed(tmp_path, seed=2), {}, TILES), task.survey, Device())
    assert changed.state("two/set=test") == "stale"


def _first(table: pa.Table) -> pa.ChunkedArray:
    return pc.list_element(table["member_logits"], 0)


def _area(label: pa.ChunkedArray, score: pa.ChunkedArray) -> float:
    is_lens, values = label.to_numpy() == 1, score.to_numpy()
    return float((values[is_lens][:, None] > values[~is_lens]).mean())


def test_report_and_candidates_read_the_ensemble_that_they_name(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["model"]["other"] = dict(tables["model"]["small"])
    tables["ensemble"] = {"two": dict(SECTION)}
    for name in ("report", "candidates"):
        tables[name]["model"] = "two"
    run = settings.parse(tables, folder=tmp_path, where="tiny")
    assert run.report.ensemble is not None
    layout = Layout(run, {}, TILES)
    for name, sets in (("report", ("val", "calib", "test")), ("candidates", ("sky",))):
        stage = Task(name, layout, Survey(run.survey), Device()).stage
        read = {i.parameter: layout.inputs(stage, i, "all") for i in stage.inputs}
        assert read["scores"] == []
        assert [p.removeprefix(run.root) for p in read["ensemble"]] == [
            f"/ensemble/two/set={s}.parquet" for s in sets
        ]
    members = [f"{name}/round=0" for name in ("small", "other")]
    stage = Task("report", layout, Survey(run.survey), Device()).stage
    read = {i.parameter: layout.inputs(stage, i, "all") for i in stage.inputs}
    assert [p.removeprefix(f"{run.root}/model/") for p in read["model"]] == members
    assert [p.removeprefix(f"{run.root}/audit/") for p in read["audit"]] == [
        f"{name}.json" for name in members
    ]
    assert (read["earlier"], read["mined"]) == ([], [])


class Pixels:
    """Flat stamps."""

    def stamps(self, ids: np.ndarray) -> np.ndarray:
        return np.full((len(ids), len(BANDS), 64, 64), 0.01, np.float32)

    def cutouts(self, target_ids: np.ndarray) -> np.ndarray:
        return np.full((len(target_ids), len(BANDS), 80, 80), 0.01, np.float32)


def reported(folder: Path, members: tuple[str, ...]) -> tuple[Path, dict[str, Any]]:
    calib, test = scores(200, 2000, of="calib"), scores(200, 2000)
    table = pa.concat_tables([made(calib, "calib", members), made(test, "test", members)])
    folder = report.run(
        scores=table.slice(0, 0).select(schemas.scores(BANDS).names),
        ensemble=table,
        splits=hosts(table),
        cutouts=cutouts(table),
        manifest=manifest(table),
        scratch=Scratch(folder),
        pixels=Pixels(),
        config=report_config(model="two", ensemble=config(members=members)),
    )
    return folder, json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
def test_the_report_of_a_committee_says_how_it_is_calibrated_and_what_it_brings(
    tmp_path: Path,
) -> None:
    folder, figures = reported(tmp_path, ("a", "b"))
    tail = {t["prevalence"]: t for t in figures["calibration"]["tail"]}
    assert tail[1e-2]["low"] <= tail[1e-2]["ece"] <= tail[1e-2]["high"]
    assert tail[1e-2]["ece"] < 3 * tail[1e-2]["noise"]
    assert "not resolvable" in tail[1e-4]["top"]["note"]
    committee = figures["committee"]
    assert {(e["member"], e["of"]) for e in committee["compared"]} == {
        (m, of) for m in "ab" for of in ("all", "headline")
    }
    assert all(e["difference"] > -0.05 for e in committee["compared"] if e["at"] == 1e-2)
    assert [d["of"] for d in committee["disagreement"]][:2] == ["lenses", "negatives"]
    page, card = ((folder / name).read_text() for name in ("index.html", "card.md"))
    assert "How far the members are apart" in page
    assert 'id="calibration"' in page
    assert "Expected calibration error" in card
    assert "scores are not calibrated" not in card
    assert "## Committee" in card


@pytest.mark.slow
def test_the_report_of_one_calibrated_network_compares_nothing(tmp_path: Path) -> None:
    _, figures = reported(tmp_path, ("a",))
    assert figures["calibration"]["ece"] < 0.05
    assert (figures["committee"]["compared"], figures["committee"]["disagreement"]) == ([], [])


def test_rounds_of_a_member_are_those_of_the_network_itself() -> None:
    sets = {of: scores(200, 2000, of=of) for of in ("val", "test")}
    field = schemas.mined(BANDS).field("round")
    first = pa.concat_tables([seen_by("first", t) for t in sets.values()])
    first = first.append_column(field, pa.array([0] * first.num_rows, field.type))
    last = pa.concat_tables([seen_by("b", t) for t in sets.values()])
    both = pa.concat_tables([made(t, of) for of, t in sets.items()])
    found = pa.table(
        {"target_id": [1], "round": pa.array([0], field.type), "use": ["negative"]}
        | {f"p_lens{end}": [0.1] for end in ("", "_low", "_high")}
    )
    stated = {**preset("mining")["mined"], "rounds": 1, "model": "b", "lens_weight": "equal"}
    rounds = MinedConfig(bands=BANDS, pixel_scale_arcsec=0.262, **stated)
    alone = report._mining(last, first, found, {}, report_config(mined=rounds))
    section = config(members=("a", "b@1"))
    among = report._mining(both, first, found, {}, report_config(mined=rounds, ensemble=section))
    assert alone is not None
    assert among == alone


def test_candidates_carry_what_the_committee_makes_of_them() -> None:
    table = made(sky(30), "sky")
    found = candidates.run(
        scores=table.slice(0, 0).select(schemas.scores(BANDS).names),
        ensemble=table,
        splits=hosts(table),
        cutouts=cutouts(table),
        config=CandidatesConfig(
            bands=BANDS, pixel_scale_arcsec=0.262, model="two", merge_arcsec=1, viewer_layer=""
        ),
    )
    found = schemas.conform(found, schemas.candidates(BANDS), where="candidates")
    of = dict(zip(table["target_id"].to_pylist(), table["probability"].to_pylist(), strict=True))
    assert found["probability"].to_pylist() == [of[t] for t in found["target_id"].to_pylist()]
    assert found["disagreement"].null_count == 0
    assert (np.diff(found["logit"].to_numpy()) <= 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"members": ["small", "big"]}, "ensemble.two.members: 'big' is not one of"),
        ({"members": ["small", "other@3"]}, "other has no round 3, its last is 0"),
        ({"members": ["small", "small"]}, "members names small more than once"),
        ({"members": ["small", "small@0"]}, "members: small is named twice, by its last round too"),
        ({"members": ["small", "two"]}, "'two' is an ensemble, and votes are of networks: one of"),
        ({"members": []}, "ensemble.two.members: a list of models by name is wanted"),
        ({"members": "small"}, "ensemble.two.members: a list of models by name is wanted"),
        ({"prevalence": 0}, "ensemble.two.prevalence"),
        ({"lens_weight": "equal"}, "ensemble.two.lens_weight: stated once"),
    ],
)
def test_a_wrong_section_is_a_fault_of_the_file(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        parsed(tmp_path, **changed)


def test_what_needs_one_network_refuses_an_ensemble(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["selection"]["model"] = "calibrated"
    said = r"selection.model: 'calibrated' is an ensemble, and one network is wanted: one of \['sm"
    with pytest.raises(ConfigError, match=said):
        settings.parse(tables, folder=tmp_path, where="tiny")


@pytest.mark.parametrize("section", [{}, dict(SECTION), 3])
def test_an_ensemble_without_a_name_is_a_fault_of_the_file(tmp_path: Path, section: Any) -> None:
    tables = tiny_tables() | {"ensemble": section}
    with pytest.raises(ConfigError, match=r"each has a section of its own, \[ensemble.NAME\]"):
        settings.parse(tables, folder=tmp_path, where="tiny")


@pytest.mark.parametrize("name", ["a/b", "", "..", "a@1", "a b"])
def test_a_name_that_is_no_folder_is_a_fault_of_the_file(tmp_path: Path, name: str) -> None:
    tables = tiny_tables()
    tables["ensemble"][name] = tables["ensemble"]["calibrated"]
    with pytest.raises(ConfigError, match="it names a folder; use letters"):
        settings.parse(tables, folder=tmp_path, where="tiny")


def test_the_report_of_an_ensemble_shows_the_rounds_of_a_member_of_the_last(tmp_path: Path) -> None:
    tables = tiny_tables("mining")
    of_last = {"small": 3, "small@3": 3, "small@1": 0}
    for member, rounds in of_last.items():
        tables["ensemble"]["calibrated"]["members"] = [member]
        run = settings.parse(tables, folder=tmp_path, where="tiny")
        assert (run.report.mined is None) == (rounds == 0)
        layout = Layout(run, {}, TILES)
        stage = Task("report", layout, Survey(run.survey), Device()).stage
        read = {i.parameter: layout.inputs(stage, i, "all") for i in stage.inputs}
        assert [p.removeprefix(run.root) for p in read["mined"]] == [
            f"/mined/small/round={k}.parquet" for k in range(rounds)
        ]
        assert {p.split("/set=")[0].removeprefix(run.root) for p in read["earlier"]} == {
            f"/scores/small/round={k}" for k in range(rounds)
        }


def test_a_name_is_a_model_or_an_ensemble(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["ensemble"]["small"] = {**SECTION, "members": ["small"]}
    with pytest.raises(ConfigError, match="there is a model of this name"):
        settings.parse(tables, folder=tmp_path, where="tiny")
