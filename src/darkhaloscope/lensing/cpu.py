"""The compiled kernel of the renderer, driven: buffers, threads, and the transforms between loops.

Rows are worked on a few at a time, so that their grids stay in the caches. Sampling, folding and
cropping are `compiled`; the Fourier transforms are torch's. Rows are independent, so the number of
threads changes no result. A PSF that is no sum of round Gaussians goes through `blur.fold`.
"""

import fcntl
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.lensing.blur import Frame, fold, frequencies
from darkhaloscope.lensing.contaminants import CORE, deposit
from darkhaloscope.lensing.psf import Mixture, Psf
from darkhaloscope.lensing.sampling import BASE_PX, Rays, stencil

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

_LOOPS = "darkhaloscope.lensing.compiled"
_SHAPE_LOOPS = "darkhaloscope.lensing.compiled_shapes"
_ROWS_A_THREAD = 8  # in the second-level cache with all that is made of them
_PER_E = 1 / math.log(2)  # the compiled loops take powers of 2
_LEAST_FLATTENING = 1e-3  # as `profiles.sie_angles` has it in float32


@cache
def is_available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


@dataclass(frozen=True, slots=True)
class Made:
    """Stamps to be filled, all rows' together: memory asked for once is not copied again.

    Attributes:
        pixels: Flux per pixel, nmgy, (n, band, size, size).
        inside: Share of the light inside the stamp, (n, band).
        magnification: Lensed over unlensed flux, (n,).
        rows: Those to be filled, m numbers; None: all n.
    """

    pixels: Tensor
    inside: Tensor
    magnification: Tensor
    rows: Tensor | None = None

    def at(self, rows: Tensor | None) -> "Made":
        """The same, of which these rows are to be filled."""
        return replace(self, rows=rows)

    @classmethod
    def room(cls, flux: Tensor, size_px: int) -> "Made":
        """For as many rows and bands as `flux`, (n, band), has; not filled."""
        rows, bands = flux.shape
        return cls(
            flux.new_empty((rows, bands, size_px, size_px)),
            flux.new_empty((rows, bands)),
            flux.new_ones(rows),
        )


