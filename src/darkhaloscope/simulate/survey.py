"""A simulated survey, written as the Legacy Surveys publish theirs: `dhs simulate`.

Bricks are made in parallel, each from the settings and its own id, so neither their order nor the
number of workers changes a byte. A killed run leaves whole files only; the next makes what is
missing. `simulated.json` at the root names the settings and says when all is there.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from numpy.typing import NDArray

from darkhaloscope.core import units
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.core.processes import die_with_parent
from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.simulate import plan as planning
from darkhaloscope.simulate import truth
from darkhaloscope.simulate.bricks import PARTS, Task
from darkhaloscope.simulate.catalogue import OPTICAL
from darkhaloscope.simulate.fitsfiles import write_bytes, write_table
from darkhaloscope.simulate.sky import Brick
from darkhaloscope.survey import layout

VERSION = 1  # raised when the same settings give another sky
RECORD = "simulated.json"

Progress = Callable[[int, int], None]


def write(
    config: SimulateConfig, folder: Path, *, workers: int = 1, progress: Progress | None = None
) -> Path:
    """Write a simulated survey, or what is missing of it.

    Args:
        config: The sky.
        folder: The survey's root; it may be there, empty or half done.
        workers: Processes; one makes the bricks in this process.
        progress: Told the bricks done and their number: 0 at the start, then after each.

    Returns:
        The folder, absolute.

    Raises:
        ConfigError: the folder holds another sky or something else.
        DataError: the folder cannot be written.
    """
    folder = folder.expanduser().absolute()
    digest = settings_digest(config)
    if _begin(folder, digest):
        return folder
    plan = planning.make(config)
    _record(folder, config, digest, is_done=False)
    task = Task(config, plan, folder)
    open_bricks = [brick for brick in plan.sky if not task.record(brick).exists()]
    tell = progress or _silent
    tell(0, len(plan.sky))
    already = len(plan.sky) - len(open_bricks)
    for done, _ in enumerate(_made(task, open_bricks, workers), already + 1):
        tell(done, len(plan.sky))
    _write_whole_sky(plan.sky, folder)
    _record(folder, config, digest, is_done=True)
    shutil.rmtree(folder / PARTS)
    return folder


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""


def settings_digest(config: SimulateConfig) -> str:
    """Names a sky: its settings and the version of what draws it."""
    return hashlib.sha256(f"{VERSION} {config.model_dump_json()}".encode()).hexdigest()


def _begin(folder: Path, digest: str) -> bool:
    """Whether all is done already; refuses a folder of something else."""
    record = folder / RECORD
    if not record.exists():
        other = (
            next((p for p in folder.iterdir() if p.name != RECORD), None)
            if folder.is_dir()
            else None
        )
        if other is not None or folder.is_file():
            raise ConfigError(
                f"{folder} holds {other.name if other else 'a file'}, which is no simulated survey;"
                " choose an empty or new folder"
            )
        return False
    try:
        found = json.loads(record.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{record} is no record of a simulated survey; choose another folder"
        ) from error
    if found.get("digest") != digest:
        raise ConfigError(
            f"{folder} holds a survey simulated with other settings (see {RECORD});"
            " choose another folder, or delete this one"
        )
    is_done = bool(found.get("done"))
    if is_done and (folder / PARTS).exists():
        shutil.rmtree(folder / PARTS)
    return is_done


def _record(folder: Path, config: SimulateConfig, digest: str, *, is_done: bool) -> None:
    content = {
        "digest": digest,
        "done": is_done,
        "version": VERSION,
        "settings": config.model_dump(mode="json"),
    }
    write_bytes((json.dumps(content, indent=1) + "\n").encode(), folder / RECORD)


def _made(task: Task, bricks: list[Brick], workers: int) -> Iterator[str]:
    """Names of bricks as they are made."""
    if workers <= 1 or len(bricks) <= 1:
        import torch

        threads = torch.get_num_threads()
        try:
            yield from map(task, bricks)
        finally:
            torch.set_num_threads(threads)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a worker loads its numerics
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(bricks)),
        mp_context=spawn,
        initializer=die_with_parent,
        initargs=(os.getpid(),),
    ) as pool:
        futures = [pool.submit(task, brick) for brick in bricks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_whole_sky(sky: tuple[Brick, ...], folder: Path) -> None:
    """Tables that need all bricks: the lists of bricks, the sweeps, the truth."""
    write_table(_all_bricks(sky), folder / layout.bricks_path())
    catalogues = {brick.name: _read(folder / layout.tractor_path(brick.name)) for brick in sky}
    write_table(_release_bricks(sky, catalogues), folder / layout.bricks_path("dr10"))
    primary = np.concatenate([r[r["brick_primary"] == ord("T")] for r in catalogues.values()])
    for key, rows in _by_sweep(primary):
        write_table(rows, folder / layout.sweep_path(key))
    for name in truth.TABLES:
        parts = [pq.read_table(folder / PARTS / f"{name}-{brick.name}.parquet") for brick in sky]
        write_bytes(truth.encode(pa.concat_tables(parts)), folder / "truth" / f"{name}.parquet")
    write_bytes(truth.README.encode(), folder / "truth" / "README.txt")


def _read(path: Path) -> NDArray[np.void]:
    try:
        with fits.open(path, memmap=False, character_as_bytes=True) as units:
            return np.array(units[1].data)
    except (OSError, IndexError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete the survey and simulate it again"
        ) from error


def _all_bricks(sky: tuple[Brick, ...]) -> NDArray[np.void]:
    """Columns of survey-bricks.fits.gz."""
    columns: dict[str, tuple[str, Any]] = {
        "BRICKNAME": ("S8", [b.name for b in sky]),
        "BRICKID": (">i4", [b.brickid for b in sky]),
        "BRICKQ": (">i2", [b.column % 2 + 2 * (b.row % 2) for b in sky]),
        "BRICKROW": (">i4", [b.row for b in sky]),
        "BRICKCOL": (">i4", [b.column for b in sky]),
        **{
            n.upper(): (">f8", [getattr(b, n) for b in sky])
            for n in ("ra", "dec", "ra1", "ra2", "dec1", "dec2")
        },
    }
    return _table(columns)


def _release_bricks(
    sky: tuple[Brick, ...], catalogues: dict[str, NDArray[np.void]]
) -> NDArray[np.void]:
    """Columns of survey-bricks-dr10-south.fits.gz as far as this has them: medians of entries."""

    def median(brick: Brick, column: str) -> float:
        values = catalogues[brick.name][column]
        return float(np.median(values)) if len(values) else 0.0

    columns: dict[str, tuple[str, Any]] = {
        "brickname": ("S8", [b.name for b in sky]),
        "ra": (">f8", [b.ra for b in sky]),
        "dec": (">f8", [b.dec for b in sky]),
        **{f"nexp_{f}": (">i2", [median(b, f"nobs_{f}") for b in sky]) for f in OPTICAL},
        "nobjs": (">i4", [len(catalogues[b.name]) for b in sky]),
        **{f"psfsize_{f}": (">f4", [median(b, f"psfsize_{f}") for b in sky]) for f in OPTICAL},
        **{
            f"psfdepth_{f}": (">f4", [_depth_mag(median(b, f"psfdepth_{f}")) for b in sky])
            for f in OPTICAL
        },
        "ebv": (">f4", [median(b, "ebv") for b in sky]),
        "brickid": (">i4", [b.brickid for b in sky]),
        **{n: (">f8", [getattr(b, n) for b in sky]) for n in ("ra1", "ra2", "dec1", "dec2")},
        "area": (">f4", [b.area_deg2 for b in sky]),
        "survey_primary": ("?", [True for _ in sky]),
    }
    return _table(columns)


def _depth_mag(psfdepth: float) -> float:
    """5-sigma depth, 0 where there is none, as in the survey's table."""
    return float(np.nan_to_num(units.depth_mag_from_psfdepth(psfdepth)))


def _table(columns: dict[str, tuple[str, Any]]) -> NDArray[np.void]:
    rows = np.zeros(
        len(next(iter(columns.values()))[1]), [(n, kind) for n, (kind, _) in columns.items()]
    )
    for name, (_, values) in columns.items():
        rows[name] = values
    return rows


def _by_sweep(rows: NDArray[np.void]) -> Iterator[tuple[str, NDArray[np.void]]]:
    """Entries of each light catalogue, upper-case columns, without what only a brick's has."""
    kept = [name for name in rows.dtype.names or () if name not in {"brick_primary", "bx", "by"}]
    upper = np.zeros(len(rows), [(name.upper(), rows.dtype[name]) for name in kept])
    for name in kept:
        upper[name.upper()] = rows[name]
    for key in layout.sweep_keys("dr10"):
        ra1, ra2, dec1, dec2 = layout.sweep_box(key) or (0.0, 0.0, 0.0, 0.0)
        inside = (
            (rows["ra"] >= ra1) & (rows["ra"] < ra2) & (rows["dec"] >= dec1) & (rows["dec"] < dec2)
        )
        if inside.any():
            yield key, upper[inside]
