"""The renderer: light behind a lens, or any shape, as the survey's camera would see it.

The one renderer of the project. A source is traced once, in white light or in the layers of a
picture; each band mixes the layers, blurs with its own PSF and scales by its own flux. Rows are
independent of each other, may be lensed or not (theta_e 0), and are worked on a few at a time, so
that memory does not grow with the batch.

Two kernels stand behind the one call. `torch` runs on any device and in any precision. `compiled`
(`cpu`, numba) makes float32 stamps on a CPU several times as fast, from the same plan; their images
agree within 0.2 %.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.bank import Pictures
from darkhaloscope.lensing.blur import Frame, Grid, blur
from darkhaloscope.lensing.contaminants import PIECES, Parts
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.profiles import Lens, Part, is_checked, require
from darkhaloscope.lensing.psf import Psf
from darkhaloscope.lensing.sampling import Brightness, Shape, rays, sample, sample_shape

__all__ = [
    "CHEAP",
    "DEFAULT",
    "REFERENCE",
    "Cut",
    "Grid",
    "Kernel",
    "Lens",
    "Painted",
    "Pictures",
    "Plan",
    "Sersic",
    "paint",
    "render_cut",
    "render_lensed",
]


Kernel = Literal["auto", "torch", "compiled"]
_RIM_ARCSEC = 1.5


class _Place(TypedDict):
    grid: Grid
    plan: "Plan"
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Plan:
    """How finely light is sampled. It changes cost and error, and nothing else.

    Attributes:
        splits: Cells split 4 x 4 at each level: of cells two pixels wide, of their children, ...
        picture_splits: The same for sources that are pictures.
        margin_px: Least margin round the stamp from which light blurs in, and across which the
            wings of the PSF come back on the other side.
        far_margin_px: The same where light may reach the margin's rim (1 in 100 draws of physical
            priors, 0 of training priors); on a GPU for all rows.
        shape_cells: For shapes other than sources: cells of half a pixel split 4 x 4; of parts all
            are split if any. Rings and arms are wider than such a cell: with a few split they come
            out worse than with none (0.1 against 0.01 % of a ring, 0.1 against 0.05 % of arms), as
            cells' errors are then no longer alike.
    """

    splits: tuple[int, ...]
    picture_splits: tuple[int, ...]
    margin_px: int
    far_margin_px: int
    shape_cells: int


DEFAULT = Plan(
    (128, 192, 128, 64, 32),
    picture_splits=(256, 512, 768, 128),
    margin_px=8,
    far_margin_px=12,
    shape_cells=0,
)
CHEAP = Plan(
    (64, 64, 32, 16), picture_splits=(128, 128), margin_px=8, far_margin_px=8, shape_cells=0
)
REFERENCE = Plan(
    (2048, 4096, 1024, 256, 64, 32),
    picture_splits=(2048, 16384, 4096, 512),
    margin_px=32,
    far_margin_px=32,
    shape_cells=8192,
)


@dataclass(frozen=True, slots=True)
class Painted:
    """Injected light of n rows.

    Attributes:
        pixels: Flux per pixel, nmgy, shape (n, band, size, size).
        inside: Share of the light that falls inside the stamp, shape (n, band).
        magnification: Lensed over unlensed flux, 1 where there is no lens, shape (n,); of a picture
            in the middle one of the bands. Where a shear stands alone, `inside` is the light inside
            the stamp over the unlensed flux: up to 1 / (1 - shear^2).
    """

    pixels: Tensor
    inside: Tensor
    magnification: Tensor

    @property
    def inside_share(self) -> Tensor:
        """Share of the light inside the stamp in the middle one of the bands, shape (n,)."""
        return self.inside[:, self.inside.shape[1] // 2]


def render_lensed(
    source: Sersic | Pictures,
    lens: Lens,
    *,
    flux: Tensor,
    psf: Psf,
    centre_x: Tensor,
    centre_y: Tensor,
    grid: Grid,
    plan: Plan = DEFAULT,
    chunk_rows: int | None = None,
    kernel: Kernel = "auto",
) -> Painted:
    """Light of sources behind their lenses.

    Args:
        source: n sources, positions from the host's centre.
        lens: n lenses, centred on the host; theta_e 0 leaves a source as it is, but for its shear.
        flux: Unlensed flux, nmgy, shape (n, band).
        psf: PSF of n rows, or of one for all.
        centre_x: Host's centroid from the centre of the stamp, pixels, shape (n,).
        centre_y: The same along y.
        grid: The stamp's pixels.
        plan: How finely light is sampled.
        chunk_rows: Rows worked on at once; None: as many as the caches like. It changes no result.
        kernel: `auto`: compiled for float32 on a CPU where numba is installed, else torch.

    Returns:
        Pixels in the precision and on the device of the source, and what became of the light.

    Raises:
        ValueError: shapes do not fit each other, a flux or centre is not finite, or the compiled
            kernel is asked for where it cannot run.
    """
    _check(flux, psf, centre_x, centre_y)
    flux = flux.to(source.x.dtype)
    x0, y0 = centre_x.to(source.x.dtype), centre_y.to(source.x.dtype)

    far = None  # on a GPU: to ask which rows are far would wait for the device
    if source.x.device.type == "cpu":
        far = _is_far(source, lens, Frame.around(grid, plan.margin_px))
    if far is not None and _is_compiled(kernel, like=source.x):
        where = _Where(flux, psf, x0, y0, grid, plan)
        return _compiled_sources(source, lens, far, where)
    traced, is_lensed = rays(source, lens), lens.theta_e > 0
    splits, share = _splits(source, plan), _shares_of(source)

    def expose(part: Part, margin_px: int) -> Painted:
        frame = Frame.around(grid, margin_px)
        of_rows, x, y, bent = traced.rows(part), x0[part], y0[part], is_lensed[part]
        shared = None if share is None else share[part]

        def draw(few: slice) -> tuple[Tensor, Tensor]:
            fine = sample(of_rows.rows(few), x0=x[few], y0=y[few], frame=frame, splits=splits)
            return fine, torch.where(bent[few, None], fine.sum((2, 3)), 1)

        return _expose(
            draw, flux=flux[part], share=shared, psf=psf.rows(part), frame=frame,
            chunk_rows=chunk_rows, like=source.x,
        )  # fmt: skip

    if far is None:
        return expose(slice(None), plan.far_margin_px)
    return _in_two(
        far,
        lambda part: expose(part, plan.margin_px),
        lambda part: expose(part, plan.far_margin_px),
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """Sources in pieces where no lens puts them.

    Attributes:
        source: k pieces, positions from the host's centre.
        lens: What shears each; no lens bends them.
        row: Whose they are, int64, in ascending order, (k,).
        weight: Their light over that of the row's source, (k,).
    """

    source: Sersic | Pictures
    lens: Lens
    row: Tensor
    weight: Tensor


def render_cut(  # noqa: PLR0913
    source: Sersic | Pictures,
    lens: Lens,
    cut: Cut,
    *,
    flux: Tensor,
    psf: Psf,
    centre_x: Tensor,
    centre_y: Tensor,
    grid: Grid,
    plan: Plan = DEFAULT,
    kernel: Kernel = "auto",
    is_seen: Tensor | None = None,
) -> tuple[Painted, Painted]:
    """Sources behind their lenses, and the same where rows with pieces hold those instead.

    Args:
        source: n sources.
        lens: n lenses.
        cut: Pieces of some of the sources, one or more.
        flux: As of `render_lensed`, (n, band).
        psf: As of `render_lensed`.
        centre_x: As of `render_lensed`, (n,).
        centre_y: The same along y.
        grid: The stamp's pixels.
        plan: How finely light is sampled.
        kernel: As of `render_lensed`.
        is_seen: Whether the first answer's pixels are asked for, (n,); None: all are. Those of rows
            in pieces that are not may be anything; their magnification is right.

    Returns:
        The arcs, n rows; and the light of the rows, in which `inside` is that of the pieces over
        the flux of the source.
    """
    place: _Place = {"grid": grid, "plan": plan, "kernel": kernel}
    if not _is_compiled(kernel, like=source.x):
        row = cut.row
        every = torch.cat([torch.arange(len(flux), device=row.device), row])
        both = render_lensed(
            _one_after_the_other(source, cut.source), _one_after_the_other(lens, cut.lens),
            flux=torch.cat([flux, flux[row] * cut.weight[:, None]]), psf=psf.rows(every),
            centre_x=centre_x[every], centre_y=centre_y[every], **place,
        )  # fmt: skip
        arcs = Painted(*(getattr(both, f.name)[: len(flux)] for f in fields(both)))
        is_cut = torch.zeros_like(arcs.magnification).index_fill_(0, row, 1) > 0
        pixels = torch.where(is_cut[:, None, None, None], 0, arcs.pixels)
        inside = torch.where(is_cut[:, None], 0, arcs.inside)
        pixels.index_add_(0, row, both.pixels[len(flux) :])
        inside.index_add_(0, row, both.inside[len(flux) :] * cut.weight[:, None])
        return arcs, Painted(pixels, inside, arcs.magnification)
    _check(flux, psf, centre_x, centre_y)
    flux, row = flux.to(source.x.dtype), cut.row
    x0, y0 = centre_x.to(source.x.dtype), centre_y.to(source.x.dtype)
    is_cut = torch.zeros(len(flux), dtype=torch.bool).index_fill_(0, row, True)
    near = Frame.around(grid, plan.margin_px)
    far = _is_far(source, lens, near)
    is_dark = None if is_seen is None else is_cut & ~is_seen
    where = _Where(flux, psf, x0, y0, grid, plan)
    arcs = _compiled_sources(source, lens, far, where, is_dark)
    pixels, inside = torch.empty_like(arcs.pixels), torch.empty_like(arcs.inside)
    whole = torch.nonzero(~is_cut)[:, 0]
    pixels[whole], inside[whole] = arcs.pixels[whole], arcs.inside[whole]
    made = cpu.Made(pixels, inside, arcs.magnification)
    far = torch.zeros_like(is_cut).index_fill_(0, row[_is_far(cut.source, cut.lens, near)], True)
    traced, share = rays(cut.source, cut.lens), _shares_of(source)
    for is_asked, margin_px in ((~far, plan.margin_px), (far, plan.far_margin_px)):
        rows, own = torch.nonzero(is_cut & is_asked)[:, 0], torch.nonzero(is_asked[row])[:, 0]
        if not len(rows):
            continue
        at = row[own]
        cpu.expose_pieces(
            traced.rows(own), row=torch.searchsorted(rows, at), weight=cut.weight[own],
            x0=x0[at], y0=y0[at], flux=flux[rows],
            share=None if share is None else share[rows], psf=psf.rows(rows),
            frame=Frame.around(grid, margin_px), splits=_splits(source, plan), made=made.at(rows),
        )  # fmt: skip
    return arcs, Painted(made.pixels, made.inside, made.magnification)


@dataclass(frozen=True, slots=True)
class _Where:
    """Flux and place of n stamps, as `render_lensed` is handed them."""

    flux: Tensor
    psf: Psf
    x0: Tensor
    y0: Tensor
    grid: Grid
    plan: Plan


def _compiled_sources(
    source: Sersic | Pictures,
    lens: Lens,
    far: Tensor,
    where: _Where,
    is_dark: Tensor | None = None,
) -> Painted:
    """`render_lensed` on a CPU; of lenses that are dark the magnification alone is made."""
    made = cpu.Made.room(where.flux, where.grid.size_px)
    plan, traced, share = where.plan, rays(source, lens), _shares_of(source)
    splits, every = _splits(source, plan), torch.arange(len(far))
    for part, numbers, is_far in _apart(far):
        frame = Frame.around(where.grid, plan.far_margin_px if is_far else plan.margin_px)
        rows, seen = numbers, part
        if is_dark is not None:
            dark, rows = (every[part][is_dark[part] == way] for way in (True, False))
            seen = rows
            made.magnification[dark] = cpu.magnified(
                traced.rows(dark), x0=where.x0[dark], y0=where.y0[dark],
                share=None if share is None else share[dark], frame=frame, splits=splits,
            )  # fmt: skip
        cpu.expose(
            traced.rows(seen), x0=where.x0[seen], y0=where.y0[seen],
            is_lensed=lens.theta_e[seen] > 0, flux=where.flux[seen],
            share=None if share is None else share[seen], psf=where.psf.rows(seen), frame=frame,
            splits=splits, made=made.at(rows),
        )  # fmt: skip
    return Painted(made.pixels, made.inside, made.magnification)


def _splits(source: Sersic | Pictures, plan: Plan) -> tuple[int, ...]:
    return plan.picture_splits if isinstance(source, Pictures) else plan.splits


def _shares_of(source: Sersic | Pictures) -> Tensor | None:
    """Share of a band's flux in each layer of the sources; None where there is one."""
    if not isinstance(source, Pictures) or source.bank.pictures.shape[1] == 1:
        return None
    return source.shares().to(source.x.dtype)


