"""Files of a survey behind a web server or an object store, however it behaves.

A busy server is asked again after twice the wait, or after the time that it names itself. What is
not there is FileNotFoundError; what cannot be had is a DataError: the state of the network is never
taken for the state of the survey.
"""

import email.utils
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.callbacks import Callback

from darkhaloscope.core.errors import DataError

FIRST_WAIT_S = 0.5  # before the second try; it doubles with each

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_OUR_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_LONGEST_WAIT_S = 300.0

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Remote:
    """A root behind fsspec: `https://`, `http://` or `s3://`.

    Attributes:
        root: Address without a slash at its end.
        retries: Further tries after the first.
    """

    root: str
    retries: int

    def download(self, path: str, target: Path) -> None:
        """Write the file at `path` to `target`, as long as its server says it is.

        Raises:
            FileNotFoundError: the server has no such file.
            DataError: the server, or this machine's disk, failed at every try.
        """

        def get() -> None:
            size = _Size()
            self._filesystem().get_file(self._url(path), str(target), callback=size)
            got = target.stat().st_size
            if size.size is not None and got != size.size:
                raise _CutShortError(f"{got} of {size.size} bytes arrived")

        self._persist(get, path)

    def version(self, path: str) -> str:
        """What changes when the file's content does: its size, ETag and date.

        Raises:
            FileNotFoundError: the server has no such file.
            DataError: the server failed at every try.
        """

        def ask() -> dict[str, Any]:
            try:
                info: dict[str, Any] = self._filesystem().info(self._url(path))
            except FileNotFoundError as error:
                # fsspec reports any failure of a web server as a missing file
                cause = error.__cause__
                if cause is None or getattr(cause, "status", None) in _GONE:
                    raise
                raise cause from None
            return info

        info = self._persist(ask, path)
        names = ("size", "ETag", "Last-Modified", "LastModified")
        return "|".join(str(info[name]) for name in names if info.get(name) is not None)

    def names(self, folder: str) -> list[str]:
        """Paths below the root of the files in a folder; empty where there is none."""

        def ask() -> list[str]:
            filesystem = self._filesystem()
            try:
                found: list[str] = filesystem.ls(self._url(folder), detail=False)
            except FileNotFoundError:
                return []
            return found

        prefix = self.root.split("://", 1)[1] + "/"
        return sorted(n.rstrip("/").removeprefix(prefix) for n in self._persist(ask, folder))

    def _url(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _filesystem(self) -> Any:
        """The filesystem of the root's protocol; fsspec keeps one per process and options."""
        if self.root.startswith("s3://"):
            return fsspec.filesystem("s3", use_listings_cache=False)
        import aiohttp

        # identity, and no unpacking: what is stored is what the server keeps, .gz included
        session = {
            "auto_decompress": False,
            "headers": {"Accept-Encoding": "identity"},
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120),
        }
        return fsspec.filesystem("https", client_kwargs=session)

    def _persist(self, action: Callable[[], _T], path: str) -> _T:
        """Try until it works, is refused, or the tries are used up."""
        for attempt in range(self.retries + 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except _expected() as error:
                _refuse_if_hopeless(error, self._url(path))
                if attempt == self.retries:
                    raise DataError(
                        f"{self._url(path)} could not be fetched in {attempt + 1} tries "
                        f"({_plain(error)}); check the connection and run again: what has "
                        "arrived is kept"
                    ) from error
                wait = _wait_s(error, FIRST_WAIT_S * 2**attempt)
                _LOG.info("%s: %s; again in %.1f s", path, _plain(error), wait)
                time.sleep(wait)
        raise AssertionError  # the last try returns or raises


class _CutShortError(OSError):
    """Fewer bytes arrived than the server announced."""


class _Size(Callback):  # type: ignore[misc]  # fsspec is not typed
    """Keeps the size that the server announces."""


def _expected() -> tuple[type[BaseException], ...]:
    """What a server or a connection may raise; anything else is a bug."""
    import aiohttp

    expected: tuple[type[BaseException], ...] = (OSError, TimeoutError, aiohttp.ClientError)
    try:
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )
    except ImportError:
        return expected
    return (*expected, BotoCoreError, ClientError)


def _refuse_if_hopeless(error: BaseException, url: str) -> None:
    """End at once where another try cannot help."""
    if isinstance(error, OSError) and error.errno in _OUR_DISK:
        raise DataError(
            f"{url} could not be kept: {error}; make room in the cache folder, or set "
            "survey.cache_folder to another disk, and run again"
        ) from error
    status = getattr(error, "status", None)
    is_refused = isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError"
    if is_refused or (isinstance(status, int) and status not in _BUSY):
        raise DataError(
            f"{url} is refused ({_plain(error)}); check survey.root and your access to it (a "
            "public S3 bucket is read without an account if FSSPEC_S3_ANON=true is set)"
        ) from error


def _wait_s(error: BaseException, backoff_s: float) -> float:
    """The wait that the server asks for, else the back-off."""
    asked = (getattr(error, "headers", None) or {}).get("Retry-After")
    if asked is None:
        return min(backoff_s, _LONGEST_WAIT_S)
    try:
        seconds = float(asked)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(asked)
        except ValueError:
            return min(backoff_s, _LONGEST_WAIT_S)
        seconds = (when.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


def _plain(error: BaseException) -> str:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"HTTP {status}"
    return f"{type(error).__name__}: {error}".rstrip(": ")
