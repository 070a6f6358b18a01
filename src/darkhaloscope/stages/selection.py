"""Selection: the share of lenses that end up in the candidate list, and how well that is known.

In:  scores of the sets `calib` and `test`; splits, for the catalogue's fluxes; cutouts without
     pixels, for what was refused; stamps of the test set without pixels, for the arcs' light; the
     model, for the hash of its weights.
Out: a folder with selection.parquet and selection.ecsv (cells), lenses.parquet (each injected lens
     with `still_selected` and `is_found`), selection.json (the fitted function and all figures),
     two plots and index.html.

Completeness is P(target | lens) P(usable cutout | target) P(score >= threshold | both), for the
injected lenses of the test set. The threshold is chosen on `calib`. It is an artefact and no table:
its files are of one making, and are published together or not at all. What cannot be had, as there
are too few lenses or negatives, is said in words, and the rest is written. docs/selection.md has
the method.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkhaloscope.core import schemas
from darkhaloscope.core.config import digest_text
from darkhaloscope.core.contracts import Input, Scratch, Stage, TrainedModel
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.selection import SelectionConfig
from darkhaloscope.data.store import sha256_of
from darkhaloscope.evaluate import (
    drawn,
    intervals,
    metrics,
    rows,
    sample,
    selection_cells,
    selection_check,
    selection_page,
    selection_plots,
    selection_record,
    thresholds,
)
from darkhaloscope.evaluate.rows import Flags, Floats
from darkhaloscope.evaluate.selection import FILE, WEIGHTS, SelectionFunction
from darkhaloscope.evaluate.selection_cells import AXES, Injections, Least, Usable
from darkhaloscope.survey.lrg import dereddened, lrg_variants

CUT_BANDS = ("r", "z", "w1")
LENS_COLUMNS = ("theta_e_arcsec", "src_mag_r", "psf_fwhm_r_arcsec", "depth_r_mag")  # as AXES
INSIDE_STAMP = "the whole stamp"


def run(
    *,
    scores: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    stamps: pa.Table,
    model: TrainedModel,
    scratch: Scratch,
    config: SelectionConfig,
) -> Path:
    """Measure the selection function of one model and write it; return the folder.

    Raises:
        DataError: the test set has no lens; a lens has no stamp, or no row in splits.
    """
    chosen, threshold = _threshold(scores, config)
    lenses = _of_set(scores, "test")
    lenses = lenses.filter(pc.equal(lenses["kind"], "lens")).sort_by("stamp_id")
    if not lenses.num_rows:
        raise DataError(
            "scores of the set test hold no lens: a selection function needs some; give "
            "manifest.sets.test a share of them"
        )
    is_target = {
        name: still_selected(lenses, splits, light, config)
        for name, light in _arc_light(lenses, stamps).items()
    }
    used = f"{config.aperture_arcsec} arcsec"
    injected = _injections(lenses, is_target[used], threshold)
    usable, refused = _usable(splits, cutouts, config)
    least = Least(config.least_injections, config.least_hosts, config.least_sources)
    records = selection_cells.cells(injected, usable, config.edges, least)
    content: dict[str, Any] = {
        "model": {"name": model.name, "sha256": sha256_of(model.folder / WEIGHTS)},
        "settings_sha256": hashlib.sha256(digest_text(config).encode()).hexdigest(),
        "sky": config.sky,
        "threshold": chosen,
        "fpr_on_test": _fpr_on_test(scores, threshold),
        "target_cuts": config.targets.model_dump(include={"variant", "is_dereddened"}),
        "aperture_arcsec": config.aperture_arcsec,
        "target_by_aperture": selection_record.by_aperture(injected, is_target, used),
        "fit": selection_check.checked(
            injected,
            config.edges,
            least,
            seed=config.seed,
            held_out_share=config.held_out_share,
            tolerance=config.slope_tolerance,
        ),
    }
    content |= selection_record.measured(injected, usable, records, config.edges, least)
    content["usable"]["refused"] = refused
    content = selection_record.stated(content)
    folder = scratch.path / "selection"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, content, selection_record.table(records))
    pq.write_table(_lenses_table(lenses, injected), folder / "lenses.parquet")
    return folder


def still_selected(
    lenses: pa.Table, splits: pa.Table, light: Mapping[str, Floats], config: SelectionConfig
) -> Flags:
    """Whether each lens's galaxy passes the target cuts with the arc's light in the catalogue.

    Args:
        lenses: Rows with a `target_id`, n of them.
        splits: The targets with their catalogued fluxes and dust.
        light: Arc light as observed by band, nmgy, shape (n,) each; a band that is not there gets
            none.
        config: The cuts.

    Raises:
        DataError: a galaxy is not in `splits`.
    """
    at = pc.index_in(lenses["target_id"], value_set=splits["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} lenses have no row in splits; rerun stage scores")
    hosts = splits.take(at)
    flux = {}
    for band in CUT_BANDS:
        flux[band] = _floats(hosts[f"flux_{band}_nmgy"]) + light.get(band, 0.0)
        if config.targets.is_dereddened:
            flux[band] = dereddened(flux[band], _floats(hosts[f"mw_transmission_{band}"]))
    return lrg_variants(flux)[config.targets.variant]


def _arc_light(lenses: pa.Table, stamps: pa.Table) -> dict[str, dict[str, Floats]]:
    """Arc light by band, for each aperture and for the whole stamp."""
    at = pc.index_in(lenses["stamp_id"], value_set=stamps["stamp_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} lenses of the test set have no stamp; rerun stage scores")
    beside = stamps.take(at)
    names = {f"{radius} arcsec": f"arc_flux_{n}" for n, radius in _APERTURES.items()}
    names[INSIDE_STAMP] = "injected_flux"
    return {
        said: {band: _floats(beside[f"{name}_{band}_nmgy"]) for band in _LIT}
        for said, name in names.items()
    }


_APERTURES = schemas.ARC_APERTURES_ARCSEC
_LIT = ("r", "z")  # bands of the cuts in which arcs are painted


def _injections(lenses: pa.Table, is_target: Flags, threshold: float | None) -> Injections:
    found = None if threshold is None else _floats(lenses["logit"]) >= threshold
    return Injections(
        {axis: _floats(lenses[name]) for axis, name in zip(AXES, LENS_COLUMNS, strict=True)},
        lenses["target_id"].to_numpy(),
        rows.codes(lenses["source_id"]),
        is_target,
        found,
        drawn.usable_weight(_floats(lenses["weight_population"])),
    )


def _threshold(scores: pa.Table, config: SelectionConfig) -> tuple[dict[str, Any], float | None]:
    """The threshold that `calib` gives, as the JSON has it, and as a number; None: none."""
    chosen: dict[str, Any] = {
        "at_fpr": config.at_fpr,
        "value": None,
        "chosen_on": "calib",
        "n_negatives": 0,
        "score_kind": "logit",
        "note": "",
    }
    try:
        calib = rows.from_scores(_of_set(scores, "calib"), weight=None, where="scores of calib")
    except DataError as fault:
        return {**chosen, "note": f"no threshold: {' '.join(str(fault).split())}"}, None
    found = thresholds.chosen(calib, on="calib", at=(config.at_fpr,))
    chosen["n_negatives"] = found.n_negatives
    if not found.points:
        return {**chosen, "note": f"no threshold: {found.missing[0][1]}"}, None
    ((_, value),) = found.points
    return {**chosen, "value": value}, value


def _fpr_on_test(scores: pa.Table, threshold: float | None) -> dict[str, Any] | None:
    """The false-positive rate that the threshold has on the test set; None: it has no negatives."""
    test = _of_set(scores, "test")
    if threshold is None or not pc.any(pc.equal(test["label"], 0)).as_py():
        return None
    negatives = sample.negatives(
        rows.from_scores(test, weight=None, where="scores of test"), to_sky=True
    )
    low, high = intervals.fixed_fpr(negatives, threshold)
    side = negatives.side
    value = float(side.kept(threshold))
    return {"value": value, "low": low, "high": high, "k": side.n_kept(threshold), "n": side.n}


def _usable(
    splits: pa.Table, cutouts: pa.Table, config: SelectionConfig
) -> tuple[Usable, dict[str, int]]:
    """Shares of usable cutouts by the catalogue's seeing and depth, and the reasons of refusal.

    The catalogue says a galaxy's psfsize whether or not its cutout is usable; the ratio of FWHM to
    psfsize is that of the cutouts, its median.
    """
    at = pc.index_in(splits["target_id"], value_set=cutouts["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} targets have no row in cutouts; rerun stage cutouts")
    beside = cutouts.take(at)
    ratio = _floats(beside["psf_fwhm_r_arcsec"]) / _floats(beside["psf_nea_r_arcsec"])
    known = ratio[np.isfinite(ratio)]
    factor = float(np.median(known)) if len(known) else np.nan
    shares = selection_cells.usable(
        factor * _floats(splits["psf_nea_r_arcsec"]),
        _floats(splits["depth_r_mag"]),
        beside["refused"].is_null().to_numpy(zero_copy_only=False),
        rows.codes(splits["brickname"]),
        {axis: config.edges[axis] for axis in ("psf_fwhm", "depth")},
    )
    counted = pc.value_counts(beside["refused"].drop_null()).to_pylist()
    refused = {str(r["values"]): int(r["counts"]) for r in counted}
    return shares, dict(sorted(refused.items(), key=lambda item: (-item[1], item[0])))


def _lenses_table(lenses: pa.Table, injected: Injections) -> pa.Table:
    """Each injected lens and what became of it."""
    names = ("stamp_id", "target_id", "source_id", *LENS_COLUMNS, "weight_population", "logit")
    n = len(injected)
    found = pa.nulls(n, pa.bool_()) if injected.is_found is None else pa.array(injected.is_found)
    made = lenses.select(list(names)).append_column("still_selected", pa.array(injected.is_target))
    return made.append_column("is_found", found).combine_chunks()


def _write(folder: Path, content: dict[str, Any], cells: pa.Table) -> None:
    """The files of the artefact."""
    pq.write_table(cells, folder / "selection.parquet")
    text = json.dumps(metrics.finite(content), indent=1, allow_nan=False, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    _write_ecsv(folder / "selection.ecsv", content, cells)
    function = SelectionFunction.load(folder)  # what is drawn is what others will read
    depth = content["sizes"]["median_depth"]
    plots = {
        "theta_e": selection_plots.over_theta_e(
            function,
            psf_fwhm=content["sizes"]["median_psf_fwhm"],
            depth=np.nan if depth is None else depth,
        ),
        "plane": selection_plots.over_plane(function),
    }
    for name, plot in plots.items():
        file = folder / f"completeness-{name.replace('_', '-')}.svg"
        file.write_text(selection_plots.alone(plot), encoding="utf-8")
    page = selection_page.render(function.content, plots)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _write_ecsv(path: Path, content: Mapping[str, Any], cells: pa.Table) -> None:
    """The cells as text with units and meanings, as astropy and TOPCAT read it."""
    from astropy.table import Column, MaskedColumn, Table

    table = Table()
    for field in cells.schema:
        column = cells[field.name]
        facts = {key.decode(): value.decode() for key, value in field.metadata.items()}
        about = {"unit": facts["unit"] or None, "description": facts["meaning"]}
        if column.null_count:
            values = np.nan_to_num(_floats(column))
            is_null = column.is_null().to_numpy(zero_copy_only=False)
            table[field.name] = MaskedColumn(values, mask=is_null, **about)
        else:
            table[field.name] = Column(column.to_numpy(), **about)
    named = ("kind", "format", "population", "settings_sha256", "aperture_arcsec", "notes")
    table.meta = {name: content[name] for name in named}
    table.meta |= {"model": content["model"]["name"], "model_sha256": content["model"]["sha256"]}
    table.meta |= {f"threshold_{k}": v for k, v in content["threshold"].items() if v is not None}
    table.meta["left_out"] = content["left_out"]
    table.write(path, format="ascii.ecsv", overwrite=True)


def _of_set(scores: pa.Table, name: str) -> pa.Table:
    return scores.filter(pc.equal(scores["set"], name))


def _floats(column: pa.ChunkedArray) -> Floats:
    """Numbers as float64, null as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _scores_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the scores."""
    more = ("kind", "label", "set", "region_id", "sky_weight", "weight_population", "area_deg2")
    ids = ("stamp_id", "target_id", "source_id")
    return _chosen(schemas.scores(bands), (*ids, *more, "logit", *LENS_COLUMNS))


def _splits_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the splits."""
    names = [f"{what}_{b}{unit}" for what, unit in _OF_CATALOGUE for b in CUT_BANDS]
    beside = ("target_id", "brickname", "psf_nea_r_arcsec", "depth_r_mag")
    return _chosen(schemas.splits(bands), (*beside, *names))


_OF_CATALOGUE = (("flux", "_nmgy"), ("mw_transmission", ""))


def _cutouts_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the cutouts."""
    names = ("target_id", "psf_nea_r_arcsec", "psf_fwhm_r_arcsec", "refused")
    return _chosen(schemas.cutouts_head(bands), names)


def _stamps_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of the stamps."""
    light = [f"arc_flux_{name}" for name in _APERTURES] + ["injected_flux"]
    names = [f"{name}_{band}_nmgy" for name in light for band in _LIT]
    return _chosen(schemas.stamps(bands), ("stamp_id", *names))


def _chosen(schema: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names if name in schema.names])


STAGE = Stage(
    name="selection",
    version=1,
    run=run,
    inputs=(
        Input("scores", _scores_read, scope="whole", sets=("calib", "test")),
        Input("splits", _splits_read, scope="whole"),
        Input("cutouts", _cutouts_read, scope="whole"),
        Input("stamps", _stamps_read, scope="whole", sets=("test",)),
        Input("model", schemas.scores, scope="whole", is_handed=False),
    ),
    output=None,
    partition="whole",
    needs=("scratch", "model"),
)
