"""Images of a point behind a lens, by brute force on lenstronomy's deflections.

The image plane is cut into triangles on polar grid lines round the lens, geometric in radius; each
is mapped into the source plane, and those that hold the source hold an image (Schneider, Ehlers &
Falco 1992, section 10.2), which Newton's method on lenstronomy's Hessian then finds. Nothing here
knows that an isothermal lens has a cut or a caustic, and no code of the package is used.
"""

from dataclasses import dataclass

import numpy as np
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian
from numpy.typing import NDArray

from darkhaloscope.bench.truth import Row

F8 = NDArray[np.float64]

_MODEL = LensModel(["SIE", "SHEAR"])
_INNERMOST, _OUTERMOST = 1e-5, 30.0  # of the radii, in theta_E


@dataclass(frozen=True)
class Images:
    """Images of one source: arcsec from the lens, and magnification with its parity; (k,) each."""

    x: F8
    y: F8
    magnification: F8

    def __len__(self) -> int:
        return len(self.x)


def keywords(row: Row) -> list[dict[str, float]]:
    """lenstronomy's parameters of a lens at the origin."""
    e1, e2 = phi_q2_ellipticity(phi=row.phi, q=row.q)
    g1, g2 = shear_polar2cartesian(phi=row.shear_phi, gamma=row.shear)
    return [{"theta_E": row.theta_e, "e1": e1, "e2": e2}, {"gamma1": g1, "gamma2": g2}]


def traced(row: Row, x: F8, y: F8) -> tuple[F8, F8]:
    """Where rays seen at (x, y), arcsec from the lens, leave the source plane."""
    at_x, at_y = _MODEL.ray_shooting(x, y, keywords(row))
    return at_x, at_y


def images(row: Row, n_radii: int = 140, n_angles: int = 160) -> Images:
    """All images of the source's centre, but for the singular one at the lens centre.

    One within a share of 1e-4 of theta_E of a fold is missed or found by chance.
    """
    inner = np.geomspace(_INNERMOST, 0.3, n_radii // 3, endpoint=False)
    middle = np.linspace(0.3, 2.0, n_radii - 2 * (n_radii // 3), endpoint=False)
    radius = row.theta_e * np.concatenate(
        [inner, middle, np.geomspace(2, _OUTERMOST, n_radii // 3)]
    )
    angle = 0.1 + np.arange(n_angles) * 2 * np.pi / n_angles
    r, phi = np.meshgrid(radius, angle)
    x, y = r * np.cos(phi), r * np.sin(phi)
    u, v = traced(row, x, y)
    u, v = u - row.src_x, v - row.src_y
    turned = [np.roll(part, -1, 0) for part in (x, y, u, v)]  # the next angle, round and round
    here = [(x, y, u, v), tuple(turned)]
    a, b = [part[:, :-1] for part in here[0]], [part[:, 1:] for part in here[0]]
    c, d = [part[:, :-1] for part in here[1]], [part[:, 1:] for part in here[1]]
    starts = []
    for corners in ((a, b, c), (d, c, b)):
        sides = [
            p[2] * q[3] - p[3] * q[2]
            for p, q in zip(corners, (*corners[1:], corners[0]), strict=True)
        ]
        held = (np.minimum.reduce(sides) > 0) | (np.maximum.reduce(sides) < 0)
        starts.append([np.mean([p[i][held] for p in corners], axis=0) for i in (0, 1)])
    near = solved(row, *np.concatenate(starts, axis=1), row.src_x, row.src_y)
    return solved(row, near.x, near.y, row.src_x, row.src_y)


def followed(row: Row, x: float, y: float, src_x: F8, src_y: F8) -> Images:
    """One image (x, y) of the source's centre, followed as the source moves to (src_x, src_y)."""
    here = Images(np.full_like(src_x, x), np.full_like(src_y, y), np.ones_like(src_x))
    for share in np.arange(1, 6) / 5:
        at_x, at_y = (
            row.src_x + share * (src_x - row.src_x),
            row.src_y + share * (src_y - row.src_y),
        )
        here = solved(row, here.x, here.y, at_x, at_y)
    return here


def solved(row: Row, x: F8, y: F8, src_x: F8 | float, src_y: F8 | float) -> Images:
    """Images that Newton's method reaches from (x, y), so starts have to be close."""
    lens = keywords(row)
    for _ in range(10):
        u, v = _MODEL.ray_shooting(x, y, lens)
        f_xx, f_xy, _, f_yy = _MODEL.hessian(x, y, lens)
        u, v = u - src_x, v - src_y
        det = (1 - f_xx) * (1 - f_yy) - f_xy**2
        dx, dy = ((1 - f_yy) * u + f_xy * v) / det, (f_xy * u + (1 - f_xx) * v) / det
        longest = np.minimum(0.05 * row.theta_e, 0.3 * np.hypot(x, y))  # none across the lens
        step = np.minimum(1, longest / np.maximum(np.hypot(dx, dy), 1e-300))
        x, y = x - step * dx, y - step * dy
    return Images(x, y, 1 / det)
