"""How well a trivial model tells two classes apart: its area under the curve, with an interval.

Two models, logistic regression and boosted trees, are fitted on four fifths of the sky regions and
judged on the rest, in turns; the pooled scores of the better one count. No galaxy, and no region,
is on both sides. Both may be fitted on many features: what a trivial model finds out of such
scores, a network finds too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

ENOUGH_REGIONS_TO_FOLD = 3
ENOUGH_REGIONS_TO_DRAW = 10
THREADS = 1  # a second thread waits for cores that others use: 30 times slower when they are
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Plan:
    """How scores are made and how often they are drawn again.

    Attributes:
        folds: Parts of the data that are held back in turns, at most.
        draws: Bootstrap draws of an interval.
        seed: Of the folds and the draws.
    """

    folds: int
    draws: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sides:
    """Rows of two classes, all arrays of shape (n,).

    Attributes:
        is_lens: Which class.
        galaxy: The galaxy of each row.
        region: The sky region of each row.
        weight: Of the row, >= 0.
    """

    is_lens: Flags
    galaxy: Ints
    region: Ints
    weight: Floats

    def only(self, kept: Flags) -> "Sides":
        """Some of the rows."""
        return Sides(self.is_lens[kept], self.galaxy[kept], self.region[kept], self.weight[kept])

    def least(self) -> int:
        """Galaxies of the class that has fewer."""
        return min(len(np.unique(self.galaxy[side])) for side in (self.is_lens, ~self.is_lens))


@dataclass(frozen=True, slots=True)
class Area:
    """An area under the curve with its 95 % interval."""

    value: float
    low: float
    high: float


def held_out(
    features: Floats, sides: Sides, plan: Plan, *, are_pixels: bool = False
) -> tuple[str, Floats]:
    """Scores of each row by models that have not seen its region, and which model's they are.

    Args:
        features: Shape (n, feature), finite.
        sides: The rows.
        plan: Folds and seed.
        are_pixels: Trees have one split each, and so no pixel is read together with another: else
            they learn shapes, and a shape is what a lens finder may look at.

    Returns:
        Name of the better model and its pooled scores, (n,).

    Raises:
        ValueError: a fold leaves one class only.
    """
    from threadpoolctl import threadpool_limits

    fold = folds(sides, plan)
    scored: dict[str, Floats] = {}
    with threadpool_limits(THREADS):
        for name, make in (_OF_PIXELS if are_pixels else _MODELS).items():
            scores = np.empty(len(features))
            for held in np.unique(fold):
                seen = fold != held
                model = make()
                model.fit(
                    features[seen], sides.is_lens[seen], **_weights(model, sides.weight[seen])
                )
                scores[~seen] = _score(model, features[~seen])
            scored[name] = scores
    best = max(scored, key=lambda name: auroc(scored[name], sides))
    return best, scored[best]


def folds(sides: Sides, plan: Plan) -> Ints:
    """Which fold holds each row back: whole regions, or galaxies where there are few regions."""
    region, row, count = np.unique(sides.region, return_inverse=True, return_counts=True)
    if len(region) < ENOUGH_REGIONS_TO_FOLD:
        drawn = keys.uniform(sides.galaxy, seed=plan.seed, stream="gates fold")
        return np.asarray((drawn * plan.folds).astype(np.int64))
    n = min(plan.folds, len(region))
    filled, of_region = np.zeros(n), np.zeros(len(region), np.int64)
    for place in np.lexsort((region, -count)):
        of_region[place] = int(np.argmin(filled))
        filled[of_region[place]] += count[place]
    return np.asarray(of_region[row])


def auroc(scores: Floats, sides: Sides) -> float:
    """Area under the curve with the rows' weights; a tie counts half."""
    return float(_areas(scores, sides, np.ones((1, len(scores))))[0])


def area(scores: Floats, sides: Sides, plan: Plan, name: str) -> Area:
    """The same with its interval: galaxies are drawn again, or regions where there are enough.

    The interval holds the sample's own error. It does not hold that of the fit, which moves the
    value far less.
    """
    by_region = len(np.unique(sides.region)) >= ENOUGH_REGIONS_TO_DRAW
    units, row = np.unique(sides.region if by_region else sides.galaxy, return_inverse=True)
    ids = np.arange(plan.draws * len(units))
    drawn = keys.uniform(ids, seed=plan.seed, stream=f"gates {name}").reshape(plan.draws, -1)
    chosen = np.minimum((drawn * len(units)).astype(np.int64), len(units) - 1)
    times = np.stack([np.bincount(one, minlength=len(units)) for one in chosen])
    areas = _areas(scores, sides, times[:, row].astype(np.float64))
    known = areas[np.isfinite(areas)]
    value = auroc(scores, sides)
    low, high = np.quantile(known, [TAIL, 1 - TAIL]) if len(known) else (0.0, 1.0)
    return Area(value, min(float(low), value), max(float(high), value))


def _areas(scores: Floats, sides: Sides, times: Floats) -> Floats:
    """Areas of draws that hold each row so many times, times (draw, n): (draw,)."""
    order = np.argsort(scores, kind="stable")
    level = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    weight = times[:, order] * sides.weight[order]
    lens = np.add.reduceat(weight * sides.is_lens[order], level, axis=1)
    rest = np.add.reduceat(weight * ~sides.is_lens[order], level, axis=1)
    below = np.cumsum(rest, axis=1) - rest / 2
    with np.errstate(invalid="ignore"):
        return np.asarray((lens * below).sum(1) / (lens.sum(1) * rest.sum(1)))


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))


def _trees(depth: int | None = None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=80, max_leaf_nodes=15, max_depth=depth, min_samples_leaf=20, max_features=0.3,
        l2_regularization=1.0, early_stopping=False, random_state=0,
    )  # fmt: skip


_MODELS: Mapping[str, Callable[[], Any]] = {
    "logistic regression": _logistic,
    "boosted trees": _trees,
}
_OF_PIXELS: Mapping[str, Callable[[], Any]] = {
    "logistic regression": _logistic,
    "boosted stumps": partial(_trees, 1),
}


def _weights(model: Any, weight: Floats) -> dict[str, Floats]:
    """The weights under the name that the model takes them; none where all are equal.

    Weighted quantiles make the binning of trees ten times slower.
    """
    if (weight == weight[0]).all():
        return {}
    last = getattr(model, "steps", [("", model)])[-1][0]
    return {f"{last}__sample_weight" if last else "sample_weight": weight}


def _score(model: Any, features: Floats) -> Floats:
    return np.asarray(model.decision_function(features), np.float64)
