"""Positions that are one object: groups that chains of near pairs connect."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def merge(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], radius_arcsec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group positions that chains of pairs nearer than a radius connect.

    Args:
        ra_deg: Right ascension, degrees, shape (n,), best position first.
        dec_deg: Declination, degrees, shape (n,).
        radius_arcsec: Pairs at this distance or nearer are joined, arcsec.

    Returns:
        Index of the first position of each group, rising, and the number of positions in it.

    Examples:
        >>> first, n = merge(np.array([10.0, 20.0, 10.0001]), np.zeros(3), 1.0)
        >>> first.tolist(), n.tolist()
        ([0, 1], [2, 1])
    """
    if not len(ra_deg):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    on_sphere = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    pairs = cKDTree(on_sphere).query_pairs(chord, output_type="ndarray")
    n = len(ra_deg)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, group = connected_components(links, directed=False)
    _, first, count = np.unique(group, return_index=True, return_counts=True)
    order = np.argsort(first)
    return first[order].astype(np.int64), count[order].astype(np.int64)
