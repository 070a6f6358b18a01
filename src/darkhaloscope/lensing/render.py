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
from dataclasses import dataclass
from functools import partial
from typing import Literal

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
    "Grid",
    "Kernel",
    "Lens",
    "Painted",
    "Pictures",
    "Plan",
    "Sersic",
    "paint",
    "render_lensed",
]


Kernel = Literal["auto", "torch", "compiled"]
_RIM_ARCSEC = 1.5


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
    traced, is_lensed = rays(source, lens), lens.theta_e > 0
    flux = flux.to(source.x.dtype)
    share = None
    if isinstance(source, Pictures) and traced.layers > 1:
        share = source.shares().to(source.x.dtype)
    splits = plan.splits if traced.pictures is None else plan.picture_splits
    x0, y0 = centre_x.to(source.x.dtype), centre_y.to(source.x.dtype)

    is_compiled = _is_compiled(kernel, like=source.x)

    def expose(part: Part, margin_px: int) -> Painted:
        frame = Frame.around(grid, margin_px)
        of_rows, x, y, bent = traced.rows(part), x0[part], y0[part], is_lensed[part]
        shared = None if share is None else share[part]
        if is_compiled:
            made = cpu.expose(
                of_rows, x0=x, y0=y, is_lensed=bent, flux=flux[part], share=shared,
                psf=psf.rows(part), frame=frame, splits=splits,
            )  # fmt: skip
            return Painted(*made)

        def draw(few: slice) -> tuple[Tensor, Tensor]:
            fine = sample(of_rows.rows(few), x0=x[few], y0=y[few], frame=frame, splits=splits)
            return fine, torch.where(bent[few, None], fine.sum((2, 3)), 1)

        return _expose(
            draw, flux=flux[part], share=shared, psf=psf.rows(part), frame=frame,
            chunk_rows=chunk_rows, like=source.x,
        )  # fmt: skip

    if source.x.device.type != "cpu":  # to ask which rows are far would wait for the device
        return expose(slice(None), plan.far_margin_px)
    far = _is_far(source, lens, Frame.around(grid, plan.margin_px))
    return _in_two(
        far,
        lambda part: expose(part, plan.margin_px),
        lambda part: expose(part, plan.far_margin_px),
    )


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
    """Look-alikes; rows without a second layer are not made to pay for one."""
    if plan.shape_cells == 0 and _is_compiled(kernel, like=x0):
        if parts.second_share is None:
            return _compiled_parts(parts, flux, psf, x0, y0, frame)

        def some(part: Tensor | slice, *, has_second: bool) -> Painted:
            few = parts.rows(part)
            few = few if has_second else few.first_layer()
            return _compiled_parts(few, flux[part], psf.rows(part), x0[part], y0[part], frame)

        has_second = parts.second_share.amax(1) > 0
        return _in_two(has_second, partial(some, has_second=False), partial(some, has_second=True))

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
    shares = parts.shares
    pixels, inside, lit = cpu.paint(
        parts.values, x0=x0, y0=y0, flux=flux, share=shares, psf=psf, frame=frame
    )
    _require_light(lit, parts, flux)
    return Painted(pixels, inside, torch.ones_like(x0))


def _require_light(lit: Tensor, parts: Parts, flux: Tensor) -> None:
    """Refuse rows whose flux is in a layer without parts in the frame, (n, layer).

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
        raise ValueError(
            f"row {row} has flux in layer {layer}, where no part has light in or round its stamp"
        )


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
