"""What was frozen is found again; what differs is named."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen_builders import few

from darkhaloscope.bench.frozen import sets, verify

FEW = {
    "family": 8,
    "chunk": 24,
    "sets": {
        "test": {"lens_hosts": 8, "counts": {"control": 12, "companion": 6, "ring": 8}},
        "val": {"lens_hosts": 4, "counts": {"control": 6, "ring": 3}},
        "calib": {"lens_hosts": 4, "counts": {"control": 6, "ring": 3}},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("frozen"))


@pytest.fixture
def kept(folder: Path, tmp_path: Path) -> Path:
    """A frozen benchmark of its own."""
    first = folder / "kept"
    if not first.exists():
        verify.store_stamps(few(FEW), folder, into=first, count_headline=True)
    for file in first.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_nothing_differs_where_nothing_was_changed(folder: Path, kept: Path) -> None:
    assert verify.check(few(FEW), folder, kept=kept) == []


def test_what_is_kept_says_what_the_set_is(folder: Path, kept: Path) -> None:
    said = json.loads((kept / "frozen.json").read_text())["few"]
    bench = few(FEW)
    assert said["definition_sha256"] == bench.sha256
    for which in verify.JUDGED:
        of_set = said["sets"][which]
        assert of_set["fingerprint"] == sets.fingerprint(bench, which, folder=folder)
        lenses = of_set["rows"].pop("lens", 0)
        assert of_set["rows"] == bench.counts(which)
        assert of_set["lenses"] == lenses
        assert 0 <= of_set["headline_lenses"] <= lenses
    stored = pq.read_table(kept / "few.stamps.parquet")
    kinds = stored["kind"].to_pylist()
    assert {kind: kinds.count(kind) for kind in ("control", "companion", "ring")} == {
        "control": 4, "companion": 4, "ring": 4,
    }  # fmt: skip
    assert kinds.count("lens") == said["sets"]["test"]["lenses"]
    assert set(stored["is_unseen"].to_pylist()) == {True, False}


def test_the_headline_is_counted_as_the_scores_would(folder: Path, kept: Path) -> None:
    from darkhaloscope.core.contracts import Device

    bench = few(FEW)
    chunks = sets.chunks(bench, "test", folder=folder, device=Device("cpu", 1))
    rows = pa.concat_tables([chunk.rows for chunk in chunks])
    values = [rows[n].to_numpy(zero_copy_only=False) for n in bench.headline]
    least = list(bench.headline.values())
    is_lens = rows["label"].to_numpy(zero_copy_only=False) == 1
    counted = (is_lens & (values[0] >= least[0]) & (values[1] >= least[1])).sum()
    assert verify.headline_lenses(bench, "test", folder) == counted


def test_other_numbers_need_another_name(folder: Path, kept: Path) -> None:
    other = few({**FEW, "hosts": {"seed": 5}})
    (fault,) = verify.check(other, folder, kept=kept)
    assert f"its definition has sha256 {other.sha256[:12]}" in fault
    (fault,) = verify.check(few({**FEW, "name": "fewer"}), folder, kept=kept)
    assert "fewer is not frozen" in fault


def test_columns_that_differ_are_named(folder: Path, kept: Path) -> None:
    path = kept / "frozen.json"
    said = json.loads(path.read_text())
    of_val = said["few"]["sets"]["val"]
    of_val["fingerprint"] = "0" * 64
    of_val["columns"]["src_mag_r"] = "0" * 12
    path.write_text(json.dumps(said))
    assert verify.check(few(FEW), folder, kept=kept, pixels=False) == [
        "the rows of val differ in src_mag_r"
    ]


def _with_pixels(path: Path, change: float) -> str:
    """One pixel of the third stamp changed by a share of the sky's rms; the stamp's id."""
    stored = pq.read_table(path)
    rows = stored.to_pylist()
    pixels = np.frombuffer(rows[2]["pixels"], np.float32).copy()
    pixels[50] += change * rows[2]["noise_g_nmgy"]
    values = [row["pixels"] for row in rows]
    values[2] = pixels.tobytes()
    at = stored.schema.get_field_index("pixels")
    field = stored.schema.field(at)
    pq.write_table(stored.set_column(at, field, pa.array(values, field.type)), path)
    return str(rows[2]["stamp_id"])


def test_a_pixel_beyond_the_tolerance_is_a_fault(folder: Path, kept: Path) -> None:
    path = kept / "few.stamps.parquet"
    _with_pixels(path, 0.7e-3)
    assert verify.check(few(FEW), folder, kept=kept) == []
    stamp = _with_pixels(path, 2e-3)
    (fault,) = verify.check(few(FEW), folder, kept=kept)
    assert fault.startswith("1 of ")
    assert stamp in fault
    assert "by 0.0027 of the sky's rms" in fault
    said = verify.message(few(FEW), [fault, "another"])
    assert said.startswith("few is not what was frozen: 1 of ")
    assert "; another." in said


def test_a_stamp_that_is_gone_and_a_file_that_is_gone_are_faults(folder: Path, kept: Path) -> None:
    path = kept / "few.stamps.parquet"
    stored = pq.read_table(path)
    ids = stored["stamp_id"].to_pylist()
    changed = pa.array([ids[0] + 1, *ids[1:]])
    pq.write_table(stored.set_column(1, "stamp_id", changed), path)
    (fault,) = verify.check(few(FEW), folder, kept=kept)
    assert f"{ids[0] + 1} (not in the set)" in fault
    path.unlink()
    (fault,) = verify.check(few(FEW), folder, kept=kept)
    assert fault == "there is no few.stamps.parquet beside frozen.json"


def test_two_benchmarks_stand_side_by_side(folder: Path, kept: Path) -> None:
    other = few({**FEW, "name": "more", "family": 7})
    verify.store_stamps(other, folder, into=kept)
    assert set(json.loads((kept / "frozen.json").read_text())) == {"few", "more"}
    assert verify.check(other, folder, kept=kept) == []
    assert verify.check(few(FEW), folder, kept=kept, pixels=False) == []


def test_freezing_an_unknown_variant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(tmp_path), "--variant", "slow"]) == 2
    assert "no variant 'slow'" in capsys.readouterr().err
