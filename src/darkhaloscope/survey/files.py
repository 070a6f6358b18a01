"""The survey's files: read in place below a folder, through a cache below an address.

`Survey` is the resource that stages are handed. It is a value: it holds settings only, so that it
travels to any worker, and opens connections where it is used.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from darkhaloscope.core import keys
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.survey import SurveyConfig
from darkhaloscope.survey import bricks, layout, listing
from darkhaloscope.survey.cache import Cache, UnusableFileError
from darkhaloscope.survey.integrity import fault
from darkhaloscope.survey.remote import Remote

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Absent:
    """Why the survey has no usable file; `is_nowhere`: it has none by this name."""

    reason: str
    is_nowhere: bool = False


NOWHERE = Absent("the survey has no such file", is_nowhere=True)


@dataclass(frozen=True, slots=True)
class Survey:
    """A release of the survey at a root, and the part of it that the run looks at."""

    config: SurveyConfig

    @property
    def root(self) -> str:
        """Folder or address below which all paths lie."""
        return self.config.root

    @property
    def release(self) -> str:
        """Data release, such as `dr10`."""
        return self.config.release

    @property
    def is_local(self) -> bool:
        """Whether files are read in place."""
        return "://" not in self.config.root

    @property
    def digest(self) -> str:
        """Names what results depend on beside the catalogues: the release, the area, the bricks.

        Raises:
            DataError: the survey has no table of bricks.
        """
        area = self.config.model_dump_json(include={"release", "hemisphere", "area"})
        table = layout.bricks_path()
        version = self.fingerprint(table) if self.is_local else _asked_once(self, table)
        return f"{keys.hash64(area, version):016x}"

    def catalogues(self) -> dict[str, str]:
        """Path below the root of each catalogue that overlaps the area, by its key.

        Raises:
            DataError: none is there.
        """
        return listing.catalogues(self)

    def local(self, path: str) -> Path:
        """The file on this machine, fetched if need be.

        Raises:
            DataError: the survey has no such file, or it cannot be opened or fetched.
        """
        found = self.fetch([path])[path]
        if isinstance(found, Absent):
            raise DataError(
                f"{self.root}/{path}: {found.reason}; check survey.root and survey.release"
            )
        return found

    def fetch(
        self, paths: Sequence[str], *, progress: Progress | None = None
    ) -> dict[str, Path | Absent]:
        """The files on this machine, or why there are none; several are fetched at a time.

        Args:
            paths: Files below the root.
            progress: Called after each file with its path, how many are done, and of how many.

        Raises:
            DataError: the network or this machine's disk failed; what arrived is kept.
        """
        found: dict[str, Path | Absent] = {}
        is_new = not self.is_local and not all((self._cache().files / p).is_file() for p in paths)
        with contextlib.ExitStack() as stack:
            results: Iterator[Path | Absent] = map(self._find, paths)
            if is_new:
                pool = ThreadPoolExecutor(self.config.fetch_parallel, thread_name_prefix="fetch")
                results = stack.enter_context(pool).map(self._find, paths)
            for path, result in zip(paths, results, strict=True):
                found[path] = result
                if progress is not None:
                    progress(path, len(found), len(paths))
        if is_new:
            self._cache().evict()
        return found

    def again(self, path: str) -> Path | Absent:
        """A file that was found whole before: not checked again, fetched again if evicted."""
        if not self.is_local:
            return self.fetch([path])[path]
        file = Path(self.root, path)
        return file if file.is_file() else NOWHERE

    def exists(self, path: str) -> bool:
        """Whether the survey has the file; it is not fetched."""
        if self.is_local:
            return Path(self.root, path).is_file()
        if (self._cache().files / path).is_file():
            return True
        try:
            self._remote().version(path)
        except FileNotFoundError:
            return False
        return True

    def fingerprint(self, path: str) -> str:
        """What changes when the file's content does, found without reading it.

        Raises:
            DataError: the survey has no such file.
        """
        try:
            if self.is_local:
                status = Path(self.root, path).stat()
                return f"{status.st_size}|{status.st_mtime_ns}"
            return self._remote().version(path)
        except FileNotFoundError as error:
            raise DataError(
                f"{self.root}/{path} is not there; check survey.root and survey.release"
            ) from error

    def brick_fingerprint(self, brick: str) -> str:
        """What changes when an image of the brick does; a release behind an address never does."""
        if not self.is_local:
            return ""
        folder = layout.coadd_folder(brick, self.config.release, self.config.hemisphere)
        found = [f"{path}|{self.fingerprint(path)}" for path in self.listing(folder)]
        return f"{keys.hash64(*found):016x}"

    def psf_fingerprint(self, brick: str) -> str:
        """What changes when a PSF image of the brick does; one behind an address never does."""
        found = []
        for band in self.config.bands:
            path = self.psf_path(brick, band)
            if path is not None:
                owner, below = self.owner(path)
                is_here = owner.is_local and owner.exists(below)
                found.append(f"{path}|{owner.fingerprint(below) if is_here else ''}")
        return " ".join(found)

    def listing(self, folder: str) -> list[str]:
        """Paths below the root of what lies in a folder, sorted; empty where there is none."""
        if not self.is_local:
            return self._remote().names(folder)
        here = Path(self.root, folder)
        found = here.iterdir() if here.is_dir() else ()
        return sorted(entry.relative_to(self.root).as_posix() for entry in found)

    @contextlib.contextmanager
    def using(self, brick: str) -> Iterator[None]:
        """Hold a brick: the cache keeps its files meanwhile."""
        with self.holding(self.coadd_path(brick, "maskbits")):
            yield

    @contextlib.contextmanager
    def holding(self, path: str) -> Iterator[None]:
        """Hold a file, or the brick that it belongs to: the cache keeps it meanwhile."""
        with contextlib.ExitStack() as held:
            if not self.is_local:
                held.enter_context(self._cache().using(path))
            yield

    def done_with(self, brick_names: Sequence[str]) -> None:
        """The cutouts of these bricks are current: the cache may drop their files first."""
        if not self.is_local:
            for brick in brick_names:
                self._cache().done_with(self.coadd_path(brick, "maskbits"))

    def coadd_path(
        self, brick: str, kind: str, band: str | None = None, *, suffix: str = layout.SUFFIXES[0]
    ) -> str:
        """Path of a brick's image below the root; see `layout.coadd_path`."""
        return layout.coadd_path(
            brick,
            kind,
            band,
            release=self.config.release,
            hemisphere=self.config.hemisphere,
            suffix=suffix,
        )

    def psf_path(self, brick: str, band: str) -> str | None:
        """Path below the root, or address, of a brick's PSF image; None where none is named."""
        template = self.config.psf_images
        return None if template is None else template.format(brick=brick, band=band)

    def owner(self, path: str) -> "tuple[Survey, str]":
        """The survey that a file belongs to, and the file's path below its root.

        That is this one, or for an absolute path or an address, such as PSF images may have, the
        same settings at the root of the machine, server or bucket.
        """
        scheme, is_address, rest = path.rpartition("://")
        if is_address:
            place, _, below = rest.partition("/")
            root = f"{scheme}://{place}"
        elif path.startswith("/"):
            root, below = "/", path[1:]
        else:
            return self, path
        return Survey(self.config.model_copy(update={"root": root})), below

    def catalogue_path(self, key: str) -> str:
        """Path below the root of the catalogue with this key; see `layout.catalogue_path`."""
        return layout.catalogue_path(
            key, release=self.config.release, hemisphere=self.config.hemisphere
        )

    def bricks(self) -> bricks.Bricks:
        """The bricks of the run's area, from the survey's table of all bricks."""
        return bricks.load(self.local(layout.bricks_path())).within(self.config.area)

    def _find(self, path: str) -> Path | Absent:
        try:
            if not self.is_local:
                return self._cache().get(path)
            file = Path(self.root, path)
            if not file.is_file():
                return NOWHERE
            reason = fault(file)
            return file if reason is None else Absent(reason)
        except FileNotFoundError:
            return NOWHERE
        except UnusableFileError as error:
            return Absent(str(error))

    def _remote(self) -> Remote:
        return Remote(self.config.root, self.config.retries)

    def _cache(self) -> Cache:
        folder = Path(self.config.cache_folder).expanduser()
        return Cache(folder, self._remote(), int(self.config.cache_limit_gb * 1e9))


@functools.lru_cache(maxsize=64)
def _asked_once(survey: Survey, path: str) -> str:
    """Fingerprint of a remote file, asked for once per process."""
    return survey.fingerprint(path)
