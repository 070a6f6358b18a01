"""Draws of lenses and sources: ranges, densities, and weights that do not depend on the method."""

import tomllib
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest, norm

from darkhaloscope.lensing import cosmology, populations, priors
from darkhaloscope.lensing.caustics import caustic_reach, multiply_imaged
from darkhaloscope.lensing.profiles import shear_deflection, sie_deflection

N = 3000
IDS = np.arange(N, dtype=np.int64)


def span(low: float, high: float) -> SimpleNamespace:
    return SimpleNamespace(low=low, high=high)


def hosts(n: int = N, least: float = 0.5) -> priors.Hosts:
    rng = np.random.default_rng(0)
    mag_z = rng.uniform(17.5, 20.4, n)
    return priors.Hosts(
        mag_r=mag_z + rng.uniform(0.8, 1.8, n),
        mag_z=mag_z,
        light_q=rng.uniform(0.5, 1, n),
        light_phi=rng.uniform(0, np.pi, n),
        least_theta_e=np.full(n, least),
    )


def physical_prior(**changes: object) -> SimpleNamespace:
    given: dict[str, object] = {
        "src_mag_r": span(20.5, 25.0),
        "max_theta_e_arcsec": 4.0,
        "host_z_scatter": 0.04,
        "dispersion_scatter_dex": 0.07,
        "group_share": 0.05,
        "group_offset_dex": 0.12,
        "group_scatter_dex": 0.07,
        "mass_phi_scatter_deg": 10.0,
        "shear_scale": 0.04,
        "src_r_eff_scatter_dex": 0.2,
        "src_q": span(0.4, 1.0),
        "flat_theta_e_share": 0.0,
        "keep_weight": 0.01,
    }
    return SimpleNamespace(**{**given, **changes})


BROAD = SimpleNamespace(
    theta_e_arcsec=span(0.4, 2.5), lens_q=span(0.3, 1.0), shear=span(0, 0.1),
    src_mag_r=span(21, 24), src_r_eff_arcsec=span(0.05, 0.5), src_q=span(0.4, 1.0),
    arc_snr_g=span(10, 100),
)  # fmt: skip


@pytest.mark.parametrize("name", ["grid_small", "grid_sota"])
def test_a_grid_is_drawn_in_every_cell_and_nowhere_else(name: str) -> None:
    ids, prior = np.arange(20_000), SimpleNamespace(prior=name, lens_q=span(0.5, 1))
    host = hosts(len(ids), least=0.05)
    drawn = priors.grid(ids, host, prior, seed=1)
    e = (1 - drawn["src_q"]) / (1 + drawn["src_q"])
    dmag = drawn["src_mag_r"] - host.mag_r
    columns = [drawn["theta_e_arcsec"], dmag, drawn["src_r_eff_arcsec"], e, drawn["shear"]]
    got = set(map(tuple, np.stack(columns, 1).round(9).tolist()))
    assert got == {tuple(cell.values()) for cell in priors.grid_cells(name)}


