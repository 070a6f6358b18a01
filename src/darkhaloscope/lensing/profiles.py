"""Lens mass profiles: where a light ray comes from.

Batched: a parameter has shape (n,), one value a lens; points and results have shape (n, ...), with
the device and precision of the points. Angles on the sky are arcsec from the lens centre, x to the
right and y up on the pixel grid; position angles are radians from +x towards +y.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

Part = slice | Tensor  # of the rows of a batch: a range, their numbers, or a mask

_IS_CHECKED = ContextVar("is_checked", default=False)
_THETA_E = "theta_e is a radius in arcsec, >= 0"
_Q = "q is minor over major axis, in (0, 1]"
_SHEAR = "shear is a strength in [0, 1)"


@dataclass(frozen=True, slots=True)
class Lens:
    """Singular isothermal ellipsoids with external shear, centred on their hosts; each (n,).

    Attributes:
        theta_e: Einstein radius, arcsec, >= 0; 0 where there is no lens, but perhaps a shear.
        q: Axis ratio of the mass, minor over major, in (0, 1].
        phi: Position angle of its major axis, radians.
        shear: Strength of the external shear, in [0, 1).
        shear_phi: Direction along which it stretches images, radians.
    """

    theta_e: Tensor
    q: Tensor
    phi: Tensor
    shear: Tensor
    shear_phi: Tensor

    def __post_init__(self) -> None:
        """Refuse parameters outside their ranges."""
        require(self.theta_e.isfinite() & (self.theta_e >= 0), self.theta_e, _THETA_E)
        require((self.q > 0) & (self.q <= 1), self.q, _Q)
        require((self.shear >= 0) & (self.shear < 1), self.shear, _SHEAR)

    @classmethod
    def none(cls, like: Tensor) -> "Lens":
        """No lens at all, for each row of `like`, shape (n,)."""
        zero, one = torch.zeros_like(like), torch.ones_like(like)
        return cls(theta_e=zero, q=one, phi=zero, shear=zero, shear_phi=zero)


def sie_deflection(
    x: Tensor, y: Tensor, *, theta_e: Tensor, q: Tensor, phi: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Deflection angle of a singular isothermal ellipsoid.

    The convergence, in the frame (u, v) of the major axis, is

    .. math:: \kappa(u, v) = \theta_E / (2 \sqrt{q u^2 + v^2 / q})

    so that the critical curve encloses the area pi theta_e^2, whatever `q`.

    Args:
        x: Position in the image plane, arcsec, shape (n, ...), or (1, ...) for all lenses alike.
        y: Position in the image plane, arcsec, the shape of `x`.
        theta_e: Einstein radius, arcsec, >= 0, shape (n,).
        q: Axis ratio of the mass, minor over major, in (0, 1], shape (n,).
        phi: Position angle of the major axis, radians, shape (n,).

    Returns:
        The deflection along x and along y, arcsec, shape (n, ...). A ray seen at (x, y) left the
        source plane at (x - ax, y - ay). At the lens centre both are 0. In float32 they are within
        2e-6 theta_e of float64 for q >= 0.2.

    Raises:
        ValueError: `q` is outside (0, 1] or `theta_e` is negative, or one of them NaN, in any row.

    References:
        Kormann, Schneider & Bartelmann 1994, A&A 284, 285; Keeton 2001, arXiv:astro-ph/0102341.

    Examples:
        >>> x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.5]])
        >>> theta_e, q, phi = torch.tensor([[1.2, 1.2], [1.0, 0.5], [0.0, 0.0]])
        >>> ax, ay = sie_deflection(x, y, theta_e=theta_e, q=q, phi=phi)
        >>> [[round(a, 3) for a in row] for row in (ax + ay).tolist()]
        [[1.2, 1.2], [1.026, 1.29]]
    """
    require((q > 0) & (q <= 1), q, _Q)
    require(theta_e >= 0, theta_e, _THETA_E)
    theta_e, q, phi = (like(parameter, x) for parameter in (theta_e, q, phi))
    cos, sin = torch.cos(phi), torch.sin(phi)
    a_u, a_v = sie_angles(cos * x + sin * y, cos * y - sin * x, q)
    scale = theta_e * sie_scale(q, x.dtype)
    a_u, a_v = scale * a_u, scale * a_v
    return cos * a_u - sin * a_v, sin * a_u + cos * a_v


