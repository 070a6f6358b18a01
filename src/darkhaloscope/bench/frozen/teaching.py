"""What networks of the benchmark are taught with: galaxies in memory, injections drawn afresh.

The galaxies of train play every kind of a recipe's mix, with other injections in every epoch, from
broad priors. The first galaxies of val watch the training. The family of look-alikes that is absent
from train, and the half of every other family's range, are never drawn here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from darkhaloscope.bench.frozen import hosts, sets
from darkhaloscope.bench.frozen.definition import Definition, laid_over
from darkhaloscope.bench.frozen.recipes import Recipe
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.data.pixels import Layout
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml import fresh, heads, inputs, levers, manifesting
from darkhaloscope.ml.batches import Drawn, Fixed, Plan, ahead, crew_of
from darkhaloscope.ml.pixel_table import PixelTable, Raw
from darkhaloscope.ml.transforms import Normalisation

WATCHED_ROWS = 6144  # stamps of val that watch a training
_DRAWN_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Training:
    """What a recipe is trained on.

    Attributes:
        source: Batches of every epoch.
        validation: The first stamps of val, the same in every epoch.
    """

    source: Drawn
    validation: Fixed


def training(
    definition: Definition, recipe: Recipe, *, folder: Path, device: Device,
    watched_rows: int = WATCHED_ROWS,
) -> Training:  # fmt: skip
    """Batches for a recipe.

    Args:
        definition: The benchmark.
        recipe: What is taught, and how. Its `hosts` may name `family` and `galaxies`, and what is
            laid over the definition's `[hosts]`; its `prior` is laid over `[manifest]`.
        folder: Where the pictures of sources are kept.
        device: Where stamps are made.
        watched_rows: Stamps of val that watch the training.

    Raises:
        ConfigError: the mix names the family that no network may be taught.
    """
    absent = definition.stated["unseen"]["family"]
    if recipe.mix.get(absent):
        raise ConfigError(
            f"recipe {recipe.name}: its mix names {absent}, which the benchmark keeps for the test"
        )
    bank = sets.bank_of(definition, folder)
    splits, table = _galaxies(definition, _Asked.of(recipe, definition), device)
    plan = {
        "population": definition.stated["sets"]["train"]["population"],
        "controls": recipe.controls,
        "copies": {kind: 1 for kind, share in recipe.mix.items() if share},
        "shares": {},
    }
    drawing = definition.drawing({"train": plan}, changes=recipe.prior)
    painting = SimpleNamespace(**{**vars(definition.painting()), **recipe.painting})
    injections = fresh.Injections(
        splits, table, drawing, painting, margin_px=recipe.max_shift_px,
        device=device, sources=bank,
    )  # fmt: skip
    known = manifesting.hosts_of(splits, table.heads, definition.bands)
    rows = manifesting.draw(known, split="train", config=drawing, sources=bank).combine_chunks()
    classes = heads.classes_of(cast("heads.Head", recipe.head), recipe.mix)
    normalise = Normalisation(
        cast("Any", recipe.normalisation),
        tuple(recipe.softening_nmgy[band] for band in definition.bands),
    )
    batches = Plan(
        batch_size=recipe.batch_size,
        epoch_stamps=recipe.epoch_stamps,
        mix={kind: share for kind, share in recipe.mix.items() if share},
        max_shift_px=recipe.max_shift_px,
        size_px=definition.size_px,
        seed=recipe.seed,
    )
    source = Drawn(
        rows, injections.redraw, injections.make, batches, normalise, crew_of(device),
        classes=classes, extra=inputs.seen_of(rows, table.heads, recipe.inputs),
        weights=_weights(rows, batches, recipe), curriculum=_curriculum(batches, recipe),
    )  # fmt: skip
    seen = _watched(definition, watched_rows, folder, device)
    validation = Fixed(
        seen.rows, seen.raw, recipe.batch_size * 4, definition.size_px, normalise,
        classes=classes, extra=_normalised(seen.heads, recipe.inputs),
    )  # fmt: skip
    return Training(source, validation)


def _weights(rows: pa.Table, plan: Plan, recipe: Recipe) -> levers.Weights | None:
    """Weight of each row by its kind, (n,); None: all alike."""
    if recipe.balance_beta is None:
        return None
    kinds = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    return levers.of_kinds(kinds, levers.class_balanced(plan.taken, recipe.balance_beta))


def _curriculum(plan: Plan, recipe: Recipe) -> levers.Curriculum | None:
    """Which lenses count in the first steps; None: all."""
    asked = dict(recipe.curriculum)
    if not asked:
        return None
    steps = max(1, round(asked.pop("share") * recipe.epochs * plan.steps))
    return levers.Curriculum(**asked, steps=steps)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which galaxies a recipe is taught with; `sky` is text, so that it can be compared."""

    family: int
    galaxies: int
    sky: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, recipe: Recipe, definition: Definition) -> "_Asked":
        changes = dict(recipe.hosts)
        family = int(changes.pop("family", definition.stated["family"]))
        count = int(changes.pop("galaxies", definition.stated["sets"]["train"]["galaxies"]))
        return cls(family, count, tuple((k, repr(v)) for k, v in sorted(changes.items())))

    def definition(self, whole: Definition) -> Definition:
        """The benchmark with the changes of its sky."""
        changes = {name: _value(text) for name, text in self.sky}
        return Definition(laid_over(whole.stated, {"hosts": changes})) if changes else whole


