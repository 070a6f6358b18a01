"""The physical population on real galaxies, seen as a real coadd sees, beside published lenses.

Where they differ the difference is measured and said in docs/populations.md: a test here fails
when the population moves, towards the published figure or away from it.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from population_builders import PSF_BETA, Drawn, drawn, luminous_red_galaxies

from darkhaloscope.core import units
from darkhaloscope.evaluate.drawn import quantiles
from darkhaloscope.evaluate.published import AGEL, COLLETT_DES, SL2S

pytestmark = pytest.mark.real

N = 16_000
SEEING_OF_DES_ARCSEC = 1.356  # FWHM in Collett's table
# theta_E of the 56 lenses of Sonnenfeld et al. 2013, their table of lens models, arcsec
SL2S_THETA_E = np.array([
    2.66, 1.24, 1.27, 2.39, 1.41, 1.27, 1.00, 1.30, 1.00, 1.19, 1.22, 1.36, 1.76, 1.19, 1.29, 1.56,
    1.04, 0.85, 1.10, 1.23, 1.16, 0.93, 1.31, 1.03, 1.36, 0.90, 1.03, 1.40, 0.74, 1.21, 1.14, 1.74,
    2.03, 1.23, 2.55, 1.05, 1.51, 4.36, 0.94, 0.93, 3.11, 1.79, 0.96, 1.40, 1.30, 0.81, 1.95, 1.66,
    1.55, 1.07, 1.06, 1.38, 0.52, 2.16, 1.40, 1.44,
])  # fmt: skip


@pytest.fixture(scope="module")
def as_seen(shared_data: Path) -> Drawn:
    return drawn(*luminous_red_galaxies(shared_data), N)


@pytest.fixture(scope="module")
def as_collett_sees(shared_data: Path) -> Drawn:
    """Galaxies alone, in the seeing of his forecast."""
    per_width = units.moffat_fwhm(units.moffat_alpha_from_psfsize(1.0, PSF_BETA[0]), PSF_BETA[0])
    widths = (SEEING_OF_DES_ARCSEC / per_width,) * 3
    found = luminous_red_galaxies(shared_data)
    return drawn(*found, N, psfsize_arcsec=widths, group_share=0.0)


def median(sample: Drawn, name: str) -> float:
    return quantiles(sample.columns[name], sample.weight * sample.is_visible, (0.5,))[0]


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("src_mag_r", 0.5), ("src_z", 0.3), ("src_r_eff_arcsec", 0.05), ("magnification", 2.5),
        ("theta_e_arcsec", 0.35), ("lens_z", 0.25),
    ],
)  # fmt: skip
def test_what_is_visible_is_like_the_forecast_for_des(
    name: str, within: float, as_collett_sees: Drawn
) -> None:
    published = COLLETT_DES.spreads[name].median
    assert median(as_collett_sees, name) == pytest.approx(published, abs=within)


def test_lens_hosts_are_farther_and_their_radii_smaller_than_forecast(
    as_collett_sees: Drawn,
) -> None:
    """The targets are faint and red; Collett's lenses are of all early types."""
    spreads = COLLETT_DES.spreads
    assert median(as_collett_sees, "lens_z") - spreads["lens_z"].median > 0.1
    assert spreads["theta_e_arcsec"].median - median(as_collett_sees, "theta_e_arcsec") > 0.1


def test_better_seeing_shows_smaller_radii(as_seen: Drawn, as_collett_sees: Drawn) -> None:
    assert median(as_seen, "theta_e_arcsec") == pytest.approx(0.97, abs=0.08)
    assert median(as_seen, "theta_e_arcsec") < median(as_collett_sees, "theta_e_arcsec")
    share = [np.average(s.is_visible, weights=s.weight) for s in (as_seen, as_collett_sees)]
    assert share[0] == pytest.approx(0.05, abs=0.015)
    assert share[1] < 0.6 * share[0]


def test_the_published_numbers_of_sl2s_are_those_of_its_table() -> None:
    spread = SL2S.spreads["theta_e_arcsec"]
    assert len(SL2S_THETA_E) == spread.n
    ends = np.percentile(SL2S_THETA_E, [16, 50, 84])
    np.testing.assert_allclose(ends, [spread.low, spread.median, spread.high], atol=0.001)


def test_of_radii_that_sl2s_resolves_half_are_as_small_as_there(as_seen: Drawn) -> None:
    """Above 0.8", where their seeing resolves; the scatter of their median is 0.07"."""
    theta_e = as_seen.columns["theta_e_arcsec"]
    seen = as_seen.weight * as_seen.is_visible * (theta_e > 0.8)
    expected = np.median(SL2S_THETA_E[SL2S_THETA_E > 0.8])
    assert quantiles(theta_e, seen, (0.5,))[0] == pytest.approx(expected, abs=0.2)


def test_wide_lenses_are_as_rare_as_published_to_within_what_56_lenses_tell(
    as_seen: Drawn,
) -> None:
    theta_e = as_seen.columns["theta_e_arcsec"]
    share = np.average(theta_e > 2.5, weights=as_seen.weight * as_seen.is_visible)
    assert 0.004 < share < 0.17  # SL2S: 4 of 56, 2-17 % (Clopper-Pearson)
    alone = as_seen.columns["is_group_lens"] == 0
    among = np.average(alone[theta_e > 2.5], weights=as_seen.weight[theta_e > 2.5])
    assert among < 0.6


def test_the_published_numbers_of_agel_are_those_of_its_catalogue(shared_data: Path) -> None:
    with (shared_data / "lens-catalogs" / "agel_dr2.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for column, name in (("z_deflector", "lens_z"), ("z_source", "src_z")):
        values = np.array([float(row[column].strip("^ ") or "nan") for row in rows])
        values, spread = values[values > 0], AGEL.spreads[name]
        assert len(values) == spread.n
        ends = np.percentile(values, [16, 50, 84])
        np.testing.assert_allclose(ends, [spread.low, spread.median, spread.high], atol=0.001)


def test_sources_are_nearer_than_those_that_are_confirmed(as_seen: Drawn) -> None:
    """AGEL has spectra of the brightest arcs; the difference is what is stated, and no more."""
    apart = AGEL.spreads["src_z"].median - median(as_seen, "src_z")
    assert apart == pytest.approx(0.4, abs=0.15)
    apart = AGEL.spreads["lens_z"].median - median(as_seen, "lens_z")
    assert apart == pytest.approx(-0.08, abs=0.06)
