"""A trained network on cutouts from anywhere: files in, one table out.

A file that does not fit the network is refused with its reason, and the others are scored: other
pixel scale, missing band, unknown unit, too few pixels, NaN. Nothing is resampled or filled in.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import exported, runtimes, saved
from darkhaloscope.survey import foreign, stamping
from darkhaloscope.survey.images import ImageError

BATCH_FILES = 256
ANNULUS_PX = (28.0, 38.0)  # as in every preset of [cutouts]
SUFFIXES = (".parquet", ".csv", ".ecsv")
SHOWN = 10  # best and refused files of a summary


@dataclass(frozen=True, slots=True)
class Asked:
    """How files are read and scored.

    Attributes:
        runtime: What runs the network.
        device: Where, for torch; the others use its threads on the CPU.
        stated: What headers may not say.
        sky_median: Nanomaggies, one a band in the network's order; empty: measured on each file.
        annulus_px: Radii of the sky in the run that the network was trained in.
        inputs: Numbers that the network is told, for all files alike; a header's own come first.
    """

    runtime: runtimes.Runtime = "torch"
    device: Device = field(default_factory=Device)
    stated: foreign.Stated = field(default_factory=foreign.Stated)
    sky_median: tuple[float, ...] = ()
    annulus_px: tuple[float, float] = ANNULUS_PX
    inputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A file: its stamp and what the network is told, or why it is refused."""

    file: str
    stamp: stamping.Stamp | None
    told: tuple[float, ...]
    refused: str | None


