"""Rows of the manifest: which galaxy plays which kind, and every number its pixels need.

The stage `manifest` writes what is drawn here for copies 0 to c-1; training draws the same rows
again for every epoch with higher copy numbers, so that no injection is seen twice.

Every number belongs to a stamp's id, which is a hash of galaxy, kind and copy. A `companion`, a
`radial_arc` and a `scrambled` arc are drawn with the id of the lens that they copy: the row holds
that lens, and its light is the lens's magnified light in one to three pieces (`lensing.pieces`).
Mostly there are two, as far from the host and with the shares of light of the two images that a
round lens would make; the inner one not opposite the outer one, but turned about the host to where
no lens has its second image. So flux, colour and radius are the lens's, in each stamp, and where
around the host the light lies is not.

A galaxy that is known for a look-alike (column `look_alike` of the hosts) hosts nothing: it plays
its kind once, as observed.

The settings are read by attribute, so that this runs where pydantic is not; their meaning and
ranges are in `core.settings.manifest`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.lensing import populations, priors
from darkhaloscope.lensing.asked import Broad, Grid, Physical
from darkhaloscope.lensing.priors import Columns, Hosts, Ids, Values
from darkhaloscope.ml import roles, shaping
from darkhaloscope.ml import sources as banks
from darkhaloscope.ml.shaping import CONTAMINANTS, COPIES, PAINTED, dereddened_mag
from darkhaloscope.ml.sources import SourceBank

Flags = NDArray[np.bool_]

FAMILY = {
    "lens": "injection",
    "single_image": "injection",
    "control": "control",
    **dict.fromkeys(CONTAMINANTS, "contaminant"),
    **dict.fromkeys((*COPIES, "halo_ring"), "counterfactual"),
    "sky": "sky",
}
LOOK_ALIKE = "look_alike"  # family of galaxies that are known for one, whatever their kind
SPLIT_BITS = {"train": 0, "val": 1, "calib": 2, "test": 3}  # the lowest two of a source_id
TRIALS = 16  # draws from which a negative's light is chosen as a lens's is


class Settings(shaping.Settings, Protocol):
    """What is asked of `core.settings.manifest.ManifestConfig`, beside what shapes ask."""

    @property
    def min_theta_e_over_fwhm(self) -> float: ...  # noqa: D102
    @property
    def training(self) -> Any: ...  # noqa: D102
    @property
    def physical(self) -> Physical: ...  # noqa: D102
    @property
    def sources(self) -> banks.DrawnSources: ...  # noqa: D102
    @property
    def sets(self) -> Mapping[Any, roles.SetPlan]: ...  # noqa: D102
    @property
    def sky_shares(self) -> Mapping[Any, float]: ...  # noqa: D102


def hosts_of(
    splits: pa.Table,
    cutouts: pa.Table,
    bands: Sequence[str],
    *,
    look_alikes: pa.Table | None = None,
) -> pa.Table:
    """The targets whose pixels can be used: columns of `splits` with the PSF of their cutout.

    The column `look_alike` is the kind that a target is known to be, null for all others.

    Args:
        splits: Rows of the table `splits`.
        cutouts: Rows of the table `cutouts`, with or without pixels, in any order.
        bands: The run's bands.
        look_alikes: Galaxies known for look-alikes: `target_id` and `kind`, a contaminant's; those
            that are no targets are passed over.

    Raises:
        DataError: a target of `splits` has no row in `cutouts`; a galaxy is named more than once
            among the look-alikes, or of a kind that is none.
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
    table = table.append_column(LOOK_ALIKE, _known(table["target_id"], look_alikes))
    return table.filter(pc.is_null(beside["refused"]))


