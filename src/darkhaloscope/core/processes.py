"""Workers that go when their parent does, and a stop that nothing mistakes for an error."""

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class StoppedError(BaseException):
    """A person or the system asked the command to stop. No `except Exception` swallows it."""


def stop_on_signals() -> None:
    """Turn Ctrl-C, `kill` and a closed terminal into `StoppedError`, so that workers are ended."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)


def die_with_parent(parent: int) -> None:
    """Called first in a worker: the system ends it when `parent` ends, even by kill -9.

    Else it would wait for work for ever, with its memory and its hold on the terminal. Elsewhere
    than on Linux nothing happens.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)
