"""The local engine: a pool of spawned processes, kept for the whole run.

Spawned, not forked: a fork of a process that has loaded torch or opened an object store hangs.
Each worker computes on one thread, so that its bytes do not depend on how many there are.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Self

from darkhaloscope.core.contracts import Report
from darkhaloscope.core.errors import StageError
from darkhaloscope.core.processes import die_with_parent

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class LocalEngine:
    """Runs partitions in `workers` processes, started when first needed; 0: in this process."""

    def __init__(self, workers: int) -> None:
        """Args: workers: how many processes; 0 runs everything here, one after the other."""
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers; after an error or Ctrl-C without waiting for what they do."""
        if self._pool is not None:
            if kind is not None:
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._pool = None

    def rest(self) -> None:
        """Let idle workers go; the next `map` starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def map(self, task: Callable[[str], Report], partitions: Sequence[str]) -> Iterator[Report]:
        """Yield each partition's report as it ends.

        Raises:
            StageError: a worker died, for instance killed for want of memory.
        """
        if self.workers == 0 or not partitions:
            yield from map(task, partitions)
            return
        pool = self._started()
        with _one_thread_each():  # workers start while tasks are submitted
            futures: list[Future[Report]] = [pool.submit(task, name) for name in partitions]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            self._pool = None
            raise StageError(
                "a worker was killed, most often for want of memory; what was finished is kept. "
                "Run the same command again, with fewer --workers if it happens again"
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=get_context("spawn"),
                initializer=die_with_parent,
                initargs=(os.getpid(),),
            )
        return self._pool


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start processes with one compute thread each: what NumPy reads when a process begins.

    Set in the worker it would be too late, as the first task's modules have loaded NumPy by then.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
