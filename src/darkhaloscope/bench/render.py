"""`dhs bench render`: stamps per second of the renderer, and how far they are from the truth.

Speed: one process, one thread, CPU seconds; the rounds of our renderer and of lenstronomy are
interleaved. A speed is the median of its rounds, a ratio that of two medians, and its spread that
of the rounds' own ratios. Errors: image (relative L2) and flux of each stamp and band against a
refined float64 renderer that shares no code (`truth`). The PSF convention is lenstronomy's: profile
times pixel box, on both sides.
"""

import logging
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from darkhaloscope.bench import clock, draws, peers, truth
from darkhaloscope.bench.clock import Timed
from darkhaloscope.bench.draws import GRID, Draws
from darkhaloscope.bench.entry import Figures, check, circumstances, parser_of, tell
from darkhaloscope.bench.truth import Row
from darkhaloscope.lensing import cpu
from darkhaloscope.lensing.psf import Gaussian, Moffat
from darkhaloscope.lensing.render import DEFAULT, REFERENCE, Kernel, Plan, render_lensed

F8 = NDArray[np.float64]
Widths = list[tuple[float, ...]]
logger = logging.getLogger(__name__)

BATCH = 256  # stamps of a call, as training and the stage `stamps` make them
PEER_BATCH = 16
CUDA_BATCHES = (256, 1024, 4096, 16384, 65536)
FIELD_PX = GRID.size_px + 32  # the truth's light; a wider field changes nothing
WIDE_DRAWS = 200
PROFILES = ("gaussian", "moffat")
_PEERS = {"lenstronomy": peers.one_model_a_band, "lenstronomy_once": peers.traced_once}
_ERRORS = ("l2_p95_percent", "flux_p95_percent", "worst_l2_percent")


def main(words: Sequence[str]) -> int:
    """Measure and print; `words` are the options."""
    parser = parser_of("render")
    parser.add_argument("--draws", type=int, default=64, help="stamps whose error is measured")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median is the speed")
    parser.add_argument(
        "--kernel",
        choices=list(get_args(Kernel)),
        default="auto",
        help="auto: compiled where numba is installed",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="also errors of the reference plan, and draws as wide as training's",
    )
    asked = parser.parse_args(words)
    for name in ("draws", "rounds"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name} is at least 1; got {getattr(asked, name)}")
    check(asked)
    if asked.kernel == "compiled" and not cpu.is_available():
        parser.error("--kernel compiled needs numba, which is not installed")
    figures = measure(
        count=asked.draws,
        rounds=asked.rounds,
        device=asked.device,
        kernel=asked.kernel,
        is_full=asked.full,
    )
    tell(figures, table, asked)
    return 0


def measure(
    *,
    count: int,
    rounds: int,
    device: str = "auto",
    kernel: Kernel = "auto",
    is_full: bool = False,
) -> dict[str, Any]:
    """Speed and error of the renderer, and of lenstronomy where it is installed.

    Args:
        count: Draws for errors, >= 1.
        rounds: Rounds of timing, >= 1.
        device: `cpu`: the CPU alone; else a GPU besides, where there is one.
        kernel: What renders on the CPU.
        is_full: Whether to add the reference plan and the wide draws.

    Returns:
        Figures of Gaussian PSFs by name, those of Moffat PSFs under `moffat`, a GPU's under `cuda`;
        errors in per cent over stamps and bands. None stands for what is not installed or not here.
    """
    if kernel == "auto":
        kernel = "compiled" if cpu.is_available() else "torch"
    made = draws.comparison(count)
    start = time.perf_counter()
    _pixels(draws.comparison(1), "gaussian", kernel=kernel)
    first_call = time.perf_counter() - start
    logger.info("tracing the truth of %d draws", count)
    true = true_images(made)
    with clock.one_thread():
        logger.info("timing %d rounds", rounds)
        speeds = _speeds(rounds, kernel)
        logger.info("measuring errors")
        figures = {
            profile: {
                **_of_speeds(profile, speeds),
                **_of_errors(profile, made, true[profile], kernel),
            }
            for profile in PROFILES
        }
    if is_full:
        logger.info("measuring the reference plan and wide draws")
        for profile in PROFILES:
            reference = _pixels(made, profile, REFERENCE, kernel=kernel)
            figures[profile]["reference_plan"] = _errors(reference, true[profile])
        figures["moffat"]["wide_draws_against_reference_plan"] = _wide(kernel)
    has_gpu = device != "cpu" and torch.cuda.is_available()
    return {
        **figures["gaussian"],
        "moffat": figures["moffat"],
        "cuda": _on_cuda(made, true, rounds) if has_gpu else None,
        "draws": count,
        "rounds": rounds,
        "batch": BATCH,
        "kernel": kernel,
        "first_call_s": round(first_call, 3),
        **circumstances(),
    }


