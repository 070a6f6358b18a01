"""Report: every figure of a model's scores, as a page, as JSON and as a table.

In:  scores of the sets `test` and `calib`, or what an ensemble makes of them; splits and cutouts
     without pixels, for the counts; manifest, for what was drawn; candidates, where the run has
     them; what gates and audit said, hashes and the model's description, for the card; where it was
     mined for the model, what was mined and the scores of all rounds; pixels of the few stamps that
     the galleries show.
Out: a folder with index.html, metrics.json, metrics.parquet, card.md and the card's pictures.

The operating points have thresholds that were chosen on `calib` and are measured on `test`. Tables,
curves, strata, kinds and purity place their thresholds on `test` itself, and their intervals carry
the threshold's own uncertainty; the page says which is which. No figure is computed here: the page
shows what `evaluate` has put into metrics.json. Pixels are asked for by id, as the galleries show
some dozens of stamps and a test set may hold millions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkhaloscope.core import schemas
from darkhaloscope.core.columns import TEXT, column
from darkhaloscope.core.contracts import (
    Input,
    PixelSource,
    Provenance,
    Scratch,
    Stage,
    TrainedModel,
)
from darkhaloscope.core.settings.report import ReportConfig
from darkhaloscope.evaluate import (
    audit_section,
    card,
    committee,
    drawn,
    html,
    metrics,
    mining_section,
    pictures,
    plots,
    published,
    rows,
)
from darkhaloscope.evaluate import mining as evaluate_mining
from darkhaloscope.evaluate.calibration import calibration
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Evaluation, Plan
from darkhaloscope.evaluate.rows import Floats, Rows

RESOLUTION = ("theta_e_arcsec", "theta_e_over_fwhm_r", "theta_e_over_psfsize_r")
OF_TARGETS = ("psf_fwhm_r_arcsec", "depth_r_mag", "host_mag_z")
PICTURE_PX = 64  # side of a candidate's picture, px: that of a stamp
GROUP_THETA_E_ARCSEC = 2.5  # from here on a lens is likelier a group: docs/populations.md
UNCALIBRATED = "As the probability that one candidate is a lens: scores are not calibrated."
OTHER_SKY = (
    "As the probability that a candidate is a lens on another sky: those given are for {} lenses "
    "per target, and for negatives as in calib."
)
FAILURES = ("Missed lenses", "Worst negatives")  # galleries that the card shows
OF_MANIFEST = ("theta_e_arcsec", "lens_z", "src_z", "src_mag_r", "src_r_eff_arcsec")


def run(  # noqa: PLR0913  (what a report is made of, by name)
    *,
    scores: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    manifest: pa.Table,
    scratch: Scratch,
    pixels: PixelSource,
    config: ReportConfig,
    candidates: pa.Table | None = None,
    models: Sequence[TrainedModel] = (),
    provenance: Provenance | None = None,
    audit: pa.Table | None = None,
    mined: pa.Table | None = None,
    earlier: pa.Table | None = None,
    lists: Mapping[str, pa.Table] | None = None,
    ensemble: pa.Table | None = None,
) -> Path:
    """Evaluate one model or ensemble and write its report; return the folder.

    Without `models` or `provenance` the card says that they are not known. `scores` are those of
    the last round of mining, `earlier` with the column `round` those of the others; of an ensemble
    `ensemble` stands in their place, `models` and `audit` are those of its members, and `earlier`
    that of the one that is trained in rounds.

    Raises:
        DataError: the scores cannot be evaluated: NaN, one class only, no row with a label.
    """
    if config.ensemble is not None and ensemble is not None:
        scores = ensemble
    columns = (*RESOLUTION, f"arc_snr_{config.arc_snr_band}", *OF_TARGETS)
    weight = None if config.lens_weight == "equal" else config.lens_weight
    sets = {}
    for name in ("test", "calib"):
        chosen = scores.filter(pc.equal(scores["set"], name))
        where = f"scores of {config.model}, set {name}"
        sets[name] = rows.from_scores(chosen, weight=weight, columns=columns, where=where)
    result = metrics.evaluate(sets["test"], _plan(config), calib=sets["calib"])
    judged = _committee(scores, sets["test"], config)
    lenses = _lenses(manifest, scores, config)
    audited = audit_section.by_member([] if audit is None else audit.to_pylist())
    mining = _mining(scores, earlier, mined, lists or {}, config)
    beside = {"drawn": _drawn(lenses), "audit": audit_section.listed(audited), "mining": mining}
    figures = metrics.finite({**result.metrics, **beside, **judged})
    folder = scratch.path / "report"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    pq.write_table(metrics.flat(figures), folder / "metrics.parquet")
    best = plots.best_fpr(result.curve)
    top = None if candidates is None else candidates.sort_by("rank")
    test = scores.filter(pc.equal(scores["set"], "test"))
    shares, galleries = _shares(splits), _galleries(test, top, figures, pixels, config)
    said = cautions(figures, result, config)
    described = card.Card(
        title=f"Model card: {config.model}",
        subtitle=f"Tested on {_population(config)}; bands {' '.join(config.bands)}.",
        network=_named(models, config),
        members=[] if config.ensemble is None else [_network(model) for model in models],
        metrics=figures,
        splits=shares,
        gates=None if provenance is None else provenance.gates,
        settings={} if provenance is None else provenance.settings,
        data={} if provenance is None else provenance.data,
        cautions=said,
        failures=[g for g in galleries if g.title in FAILURES],
        sections=[
            *([committee.card_section(figures["committee"])] if judged else []),
            *([mining_section.card_section(mining)] if mining else []),
            *[audit_section.card_section(rows, name) for name, rows in audited.items()],
        ],
    )
    card.write(folder, described)
    page = html.Page(
        title=f"Lens finder “{config.model}”: what it finds and what it misses",
        subtitle=f"Tested on {_population(config)}; bands {' '.join(config.bands)}.",
        metrics=figures,
        plots={**_plots(result, sets["test"], figures, best), **_plot_of_drawn(lenses)},
        best_fpr=best,
        splits=shares,
        refused=_refused(cutouts),
        n_targets=cutouts.num_rows,
        drawn=figures["drawn"],
        samples=published.SAMPLES,
        galleries=galleries,
        candidates=[] if top is None else _top(top.slice(0, config.top_candidates), config),
        cautions=said,
        is_simulated_sky=config.sky == "simulated",
        gates=None if provenance is None else card.judged(provenance.gates),
        sections=[
            *([committee.page_section(figures["committee"])] if judged else []),
            *([mining_section.page_section(mining)] if mining else []),
            *[audit_section.page_section(rows, name) for name, rows in audited.items()],
        ],
    )
    (folder / "index.html").write_text(html.render(page), encoding="utf-8")
    return folder


def _committee(scores: pa.Table, test: Rows, config: ReportConfig) -> dict[str, Any]:
    """Calibration of an ensemble's probabilities, and what is said of it; empty for one network."""
    if config.ensemble is None:
        return {}
    of_test = pc.and_(pc.equal(scores["set"], "test"), pc.is_valid(scores["label"]))
    known = scores.filter(of_test)
    plan = _plan(config)
    at = config.ensemble.prevalence
    claimed = replace(test, score=_floats(known["probability"]), score_kind="probability")
    calibrated, reason = calibration(claimed, plan.prevalences, at=at, draws=plan.draws)
    members = config.ensemble.members
    logits = np.array(known["member_logits"].to_pylist(), np.float64).reshape(-1, len(members))
    apart = _floats(known["disagreement"])
    judged = committee.figures(
        test,
        plan,
        members=members,
        logits=logits,
        disagreement=None if np.isnan(apart).any() else apart,
        probability=claimed.score,
        contaminated=_floats(known["probability_contaminated"]),
        prevalence=at,
        contaminants_times=config.ensemble.contaminants_times,
    )
    return {"calibration": calibrated, "calibration_reason": reason, "committee": judged}


