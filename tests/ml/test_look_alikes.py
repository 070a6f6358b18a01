"""Which targets are look-alikes: each once, in one kind, and no known lens among them."""

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from manifest_builders import BANDS, cutouts_head, splits
from manifest_builders import config as manifest_config

from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.look_alikes import LookAlikesConfig
from darkhaloscope.ml import look_alikes, manifesting
from darkhaloscope.stages import manifest as stage
from darkhaloscope.survey import positions

ARCSEC = 1 / 3600
EDGE_ON = {
    "kind": "edge_on",
    "types": ["EXP", "SER"],
    "axis_ratio": {"low": 0.0, "high": 0.3},
    "shape_r_arcsec": {"low": 0.6, "high": 10.0},
    "sersic": {"low": 0.3, "high": 2.5},
}
DISC = {**EDGE_ON, "kind": "spiral", "axis_ratio": {"low": 0.3, "high": 1.0}}
CUT = {"column": "merging_merger_fraction", "at_least": 0.6}


def config(**changed: Any) -> LookAlikesConfig:
    given = {"tables": [], "proxies": [], "known_lenses": [], "known_radius_arcsec": 3.0}
    return LookAlikesConfig.model_validate({**given, **changed})


def of_positions(address: str, **changed: Any) -> dict[str, Any]:
    return {"format": "positions", "address": address, "radius_arcsec": 2.0, **changed}


def entries(targets: pa.Table, rows: list[int], kind: str | None, off: float = 0.3) -> pa.Table:
    """A list that names these targets, some arcsec north of each."""
    n = len(rows)
    columns = {
        "name": [str(row) for row in rows],
        "ra_deg": targets["ra_deg"].to_numpy()[rows],
        "dec_deg": targets["dec_deg"].to_numpy()[rows] + off * ARCSEC,
        "kind": pa.array([kind] * n, pa.string()),
        "grade": pa.nulls(n, pa.string()),
        "radius_arcsec": pa.nulls(n, pa.float64()),
    }
    return pa.table(columns, schema=positions.SCHEMA)


def found(targets: pa.Table, settings: LookAlikesConfig, **lists: pa.Table) -> dict[int, str]:
    """Kind by row of the targets."""
    made = look_alikes.of_targets(targets, settings, lists)
    row = {target: at for at, target in enumerate(targets["target_id"].to_pylist())}
    pairs = zip(made["target_id"].to_pylist(), made["kind"].to_pylist(), strict=True)
    return {row[target]: kind for target, kind in pairs}


def test_the_first_list_decides_and_kinds_are_the_lists_or_its_own() -> None:
    targets = splits(20)
    settings = config(tables=[of_positions("a", kind="ring"), of_positions("b")])
    says = found(
        targets,
        settings,
        a=entries(targets, [1, 2], "spiral"),
        b=entries(targets, [2, 3], "edge_on"),
    )
    assert says == {1: "ring", 2: "ring", 3: "edge_on"}


def test_where_a_look_alike_comes_from() -> None:
    targets = splits(20)
    settings = config(tables=[of_positions("a", kind="ring")])
    made = look_alikes.of_targets(targets, settings, {"a": entries(targets, [4], None)})
    assert made.drop_columns("separation_arcsec").to_pylist() == [
        {"target_id": targets["target_id"][4].as_py(), "kind": "ring", "source": "a"}
    ]
    assert made["separation_arcsec"][0].as_py() == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize("word", [None, "lens", "control", "elliptical"])
def test_entries_of_no_kind_of_ours_are_passed_over(word: str | None) -> None:
    targets = splits(5)
    settings = config(tables=[of_positions("a")])
    both = pa.concat_tables([entries(targets, [1], word), entries(targets, [3], "ring")])
    assert found(targets, settings, a=both) == {3: "ring"}
    with pytest.raises(DataError, match="no entry of these lists is of a kind that is known"):
        found(targets, settings, a=entries(targets, [1], word))


def test_an_entry_out_of_reach_is_nobodys() -> None:
    targets = splits(5)
    settings = config(tables=[of_positions("a", kind="ring")])
    assert found(targets, settings, a=entries(targets, [1, 2], None, off=2.1)) == {}


