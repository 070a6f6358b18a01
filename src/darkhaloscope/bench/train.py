"""Where the time of a training step goes: `dhs bench train`.

The real training runs (`ml.fit`, Lightning included) on galaxies made in memory, with the settings
of the preset `demo`. Three measurements:

* Parts, on one thread of the network: timers round the functions that do the work. A timer counts
  its thread's CPU seconds (on a GPU, seconds on the wall with the device made to finish at both
  ends) less those of the timers inside it, so that the parts add up; what no timer saw, such as
  Lightning's own loop, is `rest`.
* The whole step, without timers: seconds on the wall and CPU seconds of the process.
* The network alone: the same steps on batches that were made before.

What is not the network's is the *making*: drawing, rendering, noise, adding, augmenting and
normalising. Its share of the CPU seconds says what it costs; its share of the wall, 1 - alone /
whole, what it costs where other cores can do it in the meantime.
"""

import logging
import resource
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from darkhaloscope.bench import entry
from darkhaloscope.bench.training_set import TrainingSet, training_set
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import (
    batches,
    fit,
    fresh,
    injection,
    manifesting,
    painters,
    pixel_table,
    transforms,
)
from darkhaloscope.ml.batches import Batch, Source

GALAXIES = 300
STEPS = 32  # whose rows are drawn together
SEEN_EPOCHS = 1  # in the first, rows are the manifest's own and need not be drawn
REPEATS = 3
NETWORK = ("forward", "backward", "optimiser", "average")
REST = "rest"


def main(words: Sequence[str]) -> int:
    """`dhs bench train`; the exit status."""
    parser = entry.parser_of("train")
    logging.getLogger("darkhaloscope.ml").propagate = False  # each epoch would say how it went
    parser.add_argument("--steps", type=int, default=STEPS, help=f"an epoch; default {STEPS}")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"default {REPEATS}")
    asked = parser.parse_args(list(words))
    entry.check(asked)
    figures = measure(device=asked.device, steps=asked.steps, repeats=asked.repeats)
    entry.tell(figures, table, asked)
    return 0