def _named(models: Sequence[TrainedModel], config: ReportConfig) -> dict[str, str]:
    """What the one network says of itself, or the run's file of an ensemble."""
    if config.ensemble is None:
        return _network(models[0]) if models else {}
    return {
        "name in the run file": config.model,
        "members": ", ".join(config.ensemble.members),
        "combined by": config.ensemble.combine,
        "calibration": config.ensemble.calibration,
        "lenses per target": f"{config.ensemble.prevalence:g}",
    }


def _mining(
    scores: pa.Table,
    earlier: pa.Table | None,
    mined: pa.Table | None,
    lists: Mapping[str, pa.Table],
    config: ReportConfig,
) -> dict[str, Any] | None:
    """Figures of the rounds of mining, of the headline's lenses; None where there is one round."""
    if config.mined is None or earlier is None or mined is None or not earlier.num_rows:
        return None
    if config.ensemble is not None:
        last = [(config.mined.model, k) for k in (None, config.mined.rounds)]
        place = next(j for j, member in enumerate(config.ensemble.named) if member in last)
        own = [name for name in earlier.schema.names if name != "round"]
        scores = committee.of_member(scores, place).select(own)
    this = pc.max(earlier["round"]).as_py() + 1
    made = pa.array(np.full(scores.num_rows, this), earlier.schema.field("round").type)
    own = scores.append_column(earlier.schema.field("round"), made)
    both = pa.concat_tables([earlier, own])
    whose, chosen = _headline_only(both, config)
    of = {name: chosen.filter(pc.equal(chosen["set"], name)) for name in ("test", "val")}
    truth = [lists[address] for address in config.planted_lenses]
    return evaluate_mining.figures(
        of["test"],
        of["val"],
        mined,
        config.mined,
        planted=evaluate_mining.planted_among(mined, truth) if truth else None,
        whose=whose,
    )


