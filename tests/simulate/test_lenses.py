"""True lenses: the prior, the region, the floors."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from simulate_builders import floors, simulate_config

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.lensing import caustics
from darkhaloscope.simulate import galaxies, lenses, plan, sky
from darkhaloscope.simulate.draws import Rows

CONFIG = simulate_config(brick_size_px=3600, lrg_per_deg2=20_000, bricks_per_field=(1, 1))
TARGETS = galaxies.targets(sky.bricks(CONFIG)[0], CONFIG, {})
EARLY = TARGETS[TARGETS["kind"] == "early"]


def drawn(is_floor: bool = False, config: object = CONFIG) -> Rows:
    return lenses.draw(EARLY, np.full(len(EARLY), is_floor), config)  # type: ignore[arg-type]


def test_every_source_lies_in_the_multiply_imaged_region() -> None:
    found = drawn()
    shape = {name: found[name] for name in ("theta_e", "q", "phi", "shear", "shear_phi")}
    assert caustics.multiply_imaged(found["src_x"], found["src_y"], **shape).all()


def test_theta_e_is_that_of_the_dispersion_and_the_redshifts() -> None:
    found = drawn()[:40]
    universe = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)
    ratio = universe.angular_diameter_distance(found["z_lens"], found["z_src"]) / (
        universe.angular_diameter_distance(found["z_src"])
    )
    expected = 4 * np.pi * (found["sigma_v"] / 299_792.458) ** 2 * ratio.value * 206_264.806
    np.testing.assert_allclose(found["theta_e"], expected, rtol=1e-5)


def test_the_expected_number_is_the_area_times_the_density_of_sources() -> None:
    number = lenses.expected_number(EARLY, CONFIG)
    double = CONFIG.model_copy(update={"src_per_arcsec2": 2 * CONFIG.src_per_arcsec2})
    np.testing.assert_allclose(lenses.expected_number(EARLY, double), 2 * number)
    # theta_E^2 rises as sigma^4, and the lens with all sources far behind bounds it
    most = np.pi * (4 * np.pi * (EARLY["sigma_v"] / 299_792.458) ** 2 * 206_264.806) ** 2
    assert (number < CONFIG.src_per_arcsec2 * most).all()
    assert 0.003 < number.mean() < 0.05


def test_natural_lenses_are_as_many_as_the_prior_says() -> None:
    expected = lenses.expected_number(EARLY, CONFIG).sum()
    found = int(lenses.natural(EARLY, CONFIG).sum())
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert not lenses.natural(TARGETS[TARGETS["kind"] != "early"], CONFIG).any()


def test_more_massive_galaxies_lens_more() -> None:
    number = lenses.expected_number(EARLY, CONFIG)
    low, high = np.percentile(EARLY["sigma_v"], [25, 75])
    massive = number[EARLY["sigma_v"] > high].mean()
    assert massive > 3 * number[EARLY["sigma_v"] < low].mean()


def test_lenses_of_the_floor_keep_to_their_limits() -> None:
    reach = EARLY[lenses.floor_weight(EARLY, CONFIG) > 0]
    found = lenses.draw(reach, np.ones(len(reach), bool), CONFIG)
    assert found["theta_e"].min() > 0.97
    assert found["src_mag"][:, 1].max() <= 23.5


def test_source_positions_fill_the_region_evenly() -> None:
    found = drawn()
    radius = np.hypot(found["src_x"], found["src_y"]) / found["theta_e"]
    assert np.median(radius) == pytest.approx(np.sqrt(0.5), abs=0.05)  # not 0.5: by area


def test_the_plan_reaches_every_floor() -> None:
    least = {"lens": 6, "spiral": 9, "edge_on": 5, "ring": 4, "merger": 5}
    config = simulate_config(n_fields=3, floors=floors(**least), brick_size_px=900)
    made = plan.make(config)
    tables = [galaxies.targets(brick, config, made.kinds) for brick in made.sky]
    kinds = np.concatenate([table["kind"] for table in tables])
    found = np.concatenate([made.lens_rows(table, config) for table in tables])
    for kind in ("spiral", "edge_on", "ring", "merger"):
        assert (kinds == kind).sum() >= least[kind]
    assert len(made.floor_lenses) > 0
    assert found["is_floor"].sum() == len(made.floor_lenses)
    counts = (found["theta_e"] > 0.97) & (found["src_mag"][:, 1] <= 23.5)
    assert counts.sum() >= least["lens"]


def test_a_floor_that_cannot_be_reached_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"floors\.lens asks for .* lower the floor"):
        plan.make(simulate_config(floors=floors(lens=5000)))
    with pytest.raises(ConfigError, match=r"floors\.ring asks for"):
        plan.make(simulate_config(floors=floors(ring=5000)))


def test_no_galaxy_gives_no_lens() -> None:
    none = EARLY[:0]
    assert len(lenses.draw(none, np.zeros(0, bool), CONFIG)) == 0
    assert len(lenses.expected_number(none, CONFIG)) == 0
