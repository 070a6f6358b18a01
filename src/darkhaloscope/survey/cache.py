"""Copies of a remote survey's files on this machine: whole or absent, within a limit of size.

Files used longest ago go first; before them those of bricks that are done with (their cutouts are
current). A brick in use, by any process, keeps its files: users hold a shared lock on it, which
ends with them however they end.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkhaloscope.core import keys
from darkhaloscope.core.errors import DataError
from darkhaloscope.survey.integrity import fault
from darkhaloscope.survey.remote import Remote

_STALE_PARTIAL_S = 86_400.0
_LOG = logging.getLogger(__name__)


class UnusableFileError(Exception):
    """The survey's own file is no whole FITS file; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder with copies of a remote root's files.

    Attributes:
        folder: Folder shared by all roots; each has its own below it.
        remote: Where files come from.
        limit_bytes: Size beyond which files go.
    """

    folder: Path
    remote: Remote
    limit_bytes: int

    @property
    def files(self) -> Path:
        """Folder of this root's files."""
        return self.folder / f"{keys.hash64(self.remote.root):016x}" / "files"

    def get(self, path: str) -> Path:
        """The copy of a file, fetched if it is not here.

        Raises:
            FileNotFoundError: the survey has no such file.
            UnusableFileError: the survey's file cannot be opened.
            DataError: it could not be fetched or kept.
        """
        target = self.files / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.utime(target)  # used now
            return target
        partial = target.with_name(f".{target.name}.{os.getpid()}-{time.monotonic_ns()}.partial")
        self._make(target.parent)
        self._mark(path).unlink(missing_ok=True)
        try:
            self.remote.download(path, partial)
            ending = "".join(target.suffixes[-1:])  # fault() tells gzip by the name
            checked = partial.with_suffix(f".partial{ending}")
            partial = partial.rename(checked)
            if reason := fault(partial):
                raise UnusableFileError(reason)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    @contextlib.contextmanager
    def using(self, path: str) -> Iterator[None]:
        """Keep the files of the brick that `path` belongs to from being evicted."""
        with self._lock(path).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def done_with(self, path: str) -> None:
        """The brick's files are no longer needed: they go first."""
        mark = self._mark(path)
        self._make(mark.parent)
        mark.touch()

    def evict(self) -> int:
        """Remove files until the cache is within its limit; returns the bytes removed."""
        kept = []
        for found in self.files.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                status = found.stat()
                if not found.is_file():
                    continue
                if ".partial" in found.name:
                    self._drop_stale(found, status.st_mtime)
                else:
                    kept.append((status.st_mtime_ns, status.st_size, found))
        excess = sum(size for _, size, _ in kept) - self.limit_bytes
        removed = 0
        if excess <= 0:
            return removed
        for _, size, file in sorted(kept, key=lambda k: (not self._is_done(k[2]), k[0])):
            if removed >= excess:
                break
            removed += self._remove(file, size)
        _LOG.info("cache: removed %.1f MB", removed / 1e6)
        if removed < excess:
            _LOG.warning(
                "cache: %.1f MB above survey.cache_limit_gb, all in use", (excess - removed) / 1e6
            )
        return removed

    def _remove(self, file: Path, size: int) -> int:
        """Remove a file unless its brick is in use; returns the bytes that this freed."""
        path = str(file.relative_to(self.files))
        with self._lock(path).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            if not self._is_done(file):
                _LOG.debug("cache: %s goes before it is known to be done with", path)
            file.unlink(missing_ok=True)
        return size

    def _is_done(self, file: Path) -> bool:
        return self._mark(str(file.relative_to(self.files))).exists()

    def _mark(self, path: str) -> Path:
        return self.files.parent / "done" / f"{keys.hash64(_unit(path)):016x}"

    def _lock(self, path: str) -> Path:
        locks = self.files.parent / "locks"
        self._make(locks)
        return locks / f"{keys.hash64(_unit(path)):016x}"

    def _make(self, folder: Path) -> None:
        """Make a folder of the cache."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"the cache folder {self.folder} cannot be written ({error.strerror}); set "
                "survey.cache_folder to a folder that can"
            ) from error

    @staticmethod
    def _drop_stale(partial: Path, modified: float) -> None:
        if time.time() - modified > _STALE_PARTIAL_S:
            partial.unlink(missing_ok=True)


def _unit(path: str) -> str:
    """What is kept or evicted together: the images of a brick, or a file by itself."""
    return path.rsplit("/", 1)[0] if "coadd/" in path else path