def _known(targets: pa.ChunkedArray, look_alikes: pa.Table | None) -> pa.Array | pa.ChunkedArray:
    """The kind that each target is known to be, null where it is not."""
    if look_alikes is None:
        return pa.nulls(len(targets), pa.string())
    kinds = pc.unique(look_alikes["kind"]).to_pylist()
    faults = [f"{kind} is no kind of them" for kind in kinds if kind not in CONTAMINANTS]
    named_again = look_alikes.num_rows - len(pc.unique(look_alikes["target_id"]))
    if named_again:
        faults.append(f"{named_again} galaxies are named more than once")
    if faults:
        raise DataError(
            f"look-alikes: {'; '.join(faults)}; a galaxy is one of {', '.join(CONTAMINANTS)}, once"
        )
    at = pc.index_in(targets, value_set=look_alikes["target_id"].combine_chunks())
    return look_alikes["kind"].take(at)


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
        of `schemas.KINDS`, by copy. A known look-alike has one row, in epoch 0 alone. Galaxies
        whose seeing admits no Einstein radius are left out, of a physical population also the
        lenses that are too improbable (`keep_weight`).
    """
    plan = config.sets.get(split)
    hosts = hosts.filter(pc.equal(hosts["split"], split))
    if plan is not None:
        hosts = hosts.filter(pa.array(_is_usable(hosts, plan, config)))
    if plan is None or not hosts.num_rows:
        return schemas.empty(schemas.manifest(config.bands))
    is_known = hosts[LOOK_ALIKE].is_valid().to_numpy()
    known = np.flatnonzero(is_known & (epoch == 0))
    free = np.flatnonzero(~is_known)
    places, tables = [known], [_as_observed(hosts.take(pa.array(known)), plan, config.bands)]
    hosts = hosts.take(pa.array(free))
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
        places.append(free[place[kept]])
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
        rows: Rows of `draw(..., epoch=0)`, of one split, perhaps more than once. Those of known
            look-alikes stay as they are.
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
    is_known = pc.equal(rows["family"], LOOK_ALIKE).to_numpy()
    plan = config.sets[rows["split"][0].as_py()]
    places, tables = [np.flatnonzero(is_known)], [rows.filter(pa.array(is_known))]
    kinds[is_known] = LOOK_ALIKE
    for kind in np.unique(kinds[~is_known]).tolist():
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


def _as_observed(hosts: pa.Table, plan: roles.SetPlan, bands: Sequence[str]) -> pa.Table:
    """One row of each galaxy that is known for a look-alike."""
    copy = np.zeros(hosts.num_rows, np.int64)
    stamp_id = keys.stamp_id(hosts["target_id"].to_numpy(), LOOK_ALIKE, copy)
    texts = {
        "population": plan.population,
        "family": LOOK_ALIKE,
        "kind": hosts[LOOK_ALIKE],
        "sky_weight": roles.weight_as_observed(plan),
    }
    return _table(hosts, "control", stamp_id, copy, texts, {}, bands)


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
    if plan.controls == "paired" and kind in ("control", *COPIES):
        texts["pair_id"] = lens_id
    elif (
        plan.controls == "host_matched" and kind == "control" and "matched_id" in hosts.column_names
    ):
        texts["pair_id"] = keys.stamp_id(hosts["matched_id"].to_numpy(), "lens", copy)
    if kind == "control":
        return _table(hosts, kind, stamp_id, copy, texts, {}, config.bands), np.ones(
            len(copy), bool
        )
    ids = lens_id if kind in COPIES else stamp_id
    columns, kept, shape = _light(ids, hosts, kind, plan, config)
    texts |= shape
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
) -> tuple[Columns, Flags, dict[str, Any]]:
    """The injected light of n rows, whether the lens behind it was kept, and what it is made of."""
    seen = _seen(hosts, config)
    kept = np.ones(len(ids), bool)
    seed, is_physical = config.seed, plan.population == "physical"
    if is_physical:
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
    if not is_physical and config.training.prior == "broad":
        snr = keys.uniform(ids, seed=seed, stream="arc_snr")
        columns["arc_snr_target"] = priors.log_flat(config.training.arc_snr_g, snr)
    if kind in PAINTED:
        columns, shape = shaping.painted(
            ids, hosts, seen, kind, columns, config=config, is_held=is_physical
        )
        return columns, kept, shape
    if kind == "single_image":
        reach = config.shapes.single_image_reach
        x, y = priors.positions_outside(ids, lens, reach=reach, seed=seed)
    else:
        x, y = priors.positions_inside(ids, lens, seed=seed)
    columns |= {"src_x_arcsec": x, "src_y_arcsec": y}
    if kind not in COPIES:
        return columns, kept, {}
    radius, shape = shaping.in_pieces(ids, hosts, seen, kind, columns, config=config)
    return columns | radius, kept, shape


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
    given = np.asarray(values).astype(field.type.to_pandas_dtype())
    return pa.array(given, field.type, from_pandas=True)  # NaN: it does not apply


def _without_absent_pairs(rows: pa.Table) -> pa.Table:
    """Null where a pair's lens was not made."""
    there = pc.is_in(rows["pair_id"], value_set=rows["stamp_id"].combine_chunks())
    pair = pc.if_else(there, rows["pair_id"], pa.scalar(None, pa.int64()))
    return rows.set_column(
        rows.schema.get_field_index("pair_id"), rows.schema.field("pair_id"), pair
    )
