"""Rows of the manifest: which galaxy plays which kind, and every number its pixels need.

The stage `manifest` writes what is drawn here for copies 0 to c-1; training draws the same rows
again for every epoch with higher copy numbers, so that no injection is seen twice.

Every number belongs to a stamp's id, which is a hash of galaxy, kind and copy. A `companion` is
drawn with the id of the lens that it copies: its row holds that lens, and its light is the lens's
magnified light in two unlensed galaxies. They stand as far from the host, and share the light, as
the two images that a round lens would make; the inner one not opposite the outer one, but turned
about the host to where no lens has its second image. So flux, colour and radius are the lens's, in
each stamp, and where around the host the light lies is not.

The settings are read by attribute, so that this runs where pydantic is not; their meaning and
ranges are in `core.settings.manifest`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.units import FWHM_PER_SIGMA, mag_from_nmgy
from darkhaloscope.lensing import populations, priors
from darkhaloscope.lensing.asked import Broad, Grid, Physical, Range
from darkhaloscope.lensing.priors import Columns, Hosts, Ids, Values
from darkhaloscope.ml import roles
from darkhaloscope.ml import sources as banks
from darkhaloscope.ml.sources import SourceBank

Flags = NDArray[np.bool_]

FAMILY = {
    "lens": "injection",
    "single_image": "injection",
    "control": "control",
    "companion": "counterfactual",
    "halo_ring": "counterfactual",
    "ring": "contaminant",
    "spiral": "contaminant",
    "sky": "sky",
}
PAINTED = ("ring", "spiral", "halo_ring")
SPLIT_BITS = {"train": 0, "val": 1, "calib": 2, "test": 3}  # the lowest two of a source_id
TRIALS = 16  # draws from which a negative's light is chosen as a lens's is
HALO_COLOURED_WIDTH = 0.5  # a host-coloured ring's width over a blue one's


class Settings(Protocol):
    """What is asked of `core.settings.manifest.ManifestConfig`."""

    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def min_theta_e_over_fwhm(self) -> float: ...  # noqa: D102
    @property
    def training(self) -> Any: ...  # noqa: D102
    @property
    def physical(self) -> Physical: ...  # noqa: D102
    @property
    def sources(self) -> banks.DrawnSources: ...  # noqa: D102
    @property
    def shapes(self) -> Any: ...  # noqa: D102
    @property
    def sets(self) -> Mapping[Any, roles.SetPlan]: ...  # noqa: D102
    @property
    def sky_shares(self) -> Mapping[Any, float]: ...  # noqa: D102


def hosts_of(splits: pa.Table, cutouts: pa.Table, bands: Sequence[str]) -> pa.Table:
    """The targets whose pixels can be used: columns of `splits` with the PSF of their cutout.

    Args:
        splits: Rows of the table `splits`.
        cutouts: Rows of the table `cutouts`, with or without pixels, in any order.
        bands: The run's bands.

    Raises:
        DataError: a target of `splits` has no row in `cutouts`.
    """
    at = pc.index_in(splits["target_id"], value_set=cutouts["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(
            f"{at.null_count} of {splits.num_rows} targets have no row in cutouts; rerun stage "
            "cutouts"
        )
    beside = cutouts.take(at)
    table = splits.drop_columns([f"psf_nea_{band}_arcsec" for band in bands])
    for name in [f"psf_{width}_{band}_arcsec" for width in ("nea", "fwhm") for band in bands]:
        table = table.append_column(name, beside[name])
    return table.filter(pc.is_null(beside["refused"]))


def draw(
    hosts: pa.Table,
    *,
    split: str,
    config: Settings,
    epoch: int = 0,
    sources: SourceBank | None = None,
) -> pa.Table:
    """All stamps to make of the galaxies of one split.

    Args:
        hosts: Rows of `hosts_of`; those of other splits are passed over.
        split: train, val, calib or test.
        config: Settings of the manifest.
        epoch: 0 for what the stage writes; each higher one gives every kind other copies.
        sources: Pictures of galaxies, where the settings ask for any.

    Returns:
        Rows of `schemas.manifest`, galaxy by galaxy in the order of `hosts`, kinds in the order
        of `schemas.KINDS`, by copy. Galaxies whose seeing admits no Einstein radius are left out,
        of a physical population also the lenses that are too improbable (`keep_weight`).
    """
    plan = config.sets.get(split)
    hosts = hosts.filter(pc.equal(hosts["split"], split))
    if plan is not None:
        hosts = hosts.filter(pa.array(_is_usable(hosts, plan, config)))
    if plan is None or not hosts.num_rows:
        return schemas.empty(schemas.manifest(config.bands))
    places, tables = [], []
    cast_of = roles.cast_of(hosts, plan, seed=config.seed)
    target = hosts["target_id"].to_numpy()
    hosts = hosts.append_column("matched_id", pa.array(target[cast_of.partner]))
    for kind in (k for k in schemas.KINDS if k in plan.copies):
        playing = cast_of.playing[kind]
        place = np.repeat(playing, plan.copies[kind])
        copy = np.tile(np.arange(plan.copies[kind]), len(playing))
        copy = copy + epoch * plan.copies[kind]
        rows, kept = _rows(hosts.take(pa.array(place)), kind, copy, plan, config, sources)
        tables.append(rows.filter(pa.array(kept)))
        places.append(place[kept])
    joined = pa.concat_tables(tables)
    order = np.argsort(np.concatenate(places), kind="stable")
    return _without_absent_pairs(joined.take(pa.array(order)))


def redraw(
    rows: pa.Table,
    hosts: pa.Table,
    *,
    config: Settings,
    epoch: int,
    sources: SourceBank | None = None,
) -> pa.Table:
    """Other injections for the same galaxies and kinds: one row for each of `rows`, in order.

    Args:
        rows: Rows of `draw(..., epoch=0)`, of one split, perhaps more than once.
        hosts: Rows of `hosts_of` that hold their galaxies.
        config: Settings of the manifest.
        epoch: 0 gives the rows themselves.
        sources: Pictures of galaxies, where the settings ask for any.

    Raises:
        DataError: a row's galaxy is not among the hosts.
    """
    if epoch == 0 or not rows.num_rows:
        return rows
    at = pc.index_in(rows["target_id"], value_set=hosts["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} manifest rows have no cutout; rerun stage manifest")
    kinds = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    plan = config.sets[rows["split"][0].as_py()]
    places, tables = [], []
    for kind in np.unique(kinds).tolist():
        place = np.flatnonzero(kinds == kind)
        copy = rows["copy"].to_numpy()[place] + epoch * plan.copies[kind]
        drawn, _ = _rows(hosts.take(at.take(pa.array(place))), kind, copy, plan, config, sources)
        tables.append(drawn)
        places.append(place)
    order = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_tables(tables).take(pa.array(order))


def sky_rows(hosts: pa.Table, bands: Sequence[str]) -> pa.Table:
    """One row per usable target, as observed: label null, any split."""
    copy = np.zeros(hosts.num_rows, np.int64)
    stamp_id = keys.stamp_id(hosts["target_id"].to_numpy(), "sky", copy)
    return _table(hosts, "sky", stamp_id, copy, {"population": "sky"}, {}, bands)


def _rows(
    hosts: pa.Table,
    kind: str,
    copy: NDArray[np.int64],
    plan: roles.SetPlan,
    config: Settings,
    sources: SourceBank | None,
) -> tuple[pa.Table, Flags]:
    """One stamp of a kind per row of `hosts`, and which of them stay."""
    target = hosts["target_id"].to_numpy()
    stamp_id = keys.stamp_id(target, kind, copy)
    lens_id = keys.stamp_id(target, "lens", copy)
    texts: dict[str, Any] = {"population": plan.population}
    if kind != "lens":
        texts["sky_weight"] = roles.sky_weight(kind, plan, config.sky_shares)
    if plan.controls == "paired" and kind in ("control", "companion"):
        texts["pair_id"] = lens_id
    elif (
        plan.controls == "host_matched" and kind == "control" and "matched_id" in hosts.column_names
    ):
        texts["pair_id"] = keys.stamp_id(hosts["matched_id"].to_numpy(), "lens", copy)
    if kind == "control":
        return _table(hosts, kind, stamp_id, copy, texts, {}, config.bands), np.ones(
            len(copy), bool
        )
    ids = lens_id if kind == "companion" else stamp_id
    columns, kept = _light(ids, hosts, kind, plan, config)
    texts["source_id"] = _source_id(ids, hosts)
    if kind not in PAINTED:
        chosen = banks.choose(
            ids,
            {name: columns[name] for name in ("src_z", "src_mag_r", "src_r_eff_arcsec")},
            split=_split_of(hosts),
            bank=sources,
            sources=config.sources,
            bands=config.bands,
            seed=config.seed,
        )
        texts |= _as_pictures(columns, texts["source_id"], chosen, config.bands)
    if kind != "lens":
        columns.pop("weight_population", None)
        kept = np.ones(len(copy), bool)
    elif "weight_population" in columns:
        columns["weight_population"] = columns["weight_population"] / plan.copies["lens"]
    return _table(hosts, kind, stamp_id, copy, texts, columns, config.bands), kept


def _light(
    ids: Ids, hosts: pa.Table, kind: str, plan: roles.SetPlan, config: Settings
) -> tuple[Columns, Flags]:
    """The injected light of n rows, and whether the lens behind it was kept."""
    seen = _seen(hosts, config)
    kept = np.ones(len(ids), bool)
    seed = config.seed
    if plan.population == "physical":
        trials = 1 if kind == "lens" else TRIALS
        lens, kept = priors.physical(ids, seen, config.physical, seed=seed, trials=trials)
    elif config.training.prior == "broad":
        lens = priors.broad(ids, seen, cast(Broad, config.training), seed=seed)
    else:
        lens = priors.grid(ids, seen, cast(Grid, config.training), seed=seed)
    light = priors.source_light(
        ids, lens["src_z"], lens["src_mag_r"], config.sources, config.bands, seed=seed
    )
    columns = {**lens, **light}
    if plan.population == "training" and config.training.prior == "broad":
        snr = keys.uniform(ids, seed=seed, stream="arc_snr")
        columns["arc_snr_target"] = priors.log_flat(config.training.arc_snr_g, snr)
    if kind in PAINTED:
        return _shape(ids, hosts, kind, columns, config), kept
    if kind == "single_image":
        reach = config.shapes.single_image_reach
        x, y = priors.positions_outside(ids, lens, reach=reach, seed=seed)
    else:
        x, y = priors.positions_inside(ids, lens, seed=seed)
    columns |= {"src_x_arcsec": x, "src_y_arcsec": y}
    if kind == "companion":
        columns |= _pieces(ids, lens["theta_e_arcsec"], x, y, config)
    return columns, kept


def _pieces(ids: Ids, theta_e: Values, x: Values, y: Values, config: Settings) -> Columns:
    """Where the two galaxies of a companion stand: radii and shares of a round lens's images.

    A singular isothermal sphere has images at theta_e +- beta, magnified theta_e / beta +- 1.
    """
    draw = partial(keys.uniform, ids, seed=config.seed)
    beta = np.hypot(x, y)
    outer_phi = np.degrees(np.arctan2(y, x))
    turn = _at(config.shapes.companion_turn_deg, draw(stream="companion_turn"))
    sense = np.where(draw(stream="companion_sense") < 0.5, -1.0, 1.0)
    return {
        "shape_radius_arcsec": theta_e + beta,
        "shape_phi_deg": outer_phi,
        "inner_radius_arcsec": np.maximum(theta_e - beta, 0.0),
        "inner_phi_deg": outer_phi + sense * turn,
        "inner_share": np.maximum(theta_e - beta, 0.0) / (2 * theta_e),
    }


def _shape(ids: Ids, hosts: pa.Table, kind: str, source: Columns, config: Settings) -> Columns:
    """A painted look-alike: the light of a source, magnified as arcs are, in another shape."""
    draw = partial(keys.uniform, ids, seed=config.seed)
    shapes = config.shapes
    brighter = 2.5 * np.log10(priors.shape_magnification(ids, seed=config.seed))
    columns = {f"src_mag_{b}": source[f"src_mag_{b}"] - brighter for b in config.bands}
    columns |= {name: source[name] for name in ("src_z", "arc_snr_target") if name in source}
    columns["src_phi_deg"] = source["src_phi_deg"]
    if kind == "ring":
        radius = _at(shapes.ring_radius_arcsec, draw(stream="ring_radius"))
        return columns | {
            "shape_radius_arcsec": radius,
            "shape_width_arcsec": radius
            * _at(shapes.ring_width_over_radius, draw(stream="ring_width")),
            "src_q": _at(shapes.ring_q, draw(stream="ring_q")),
        }
    if kind == "spiral":
        return columns | _arms(draw, shapes)
    is_coloured = draw(stream="halo_colour") < shapes.halo_ring_host_coloured_share
    mag = {band: dereddened_mag(hosts, band) for band in config.bands}
    for band in config.bands:
        of_host = columns["src_mag_r"] + np.nan_to_num(mag[band] - mag["r"])
        columns[f"src_mag_{band}"] = np.where(is_coloured, of_host, columns[f"src_mag_{band}"])
    fwhm = _at(shapes.halo_ring_fwhm_over_psf, draw(stream="halo_width"))
    fwhm = (
        fwhm * hosts["psf_fwhm_r_arcsec"].to_numpy() * np.where(is_coloured, HALO_COLOURED_WIDTH, 1)
    )
    return columns | {
        "shape_radius_arcsec": _at(shapes.halo_ring_radius_arcsec, draw(stream="halo_radius")),
        "shape_width_arcsec": fwhm / FWHM_PER_SIGMA,
        "src_q": 0.7 + 0.3 * draw(stream="halo_q"),
    }


def _arms(draw: Callable[..., Values], shapes: Any) -> Columns:
    arms = np.asarray(shapes.spiral_arms)
    sense = np.where(draw(stream="spiral_sense") < 0.5, -1.0, 1.0)
    radius = _at(shapes.spiral_radius_arcsec, draw(stream="spiral_radius"))
    over_radius = _at(shapes.spiral_r_eff_over_radius, draw(stream="spiral_r_eff"))
    return {
        "shape_radius_arcsec": radius,
        "shape_width_arcsec": _at(shapes.spiral_width_arcsec, draw(stream="spiral_width")),
        "shape_n_arms": arms[(draw(stream="spiral_arms") * len(arms)).astype(np.intp)],
        "shape_pitch_deg": sense * _at(shapes.spiral_pitch_deg, draw(stream="spiral_pitch")),
        "shape_phi_deg": 360 * draw(stream="spiral_phi"),
        "src_q": _at(shapes.spiral_q, draw(stream="spiral_q")),
        "src_r_eff_arcsec": radius * over_radius,
    }


def dereddened_mag(hosts: pa.Table, band: str) -> Values:
    """Magnitude of the catalogue's flux without the Galaxy's dust; NaN where not positive."""
    flux = hosts[f"flux_{band}_nmgy"].to_numpy(zero_copy_only=False).astype(np.float64)
    left = hosts[f"mw_transmission_{band}"].to_numpy(zero_copy_only=False).astype(np.float64)
    clean = np.nan_to_num(flux, nan=-1.0) / np.where(left > 0, left, 1.0)  # no dust where not known
    return mag_from_nmgy(np.asarray(clean))


def _seen(hosts: pa.Table, config: Settings) -> Hosts:
    light_q, light_phi = populations.light_shape(
        hosts["shape_e1"].to_numpy(), hosts["shape_e2"].to_numpy()
    )
    return Hosts(
        mag_r=dereddened_mag(hosts, "r"),
        mag_z=dereddened_mag(hosts, "z"),
        light_q=light_q,
        light_phi=light_phi,
        least_theta_e=_least_theta_e(hosts, config),
    )


def _least_theta_e(hosts: pa.Table, config: Settings) -> Values:
    fwhm = hosts["psf_fwhm_r_arcsec"].to_numpy(zero_copy_only=False).astype(np.float64)
    least = np.maximum(config.min_theta_e_over_fwhm * fwhm, priors.LEAST_THETA_E_ARCSEC)
    return np.asarray(least)


def _is_usable(hosts: pa.Table, plan: roles.SetPlan, config: Settings) -> Flags:
    """Whether a target's seeing admits an Einstein radius, and it has the colours to draw from."""
    if plan.population == "physical":
        largest = config.physical.max_theta_e_arcsec
    elif config.training.prior == "broad":
        largest = config.training.theta_e_arcsec.high
    else:
        largest = max(priors.GRIDS[config.training.prior]["theta_e_arcsec"])
    has_colours = np.isfinite(dereddened_mag(hosts, "r") + dereddened_mag(hosts, "z"))
    return has_colours & (_least_theta_e(hosts, config) <= largest)


