"""Lists of positions that a stage's settings name, and what they are as text for a digest."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from darkhaloscope.core.errors import DataError
from darkhaloscope.data import store


def opened(config: Any) -> Mapping[str, pa.Table]:
    """The lists by address, as `survey.positions.read` returns them; none where none is named.

    A process reads a list once, for all tiles of a stage, and again where its file has changed.

    Args:
        config: Settings of a stage; those with lists have the property `lists`, and those with
            tables of votes among them `votes`: by address, what makes their rows a kind.

    Raises:
        DataError: a list is not there or cannot be used.
    """
    votes = getattr(config, "votes", {})
    return {a: _read(a, votes.get(a), _version(a)) for a in getattr(config, "lists", ())}


def check(configs: Iterable[Any]) -> None:
    """Read every list once before a run begins: a wrong one must not cost a training.

    Raises:
        DataError: lists are not there or cannot be used; one message for all.
    """
    said = []
    for config in configs:
        try:
            opened(config)
        except DataError as error:
            said.append(str(error))
    if said:
        raise DataError("\n".join(dict.fromkeys(said)))


def digest_of(config: Any) -> list[str]:
    """The sha256 of what each list says, in the order of the settings."""
    if not getattr(config, "lists", ()):
        return []
    return [store.content_of(table) for table in opened(config).values()]


@functools.lru_cache(maxsize=16)
def _read(address: str, asked: Any, version: str) -> pa.Table:
    """A list of positions, or the rows of a table of votes that are of a kind."""
    del version  # another one is another table
    from darkhaloscope.survey import positions, votes  # load astropy

    return positions.read(address) if asked is None else votes.read(address, asked)


def _version(address: str) -> str:
    """What changes when a file on this machine does; nothing of what lies behind an address."""
    try:
        status = Path(address).stat()
    except OSError:
        return ""
    return f"{status.st_size}|{status.st_mtime_ns}"