def sie_angles(u: Tensor, v: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by a singular isothermal ellipsoid in its own frame, but for `sie_scale`.

    The textbook form atan(f u / psi), atanh(f v / psi) is taken at half the angle, which keeps the
    argument of atanh below sqrt((1 - q) / (1 + q)), and both finite at the centre.

    Args:
        u: Position along the major axis, any unit, shape (n, ...).
        v: Position along the minor axis, the shape of `u`.
        q: Axis ratio in (0, 1], of a shape that broadcasts against `u`.

    Returns:
        What times theta_e `sie_scale` is the deflection along u and v, the shape of `u`.
    """
    f = _flattening(q, u.dtype)
    u2, v2 = u * u, v * v
    psi = torch.addcmul(v2, q * q, u2).sqrt_()
    r = u2.add_(v2).sqrt_()
    tiny = 1e-30  # 0 / tiny = 0 at the centre
    a_v = torch.addcmul(psi, q, r).add_(tiny)
    a_u = psi.add_(r).add_(tiny)
    a_u = torch.div(u, a_u, out=a_u).mul_(f).atan_()
    a_v = torch.div(v, a_v, out=a_v).mul_(f).atanh_()
    return a_u, a_v


def sie_scale(q: Tensor, dtype: torch.dtype) -> Tensor:
    """The factor that `sie_angles` leaves out, for an Einstein radius of 1; the shape of `q`."""
    return 2 * torch.sqrt(q) / _flattening(q, dtype)


def _flattening(q: Tensor, dtype: torch.dtype) -> Tensor:
    """sqrt(1 - q^2), kept off 0: below the floor f the round form is right to f^2 / 24."""
    return torch.sqrt((1 - q) * (1 + q)).clamp_min(1e-3 if dtype == torch.float32 else 1e-6)


def shear_deflection(x: Tensor, y: Tensor, *, shear: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection angle of an external shear about the lens centre.

    Args:
        x: Position in the image plane, arcsec, shape (n, ...), or (1, ...) for all lenses alike.
        y: Position in the image plane, arcsec, the shape of `x`.
        shear: Strength, 0 or more, below 1, shape (n,).
        phi: Direction along which images are stretched, radians, shape (n,).

    Returns:
        The deflection along x and along y, arcsec, shape (n, ...): (g1 x + g2 y, g2 x - g1 y) with
        g1 = shear cos 2 phi, g2 = shear sin 2 phi.

    Raises:
        ValueError: `shear` is outside [0, 1) or NaN in any row.
    """
    require((shear >= 0) & (shear < 1), shear, _SHEAR)
    g1, g2 = (like(part, x) for part in (shear * torch.cos(2 * phi), shear * torch.sin(2 * phi)))
    return g1 * x + g2 * y, g2 * x - g1 * y


def like(parameter: Tensor, points: Tensor) -> Tensor:
    """A parameter of shape (n,) in a shape that broadcasts against `points` (n, ...)."""
    return parameter.reshape(-1, *[1] * (points.ndim - 1))


@contextmanager
def checked() -> Iterator[None]:
    """Pass over `require` in this thread: the same numbers were checked on the host before.

    On a GPU each check waits for all that was asked of it so far.
    """
    token = _IS_CHECKED.set(True)
    try:
        yield
    finally:
        _IS_CHECKED.reset(token)


def is_checked() -> bool:
    """Whether `require` is passed over now, so that what it would be asked need not be made."""
    return _IS_CHECKED.get()


def require(holds: Tensor, value: Tensor, meaning: str) -> None:
    """Refuse a batch with a row outside its range; waits for the device once, not per row.

    Raises:
        ValueError: `holds` is false somewhere; the message gives the first such value and its row.
    """
    if _IS_CHECKED.get():
        return
    if not bool(holds.all()):
        row = int(holds.logical_not().nonzero()[0][0])
        first = value[row][holds[row].logical_not()].flatten()[0]
        raise ValueError(f"{meaning}; got {float(first):.4g} in row {row}")
