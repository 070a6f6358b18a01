"""A run brought up to date: which stages, in which order, and what became of them."""

import contextlib
import fcntl
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from darkhaloscope.core.config import RunConfig, is_asked
from darkhaloscope.core.contracts import Device, Engine, Report
from darkhaloscope.core.errors import ConfigError, DataError, StageError
from darkhaloscope.core.processes import check_alone
from darkhaloscope.data import store
from darkhaloscope.engines.local import LocalEngine
from darkhaloscope.pipeline import lists
from darkhaloscope.pipeline.layout import SCORED_SETS, Layout, TileSplits, round_of, set_of, tile_of
from darkhaloscope.pipeline.registry import ORDER, needed_by, stage_named
from darkhaloscope.pipeline.task import Task, tiles_header
from darkhaloscope.survey.files import Survey

log = logging.getLogger(__name__)

_LOOP = ("model", "scores", "mined")  # stages of which every round of mining has its own
_HERE = ("whole", "model", "ensemble/set")  # run in this process, with all its threads


class Progress(Protocol):
    """Who is told how far a run is."""

    def started(self, stage: str, total: int, stale: int) -> None:
        """A stage of `total` partitions begins, `stale` of them to be made."""
        ...

    def ended(self, report: Report) -> None:
        """A partition ended."""
        ...

    def finished(self, stage: str, seconds: float) -> None:
        """A stage is up to date."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """How one partition stands: `current`, `stale`, `missing` or `failed`."""

    stage: str
    partition: str
    state: str
    message: str = ""


def bring_up_to_date(
    config: RunConfig,
    names: Sequence[str],
    *,
    engine: LocalEngine,
    device: Device,
    progress: Progress,
    only: str | None = None,
) -> int:
    """Make what is not current of the stages named and of all that they need.

    With rounds of mining the model, the scores and what is mined come round by round; the scores of
    `test` are made after the last training, so that nothing can be chosen by them.

    Args:
        config: The run's settings.
        names: Stages; empty: all.
        engine: Runs the partitions by tile.
        device: Where tensors live; `threads` holds for what runs in this process.
        progress: Is told how far the run is.
        only: One tile; stages that need all tiles are left out.

    Returns:
        How many partitions were made.

    Raises:
        StageError: partitions of a stage failed, and everything else of that stage is written; or
            a stage's verdict stands against what comes after it, or was kept until the end.
        ConfigError: no such stage or tile; the root is in use by another run; this is one of
            several processes that torchrun started.
    """
    check_alone()
    steps = steps_of(config, tuple(names))
    stages = {step.stage for step in steps}
    lists.check(getattr(config, stage) for stage in sorted(stages - {"model"}))
    survey = Survey(config.survey)
    made, kept_back = 0, list[str]()
    with locked(config.root):
        for step in steps:
            name = step.stage
            layout = layout_of(config, survey)
            task = Task(name, layout, survey, device)
            asked = _asked(layout, name, only)
            if asked is None:
                continue
            keys = [key for key in asked if step.holds(key)]
            if name == "images" and "cutouts" in stages and not survey.is_local:
                made += _tile_by_tile(task, keys, engine, progress, device)
            else:
                made += _stage(task, keys, engine, progress, device, step.title)
            if said := list(_verdicts(task, keys).values()):
                if task.stage.verdict_at == "once":
                    raise StageError("\n".join(said))
                kept_back += said
    if kept_back:
        raise StageError("\n".join(kept_back))
    return made


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, or the part of it that belongs to one round of mining.

    Attributes:
        stage: The stage's name.
        of_round: The round; None: all.
        sets: Sets that are scored; other stages have none.
    """

    stage: str
    of_round: int | None = None
    sets: tuple[str, ...] = SCORED_SETS

    @property
    def title(self) -> str:
        """What a person is told that goes on."""
        if self.of_round is not None:
            return f"{self.stage} round {self.of_round}"
        return f"{self.stage} of test" if self.sets == ("test",) else self.stage

    def holds(self, key: str) -> bool:
        """Whether a partition belongs to this step."""
        is_of_round = self.of_round in (None, round_of(key))
        return is_of_round and (self.stage != "scores" or set_of(key) in self.sets)


