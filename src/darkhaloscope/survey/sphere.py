"""Which entries of two lists are near each other on the sphere.

Chords of the unit sphere are as exact at the poles and at RA 0 as elsewhere.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Near = tuple[NDArray[np.int64], NDArray[np.float64]]

_ARCSEC = np.degrees(1) * 3600  # per radian


def nearest(ra: ArrayLike, dec: ArrayLike, positions: pa.Table, radius_arcsec: float) -> Near:
    """The nearest entry of a list to each galaxy, of those within whose radius it lies.

    Args:
        ra: Right ascension, degrees, shape (n,).
        dec: Declination, degrees, shape (n,).
        positions: As `positions.read` returns it; an entry's own `radius_arcsec` goes before the
            general one.
        radius_arcsec: Of entries that state none.

    Returns:
        Row of `positions`, -1 where none is that near, and the distance in arcsec, NaN there, each
        of shape (n,). Of entries equally far the first.
    """
    radius = positions["radius_arcsec"].to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
    radius[np.isnan(radius)] = radius_arcsec
    galaxy, entry, separation = pairs(
        ra, dec, positions["ra_deg"].to_numpy(), positions["dec_deg"].to_numpy(),
        float(radius.max(initial=0.0)),
    )  # fmt: skip
    within = separation <= radius[entry]
    galaxy, entry, separation = galaxy[within], entry[within], separation[within]
    order = np.lexsort((entry, separation, galaxy))
    found, at = np.unique(galaxy[order], return_index=True)
    index = np.full(np.size(ra), -1, np.int64)
    distance = np.full(np.size(ra), np.nan)
    index[found], distance[found] = entry[order][at], separation[order][at]
    return index, distance


def one_to_one(
    ra: ArrayLike, dec: ArrayLike, other_ra: ArrayLike, other_dec: ArrayLike, radius_arcsec: float
) -> Near:
    """The entry of a second list that each galaxy is, an entry being one galaxy at most.

    Of all pairs within the radius the nearest goes first; what it leaves over goes on to the next.
    Of pairs equally far the first galaxy's, then the first entry's.

    Args:
        ra: Right ascension of the galaxies, degrees, shape (n,).
        dec: Declination, degrees, shape (n,).
        other_ra: The same of the entries, shape (m,).
        other_dec: The same, shape (m,).
        radius_arcsec: Farthest that an entry may be.

    Returns:
        Row of the second list, -1 where there is none, and the distance in arcsec, NaN there.
    """
    galaxy, entry, separation = pairs(ra, dec, other_ra, other_dec, radius_arcsec)
    index = np.full(np.size(ra), -1, np.int64)
    distance = np.full(np.size(ra), np.nan)
    is_free = np.ones(np.size(other_ra), bool)
    for at in np.lexsort((entry, galaxy, separation)).tolist():
        if index[galaxy[at]] < 0 and is_free[entry[at]]:
            index[galaxy[at]], distance[galaxy[at]] = entry[at], separation[at]
            is_free[entry[at]] = False
    return index, distance


def pairs(
    ra: ArrayLike, dec: ArrayLike, other_ra: ArrayLike, other_dec: ArrayLike, radius_arcsec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of two lists that are within a radius of each other on the sphere.

    Args:
        ra: Right ascension of the first list, degrees, shape (n,).
        dec: Declination, degrees, shape (n,).
        other_ra: The same of the second list, shape (m,).
        other_dec: The same, shape (m,).
        radius_arcsec: The distance, up to a degree; itself included.

    Returns:
        Row of the first list, row of the second, distance in arcsec, each of shape (pairs,).
    """
    mine = _unit_vectors(ra, dec)
    north, other_dec = np.asarray(dec, np.float64), np.asarray(other_dec, np.float64)
    if not len(mine) or not len(other_dec):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    margin = radius_arcsec / 3600 + 1e-9  # a tile's targets are near few of a survey's entries
    beside = (other_dec >= north.min() - margin) & (other_dec <= north.max() + margin)
    rows = np.flatnonzero(beside)
    others = _unit_vectors(np.asarray(other_ra, np.float64)[rows], other_dec[rows])
    reach = 2 * np.sin(radius_arcsec / _ARCSEC / 2) * (1 + 1e-9)
    near = cKDTree(mine).sparse_distance_matrix(cKDTree(others), reach, output_type="ndarray")
    separation = 2 * np.arcsin(near["v"] / 2) * _ARCSEC
    return near["i"].astype(np.int64), rows[near["j"]].astype(np.int64), separation


def _unit_vectors(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    ra, dec = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
