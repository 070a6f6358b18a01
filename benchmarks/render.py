"""Speed and error of the renderer beside lenstronomy: one process, one thread, CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/render.py [--draws 64] [--repeats 3]

Draws: theta_E 0.3-2.5", shear to 0.05, Sersic n 1-4, r_eff 0.08-0.3". Errors are relative L2 of the
image and of the total flux against a float64 renderer that shares no code (tests/lensing_truth.py).
Rounds of the two codes are interleaved, so that a busy machine slows both. Prints one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lensing_builders import GRID, SCALE, centres, lenses, rows, sources, uniform
from lensing_truth import errors, gaussian_pixels, light_of

from darkhaloscope.lensing.psf import Gaussian, moffat_from_psfsize
from darkhaloscope.lensing.render import DEFAULT, REFERENCE, Lens, Plan, Sersic, render_lensed

BATCH = 256
PSFSIZE = torch.tensor([[1.41, 1.31, 1.24]])


def rendered(n: int, psf: Gaussian | object, plan: Plan) -> torch.Tensor:
    """n stamps in three bands."""
    lens = lenses(n)
    x0, y0 = centres(n)
    at = {"centre_x": x0, "centre_y": y0, "grid": GRID}
    flux = torch.ones(n, 3)
    return render_lensed(sources(lens), lens, flux=flux, psf=psf, plan=plan, **at).pixels


def error_percent(n: int, plan: Plan) -> dict[str, float]:
    """p95 and worst of the image's and the flux's error, Gaussian PSF of FWHM 1.1"."""
    lens = lenses(n)
    source = sources(lens)
    x0, y0 = centres(n)
    psf = Gaussian(torch.full((1, 3), 1.1))
    made = render_lensed(
        source, lens, flux=torch.ones(n, 3), psf=psf, centre_x=x0, centre_y=y0, grid=GRID, plan=plan
    ).pixels[:, 1]
    found = []
    for image, row in zip(made.numpy(), rows(source, lens, x0, y0), strict=True):
        light = light_of(row, GRID.size_px + 32, SCALE)
        truth = gaussian_pixels(light, GRID.size_px, 1.1, with_pixel=False)
        found.append([float(np.ravel(e)[0]) for e in errors(image[None], truth[None])])
    l2, flux = 100 * np.abs(np.array(found)).T
    return {
        "l2_p95_percent": round(float(np.percentile(l2, 95)), 3),
        "flux_p95_percent": round(float(np.percentile(flux, 95)), 3),
        "worst_l2_percent": round(float(l2.max()), 3),
    }


def wide_difference_percent(n: int) -> dict[str, float]:
    """The default plan against the reference plan over the training priors, Moffat PSFs."""

    def drawn(stream: str, low: float, high: float) -> torch.Tensor:
        return uniform(n, f"wide {stream}", low, high, torch.float32)

    theta_e = drawn("theta_e", 0.5, 2.5)
    lens = Lens(
        theta_e, drawn("q", 0.5, 1), drawn("phi", 0, 3.14), drawn("shear", 0, 0.1),
        drawn("shear_phi", 0, 3.14),
    )  # fmt: skip
    offset, turn = 0.7 * theta_e * drawn("offset", 0, 1).sqrt(), drawn("turn", 0, 6.28)
    r_eff = 0.08 * (0.4 / 0.08) ** drawn("r_eff", 0, 1)
    source = Sersic(
        offset * turn.cos(), offset * turn.sin(), r_eff, drawn("n", 0.5, 4),
        drawn("src_q", 0.35, 1), drawn("src_phi", 0, 3.14),
    )  # fmt: skip
    x0, y0 = centres(n)
    at = {"centre_x": x0, "centre_y": y0, "grid": GRID, "flux": torch.ones(n, 3)}
    psf = moffat_from_psfsize(PSFSIZE, torch.full((1, 3), 2.8))
    made, truth = (
        render_lensed(source, lens, psf=psf, plan=plan, **at).pixels
        for plan in (DEFAULT, REFERENCE)
    )
    l2 = 100 * (made - truth).square().sum((2, 3)).sqrt() / truth.square().sum((2, 3)).sqrt()
    flux = 100 * (made.sum((2, 3)) / truth.sum((2, 3)) - 1).abs()
    return {
        "l2_p95_percent": round(float(l2.flatten().quantile(0.95)), 3),
        "flux_p95_percent": round(float(flux.flatten().quantile(0.95)), 3),
        "worst_l2_percent": round(float(l2.max()), 3),
    }