def _one_after_the_other(one: Any, other: Any) -> Any:
    """Rows of two batches of sources, or of lenses, as one; of pictures both from one bank."""
    changed = {
        f.name: torch.cat([getattr(one, f.name), getattr(other, f.name)])
        for f in fields(one)
        if isinstance(getattr(one, f.name), Tensor)
    }
    return replace(one, **changed)


def paint(
    shape: Parts | Brightness,
    *,
    flux: Tensor,
    psf: Psf,
    centre_x: Tensor,
    centre_y: Tensor,
    grid: Grid,
    plan: Plan = DEFAULT,
    kernel: Kernel = "auto",
) -> Painted:
    """Light of any shape, through the same sampling grid, PSF and pixels as a lensed source.

    Args:
        shape: Look-alikes made of parts, in one layer or two. Or a brightness of points (x, y),
            arcsec from the centre, shape (n, m), where row i is the i-th stamp: (n, m), >= 0, in
            any unit; a `Shape` is asked for a few rows at a time, a plain function for all of them
            at once.
        flux: Total flux in the stamp and its margin, nmgy, shape (n, band).
        psf: PSF of n rows, or of one for all.
        centre_x: Centre of the shape from the centre of the stamp, pixels, shape (n,).
        centre_y: The same along y.
        grid: The stamp's pixels.
        plan: How finely light is sampled.
        kernel: As of `render_lensed`; the compiled one is for parts.

    Returns:
        Pixels in the precision and on the device of `centre_x`; the magnification is 1.

    Raises:
        ValueError: shapes do not fit each other, a flux or centre is not finite, or a row needs
            light that its shape has not in the frame.
    """
    _check(flux, psf, centre_x, centre_y)
    flux = flux.to(centre_x.dtype)
    frame = Frame.around(grid, plan.margin_px)
    if isinstance(shape, Parts):
        return _paint_parts(shape, flux, psf, centre_x, centre_y, frame, plan, kernel)

    def draw(part: slice) -> tuple[Tensor, Tensor]:
        x0, y0 = centre_x[part], centre_y[part]
        some = shape.rows(part) if isinstance(shape, Shape) else shape
        fine = sample_shape(some, x0=x0, y0=y0, frame=frame, refined=plan.shape_cells)
        return fine, torch.ones_like(x0)[:, None]

    chunk = None if isinstance(shape, Shape) else max(1, len(flux))
    return _expose(
        draw, flux=flux, share=None, psf=psf, frame=frame, chunk_rows=chunk, like=centre_x
    )


