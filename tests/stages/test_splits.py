from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import survey_builders as build
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.stages import splits
from darkhaloscope.survey.files import Survey

NSIDE = 1024  # regions of 0.06 deg, so that a small field has many


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """A table of 10 x 10 bricks over a degree."""
    root = tmp_path_factory.mktemp("bricks")
    bricks = [
        build.Brick(10 + i / 10, 20 + j / 10, 10 * i + j + 1) for i in range(10) for j in range(10)
    ]
    build.write_bricks(root, bricks)
    return build.survey_at(root)


def targets(count: int, seed: int = 0) -> pa.Table:
    """Targets scattered over a degree, each in the brick whose centre is nearest."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(10, 10.9, count), rng.uniform(20, 20.9, count)
    names = [f"{round(r * 10):04d}p{round(d * 10):03d}" for r, d in zip(ra, dec, strict=True)]
    columns: dict[str, object] = {
        "target_id": np.arange(count) + 1,
        "brickname": names,
        "ra_deg": ra,
        "dec_deg": dec,
        "tile": [f"256-{name[:4]}" for name in names],
        "type": ["DEV"] * count,
    }
    schema = schemas.targets(build.BANDS)
    filled = {
        field.name: pa.array([field.name.startswith("is_")] * count)
        if pa.types.is_boolean(field.type)
        else pa.nulls(count, field.type)
        for field in schema
    }
    given_ = {name: pa.array(values) for name, values in columns.items()}
    return pa.table(filled | given_, schema=schema)


def run(table: pa.Table, survey: Survey, **changes: object) -> pa.Table:
    return splits.run(
        table, survey=survey, config=build.splits_config(**({"region_nside": NSIDE} | changes))
    )


def test_the_output_conforms_and_is_in_order(survey: Survey) -> None:
    table = run(targets(2000), survey)
    schemas.conform(table, schemas.splits(build.BANDS), where="test")
    keys = list(
        zip(*(table[n].to_pylist() for n in ("tile", "brickname", "target_id")), strict=True)
    )
    assert keys == sorted(keys)
    assert set(table["split"].to_pylist()) == {"train", "val", "calib", "test", "guard"}


def test_a_region_is_whole_in_one_split(survey: Survey) -> None:
    table = run(targets(2000), survey, guard_arcsec=0)
    pairs = set(zip(table["region_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert len(pairs) == len({region for region, _ in pairs})


def test_the_split_of_a_region_stays_when_the_survey_grows(survey: Survey) -> None:
    whole = targets(3000)
    before = run(whole.slice(0, 1500), survey, guard_arcsec=0, shares_tolerance=0.5)
    after = run(whole, survey, guard_arcsec=0, shares_tolerance=0.5)
    known = dict(zip(after["target_id"].to_pylist(), after["split"].to_pylist(), strict=True))
    assert [known[t] for t in before["target_id"].to_pylist()] == before["split"].to_pylist()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**16), guard=st.floats(1, 200))
def test_no_two_targets_of_different_splits_are_nearer_than_the_guard(
    survey: Survey, seed: int, guard: float
) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = (rng.uniform(0, 0.2, 200) + 359.9) % 360, rng.uniform(-0.1, 0.1, 200)
    split = rng.integers(0, 4, 200)
    marked = splits.near_another_split(ra, dec, split, guard)
    sky = SkyCoord(ra, dec, unit="deg")
    i, j, _, _ = search_around_sky(sky, sky, guard * u.arcsec)
    expected = np.zeros(200, bool)
    expected[i[split[i] != split[j]]] = True
    np.testing.assert_array_equal(marked, expected)


def test_a_guard_of_nothing_marks_nothing(survey: Survey) -> None:
    assert "guard" not in run(targets(2000), survey, guard_arcsec=0)["split"].to_pylist()


def test_shares_are_those_asked_for(survey: Survey) -> None:
    table = run(targets(4000), survey, guard_arcsec=0)
    found = np.array(table["split"].to_pylist())
    for name, share in {"train": 0.4, "val": 0.2, "calib": 0.2, "test": 0.2}.items():
        assert (found == name).mean() == pytest.approx(share, abs=0.1)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_the_order_of_targets_does_not_matter(survey: Survey, seed: int) -> None:
    table = targets(1000)
    order = np.random.default_rng(seed).permutation(1000)
    assert run(table.take(pa.array(order)), survey).equals(run(table, survey))


def test_a_galaxy_of_two_catalogues_is_kept_once(
    survey: Survey, caplog: pytest.LogCaptureFixture
) -> None:
    table = targets(1000)
    with caplog.at_level("WARNING"):
        doubled = run(pa.concat_tables([table, table.slice(10, 5)]), survey)
    assert doubled.equals(run(table, survey))
    assert "5 rows repeat" in caplog.text


def test_areas_add_up_to_those_of_the_bricks(survey: Survey) -> None:
    table = run(targets(2000), survey)
    bricks = survey.bricks()
    hit = np.isin(bricks.names.astype(str), table["brickname"].to_pylist())
    half = np.deg2rad(build.INNER * build.SCALE / 3600 / 2)
    assert bricks.area_deg2()[0] == pytest.approx(np.rad2deg(2 * half) ** 2, rel=1e-4)
    assert table["area_deg2"].to_numpy().sum() == pytest.approx(bricks.area_deg2()[hit].sum())


def test_an_inverted_split_is_an_error_that_proposes_a_seed_that_fits(survey: Survey) -> None:
    table = targets(300)
    shares = {"train": 0.3, "val": 0.25, "calib": 0.2, "test": 0.25}
    wanted = {"shares": shares, "shares_tolerance": 0.2, "guard_arcsec": 0, "region_nside": 256}
    messages = []
    for seed in range(30):
        try:
            run(table, survey, seed=seed, **wanted)
        except DataError as error:
            messages.append(str(error))
    inverted = [m for m in messages if "was to be larger than" in m]
    assert inverted
    assert "train  asked  30.0%" in inverted[0]
    proposed = int(inverted[0].split("splits.seed = ")[-1].split(",")[0])
    run(table, survey, seed=proposed, **wanted)


def test_a_share_far_off_is_an_error(survey: Survey) -> None:
    with pytest.raises(DataError, match=r"off by more than 0.0001 .*\n.*asked.*got"):
        run(targets(1000), survey, shares_tolerance=1e-4)


def test_too_few_regions_are_an_error_that_says_what_to_change(survey: Survey) -> None:
    with pytest.raises(DataError, match=r"a split is empty[\s\S]*raise splits.region_nside"):
        run(targets(100), survey, region_nside=1)


def test_a_guard_that_empties_a_split_is_an_error(survey: Survey) -> None:
    with pytest.raises(DataError, match="leaves no target in train, val, calib, test"):
        run(targets(1000), survey, guard_arcsec=3600)


def test_no_target_at_all_is_an_error(survey: Survey) -> None:
    with pytest.raises(DataError, match="no target in the area"):
        run(targets(0), survey)


def test_a_brick_outside_the_area_is_an_error(survey: Survey, tmp_path: Path) -> None:
    build.write_bricks(tmp_path, [build.Brick(10.0, 20.0)])
    with pytest.raises(DataError, match="rerun stage targets"):
        run(targets(1000), build.survey_at(tmp_path))
