"""The compiled kernel of the renderer, driven: buffers, threads, and the transforms between loops.

Rows are worked on a few at a time, so that their grids stay in the caches. Sampling, folding and
cropping are `compiled`; the Fourier transforms are torch's. Rows are independent, so the number of
threads changes no result. A PSF that is no sum of round Gaussians goes through `blur.fold`.
"""

import fcntl
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, share of the light inside, and magnification of n rows: float32, on the CPU.

    Args:
        traced: n sources behind n lenses.
        x0: Host's centre from the stamp's, pixels, (n,).
        y0: The same along y.
        is_lensed: Whether there is a lens, (n,).
        flux: Unlensed flux, nmgy, (n, band).
        share: Share of a band's flux in each layer, (n, layer, band); None where there is one.
        psf: PSF of n rows, or of one for all.
        frame: Stamp and margin.
        splits: Cells split 4 x 4 at each level.

    Returns:
        Shapes (n, band, size, size), (n, band) and (n,): the fields of `render.Painted`.
    """
    rows, bands = flux.shape
    size = frame.grid.size_px
    pixels, inside = flux.new_empty((rows, bands, size, size)), flux.new_empty((rows, bands))
    light = flux.new_empty((rows, traced.layers))
    threads = max(1, min(torch.get_num_threads(), rows // _ROWS_A_THREAD))
    step = min(_ROWS_A_THREAD * threads, max(rows, 1))
    at = [part.contiguous().numpy() for part in (x0, y0)]
    numbers = [_numbers(traced), *at, *_sources(traced)]
    mixture = psf.mixture()
    waves = None if mixture is None else _waves(mixture)
    work = _Work(step, traced.layers, bands, frame, splits, threads)
    pictures = _pictures(traced)
    flux_of = np.ascontiguousarray(flux.numpy())
    pixels_out, inside_out = pixels.numpy(), inside.numpy()
    shares = None if share is None else np.ascontiguousarray(share.numpy())
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        work.resize(part.stop - start)
        work.sample([values[part] for values in numbers], pictures)
        light[part] = work.spectra[:, :, 0, 0].real  # a spectrum begins with the sum
        if waves is None:
            of_rows = None if share is None else share[part]
            work.folded.copy_(fold(work.spectra, share=of_rows, psf=psf.rows(part), frame=frame))
        else:
            own = waves if len(waves[0]) == 1 else [w[part] for w in waves]
            work.fold(own, None if shares is None else shares[part], psf)
        work.read_off(flux_of[part], pixels_out[part], inside_out[part])
    total = torch.where(is_lensed[:, None], light, 1.0)
    if share is not None:
        total = (total[:, :, None] * share).sum(1)
    return pixels, inside / total, total[:, total.shape[1] // 2]


def paint(
    parts: Tensor,
    *,
    x0: Tensor,
    y0: Tensor,
    flux: Tensor,
    share: Tensor | None,
    psf: Psf,
    frame: Frame,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of n look-alikes, share of the light inside, and which layers have light at all.

    Args:
        parts: `contaminants.Parts.values`, (n, K, PART), float32 on the CPU.
        x0: The host's centre from the stamp's, pixels, (n,).
        y0: The same along y.
        flux: Total flux in the frame, nmgy, (n, band).
        share: Share of a band's flux in each layer, (n, layer, band); None where there is one.
        psf: PSF of n rows, or of one for all.
        frame: Stamp and margin.

    Returns:
        Shapes (n, band, size, size), (n, band) and (n, layer).
    """
    rows, bands = flux.shape
    layers = 1 if share is None else share.shape[1]
    size = frame.grid.size_px
    pixels, inside = flux.new_empty((rows, bands, size, size)), flux.new_empty((rows, bands))
    lit = torch.empty(rows, layers, dtype=torch.bool)
    threads = max(1, min(torch.get_num_threads(), rows // _ROWS_A_THREAD))
    step = min(_ROWS_A_THREAD * threads, max(rows, 1))
    numbers = [values.contiguous().numpy() for values in (parts, x0, y0)] + [lit.numpy()]
    mixture = psf.mixture()
    waves = None if mixture is None else _waves(mixture)
    work = _Work(step, layers, bands, frame, (), threads)
    flux_of = np.ascontiguousarray(flux.numpy())
    shares = None if share is None else np.ascontiguousarray(share.numpy())
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        work.resize(part.stop - start)
        work.sample_parts([values[part] for values in numbers])
        if waves is None:
            of_rows = None if share is None else share[part]
            work.folded.copy_(fold(work.spectra, share=of_rows, psf=psf.rows(part), frame=frame))
        else:
            own = waves if len(waves[0]) == 1 else [w[part] for w in waves]
            work.fold(own, None if shares is None else shares[part], psf)
        work.read_off(flux_of[part], pixels.numpy()[part], inside.numpy()[part])
    return pixels, inside, lit


class _Work:
    """Room for some rows, made once a call: memory that is given back costs more than the work.

    Attributes:
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
        threads: int,
    ) -> None:
        fine, padded = frame.fine_px, frame.padded_px
        self._frame, self._threads = frame, threads
        self._levels = np.asarray(splits, np.int64)
        self._room = (
            torch.empty(rows, layers, fine, fine),
            torch.empty(rows, layers, fine, fine // 2 + 1, dtype=torch.complex64),
            torch.empty(rows, bands, padded, padded // 2 + 1, dtype=torch.complex64),
            torch.empty(rows, bands, padded, padded),
        )
        self._no_share = np.ones((rows, layers, bands), np.float32)
        self._count = -1
        self.resize(rows)

    def resize(self, count: int) -> None:
        """Work on `count` rows from now on."""
        if count == self._count:
            return
        self._count = count
        self._fine, self.spectra, self.folded, self._blurred = (r[:count] for r in self._room)

    def sample(self, numbers: Sequence[NDArray[Any]], pictures: F4) -> None:
        """Light of the rows with these numbers, and its spectra."""
        frame, fine = self._frame, self._fine.numpy()
        scale, axis = np.float32(frame.grid.pixel_scale_arcsec), _axis(frame)
        weights = _weights(frame.fine_px)
        sample_rows = loops(_LOOPS).sample_rows

        def some(part: slice) -> None:
            rows, x0, y0, *source = (values[part] for values in numbers)
            sample_rows(
                rows, x0, y0, axis, scale, self._levels, weights, pictures, *source, fine[part]
            )

        self._share_out(some)
        torch.fft.rfft2(self._fine, out=self.spectra)

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

    def _share_out(self, work: Callable[[slice], None]) -> None:
        """Do pieces of the rows side by side; the compiled loops let go of Python's lock."""
        count = self._count
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