def measure(
    *,
    device: str = "auto",
    steps: int = STEPS,
    repeats: int = REPEATS,
    galaxies: int = GALAXIES,
    threads: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Figures of a training step, one set for each number of threads.

    Args:
        device: `cpu`, `cuda`, or `auto`: the GPU where there is one.
        steps: Steps an epoch.
        repeats: Epochs measured of each kind; figures are their medians.
        galaxies: Hosts in memory.
        threads: Numbers of threads to measure with; None: one, and all of this machine's.

    Raises:
        ConfigError: Lightning is not installed, or a number is below 1.
    """
    if min(steps, repeats, galaxies) < 1:
        raise ConfigError("--steps and --repeats are 1 or more")
    name = "cuda" if device == "auto" and torch.cuda.is_available() else device
    name = "cpu" if name == "auto" else name
    counts = sorted(set(threads or (1, torch.get_num_threads())))
    places = [Device(name, threads=count) for count in counts]
    made = training_set(galaxies, steps=steps, device=places[0])
    precision = fit.precision_on(places[0], made.recipe.precision)
    return {
        "device": name,
        "network": made.network,
        "precision": precision,
        "batch_size": made.source.plan.batch_size,
        "stamp_px": made.source.plan.size_px,
        "mix": dict(made.mix),
        "galaxies": galaxies,
        "steps": steps,
        "repeats": repeats,
        "parts": _parts(made, places[0], repeats),
        "threads": {str(place.threads): _step(made, place, repeats) for place in places},
        **entry.circumstances(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures for a reader."""
    parts = figures["parts"]
    lines = [
        f"{figures['network']} in {figures['precision']} on {figures['device']}, batches of "
        f"{figures['batch_size']}; medians of {figures['repeats']} epochs of {figures['steps']} "
        "steps",
        "",
        f"{parts['clock']}, ms a step",
    ]
    for name, value in parts["ms"].items():
        lines.append(f"  {name:<40}{value:8.2f}{100 * value / parts['step_ms']:7.1f} %")
    lines.append(f"  {'step':<40}{parts['step_ms']:8.2f}")
    lines += [
        f"making is {parts['making_share_percent']:.1f} % of a step, the network "
        f"{parts['network_share_percent']:.1f} %",
        "",
        "threads   step, ms   network alone, ms   making, % of the wall   CPU, ms   stamps/s",
    ]
    for count, found in figures["threads"].items():
        lines.append(
            f"{count:>7}{found['step_wall_ms']:11.1f}{found['network_alone_wall_ms']:20.1f}"
            f"{found['making_share_of_wall_percent']:24.1f}{found['step_cpu_ms']:10.1f}"
            f"{found['stamps_per_s']:11.0f}"
        )
    return "\n".join(lines)


class Stopwatch:
    """Seconds spent in named parts, each without those of the parts inside it."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is a clock in seconds; it may be one of the thread's own."""
        self._now, self._running = now, threading.local()
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time counted under `name`."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            inner: list[float] = self._running.__dict__.setdefault("inner", [])
            inner.append(0.0)
            began = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                spent = self._now() - began
                self.seconds[name] += spent - inner.pop()
                if inner:
                    inner[-1] += spent

        return timed


@dataclass
class _Marks:
    """When an epoch began and ended: clocks on the wall, of the process, and of the kernel."""

    began: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ended: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def spent(self) -> tuple[float, float, float]:
        """Seconds between the two."""
        return tuple(b - a for a, b in zip(self.began, self.ended, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A source that notes when its batches are asked for."""

    source: Source
    note: Callable[[], None]

    @property
    def steps(self) -> int:
        return self.source.steps

    @property
    def makers(self) -> int:
        return self.source.makers

    def batches(self, epoch: int) -> Iterator[Batch]:
        self.note()
        return self.source.batches(epoch + SEEN_EPOCHS)


@dataclass(frozen=True, slots=True)
class _Made:
    """Batches that were made before; as many threads are left to the network as beside making."""

    made: Sequence[Batch]
    makers: int

    @property
    def steps(self) -> int:
        return len(self.made)

    def batches(self, epoch: int) -> Iterator[Batch]:
        return iter(self.made)


def _parts(made: TrainingSet, device: Device, repeats: int) -> dict[str, Any]:
    """What each part of a step takes."""
    _epoch(made, made.source, device)  # loads and compiles
    is_gpu = device.name != "cpu"

    def on_gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    found: list[dict[str, float]] = []
    for _ in range(repeats):
        watch = Stopwatch(on_gpu if is_gpu else time.thread_time)
        with _timers(watch):
            wall, cpu, _ = _epoch(made, made.source, device)
        whole = wall if is_gpu else cpu
        watch.seconds[REST] = whole - sum(watch.seconds.values())
        found.append({part: 1e3 * s / made.source.steps for part, s in watch.seconds.items()})
    names = sorted({name for one in found for name in one}, key=_place)
    ms = {name: _median([one.get(name, 0.0) for one in found]) for name in names}
    network = sum(value for name, value in ms.items() if name in NETWORK)
    making = sum(value for name, value in ms.items() if name not in (*NETWORK, REST))
    step = _median([sum(one.values()) for one in found])
    return {
        "clock": "seconds on the wall, one part at a time" if is_gpu else "CPU seconds, one thread",
        "ms": {name: round(value, 3) for name, value in ms.items()},
        "step_ms": round(step, 2),
        "making_share_percent": round(100 * making / step, 2),
        "making_share_percent_range": _range([_making(one) for one in found]),
        "network_share_percent": round(100 * network / step, 2),
        "making_ms_per_stamp": round(making / made.source.plan.batch_size, 4),
    }


def _step(made: TrainingSet, device: Device, repeats: int) -> dict[str, Any]:
    """What whole steps take, and what the network takes alone."""
    source = replace(made.source, crew=batches.crew_of(device))
    held = _Made(list(made.source.batches(SEEN_EPOCHS)), source.makers)
    _epoch(made, held, device)
    whole, alone = [], []
    for _ in range(repeats):  # turn by turn, so that a busy machine slows both
        whole.append(_epoch(made, source, device))
        alone.append(_epoch(made, held, device))
    ms = 1e3 / made.source.steps
    step_wall, step_cpu, step_kernel = (ms * _median(list(v)) for v in zip(*whole, strict=True))
    alone_wall, alone_cpu, _ = (ms * _median(list(v)) for v in zip(*alone, strict=True))
    return {
        "step_wall_ms": round(step_wall, 2),
        "network_alone_wall_ms": round(alone_wall, 2),
        "making_share_of_wall_percent": round(100 * (1 - alone_wall / step_wall), 2),
        "step_cpu_ms": round(step_cpu, 2),
        "network_alone_cpu_ms": round(alone_cpu, 2),
        "making_share_of_cpu_percent": round(100 * (1 - alone_cpu / step_cpu), 2),
        "kernel_share_of_cpu_percent": round(100 * step_kernel / step_cpu, 2),
        "stamps_per_s": round(1e3 * made.source.plan.batch_size / step_wall, 1),
        "step_wall_ms_range": _range([ms * wall for wall, _, _ in whole]),
        "network_threads": max(1, device.threads - source.makers),
        "making_threads": source.makers or source.crew.by_turns,
        "is_by_turns": source.crew.by_turns > 0,
    }


def _epoch(made: TrainingSet, source: Source, device: Device) -> tuple[float, float, float]:
    """Train one epoch; seconds on the wall, of the processors, and of these in the kernel.

    Counted from the first batch asked for to the beginning of validation.
    """
    marks = _Marks()

    def begin() -> None:
        marks.began = _clocks(device)

    def end() -> None:
        marks.ended = _clocks(device)

    with tempfile.TemporaryDirectory() as folder:
        fit.fit(
            made.untrained(),
            _Watched(source, begin),
            _Watched(_Made(list(made.validation), 0), end),
            recipe=made.recipe,
            scratch=Path(folder),
            device=device,
        )
    return marks.spent


def _clocks(device: Device) -> tuple[float, float, float]:
    if device.name != "cpu":
        torch.cuda.synchronize()
    kernel = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    return time.perf_counter(), time.process_time(), kernel


@contextmanager
def _timers(watch: Stopwatch) -> Iterator[None]:
    """Timers round the functions that a step is made of, and none afterwards."""
    from darkhaloscope.ml import loop

    timed_painters = tuple(
        replace(p, paint=watch.timed(f"render {p.name}", p.paint)) for p in painters.PAINTERS
    )
    changed: list[tuple[Any, str, Any]] = [(injection, "PAINTERS", timed_painters)]
    for owner, attribute, name in (
        (manifesting, "redraw", "draw"),
        (fresh, "described", "describe and check"),
        (pixel_table.PixelTable, "raw", "take cutouts"),
        (painters, "_training_scale", "scale to S/N"),
        (injection, "photon_noise", "photon noise"),
        (fresh.Injections, "_painted", "add"),
        (batches, "turned", "turn"),
        (transforms.Normalisation, "__call__", "normalise"),
        (batches.Drawn, "_made", "put together"),
        (loop.Training, "training_step", "forward"),
        (loop.Training, "backward", "backward"),
        (loop.Training, "optimizer_step", "optimiser"),
        (loop.Training, "on_train_batch_end", "average"),
    ):
        changed.append((owner, attribute, watch.timed(name, getattr(owner, attribute))))
    before = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in changed]
    try:
        for owner, name, value in changed:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is None:  # inherited
                delattr(owner, name)
            else:
                setattr(owner, name, value)


_ORDER = ("draw", "describe", "take", "render", "scale", "photon", "add", "turn", "normalise",
          "put", *NETWORK, REST)  # fmt: skip


def _place(name: str) -> tuple[int, str]:
    """Where a part stands in the table."""
    return next(i for i, start in enumerate(_ORDER) if name.startswith(start)), name


def _making(ms: Mapping[str, float]) -> float:
    making = sum(value for name, value in ms.items() if name not in (*NETWORK, REST))
    return 100 * making / sum(ms.values())


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))


def _range(values: Sequence[float]) -> list[float]:
    return [round(min(values), 2), round(max(values), 2)]
