"""What `dhs bench train` trains on: galaxies and settings, made in memory from named draws.

The settings are those of the preset `demo`, read from its file, so that what is measured is what a
run does, but that all sources are Sersic profiles: pictures would need a bank on disk. The galaxies
are Sersic profiles of its hosts' magnitudes on correlated sky noise, 80 px wide; neither their
shapes nor their number changes the cost of a step.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from darkhaloscope.bench.records import record, table_of
from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.units import nmgy_from_mag
from darkhaloscope.data.pixels import Layout
from darkhaloscope.lensing.noise import coadd_kernel, standard_normal
from darkhaloscope.lensing.psf import moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, Sersic, render_lensed
from darkhaloscope.ml import fresh, manifesting, networks
from darkhaloscope.ml.batches import Batch, Drawn, Fixed, Plan, crew_of
from darkhaloscope.ml.pixel_table import PixelTable
from darkhaloscope.ml.recipe import Recipe
from darkhaloscope.ml.transforms import Normalisation

PRESET = "demo.toml"
NOISE_NMGY = {"g": 0.003, "r": 0.004, "z": 0.010}
PSFSIZE_ARCSEC = {"g": 1.41, "r": 1.31, "z": 1.24}
HOST_MAG = {"g": (20.0, 22.5), "r": (18.2, 20.6), "z": (17.0, 19.5)}
Z_MINUS_W1 = 1.2  # within the target cuts
N_EXPOSURES = 4.0
TRANSMISSION = 0.9
_SEED = 20261124


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All that a training needs.

    Attributes:
        source: Batches of every epoch, drawn afresh as in a run.
        validation: One batch, so that training can end its epoch.
        recipe: How it is trained.
        network: Its name.
        bands: Of the stamps.
        mix: Share of each kind in a batch.
    """

    source: Drawn
    validation: tuple[Batch, ...]
    recipe: Recipe
    network: str
    bands: tuple[str, ...]
    mix: Mapping[str, float]

    def untrained(self) -> torch.nn.Module:
        """The network, the same at each call."""
        return networks.make(self.network, bands=len(self.bands), seed=_SEED)


def training_set(galaxies: int, *, steps: int, device: Device) -> TrainingSet:
    """The preset's model on some galaxies.

    Args:
        galaxies: How many there are.
        steps: Batches in an epoch.
        device: Where it trains.
    """
    preset = tomllib.loads(
        resources.files("darkhaloscope.presets").joinpath(PRESET).read_text(encoding="utf-8")
    )
    bands = tuple(preset["survey"]["bands"])
    scale, size = preset["survey"]["pixel_scale_arcsec"], preset["cutouts"]["size_px"]
    model = preset["model"]["small"]
    preset["manifest"]["sources"] |= {"kinds": {"sersic": 1.0}, "bank": None}
    handed = {"bands": bands, "pixel_scale_arcsec": scale}
    handed["target_variant"] = preset["targets"]["variant"]
    drawing: Any = record({**preset["manifest"], **handed})
    painting: Any = SimpleNamespace(
        **preset["stamps"],
        bands=bands,
        pixel_scale_arcsec=scale,
        psf_beta=tuple(preset["cutouts"]["psf_beta"][band] for band in bands),
    )
    splits = _splits(galaxies, bands)
    heads = _heads(splits, bands, size)
    layout = Layout(bands, size, scale)
    table = PixelTable(heads, [_pixels(heads, layout)], layout, of="target_id", device=device)
    injections = fresh.Injections(
        splits, table, drawing, painting, margin_px=model["max_shift_px"], device=device
    )
    hosts = manifesting.hosts_of(splits, heads, bands)
    rows = manifesting.draw(hosts, split="train", config=drawing)
    plan = Plan(
        batch_size=model["batch_size"],
        epoch_stamps=steps * model["batch_size"],
        mix=model["mix"],
        max_shift_px=model["max_shift_px"],
        size_px=painting.size_px,
        seed=model["seed"],
    )
    softening = tuple(model["softening_nmgy"][band] for band in bands)
    normalise = Normalisation(model["normalisation"], softening)
    recipe = Recipe(
        **{name: model[name] for name in Recipe.__dataclass_fields__ if name in model}
        | {"max_epochs": 1},
    )
    seen = Fixed(rows[: plan.batch_size], injections.make, plan.batch_size, plan.size_px, normalise)
    return TrainingSet(
        source=Drawn(rows, injections.redraw, injections.make, plan, normalise, crew_of(device)),
        validation=tuple(seen.batches(0)),
        recipe=recipe,
        network=model["network"],
        bands=bands,
        mix=model["mix"],
    )


