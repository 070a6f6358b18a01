"""Workers that go when their parent does, and a stop that nothing mistakes for an error."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from darkhaloscope.core.errors import ConfigError, DarkHaloScopeError

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


def check_alone(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be one of several processes that torchrun started: each would write every table.

    Raises:
        ConfigError: the environment names several.
    """
    count = environment.get("WORLD_SIZE", "1")
    if count != "1":
        raise ConfigError(
            f"WORLD_SIZE is {count}, as under torchrun, and a run is brought up to date by one "
            "process, which starts its own workers (--workers); start it without torchrun, or "
            "unset WORLD_SIZE. docs/stages/model.md says how several processes train one network"
        )


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)


def run_as_module(run: Callable[[list[str]], int]) -> int:
    """What `python -m` of a part that needs no typer does with the words of its command.

    Args:
        run: Takes the words and returns the exit status.

    Returns:
        0 done, 2 a fault of the input, whose one message is printed; a bug keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(sys.argv[1:])
    except DarkHaloScopeError as error:
        sys.stderr.write(f"dhs: {error}\n")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away
        return 0
