"""A benchmark of a few galaxies: other numbers laid over those of the frozen one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from darkhaloscope.bench.frozen import definition
from darkhaloscope.bench.frozen.definition import Definition, laid_over
from darkhaloscope.lensing.parts import OWN, PART, X, Y

LOOK_ALIKES = (
    "companion", "single_image", "ring", "spiral", "edge_on", "merger", "agn_jet", "artefact",
    "radial_arc", "scrambled", "halo_ring",
)  # fmt: skip
SEEN = tuple(kind for kind in LOOK_ALIKES if kind != "edge_on")

TINY: dict[str, Any] = {
    "name": "few",
    "family": 5,
    "chunk": 48,
    "manifest": {"sources": {"bank": {"clumpy_count": 20, "picture_px": 48}}},
    "sets": {
        "test": {"lens_hosts": 24, "counts": {"control": 30, **dict.fromkeys(LOOK_ALIKES, 6)}},
        "val": {"lens_hosts": 12, "counts": {"control": 20, **dict.fromkeys(SEEN, 3)}},
        "calib": {"lens_hosts": 12, "counts": {"control": 20, **dict.fromkeys(SEEN, 3)}},
        "train": {"galaxies": 24},
    },
}


def few(changes: Mapping[str, Any] | None = None) -> Definition:
    """The benchmark with few galaxies; `changes` are laid over that."""
    stated = laid_over(definition.load().stated, TINY)
    return Definition(laid_over(stated, changes or {}))


def hidden_number(row: Mapping[str, Any]) -> float:
    """The number of a row of which half is hidden; NaN where its variant does not show it."""
    parts = np.array(row["shape_parts"] or []).reshape(-1, PART)
    match row["kind"]:
        case "ring" | "spiral" | "agn_jet" | "halo_ring":
            return float(row["shape_radius_arcsec"])
        case "merger":
            return float(np.hypot(*parts[0, [X, Y]]))  # the second nucleus
        case "radial_arc" | "scrambled":
            return float(parts[0, OWN])
        case "companion" if len(parts) > 1:
            first, second = (np.arctan2(part[Y], part[X]) for part in parts[:2])
            return float(np.degrees(abs((second - first + np.pi) % (2 * np.pi) - np.pi)))
    return np.nan
