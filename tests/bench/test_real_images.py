"""The check on real pictures: the colour mapping, the simulated candidates, the figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from darkhaloscope.bench import spacewarps
from darkhaloscope.bench.real_images import judged, ladder, pictures, simulated, training
from darkhaloscope.bench.real_images.mapping import Mapping, smoothed
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.ml import networks
from darkhaloscope.ml.recipe import Recipe

HEADER = "image,ra,dec,galaxy_redshift,galaxy_i_mag,expert_grade,label,swap_posterior"
PLAIN = Mapping(black=(0.0, 0.0, 0.0), smoothing=0.0, r_in_g=0.0)


@pytest.fixture(scope="module")
def pool() -> simulated.Pool:
    with torch.no_grad():
        return simulated.pool(
            simulated.settings(),
            split="train",
            galaxies_each={"early": 24, "disc": 12},
            stamps={"early": 120, "disc": 40},
            device=Device("cpu", 1),
        )


def test_the_mapping_is_the_published_formula() -> None:
    g, r, i = 0.02, 0.05, 0.11  # nmgy
    scales = np.array([0.4, 0.6, 1.7]) / np.mean([0.4, 0.6, 1.7])
    red, green, blue = scales * 1000 * np.array([i, r, g])
    total = red + green + blue
    wanted = np.array([red, green, blue]) * np.arcsinh(0.09 * total) / total
    made = PLAIN(torch.tensor([g, r, i])[None, :, None, None].expand(1, 3, 5, 5))
    assert made[0, :, 2, 2].numpy() == pytest.approx(np.floor(255 * wanted.clip(0, 1)) / 255)


def test_colours_are_whole_steps_between_black_and_white() -> None:
    flux = torch.linspace(-1, 5, 3 * 400).reshape(1, 3, 20, 20)
    made = Mapping()(flux)
    assert made.min() == 0
    assert made.max() == 1
    assert torch.equal((made * 255).round() / 255, made)


def test_no_flux_and_no_sky_is_black() -> None:
    assert PLAIN(torch.zeros(1, 3, 4, 4)).abs().max() == 0


def test_smoothing_keeps_the_light() -> None:
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    spread = smoothed(point, 0.15)
    assert spread.sum() == pytest.approx(1)
    assert spread[0, 0, 4, 3] == pytest.approx(0.15 * 0.7)


def test_a_varied_mapping_belongs_to_the_stamp() -> None:
    ids = np.array([5, 6, 7])
    one = Mapping().varied(ids, seed=1, by=1.0)
    other = Mapping().varied(ids[::-1].copy(), seed=1, by=1.0)
    flux = torch.full((3, 3, 6, 6), 0.02)
    assert torch.equal(one(flux), other(flux).flip(0))
    assert not torch.equal(one(flux)[0], one(flux)[1])
    assert torch.equal(Mapping().varied(ids, seed=1, by=0.0)(flux), Mapping()(flux))


def test_lenses_are_on_early_types_and_large_einstein_radii_are_rarer(pool: simulated.Pool) -> None:
    is_lens = pool.labels.numpy() > 0
    assert set(pool.family[is_lens].tolist()) == {simulated.FAMILIES.index("early")}
    theta_e = pool.rows["theta_e_arcsec"].to_numpy(zero_copy_only=False)[is_lens]
    assert theta_e.min() >= 0.5
    assert theta_e.max() <= 6.0
    assert np.median(theta_e) < 2.6  # 3.4 without the thinning
    assert pool.flux.isfinite().all()


def test_a_pool_of_one_kind_keeps_its_pixels(pool: simulated.Pool) -> None:
    some = pool.of_kinds(["control"])
    assert set(some.rows["kind"].to_pylist()) == {"control"}
    ids = pool.rows["stamp_id"].to_numpy()
    at = int(np.flatnonzero(ids == some.rows["stamp_id"][0].as_py())[0])
    assert torch.equal(some.flux[0], pool.flux[at])


def test_discs_are_bluer_than_early_types() -> None:
    asked = simulated.settings()

    def g_r(family: str) -> float:
        mag = simulated.galaxies(family, 64, asked, split="val").early["mag"]
        return float(np.median(mag[:, 0] - mag[:, 1]))

    assert g_r("disc") < g_r("early") - 0.4


def test_epochs_differ_and_an_equal_epoch_is_equal(pool: simulated.Pool) -> None:
    source = training.Pictures(pool, Mapping(), 1.0, seed=3, epoch_stamps=128)
    first, again, second = (list(source.batches(epoch)) for epoch in (0, 0, 1))
    assert len(first) == 2
    assert first[0].stamps.shape == (training.BATCH, 3, training.SEEN_PX, training.SEEN_PX)
    assert torch.equal(first[1].stamps, again[1].stamps)
    assert not np.array_equal(first[0].stamp_ids, second[0].stamp_ids)


def test_every_stamp_is_taken_before_any_is_taken_again(pool: simulated.Pool) -> None:
    source = training.Pictures(pool, Mapping(), 0.0, seed=3, epoch_stamps=64)
    taken = np.concatenate([source._order(epoch) for epoch in range(len(pool) // 64)])
    assert len(np.unique(taken)) == len(taken)


def test_a_network_learns_the_simulated_candidates(pool: simulated.Pool, tmp_path: Path) -> None:
    fitting = {**simulated.settings()["fit"], "max_epochs": 2, "warmup_steps": 2}
    recipe = Recipe(
        **{k: fitting[k] for k in fitting if k not in ("network", "seed", "epoch_stamps")}
    )
    _, done = training.fitted(
        pool, pool, Mapping(), varied=0.5, network="small", recipe=recipe, epoch_stamps=256, seed=1,
        scratch=tmp_path, device=Device("cpu", 1),
    )  # fmt: skip
    assert done.history[1].train_loss < done.history[0].train_loss


def test_the_score_of_a_picture_does_not_depend_on_how_it_is_turned() -> None:
    network = networks.make("small", bands=3, seed=1)
    rgb = np.random.default_rng(1).integers(0, 255, (2, 3, 161, 161)).astype(np.uint8)
    turned = np.ascontiguousarray(np.rot90(rgb, axes=(2, 3)))
    # 161 px hold no central 90: a turn moves the cut by a pixel, so an even picture is turned
    even, even_turned = rgb[..., 1:, 1:], turned[..., :-1, 1:]
    assert np.array_equal(np.rot90(even, axes=(2, 3)), even_turned)
    assert judged.logits(network, even) == pytest.approx(
        judged.logits(network, even_turned), abs=1e-4
    )


def test_figures_agree_with_scikit_learn_and_leave_the_unsure_out() -> None:
    draw = np.random.default_rng(2)
    labels = np.array(["lens"] * 40 + ["unsure"] * 20 + ["not_lens"] * 90)
    score = draw.normal(size=150).astype(np.float32) + (labels == "lens")
    made = judged.figures(score, labels)
    known = labels != "unsure"
    area = roc_auc_score(labels[known] == "lens", score[known])
    assert made["auroc"]["value"] == pytest.approx(area)
    assert made["auroc"]["low"] < area < made["auroc"]["high"]
    at = made["completeness_at_fpr_0.1"]
    negatives = np.sort(score[labels == "not_lens"])
    kept = (score[labels == "lens"] > negatives[-10]).mean()
    assert at["value"] == pytest.approx(kept)
    assert json.dumps(made)


def test_a_committee_is_the_mean() -> None:
    members = [np.array([1.0, 2.0], np.float32), np.array([3.0, -2.0], np.float32)]
    assert judged.together(members).tolist() == [2.0, 0.0]


def test_what_is_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"{HEADER}\na.png,1,2,0,0,2.0,maybe,0.1\n")
    with pytest.raises(DataError) as raised:
        pictures.read(tmp_path)
    assert "label 'maybe'" in str(raised.value)
    assert "a.png is not there" in str(raised.value)


def test_a_folder_without_grades_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"holds no labels\.csv"):
        pictures.folder_of(tmp_path)
    monkeypatch.delenv("DHS_SHARED", raising=False)
    with pytest.raises(ConfigError, match="--data FOLDER"):
        pictures.folder_of(None)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="no variant other; there are: plain"):
        ladder.variants(simulated.settings(), "plain,other")


def test_the_command_is_there_without_pydantic_and_typer() -> None:
    code = (
        "import sys\n"
        "from darkhaloscope.bench import spacewarps\n"
        "from darkhaloscope.bench.real_images import ladder\n"
        "print([m for m in ('pydantic', 'typer', 'astropy') if m in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


@pytest.mark.real
def test_real_candidates_are_read_and_kept_scores_are_judged(
    shared_data: Path, tmp_path: Path
) -> None:
    candidates = pictures.read(shared_data / pictures.FOLDER)
    assert candidates.rgb.shape == (263, 3, 161, 161)
    assert [(candidates.labels == label).sum() for label in pictures.LABELS] == [61, 53, 149]
    kept = tmp_path / "look_alikes"
    kept.mkdir()
    np.save(kept / "logits.npy", candidates.grades.astype(np.float32))
    (kept / "went.json").write_text('{"what": "the grades themselves"}')
    figures = spacewarps.measure(
        data=shared_data / pictures.FOLDER, only="look_alikes", keep=tmp_path, threads=1
    )
    assert figures["variants"]["look_alikes"]["auroc"]["value"] == 1.0
    assert "61 lenses and 149 look-alikes" in spacewarps.table(figures)


@pytest.mark.real
def test_simulated_sky_looks_like_the_pictures_sky(shared_data: Path) -> None:
    """Medians and spread of dark pixels, by channel, within what images differ by."""
    from darkhaloscope.bench.frozen import hosts
    from darkhaloscope.bench.records import record

    candidates = pictures.read(shared_data / pictures.FOLDER)
    real = candidates.rgb[:, :, pictures.WITHOUT_TEXT, 4:40].astype(float)
    asked = simulated.settings()
    some = simulated.galaxies("early", 48, asked, split="val")
    with torch.no_grad():
        flux = hosts.cutouts(some, record(asked["hosts"]), size_px=100)[:, :3]
        made = 255 * Mapping()(flux)[:, :, :, :36].numpy()
    for channel in range(3):
        here, there = made[:, channel], real[:, channel]
        assert np.median(here) == pytest.approx(np.median(there), abs=4)
        assert np.percentile(here, 84) == pytest.approx(np.percentile(there, 84), rel=0.6)
