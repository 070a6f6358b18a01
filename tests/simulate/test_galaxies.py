"""Targets and their surroundings: rates, colours and counts."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from simulate_builders import RATES, simulate_config

from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.simulate import colours, galaxies, sky, surroundings
from darkhaloscope.simulate.draws import Draws, Rows

LARGE = simulate_config(brick_size_px=3600, lrg_per_deg2=20_000)
BRICK = sky.bricks(LARGE)[0]


def targets(config: SimulateConfig = LARGE) -> Rows:
    return galaxies.targets(BRICK, config, {})


def test_nearly_all_targets_pass_the_colour_cuts() -> None:
    table = targets()
    assert colours.passes_v3(table["mag"], galaxies.MAG_Z_BRIGHT).mean() > 0.97


def test_the_density_is_the_one_asked_for_less_crowding() -> None:
    sparse = targets(LARGE.model_copy(update={"lrg_per_deg2": 3000.0}))
    expected = 3000 * BRICK.area_deg2
    assert len(sparse) == pytest.approx(expected, abs=4 * np.sqrt(expected))


@pytest.mark.parametrize("kind", ["disc", "spiral", "edge_on", "merger"])
def test_kinds_come_at_their_rates(kind: str) -> None:
    found = targets()["kind"]
    expected = RATES[kind] * len(found)
    assert (found == kind).sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_forced_kind_replaces_the_drawn_one_and_nothing_else_changes() -> None:
    table = targets()
    row = int(np.flatnonzero(table["kind"] == "early")[0])
    forced = galaxies.targets(BRICK, LARGE, {int(table["id"][row]): "ring"})
    assert forced["kind"][row] == "ring"
    others = np.delete(np.arange(len(table)), row)
    assert np.array_equal(forced[others], table[others])


def test_early_types_have_the_sizes_and_dispersions_of_massive_galaxies() -> None:
    early = targets()[targets()["kind"] == "early"]
    assert 0.7 < np.median(early["r_eff"]) < 1.3
    assert np.percentile(early["r_eff"], 95) > 1.5
    assert 180 < np.median(early["sigma_v"]) < 230
    assert 19.3 < np.median(early["mag"][:, colours.Z]) < 20.0
    assert early["n"].min() >= 3
    assert early["n"].max() <= 5


def test_brighter_early_types_are_larger_and_hotter() -> None:
    early = targets()[targets()["kind"] == "early"]
    for name in ("r_eff", "sigma_v"):
        assert np.corrcoef(early["mag_abs_r"], np.log(early[name]))[0, 1] < -0.4


def test_discs_are_bluer_than_the_red_sequence_and_edge_on_ones_are_flat() -> None:
    table = targets()
    g_r = table["mag"][:, colours.G] - table["mag"][:, colours.R]
    is_disc = np.isin(table["kind"], galaxies.DISCS)
    assert np.median(g_r[is_disc]) < np.median(g_r[table["kind"] == "early"]) - 0.4
    assert table["q"][table["kind"] == "edge_on"].max() < 0.23


def test_no_two_unrelated_targets_are_closer_than_the_least_separation() -> None:
    distance, _ = cKDTree(galaxies.flat_arcsec(targets())).query(
        galaxies.flat_arcsec(targets()), k=2
    )
    assert distance[:, 1].min() >= galaxies.MIN_SEPARATION_ARCSEC


def test_three_per_cent_of_targets_have_a_natural_companion_by_the_counts() -> None:
    field = surroundings.field_galaxies(BRICK, LARGE)
    bright = field[field["mag"][:, colours.R] < 22.5]
    table = targets()
    tree = cKDTree(galaxies.flat_arcsec(bright))
    centre = galaxies.flat_arcsec(table)
    near = tree.query_ball_point(centre, 3.0, return_length=True)
    nearer = tree.query_ball_point(centre, 1.0, return_length=True)
    share = ((near - nearer) > 0).mean()
    assert share == pytest.approx(0.03, abs=0.012)


def test_field_counts_rise_as_stated_and_stay_in_range() -> None:
    mag_r = surroundings.field_galaxies(BRICK, LARGE)["mag"][:, colours.R]
    assert mag_r.min() > 17.9
    assert mag_r.max() < 24.6
    ratio = (mag_r < 24).sum() / (mag_r < 23).sum()
    assert ratio == pytest.approx(10**0.35, rel=0.06)
    assert (mag_r < 22.5).sum() == pytest.approx(15_500 * BRICK.area_deg2, rel=0.15)


def test_satellites_cluster_within_15_arcsec_of_red_hosts_of_their_colour() -> None:
    table = targets()
    found = surroundings.satellites(table, LARGE)
    host = table[np.searchsorted(table["id"], found["host"])]
    assert np.array_equal(host["id"], found["host"])
    squeeze = np.cos(np.radians(host["dec"]))
    apart = 3600 * np.hypot((found["ra"] - host["ra"]) * squeeze, found["dec"] - host["dec"])
    assert apart.min() > 1.4
    assert apart.max() < 15.1
    rz = found["mag"][:, colours.R] - found["mag"][:, colours.Z]
    host_rz = host["mag"][:, colours.R] - host["mag"][:, colours.Z]
    is_early = host["kind"] == "early"
    assert np.abs(np.median((rz - host_rz)[is_early])) < 0.02
    assert (found["mag"][:, colours.Z] > host["mag"][:, colours.Z])[is_early].mean() > 0.99


def test_mergers_have_a_second_nucleus_within_three_arcsec() -> None:
    table = targets()
    pairs = surroundings.second_nuclei(table, LARGE)
    assert len(pairs) == (table["kind"] == "merger").sum()


def test_another_seed_is_another_sky_and_the_same_seed_the_same() -> None:
    assert np.array_equal(targets(), targets())
    other = targets(LARGE.model_copy(update={"seed": 8}))
    assert not np.array_equal(other["ra"][:50], targets()["ra"][:50])


def test_no_galaxy_asked_for_is_none() -> None:
    empty = LARGE.model_copy(update={"galaxies_per_deg2": 0.0, "satellites_per_target": 0.0})
    assert len(surroundings.field_galaxies(BRICK, empty)) == 0
    assert len(surroundings.satellites(targets(), empty)) == 0


def test_the_red_sequence_reddens_with_redshift() -> None:
    z = np.array([0.2, 0.4, 0.6, 0.8])
    mag = colours.red_sequence(np.full(4, 19.0), z, Draws(np.arange(4), 1))
    assert (np.diff(mag[:, colours.R] - mag[:, colours.Z]) > 0).all()
    np.testing.assert_allclose(mag[:, colours.Z], 19.0)
