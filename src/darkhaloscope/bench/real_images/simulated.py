"""Candidates to train on, in flux: simulated galaxies of CFHT's depth and seeing, and lenses.

Two families of galaxies. Early types with their groups (`bench.frozen.hosts`) host the lenses and
a part of the look-alikes; blue discs, which no target cut would let pass but people did, host
look-alikes only. Magnitudes follow those that a catalogue gives for the candidates' galaxies,
whatever their grade.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.bench.frozen import hosts
from darkhaloscope.bench.records import record
from darkhaloscope.core import keys, units
from darkhaloscope.core.contracts import Device
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import fresh, manifesting
from darkhaloscope.ml.batches import Plan
from darkhaloscope.ml.pixel_table import PixelTable
from darkhaloscope.simulate.colours import FILTERS

Ids = NDArray[np.int64]

FAMILIES = ("early", "disc")
_DESCRIBED_FOR_EACH = 4  # galaxies that one is chosen from by its magnitude
_AT_ONCE = 1024
_EDGE_PX = 2  # of a cutout about a stamp
_SHOWN = 3  # g, r, i


@dataclass(frozen=True, slots=True)
class Pool:
    """n simulated candidates.

    Attributes:
        flux: g, r, i, nmgy, float16 in units of 1e-3 nmgy, (n, 3, y, x).
        labels: 1 for a lens, (n,) float32.
        rows: Their rows of the manifest.
        family: Place in `FAMILIES`, (n,).
    """

    flux: Tensor
    labels: Tensor
    rows: pa.Table
    family: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.labels)

    def of_kinds(self, kinds: Sequence[str]) -> "Pool":
        """Early types of some kinds; all candidates where none is named."""
        if not kinds:
            return self
        is_kind = np.isin(np.asarray(self.rows["kind"].to_pylist(), np.str_), list(kinds))
        at = np.flatnonzero(is_kind & (self.family == FAMILIES.index("early")))
        chosen = torch.from_numpy(at)
        return Pool(
            self.flux[chosen], self.labels[chosen], self.rows.take(pa.array(at)), self.family[at]
        )

    def nmgy(self, at: Tensor) -> Tensor:
        """Flux of some, nmgy, float32."""
        return self.flux[at].float() * 1e-3


def settings(pool: str = "wide") -> dict[str, Any]:
    """What `cfht.toml` says, with some keys of its sections replaced by those of a pool."""
    text = (
        resources.files("darkhaloscope.bench.real_images")
        .joinpath("cfht.toml")
        .read_text(encoding="utf-8")
    )
    asked = tomllib.loads(text)
    for name, section in asked["pools"][pool].items():
        if name in asked:
            asked[name] = {**asked[name], **section}
    return asked


def galaxies(family: str, count: int, asked: Mapping[str, Any], *, split: str) -> hosts.Galaxies:
    """Galaxies of a family, of the candidates' magnitudes.

    Args:
        family: `early` or `disc`.
        count: How many.
        asked: Of `settings`.
        split: train or val; they share no galaxy.
    """
    sky = record(asked["hosts"])
    bands, size = tuple(sky.bands), asked["shapes"]["size_px"] + 2 * _EDGE_PX
    number = FAMILIES.index(family)
    described = count * (_DESCRIBED_FOR_EACH if family == "early" else 1)
    ids = hosts.ids_of(np.arange(described), split=split, family=5 + number)
    drawn = hosts.describe(ids, sky, split=split, bands=bands, size_px=size)
    if family == "disc":
        return _as_discs(drawn, record(asked["discs"]), bands, sky.seed)
    mag = drawn.early["mag"][:, FILTERS.index("i")]
    wanted = record(asked["host_mag_i"])
    density, edges = np.histogram(mag, 40, density=True)
    here = density[np.digitize(mag, edges[1:-1])]
    weight = np.exp(-0.5 * ((mag - wanted.mean) / wanted.spread) ** 2) / here
    # weighted choice without replacement: Efraimidis & Spirakis 2006
    order = np.log(keys.uniform(ids, seed=sky.seed, stream="chosen by magnitude")) / weight
    return drawn.take(np.sort(np.argsort(-order, kind="stable")[:count]))


def _as_discs(
    drawn: hosts.Galaxies, asked: Any, bands: tuple[str, ...], seed: int
) -> hosts.Galaxies:
    """The same places and seeing with star-forming discs in place of early types."""
    early, ids = drawn.early.copy(), drawn.early["id"]

    def flat(name: str, span: Any) -> NDArray[np.float64]:
        u = keys.uniform(ids, seed=seed, stream=f"disc {name}")
        return np.asarray(span.low + (span.high - span.low) * u)

    def normal(name: str, scale: float) -> NDArray[np.float64]:
        u = keys.uniform(ids, seed=seed, stream=f"disc {name}")
        v = keys.uniform(ids, seed=seed, stream=f"disc {name} angle")
        return np.asarray(scale * np.sqrt(-2 * np.log(u.clip(1e-12))) * np.cos(2 * np.pi * v))

    mag_i, z = flat("mag", asked.mag_i), flat("z", asked.z)
    gr = flat("g-r", asked.g_r)
    rz = 0.15 + 0.53 * gr + normal("r-z", 0.08)  # as simulate.colours.field
    ri = 0.6 * rz
    r = mag_i + ri
    early["mag"] = np.stack([r + gr, r, mag_i, r - rz, r - rz - 0.3, r - rz - 0.3], 1)
    early["z"], early["sigma_v"], early["kind"] = z, 0.0, "disc"
    early["r_eff"] = np.exp(flat("size", SimpleNamespace(
        low=np.log(asked.r_eff_arcsec.low), high=np.log(asked.r_eff_arcsec.high)
    )))  # fmt: skip
    early["n"] = flat("n", asked.n)
    early["q"] = (1 - 1.5 * (1 - early["q"])).clip(0.25, 1.0)
    for name in ("has_twist", "has_shells", "has_intracluster"):
        early[name] = False
    splits = drawn.splits
    for band in (*bands, "w1"):
        mag = early["mag"][:, FILTERS.index(band)]
        left = splits[f"mw_transmission_{band}"].to_numpy()
        for name, values in (
            (f"mag_{band}", mag),
            (f"flux_{band}_nmgy", left * units.nmgy_from_mag(mag)),
        ):
            at = splits.schema.get_field_index(name)
            column = pa.array(values).cast(splits.schema.field(name).type, safe=False)
            splits = splits.set_column(at, splits.schema.field(name), column)
    return replace(drawn, splits=splits, early=early)


def pool(
    asked: Mapping[str, Any], *, split: str, galaxies_each: Mapping[str, int],
    stamps: Mapping[str, int], device: Device,
) -> Pool:  # fmt: skip
    """Draw candidates.

    Args:
        asked: Of `settings`.
        split: train or val.
        galaxies_each: How many galaxies of each family.
        stamps: About how many stamps of each family; what is thinned is made good.
        device: Where they are painted.
    """
    parts = [
        _family(name, asked, split, galaxies_each[name], stamps[name], device)
        for name in FAMILIES
        if stamps.get(name)
    ]
    rows = pa.concat_tables([part[1] for part in parts])
    family = np.concatenate([np.full(part[1].num_rows, FAMILIES.index(part[2])) for part in parts])
    order = np.argsort(keys.uniform(rows["stamp_id"].to_numpy(), seed=1, stream="pool"))
    rows = rows.take(pa.array(order))
    flux = torch.cat([part[0] for part in parts])[torch.from_numpy(order)]
    labels = torch.from_numpy(rows["label"].to_numpy().astype(np.float32))
    return Pool(flux, labels, rows, family[order])


def _family(
    name: str, asked: Mapping[str, Any], split: str, count: int, stamps: int, device: Device
) -> tuple[Tensor, pa.Table, str]:
    sky, size = record(asked["hosts"]), asked["shapes"]["size_px"]
    bands = tuple(sky.bands)
    cutout_px = size + 2 * _EDGE_PX
    some = galaxies(name, count, asked, split=split)
    pixels = hosts.cutouts(some, sky, size_px=cutout_px, device=device.name)
    drawing, painting = _manifest(asked, bands, split)
    table = PixelTable(
        some.heads, [pixels.cpu().numpy()], Layout(bands, cutout_px, sky.pixel_scale_arcsec),
        of="target_id", device=device,
    )  # fmt: skip
    injections = fresh.Injections(some.splits, table, drawing, painting, margin_px=0, device=device)
    seen = manifesting.hosts_of(some.splits, some.heads, bands)
    rows = manifesting.draw(seen, split=split, config=drawing)
    rows = _taken(rows, injections, asked, asked["mix"][name], stamps)
    flux = torch.empty((rows.num_rows, _SHOWN, size, size), dtype=torch.float16)
    for start in range(0, rows.num_rows, _AT_ONCE):
        painted = injections.make(rows.slice(start, _AT_ONCE)).pixels[:, :_SHOWN]
        flux[start : start + len(painted)] = (painted * 1e3).clamp(-6e4, 6e4).cpu()
    return flux, rows, name


def _manifest(asked: Mapping[str, Any], bands: tuple[str, ...], split: str) -> tuple[Any, Any]:
    """Settings of manifest and stamps: those of the preset `demo` but for what is asked here."""
    preset = tomllib.loads(
        resources.files("darkhaloscope.presets").joinpath("demo.toml").read_text(encoding="utf-8")
    )
    section = {**preset["manifest"], "training": asked["training"]}
    section["min_theta_e_over_fwhm"] = asked["shapes"]["min_theta_e_over_fwhm"]
    section["sources"] |= {"kinds": {"sersic": 1.0}, "bank": None}
    kinds = set(asked["mix"]["early"]) | set(asked["mix"]["disc"])
    section["sets"] = {split: {
        "population": "training", "controls": "paired", "copies": dict.fromkeys(kinds, 1),
    }}  # fmt: skip
    handed = {
        "bands": bands,
        "pixel_scale_arcsec": asked["hosts"]["pixel_scale_arcsec"],
        "target_variant": "v5_very_relaxed",
    }
    painting = {
        **preset["stamps"],
        **handed,
        "size_px": asked["shapes"]["size_px"],
        "psf_beta": (3.0,) * len(bands),
        "electrons_per_nmgy_per_exposure": (float(asked["hosts"]["electrons_per_nmgy"]),)
        * len(bands),
    }
    return record({**section, **handed}), SimpleNamespace(**painting)


def _taken(
    rows: pa.Table,
    injections: fresh.Injections,
    asked: Mapping[str, Any],
    mix: Mapping[str, float],
    stamps: int,
) -> pa.Table:
    """Rows in the shares of the mix, each injection its own, large Einstein radii thinned."""
    even_to = asked["shapes"]["theta_e_even_to_arcsec"]
    span = asked["training"]["theta_e_arcsec"]
    kept = (even_to - span["low"] + even_to * np.log(span["high"] / even_to)) / (
        span["high"] - span["low"]
    )
    is_thinned = {"lens", "companion", "radial_arc", "scrambled", "single_image"}
    more = {kind: share / (kept if kind in is_thinned else 1) for kind, share in mix.items()}
    wanted = round(stamps * sum(more.values()) / sum(mix.values()))
    plan = Plan(1, wanted, more, 0, asked["shapes"]["size_px"], 17)
    kinds = np.asarray(rows["kind"].to_pylist(), np.str_)
    at = plan.order(kinds, rows["stamp_id"].to_numpy(), epoch=0)
    before = np.zeros(len(at), np.int64)
    order = np.argsort(at, kind="stable")
    first = np.searchsorted(at[order], at[order])
    before[order] = np.arange(len(at)) - first
    drawn = injections.redraw(rows.take(pa.array(at)), before)
    theta = pc.fill_null(drawn["theta_e_arcsec"], 0.0).to_numpy()
    u = keys.uniform(drawn["stamp_id"].to_numpy(), seed=3, stream="thinned")
    drawn = drawn.filter(pa.array(u * np.maximum(theta, even_to) <= even_to))
    # People knew no cuts: a look-alike may be as bright as it likes.
    at_limit = drawn.schema.get_field_index("light_scale_max")
    none = pa.nulls(drawn.num_rows, drawn.schema.field(at_limit).type)
    return drawn.set_column(at_limit, drawn.schema.field(at_limit), none)
