import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
from pydantic import ValidationError

from darkhaloscope.core.contracts import Provenance, Scratch, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.candidates import CandidatesConfig
from darkhaloscope.stages import candidates, report


class Pixels:
    """Flat stamps; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def stamps(self, ids: np.ndarray) -> np.ndarray:
        self.asked += ids.tolist()
        return np.full((len(ids), len(BANDS), 64, 64), 0.01, np.float32)

    def cutouts(self, target_ids: np.ndarray) -> np.ndarray:
        self.asked += target_ids.tolist()
        return np.full((len(target_ids), len(BANDS), 80, 80), 0.01, np.float32)


def every() -> pa.Table:
    return pa.concat_tables([scores(60, 500), scores(50, 450, of="calib"), sky(10)])


def written(folder: Path, table: pa.Table | None = None, **options: Any) -> tuple[Path, Pixels]:
    table, pixels = every() if table is None else table, Pixels()
    made = report.run(
        scores=table,
        splits=hosts(table),
        cutouts=cutouts(table, ["missing band z"]),
        manifest=options.pop("manifest", manifest(table)),
        scratch=Scratch(folder),
        pixels=pixels,
        config=report_config(**options.pop("config", {})),
        **options,
    )
    return made, pixels


def top() -> pa.Table:
    table = sky(10)
    config = CandidatesConfig(
        bands=BANDS, pixel_scale_arcsec=0.262, model="small", merge_arcsec=1.0, viewer_layer="x"
    )
    return candidates.run(scores=table, splits=hosts(table), cutouts=cutouts(table), config=config)


def test_the_card_says_what_the_model_is_made_from_and_shows_its_failures(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    description = {
        "network": "small", "bands": ["g", "r", "z"], "pixel_scale_arcsec": 0.262, "size_px": 64,
        "normalisation": {"name": "asinh", "softening_nmgy": [0.01, 0.02, 0.03]}, "epoch": 7,
        "metrics": {"val_loss": 0.25, "train_loss": 0.2}, "training_digest": "ef" * 32,
    }  # fmt: skip
    (held / "model.json").write_text(json.dumps(description))
    (held / "done.json").write_text(json.dumps({"files": {"model.safetensors": "12" * 32}}))
    gate = {
        "name": "core_only", "stratum": "all", "guards": "core leakage", "value": 0.7, "low": 0.6,
        "high": 0.8, "limit_low": None, "limit_high": 0.6, "passed": False, "waived": True,
        "reason": "a trial",
    }  # fmt: skip
    made_from = Provenance({"targets": "ab" * 32}, {"scores": (2, "cd" * 32)}, [gate])
    folder, _ = written(tmp_path, models=(TrainedModel("small", held),), provenance=made_from)
    text = (folder / "card.md").read_text(encoding="utf-8")
    for said in ("12" * 32, "ef" * 32, "ab" * 8, "cd" * 8, "failed, waived | a trial", "0.25"):
        assert said in text
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(shown) == 2 * report_config().gallery_stamps
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_the_folder_holds_the_page_and_its_figures(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, candidates=top())
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.md",
        "failures",
        "index.html",
        "metrics.json",
        "metrics.parquet",
    ]
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["n_lenses"] == 60
    assert figures["consistency"]["passed"]
    flat = pq.read_table(folder / "metrics.parquet").to_pylist()
    (auroc,) = [r["value"] for r in flat if (r["measure"], r["stratum"]) == ("auroc", "all")]
    assert auroc == figures["auroc"]["value"]
    page = (folder / "index.html").read_text()
    for said in ("missing band z", "Missed lenses", "Top of the sky", "What it must not be used"):
        assert said in page


def test_the_same_scores_in_another_order_write_the_same_bytes(tmp_path: Path) -> None:
    table = every()
    order = np.random.default_rng(1).permutation(table.num_rows)
    first, _ = written(tmp_path / "a", table)
    second, _ = written(tmp_path / "b", table.take(order))
    for name in ("metrics.json", "metrics.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_only_the_stamps_shown_are_asked_for(tmp_path: Path) -> None:
    _, pixels = written(tmp_path, candidates=top())
    assert len(pixels.asked) == 4 * 3


def test_galleries_show_best_missed_and_worst(tmp_path: Path) -> None:
    table = scores(60, 500)
    _, pixels = written(tmp_path, pa.concat_tables([table, scores(50, 450, of="calib")]))
    lenses = table.filter(pa.compute.equal(table["label"], 1)).sort_by("logit")
    negatives = table.filter(pa.compute.equal(table["label"], 0)).sort_by("logit")
    best = lenses["stamp_id"].to_pylist()[:-4:-1]
    worst = negatives["stamp_id"].to_pylist()[:-4:-1]
    assert pixels.asked[:3] == best
    assert pixels.asked[6:9] == worst


def test_missed_lenses_are_the_lowest_copies_of_the_headline(tmp_path: Path) -> None:
    table = scores(60, 500)
    first = np.arange(60) // 3 * 3  # three copies of each lens galaxy
    targets = table["target_id"].to_numpy().copy()
    targets[:60] = targets[first]
    table = replaced(table, {"target_id": pa.array(targets)})
    _, pixels = written(tmp_path, pa.concat_tables([table, scores(50, 450, of="calib")]))
    lenses = table.slice(0, 60).to_pylist()
    headline = [r for r in lenses if r["theta_e_over_fwhm_r"] >= 1.2 and r["arc_snr_g"] >= 25]
    worst: dict[int, dict[str, Any]] = {}
    for row in sorted(headline, key=lambda r: r["logit"]):
        worst.setdefault(row["target_id"], row)
    missed = pixels.asked[3:6]
    assert missed == [r["stamp_id"] for r in worst.values()][:3]
    (logit,) = [r["logit"] for r in lenses if r["stamp_id"] == missed[0]]
    assert logit == min(r["logit"] for r in headline)


def test_a_simulated_galaxy_has_no_link_to_the_real_sky(tmp_path: Path) -> None:
    simulated, _ = written(tmp_path / "a", candidates=top())
    real, _ = written(tmp_path / "b", candidates=top(), config={"sky": "real"})
    link = 'href="https://www.legacysurvey.org'
    assert link not in (simulated / "index.html").read_text()
    assert link in (real / "index.html").read_text()


def test_cautions_name_what_the_test_set_does_not_hold(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    page = (folder / "index.html").read_text()
    assert "single_image, edge_on, merger" in page
    assert "For any statement about the real sky" in page


def test_without_candidates_and_galleries_the_report_is_whole(tmp_path: Path) -> None:
    folder, pixels = written(tmp_path, config={"gallery_stamps": 0})
    assert pixels.asked == []
    assert 'id="galleries"' not in (folder / "index.html").read_text()


def test_a_set_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scores of small, set calib cannot be evaluated"):
        written(tmp_path, scores(20, 50))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"theta_e_edges_arcsec": (1.0, 0.5)}, "must rise"),
        ({"arc_snr_band": "i"}, "not among the run's bands"),
        ({"bands": ("g", "z")}, "need the band r"),
        ({"prevalences": (1.0,)}, "less than 1"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        report_config(**changed)


def test_what_was_drawn_is_said_by_split_and_by_width(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    rows = {row["name"]: row for row in json.loads((folder / "metrics.json").read_text())["drawn"]}
    assert list(rows) == [
        "all of train", "all of calib", "all of test", "test, visible", "test, θ_E < 2.5",
        "test, θ_E >= 2.5", "test, lens is a group",
    ]  # fmt: skip
    made = manifest(every())
    is_test = np.asarray([k == "lens" for k in made["kind"].to_pylist()])
    is_test &= np.asarray(made["split"].to_pylist()) == "test"
    theta_e, weight = (
        made[name].to_numpy(zero_copy_only=False)[is_test].astype(np.float64)
        for name in ("theta_e_arcsec", "weight_population")
    )
    test = rows["all of test"]
    assert test["n"] == is_test.sum() == 60
    assert test["effective_n"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    order = np.argsort(theta_e)
    half = theta_e[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)]
    assert test["spreads"]["theta_e_arcsec"]["median"] == pytest.approx(half)
    assert rows["test, θ_E >= 2.5"]["n"] == (theta_e >= 2.5).sum()
    assert rows["test, visible"]["visible_share"] == 1
    # what is not painted, or stands for no population, is not made up
    train = rows["all of train"]
    assert (train["n"], train["is_weighted"], train["visible_share"]) == (20, False, None)
    assert train["spreads"]["magnification"]["median"] is None


def test_the_page_shows_what_was_drawn_beside_published_lenses(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    page = (folder / "index.html").read_text()
    section = page[page.index('id="drawn"') : page.index('id="data"')]
    for said in ("What was drawn", "each once", "θ<sub>E</sub> ≥ 2.5", "Collett 2015, DES", "SL2S"):
        assert said in section
    assert "<svg" in section


def test_a_run_that_injected_no_lens_says_nothing_of_them(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, manifest=manifest(every(), n_train=0).slice(0, 0))
    page = (folder / "index.html").read_text()
    assert 'id="drawn"' not in page
    assert json.loads((folder / "metrics.json").read_text())["drawn"] == []
