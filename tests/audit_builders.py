"""A set to audit: stamps of every kind on simple hosts, and networks whose answers are known."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from run_builders import preset
from torch import Tensor

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.settings.audit import AuditConfig
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data import pixels
from darkhaloscope.ml import manifesting
from darkhaloscope.stages import stamps

SIZE_PX, CUTOUT_PX = 64, 80
SECTORS, NOTHING = 12, 1e-3  # about the host; nmgy
STAMPS = {
    "bands": mb.BANDS, "pixel_scale_arcsec": mb.SCALE, "seed": 2, "size_px": SIZE_PX,
    "sets": ["val", "calib"], "psf_profile": "moffat", "psf_beta": [2.9, 2.9, 2.9],
    "electrons_per_nmgy_per_exposure": [3500.0, 3500.0, 3500.0],
}  # fmt: skip
SHARES = {
    "lens": 0.35, "control": 0.3, "companion": 0.12, "radial_arc": 0.08, "scrambled": 0.07,
    "halo_ring": 0.08,
}  # fmt: skip
SET = {
    "population": "training", "controls": "unpaired", "copies": dict.fromkeys(SHARES, 1),
    "shares": SHARES,
}  # fmt: skip


def config(**changes: Any) -> AuditConfig:
    """The demo's limits on a sample of a test's size."""
    stated = preset("demo")["audit"]
    small = {"lenses": 100, "rings": 100, "plain_cutouts": 200, "least_galaxies": 15,
             "interval_draws": 200, "stop": True}  # fmt: skip
    handed = {
        "bands": mb.BANDS, "pixel_scale_arcsec": mb.SCALE, "stamps": STAMPS, "sky": "simulated",
        "arc_snr_band": "g", "headline_theta_e_over_fwhm_r_min": 1.2, "headline_arc_snr_min": 25,
    }  # fmt: skip
    return AuditConfig.model_validate({**stated, **small, **handed, **changes})


@dataclass(frozen=True)
class World:
    """Tables of a small survey: splits, cutouts, manifest and stamps of the set calib."""

    targets: pa.Table
    cutouts: pa.Table
    manifest: pa.Table
    stamps: pa.Table

    @cached_property
    def pixels_of_cutouts(self) -> np.ndarray:
        return decoded(self.cutouts)

    @cached_property
    def heads(self) -> pa.Table:
        return self.cutouts.drop_columns(["pixels", "psf_image"])

    def tables(self, score: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Any]:
        """What the stage is handed, with the scores of a network."""
        return {
            "manifest": self.manifest, "splits": self.targets, "cutouts": self.heads,
            "scores": self.scores(score), "pixels": Stored(self), "device": Device(),
        }  # fmt: skip

    def scores(self, score: Callable[[Tensor, Tensor], Tensor]) -> pa.Table:
        """Scores of the stamps, and of every target as observed."""
        edge = (CUTOUT_PX - SIZE_PX) // 2
        inner = slice(edge, edge + SIZE_PX)
        sky = self.manifest.filter(pc.equal(self.manifest["kind"], "sky"))
        at = pc.index_in(sky["target_id"], value_set=self.cutouts["target_id"].combine_chunks())
        plain = self.pixels_of_cutouts[at.to_numpy()][:, :, inner, inner]
        return pa.concat_tables(
            [
                _scored(self.stamps, decoded(self.stamps), score, self.stamps["split"]),
                _scored(sky, plain, score, pa.repeat("sky", sky.num_rows)),
            ]
        )


@dataclass(frozen=True)
class Stored:
    """Pixels by id."""

    world: World

    def cutouts(self, ids: np.ndarray) -> np.ndarray:
        held = self.world.cutouts["target_id"].combine_chunks()
        return self.world.pixels_of_cutouts[pc.index_in(pa.array(ids), value_set=held).to_numpy()]

    def stamps(self, ids: np.ndarray) -> np.ndarray:
        held = self.world.stamps["stamp_id"].combine_chunks()
        return decoded(self.world.stamps)[pc.index_in(pa.array(ids), value_set=held).to_numpy()]

    def psf_images(self, ids: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def world(n: int = 400, *, train: int = 60) -> World:
    """n galaxies of calib, and some of train; stamps are painted by the stage that does."""
    targets = mb.splits(n + train, split="train")
    cutouts = mb.cutouts(targets)
    hosts = manifesting.hosts_of(targets, mb.cutouts_head(targets), mb.BANDS)
    settings = mb.config(sets={**mb.config().model_dump()["sets"], "train": SET})
    drawn = manifesting.draw(hosts.slice(0, n), split="train", config=settings)
    manifest = pa.concat_tables([drawn, manifesting.sky_rows(hosts, mb.BANDS)])
    of_set = targets["target_id"].slice(0, n).combine_chunks()
    targets, manifest = (_in_calib(table, of_set) for table in (targets, manifest))
    how = StampsConfig.model_validate(STAMPS)
    mine = manifest.filter(pc.not_equal(manifest["kind"], "sky"))
    return World(targets, cutouts, manifest, stamps.run(mine, cutouts, device=Device(), config=how))


def _in_calib(table: pa.Table, targets: pa.Array) -> pa.Table:
    """Galaxies of the set that is audited: drawn as training has it, so that arcs are bright."""
    is_of_set = pc.is_in(table["target_id"], value_set=targets)
    at = table.schema.get_field_index("split")
    split = pc.if_else(is_of_set, "calib", "train")
    return table.set_column(at, table.schema.field(at), split)


def decoded(table: pa.Table) -> np.ndarray:
    """Pixels of a table."""
    return pixels.decode(table["pixels"], pixels.layout_of(table.field("pixels")))


def _scored(rows: pa.Table, images: np.ndarray, score: Any, of_set: Any) -> pa.Table:
    sky = torch.zeros(len(images), len(mb.BANDS))
    logit = score(torch.from_numpy(np.array(images)), sky).numpy()
    columns = {n: rows[n] for n in schemas.scores(mb.BANDS).names if n in rows.column_names}
    columns |= {"set": of_set, "logit": logit}
    return mb.table(columns, schemas.scores(mb.BANDS), rows.num_rows)


class Named:
    """A network by its logits."""

    def __init__(self, logits: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.logits = logits

    def features(self, stamps: Tensor, sky: Tensor) -> Tensor:
        """Logit, and the flux of each band."""
        return torch.cat([self.logits(stamps, sky)[:, None], stamps.sum((2, 3))], 1)


def blue_flux(stamps: Tensor, sky: Tensor) -> Tensor:
    """Light in g less what red light would go with it: blue light anywhere is enough."""
    near = stamps[:, :, 12:-12, 12:-12].sum((2, 3))
    return 2.0 * torch.log2((near[:, 0] - 0.125 * near[:, 2]).clamp_min(0.05))


def noise_alone(stamps: Tensor, sky: Tensor) -> Tensor:
    """What a corner of the sky happens to hold: it ignores the galaxy and all about it."""
    return (stamps[:, 1, :6, :6] - sky[:, 1, None, None]).mean((1, 2)) / 0.004


class Oracle:
    """Knows each host's pixels, and rates what was added to them: how much, and how far out.

    Light that surrounds the host evenly is no lens to it.
    """

    def __init__(self, world: World) -> None:
        edge = (CUTOUT_PX - SIZE_PX) // 2
        inner = slice(edge, edge + SIZE_PX)
        self.hosts = torch.from_numpy(np.array(world.pixels_of_cutouts[:, :, inner, inner]))
        self.corners = self.hosts[:, 2, :8, :8].flatten(1)
        self.centre = torch.from_numpy(
            np.stack([world.cutouts[f"host_{a}_px"].to_numpy() - edge for a in "xy"], 1)
        )

    def logits(self, stamps: Tensor, sky: Tensor) -> Tensor:
        host = torch.cdist(stamps[:, 2, :8, :8].flatten(1), self.corners).argmin(1)
        light = (stamps - self.hosts[host])[:, 0].double()
        y, x = torch.meshgrid(torch.arange(SIZE_PX), torch.arange(SIZE_PX), indexing="ij")
        dx, dy = (g - self.centre[host, i, None, None] for i, g in enumerate((x, y)))
        radius, angle = torch.hypot(dx, dy), torch.atan2(dy, dx)
        sector = ((angle + torch.pi) / (2 * torch.pi) * SECTORS).long() % SECTORS
        total = light.sum((1, 2)).clamp_min(NOTHING)
        each = torch.stack([torch.where(sector == k, light, 0).sum((1, 2)) for k in range(SECTORS)])
        is_even = each.amax(0) / total * SECTORS < 2.0
        ring = (light * radius).sum((1, 2)) / total
        signal = torch.log2(total) + torch.log2(ring.clamp_min(1.0))
        signal = torch.where(is_even | (total <= NOTHING), -12.0, signal)
        return signal.float()


def with_kinds_as(scores: pa.Table, logits: dict[str, float]) -> pa.Table:
    """Scores with those of some kinds set to one value and its scatter of half."""
    kind = np.asarray(scores["kind"].to_pylist())
    made = scores["logit"].to_numpy().copy()
    scatter = np.random.default_rng(1).normal(0, 0.5, len(made)).astype(np.float32)
    for name, value in logits.items():
        made[kind == name] = value + scatter[kind == name]
    at = scores.schema.get_field_index("logit")
    return scores.set_column(at, scores.schema.field(at), pa.array(made))


__all__ = ["Named", "Oracle", "World", "blue_flux", "config", "noise_alone", "replace", "world"]
