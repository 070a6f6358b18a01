"""A smooth completeness: logistic regression on monotone splines, and whether it holds.

Two shares are fitted. Whether a lens is found follows from how far its images are apart in units of
the seeing, and how bright its source is against the noise: the logit is a smooth surface over
ln(theta_E / FWHM) and depth - magnitude. Whether the galaxy with the arc still is a target follows
from how much of the arc's light falls on it: a surface over ln theta_E and magnitude. Both have
terms linear in ln FWHM and in depth beside it. A surface is made of products of B-splines; where
their coefficients never fall from one to the next, what is found rises with theta_E and falls with
magnitude, everywhere. Where the injections deny that, a surface that may turn is taken instead, and
the fit says so. The share of targets is asked for no direction: brighter arcs change colours more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special, stats

from darkhaloscope.evaluate.clusters import TAIL
from darkhaloscope.evaluate.rows import Flags, Floats, Ints
from darkhaloscope.evaluate.selection_cells import AXES, Injections, alone

DEGREE = 2
STIFFNESS = 0.1  # neighbouring coefficients that differ by 3 cost half a unit of log likelihood
ROWS_PER_PIECE = 50_000
NORMAL = float(stats.norm.ppf(1 - TAIL))
DENIED = 0.999  # a shape is given up where the likelihood ratio is above this quantile

Of = Literal["found", "target"]
Shape = Literal["monotone", "monotone in magnitude", "free"]
NAMES: tuple[Of, ...] = ("found", "target")
SHAPES: tuple[Shape, ...] = ("monotone", "monotone in magnitude", "free")
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Surface:
    """The fitted logit.

    Attributes:
        of: Which share: found among the targets, or targets among the lenses.
        shape: What the coefficients hold to.
        knots: Knots of the splines along the two coordinates of the surface, ends included.
        spans: Least and largest ln FWHM, and depth, of the rows of the fit.
        coefficients: Shape (p,).
        covariance: Of the coefficients, by hosts and sources, shape (p, p).
        deviance: Minus twice the log likelihood of the rows of the fit.
    """

    of: Of
    shape: Shape
    knots: tuple[Floats, Floats]
    spans: tuple[Span, Span]
    coefficients: Floats
    covariance: Floats
    deviance: float

    def logit(self, at: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """Logit of the share and its standard error, shape (n,) each; `at` as in `Injections`."""
        design = _design(_coordinates(at, self.of), self.knots, self.spans)
        variance = np.einsum("ij,jk,ik->i", design, self.covariance, design, optimize=True)
        return np.asarray(design @ self.coefficients), np.sqrt(np.maximum(variance, 0))


def fitted(lenses: Injections, is_hit: Flags, of: Of) -> Surface:
    """The surface of one set of injections, each row counting once.

    Args:
        lenses: Injections whose coordinates are all known.
        is_hit: Which of them pass, some and not all, shape (n,).
        of: Which share it is.
    """
    at = _coordinates(lenses.at, of)
    n_segments = _segments(min(int(is_hit.sum()), int((~is_hit).sum())))
    knots = (_knots(at[0], n_segments), _knots(at[1], n_segments))
    spans = (_span(at[2]), _span(at[3]))

    design = _design(at, knots, spans)
    n_splines = [len(k) + DEGREE - 1 for k in knots]
    stiffness = _stiffness(*n_splines)

    def made(shape: Shape) -> tuple[Floats, float]:
        b = _newton(design, is_hit, stiffness, _risen(shape, *n_splines))
        return b, 2 * _loss(design, is_hit, b, 0 * stiffness)

    shape: Shape = "free"
    b, deviance = made(shape)
    limit = stats.chi2.ppf(DENIED, len(b)) * len(lenses) / len(np.unique(lenses.host))
    for asked in SHAPES[:-1] if of == "found" else ():
        held = made(asked)
        if held[1] - deviance <= limit:
            shape, (b, deviance) = asked, held
            break
    covariance = _covariance(design, is_hit, b, (lenses.host, lenses.source), stiffness)
    return Surface(of, shape, knots, spans, b, covariance, deviance)


def slope(logit: Floats, is_hit: Flags, host: Ints, source: Ints) -> dict[str, float]:
    """Logistic regression of what was found on a logit: 1 and 0 where the logit is true.

    Returns:
        The slope `value` with its 95 % interval `low`, `high`, and `intercept`. Rows cluster by
        host and source.
    """
    design = np.stack([np.ones(len(logit)), logit], 1)
    stiffness = 1e-6 * np.eye(2)
    b = _newton(design, is_hit, stiffness, np.zeros((0, 2)))
    spread = math.sqrt(_covariance(design, is_hit, b, (host, source), stiffness)[1, 1])
    low, high = b[1] - NORMAL * spread, b[1] + NORMAL * spread
    return {"value": float(b[1]), "low": low, "high": high, "intercept": float(b[0])}


def verdict(found: dict[str, float], tolerance: float) -> str:
    """Whether a slope is 1 within a tolerance, as far as its interval can tell.

    Examples:
        >>> verdict({"value": 0.97, "low": 0.9, "high": 1.04}, 0.1)
        'passed'
        >>> verdict({"value": 1.3, "low": 0.6, "high": 2.0}, 0.1)
        'not_resolvable'
        >>> verdict({"value": 1.3, "low": 1.2, "high": 1.4}, 0.1)
        'failed'
    """
    least, most = 1 - tolerance, 1 + tolerance
    if found["high"] < least or found["low"] > most:
        return "failed"
    if found["high"] - found["low"] > 2 * tolerance:
        return "not_resolvable"
    return "passed" if least <= found["value"] <= most else "failed"


def described(surface: Surface) -> dict[str, Any]:
    """The surface as plain values."""
    return {
        "kind": "surface",
        "of": surface.of,
        "shape": surface.shape,
        "degree": DEGREE,
        "knots": [k.tolist() for k in surface.knots],
        "spans": [list(span) for span in surface.spans],
        "coefficients": [_short(v) for v in surface.coefficients],
        "covariance": [[_short(v) for v in row] for row in surface.covariance],
        "deviance": _short(surface.deviance),
    }


def restored(text: Mapping[str, Any]) -> Surface:
    """The surface that `described` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    knots = [np.asarray(k, np.float64) for k in text["knots"]]
    spans = [(float(low), float(high)) for low, high in text["spans"]]
    coefficients = np.asarray(text["coefficients"], np.float64)
    covariance = np.asarray(text["covariance"], np.float64)
    if text["degree"] != DEGREE or text["shape"] not in SHAPES or text["of"] not in NAMES:
        raise ValueError("splines of another kind")
    made = Surface(
        text["of"],
        text["shape"],
        (knots[0], knots[1]),
        (spans[0], spans[1]),
        coefficients,
        covariance,
        float(text["deviance"]),
    )
    made.logit({name: np.ones(1) for name in AXES})  # shapes that do not fit are found here
    return made