def test_the_grids_are_those_of_the_first_runs() -> None:
    small, sota = priors.GRIDS["grid_small"], priors.GRIDS["grid_sota"]
    assert list(small.values()) == [(0.3, 0.6, 1.0), (1, 2), (0.08, 0.15), (0, 0.3), (0, 0.03)]
    assert sota["theta_e_arcsec"] == (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
    assert sota["src_dmag"] == (0.5, 1.0, 1.5, 2.0)
    assert sota["src_r_eff_arcsec"] == (0.06, 0.10, 0.15, 0.20)
    assert (sota["src_e"], sota["shear"]) == ((0, 0.2, 0.4), (0, 0.02, 0.04))


def test_grid_values_that_the_seeing_blurs_away_are_not_drawn() -> None:
    prior = SimpleNamespace(prior="grid_small", lens_q=span(0.5, 1))
    drawn = priors.grid(IDS, hosts(least=0.6), prior, seed=1)
    assert set(drawn["theta_e_arcsec"].tolist()) == {0.6, 1.0}


def test_broad_draws_are_flat_above_what_the_seeing_admits() -> None:
    drawn = priors.broad(IDS, hosts(least=0.9), BROAD, seed=2)
    assert kstest(drawn["theta_e_arcsec"], "uniform", args=(0.9, 1.6)).pvalue > 0.01
    log_size = np.log(drawn["src_r_eff_arcsec"])
    assert kstest(log_size, "uniform", args=(np.log(0.05), np.log(10))).pvalue > 0.01


def test_sources_of_lenses_are_even_over_the_area_of_the_region() -> None:
    """P(beta) is proportional to beta: the trap is to draw evenly in radius."""
    lens = {**priors.broad(IDS, hosts(), BROAD, seed=3), "lens_q": np.ones(N), "shear": np.zeros(N)}
    x, y = priors.positions_inside(IDS, lens, seed=3)
    beta = np.hypot(x, y) / lens["theta_e_arcsec"]
    assert kstest(beta**2, "uniform").pvalue > 0.01
    assert kstest(np.mod(np.arctan2(y, x), 2 * np.pi) / (2 * np.pi), "uniform").pvalue > 0.01


def test_labels_follow_the_multiply_imaged_region() -> None:
    lens = priors.broad(IDS, hosts(), BROAD, seed=4)
    shape = priors.shape_of(lens)
    assert multiply_imaged(*priors.positions_inside(IDS, lens, seed=4), **shape).all()
    x, y = priors.positions_outside(IDS, lens, reach=1.5, seed=4)
    assert not multiply_imaged(x, y, **shape).any()
    assert (np.hypot(x, y) <= 1.5 * caustic_reach(**shape) * (1 + 1e-9)).mean() > 0.999


@pytest.mark.parametrize("keep", [0.0, 0.005, 0.05])
def test_the_expected_number_of_lenses_does_not_depend_on_which_are_kept(keep: float) -> None:
    whole, _ = priors.physical(IDS, hosts(), physical_prior(keep_weight=0.0), seed=5)
    drawn, kept = priors.physical(IDS, hosts(), physical_prior(keep_weight=keep), seed=5)
    expected = whole["weight_population"].sum()
    assert drawn["weight_population"][kept].sum() == pytest.approx(expected, rel=0.1)
    assert 0.2 < expected < 100  # per cent of such galaxies
    if keep:
        assert drawn["weight_population"].min() == keep


def images_of(x: np.ndarray, y: np.ndarray, lens: dict[str, np.ndarray]) -> np.ndarray:
    """How many images sources have, by the lens equation along each direction; no caustic.

    Images at angle phi lie at the r for which r (1 - G) e(phi) = beta + a(phi), with a the
    deflection, which does not depend on r: wherever the two are parallel and r is positive.
    """
    angle = np.linspace(0, 2 * np.pi, 1441)[:-1]
    e_x, e_y = (f(angle)[None] for f in (np.cos, np.sin))
    there = torch.from_numpy(e_x), torch.from_numpy(e_y)
    given = {name: torch.from_numpy(values) for name, values in lens.items()}
    mass = {name: given[name] for name in ("theta_e", "q", "phi")}
    a_x, a_y = (v.numpy() for v in sie_deflection(*there, **mass))
    g_x, g_y = (
        v.numpy() for v in shear_deflection(*there, shear=given["shear"], phi=given["shear_phi"])
    )
    m_x, m_y, b_x, b_y = e_x - g_x, e_y - g_y, x[:, None] + a_x, y[:, None] + a_y
    across, along = m_x * b_y - m_y * b_x, m_x * b_x + m_y * b_y
    crosses = (across * np.roll(across, -1, 1) < 0) & (along > 0)
    return np.asarray(crosses.sum(1))


def test_the_expected_lenses_are_those_of_sources_scattered_over_the_sky() -> None:
    """Magnification bias and all: an independent count, without caustics, areas or weights."""
    rng = np.random.default_rng(3)
    prior = physical_prior(keep_weight=0.0, flat_theta_e_share=0.3)
    many = hosts(20_000)
    weighed, kept = priors.physical(np.arange(20_000), many, prior, seed=9)
    weight = weighed["weight_population"] * kept / 20_000

    sky = 600_000  # patches of the sky with a host in the middle, each of radius 6"
    host = rng.integers(0, 20_000, sky)
    per_patch = np.pi * 36 * quad(lambda m: float(populations.source_density(m)), 20.5, 25.0)[0]
    host = np.repeat(host, rng.poisson(per_patch, sky))
    n = len(host)
    steep = 10 ** (0.31 * (20.5 - 25.0))
    mag = 25.0 + np.log10(steep + (1 - steep) * rng.uniform(size=n)) / 0.31
    beta, angle = 6 * np.sqrt(rng.uniform(size=n)), 2 * np.pi * rng.uniform(size=n)
    x, y = beta * np.cos(angle), beta * np.sin(angle)
    z_source, closer = populations.source_redshift(mag, np.zeros(n), rng.uniform(size=n))
    z_lens = populations.host_redshift(
        (many.mag_r - many.mag_z)[host], rng.standard_normal(n), scatter=prior.host_z_scatter
    )
    in_group = rng.uniform(size=n) < prior.group_share
    dex = np.where(
        in_group, prior.group_offset_dex + prior.group_scatter_dex * rng.standard_normal(n),
        prior.dispersion_scatter_dex * rng.standard_normal(n),
    )  # fmt: skip
    sigma = 10 ** (populations.log_velocity_dispersion(many.mag_z[host], z_lens) + dex)
    lens = {
        "theta_e": populations.einstein_radius_arcsec(sigma, z_lens, z_source),
        "q": populations.mass_axis_ratio(many.light_q[host], rng.standard_normal(n)),
        "phi": many.light_phi[host],
        "shear": prior.shear_scale * np.sqrt(-2 * np.log1p(-rng.uniform(size=n))),
        "shear_phi": np.pi * rng.uniform(size=n),
    }
    resolved = (lens["theta_e"] > 0.5) & (lens["theta_e"] < 4)
    rows = np.flatnonzero(resolved & (beta < 2 * lens["theta_e"]))
    assert (closer > 0.998).all()
    images = images_of(x[rows], y[rows], {name: values[rows] for name, values in lens.items()})
    found = rows[images >= 2]
    assert len(found) > 2500
    assert weight.sum() * sky == pytest.approx(len(found), rel=0.06)
    edges = [0.5, 0.7, 0.9, 1.2, 1.6, 4.0]
    expected = np.histogram(weighed["theta_e_arcsec"], edges, weights=weight)[0] * sky
    counted = np.histogram(lens["theta_e"][found], edges)[0]
    np.testing.assert_array_less(np.abs(counted - expected), 4 * np.sqrt(counted) + 0.05 * counted)
    of_groups = (weight * weighed["is_group_lens"]).sum() / weight.sum()
    assert of_groups == pytest.approx(in_group[found].mean(), abs=0.025)
    for name, values in (("src_mag_r", mag), ("src_z", z_source), ("lens_z", z_lens)):
        mean = np.average(weighed[name], weights=weight)
        assert mean == pytest.approx(values[found].mean(), abs=0.05), name


def as_faint_as_targets(n: int) -> priors.Hosts:
    """Hosts with the z and r-z of the real targets: 16-84 % 19.2-20.1 and 1.24-1.74."""
    rng = np.random.default_rng(4)
    mag_z = 20.4 - rng.exponential(0.8, n)
    like = hosts(n)
    return replace(like, mag_z=mag_z, mag_r=mag_z + 1.5 + 0.25 * rng.standard_normal(n))


@pytest.mark.parametrize(("theta_e", "published"), [(1.5, 0.3), (2.5, 2.0)])
def test_the_presets_groups_add_the_lenses_that_environments_are_known_to_add(
    theta_e: float, published: float
) -> None:
    """Oguri, Keeton & Dalal 2005: 30 % more lenses 3" wide, 200 % more that are 5" wide.

    In closed form, for the dispersion function of Choi, Park & Vogeley 2007 and sources at z = 2:
    galaxies and groups scatter alike, so a group's part is the function, shifted.
    """
    text = (files("darkhaloscope") / "presets" / "legacy-dr10.toml").read_text(encoding="utf-8")
    prior = tomllib.loads(text)["manifest"]["physical"]
    assert prior["group_scatter_dex"] == prior["dispersion_scatter_dex"]
    z = np.linspace(0.1, 1.2, 56)
    volume = cosmology.comoving_distance_mpc(z) ** 2 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7)
    at = populations.log_dispersion_of(theta_e, z, 2.0)

    def lenses_per_dex(offset: float) -> float:
        ratio = 10 ** (at - offset) / 161
        return float((volume * ratio**2.32 * np.exp(-(ratio**2.67))).sum())

    of_groups = lenses_per_dex(prior["group_offset_dex"]) / lenses_per_dex(0.0)
    more = prior["group_share"] * (of_groups - 1)
    assert more == pytest.approx(published, rel=0.2)


