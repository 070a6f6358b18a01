"""Rows of the manifest as the renderer's own types: draws of the whole prior of each preset."""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import torch
from lensing_builders import SCALE, rows
from manifest_builders import cutouts_head, splits
from run_builders import preset
from torch import Tensor

from darkhaloscope.bench.truth import Row
from darkhaloscope.core import keys
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.lensing.bank import Bank, Pictures
from darkhaloscope.lensing.psf import Moffat, moffat_from_psfsize
from darkhaloscope.lensing.render import Lens, Sersic
from darkhaloscope.ml import manifesting

BANDS = ("g", "r", "z")
# Preset and population. Between them lie all the priors that the presets have: flat, grid, and the
# physical one with (dr10) and without (first-run) a floor of theta_E in units of the seeing.
PRIORS = (
    ("legacy-dr10", "training"),
    ("legacy-dr10", "physical"),
    ("first-run", "training"),
    ("first-run", "physical"),
)
IMAGED = ("lens", "single_image")


@dataclass(frozen=True)
class Drawn:
    """n rows of the manifest for the renderer; the host's centre in pixels from the stamp's."""

    source: Sersic
    lens: Lens
    x0: Tensor
    y0: Tensor
    psf: Moffat
    is_lens: Tensor

    def __len__(self) -> int:
        return len(self.x0)

    def take(self, at: Tensor | slice) -> "Drawn":
        """Some of the rows."""
        source, lens = (
            type(part)(*[getattr(part, f.name)[at] for f in fields(part)])
            for part in (self.source, self.lens)
        )
        psf = Moffat(self.psf.alpha[at], self.psf.beta[at])
        return Drawn(source, lens, self.x0[at], self.y0[at], psf, self.is_lens[at])

    def slow(self) -> list[Row]:
        """The same rows for the slow renderer."""
        return rows(self.source, self.lens, self.x0, self.y0)

    def describe(self, at: int) -> str:
        """One row's parameters."""
        (row,) = self.take(torch.tensor([at])).slow()
        seen = (
            f"psf alpha {float(self.psf.alpha[at, 0]):.3f} beta {float(self.psf.beta[at, 0]):.2f}"
        )
        return f"{row} {seen}"


def drawn(name: str, population: str, n: int) -> Drawn:
    """n rows a preset's manifest would hold, half of them lenses, half of them `single_image`.

    Nothing is left out for being improbable (keep_weight 0), and one band's PSF goes with each row:
    psfsize 0.9-1.8", beta 2.2-4, which is more than the surveys have.
    """
    table = lensed_rows(name, population, n)

    def column(label: str) -> Tensor:
        return torch.tensor(table[label].to_numpy().astype(np.float32))

    def angle(label: str) -> Tensor:
        return torch.deg2rad(column(label))

    def flat(stream: str, low: float, high: float) -> Tensor:
        uniform = keys.uniform(table["stamp_id"].to_numpy(), seed=5, stream=stream)
        return torch.tensor((low + (high - low) * uniform).astype(np.float32))

    lens = Lens(
        theta_e=column("theta_e_arcsec"),
        q=column("lens_q"),
        phi=angle("lens_phi_deg"),
        shear=column("shear"),
        shear_phi=angle("shear_phi_deg"),
    )
    source = Sersic(
        x=column("src_x_arcsec"),
        y=column("src_y_arcsec"),
        r_eff=column("src_r_eff_arcsec"),
        n=column("src_n"),
        q=column("src_q"),
        phi=angle("src_phi_deg"),
    )
    psf = moffat_from_psfsize(
        flat("psfsize", 0.9, 1.8)[:, None], flat("psf beta", 2.2, 4.0)[:, None]
    )
    is_lens = torch.tensor(np.asarray(table["kind"].to_pylist()) == "lens")
    return Drawn(source, lens, flat("x0", -0.5, 0.5), flat("y0", -0.5, 0.5), psf, is_lens)


def as_pictures(some: Drawn, bank: Bank) -> Pictures:
    """The same sources, but each one a picture of the bank, turned and mirrored at random."""
    n = len(some)
    index = torch.arange(n) % bank.count
    is_mirrored = torch.from_numpy(keys.uniform(np.arange(n), seed=5, stream="mirror") < 0.5)
    source = some.source
    return Pictures(bank, index, source.x, source.y, source.r_eff, source.phi, is_mirrored)


def lensed_rows(name: str, population: str, n: int) -> pa.Table:
    """n rows of the kinds that lie behind a lens, as `manifest` would draw them."""
    targets = splits(n, split="train")  # not every galaxy can hold a lens
    hosts = manifesting.hosts_of(targets, cutouts_head(targets), BANDS)
    table = manifesting.draw(hosts, split="train", config=settings(name, population))
    assert table.num_rows >= n
    return table[:n]


def settings(name: str, population: str) -> ManifestConfig:
    """A preset's manifest that makes one lens and one `single_image` of every galaxy.

    All sources are Sersic profiles; `as_pictures` makes pictures of them.
    """
    stated = preset(name)["manifest"]
    plan = {
        "population": population, "controls": "paired", "copies": dict.fromkeys(IMAGED, 1)
    }  # fmt: skip
    stated["sets"] = {"train": plan}
    stated["physical"]["keep_weight"] = 0.0
    stated["sources"]["kinds"] = {"sersic": 1.0}
    stated["sources"].pop("bank", None)
    handed = {"target_variant": "v3_color_relaxed", "bands": BANDS, "pixel_scale_arcsec": SCALE}
    return ManifestConfig.model_validate({**stated, **handed})
