"""One score of several networks, and how far they disagree.

The mean of their logits, or a logistic regression on them ("stacking", Wolpert 1992) with weights
that are not negative and are drawn towards each other, so that few data give the mean. What is
fitted is fitted on a set that was not trained on; its own rows get the value of a fit that has
seen neither them nor their neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from darkhaloscope.core import keys
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import logistic
from darkhaloscope.ml.logistic import Flags, Floats, Ints, Line

How = Literal["mean", "stack"]
SHARE = 0.01  # of lenses, at which stacking looks hardest: likelihood ratios near 100
ALIKE = 1.0  # prior spread of the members' weights, logits per standard deviation
EVEN = 0.5


@dataclass(frozen=True)
class Combined:
    """A combination of m members.

    Attributes:
        how: What was done.
        line: Of the members' logits; of the mean every slope is 1 / m.
        own: Each member's logistic calibration: its logit as a log likelihood ratio.
        out_of_fold: Scores of the rows that were fitted, shape (n,), each from a fit without its
            fold; of the mean, which fits nothing, the scores themselves.
        fold: Of each row that was fitted, shape (n,).
    """

    how: How
    line: Line
    own: tuple[Line, ...]
    out_of_fold: Floats
    fold: Ints

    def scores(self, logits: Floats) -> Floats:
        """The combined logit, shape (n,), of members' logits, shape (n, m).

        Of the mean it is their mean, of `stack` a log likelihood ratio.
        """
        return self.line(np.asarray(logits, np.float64))

    @property
    def weights(self) -> Floats:
        """Each member's part, shape (m,), adding up to 1: slopes in units of calibrated logits."""
        if self.how == "mean":
            return np.asarray(self.line.slopes / self.line.slopes.sum())
        steep = np.array([member.slopes[0] for member in self.own])
        part = np.divide(self.line.slopes, steep, out=np.zeros_like(steep), where=steep > 0)
        total = part.sum()
        return np.asarray(part / total if total > 0 else np.full(len(part), 1 / len(part)))

    def disagreement(self, logits: Floats) -> Floats:
        """How far the members are apart, logits, shape (n,).

        The standard deviation of the members' log likelihood ratios about their mean, both weighted
        with `weights`: sqrt(sum w (l - sum w l)^2). Each member's logit is first brought to a log
        likelihood ratio by its own logistic regression, as networks differ in scale. Of one member
        it is 0.
        """
        raw = np.asarray(logits, np.float64)
        llr = np.stack([line(raw[:, [j]]) for j, line in enumerate(self.own)], axis=1)
        apart = llr - (llr @ self.weights)[:, None]
        return np.asarray(np.sqrt(np.maximum(apart**2 @ self.weights, 0.0)))


def fit(
    logits: Floats,
    is_lens: Flags,
    weight: Floats,
    groups: Ints,
    *,
    how: How = "stack",
    folds: int = 5,
    seed: int = 0,
) -> Combined:
    """Combine the members on rows of known truth that none was trained on.

    Args:
        logits: Of each member, shape (n, m), m >= 1, finite.
        is_lens: Truth, shape (n,); both classes are there.
        weight: What a row counts within its class, shape (n,), >= 0: of negatives `sky_weight`, of
            lenses their weight in the population; each over the copies of its galaxy.
        groups: Code of what must not be torn apart, shape (n,): `groups_of` galaxy and region.
        how: `mean` or `stack`.
        folds: Of the cross-fit, >= 2.
        seed: Of the deal of groups to folds.

    Returns:
        The combination; its `out_of_fold` are the scores to judge or calibrate on these rows.

    Raises:
        DataError: a fold leaves one class only to fit.
    """
    x = np.asarray(logits, np.float64)
    fold = folds_of(groups, is_lens, folds=folds, seed=seed)
    own = tuple(
        logistic.fit(x[:, [j]], is_lens, weight, share=EVEN, alike=None) for j in range(x.shape[1])
    )
    if how == "mean":
        line = Line(0.0, np.full(x.shape[1], 1 / x.shape[1]))
        return Combined(how, line, own, line(x), fold)
    line = _stacked(x, is_lens, weight)
    held_out = np.empty(len(x))
    for k, rest in each_fold(fold, is_lens, weight):
        held_out[fold == k] = _stacked(x[rest], is_lens[rest], weight[rest])(x[fold == k])
    return Combined(how, line, own, held_out, fold)


def groups_of(galaxy: Ints, region: Ints | None, *, folds: int) -> Ints:
    """What a cross-fit must not tear apart: regions where there are enough, else galaxies.

    Args:
        galaxy: Ids, shape (n,).
        region: Codes, -1 where not known; None: no row has one.
        folds: Of the cross-fit; two regions a fold are enough.

    Returns:
        Codes from 0 on, shape (n,).
    """
    of_region = None if region is None else np.asarray(region, np.int64)
    if of_region is not None and (of_region >= 0).all():
        named, code = np.unique(of_region, return_inverse=True)
        if len(named) >= 2 * folds:
            return np.asarray(code, np.int64)
    return np.asarray(np.unique(galaxy, return_inverse=True)[1], np.int64)


def folds_of(groups: Ints, is_lens: Flags, *, folds: int, seed: int) -> Ints:
    """Fold of each row, shape (n,), such that a group is in one fold.

    Groups are dealt out by their number of lenses, then of rows, forwards and backwards in turn:
    folds are alike. Which of equal groups goes where is a named draw of the group's code.
    """
    n = int(groups.max(initial=-1)) + 1
    rows, lenses = np.bincount(groups, minlength=n), np.bincount(groups, is_lens, n)
    drawn = keys.uniform(np.arange(n), seed=seed, stream="fold")
    order = np.lexsort((drawn, -rows, -lenses))
    lap, seat = np.divmod(np.arange(n), folds)
    of_group = np.empty(n, np.int64)
    of_group[order] = np.where(lap % 2 == 0, seat, folds - 1 - seat)
    return of_group[groups]


def each_fold(fold: Ints, is_lens: Flags, weight: Floats) -> Sequence[tuple[int, Any]]:
    """Each fold and the rows outside it.

    Raises:
        DataError: the rows outside a fold are of one class only, or one class weighs nothing.
    """
    made = []
    for k in np.unique(fold):
        rest = fold != k
        for mine, name in ((is_lens, "lenses"), (~is_lens, "negatives")):
            if not weight[rest & mine].sum() > 0:
                raise DataError(
                    f"without fold {k} of {len(np.unique(fold))} no {name} of any weight are left "
                    "to fit; use fewer folds, or more galaxies"
                )
        made.append((int(k), rest))
    return made


def _stacked(x: Floats, is_lens: Flags, weight: Floats) -> Line:
    return logistic.fit(x, is_lens, weight, share=SHARE, alike=ALIKE)
