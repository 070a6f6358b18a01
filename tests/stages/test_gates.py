"""The stage judges what trains, paints it itself, and is silent about nothing."""

import json
from pathlib import Path
from typing import Any

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from run_builders import preset

from darkhaloscope.core.contracts import Device, Scratch
from darkhaloscope.core.settings.gates import NAMES, GatesConfig
from darkhaloscope.data import pixels
from darkhaloscope.evaluate.gates import GUARDS
from darkhaloscope.ml import manifesting
from darkhaloscope.stages import gates

N = 120
STAMPS = {
    "bands": mb.BANDS, "pixel_scale_arcsec": mb.SCALE, "seed": 2, "size_px": 64, "sets": ["val"],
    "psf_profile": "moffat", "psf_beta": [2.9, 2.9, 2.9],
    "electrons_per_nmgy_per_exposure": [3500.0, 3500.0, 3500.0],
}  # fmt: skip


def config(**changes: Any) -> GatesConfig:
    """The demo's limits on a sample of a test's size."""
    stated = preset("demo")["gates"]
    small = {"stamps_per_kind": 100, "stamps_per_other_kind": 30, "least_galaxies": 50,
             "interval_draws": 100}  # fmt: skip
    handed = {
        "bands": mb.BANDS, "pixel_scale_arcsec": mb.SCALE, "stamps": STAMPS,
        "manifest": mb.config().model_dump(),
        "splits": {**preset("demo")["splits"], "bands": mb.BANDS, "pixel_scale_arcsec": mb.SCALE},
        "models": {"small": {"normalisation": "asinh", "softening_nmgy": {}},
                   "old": {"normalisation": "first_run", "softening_nmgy": {}}},
    }  # fmt: skip
    return GatesConfig.model_validate({**stated, **small, **handed, **changes})


class Stored:
    """Cutouts by id, with what a test does to them."""

    def __init__(self, table: pa.Table, spoil: Any = None) -> None:
        self.ids = table["target_id"].combine_chunks()
        self.images = pixels.decode(table["pixels"], pixels.layout_of(table.field("pixels"))).copy()
        if spoil:
            spoil(self.images)

    def cutouts(self, ids: np.ndarray) -> np.ndarray:
        return self.images[pc.index_in(pa.array(ids), value_set=self.ids).to_numpy()]


def tables(n: int = N, **changes: Any) -> dict[str, pa.Table]:
    targets = mb.splits(n, split="train")
    hosts = manifesting.hosts_of(targets, mb.cutouts_head(targets), mb.BANDS)
    rows = manifesting.draw(hosts, split="train", config=mb.config(**changes))
    return {"splits": targets, "cutouts": mb.cutouts(targets), "manifest": rows}


def judged(
    folder: Path, spoil: Any = None, settings: GatesConfig | None = None, **made: Any
) -> Any:
    made = {**tables(), **made}
    stored = Stored(made["cutouts"], spoil)
    made["cutouts"] = made["cutouts"].drop_columns(["pixels", "psf_image"])
    return gates.run(
        **made, pixels=stored, scratch=Scratch(folder), device=Device(),
        config=settings or config(),
    )  # fmt: skip


def rows_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads((folder / "gates.json").read_text())
    return {(row["name"], row["stratum"]): row for row in rows}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged(tmp_path_factory.mktemp("gates"))


def test_settings_and_gates_name_the_same() -> None:
    assert tuple(GUARDS) == NAMES


def test_every_gate_is_there_in_json_parquet_and_on_the_page(sound: Path) -> None:
    rows = json.loads((sound / "gates.json").read_text())
    assert list(dict.fromkeys(row["name"] for row in rows)) == list(NAMES)
    assert pq.read_table(sound / "gates.parquet").to_pylist() == rows
    page = (sound / "index.html").read_text()
    assert all(f'id="{name}"' in page for name in NAMES)