def _headline_only(scores: pa.Table, config: ReportConfig) -> tuple[str, pa.Table]:
    """The headline's lenses in words, and they with the negatives; all where a set has none."""
    least = config.headline_theta_e_over_fwhm_r_min, config.headline_arc_snr_min
    snr = f"arc_snr_{config.arc_snr_band}"
    is_of = pc.and_(
        pc.greater_equal(scores["theta_e_over_fwhm_r"], least[0]),
        pc.greater_equal(scores[snr], least[1]),
    )
    is_lens = pc.equal(scores["label"], 1)
    is_of = pc.and_(is_lens, pc.fill_null(is_of, fill_value=False))
    held = set(scores.filter(is_of)["set"].to_pylist())
    if not {"test", "val"} <= held:
        return "all lenses", scores
    said = f"lenses with θ_E / FWHM_r >= {least[0]:g} and arc S/N >= {least[1]:g}"
    return said, scores.filter(pc.or_(pc.invert(is_lens), is_of))


def _network(model: TrainedModel) -> dict[str, str]:
    """What the model's own files say of it."""
    said = json.loads((model.folder / "model.json").read_text(encoding="utf-8"))
    done = json.loads((model.folder / "done.json").read_text(encoding="utf-8"))
    normalisation = {k: v for k, v in said["normalisation"].items() if v not in (None, [], {})}
    return {
        "name in the run file": model.name,
        "design": said["network"],
        "bands": " ".join(said["bands"]),
        "stamps": f"{said['size_px']} px of {said['pixel_scale_arcsec']:g} arcsec",
        "normalisation": ", ".join(f"{k} {v}" for k, v in normalisation.items()),
        "epoch, the first is 0": str(said["epoch"]),
        **{f"{k}, on val": f"{v:.4g}" for k, v in said["metrics"].items() if k.startswith("val")},
        "trained from": said["training_digest"],
        "weights, sha256": done["files"]["model.safetensors"],
    }


