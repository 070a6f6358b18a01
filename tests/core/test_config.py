"""The run's file: every fault at once, conventions stated once, paths relative to the file."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from run_builders import preset, tiny_tables, to_toml

from darkhaloscope.core import config as settings
from darkhaloscope.core.errors import ConfigError


def parse(tables: dict[str, Any]) -> settings.RunConfig:
    return settings.parse(tables, folder=Path("/home/me"), where="small.toml")


def test_bands_and_scale_stand_once_and_reach_every_stage() -> None:
    config = parse(tiny_tables())
    for name in ("targets", "cutouts", "manifest", "scores"):
        stage = settings.stage_config(config, name)
        assert (stage.bands, stage.pixel_scale_arcsec) == (("g", "r", "z"), 0.262)
    assert config.model["small"].bands == ("g", "r", "z")
    assert config.targets.tile_nside == config.tiles.nside


def test_the_psf_of_stamps_is_that_of_cutouts() -> None:
    tables = tiny_tables()
    tables["cutouts"]["psf_beta"] = {"g": 2.5, "r": 2.6, "z": 2.7}
    assert parse(tables).stamps.psf_beta == (2.5, 2.6, 2.7)


def test_every_fault_is_named_with_its_key() -> None:
    tables = tiny_tables()
    tables["tiles"]["nside"] = 33
    tables["cutouts"]["sise_px"] = tables["cutouts"].pop("size_px")
    del tables["splits"]["seed"]
    tables["survey"]["release"] = "dr11"
    with pytest.raises(ConfigError) as fault:
        parse(tables)
    text = str(fault.value)
    assert text.startswith("small.toml cannot be used\n")
    for part in (
        "tiles.nside: NSIDE is a power of two; got 33",
        "cutouts.sise_px: there is no such key; did you mean size_px?",
        "cutouts.size_px: it has to be set",
        "splits.seed: it has to be set",
        "survey.release: Input should be",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("cutouts", "bands", ["g"]),
        ("targets", "tile_nside", 64),
        ("stamps", "psf_beta", [2.0, 2.0, 2.0]),
    ],
)
def test_a_convention_stated_twice_is_refused_and_not_ignored(
    section: str, key: str, value: object
) -> None:
    tables = tiny_tables()
    tables[section][key] = value
    with pytest.raises(ConfigError, match=rf"{section}\.{key}: stated once for all stages"):
        parse(tables)


def test_a_report_of_a_model_that_is_not_trained_is_refused() -> None:
    tables = tiny_tables()
    tables["report"]["model"] = "large"
    known = r"\['calibrated', 'small'\]"
    with pytest.raises(ConfigError, match=rf"report.model: 'large' is not one of {known}"):
        parse(tables)


def test_a_fault_is_named_where_it_was_stated_and_nowhere_else() -> None:
    tables = tiny_tables()
    tables["survey"]["bands"] = ["g", "R", "z"]
    tables["tiles"]["nside"] = 33
    with pytest.raises(ConfigError) as fault:
        parse(tables)
    text = str(fault.value)
    assert "tiles.nside" in text
    assert "tile_nside" not in text
    assert "model.small.manifest" not in text
    assert "stamps.psf_beta" not in text


def test_stamps_larger_than_cutouts_are_refused_before_anything_is_fetched() -> None:
    tables = tiny_tables()
    tables["stamps"]["size_px"] = 96
    with pytest.raises(ConfigError, match=r"do not fit cutouts\.size_px 80"):
        parse(tables)


@pytest.mark.parametrize(
    ("profile", "where", "kept", "message"),
    [
        ("image", None, None, r'stamps\.psf_profile "image" needs PSF images'),
        ("image", "psf/{brick}-{band}.fits", None, r'stamps\.psf_profile "image" needs PSF images'),
        ("moffat", "psf/{brick}-{band}.fits", None, "belong together"),
        ("image", None, 63, "belong together"),
        ("image", "psf/{brick}-{band}.fits", 64, "psf_image_px is odd"),
    ],
)
def test_psf_images_are_named_kept_and_used_or_none_of_it(
    profile: str, where: str | None, kept: int | None, message: str
) -> None:
    tables = tiny_tables()
    tables["stamps"]["psf_profile"] = profile
    tables["survey"] |= {} if where is None else {"psf_images": where}
    tables["cutouts"] |= {} if kept is None else {"psf_image_px": kept}
    with pytest.raises(ConfigError, match=message):
        parse(tables)


def test_a_run_may_have_psf_images() -> None:
    tables = tiny_tables()
    tables["stamps"]["psf_profile"] = "image"
    tables["survey"]["psf_images"] = "psf/{brick:.3}/{brick}-{band}.fits"
    tables["cutouts"]["psf_image_px"] = 63
    config = parse(tables)
    assert config.model["small"].stamps.psf_profile == "image"
    assert config.survey.psf_images == "psf/{brick:.3}/{brick}-{band}.fits"


def test_a_band_that_the_sky_lacks_is_named() -> None:
    tables = tiny_tables()
    tables["survey"]["bands"] = ["g", "r", "i", "z"]
    for name in ("softening_nmgy",):
        tables["model"]["small"][name]["i"] = 0.01
    tables["cutouts"]["psf_beta"]["i"] = 2.9
    tables["stamps"]["electrons_per_nmgy_per_exposure"].append(3500)
    with pytest.raises(ConfigError, match=r"survey.bands: i is not drawn by \[simulate\]"):
        parse(tables)


def test_paths_are_relative_to_the_file_and_s3a_is_s3() -> None:
    tables = tiny_tables()
    tables["root"] = "s3a://bucket/run/"
    config = parse(tables)
    assert config.root == "s3://bucket/run"
    assert config.survey.root == "/home/me/sky"


def test_what_changes_only_speed_is_not_in_the_digest() -> None:
    config = parse(tiny_tables()).scores
    faster = config.model_copy(update={"batch_rows": 7})
    assert settings.digest_text(config) == settings.digest_text(faster)
    assert '"bands"' in settings.digest_text(config)


def test_painting_more_stamps_at_once_does_not_make_another_model() -> None:
    tables = tiny_tables()
    digests = []
    for rows in (32, 64):
        tables["stamps"]["batch_rows"] = rows
        digests.append(settings.digest_text(parse(tables).model["small"]))
    assert digests[0] == digests[1]
    tables["stamps"]["seed"] = 99
    assert settings.digest_text(parse(tables).model["small"]) != digests[0]


@pytest.mark.parametrize("text", ["format = ", "\udcff"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"run\.toml cannot be read as TOML"):
        settings.load(file)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there; `dhs init"):
        settings.load(tmp_path / "run.toml")


@pytest.mark.parametrize("name", ["demo", "first-run", "mining"])
def test_presets_can_be_used_as_they_are(name: str) -> None:
    assert parse(preset(name)).simulate is not None


def test_the_preset_mining_is_the_demo_with_rounds_and_nothing_else() -> None:
    demo, mining = preset("demo"), preset("mining")
    model = mining["model"]["small"]
    assert (model["mix"].pop("mined"), model.pop("round_start")) == (0.15, "previous")
    assert mining.pop("mined")["rounds"] == 3
    assert mining["report"].pop("planted_lenses") == ["sky/truth/lenses.parquet"]
    assert mining.pop("root") != demo.pop("root")
    assert mining == demo


def test_the_survey_preset_needs_a_sky_area_and_nothing_else() -> None:
    tables = preset("legacy-dr10")
    with pytest.raises(ConfigError) as fault:
        parse(tables)
    assert all("survey.area" in line for line in str(fault.value).splitlines()[1:])
    tables["survey"]["area"] = [{"ra_deg": [150.0, 151.0], "dec_deg": [1.0, 2.0]}]
    config = parse(tables)
    assert config.survey.root.startswith("https://")
    assert config.report.sky == "real"


def test_the_tests_own_toml_says_what_it_was_made_from() -> None:
    assert tomllib.loads(to_toml(tiny_tables())) == tiny_tables()
