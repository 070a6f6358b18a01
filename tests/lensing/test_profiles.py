"""Deflections against lenstronomy, and where its formula is singular."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lenstronomy.LensModel.Profiles.shear import Shear
from lenstronomy.LensModel.Profiles.sie import SIE
from lenstronomy.Util.param_util import phi_q2_ellipticity

from darkhaloscope.lensing.profiles import Lens, shear_deflection, sie_deflection

AXIS = torch.linspace(-3.05, 3.05, 20, dtype=torch.float64)  # arcsec; the centre is not on it
Y, X = (axis[None] for axis in torch.meshgrid(AXIS, AXIS, indexing="ij"))  # (1, y, x)
Q = torch.tensor([0.2, 0.5, 0.7, 0.95, 0.999, 0.3], dtype=torch.float64)
PHI = torch.tensor([0.0, 0.6, 2.4, 1.1, 0.3, -0.9], dtype=torch.float64)
THETA_E = torch.tensor([1.3, 0.3, 2.5, 1.0, 0.7, 2.0], dtype=torch.float64)


def deflection(
    x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    parameters = {"theta_e": THETA_E, "q": Q, "phi": PHI}
    cast = {name: value.to(dtype) for name, value in parameters.items()}
    return torch.stack(sie_deflection(x.to(dtype), y.to(dtype), **cast))


def test_deflection_agrees_with_lenstronomy() -> None:
    got = deflection(X, Y).numpy()
    for row, (theta_e, q, phi) in enumerate(zip(THETA_E, Q, PHI, strict=True)):
        e1, e2 = phi_q2_ellipticity(phi=float(phi), q=float(q))
        expected = SIE().derivatives(
            X[0].numpy(), Y[0].numpy(), theta_E=float(theta_e), e1=e1, e2=e2
        )
        np.testing.assert_allclose(got[:, row], expected, rtol=0, atol=1e-8)


def test_single_precision_is_good_to_two_millionths_of_the_einstein_radius() -> None:
    off = (deflection(X, Y, torch.float32).double() - deflection(X, Y)).abs()
    assert float((off / THETA_E[:, None, None]).max()) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_and_nearly_round_share_a_batch(dtype: torch.dtype) -> None:
    q = torch.tensor([1.0, 1 - torch.finfo(dtype).eps, 1 - 1e-6, 0.5], dtype=dtype)
    one, zero = torch.ones_like(q), torch.zeros_like(q)
    got = torch.stack(sie_deflection(X.to(dtype), Y.to(dtype), theta_e=one, q=q, phi=zero))
    radius = torch.hypot(X, Y).to(dtype)
    torch.testing.assert_close(got[0, 0], (X[0] / radius[0]).to(dtype), rtol=0, atol=2e-6)
    torch.testing.assert_close(got[:, 1:3], got[:, :1].expand(-1, 2, -1, -1), rtol=0, atol=2e-6)


def test_the_centre_is_finite_and_undeflected() -> None:
    origin = torch.zeros(1, 1)
    for q in (1.0, 0.6):
        ax, ay = sie_deflection(
            origin, origin, theta_e=torch.ones(1), q=torch.tensor([q]), phi=torch.zeros(1)
        )
        assert ax.item() == ay.item() == 0.0


@settings(deadline=None, max_examples=40)
@given(q=st.floats(0.2, 1.0), phi=st.floats(-4, 4), turn=st.floats(-4, 4))
def test_turning_lens_and_point_turns_the_deflection(q: float, phi: float, turn: float) -> None:
    x, y = torch.tensor([[0.7, -1.1]]).double(), torch.tensor([[0.4, 2.0]]).double()
    cos, sin = math.cos(turn), math.sin(turn)

    def at(x: torch.Tensor, y: torch.Tensor, phi: float) -> tuple[torch.Tensor, torch.Tensor]:
        values = {"theta_e": 1.2, "q": q, "phi": phi}
        return sie_deflection(
            x, y, **{k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
        )

    ax, ay = at(x, y, phi)
    bx, by = at(cos * x - sin * y, sin * x + cos * y, phi + turn)
    torch.testing.assert_close(bx, cos * ax - sin * ay, rtol=0, atol=1e-9)
    torch.testing.assert_close(by, sin * ax + cos * ay, rtol=0, atol=1e-9)


@pytest.mark.parametrize("q", [1.0, 0.6, 0.3])
def test_the_critical_curve_encloses_the_area_of_the_einstein_radius(q: float) -> None:
    """kappa = 1/2 on the critical curve of an isothermal lens; kappa is half the divergence."""
    step, axis = 0.005, torch.arange(-3, 3, 0.005, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    values = {"theta_e": 1.1, "q": q, "phi": 0.4}
    ax, ay = sie_deflection(
        x[None], y[None], **{k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
    )
    kappa = 0.5 * (
        torch.gradient(ax[0], spacing=step, dim=1)[0]
        + torch.gradient(ay[0], spacing=step, dim=0)[0]
    )
    assert float((kappa > 0.5).sum()) * step**2 == pytest.approx(math.pi * 1.1**2, rel=2e-3)


def test_shear_agrees_with_lenstronomy() -> None:
    shear, phi = torch.tensor([0.05, 0.2]).double(), torch.tensor([0.3, 2.0]).double()
    got = torch.stack(shear_deflection(X, Y, shear=shear, phi=phi)).numpy()
    for row in range(2):
        g1, g2 = shear[row] * torch.cos(2 * phi[row]), shear[row] * torch.sin(2 * phi[row])
        expected = Shear().derivatives(
            X[0].numpy(), Y[0].numpy(), gamma1=float(g1), gamma2=float(g2)
        )
        np.testing.assert_allclose(got[:, row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"q": [0.5, 1.2]}, "q is minor over major axis, in (0, 1]; got 1.2 in row 1"),
        ({"q": [0.0, 0.5]}, "got 0 in row 0"),
        ({"theta_e": [1.0, -0.1]}, "theta_e is a radius in arcsec, >= 0; got -0.1 in row 1"),
        ({"theta_e": [math.nan, 1.0]}, "got nan in row 0"),
        ({"shear": [0.0, 1.0]}, "shear is a strength in [0, 1); got 1 in row 1"),
    ],
)
def test_a_lens_outside_its_range_is_refused_with_its_row(
    values: dict[str, list[float]], words: str
) -> None:
    good = {"theta_e": [1.0, 1.0], "q": [0.5, 0.5], "phi": [0.0, 0.0], "shear": [0.0, 0.0]}
    fields = {name: torch.tensor(value) for name, value in (good | values).items()}
    with pytest.raises(ValueError, match=re.escape(words)):
        Lens(**fields, shear_phi=torch.zeros(2))


def test_no_lenses_at_all_deflect_nothing() -> None:
    nothing = torch.zeros(0)
    ax, _ = sie_deflection(
        torch.zeros(0, 3), torch.zeros(0, 3), theta_e=nothing, q=nothing, phi=nothing
    )
    assert ax.shape == (0, 3)
