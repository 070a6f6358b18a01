"""Light that is no arc: look-alikes made of parts, painted as a lensed source is.

No kind differs from a lens in anything but geometry: the light goes through the same sampling grid,
PSF and pixels (`render`), is given as a flux per band from the same sources, and gets its photon
noise where arcs get theirs (`noise`). `parts` says what the numbers of a part are.

Every part holds its share of its layer's light in the stamp and its margin, whatever of it lies
outside; one that has no light there contributes nothing. Cells are sampled at their midpoints and
corrected to means. The middle of a BLOB, which may have a cusp or be smaller than a cell, is faded
out of them and sampled at pieces of cells instead, split twice. Gaussian widths across rings, arms,
arcs and lines below 0.6 cells (0.08 arcsec of the survey's pixels, a tenth of the seeing) are drawn
as that: thinner ones would be beads.

This is the reference, for any device and precision; `compiled_shapes` does the same on a CPU.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.lensing.blur import FINE_PER_PX, Frame
from darkhaloscope.lensing.light import sersic_b
from darkhaloscope.lensing.parts import FORM, LAYER, OWN, PART, PHI, SHARE, Form, X, Y
from darkhaloscope.lensing.profiles import Part, checked, is_checked, require
from darkhaloscope.lensing.transfer import sent

WIDE_IN_FWHM = 1.5  # a ring wider than this many PSF widths is no arc
EXPONENTIAL_B = 1.6783469900166605  # b of a Sersic profile with n = 1
LEAST_SIGMA = 0.6  # cells
LEAST_LIGHT = 1e-4  # of one cell at a part's brightest: with less a part has no light
ARMS_BEGIN = 0.1  # of their radius, across which arms rise
LIT = (Form.BLOB, Form.RING, Form.ARMS, Form.ARC, Form.LINE)  # what is painted here

CORE, PIECES = 6, 4  # cells round a blob's centre, and into how many each is cut, twice
FADE = (0.5, 2.5)  # cells from a blob's centre between which its middle is faded out
_MOST_ARMS = 8
_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}  # cells whose light is made at once


@dataclass(frozen=True, slots=True)
class Parts:
    """Look-alikes of n stamps.

    Attributes:
        values: Their parts, (n, K, PART), rows with fewer than K filled up with `Form.NONE`.
        forms: Which forms they are, on the host, so that nothing waits for a GPU, (n, K).
        second_share: The second layer's share of each band's light, from 0 to 1, (n, band); None:
            all light is in layer 0, and parts of layer 1 are not painted.
        places: `places_of` the forms, on the device of the values; None: sent when asked for.
    """

    values: Tensor
    forms: NDArray[np.int8]
    second_share: Tensor | None = None
    places: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse parts outside their ranges."""
        if self.values.shape != (*self.forms.shape, PART):
            raise ValueError(
                f"parts have the shape (n, K, {PART}), forms (n, K); got "
                f"{tuple(self.values.shape)} and {self.forms.shape}"
            )
        if not is_checked():
            _check(self.values, self.forms, self.second_share)

    @classmethod
    def of(cls, values: Tensor, second_share: Tensor | None = None) -> "Parts":
        """Parts whose forms are read off their numbers; waits for a GPU."""
        return cls(values, forms_of(values.detach().cpu().numpy()), second_share)

    @property
    def shares(self) -> Tensor | None:
        """Share of a band's flux in each layer, (n, layer, band); None where there is one."""
        if self.second_share is None:
            return None
        return torch.stack([1 - self.second_share, self.second_share], 1)

    def rows(self, part: Part) -> "Parts":
        """The parts of some of the stamps."""
        if isinstance(part, slice) and part.indices(len(self.forms)) == (0, len(self.forms), 1):
            return self
        second = None if self.second_share is None else self.second_share[part]
        on_host = part if isinstance(part, slice) else part.cpu().numpy()
        with checked():
            return Parts(self.values[part], self.forms[on_host], second)

    def first_layer(self) -> "Parts":
        """The parts of the first layer alone, which holds all the light."""
        with checked():
            return Parts(self.values, self.forms)

    def sampled(self, *, x0: Tensor, y0: Tensor, frame: Frame, finer: int = 1) -> Tensor:
        """Flux of each fine cell, each layer normalised to a total of 1.

        Args:
            x0: The host's centre from the stamp's, pixels, (n,).
            y0: The same along y.
            frame: Stamp and margin.
            finer: 1, or `PIECES` to sample as many cells along each fine one.

        Returns:
            Shape (n, layer, fine_px, fine_px); a layer without light is 0.
        """
        layers = 1 if self.second_share is None else 2
        cells, scale = frame.fine_px * finer, frame.grid.pixel_scale_arcsec
        width = scale / FINE_PER_PX / finer
        axis = frame.centres_px(cells, x0)
        canvas = x0.new_zeros((len(x0) * layers, cells, cells))
        for form, row, slot in self._each(cells):
            part = self.values[row, slot].to(x0.dtype)
            x = (axis - x0[row, None]) * scale - part[:, X, None]
            y = (axis - y0[row, None]) * scale - part[:, Y, None]
            x_of, y_of = x[:, None, :], y[:, :, None]
            light = _LIGHT[form](part, x_of, y_of, width)
            if form == Form.BLOB:
                image = _means(light * (1 - _middle(x_of, y_of, width)))
                image = _with_core(image, part, x, y, width)
            elif form == Form.ARC:
                image = torch.where(_like(part[:, OWN + 4]) > 0, light, _means(light))
            else:
                image = _means(light)
            total = image.sum((1, 2))
            layer = part[:, LAYER].long()
            is_lit = (total > LEAST_LIGHT) & (layer < layers)
            weight = torch.where(is_lit, part[:, SHARE] / total, 0)
            image *= weight[:, None, None]
            canvas.index_add_(0, row * layers + layer.clamp_max(layers - 1), image)
        fine = canvas.view(len(x0), layers, cells, cells)
        if finer > 1:
            along = deposit(frame.fine_px, fine.device, fine.dtype)[1:-1]
            fine = along @ fine @ along.T
        total = fine.sum((2, 3), keepdim=True)
        return torch.where(total > 0, fine / torch.where(total > 0, total, 1), 0)

    def at(self, form: Form) -> tuple[Tensor, Tensor]:
        """Rows and places of the parts of one form, each (m,)."""
        if self.places is None:
            row, slot = sent(np.stack(np.nonzero(self.forms == form)), self.values.device)
            return row, slot
        start = np.count_nonzero((self.forms > Form.NONE) & (self.forms < form))
        stop = start + np.count_nonzero(self.forms == form)
        return self.places[0, start:stop], self.places[1, start:stop]

    def _each(self, cells: int) -> Iterator[tuple[Form, Tensor, Tensor]]:
        """Parts of one form, some at a time: rows and places."""
        step = max(1, _AT_ONCE.get(self.values.device.type, 2**20) // cells**2)
        for form in LIT:
            row, slot = self.at(form)
            for start in range(0, len(row), step):
                yield form, row[start : start + step], slot[start : start + step]


def places_of(forms: NDArray[np.int8]) -> NDArray[np.int64]:
    """Rows and places of all parts, form by form, (2, m)."""
    places = [np.stack(np.nonzero(forms == form)) for form in Form if form != Form.NONE]
    return np.concatenate(places, 1)


def forms_of(values: NDArray[np.floating]) -> NDArray[np.int8]:
    """Which form each part is, (n, K).

    Raises:
        ValueError: a number names no form.
    """
    forms = np.nan_to_num(values[..., FORM], nan=-1)
    if not np.isin(forms, [int(form) for form in Form]).all():
        bad = forms[~np.isin(forms, [int(form) for form in Form])]
        raise ValueError(f"the form of a part is from 0 to {max(Form)}; got {bad[0]:g}")
    return np.asarray(forms, np.int8)


@lru_cache(maxsize=16)
def deposit(cells: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What each piece along a side gives to the cells, one more at either end, (cells + 2, ...)."""
    at = (torch.arange(PIECES, dtype=torch.float64) + 0.5) / PIECES - 0.5
    # weights of sum 1, mean `at` and the variance of a cell's box, less that of the piece's own
    square = at**2 + (1 - 1 / PIECES**2) / 12
    weights = torch.stack([(square - at) / 2, 1 - square, (square + at) / 2]) / PIECES
    made = torch.zeros(cells + 2, cells, PIECES, dtype=torch.float64)
    for step in range(3):
        made[torch.arange(cells) + step, torch.arange(cells)] = weights[step]
    return made.flatten(1).to(device, dtype)


def require_no_arc(parts: Parts, *, is_host_coloured: Tensor, psf_fwhm: Tensor) -> None:
    """Refuse a ring that a lens could make: thin and centred, with an arc's colour.

    Args:
        parts: Rows whose rings are to be no Einstein rings.
        is_host_coloured: Whether the light has the host's colours, (n,).
        psf_fwhm: FWHM of the PSF, arcsec, (n,).

    Raises:
        ValueError: a ring is neither of its host's colour nor wider (FWHM) than 1.5 PSF FWHM.
    """
    values = parts.values
    width = FWHM_PER_SIGMA * values[..., OWN + 1]
    is_ring = torch.from_numpy(parts.forms == Form.RING).to(values.device)
    wide = width > WIDE_IN_FWHM * psf_fwhm[:, None]
    allowed = ~is_ring | is_host_coloured[:, None] | wide
    require(allowed, width, "a thin ring of an arc's colour is a lens; FWHM must pass 1.5 PSF FWHM")


# Brightness of each form, 1 at its brightest, of points from (X, Y), arcsec. `own` are the parts,
# (m, PART), x is (m, 1, i), y (m, j, 1), width that of a cell.


def _blob(own: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    r_eff, q, n, depth, lane, warp = (_like(own[:, OWN + i]) for i in range(6))
    u, v = _along_axes(x, y, own)
    v = v - warp * u * u.abs() / r_eff
    b = _like(sersic_b(own[:, OWN + 2]).to(own.dtype))
    radius2 = (q * u * u + v * v / q) / r_eff**2
    light = torch.exp(-b * radius2 ** (0.5 / n))
    dark = torch.exp(-0.5 * (v / torch.where(lane > 0, lane, 1)) ** 2)
    return light * (1 - depth * dark)


def _ring(own: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    radius, sigma, q, contrast, lobes, lobe_phi = (_like(own[:, OWN + i]) for i in range(6))
    u, v = _along_axes(x, y, own)
    sigma = torch.maximum(sigma, LEAST_SIGMA * width / q.sqrt())
    across = (torch.sqrt(q * u * u + v * v / q) - radius) / sigma
    light = torch.exp(-0.5 * across**2)
    return light * (1 + contrast * torch.cos(lobes * (torch.atan2(y, x) - lobe_phi)))


def _arms(own: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    radius, sigma, q, n_arms, pitch, r_eff, begin = (_like(own[:, OWN + i]) for i in range(7))
    u, v = _along_axes(x, y, own)
    sigma = torch.maximum(sigma, LEAST_SIGMA * width / q.sqrt())
    at = torch.sqrt(q * u * u + v * v / q).clamp_min(1e-6)
    crest = torch.log(at / radius) / torch.tan(pitch) + begin
    # To the nearest arm: along the circle by remainder, across the arm by the pitch.
    gap = 2 * math.pi / n_arms
    along = torch.remainder(torch.atan2(v, q * u) - crest + gap / 2, gap) - gap / 2
    across = at * along * torch.sin(pitch) / sigma
    begun = torch.sigmoid((at / radius - 1) / ARMS_BEGIN)
    return begun * torch.exp(-EXPONENTIAL_B * at / r_eff - 0.5 * across**2)


def _arc(own: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    radius, sigma, sigma_phi, pitch, is_sharp = (_like(own[:, OWN + i]) for i in range(5))
    sigma = sigma.clamp_min(LEAST_SIGMA * width)
    along = torch.remainder(torch.atan2(y, x) - _like(own[:, PHI]) + math.pi, 2 * math.pi) - math.pi
    crest = radius * torch.exp(along * torch.tan(pitch))
    beyond = (torch.sqrt(x * x + y * y) - crest) * torch.cos(pitch) / sigma
    half = 0.5 * width / sigma  # a sharp edge is averaged over a cell, and is a mean already
    shell = torch.exp((beyond + half).clamp_max(0)) - torch.exp((beyond - half).clamp_max(0))
    profile = torch.where(is_sharp > 0, shell / (2 * half), torch.exp(-0.5 * beyond**2))
    return profile * torch.exp(-0.5 * (along / sigma_phi) ** 2)


def _line(own: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    half, sigma, fades = (_like(own[:, OWN + i]) for i in range(3))
    u, v = _along_axes(x, y, own)
    even = ((half - u.abs()) / width + 0.5).clamp(0, 1)
    fading = (1 - u.abs() / half).clamp_min(0)
    across = v / sigma.clamp_min(LEAST_SIGMA * width)
    return torch.where(fades > 0, fading, even) * torch.exp(-0.5 * across**2)


_LIGHT: dict[Form, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    Form.BLOB: _blob,
    Form.RING: _ring,
    Form.ARMS: _arms,
    Form.ARC: _arc,
    Form.LINE: _line,
}


def _like(value: Tensor) -> Tensor:
    return value[:, None, None]


def _along_axes(x: Tensor, y: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = _like(torch.cos(own[:, PHI])), _like(torch.sin(own[:, PHI]))
    return cos * x + sin * y, cos * y - sin * x


def _means(light: Tensor) -> Tensor:
    """Means over cells from their midpoints and their neighbours', (m, cells, cells)."""
    edged = torch.nn.functional.pad(light[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    around = edged[:, 1:-1, 2:] + edged[:, 1:-1, :-2] + edged[:, 2:, 1:-1] + edged[:, :-2, 1:-1]
    step = (around - 4 * light) / 24
    return light + torch.minimum(torch.maximum(step, -0.25 * light), 0.25 * light)


def _middle(x: Tensor, y: Tensor, width: float) -> Tensor:
    """What is sampled in pieces of cells, 1 at a blob's centre and 0 from `FADE` on."""
    inner, outer = FADE
    t = ((outer - torch.sqrt(x * x + y * y) / width) / (outer - inner)).clamp(0, 1)
    return t**3 * (10 - 15 * t + 6 * t * t)


def _with_core(image: Tensor, part: Tensor, x: Tensor, y: Tensor, width: float) -> Tensor:
    """Blobs with their middle put in, (m, cells, cells).

    What is in a piece of a cell is shared among nine, so that it stays where it was.
    """
    cells, room = image.shape[-1], CORE
    edges, near = [], torch.ones_like(x[:, 0], dtype=torch.bool)
    for first in (x[:, 0], y[:, 0]):
        edge = torch.round(-first / width + 0.5)  # of the cells, the edge nearest to the centre
        near = near & (edge >= -CORE // 2) & (edge <= cells + CORE // 2)
        edges.append(edge.clamp(-CORE // 2, cells + CORE // 2))
    starts = [
        f + (e - CORE / 2 - 0.5) * width for f, e in zip((x[:, 0], y[:, 0]), edges, strict=True)
    ]
    steps = torch.arange(CORE * PIECES, device=x.device, dtype=x.dtype) + 0.5
    fine = width / PIECES

    def light_of(starts: list[Tensor], step: float) -> Tensor:
        at_x, at_y = (start[:, None] + steps * step for start in starts)
        at_x, at_y = at_x[:, None, :], at_y[:, :, None]
        return _blob(part, at_x, at_y, step) * _middle(at_x, at_y, width)

    light = light_of(starts, fine)
    # once more round the centre
    most = CORE * (PIECES - 1)
    inner = [(torch.round(-start / fine) - CORE / 2).clamp(0, most) for start in starts]
    middle = light_of([s + i * fine for s, i in zip(starts, inner, strict=True)], fine / PIECES)
    middle = middle.view(-1, CORE, PIECES, CORE, PIECES).mean((2, 4))
    few = torch.arange(CORE, device=x.device)
    rows, columns = (i.long()[:, None] + few for i in (inner[1], inner[0]))
    place = (rows[:, :, None] * (CORE * PIECES) + columns[:, None, :]).flatten(1)
    light = light.flatten(1).scatter(1, place, middle.flatten(1)).view_as(light)
    along = deposit(CORE, image.device, image.dtype)
    core = along @ light @ along.T * near[:, None, None]
    wide = torch.nn.functional.pad(image, (room, room, room, room))
    line = torch.arange(CORE + 2, device=x.device) - 1 + room - CORE // 2
    right, up = (edge.long()[:, None] + line for edge in edges)
    place = (up[:, :, None] * wide.shape[-1] + right[:, None, :]).flatten(1)
    wide = wide.flatten(1).scatter_add(1, place, core.flatten(1)).view_as(wide)
    return wide[:, room:-room, room:-room]


def _check(values: Tensor, forms: NDArray[np.int8], second_share: Tensor | None) -> None:
    """Refuse parts outside their ranges."""
    is_form = {form: torch.from_numpy(forms == form).to(values.device) for form in Form}
    finite = values.isfinite()
    require(finite.all(2) | is_form[Form.NONE], values.amax(2), "the numbers of a part are finite")
    require(values[..., SHARE] >= 0, values[..., SHARE], "a part's share is >= 0")
    layer = values[..., LAYER]
    lit = sum(is_form[form] for form in LIT) > 0
    require(~lit | (layer == 0) | (layer == 1), layer, "a part is in layer 0 or 1")

    def hold(form: Form, column: int, holds: Callable[[Tensor], Tensor], meaning: str) -> None:
        value = values[..., OWN + column]
        require(~is_form[form] | holds(value), value, meaning)

    def above_0(value: Tensor) -> Tensor:
        return value > 0

    def share(value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)

    def axis_ratio(value: Tensor) -> Tensor:
        return (value > 0) & (value <= 1)

    for form, column, name in _LENGTHS:
        hold(form, column, above_0, f"{name} is > 0")
    for form, column in ((Form.BLOB, 1), (Form.RING, 2), (Form.ARMS, 2)):
        hold(form, column, axis_ratio, "q is minor over major axis, in (0, 1]")
    hold(Form.BLOB, 2, lambda n: (n >= 0.5) & (n <= 2), "a blob's Sersic index is from 0.5 to 2")
    hold(Form.BLOB, 3, share, "the depth of a dust lane is from 0 to 1")
    has_lane = values[..., OWN + 3] > 0
    hold(Form.BLOB, 4, lambda lane: ~has_lane | (lane > 0), "the sigma of a dust lane is > 0")
    hold(Form.RING, 3, share, "a ring's contrast is from 0 to 1")
    hold(Form.ARMS, 3, lambda n: (n >= 1) & (n <= _MOST_ARMS), f"1 to {_MOST_ARMS} arms")
    hold(Form.ARMS, 4, lambda p: (p != 0) & (p.abs() < math.pi / 2), "0 < |pitch| < pi/2")
    hold(Form.ARC, 3, lambda pitch: pitch.abs() < math.pi / 2, "|pitch| < pi/2")
    hold(Form.PIECE, 0, lambda shear: (shear >= 0) & (shear < 1), "shear is a strength in [0, 1)")
    if second_share is not None:
        require(share(second_share), second_share, "the second layer's share is within 0 and 1")


_LENGTHS = (
    (Form.BLOB, 0, "a blob's r_eff"),
    (Form.RING, 0, "a ring's radius"),
    (Form.RING, 1, "a ring's sigma"),
    (Form.ARMS, 0, "the radius where arms begin"),
    (Form.ARMS, 1, "an arm's sigma"),
    (Form.ARMS, 5, "the r_eff of the arms' disc"),
    (Form.ARC, 0, "an arc's radius"),
    (Form.ARC, 1, "an arc's sigma"),
    (Form.ARC, 2, "an arc's sigma along itself"),
    (Form.LINE, 0, "a line's half length"),
    (Form.LINE, 1, "a line's sigma"),
    (Form.TRACK, 0, "a track's half length"),
    (Form.TRACK, 1, "a track's sigma"),
)
