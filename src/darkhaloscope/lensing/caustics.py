"""Where a source has to lie to be seen more than once: the caustics of an SIE with external shear.

NumPy, float64, batched: a parameter has shape (n,), one value a lens. Positions are arcsec from the
lens centre, angles radians from +x towards +y, as in `lensing.profiles`.

A singular isothermal lens of potential r F(angle) maps the ray at polar angle phi and radius r to
(1 - G) r e(phi) - a(phi): its deflection a does not depend on r. Two closed curves follow. As
r -> 0 the image at the centre vanishes on the *cut* -a(phi), which is convex; where the Jacobian is
singular, at r = 2 kappa r (1 - g cos 2(phi - phi_g)) / (1 - g^2), lies the *tangential caustic*.
A source inside the cut has 2 images, one inside the tangential caustic 2 more, so the union of the
two is the multiply-imaged region: a cusp that pokes out of the cut ("naked") has 3.
(Kormann, Schneider & Bartelmann 1994, A&A 284, 285; Keeton, Mao & Witt 2000, ApJ 537, 697.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

NODES = 128  # over half a turn; both curves are symmetric about the centre
CHUNK_ROWS = 2048
_ROUND = 1e-6  # below this f = sqrt(1 - q^2) the round form is right to f^2


@dataclass(frozen=True, slots=True)
class Caustics:
    """The two curves as polygons: `NODES` points over half a turn, shape (n, NODES) each.

    Attributes:
        cut_x: Cut, x, arcsec; the other half is its reflection through the centre.
        cut_y: Cut, y, arcsec.
        tangential_x: Tangential caustic, x, arcsec.
        tangential_y: Tangential caustic, y, arcsec.
    """

    cut_x: Values
    cut_y: Values
    tangential_x: Values
    tangential_y: Values

    def take(self, rows: NDArray[np.intp]) -> "Caustics":
        """The curves of some of the lenses."""
        return Caustics(
            self.cut_x[rows], self.cut_y[rows], self.tangential_x[rows], self.tangential_y[rows]
        )

    def contains(self, x: Values, y: Values) -> NDArray[np.bool_]:
        """Whether a source at (x, y), arcsec, one a lens, has at least two images; shape (n,)."""
        inside = self._gauge(x[:, None], y[:, None])[:, 0] < 1
        rows = np.flatnonzero(~inside)
        reach = np.hypot(self.tangential_x[rows], self.tangential_y[rows]).max(1, initial=0.0)
        rows = rows[np.hypot(x[rows], y[rows]) < reach]
        inside[rows] = self.take(rows)._winds_around(x[rows], y[rows])
        return inside

    def reach(self) -> Values:
        """Radius of a disc about the centre that holds the region, arcsec, shape (n,)."""
        cut = np.hypot(self.cut_x, self.cut_y).max(1, initial=0.0)
        tangential = np.hypot(self.tangential_x, self.tangential_y).max(1, initial=0.0)
        return np.asarray(np.maximum(cut, tangential))

    def area(self) -> Values:
        """Area of the region, arcsec^2, shape (n,): the cut, and what pokes out of it."""
        area = _twice_area(self.cut_x, self.cut_y).sum(1)
        outside = self._gauge(self.tangential_x, self.tangential_y, needed=self._may_be_naked())
        beyond = np.where(outside > 1, 1 - 1 / np.maximum(outside, 1) ** 2, 0.0)
        tangential = np.abs(_twice_area(self.tangential_x, self.tangential_y))
        share = (beyond + _next(beyond, sign=1)) / 2
        return np.asarray(area + (tangential * share).sum(1))

    def _may_be_naked(self) -> NDArray[np.bool_]:
        """Lenses whose tangential caustic is not inside the cut's inscribed circle, shape (n,)."""
        inner = np.hypot(self.cut_x, self.cut_y).min(1, initial=np.inf)
        return np.asarray(
            np.hypot(self.tangential_x, self.tangential_y).max(1, initial=0.0) > inner
        )

    def _gauge(self, x: Values, y: Values, needed: NDArray[np.bool_] | None = None) -> Values:
        """How many times the cut must grow to hold each of the points (n, m); below 1: inside.

        The polygon lies within the curve, so a point that counts as inside is inside.
        """
        gauge = np.zeros(np.broadcast_shapes(x.shape, (len(self.cut_x), 1)))
        rows = np.arange(len(gauge)) if needed is None else np.flatnonzero(needed)
        dx, dy = (_next(c[rows], sign=-1) - c[rows] for c in (self.cut_x, self.cut_y))
        height = self.cut_x[rows] * dy - self.cut_y[rows] * dx  # 2 x triangle with the centre, > 0
        safe = np.where(height > 0, height, np.inf)
        for start in range(0, len(rows), 64):  # (64, m, NODES) stays in the cache
            part = slice(start, start + 64)
            at = rows[part]
            along = x[at][:, :, None] * (dy / safe)[part][:, None, :]
            along -= y[at][:, :, None] * (dx / safe)[part][:, None, :]
            gauge[at] = np.abs(along).max(2)  # abs: the reflected half
        no_lens = ~(height > 0).all(1)
        gauge[rows[no_lens]] = np.inf
        return gauge

    def _winds_around(self, x: Values, y: Values) -> NDArray[np.bool_]:
        """Whether the tangential caustic goes round the point at least once, shape (n,)."""
        px = np.concatenate([self.tangential_x, -self.tangential_x], 1) - x[:, None]
        py = np.concatenate([self.tangential_y, -self.tangential_y], 1) - y[:, None]
        qx, qy = np.roll(px, -1, 1), np.roll(py, -1, 1)
        turn = np.arctan2(px * qy - py * qx, px * qx + py * qy).sum(1)
        return np.asarray(np.abs(turn) > np.pi)


def caustics(
    *, theta_e: ArrayLike, q: ArrayLike, phi: ArrayLike, shear: ArrayLike, shear_phi: ArrayLike
) -> Caustics:
    """Cut and tangential caustic of n lenses.

    Args:
        theta_e: Einstein radius, arcsec, >= 0; 0 has no region, shape (n,).
        q: Axis ratio of the mass, minor over major, in (0, 1], shape (n,).
        phi: Position angle of the mass's major axis, radians, shape (n,).
        shear: External shear, in [0, 1), shape (n,).
        shear_phi: Direction along which the shear stretches images, radians, shape (n,).

    Raises:
        ValueError: a parameter is outside its range or NaN.
    """
    theta_e, q, phi, shear, shear_phi = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(p, np.float64)) for p in (theta_e, q, phi, shear, shear_phi))
    )
    _require(theta_e >= 0, theta_e, "theta_e is a radius in arcsec, >= 0")
    _require((q > 0) & (q <= 1), q, "q is minor over major axis, in (0, 1]")
    _require((shear >= 0) & (shear < 1), shear, "shear is a strength in [0, 1)")

    angle = np.arange(NODES) * np.pi / NODES  # from the mass's major axis
    cos, sin = np.cos(angle), np.sin(angle)
    ratio = q[:, None]
    a_u, a_v = _deflection(cos, sin, ratio)
    two_kappa_r = 1 / np.sqrt(ratio * cos**2 + sin**2 / ratio)
    relative = 2 * (shear_phi - phi)[:, None]  # the shear, in the frame of the mass
    g1, g2 = shear[:, None] * np.cos(relative), shear[:, None] * np.sin(relative)
    along = g1 * np.cos(2 * angle) + g2 * np.sin(2 * angle)
    r = two_kappa_r * (1 - along) / (1 - shear[:, None] ** 2)
    b_u = r * ((1 - g1) * cos - g2 * sin) - a_u
    b_v = r * ((1 + g1) * sin - g2 * cos) - a_v
    curves = []
    for u, v in ((a_u, a_v), (b_u, b_v)):  # the cut is -a; so is its reflection
        curves += _turned(u * theta_e[:, None], v * theta_e[:, None], phi[:, None])
    return Caustics(*curves)


