"""What was drawn, beside the survey's files: every galaxy, lens, contaminant and brick.

Parquet, one row a thing; `target_id` is the catalogue's, null for what no entry stands for. A
finder must not read it; an evaluation may.
"""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkhaloscope.core import keys
from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.simulate import lenses, shapes
from darkhaloscope.simulate.catalogue import RELEASE
from darkhaloscope.simulate.colours import FILTERS
from darkhaloscope.simulate.draws import Draws, Rows
from darkhaloscope.simulate.galaxies import brickid_of
from darkhaloscope.simulate.observing import Conditions
from darkhaloscope.simulate.plan import Plan
from darkhaloscope.simulate.scene import Drawn, Scene
from darkhaloscope.simulate.sky import Brick

TABLES = ("galaxies", "lenses", "contaminants", "bricks")
CONTAMINANTS = ("disc", "spiral", "edge_on", "ring", "merger")

README = """\
Truth of a simulated survey: what was drawn. Parquet tables.

galaxies.parquet      every galaxy and star that a brick owns. kind: early, disc, spiral, edge_on,
                      ring, merger (the targets); satellite, nucleus (of host_id), field, star.
                      Magnitudes are dust-free AB. target_id is the catalogue's; null: no entry.
lenses.parquet        every true lens: mass, source, arc. is_floor marks lenses added to reach the
                      least number asked for; the others come at their natural rate.
contaminants.parquet  discs, spirals, edge-on discs, rings and mergers among the targets, with what
                      was painted. is_floor as above.
bricks.parquet        PSF, depth, exposures, dust of every brick; missing_band is not on disk.

Angles of positions: +x is west, +y is north; position angles are degrees from +x towards +y.
How it is drawn, and what it flatters: docs/simulated-sky.md of Dark Halo Scope.
"""


def brick_tables(
    brick: Brick,
    show: Scene,
    drawn: Drawn,
    seen: Conditions,
    listed: tuple[NDArray[np.int64], NDArray[np.int64]],
    plan: Plan,
    config: SimulateConfig,
    without: str | None,
) -> dict[str, pa.Table]:
    """The truth of one brick, by name of the table.

    Args:
        brick: The brick.
        show: What shows in its image.
        drawn: The light of it.
        seen: Conditions.
        listed: Galaxy id and objid of the brick's catalogue entries.
        plan: The sky's plan: which rows come from a floor.
        config: The sky's settings.
        without: Band that was not observed.
    """
    galaxy_ids, objid = listed
    by_id = dict(zip(galaxy_ids.tolist(), objid.tolist(), strict=True))
    own = show.galaxies[_is_own(show.galaxies, brick)]
    targets = {int(i): _target_id(brick, by_id.get(int(i))) for i in own["id"]}
    lens_rows = np.flatnonzero(brickid_of(show.lenses["id"]) == brick.brickid)
    return {
        "galaxies": _galaxies(own, brick, targets),
        "lenses": _lenses(show, drawn, seen, lens_rows, brick, targets, config),
        "contaminants": _contaminants(own, brick, targets, plan, config),
        "bricks": _brick(brick, seen, without),
    }


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _is_own(table: Rows, brick: Brick) -> NDArray[np.bool_]:
    """Rows that lie in the brick: satellites of a neighbour's target among them."""
    return brick.owns(table["ra"], table["dec"])


def _target_id(brick: Brick, objid: int | None) -> int | None:
    if objid is None:
        return None
    one = (np.array([value], np.int64) for value in (RELEASE, brick.brickid, objid))
    return int(keys.target_id(*one)[0])


def _galaxies(own: Rows, brick: Brick, targets: dict[int, int | None]) -> pa.Table:
    is_target = own["sigma_v"] > 0
    columns: dict[str, Any] = {
        "galaxy_id": own["id"],
        "target_id": _ints([targets[int(i)] for i in own["id"]]),
        "brickname": pa.repeat(brick.name, len(own)),
        "kind": own["kind"].tolist(),
        "host_id": _ints([int(h) or None for h in own["host"]]),
        "ra_deg": own["ra"],
        "dec_deg": own["dec"],
        "redshift": _floats(own["z"], own["z"] > 0),
        "mag_abs_r": _floats(own["mag_abs_r"], own["mag_abs_r"] < 0),
        "sigma_v_kms": _floats(own["sigma_v"], is_target),
        "r_eff_arcsec": _floats(own["r_eff"], own["r_eff"] > 0),
        "sersic": _floats(own["n"], own["n"] > 0),
        "q": own["q"].astype(np.float32),
        "phi_deg": np.degrees(own["phi"]).astype(np.float32),
        **{f"mag_{b}": own["mag"][:, i].astype(np.float32) for i, b in enumerate(FILTERS)},
        **{name: own[name] for name in ("has_twist", "has_shells", "has_intracluster")},
    }
    return pa.table(columns)


