"""A run small enough for a test: the demo's own recipe on a sky of a few patches."""

import copy
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from darkhaloscope.evaluate.gates import GUARDS

DHS = Path(sys.executable).with_name("dhs")
TINY_SKY = {
    "seed": 7,
    "n_fields": 6,
    "field_spacing_deg": 4.0,
    "first_field_deg": [20.0, -20.0],
    "bricks_per_field": [1, 1],
    "brick_size_px": 640,
    "lrg_per_deg2": 25_000,
    "bricks_without_band": 1,
}
TINY_SHARES = {
    "lens": 0.36,
    "single_image": 0.08,
    "control": 0.2,
    "companion": 0.04,
    "radial_arc": 0.04,
    "scrambled": 0.04,
    "halo_ring": 0.04,
    "ring": 0.04,
    "spiral": 0.04,
    "edge_on": 0.03,
    "merger": 0.03,
    "agn_jet": 0.03,
    "artefact": 0.03,
}
TINY_FLOORS = {"lens": 2, "spiral": 1, "edge_on": 1, "ring": 1, "merger": 1}


def preset(name: str) -> dict[str, Any]:
    """The tables of a preset."""
    return tomllib.loads((files("darkhaloscope.presets") / f"{name}.toml").read_text())


def tiny_tables(name: str = "demo") -> dict[str, Any]:
    """A preset made tiny: some 150 targets in six patches, two short epochs."""
    tables = copy.deepcopy(preset(name))
    tables["simulate"].update(TINY_SKY)
    tables["simulate"]["floors"].update(TINY_FLOORS)
    shares = {"train": 0.4, "val": 0.2, "calib": 0.2, "test": 0.2}
    tables["splits"].update(seed=SPLIT_SEED, shares=shares, shares_tolerance=0.3, guard_arcsec=30)
    for split in ("val", "calib", "test"):
        tables["manifest"]["sets"][split]["shares"] = dict(TINY_SHARES)
    for model in tables["model"].values():
        model.update(network="small", max_epochs=2, epoch_stamps=128, batch_size=32, warmup_steps=1)
    tables["report"].update(interval_draws=500, gallery_stamps=2)
    tables["gates"].update(stamps_per_kind=60, stamps_per_other_kind=20, least_galaxies=20)
    tables["gates"].update(interval_draws=100, waive=dict.fromkeys(GUARDS, TOO_SMALL))
    return tables


TOO_SMALL = "some 60 galaxies of train can show no such thing"
SPLIT_SEED = 23  # gives each of the four splits at least one of the six patches


def write_run(tables: dict[str, Any], file: Path) -> Path:
    """Write a run's file."""
    file.write_text(to_toml(tables))
    return file


def to_toml(tables: dict[str, Any]) -> str:
    """TOML of nested tables; every leaf as an inline value."""
    lines: list[str] = []

    def section(name: str, table: dict[str, Any]) -> None:
        if name:
            lines.append(f"[{name}]")
        lines.extend(f"{k} = {inline(v)}" for k, v in table.items() if not is_section(v))
        for key, value in table.items():
            if is_section(value):
                section(f"{name}.{key}" if name else key, value)

    section("", tables)
    return "\n".join(lines) + "\n"


def is_section(value: Any) -> bool:
    """Whether a value is written as a section of its own."""
    return isinstance(value, dict)


def inline(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(inline(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + " }"
    return repr(value)


def dhs(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [str(DHS), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        **options,  # type: ignore[call-overload]
    )


RECORDS = ("history.csv", "training.log", "done.json")


def contents(root: Path) -> dict[str, bytes]:
    """Every result of a run; not its records, which hold times."""
    run = root / "demo"
    return {
        str(f.relative_to(run)): f.read_bytes()
        for f in sorted(run.rglob("*"))
        if f.is_file()
        and f.name not in (*RECORDS, ".lock")
        and f.relative_to(run).parts[0] != "logs"
    }


BARE = """
import runpy, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        is_absent = name.partition(".")[0] in {absent}
        return None if is_absent else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)
sys.argv = [{module!r}, *{words}]
runpy.run_module({module!r}, run_name="__main__")
"""


def without(absent: set[str], module: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m module words` where some packages cannot be imported."""
    code = BARE.format(absent=absent, module=module, words=[str(word) for word in words])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