def expose(
    traced: Rays,
    *,
    x0: Tensor,
    y0: Tensor,
    is_lensed: Tensor,
    flux: Tensor,
    share: Tensor | None,
    psf: Psf,
    frame: Frame,
    splits: tuple[int, ...],
    made: Made,
) -> None:
    """Fill the stamps of m rows with sources behind lenses: float32, on the CPU.

    Args:
        traced: m sources behind m lenses.
        x0: Host's centre from the stamp's, pixels, (m,).
        y0: The same along y.
        is_lensed: Whether there is a lens, (m,).
        flux: Unlensed flux, nmgy, (m, band).
        share: Share of a band's flux in each layer, (m, layer, band); None where there is one.
        psf: PSF of m rows, or of one for all.
        frame: Stamp and margin.
        splits: Cells split 4 x 4 at each level.
        made: Its m rows are filled.
    """
    work = _Work(len(flux), traced.layers, flux.shape[1], frame, splits)
    light = flux.new_empty((len(flux), traced.layers))
    numbers, pictures = _rays_of(traced, x0, y0), _pictures(traced)

    def draw(part: slice) -> None:
        work.sample([values[part] for values in numbers], pictures)
        light[part] = work.spectra[:, :, 0, 0].real  # a spectrum begins with the sum

    work.each(draw, flux=flux, share=share, psf=psf, made=made)
    total = torch.where(is_lensed[:, None], light, 1.0)
    if share is not None:
        total = (total[:, :, None] * share).sum(1)
    place: Any = slice(None) if made.rows is None else made.rows
    made.inside[place] /= total
    made.magnification[place] = total[:, total.shape[1] // 2]


def magnified(
    traced: Rays,
    *,
    x0: Tensor,
    y0: Tensor,
    share: Tensor | None,
    frame: Frame,
    splits: tuple[int, ...],
) -> Tensor:
    """Magnification of m sources behind lenses, (m,), as `expose` finds it; without their image."""
    work = _Work(len(x0), traced.layers, 1, frame, splits)
    light = x0.new_empty((len(x0), traced.layers))
    numbers, pictures = _rays_of(traced, x0, y0), _pictures(traced)
    for part in work.parts():
        light[part] = work.light([values[part] for values in numbers], pictures)
    if share is not None:
        light = (light[:, :, None] * share).sum(1)
    return light[:, light.shape[1] // 2]


def expose_pieces(  # noqa: PLR0913
    traced: Rays,
    *,
    row: Tensor,
    weight: Tensor,
    x0: Tensor,
    y0: Tensor,
    flux: Tensor,
    share: Tensor | None,
    psf: Psf,
    frame: Frame,
    splits: tuple[int, ...],
    made: Made,
) -> None:
    """Fill the stamps of m rows with pieces of sources, added up before they are blurred.

    Args:
        traced: k unlensed pieces.
        row: Whose they are, from 0 to m - 1, in ascending order, (k,).
        weight: Their light over that of the row, (k,).
        x0: Host's centre from the stamp's, pixels, (k,).
        y0: The same along y.
        flux: Flux of the rows, (m, band).
        share: As of `expose`, of the rows.
        psf: As of `expose`, of the rows.
        frame: Stamp and margin.
        splits: Cells split 4 x 4 at each level.
        made: Its m rows are filled.
    """
    work = _Work(len(flux), traced.layers, flux.shape[1], frame, splits)
    numbers, pictures = _rays_of(traced, x0, y0), _pictures(traced)
    owner, weights = row.numpy(), weight.contiguous().numpy()

    def draw(part: slice) -> None:
        first, last = np.searchsorted(owner, (part.start, part.stop))
        own = slice(int(first), int(last))
        work.sample_pieces(
            [values[own] for values in numbers], pictures, owner[own] - part.start, weights[own]
        )

    work.each(draw, flux=flux, share=share, psf=psf, made=made)


def paint(
    parts: Tensor,
    *,
    x0: Tensor,
    y0: Tensor,
    flux: Tensor,
    share: Tensor | None,
    psf: Psf,
    frame: Frame,
    made: Made,
) -> Tensor:
    """Fill the stamps of m look-alikes.

    Args:
        parts: `contaminants.Parts.values`, (m, K, PART), float32 on the CPU.
        x0: The host's centre from the stamp's, pixels, (m,).
        y0: The same along y.
        flux: Total flux in the frame, nmgy, (m, band).
        share: Share of a band's flux in each layer, (m, layer, band); None where there is one.
        psf: PSF of m rows, or of one for all.
        frame: Stamp and margin.
        made: Its m rows are filled.

    Returns:
        Which layers have light at all, (m, layer).
    """
    layers = 1 if share is None else share.shape[1]
    lit = torch.empty(len(flux), layers, dtype=torch.bool)
    numbers = [values.contiguous().numpy() for values in (parts, x0, y0)] + [lit.numpy()]
    work = _Work(len(flux), layers, flux.shape[1], frame, ())

    def draw(part: slice) -> None:
        work.sample_parts([values[part] for values in numbers])

    work.each(draw, flux=flux, share=share, psf=psf, made=made)
    return lit


class _Work:
    """Room for some rows, made once a call: memory that is given back costs more than the work.

    Attributes:
        step: Rows worked on at once.
        spectra: Of the light on the fine grid, (n, layer, 2 P, P + 1).
        folded: Of each band's pixels, (n, band, P, P / 2 + 1).
    """

    def __init__(
        self,
        rows: int,
        layers: int,
        bands: int,
        frame: Frame,
        splits: tuple[int, ...],
    ) -> None:
        """Room for `rows` rows, or as many of them as the caches like."""
        fine, padded = frame.fine_px, frame.padded_px
        self._rows, self._frame = rows, frame
        self._threads = max(1, min(torch.get_num_threads(), rows // _ROWS_A_THREAD))
        self.step = step = min(_ROWS_A_THREAD * self._threads, max(rows, 1))
        self._levels = np.asarray(splits, np.int64)
        self._room = (
            torch.empty(step, layers, fine, fine),
            torch.empty(step, layers, fine, fine // 2 + 1, dtype=torch.complex64),
            torch.empty(step, bands, padded, padded // 2 + 1, dtype=torch.complex64),
            torch.empty(step, bands, padded, padded),
        )
        self._no_share = np.ones((step, layers, bands), np.float32)
        self._stamps = np.empty((step, bands, frame.grid.size_px, frame.grid.size_px), np.float32)
        self._apart: Tensor | None = None  # room for pieces
        self._count = -1
        self.resize(step)

    def parts(self) -> Iterator[slice]:
        """All rows, some at a time, for which there is room."""
        for start in range(0, self._rows, self.step):
            part = slice(start, min(start + self.step, self._rows))
            self.resize(part.stop - start)
            yield part

    def each(
        self,
        draw: Callable[[slice], None],
        *,
        flux: Tensor,
        share: Tensor | None,
        psf: Psf,
        made: Made,
    ) -> None:
        """Fill the stamps of all rows with the light that `draw` makes spectra of, blurred."""
        mixture = psf.mixture()
        waves = None if mixture is None else _waves(mixture)
        flux_of = np.ascontiguousarray(flux.numpy())
        shares = None if share is None else np.ascontiguousarray(share.numpy())
        pixels, inside = made.pixels.numpy(), made.inside.numpy()
        for part in self.parts():
            draw(part)
            if waves is None:
                of_rows = None if share is None else share[part]
                blurred = fold(self.spectra, share=of_rows, psf=psf.rows(part), frame=self._frame)
                self.folded.copy_(blurred)
            else:
                own = waves if len(waves[0]) == 1 else [w[part] for w in waves]
                self.fold(own, None if shares is None else shares[part], psf)
            if made.rows is None:
                self.read_off(flux_of[part], pixels[part], inside[part])
                continue
            stamps, held = self._stamps[: self._count], np.empty_like(flux_of[part])
            self.read_off(flux_of[part], stamps, held)
            place = made.rows[part].numpy()
            pixels[place], inside[place] = stamps, held

    def resize(self, count: int) -> None:
        """Work on `count` rows from now on."""
        if count == self._count:
            return
        self._count = count
        self._fine, self.spectra, self.folded, self._blurred = (r[:count] for r in self._room)

    def sample(self, numbers: Sequence[NDArray[Any]], pictures: F4) -> None:
        """Light of the rows with these numbers, and its spectra."""
        self._sample(numbers, pictures, self._fine)
        torch.fft.rfft2(self._fine, out=self.spectra)

    def light(self, numbers: Sequence[NDArray[Any]], pictures: F4) -> Tensor:
        """Light of the rows with these numbers, for an unlensed flux of 1, (n, layer)."""
        self._sample(numbers, pictures, self._fine)
        return self._fine.sum((2, 3))

    def sample_pieces(
        self, numbers: Sequence[NDArray[Any]], pictures: F4, row: NDArray[Any], weight: F4
    ) -> None:
        """Light of the rows whose pieces have these numbers, and its spectra."""
        add_pieces = loops(_SHAPE_LOOPS).add_pieces
        if self._apart is None:
            self._apart = torch.empty_like(self._room[0])
        self._fine.zero_()
        for start in range(0, len(row), self.step):
            part = slice(start, min(start + self.step, len(row)))
            apart = self._apart[: part.stop - start]
            self._sample([values[part] for values in numbers], pictures, apart)
            add_pieces(apart.numpy(), row[part], weight[part], self._fine.numpy())
        torch.fft.rfft2(self._fine, out=self.spectra)

    def _sample(self, numbers: Sequence[NDArray[Any]], pictures: F4, out: Tensor) -> None:
        frame, fine = self._frame, out.numpy()
        scale, axis = np.float32(frame.grid.pixel_scale_arcsec), _axis(frame)
        weights = _weights(frame.fine_px)
        sample_rows = loops(_LOOPS).sample_rows

        def some(part: slice) -> None:
            rows, x0, y0, *source = (values[part] for values in numbers)
            sample_rows(
                rows, x0, y0, axis, scale, self._levels, weights, pictures, *source, fine[part]
            )

        self._share_out(some, len(fine))

    def sample_parts(self, numbers: Sequence[NDArray[Any]]) -> None:
        """Light of look-alikes with these numbers, and its spectra; says which layers have any."""
        sample_part_rows = loops(_SHAPE_LOOPS).sample_part_rows
        fine = self._fine.numpy()
        scale = np.float32(self._frame.grid.pixel_scale_arcsec)
        axis, weights = _fine_axis(self._frame), _core_weights()

        def some(part: slice) -> None:
            parts, x0, y0, lit = (values[part] for values in numbers)
            sample_part_rows(parts, x0, y0, axis, scale, weights, fine[part], lit)

        self._share_out(some)
        torch.fft.rfft2(self._fine, out=self.spectra)

    def fold(self, waves: Sequence[F8], share: F4 | None, psf: Psf) -> None:
        """From `spectra` to `folded`, by a PSF that is a mixture of Gaussians."""
        frame = self._frame
        phase = _phase(frame, psf.includes_pixel)
        step2 = (1 / (frame.padded_px * frame.grid.pixel_scale_arcsec)) ** 2
        spectra, folded = _pairs(self.spectra), _pairs(self.folded)
        shares = self._no_share[: self._count] if share is None else share
        blur_spectra = loops(_LOOPS).blur_spectra

        def some(part: slice) -> None:
            own = [w if len(w) == 1 else w[part] for w in waves]
            blur_spectra(spectra[part], phase, *own, step2, shares[part], folded[part])

        self._share_out(some)

    def read_off(self, flux: F4, pixels: F4, inside: F4) -> None:
        """Fill a stamp of each row and band, and the light inside of it for a flux of 1."""
        padded, lead = self._frame.padded_px, self._frame.lead_px
        torch.fft.irfft2(self.folded, s=(padded, padded), out=self._blurred)
        blurred = self._blurred.numpy()
        read_off = loops(_LOOPS).read_off

        def some(part: slice) -> None:
            read_off(blurred[part], flux[part], lead, pixels[part], inside[part])

        self._share_out(some)

    def _share_out(self, work: Callable[[slice], None], count: int | None = None) -> None:
        """Do pieces of the rows side by side; the compiled loops let go of Python's lock."""
        count = self._count if count is None else count
        if self._threads == 1:
            work(slice(0, count))
            return
        edges = [count * i // self._threads for i in range(self._threads + 1)]
        pieces = [slice(start, stop) for start, stop in pairwise(edges) if stop > start]
        for done in [_pool(self._threads).submit(work, piece) for piece in pieces]:
            done.result()


@cache
def loops(module: str) -> ModuleType:
    """A module of compiled loops; its first import on a machine takes some 15 s.

    Processes of one user that start at once wait for one compilation.
    """
    path = Path(tempfile.gettempdir(), f"darkhaloscope-compile-{os.getuid()}.lock")
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            return import_module(module)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _numbers(traced: Rays) -> F4:
    """The numbers of each row in the order of the compiled loops, (n, compiled.ROW)."""
    q = traced.q
    flattening = torch.sqrt((1 - q) * (1 + q)).clamp_min(_LEAST_FLATTENING)
    columns = [q * q, flattening, q, *traced.matrix, *traced.pull, *traced.shift]
    columns += [traced.exponent, traced.minus_b * _PER_E, traced.log_peak * _PER_E]
    table: F4 = (
        torch.cat([*columns, traced.cos, traced.sin, traced.stretch], 1).contiguous().numpy()
    )
    return table


def _rays_of(traced: Rays, x0: Tensor, y0: Tensor) -> list[NDArray[Any]]:
    """What the compiled loops read of each row."""
    at = [values.contiguous().numpy() for values in (x0, y0)]
    return [_numbers(traced), *at, *_sources(traced)]


def _pictures(traced: Rays) -> F4:
    """The bank, (count, layer, size, size); an empty one where sources are Sersic."""
    if traced.pictures is None:
        return np.zeros((1, 1, 0, 0), np.float32)
    return np.ascontiguousarray(traced.pictures.bank.pictures.numpy())


def _sources(traced: Rays) -> list[NDArray[Any]]:
    """Of each row: which picture, its half-light radius in pixels, and -1 if it is mirrored."""
    taken, count = traced.pictures, len(traced.q)
    if taken is None:
        return [np.zeros(count, np.int64), np.ones(count, np.float32), np.ones(count, np.float32)]
    half_light_px = taken.bank.half_light_px[taken.index].float()
    mirror = torch.where(taken.is_mirrored, -1.0, 1.0)
    return [taken.index.contiguous().numpy(), half_light_px.numpy(), mirror.numpy()]


def _waves(mixture: Mixture) -> list[F8]:
    parts = (mixture.exponent, mixture.weight)
    return [part.double().contiguous().numpy() for part in parts]


def _pairs(values: Tensor) -> F4:
    """Complex numbers as pairs of numbers along the last axis."""
    pairs: F4 = torch.view_as_real(values).flatten(-2).numpy()
    return pairs


@lru_cache(maxsize=32)
def _axis(frame: Frame) -> F4:
    like = torch.zeros((), dtype=torch.float32)
    centres: F4 = frame.centres_px(frame.padded_px // BASE_PX, like).numpy()
    return centres


@lru_cache(maxsize=32)
def _fine_axis(frame: Frame) -> F4:
    like = torch.zeros((), dtype=torch.float32)
    centres: F4 = frame.centres_px(frame.fine_px, like).numpy()
    return centres


@cache
def _core_weights() -> F4:
    weights: F4 = deposit(CORE, torch.device("cpu"), torch.float32).numpy()
    return weights


@lru_cache(maxsize=32)
def _weights(fine_px: int) -> F4:
    return np.ascontiguousarray(stencil(fine_px, torch.device("cpu"), torch.float32)[1].numpy())


@lru_cache(maxsize=32)
def _phase(frame: Frame, includes_pixel: bool) -> F4:
    phase = frequencies(frame, includes_pixel, torch.float32, torch.device("cpu")).phase
    return np.ascontiguousarray(_pairs(phase))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="render")
