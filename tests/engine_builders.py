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


def count_threads(key: str) -> Report:
    """The threads that NumPy's linear algebra has in this process."""
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return Report("count", key, "written", extra={"threads": pools})


def die(key: str) -> Report:
    """As a worker killed for want of memory does."""
    os._exit(9)
