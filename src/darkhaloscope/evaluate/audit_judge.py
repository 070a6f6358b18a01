"""How the audit judges: by intervals, of enough galaxies, or not at all and with the reason."""

import math
from dataclasses import dataclass

import numpy as np

from darkhaloscope.evaluate import audit_figures
from darkhaloscope.evaluate.audit_figures import Figure, Two
from darkhaloscope.evaluate.gates import Row, judged


@dataclass(frozen=True, slots=True)
class Judge:
    """How rows are judged.

    Attributes:
        draws: Of the intervals by bootstrap.
        least: Galaxies that a check needs.
        origin: `sim` or `real`: what the pixels of plain galaxies are.
    """

    draws: audit_figures.Draws
    least: int
    origin: str

    def few(self, name: str, stratum: str, n: int, what: str) -> Row | None:
        """A row without a verdict where there are too few galaxies; None: enough."""
        if n >= self.least:
            return None
        return unjudged(name, stratum, f"{n} {what}; {self._asked}")

    @property
    def _asked(self) -> str:
        return f"audit.least_galaxies is {self.least}"

    def shifted(
        self, name: str, stratum: str, two: Two, limit: float | None, said: str,
        *, unit: str = "galaxies", least: int | None = None,
    ) -> Row:  # fmt: skip
        """The first sample's shift against the other.

        Args:
            name: The check.
            stratum: What of it.
            two: Both samples.
            limit: Largest shift to either side.
            said: What is compared.
            unit: What `two` calls a galaxy: what is drawn again.
            least: How many of these either sample needs; None: as many as galaxies.
        """
        if two.least < (least or self.least):
            asked = f"at least {least} are needed" if least else self._asked
            return unjudged(name, stratum, f"{two.least} {unit}: {said}; {asked}")
        figure = audit_figures.shift(two, self.draws, f"{name} {stratum}")
        if not all(math.isfinite(v) for v in figure):
            return unjudged(name, stratum, f"no two values of the controls differ: {said}")
        beyond = None if limit is None else -limit
        return by_interval(
            name, stratum, figure, limit_low=beyond, limit_high=limit,
            detail=f"{self.origin}, {_counted(two)} {unit}: {said}; in standard deviations",
        )  # fmt: skip

    def distance(self, name: str, stratum: str, two: Two, said: str) -> Row:
        """The two samples' largest difference of distribution functions."""
        if row := self.few(name, stratum, two.least, f"galaxies: {said}"):
            return row
        figure = audit_figures.distance(two, self.draws, f"{name} {stratum}")
        told = f"{self.origin}, {_counted(two)} galaxies: {said}"
        return by_interval(name, stratum, figure, detail=told)


def unjudged(name: str, stratum: str, why: str) -> Row:
    """A row without a verdict, and why."""
    return Row(name, stratum, None, detail=f"not judged: {why}")


def by_interval(
    name: str, stratum: str, figure: Figure, *, limit_low: float | None = None,
    limit_high: float | None = None, detail: str,
) -> Row:  # fmt: skip
    """A row that fails only where its whole interval is beyond a limit."""
    return judged(
        name, stratum, figure.value, figure.interval, limit_low=limit_low, limit_high=limit_high,
        detail=detail, is_stratum=True,
    )  # fmt: skip


def _counted(two: Two) -> str:
    first, other = (len(np.unique(two.galaxy[s])) for s in (two.is_first, ~two.is_first))
    return f"n = {first:,} against {other:,}"
