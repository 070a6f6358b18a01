"""The audit tells networks apart whose answers are known, and says so in words and figures."""

import json
import re
from pathlib import Path
from typing import Any

import audit_builders as ab
import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ml_builders import saved_model
from pydantic import ValidationError
from run_builders import dhs, tiny_tables, write_run

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import TrainedModel
from darkhaloscope.data import json_table
from darkhaloscope.evaluate import audit_section, gates
from darkhaloscope.evaluate.audit_checks import AUDIT
from darkhaloscope.evaluate.gates import Row
from darkhaloscope.ml.transforms import Normalisation
from darkhaloscope.stages import audit

Found = dict[tuple[str, str], Row]
BRIGHT_RINGS = {"arc_snr_g": {"low": 60, "high": 120}}
UNLENSED = ("companion", "radial_arc", "scrambled", "halo_ring")
PLAIN = ("plain_scores", "plain_sky", "plain_detections", "plain_hosts", "known_hosts")


@pytest.fixture(scope="module")
def world() -> ab.World:
    return ab.world()


def audited(network: Any, tables: dict[str, Any], lists: Any = None, **changes: Any) -> Found:
    rings = {**ab.preset("demo")["audit"]["gaussian_ring"], **BRIGHT_RINGS}
    config = ab.config(gaussian_ring=rings, **changes)
    rows = audit.audited(network, **tables, config=config, sources=None, lists=lists or {})
    return {(row.name, row.stratum): row for row in rows}


@pytest.fixture(scope="module")
def blue(world: ab.World) -> Found:
    return audited(ab.Named(ab.blue_flux), world.tables(ab.blue_flux))


@pytest.fixture(scope="module")
def ideal(world: ab.World) -> Found:
    oracle = ab.Oracle(world)
    tables = world.tables(oracle.logits)
    tables["scores"] = ab.with_kinds_as(tables["scores"], dict.fromkeys(UNLENSED, -9.0))
    return audited(oracle, tables)


def failed(found: Found) -> set[str]:
    return {name for (name, _), row in found.items() if not row.passed}


def test_a_measure_of_blue_light_fails_all_that_is_blue_and_no_lens(blue: Found) -> None:
    assert failed(blue) >= {*UNLENSED, "gaussian_ring"}
    assert blue["companion", "over the lenses' completeness"].high > 1
    assert blue["rises_with_snr", "all"].passed
    assert blue["arc_removed", "all"].passed
    wide = blue["gaussian_ring", "wide, of an arc's colours"]
    assert wide.value > 0.3
    assert "n = 100 controls with such a ring (0.0 % of them without)" in wide.detail


def test_one_that_ignores_the_galaxy_is_at_chance_and_never_rises(world: ab.World) -> None:
    found = audited(ab.Named(ab.noise_alone), world.tables(ab.noise_alone))
    assert found["zero_flux", "all"].passed
    assert found["zero_flux", "all"].low < 0.5 < found["zero_flux", "all"].high
    assert failed(found) >= {"rises_with_snr", "rises_with_theta_e", "arc_removed"}
    assert found["rises_with_snr", "all"].value == pytest.approx(0, abs=1e-2)
    assert found["companion", "all"].value > 0.5  # as chance has it of anything


def test_one_that_knows_what_was_added_passes(ideal: Found) -> None:
    assert failed(ideal) == set()
    assert ideal["rises_with_snr", "all"].value == pytest.approx(1, abs=0.1)  # log2 of the flux
    assert ideal["rises_with_theta_e", "all"].low > 0
    assert ideal["zero_flux", "all"].value == 0.5
    assert ideal["plain_scores", "all"].value == 0


def test_every_check_has_a_row_and_what_cannot_be_judged_has_no_verdict(ideal: Found) -> None:
    assert list(dict.fromkeys(name for name, _ in ideal)) == list(AUDIT.guards)
    row = ideal["realism", "all"]
    assert (row.passed, row.is_judged) == (True, False)
    assert "audit.real_lenses" in row.detail
    assert all(re.search(r"n = [\d,]+|not judged|logits", r.detail) for r in ideal.values())


def test_lenses_painted_again_as_they_were_score_as_they_did(blue: Found, world: ab.World) -> None:
    scores = world.scores(ab.blue_flux)
    lens = scores.filter(pc.equal(scores["kind"], "lens"))
    row = blue["rises_with_snr", "x 1"]
    assert row.value == pytest.approx(np.mean(lens["logit"].to_numpy()), abs=0.6)


