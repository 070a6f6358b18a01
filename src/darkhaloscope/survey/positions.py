"""Lists of positions on the sky, such as known lenses, and the nearest entry to a galaxy.

Columns are known by these names, in any case of letters. The first pair of position columns that a
file has whole is taken, of the others the first name:

ra, dec   ra_deg dec_deg, _RAJ2000 _DEJ2000, ra dec, RAJ2000 DEJ2000 (or DECJ2000), RA_ICRS DE_ICRS
          (or DEC_ICRS), RADEG DECDEG, TARGET_RA TARGET_DEC, ALPHA_J2000 DELTA_J2000
name      name, lens_name, system_name, id, target_id, galaxy_id; none: `row 1` and so on
kind      kind, class, type
grade     grade, grading, expert_grade
radius    radius_arcsec: within which a galaxy is this entry

Of two columns that differ only in case, one spelt as above goes first, then the file's order. A
unit in brackets behind a name, `RA [deg]`, is read as the column's unit.
Positions are ICRS (J2000) degrees: RA in [0, 360], Dec in [-90, 90]. A row without one, or outside,
refuses the file: left out in silence, a known lens would be mined as a negative.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy import units
from numpy.typing import NDArray

from darkhaloscope.core.columns import F8, TEXT, column, conform, optional
from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import tables
from darkhaloscope.survey.sphere import nearest

PLACES = (
    ("ra_deg", "dec_deg"),
    ("_RAJ2000", "_DEJ2000"),
    ("ra", "dec"),
    ("RAJ2000", "DEJ2000"),
    ("RAJ2000", "DECJ2000"),
    ("RA_ICRS", "DE_ICRS"),
    ("RA_ICRS", "DEC_ICRS"),
    ("RADEG", "DECDEG"),
    ("TARGET_RA", "TARGET_DEC"),
    ("ALPHA_J2000", "DELTA_J2000"),
)
NAMES = ("name", "lens_name", "system_name", "id", "target_id", "galaxy_id")
KINDS = ("kind", "class", "type")
GRADES = ("grade", "grading", "expert_grade")
RADIUS = "radius_arcsec"

SCHEMA = pa.schema(
    [
        column("name", TEXT, "what the list calls it"),
        column("ra_deg", F8, "right ascension, ICRS", unit="deg"),
        column("dec_deg", F8, "declination, ICRS", unit="deg"),
        optional("kind", TEXT, "as the list says"),
        optional("grade", TEXT, "as the list says"),
        optional("radius_arcsec", F8, "a galaxy within it is this entry", unit="arcsec"),
    ]
)

__all__ = ["SCHEMA", "nearest", "read"]

_NAMED = 8  # rows that a message names


def read(address: str) -> pa.Table:
    """A list of positions from CSV, TSV, ECSV, FITS, VOTable or Parquet.

    Args:
        address: A path or an address.

    Returns:
        One row per entry, in the file's order, as `SCHEMA`.

    Raises:
        DataError: the file is not there or no table, has no position columns or none in degrees,
            or rows without a position on the sky; one message names the rows.
    """
    found = tables.read(address, lambda names: wanted(names, where=address))
    ra_name, dec_name = place_columns(found.column_names, where=address)
    ra, dec = (degrees(found, name, where=address) for name in (ra_name, dec_name))
    check(ra, dec, where=address)
    columns = {
        "name": names_of(found),
        "ra_deg": pa.array(ra),
        "dec_deg": pa.array(dec),
        "kind": _text(found, KINDS),
        "grade": _text(found, GRADES),
        "radius_arcsec": _radii(found, where=address),
    }
    return conform(pa.table(columns), SCHEMA, where=address)


def wanted(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Columns of a file that say what a list of positions does.

    Raises:
        DataError: none says where.
    """
    others = (first(candidates, names) for candidates in (NAMES, KINDS, GRADES, (RADIUS,)))
    found = (*place_columns(names, where=where), *(name for name in others if name is not None))
    return tuple(dict.fromkeys(found))


