"""`dhs evaluate` as people run it: the command, a bare machine, and the page of the docs."""

import json
import re
import subprocess
import sys
from pathlib import Path

from run_builders import dhs, without
from score_tables import foreign, lines, saved

from darkhaloscope.evaluate.options import parser
from darkhaloscope.evaluate.reading import ROLES

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "own-finder.md"
NO_NETS = {"lightning", "numba", "pydantic", "rich", "safetensors", "torch", "typer"}
NO_PAGE = {*NO_NETS, "astropy", "fsspec", "jinja2", "matplotlib", "pandas", "PIL", "sklearn"}


def test_the_command_ends_with_status_0_or_2_and_one_message(tmp_path: Path) -> None:
    path = saved(foreign(), tmp_path / "t.csv")
    ran = dhs("evaluate", path, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["n_lenses"] == 150
    bad = dhs("evaluate", lines(tmp_path / "bad.csv", "p,label", "1,1"))
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith(f"dhs: {tmp_path / 'bad.csv'} cannot be evaluated:\n")
    assert "Traceback" not in bad.stderr


def test_its_help_names_every_role_of_a_column() -> None:
    said = dhs("evaluate", "--help")
    assert said.returncode == 0
    for word in ("--against", "--thresholds", "--published", "sky_weight", "graded", "area_deg2"):
        assert word in said.stdout


def test_the_first_runs_published_figures_are_refused_with_two_contradictions() -> None:
    ran = dhs("evaluate", "--published", REPOSITORY / "docs/examples/first-run-published.toml")
    assert ran.returncode == 2
    assert re.findall(r"^  (\d)\. ", ran.stderr, re.MULTILINE) == ["1", "2"]
    assert "completeness 74.7 % at FPR 0.0102 and only 70 % at" in ran.stderr
    assert "AUROC 0.9963 cannot come from the table" in ran.stderr


def test_it_runs_without_torch_pydantic_and_typer(tmp_path: Path) -> None:
    path = saved(foreign(), tmp_path / "t.csv")
    ran = without(NO_NETS, "darkhaloscope.evaluate", path, "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.rstrip() == dhs("evaluate", path, "--out", tmp_path / "out").stdout.rstrip()
    assert (tmp_path / "out/index.html").stat().st_size > 10_000


def test_without_the_packages_of_the_page_it_gives_the_figures(tmp_path: Path) -> None:
    path = saved(foreign(), tmp_path / "t.csv")
    refused = without(NO_PAGE, "darkhaloscope.evaluate", path, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "the page needs jinja2 and matplotlib, not installed here" in refused.stderr
    ran = without(NO_PAGE, "darkhaloscope.evaluate", path, "--out", tmp_path / "out", "--no-page")
    assert ran.returncode == 0, ran.stderr
    held = json.loads((tmp_path / "out/metrics.json").read_text())
    assert held == json.loads(dhs("evaluate", path, "--json").stdout)
    assert not (tmp_path / "out/index.html").exists()


def test_every_output_on_the_page_for_other_finders_is_what_is_printed() -> None:
    script = REPOSITORY / "docs" / "own_finder.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"run `python docs/own_finder.py`:\n{ran.stdout}{ran.stderr}"


def test_the_page_for_other_finders_names_every_role_and_option() -> None:
    text = PAGE.read_text()
    for role in ROLES:
        assert f"`{role}`" in text, role
    options = re.findall(r"^\s+(--[a-z-]+)", parser().format_help(), re.MULTILINE)
    for option in options:
        assert option in text, option