def _coordinates(at: Mapping[str, Floats], of: Of) -> Floats:
    """What a logit is a function of, shape (4, n): two of the surface, ln FWHM, depth."""
    theta_e, src_mag, psf_fwhm, depth = (at[name] for name in AXES)
    if of == "found":
        surface = [np.log(theta_e / psf_fwhm), depth - src_mag]
    else:
        surface = [np.log(theta_e), -src_mag]
    return np.stack([*surface, np.log(psf_fwhm), depth])


def _design(at: Floats, knots: tuple[Floats, Floats], spans: tuple[Span, Span]) -> Floats:
    """Terms of the logit, shape (n, p): the surface, then ln FWHM and depth, from 0 to 1."""
    first, second = (_splines(at[i], knots[i]) for i in range(2))
    n_terms = first.shape[1] * second.shape[1]
    surface = (first[:, :, None] * second[:, None, :]).reshape(len(first), n_terms)
    linear = [(at[2 + i] - low) / (high - low) for i, (low, high) in enumerate(spans)]
    return np.concatenate([surface, np.stack(linear, 1)], 1)


def _steps(n_first: int, n_second: int) -> tuple[Floats, Floats]:
    """Differences of neighbouring coefficients along each coordinate, shape (k, p) each."""
    along_first = np.kron(np.diff(np.eye(n_first), axis=0), np.eye(n_second))
    along_second = np.kron(np.eye(n_first), np.diff(np.eye(n_second), axis=0))
    linear = ((0, 0), (0, 2))  # the two linear terms have no neighbours
    return np.pad(along_first, linear), np.pad(along_second, linear)


def _risen(shape: Shape, n_first: int, n_second: int) -> Floats:
    """What may not be negative for a shape, as combinations of coefficients, shape (k, p)."""
    first, second = _steps(n_first, n_second)
    held = {"monotone": [first, second], "monotone in magnitude": [second], "free": [first[:0]]}
    return np.concatenate(held[shape])


def _stiffness(n_first: int, n_second: int) -> Floats:
    """Penalty of the coefficients, shape (p, p): their steps, and hardly anything else."""
    steps = np.concatenate(_steps(n_first, n_second))
    return np.asarray(STIFFNESS * steps.T @ steps + 1e-3 * np.eye(steps.shape[1]))


def _splines(values: Floats, knots: Floats) -> Floats:
    """B-splines at values, which are cut to the knots' range: shape (n, m); rows add up to 1."""
    from scipy.interpolate import BSpline

    inside = np.clip(values, knots[0], knots[-1])
    padded = np.concatenate([[knots[0]] * DEGREE, knots, [knots[-1]] * DEGREE])
    if not len(values):  # which scipy refuses
        return np.zeros((0, len(padded) - DEGREE - 1))
    return np.asarray(BSpline.design_matrix(inside, padded, DEGREE).toarray())