def place_columns(names: Sequence[str], *, where: str) -> tuple[str, str]:
    """The columns of right ascension and declination, by the order of `PLACES`.

    Raises:
        DataError: there is no such pair.
    """
    for pair in PLACES:
        ra, dec = (first((name,), names) for name in pair)
        if ra is not None and dec is not None:
            return ra, dec
    pairs = ", ".join(f"{ra} and {dec}" for ra, dec in PLACES)
    raise DataError(
        f"{where} says nowhere where its entries are: expected, in degrees, {pairs}; "
        f"it has {', '.join(list(names)[:20]) or 'no columns'}; rename the columns"
    )


def first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    """The first candidate that a file has, as the file spells it.

    Examples:
        >>> first(("ra_deg", "ra"), ["Ra", "RA", "dec"])
        'Ra'
        >>> first(("ra_deg", "ra"), ["RA", "ra"])
        'ra'
    """
    for candidate in candidates:
        if candidate in names:
            return candidate
        found = next((name for name in names if _bare(name) == candidate.lower()), None)
        if found is not None:
            return found
    return None


def _bare(name: str) -> str:
    """A column's name in small letters, without a unit in brackets."""
    return name.partition("[")[0].strip().lower()


def degrees(table: pa.Table, name: str, *, where: str) -> NDArray[np.float64]:
    """A column of angles in degrees; NaN where it has none.

    Raises:
        DataError: it holds text, such as sexagesimal hours, or a unit that is no angle.
    """
    values = table[name]
    if not is_number(values.type):
        shown = next((v for v in values.to_pylist() if v is not None), "")
        raise DataError(
            f"{where}: column {name} holds text ({str(shown)!r}), expected degrees as numbers; "
            "sexagesimal positions are converted by astropy: "
            'SkyCoord(ra, dec, unit=("hourangle", "deg"))'
        )
    numbers = values.cast(F8).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    stated = (table.field(name).metadata or {}).get(b"unit", b"").decode()
    unit = stated or name.partition("[")[2].rstrip("] ")
    if not unit:
        return np.asarray(numbers)
    try:
        return np.asarray(numbers * units.Unit(unit).to(units.deg), np.float64)
    except (ValueError, units.UnitConversionError) as error:
        raise DataError(
            f"{where}: column {name} is in {unit!r}, which is no angle; expected degrees"
        ) from error


def check(ra: NDArray[np.float64], dec: NDArray[np.float64], *, where: str) -> None:
    """Refuse positions that are not on the sky.

    Raises:
        DataError: one message names the rows, the first below the column names being 1.
    """
    _refuse(
        np.flatnonzero(~is_on_sky(ra, dec)),
        "no position with RA in [0, 360] and Dec in [-90, 90]",
        where,
    )


def is_on_sky(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """RA in [0, 360] and Dec in [-90, 90], degrees; NaN is not."""
    with np.errstate(invalid="ignore"):
        return np.asarray((ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))


def names_of(table: pa.Table, candidates: Sequence[str] = NAMES) -> pa.ChunkedArray:
    """What a list calls its entries: the first of some columns, or `row 1` and so on."""
    rows = pa.array([f"row {n + 1}" for n in range(table.num_rows)], TEXT)
    return pc.coalesce(_text(table, candidates), rows)


def is_number(kind: pa.DataType) -> bool:
    """Neither text nor, as Arrow takes `00:04:08` for, a time; a column without values is one."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _text(table: pa.Table, candidates: Sequence[str]) -> pa.ChunkedArray:
    """The first of some columns as text; null where there is none."""
    name = first(candidates, table.column_names)
    if name is None:
        return pa.chunked_array([pa.nulls(table.num_rows, TEXT)])
    return table[name].cast(TEXT)


def _radii(table: pa.Table, *, where: str) -> pa.ChunkedArray:
    name = first((RADIUS,), table.column_names)
    if name is None:
        return pa.nulls(table.num_rows, F8)
    if not is_number(table[name].type):
        raise DataError(f"{where}: column {name} holds text, expected arcsec as numbers")
    radius = table[name].cast(F8)
    values = radius.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero((values <= 0) | (values > 3600))
    _refuse(wrong, f"a {name} that is not above 0 and at most 3600", where)
    return radius


def _refuse(rows: NDArray[np.int64], what: str, where: str) -> None:
    if not len(rows):
        return
    named = ", ".join(str(row + 1) for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    raise DataError(
        f"{where}: {len(rows)} rows have {what}: row {named}{more} (row 1 is the first below the "
        "names); correct them or take them out"
    )
