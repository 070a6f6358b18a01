"""Lists of positions: every format alike, faults named, the nearest entry on the sphere."""

import gzip
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from simulate_builders import floors, simulate_config

from darkhaloscope.core.errors import DataError
from darkhaloscope.simulate import survey
from darkhaloscope.survey import positions

RA, DEC = [10.5, 359.9999, 200.0], [-20.25, 89.5, 0.0]
EXPECTED = {
    "name": ["A", "B", "C"],
    "ra_deg": RA,
    "dec_deg": DEC,
    "kind": ["ring", None, "spiral"],
    "grade": ["A", "B", None],
    "radius_arcsec": [None, 2.5, None],
}


def listed() -> Table:
    radius = MaskedColumn([0.0, 2.5, 0.0], mask=[True, False, True])
    kind = MaskedColumn(["ring", "", "spiral"], mask=[False, True, False])
    grade = MaskedColumn(["A", "B", ""], mask=[False, False, True])
    return Table(
        {
            "Name": ["A", "B", "C"],
            "RA": RA * u.deg,
            "Dec": DEC * u.deg,
            "kind": kind,
            "grade": grade,
            "radius_arcsec": radius,
            "counts": np.arange(6).reshape(3, 2),
        }
    )


def write(table: Table, path: Path) -> str:
    formats = {"csv": "ascii.csv", "tsv": "ascii.tab", "ecsv": "ascii.ecsv", "vot": "votable"}
    if path.suffix == ".parquet":
        table = table.filled({"radius_arcsec": np.nan}) if table.masked else table
        columns = {n: pa.array(table[n].tolist()) for n in table.colnames if n != "counts"}
        pq.write_table(pa.table(columns), path)
    else:
        flat = path.suffix in (".csv", ".tsv")
        kept = table[[n for n in table.colnames if n != "counts"]] if flat else table
        kept.write(path, format=formats.get(path.suffix[1:]))
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "ecsv", "fits", "vot", "parquet"])
def test_every_format_reads_the_same(tmp_path: Path, ending: str) -> None:
    assert positions.read(write(listed(), tmp_path / f"a.{ending}")).to_pydict() == EXPECTED


def test_a_packed_list_is_unpacked(tmp_path: Path) -> None:
    plain = Path(write(listed(), tmp_path / "a.csv"))
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert positions.read(str(packed)).to_pydict() == EXPECTED


def test_angles_in_another_unit_become_degrees(tmp_path: Path) -> None:
    table = Table({"ra": np.radians(RA) * u.rad, "dec": np.radians(DEC) * u.rad})
    found = positions.read(write(table, tmp_path / "a.ecsv"))
    assert found["ra_deg"].to_pylist() == pytest.approx(RA)
    assert found["name"].to_pylist() == ["row 1", "row 2", "row 3"]


def text(tmp_path: Path, content: str, name: str = "a.csv") -> str:
    path = tmp_path / name
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("RAJ2000,DEJ2000,ra,dec", 3.0),
        ("ra,dec,ra_deg,dec_deg", 3.0),
        ("RA,DEC,ra,dec", 3.0),
        ("RAJ2000,DECJ2000,_RAJ2000,_DEJ2000", 3.0),
        ("RA [deg],DEC [deg],RA_ICRS,DE_ICRS", 1.0),
        ("ra_deg,DEC,ra,other", 3.0),  # only the second pair is whole
    ],
)
def test_the_order_of_position_columns(tmp_path: Path, header: str, expected: float) -> None:
    found = positions.read(text(tmp_path, f"{header}\n1,2,3,4\n"))
    assert found["ra_deg"].to_pylist() == [expected]


@pytest.mark.parametrize("ra", ["01:02:03.4", "01:02:03", "15h03m02s"])
def test_sexagesimal_positions_are_refused_with_the_way_out(tmp_path: Path, ra: str) -> None:
    address = text(tmp_path, f"name,RA,DEC\nA,{ra},-00:04:08\n")
    with pytest.raises(DataError, match=r"column RA holds text .* SkyCoord"):
        positions.read(address)


def test_rows_off_the_sky_are_all_named(tmp_path: Path) -> None:
    rows = [(10, 20), ("", 3), (-1, 0), (5, "NaN"), (360.5, 1), (4, 90.1), (0, -90), (360, 90)]
    address = text(tmp_path, "ra,dec\n" + "".join(f"{ra},{dec}\n" for ra, dec in rows))
    with pytest.raises(DataError, match=r"5 rows have no position .*: row 2, 3, 4, 5, 6 \(row 1"):
        positions.read(address)