def multiply_imaged(
    src_x: ArrayLike,
    src_y: ArrayLike,
    *,
    theta_e: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
    shear: ArrayLike,
    shear_phi: ArrayLike,
) -> NDArray[np.bool_]:
    """Whether a source has two or more images, the singular central one not counted.

    Args:
        src_x: Source, arcsec from the lens centre, shape (n,).
        src_y: Source, arcsec from the lens centre, shape (n,).
        theta_e: Einstein radius, arcsec, shape (n,); this and the rest as in `caustics`.
        q: Axis ratio of the mass.
        phi: Position angle of its major axis, radians.
        shear: External shear.
        shear_phi: Its direction, radians.

    Returns:
        Flags of shape (n,). The border is right to 1e-4 theta_e, and errs towards "not".

    Examples:
        >>> round_lens = {"theta_e": 1.0, "q": 1.0, "phi": 0.0, "shear": 0.0, "shear_phi": 0.0}
        >>> lens = {name: [value] * 2 for name, value in round_lens.items()}
        >>> multiply_imaged([0.99, 1.01], [0.0, 0.0], **lens).tolist()
        [True, False]
    """
    x, y = (np.atleast_1d(np.asarray(p, np.float64)) for p in (src_x, src_y))
    lens = _columns(theta_e, q, phi, shear, shear_phi)
    parts = [
        caustics(**{k: v[i : i + CHUNK_ROWS] for k, v in lens.items()}).contains(
            x[i : i + CHUNK_ROWS], y[i : i + CHUNK_ROWS]
        )
        for i in range(0, len(x), CHUNK_ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def multiply_imaged_area(
    *, theta_e: ArrayLike, q: ArrayLike, phi: ArrayLike, shear: ArrayLike, shear_phi: ArrayLike
) -> Values:
    """Area of the multiply-imaged region, arcsec^2, shape (n,); right to 0.2 %."""
    lens = _columns(theta_e, q, phi, shear, shear_phi)
    starts = range(0, len(lens["theta_e"]), CHUNK_ROWS)
    parts = [caustics(**{k: v[i : i + CHUNK_ROWS] for k, v in lens.items()}).area() for i in starts]
    return np.concatenate(parts) if parts else np.zeros(0)


def caustic_reach(
    *, theta_e: ArrayLike, q: ArrayLike, phi: ArrayLike, shear: ArrayLike, shear_phi: ArrayLike
) -> Values:
    """Radius about the lens centre that holds the multiply-imaged region, arcsec, shape (n,)."""
    return caustics(theta_e=theta_e, q=q, phi=phi, shear=shear, shear_phi=shear_phi).reach()


def _deflection(cos: Values, sin: Values, q: Values) -> tuple[Values, Values]:
    """Deflection of the SIE of theta_e 1 along and across its major axis, shape (n, NODES)."""
    f = np.sqrt((1 - q) * (1 + q))
    safe = np.where(f > _ROUND, f, 1.0)
    psi = np.sqrt(q**2 * cos**2 + sin**2)
    a_u = np.where(f > _ROUND, np.sqrt(q) / safe * np.arctan(safe * cos / psi), cos)
    within = np.where(f > _ROUND, f * sin / psi, 0.0)  # at most f
    return a_u, np.where(f > _ROUND, np.sqrt(q) / safe * np.arctanh(within), sin)


def _turned(u: Values, v: Values, phi: Values) -> list[Values]:
    """From the mass's frame to the grid's."""
    cos, sin = np.cos(phi), np.sin(phi)
    return [cos * u - sin * v, sin * u + cos * v]


def _next(values: Values, *, sign: int) -> Values:
    """The following node; after the last, the other half's first: `sign` times this one's."""
    return np.concatenate([values[:, 1:], sign * values[:, :1]], 1)


def _twice_area(x: Values, y: Values) -> Values:
    """Twice the triangles between the centre and each side: half a turn's sum is the area."""
    return x * _next(y, sign=-1) - y * _next(x, sign=-1)


def _columns(*values: ArrayLike) -> dict[str, Values]:
    names = ("theta_e", "q", "phi", "shear", "shear_phi")
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in values))
    return dict(zip(names, arrays, strict=True))


def _require(holds: NDArray[np.bool_], value: Values, meaning: str) -> None:
    if not holds.all():
        row = int(np.flatnonzero(~holds)[0])
        raise ValueError(f"{meaning}; got {value[row]:.4g} in row {row}")