def cautions(figures: Mapping[str, Any], result: Evaluation, config: ReportConfig) -> list[str]:
    """What the figures must not be used for, one sentence each; all of it follows from the data."""
    missing = [k for k in schemas.KINDS if k not in {*figures["by_kind"], "lens", "sky"}]
    lowest = html.power(plots.smallest_fpr(result.curve))
    n_regions = figures["n_regions"] or 0
    said = [
        "As the recall of real lenses: the lenses here are injected, and real sources have more "
        f"structure than {_painted(figures['sources_by_kind'])}.",
        "As a figure for all lenses where it is that of a stratum: name the stratum beside it.",
        f"For false-positive rates below {lowest}: {figures['n_negatives']:,} negatives cannot "
        f"bound them.",
        "As a purity without a prevalence: how rare lenses are is stated, not measured.",
        *([] if figures["calibration"] else [UNCALIBRATED]),
    ]
    if config.ensemble is not None:
        said.append(OTHER_SKY.format(html.power(config.ensemble.prevalence)))
    if config.sky == "simulated":
        said.insert(
            0, "For any statement about the real sky: hosts, noise and look-alikes are simulated."
        )
    else:
        said.append("Below the contamination floor: some negatives may be undiscovered lenses.")
    if figures["illustrative"]:
        said.append(
            f"As more than an example of what real sources give: {figures['illustrative']}."
        )
    if missing:
        said.append(f"For kinds of negative that the test set does not hold: {', '.join(missing)}.")
    is_told = figures["auroc"].get("region_low") is not None
    spread = (
        "only the intervals over regions hold the differences between them"
        if is_told
        else "differences from region to region are not in the intervals"
    )
    return [
        *said,
        f"For other parts of the sky than the {n_regions} regions of the test set: {spread}.",
    ]


def _painted(sources_by_kind: Mapping[str, int]) -> str:
    """What the sources were, in words."""
    if "catalogue" in sources_by_kind:
        return "most of those painted: only a part of them are pictures of real galaxies"
    if "clumpy" in sources_by_kind:
        return "the light profiles and the generated galaxies that were painted"
    return "the light profiles that were painted"


def _plan(config: ReportConfig) -> Plan:
    snr = f"arc_snr_{config.arc_snr_band}"
    return Plan(
        draws=Draws(config.seed, config.interval_draws),
        origin="sim",  # injected lenses are simulated whatever the sky is
        population=_population(config),
        prevalences=config.prevalences,
        bins={
            "theta_e_arcsec": config.theta_e_edges_arcsec,
            "theta_e_over_fwhm_r": config.theta_e_over_fwhm_r_edges,
            "theta_e_over_psfsize_r": config.theta_e_over_psfsize_r_edges,
            snr: config.arc_snr_edges,
        },
        headline={
            "theta_e_over_fwhm_r": config.headline_theta_e_over_fwhm_r_min,
            snr: config.headline_arc_snr_min,
        },
        target_bins={
            "psf_fwhm_r_arcsec": config.psf_fwhm_r_edges_arcsec,
            "depth_r_mag": config.depth_r_edges_mag,
            "host_mag_z": config.host_mag_z_edges,
        },
        seconds_per_stamp=config.seconds_per_stamp,
    )


def _population(config: ReportConfig) -> str:
    weighed = {"equal": "each counted once", "weight_population": "weighted to their population"}
    return f"injected lenses, {weighed[config.lens_weight]}, on a {config.sky} sky"


def _plots(
    result: Evaluation, test: Rows, figures: Mapping[str, Any], fpr: float
) -> dict[str, str]:
    calibrated = figures["calibration"]
    axes = {"theta_e_arcsec": r"$\theta_E$, arcsec", "theta_e_over_fwhm_r": r"$\theta_E$ / FWHM r"}
    return {
        "roc": plots.roc(result),
        "scores": plots.score_distributions(test),
        "completeness": plots.completeness(figures, axes, fpr),
        **({"reliability": plots.reliability(calibrated)} if calibrated else {}),
    }


