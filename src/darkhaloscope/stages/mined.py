"""Mined: galaxies of train that a network takes for lenses, and what the next round does with them.

In:  scores of the round's network, of the sky and of calib; the manifest, for what stands in which
     split; what earlier rounds mined; lists of known lenses, of grades and of false positives.
Out: mined, one row a galaxy: negative, up for review, or left out; with its weight.

Of what scores highest a good part are lenses: at a false-positive rate of 1e-4, with one lens in
8,000 targets and half of them found, 39 in 100 (docs/mining.md). So nothing is a negative merely
because it was found. Known lenses and what is graded A, B or C are left out, however they score;
what is graded otherwise, or listed as a false positive, is a negative of full weight, however it
scores; the rest weighs 1 - p, with p the probability of a lens at the stated prevalence, and above
`review_above` waits for a person. Only galaxies of train are looked at: one that stands elsewhere
too, or a test set that is not that of the rounds before, refuses the round.
"""

import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.mined import MinedConfig
from darkhaloscope.evaluate import posterior, rows
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.survey import merging, sphere

log = logging.getLogger(__name__)

NEGATIVE, REVIEW, LEFT_OUT = "negative", "review", "left_out"
A_LENS = re.compile(r"(?:grade )?[abc](?: ?[+?-]|[12])?")
NO_LENS = re.compile(
    r"(?:grade )?x|none|no|false|false[_ -]positive|not? ?(?:a )?lens|non[_ -]?lens"
)
NAMED = 10  # galaxies in a message

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


def run(
    *,
    scores: pa.Table,
    manifest: pa.Table,
    partition: str,
    lists: Mapping[str, pa.Table],
    config: MinedConfig,
    earlier: pa.Table | None = None,
) -> pa.Table:
    """Mine the sky of train once.

    Args:
        scores: Of the round's network; of the sky those of train are mined, calib calibrates.
        manifest: Every row: its ids, its split and its kind.
        partition: `NAME/round=k`.
        lists: Positions by address.
        config: Settings.
        earlier: What rounds before this one mined; None: it is the first.

    Raises:
        DataError: a score is NaN, a grade has no meaning, a galaxy to be mined stands in another
            split, or the test set has changed since an earlier round.
    """
    test = test_sha256(manifest)
    _check_test(test, earlier)
    pool = _pool(scores)
    first, n_merged = merging.merge(
        pool["ra_deg"].to_numpy(), pool["dec_deg"].to_numpy(), config.merge_arcsec
    )
    pool = pool.take(pa.array(first))
    known, spared = _listed(pool, lists, config)
    n_top = config.top if isinstance(config.top, int) else math.ceil(config.top * len(first))
    chosen = np.flatnonzero((np.arange(len(first)) < n_top) | known.flags | spared.flags)
    taken = pool.take(pa.array(chosen))
    _check_splits(taken, manifest)
    known, spared = known.of(chosen), spared.of(chosen)
    found = posterior.of_scores(
        taken["logit"].to_numpy().astype(np.float64),
        _calibration(scores, config),
        prevalence=config.prevalence,
        draws=Draws(config.seed, config.interval_draws),
    )
    table = _table(taken, found, known, spared, config)
    columns = {
        "rank": pa.array(chosen + 1),
        "n_merged": pa.array(n_merged[chosen].astype(np.int32)),
        "round": pa.array(np.full(len(chosen), _round(partition), np.int16)),
        "test_sha256": pa.repeat(test, len(chosen)),
        **table,
    }
    schema = schemas.mined(config.bands)
    kept = [columns[f.name] if f.name in columns else taken[f.name] for f in schema]
    mined = pa.table(kept, schema=schema)
    _say(partition, mined, pool.num_rows)
    return mined