def _source_id(ids: Ids, hosts: pa.Table) -> Ids:
    """Ids of sources, which no two splits share: the lowest two bits name the split."""
    return (ids & ~np.int64(3)) | np.int64(SPLIT_BITS[_split_of(hosts)])


def _split_of(hosts: pa.Table) -> str:
    """The one split of some hosts; that of none is of no consequence."""
    (split,) = pc.unique(hosts["split"]).to_pylist() or ["train"]
    return str(split)


def _as_pictures(
    columns: Columns, source_id: Ids, chosen: banks.Chosen, bands: Sequence[str]
) -> dict[str, Any]:
    """What a picture has of its own, as columns; `columns` loses or changes what it replaces."""
    is_picture = chosen.picture >= 0
    for band in bands:
        colour = chosen.colour[band]
        known = np.isfinite(colour)
        mag = np.where(known, columns["src_mag_r"] + colour, columns[f"src_mag_{band}"])
        columns[f"src_mag_{band}"] = mag
    columns["src_phi_deg"] = np.where(is_picture, chosen.phi_deg, columns["src_phi_deg"])
    own_shape = {name: columns.pop(name).astype(np.float32) for name in ("src_n", "src_q")}
    return {
        "source_id": np.where(is_picture, chosen.source_id, source_id),
        "src_kind": pa.array(chosen.kind.tolist(), pa.string()),
        "src_picture": pa.array(chosen.picture.astype(np.int32), mask=~is_picture),
        "src_is_mirrored": pa.array(chosen.is_mirrored, mask=~is_picture),
        **{name: pa.array(values, mask=is_picture) for name, values in own_shape.items()},
    }


