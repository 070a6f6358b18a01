"""The tiny sky, drawn once and run once through the real command."""

import shutil
from pathlib import Path

import pytest
from run_builders import dhs, tiny_tables, write_run


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sky and its run file, with nothing run on it yet."""
    folder = tmp_path_factory.mktemp("sky")
    file = write_run(tiny_tables(), folder / "run.toml")
    drawn = dhs("simulate", folder / "sky", "--config", file, "--workers", "1")
    assert drawn.returncode == 0, drawn.stderr
    return folder


@pytest.fixture(scope="session")
def finished(sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sky with everything run on it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(sky, folder, copy_function=shutil.copy2)
    done = dhs("run", folder / "run.toml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder
