"""Write calib.csv and test.csv: 5,000 scored stamps each, of an imagined finder and its rival.

Every draw is named by its purpose and its row, so that the files are the same on every machine.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import keys

N, N_LENSES, N_UNGRADED, SEED = 5_000, 500, 50, 11
KINDS = np.array(["random", "spiral", "ring", "edge_on"])
IN_THE_SET = np.array([0.70, 0.15, 0.05, 0.10])
ON_THE_SKY = np.array([0.78, 0.17, 0.01, 0.04])
LOOKS = np.array([-2.6, -1.8, -0.2, -1.4])  # how lens-like each kind is
COLUMNS = "stamp,galaxy,region,what,is_lens,theta_e,seeing,p_lens,rival,sky_weight"


def main(folder: Path) -> None:
    """Write both files."""
    for name in ("calib", "test"):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(COLUMNS.split(","))
            lines.writerows(rows(name))


def rows(of: str) -> list[tuple[str, ...]]:
    """The lines of one file, as text."""
    i = np.arange(N)
    is_lens = i < N_LENSES
    # every twentieth negative is a turned copy of the one before it
    galaxy = np.where(is_lens | (i % 20 != 19), i, i - 1)
    region = keys.choice(galaxy, np.ones(25), seed=SEED, stream=f"{of} region")
    kind = keys.choice(galaxy, IN_THE_SET, seed=SEED, stream=f"{of} kind")
    theta_e = 0.4 + 2.1 * keys.uniform(i, seed=SEED, stream=f"{of} theta_e")
    seeing = 0.9 + 0.6 * keys.uniform(region, seed=SEED, stream=f"{of} seeing")
    look = np.where(is_lens, 3.2 * theta_e / seeing - 3.4, LOOKS[kind])
    look = look + 0.3 * keys.normal(region, seed=SEED, stream=f"{of} region's own")
    common = keys.normal(galaxy, seed=SEED, stream=f"{of} what both finders see")
    mine = look + common + 0.9 * keys.normal(i, seed=SEED, stream=f"{of} p_lens")
    rival = look + common + 1.5 * keys.normal(i, seed=SEED, stream=f"{of} rival")
    weight = (ON_THE_SKY / IN_THE_SET)[kind]
    is_ungraded = i >= N - N_UNGRADED  # nobody knows what the last ones are
    text = [
        [f"{of}-{n}" for n in i],
        [f"G{n:05d}" for n in galaxy],
        [f"field {n}" for n in region],
        np.where(is_lens, "lens", KINDS[kind]).tolist(),
        np.where(is_ungraded, "", is_lens.astype(int)).tolist(),
        _only(is_lens, theta_e),
        _only(is_lens | True, seeing),
        _only(is_lens | True, 1 / (1 + np.exp(-mine)), 6),
        _only(is_lens | True, rival),
        _only(~is_lens, weight),
    ]
    return list(zip(*text, strict=True))


def _only(chosen: NDArray[np.bool_], values: NDArray[np.float64], digits: int = 3) -> list[str]:
    """Numbers as text, empty where they do not apply."""
    return [f"{v:.{digits}f}" if c else "" for c, v in zip(chosen, values, strict=True)]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
