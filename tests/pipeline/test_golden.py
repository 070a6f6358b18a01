"""A stage's output changes only together with its `version`.

Rows and column means of the tiny run are compared with those kept in golden.json. Means, within
0.1 %, and not hashes: pixels are equal to the byte on one family of processors only. After a change
that is meant: raise the stage's `version`, then `pytest tests/pipeline/test_golden.py --golden`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from darkhaloscope.pipeline.registry import stage_named

pytestmark = pytest.mark.xdist_group("pipeline")
KEPT = Path(__file__).with_name("golden.json")
STAGES = ("targets", "splits", "images", "cutouts", "manifest", "stamps")


def summary(root: Path, stage: str) -> dict[str, Any]:
    """What is compared: rows, and of each numeric column the mean and the number of nulls."""
    files = sorted((root / "demo" / stage).rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(f, partitioning=None) for f in files])
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            values = column.drop_null().to_numpy().astype(np.float64)
            columns[field.name] = [float(values.mean()) if len(values) else 0.0, column.null_count]
        elif pa.types.is_list(field.type):
            values = pc.list_flatten(column.drop_null()).to_numpy().astype(np.float64)
            columns[field.name] = [float(values.mean()) if len(values) else 0.0, column.null_count]
        elif pa.types.is_fixed_size_binary(field.type):
            held = np.frombuffer(b"".join(column.drop_null().to_pylist()), np.float32)
            columns[field.name] = [float(held.astype(float).std()) if len(held) else 0.0, 0]
    return {"version": stage_named(stage).version, "rows": table.num_rows, "columns": columns}


@pytest.mark.parametrize("stage", STAGES)
def test_an_output_changes_only_with_the_stages_version(
    finished: Path, stage: str, request: pytest.FixtureRequest
) -> None:
    found = summary(finished, stage)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if request.config.getoption("--golden"):
        KEPT.write_text(json.dumps({**kept, stage: found}, indent=1, sort_keys=True) + "\n")
        return
    hint = f"raise the version of stage {stage}, then run this file with --golden"
    assert found["version"] == kept[stage]["version"], hint
    assert found["rows"] == kept[stage]["rows"], hint
    assert found["columns"].keys() == kept[stage]["columns"].keys(), hint
    for name, (mean, nulls) in kept[stage]["columns"].items():
        assert found["columns"][name] == [pytest.approx(mean, rel=1e-3, abs=1e-9), nulls], (
            f"{name}: {hint}"
        )