def test_sha256(manifest: pa.Table) -> str:
    """What the test set is: the ids, sources and kinds of its stamps, whatever their order."""
    is_test = pc.and_(pc.equal(manifest["split"], "test"), pc.not_equal(manifest["kind"], "sky"))
    test = manifest.filter(is_test).sort_by("stamp_id")
    digest = hashlib.sha256()
    for name in ("stamp_id", "target_id", "source_id", "kind"):
        digest.update("\n".join(map(str, [name, *test[name].to_pylist()])).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Listed:
    """Galaxies that lists name, arrays of shape (n,): the entry's name and what it says."""

    flags: Flags
    name: NDArray[np.object_]
    separation: NDArray[np.float64]
    reason: NDArray[np.object_]

    def of(self, chosen: Ids) -> "_Listed":
        """Some of the galaxies."""
        return _Listed(
            self.flags[chosen], self.name[chosen], self.separation[chosen], self.reason[chosen]
        )


def _pool(scores: pa.Table) -> pa.Table:
    """The targets of train as observed, the most lens-like first."""
    is_mine = pc.and_(pc.equal(scores["set"], "sky"), pc.equal(scores["split"], "train"))
    pool = scores.filter(is_mine)
    if n_nan := int(np.isnan(pool["logit"].to_numpy()).sum()):
        raise DataError(
            f"{n_nan} of {pool.num_rows} scores of the sky are NaN and cannot be mined; score them "
            "again with `dhs run FILE scores`"
        )
    return pool.sort_by([("logit", "descending"), ("target_id", "ascending")])


def _calibration(scores: pa.Table, config: MinedConfig) -> rows.Rows:
    """Labelled galaxies of calib, which no training has seen."""
    weight = None if config.lens_weight == "equal" else config.lens_weight
    labelled = scores.filter(pc.equal(scores["set"], "calib"))
    return rows.from_scores(labelled, weight=weight, where="scores of the set calib, for mining")


def _listed(
    pool: pa.Table, lists: Mapping[str, pa.Table], config: MinedConfig
) -> tuple[_Listed, _Listed]:
    """Which galaxies are known for lenses, and which for none; of both, the former holds."""
    graded = [(address, *_by_grade(lists[address], address)) for address in config.grades]
    wide, near = config.known_radius_arcsec, config.graded_radius_arcsec
    known = [(lists[a], wide, "known lens, {name}") for a in config.known_lenses]
    known += [(lenses, near, "graded {grade}, {name}") for _, lenses, _ in graded]
    spared = [(others, near, "graded {grade}, {name}") for _, _, others in graded]
    spared += [(lists[a], near, "false positive, {name}") for a in config.false_positives]
    is_known, is_spared = _matched(pool, known), _matched(pool, spared)
    is_spared.flags[is_known.flags] = False
    return is_known, is_spared


def _matched(pool: pa.Table, asked: Sequence[tuple[pa.Table, float, str]]) -> _Listed:
    """The galaxies near an entry of any list; of several, what the first list says."""
    n = pool.num_rows
    made = _Listed(
        np.zeros(n, bool), np.full(n, None, object), np.full(n, np.nan), np.full(n, "", object)
    )
    ra, dec = pool["ra_deg"].to_numpy(), pool["dec_deg"].to_numpy()
    for positions, radius, words in asked:
        entry, separation = sphere.nearest(ra, dec, positions, radius)
        for at in np.flatnonzero((entry >= 0) & ~made.flags):
            row = positions.slice(entry[at], 1).to_pylist()[0]
            made.flags[at], made.name[at], made.separation[at] = True, row["name"], separation[at]
            made.reason[at] = words.format(name=row["name"], grade=row["grade"])
    return made


def _by_grade(positions: pa.Table, where: str) -> tuple[pa.Table, pa.Table]:
    """Entries graded as lenses, and as none; an entry without a grade says nothing.

    Raises:
        DataError: a grade is neither, or there is none at all.
    """
    grades = [None if g is None else g.strip().lower() for g in positions["grade"].to_pylist()]
    if grades and not any(grades):
        raise DataError(
            f"{where}: none of its {len(grades)} entries is graded: it needs a column grade, with "
            "A, B or C for lenses and X or none for others"
        )
    is_lens = np.array([g is not None and A_LENS.fullmatch(g) is not None for g in grades], bool)
    is_none = np.array([g is not None and NO_LENS.fullmatch(g) is not None for g in grades], bool)
    unknown = {g for g, a, b in zip(grades, is_lens, is_none, strict=True) if g and not (a or b)}
    if unknown:
        raise DataError(
            f"{where}: no meaning is known of the grades {', '.join(sorted(unknown)[:NAMED])}; "
            "lenses are graded A, B or C (A+, B?, ...), others X or none; correct the column grade"
        )
    return positions.filter(pa.array(is_lens)), positions.filter(pa.array(is_none))


def _table(
    taken: pa.Table, found: posterior.Posterior, known: _Listed, spared: _Listed,
    config: MinedConfig,
) -> dict[str, Any]:  # fmt: skip
    """What becomes of each galaxy, and why."""
    p, low, high = (np.where(spared.flags, 0.0, v) for v in (found.p, found.low, found.high))
    is_waiting = (p > config.review_above) & ~known.flags
    use = np.where(known.flags, LEFT_OUT, np.where(is_waiting, REVIEW, NEGATIVE))
    reason = np.where(known.flags, known.reason, spared.reason)
    for at in np.flatnonzero(is_waiting):
        reason[at] = f"a lens with probability {p[at]:.2g} ({low[at]:.2g} – {high[at]:.2g})"
    separation = np.where(known.flags, known.separation, spared.separation)
    name = np.where(known.flags, known.name, spared.name)
    return {
        "p_lens": p,
        "p_lens_low": low,
        "p_lens_high": high,
        "weight": np.where(use == NEGATIVE, 1 - p, 0.0),
        "use": pa.array(use.tolist(), pa.string()),
        "reason": pa.array(reason.tolist(), pa.string()),
        "known_name": pa.array(name.tolist(), pa.string()),
        "known_separation_arcsec": pa.array(
            separation.astype(np.float32), pa.float32(), mask=np.isnan(separation)
        ),
        "split": pa.array(taken["split"].to_pylist(), pa.string()),
    }


def _check_splits(taken: pa.Table, manifest: pa.Table) -> None:
    """Refuse galaxies that the manifest uses in another split, whatever their scores say."""
    elsewhere = manifest.filter(pc.not_equal(manifest["split"], "train"))
    is_there = pc.is_in(taken["target_id"], value_set=pc.unique(elsewhere["target_id"]))
    ids = taken.filter(is_there)["target_id"].to_pylist()
    if not ids:
        return
    at = pc.index_in(pa.array(ids[:NAMED]), value_set=elsewhere["target_id"].combine_chunks())
    named = [
        f"{i} ({s})" for i, s in zip(ids, elsewhere["split"].take(at).to_pylist(), strict=False)
    ]
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    raise DataError(
        f"{len(ids)} of the galaxies to be mined stand in val, calib, test or guard: target_id "
        f"{', '.join(named)}{more}; nothing that judges may be mined: run stage manifest again, "
        "then scores"
    )


def _check_test(test: str, earlier: pa.Table | None) -> None:
    """Refuse a test set that is not that of the rounds before."""
    if earlier is None:
        return
    others = {
        (r, sha)
        for r, sha in zip(
            earlier["round"].to_pylist(), earlier["test_sha256"].to_pylist(), strict=True
        )
        if sha != test
    }
    if others:
        said = ", ".join(f"{sha[:12]} in round {r}" for r, sha in sorted(others))
        raise DataError(
            f"the test set has changed since mining began: it is {test[:12]} now and was {said}; "
            "it is frozen before round 0: remove mined/ of this model and run again"
        )


def _say(partition: str, mined: pa.Table, n_pool: int) -> None:
    """What was mined, for the log."""
    use = np.array(mined["use"].to_pylist(), object)
    is_negative = use == NEGATIVE
    p, low, high = (
        mined[name].to_numpy()[is_negative] for name in ("p_lens", "p_lens_low", "p_lens_high")
    )
    among = posterior.expected(p, low, high)
    counts = ", ".join(
        f"{int((use == name).sum()):,} {name}" for name in (NEGATIVE, REVIEW, LEFT_OUT)
    )
    log.info(
        "mined %s: %s, of %s targets of train; lenses expected among the negatives: %.2g (%d – %d)",
        partition, counts, f"{n_pool:,}", among.value, among.low, among.high,
    )  # fmt: skip


def _round(partition: str) -> int:
    return int(partition.rsplit("round=", 1)[-1])


def _scores_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of scores."""
    names = (
        "stamp_id", "target_id", "source_id", "src_kind", "split", "region_id", "kind", "label",
        "sky_weight", "weight_population", "area_deg2", "ra_deg", "dec_deg", "set", "logit",
    )  # fmt: skip
    return pa.schema([schemas.scores(bands).field(name) for name in names])


def _manifest_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the manifest."""
    names = ("stamp_id", "target_id", "source_id", "split", "kind")
    return pa.schema([schemas.manifest(bands).field(name) for name in names])


def _earlier_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of earlier rounds."""
    return pa.schema([schemas.mined(bands).field(name) for name in ("round", "test_sha256")])


STAGE = Stage(
    name="mined",
    version=1,
    run=run,
    inputs=(
        Input("scores", _scores_read, scope="whole", sets=("sky", "calib")),
        Input("manifest", _manifest_read, scope="whole"),
        Input("mined", _earlier_read, scope="whole", rounds="before", handed_as="earlier"),
    ),
    output=schemas.mined,
    partition="model",
    needs=("partition", "lists"),
    made_in="but_last",
)
