"""Training rows from the galaxies that earlier rounds took for lenses.

A galaxy counts once, however many rounds chose it, with its latest weight. One that is up for
review or left out in any round is trained on in no way: not as it is, and under no injection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError

NAMED = 10  # galaxies in a message

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining adds to the training rows, and takes from them.

    Attributes:
        rows: Rows of the manifest's schema, kind `mined`, label 0, nothing to paint; by galaxy.
        weights: Of each in the loss, in (0, 1], (n,).
        left_out: Galaxies that may not be trained on, (m,).
    """

    rows: pa.Table
    weights: NDArray[np.float32]
    left_out: Ids

    def taken(self, mix: Mapping[Any, float]) -> "Mined":
        """The same, without rows where the mix asks for none."""
        if mix.get(schemas.MINED, 0) > 0:
            return self
        return replace(self, rows=self.rows[:0], weights=self.weights[:0])

    def without_left_out(self, rows: pa.Table) -> pa.Table:
        """Rows whose galaxy may be trained on."""
        if not len(self.left_out):
            return rows
        is_out = pc.is_in(rows["target_id"], value_set=pa.array(self.left_out))
        return rows.filter(pc.invert(is_out))


def training_rows(mined: pa.Table | None, manifest: pa.Table, splits: pa.Table) -> Mined:
    """What the earlier rounds' tables say to a training.

    Args:
        mined: Of all earlier rounds, in any order; None: this is the first.
        manifest: All rows; each mined galaxy has one of kind `sky`.
        splits: All targets.

    Raises:
        DataError: a galaxy is not of train, is known for a lens, has no row of kind sky or a weight
            outside (0, 1], or the rounds do not agree on the test set. One message says it all.
    """
    if mined is None or not mined.num_rows:
        return Mined(manifest[:0], np.zeros(0, np.float32), np.zeros(0, np.int64))
    target, use = mined["target_id"].to_numpy(), np.asarray(mined["use"].to_pylist(), np.str_)
    left_out = np.unique(target[use != "negative"])
    latest = _latest(mined.filter(pc.equal(mined["use"], "negative")))
    ids = latest["target_id"].to_numpy()
    is_out = np.isin(ids, target[use == "review"])
    kept, weights = ids[~is_out], latest["weight"].to_numpy()[~is_out]
    sky = manifest.filter(pc.equal(manifest["kind"], "sky"))
    at = pc.index_in(pa.array(kept), value_set=sky["target_id"].combine_chunks())
    faults = [
        *_other_tests(mined),
        *_not_of_train(np.unique(target), splits),
        *_lenses(ids, target[use == "left_out"], manifest),
        *_named(kept[at.is_null().to_numpy(zero_copy_only=False)], "without a row of kind sky"),
        *_named(kept[~((weights > 0) & (weights <= 1))], "with a weight outside (0, 1]"),
    ]
    if faults:
        raise DataError(
            f"the mined galaxies cannot be trained on: {'; '.join(faults)}. Nothing of val, calib "
            "or test and no lens may be a mined negative: remove mined/ of this model and run again"
        )
    return Mined(_as_negatives(sky.take(at)), weights.astype(np.float32), left_out)


def _latest(rows: pa.Table) -> pa.Table:
    """Each galaxy's row of the latest round, by galaxy."""
    target, number = rows["target_id"].to_numpy(), rows["round"].to_numpy()
    order = np.lexsort((number, target))
    is_last = np.ones(len(order), bool)
    is_last[:-1] = target[order][1:] != target[order][:-1]
    return rows.take(pa.array(order[is_last]))


def _as_negatives(rows: pa.Table) -> pa.Table:
    """Rows of kind sky as negatives to be trained on."""
    for name, value in (("kind", schemas.MINED), ("label", 0)):
        at = rows.schema.get_field_index(name)
        field = rows.schema.field(at)
        column = pa.repeat(pa.scalar(value, field.type), rows.num_rows)
        rows = rows.set_column(at, field, column)
    return rows


def _other_tests(mined: pa.Table) -> list[str]:
    """Rounds whose test set is not that of the others."""
    seen = mined.group_by(["round", "test_sha256"]).aggregate([])
    if len(set(seen["test_sha256"].to_pylist())) == 1:
        return []
    rounds = sorted(zip(seen["round"].to_pylist(), seen["test_sha256"].to_pylist(), strict=True))
    said = ", ".join(f"{sha[:12]} in round {number}" for number, sha in rounds)
    return [f"the test set was not the same in all rounds ({said})"]


def _not_of_train(ids: Ids, splits: pa.Table) -> list[str]:
    """Galaxies of other splits, or of none."""
    at = pc.index_in(pa.array(ids), value_set=splits["target_id"].combine_chunks())
    split = np.asarray(pc.fill_null(splits["split"].take(at), "no split").to_pylist(), np.str_)
    return [
        fault
        for name in np.unique(split[split != "train"]).tolist()
        for fault in _named(ids[split == name], f"of {name}")
    ]


def _lenses(ids: Ids, left_out: Ids, manifest: pa.Table) -> list[str]:
    """Negatives that another round leaves out as lenses, or that the manifest holds as lenses."""
    is_real = pc.and_(pc.equal(manifest["label"], 1), pc.not_equal(manifest["family"], "injection"))
    known = np.union1d(left_out, manifest.filter(is_real)["target_id"].to_numpy())
    return _named(np.intersect1d(ids, known), "known for lenses")


def _named(ids: Ids, what: str) -> list[str]:
    """One fault, with the galaxies that have it; none where none has."""
    if not len(ids):
        return []
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return [f"{len(ids)} {what} (target_id {', '.join(map(str, ids[:NAMED]))}{more})"]