def lenstronomy_call(n: int) -> Callable[[], None] | None:
    """n stamps by lenstronomy as it is usually called; None where it is not installed."""
    try:
        from lenstronomy.Data.pixel_grid import PixelGrid
        from lenstronomy.Data.psf import PSF
        from lenstronomy.ImSim.image_model import ImageModel
        from lenstronomy.LensModel.lens_model import LensModel
        from lenstronomy.LightModel.light_model import LightModel
        from lenstronomy.Util.param_util import phi_q2_ellipticity
    except ImportError:
        return None
    start = -(GRID.size_px - 1) / 2 * SCALE
    grid = PixelGrid(
        nx=GRID.size_px, ny=GRID.size_px, transform_pix2angle=np.eye(2) * SCALE,
        ra_at_xy_0=start, dec_at_xy_0=start,
    )  # fmt: skip
    models = [
        ImageModel(
            grid, PSF(psf_type="GAUSSIAN", fwhm=fwhm, pixel_size=SCALE),
            LensModel(["SIE", "SHEAR"]), LightModel(["SERSIC_ELLIPSE"]),
            kwargs_numerics={"supersampling_factor": 5, "supersampling_convolution": False},
        )
        for fwhm in (1.5, 1.3, 1.1)
    ]  # fmt: skip
    lens = lenses(n)
    source = sources(lens)
    x0, y0 = centres(n)

    def call() -> None:
        for row in rows(source, lens, x0, y0):
            e1, e2 = phi_q2_ellipticity(phi=row.phi, q=row.q)
            s1, s2 = phi_q2_ellipticity(phi=row.src_phi, q=row.src_q)
            at = {"center_x": row.lens_x, "center_y": row.lens_y}
            shear = {
                "gamma1": row.shear * np.cos(2 * row.shear_phi),
                "gamma2": row.shear * np.sin(2 * row.shear_phi),
                "ra_0": row.lens_x, "dec_0": row.lens_y,
            }  # fmt: skip
            light = {
                "amp": 1.0, "R_sersic": row.r_eff, "n_sersic": row.n, "e1": s1, "e2": s2,
                "center_x": row.lens_x + row.src_x, "center_y": row.lens_y + row.src_y,
            }  # fmt: skip
            for model in models:
                model.image([{"theta_E": row.theta_e, "e1": e1, "e2": e2, **at}, shear], [light])

    return call


def per_core_second(call: Callable[[], object], stamps: int) -> float:
    """Stamps per CPU second of one call."""
    start = time.process_time()
    call()
    return stamps / (time.process_time() - start)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=64)
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    torch.set_num_threads(1)
    moffat = moffat_from_psfsize(PSFSIZE, torch.full((1, 3), 2.8))
    gaussian = Gaussian(torch.tensor([[1.5, 1.3, 1.1]]))
    peer, few = lenstronomy_call(16), 16
    speeds: dict[str, list[float]] = {"gaussian": [], "moffat": [], "lenstronomy": []}
    rendered(BATCH, moffat, DEFAULT)  # the first call makes tables and plans transforms
    for _ in range(asked.repeats):
        for name, psf in (("gaussian", gaussian), ("moffat", moffat)):
            speeds[name].append(per_core_second(lambda p=psf: rendered(BATCH, p, DEFAULT), BATCH))
        if peer is not None:
            speeds["lenstronomy"].append(per_core_second(peer, few))
    median = {k: round(statistics.median(v), 1) if v else None for k, v in speeds.items()}
    peer_speed = median["lenstronomy"]
    ratios = {
        f"{k}_over_lenstronomy": round(median[k] / peer_speed, 1) if peer_speed else None
        for k in ("gaussian", "moffat")
    }
    figures = {
        "stamps_per_core_s": median,
        "spread": {k: [round(min(v), 1), round(max(v), 1)] for k, v in speeds.items() if v},
        **ratios,
        "draws": asked.draws,
        "default_plan": error_percent(asked.draws, DEFAULT),
        "reference_plan": error_percent(asked.draws, REFERENCE),
        "default_against_reference_200_wide_draws": wide_difference_percent(200),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