@pytest.mark.parametrize("radius", ["0", "-2", "4000"])
def test_a_radius_that_is_none_is_refused(tmp_path: Path, radius: str) -> None:
    with pytest.raises(DataError, match="1 rows have a radius_arcsec"):
        positions.read(text(tmp_path, f"ra,dec,radius_arcsec\n1,2,{radius}\n"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "name,x,y\nA,1,2\n", "says nowhere where its entries are"),
        ("a.txt", "ra,dec\n1,2\n", "its ending names no format"),
        ("a.fits", "no FITS", "cannot be read as fits"),
        ("a.parquet", "no Parquet", "cannot be read as parquet"),
        ("a.vot", "<html></html>", "cannot be read as votable"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        positions.read(text(tmp_path, content, name))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv is not there"):
        positions.read(str(tmp_path / "gone.csv"))


def entries(ra: Any, dec: Any, radius: Any = None) -> pa.Table:
    n = len(ra)
    return pa.table(
        {
            "name": [str(i) for i in range(n)],
            "ra_deg": pa.array(ra, pa.float64()),
            "dec_deg": pa.array(dec, pa.float64()),
            "kind": pa.nulls(n, pa.string()),
            "grade": pa.nulls(n, pa.string()),
            "radius_arcsec": pa.nulls(n, pa.float64()) if radius is None else radius,
        },
        schema=positions.SCHEMA,
    )


def crowd(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points near RA 0, near a pole and on the equator, some arcsec apart."""
    generator = np.random.default_rng(seed)
    at = generator.integers(0, 3, n)
    dec = np.array([0.0, 89.99, -45.0])[at] + generator.uniform(0, 0.01, n)
    ra = generator.uniform(-0.005, 0.005, n) / np.cos(np.radians(dec))
    return ra % 360, dec


def test_the_nearest_is_astropys() -> None:
    (ra, dec), (other_ra, other_dec) = crowd(400, 1), crowd(300, 2)
    mine, others = (SkyCoord(a, d, unit="deg") for a, d in ((ra, dec), (other_ra, other_dec)))
    best, separation, _ = mine.match_to_catalog_sky(others)
    expected = np.where(separation.arcsec <= 1.5, best, -1)
    index, distance = positions.nearest(ra, dec, entries(other_ra, other_dec), 1.5)
    assert 20 < np.count_nonzero(index >= 0) < 380
    np.testing.assert_array_equal(index, expected)
    near = index >= 0
    np.testing.assert_allclose(distance[near], separation.arcsec[near], rtol=1e-6, atol=1e-7)
    assert np.isnan(distance[~near]).all()


def test_an_entrys_own_radius_goes_first() -> None:
    away = np.array([1.0, 3.0, 20.0]) / 3600
    wide = entries(away, [0, 0, 0], radius=pa.array([0.5, None, 30.0]))
    assert positions.nearest([0.0], [0.0], wide, 5.0)[0].tolist() == [1]
    assert positions.nearest([0.0], [0.0], wide, 2.0)[0].tolist() == [2]
    assert positions.nearest([0.0], [1.0], wide, 5.0)[0].tolist() == [-1]


def test_no_entries_and_no_galaxies() -> None:
    index, distance = positions.nearest([1.0, 2.0], [0.0, 0.0], entries([], []), 5.0)
    assert index.tolist() == [-1, -1]
    assert np.isnan(distance).all()
    assert positions.nearest([], [], entries([1.0], [2.0]), 5.0)[0].shape == (0,)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "grades"),
    [
        ("agel_dr2.csv", 146, set()),
        ("lenscat.csv.gz", 32838, {"confident", "probable"}),
        ("slacs_s4tm_bells_merged.csv", 125, set()),
        ("stein2021_new_candidates.tsv", 1192, {"A", "B"}),
        ("stein2021_training_lenses.tsv", 1615, set()),
    ],
)
def test_real_lists_are_read(shared_data: Path, name: str, rows: int, grades: set[str]) -> None:
    found = positions.read(str(shared_data / "lens-catalogs" / name))
    assert found.num_rows == rows
    assert set(found["grade"].to_pylist()) - {None} == grades


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slacs_bolton2008_43.csv", "holds text"),
        ("slacs_s4tm_shu2017_7.csv", "says nowhere where"),
        ("slacs_tdcosmo.csv", "33 rows have no position"),
    ],
)
def test_real_lists_without_usable_positions_are_refused(
    shared_data: Path, name: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        positions.read(str(shared_data / "lens-catalogs" / name))


@pytest.mark.real
def test_slacs_and_bells_are_found_in_lenscat(shared_data: Path) -> None:
    slacs, lenscat = (
        positions.read(str(shared_data / "lens-catalogs" / name))
        for name in ("slacs_s4tm_bells_merged.csv", "lenscat.csv.gz")
    )
    index, distance = positions.nearest(slacs["ra_deg"], slacs["dec_deg"], lenscat, 3.0)
    assert (index >= 0).all()
    assert np.median(distance) < 0.2


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = simulate_config(floors=floors(lens=1, ring=2, spiral=2))
    return survey.write(config, tmp_path_factory.mktemp("sky") / "survey")


@pytest.mark.parametrize("name", ["lenses", "galaxies", "contaminants"])
def test_the_truth_of_a_simulated_sky_is_a_list(sky: Path, name: str) -> None:
    file = sky / "truth" / f"{name}.parquet"
    found, drawn = positions.read(str(file)), pq.read_table(file)
    assert found.num_rows == drawn.num_rows >= 1
    assert found["dec_deg"].to_pylist() == drawn["dec_deg"].to_pylist()
    if "kind" in drawn.column_names:
        assert found["kind"].to_pylist() == drawn["kind"].to_pylist()
    known = drawn["target_id"].drop_null().cast(pa.string()).to_pylist()
    assert set(known) <= set(found["name"].to_pylist())
