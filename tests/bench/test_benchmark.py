"""The benchmark's runner: recipes, figures, the log of the test set, the documentation's table."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from run_builders import dhs

from darkhaloscope.bench.benchmark import main
from darkhaloscope.bench.frozen import committee, definition, figures, recipes, results, trivial
from darkhaloscope.bench.frozen.figures import Scored
from darkhaloscope.bench.frozen.recipes import Committee, Recipe
from darkhaloscope.core import keys
from darkhaloscope.core.errors import ConfigError, DataError

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = definition.load("tiny")
KINDS = ("control", "companion", "ring", "scrambled")
SHORT = {"stamps", "epochs", "training"}


def everything() -> list[recipes.Asked]:
    return [recipes.named(name) for name in recipes.names()]


def test_every_recipe_can_be_read_and_teaches_no_family_that_is_kept_for_the_test() -> None:
    absent = BENCH.stated["unseen"]["family"]
    for recipe in recipes.trained(everything()):
        assert sum(recipe.mix.values()) == pytest.approx(1), recipe.name
        assert absent not in recipe.mix, recipe.name
        assert recipe.how().max_epochs == recipe.epochs
        assert recipe.epoch_stamps * recipe.epochs <= recipe.stamps


def test_a_lever_changes_what_it_names_and_nothing_else() -> None:
    base = asdict(recipes.named("small"))
    for name in recipes.names():
        if recipes.LEVER not in name:
            continue
        lever = asdict(recipes.named(name))
        changed = {k for k in base if base[k] != lever[k]} - {"name", "meaning"}
        assert changed, name
        assert len(changed) <= 2, f"{name} changes {changed}"  # a loss and its weight by kind


def test_members_of_a_committee_are_taught_different_data_with_different_seeds() -> None:
    for one in everything():
        if not isinstance(one, Committee):
            continue
        families = [member.hosts["family"] for member in one.members]
        seeds = [member.seed for member in one.members]
        assert len(set(families)) == len(set(seeds)) == len(one.members) >= 4
        others = [member.seed for member in one.seeded(2).members]
        assert not set(seeds) & set(others)


def test_the_hash_of_a_recipe_names_all_but_its_seed_and_words() -> None:
    small = recipes.named("small")
    assert isinstance(small, Recipe)
    assert small.seeded(5).sha256 == replace(small, meaning="other words").sha256 == small.sha256
    hashes = [one.sha256 for one in everything()]
    assert len(set(hashes)) == len(hashes)
    assert replace(small, stamps=small.stamps + 1).sha256 != small.sha256
    assert recipes.key(small) != recipes.key(small.seeded(5))


def test_a_short_training_has_whole_batches_and_a_warm_up_that_fits() -> None:
    small = recipes.named("small").shortened(3000)
    assert isinstance(small, Recipe)
    steps = small.epoch_stamps * small.epochs // small.batch_size
    assert 1 <= small.epochs <= 3000 // (20 * small.batch_size) + 1
    assert small.training["warmup_steps"] < steps
    assert {k for k, v in asdict(small).items() if v != asdict(recipes.named("small"))[k]} == SHORT


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="there is no recipe 'smal'; the recipes are small, "):
        recipes.named("smal")


def stamps(count: int, *, ring: float, seed: int) -> np.ndarray:
    """Galaxies with noise, and a blue ring of so many sigma a pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] - 31.5
    made = rng.normal(size=(count, 3, 64, 64)) + 40 * np.exp(-np.hypot(x, y) / 3)
    made[:, 0] += ring * np.exp(-((np.hypot(x, y) - 7) ** 2) / 4)
    return made.astype(np.float32)


def test_the_trivial_model_sees_light_and_colour_by_radius_but_no_shape() -> None:
    rings, plain = stamps(200, ring=3.0, seed=1), stamps(200, ring=0.0, seed=2)
    lit = trivial.fit(np.concatenate([rings, plain]), np.arange(400) < 200)
    fresh = [lit.score(stamps(50, ring=ring, seed=3)) for ring in (3.0, 0.0)]
    assert fresh[0].min() > fresh[1].max()
    turned = np.rot90(rings[:20], axes=(2, 3)).copy()
    np.testing.assert_allclose(trivial.features(turned), trivial.features(rings[:20]), atol=1e-3)


