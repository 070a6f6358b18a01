"""Logistic regression with slopes that are not negative: what stacking and calibration are made of.

Classes are weighed to a stated share of lenses, and the regression's constant is given back without
it, so that the value of a fit is a log likelihood ratio: ln P(x | lens) / P(x | no lens). The share
says where the regression looks hardest: rows weigh p(1 - p), which is largest where the likelihood
ratio is 1 / share. Slopes that are not negative keep a more lens-like score more lens-like.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

LARGEST = 30.0  # prior spread of a slope, logits per standard deviation: finite if classes separate


@dataclass(frozen=True, slots=True)
class Line:
    """A log likelihood ratio that is linear in its features.

    Attributes:
        intercept: Its value where all features are 0.
        slopes: Of each feature, shape (k,), >= 0.
    """

    intercept: float
    slopes: Floats

    def __call__(self, features: Floats) -> Floats:
        """Log likelihood ratios, shape (n,), of features of shape (n, k)."""
        return np.asarray(features @ self.slopes + self.intercept)


def fit(
    features: Floats, is_lens: Flags, weight: Floats, *, share: float, alike: float | None = None
) -> Line:
    """The likeliest line.

    Args:
        features: Shape (n, k), finite.
        is_lens: Truth, shape (n,); both classes are there.
        weight: What each row counts, shape (n,), >= 0; of a class only the ratios matter.
        share: Share of lenses that the classes are weighed to, in (0, 1).
        alike: Prior spread of each slope about their mean, both in logits per standard deviation
            of the feature: with few data the slopes are equal. None: no such prior.

    Returns:
        The line; the share is taken off its intercept.
    """
    mass = masses(is_lens, weight, share)
    mean = mass @ features / mass.sum()
    spread = np.sqrt(mass @ (features - mean) ** 2 / mass.sum())
    spread = np.where(spread > 0, spread, 1.0)
    x = (features - mean) / spread
    k = x.shape[1]
    target = is_lens.astype(np.float64)

    def loss(at: Floats) -> tuple[float, Floats]:
        value = x @ at[1:] + at[0]
        slope = at[1:]
        total = float(mass @ (np.logaddexp(0.0, value) - target * value))
        pull = mass * (special.expit(value) - target)
        down = np.append(pull.sum(), pull @ x)
        total += float(slope @ slope) / (2 * LARGEST**2)
        down[1:] += slope / LARGEST**2
        if alike is not None:
            apart = slope - slope.mean()
            total += float(apart @ apart) / (2 * alike**2)
            down[1:] += apart / alike**2
        return total, down

    start = np.append(special.logit(share), np.full(k, 1.0 / k))
    found: Any = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), *[(0.0, None)] * k],
        options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-7},
    )
    slopes = found.x[1:] / spread
    return Line(float(found.x[0] - slopes @ mean - special.logit(share)), np.asarray(slopes))


def masses(is_lens: Flags, weight: Floats, share: float) -> Floats:
    """Weights whose lenses add up to their effective number (Kish 1965), shape (n,).

    The negatives add up to as much as makes the lenses a `share` of all.
    """
    lens = np.where(is_lens, weight, 0.0)
    negative = np.where(is_lens, 0.0, weight)
    n = effective(lens)
    return np.asarray(n * (lens / lens.sum() + negative / negative.sum() * (1 - share) / share))


def effective(weight: Floats) -> float:
    """Rows of equal weight that carry as much (Kish 1965).

    Examples:
        >>> effective(np.array([1.0, 1.0, 0.0])), effective(np.array([3.0, 1.0]))
        (2.0, 1.6)
    """
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def log_loss(llr: Floats, is_lens: Flags, weight: Floats, *, share: float) -> float:
    """Mean log-loss, nats, at a share of lenses.

    Args:
        llr: Log likelihood ratios, shape (n,).
        is_lens: Truth, shape (n,).
        weight: What each row counts within its class, shape (n,).
        share: Share of lenses, in (0, 1).
    """
    mass = masses(is_lens, weight, share)
    value = llr + special.logit(share)
    losses = np.logaddexp(0.0, np.where(is_lens, -value, value))
    return float(mass @ losses / mass.sum())