def true_images(made: Draws) -> dict[str, F8]:
    """Pixels of the slow renderer by PSF profile, each (n, band, y, x), nmgy."""
    size, scale = GRID.size_px, GRID.pixel_scale_arcsec

    def stamps(row: Row, gaussian: Widths, moffat: Widths) -> tuple[list[F8], list[F8]]:
        light = truth.light_of(row, FIELD_PX, scale)
        spectrum = truth.Spectrum(light, size)
        return (
            [truth.gaussian_pixels(light, size, fwhm, with_pixel=True) for (fwhm,) in gaussian],
            [spectrum.moffat_pixels(alpha, beta, with_pixel=True) for alpha, beta in moffat],
        )

    widths = [_widths(made.psfs[profile]) for profile in PROFILES]
    drawn = map(stamps, made.rows(), *widths)
    flux = made.flux.double().numpy()[:, :, None, None]
    return {
        profile: np.array(images) * flux
        for profile, images in zip(PROFILES, zip(*drawn, strict=True), strict=True)
    }


def _widths(psf: Gaussian | Moffat) -> list[Widths]:
    """Parameters of the PSF of each row and band: FWHM, or alpha and beta."""
    parts = (psf.fwhm,) if isinstance(psf, Gaussian) else (psf.alpha, psf.beta)
    return [
        list(zip(*bands, strict=True))
        for bands in zip(*(part.double().tolist() for part in parts), strict=True)
    ]


def _pixels(
    made: Draws, profile: str, plan: Plan = DEFAULT, *, kernel: Kernel = "auto"
) -> torch.Tensor:
    """The renderer under test: (n, band, y, x) where the draws live."""
    return render_lensed(
        made.source,
        made.lens,
        flux=made.flux,
        psf=made.psfs[profile],
        centre_x=made.centre_x,
        centre_y=made.centre_y,
        grid=GRID,
        plan=plan,
        kernel=kernel,
    ).pixels


def _speeds(rounds: int, kernel: Kernel) -> dict[tuple[str, str], list[float]]:
    """Stamps per core-second by renderer and profile, one a round."""
    many, few = draws.comparison(BATCH), draws.comparison(PEER_BATCH)
    timed = {}
    for profile in PROFILES:
        timed["ours", profile] = Timed(partial(_pixels, many, profile, kernel=kernel), BATCH)
        if kernel == "compiled":
            torch_only = partial(_pixels, many, profile, kernel="torch")
            timed["torch_kernel", profile] = Timed(torch_only, BATCH)
        if peers.has_lenstronomy():
            for name, build in _PEERS.items():
                peer = build(few, few.psfs[profile])
                timed[name, profile] = Timed(peer.all, PEER_BATCH)
    return clock.stamps_per_core_s(timed, rounds=rounds)


