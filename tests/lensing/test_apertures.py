import numpy as np
import pytest
import torch

from darkhaloscope.lensing.apertures import aperture_flux
from darkhaloscope.lensing.blur import Grid

GRID = Grid(64, 0.262)


def gaussian(sigma: float, x: float, y: float) -> torch.Tensor:
    """Light of sum 1 whose share within a radius has a closed form, 1 - exp(-r^2 / 2 sigma^2)."""
    pixel = torch.arange(64, dtype=torch.float64) - 31.5
    r2 = (pixel[None, :] - x) ** 2 + (pixel[:, None] - y) ** 2
    light = torch.exp(-r2 * 0.262**2 / 2 / sigma**2)
    return (light / light.sum())[None, None]


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.37, -0.21), (2.5, 4.0)])
@pytest.mark.parametrize("sigma", [0.45, 0.8])
def test_the_light_of_a_gaussian_within_a_radius(sigma: float, x: float, y: float) -> None:
    radii = (1.0, 1.5, 2.0, 3.5)
    at = [torch.tensor([v], dtype=torch.float64) for v in (x, y)]
    found = aperture_flux(gaussian(sigma, x, y), x=at[0], y=at[1], radii=radii, grid=GRID)
    exact = 1 - np.exp(-(np.array(radii) ** 2) / 2 / sigma**2)
    np.testing.assert_allclose(found[0, 0].numpy(), exact, atol=0.01)


def test_x_runs_to_the_right_and_y_up() -> None:
    light = torch.zeros(1, 1, 64, 64)
    light[0, 0, 40, 31] = 2.0  # row 40: y = 8.5, column 31: x = -0.5
    x, y = torch.tensor([-0.5]), torch.tensor([8.5])
    assert float(aperture_flux(light, x=x, y=y, radii=(0.5,), grid=GRID)) == 2
    assert float(aperture_flux(light, x=y, y=x, radii=(0.5,), grid=GRID)) == 0