def _lenses(
    manifest: pa.Table, scores: pa.Table, config: ReportConfig
) -> dict[str, dict[str, Floats]]:
    """The injected lenses of each split: their numbers, and what was measured of painted ones."""
    snr = [f"arc_snr_{b}" for b in config.bands]
    manifest = manifest.sort_by("stamp_id")  # sums do not depend on the order of tiles
    made = {}
    for split in ("train", "val", "calib", "test"):
        mine = manifest.filter(
            pc.and_(pc.equal(manifest["kind"], "lens"), pc.equal(manifest["split"], split))
        )
        if not mine.num_rows:
            continue
        at = pc.index_in(mine["stamp_id"], value_set=scores["stamp_id"].combine_chunks())
        beside = scores.take(at)
        best = np.stack([_floats(beside[name]) for name in snr])
        measured = np.isfinite(best).any(0)
        made[split] = {
            **{name: _floats(mine[name]) for name in OF_MANIFEST},
            "magnification": _floats(beside["magnification"]),
            "arc_snr": np.where(measured, np.where(np.isfinite(best), best, -1).max(0), np.nan),
            "visible": _floats(beside["ground_visible"]),
            "weight": _floats(mine["weight_population"]),
            "is_group": _floats(mine["is_group_lens"]),
        }
    return made


def _drawn(lenses: Mapping[str, Mapping[str, Floats]]) -> list[dict[str, Any]]:
    """Rows of the table of what was drawn: each split's lenses, then parts of the test set's."""
    asked = [(f"all of {split}", columns) for split, columns in lenses.items()]
    if "test" in lenses:
        test = lenses["test"]
        parts = {
            "test, visible": test["visible"] == 1,
            f"test, θ_E < {GROUP_THETA_E_ARCSEC}": test["theta_e_arcsec"] < GROUP_THETA_E_ARCSEC,
            f"test, θ_E >= {GROUP_THETA_E_ARCSEC}": test["theta_e_arcsec"] >= GROUP_THETA_E_ARCSEC,
            "test, lens is a group": test["is_group"] == 1,
        }
        asked += [(name, drawn.part(test, rows)) for name, rows in parts.items() if rows.any()]
    return [
        drawn.summary(
            name,
            {q: columns[q] for q in drawn.QUANTITIES},
            weight=drawn.usable_weight(columns["weight"]),
            visible=columns["visible"],
        )
        for name, columns in asked
    ]


def _plot_of_drawn(lenses: Mapping[str, Mapping[str, Floats]]) -> dict[str, str]:
    """The plot of the test set's lenses, where it has any that stand for a population."""
    test = lenses.get("test")
    weight = None if test is None else drawn.usable_weight(test["weight"])
    if test is None or weight is None:
        return {}
    axes = {
        "theta_e_arcsec": r"$\theta_E$, arcsec",
        "src_mag_r": "source r, mag",
        "lens_z": "lens redshift",
        "src_z": "source redshift",
        "src_r_eff_arcsec": r"source $r_\mathrm{eff}$, arcsec",
        "magnification": "magnification",
    }
    return {"drawn": plots.drawn(test, weight, axes, published.SAMPLES)}


