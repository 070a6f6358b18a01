"""Tasks that workers can import."""

import os

from darkhaloscope.core.contracts import Report


def echo(key: str) -> Report:
    """What became of `key`, and in which process."""
    return Report(
        "echo",
        key,
        "written",
        extra={"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")},
    )


def die(key: str) -> Report:
    """As a worker killed for want of memory does."""
    os._exit(9)
