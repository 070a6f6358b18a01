"""A committee's score: its members' logits combined and calibrated on `calib`.

The functions are those of the stage `ensemble`. Rows stand in the same order for all members, as
one pass has scored them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from darkhaloscope.bench.frozen import scoring
from darkhaloscope.bench.frozen.figures import CLAIMED_AT
from darkhaloscope.bench.frozen.recipes import Committee
from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.rows import Floats, Rows, from_scores
from darkhaloscope.ml import calibrate, combine

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Combined:
    """A committee's scores.

    Attributes:
        calib: Scores of `calib`, each of a fit that has not seen its row.
        scored: Scores of the set asked for, with `probability` and `disagreement`.
        weights: Each member's part, adding up to 1.
        shape: Of the calibration: `beta` or `tail`.
    """

    calib: pa.Table
    scored: pa.Table
    weights: tuple[float, ...]
    shape: str


def combined(committee: Committee, calib: Sequence[Path], scored: Sequence[Path]) -> Combined:
    """Combine the members' scores.

    Args:
        committee: How.
        calib: Folder of each member's scores of `calib`.
        scored: Folder of each member's scores of the set asked for.

    Raises:
        DataError: the members were not scored on the same rows.
    """
    tables, logits = _logits(calib)
    rows = from_scores(tables, weight=None, where=f"scores of {committee.name} on calib")
    sky = np.ones(len(rows)) if rows.sky_weight is None else rows.sky_weight
    groups = combine.groups_of(rows.galaxy, rows.region, folds=FOLDS)
    fitted = combine.fit(
        logits,
        rows.is_lens,
        np.where(rows.is_lens, 1.0, sky),
        groups,
        how=cast("combine.How", committee.how),
        folds=FOLDS,
        seed=committee.seed,
    )
    calibration = _calibration(rows, fitted.out_of_fold, committee.seed)
    asked, of_asked = _logits(scored)
    score = fitted.scores(of_asked)
    made = _with(
        asked,
        logit=score,
        probability=calibration.probability(score),
        disagreement=fitted.disagreement(of_asked),
    )
    return Combined(
        calib=_with(tables, logit=fitted.out_of_fold),
        scored=made,
        weights=tuple(float(w) for w in fitted.weights),
        shape=calibration.shape,
    )


def _calibration(rows: Rows, score: Floats, seed: int) -> calibrate.Calibration:
    return calibrate.fit(
        score,
        rows.is_lens,
        rows.sky_weight,
        np.asarray(rows.kinds)[rows.kind],
        rows.galaxy,
        rows.region,
        CLAIMED_AT,
        folds=FOLDS,
        seed=seed,
    )


def _logits(folders: Sequence[Path]) -> tuple[pa.Table, Floats]:
    """The first member's table, and all members' logits, (n, m)."""
    tables = [scoring.table(folder) for folder in folders]
    first = tables[0]["stamp_id"]
    for folder, table in zip(folders, tables, strict=True):
        if not table["stamp_id"].equals(first):
            raise DataError(f"{folder} holds other stamps than {folders[0]}; delete it and rerun")
    logits = [table["logit"].to_numpy() for table in tables]
    return tables[0], np.stack(logits, 1).astype(np.float64)


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    """A table with columns of numbers replaced or added, float32."""
    for name, values in columns.items():
        made = pa.array(np.asarray(values, np.float32))
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, made)
        else:
            table = table.append_column(name, made)
    return table