def test_what_a_sound_recipe_measures(sound: Path) -> None:
    found = rows_of(sound)
    assert found["metadata", "all"]["value"] == pytest.approx(0.5, abs=0.05)
    assert found["total_flux", "all"]["value"] == pytest.approx(0.5, abs=0.03)
    assert found["radial_profile", "all"]["passed"]
    assert found["pixels", "not finite"]["value"] == 0
    assert found["pixels", "flux closure r"]["value"] < 1e-3
    assert found["pixels", "clipped by small"]["value"] == 0
    assert found["pixels", "clipped by old"]["value"] > 0.1  # hosts' cores at 10 sigma
    assert found["control_copies", "control"]["value"] == 1
    assert found["core_only", "against the sky's mix"]["limit_high"] is None


def test_only_the_classes_own_geometry_tells_a_lens_from_its_companion(sound: Path) -> None:
    found = rows_of(sound)
    shares_hosts = "lenses and 100 companion on 100 galaxies"
    assert shares_hosts in found["core_only", "all"]["detail"]


def test_a_second_run_gives_the_same_bytes(sound: Path, tmp_path: Path) -> None:
    again = judged(tmp_path)
    for name in ("gates.json", "gates.parquet", "index.html"):
        assert (again / name).read_bytes() == (sound / name).read_bytes()


def test_a_pixel_that_is_not_finite_fails_and_is_counted(tmp_path: Path) -> None:
    def spoil(images: np.ndarray) -> None:
        images[:, 1, 20, 20] = np.nan

    row = rows_of(judged(tmp_path, spoil))["pixels", "not finite"]
    assert not row["passed"]
    assert row["value"] > 100


def test_a_band_without_light_fails(tmp_path: Path) -> None:
    def spoil(images: np.ndarray) -> None:
        images[:3, 0] = 0.0

    found = rows_of(judged(tmp_path, spoil))
    assert not found["pixels", "band without light"]["passed"]


def test_a_recipe_without_companions_is_judged_against_its_own_controls(tmp_path: Path) -> None:
    plan = {**mb.PAIRED, "copies": {"lens": 3, "control": 3}}
    made = tables(sets={"train": plan})
    found = rows_of(judged(tmp_path, **made))
    row = found["annulus_colour", "all"]
    assert "100 control" in row["detail"]
    assert row["value"] > 0.7
    assert not row["passed"]
    assert (found["control_copies", "control"]["value"]) == 3


def test_too_few_galaxies_fail_with_the_reason(tmp_path: Path) -> None:
    folder = judged(tmp_path, **tables(30))
    row = rows_of(folder)["texture", "all"]
    assert (row["passed"], row["value"]) == (False, None)
    assert "gates.least_galaxies is 50" in row["reason"]


def test_a_train_set_without_rows_fails_every_gate_that_needs_them(tmp_path: Path) -> None:
    made = tables()
    folder = judged(tmp_path, **{**made, "manifest": made["manifest"].slice(0, 0)})
    found = rows_of(folder)
    failed = {name for (name, _), row in found.items() if not row["passed"]}
    assert failed >= set(NAMES) - {"splits_leak"}


def test_the_verdict_holds_until_each_failure_is_waived(sound: Path, tmp_path: Path) -> None:
    said = gates.verdict(sound, "run/gates")
    assert "control_copies" not in said
    assert "splits_leak (guards against: split by accident)" in said  # all of it is train
    assert "run/gates/index.html" in said
    reasons = dict.fromkeys(NAMES, "this sky is a test's own")
    waived = judged(tmp_path, settings=config(waive=reasons))
    assert gates.verdict(waived, "run/gates") == ""
    row = rows_of(waived)["splits_leak", "share of test"]
    assert (row["passed"], row["waived"]) == (False, True)
    assert row["reason"].endswith("waived: this sky is a test's own")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"waive": {"core": "a reason that is long enough"}},
            "there is no gate core; the gates are resolution, core_only",
        ),
        ({"waive": {"core_only": "no"}}, "at least 10 characters"),
        ({"theta_e_over_fwhm_r_edges": [1.0, 0.5]}, "must rise"),
        ({"limits": {}}, "Field required"),
        ({"stamps": {**STAMPS, "size_px": 48}}, "leaves no sky beyond 28 px"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)