def test_the_trivial_models_units_take_the_sky_off() -> None:
    units = trivial.InUnits((0.5, 2.0))
    found = units(torch.full((1, 2, 1, 1), 3.0), torch.tensor([[2.0, 1.0]]))
    assert found.flatten().tolist() == [2.0, 1.0]


def test_one_class_teaches_the_trivial_model_nothing() -> None:
    with pytest.raises(DataError, match="needs both classes; got 2 lenses of 2"):
        trivial.fit_features(np.zeros((2, 3), np.float32), np.ones(2, bool))


def scores(n_lenses: int = 400, n_each: int = 1500, seed: int = 0) -> pa.Table:
    """Scores of a set, as a pass leaves them."""
    kind = np.repeat(["lens", *KINDS], [n_lenses, *[n_each] * len(KINDS)])
    n = len(kind)
    i, is_lens = np.arange(n), kind == "lens"
    draw = {name: keys.uniform(i, seed=seed, stream=name) for name in ("theta", "snr", "unseen")}
    harder = np.select([kind == "scrambled", kind == "companion"], [1.5, 0.7], 0.0)
    logit = keys.normal(i, seed=seed, stream="logit") + np.where(is_lens, 3.0, harder)
    weights = BENCH.sky_weights("test")
    return pa.table(
        {
            "stamp_id": i,
            "target_id": 1000 + i,
            "source_id": pa.array(i, mask=~is_lens),
            "src_kind": pa.array(np.where(is_lens, "sersic", ""), mask=~is_lens),
            "region_id": i % 40,
            "kind": pa.array(kind),
            "label": pa.array(is_lens.astype(np.int8)),
            "sky_weight": pa.array([weights.get(k, 0.0) for k in kind], mask=is_lens),
            "weight_population": pa.array(np.ones(n), mask=~is_lens),
            "area_deg2": np.full(n, 1e-3),
            "theta_e_over_fwhm_r": pa.array(0.5 + 2 * draw["theta"], mask=~is_lens),
            "arc_snr_g": pa.array(100 * draw["snr"], mask=~is_lens),
            "ground_visible": pa.array(draw["snr"] > 0.2, mask=~is_lens),
            "is_unseen": (draw["unseen"] < 0.3) & np.isin(kind, ["ring", "scrambled"]),
            "logit": pa.array(logit.astype(np.float32)),
        }
    )


@pytest.fixture(scope="module")
def scored() -> pa.Table:
    return scores()


@pytest.fixture(scope="module")
def found(scored: pa.Table) -> dict[str, Any]:
    return figures.figures(BENCH, "test", Scored.of(scored, where="the test"))


def at(entries: list[dict[str, Any]], value: float) -> dict[str, Any]:
    return next(entry for entry in entries if entry["at"] == value)


def numbers(table: pa.Table) -> dict[str, Any]:
    return {name: np.asarray(table[name].to_pylist(), object) for name in table.column_names}


def is_headline(columns: dict[str, Any]) -> np.ndarray:
    ratio, snr = columns["theta_e_over_fwhm_r"], columns["arc_snr_g"]
    known = columns["kind"] == "lens"
    return np.array([k and r >= 1.2 and s >= 25 for k, r, s in zip(known, ratio, snr, strict=True)])


def test_the_headline_is_that_of_all_lenses_stratum(found: dict[str, Any]) -> None:
    whole = found["all"]["by_stratum"]["headline"]
    assert found["headline"]["n_lenses"] == whole["n_lenses"]
    for mine, theirs in zip(found["headline"]["tpr_at_fpr"], whole["tpr_at_fpr"], strict=True):
        assert (mine["value"], mine["threshold"]) == (theirs["value"], theirs["threshold"])
    assert found["headline"]["headline"]["origin"] == "sim"