def _value(text: str) -> Any:
    import ast

    return ast.literal_eval(text)


@lru_cache(maxsize=2)
def _galaxies(definition: Definition, asked: _Asked, device: Device) -> tuple[pa.Table, PixelTable]:
    """Galaxies of train with their cutouts, made once in a process."""
    numbers = np.arange(asked.galaxies)
    ids = hosts.ids_of(numbers, split="train", family=asked.family)
    drawn_from = asked.definition(definition)

    def made(start: int) -> tuple[pa.Table, pa.Table, NDArray[np.float32]]:
        some = sets.describe(drawn_from, "train", ids[start : start + _DRAWN_AT_ONCE])
        cut, pixels = sets.with_sky(drawn_from, some, device)
        return some.splits, cut, pixels.cpu().numpy()

    threads = device.threads if device.name == "cpu" else 1
    tasks = (partial(made, start) for start in range(0, asked.galaxies, _DRAWN_AT_ONCE))
    parts = list(ahead(tasks, threads=threads, depth=1))
    layout = Layout(
        definition.bands, int(definition.stated["cutout_px"]), definition.pixel_scale_arcsec
    )
    cuts = pa.concat_tables([part[1] for part in parts])
    table = PixelTable(cuts, [part[2] for part in parts], layout, of="target_id", device=device)
    return pa.concat_tables([part[0] for part in parts]), table


@dataclass(frozen=True, slots=True)
class _Watched:
    """The first stamps of val, in memory."""

    rows: pa.Table
    heads: pa.Table
    pixels: torch.Tensor
    level: torch.Tensor
    place: Mapping[int, int]

    def raw(self, rows: pa.Table) -> Raw:
        """Pixels of some of the rows."""
        at = np.array([self.place[stamp] for stamp in rows["stamp_id"].to_pylist()], np.int64)
        chosen = sent(at, self.pixels.device)
        return Raw(self.pixels[chosen], self.level[chosen])


@lru_cache(maxsize=2)
def _watched(definition: Definition, most: int, folder: Path, device: Device) -> _Watched:
    chunks = list(sets.chunks(definition, "val", folder=folder, device=device, most=most))
    rows = pa.concat_tables([chunk.rows for chunk in chunks]).combine_chunks()
    stamp = rows["stamp_id"].to_pylist()
    return _Watched(
        rows=rows,
        heads=pa.concat_tables([chunk.heads for chunk in chunks]),
        pixels=torch.cat([chunk.raw.pixels for chunk in chunks]),
        level=torch.cat([chunk.raw.sky_median for chunk in chunks]),
        place={number: at for at, number in enumerate(stamp)},
    )


def _normalised(cuts: pa.Table, names: tuple[str, ...]) -> NDArray[np.float32] | None:
    values = inputs.of_table(cuts, names, of="target_id")
    return None if values is None else inputs.normalised(torch.from_numpy(values), names).numpy()
