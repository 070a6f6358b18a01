"""What was tried, one change after the other: each variant trained on simulated pictures alone."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkhaloscope.bench.real_images import simulated, training
from darkhaloscope.bench.real_images.mapping import Mapping as Colours
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml.recipe import Recipe

VAL_SHARE = 6  # a training pool holds so many times the galaxies and stamps of its validation

log = logging.getLogger(__name__)


def variants(asked: Mapping[str, Any], only: str | None) -> list[str]:
    """Names of the variants to train, in the order in which they build on each other.

    Raises:
        ConfigError: one is not known.
    """
    known = list(asked["variants"])
    names = known if only is None else only.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no variant {', '.join(unknown)}; there are: {', '.join(known)}")
    return names


class Pools:
    """Pools of simulated candidates, made when first asked for."""

    def __init__(self, device: Device) -> None:
        """Nothing is made yet."""
        self._device, self._made = device, dict[str, tuple[simulated.Pool, simulated.Pool]]()

    def __call__(self, name: str) -> tuple[simulated.Pool, simulated.Pool]:
        """The pools to train on and to validate with."""
        if name not in self._made:
            asked, began = simulated.settings(name), time.monotonic()
            size = asked["pools"][name]
            made = [
                simulated.pool(
                    asked,
                    split=split,
                    galaxies_each={k: v // part for k, v in size["galaxies"].items()},
                    stamps={k: v // part for k, v in size["stamps"].items()},
                    device=self._device,
                )
                for split, part in (("train", 1), ("val", VAL_SHARE))
            ]
            self._made[name] = (made[0], made[1])
            log.info("pool %s: %d and %d stamps in %.0f s", name, len(made[0]), len(made[1]),
                     time.monotonic() - began)  # fmt: skip
        return self._made[name]


def trained(
    name: str, asked: Mapping[str, Any], pools: Pools, *, scratch: Path, device: Device
) -> tuple[nn.Module, dict[str, Any]]:
    """One variant's network, and how its training went."""
    variant = asked["variants"][name]
    fitting = {**asked["fit"], **variant.get("fit", {})}
    with torch.no_grad():
        train, val = (part.of_kinds(variant["kinds"]) for part in pools(variant["pool"]))
    network, seed = fitting.pop("network"), fitting.pop("seed")
    epoch_stamps = fitting.pop("epoch_stamps")
    net, done = training.fitted(
        train, val, Colours(**variant["mapping"]), varied=variant["varied"], network=network,
        recipe=Recipe(**fitting), epoch_stamps=epoch_stamps, seed=seed, scratch=scratch,
        device=device,
    )  # fmt: skip
    kinds, counts = np.unique(np.asarray(train.rows["kind"].to_pylist()), return_counts=True)
    return net, {
        "what": variant["what"],
        "stamps": dict(zip(kinds.tolist(), counts.tolist(), strict=True)),
        "epochs": len(done.history),
        "train_seconds": round(sum(epoch.seconds for epoch in done.history), 1),
        "val_auroc_sim": round(done.chosen.val_auroc, 4),
    }