def steps_of(config: RunConfig, names: tuple[str, ...]) -> list[Step]:
    """The stages named and all that they need, in the order in which they are made.

    Raises:
        ConfigError: no such stage, or its section is not in the run's file.
    """
    absent = tuple(name for name in ORDER if not is_asked(config, name))
    if lacking := [name for name in names if name in absent]:
        raise ConfigError(f"the run's file has no section [{'], ['.join(lacking)}]; write it first")
    stages = needed_by(names, without=absent)
    if config.mined is None or "mined" not in stages:
        return [Step(name) for name in stages]
    rest = tuple(name for name in names or ORDER if name != "mined")
    for_themselves = needed_by(rest, without=(*absent, "mined")) if rest else []
    others = [name for name in stages if name not in _LOOP]
    steps = [Step(name) for name in others if ORDER.index(name) < ORDER.index("model")]
    for k in range(config.mined.rounds + 1):
        steps += _steps_of_round(k, config.mined.rounds, for_themselves)
    if "scores" in for_themselves:
        steps.append(Step("scores", sets=("test",)))
    return steps + [Step(name) for name in others if ORDER.index(name) > ORDER.index("model")]


def _steps_of_round(k: int, last: int, for_themselves: Sequence[str]) -> list[Step]:
    """Model, scores and mined of a round; `for_themselves` are stages that mining is not for."""
    mined_from = {s for i in stage_named("mined").inputs if i.table == "scores" for s in i.sets}
    before_test = tuple(name for name in SCORED_SETS if name != "test")
    made = []
    if k < last or "model" in for_themselves:
        made.append(Step("model", k))
    if "scores" in for_themselves:
        made.append(Step("scores", k, before_test))
    elif k < last:
        made.append(Step("scores", k, tuple(sorted(mined_from))))
    if k < last:
        made.append(Step("mined", k))
    return made


def _verdicts(task: Task, keys: Sequence[str]) -> dict[str, str]:
    """Why nothing may be made after these partitions, by partition; most stages judge nothing."""
    if task.stage.verdict is None:
        return {}
    said = {}
    for key in keys:
        address = task.layout.path(task.name, key)
        with tempfile.TemporaryDirectory() as held:
            fetch = store.fetch_folder if task.stage.output is None else store.fetch_file
            said[key] = task.stage.verdict(fetch(address, Path(held)), address)
    return {key: message for key, message in said.items() if message}


def status(config: RunConfig, device: Device) -> list[State]:
    """How every partition of every stage stands, without making anything.

    What is read from something that is not current is not current either.
    """
    survey = Survey(config.survey)
    layout = layout_of(config, survey)
    failures = _failures(config.root)
    states, behind = [], set[str]()
    for step in steps_of(config, ()):
        name = step.stage
        task, stage = Task(name, layout, survey, device), stage_named(name)
        for key in filter(step.holds, layout.partitions(stage)):
            state, message = task.state(key), failures.get(name, {}).get(key, "")
            if state == "current" and any(
                path in behind for read in stage.inputs for path in layout.inputs(stage, read, key)
            ):
                state = "stale"
            if state != "current":
                keys = layout.tiles if stage.splits_output_by else (key,)
                behind.update(layout.path(name, made) for made in keys)
                state = "failed" if message else state
            elif said := _verdicts(task, (key,)):
                state, message = "failed", said[key]
            states.append(State(name, key, state, message))
    return states


def layout_of(config: RunConfig, survey: Survey) -> Layout:
    """The run's objects as far as they are known: the tiles once `splits` is made."""
    header = tiles_header(config.root, "splits")
    tiles: TileSplits = header.notes["tiles"] if header else {}
    return Layout(config, survey.catalogues(), tiles)


@contextlib.contextmanager
def locked(root: str) -> Iterator[None]:
    """Hold a local root for one run; an object store needs no lock: each upload is whole.

    The lock is the system's own: it ends with the process, however that ends.
    """
    if "://" in root:
        yield
        return
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise DataError(
            f"{root} cannot be written ({error.strerror}); choose another `root` in the run's file"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"{root} is in use by another run; wait for it, or give this run another root"
        ) from error
    try:
        for partial in folder.rglob(".*.partial"):
            partial.unlink(missing_ok=True)  # what a killed run left; nobody else writes here now
        yield
    finally:
        os.close(handle)


