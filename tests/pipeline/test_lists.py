"""Lists that a stage's settings name: read as the settings say, part of what it is made from."""

import tomllib
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest

from darkhaloscope.core import config
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.core.settings.look_alikes import LookAlikesConfig
from darkhaloscope.pipeline import lists

ROWS = "ra,dec,ring_fraction,ring_total-votes\n1,2,0.9,40\n3,4,0.6,40\n5,6,0.9,3\n"


def test_lists_that_cannot_be_read_are_all_told_before_a_run_begins(tmp_path: Path) -> None:
    asked = [SimpleNamespace(lists=(str(tmp_path / f"{name}.csv"),)) for name in ("one", "two")]
    with pytest.raises(DataError) as raised:
        lists.check([SimpleNamespace(), *asked, asked[0]])
    said = str(raised.value)
    assert said.count("one.csv") == 1
    assert "two.csv" in said


def settings(folder: Path, *, at_least: float = 0.8) -> LookAlikesConfig:
    voted = {
        "format": "galaxy_zoo",
        "address": str(folder / "votes.csv"),
        "radius_arcsec": 2.0,
        "least_votes": 20,
        "kinds": [
            {"kind": "ring", "cuts": [{"column": "ring_fraction", "at_least": at_least}]},
        ],
    }
    return LookAlikesConfig.model_validate(
        {
            "tables": [voted],
            "proxies": [],
            "known_lenses": [str(folder / "lenses.csv")],
            "known_radius_arcsec": 3.0,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "votes.csv").write_text(ROWS)
    (tmp_path / "lenses.csv").write_text("name,ra,dec\nL,7,8\n")
    return tmp_path


def test_votes_are_cut_and_positions_are_not(folder: Path) -> None:
    found = lists.opened(settings(folder))
    assert [Path(address).name for address in found] == ["votes.csv", "lenses.csv"]
    votes, lenses = found.values()
    assert votes.select(["ra_deg", "kind"]).to_pylist() == [{"ra_deg": 1.0, "kind": "ring"}]
    assert lenses["name"].to_pylist() == ["L"]


def test_other_cuts_and_other_files_are_another_digest(folder: Path) -> None:
    first = lists.digest_of(settings(folder))
    assert lists.digest_of(settings(folder)) == first
    lower = lists.digest_of(settings(folder, at_least=0.5))
    assert [a == b for a, b in zip(first, lower, strict=True)] == [False, True]
    (folder / "lenses.csv").write_text("name,ra,dec\nL,7,8\nM,9,10\n")
    more = lists.digest_of(settings(folder))
    assert [a == b for a, b in zip(first, more, strict=True)] == [True, False]


def test_settings_without_lists() -> None:
    assert lists.opened(SimpleNamespace()) == {}
    assert lists.digest_of(SimpleNamespace()) == []


def test_a_list_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "votes.csv").unlink()
    with pytest.raises(DataError, match=r"votes\.csv is not there"):
        lists.opened(settings(folder))


def test_addresses_are_relative_to_the_run_file(tmp_path: Path) -> None:
    file = files("darkhaloscope.presets").joinpath("demo.toml")
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    section = settings(Path("lists")).model_dump(mode="json")
    section["known_lenses"].append("s3a://bucket/lenses.csv")
    tables["manifest"]["look_alikes"] = section
    made = config.parse(tables, folder=tmp_path, where="run.toml").manifest
    below = [str(tmp_path / "lists" / name) for name in ("votes.csv", "lenses.csv")]
    assert made.lists == (*below, "s3://bucket/lenses.csv")
    assert list(made.votes) == below[:1]


def test_a_fault_of_the_section_names_its_key(tmp_path: Path) -> None:
    file = files("darkhaloscope.presets").joinpath("demo.toml")
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    section = settings(Path("lists")).model_dump(mode="json")
    section["tables"][0]["kinds"][0]["cuts"] = [{"column": "ring"}]
    section["known_radius"] = 3
    tables["manifest"]["look_alikes"] = section
    with pytest.raises(ConfigError) as raised:
        config.parse(tables, folder=tmp_path, where="run.toml")
    said = str(raised.value)
    assert "manifest.look_alikes.tables.0" in said
    assert "ring: state at_least, at_most or both" in said
    assert "manifest.look_alikes.known_radius: there is no such key" in said