def _lenses(
    show: Scene,
    drawn: Drawn,
    seen: Conditions,
    at: NDArray[np.int64],
    brick: Brick,
    targets: dict[int, int | None],
    config: SimulateConfig,
) -> pa.Table:
    rows, arcs = show.lenses[at], drawn.arcs
    host = show.galaxies[show.rows_of(rows["id"])]
    angles = ("phi", "shear_phi", "src_phi")
    plain = (
        "theta_e",
        "q",
        "shear",
        "z_lens",
        "sigma_v",
        "z_src",
        "src_x",
        "src_y",
        "src_r_eff",
        "src_n",
        "src_q",
    )
    units = {
        "theta_e": "arcsec",
        "sigma_v": "kms",
        "src_x": "arcsec",
        "src_y": "arcsec",
        "src_r_eff": "arcsec",
    }
    columns: dict[str, Any] = {
        "galaxy_id": rows["id"],
        "target_id": _ints([targets.get(int(i)) for i in rows["id"]]),
        "brickname": pa.repeat(brick.name, len(rows)),
        "ra_deg": host["ra"],
        "dec_deg": host["dec"],
        "is_floor": rows["is_floor"],
        "expected_number": lenses.expected_number(host, config),
        **{f"{n}_{units[n]}" if n in units else n: rows[n] for n in plain},
        **{f"{name}_deg": np.degrees(rows[name]) for name in angles},
        **{f"src_mag_{b}": rows["src_mag"][:, i] for i, b in enumerate(FILTERS[:4])},
        "magnification": arcs.magnification[at],
    }
    for i, band in enumerate(seen.bands):
        columns[f"arc_flux_{band}_nmgy"] = arcs.flux[at, i]
        columns[f"arc_snr_{band}"] = arcs.snr[at, i]
    return pa.table(columns)


def _contaminants(
    own: Rows, brick: Brick, targets: dict[int, int | None], plan: Plan, config: SimulateConfig
) -> pa.Table:
    rows = own[np.isin(own["kind"], CONTAMINANTS)]
    draws = Draws(rows["id"], config.seed)
    radius, width, ring_q, ring_phi, _ = shapes.ring_parameters(rows, draws)
    _, _, _, pitch, arms = shapes.spiral_parameters(rows, draws)
    is_ring, is_spiral = rows["kind"] == "ring", rows["kind"] == "spiral"
    return pa.table(
        {
            "galaxy_id": rows["id"],
            "target_id": _ints([targets[int(i)] for i in rows["id"]]),
            "brickname": pa.repeat(brick.name, len(rows)),
            "kind": rows["kind"].tolist(),
            "is_floor": np.isin(rows["id"], list(plan.kinds)),
            "ra_deg": rows["ra"],
            "dec_deg": rows["dec"],
            "ring_radius_arcsec": _floats(radius, is_ring),
            "ring_width_arcsec": _floats(width, is_ring),
            "ring_q": _floats(ring_q, is_ring),
            "ring_phi_deg": _floats(np.degrees(ring_phi), is_ring),
            "pitch_deg": _floats(np.degrees(pitch), is_spiral),
            "n_arms": _floats(arms, is_spiral),
        }
    )


def _brick(brick: Brick, seen: Conditions, without: str | None) -> pa.Table:
    columns: dict[str, Any] = {
        "brickname": [brick.name],
        "brickid": [brick.brickid],
        "field": [brick.field],
        "ra_deg": [brick.ra],
        "dec_deg": [brick.dec],
        "area_deg2": [brick.area_deg2],
        "ebv": [seen.ebv],
        "missing_band": pa.array([without], pa.string()),
    }
    for i, band in enumerate(seen.bands):
        columns |= {
            f"psfsize_{band}_arcsec": [float(seen.psfsize[i])],
            f"psf_beta_{band}": [float(seen.beta[i])],
            f"depth_{band}_mag": [float(seen.depth[i])],
            f"n_exposures_{band}": [int(seen.exposures[i])],
        }
    return pa.table(columns)


def _ints(values: list[int | None]) -> pa.Array:
    return pa.array(values, pa.int64())


def _floats(values: NDArray[Any], applies: NDArray[np.bool_]) -> pa.Array:
    """Null where a number does not apply."""
    return pa.array(np.asarray(values, np.float32), mask=~np.asarray(applies))
