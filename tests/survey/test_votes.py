"""Tables of votes: cuts make kinds, few votes count for nothing, one galaxy is one entry."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.look_alikes import VotesTable
from darkhaloscope.survey import sphere, votes

MERGER = {"column": "merging_merger_fraction", "at_least": 0.6}
EDGE_ON = {"column": "disk-edge-on_yes_fraction", "at_least": 0.7}
SPIRAL = {"column": "has-spiral-arms_yes_fraction", "at_least": 0.7}
DISC = {"column": "smooth-or-featured_featured-or-disk_fraction", "at_least": 0.5}

# name, ra, dec, merger, edge-on and spiral fractions with their votes, featured fraction with its
ROWS = [
    ("both", 1.0, 1.0, 0.8, 30, 0.9, 30, 0.0, 30, 0.9, 40),
    ("edge", 2.0, 2.0, 0.1, 30, 0.7, 20, 0.0, 30, 0.9, 40),
    ("few", 3.0, 3.0, 0.0, 30, 1.0, 19, 0.1, 30, 0.9, 40),
    ("arms", 4.0, 4.0, 0.0, 30, 0.1, 30, 0.9, 25, 0.5, 40),
    ("smooth", 5.0, 5.0, 0.0, 30, 0.1, 30, 0.9, 25, 0.49, 40),
    ("unasked", 6.0, 6.0, None, 0, None, 0, None, 0, 0.2, 40),
    ("lost", None, 7.0, 0.9, 30, 0.0, 30, 0.0, 30, 0.5, 40),
]
NAMES = ["iauname", "ra", "dec"]
for question, answer in (
    ("merging", "merger"),
    ("disk-edge-on", "yes"),
    ("has-spiral-arms", "yes"),
    ("smooth-or-featured", "featured-or-disk"),
):
    NAMES += [f"{question}_{answer}_fraction", f"{question}_total-votes"]


def galaxy_zoo(*, total: str = "_total-votes", without: tuple[str, ...] = ()) -> pa.Table:
    columns = {
        name: list(values) for name, values in zip(NAMES, zip(*ROWS, strict=True), strict=True)
    }
    kept = {n.replace("_total-votes", total): v for n, v in columns.items() if n not in without}
    return pa.table({**kept, "how-rounded_round_fraction": [0.5] * len(ROWS)})


def asked(address: str = "votes.csv", **changed: Any) -> VotesTable:
    given = {
        "format": "galaxy_zoo",
        "address": address,
        "radius_arcsec": 2.0,
        "least_votes": 20,
        "kinds": [
            {"kind": "merger", "cuts": [MERGER]},
            {"kind": "edge_on", "cuts": [EDGE_ON]},
            {"kind": "spiral", "cuts": [SPIRAL, DISC]},
        ],
    }
    return VotesTable.model_validate({**given, **changed})


def written(table: pa.Table, path: Path) -> str:
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        columns = {n: table[n].to_pylist() for n in table.column_names}
        numbers = {n: [np.nan if v is None else v for v in c] for n, c in columns.items()}
        Table(numbers).write(path)
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits"])
def test_rows_become_kinds_in_every_format(tmp_path: Path, ending: str) -> None:
    found = votes.read(written(galaxy_zoo(), tmp_path / f"a.{ending}"), asked())
    assert found.select(["name", "ra_deg", "kind"]).to_pylist() == [
        {"name": "both", "ra_deg": 1.0, "kind": "merger"},
        {"name": "edge", "ra_deg": 2.0, "kind": "edge_on"},
        {"name": "arms", "ra_deg": 4.0, "kind": "spiral"},
    ]


def test_the_order_of_kinds_decides_and_is_counted(tmp_path: Path) -> None:
    address = written(galaxy_zoo(), tmp_path / "a.csv")
    kinds = [{"kind": "edge_on", "cuts": [EDGE_ON]}, {"kind": "merger", "cuts": [MERGER]}]
    found, counts = votes.sort_out(address, asked(kinds=kinds))
    assert dict(zip(found["name"].to_pylist(), found["kind"].to_pylist(), strict=True)) == {
        "both": "edge_on",
        "edge": "edge_on",
    }
    assert counts == votes.Counts(7, {"edge_on": 2, "merger": 0}, of_two=1, without_place=1)


def test_what_was_counted_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        votes.read(written(galaxy_zoo(), tmp_path / "a.csv"), asked())
    assert "7 rows: 1 merger, 1 edge_on, 1 spiral; 1 meet the cuts of two kinds" in caplog.text
    assert "1 left out for want of a position" in caplog.text


def test_fewer_votes_than_asked_for_count_for_nothing(tmp_path: Path) -> None:
    address = written(galaxy_zoo(), tmp_path / "a.csv")
    names = [votes.read(address, asked(least_votes=n))["name"].to_pylist() for n in (1, 20, 26, 31)]
    assert names == [["both", "edge", "few", "arms"], ["both", "edge", "arms"], ["both"], []]


def test_older_tables_name_the_votes_otherwise(tmp_path: Path) -> None:
    address = written(galaxy_zoo(total="_total"), tmp_path / "a.csv")
    assert votes.read(address, asked())["name"].to_pylist() == ["both", "edge", "arms"]


def test_predicted_fractions_come_without_votes(tmp_path: Path) -> None:
    counts = tuple(name for name in NAMES if name.endswith("_total-votes"))
    address = written(galaxy_zoo(without=counts), tmp_path / "a.csv")
    names = votes.read(address, asked(least_votes=0))["name"].to_pylist()
    assert names == ["both", "edge", "few", "arms"]
    with pytest.raises(DataError, match=r"lacks .*merging_total-votes, disk-edge-on_total-votes"):
        votes.read(address, asked())


def test_every_column_that_is_missing_is_named(tmp_path: Path) -> None:
    lacking = ("merging_merger_fraction", "has-spiral-arms_yes_fraction")
    address = written(galaxy_zoo(without=lacking), tmp_path / "a.csv")
    with pytest.raises(DataError, match=f"lacks the columns {', '.join(lacking)}, which the cuts"):
        votes.read(address, asked())


def test_a_cut_needs_numbers(tmp_path: Path) -> None:
    kinds = [{"kind": "ring", "cuts": [{"column": "iauname", "at_least": 1}]}]
    with pytest.raises(DataError, match="column iauname holds no numbers"):
        votes.read(written(galaxy_zoo(), tmp_path / "a.csv"), asked(kinds=kinds))


def test_an_upper_end_cuts_too(tmp_path: Path) -> None:
    smooth = {"column": DISC["column"], "at_most": 0.49}
    kinds = [{"kind": "artefact", "cuts": [smooth]}]
    found = votes.read(written(galaxy_zoo(), tmp_path / "a.csv"), asked(kinds=kinds))
    assert found["name"].to_pylist() == ["smooth", "unasked"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kinds": [{"kind": "ring", "cuts": [{"column": "ring"}]}]}, "at_least, at_most or both"),
        ({"kinds": [{"kind": "lens", "cuts": [MERGER]}]}, "kinds.0.kind"),
        ({"kinds": [{"kind": "ring", "cuts": [MERGER]}] * 2}, "name ring more than once"),
        ({"kinds": [{"kind": "ring", "cuts": [{**MERGER, "at_most": 0.5}]}]}, "is above at_most"),
    ],
)
def test_settings_that_say_nothing_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(**changed)


def test_one_to_one_the_nearest_first() -> None:
    arcsec = 1 / 3600
    galaxies = np.array([0.0, 1.0, 50.0]) * arcsec
    entries = np.array([0.8, 2.2, 100.0]) * arcsec
    zero = np.zeros(3)
    index, distance = sphere.one_to_one(galaxies, zero, entries, zero, 3.0)
    # the second galaxy takes the entry at 0.8; the first is left with the one at 2.2
    assert index.tolist() == [1, 0, -1]
    np.testing.assert_allclose(distance[:2], [2.2, 0.2], rtol=1e-9)
    assert sphere.one_to_one(galaxies, zero, entries, zero, 1.0)[0].tolist() == [-1, 0, -1]


def test_two_galaxies_at_one_entry_and_two_entries_at_one_galaxy() -> None:
    two, one = [10.0, 10.0], [10.0]
    assert sphere.one_to_one(two, [5.0, 5.0], one, [5.0], 1.0)[0].tolist() == [0, -1]
    assert sphere.one_to_one(one, [5.0], two, [5.0, 5.0], 1.0)[0].tolist() == [0]


def test_one_to_one_takes_nobodys_better_half() -> None:
    """No galaxy and entry, both within the radius, are nearer to each other than to their own."""
    generator = np.random.default_rng(5)
    ra, dec, other_ra, other_dec = generator.uniform(0, 0.01, (4, 300))
    index, distance = sphere.one_to_one(ra, dec, other_ra, other_dec, 2.0)
    taken = index[index >= 0]
    assert len(taken) == len(set(taken.tolist()))
    assert 50 < len(taken) < 300
    apart = SkyCoord(ra[:, None], dec[:, None], unit="deg").separation(
        SkyCoord(other_ra[None], other_dec[None], unit="deg")
    )
    mine = np.where(index >= 0, distance, np.inf)
    theirs = np.full(300, np.inf)
    theirs[taken] = distance[index >= 0]
    better = (apart.arcsec < np.minimum(mine[:, None], theirs[None]) - 1e-6) & (apart.arcsec < 2)
    assert not better.any()


@pytest.mark.real
def test_the_real_sample_of_rings(shared_data: Path) -> None:
    address = str(shared_data / "gz-decals-rings" / "labels.csv")
    ring = {"kind": "ring", "cuts": [{"column": "ring", "at_least": 1}]}
    armed = {"column": "has-spiral-arms_no_fraction", "at_most": 0.6}
    spiral = {"kind": "spiral", "cuts": [armed, {**DISC, "at_least": 0.6}]}
    table = pa.csv.read_csv(address)
    is_ring = table["ring"].to_numpy() == 1
    is_armed = table["has-spiral-arms_no_fraction"].to_numpy() <= 0.6
    found, counts = votes.sort_out(address, asked(least_votes=0, kinds=[ring, spiral]))
    assert counts.rows == 267
    assert counts.by_kind == {"ring": 135, "spiral": np.count_nonzero(is_armed & ~is_ring)}
    assert counts.of_two == np.count_nonzero(is_armed & is_ring) > 10
    assert found["name"][0].as_py() == "J000411.19+020924.0"