def test_most_wide_lenses_are_groups_and_few_of_all_are() -> None:
    ids, many = np.arange(40_000), as_faint_as_targets(40_000)
    edges = [0.5, 0.8, 1.3, 2.0, 4.0]
    found = []
    for share in (0.0, 0.05):
        prior = physical_prior(keep_weight=0.0, flat_theta_e_share=0.5, group_share=share)
        drawn, kept = priors.physical(ids, many, prior, seed=12)
        weight = drawn["weight_population"] * kept
        found.append(np.histogram(drawn["theta_e_arcsec"], edges, weights=weight)[0])
        assert drawn["is_group_lens"].any() == (share > 0)
    more = found[1] / found[0]
    assert (np.diff(more) > 0).all()  # the wider, the more
    assert more[0] == pytest.approx(1.0, abs=0.05)
    is_wide = drawn["theta_e_arcsec"] > 2.5
    of_groups = drawn["is_group_lens"] > 0
    assert weight[of_groups].sum() / weight.sum() == pytest.approx(0.15, abs=0.04)
    assert weight[of_groups & is_wide].sum() > 0.4 * weight[is_wide].sum()


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_draws_flat_in_theta_e_fill_large_radii_and_keep_the_expected_number(share: float) -> None:
    ids, many = np.arange(20_000), hosts(20_000)
    plain, _ = priors.physical(ids, many, physical_prior(keep_weight=0.0), seed=5)
    prior = physical_prior(keep_weight=0.0, flat_theta_e_share=share)
    drawn, kept = priors.physical(ids, many, prior, seed=5)
    large = drawn["theta_e_arcsec"][kept] > 1.2
    assert large.mean() > 4 * share * (plain["theta_e_arcsec"] > 1.2).mean()
    for least in (0.5, 0.8, 1.2):
        expected, got = (
            columns["weight_population"][rows & (columns["theta_e_arcsec"] > least)].sum()
            for columns, rows in ((plain, np.ones(20_000, bool)), (drawn, kept))
        )
        assert got == pytest.approx(expected, rel=0.15), least