def _of_speeds(profile: str, speeds: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    """Speeds and their ratios for one PSF profile, with the spread of each over the rounds."""
    ours = speeds["ours", profile]
    figures: dict[str, Any] = {"stamps_per_core_s": round(statistics.median(ours), 1)}
    spread = {"stamps_per_core_s": _spread(ours)}
    for name in ("torch_kernel", *_PEERS):
        speed, ratio = f"{name}_stamps_per_core_s", f"ratio_to_{name}"
        theirs = speeds.get((name, profile))
        if theirs is None:
            figures |= {speed: None, ratio: None}
            continue
        figures[speed] = round(statistics.median(theirs), 1)
        figures[ratio] = round(statistics.median(ours) / statistics.median(theirs), 1)
        spread[speed] = _spread(theirs)
        spread[ratio] = _spread([a / b for a, b in zip(ours, theirs, strict=True)])
    return {**figures, "spread": spread}


def _spread(values: list[float]) -> list[float]:
    """Least and greatest."""
    return [round(min(values), 1), round(max(values), 1)]


def _of_errors(profile: str, made: Draws, true: F8, kernel: Kernel) -> dict[str, float | None]:
    """Errors of our renderer and of the yardstick for one PSF profile."""
    theirs: dict[str, float | None] = dict.fromkeys(_ERRORS)
    if peers.has_lenstronomy():
        theirs |= _errors(peers.one_model_a_band(made, made.psfs[profile]).all(), true)
    return {
        **_errors(_pixels(made, profile, kernel=kernel), true),
        **{f"lenstronomy_{name}": value for name, value in theirs.items()},
    }


def _errors(pixels: torch.Tensor | F8, true: F8) -> dict[str, float]:
    """p95 of the errors of image and flux, and the worst image, over stamps and bands."""
    image = pixels.double().cpu().numpy() if isinstance(pixels, torch.Tensor) else pixels
    l2, flux = (100 * error for error in truth.errors(image, true))
    values = (np.percentile(l2, 95), np.percentile(flux, 95), l2.max())
    return {name: round(float(value), 4) for name, value in zip(_ERRORS, values, strict=True)}


def _wide(kernel: Kernel) -> dict[str, Any]:
    """The default plan against the reference plan over draws as wide as training's."""
    made = draws.wide(WIDE_DRAWS)
    true = _pixels(made, "moffat", REFERENCE, kernel=kernel).double().numpy()
    return {"draws": WIDE_DRAWS, **_errors(_pixels(made, "moffat", kernel=kernel), true)}


def _on_cuda(made: Draws, true: dict[str, F8], rounds: int) -> dict[str, Any]:
    """Speed on the wall for ever larger batches, and errors, on a GPU."""
    figures: dict[str, dict[str, Any]] = {}
    there = made.to("cuda")
    for profile in PROFILES:
        by_batch: dict[int, float | None] = {}
        for batch in CUDA_BATCHES:
            logger.info("on the GPU: %s, %d stamps a call", profile, batch)
            by_batch[batch] = _cuda_speed(profile, batch, rounds)
            if by_batch[batch] is None:  # what is larger does not fit either
                break
        fitting = {batch: speed for batch, speed in by_batch.items() if speed is not None}
        best = max(fitting, key=fitting.__getitem__, default=None)
        figures[profile] = {
            "stamps_per_s": fitting.get(best) if best is not None else None,
            "batch": best,
            "stamps_per_s_by_batch": {str(batch): speed for batch, speed in by_batch.items()},
            **_errors(_pixels(there, profile), true[profile]),
        }
    return {**figures["gaussian"], "moffat": figures["moffat"]}


def _cuda_speed(profile: str, batch: int, rounds: int) -> float | None:
    """Median stamps per second on the GPU; None where the batch does not fit its memory."""
    try:
        many = draws.comparison(batch).to("cuda")
        speeds = clock.stamps_per_s_on_cuda(
            Timed(partial(_pixels, many, profile), batch), rounds=rounds
        )
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return round(statistics.median(speeds), 1)


def table(figures: Figures) -> str:
    """The figures for people."""
    columns = ("stamps/core-s", "(least-most)", "ratio", "L2 p95 %", "flux p95 %", "worst L2 %")
    lines = [f"{'':<30}" + "".join(f"{column:>16}" for column in columns)]
    for profile, part in (("Gaussian", figures), ("Moffat", figures["moffat"])):
        ratio = part["ratio_to_lenstronomy"]
        lines.append(_line(f"{profile} PSFs: darkhaloscope", part, "", ratio))
        torch_kernel = part["torch_kernel_stamps_per_core_s"]
        if torch_kernel is not None:
            lines.append(f"{'  its torch kernel':<30}{torch_kernel:>16,.0f}")
        if ratio is not None:
            lines.append(_line("  lenstronomy, 3 ImageModels", part, "lenstronomy_", 1.0))
            once = part["lenstronomy_once_stamps_per_core_s"]
            beside = f"{once:>16,.0f}{'':>16}{once / part['lenstronomy_stamps_per_core_s']:>16.1f}"
            lines.append(f"{'  lenstronomy, traced once':<30}{beside}")
    cuda = figures["cuda"]
    if cuda is not None:
        for profile, part in (("Gaussian", cuda), ("Moffat", cuda["moffat"])):
            speed = "out of memory" if part["batch"] is None else f"{part['stamps_per_s']:,.0f}"
            said = f"{speed} stamps/s on the wall, {part['batch']} a call"
            lines.append(
                f"{profile} PSFs on {figures['gpu']}: {said}; L2 p95 {part['l2_p95_percent']} %"
            )
    theirs = (
        "lenstronomy is not installed."
        if figures["lenstronomy_stamps_per_core_s"] is None
        else f"lenstronomy {figures['versions']['lenstronomy']} at supersampling "
        f"{peers.SUPERSAMPLING}, its models and kernels made before the clock starts."
    )
    lines += [
        "",
        f"{figures['cpu']}, {figures['date']}, kernel {figures['kernel']}. One process, one",
        f"thread, CPU seconds, median of {figures['rounds']} interleaved rounds; 64 px, 3 bands.",
        f"Errors of {figures['draws']} draws against a refined float64 renderer.",
        theirs,
    ]
    return "\n".join(lines)


def _line(name: str, part: Figures, prefix: str, ratio: float | None) -> str:
    """One renderer's row of the table."""
    speed, around = part[f"{prefix}stamps_per_core_s"], part["spread"][f"{prefix}stamps_per_core_s"]
    cells = [
        f"{speed:,.0f}",
        f"({around[0]:,.0f}-{around[1]:,.0f})",
        "" if ratio is None else f"{ratio:.1f}",
        *(f"{part[prefix + key]:.3f}" for key in _ERRORS),
    ]
    return f"{name:<30}" + "".join(f"{cell:>16}" for cell in cells)
