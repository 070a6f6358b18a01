"""Splits: which galaxies train, choose, calibrate and test.

In:  targets of all catalogues.
Out: splits, the same rows with region, split and the sky that each stands for; by tile, brick, id.

Whole regions of the sky are hashed to a split: neighbours, which share pixels, seeing and cosmic
structure, stay together, and a region keeps its split when the survey grows. Along the borders, a
target nearer than the guard's width to one of another split is `guard`: no split uses it.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.splits import SplitsConfig
from darkhaloscope.survey import bricks
from darkhaloscope.survey.files import Survey

SPLITS = ("train", "val", "calib", "test")

_SEEDS_TRIED = range(1, 1001)
_LOG = logging.getLogger(__name__)

Numbers = NDArray[np.float64]
Index = NDArray[np.int64]


def run(targets: pa.Table, *, survey: Survey, config: SplitsConfig) -> pa.Table:
    """Give each target its region and split.

    Args:
        targets: The targets of all catalogues.
        survey: The survey; its bricks say what sky a target stands for.
        config: Regions, shares and the guard's width.

    Raises:
        DataError: there is no target, or a split is empty, inverted, or too far from its share.
    """
    if targets.num_rows == 0:
        raise DataError(
            "no target in the area: no galaxy of the catalogues passes the cuts of targets.variant;"
            " check survey.area, or choose a wider variant"
        )
    rows = _unique_in_order(targets)
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    region = bricks.pixels(ra, dec, config.region_nside)
    split = _assign(region, config)
    is_guard = near_another_split(ra, dec, split, config.guard_arcsec)
    _check_left(split, is_guard, config)
    names = np.where(is_guard, "guard", np.array(SPLITS)[split])
    columns = {
        "region_id": pa.array(region),
        "split": pa.array(names.tolist(), pa.string()),
        "area_deg2": pa.array(_area_deg2(rows, survey.bricks())),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return schemas.conform(rows, schemas.splits(config.bands), where="splits")


def _unique_in_order(targets: pa.Table) -> pa.Table:
    """One row a galaxy, by tile, brick and id; catalogues overlap where bricks do."""
    order = [("tile", "ascending"), ("brickname", "ascending"), ("target_id", "ascending")]
    rows = targets.take(pc.sort_indices(targets, sort_keys=order))
    _, first = np.unique(rows["target_id"].to_numpy(), return_index=True)
    n_repeated = rows.num_rows - len(first)
    if n_repeated:
        _LOG.warning("%d rows repeat a galaxy of another catalogue and are dropped", n_repeated)
    return rows.take(pa.array(np.sort(first)))


def _assign(region: Index, config: SplitsConfig) -> Index:
    """Split of each target, as a number, shape (n,); shares are checked."""
    regions, row, counts = np.unique(region, return_inverse=True, return_counts=True)
    asked = np.array([getattr(config.shares, name) for name in SPLITS])
    split_of = _split_of(regions, asked, config.seed)
    got = _shares(split_of, counts)
    if problem := _problem(asked, got, config.shares_tolerance):
        raise DataError(_refusal(problem, asked, got, regions, counts, config))
    return np.asarray(split_of[row])


def _split_of(regions: Index, asked: Numbers, seed: int) -> Index:
    """Split of each region: a draw that belongs to the region, whatever else there is."""
    return keys.choice(regions, asked, seed=seed, stream="split")


def _shares(split_of: Index, counts: Index) -> Numbers:
    return np.asarray(np.bincount(split_of, counts, minlength=len(SPLITS)) / counts.sum())


def _problem(asked: Numbers, got: Numbers, tolerance: float) -> str | None:
    """What is wrong with the shares, or None."""
    if (got == 0).any():
        return "a split is empty"
    inverted = (asked[:, None] > asked) & (got[:, None] < got)
    if inverted.any():
        more, less = np.argwhere(inverted)[0]
        return f"{SPLITS[more]} was to be larger than {SPLITS[less]} and is smaller"
    if (np.abs(got - asked) > tolerance).any():
        return f"a share is off by more than {tolerance:g}"
    return None


def _refusal(
    problem: str,
    asked: Numbers,
    got: Numbers,
    regions: Index,
    counts: Index,
    config: SplitsConfig,
) -> str:
    """The message of shares that went wrong, with a seed that does better."""
    table = [
        f"  {name:<6} asked {a:6.1%}  got {g:6.1%}"
        for name, a, g in zip(SPLITS, asked, got, strict=True)
    ]
    fits = [
        seed
        for seed in sorted(_SEEDS_TRIED, key=lambda seed: abs(seed - config.seed))
        if not _problem(
            asked, _shares(_split_of(regions, asked, seed), counts), config.shares_tolerance
        )
    ][:1]
    advice = (
        f"set splits.seed = {fits[0]}, which fits"
        if fits
        else f"no seed from 1 to {_SEEDS_TRIED[-1]} fits: raise splits.region_nside for more "
        "regions, or splits.shares_tolerance"
    )
    where = f"{len(regions)} regions of {counts.sum()} targets, splits.seed = {config.seed}"
    return "\n".join([f"the splits miss their shares: {problem} ({where})", *table, advice])


def near_another_split(
    ra_deg: Numbers, dec_deg: Numbers, split: Index, guard_arcsec: float
) -> NDArray[np.bool_]:
    """Which targets have one of another split nearer than the guard's width.

    Exact and symmetric: of a pair across a border both are marked, so that afterwards no two
    unmarked targets of different splits are nearer than `guard_arcsec`.

    Args:
        ra_deg: Right ascension, shape (n,).
        dec_deg: Declination, shape (n,).
        split: Split as a number, shape (n,).
        guard_arcsec: Width of the guard band; 0 marks nothing.

    Returns:
        Flags, shape (n,).
    """
    marked = np.zeros(len(split), bool)
    if guard_arcsec <= 0:
        return marked
    where = _unit_vectors(ra_deg, dec_deg)
    chord = 2 * np.sin(np.deg2rad(guard_arcsec / 3600) / 2)
    for one in np.unique(split):
        own, others = split == one, split != one
        if own.any() and others.any():
            distance, _ = cKDTree(where[own]).query(where[others], distance_upper_bound=chord)
            marked[others] |= np.isfinite(distance)
    return marked


def _unit_vectors(ra_deg: Numbers, dec_deg: Numbers) -> Numbers:
    """Positions on the unit sphere, shape (n, 3)."""
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    parts: Sequence[Numbers] = (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))
    return np.stack(parts, axis=1)


def _check_left(split: Index, is_guard: NDArray[np.bool_], config: SplitsConfig) -> None:
    """Refuse a guard band that leaves a split empty."""
    left = np.bincount(split[~is_guard], minlength=len(SPLITS))
    empty = [name for name, count in zip(SPLITS, left, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"a guard band of {config.guard_arcsec:g} arcsec leaves no target in "
            f"{', '.join(empty)}: regions are too small for it; lower splits.region_nside or "
            "splits.guard_arcsec"
        )
    _LOG.info("%d of %d targets are guard", int(is_guard.sum()), len(split))


def _area_deg2(rows: pa.Table, area: bricks.Bricks) -> Numbers:
    """The sky of each target's brick, shared among the brick's targets; adds up to the bricks'."""
    brick = area.index(np.array(rows["brickname"].to_pylist(), "S8"))
    if (brick < 0).any():
        unknown = rows["brickname"][int(np.argmin(brick))].as_py()
        raise DataError(
            f"brick {unknown} of the targets is not in the survey's area; rerun stage targets"
        )
    per_brick = np.bincount(brick, minlength=len(area.names))
    return np.asarray(area.area_deg2()[brick] / per_brick[brick])


def _external(partition: str, tables: Mapping[str, object], survey: Survey) -> str:
    """The area and its bricks."""
    return survey.digest


STAGE = Stage(
    name="splits",
    version=1,
    run=run,
    inputs=(Input("targets", schemas.targets, "whole"),),
    output=schemas.splits,
    partition="whole",
    needs=("survey",),
    splits_output_by="tile",
    external=_external,
)
