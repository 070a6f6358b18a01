"""What a person sees while a run goes on: a bar on a terminal, lines elsewhere."""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from darkhaloscope.core.contracts import Report

_EVERY_S = 10.0  # between two lines about one stage, where there is no terminal


class Bar:
    """A progress bar a stage; implements `pipeline.run.Progress`."""

    def __init__(self, console: Console | None = None) -> None:
        """Args: console: where to draw; default: stderr."""
        self._console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console) if self._console.is_terminal else None
        self._task: TaskID | None = None
        self._stage = ""
        self._total = self._done = 0
        self._last = 0.0

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing; what was drawn stays."""
        if self._bar:
            self._bar.stop()

    def started(self, stage: str, total: int, stale: int) -> None:
        """A stage of `total` partitions begins, `stale` of them to be made."""
        self._stage, self._total, self._done, self._last = stage, stale, 0, time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(stage, total=total, completed=total - stale)
        elif stale:
            self._line(f"{stage}: {stale} of {total} to make")

    def ended(self, report: Report) -> None:
        """A partition ended."""
        self._advance(report.stage)
        if report.state == "failed":
            self._line(
                f"{report.stage} {report.partition} failed: {report.message.splitlines()[-1]}"
            )

    def finished(self, stage: str, seconds: float) -> None:
        """A stage is up to date."""
        if not self._bar and self._total:
            self._line(f"{stage}: done in {seconds:.1f} s")

    def bricks(self, done: int, total: int) -> None:
        """So many bricks of the simulated sky are drawn."""
        if self._stage != "simulate":
            self.started("simulate", total, total)
        self._advance("simulate", done)
        if done == total and not self._bar:
            self._line(f"simulate: {total} bricks drawn")

    def _advance(self, stage: str, done: int | None = None) -> None:
        self._done = self._done + 1 if done is None else done
        if self._bar and self._task is not None:
            if done is None:
                self._bar.advance(self._task)
            else:
                self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._last > _EVERY_S:
            self._last = time.monotonic()
            self._line(f"{stage}: {self._done} of {self._total}")

    def _line(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False)


def headline(root: str) -> str:
    """The report's first figures in one line: what, of how many, with the interval.

    Args:
        root: The run's root, local.
    """
    path = Path(root, "report", "metrics.json")
    if not path.is_file():
        return f"No figures yet at {path}."
    found: dict[str, Any] = json.loads(path.read_text())
    return str(found.get("headline_text", "")) or "The report has no headline; open it."
