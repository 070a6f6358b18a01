"""The Sersic law against scipy's incomplete gamma function and lenstronomy."""

import math

import numpy as np
import pytest
import torch
from lenstronomy.LightModel.Profiles.sersic import SersicElliptic
from lenstronomy.Util.param_util import phi_q2_ellipticity
from scipy.special import gammaincinv

from darkhaloscope.lensing.light import Sersic, sersic_b, sersic_brightness


def brightness(x: torch.Tensor, y: torch.Tensor, **values: float) -> torch.Tensor:
    return sersic_brightness(
        x, y, **{k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
    )


def test_b_puts_half_of_the_light_inside_the_half_light_radius() -> None:
    n = np.linspace(0.3, 10, 98)
    np.testing.assert_allclose(sersic_b(torch.from_numpy(n)), gammaincinv(2 * n, 0.5), rtol=1e-10)


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5, 4.0])
def test_a_profile_holds_a_flux_of_one_and_half_of_it_inside_r_eff(n: float) -> None:
    r_eff, q, phi = 0.3, 0.6, 0.8
    radius = torch.logspace(-7, 3, 4001, dtype=torch.float64) * r_eff
    # Along the major axis the elliptical radius is sqrt(q) u.
    u = radius / math.sqrt(q)
    x, y = (u * math.cos(phi))[None], (u * math.sin(phi))[None]
    light = brightness(x, y, r_eff=r_eff, n=n, q=q, phi=phi)[0]
    growth = torch.cumulative_trapezoid(2 * math.pi * radius**2 * light, torch.log(radius))
    assert float(growth[-1]) == pytest.approx(1, abs=2e-4)
    inside = float(growth[torch.searchsorted(radius, r_eff) - 1])
    assert inside == pytest.approx(0.5, abs=3e-3)


@pytest.mark.parametrize("n", [1.0, 4.0])
def test_brightness_agrees_with_lenstronomy(n: float) -> None:
    axis = torch.linspace(-1.3, 1.3, 20, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    q, phi, r_eff = 0.6, 0.7, 0.4
    got = brightness(x[None], y[None], r_eff=r_eff, n=n, q=q, phi=phi)[0].numpy()
    # lenstronomy's b is an approximation: its half-light radius is scaled to mean ours.
    theirs = r_eff * ((1.9992 * n - 0.3271) / gammaincinv(2 * n, 0.5)) ** n
    e1, e2 = phi_q2_ellipticity(phi=phi, q=q)
    expected = SersicElliptic().function(
        x.numpy(), y.numpy(), amp=1, R_sersic=theirs, n_sersic=n, e1=e1, e2=e2
    )
    np.testing.assert_allclose(got / got.max(), expected / expected.max(), rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("n", 0.2, "a Sersic index is from 0.3 to 10; got 0.2 in row 1"),
        ("n", math.nan, "got nan in row 1"),
        ("q", 0.0, "q is minor over major axis"),
        ("r_eff", 0.0, "r_eff is a radius in arcsec, > 0"),
        ("x", math.inf, "a source's position is finite"),
    ],
)
def test_a_source_outside_its_range_is_refused_with_its_row(
    field: str, value: float, words: str
) -> None:
    good = {"x": 0.0, "y": 0.0, "r_eff": 0.1, "n": 1.0, "q": 0.5, "phi": 0.0}
    fields = {name: torch.tensor([number, number]) for name, number in good.items()}
    fields[field][1] = value
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Sersic(**fields)