def _splits(count: int, bands: tuple[str, ...]) -> pa.Table:
    """Bright red galaxies of the train split."""
    ids = (np.int64(9010) << 42) + np.arange(count, dtype=np.int64)
    mags = {band: _drawn(ids, f"mag_{band}", *HOST_MAG[band]) for band in bands}
    mags["w1"] = mags["z"] - Z_MINUS_W1
    columns: dict[str, Any] = {
        "target_id": ids,
        "split": ["train"] * count,
        "area_deg2": np.full(count, 1e-3),
        "shape_e1": _drawn(ids, "e1", -0.2, 0.2),
        "shape_e2": _drawn(ids, "e2", -0.2, 0.2),
    }
    for band, mag in mags.items():
        columns[f"mag_{band}"] = mag
        columns[f"mw_transmission_{band}"] = np.full(count, TRANSMISSION)
        columns[f"flux_{band}_nmgy"] = TRANSMISSION * nmgy_from_mag(mag)
    return table_of(schemas.splits(bands), count, columns)


def _heads(splits: pa.Table, bands: tuple[str, ...], size: int) -> pa.Table:
    """What `cutouts` says of the galaxies."""
    ids, middle = splits["target_id"].to_numpy(), (size - 1) / 2
    columns: dict[str, Any] = {
        "target_id": ids,
        "host_x_px": middle + _drawn(ids, "x", -0.5, 0.5),
        "host_y_px": middle + _drawn(ids, "y", -0.5, 0.5),
        "masked_fraction": np.zeros(len(ids)),
    }
    for band in bands:
        psfsize = PSFSIZE_ARCSEC[band] * _drawn(ids, f"psfsize_{band}", 0.9, 1.1)
        columns |= {
            f"psf_nea_{band}_arcsec": psfsize,
            f"psf_fwhm_{band}_arcsec": 0.76 * psfsize,
            f"sky_median_{band}_nmgy": np.zeros(len(ids)),
            f"sky_mad_{band}_nmgy": np.full(len(ids), NOISE_NMGY[band] / 1.4826),
            f"noise_{band}_nmgy": np.full(len(ids), NOISE_NMGY[band]),
            f"n_exposures_{band}": np.full(len(ids), N_EXPOSURES),
        }
    return table_of(schemas.cutouts_head(bands), len(ids), columns)


def _pixels(heads: pa.Table, layout: Layout) -> NDArray[np.float32]:
    """Galaxies on sky noise that neighbouring pixels share, nmgy, (n, band, y, x)."""
    ids, size = heads["target_id"].to_numpy(), layout.size

    def drawn(stream: str, low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(_drawn(ids, stream, low, high)).float()

    def column(template: str) -> torch.Tensor:
        values = [heads[template.format(b=band)].to_numpy() for band in layout.bands]
        return torch.from_numpy(np.stack(values, 1)).float()

    zero = torch.zeros(len(ids))
    galaxy = Sersic(
        zero, zero, drawn("r_eff", 0.8, 2.0), drawn("n", 2.0, 4.0), drawn("q", 0.6, 1.0),
        drawn("phi", 0.0, 3.0),
    )  # fmt: skip
    mags = [_drawn(ids, f"mag_{band}", *HOST_MAG[band]) for band in layout.bands]
    flux = torch.from_numpy(nmgy_from_mag(np.stack(mags, 1))).float()
    psfsize = column("psf_nea_{b}_arcsec")
    light = render_lensed(
        galaxy,
        Lens.none(zero),
        flux=TRANSMISSION * flux,
        psf=moffat_from_psfsize(psfsize, torch.full_like(psfsize, 2.9)),
        centre_x=torch.from_numpy(heads["host_x_px"].to_numpy() - (size - 1) / 2).float(),
        centre_y=torch.from_numpy(heads["host_y_px"].to_numpy() - (size - 1) / 2).float(),
        grid=Grid(size, layout.scale_arcsec),
    ).pixels
    named = torch.from_numpy(keys.bits(ids, seed=_SEED, stream="sky").view(np.int64))
    white = standard_normal(named, light.shape[1:], stream="sky")
    weights = torch.from_numpy(coadd_kernel()).float()
    padded = torch.nn.functional.pad(white, (3, 3, 3, 3), mode="circular")
    spread = padded.unfold(3, 7, 1) @ weights
    sky = (spread.unfold(2, 7, 1) @ weights) / weights.square().sum()
    noise = column("noise_{b}_nmgy")[:, :, None, None]
    return np.asarray((light + noise * sky).numpy(), np.float32)


def _drawn(ids: NDArray[np.int64], stream: str, low: float, high: float) -> NDArray[np.float64]:
    """Named draws, flat over a range."""
    return low + (high - low) * keys.uniform(ids, seed=_SEED, stream=f"bench {stream}")
