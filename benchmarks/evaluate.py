"""How long an evaluation of ten million rows takes, and how much memory.

    python benchmarks/evaluate.py [--rows 10000000] [--copies 5] [--repeats 1] [--keep FILE]

Makes a score table from named draws (2 million negative galaxies in some five copies, eight kinds,
one per cent lenses, weights to the sky, 400 regions, three columns of strata), writes it as
Parquet, and evaluates it in a fresh process: every rate, interval and stratum, with thresholds of a
second table. Prints JSON: seconds of reading and of evaluating, and the peak of resident memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkhaloscope.core import keys

KINDS = ("companion", "control", "edge_on", "merger", "ring", "scrambled", "single_image", "spiral")
SHARES = np.array([0.2, 0.4, 0.05, 0.05, 0.1, 0.05, 0.05, 0.1])
SKY = np.array([0.05, 2.2, 0.3, 0.1, 0.02, 0.0, 0.01, 0.8])
SHIFT = np.array([1.0, 0.0, 0.8, 0.7, 1.5, 1.2, 1.1, 0.5])
LENS_SHARE, N_REGIONS, N_SOURCES, SEED = 0.01, 400, 5000, 11


def table(n: int, copies: int, *, seed: int = SEED) -> pa.Table:
    """A score table of n rows; what belongs to a galaxy is drawn by its id."""
    row = np.arange(n)
    n_lenses = int(n * LENS_SHARE)
    n_galaxies = max(1, (n - n_lenses) // copies)
    is_lens = row < n_lenses

    def draw(ids: np.ndarray, stream: str) -> np.ndarray:
        return keys.uniform(ids, seed=seed, stream=stream)

    whose = row if copies == 1 else (draw(row, "galaxy") * n_galaxies).astype(int)
    galaxy = np.where(is_lens, n_galaxies + row, whose)
    kind = keys.choice(galaxy, SHARES, seed=seed, stream="kind")
    score = 0.8 * keys.normal(galaxy, seed=seed, stream="of galaxy")
    score += 0.6 * keys.normal(row, seed=seed, stream="of copy")
    score += np.where(is_lens, 3.0, SHIFT[kind])
    region = (draw(galaxy, "region") * N_REGIONS).astype(np.int32)
    score += 0.2 * keys.normal(np.arange(N_REGIONS), seed=seed, stream="of region")[region]
    names = pa.array([*KINDS, "lens"])
    code = np.where(is_lens, len(KINDS), kind).astype(np.int32)
    return pa.table(
        {
            "score": score.astype(np.float32),
            "label": is_lens.astype(np.int8),
            "group": galaxy * 7919 + 3,
            "kind": pa.DictionaryArray.from_arrays(pa.array(code), names),
            "sky_weight": pa.array(SKY[kind], mask=is_lens),
            "area_deg2": np.full(n, 5e-4),
            "region": region,
            "source": pa.array((draw(row, "source") * N_SOURCES).astype(np.int32), mask=~is_lens),
            "theta_e_arcsec": pa.array(0.3 + 2.5 * draw(row, "theta"), mask=~is_lens),
            "psf_fwhm_r_arcsec": 0.8 + 0.8 * draw(galaxy, "psf"),
            "host_mag_z": 18 + 2.5 * draw(galaxy, "mag"),
        }
    )


def evaluate(path: Path) -> dict[str, object]:
    """Read and evaluate a table in this process."""
    from darkhaloscope.evaluate import metrics, thresholds
    from darkhaloscope.evaluate.intervals import Draws
    from darkhaloscope.evaluate.metrics import Plan
    from darkhaloscope.evaluate.rows import rows

    start = time.perf_counter()
    read = pq.read_table(path)

    def floats(name: str, source: pa.Table = read) -> np.ndarray:
        return np.asarray(source[name].to_numpy(), np.float64)

    columns = ("theta_e_arcsec", "psf_fwhm_r_arcsec", "host_mag_z")
    is_lens = read["label"].to_numpy() == 1
    made = rows(
        score=floats("score"),
        is_lens=is_lens,
        galaxy=read["group"].to_numpy(),
        kind=read["kind"],
        sky_weight=floats("sky_weight"),
        area_deg2=floats("area_deg2"),
        region=read["region"],
        source=read["source"],
        columns={name: floats(name) for name in columns},
    )
    plan = Plan(
        draws=Draws(1),
        origin="sim",
        population="drawn",
        prevalences=(1e-2, 1e-3, 1e-4, 1e-5),
        bins={"theta_e_arcsec": (0.5, 1.0, 1.5, 2.0)},
        headline={"theta_e_arcsec": 1.0},
        target_bins={
            "psf_fwhm_r_arcsec": (0.8, 1.0, 1.2, 1.4),
            "host_mag_z": (18.0, 19.0, 20.0),
        },
    )
    ready = time.perf_counter()
    fixed = thresholds.Thresholds("other", 10**6, tuple((f, 3.0) for f in thresholds.FPRS[:4]))
    found = metrics.evaluate(made, plan, thresholds=fixed).metrics
    done = time.perf_counter()
    if not found["consistency"]["passed"]:
        raise SystemExit("the self-check failed")
    return {
        "rows": found["n_rows"],
        "lenses": found["n_lenses"],
        "negatives": found["n_negatives"],
        "regions": found["n_regions"],
        "strata": len(found["by_stratum"]),
        "read_seconds": round(ready - start, 2),
        "evaluate_seconds": round(done - ready, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "cpus": len(os.sched_getaffinity(0)),
        "tpr_at_fpr_1e-4": found["tpr_at_fpr"][3],
    }


def main() -> None:
    """Make the table, evaluate it in a fresh process, print JSON."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rows", type=int, default=10_000_000)
    asked.add_argument("--copies", type=int, default=5, help="of a negative galaxy, on average")
    asked.add_argument("--repeats", type=int, default=1)
    asked.add_argument("--keep", type=Path, help="where the table is kept; left out: nowhere")
    asked.add_argument("--evaluate", type=Path, help=argparse.SUPPRESS)
    said = asked.parse_args()
    if said.evaluate is not None:
        sys.stdout.write(json.dumps(evaluate(said.evaluate)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = said.keep or Path(folder) / "scores.parquet"
        if not path.exists():
            pq.write_table(table(said.rows, said.copies), path)
        for _ in range(said.repeats):
            command = [sys.executable, __file__, "--evaluate", str(path)]
            subprocess.run(command, check=True)  # noqa: S603  (this very file)


if __name__ == "__main__":
    main()