def _floats(column: pa.ChunkedArray) -> Floats:
    """Numbers or flags as float64, null as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _shares(splits: pa.Table) -> list[dict[str, Any]]:
    """Galaxies, regions and area of each split, in the order of their use."""
    made = []
    for name in schemas.SPLITS:
        mine = splits.filter(pc.equal(splits["split"], name))
        made.append(
            {
                "split": name,
                "galaxies": mine.num_rows,
                "share": mine.num_rows / max(splits.num_rows, 1),
                "regions": pc.count_distinct(mine["region_id"]).as_py(),
                "area_deg2": pc.sum(mine["area_deg2"]).as_py() or 0.0,
            }
        )
    return made


def _refused(cutouts: pa.Table) -> dict[str, int]:
    """Number of targets for each reason of refusal, most frequent first."""
    reasons = pc.value_counts(cutouts["refused"].drop_null())
    found = {str(r["values"]): int(r["counts"]) for r in reasons.to_pylist()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _galleries(
    test: pa.Table,
    top: pa.Table | None,
    figures: Mapping[str, Any],
    pixels: PixelSource,
    config: ReportConfig,
) -> list[html.Gallery]:
    """Best and missed lenses, the highest-scored negatives, and the top of the sky."""
    n = config.gallery_stamps
    if n == 0:
        return []
    lenses = test.filter(pc.equal(test["label"], 1))
    negatives = test.filter(pc.equal(test["label"], 0))
    snr = f"arc_snr_{config.arc_snr_band}"
    visible = pc.and_(
        pc.greater_equal(lenses["theta_e_over_fwhm_r"], config.headline_theta_e_over_fwhm_r_min),
        pc.greater_equal(lenses[snr], config.headline_arc_snr_min),
    )
    headline = lenses.filter(visible)
    missed = headline if headline.num_rows else lenses
    whose = f"headline stratum, {figures['headline']['stratum']}" if headline.num_rows else "all"
    shown = [
        (
            "Best lenses",
            "Lenses of the test set with the highest scores; of a galaxy's copies the highest.",
            _ranked(lenses, "descending"),
        ),
        (
            "Missed lenses",
            f"Lenses of the test set ({whose}) with the lowest scores, lowest first; of a galaxy's "
            "copies the lowest.",
            _ranked(missed, "ascending"),
        ),
        (
            "Worst negatives",
            "Negatives of the test set with the highest scores: what is mistaken for a lens.",
            _ranked(negatives, "descending"),
        ),
    ]
    made = [
        html.Gallery(title, note, _stamps(table.slice(0, n), pixels, config))
        for title, note, table in shown
    ]
    if top is not None:
        note = "Targets of the sky with the highest scores, as observed; nobody has graded them."
        made.append(html.Gallery("Top of the sky", note, _sky(top.slice(0, n), pixels, config)))
    return made


def _ranked(stamps: pa.Table, order: Literal["ascending", "descending"]) -> pa.Table:
    """Stamps in the order of their scores; of a galaxy's copies within a kind the first of it."""
    table = stamps.sort_by([("logit", order), ("stamp_id", "ascending")])
    units = np.stack(
        [
            table["target_id"].to_numpy(),
            pc.index_in(table["kind"], pa.array(schemas.KINDS)).to_numpy(),
        ]
    )
    _, first = np.unique(units, axis=1, return_index=True)
    return table.take(np.sort(first))


def _stamps(table: pa.Table, pixels: PixelSource, config: ReportConfig) -> list[html.Stamp]:
    """Pictures of stamps of the test set."""
    if not table.num_rows:
        return []
    images = pictures.rgb(pixels.stamps(table["stamp_id"].to_numpy()), config.bands)
    return [
        html.Stamp(
            pictures.png(image),
            row["logit"],
            row["kind"],
            _details(row, config),
            str(row["stamp_id"]),
        )
        for image, row in zip(images, table.to_pylist(), strict=True)
    ]


def _details(row: Mapping[str, Any], config: ReportConfig) -> tuple[str, ...]:
    """What the caption says of an injection; a host left alone has only its magnitude."""
    said = []
    if row["theta_e_arcsec"]:
        said.append(f'θ_E {row["theta_e_arcsec"]:.2f}"')
    snr = row[f"arc_snr_{config.arc_snr_band}"]
    if snr is not None:
        said.append(f"S/N {snr:.0f} in {config.arc_snr_band}")
    if row["host_mag_z"] is not None:
        said.append(f"host z-band {row['host_mag_z']:.1f} mag")
    return tuple(said)