def test_two_targets_at_one_entry_the_nearer_is_it() -> None:
    targets = splits(2)
    near = targets["dec_deg"][0].as_py() + 0.9 * ARCSEC
    for name, value in (("dec_deg", near), ("ra_deg", targets["ra_deg"][0].as_py())):
        values = targets[name].to_numpy().copy()
        values[1] = value
        at = targets.schema.get_field_index(name)
        targets = targets.set_column(at, targets.schema.field(at), pa.array(values))
    settings = config(tables=[of_positions("a", kind="ring")])
    assert found(targets, settings, a=entries(targets, [0], None, off=0.8)) == {1: "ring"}


def test_a_known_lens_is_no_look_alike_by_any_way() -> None:
    targets = discs()
    settings = config(
        tables=[of_positions("a", kind="ring")], proxies=[DISC], known_lenses=["lenses"]
    )
    lists = {"a": entries(targets, [0, 1], None), "lenses": entries(targets, [1, 3], None, off=2.0)}
    assert set(found(targets, settings, **lists)) == {0, 2, 4, 5}


def test_a_list_that_was_not_read_is_named() -> None:
    settings = config(tables=[of_positions("a", kind="ring")], known_lenses=["b"])
    with pytest.raises(DataError, match="a, b was not read"):
        look_alikes.of_targets(splits(3), settings, {})


def discs() -> pa.Table:
    """EXP of axis ratio 0.2 and 0.5, SER, DEV, and two that lack something."""
    targets = splits(6)
    q = np.array([0.2, 0.5, 0.5, 0.5, 0.5, 0.5])
    changed = {
        "type": ["EXP", "EXP", "SER", "SER", "SER", "SER"],
        "shape_e1": (1 - q) / (1 + q),
        "shape_e2": np.zeros(6),
        "shape_r_arcsec": [1.0] * 6,
        "sersic": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    }
    for name, values in changed.items():
        at = targets.schema.get_field_index(name)
        field = targets.schema.field(at)
        targets = targets.set_column(at, field, pa.array(values).cast(field.type))
    return targets


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("type", ["EXP", "DEV", "REX", "SER", "COMP", "SER"], {3, 5}),
        ("shape_r_arcsec", [1.0, 0.5, 10.1, 0.6, 10.0, None], {3, 4}),
        ("sersic", [1.0, 0.2, 2.6, 2.5, None, 0.3], {3, 5}),
        ("shape_e1", [0.0, None, 0.9, 0.0, 1 / 3, -1 / 3], {0, 3, 4, 5}),
    ],
)
def test_every_cut_of_a_proxy_cuts(column: str, values: list[Any], expected: set[int]) -> None:
    targets = discs()
    at = targets.schema.get_field_index(column)
    field = targets.schema.field(at)
    targets = targets.set_column(at, field, pa.array(values).cast(field.type))
    assert set(found(targets, config(proxies=[DISC]))) == expected


def test_the_first_proxy_decides_and_lists_go_before() -> None:
    targets = discs()
    settings = config(tables=[of_positions("a", kind="merger")], proxies=[EDGE_ON, DISC])
    says = found(targets, settings, a=entries(targets, [5], None))
    assert says == {0: "edge_on", 1: "spiral", 2: "spiral", 3: "spiral", 4: "spiral", 5: "merger"}


def test_the_order_of_the_targets_does_not_matter() -> None:
    targets = splits(400, seed=8)
    settings = config(tables=[of_positions("a", radius_arcsec=60.0, kind="ring")])
    lists = {"a": entries(targets, list(range(0, 400, 7)), None, off=9.0)}
    turned = targets.take(pa.array(np.arange(400)[::-1]))
    mine, theirs = (look_alikes.of_targets(t, settings, lists) for t in (targets, turned))
    assert mine.num_rows == 58
    assert mine.sort_by("target_id").equals(theirs.sort_by("target_id"))
    assert max(Counter(mine["target_id"].to_pylist()).values()) == 1