def _at(span: Range, uniform: Values) -> Values:
    return np.asarray(span.low + (span.high - span.low) * uniform)


def _table(
    hosts: pa.Table,
    kind: str,
    stamp_id: Ids,
    copy: NDArray[np.int64],
    texts: Mapping[str, Any],
    columns: Mapping[str, Values],
    bands: Sequence[str],
) -> pa.Table:
    """Columns of one kind in the manifest's schema; what is not given is null."""
    n = hosts.num_rows
    given: dict[str, Any] = {
        "stamp_id": stamp_id,
        "kind": kind,
        "family": FAMILY[kind],
        "label": None if kind == "sky" else int(kind == "lens"),
        "copy": copy,
        "host_mag_z": hosts["mag_z"],
        **{name: hosts[name] for name in ("target_id", "split", "region_id", "area_deg2")},
        **{name: hosts[name] for name in ("ra_deg", "dec_deg")},
        **{f"mw_transmission_{b}": hosts[f"mw_transmission_{b}"] for b in bands},
        **texts,
        **columns,
    }
    if "theta_e_arcsec" in columns:
        for ratio, width in (("fwhm_r", "psf_fwhm_r_arcsec"), ("psfsize_r", "psf_nea_r_arcsec")):
            given[f"theta_e_over_{ratio}"] = columns["theta_e_arcsec"] / hosts[width].to_numpy()
    schema = schemas.manifest(bands)
    return pa.table([_column(given.get(f.name), f, n) for f in schema], schema=schema)


def _column(values: Any, field: pa.Field, n: int) -> pa.Array | pa.ChunkedArray:
    if values is None:
        return pa.nulls(n, field.type)
    if isinstance(values, str | int | float):
        return pa.repeat(pa.scalar(values, field.type), n)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    return pa.array(np.asarray(values).astype(field.type.to_pandas_dtype()), field.type)


def _without_absent_pairs(rows: pa.Table) -> pa.Table:
    """Null where a pair's lens was not made."""
    there = pc.is_in(rows["pair_id"], value_set=rows["stamp_id"].combine_chunks())
    pair = pc.if_else(there, rows["pair_id"], pa.scalar(None, pa.int64()))
    return rows.set_column(
        rows.schema.get_field_index("pair_id"), rows.schema.field("pair_id"), pair
    )