def _paint_parts(
    parts: Parts, flux: Tensor, psf: Psf, x0: Tensor, y0: Tensor, frame: Frame, plan: Plan,
    kernel: Kernel,
) -> Painted:  # fmt: skip
    """Look-alikes made of parts."""
    if plan.shape_cells == 0 and _is_compiled(kernel, like=x0):
        return _compiled_parts(parts, flux, psf, x0, y0, frame)

    def draw(part: slice) -> tuple[Tensor, Tensor]:
        few = parts.rows(part)
        fine = few.sampled(
            x0=x0[part], y0=y0[part], frame=frame, finer=PIECES if plan.shape_cells else 1
        )
        total = fine.sum((2, 3))
        _require_light(total > 0, few, flux[part])
        return fine, torch.ones_like(total)

    return _expose(
        draw, flux=flux, share=parts.shares, psf=psf, frame=frame, chunk_rows=None, like=x0
    )


def _compiled_parts(
    parts: Parts, flux: Tensor, psf: Psf, x0: Tensor, y0: Tensor, frame: Frame
) -> Painted:
    """Look-alikes on a CPU; rows without a second layer are not made to pay for one."""
    made = cpu.Made.room(flux, frame.grid.size_px)
    second = parts.second_share
    has_second = torch.zeros(len(flux), dtype=torch.bool) if second is None else second.amax(1) > 0
    for part, rows, is_asked in _apart(has_second):
        few = parts.rows(part) if is_asked else parts.rows(part).first_layer()
        lit = cpu.paint(
            few.values, x0=x0[part], y0=y0[part], flux=flux[part], share=few.shares,
            psf=psf.rows(part), frame=frame, made=made.at(rows),
        )  # fmt: skip
        _require_light(lit, few, flux[part], rows)
    return Painted(made.pixels, made.inside, made.magnification)