def _asked(layout: Layout, name: str, only: str | None) -> list[str] | None:
    """The partitions to look at; None where `--only` leaves the stage out."""
    stage = stage_named(name)
    keys = layout.partitions(stage)
    if only is None or name in ("targets", "splits"):
        return keys
    if only not in layout.tiles:
        raise ConfigError(
            f"there is no tile {only!r}; the run has {', '.join(sorted(layout.tiles))}"
        )
    if not stage.partition.endswith("tile"):
        return None
    return [key for key in keys if tile_of(key) == only]


def _stage(
    task: Task, keys: list[str], engine: LocalEngine, progress: Progress, device: Device,
    title: str = "",
) -> int:  # fmt: skip
    start = time.monotonic()
    stale = [key for key in keys if task.state(key) != "current"]
    progress.started(title or task.name, len(keys), len(stale))
    reports = []
    here = task.stage.partition in _HERE
    if here and stale:
        engine.rest()  # idle workers hold memory that this stage may want
    runner: Engine = LocalEngine(0) if here else engine
    if not here:  # the engine shares the cores out: one thread a task, whatever runs beside it
        task = replace(task, device=replace(task.device, threads=1))
    for report in runner.map(task, stale):
        reports.append(report)
        progress.ended(report)
    _record(task, reports, device)
    failed = [r for r in reports if r.state == "failed"]
    if failed:
        raise StageError(
            _failure(task.name, failed, len(keys), is_tiled=task.stage.partition.endswith("tile"))
        )
    progress.finished(title or task.name, time.monotonic() - start)
    return len(reports)


def _tile_by_tile(
    images: Task, keys: list[str], engine: LocalEngine, progress: Progress, device: Device
) -> int:
    """Fetch a few tiles and cut them before the next: a cache need not hold the survey."""
    cutouts = replace(images, name="cutouts")
    at_once = max(engine.workers, 1)
    made = 0
    for start in range(0, len(keys), at_once):
        few = keys[start : start + at_once]
        for task in (images, cutouts):
            made += _stage(task, few, engine, progress, device)
        for key in few:
            path = images.layout.path("splits", key)
            bricks = store.read(path, columns=["brickname"])["brickname"]
            images.survey.done_with(bricks.unique().to_pylist())
    return made


def _failure(name: str, failed: list[Report], total: int, *, is_tiled: bool) -> str:
    """One message for all partitions that failed; a bug keeps its traceback."""
    shown = failed[:10]
    lines = [f"stage {name} failed on {len(failed)} of {total} partitions"]
    lines += [f"  {r.partition}: {r.message}" for r in shown]
    if len(failed) > len(shown):
        lines.append(f"  ... and {len(failed) - len(shown)} more, named in logs/{name}.jsonl")
    lines.append("What was finished is kept; mend the cause and run the same command again.")
    if is_tiled:
        lines.append(f"To run one alone: dhs run FILE {name} --only {tile_of(shown[0].partition)}")
    return "\n".join(lines)


def _record(task: Task, reports: list[Report], device: Device) -> None:
    """Keep what is not part of any result: times, versions, failures. Local roots only."""
    root = task.layout.config.root
    if "://" in root or not reports:
        return
    facts = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version("darkhaloscope"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device.name,
    }
    folder = Path(root, "logs")
    try:
        folder.mkdir(exist_ok=True)
        with (folder / f"{task.name}.jsonl").open("a") as file:
            file.writelines(json.dumps({**facts, **asdict(r)}) + "\n" for r in reports)
        failures = _failures(root)
        failures[task.name] = {r.partition: r.message for r in reports if r.state == "failed"}
        (folder / "failures.json").write_text(json.dumps(failures, indent=1))
    except OSError as error:
        log.warning("the log of stage %s could not be written: %s", task.name, error)


def _failures(root: str) -> dict[str, dict[str, str]]:
    path = Path(root, "logs", "failures.json")
    if "://" in root or not path.is_file():
        return {}
    try:
        found: dict[str, dict[str, str]] = json.loads(path.read_text())
    except ValueError:
        return {}  # half-written when a run was killed; the tables themselves are the truth
    return found