def test_other_pixels_on_the_sky_are_a_warning_and_with_a_limit_a_failure(
    world: ab.World,
) -> None:
    tables = world.tables(ab.blue_flux)

    class Smoothed(ab.Stored):
        def cutouts(self, ids: np.ndarray) -> np.ndarray:
            held = super().cutouts(ids)
            return (held + np.roll(held, 1, axis=-1)) / np.float32(np.sqrt(2))

    tables["pixels"] = Smoothed(world)
    limits = {**ab.preset("demo")["audit"]["limits"], "plain_sky": 0.5}
    found = audited(ab.Named(ab.blue_flux), tables, limits=limits)
    row = found["plain_sky", "r"]
    assert not row.passed
    assert row.low > 2
    warned = audited(ab.Named(ab.blue_flux), tables)["plain_sky", "r"]
    assert warned.passed
    assert audit_section.is_warning(warned)


def test_galaxies_of_train_that_score_otherwise_are_known(world: ab.World) -> None:
    tables = world.tables(ab.noise_alone)
    scores = tables["scores"]
    taught = pc.equal(scores["split"], "train").to_numpy()
    at = scores.schema.get_field_index("logit")
    logit = scores["logit"].to_numpy() - 0.5 * taught.astype("f4")
    tables["scores"] = scores.set_column(at, scores.schema.field(at), pa.array(logit))
    row = audited(ab.Named(ab.noise_alone), tables)["known_hosts", "all"]
    assert row.high < 0
    assert row.value == pytest.approx(-0.5 / np.std(logit[~taught]), abs=0.7)


def test_regions_that_differ_are_not_taken_for_a_network_that_knows_its_hosts(
    world: ab.World,
) -> None:
    tables = world.tables(ab.noise_alone)
    scores = tables["scores"]
    region = scores["region_id"].to_numpy()
    offset = np.random.default_rng(1).normal(0, 1, region.max() + 1)
    at = scores.schema.get_field_index("logit")
    logit = (scores["logit"].to_numpy() + offset[region]).astype("f4")
    tables["scores"] = scores.set_column(at, scores.schema.field(at), pa.array(logit))
    row = audited(ab.Named(ab.noise_alone), tables)["known_hosts", "all"]
    assert row.low < 0 < row.high
    assert row.high - row.low > 1  # six regions of train; by its 60 galaxies it would be 0.5
    assert "n = 6 against 40 regions" in row.detail


def test_real_lenses_are_matched_by_position_and_told_from_injected_ones(world: ab.World) -> None:
    sky = world.targets.slice(0, 40)
    columns = {name: sky[name] for name in ("ra_deg", "dec_deg")}
    none = pa.nulls(40, pa.float64())
    listed = pa.table({**columns, "radius_arcsec": none})
    tables = world.tables(ab.blue_flux)
    row = audited(ab.Named(ab.blue_flux), tables, {"known.csv": listed})["realism", "all"]
    assert row.value > 0.9  # plain galaxies have none of the injected blue light
    assert "40 real lenses" in row.detail
    few = audited(ab.Named(ab.blue_flux), tables, {"known.csv": listed.slice(0, 9)})
    assert "9 real lenses are targets; audit.least_real is 30" in few["realism", "all"].detail


def test_a_set_without_lenses_is_not_judged_and_does_not_fail(world: ab.World) -> None:
    tables = world.tables(ab.blue_flux)
    for name in ("scores", "manifest"):
        kind = tables[name]["kind"]
        tables[name] = tables[name].filter(pc.not_equal(kind, "lens"))
    found = audited(ab.Named(ab.blue_flux), tables)
    assert failed(found) == set()
    assert not any(row.is_judged for (name, _), row in found.items() if name not in PLAIN)


def test_the_test_set_is_never_looked_at(world: ab.World, blue: Found) -> None:
    tables = world.tables(ab.blue_flux)
    strange = tables["scores"].slice(0, 200)
    for name, value in (("split", "test"), ("set", "sky")):
        at = strange.schema.get_field_index(name)
        strange = strange.set_column(at, strange.schema.field(at), pa.repeat(value, 200))
    tables["scores"] = pa.concat_tables([tables["scores"], strange])
    assert audited(ab.Named(ab.blue_flux), tables) == blue


