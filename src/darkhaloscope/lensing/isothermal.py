"""Whether an isothermal lens could have its images at given places.

NumPy, float64, batched over n sets of k positions. The lens is a singular isothermal ellipsoid
(`profiles.sie_deflection`) at the origin, with no external shear, its axis given; Einstein radius,
axis ratio and source are free. Its deflection depends on direction alone, alpha = theta_E f(phi),
so that an image at the angle phi lies at r = beta . e_r + theta_E f_r, where beta . e_t +
theta_E f_t = 0 (beta is the source, e_r and e_t are the unit vectors along and across the radius).
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

AXIS_RATIOS = (0.4, 1.0)  # of the mass; rounder and flatter lenses are rare
_STARTS = (0.4, 0.7, 0.95)  # axis ratios from which the fit begins
_STEPS = ((5, 3.0), (6, 15.0), (6, 60.0))  # how many, and how strictly the lens equation is held
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e6
_ROUNDEST = 0.9995  # the formula's limit at q = 1 is 0/0
_DQ = 1e-4
_LEAST_THETA_E = 1e-3


def deflection(phi: Values, q: Values) -> tuple[Values, Values]:
    """Along and across the radius, at the angle phi from the major axis, of theta_E = 1.

    Args:
        phi: Angles, any shape.
        q: Axis ratios, broadcast to it.
    """
    q = np.minimum(q, _ROUNDEST)
    cos, sin = np.cos(phi), np.sin(phi)
    flat = np.sqrt(1 - q**2)
    psi = np.sqrt((q * cos) ** 2 + sin**2)
    u = np.sqrt(q) / flat * np.arctan(flat * cos / psi)
    v = np.sqrt(q) / flat * np.arctanh(flat * sin / psi)
    return u * cos + v * sin, v * cos - u * sin


def misfit_arcsec(x: Values, y: Values, axis_phi: Values) -> Values:
    """How far the images of the best isothermal lens are from given positions, rms, arcsec, (n,).

    A least-squares fit in the image plane, from three axis ratios and the source that fits best in
    the source plane. A set of one position is fitted by any lens: 0.

    Args:
        x: Positions from the lens's centre, arcsec, (n, k); NaN where a set has fewer.
        y: The same along y.
        axis_phi: Position angle of the lens's major axis, radians, (n,).

    Returns:
        Of 120 random sets of 2 and 3 positions a global search found none better by 0.02 where its
        own best was below 0.5"; beyond, 5 sets. Positions on an Einstein ring count as fitted,
        wherever on it they are: the lens equation is held to some 0.001". Positions at the
        lens's centre are fitted by a lens without mass.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if x.ndim != 2 or y.shape != x.shape or axis_phi.shape != x.shape[:1]:
        raise ValueError(
            f"x and y are sets of positions, (n, k), and axis_phi is (n,); got {x.shape}, "
            f"{y.shape} and {axis_phi.shape}"
        )
    n, k = x.shape
    if k < 2 or not n:
        return np.zeros(n)
    cos, sin = np.cos(axis_phi)[:, None], np.sin(axis_phi)[:, None]
    is_there = np.isfinite(x)
    x, y = np.where(is_there, x, 1.0), np.where(is_there, y, 0.0)
    seen = np.stack([cos * x + sin * y, cos * y - sin * x], -1)
    tiles = len(_STARTS)
    found = _fitted(
        np.tile(seen, (tiles, 1, 1)),
        np.tile(is_there.astype(np.float64), (tiles, 1)),
        np.repeat(_STARTS, n),
    )
    return np.asarray(found.reshape(len(_STARTS), n).min(0))


def _fitted(seen: Values, there: Values, q: Values) -> Values:
    """Misfit of sets of positions (n, k, 2) in the lens's frame, begun at axis ratios (n,).

    `there` is 1 for a position that counts, 0 for one that does not, (n, k).
    """
    phi = np.arctan2(seen[..., 1], seen[..., 0])
    # Angles of the images; source; theta_E; q.
    values = np.concatenate([phi, _in_source_plane(seen, there, phi, q), q[:, None]], 1)
    damping = np.full(len(q), _DAMPING)
    for steps, strictness in _STEPS:
        gap, slope = _residuals(values, seen, there, strictness)
        cost = (gap**2).sum(1)
        for _ in range(steps):
            uphill = np.einsum("ni,ni->n", slope[:, :, -1], gap)
            slope[_is_held(values[:, -1], uphill), :, -1] = 0.0
            turned = slope.transpose(0, 2, 1)
            square, down = turned @ slope, (turned @ gap[:, :, None])[..., 0]
            diagonal = np.einsum("njj->nj", square)  # a view
            diagonal += damping[:, None] * (diagonal + 1e-6)
            tried = _within(values - np.linalg.solve(square, down[..., None])[..., 0])
            tried_gap, tried_slope = _residuals(tried, seen, there, strictness)
            tried_cost = (tried_gap**2).sum(1)
            better = tried_cost < cost
            values[better], gap[better] = tried[better], tried_gap[better]
            slope[better], cost[better] = tried_slope[better], tried_cost[better]
            damping = np.where(better, damping / 5, damping * 4)
            damping = np.clip(damping, _LEAST_DAMPING, _MOST_DAMPING)
    return np.asarray(np.sqrt(cost / np.maximum(there.sum(1), 1)))


