"""Whether a set is still the one that was frozen: its definition, its rows, and some of its pixels.

What was frozen is kept beside the definition: `frozen.json` holds hashes and numbers of rows of
every frozen benchmark by its name, `NAME.stamps.parquet` some stamps of test. To freeze one:

    python -m darkhaloscope.bench.frozen.verify FOLDER [--variant NAME] [--into FOLDER] [--headline]

FOLDER keeps the pictures of sources, which are made once.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkhaloscope.bench.frozen import definition as definitions
from darkhaloscope.bench.frozen import sets
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.sets import Drawn
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data import pixels as packed
from darkhaloscope.lensing import cpu

PACKAGE = Path(__file__).resolve().parent
JUDGED = ("test", "val", "calib")
STAMPS = 64
A_KIND = 4  # stamps of each; lenses fill up
TOLERANCE = 1e-3  # of the sky's rms in a pixel
_NAMED = 4  # of what differs, in a message


def store_stamps(
    definition: Definition, folder: Path, *, into: Path = PACKAGE, count_headline: bool = False
) -> dict[str, Any]:
    """Freeze a benchmark: write its stamps and enter its hashes into `frozen.json`.

    Args:
        definition: The benchmark.
        folder: Where the pictures of sources are kept.
        into: Where both files are written.
        count_headline: Whether the lenses of the headline stratum are counted, which takes minutes,
            as their light has to be painted.

    Returns:
        What was entered.
    """
    record: dict[str, Any] = {"name": definition.name, "definition_sha256": definition.sha256}
    record["sets"] = {
        which: _said_of(definition, which, folder, count_headline) for which in JUDGED
    }
    into.mkdir(parents=True, exist_ok=True)
    made = _stamps(definition, _chosen(definition, folder), folder)
    pq.write_table(made, _stamps_file(definition, into), compression="zstd")
    entered = {**_frozen(into), definition.name: record}
    (into / "frozen.json").write_text(json.dumps(entered, indent=1) + "\n", encoding="utf-8")
    return record


def check(
    definition: Definition, folder: Path, *, pixels: bool = True, kept: Path = PACKAGE
) -> list[str]:
    """Make a benchmark's rows and some of its stamps again, on the CPU.

    Args:
        definition: The benchmark.
        folder: Where the pictures of sources are kept.
        pixels: Whether the stamps are made, too.
        kept: Where what was frozen is.

    Returns:
        What differs, in words; none where all is as it was frozen.
    """
    record = _frozen(kept).get(definition.name)
    if record is None:
        return [f"{definition.name} is not frozen: {kept / 'frozen.json'} does not name it"]
    if record["definition_sha256"] != definition.sha256:
        frozen = record["definition_sha256"][:12]
        return [
            f"its definition has sha256 {definition.sha256[:12]}..., frozen was {frozen}...: other "
            "numbers need another name"
        ]
    faults = [
        fault
        for which in JUDGED
        for fault in _row_faults(definition, which, folder, record["sets"][which])
    ]
    return faults + (_pixel_faults(definition, folder, kept) if pixels else [])


def require(definition: Definition, folder: Path, *, pixels: bool = True) -> None:
    """Refuse a benchmark that is not the one that was frozen.

    Raises:
        DataError: it differs; the message says in what.
    """
    if faults := check(definition, folder, pixels=pixels):
        raise DataError(message(definition, faults))


def message(definition: Definition, faults: Sequence[str]) -> str:
    """One message of all that differs."""
    return (
        f"{definition.name} is not what was frozen: {'; '.join(faults)}. Figures on this set "
        "cannot be compared with published ones"
    )


def _frozen(folder: Path) -> dict[str, Any]:
    path = folder / "frozen.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _stamps_file(definition: Definition, folder: Path) -> Path:
    return folder / f"{definition.name}.stamps.parquet"


def _said_of(
    definition: Definition, which: str, folder: Path, count_headline: bool
) -> dict[str, Any]:
    kinds: Counter[str] = Counter()

    def counted() -> Iterator[Drawn]:
        for some in sets.drawn(definition, which, sets.bank_of(definition, folder)):
            kinds.update(some.rows["kind"].to_pylist())
            yield some

    columns = sets.fingerprints(counted())
    said: dict[str, Any] = {
        "fingerprint": sets.whole_of(columns),
        "rows": dict(sorted(kinds.items())),
        "lenses": kinds["lens"],
        "columns": {name: value[:12] for name, value in columns.items()},
    }
    if count_headline:
        said["headline_lenses"] = headline_lenses(definition, which, folder)
    return said


def headline_lenses(definition: Definition, which: str, folder: Path) -> int:
    """Lenses of the headline stratum; only those that may be in it are painted."""
    least, counted = definition.headline, 0
    bank = sets.bank_of(definition, folder)
    for some in sets.drawn(definition, which, bank):
        is_lens = pc.equal(some.rows["kind"], "lens").to_numpy()
        ratio = some.rows["theta_e_over_fwhm_r"].to_numpy(zero_copy_only=False)
        may_be = _part(some, np.flatnonzero(is_lens & (ratio >= least["theta_e_over_fwhm_r"])))
        for chunk in sets.painted(definition, which, may_be, bank, _cpu()):
            seen = [chunk.rows[name].to_numpy(zero_copy_only=False) >= low
                    for name, low in least.items()]  # fmt: skip
            counted += int(np.logical_and.reduce(seen).sum())
    return counted


def _row_faults(
    definition: Definition, which: str, folder: Path, record: Mapping[str, Any]
) -> list[str]:
    blocks = sets.drawn(definition, which, sets.bank_of(definition, folder))
    columns = sets.fingerprints(blocks)
    if sets.whole_of(columns) == record["fingerprint"]:
        return []
    then = record["columns"]
    differ = [n for n in {**then, **columns} if then.get(n) != columns.get(n, "")[:12]]
    more = f" and {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
    return [f"the rows of {which} differ in {', '.join(differ[:_NAMED])}{more}"]


def _chosen(definition: Definition, folder: Path) -> Iterator[tuple[int, Drawn]]:
    """Some of each kind of test, by their ids, from the first blocks: number of block, rows."""
    kinds = definition.counts("test")
    left = dict.fromkeys(kinds, A_KIND)
    if definition.lens_hosts("test"):
        left["lens"] = max(STAMPS - A_KIND * len(kinds), A_KIND)
    for number, some in enumerate(sets.drawn(definition, "test", sets.bank_of(definition, folder))):
        kind = np.asarray(some.rows["kind"].to_pylist(), np.str_)
        order = np.argsort(some.rows["stamp_id"].to_numpy())
        picked = []
        for name, wanted in left.items():
            of_kind = order[kind[order] == name]
            # Half of them, where there are such, from what no network is taught.
            late = some.is_unseen[of_kind]
            half = (wanted + 1) // 2
            first = np.concatenate([of_kind[late][:half], of_kind[~late]])[:wanted]
            rest = of_kind[~np.isin(of_kind, first)][: wanted - len(first)]
            picked.append(np.concatenate([first, rest]))
            left[name] -= len(picked[-1])
        if sum(map(len, picked)):
            yield number, _part(some, np.sort(np.concatenate(picked)))
        if not any(left.values()):
            return


def _stamps(
    definition: Definition, chosen: Iterator[tuple[int, Drawn]], folder: Path
) -> pa.Table:  # fmt: skip
    """Rows of the file of stamps."""
    tables = []
    for number, some in chosen:
        made, level, noise = _painted(definition, some, folder)
        columns = {
            "block": pa.repeat(pa.scalar(number, pa.int32()), len(made)),
            "stamp_id": some.rows["stamp_id"],
            "target_id": some.rows["target_id"],
            "kind": some.rows["kind"],
            "is_unseen": some.is_unseen,
            **{f"sky_median_{b}_nmgy": level[:, i] for i, b in enumerate(definition.bands)},
            **{f"noise_{b}_nmgy": noise[:, i] for i, b in enumerate(definition.bands)},
            "pixels": packed.encode(made),
        }
        tables.append(pa.table(columns))
    joined = pa.concat_tables(tables)
    size, bands = definition.size_px, len(definition.bands)
    said = {"dtype": "float32", "shape": f"{bands},{size},{size}", "unit": "nmgy"}
    at = joined.schema.get_field_index("pixels")
    return joined.set_column(at, joined.field(at).with_metadata(said), joined["pixels"])


def _pixel_faults(definition: Definition, folder: Path, kept: Path) -> list[str]:
    """Which stamps differ from those that were kept, by more than the tolerance in any pixel."""
    path = _stamps_file(definition, kept)
    if not path.is_file():
        return [f"there is no {path.name} beside frozen.json"]
    stored = pq.read_table(path)
    then = np.stack([np.frombuffer(v, np.float32) for v in stored["pixels"].to_pylist()])
    ids, kinds = stored["stamp_id"].to_pylist(), stored["kind"].to_pylist()
    place = {stamp: at for at, stamp in enumerate(ids)}
    apart = np.full(len(ids), np.nan)
    for some in _again(definition, stored, folder):
        made, _, noise = _painted(definition, some, folder)
        at = [place[stamp] for stamp in some.rows["stamp_id"].to_pylist()]
        off = np.abs(made - then[at].reshape(made.shape)) / noise[:, :, None, None]
        apart[at] = off.max((1, 2, 3))
    bad = np.flatnonzero(~(apart <= TOLERANCE))
    if not len(bad):
        return []
    names = [f"{kinds[i]} {ids[i]} ({_by(apart[i])})" for i in bad[:_NAMED]]
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    kernel = "" if cpu.is_available() else "; numba, whose loops they were made with, is missing"
    return [f"{len(bad)} of {len(ids)} stamps differ: {', '.join(names)}{more}{kernel}"]


def _by(apart: float) -> str:
    return "not in the set" if np.isnan(apart) else f"by {apart:.2g} of the sky's rms"


def _again(definition: Definition, stored: pa.Table, folder: Path) -> Iterator[Drawn]:
    """The rows of the stamps that were kept, block by block."""
    blocks, wanted = set(stored["block"].to_pylist()), stored["stamp_id"].combine_chunks()
    for number, some in enumerate(sets.drawn(definition, "test", sets.bank_of(definition, folder))):
        if number in blocks:
            found = pc.is_in(some.rows["stamp_id"], value_set=wanted).to_numpy()
            if found.any():
                yield _part(some, np.flatnonzero(found))
        if number >= max(blocks):
            return


def _part(some: Drawn, rows: NDArray[np.intp]) -> Drawn:
    """Some of the rows, with their galaxies alone."""
    own, host = np.unique(some.host[rows], return_inverse=True)
    return replace(
        some,
        galaxies=some.galaxies.take(own),
        rows=some.rows.take(pa.array(rows)).combine_chunks(),
        host=host,
        is_unseen=some.is_unseen[rows],
    )


def _painted(
    definition: Definition, some: Drawn, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Pixels (n, band, y, x), level and rms of the sky (n, band) of some rows of test."""
    bank = sets.bank_of(definition, folder)
    chunks = list(sets.painted(definition, "test", some, bank, _cpu()))
    heads = pa.concat_tables([chunk.heads for chunk in chunks])
    noise = [heads[f"noise_{band}_nmgy"].to_numpy() for band in definition.bands]
    return (
        np.concatenate([chunk.raw.pixels.numpy() for chunk in chunks]),
        np.concatenate([chunk.raw.sky_median.numpy() for chunk in chunks]),
        np.stack(noise, 1),
    )


def _cpu() -> Device:
    return Device("cpu", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def main(words: Sequence[str]) -> int:
    """Freeze a benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m darkhaloscope.bench.frozen.verify")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--into", type=Path, default=PACKAGE)
    parser.add_argument("--headline", action="store_true", help="count its lenses, too: minutes")
    asked = parser.parse_args(list(words))
    try:
        bench = definitions.load(asked.variant)
    except ConfigError as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    record = store_stamps(bench, asked.folder, into=asked.into, count_headline=asked.headline)
    for said in record["sets"].values():
        del said["columns"]
    sys.stdout.write(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