def score(folder: Path, paths: Sequence[Path], asked: Asked) -> pa.Table:
    """Score files with a published model.

    Args:
        folder: Of the model, as `saved.save` wrote it.
        paths: Files, and folders whose files are read.
        asked: How.

    Returns:
        One row a file, in the order of `paths`: `file`, `ra_deg`, `dec_deg` (of the stamp's middle,
        null where the file does not say), `logit`, `sky_median_<b>_nmgy`, `sky_from`, `refused`
        (the reason; then the others are null).

    Raises:
        ConfigError: an option does not fit the network, or the runtime is not installed.
        DataError: a path is not there, the model cannot be read, or no file could be scored.
    """
    files = files_of(paths)
    model = saved.load(folder, device=asked.device.name if asked.runtime == "torch" else "cpu")
    _check(asked, model.description)
    before = torch.get_num_threads()
    torch.set_num_threads(asked.device.threads)
    try:
        with scorer_of(model, folder, asked) as scorer:
            parts = [
                _scored(files[start : start + BATCH_FILES], model, scorer, asked)
                for start in range(0, len(files), BATCH_FILES)
            ]
    finally:
        torch.set_num_threads(before)
    table = pa.concat_tables(parts).combine_chunks()
    if table["logit"].null_count == table.num_rows:
        raise DataError(f"none of {len(files)} files could be scored:\n{_reasons(table)}")
    about = {
        "network": model.description.network,
        "training_digest": model.description.training_digest,
        "runtime": asked.runtime,
    }
    return table.replace_schema_metadata(about)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of paths: a folder's own and those of the folders below, sorted by name.

    Raises:
        DataError: a path is not there, or a folder holds no file that can be read.
    """
    faults, files = [], []
    for path in paths:
        if path.is_dir():
            found = sorted(
                p
                for p in path.rglob("*")
                if p.name.lower().endswith(foreign.SUFFIXES) and p.is_file()
            )
            if not found:
                faults.append(f"  {path} holds no {', '.join(foreign.SUFFIXES)} file")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            faults.append(f"  {path} is not there")
    if faults:
        raise DataError("\n".join(["nothing was scored; mend the paths first:", *faults]))
    return list(dict.fromkeys(files))


@contextlib.contextmanager
def scorer_of(model: saved.SavedModel, folder: Path, asked: Asked) -> Iterator[runtimes.Scorer]:
    """The network in the runtime asked for; `model.onnx` of the folder is used where it is its own.

    Raises:
        ConfigError: the runtime is not installed.
    """
    if asked.runtime == "torch":
        yield runtimes.of_torch(model, device=asked.device.name)
        return
    make = {"onnxruntime": runtimes.of_onnxruntime, "openvino": runtimes.of_openvino}[asked.runtime]
    with TemporaryDirectory() as scratch:
        path = folder / exported.FILE
        if not exported.is_of(path, folder):
            path = Path(scratch, exported.FILE)
            exported.export(folder, path)
        yield make(path, threads=asked.device.threads)


def write(table: pa.Table, path: Path) -> None:
    """Write the table as its name says: Parquet, CSV or ECSV.

    Raises:
        ConfigError: the name says none of them, or its folder is not there.
        DataError: it cannot be written.
    """
    check_name(path)

    def fill(at: str) -> None:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, at)
        elif path.suffix == ".csv":
            from pyarrow import csv

            csv.write_csv(table, at)
        else:
            _write_ecsv(table, at)

    saved.write_whole(path, fill)


def check_name(path: Path) -> None:
    """Refuse, before anything is scored, a name that could not be written.

    Raises:
        ConfigError: its suffix or folder.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out {path}: the suffix says the format, {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first")


def summary(table: pa.Table, *, shown: int | None = SHOWN) -> str:
    """What a person reads: how many, the best, where the sky came from, and what was refused.

    Args:
        table: As `score` made it.
        shown: Files of the list, the highest logits first; None: all.
    """
    done = table.filter(pc.is_valid(table["logit"])).sort_by([("logit", "descending")])
    lines = [
        f"{table.num_rows} files: {done.num_rows} scored, {table.num_rows - done.num_rows} refused"
    ]
    lines.append(f"{'logit':>9}  {'ra_deg':>11}  {'dec_deg':>11}  file")
    for row in done.slice(0, shown).to_pylist():
        place = [
            f"{'-':>11}" if v is None else f"{v:11.6f}" for v in (row["ra_deg"], row["dec_deg"])
        ]
        lines.append(f"{row['logit']:9.3f}  {place[0]}  {place[1]}  {row['file']}")
    if shown is not None and done.num_rows > shown:
        lines.append(f"  and {done.num_rows - shown} more")
    words = {
        stamping.ANNULUS: "measured in the annulus, as in training",
        stamping.FRAME: "measured in the outermost pixels, as the cutout is too narrow for the "
        "annulus",
        stamping.STATED: "as stated",
    }
    for name, n in Counter(done["sky_from"].to_pylist()).most_common():
        lines.append(f"sky median of {n}: {words[name]}")
    lines.append("a logit ranks files; it is no probability that a galaxy is a lens")
    if done.num_rows < table.num_rows:
        lines.append(f"refused:\n{_reasons(table)}")
    return "\n".join(lines)


def _check(asked: Asked, made: saved.Description) -> None:
    """Refuse options that do not fit the network, all at once."""
    faults = []
    if asked.sky_median and len(asked.sky_median) != len(made.bands):
        faults.append(f"  --sky-median has {len(asked.sky_median)} values, one a band is wanted")
    if not all(map(math.isfinite, asked.sky_median)):
        faults.append("  --sky-median is not finite")
    inner, outer = asked.annulus_px
    if not 0 <= inner < outer:
        faults.append(f"  --sky-annulus {inner:g},{outer:g} does not rise")
    unknown = sorted(set(asked.inputs) - set(made.inputs))
    if unknown:
        told = ", ".join(made.inputs) or "nothing"
        faults.append(f"  --input {', '.join(unknown)}: the network is told {told}")
    if faults:
        takes = f"the network takes bands {' '.join(made.bands)}, {made.size_px} px"
        raise ConfigError("\n".join([f"options do not fit; {takes}:", *faults]))


def _scored(
    files: Sequence[Path], model: saved.SavedModel, scorer: runtimes.Scorer, asked: Asked
) -> pa.Table:
    """The rows of a few files."""
    found = [_read(path, model, asked) for path in files]
    used = [one for one in found if one.stamp is not None]
    stamps = [one.stamp for one in used if one.stamp is not None]
    logits: list[float] = []
    if used:
        told = np.array([one.told for one in used], np.float32)
        logits = scorer(
            np.stack([s.pixels for s in stamps]),
            np.stack([s.sky_median for s in stamps]),
            told if model.description.inputs else None,
        ).tolist()
    values = iter(zip(stamps, logits, strict=True))
    rows = []
    for one in found:
        row: dict[str, object] = {"file": one.file, "refused": one.refused}
        if one.stamp is not None:
            stamp, logit = next(values)
            row |= {"logit": logit, "sky_from": stamp.sky_from}
            if math.isfinite(stamp.ra_deg):
                row |= {"ra_deg": stamp.ra_deg, "dec_deg": stamp.dec_deg}
            for band, median in zip(model.description.bands, stamp.sky_median, strict=True):
                row[f"sky_median_{band}_nmgy"] = float(median)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(model.description.bands))