def _sky(top: pa.Table, pixels: PixelSource, config: ReportConfig) -> list[html.Stamp]:
    """Pictures of candidates; a simulated galaxy has no place in the viewer."""
    if not top.num_rows:
        return []
    whole = pixels.cutouts(top["target_id"].to_numpy())
    edge = max(0, (whole.shape[-1] - PICTURE_PX) // 2)
    inner = slice(edge, whole.shape[-1] - edge)
    images = pictures.rgb(whole[:, :, inner, inner], config.bands)
    return [
        html.Stamp(
            pictures.png(image),
            row["logit"],
            f"rank {row['rank']}",
            (f"split {row['split']}",),
            str(row["target_id"]),
            row["viewer_url"] if config.sky == "real" else "",
        )
        for image, row in zip(images, top.to_pylist(), strict=True)
    ]


def _top(top: pa.Table, config: ReportConfig) -> Sequence[Mapping[str, Any]]:
    """The rows of the candidate table as the page prints them; ids are text."""
    is_calibrated = top["probability"].null_count < top.num_rows
    return [
        {
            "rank": str(row["rank"]),
            "target": str(row["target_id"]),
            "RA, deg": f"{row['ra_deg']:.5f}",
            "Dec, deg": f"{row['dec_deg']:.5f}",
            "score (logit)": html.number(row["logit"], 4),
            **(_claimed(row) if is_calibrated else {}),
            **{
                f"{b}, mag": "–" if row[f"mag_{b}"] is None else f"{row[f'mag_{b}']:.2f}"
                for b in config.bands
            },
            "FWHM r, arcsec": f"{row['psf_fwhm_r_arcsec']:.2f}",
            "masked": html.share(row["masked_fraction"]),
            "split": row["split"],
            "merged": str(row["n_merged"]),
            "link": row["viewer_url"] if config.sky == "real" else "",
        }
        for row in top.to_pylist()
    ]


def _claimed(row: Mapping[str, Any]) -> dict[str, str]:
    """What an ensemble says of a candidate; one network has nothing to disagree with."""
    apart = {} if row["disagreement"] is None else {"apart": html.number(row["disagreement"], 2)}
    return {"probability": html.share(row["probability"]), **apart}


def _shares_of(bands: schemas.Bands) -> pa.Schema:
    """What is read of the splits."""
    names = ("target_id", "region_id", "split", "area_deg2")
    return pa.schema([schemas.splits(bands).field(name) for name in names])


def _injections(bands: schemas.Bands) -> pa.Schema:
    """What is read of the manifest."""
    names = ("stamp_id", "kind", "split", "weight_population", "is_group_lens", *OF_MANIFEST)
    return pa.schema([schemas.manifest(bands).field(name) for name in names])


def _scores_of_rounds(bands: schemas.Bands) -> pa.Schema:
    """What is read of the scores of earlier rounds: which round it was, too."""
    return schemas.scores(bands).append(schemas.mined(bands).field("round"))


def _audits(bands: schemas.Bands) -> pa.Schema:
    """Rows of audits, and whose they are."""
    return schemas.audit(bands).append(column("member", TEXT, "NAME/round=k"))


def _ids(bands: schemas.Bands) -> pa.Schema:
    """The stamps are read by id only; this names them for the digest."""
    return pa.schema([schemas.stamps(bands).field("stamp_id")])


def _refusals(bands: schemas.Bands) -> pa.Schema:
    """What is read of the cutouts."""
    head = schemas.cutouts_head(bands)
    return pa.schema([head.field(name) for name in ("target_id", "refused")])


STAGE = Stage(
    name="report",
    version=8,
    run=run,
    inputs=(
        Input("scores", schemas.scores, scope="whole", sets=("val", "calib", "test")),
        Input(
            "scores",
            _scores_of_rounds,
            scope="whole",
            sets=("val", "test"),
            rounds="earlier",
            handed_as="earlier",
        ),
        Input("mined", schemas.mined, scope="whole", rounds="earlier"),
        Input("audit", _audits, scope="whole"),
        Input("ensemble", schemas.ensemble, scope="whole", sets=("val", "calib", "test")),
        Input("splits", _shares_of, scope="whole"),
        Input("cutouts", _refusals, scope="whole"),
        Input("manifest", _injections, scope="whole"),
        Input("candidates", schemas.candidates, scope="whole"),
        Input("stamps", _ids, scope="whole", sets=("test",), is_handed=False),
        Input("model", _ids, scope="whole", is_handed=False),
        Input("gates", _ids, scope="whole", is_handed=False),
    ),
    output=None,
    partition="whole",
    needs=("scratch", "pixels", "models", "provenance", "lists"),
)
