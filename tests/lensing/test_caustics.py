"""Where a source is seen more than once, against an independent image finder."""

import numpy as np
import pytest
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver
from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

from darkhaloscope.lensing import caustics
from darkhaloscope.lensing.caustics import caustic_reach, multiply_imaged, multiply_imaged_area

NAMES = ("theta_e", "q", "phi", "shear", "shear_phi")
# round; as drawn; sheared across and along the mass; two whose cusps poke out of the cut
LENSES = [
    (1.0, 1.0, 0.0, 0.0, 0.0),
    (1.4, 0.8, 0.4, 0.05, 1.9),
    (0.8, 0.6, 1.0, 0.10, 2.57),
    (2.0, 0.6, 2.4, 0.10, 2.4),
    (1.0, 0.25, 0.3, 0.0, 0.0),
    (1.2, 0.3, 0.3, 0.15, 1.2),
]


def columns(lens: tuple[float, ...], n: int) -> dict[str, np.ndarray]:
    return {name: np.full(n, value) for name, value in zip(NAMES, lens, strict=True)}


def n_images(lens: tuple[float, ...], x: float, y: float) -> int:
    """Images found on a grid by lenstronomy, those at the singular centre left out."""
    theta_e, q, phi, shear, shear_phi = lens
    e1, e2 = phi_q2_ellipticity(phi=phi, q=q)
    g1, g2 = shear_polar2cartesian(phi=shear_phi, gamma=shear)
    model = LensModel(["SIE", "SHEAR"])
    kwargs = [{"theta_E": theta_e, "e1": e1, "e2": e2}, {"gamma1": g1, "gamma2": g2}]
    found_x, found_y = LensEquationSolver(model).image_position_from_source(
        x,
        y,
        kwargs,
        min_distance=0.04 * theta_e,
        search_window=6 * theta_e,
        precision_limit=1e-8,
        num_iter_max=200,
    )
    return int((np.hypot(found_x, found_y) > 0.004 * theta_e).sum())


@pytest.mark.parametrize("lens", LENSES)
def test_label_agrees_with_an_independent_image_finder(lens: tuple[float, ...]) -> None:
    rng = np.random.default_rng(5)
    n = 12
    reach = float(caustic_reach(**columns(lens, 1))[0])
    angle, radius = rng.uniform(0, 2 * np.pi, n), 1.3 * reach * np.sqrt(rng.uniform(0, 1, n))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    got = multiply_imaged(x, y, **columns(lens, n))
    expected = [n_images(lens, a, b) >= 2 for a, b in zip(x, y, strict=True)]
    assert got.tolist() == expected
    assert 0 < got.sum() < n


def test_a_source_in_a_naked_cusp_is_multiply_imaged() -> None:
    lens = LENSES[4]
    cusp = caustics.caustics(**columns(lens, 1))
    tip = np.argmax(np.hypot(cusp.tangential_x[0], cusp.tangential_y[0]))
    x, y = cusp.tangential_x[0, tip], cusp.tangential_y[0, tip]
    assert n_images(lens, 0.95 * x, 0.95 * y) == 3
    inside = multiply_imaged([0.95 * x, 1.02 * x], [0.95 * y, 1.02 * y], **columns(lens, 2))
    assert inside.tolist() == [True, False]


@pytest.mark.parametrize("lens", LENSES)
def test_area_is_the_share_of_positions_inside(lens: tuple[float, ...]) -> None:
    axis = np.linspace(-1, 1, 81) * float(caustic_reach(**columns(lens, 1))[0])
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    inside = caustics.caustics(**columns(lens, 1)).take(np.zeros(len(x), int)).contains(x, y)
    counted = inside.sum() * (axis[1] - axis[0]) ** 2
    assert multiply_imaged_area(**columns(lens, 1))[0] == pytest.approx(counted, rel=0.02)


def test_a_round_lens_has_the_area_of_its_einstein_ring() -> None:
    lens = columns((1.7, 1.0, 0.0, 0.0, 0.0), 1)
    assert multiply_imaged_area(**lens)[0] == pytest.approx(np.pi * 1.7**2, rel=2e-3)
    assert caustic_reach(**lens)[0] == pytest.approx(1.7, rel=1e-12)


def test_everything_inside_lies_within_the_reach_and_turns_with_the_lens() -> None:
    rng = np.random.default_rng(2)
    n = 400
    lens = {
        "theta_e": rng.uniform(0.3, 4, n),
        "q": rng.uniform(0.2, 1, n),
        "phi": rng.uniform(0, np.pi, n),
        "shear": rng.uniform(0, 0.2, n),
        "shear_phi": rng.uniform(0, np.pi, n),
    }
    reach = caustic_reach(**lens)
    angle, radius = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 1.5, n)
    x, y = reach * radius * np.cos(angle), reach * radius * np.sin(angle)
    inside = multiply_imaged(x, y, **lens)
    assert 0 < inside.sum() < n
    assert not inside[radius > 1].any()
    turned = {**lens, "phi": lens["phi"] + np.pi / 2, "shear_phi": lens["shear_phi"] + np.pi / 2}
    np.testing.assert_array_equal(multiply_imaged(-y, x, **turned), inside)
    np.testing.assert_allclose(multiply_imaged_area(**turned), multiply_imaged_area(**lens))


def test_no_lens_has_no_region_and_an_empty_batch_is_empty() -> None:
    dark = columns((0.0, 0.8, 0.0, 0.0, 0.0), 1)
    assert multiply_imaged([0.0], [0.0], **dark).tolist() == [False]
    assert multiply_imaged_area(**dark).tolist() == [0.0]
    none = columns(LENSES[0], 0)
    assert multiply_imaged([], [], **none).shape == multiply_imaged_area(**none).shape == (0,)


@pytest.mark.parametrize(("name", "value"), [("q", 1.2), ("theta_e", -1.0), ("shear", np.nan)])
def test_a_parameter_outside_its_range_is_named_with_its_row(name: str, value: float) -> None:
    lens = columns(LENSES[1], 3)
    lens[name][1] = value
    with pytest.raises(ValueError, match="row 1"):
        multiply_imaged_area(**lens)
