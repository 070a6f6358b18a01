"""The folder of an evaluation: written whole or not at all, and over nothing but its own kind."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from darkhaloscope.core.errors import ConfigError

MADE_BY = "dhs evaluate"  # the value of `made_by` in metrics.json: the folder may be written again
NAMES = frozenset({"index.html", "metrics.json", "metrics.parquet", "thresholds.json"})


def check(folder: Path, thresholds: Path | None = None) -> None:
    """Refuse, before minutes of work, a folder that could not be written at their end.

    Args:
        folder: Where the evaluation is to be written.
        thresholds: The thresholds file that is read, which writing would remove.

    Raises:
        ConfigError: it is a file, or holds something that an evaluation has not written, or holds
            the thresholds that are read.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; name a folder")
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if not there:
        return
    if thresholds is not None and any(_is_same(folder / name, thresholds) for name in there):
        raise ConfigError(
            f"--out {folder} holds the file that --thresholds reads ({thresholds}); nothing was "
            "overwritten: name another folder"
        )
    foreign = sorted(there - NAMES)
    if foreign or not _is_ours(folder / "metrics.json"):
        holds = ", ".join(foreign[:5] or sorted(there))
        raise ConfigError(
            f"--out {folder} holds what `{MADE_BY}` has not written ({holds}); nothing was "
            "overwritten: name another folder"
        )


def write(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside, then give it the name; an older evaluation of that name goes.

    Raises:
        ConfigError: the disk refuses.
    """
    folder = folder.absolute()
    new, old = (folder.with_name(f".{folder.name}.{part}-{os.getpid()}") for part in ("new", "old"))
    try:
        new.mkdir(parents=True)
        fill(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be written: {error.strerror}") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (new, old):
            shutil.rmtree(rest, ignore_errors=True)


def _is_same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _is_ours(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY
