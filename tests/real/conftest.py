"""The whole line, run once on a tiny simulated sky with one more brick of real pixels."""

from pathlib import Path

import pytest
from real_builders import PLACES, TYPES, Line, RealBrick
from run_builders import dhs, tiny_tables, write_run

# Six whole patches, each in a region of its own, as the real brick is.
SKY = {"first_field_deg": [20.0, -20.0], "field_spacing_deg": 4.0, "bricks_without_band": 0}
# Puts the real brick and a simulated patch into `test`, and at least one patch into each split.
SPLITS = {
    "seed": 837,
    "region_nside": 32,
    "shares": {"train": 0.4, "val": 0.2, "calib": 0.2, "test": 0.2},
    "shares_tolerance": 0.3,
}


@pytest.fixture(scope="session")
def real_brick(shared_data: Path) -> RealBrick:
    return RealBrick.read(shared_data)


@pytest.fixture(scope="session")
def real_line(real_brick: RealBrick, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """`dhs simulate`, the real brick beside what it drew, `dhs run`."""
    folder = tmp_path_factory.mktemp("real")
    tables = tiny_tables()
    tables["simulate"].update(SKY)
    tables["splits"].update(SPLITS)
    tables["report"]["top_candidates"] = 1000  # the page lists every target
    file = write_run(tables, folder / "run.toml")
    drawn = dhs("simulate", folder / "sky", "--config", file, "--workers", "1")
    assert drawn.returncode == 0, drawn.stderr
    x, y = zip(*PLACES, strict=True)
    real_brick.join(folder / "sky", x, y, TYPES)
    ran = dhs("run", file, "--workers", "1")
    assert ran.returncode == 0, ran.stderr
    return Line(folder, real_brick)
