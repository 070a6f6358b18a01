"""The probability that a stamp is a lens, from its score: shape, ceiling, prevalence.

A score is brought to a log likelihood ratio, to which the log odds of any prevalence are added.

Shape. `beta`: a + b ln q - c ln(1 - q) of q = 1 / (1 + exp(-score)) with b, c >= 0 (Kull, Silva
Filho & Flach 2017): two slopes that pass into each other at score 0. `tail`: a logistic curve whose
slope may change where the false-positive rate is 1e-1, 1e-2 and 1e-3, as far as there are galaxies
beyond: above the last of these both classes fall off exponentially, relative to each other. The one
with the lower log-loss on held-out galaxies is taken. Neither ends at the last negative, where a
monotone regression claims p = 1.

Ceiling. No set of galaxies of the calibration set shows a likelihood ratio above its TPR over the
upper 95 % limit of its FPR (Fay & Feuer 1997; of equal weights Clopper & Pearson's, to Poisson's
accuracy). Nothing above the largest that a set of the highest scores shows is claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy import special

from darkhaloscope.evaluate import sample
from darkhaloscope.evaluate.intervals import TAIL
from darkhaloscope.evaluate.rows import rows
from darkhaloscope.evaluate.sample import Negatives, Side
from darkhaloscope.ml import logistic
from darkhaloscope.ml.combine import each_fold, folds_of, groups_of
from darkhaloscope.ml.logistic import Flags, Floats, Ints, Line

Shape = Literal["beta", "tail"]
SHAPES: tuple[Shape, ...] = ("beta", "tail")
KNOTS = (1e-1, 1e-2, 1e-3)  # false-positive rates where the slope of `tail` may change
BEYOND = 30.0  # galaxies of either class, of equal weight, that a knot needs above it
AT_LEAST = 30.0  # negatives, of equal weight, that stand against the lenses where the fit looks
PLAIN = ("control",)  # kinds of negative that are no contaminants


@dataclass(frozen=True)
class Curve:
    """Log likelihood ratios along the score, without a ceiling.

    Attributes:
        shape: `beta` or `tail`.
        line: Of the features of the shape.
        knots: Scores where the slope of `tail` may change; of `beta` none.
    """

    shape: Shape
    line: Line
    knots: tuple[float, ...] = ()

    def __call__(self, score: Floats) -> Floats:
        """Log likelihood ratios, shape (n,), of scores, shape (n,)."""
        return self.line(_features(score, self.shape, self.knots))


@dataclass(frozen=True)
class Calibration:
    """What a score says of being a lens.

    Attributes:
        shape: The shape that was taken.
        prevalence: Lenses per target that `probability` assumes unless told.
        curve: Log likelihood ratio along the score.
        contaminated: The same with the contaminants' share `contaminants_times` as large.
        contaminants_times: How often.
        ceiling_score: Ascending, shape (c,): above each, the next of `ceiling_llr` holds.
        ceiling_llr: Highest log likelihood ratio that the data support, shape (c + 1,), rising.
        contaminated_llr: The same with more contaminants, at `ceiling_score`.
        log_loss: Held-out log-loss of each shape, nats, at the share `share`.
        share: Share of lenses at which curves are fitted and compared.
        out_of_fold: Log likelihood ratios of the rows that were fitted, each from curves without
            its fold, below the ceiling, shape (n,).
        n_negatives: Unique negatives, a galaxy once a kind.
        effective_negatives: Of equal weight.
    """

    shape: Shape
    prevalence: float
    curve: Curve
    contaminated: Curve
    contaminants_times: float
    ceiling_score: Floats
    ceiling_llr: Floats
    contaminated_llr: Floats
    log_loss: Mapping[str, float]
    share: float
    out_of_fold: Floats = field(repr=False)
    n_negatives: int
    effective_negatives: float

    def llr(self, score: Floats, *, contaminated: bool = False) -> Floats:
        """Log likelihood ratio, at most what the data support, shape (n,)."""
        score = np.asarray(score, np.float64)
        curve = self.contaminated if contaminated else self.curve
        highest = self.contaminated_llr if contaminated else self.ceiling_llr
        place = np.searchsorted(self.ceiling_score, score, side="left")
        return np.minimum(curve(score), highest[place])

    def probability(
        self, score: Floats, *, prevalence: float | None = None, contaminated: bool = False
    ) -> Floats:
        """Probability of a lens, in (0, 1), shape (n,).

        Args:
            score: As fitted: combined logits, shape (n,).
            prevalence: Lenses per target, in (0, 1); None: as fitted.
            contaminated: With the contaminants' share `contaminants_times` as large.
        """
        return at_prevalence(
            self.llr(score, contaminated=contaminated),
            self.prevalence if prevalence is None else prevalence,
        )


def fit(  # noqa: PLR0913  (one argument a column)
    score: Floats,
    is_lens: Flags,
    sky_weight: Floats | None,
    kinds: Any,
    galaxy: Ints,
    region: Ints | None,
    prevalence: float,
    *,
    lens_weight: Floats | None = None,
    how: Literal["auto", "beta", "tail"] = "auto",
    contaminants_times: float = 3.0,
    folds: int = 5,
    seed: int = 0,
) -> Calibration:
    """Calibrate scores on rows of known truth that nothing was trained on.

    Args:
        score: Logits, shape (n,), finite: of a committee those of `Combined.out_of_fold`.
        is_lens: Truth, shape (n,); both classes are there.
        sky_weight: Of negatives, their kind's share on the sky over that in the set, shape (n,);
            lenses may have anything; None: all weigh the same.
        kinds: Names of the rows' kinds, shape (n,); all negatives but `control` are contaminants.
        galaxy: Ids, shape (n,): a galaxy counts once a kind.
        region: Codes of regions of the sky, -1 where not known; None: not known.
        prevalence: Lenses per target, in (0, 1), of the probabilities.
        lens_weight: Weight of a lens in its population, shape (n,); None: each galaxy once.
        how: The shape, or `auto`: the one with the lower held-out log-loss.
        contaminants_times: Times the share of contaminants in the second probability.
        folds: Of the choice, >= 2: of regions where there are enough, else of galaxies.
        seed: Of the deal to folds.

    Raises:
        DataError: the rows cannot be evaluated, or a fold leaves one class only to fit.
    """
    score, is_lens = np.asarray(score, np.float64), np.asarray(is_lens, bool)
    kind = np.asarray(kinds)
    groups = groups_of(galaxy, region, folds=folds)
    fold = folds_of(groups, is_lens, folds=folds, seed=seed)

    def weighed(times: float) -> tuple[Floats, Negatives, Side]:
        """Weight of each row and the two classes, with contaminants so many times as frequent."""
        of_sky = np.ones(len(score)) if sky_weight is None else np.asarray(sky_weight, np.float64)
        of_sky = np.where(is_lens, 0.0, of_sky) * np.where(np.isin(kind, PLAIN), 1.0, times)
        made = rows(
            score=score, is_lens=is_lens, galaxy=galaxy, kind=kind, sky_weight=of_sky,
            weight=lens_weight, where="the rows to calibrate on",
        )  # fmt: skip
        of_lens = np.ones(len(score)) if lens_weight is None else np.asarray(lens_weight)
        weight = np.where(is_lens, of_lens, of_sky) * once(galaxy, kind)
        return weight, sample.negatives(made, to_sky=True), sample.lenses(made)

    weight, negatives, lenses = weighed(1.0)
    share = max(prevalence, min(0.5, AT_LEAST / (AT_LEAST + negatives.side.effective)))
    shapes = SHAPES if how == "auto" else (how,)
    held_out = {s: np.empty(len(score)) for s in shapes}
    for k, rest in each_fold(fold, is_lens, weight):
        for shape in shapes:
            part = _curve(score[rest], is_lens[rest], weight[rest], shape, share)
            held_out[shape][fold == k] = part(score[fold == k])
    losses: dict[str, float] = {
        s: logistic.log_loss(v, is_lens, weight, share=share) for s, v in held_out.items()
    }
    chosen = min(shapes, key=lambda s: losses[s])

    many, of_many, _ = weighed(contaminants_times)
    at, highest = _ceiling(negatives, lenses, None)
    _, contaminated = _ceiling(of_many, lenses, at)
    return Calibration(
        shape=chosen,
        prevalence=prevalence,
        curve=_curve(score, is_lens, weight, chosen, share),
        contaminated=_curve(score, is_lens, many, chosen, share),
        contaminants_times=contaminants_times,
        ceiling_score=at,
        ceiling_llr=highest,
        contaminated_llr=contaminated,
        log_loss=losses,
        share=share,
        out_of_fold=np.minimum(held_out[chosen], highest[np.searchsorted(at, score)]),
        n_negatives=negatives.side.n,
        effective_negatives=negatives.side.effective,
    )


def at_prevalence(llr: Floats, prevalence: float) -> Floats:
    """Probabilities of log likelihood ratios where so many targets are lenses.

    Examples:
        >>> at_prevalence(np.array([0.0, np.log(99)]), 0.01).round(3).tolist()
        [0.01, 0.5]
    """
    return np.asarray(special.expit(np.asarray(llr, np.float64) + special.logit(prevalence)))


def once(galaxy: Ints, kind: Any) -> Floats:
    """One over the copies of each row, shape (n,): a galaxy counts once a kind.

    Examples:
        >>> once(np.array([7, 7, 7]), np.array(["ring", "ring", "lens"])).tolist()
        [0.5, 0.5, 1.0]
    """
    names = np.unique(np.asarray(kind), return_inverse=True)[1]
    ids = np.unique(galaxy, return_inverse=True)[1]
    unit = ids.astype(np.int64) * (int(names.max(initial=0)) + 1) + names
    _, code, copies = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / copies[code])


def _curve(score: Floats, is_lens: Flags, weight: Floats, shape: Shape, share: float) -> Curve:
    """The likeliest curve of a shape."""
    knots = _knots(score, is_lens, weight) if shape == "tail" else ()
    features = _features(score, shape, knots)
    return Curve(shape, logistic.fit(features, is_lens, weight, share=share), knots)


def _features(score: Floats, shape: Shape, knots: tuple[float, ...]) -> Floats:
    """What a curve is linear in, shape (n, k); each rises with the score."""
    if shape == "beta":
        return np.stack([-np.logaddexp(0.0, -score), np.logaddexp(0.0, score)], axis=1)
    ends = np.array([-np.inf, *knots, np.inf])
    pieces = [
        np.clip(score, low, high) - (low if np.isfinite(low) else 0.0)
        for low, high in pairwise(ends)
    ]
    return np.stack(pieces, axis=1)


def _knots(score: Floats, is_lens: Flags, weight: Floats) -> tuple[float, ...]:
    """Scores of the false-positive rates `KNOTS` that have enough of both classes above them."""
    order = np.argsort(score)
    ascending = score[order]
    negative = np.where(is_lens, 0.0, weight)[order]
    above = np.cumsum(negative[::-1])[::-1] / negative.sum()
    made: list[float] = []
    for rate in KNOTS:
        at = float(ascending[min(int(np.searchsorted(-above, -rate)), len(score) - 1)])
        beyond = score > at
        n = min(logistic.effective(weight[beyond & mine]) for mine in (is_lens, ~is_lens))
        if n >= BEYOND and at > (made[-1] if made else -np.inf):
            made.append(at)
    return tuple(made)


def _ceiling(negatives: Negatives, lenses: Side, at: Floats | None) -> tuple[Floats, Floats]:
    """Steps of the highest log likelihood ratio that the data support.

    Above each of the scores `at` (None: of the negatives, their equals once) lies a set of
    galaxies with a TPR and an upper limit of the FPR; a score may claim the largest ratio of the
    sets that it belongs to.
    """
    if at is None:
        at = np.unique(negatives.side.score)
    kept = np.stack(
        [s.count_from(np.searchsorted(s.score, at, side="right")) for s in negatives.kinds.values()]
    )
    rate, variance = negatives.weight @ kept, negatives.weight**2 @ kept
    largest = float(negatives.weight.max())
    mean, spread = rate + largest, variance + largest**2
    upper = special.gammaincinv(mean**2 / spread, 1 - TAIL) * spread / mean
    tpr = lenses.share_from(np.searchsorted(lenses.score, at, side="right"))
    with np.errstate(divide="ignore"):
        ratio = np.log(tpr) - np.log(np.minimum(upper, 1.0))
    return at, np.maximum.accumulate(np.append(0.0, ratio))
