from pathlib import Path

import numpy as np
import pytest
import survey_builders as build
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.core.errors import DataError, SchemaError
from darkhaloscope.core.settings.survey import Box
from darkhaloscope.survey import bricks, layout


def table(tmp_path: Path, *made: build.Brick) -> bricks.Bricks:
    build.write_bricks(tmp_path, made)
    return bricks.load(tmp_path / layout.bricks_path())


def box(ra: tuple[float, float], dec: tuple[float, float]) -> Box:
    return Box(ra_deg=ra, dec_deg=dec)


def names(found: bricks.Bricks) -> list[str]:
    return found.names.astype(str).tolist()


def test_bricks_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = table(tmp_path, build.Brick(30), build.Brick(10), build.Brick(20))
    assert names(found) == ["0100p000", "0200p000", "0300p000"]
    assert found.ra.tolist() == [10, 20, 30]


def test_names_are_found_and_unknown_ones_are_not(tmp_path: Path) -> None:
    found = table(tmp_path, build.Brick(10), build.Brick(20))
    asked = np.array([b"0200p000", b"0000p000", b"9999p999", b"0100p000"], "S8")
    assert found.index(asked).tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        ((9.0, 10.5), (-1.0, 1.0), ["0100p000"]),
        ((350.0, 11.0), (-1.0, 1.0), ["0000p000", "0100p000"]),
        ((359.0, 0.001), (-1.0, 1.0), ["0000p000"]),
        ((359.999, 359.9991), (-1.0, 1.0), ["0000p000"]),
        ((0.0, 360.0), (-1.0, 1.0), ["0000p000", "0100p000", "2000p000"]),
        ((10.0, 10.0001), (0.0, 0.0001), ["0100p000"]),
    ],
)
def test_a_box_takes_the_bricks_that_it_touches(
    tmp_path: Path, ra: tuple[float, float], dec: tuple[float, float], expected: list[str]
) -> None:
    found = table(tmp_path, build.Brick(0.0), build.Brick(10), build.Brick(200))
    assert names(found.within([box(ra, dec)])) == expected


@settings(deadline=None, max_examples=60)
@given(
    low=st.floats(0, 360),
    width=st.floats(0.001, 359.9),
    brick_low=st.floats(0, 360),
    brick_width=st.floats(0.001, 1),
)
def test_overlap_in_right_ascension_is_that_of_arcs_on_a_circle(
    low: float, width: float, brick_low: float, brick_width: float
) -> None:
    one = np.array
    made = bricks.Bricks(
        one([b"x"], "S8"),
        *(one([v]) for v in (0.0, 0.0, brick_low, (brick_low + brick_width) % 360, -0.1, 0.1)),
    )
    got = bool(made.overlaps((low, (low + width) % 360), (-1, 1))[0])
    # three copies of the brick side by side against the box on a line
    starts = [brick_low - 360, brick_low, brick_low + 360]
    gaps = [min(s + brick_width, low + width) - max(s, low) for s in starts]
    if min(abs(gap) for gap in gaps) > 1e-6:
        assert got == (max(gaps) > 0)


def test_named_bricks_are_taken_and_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    found = table(tmp_path, build.Brick(10), build.Brick(20))
    assert names(found.within(("0200p000",))) == ["0200p000"]
    with pytest.raises(DataError, match="no brick 0300p000"):
        found.within(("0200p000", "0300p000"))


def test_an_area_without_bricks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="touches no brick"):
        table(tmp_path, build.Brick(10)).within([box((50, 51), (0, 1))])


def test_the_area_of_all_bricks_of_a_sphere_is_the_sphere() -> None:
    edges = np.linspace(-90, 90, 19)
    ra1, dec1 = (a.ravel() for a in np.meshgrid(np.arange(0, 360, 20.0), edges[:-1]))
    name = np.arange(len(ra1)).astype("S8")
    sphere = bricks.Bricks(name, ra1, dec1, ra1, (ra1 + 20) % 360, dec1, dec1 + 10)
    assert sphere.area_deg2().sum() == pytest.approx(4 * np.pi * (180 / np.pi) ** 2)


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bricks.fits"
    build.write_fits_table(path, {"BRICKNAME": np.array([b"0100p000"]), "RA": np.array([1.0])})
    with pytest.raises(SchemaError, match="lacks dec, ra1, ra2, dec1, dec2"):
        bricks.load(path)


@pytest.mark.real
def test_the_real_tables_of_bricks_are_read(shared_data: Path) -> None:
    folder = shared_data / "dr6-brick-0959p805"
    found = bricks.load(folder / "survey-bricks.fits.gz")
    assert names(found) == ["0959p805"]
    assert found.area_deg2()[0] == pytest.approx(0.0614, rel=0.01)
    assert bricks.names_in(folder / "survey-bricks-dr6.fits.gz") == {"0959p805"}
