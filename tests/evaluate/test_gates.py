"""Rows of gates: judged by limits, waived by name, and never silent about what was not judged."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from darkhaloscope import presets
from darkhaloscope.core import config, schemas
from darkhaloscope.evaluate import gates, gates_data, gates_page
from darkhaloscope.evaluate.gates import ALL, GUARDS, REMEDIES, Row, judged, not_judged

NAMES = [
    "resolution", "core_only", "total_flux", "radial_profile", "annulus_colour", "sky_stats",
    "metadata", "control_copies", "splits_leak", "pixels", "brightness", "texture", "noise_only",
]  # fmt: skip
SHARES = {"train": 0.4, "val": 0.2, "calib": 0.2, "test": 0.2}
BRIGHT = gates_data.Brightness(200, 0.1, 5, 0.1, 10)


def by_stratum(rows: list[Row]) -> dict[str, Row]:
    return {row.stratum: row for row in rows}


def test_the_gates_have_the_agreed_names() -> None:
    assert list(GUARDS) == NAMES


@pytest.mark.parametrize(
    ("value", "interval", "is_stratum", "passed"),
    [
        (0.60, (0.58, 0.62), False, True),
        (0.601, (0.58, 0.62), False, False),
        (0.65, (0.59, 0.71), True, True),
        (0.65, (0.61, 0.69), True, False),
        (float("nan"), None, False, False),
    ],
)
def test_a_value_at_its_limit_passes_and_a_stratum_needs_its_whole_interval_beyond(
    value: float, interval: tuple[float, float] | None, is_stratum: bool, passed: bool
) -> None:
    row = judged("core_only", "x", value, interval, limit_high=0.6, is_stratum=is_stratum)
    assert row.passed is passed
    assert bool(row.reason) is not passed


def test_a_range_holds_on_both_sides() -> None:
    ends = [0.47, 0.48, 0.52, 0.53]
    rows = [judged("noise_only", ALL, v, limit_low=0.48, limit_high=0.52) for v in ends]
    assert [r.passed for r in rows] == [False, True, True, False]
    assert rows[0].reason == "0.47 is below 0.48"


def test_without_a_limit_a_row_is_printed_only() -> None:
    row = judged("core_only", "against the sky's mix", 0.99)
    assert row.passed
    assert row.limit_high is None


def test_every_gate_is_in_every_list_and_what_nobody_looked_at_has_failed() -> None:
    rows = gates.finished([judged("texture", ALL, 0.5, limit_high=0.55)], {})
    assert list(dict.fromkeys(r.name for r in rows)) == NAMES
    assert {r.name for r in rows if r.passed} == {"texture"}


def test_a_waiver_takes_the_failure_away_from_the_verdict_and_not_from_the_list() -> None:
    failed = judged("core_only", ALL, 0.9, limit_high=0.6)
    waivers = {**dict.fromkeys(GUARDS, "the others are not meant here"), "core_only": "known"}
    rows = gates.finished([failed], waivers)
    (core,) = (r for r in rows if r.name == "core_only")
    assert (core.passed, core.waived) == (False, True)
    assert core.reason == "0.9 is above 0.6; waived: known"
    assert gates.refusal(rows, "page") == ""
    unwaived = gates.finished([judged("core_only", ALL, 0.5, limit_high=0.6)], waivers)
    assert not next(r for r in unwaived if r.name == "core_only").waived


def test_the_refusal_names_each_failed_gate_with_value_limit_and_how_to_waive_it() -> None:
    good = [judged(name, ALL, 0.5, limit_high=0.6) for name in NAMES]
    bad = [
        judged("core_only", f"part {i}", 0.9, (0.8, 0.95), limit_high=0.6, is_stratum=True)
        for i in range(4)
    ]
    said = gates.refusal([*good, *bad, not_judged("texture", "10 galaxies")], "run/index.html")
    assert said.startswith("2 of 13 gates failed, so nothing is trained:")
    assert "core_only (guards against: core leakage)" in said
    assert "part 0: 0.9 is above 0.6 (0.8 to 0.95)" in said
    assert "and 2 more of it" in said
    assert "all: 10 galaxies" in said
    assert "run/index.html" in said
    assert 'core_only = "why this is meant"' in said
    assert f"to mend it: {REMEDIES['core_only']}" in said
    assert said.count("to mend it") == 2
    assert "total_flux" not in said


def test_every_gate_has_a_remedy_and_the_documentation_says_the_same() -> None:
    assert list(REMEDIES) == NAMES
    page = (Path(__file__).parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
    assert [n for n, remedy in REMEDIES.items() if f"| `{n}` | {remedy} |" not in page] == []


def test_the_keys_that_a_remedy_names_are_settings() -> None:
    keys = {
        key
        for remedy in REMEDIES.values()
        for key in re.findall(r"\b(?:manifest|stamps|splits|model)(?:\.\w+)+", remedy)
    }
    text = (resources.files(presets) / "demo.toml").read_text(encoding="utf-8")
    run = config.parse(tomllib.loads(text), folder=Path("runs"), where="demo.toml")
    assert len(keys) > 8
    for key in keys:
        part: object = run
        for name in key.split("."):
            found = part.get(name) if isinstance(part, dict) else getattr(part, name, None)
            if found is None and isinstance(part, dict):
                (found,) = part.values()  # NAME: the demo has one model
            assert found is not None, key
            part = found


def test_the_page_says_how_to_mend_what_failed_and_what_was_not_judged() -> None:
    rows = [judged(name, ALL, 0.5, limit_high=0.6) for name in NAMES if name != "texture"]
    rows += [judged("texture", ALL, 0.9, limit_high=0.55), Row("texture", "theta_e:1-2", None)]
    page = gates_page.render(gates.finished(rows, {}), {})
    assert page.count("To mend it") == 1
    assert page.count(">not judged</span>") == 1
    assert gates_page.state([not_judged("texture", "10 galaxies")]) == "failed"
    assert "is there extra flux?.<" not in page


def test_the_table_has_the_schema_of_gates() -> None:
    rows = gates.table(gates.finished([judged("texture", ALL, 0.5, limit_high=0.55)], {}))
    assert schemas.conform(rows, schemas.gates(("g",)), where="gates").num_rows == len(NAMES)


def test_rows_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = gates.finished([judged("texture", ALL, 0.5, (0.4, 0.6), limit_high=0.55)], {})
    (tmp_path / gates.GATES_FILE).write_text(gates.text(rows))
    assert gates.read(tmp_path) == rows
    plain = json.loads((tmp_path / gates.GATES_FILE).read_text())
    agreed = [
        "name", "stratum", "guards", "value", "low", "high", "limit_low", "limit_high", "passed",
        "waived", "reason",
    ]  # fmt: skip
    assert list(plain[0])[:11] == agreed
    assert gates.table(rows).to_pylist() == plain


def test_shares_of_resolution_count_galaxies_and_not_copies() -> None:
    galaxy = np.repeat(np.arange(50), 36)
    ratio = np.where(galaxy < 30, 0.4, np.where(galaxy < 45, 0.7, 1.2))
    rows = gates_data.resolution(ratio, ratio / 2, galaxy, most_below=0.1, least_above=0.05)
    found = by_stratum(rows)
    below = found["theta_e_over_fwhm_r below 0.5"]
    exact = stats.binomtest(30, 50).proportion_ci(0.95, "exact")
    assert below.value == pytest.approx(0.6)
    assert (below.low, below.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
    assert not below.passed
    assert found["theta_e_over_fwhm_r 1 or more"].passed
    assert found["theta_e_over_psfsize_r below 0.5"].value == pytest.approx(0.9)
    assert found["theta_e_over_psfsize_r below 0.5"].passed  # printed only


def test_no_lens_in_train_fails_and_says_so() -> None:
    none = np.empty(0)
    rows = gates_data.resolution(none, none, none.astype(int), most_below=1, least_above=0)
    rows += gates_data.brightness(none, none, (none, none), none, BRIGHT)
    rows += gates_data.control_copies(none.astype(str), none.astype(int), limit=1)
    assert [r.passed for r in rows] == [False] * 3
    assert all(r.reason for r in rows)


def test_copies_are_counted_by_kind_and_galaxy() -> None:
    kind = np.array(["control"] * 36 + ["ring"] * 3)
    galaxy = np.array([7] * 36 + [1, 2, 3])
    found = by_stratum(gates_data.control_copies(kind, galaxy, limit=1))
    assert (found["control"].value, found["control"].passed) == (36, False)
    assert (found["ring"].value, found["ring"].passed) == (1, True)


def places(ra_deg: list[float], split: list[str], galaxy: list[int]) -> gates_data.Places:
    return gates_data.Places(
        np.array(galaxy), np.array(split), np.array(ra_deg), np.zeros(len(ra_deg))
    )


def leaks(where: gates_data.Places, sources: list[int], of: list[str]) -> dict[str, Row]:
    found = gates_data.splits_leak(
        where, {"sources": (np.array(sources), np.array(of))},
        guard_arcsec=60, shares=SHARES, tolerance=0.1,
    )  # fmt: skip
    return by_stratum(found)


def test_splits_that_are_apart_pass_whatever_lies_in_the_guard_band() -> None:
    where = places(
        [0.0, 0.01, 1.0, 2.0, 3.0, 0.0101],
        ["train", "train", "val", "calib", "test", "guard"],
        [1, 2, 3, 4, 5, 6],
    )
    found = leaks(where, [10, 11], ["train", "test"])
    assert all(r.passed for r in found.values())
    assert found["least distance, arcsec"].value == pytest.approx(0.99 * 3600, rel=1e-6)


def test_each_way_to_leak_between_splits_is_found() -> None:
    where = places(
        [0.0, 0.0001, 1.0, 1.0, 2.0, 3.0], ["train", "test", "train", "val", "calib", "test"],
        [1, 2, 3, 3, 4, 5],
    )  # fmt: skip
    found = leaks(where, [10, 10, 11], ["train", "test", "test"])
    assert found["least distance, arcsec"].value == pytest.approx(0, abs=1e-3)
    assert found["galaxies in two splits"].value == 1
    assert found["duplicates across splits"].value == 4
    assert found["sources in two splits"].value == 1
    assert not found["share of test"].passed
    assert found["share of train"].passed
    assert sum(not r.passed for r in found.values()) == 5


def test_distances_to_another_split_are_those_of_every_pair() -> None:
    rng = np.random.default_rng(4)
    where = rng.normal(size=(60, 3))
    where /= np.linalg.norm(where, axis=1)[:, None]
    split = np.array(["a", "b", "c"])[rng.integers(0, 3, 60)]
    angle = np.arccos(np.clip(where @ where.T, -1, 1)) * gates_data.ARCSEC_PER_RADIAN
    angle[split[:, None] == split] = np.inf
    np.testing.assert_allclose(gates_data.nearest_other(where, split), angle.min(1), rtol=1e-6)


def test_sources_as_bright_as_the_counts_pass_and_100_times_brighter_ones_fail() -> None:
    mag = np.linspace(22, 25, 301)
    flat = (mag, np.ones(301))
    snr, over_depth = np.full(301, 50.0), np.full(301, -2.0)
    same = by_stratum(gates_data.brightness(snr, mag, flat, over_depth, BRIGHT))
    bright = by_stratum(gates_data.brightness(snr * 5, mag - 5, flat, -over_depth, BRIGHT))
    assert same["sources over counts"].value == pytest.approx(1)
    assert bright["sources over counts"].value == pytest.approx(100)
    assert not bright["sources over counts"].passed
    assert not bright["arc_snr_g above the bright"].passed
    assert bright["arc fainter than depth_r"].value == 1
    assert all(r.passed for r in same.values())


def soundness(**changes: object) -> gates_data.Soundness:
    sound = {
        "n_stamps": 10, "not_finite": 0, "without_light": 0, "added": {"r": 1000.5},
        "light": {"r": 1000.0}, "clipped": {"small": 0.0},
    }  # fmt: skip
    return gates_data.Soundness(**{**sound, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "stratum"),
    [
        ({}, None),
        ({"not_finite": 1}, "not finite"),
        ({"without_light": 2}, "band without light"),
        ({"added": {"r": 998.0}}, "flux closure r"),
        ({"light": {"r": 0.0}}, "flux closure r"),
        ({"clipped": {"small": 0.2}}, "clipped by small"),
    ],
)
def test_each_fault_of_pixels_fails_its_own_row(changes: dict, stratum: str | None) -> None:
    same = {"seeing": np.linspace(1, 2, 50)}
    limits = {"clipped_share": 0.01, "flux_closure": 1e-3, "mean_difference": 0.1}
    rows = gates_data.pixels(soundness(**changes), same, same, **limits)
    assert [r.stratum for r in rows if not r.passed] == ([stratum] if stratum else [])


def test_classes_of_different_seeing_fail_by_the_difference_of_their_means() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(1.0, 0.1, 4000), rng.normal(1.03, 0.1, 4000)
    limits = {"clipped_share": 1, "flux_closure": 1e-3, "mean_difference": 0.1}
    rows = gates_data.pixels(soundness(), {"seeing": one}, {"seeing": other}, **limits)
    row = by_stratum(rows)["seeing, lens and negative"]
    assert row.value == pytest.approx(0.3, abs=0.05)
    assert row.low is not None
    assert row.low < 0.3 < (row.high or 0)
    assert not row.passed


def test_the_page_says_in_words_what_passed_failed_and_was_waived() -> None:
    rows = gates.finished(
        [
            judged("core_only", ALL, 0.9, (0.88, 0.92), limit_high=0.6, detail="<b>stumps</b>"),
            judged("texture", ALL, 0.5, (0.48, 0.52), limit_high=0.55),
            judged("noise_only", ALL, 0.7, limit_low=0.48, limit_high=0.52),
        ],
        {"noise_only": "a reason that is shown"},
    )
    page = gates_page.render(rows, {"lens": 2000})
    assert "No: 11 of 13 gates failed, 1 more are waived" in page.replace("\n", "")
    assert "waived: a reason that is shown" in page
    assert "&lt;b&gt;stumps" in page
    assert "2,000 lens" in page
    assert "http" not in page
    assert page.count('class="verdict failed"') >= 11


def test_a_bar_has_value_interval_and_limit_in_order() -> None:
    bar = gates_page.bar(judged("core_only", ALL, 0.9, (0.88, 0.92), limit_high=0.6))
    assert bar is not None
    assert 0 < bar.limits[0] < bar.low < bar.value < bar.high < 100
    assert gates_page.bar(Row("core_only", ALL, None, limit_high=0.6)) is None
