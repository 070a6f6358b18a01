"""Galaxies drawn in memory: each alone, in any batch, with the survey's light, noise and seeing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from frozen_builders import few
from scipy.special import gammainc, gammaincinv
from scipy.stats import ks_2samp
from simulate_builders import RATES, simulate_config

from darkhaloscope.bench.frozen import hosts
from darkhaloscope.bench.frozen.hosts import Galaxies
from darkhaloscope.lensing import cpu, populations, render
from darkhaloscope.simulate import colours, components, galaxies
from darkhaloscope.survey import measure
from darkhaloscope.survey.lrg import lrg_variants

BANDS = ("g", "r", "z")
SIZE = 80
EMPTY = {
    "satellites_per_target": 0.0, "galaxies_per_deg2": 0.0, "stars_per_deg2": 0.0,
    "rates": {"twist": 0.0, "intracluster": 0.0},
}  # fmt: skip


def sky_of(**changes: Any) -> Any:
    return few({"hosts": changes}).sky()


def some(n: int, sky: Any, split: str = "test", family: int = 0) -> Galaxies:
    ids = hosts.ids_of(np.arange(n), split=split, family=family)
    return hosts.describe(ids, sky, split=split, bands=BANDS, size_px=SIZE)


def drawn(made: Galaxies, sky: Any) -> np.ndarray:
    return hosts.cutouts(made, sky, size_px=SIZE).numpy()


def head(made: Galaxies, name: str) -> np.ndarray:
    return np.stack([made.heads[name.format(b=b)].to_numpy() for b in BANDS], 1).astype(float)


def test_a_galaxy_does_not_depend_on_those_beside_it() -> None:
    sky = sky_of()
    together = some(10, sky)
    pixels = drawn(together, sky)
    for row in (0, 7):
        ids = hosts.ids_of(np.array([row]), split="test")
        alone = hosts.describe(ids, sky, split="test", bands=BANDS, size_px=SIZE)
        assert alone.heads.equals(together.heads.slice(row, 1).combine_chunks())
        assert alone.splits.equals(together.splits.slice(row, 1).combine_chunks())
        apart = np.abs(drawn(alone, sky)[0] - pixels[row])
        assert apart.max() < 1e-5 * pixels[row].max()


def test_both_kernels_draw_the_same_galaxies(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = sky_of()
    made = some(6, sky)
    compiled = drawn(made, sky)
    monkeypatch.setattr(cpu, "is_available", lambda: False)
    plain = drawn(made, sky)
    peak = compiled.max((2, 3), keepdims=True)
    assert (np.abs(plain - compiled) < 2e-3 * peak).all()
    assert not np.array_equal(plain, compiled)


def test_light_within_ten_arcsec_is_the_catalogues_flux() -> None:
    sky = sky_of(**EMPTY)
    made = some(120, sky)
    radius = 10.0
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    inside = np.hypot(axis[:, None], axis) * sky.pixel_scale_arcsec < radius
    found = drawn(made, sky)[:, :, inside].sum(2)
    n, r_eff = made.early["n"], made.early["r_eff"]
    share = gammainc(2 * n, gammaincinv(2 * n, 0.5) * (radius / r_eff) ** (1 / n))
    known = np.stack([made.splits[f"flux_{b}_nmgy"].to_numpy() for b in BANDS], 1)
    ratio = found.sum(0) / (known * share[:, None]).sum(0)
    # Noise of 120 galaxies: 1 % in g, 0.5 % in r and z; the catalogue's own error 0.1 %.
    np.testing.assert_allclose(ratio, 1, atol=0.03)


def test_noise_is_that_of_a_coadd() -> None:
    sky = sky_of(**EMPTY)
    made = some(60, sky)
    corner = drawn(made, sky)[:, :, :14, :14]
    corner = corner - corner.mean((2, 3), keepdims=True)
    # 5 sigma of a point source: sigma of a pixel times the root of its noise-equivalent area.
    depth, psfsize = head(made, "depth_{b}_mag"), head(made, "psf_nea_{b}_arcsec")
    area_px = 4 * np.pi * (psfsize / 2.355 / sky.pixel_scale_arcsec) ** 2
    sigma = 10 ** (0.4 * (22.5 - depth)) / 5 / np.sqrt(area_px)
    expected = 0.91 * sigma
    np.testing.assert_allclose(head(made, "noise_{b}_nmgy"), expected, rtol=2e-3)
    unit = corner / expected[:, :, None, None]
    assert unit.std() == pytest.approx(1.0, abs=0.015)
    lag_1 = (unit[..., 1:] * unit[..., :-1]).mean() / unit.var()
    lag_2 = (unit[..., 2:] * unit[..., :-2]).mean() / unit.var()
    assert lag_1 == pytest.approx(0.12, abs=0.025)
    assert lag_2 == pytest.approx(-0.07, abs=0.025)


def test_a_stars_noise_equivalent_width_is_psfsize() -> None:
    sky = sky_of()
    made = some(1, sky).take(np.zeros(3, np.intp))
    star = np.zeros(3, components.part_dtype(3))
    star["r_eff"], star["n"], star["q"], star["flux"] = 0.03, 0.5, 1.0, 10.0
    star["x"], star["y"] = [39.5, 40.0, 39.7], [39.5, 39.5, 39.8]
    light = torch.zeros(3, 3, SIZE, SIZE)
    hosts._add(light, star, np.arange(3), made, sky, SIZE, render.DEFAULT)
    area_px = light.sum((2, 3)).square() / light.square().sum((2, 3))
    width = 2.355 * torch.sqrt(area_px / (4 * np.pi)) * sky.pixel_scale_arcsec
    np.testing.assert_allclose(width.numpy(), head(made, "psf_nea_{b}_arcsec"), rtol=0.015)


def test_every_galaxy_is_a_target() -> None:
    made = some(20_000, sky_of())
    flux = {b: made.splits[f"flux_{b}_nmgy"].to_numpy() for b in ("r", "z", "w1")}
    clean = {b: f / made.splits[f"mw_transmission_{b}"].to_numpy() for b, f in flux.items()}
    assert lrg_variants(clean)["v3_color_relaxed"].all()
    measured = 22.5 - 2.5 * np.log10(clean["z"])
    error = measured - made.early["mag"][:, colours.Z]
    assert error.std() == pytest.approx(0.01, rel=0.03)
    assert (measured < 20.4).all()


def test_no_two_splits_or_families_share_a_galaxy_or_a_place() -> None:
    numbers = np.arange(300)
    every = np.concatenate(
        [hosts.ids_of(numbers, split=s, family=f) for s in hosts.SPLITS for f in range(5)]
    )
    assert len(np.unique(every)) == len(every)
    tables = [some(300, sky_of(), split).splits for split in hosts.SPLITS]
    regions = [set(table["region_id"].to_pylist()) for table in tables]
    assert len(set.union(*regions)) == sum(len(region) for region in regions)
    places = {
        place
        for table in tables
        for place in zip(*(table[c].to_pylist() for c in ("ra_deg", "dec_deg")), strict=True)
    }
    assert len(places) == 4 * 300


def test_bricks_have_their_own_seeing_and_galaxies_in_them_share_it() -> None:
    made = some(3 * hosts.GALAXIES_PER_BRICK, sky_of())
    psfsize = head(made, "psf_nea_{b}_arcsec").reshape(3, hosts.GALAXIES_PER_BRICK, 3)
    assert (psfsize == psfsize[:, :1]).all()
    assert len(np.unique(psfsize[:, 0, 1])) == 3


def test_the_sky_is_measured_on_the_annulus() -> None:
    pixels = np.random.default_rng(3).normal(0.01, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    level, spread = hosts.sky_levels(torch.from_numpy(pixels), 28, 38)
    ring = pixels[:, :, measure.annulus(SIZE, 28, 38)]
    at = (ring.shape[-1] - 1) // 2
    median = np.sort(ring, -1)[..., at]
    mad = np.sort(np.abs(ring - median[..., None]), -1)[..., at]
    np.testing.assert_array_equal(level.numpy(), median)
    np.testing.assert_allclose(spread.numpy(), mad, rtol=1e-6)
    # The survey's cutouts take the mean of the two in the middle: 1e-3 of the noise apart.
    flat = ring.reshape(15, -1)
    theirs, _ = measure.median_and_mad(flat, np.ones(flat.shape, bool))
    np.testing.assert_allclose(level.numpy().ravel(), theirs, atol=2e-3)


def test_the_catalogues_shape_is_that_of_the_light() -> None:
    sky = sky_of(**EMPTY)
    made = some(1500, sky)
    is_bright = (made.early["mag"][:, colours.Z] < 19.7) & (made.early["r_eff"] > 0.7)
    flat = np.flatnonzero(is_bright & (made.early["q"] < 0.65))[:20]
    made = made.take(flat)
    table = made.splits
    q, phi = populations.light_shape(*(table[f"shape_{e}"].to_numpy() for e in ("e1", "e2")))
    assert np.abs(q - made.early["q"]).max() < 0.12
    pixels = drawn(made, sky)[:, 1:].sum(1)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    x, y = np.meshgrid(axis, axis)
    window = np.exp(-0.5 * (x**2 + y**2) / 4.0**2)
    xx, yy, xy = ((pixels * window * m).sum((1, 2)) for m in (x * x, y * y, x * y))
    seen = np.arctan2(2 * xy, xx - yy) / 2
    apart = (seen - phi + np.pi / 2) % np.pi - np.pi / 2
    assert len(flat) == 20
    assert np.median(np.abs(apart)) < np.radians(6)
    assert (np.abs(apart) < np.radians(20)).mean() >= 0.9


def test_the_population_is_that_of_the_simulated_survey() -> None:
    """Same magnitudes, colours, sizes, shapes as early types among the survey's own targets."""
    none_else = {**dict.fromkeys(RATES, 0.0), "twist": 0.4, "intracluster": 0.3}
    survey = simulate_config(seed=11, lrg_per_deg2=3000, rates=none_else)
    brick = SimpleNamespace(brickid=77, ra1=0.0, ra2=1.0, dec1=-0.5, dec2=0.5, area_deg2=1.0)
    theirs = galaxies.targets(brick, survey, {})
    ours = some(3000, sky_of()).early
    assert len(theirs) > 2000
    for name in ("z", "mag_abs_r", "sigma_v", "r_eff", "n", "q", "phi"):
        assert ks_2samp(ours[name], theirs[name]).pvalue > 1e-3, name
    for low, high in ((colours.G, colours.R), (colours.R, colours.Z), (colours.Z, colours.W1)):
        colour = [made["mag"][:, low] - made["mag"][:, high] for made in (ours, theirs)]
        assert ks_2samp(*colour).pvalue > 1e-3
    assert ks_2samp(*(made["mag"][:, colours.Z] for made in (ours, theirs))).pvalue > 1e-3
    for name, slack in (("has_twist", 0.04), ("has_intracluster", 0.03)):
        assert ours[name].mean() == pytest.approx(theirs[name].mean(), abs=slack)
    assert (ours["kind"] == "early").all()
