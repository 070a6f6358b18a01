"""Ensemble: one score of several networks for each stamp, and its probability of being a lens.

In:  scores of all members, of the output's set and of calib.
Out: ensemble, one row per stamp of the set, with the columns of scores.

Combination and calibration are fitted on calib, as on the sky: negatives with their sky_weight, a
galaxy once a kind, lenses with the weight that the report gives them. Rows of calib get the values
of fits that have seen neither them nor their region; what thresholds are chosen on is then as good
as new. All other sets get the fit to the whole of calib. A set is never looked at by the fit of its
own values, calib excepted.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.columns import F4, F4_LIST, I2, I8, TEXT, column
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.ensemble import EnsembleConfig
from darkhaloscope.evaluate.rows import codes
from darkhaloscope.ml import calibrate, combine
from darkhaloscope.ml.calibrate import Calibration
from darkhaloscope.ml.combine import Combined
from darkhaloscope.ml.logistic import Floats

log = logging.getLogger(__name__)


def run(
    *,
    rows: pa.Table,
    votes: pa.Table,
    calib: pa.Table,
    calib_votes: pa.Table,
    partition: str,
    config: EnsembleConfig,
) -> pa.Table:
    """Combine and calibrate one set.

    Args:
        rows: Scores of the set by the first member, all columns.
        votes: Member, stamp and logit of the set, of all members.
        calib: As `rows`, of the set calib.
        calib_votes: As `votes`, of the set calib.
        partition: `NAME/set=SET`.
        config: Settings.

    Raises:
        DataError: a member lacks stamps that another has; calib cannot be fitted.
    """
    name, _, of = partition.partition("/set=")
    known = calib.filter(pc.is_valid(calib["label"]))
    logits = aligned(known, calib_votes, where=f"ensemble {name}, set calib")
    combined, calibration = fitted(known, logits, config, where=f"ensemble {name}")
    if of == "calib":
        log.info("ensemble %s: %s", name, described(combined, calibration))
        if not combined.line.slopes.any():
            log.warning("ensemble %s: no member ranks lenses first: all scores are equal", name)
        return _table(known, logits, combined, calibration, config, is_calib=True)
    own = aligned(rows, votes, where=f"ensemble {name}, set {of}")
    return _table(rows, own, combined, calibration, config, is_calib=False)


def aligned(rows: pa.Table, votes: pa.Table, *, where: str) -> Floats:
    """Each member's logit of each row, shape (n, m), float64, members in their order.

    Raises:
        DataError: a member lacks rows, or has more; one message names all such members.
    """
    ids = rows["stamp_id"].combine_chunks()
    members = pc.unique(votes["member"]).to_pylist()
    columns, faults = [], []
    for member in members:
        mine = votes.filter(pc.equal(votes["member"], member))
        place = pc.index_in(ids, value_set=mine["stamp_id"].combine_chunks())
        if place.null_count:
            faults.append(f"  {member} lacks {place.null_count} of {len(ids)} stamps")
        elif mine.num_rows > len(ids):
            faults.append(f"  {members[0]} lacks {mine.num_rows - len(ids)} that {member} has")
        else:
            columns.append(mine["logit"].take(place).to_numpy())
    if faults:
        faults = [f"{where}: the members have not scored the same stamps", *faults]
        raise DataError("\n".join([*faults, "  make all of them current: `dhs run FILE scores`"]))
    if not columns:
        return np.empty((len(ids), 0))
    return np.stack(columns, axis=1).astype(np.float64)


def fitted(
    known: pa.Table, logits: Floats, config: EnsembleConfig, *, where: str
) -> tuple[Combined, Calibration]:
    """The combination of the members and its calibration.

    Args:
        known: Scores of calib with a label.
        logits: Of each member, shape (n, m).
        config: Settings.
        where: What it is, for messages.

    Raises:
        DataError: calib holds one class only, or a logit that is not finite.
    """
    is_lens = known["label"].to_numpy(zero_copy_only=False) == 1
    faults = [f"  {(~mine).sum()} rows and no {n}" for mine, n in (
        (is_lens, "lens"), (~is_lens, "negative")) if not mine.any()]  # fmt: skip
    if n := int((~np.isfinite(logits)).sum()):
        faults.append(f"  {n} logits of members are not finite: score those stamps again")
    if faults:
        said = [f"{where} cannot be fitted on calib:", *faults]
        raise DataError("\n".join(said))
    galaxy, kind = known["target_id"].to_numpy(), np.array(known["kind"].to_pylist())
    region = codes(known["region_id"])
    sky = _floats(known["sky_weight"])
    lens = np.ones(len(sky))
    if config.lens_weight != "equal":
        lens = _floats(known[config.lens_weight])
    weight = np.where(is_lens, lens, sky)
    if n := int((~(np.isfinite(weight) & (weight >= 0))).sum()):
        raise DataError(f"{where} cannot be fitted on calib: {n} rows have no weight on the sky")
    combined = combine.fit(
        logits,
        is_lens,
        weight * calibrate.once(galaxy, kind),
        combine.groups_of(galaxy, region, folds=config.folds),
        how=config.combine if logits.shape[1] > 1 else "mean",
        folds=config.folds,
        seed=config.seed,
    )
    calibration = calibrate.fit(
        combined.out_of_fold,
        is_lens,
        sky,
        kind,
        galaxy,
        region,
        config.prevalence,
        lens_weight=None if config.lens_weight == "equal" else lens,
        how=config.calibration,
        contaminants_times=config.contaminants_times,
        folds=config.folds,
        seed=config.seed,
    )
    return combined, calibration


def described(combined: Combined, calibration: Calibration) -> str:
    """What was fitted, in a line."""
    parts = ", ".join(f"{w:.3f}" for w in combined.weights)
    losses = ", ".join(f"{k} {v:.5f}" for k, v in calibration.log_loss.items())
    return (
        f"{combined.how} with parts {parts}; calibration {calibration.shape} (held-out log-loss "
        f"{losses}); likelihood ratios up to {np.exp(calibration.ceiling_llr[-1]):.3g} are "
        f"supported by {calibration.n_negatives} negatives"
    )


def _table(
    rows: pa.Table,
    logits: Floats,
    combined: Combined,
    calibration: Calibration,
    config: EnsembleConfig,
    *,
    is_calib: bool,
) -> pa.Table:
    """The scores of the set with what the committee says."""
    schema = schemas.ensemble(config.bands)
    if not rows.num_rows:
        return schemas.empty(schema)
    score = combined.out_of_fold if is_calib else combined.scores(logits)
    llr = calibration.out_of_fold if is_calib else calibration.llr(score)
    n, m = logits.shape
    contaminated = calibration.probability(score, contaminated=True)
    made: dict[str, Any] = {
        "logit": pa.array(score.astype(np.float32)),
        "probability": calibrate.at_prevalence(llr, calibration.prevalence),
        "probability_contaminated": contaminated,
        "disagreement": pa.nulls(n, F4)
        if m == 1
        else pa.array(combined.disagreement(logits).astype(np.float32)),
        "member_logits": pa.ListArray.from_arrays(
            pa.array(np.arange(n + 1) * m, pa.int32()), logits.astype(np.float32).ravel()
        ).cast(F4_LIST),
        "fold": pa.array(combined.fold.astype(np.int16)) if is_calib else pa.nulls(n, I2),
    }
    return pa.table([made.get(f.name, _kept(rows, f.name)) for f in schema], schema=schema)


def _kept(rows: pa.Table, name: str) -> Any:
    return rows[name] if name in rows.column_names else None


def _floats(values: pa.ChunkedArray) -> Floats:
    """Numbers as float64, null as NaN."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _votes(bands: schemas.Bands) -> pa.Schema:
    """What is read of every member: the logit, and whose it is."""
    del bands
    return pa.schema(
        [
            column("member", TEXT, "NAME/round=k"),
            column("stamp_id", I8, "stamp"),
            column("logit", F4, "the member's output"),
        ]
    )


STAGE = Stage(
    name="ensemble",
    version=1,
    run=run,
    inputs=(
        Input("scores", schemas.scores, scope="whole", rounds="first", handed_as="rows"),
        Input("scores", _votes, scope="whole", handed_as="votes"),
        Input(
            "scores",
            schemas.scores,
            scope="whole",
            sets=("calib",),
            rounds="first",
            handed_as="calib",
        ),
        Input("scores", _votes, scope="whole", sets=("calib",), handed_as="calib_votes"),
    ),
    output=schemas.ensemble,
    partition="ensemble/set",
    needs=("partition",),
)
