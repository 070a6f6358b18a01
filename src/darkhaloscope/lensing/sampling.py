"""How much of a lensed source's light falls into each fine cell: sampling where it matters.

Uniform supersampling cannot do it: for a Sersic index of 4 the cusp falls anywhere in a subpixel,
and 8 x 8 samples a pixel still leave 5 % of error in the flux. Here cells two pixels wide are
sampled at their midpoints; the K of them that come nearest to the source's centre, as seen in the
source plane, are split 4 x 4, of their children again the nearest, and so on. For a brightness
that falls outwards, nearest is the same as worst: the error of a midpoint, area x laplacian, taken
at the cell's innermost point, falls with that distance. A fixed K keeps every row of a batch at the
same cost, and its result independent of the others.

Innermost point and midpoint are not alike near the lens, where a step along a circle moves the ray
by theta_E / r times as much: a faint image there is a wedge thinner than a cell, and at the lens
itself the map is torn. What a cell covers in the source plane is therefore taken off its distance.

Midpoints alone would all be too low, as the light is convex nearly everywhere: the mean of a cell
is its midpoint and 1/24 of the second differences, which its block of 4 x 4 has at no cost. Split
once, a cell has become fine cells, which hold their integrals; the box of a fine cell is divided
out of the spectrum afterwards (`blur`). Flux from inside a fine cell is shared with its neighbours
so that its centre stays where it was and its width is that of the box.

A picture of a galaxy has no cusp, but structure anywhere: its base cells are chosen by distance as
well, cells below that by how far their mean lies from their midpoint. Layers are sampled at the
same points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from darkhaloscope.lensing.bank import Pictures
from darkhaloscope.lensing.blur import FINE_PER_PX, Frame
from darkhaloscope.lensing.light import Sersic, sersic_b, sersic_log_peak
from darkhaloscope.lensing.profiles import Lens, Part, require, sie_angles, sie_scale

Brightness = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Shape(Protocol):
    """A brightness whose rows can be taken apart, so that a batch is painted piece by piece."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Brightness at points (n, m), arcsec from the centre, any unit, >= 0."""
        ...

    def rows(self, part: slice) -> "Shape":
        """The shapes of some of the stamps."""
        ...


SPLIT = 4  # a cell is split into 4 x 4
_TORN_WIDTHS = 1.0  # cells of a picture nearer to the lens than this are always split
BASE_PX = 2  # width of the cells first sampled; split once, they are fine cells


