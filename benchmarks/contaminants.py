"""How many look-alikes a core paints in a second, by kind.

    python benchmarks/contaminants.py [--rows 512] [--rounds 7] [--json FILE]

One thread, CPU seconds, three bands, 64 px, each host with a PSF of its own. Rows are drawn by the
manifest's own code with the settings of a preset, a batch of each kind, and painted as stamps are:
from the numbers to pixels with photon noise. `stamps_per_core_s` is the median of the rounds, whose
kinds are interleaved, with the least and the most beside it; a round repeats a batch of 256. The
checks of the host and the layout of the numbers (`described`) are in it. Kinds made of the arc's
own source paint the arc as well, to know how bright that is.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from injection_builders import NOISY
from manifest_builders import BANDS, KINDS, config, cutouts_head, splits

from darkhaloscope.bench.entry import circumstances
from darkhaloscope.ml import injection, manifesting
from darkhaloscope.ml.painters import host_numbers

BATCH = 256
SIZE_PX = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512, help="galaxies a kind is drawn on")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(asked.rows, asked.rounds)
    text = json.dumps(figures, indent=1)
    if asked.json:
        asked.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """Figures of every painted kind."""
    targets = splits(rows, split="train")
    heads = cutouts_head(targets)
    hosts = manifesting.hosts_of(targets, heads, BANDS)
    manifest = manifesting.draw(hosts, split="train", config=config())
    kinds = [kind for kind in KINDS if kind != "control"]
    batches = {kind: batch(manifest, heads, kind) for kind in kinds}
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    parts = {kind: mean_parts(rows_of) for kind, (rows_of, _) in batches.items()}
    for kind in kinds:  # caches, compilation
        painted_per_s(*batches[kind])
    for _ in range(rounds):
        for kind in kinds:
            speeds[kind].append(painted_per_s(*batches[kind]))
    return {
        "stamps_per_core_s": {
            kind: {
                "median": round(statistics.median(values)),
                "least": round(min(values)),
                "most": round(max(values)),
                "parts": parts[kind],
            }
            for kind, values in speeds.items()
        },
        "bands": len(BANDS),
        "size_px": SIZE_PX,
        "batch": BATCH,
        "rounds": rounds,
        **circumstances(),
    }


def batch(manifest: pa.Table, heads: pa.Table, kind: str) -> tuple[pa.Table, np.ndarray]:
    """Rows of a kind, and the numbers of their hosts."""
    rows = manifest.filter(pc.equal(manifest["kind"], kind))[:BATCH]
    at = pc.index_in(rows["target_id"], value_set=heads["target_id"].combine_chunks())
    return rows, host_numbers(heads.take(at), BANDS)


def mean_parts(rows: pa.Table) -> float:
    """Parts a row."""
    lengths = pc.fill_null(pc.list_value_length(rows["shape_parts"]), 0)
    return round(float(pc.mean(lengths).as_py()) / 13, 1)


def painted_per_s(rows: pa.Table, hosts: np.ndarray) -> float:
    """Stamps in a CPU second: from the manifest's rows to pixels with light and photon noise."""
    pixels = torch.zeros(rows.num_rows, len(BANDS), SIZE_PX, SIZE_PX)
    start = time.process_time()
    work = injection.described(rows, hosts, camera=NOISY, seed=1, edge_px=8)
    for _ in injection.add_light(work, pixels):
        pass
    return rows.num_rows / (time.process_time() - start)


if __name__ == "__main__":
    main()
