"""The picture of docs/benchmark-set.md: stamps of the frozen test set, a row for each kind.

    OMP_NUM_THREADS=1 python docs/benchmark_set.py [--sources FOLDER]

Writes docs/images/benchmark-set.png in two minutes on one core, most of them for the pictures of
sources, which FOLDER (by default runs/benchmark/sources) keeps.
"""

import argparse
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from darkhaloscope.bench.frozen import definition, sets
from darkhaloscope.bench.frozen.sets import Drawn
from darkhaloscope.core.contracts import Device
from darkhaloscope.evaluate.pictures import rgb

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
# numba looks for a package that docs/coverage.py would hide
sys.path[:] = [path for path in sys.path if Path(path).resolve() != DOCS]

OUT = DOCS / "images" / "benchmark-set.png"
A_HALF = 6  # stamps of a kind that were taught, and as many that were not


def main() -> None:
    """Draw the sheet."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sources", type=Path, default=Path("runs/benchmark/sources"))
    given = asked.parse_args()
    bench = definition.load()
    bank = sets.bank_of(bench, given.sources)
    kinds = ["lens", *bench.counts("test")]
    block = next(islice(sets.drawn(bench, "test", bank), 1))
    some = chosen(block, kinds)
    chunks = list(sets.painted(bench, "test", some, bank, Device("cpu", 1)))
    pixels = np.concatenate([chunk.raw.pixels.numpy() for chunk in chunks])
    level = np.concatenate([chunk.raw.sky_median.numpy() for chunk in chunks])
    pictures = rgb(pixels - level[:, :, None, None], bench.bands)
    names = np.array(some.rows["kind"].to_pylist())
    sheet(pictures, names, some.is_unseen, kinds).savefig(
        OUT, dpi=60, metadata={"Software": None}, pil_kwargs={"optimize": True}
    )


def chosen(block: Drawn, kinds: list[str]) -> Drawn:
    """The first stamps of each kind, seen and unseen."""
    names = np.array(block.rows["kind"].to_pylist())
    ratio = block.rows["theta_e_over_fwhm_r"].to_numpy(zero_copy_only=False)
    rows = []
    for kind in kinds:
        of_kind = names == kind
        if kind == "lens":  # half of them from the headline stratum
            halves = of_kind & (ratio >= 1.2), of_kind & (ratio < 1.2)
        elif block.is_unseen[of_kind].any():
            halves = of_kind & ~block.is_unseen, of_kind & block.is_unseen
        else:
            halves = (of_kind,)
        rows += [np.flatnonzero(half)[: A_HALF * 2 // len(halves)] for half in halves]
    order = np.concatenate(rows)
    own, host = np.unique(block.host[order], return_inverse=True)
    return replace(
        block, galaxies=block.galaxies.take(own), host=host,
        rows=block.rows.take(pa.array(order)).combine_chunks(), is_unseen=block.is_unseen[order],
    )  # fmt: skip


def sheet(
    pictures: np.ndarray, names: np.ndarray, is_unseen: np.ndarray, kinds: list[str]
) -> Figure:
    """A row for each kind: on the left what is taught, on the right, framed, what is not."""
    figure = Figure(figsize=(16, 1.32 * len(kinds)))
    axes = figure.subplots(len(kinds), 2 * A_HALF, squeeze=False)
    for of_kind, row in zip(kinds, axes, strict=True):
        places = np.flatnonzero(names == of_kind)
        for axis, place in zip(row, places, strict=False):
            axis.imshow(pictures[place], interpolation="nearest")
            for side in axis.spines.values():
                side.set(color="tab:orange", linewidth=3, visible=bool(is_unseen[place]))
        for axis in row:
            axis.set(xticks=[], yticks=[])
        for axis in row[len(places) :]:
            axis.set_axis_off()
        row[0].set_ylabel(of_kind, fontsize=13)
    figure.tight_layout(pad=0.3)
    return figure


if __name__ == "__main__":
    main()
