"""Candidates: every target of the sky set, best first, one row per position.

In:  scores of the set `sky`, or what an ensemble makes of them; splits, with magnitudes and tile;
     cutouts without pixels.
Out: candidates, ranked by logit, then by target_id, so that the order of the rows is no matter.

Catalogues list pieces of one object as several targets, and one lens would fill several places of
the list. Targets nearer to each other than `merge_arcsec` are one row, that of the highest score;
chains of such pairs are one group. No target is lost: `n_merged` counts them.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.candidates import CandidatesConfig
from darkhaloscope.survey.merging import merge

VIEWER = "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&layer={layer}&zoom=16"


def run(
    *,
    scores: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    config: CandidatesConfig,
    ensemble: pa.Table | None = None,
) -> pa.Table:
    """Rank the targets of the sky.

    Args:
        scores: Scores of the set `sky`; other sets are left out.
        splits: One row per target: brick, tile and magnitudes.
        cutouts: One row per target: its masked fraction.
        config: Settings.
        ensemble: In place of `scores` where an ensemble ranks: its rows of the set `sky`.

    Raises:
        DataError: a score is NaN, or a scored target has no row in `splits` or `cutouts`.
    """
    if ensemble is not None and ensemble.num_rows:
        scores = ensemble
    sky = scores.filter(pc.equal(scores["set"], "sky"))
    n_nan = int(np.isnan(sky["logit"].to_numpy()).sum())
    if n_nan:
        raise DataError(
            f"{n_nan} of {sky.num_rows} scores of the sky are NaN and cannot be ranked; "
            f"score them again with `dhs run FILE scores`"
        )
    ranked = sky.sort_by([("logit", "descending"), ("target_id", "ascending")])
    best, n_merged = merge(
        ranked["ra_deg"].to_numpy(), ranked["dec_deg"].to_numpy(), config.merge_arcsec
    )
    kept = ranked.take(best)
    hosts = _rows_of(splits, kept["target_id"], "splits")
    seen = _rows_of(cutouts, kept["target_id"], "cutouts")
    columns = {
        "rank": pa.array(np.arange(1, kept.num_rows + 1)),
        "n_merged": pa.array(n_merged.astype(np.int32)),
        "masked_fraction": seen["masked_fraction"],
        "viewer_url": _links(kept, config.viewer_layer),
        **{name: hosts[name] for name in ("brickname", "tile")},
        **{f"mag_{b}": hosts[f"mag_{b}"] for b in config.bands},
    }
    schema = schemas.candidates(config.bands)
    return pa.table(
        [
            columns[f.name]
            if f.name in columns
            else kept[f.name]
            if f.name in kept.column_names
            else pa.nulls(kept.num_rows, f.type)
            for f in schema
        ],
        schema=schema,
    )


def _rows_of(table: pa.Table, target_id: pa.ChunkedArray, name: str) -> pa.Table:
    """The row of each target, in the targets' order."""
    found = pc.index_in(target_id, value_set=table["target_id"].combine_chunks())
    if found.null_count:
        raise DataError(
            f"{found.null_count} scored targets have no row in {name}; run stage {name} again, "
            f"then scores"
        )
    return table.take(found)


def _links(kept: pa.Table, layer: str) -> pa.Array:
    """The sky viewer's address of each row; without a layer the empty text."""
    if not layer:
        return pa.array([""] * kept.num_rows, pa.string())
    places = zip(kept["ra_deg"].to_pylist(), kept["dec_deg"].to_pylist(), strict=True)
    return pa.array([VIEWER.format(ra=ra, dec=dec, layer=layer) for ra, dec in places], pa.string())


def _hosts(bands: schemas.Bands) -> pa.Schema:
    """What is read of a target."""
    names = ["target_id", "brickname", "tile", *[f"mag_{b}" for b in bands]]
    return pa.schema([schemas.splits(bands).field(name) for name in names])


def _seen(bands: schemas.Bands) -> pa.Schema:
    """What is read of a cutout."""
    head = schemas.cutouts_head(bands)
    return pa.schema([head.field(name) for name in ("target_id", "masked_fraction")])


STAGE = Stage(
    name="candidates",
    version=3,
    run=run,
    inputs=(
        Input("scores", schemas.scores, scope="whole", sets=("sky",)),
        Input("ensemble", schemas.ensemble, scope="whole", sets=("sky",)),
        Input("splits", _hosts, scope="whole"),
        Input("cutouts", _seen, scope="whole"),
    ),
    output=schemas.candidates,
    partition="whole",
)