@dataclass(frozen=True, slots=True)
class Rays:
    """A source seen through a lens: everything about a batch, as few numbers a row, each (n, 1).

    Positions (u, v) are arcsec along the axes of the lens's mass. A point's ray ends at

        (xi, eta) = matrix (u, v) + pull (angle_u, angle_v) + shift

    in the source's own axes, scaled so that xi^2 + eta^2 = 1 is its half-light ellipse. There the
    light is exp(log_peak + minus_b radius^(2 exponent)), or that of a picture times exp(log_peak).
    A step along a circle round the lens, over its radius, moves the end by `stretch`.
    """

    cos: Tensor
    sin: Tensor
    q: Tensor
    matrix: tuple[Tensor, ...]
    pull: tuple[Tensor, ...]
    shift: tuple[Tensor, ...]
    exponent: Tensor
    minus_b: Tensor
    log_peak: Tensor
    stretch: Tensor
    pictures: Pictures | None = None

    @property
    def layers(self) -> int:
        """Layers of light, each with its own colours."""
        return 1 if self.pictures is None else self.pictures.bank.pictures.shape[1]

    def trace(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Brightness, flux per arcsec^2, (n, layer, m), and squared source-plane radius, (n, m)."""
        angle_u, angle_v = sie_angles(u, v, self.q)
        xi = self._along(0, u, v, angle_u, angle_v)
        eta = self._along(1, u, v, angle_u, angle_v)
        if self.pictures is not None:
            light = self.pictures.brightness(xi, eta) * torch.exp(self.log_peak)[:, None]
            return light, xi.square_().addcmul_(eta, eta)
        radius2 = xi.square_().addcmul_(eta, eta)
        light = torch.log(radius2).mul_(self.exponent).exp_().mul_(self.minus_b)
        return light.add_(self.log_peak).exp_()[:, None], radius2

    def innermost(self, radius2: Tensor, u: Tensor, v: Tensor, width: float) -> Tensor:
        """Least source-plane radius in cells of `width` arcsec at (u, v), the shape of `u`.

        0.001 of the midpoint's is added, so that cells which hold the centre keep an order.
        """
        radius = radius2.sqrt_()
        covered = (u * u).addcmul_(v, v).sqrt_().add_(1e-9).reciprocal_()
        covered.mul_(self.stretch * (width / 2))
        return torch.relu(radius - covered).add_(radius, alpha=1e-3)

    def worst(
        self, u: Tensor, v: Tensor, width: float, seen: tuple[Tensor, Tensor, Tensor], count: int
    ) -> Tensor:
        """The `count` cells of each row below the base cells to be split, (n, count).

        `seen` is their brightness, squared source-plane radius and mean. Of pictures those at the
        lens come first: the map is torn there, and on which side a ray passes is a matter of
        rounding.
        """
        light, radius2, mean = seen
        if self.pictures is None:
            return _nearest(self.innermost(radius2, u, v, width), count)
        is_torn = (u * u).addcmul_(v, v) < (_TORN_WIDTHS * width) ** 2
        error = (mean - light).abs_().sum(1).masked_fill_(is_torn, torch.inf)
        return error.topk(min(count, error.shape[1]), sorted=False).indices

    def rows(self, part: Part) -> "Rays":
        """Some rows of the batch."""
        return Rays(
            cos=self.cos[part],
            sin=self.sin[part],
            q=self.q[part],
            matrix=tuple(value[part] for value in self.matrix),
            pull=tuple(value[part] for value in self.pull),
            shift=tuple(value[part] for value in self.shift),
            exponent=self.exponent[part],
            minus_b=self.minus_b[part],
            log_peak=self.log_peak[part],
            stretch=self.stretch[part],
            pictures=None if self.pictures is None else self.pictures.rows(part),
        )

    def _along(self, axis: int, u: Tensor, v: Tensor, angle_u: Tensor, angle_v: Tensor) -> Tensor:
        """One coordinate of the ray's end."""
        at = torch.addcmul(self.shift[axis], self.matrix[2 * axis], u)
        at.addcmul_(self.matrix[2 * axis + 1], v).addcmul_(self.pull[2 * axis], angle_u)
        return at.addcmul_(self.pull[2 * axis + 1], angle_v)


def rays(source: Sersic | Pictures, lens: Lens) -> Rays:
    """The few numbers a row that tracing needs, made in float64 and rounded to the inputs' type."""
    turn = source.phi.double() - lens.phi.double()
    size = source.r_eff.double()
    if isinstance(source, Sersic):
        pictures, minor = None, torch.sqrt(source.q.double())
        exponent, minus_b = 0.5 / source.n.double(), -sersic_b(source.n)
        log_peak = sersic_log_peak(source.n, source.r_eff)
    else:
        pictures, minor = source, torch.ones_like(size)
        exponent, minus_b, log_peak = minor, minor, -2 * torch.log(size)
    # Rows of the map from arcsec in the lens's axes to the source's scaled axes.
    first = (minor * torch.cos(turn) / size, minor * torch.sin(turn) / size)
    second = (-torch.sin(turn) / minor / size, torch.cos(turn) / minor / size)
    shear, twice = lens.shear.double(), 2 * (lens.shear_phi.double() - lens.phi.double())
    g1, g2 = shear * torch.cos(twice), shear * torch.sin(twice)
    bend = lens.theta_e.double() * sie_scale(lens.q.double(), lens.theta_e.dtype)
    cos, sin = torch.cos(lens.phi.double()), torch.sin(lens.phi.double())
    x, y = source.x.double(), source.y.double()
    at_u, at_v = cos * x + sin * y, cos * y - sin * x
    rows = (first, second)

    def column(value: Tensor) -> Tensor:
        return value.to(source.x.dtype)[:, None]

    sheared = [(a * (1 - g1) - b * g2, b * (1 + g1) - a * g2) for a, b in rows]
    return Rays(
        cos=column(cos),
        sin=column(sin),
        q=column(lens.q),
        matrix=tuple(column(part) for row in sheared for part in row),
        pull=tuple(column(-part * bend) for row in rows for part in row),
        shift=tuple(column(-(a * at_u + b * at_v)) for a, b in rows),
        exponent=column(exponent),
        minus_b=column(minus_b),
        log_peak=column(log_peak),
        stretch=column(lens.theta_e.double() / size * torch.sqrt((minor**2 + 1 / minor**2) / 2)),
        pictures=pictures,
    )


def sample(
    traced: Rays, *, x0: Tensor, y0: Tensor, frame: Frame, splits: tuple[int, ...]
) -> Tensor:
    """Flux of each fine cell, for an unlensed flux of 1.

    Args:
        traced: n sources behind n lenses.
        x0: Host's centre from the stamp's, pixels, shape (n,).
        y0: The same along y.
        frame: Stamp and margin.
        splits: Cells split 4 x 4 at each level; the first of cells two pixels wide.

    Returns:
        Shape (n, layer, fine_px, fine_px). Its sum is the magnification of what the frame holds.
    """
    scale = frame.grid.pixel_scale_arcsec
    across = frame.padded_px // BASE_PX
    axis = frame.centres_px(across, x0)
    x, y = (axis - x0[:, None]) * scale, (axis - y0[:, None]) * scale
    cos, sin = traced.cos, traced.sin
    u = ((cos * x)[:, None, :] + (sin * y)[:, :, None]).flatten(1)
    v = ((cos * y)[:, :, None] - (sin * x)[:, None, :]).flatten(1)
    width = BASE_PX * scale
    light, radius2 = traced.trace(u, v)
    base = light.mul_(width**2)

    chosen = _nearest(traced.innermost(radius2, u, v, width), splits[0])
    u, v = _children(u, v, chosen, width, traced)
    cell = _fine_cells(across, x0.device)[chosen].flatten(1)
    fine = _spread(base.scatter_(2, _each(chosen, base), 0), across)
    width /= SPLIT
    light, radius2 = traced.trace(u, v)
    mean = _averaged(light)
    if len(splits) == 1:
        fine.scatter_(2, _each(cell, fine), mean.mul_(width**2))
        return fine.view(*fine.shape[:2], frame.fine_px, frame.fine_px)

    chosen = traced.worst(u, v, width, (light, radius2, mean), splits[1])
    u, v = _children(u, v, chosen, width, traced)
    flux = mean.mul_(width**2).scatter_(2, _each(chosen, mean), 0)
    fine.scatter_(2, _each(cell, fine), flux)
    inner = _refined(u, v, width / SPLIT, splits[2:], traced)
    return _put_back(fine, cell.gather(1, chosen), inner, frame.fine_px)


def sample_shape(
    brightness: Brightness, *, x0: Tensor, y0: Tensor, frame: Frame, refined: int
) -> Tensor:
    """Flux of each fine cell of any shape, normalised to a total of 1.

    Every fine cell is sampled at its midpoint; the `refined` of them with the largest step to a
    neighbour are split 4 x 4.

    Args:
        brightness: Of points (x, y), arcsec from (x0, y0), shape (n, m): any unit, >= 0.
        x0: Centre of the shape from the stamp's, pixels, shape (n,).
        y0: The same along y.
        frame: Stamp and margin.
        refined: Fine cells split.

    Returns:
        Shape (n, 1, fine_px, fine_px): one layer.

    Raises:
        ValueError: a row has no light in the frame, or light that is not finite.
    """
    scale, across = frame.grid.pixel_scale_arcsec, frame.fine_px
    axis = frame.centres_px(across, x0)
    x = ((axis - x0[:, None]) * scale)[:, None, :].expand(-1, across, -1).flatten(1)
    y = ((axis - y0[:, None]) * scale)[:, :, None].expand(-1, -1, across).flatten(1)
    image = brightness(x, y).view(-1, 1, across, across)
    edged = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    neighbours = (
        edged[..., 1:-1, 2:] + edged[..., 1:-1, :-2] + edged[..., 2:, 1:-1] + edged[..., :-2, 1:-1]
    )
    fine = _limited(image + (neighbours - 4 * image) / 24, image)
    if refined:
        highest, lowest = (torch.nn.functional.max_pool2d(sign * edged, 3, 1) for sign in (1, -1))
        chosen = (highest + lowest).flatten(1).topk(min(refined, across**2), sorted=False).indices
        right, up = _steps(scale / FINE_PER_PX, x)
        at_x = (x.gather(1, chosen)[:, :, None] + right).flatten(1)
        at_y = (y.gather(1, chosen)[:, :, None] + up).flatten(1)
        inner = _averaged(brightness(at_x, at_y)[:, None]) / SPLIT**2
        fine = _put_back(fine.flatten(2).scatter_(2, chosen[:, None], 0), chosen, inner, across)
    total = fine.sum((1, 2, 3))
    require((total > 0) & total.isfinite(), total, "a shape has light in and round its stamp")
    return fine / total[:, None, None, None]


def _refined(u: Tensor, v: Tensor, width: float, splits: tuple[int, ...], traced: Rays) -> Tensor:
    """Flux of cells of `width` arcsec at (u, v), (n, m), the worst of them split: (n, layer, m)."""
    light, radius2 = traced.trace(u, v)
    mean = _averaged(light)
    if not splits:
        return mean.mul_(width**2)
    chosen = traced.worst(u, v, width, (light, radius2, mean), splits[0])
    u, v = _children(u, v, chosen, width, traced)
    inner = _refined(u, v, width / SPLIT, splits[1:], traced)
    inner = inner.view(*inner.shape[:2], -1, SPLIT**2).sum(3)
    return mean.mul_(width**2).scatter_(2, _each(chosen, mean), inner)


def _each(index: Tensor, like: Tensor) -> Tensor:
    """Indices (n, m) for every layer of what has the shape (n, layer, ...)."""
    return index[:, None].expand(-1, like.shape[1], -1)


def _nearest(inner: Tensor, count: int) -> Tensor:
    """The `count` cells of each row that come nearest to the source's centre, (n, count)."""
    return inner.topk(min(count, inner.shape[1]), largest=False, sorted=False).indices


def _children(
    u: Tensor, v: Tensor, chosen: Tensor, width: float, traced: Rays
) -> tuple[Tensor, Tensor]:
    """Midpoints of the 4 x 4 children of the chosen cells, shape (n, 16 chosen), y-major."""
    x, y = _steps(width, u)
    right, up = traced.cos * x + traced.sin * y, traced.cos * y - traced.sin * x
    u = u.gather(1, chosen)[:, :, None] + right[:, None, :]
    v = v.gather(1, chosen)[:, :, None] + up[:, None, :]
    return u.flatten(1), v.flatten(1)


def _steps(width: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """From a cell's midpoint to those of its children, along x and along y, (16,), y-major."""
    at = ((torch.arange(SPLIT, dtype=like.dtype, device=like.device) + 0.5) / SPLIT - 0.5) * width
    return at.repeat(SPLIT), at.repeat_interleave(SPLIT)


def _averaged(light: Tensor) -> Tensor:
    """Means over cells from their midpoints, in blocks of 4 x 4, (n, layer, 16 k), y-major.

    A mean is the midpoint and 1/24 of the second differences, which are taken inside the block; it
    is fourth order where the light is smooth.
    """
    blocks = light.view(-1, SPLIT**2) @ _second_differences(light.device, light.dtype)
    return _limited(blocks.view_as(light), light)


def _limited(average: Tensor, light: Tensor) -> Tensor:
    """Averages kept within a quarter of the midpoint: beside a cusp, differences mean nothing."""
    return torch.minimum(torch.maximum(average, 0.75 * light), 1.25 * light)


def _spread(base: Tensor, across: int) -> Tensor:
    """Flux of base cells shared out evenly to their fine cells, (n, layer, fine cells)."""
    cells = base.view(*base.shape[:2], across, 1, across, 1) / SPLIT**2
    return cells.expand(-1, -1, -1, SPLIT, -1, SPLIT).flatten(2)


def _put_back(fine: Tensor, cell: Tensor, inner: Tensor, across: int) -> Tensor:
    """Add the flux inside fine cells, (n, layer, 16 k), around these cells, (n, k)."""
    around, weights = stencil(across, fine.device, fine.dtype)
    flux = inner.view(*inner.shape[:2], -1, SPLIT**2) @ weights
    at = (cell[:, :, None] + around).remainder_(across**2).flatten(1)
    fine.scatter_add_(2, _each(at, fine), flux.flatten(2))
    return fine.view(*fine.shape[:2], across, across)


@lru_cache(maxsize=32)
def _fine_cells(across: int, device: torch.device) -> Tensor:
    """Index of the 16 fine cells of each base cell, y-major, (base cells, 16)."""
    side = torch.arange(across * SPLIT, device=device).view(across, SPLIT)
    rows, columns = side[:, None, :, None], side[None, :, None, :]
    return (rows * across * SPLIT + columns).reshape(across**2, SPLIT**2)


@lru_cache(maxsize=32)
def stencil(across: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The 9 fine cells round one, as steps of index, and what 16 children give each, (16, 9)."""
    at = (torch.arange(SPLIT, dtype=torch.float64) + 0.5) / SPLIT - 0.5
    # Weights of the neighbours at -1, 0, 1: sum 1, mean `at`, the variance of a cell's box.
    square = at**2 + 1 / 12
    along = torch.stack([(square - at) / 2, 1 - square, (square + at) / 2], dim=1)
    weights = torch.einsum("ap,bq->abpq", along, along).reshape(SPLIT**2, 9)
    step = torch.arange(-1, 2)
    around = (step[:, None] * across + step).flatten()
    return around.to(device), weights.to(device, dtype)


@lru_cache(maxsize=32)
def _second_differences(device: torch.device, dtype: torch.dtype) -> Tensor:
    """What makes averages of a 4 x 4 block's midpoints, (16, 16), for a row of midpoints."""
    along = torch.tensor(
        [[1, -2, 1, 0], [1, -2, 1, 0], [0, 1, -2, 1], [0, 1, -2, 1]], dtype=torch.float64
    )
    one = torch.eye(SPLIT, dtype=torch.float64)
    matrix = torch.eye(SPLIT**2) + (torch.kron(along, one) + torch.kron(one, along)) / 24
    return matrix.T.contiguous().to(device, dtype)