def _in_source_plane(seen: Values, there: Values, phi: Values, q: Values) -> Values:
    """Source and theta_E, (n, 3), for which the positions' rays come closest to each other."""
    radial, across = deflection(phi, q[:, None])
    cos, sin = np.cos(phi), np.sin(phi)
    bent = np.stack([radial * cos - across * sin, radial * sin + across * cos], -1)
    weight = (there / np.maximum(there.sum(1, keepdims=True), 1))[..., None]
    seen_mean, bent_mean = ((weight * at).sum(1, keepdims=True) for at in (seen, bent))
    spread = (weight * (bent - bent_mean) ** 2).sum((1, 2))
    shared = (weight * (seen - seen_mean) * (bent - bent_mean)).sum((1, 2))
    theta_e = shared / np.maximum(spread, 1e-12)
    theta_e = np.maximum(theta_e, _LEAST_THETA_E)
    source = seen_mean[:, 0] - theta_e[:, None] * bent_mean[:, 0]
    return np.concatenate([source, theta_e[:, None]], 1)


def _residuals(
    values: Values, seen: Values, there: Values, strictness: float
) -> tuple[Values, Values]:
    """Distances along x and y of images from positions, and of the lens equation: (n, 3k).

    With their derivatives by the values, (n, 3k, k + 4): those by an image's angle are g e_r + r
    e_t of its place and theta_E h - r of the lens equation g, where h = f_r + df_t / dphi.
    """
    n, k, _ = seen.shape
    phi, source, theta_e, q = values[:, :k], values[:, k:-2], values[:, -2:-1], values[:, -1:]
    cos, sin = np.cos(phi), np.sin(phi)
    f_r, f_t = deflection(phi, q)
    less_r, less_t = deflection(phi, q - _DQ)
    q_r, q_t = (f_r - less_r) / _DQ, (f_t - less_t) / _DQ
    beta_x, beta_y = source[:, :1], source[:, 1:]
    r = beta_x * cos + beta_y * sin + theta_e * f_r
    g = beta_y * cos - beta_x * sin + theta_e * f_t
    h = 1 / np.sqrt(q * cos**2 + sin**2 / q)

    gap = np.empty((n, 3, k))
    gap[:, 0], gap[:, 1] = r * cos - seen[..., 0], r * sin - seen[..., 1]
    gap[:, 2] = strictness * g
    slope = np.zeros((n, 3, k, k + 4))
    own = np.arange(k)
    slope[:, 0, own, own] = g * cos - r * sin
    slope[:, 1, own, own] = g * sin + r * cos
    slope[:, 2, own, own] = strictness * (theta_e * h - r)
    along = (cos, sin, f_r, theta_e * q_r)  # dr by source x, y, theta_E, q
    across = (-sin, cos, f_t, theta_e * q_t)
    for place, (dr, dg) in enumerate(zip(along, across, strict=True)):
        slope[:, 0, :, k + place] = dr * cos
        slope[:, 1, :, k + place] = dr * sin
        slope[:, 2, :, k + place] = strictness * dg
    gap *= there[:, None]
    slope *= there[:, None, :, None]
    return gap.reshape(n, 3 * k), slope.reshape(n, 3 * k, k + 4)


def _is_held(q: Values, uphill: Values) -> NDArray[np.bool_]:
    """Whether a step would take q out of its range, so that the others have to move alone."""
    least, most = AXIS_RATIOS
    return ((q <= least) & (uphill > 0)) | ((q >= most) & (uphill < 0))


def _within(values: Values) -> Values:
    """Values of a lens: theta_E above 0, q in its range."""
    values[:, -2] = np.maximum(values[:, -2], _LEAST_THETA_E)
    values[:, -1] = np.clip(values[:, -1], *AXIS_RATIOS)
    return values
