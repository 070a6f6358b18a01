"""Targets: the catalogued galaxies that could be lenses.

In:  one sweep or tractor catalogue of the survey.
Out: targets, one row per galaxy that passes the cuts of the run's variant, in the file's order,
     with the flags of all five variants and the tile of its brick.

The five variants are luminous red galaxies selected by z, r - z and z - W1 (`survey.lrg`).
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core import schemas, units
from darkhaloscope.core.contracts import Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.targets import TargetsConfig
from darkhaloscope.survey import catalog
from darkhaloscope.survey.files import Survey
from darkhaloscope.survey.lrg import dereddened, lrg_variants

_OPTICAL = tuple(band for band in catalog.CUT_BANDS if band != "w1")
_LOG = logging.getLogger(__name__)


def run(*, survey: Survey, partition: str, config: TargetsConfig) -> pa.Table:
    """Select the targets of one catalogue.

    Args:
        survey: The survey.
        partition: Path of the catalogue below the survey's root.
        config: Which variant, and whether fluxes are dereddened.

    Raises:
        SchemaError: the file lacks columns.
        DataError: the file cannot be read, or names a brick that the survey has not.
    """
    path = survey.local(partition)
    catalogue = catalog.open_catalogue(path, need_transmission=config.is_dereddened)
    passing = [_passing(catalogue, rows, config) for rows in catalogue.pieces()]
    rows = np.concatenate([np.zeros(0, np.int64), *passing])
    bands = tuple(dict.fromkeys((*config.bands, *_OPTICAL)))
    columns = catalog.read_rows(catalogue, rows, bands)
    table = pa.table(columns | _as_cut(columns, bands, config))
    table = _in_area(table, survey, config.tile_nside, where=str(path))
    table = _without_repeats(table, where=partition)
    _LOG.info("%s: %d of %d rows are targets", partition, table.num_rows, len(catalogue))
    return schemas.conform(table, schemas.targets(config.bands), where=f"targets of {path}")


def _passing(catalogue: catalog.Catalogue, rows: slice, config: TargetsConfig) -> NDArray[np.int64]:
    """Row numbers of a piece that are primary galaxies with finite fluxes and pass the cuts."""
    flux = {band: _flux(catalogue, band, rows, config) for band in catalog.CUT_BANDS}
    passes = lrg_variants(flux)[config.variant]  # NaN and infinity in a cut band: below
    passes &= catalogue.is_primary_galaxy(rows)
    found = np.flatnonzero(passes) + rows.start
    finite = np.ones(len(found), bool)
    for band in {*config.bands, *catalog.CUT_BANDS}:
        values = catalogue.per_band("flux", band, found)
        if values is not None:
            finite &= np.isfinite(values)
    return np.asarray(found[finite])


def _flux(
    catalogue: catalog.Catalogue, band: str, rows: slice, config: TargetsConfig
) -> NDArray[np.floating]:
    """Flux as the cuts use it."""
    flux = catalogue.per_band("flux", band, rows)
    assert flux is not None  # noqa: S101  (open_catalogue requires the bands of the cuts)
    transmission = catalogue.per_band("mw_transmission", band, rows)
    return dereddened(flux, transmission) if config.is_dereddened else flux


def _as_cut(
    columns: Mapping[str, pa.Array], bands: Sequence[str], config: TargetsConfig
) -> dict[str, pa.Array]:
    """Magnitudes and flags, from the same fluxes."""
    flux = {}
    for band in (*bands, "w1"):
        values = columns[f"flux_{band}_nmgy"].to_numpy(zero_copy_only=False).astype(np.float64)
        dust = columns[f"mw_transmission_{band}"].to_numpy(zero_copy_only=False)
        flux[band] = dereddened(values, dust) if config.is_dereddened else values
    mags = {band: units.mag_from_nmgy(values) for band, values in flux.items()}
    return {
        f"mag_{band}": pa.array(mag, pa.float32(), mask=~np.isfinite(mag))
        for band, mag in mags.items()
    } | {f"is_{name}": pa.array(passes) for name, passes in lrg_variants(flux).items()}


def _in_area(table: pa.Table, survey: Survey, nside: int, *, where: str) -> pa.Table:
    """The rows whose brick is in the run's area, with their tile."""
    bricks = survey.bricks()
    brick = bricks.index(np.array(table["brickname"].to_pylist(), "S8"))
    inside = brick >= 0
    if survey.config.area == "all" and not inside.all():
        unknown = table["brickname"][int(np.argmin(inside))].as_py()
        raise DataError(
            f"{where}: {int((~inside).sum())} targets lie in bricks that the survey's table of "
            f"bricks does not have, the first in {unknown}; catalogue and table are of two surveys"
        )
    tiles = pa.array(bricks.tiles(brick[inside], nside).tolist(), pa.string())
    return table.filter(pa.array(inside)).append_column("tile", tiles)


def _without_repeats(table: pa.Table, *, where: str) -> pa.Table:
    """The first row of each galaxy."""
    _, first = np.unique(table["target_id"].to_numpy(), return_index=True)
    n_repeated = table.num_rows - len(first)
    if n_repeated:
        _LOG.warning("%s: %d rows repeat a galaxy and are dropped", where, n_repeated)
    return table.take(pa.array(np.sort(first)))


def _external(partition: str, tables: Mapping[str, object], survey: Survey) -> str:
    """The catalogue's content and the area."""
    return f"{survey.digest} {survey.fingerprint(partition)}"


STAGE = Stage(
    name="targets",
    version=1,
    run=run,
    inputs=(),
    output=schemas.targets,
    partition="catalogue",
    needs=("survey", "partition"),
    external=_external,
)
