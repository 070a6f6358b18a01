"""Random lenses and sources for the renderer's tests, drawn by name."""

import math

import numpy as np
import torch
from torch import Tensor

from darkhaloscope.bench.truth import Row
from darkhaloscope.core import keys
from darkhaloscope.lensing.render import Grid, Lens, Sersic

SCALE = 0.262
GRID = Grid(64, SCALE)


def uniform(n: int, stream: str, low: float, high: float, dtype: torch.dtype) -> Tensor:
    values = keys.uniform(np.arange(n), seed=11, stream=stream)
    return torch.from_numpy(low + (high - low) * values).to(dtype)


def lenses(n: int, dtype: torch.dtype = torch.float32) -> Lens:
    """theta_E 0.3-2.5", q 0.5-1, shear 0-0.05."""
    return Lens(
        theta_e=uniform(n, "theta_e", 0.3, 2.5, dtype),
        q=uniform(n, "q", 0.5, 1.0, dtype),
        phi=uniform(n, "phi", 0, math.pi, dtype),
        shear=uniform(n, "shear", 0, 0.05, dtype),
        shear_phi=uniform(n, "shear_phi", 0, math.pi, dtype),
    )


def sources(lens: Lens) -> Sersic:
    """n 1-4, r_eff 0.08-0.3", evenly over the disc within half an Einstein radius."""
    n, dtype = len(lens.theta_e), lens.theta_e.dtype
    radius = 0.5 * lens.theta_e * uniform(n, "radius", 0, 1, dtype).sqrt()
    angle = uniform(n, "angle", 0, 2 * math.pi, dtype)
    return Sersic(
        x=radius * torch.cos(angle),
        y=radius * torch.sin(angle),
        r_eff=uniform(n, "r_eff", 0.08, 0.3, dtype),
        n=uniform(n, "n", 1, 4, dtype),
        q=uniform(n, "src_q", 0.5, 1.0, dtype),
        phi=uniform(n, "src_phi", 0, math.pi, dtype),
    )


def sersic(count: int = 1, dtype: torch.dtype = torch.float64, **values: float) -> Sersic:
    """Equal sources: at the centre, round, r_eff 0.2", n 1 unless told."""
    fields = {"x": 0.0, "y": 0.0, "r_eff": 0.2, "n": 1.0, "q": 1.0, "phi": 0.0} | values
    return Sersic(
        **{name: torch.full((count,), value, dtype=dtype) for name, value in fields.items()}
    )


def lens(count: int = 1, dtype: torch.dtype = torch.float64, **values: float) -> Lens:
    """Equal lenses: round, theta_E 1", no shear unless told."""
    fields = {"theta_e": 1.0, "q": 1.0, "phi": 0.0, "shear": 0.0, "shear_phi": 0.0} | values
    return Lens(
        **{name: torch.full((count,), value, dtype=dtype) for name, value in fields.items()}
    )


def centres(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Offsets of the host from the stamp's centre, within half a pixel."""
    return uniform(n, "x0", -0.5, 0.5, dtype), uniform(n, "y0", -0.5, 0.5, dtype)


def rows(source: Sersic, lens: Lens, x0: Tensor, y0: Tensor, scale: float = SCALE) -> list[Row]:
    """The same lenses for the slow renderer."""
    fields = (lens.theta_e, lens.q, lens.phi, lens.shear, lens.shear_phi, source.x, source.y)
    fields += (source.r_eff, source.n, source.q, source.phi, x0 * scale, y0 * scale)
    return [Row(*values) for values in zip(*[f.double().tolist() for f in fields], strict=True)]