def _read(path: Path, model: saved.SavedModel, asked: Asked) -> _Read:
    made = model.description
    sky = np.array(asked.sky_median, np.float32) if asked.sky_median else None
    try:
        cutout = foreign.read(path, made.bands, asked.stated)
        model.check(Layout(made.bands, made.size_px, cutout.scale_arcsec))
        told = _told(cutout, made.inputs, asked.inputs)
        stamp = stamping.stamp_of(cutout, made.size_px, asked.annulus_px, sky)
    except (ImageError, DataError) as error:
        reason, _, _ = str(error).partition(". Train a model")  # advice that does not fit here
        return _Read(str(path), None, (), reason)
    return _Read(str(path), stamp, told, None)


def _told(
    cutout: foreign.Cutout, names: Sequence[str], stated: Mapping[str, float]
) -> tuple[float, ...]:
    """Numbers beside the pixels, of the header or as stated."""
    found = {**stated, **cutout.told}
    missing = [name for name in names if not math.isfinite(found.get(name, math.nan))]
    if missing:
        raise ImageError(
            f"the network is told {', '.join(missing)}, which its header does not have; state "
            f"--input {missing[0]}=VALUE"
        )
    return tuple(found[name] for name in names)


def _schema(bands: Sequence[str]) -> pa.Schema:
    sky = [pa.field(f"sky_median_{b}_nmgy", pa.float32()) for b in bands]
    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("ra_deg", pa.float64()),
            pa.field("dec_deg", pa.float64()),
            pa.field("logit", pa.float32()),
            *sky,
            pa.field("sky_from", pa.string()),
            pa.field("refused", pa.string()),
        ]
    )


def _reasons(table: pa.Table) -> str:
    """Each reason, with the files that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for row in table.filter(pc.is_valid(table["refused"])).to_pylist():
        by_reason.setdefault(row["refused"], []).append(row["file"])
    lines = []
    for reason, files in by_reason.items():
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        lines.append(f"  {reason}\n    {', '.join(files[:SHOWN])}{more}")
    return "\n".join(lines)


def _write_ecsv(table: pa.Table, at: str) -> None:
    from astropy.table import MaskedColumn, Table

    made = Table(meta={k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()})
    for name in table.column_names:
        values = table[name].to_pylist()
        unit = "deg" if name.endswith("_deg") else "nmgy" if name.endswith("_nmgy") else None
        is_text = pa.types.is_string(table.schema.field(name).type)
        blank: object = "" if is_text else 0.0
        made[name] = MaskedColumn(
            [blank if v is None else v for v in values],
            mask=[v is None for v in values],
            dtype=str if is_text else table.schema.field(name).type.to_pandas_dtype(),
            unit=None if unit != "deg" else unit,
            description="nanomaggies" if unit == "nmgy" else None,
        )
    made.write(at, format="ascii.ecsv")
