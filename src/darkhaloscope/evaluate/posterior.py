"""The probability that a galaxy of the sky is a lens, given its score and how rare lenses are.

Monotone regression of truth on score (isotonic: Ayer et al. 1955; as a calibration Zadrozny & Elkan
2002) over the labelled galaxies of a set that was not trained on, both classes weighing the same in
all, moved by its odds to the prevalence on the sky. No shape is assumed: a logistic curve of two
parameters, fitted to scores that are not logistic, is wrong by factors of two to three in the tail,
which is all that matters where lenses are one in thousands.

Above the last negative the data claim certainty that they do not have. So one more negative, of the
largest weight that any has, stands above all scores, and one more lens below all: what `n`
negatives cannot show is not claimed, and 1 - p stays at or above what n + 1 of them support. Of
intervals that know weights, Fay & Feuer's (1997) adds the same.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from darkhaloscope.core import keys
from darkhaloscope.evaluate import sample, units
from darkhaloscope.evaluate.calibration import moved
from darkhaloscope.evaluate.intervals import TAIL, Draws
from darkhaloscope.evaluate.rows import Floats, Ints, Rows

EVEN = 0.5  # share of lenses that the regression is made at


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probabilities of being a lens, each of shape (n,).

    Attributes:
        p: As the labelled galaxies have it.
        low: Lower end of its 95 % interval, over samples of labelled galaxies.
        high: Upper end.
    """

    p: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Expected:
    """How many lenses there are among some galaxies.

    Attributes:
        value: Sum of their probabilities.
        low: Lower end of a 95 % interval for the number itself.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Class:
    """One class: its scores, what each weighs, and the galaxy that each is drawn with."""

    score: Floats
    weight: Floats
    galaxy: Ints


def of_scores(score: Floats, labelled: Rows, *, prevalence: float, draws: Draws) -> Posterior:
    """The probability of a lens at each score.

    Args:
        score: Scores of galaxies of the sky, shape (n,).
        labelled: Scored stamps of known truth; negatives weigh as on the sky, a galaxy once a kind,
            with its highest score; lenses as their population has it, a galaxy once.
        prevalence: Lenses of that population per target of the sky.
        draws: Of the interval: a Bayesian bootstrap (Rubin 1981) of the galaxies.

    Raises:
        ValueError: a score is NaN, or the prevalence is no share.

    Examples:
        >>> from darkhaloscope.evaluate.rows import rows
        >>> known = rows(score=np.arange(20.0), is_lens=np.arange(20) >= 10)
        >>> found = of_scores(np.array([2.0, 15.0]), known, prevalence=0.01, draws=Draws(1))
        >>> found.p.round(4).tolist()
        [0.001, 0.0917]
    """
    if not 0 < prevalence < 1 or np.isnan(score).any():
        raise ValueError(
            f"a prevalence lies within 0 and 1 and no score is NaN; got {prevalence:g} and "
            f"{int(np.isnan(score).sum())} NaN of {len(score)}"
        )
    lens, negative = _lenses(labelled), _negatives(labelled)
    regression = _regression(score, lens, negative)
    even = regression.at(lens.weight, negative.weight)
    drawn = np.empty((draws.n, len(score)), np.float32)
    for b in range(draws.n):
        weights = (
            c.weight * _exponential(c.galaxy, draws.seed, f"{name} {b}")
            for name, c in (("lens", lens), ("negative", negative))
        )
        drawn[b] = regression.at(*weights)
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL], axis=0) if len(score) else (even, even)
    p, low, high = (moved(v.astype(np.float64), at=EVEN, to=prevalence) for v in (even, low, high))
    return Posterior(p, np.minimum(low, p), np.maximum(high, p))


def expected(p: Floats, low: Floats, high: Floats) -> Expected:
    """How many of some galaxies are lenses, of whom each is one with a probability p.

    The interval holds both what the probabilities do not know, all taken to err together, and
    chance: Poisson's distribution, which is no narrower than that of a sum of such draws.

    Examples:
        >>> expected(np.full(256, 1 / 64), np.full(256, 1 / 128), np.full(256, 1 / 32))
        Expected(value=4.0, low=0.0, high=14.0)
    """
    least, most = float(low.sum()), float(high.sum())
    return Expected(float(p.sum()), _poisson(TAIL, least), _poisson(1 - TAIL, most))


def _poisson(share: float, mean: float) -> float:
    """Least whole number that a Poisson variable is at or below with this probability."""
    if not mean > 0:
        return 0.0
    k = max(0.0, float(np.floor(special.pdtrik(share, mean))))
    while special.pdtr(k, mean) < share:
        k += 1
    return k


def _lenses(labelled: Rows) -> _Class:
    side = sample.lenses(labelled)
    assert side.members is not None  # noqa: S101  (rows without a lens are refused at the door)
    return _Class(side.score, side.members.weight, side.members.host.astype(np.int64))


def _negatives(labelled: Rows) -> _Class:
    unit = units.negative_units(labelled)
    on_sky = sample.weigh(unit, to_sky=True)
    used = np.isin(unit.kind, [unit.names.index(name) for name in on_sky.names])
    weight = on_sky.weight[on_sky.kind]
    return _Class(on_sky.side.score, weight, labelled.galaxy[unit.row[used]])


def _exponential(galaxy: Ints, seed: int, stream: str) -> Floats:
    """A weight of mean 1 for each galaxy."""
    return -np.log1p(-keys.uniform(galaxy, seed=seed, stream=f"posterior {stream}"))


@dataclass(frozen=True, slots=True)
class _Regression:
    """Where the labelled galaxies and the scores asked for stand among the different scores."""

    knots: int
    lens: Ints
    negative: Ints
    spare: tuple[float, float]  # weight of one more lens below all, of one more negative above
    asked: Ints

    def at(self, lens: Floats, negative: Floats) -> Floats:
        """Share of lenses at the scores asked for, were both classes equally many; rising."""
        lenses = np.bincount(self.lens, lens / lens.sum(), self.knots)
        every = lenses + np.bincount(self.negative, negative / negative.sum(), self.knots)
        lenses[0] += self.spare[0]
        every[0] += self.spare[0]
        every[-1] += self.spare[1]
        return np.asarray(optimize.isotonic_regression(lenses / every, weights=every).x[self.asked])


def _regression(score: Floats, lens: _Class, negative: _Class) -> _Regression:
    """Different scores in their order, an end below and one above them."""
    known = np.unique(np.concatenate([lens.score, negative.score]))
    return _Regression(
        knots=len(known) + 2,
        lens=np.searchsorted(known, lens.score) + 1,
        negative=np.searchsorted(known, negative.score) + 1,
        spare=(
            float(lens.weight.max() / lens.weight.sum()),
            float(negative.weight.max() / negative.weight.sum()),
        ),
        # a score between two known ones is read at the lower
        asked=np.clip(np.searchsorted(known, score, side="right"), 1, len(known)),
    )
