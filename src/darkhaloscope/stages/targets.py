"""Targets: the catalogued galaxies that could be lenses.

In:  one sweep or tractor catalogue of the survey.
Out: targets, one row per galaxy that passes the cuts of the run's variant, in the file's order,
     with the flags of all five variants and the tile of its brick.

The five variants are luminous red galaxies selected by z, r - z and z - W1. Cuts are made on ratios
of fluxes, not on magnitudes, so that a flux that is not positive needs no special case: it fails.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core import schemas, units
from darkhaloscope.core.contracts import Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.targets import TargetsConfig
from darkhaloscope.survey import catalog
from darkhaloscope.survey.files import Survey

_OPTICAL = tuple(band for band in catalog.CUT_BANDS if band != "w1")
_LOG = logging.getLogger(__name__)

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cuts:
    """A variant: fainter limit in z, and how red in r - z and in z - W1, AB mag."""

    z_below: float
    r_z_above: float
    z_w1_above: float


VARIANTS = {
    "v1_pure_massive": Cuts(20.0, 0.5, 1.6),
    "v2_baseline_dr10": Cuts(20.4, 0.4, 1.6),
    "v3_color_relaxed": Cuts(20.4, 0.4, 0.8),
    "v4_mag_relaxed": Cuts(21.0, 0.4, 0.8),
    "v5_very_relaxed": Cuts(21.5, 0.3, 0.8),
}


def lrg_variants(flux: Mapping[str, NDArray[np.floating]]) -> dict[str, Flags]:
    """Which galaxies pass each of the five variants' cuts in magnitude and colour.

    Args:
        flux: Nanomaggies in `r`, `z` and `w1`, each of shape (n,); zero, negative or NaN fails.

    Returns:
        A flag per galaxy, shape (n,), for each variant. TYPE is not looked at.

    Examples:
        >>> red = {"r": np.array([2.0]), "z": np.array([8.0]), "w1": np.array([20.0])}
        >>> [name for name, passes in lrg_variants(red).items() if passes[0]]
        ['v3_color_relaxed', 'v4_mag_relaxed', 'v5_very_relaxed']
    """
    r, z, w1 = (np.asarray(flux[band], np.float64) for band in catalog.CUT_BANDS)
    positive = (r > 0) & (z > 0) & (w1 > 0)
    return {
        name: positive
        & (z > units.nmgy_from_mag(cuts.z_below))
        & (z > r * _ratio(cuts.r_z_above))
        & (w1 > z * _ratio(cuts.z_w1_above))
        for name, cuts in VARIANTS.items()
    }


def _ratio(colour_mag: float) -> float:
    """Flux ratio of a colour: of two magnitudes that differ by it."""
    return float(10 ** (0.4 * colour_mag))


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
    return _dereddened(flux, transmission) if config.is_dereddened else flux


def _dereddened(
    flux: NDArray[np.floating], transmission: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Flux before dust; NaN where the share that dust left is not known."""
    if transmission is None:
        return np.full(len(flux), np.nan)
    known = np.where(transmission > 0, transmission, np.nan)
    return np.asarray(flux, np.float64) / known


def _as_cut(
    columns: Mapping[str, pa.Array], bands: Sequence[str], config: TargetsConfig
) -> dict[str, pa.Array]:
    """Magnitudes and flags, from the same fluxes."""
    flux = {}
    for band in (*bands, "w1"):
        values = columns[f"flux_{band}_nmgy"].to_numpy(zero_copy_only=False).astype(np.float64)
        dust = columns[f"mw_transmission_{band}"].to_numpy(zero_copy_only=False)
        flux[band] = _dereddened(values, dust) if config.is_dereddened else values
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