@pytest.fixture(scope="module")
def made(world: ab.World, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """What the stage writes of a network of the package's own."""
    folder = saved_model(
        tmp_path_factory.mktemp("model"), bands=mb.BANDS, size_px=ab.SIZE_PX,
        normalisation=Normalisation("asinh", (0.006, 0.008, 0.02)),
    )  # fmt: skip
    tables = world.tables(ab.blue_flux)
    return audit.run(model=TrainedModel("small", folder), **tables, config=ab.config())


def test_the_stage_audits_a_saved_network(made: pa.Table, world: ab.World) -> None:
    assert made.schema.equals(schemas.audit(mb.BANDS))
    assert pc.count_distinct(made["name"]).as_py() == len(AUDIT.guards)
    row = next(r for r in made.to_pylist() if r["name"] == "rises_with_snr")
    assert row["value"] is not None


def test_the_verdict_names_what_failed_unless_the_run_does_not_stop(
    made: pa.Table, world: ab.World, tmp_path: Path
) -> None:
    file = tmp_path / "round=0.json"
    file.write_text(json_table.dumps(made, {"digest": "x"}, where="audit"))
    said = audit.verdict(file, "run/audit/small/round=0.json")
    assert "checks failed, so this network is not to be used as it is" in said
    assert "companion (guards against: blue light somewhere is enough)" in said
    assert "run/audit/small/round=0.json" in said
    found = audited(ab.Named(ab.blue_flux), world.tables(ab.blue_flux), stop=False)
    waived = gates.table(list(found.values()), AUDIT)
    file.write_text(json_table.dumps(waived, {}, where="audit"))
    assert audit.verdict(file, "x") == ""
    assert found["companion", "all"].reason.endswith("waived: audit.stop is false")
    assert json.loads(file.read_text())["rows"][0]["name"] == "operating_point"


def test_a_second_audit_gives_the_same_rows(world: ab.World, blue: Found) -> None:
    assert audited(ab.Named(ab.blue_flux), world.tables(ab.blue_flux)) == blue


@pytest.mark.slow
def test_a_run_makes_everything_else_and_then_fails_with_the_audit_s_words(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["simulate"].update(brick_size_px=1000)
    tables["splits"].update(seed=30, shares={"train": 0.3, "val": 0.3, "calib": 0.2, "test": 0.2})
    shares = {"lens": 0.5, "control": 0.3, "companion": 0.2}
    copies = {**dict.fromkeys(shares, 1), "lens": 6}
    tables["manifest"]["sets"]["val"].update(shares=shares, copies=copies)
    tables["model"]["small"].update(max_epochs=1, epoch_stamps=32)
    tables["audit"].update(set="val", stop=True, least_galaxies=10, interval_draws=200)
    tables["audit"].update(lenses=60, rings=30, plain_cutouts=50)
    file = write_run(tables, tmp_path / "run.toml")
    assert dhs("simulate", tmp_path / "sky", "--config", file, "--workers", "1").returncode == 0
    ended = dhs("run", file, "audit", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "checks failed, so this network is not to be used as it is" in ended.stderr
    assert "rises_with_snr (guards against: the arc is not what is looked at)" in ended.stderr
    record = json.loads((tmp_path / "demo/audit/small/round=0.json").read_text())
    assert list(dict.fromkeys(row["name"] for row in record["rows"])) == list(AUDIT.guards)
    tables["audit"]["stop"] = False
    write_run(tables, file)
    assert dhs("run", file, "audit", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"waive": {"rings": "a reason that is long enough"}}, "there is no check rings"),
        ({"waive": {"companion": "no"}}, "at least 10 characters"),
        ({"set": "test"}, "'val' or 'calib'"),
        ({"stamps": {**ab.STAMPS, "sets": ["test"]}}, "is not written as stamps"),
        ({"limits": {}}, "Field required"),
        (
            {"gaussian_ring": {**ab.preset("demo")["audit"]["gaussian_ring"],
                               "wide_fwhm_over_psf": {"low": 1.0, "high": 2.0}}},
            "an arc's colours is an Einstein ring",
        ),
        ({"rising": {"arc_snr_g": {"low": 0, "high": 9},
                     "theta_e_over_fwhm_r": {"low": 1, "high": 2}}}, "is above 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ab.config(**changes)