def test_no_targets() -> None:
    settings = config(tables=[of_positions("a", kind="ring")], proxies=[DISC], known_lenses=["b"])
    targets = splits(3)
    listed = entries(targets, [1], None)
    made = look_alikes.of_targets(targets.slice(0, 0), settings, {"a": listed, "b": listed})
    assert made.num_rows == 0
    assert made.schema.equals(look_alikes.SCHEMA)


def test_addresses_and_votes_of_the_settings() -> None:
    voted = {
        "format": "galaxy_zoo",
        "address": "v",
        "radius_arcsec": 2.0,
        "least_votes": 20,
        "kinds": [{"kind": "merger", "cuts": [CUT]}],
    }
    settings = config(tables=[voted, of_positions("a")], known_lenses=["k", "k"])
    assert settings.lists == ("v", "a", "k")
    assert set(settings.votes) == {"v"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "state tables, proxies or both"),
        ({"tables": [of_positions("a"), of_positions("a", kind="ring")]}, "name a more than once"),
        ({"tables": [of_positions("a")], "known_lenses": ["a"]}, "both name a"),
        ({"proxies": [{**DISC, "kind": "ring"}]}, "'spiral' or 'edge_on'"),
        ({"tables": [of_positions("a", format="votes")]}, "'galaxy_zoo', 'positions'"),
    ],
)
def test_settings_that_contradict_themselves(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**changed)


@pytest.mark.parametrize("split", ["train", "val", "calib", "test"])
def test_a_look_alike_plays_one_kind_once_and_hosts_nothing(split: str) -> None:
    targets = splits(300, split=split)
    listed = entries(targets, list(range(0, 300, 6)), "ring")
    settings = config(tables=[of_positions("a"), of_positions("b", kind="merger")])
    known = look_alikes.of_targets(
        targets, settings, {"a": listed, "b": entries(targets, list(range(0, 300, 10)), None)}
    )
    assert known.num_rows == 50 + 20  # every 30th is in both
    hosts = manifesting.hosts_of(targets, cutouts_head(targets), BANDS, look_alikes=known)
    rows = manifesting.draw(hosts, split=split, config=manifest_config())
    is_known = pc.is_in(rows["target_id"], value_set=known["target_id"].combine_chunks())
    theirs, others = rows.filter(is_known), rows.filter(pc.invert(is_known))
    assert sorted(theirs["target_id"].to_pylist()) == sorted(known["target_id"].to_pylist())
    assert set(theirs["family"].to_pylist()) == {"look_alike"}
    assert set(theirs["label"].to_pylist()) == {0}
    assert theirs["src_mag_r"].null_count == theirs["shape_parts"].null_count == theirs.num_rows
    says = dict(zip(known["target_id"].to_pylist(), known["kind"].to_pylist(), strict=True))
    drawn = zip(theirs["target_id"].to_pylist(), theirs["kind"].to_pylist(), strict=True)
    assert dict(drawn) == says
    assert "look_alike" not in others["family"].to_pylist()
    assert {"lens", "ring"} <= set(others["kind"].to_pylist())


def test_the_stage_draws_what_its_lists_say() -> None:
    targets = splits(60, split="test")
    settings = manifest_config(
        look_alikes=config(tables=[of_positions("a", kind="spiral")]).model_dump()
    )
    head = cutouts_head(targets)
    rows = stage.run(targets, head, config=settings, lists={"a": entries(targets, [7, 8], None)})
    of_lists = rows.filter(pc.equal(rows["family"], "look_alike"))
    assert of_lists["kind"].to_pylist() == ["spiral", "spiral"]
    assert set(of_lists["target_id"].to_pylist()) == set(targets["target_id"].to_pylist()[7:9])
    assert np.count_nonzero(pc.equal(rows["kind"], "sky")) == 60


def test_the_settings_that_the_page_shows_can_be_used() -> None:
    page = Path(__file__).parents[2] / "docs" / "look-alikes.md"
    (block,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    shown = LookAlikesConfig.model_validate(tomllib.loads(block)["manifest"]["look_alikes"])
    assert shown.lists == ("gz_decals_volunteers_5.csv", "rings.csv", "lenscat.csv")
    assert [proxy.kind for proxy in shown.proxies] == ["edge_on", "spiral"]
