"""The stage `selection`: what it writes, and what it says where it cannot know."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import survey_builders as build
from astropy.table import Table
from evaluate_builders import BANDS, replaced
from pydantic import ValidationError
from run_builders import tiny_tables
from selection_tables import config, cutouts, scored, splits, stamps, written

from darkhaloscope.core import config as run_config
from darkhaloscope.core import schemas
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.stages import selection, targets
from darkhaloscope.survey import layout

FILES = [
    "completeness-plane.svg",
    "completeness-theta-e.svg",
    "index.html",
    "lenses.parquet",
    "selection.ecsv",
    "selection.json",
    "selection.parquet",
]


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "selection.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("selection"))


def test_the_folder_holds_all_files_and_the_table_its_schema(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == FILES
    table = pq.read_table(folder / "selection.parquet")
    schemas.conform(table, schemas.selection(BANDS), where="cells")
    assert table.num_rows == 3 * 2 * 2 * 2
    for name in FILES[:2]:
        plot = (folder / name).read_text()
        assert plot.startswith("<?xml")
        assert "var(--" not in plot


def test_each_factor_is_a_column_and_completeness_their_product(folder: Path) -> None:
    cells = pq.read_table(folder / "selection.parquet").to_pylist()
    for cell in cells:
        values = [cell[f"{name}_value"] for name in ("target", "usable", "score")]
        assert cell["completeness"] == pytest.approx(np.prod(values))
        assert cell["completeness_low"] <= cell["completeness"] <= cell["completeness_high"]
        assert cell["target_k"] / cell["target_n"] == pytest.approx(values[0])
        assert cell["score_n"] == pytest.approx(cell["target_k"])
    lenses = pq.read_table(folder / "lenses.parquet")
    found = pc.and_(lenses["still_selected"], lenses["is_found"])
    hit = pc.sum(found).as_py()
    assert sum(c["score_k"] for c in cells) == pytest.approx(hit, abs=1)
    assert lenses.num_rows == 1500
    enough = [c["is_enough"] for c in cells]
    assert any(enough)
    assert not all(enough)
    for cell, is_enough in zip(cells, enough, strict=True):
        sizes = (cell["n_injections"] >= 60, cell["n_hosts"] >= 50, cell["n_sources"] >= 20)
        assert is_enough == all(sizes)


def test_the_ecsv_has_units_and_says_whose_it_is(folder: Path) -> None:
    table = Table.read(folder / "selection.ecsv", format="ascii.ecsv")
    assert str(table["theta_e_low_arcsec"].unit) == "arcsec"
    assert table["completeness"].description == "product of the three shares"
    assert table.meta["model_sha256"] == content(folder)["model"]["sha256"]
    assert table.meta["threshold_value"] == content(folder)["threshold"]["value"]
    cells = pq.read_table(folder / "selection.parquet")
    np.testing.assert_allclose(table["completeness"], cells["completeness"].to_numpy())


def test_still_selected_is_what_the_stage_targets_makes_of_such_a_catalogue(tmp_path: Path) -> None:
    """The catalogue is written again with the arcs in it, and the targets are selected anew."""
    n, rng = 120, np.random.default_rng(3)
    z = rng.uniform(8, 40, n)
    flux = {
        "z": z,
        "r": z / 10 ** (0.4 * rng.uniform(0.41, 0.7, n)),
        "w1": z * 10 ** (0.4 * rng.uniform(0.81, 1.2, n)),
    }
    arcs = {"r": rng.uniform(0, 3, n), "z": rng.uniform(0, 3, n)}
    dust = np.full(n, 0.9, np.float32)

    def chosen(root: Path, added: dict[str, np.ndarray]) -> pa.Table:
        brick = build.Brick()
        columns = {
            f"flux_{b}": (0.9 * v + added.get(b, 0)).astype(np.float32) for b, v in flux.items()
        }
        columns |= {f"mw_transmission_{b}": dust for b in ("g", "r", "z", "w1")}
        build.write_bricks(root, [brick])
        build.write_tractor(root, brick, build.galaxies_in(brick, n, **columns))
        made = build.targets_config(is_dereddened=True, variant="v3_color_relaxed")
        survey, path = build.survey_at(root), layout.tractor_path(brick.name)
        return targets.run(survey=survey, partition=path, config=made)

    before, after = chosen(tmp_path / "before", {}), chosen(tmp_path / "after", arcs)
    assert before.num_rows == n
    still = selection.still_selected(before, before, arcs, config())
    assert set(np.array(before["target_id"])[still]) == set(after["target_id"].to_pylist())
    assert 0.2 * n < still.sum() < 0.9 * n
    assert selection.still_selected(before, before, {}, config()).all()


def test_more_arc_light_leaves_fewer_targets(folder: Path) -> None:
    rows = content(folder)["target_by_aperture"]
    assert [r["within"] for r in rows][-1] == "the whole stamp"
    assert [r["is_used"] for r in rows] == [False, True, False, False, False]
    values = [r["value"] for r in rows]
    assert values == sorted(values, reverse=True)
    assert content(folder)["marginals"]["total"]["target"]["value"] == pytest.approx(values[1])


def test_usable_cutouts_are_counted_by_reason(folder: Path) -> None:
    made, usable = scored(), content(folder)["usable"]
    held = cutouts(made)
    assert usable["overall"]["n"] == made.num_rows
    assert usable["overall"]["k"] == held["refused"].null_count
    assert sum(usable["refused"].values()) == made.num_rows - held["refused"].null_count
    assert list(usable["refused"]) == ["missing band g", "masked pixels"]


def test_the_order_of_the_rows_does_not_matter(folder: Path, tmp_path: Path) -> None:
    made = scored()
    again = written(tmp_path, made.take(np.random.default_rng(1).permutation(made.num_rows)))
    first, second = content(folder), content(again)
    assert first["fit"]["factors"] == second["fit"]["factors"]
    assert [c["score"] for c in first["plane"]] == [c["score"] for c in second["plane"]]
    name = "lenses.parquet"
    assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_the_page_shows_the_figures_and_what_is_left_out(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    for said in ("Selection function of", "sim, n = 1,500", "missing band g", "deblending is not"):
        assert said in page
    assert page.count("<svg") == 2
    assert "--paper:" in page  # the report's style sheet, whole
    assert "{{" not in page
    assert "{%" not in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")


def test_too_few_lenses_are_an_illustration_and_still_written(tmp_path: Path) -> None:
    few = written(tmp_path, scored(40, 2500))
    assert sorted(p.name for p in few.iterdir()) == FILES
    made = content(few)
    assert not made["fit"]["is_fitted"]
    assert any(
        note.startswith("illustrative: no cell holds 60 injections") for note in made["notes"]
    )
    assert made["marginals"]["total"]["completeness"]["value"] is not None
    assert "Illustrative: no cell holds" in (few / "index.html").read_text()


@pytest.mark.parametrize("made", ["few negatives", "no calib"])
def test_without_a_threshold_the_other_factors_are_written(tmp_path: Path, made: str) -> None:
    table = scored(200, 100) if made == "few negatives" else scored(200, 2500)
    if made == "no calib":
        table = table.filter(pc.equal(table["set"], "test"))
    folder = written(tmp_path, table)
    found = content(folder)
    assert found["threshold"]["value"] is None
    said = {"few negatives": "not resolvable with 100 negatives", "no calib": "no threshold"}
    assert said[made] in found["threshold"]["note"]
    assert found["threshold"]["note"] in found["notes"]
    total = found["marginals"]["total"]
    assert total["target"]["value"] > 0.9
    assert (total["score"]["value"], total["completeness"]["value"]) == (None, None)
    cells = pq.read_table(folder / "selection.parquet")
    assert cells["completeness"].null_count == cells.num_rows
    page = (folder / "index.html").read_text()
    assert "No figure" in page
    assert "<svg" not in page


def test_lenses_of_no_population_are_not_weighted_to_one(tmp_path: Path) -> None:
    made = scored(300, 2500)
    nobody = pa.nulls(made.num_rows, pa.float64())
    found = content(written(tmp_path, replaced(made, {"weight_population": nobody})))
    assert not found["marginals"]["is_weighted"]
    assert any("nothing is weighted" in note for note in found["notes"])


def test_a_depth_that_is_not_known_is_counted_and_not_made_up(tmp_path: Path) -> None:
    made = scored(300, 2500)
    depth = made["depth_r_mag"].to_numpy().copy()
    depth[:100] = np.nan
    gone = pa.array(depth, mask=np.isnan(depth))
    found = content(written(tmp_path, replaced(made, {"depth_r_mag": gone})))
    assert found["sizes"]["n_without_depth"] == 100
    assert found["sizes"]["n_outside"] == 100
    assert found["marginals"]["total"]["n_injections"] == 300


def test_a_test_set_without_lenses_is_refused(tmp_path: Path) -> None:
    made = scored(50, 300)
    none = made.filter(pc.invert(pc.equal(made["kind"], "lens")))
    with pytest.raises(DataError, match="hold no lens"):
        written(tmp_path, none)


def test_tables_that_do_not_fit_are_refused() -> None:
    made = scored(50, 300)
    lenses = made.filter(pc.equal(made["kind"], "lens"))
    with pytest.raises(DataError, match="no row in splits; rerun stage scores"):
        selection.still_selected(lenses, splits(made).slice(10), {}, config())
    with pytest.raises(DataError, match="have no stamp; rerun stage scores"):
        selection._arc_light(lenses, stamps(made).slice(10))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"theta_e_edges_arcsec": (1.0, 0.5)}, "edges of theta_e must rise"),
        ({"theta_e_edges_arcsec": (0.0, 0.5)}, "widths on the sky"),
        ({"aperture_arcsec": 1.7}, "stamps has 1.0, 1.5, 2.0, 3.5"),
        ({"bands": ("g", "r")}, "need the band z"),
        ({"at_fpr": 0.0}, "greater than 0"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changed)


def test_the_run_hands_over_the_target_cuts_and_what_the_sky_is() -> None:
    tables = tiny_tables()
    made = run_config.parse(tables, folder=Path("/runs"), where="tiny")
    assert made.selection.targets == made.targets
    assert made.selection.sky == made.report.sky == "simulated"
    twice = {**tables, "selection": {**tables["selection"], "sky": "real"}}
    with pytest.raises(ConfigError, match=r"selection\.sky: stated once for all stages"):
        run_config.parse(twice, folder=Path("/runs"), where="tiny")
    report = {k: v for k, v in tables["report"].items() if k != "sky"}
    with pytest.raises(ConfigError) as fault:
        run_config.parse({**tables, "report": report}, folder=Path("/runs"), where="tiny")
    assert str(fault.value).splitlines()[1:] == ["  report.sky: it has to be set"]
    other = {**tables, "selection": {**tables["selection"], "model": "large"}}
    with pytest.raises(ConfigError, match=r"selection\.model: 'large' is not one of"):
        run_config.parse(other, folder=Path("/runs"), where="tiny")