def _require_light(lit: Tensor, parts: Parts, flux: Tensor, rows: Tensor | None = None) -> None:
    """Refuse rows whose flux is in a layer without parts in the frame, (n, layer).

    `rows` are what they are called, (n,); None: as they come.

    On a CPU this is never passed over: it is known only once the parts are sampled.
    """
    on_cpu = lit.device.type == "cpu"
    if not on_cpu and is_checked():
        return
    shares = parts.shares
    of_layers = flux[:, None] if shares is None else shares * flux[:, None]
    lacking = (of_layers > 0).any(2) & ~lit
    if bool(lacking.any()):
        row, layer = lacking.nonzero()[0].tolist()
        row = row if rows is None else int(rows[row])
        raise ValueError(
            f"row {row} has flux in layer {layer}, where no part has light in or round its stamp"
        )


def _apart(is_second: Tensor) -> Iterator[tuple[Part, Tensor | None, bool]]:
    """Rows to be painted in one way and in another: which, the same as numbers, and the way.

    Where all are painted alike they are a slice, and need no numbers: None.
    """
    if not bool(is_second.any()) or bool(is_second.all()):
        yield slice(None), None, bool(is_second.any())
        return
    for way in (False, True):
        rows = torch.nonzero(is_second == way)[:, 0]
        yield rows, rows, way


