"""Endurance: no draw of any prior is rendered badly.

Ten thousand draws of each prior with --soak (`make soak`), 500 without (`make test-slow`): the
default plan against the reference plan, and both against the independent slow renderer for some
of the draws, the worst ones among them.
"""

import numpy as np
import pytest
import torch
from lensing_builders import GRID, SCALE
from prior_builders import PRIORS, Drawn, drawn

from darkhaloscope.bench.truth import errors, light_of, moffat_pixels
from darkhaloscope.lensing.render import DEFAULT, REFERENCE, Kernel, Plan, render_lensed

pytestmark = pytest.mark.slow

WORST_SHARE = 0.02  # of the L2 norm of a stamp that any draw may be off
MARGIN_PX = 32  # of the slow renderer
AT_ONCE = 500


@pytest.mark.parametrize(("name", "population"), PRIORS)
def test_no_draw_is_off_by_more_than_two_per_cent(
    kernel: Kernel,
    name: str,
    population: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    soak = bool(request.config.getoption("--soak"))
    n, n_worst, n_any = (10_000, 25, 50) if soak else (500, 5, 5)
    some = drawn(name, population, n)
    l2, flux = off_the_reference(some, kernel)
    worst = np.argsort(-l2)
    checked = np.unique(np.concatenate([worst[:n_worst], np.arange(n_any) * (n // n_any)]))
    default, reference = off_the_truth(some, checked, kernel)
    with capsys.disabled():
        print(f"\n{name}, {population}, {kernel}, {n} draws: errors in per cent, p50 p95 p99 worst")
        for what, values in (
            ("L2, default against reference", l2),
            ("flux, default against reference", flux),
            (f"L2, default against truth, {len(checked)} draws", default),
            (f"L2, reference against truth, {len(checked)} draws", reference),
        ):
            told = np.percentile(100 * values, [50, 95, 99, 100])
            print("  " + what + ": " + " ".join(f"{value:.3f}" for value in told))
        print(f"  worst: {some.describe(int(worst[0]))}")
    assert reference.max() <= WORST_SHARE / 4  # or it could not judge
    assert default.max() <= WORST_SHARE
    assert l2.max() <= WORST_SHARE


def stamps(some: Drawn, plan: Plan, kernel: Kernel) -> np.ndarray:
    """Stamps of some draws in one band."""
    painted = render_lensed(
        some.source,
        some.lens,
        flux=torch.ones(len(some), 1),
        psf=some.psf,
        centre_x=some.x0,
        centre_y=some.y0,
        grid=GRID,
        plan=plan,
        kernel=kernel,
    )
    return painted.pixels[:, 0].double().numpy()


def off_the_reference(some: Drawn, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of image (L2) and flux of the default plan."""
    parts = [some.take(slice(i, i + AT_ONCE)) for i in range(0, len(some), AT_ONCE)]
    found = [
        errors(stamps(part, DEFAULT, kernel), stamps(part, REFERENCE, kernel)) for part in parts
    ]
    l2, flux = (np.concatenate(values) for values in zip(*found, strict=True))
    return l2, flux


def off_the_truth(some: Drawn, at: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """L2 error of default and reference plan against the slow renderer, of the draws `at`."""
    part = some.take(torch.from_numpy(at))
    truths = []
    for row, alpha, beta in zip(
        part.slow(), part.psf.alpha[:, 0].tolist(), part.psf.beta[:, 0].tolist(), strict=True
    ):
        light = light_of(row, GRID.size_px + 2 * MARGIN_PX, SCALE)
        truths.append(moffat_pixels(light, GRID.size_px, alpha, beta))
    default, reference = (
        errors(stamps(part, plan, kernel), np.stack(truths))[0] for plan in (DEFAULT, REFERENCE)
    )
    return default, reference