@pytest.mark.parametrize(("name", "control"), [("headline", 0.97), ("stress", 0.70)])
def test_each_mixture_has_its_share_of_plain_galaxies(
    found: dict[str, Any], scored: pa.Table, name: str, control: float
) -> None:
    columns = numbers(scored)
    rate = at(found[name]["fpr_at_tpr"], 0.85)
    kept = columns["logit"].astype(float) >= rate["threshold"]
    counts, stated = BENCH.counts("test"), BENCH.stated["sky_shares"]
    others = [k for k in counts if k != "control"]
    share = dict.fromkeys(others, (1 - control) / len(others))
    if name == "headline":
        share = {k: stated.get(k, 0.0) for k in others}
    share["control"] = control
    part = {k: (columns["kind"] == k).sum() * share[k] / counts[k] for k in KINDS}
    of_kind = {k: kept[columns["kind"] == k].mean() for k in KINDS}
    expected = sum(part[k] * of_kind[k] for k in KINDS) / sum(part.values())
    assert rate["value"] == pytest.approx(expected, rel=1e-6)
    assert kept[is_headline(columns)].mean() >= 0.85


@pytest.mark.parametrize(("name", "flag"), [("seen", False), ("unseen", True)])
def test_look_alikes_that_were_taught_and_not_are_counted_apart(
    found: dict[str, Any], scored: pa.Table, name: str, flag: bool
) -> None:
    columns = numbers(scored)
    mine = (columns["is_unseen"].astype(bool) == flag) & (columns["kind"] == "scrambled")
    rate = at(found[name]["by_kind"]["scrambled"]["fpr_at_tpr"], 0.7)
    kept = columns["logit"].astype(float) >= rate["threshold"]
    assert rate["k"] == (kept & mine).sum()
    assert rate["n"] == mine.sum()
    assert "control" not in found[name]["by_kind"]


def test_loud_and_visible_lenses_are_parts_of_all(found: dict[str, Any], scored: pa.Table) -> None:
    columns = numbers(scored)
    loud = [bool(h) and s >= 50 for h, s in zip(is_headline(columns), columns["arc_snr_g"], strict=True)]  # fmt: skip  # noqa: E501
    assert found["loud"]["n_lenses"] == sum(loud)
    assert found["ground_visible"]["n_lenses"] == sum(v is True for v in columns["ground_visible"])