def _in_two(
    is_second: Tensor,
    first: Callable[[Part], Painted],
    second: Callable[[Part], Painted],
) -> Painted:
    """Rows painted in one of two ways, in their order."""
    if not bool(is_second.any()):
        return first(slice(None))
    if bool(is_second.all()):
        return second(slice(None))
    one, other = first(~is_second), second(is_second)
    places = torch.cat([torch.nonzero(~is_second), torch.nonzero(is_second)])[:, 0]
    order = torch.argsort(places)
    return Painted(
        torch.cat([one.pixels, other.pixels])[order],
        torch.cat([one.inside, other.inside])[order],
        torch.cat([one.magnification, other.magnification])[order],
    )


def _is_far(source: Sersic | Pictures, lens: Lens, frame: Frame) -> Tensor:
    """Whether the outermost image lies so near to the frame's rim that light from beyond it counts.

    17 of 20,000 draws of the physical priors were off by 0.8 % or more (worst 8 %) for this reason
    with a margin of 8 px everywhere; all of them reached to within 1.5 arcsec of the rim.
    """
    scale = frame.grid.pixel_scale_arcsec
    reach = torch.hypot(source.x, source.y) + lens.theta_e + source.r_eff
    reach = torch.where(lens.theta_e > 0, reach, reach / (1 - lens.shear))
    return reach > frame.padded_px / 2 * scale - _RIM_ARCSEC


def _check(flux: Tensor, psf: Psf, centre_x: Tensor, centre_y: Tensor) -> None:
    """Refuse shapes that do not fit, and what is not finite."""
    rows, bands = flux.shape
    if psf.shape not in {(rows, bands), (1, bands)}:
        raise ValueError(f"flux is of {rows} rows and {bands} bands, the PSF of {psf.shape}")
    require(flux.isfinite(), flux, "a flux is finite")
    require(centre_x.isfinite() & centre_y.isfinite(), centre_x, "a centre is finite")


def _is_compiled(kernel: Kernel, *, like: Tensor) -> bool:
    """Whether the compiled kernel makes these rows."""
    fits = like.device.type == "cpu" and like.dtype == torch.float32
    if kernel == "compiled" and not (fits and cpu.is_available()):
        raise ValueError(
            f"the compiled kernel makes float32 stamps on a CPU and needs numba; got {like.dtype} "
            f"on {like.device}" + ("" if cpu.is_available() else ", and numba is not installed")
        )
    return kernel != "torch" and fits and cpu.is_available()


def _expose(
    draw: Callable[[slice], tuple[Tensor, Tensor]],
    *,
    flux: Tensor,
    share: Tensor | None,
    psf: Psf,
    frame: Frame,
    chunk_rows: int | None,
    like: Tensor,
) -> Painted:
    """Blur what `draw` gives for some rows: light on the fine grid, and its total by layer."""
    rows, bands = flux.shape
    size = frame.grid.size_px
    pixels = like.new_empty((rows, bands, size, size))
    inside, magnification = like.new_empty((rows, bands)), like.new_empty(rows)
    chunk = chunk_rows or _rows_at_once(frame, bands, like)
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        shared = None if share is None else share[part]
        with _full_precision(like.device.type):
            fine, total = draw(part)
            blurred = blur(fine, share=shared, psf=psf.rows(part), frame=frame)
        if shared is not None:
            total = (total[:, :, None] * shared).sum(1)
        inside[part] = blurred.sum((2, 3)) / total
        magnification[part] = total[:, total.shape[1] // 2]
        torch.mul(blurred, flux[part, :, None, None].to(like.dtype), out=pixels[part])
    return Painted(pixels, inside, magnification)


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Products in their factors' own precision, whatever training has switched on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _rows_at_once(frame: Frame, bands: int, like: Tensor) -> int:
    """Rows whose spectra fit a cache, or a good part of a GPU's memory."""
    budget = 8 * 2**20 if like.device.type == "cpu" else 2**30
    spectrum = frame.fine_px * (frame.fine_px // 2 + 1) * 2 * like.element_size()
    return max(1, budget // (spectrum * (bands + 2)))