def _segments(n_rarer: int) -> int:
    """Pieces of the splines that so many rows of the rarer outcome can tell: 1 to 4."""
    return int(np.clip(math.isqrt(n_rarer // 25), 1, 4))


def _knots(values: Floats, n_segments: int) -> Floats:
    """Quantiles of the values, ends included; where they coincide fewer."""
    low, high = _span(values)
    inner = np.quantile(values, np.linspace(0, 1, n_segments + 1)[1:-1])
    apart = (inner > low) & (inner < high)
    return np.concatenate([[low], np.unique(inner[apart]), [high]])


def _span(values: Floats) -> Span:
    """Least and largest value, kept apart where they are one."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _newton(design: Floats, is_hit: Flags, stiffness: Floats, risen: Floats) -> Floats:
    """Coefficients b of the penalised logistic regression with risen @ b >= 0, shape (p,).

    Every step solves the quadratic problem within these limits exactly.
    """
    b, loss = np.zeros(design.shape[1]), np.inf
    for _ in range(100):
        gradient, curvature, now = _derivatives(design, is_hit, b, stiffness)
        if loss - now < 1e-9 * max(1.0, abs(now)):
            break
        loss = now
        step = _step(gradient, curvature, risen, b)
        while _loss(design, is_hit, b + step, stiffness) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        b = b + step
    return b


def _step(gradient: Floats, curvature: Floats, risen: Floats, b: Floats) -> Floats:
    """The step d of least gradient @ d + d @ curvature @ d / 2 with risen @ (b + d) >= 0.

    With curvature = L L', z = L' d + L^-1 gradient is to be as short as possible: the problem of
    the least distance, which non-negative least squares solve (Lawson & Hanson 1974, chapter 23).
    """
    factor = linalg.cholesky(curvature, lower=True)
    pull = linalg.solve_triangular(factor, -gradient, lower=True)
    z = np.zeros_like(b)
    if len(risen):
        limits = linalg.solve_triangular(factor, risen.T, lower=True).T
        short = -(risen @ b + limits @ pull)
        if (short > 0).any():
            stacked = np.vstack([limits.T, short])
            wanted = np.append(np.zeros(len(b)), 1.0)
            u, _ = optimize.nnls(stacked, wanted, maxiter=50 * len(risen))
            rest = stacked @ u - wanted
            z = -rest[:-1] / rest[-1]
    return np.asarray(linalg.solve_triangular(factor.T, z + pull, lower=False))


def _loss(design: Floats, is_hit: Flags, b: Floats, stiffness: Floats) -> float:
    sign = np.where(is_hit, -1.0, 1.0)
    return float(np.logaddexp(0, sign * (design @ b)).sum() + b @ stiffness @ b / 2)


def _derivatives(
    design: Floats, is_hit: Flags, b: Floats, stiffness: Floats
) -> tuple[Floats, Floats, float]:
    """Gradient, curvature and value of the penalised loss, summed piece by piece."""
    gradient, curvature = stiffness @ b, stiffness.copy()
    for start in range(0, len(design), ROWS_PER_PIECE):
        rows = slice(start, start + ROWS_PER_PIECE)
        p = special.expit(design[rows] @ b)
        gradient = gradient + design[rows].T @ (p - is_hit[rows])
        curvature = curvature + (design[rows] * (p * (1 - p))[:, None]).T @ design[rows]
    return gradient, curvature, _loss(design, is_hit, b, stiffness)


def _covariance(
    design: Floats, is_hit: Flags, b: Floats, clusters: tuple[Ints, Ints], stiffness: Floats
) -> Floats:
    """Covariance of the coefficients with rows that cluster by host and by source.

    H^-1 M H^-1, H the curvature and M the sum of squares of the clusters' gradients: by host, plus
    by source, less by both (Cameron, Gelbach & Miller 2011). What the shape forbids is not thought
    of: where it binds, the true spread is smaller.
    """
    _, curvature, _ = _derivatives(design, is_hit, b, stiffness)
    pull = design * (is_hit - special.expit(design @ b))[:, None]
    host, source = (np.unique(c, return_inverse=True)[1] for c in (clusters[0], alone(clusters[1])))
    both = np.unique(host.astype(np.int64) * (source.max() + 1) + source, return_inverse=True)[1]
    meat = _squares(pull, host) + _squares(pull, source) - _squares(pull, both)
    values, vectors = linalg.eigh(meat)
    meat = (vectors * np.maximum(values, 0)) @ vectors.T
    inverse = linalg.inv(curvature)
    return np.asarray(inverse @ meat @ inverse)


def _squares(pull: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Sum over clusters of the outer product of their summed rows, shape (p, p)."""
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    total = np.add.reduceat(pull[order], starts, axis=0)
    return np.asarray(total.T @ total)


def _short(value: float) -> float:
    """Seven figures: the last bits of a sum differ between machines."""
    return float(f"{value:.7g}")
