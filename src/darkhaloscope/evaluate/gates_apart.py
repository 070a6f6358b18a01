"""Gates by trivial models: rows of `evaluate.gates` from features of lenses and negatives."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.evaluate import gates_trivial
from darkhaloscope.evaluate.gates import ALL, Row, judged, not_judged
from darkhaloscope.evaluate.gates_trivial import Floats, Ints, Plan, Sides

Places = NDArray[np.intp]
PIXELS = ("core_only",)  # gates whose features are pixels


@dataclass(frozen=True, slots=True)
class Classes:
    """Lenses and what they are judged against, as places in the sample.

    Attributes:
        lens: Places of the lenses, (n,).
        rest: Places of the negatives, (m,).
        other: What the negatives are, in words.
        is_paired: Whether each negative goes with the lens of the same place: n = m.
    """

    lens: Places
    rest: Places
    other: str
    is_paired: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges: the sample's galaxies, and how.

    Attributes:
        galaxy: Of each row of the sample, (k,).
        region: Of the same, (k,).
        plan: Folds, draws, seed.
        least: Galaxies that either class needs.
        edges: Of the strata of theta_E over the seeing; the last has no upper end.
    """

    galaxy: Ints
    region: Ints
    plan: Plan
    least: int
    edges: tuple[float, ...]

    def rows(
        self,
        name: str,
        features: Floats,
        classes: Classes,
        *,
        limit_low: float | None = None,
        limit_high: float,
        ratio: Floats | None = None,
    ) -> list[Row]:
        """The gate on all rows, and where `ratio` is given by theta_E over the seeing.

        Args:
            name: The gate.
            features: Of the sample's rows, (k, feature).
            classes: What is told apart.
            limit_low: Least area.
            limit_high: Largest area.
            ratio: theta_E over FWHM_r of the sample's rows, (k,); a negative has its lens's.
        """
        sides = self._sides(classes)
        if (few := self._few(sides, classes)) is not None:
            return [not_judged(name, few)]
        model, scores = self._scores(features, classes, sides, are_pixels=name in PIXELS)
        limits = {"limit_low": limit_low, "limit_high": limit_high}
        told = f"{model}; {_counted(sides, classes)}"
        rows = [self._row(name, ALL, scores, sides, limits, told)]
        if ratio is None:
            return rows
        own = ratio[classes.lens]
        of_each = np.concatenate([own, own if classes.is_paired else ratio[classes.rest]])
        for low, high in pairwise((*self.edges, np.inf)):
            inside = (of_each >= low) & (of_each < high)
            stratum, part = f"theta_e_over_fwhm_r:{_bin(low, high)}", sides.only(inside)
            if (few := self._few(part, classes)) is not None:
                rows.append(Row(name, stratum, None, detail=f"not judged: {few}"))
                continue
            told = _counted(part, classes)
            rows.append(self._row(name, stratum, scores[inside], part, limits, told))
        return rows

    def printed(self, name: str, features: Floats, classes: Classes, stratum: str, why: str) -> Row:
        """The same on all rows by models that may learn shapes; `why` there is no limit."""
        sides = self._sides(classes)
        if (few := self._few(sides, classes)) is not None:
            return Row(name, stratum, None, detail=f"not judged: {few}")
        model, scores = self._scores(features, classes, sides, are_pixels=False)
        told = f"{model}; {_counted(sides, classes)}; no limit: {why}"
        return self._row(name, stratum, scores, sides, {}, told)

    def _sides(self, classes: Classes) -> Sides:
        at = np.concatenate([classes.lens, classes.rest])
        is_lens = np.arange(len(at)) < len(classes.lens)
        return Sides(is_lens, self.galaxy[at], self.region[at], np.ones(len(at)))

    def _scores(
        self, features: Floats, classes: Classes, sides: Sides, *, are_pixels: bool
    ) -> tuple[str, Floats]:
        at = np.concatenate([classes.lens, classes.rest])
        return gates_trivial.held_out(features[at], sides, self.plan, are_pixels=are_pixels)

    def _row(
        self, name: str, stratum: str, scores: Floats, sides: Sides,
        limits: Mapping[str, float | None], detail: str,
    ) -> Row:  # fmt: skip
        area = gates_trivial.area(scores, sides, self.plan, f"{name} {stratum}")
        return judged(
            name, stratum, area.value, (area.low, area.high), detail=detail,
            is_stratum=stratum != ALL, limit_low=limits.get("limit_low"),
            limit_high=limits.get("limit_high"),
        )  # fmt: skip

    def _few(self, sides: Sides, classes: Classes) -> str | None:
        """Why the classes cannot be judged; None: they can."""
        n = sides.least() if len(sides.galaxy) else 0
        if n >= self.least:
            return None
        return f"{n} galaxies of lenses or {classes.other}; gates.least_galaxies is {self.least}"


def _counted(sides: Sides, classes: Classes) -> str:
    n_lens, n_rest = int(sides.is_lens.sum()), int((~sides.is_lens).sum())
    galaxies = len(np.unique(sides.galaxy))
    return f"{n_lens:,} lenses and {n_rest:,} {classes.other} on {galaxies:,} galaxies"


def _bin(low: float, high: float) -> str:
    return f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g}-"
