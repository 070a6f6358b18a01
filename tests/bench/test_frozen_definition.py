"""What the frozen benchmark states: weights, hidden halves, names of variants."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from frozen_builders import LOOK_ALIKES, few, hidden_number

from darkhaloscope.bench.frozen import definition, sets
from darkhaloscope.bench.frozen.definition import Definition, laid_over
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data import store
from darkhaloscope.lensing import clumpy
from darkhaloscope.ml import manifesting, picture_bank

JUDGED = ("test", "val", "calib")
HIDDEN = tuple(definition.load().stated["unseen"]["upper_half"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("frozen"))


@pytest.mark.parametrize("variant", ["", "quick", "shifted"])
@pytest.mark.parametrize("which", JUDGED)
def test_weights_give_the_stated_shares(variant: str, which: str) -> None:
    bench = definition.load(variant)
    counts, shares = bench.counts(which), bench.stated["sky_shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    of_all, total = sum(shares.get(kind, 0) for kind in counts), sum(counts.values())
    for kind, weight in bench.sky_weights(which).items():
        expected = shares.get(kind, 0) / of_all
        assert weight * counts[kind] / total == pytest.approx(expected, abs=1e-12)
    stress = {k: w * counts[k] / total for k, w in bench.stress_weights(which).items()}
    assert stress.pop("control") == pytest.approx(0.7)
    assert set(np.round(list(stress.values()), 12)) == {round(0.3 / len(stress), 12)}


def test_the_test_set_measures_a_rate_of_one_in_ten_thousand() -> None:
    bench = definition.load()
    assert bench.effective_negatives("test") >= 110_000
    counts, shares = bench.counts("test"), bench.stated["sky_shares"]
    on_the_sky = {kind: n / shares[kind] for kind, n in counts.items() if kind in shares}
    assert bench.effective_negatives("test") == pytest.approx(min(on_the_sky.values()))
    assert counts["control"] >= 110_000
    assert min(n for kind, n in counts.items() if kind != "control") >= 10_000


def test_kinds_that_stand_for_no_sky_weigh_nothing() -> None:
    weights = definition.load().sky_weights("test")
    assert [kind for kind, weight in weights.items() if not weight] == [
        "radial_arc", "scrambled", "halo_ring",
    ]  # fmt: skip


def test_the_hidden_family_is_in_no_set_but_test() -> None:
    for variant in ("", "quick", "shifted"):
        bench = definition.load(variant)
        hidden = bench.stated["unseen"]["family"]
        assert bench.counts("test")[hidden]
        assert not any(hidden in bench.counts(which) for which in ("val", "calib"))
        # Every other painted family has a hidden half.
        painted = set(bench.counts("test")) - {"control", "single_image", hidden}
        assert painted == set(bench.stated["unseen"]["upper_half"])


@cache
def _rows(which: str, folder: Path) -> tuple[pa.Table, np.ndarray]:
    """Rows of a set with forty galaxies of each kind."""
    kinds = LOOK_ALIKES if which == "test" else tuple(k for k in LOOK_ALIKES if k != "edge_on")
    plan = {"lens_hosts": 0, "counts": dict.fromkeys(kinds, 40)}
    bench = few({"chunk": 480, "sets": {which: plan}})
    blocks = list(sets.drawn(bench, which, sets.bank_of(bench, folder)))
    rows = pa.concat_tables([some.rows for some in blocks])
    return rows, np.concatenate([some.is_unseen for some in blocks])


def _values(rows: pa.Table, kind: str) -> np.ndarray:
    return np.array([hidden_number(row) for row in rows.to_pylist() if row["kind"] == kind])


@pytest.mark.parametrize("kind", [kind for kind in HIDDEN if kind != "artefact"])
@pytest.mark.parametrize("which", JUDGED)
def test_only_test_has_look_alikes_of_the_upper_half(kind: str, which: str, folder: Path) -> None:
    bench = definition.load()
    span = bench.stated["manifest"]["shapes"][kind][bench.stated["unseen"]["upper_half"][kind]]
    middle = (span["low"] + span["high"]) / 2
    rows, is_unseen = _rows(which, folder)
    is_kind = np.array(rows["kind"].to_pylist()) == kind
    values = _values(rows, kind)
    known = np.isfinite(values)
    assert known.sum() >= 30
    slack = 1e-4 * middle  # kept as float32; of a companion, from its pieces' places
    assert (values[known] >= span["low"] - slack).all()
    assert (values[known] <= span["high"] + slack).all()
    is_upper = values[known] > middle + slack
    if which != "test":
        assert not is_upper.any()
        assert not is_unseen.any()
        return
    assert (is_upper == is_unseen[is_kind][known]).all()
    assert 8 <= is_upper.sum() <= 32  # half of forty, 3.8 sigma


def test_hidden_artefacts_are_brighter_by_half_of_the_range(folder: Path) -> None:
    bench = few()
    galaxies = sets.describe(bench, "test", sets._ids(bench, "test", np.arange(200)))
    hosts = manifesting.hosts_of(galaxies.splits, galaxies.heads, bench.bands)
    plan = {"population": "physical", "controls": "unpaired",
            "copies": {"artefact": 1}, "shares": {"artefact": 1.0}}  # fmt: skip
    seen, hidden = (
        manifesting.draw(
            hosts, split="test", sources=sets.bank_of(bench, folder),
            config=bench.drawing({"test": plan}, is_unseen=late),
        )
        for late in (False, True)
    )  # fmt: skip
    gain = seen["src_mag_r"].to_numpy(zero_copy_only=False) - hidden["src_mag_r"].to_numpy(
        zero_copy_only=False
    )
    is_star = np.isin(seen["shape_variant"].to_pylist(), ["spikes", "ghost"])
    assert is_star.sum() > 30
    np.testing.assert_allclose(gain[is_star], 2.0, atol=1e-5)


def test_what_half_is_hidden_of_cannot_be_changed_by_a_recipe() -> None:
    wider = {"shapes": {"ring": {"radius_arcsec": {"low": 1.2, "high": 8.0}}}}
    with pytest.raises(ConfigError, match=r"shapes\.ring\.radius_arcsec cannot be changed"):
        definition.load().drawing({}, changes=wider)
    other = {"shapes": {"ring": {"contrast": {"low": 0.0, "high": 0.5}}}}
    assert definition.load().drawing({}, changes=other).shapes.ring.contrast.high == 0.5


def test_a_variant_has_its_own_name_hash_and_galaxies() -> None:
    benches = [definition.load(v) for v in ("", "quick", "shifted", "tiny")]
    said = [(bench.name, bench.sha256, bench.stated["family"]) for bench in benches]
    for values in zip(*said, strict=True):
        assert len(set(values)) == len(benches)


def test_a_hash_belongs_to_the_numbers_not_to_their_order() -> None:
    bench = definition.load()
    turned = Definition(dict(reversed(list(bench.stated.items()))))
    assert turned.sha256 == bench.sha256 == definition.load().sha256
    for change in ({"family": 9}, {"sets": {"test": {"lens_hosts": 1}}}, {"hosts": {"seed": 1}}):
        assert Definition(laid_over(bench.stated, change)).sha256 != bench.sha256


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no variant 'slow' of the benchmark; choose quick"):
        definition.load("slow")
    with pytest.raises(ConfigError, match="cosmos needs real galaxies"):
        definition.load("cosmos")
    for files in (("nowhere.parquet",), ("one", "two")):
        with pytest.raises(ConfigError, match="real galaxies come from one bank of sources"):
            definition.load("cosmos", catalogues=files)


def _bank(path: Path, splits: dict[str, float]) -> str:
    """A bank of eight galaxies that count as real ones."""
    asked = SimpleNamespace(seed=8, picture_px=32, clumpy_count=8, split_shares=splits)
    ident = np.arange(64)
    made = clumpy.galaxies(ident, bands=("g", "r", "z"), size_px=32, seed=8)
    columns = {
        "half_light_px": made.half_light_px.numpy(), "r_eff_arcsec": np.full(64, 0.3),
        "mag_hst": np.full(64, 23.0), "z": np.full(64, 1.0), "snr": np.full(64, 50.0),
        "provenance": ["test"] * 64,
    }  # fmt: skip
    rows = picture_bank.rows_of(
        "catalogue", ident, list(made.pictures.numpy()), made.share[:, -1].numpy(), columns, asked,
        ("g", "r", "z"),
    )  # fmt: skip
    schema = picture_bank.schema_of(32, ("g", "r", "z"))
    store.write(iter([rows]), str(path), schema=schema, digest="made here")
    return str(path)


def test_real_galaxies_come_from_a_bank_whose_content_names_the_set(tmp_path: Path) -> None:
    shares = {"train": 0.4, "val": 0.1, "calib": 0.1, "test": 0.4}
    one = _bank(tmp_path / "one.parquet", shares)
    bench = definition.load("cosmos", catalogues=(one,))
    again = _bank(tmp_path / "again.parquet", shares)
    assert definition.load("cosmos", catalogues=(again,)).sha256 == bench.sha256
    other = _bank(tmp_path / "other.parquet", {"train": 0.5, "test": 0.5})
    half = definition.load("cosmos", catalogues=(other,))
    assert half.sha256 != bench.sha256
    assert bench.name == "dhs-sim-1-cosmos"
    with pytest.raises(DataError, match="has no real galaxy for calib, val"):
        sets.bank_of(half, tmp_path)
    some = next(sets.drawn(Definition({**bench.stated, "chunk": 40}, one), "test",
                           sets.bank_of(bench, tmp_path)))  # fmt: skip
    kinds = some.rows["src_kind"].drop_null().to_pylist()
    assert kinds
    assert kinds.count("catalogue") > len(kinds) / 2


def test_ranges_and_counts_are_replaced_whole() -> None:
    laid = laid_over(
        {"a": {"low": 1, "high": 2}, "counts": {"x": 1, "y": 2}, "deep": {"k": 1, "l": 2}},
        {"a": {"low": 0, "high": 5}, "counts": {"x": 3}, "deep": {"l": 4}},
    )
    assert laid == {"a": {"low": 0, "high": 5}, "counts": {"x": 3}, "deep": {"k": 1, "l": 4}}
