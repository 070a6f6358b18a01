"""Audit: what a trained network does with counterfactuals, and with plain survey cutouts.

In:  the model; its scores of one set and of the sky; manifest, splits, and cutouts without pixels;
     pixels of the galaxies that are looked at; lists of real lenses where the run names any.
Out: audit, one row a check as in `gates`, kept as one JSON file.

Counterfactuals are read from the set's own stamps where it holds them. Lenses with more, less and
no light, and plain galaxies with a faint ring, are painted here, by the code that paints every
stamp. The operating point is fixed on the same set. The set `test` is never looked at.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, PixelSource, Stage, TrainedModel
from darkhaloscope.core.settings.audit import AuditConfig
from darkhaloscope.data.json_table import loads
from darkhaloscope.data.pixels import Layout
from darkhaloscope.evaluate import audit_figures, gates
from darkhaloscope.evaluate.audit_checks import AUDIT
from darkhaloscope.evaluate.audit_judge import Judge
from darkhaloscope.evaluate.gates import Row
from darkhaloscope.ml import auditing_lenses, auditing_plain, saved
from darkhaloscope.ml.auditing import Studio
from darkhaloscope.ml.auditing_case import Case, Network
from darkhaloscope.ml.painters import Camera
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.survey import positions

NOT_STOPPED = "audit.stop is false"
JUDGED_SETS = ("val", "calib")


def run(
    *,
    model: TrainedModel,
    scores: pa.Table,
    manifest: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    pixels: PixelSource,
    device: Device,
    config: AuditConfig,
    sources: SourceBank | None = None,
    lists: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Audit one model.

    Args:
        model: The trained network.
        scores: Of the sets val, calib and sky.
        manifest: All rows.
        splits: All targets.
        cutouts: All cutouts without their pixels.
        pixels: Where pixels of cutouts and stamps are.
        device: Where stamps are painted and scored.
        config: Settings.
        sources: Pictures of galaxies, where the manifest's settings ask for any.
        lists: Positions of real lenses, by address.

    Raises:
        DataError: a galaxy has no pixels, or a logit is not finite.
    """
    network = saved.load(model.folder, device=device.name)
    network.check(Layout(config.bands, config.stamps.size_px, config.pixel_scale_arcsec))
    before = torch.get_num_threads()
    torch.set_num_threads(device.threads)
    try:
        found = audited(
            network, scores=scores, manifest=manifest, splits=splits, cutouts=cutouts,
            pixels=pixels, device=device, config=config, sources=sources, lists=lists or {},
            inputs=network.description.inputs,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    return gates.table(found, AUDIT).cast(schemas.audit(config.bands))


def audited(  # noqa: PLR0913  (what is audited, by name)
    network: Network,
    *,
    scores: pa.Table,
    manifest: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    pixels: PixelSource,
    device: Device,
    config: AuditConfig,
    sources: SourceBank | None,
    lists: Mapping[str, pa.Table],
    inputs: tuple[str, ...] = (),
) -> list[Row]:
    """All rows on whatever answers like a network; the other arguments are those of `run`.

    `inputs` names what the network is told beside the pixels.
    """
    mine = manifest.filter(pc.equal(manifest["split"], config.set))
    has_pictures = mine["src_picture"].null_count < mine.num_rows
    bank = sources.bank(device.name) if sources is not None and has_pictures else None
    seed, camera = config.stamps.seed, _camera(config)
    studio = Studio(cutouts, pixels, camera, seed, network.logits, device.name, bank, inputs)
    draws = audit_figures.Draws(config.seed, config.interval_draws)
    judge = Judge(draws, config.least_galaxies, "sim" if config.sky == "simulated" else "real")
    seen = scores.filter(pc.not_equal(scores["split"], "test"))
    case = Case(network, seen, mine, splits, studio, judge, config)
    found = [*auditing_lenses.found(case), *auditing_plain.found(case, _real(seen, lists, config))]
    waivers = {str(name): reason for name, reason in config.waive.items()}
    if not config.stop:
        waivers = {**dict.fromkeys(AUDIT.guards, NOT_STOPPED), **waivers}
    return gates.finished(found, waivers, AUDIT)


def verdict(file: Path, address: str) -> str:
    """Why the run has failed, in one message; empty: nothing stands against it.

    Args:
        file: The stage's outcome, at hand.
        address: Where it is published.
    """
    table, _ = loads(file.read_text(encoding="utf-8"), where=address)
    return gates.refusal(gates.of_records(table.to_pylist()), address, AUDIT)


def _real(scores: pa.Table, lists: Mapping[str, pa.Table], config: AuditConfig) -> pa.Table | None:
    """Scores of plain cutouts of the real lenses in some lists; None where there is no list."""
    if not lists:
        return None
    sky = scores.filter(pc.equal(scores["set"], "sky"))
    ra, dec = sky["ra_deg"].to_numpy(), sky["dec_deg"].to_numpy()
    is_real = np.zeros(sky.num_rows, bool)
    for listed in lists.values():
        entry, _ = positions.nearest(ra, dec, listed, config.real_lenses_radius_arcsec)
        is_real |= entry >= 0
    return sky.filter(pa.array(is_real))


def _camera(config: AuditConfig) -> Camera:
    """How light becomes pixels: as in the set's stamps."""
    names = ("size_px", "psf_profile", "psf_beta", "electrons_per_nmgy_per_exposure", "batch_rows")
    stated = config.stamps.model_dump(include=set(names))
    return Camera(bands=config.bands, pixel_scale_arcsec=config.pixel_scale_arcsec, **stated)


def _scores_read(bands: schemas.Bands) -> pa.Schema:
    """What is read of scores."""
    names = (
        "stamp_id", "target_id", "source_id", "region_id", "set", "split", "kind", "label",
        "ra_deg", "dec_deg", "logit", "theta_e_over_fwhm_r", *[f"arc_snr_{band}" for band in bands],
    )  # fmt: skip
    return pa.schema([schemas.scores(bands).field(name) for name in names])


def _magnitudes(bands: schemas.Bands) -> pa.Schema:
    """What is read of splits."""
    names = ("target_id", *[f"mag_{band}" for band in bands])
    return pa.schema([schemas.splits(bands).field(name) for name in names])


def _ids(bands: schemas.Bands) -> pa.Schema:
    """Stamps are read by id only; this names them for the digest."""
    return pa.schema([schemas.stamps(bands).field("stamp_id")])


STAGE = Stage(
    name="audit",
    version=1,
    run=run,
    inputs=(
        Input("scores", _scores_read, scope="whole", sets=(*JUDGED_SETS, "sky")),
        Input("manifest", schemas.manifest, scope="whole"),
        Input("splits", _magnitudes, scope="whole"),
        Input("cutouts", schemas.cutouts_head, scope="whole"),
        Input("stamps", _ids, scope="whole", sets=JUDGED_SETS, is_handed=False),
        Input("model", schemas.scores, scope="whole", is_handed=False),
    ),
    output=schemas.audit,
    partition="model",
    needs=("model", "pixels", "device", "sources", "lists"),
    verdict=verdict,
    verdict_at="end",
    kept_as="json",
    made_in="last",
)
