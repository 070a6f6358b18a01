"""The figures of docs/look-alikes.md: how good the page's cuts in the catalogue are.

    python docs/look_alike_proxies.py DEMO [--shared DIR]

Prints what they find on the sky of a finished `dhs demo --out DEMO`, against its truth, and in the
samples of real catalogues of the tests' data (DIR, by default $DHS_SHARED or ../shared).
"""

import argparse
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkhaloscope.core.errors import SchemaError
from darkhaloscope.core.settings.look_alikes import LookAlikesConfig
from darkhaloscope.evaluate.intervals import clopper_pearson
from darkhaloscope.ml import look_alikes
from darkhaloscope.survey import catalog

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "look-alikes.md"
MEANT = {"edge_on": (("edge_on",),), "spiral": (("spiral",), ("spiral", "disc"))}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("demo", type=Path)
    asked.add_argument("--shared", type=Path, default=os.environ.get("DHS_SHARED"))
    given = asked.parse_args()
    print("\n".join(simulated_lines(given.demo)))
    print()
    samples = (given.shared or REPOSITORY.parent / "shared") / "data" / "tractor-sweep-samples"
    print("\n".join(real_lines(sorted(samples.glob("*.fits")))))


def proxies_of_page() -> Sequence[look_alikes.Proxy]:
    """The cuts that the page shows."""
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    tables = tomllib.loads(block)["manifest"]["look_alikes"]
    return LookAlikesConfig.model_validate(tables).proxies


def simulated_lines(demo: Path) -> list[str]:
    """Completeness and purity of each proxy against the truth of the demo's sky, in Markdown."""
    files = sorted((demo / "demo" / "targets").glob("*.parquet"))
    targets = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    truth = pq.read_table(demo / "sky" / "truth" / "galaxies.parquet")
    lenses = pq.read_table(demo / "sky" / "truth" / "lenses.parquet")["target_id"].to_pylist()
    by_id = dict(zip(truth["target_id"].to_pylist(), truth["kind"].to_pylist(), strict=True))
    kind = np.array([by_id.get(i, "none") for i in targets["target_id"].to_pylist()])
    is_lens = np.isin(targets["target_id"].to_numpy(), [i for i in lenses if i is not None])
    lines = [
        f"{targets.num_rows} targets ({counted(kind)}), {is_lens.sum()} of them lenses",
        "",
        "| cuts for | meant | completeness | purity | the rest | lenses |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for proxy in proxies_of_page():
        found = look_alikes.meets(targets, proxy)
        for wanted in MEANT[proxy.kind]:
            is_wanted = np.isin(kind, wanted)
            right = int(np.count_nonzero(found & is_wanted))
            lines.append(
                f"| {proxy.kind} | {' or '.join(wanted)} | {share(right, is_wanted.sum())} "
                f"| {share(right, found.sum())} | {counted(kind[found & ~is_wanted])} "
                f"| {np.count_nonzero(found & is_lens)} |"
            )
    return lines


def real_lines(files: Sequence[Path]) -> list[str]:
    """How many galaxies of each sample each proxy takes, in Markdown."""
    proxies = proxies_of_page()
    lines = [
        f"| sample | galaxies | {' | '.join(p.kind for p in proxies)} |",
        "| --- | --- |" + " --- |" * len(proxies),
    ]
    for file in files:
        try:
            catalogue = catalog.open_catalogue(file)
        except SchemaError:
            continue
        rows = np.concatenate([np.arange(len(catalogue))[part] for part in catalogue.pieces()])
        galaxies = rows[catalog.is_galaxy(catalogue.column("type", rows))]
        table = pa.table(catalog.read_rows(catalogue, galaxies, ("g", "r", "z")))
        found = [np.count_nonzero(look_alikes.meets(table, proxy)) for proxy in proxies]
        lines.append(f"| {file.name} | {len(galaxies)} | {' | '.join(map(str, found))} |")
    return lines


def counted(kinds: Any) -> str:
    """How many of each kind."""
    names, counts = np.unique(kinds, return_counts=True)
    return ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True)) or "none"


def share(k: int, n: Any) -> str:
    """Percent with its 95 % interval, and the counts."""
    low, high = clopper_pearson(k, n)
    return f"{100 * k / n:.0f} % ({100 * low:.0f}-{100 * high:.0f}), {k} of {n}"


if __name__ == "__main__":
    main()