def test_lenses_are_resolved_and_their_dispersion_makes_their_einstein_radius() -> None:
    drawn, kept = priors.physical(IDS, hosts(least=0.7), physical_prior(), seed=6)
    theta_e = drawn["theta_e_arcsec"]
    assert theta_e.min() >= 0.7 - 1e-9
    assert theta_e.max() <= 4 + 1e-9
    again = populations.einstein_radius_arcsec(
        drawn["lens_sigma_v_kms"], drawn["lens_z"], drawn["src_z"]
    )
    np.testing.assert_allclose(theta_e, again)
    assert (drawn["src_z"] > drawn["lens_z"]).all()
    assert 0 < kept.mean() < 1


def test_kept_lenses_have_einstein_radii_and_dispersions_as_published() -> None:
    """SLACS and BELLS: sigma of 180-330 km/s; these hosts are brighter than most of a survey's."""
    drawn, kept = priors.physical(IDS, hosts(), physical_prior(keep_weight=0.02), seed=7)
    weight = drawn["weight_population"][kept]
    mean_theta_e = np.average(drawn["theta_e_arcsec"][kept], weights=weight)
    mean_sigma = np.average(drawn["lens_sigma_v_kms"][kept], weights=weight)
    assert 0.8 < mean_theta_e < 1.5
    assert 210 < mean_sigma < 310


def test_trials_give_other_kinds_the_light_of_kept_lenses() -> None:
    lenses, kept = priors.physical(IDS, hosts(), physical_prior(keep_weight=0.02), seed=8)
    others, found = priors.physical(
        IDS, hosts(), physical_prior(keep_weight=0.02), seed=8, trials=16
    )
    np.testing.assert_array_equal(others["src_mag_r"][kept], lenses["src_mag_r"][kept])
    assert found.mean() > 2 * kept.mean()
    median = np.median(lenses["src_mag_r"][kept])
    assert np.median(others["src_mag_r"][found]) == pytest.approx(median, abs=0.25)


def test_the_cut_normal_is_right_in_both_tails() -> None:
    uniform = (np.arange(2000) + 0.5) / 2000
    for low, high in ((-1.0, 0.5), (5.0, 9.0), (-12.0, -8.0), (-40.0, 40.0)):
        drawn, share = priors._cut_normal(uniform, np.full(2000, low), np.full(2000, high))
        tail = norm.sf if low > 0 else norm.cdf  # the one that does not cancel
        expected = abs(tail(low) - tail(high))
        assert share[0] == pytest.approx(expected, rel=1e-6)
        assert drawn.min() >= low
        assert drawn.max() <= high
        if share[0] > 1e-9:
            cumulative = abs(tail(low) - tail(np.sort(drawn))) / expected
            np.testing.assert_allclose(cumulative, uniform, atol=1e-3)


def test_look_alikes_are_as_magnified_as_point_sources_behind_a_sphere() -> None:
    mu = priors.shape_magnification(np.arange(100_000), seed=1)
    assert mu.min() >= 2
    assert mu.max() == priors.MAX_SHAPE_MAGNIFICATION
    assert (mu > 4).mean() == pytest.approx(0.25, abs=0.01)


def test_colours_scatter_about_the_template_in_every_band_but_the_reference() -> None:
    sources = SimpleNamespace(src_n=span(0.5, 4), red_share=0.1, colour_scatter_mag=0.1)
    light = priors.source_light(
        IDS, np.full(N, 1.5), np.full(N, 23.0), sources, ("g", "r", "z"), seed=9
    )
    assert set(light["src_mag_r"].tolist()) == {23.0}
    blue = light["src_mag_g"] - light["src_mag_r"]
    assert (blue < 0.4).mean() == pytest.approx(0.9, abs=0.06)
    assert light["src_n"].min() >= 0.5
