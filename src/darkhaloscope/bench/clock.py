"""Clocks: CPU seconds of one thread, rounds interleaved; and, on a GPU, seconds on the wall."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Timed:
    """Something to be timed: a call, and how many stamps it makes."""

    call: Callable[[], object]
    stamps: int


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread; what it had before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stamps_per_core_s(
    timed: Mapping[Name, Timed], *, rounds: int, seconds: float = 0.2
) -> dict[Name, list[float]]:
    """Stamps per CPU second of each, one figure a round.

    All are called once first, which loads and compiles. Then each round times every one of them in
    turn, for at least `seconds`, so that a busy machine slows them alike.
    """
    for one in timed.values():
        one.call()
    speeds: dict[Name, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, one in timed.items():
            speeds[name].append(_of_one(one, seconds, time.process_time))
    return speeds


def stamps_per_s_on_cuda(timed: Timed, *, rounds: int, seconds: float = 0.2) -> list[float]:
    """Stamps per second on the wall, one figure a round; a GPU returns before it has finished."""
    timed.call()
    torch.cuda.synchronize()

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return [_of_one(timed, seconds, clock) for _ in range(rounds)]


def _of_one(timed: Timed, seconds: float, clock: Callable[[], float]) -> float:
    """Stamps a second, called again until `seconds` have gone by."""
    made, start = 0, clock()
    while True:
        timed.call()
        made += timed.stamps
        spent = clock() - start
        if spent >= seconds:
            return made / spent