def result(found: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A result as the command writes it."""
    said = {
        "test_sha256": "ab" * 32, "benchmark": "dhs-sim-1", "set": "test", "recipe": "small",
        "recipe_sha256": "cd" * 32, "seed": 1, "weights_sha256": "ef" * 32, "device": "cpu",
        "train_minutes": 12.5, "stamps": 1000, "gmac": 0.119, "waived": [], "date": "2026-11-23",
        "commit": None, **found,
    }  # fmt: skip
    return {**said, **changed}


def test_a_result_is_written_and_read_with_its_thresholds_to_the_last_digit(
    found: dict[str, Any], tmp_path: Path
) -> None:
    path = results.write(tmp_path, result(found))
    assert path.name == "dhs-sim-1.test.small.seed-1.json"
    (read,) = results.read(tmp_path)
    before, after = (e["headline"]["fpr_at_tpr"] for e in (found, read))
    assert [r["threshold"] for r in before] == [r["threshold"] for r in after]
    assert [r["value"] for r in after] == pytest.approx([r["value"] for r in before], rel=1e-6)


def test_the_table_says_what_the_files_say(found: dict[str, Any], tmp_path: Path) -> None:
    results.write(tmp_path, result(found))
    waived = result(found, recipe="first_run", waived=["resolution"], gmac=None)
    results.write(tmp_path, waived)
    text = results.table(results.read(tmp_path))
    rate = at(found["headline"]["tpr_at_fpr"], 1e-2)
    assert f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]" in text
    assert "not resolvable" in text  # 1e-4, with 6,000 negatives
    assert "(sim; " in text
    assert text.index("| small, 1 |") < text.index("| first_run, 1 |")  # as in recipes.toml
    assert "`first_run` waives the gates resolution." in text


def test_other_json_files_beside_the_results_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "render.json").write_text(json.dumps({"ratio": 1}))
    assert results.table(results.read(tmp_path)) == "No result is there yet."


def test_the_test_set_is_scored_once(found: dict[str, Any], tmp_path: Path) -> None:
    said = result(found)
    line = results.entry(said, file=results.file_name(said))
    results.enter(tmp_path, line)
    results.write(tmp_path, said)
    with pytest.raises(ConfigError, match="small, seed 1, was scored on the test set of dhs-sim-1"):
        results.enter(tmp_path, line)
    results.enter(tmp_path, results.entry(result(found, seed=2), file="other.json"))
    results.enter(tmp_path, results.entry(result(found, weights_sha256="01"), file="third.json"))
    why = results.entry(said, file=results.file_name(said), again="a bug\tin the\nplot")
    results.enter(tmp_path, why)
    assert [line.values["again"] for line in results.entries(tmp_path)] == [
        "-", "-", "-", "a bug in the plot",
    ]  # fmt: skip
    assert len((tmp_path / results.LOG).read_text().splitlines()) == 5


def test_a_scoring_that_was_stopped_goes_on_without_a_second_line(
    found: dict[str, Any], tmp_path: Path
) -> None:
    said = result(found)
    line = results.entry(said, file=results.file_name(said))
    assert not results.is_unfinished(tmp_path, line)
    results.enter(tmp_path, line)
    assert results.is_unfinished(tmp_path, line)
    results.write(tmp_path, said)
    assert not results.is_unfinished(tmp_path, line)


def test_a_broken_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / results.LOG).write_text("\t".join(results.COLUMNS) + "\n2026-11-23\tdhs\n")
    with pytest.raises(DataError, match="line 2: 2 cells, expected 11"):
        results.entries(tmp_path)


def test_a_committee_is_combined_on_calib_and_says_how_far_its_members_are_apart(
    tmp_path: Path,
) -> None:
    import pyarrow.parquet as pq

    folders = {}
    for which, seed in (("calib", 1), ("test", 2)):
        for member in range(3):
            folder = tmp_path / which / str(member)
            folder.mkdir(parents=True)
            table = scores(seed=seed)
            noise = keys.normal(np.arange(table.num_rows), seed=member, stream=f"own {which}")
            logit = table["logit"].to_numpy() + noise.astype(np.float32)
            place = table.column_names.index("logit")
            pq.write_table(table.set_column(place, "logit", pa.array(logit)), folder / "block-0000.parquet")  # fmt: skip  # noqa: E501
            folders[which, member] = folder
    calib, asked = ([folders[which, m] for m in range(3)] for which in ("calib", "test"))
    one = recipes.named("committee")
    assert isinstance(one, Committee)
    made = committee.combined(one, calib, asked)
    assert made.weights == pytest.approx([1 / 3] * 3, abs=0.05)
    columns = numbers(made.scored)
    probability = columns["probability"].astype(float)
    assert ((probability > 0) & (probability < 1)).all()
    assert columns["disagreement"].astype(float).min() >= 0

    def auroc(folder: Path) -> float:
        rows = Scored.of(pq.read_table(folder / "block-0000.parquet"), where="a member")
        return float(figures.of_member(BENCH, rows)["auroc"]["value"])

    together = figures.of_member(BENCH, Scored.of(made.scored, where="all"))["auroc"]["value"]
    assert together > max(auroc(folder) for folder in asked)


def test_members_scored_on_other_rows_are_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for name, part in (("a", slice(0, None)), ("b", slice(1, None))):
        (tmp_path / name).mkdir()
        table = scores(50, 50)
        pq.write_table(table.slice(part.start), tmp_path / name / "block-0000.parquet")
    both = [tmp_path / "a", tmp_path / "b"]
    one = recipes.named("committee")
    assert isinstance(one, Committee)
    with pytest.raises(DataError, match="holds other stamps than"):
        committee.combined(one, both, both)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quick", "--variant", "shifted"), "--quick and --variant are different sets"),
        (("--minutes", "1", "--stamps", "5"), "--minutes and --stamps both say"),
        (("--again", "why"), "--again is for --set test alone"),
        (("--recipe", "nix"), "no recipe nix; the recipes are small"),
    ],
)
def test_faults_are_told_before_anything_is_made(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        main([*words, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_command_lists_its_recipes() -> None:
    ran = dhs("benchmark", "--list")
    assert ran.returncode == 0, ran.stderr
    for name in recipes.names():
        assert f"\n{name} " in ran.stdout


def test_the_page_holds_the_table_of_the_result_files() -> None:
    script = REPOSITORY / "docs" / "benchmark_table.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"run `python docs/benchmark_table.py`: {ran.stdout}{ran.stderr}"
