"""What was drawn: the injected lenses of a set by their numbers, as drawn and as weighted.

A prior that nobody looks at is a figure that nobody can judge. Every row says how many lenses it
is of, and how many of equal weight they are worth.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from darkhaloscope.evaluate.rows import Flags, Floats

QUANTITIES = (  # in the order of the table
    "theta_e_arcsec",
    "lens_z",
    "src_z",
    "src_mag_r",
    "src_r_eff_arcsec",
    "magnification",
    "arc_snr",
)


def quantiles(values: Floats, weight: Floats, at: tuple[float, ...]) -> list[float]:
    """Weighted quantiles of the finite values: the least value with at least that share below it.

    Args:
        values: Shape (n,); NaN where a row has none.
        weight: At least 0, shape (n,).
        at: Shares within [0, 1].

    Returns:
        One value a share; NaN where no finite value has a weight.

    Examples:
        >>> quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), (0.25, 0.5, 1.0))
        [1.0, 2.0, 3.0]
    """
    known = np.isfinite(values) & (weight > 0)
    values, weight = values[known], weight[known]
    if not len(values):
        return [float("nan")] * len(at)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    # a share of the whole, with room for the sum's own rounding
    place = np.searchsorted(below, np.asarray(at) * below[-1] * (1 - 1e-12))
    return [float(v) for v in values[order][np.minimum(place, len(values) - 1)]]


def effective_size(weight: Floats) -> float:
    """How many rows of equal weight tell as much: (sum w)^2 / sum w^2; 0 without weight.

    Examples:
        >>> effective_size(np.array([1.0, 1.0, 0.0]))
        2.0
    """
    total = float((weight**2).sum())
    return float(weight.sum()) ** 2 / total if total > 0 else 0.0


def summary(
    name: str, columns: Mapping[str, Floats], *, weight: Floats | None, visible: Floats | None
) -> dict[str, Any]:
    """One row of the table of what was drawn.

    Args:
        name: Whose row it is.
        columns: Some of `QUANTITIES`, each (n,), NaN where a row has no value.
        weight: Weight to the population, (n,); None: each row counts once.
        visible: 1 where a lens can be told from the ground, 0 where not, NaN where that was not
            measured, (n,); None: of no row.

    Returns:
        `n`, `effective_n`, `is_weighted`, `visible_share` (None where not measured) and for each
        quantity `low`, `median` and `high` (16, 50 and 84 %), NaN where there is no value.
    """
    n = len(next(iter(columns.values())))
    given = np.ones(n) if weight is None else weight
    share = None
    if visible is not None and (known := np.isfinite(visible) & (given > 0)).any():
        share = float(np.average(visible[known], weights=given[known]))
    spreads = {}
    for quantity in QUANTITIES:
        values = columns.get(quantity, np.full(n, np.nan))
        low, median, high = quantiles(values, given, (0.16, 0.5, 0.84))
        spreads[quantity] = {"low": low, "median": median, "high": high}
    return {
        "name": name,
        "n": n,
        "effective_n": effective_size(given),
        "is_weighted": weight is not None,
        "visible_share": share,
        "spreads": spreads,
    }


def usable_weight(weight: Floats) -> Floats | None:
    """The weights, or None where a row has none: a training prior stands for no population."""
    return weight if len(weight) and bool(np.isfinite(weight).all()) else None


def part(columns: Mapping[str, Floats], rows: Flags) -> dict[str, Floats]:
    """Some of the rows of every column."""
    return {name: values[rows] for name, values in columns.items()}
