"""Relations of lenses and sources, against astropy, GalSim's templates and quadrature."""

import csv
import os
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy import units
from astropy.constants import c
from astropy.cosmology import FlatLambdaCDM
from scipy.integrate import quad
from scipy.stats import kstest

from darkhaloscope.core import keys
from darkhaloscope.lensing import cosmology, populations

ORACLE = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)
BOXES_NM = {"g": (398, 548), "r": (568, 716), "i": (710, 857), "z": (850, 1002)}


def test_distances_agree_with_astropy() -> None:
    z = np.array([0.05, 0.3, 0.8, 2.0, 6.0])
    expected = ORACLE.comoving_distance(z).to_value(units.Mpc)
    np.testing.assert_allclose(cosmology.comoving_distance_mpc(z), expected, rtol=1e-8)
    expected = ORACLE.angular_diameter_distance(z).to_value(units.Mpc)
    np.testing.assert_allclose(cosmology.angular_diameter_distance_mpc(z), expected, rtol=1e-8)
    expected = ORACLE.distmod(z).to_value(units.mag)
    np.testing.assert_allclose(cosmology.distance_modulus_mag(z), expected, atol=1e-7)


def test_einstein_radius_agrees_with_astropy_distances() -> None:
    sigma, z_lens, z_source = np.array([180.0, 250.0, 320.0]), np.array([0.2, 0.5, 0.7]), 1.5
    near, far = (ORACLE.comoving_distance(z).value for z in (z_lens, z_source))  # flat
    ratio = (sigma * units.km / units.s / c).decompose().value
    expected = np.degrees(4 * np.pi * ratio**2 * (far - near) / far) * 3600
    got = populations.einstein_radius_arcsec(sigma, z_lens, z_source)
    np.testing.assert_allclose(got, expected, rtol=1e-7)
    back = 10 ** populations.log_dispersion_of(got, z_lens, z_source)
    np.testing.assert_allclose(back, sigma, rtol=1e-10)


def test_a_source_before_the_lens_is_not_lensed() -> None:
    assert populations.einstein_radius_arcsec(300.0, 0.5, 0.4) == 0


def template_mag(name: str, band: str, z: float) -> float:
    """AB magnitude through a box, for a rest-frame spectrum moved to redshift z."""
    folder = os.path.join(galsim.meta_data.share_dir, "SEDs")
    wave, flux = np.loadtxt(os.path.join(folder, f"CWW_{name}_ext.sed"), unpack=True)
    at = np.linspace(*BOXES_NM[band], 2001)
    seen = np.interp(at / (1 + z), wave / 10, flux) / (1 + z)
    return float(-2.5 * np.log10(np.trapezoid(seen * at, at) / np.trapezoid(1 / at, at)))


@pytest.mark.parametrize("band", ["g", "i", "z"])
@pytest.mark.parametrize("z", [0.5, 1.25, 2.0, 3.5])
def test_source_colours_are_those_of_the_templates(band: str, z: float) -> None:
    def got(blueness: float, red: bool) -> float:
        return float(populations.source_colour(band, [z], [blueness], np.array([red]))[0])

    for name, blueness, red in (
        ("Scd", 0.0, False), ("Im", 1.0, False), ("E", 0.0, True), ("Sbc", 1.0, True)
    ):  # fmt: skip
        expected = template_mag(name, band, z) - template_mag(name, "r", z)
        assert got(blueness, red) == pytest.approx(expected, abs=0.02), name


def test_a_hosts_dispersion_follows_its_luminosity_seen_through_the_elliptical_template() -> None:
    z = np.array([0.25, 0.5, 0.75])
    k = np.array([template_mag("E", "z", v) - template_mag("E", "r", 0) for v in z])
    mag = ORACLE.distmod(z).value + k - 0.85 * z - 22.5  # M_r = -22.5 today
    log_sigma = populations.log_velocity_dispersion(mag, z)
    np.testing.assert_allclose(log_sigma, -2.97 + 0.37 * 22.5 - 0.006 * 22.5**2, atol=0.005)


def test_a_hosts_redshift_is_where_the_red_sequence_has_its_colour() -> None:
    z = populations.RED_SEQUENCE_Z[2:]
    colour = populations.RED_SEQUENCE_R_MINUS_Z[2:]
    np.testing.assert_allclose(populations.host_redshift(colour, np.zeros(9), scatter=0.03), z)
    drawn = populations.host_redshift(np.full(2, 1.13), np.array([1.0, -9.0]), scatter=0.03)
    np.testing.assert_allclose(drawn, [0.545, 0.095])


def numbers(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows])


@pytest.mark.real
def test_redshifts_of_real_lens_galaxies_follow_from_their_colours(shared_data: Path) -> None:
    path = shared_data / "lens-catalogs" / "stein2021_training_lenses.tsv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    z, colour = numbers(rows, "z_spec"), numbers(rows, "mag_r") - numbers(rows, "mag_z")
    known = (z > 0.1) & (z < 1) & np.isfinite(colour)
    got = populations.host_redshift(colour[known], np.zeros(known.sum()), scatter=0)
    apart = (got - z[known]) / (1 + z[known])
    assert known.sum() > 400
    assert abs(np.median(apart)) < 0.005
    assert np.median(np.abs(apart)) < 0.02


@pytest.mark.real
def test_einstein_radii_of_real_lenses_follow_from_their_dispersions(shared_data: Path) -> None:
    path = shared_data / "lens-catalogs" / "slacs_s4tm_bells_merged.csv"
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["theta_E"]]
    sigma, z_lens, z_source = (numbers(rows, n) for n in ("sigma_v", "z_lens", "z_source"))
    expected = populations.einstein_radius_arcsec(sigma, z_lens, z_source)
    ratio = numbers(rows, "theta_E") / expected
    assert len(rows) == 60
    # 1.17: these lenses were found because theta_E is large for their dispersion in a fibre
    assert 1.0 < np.median(ratio) < 1.25
    assert np.log10(ratio).std() < 0.1


def test_redshifts_behind_the_lens_follow_the_published_distribution() -> None:
    n, mag, z_lens = 4000, 24.3, 0.6
    uniform = keys.uniform(np.arange(n), seed=1, stream="test")
    drawn, behind = populations.source_redshift(np.full(n, mag), np.full(n, z_lens), uniform)
    z0 = 0.0417 * 24.0 - 0.744

    def density(z: float) -> float:
        return z**2 * np.exp(-z / z0) / (2 * z0**3)

    total = quad(density, z_lens, 4.0)[0]
    assert behind[0] == pytest.approx(quad(density, z_lens, np.inf)[0], rel=1e-6)
    assert drawn.min() > z_lens
    assert drawn.max() <= 4.0

    def cumulative(values: np.ndarray) -> np.ndarray:
        return np.array([quad(density, z_lens, float(v))[0] / total for v in values])

    assert kstest(drawn[:500], cumulative).pvalue > 0.01


def test_counts_integrate_to_the_published_number() -> None:
    per_arcmin2 = 3600 * quad(lambda m: float(populations.source_density(m)), 10, 25.3)[0]
    assert per_arcmin2 == pytest.approx(46, rel=1e-3)  # N(< i = 25), r = i + 0.3


def test_a_galaxy_elongated_to_the_north_is_elongated_along_y() -> None:
    e = 1 / 3  # q = 0.5
    q, phi = populations.light_shape([e, -e, 0.0], [0.0, 0.0, e])
    np.testing.assert_allclose(q, 0.5)
    assert abs(np.sin(phi[0])) == pytest.approx(1)  # position angle 0: north is +y
    assert abs(np.cos(phi[1])) == pytest.approx(1)  # 90 degrees: east is -x
    direction = np.array([np.cos(phi[2]), np.sin(phi[2])])  # 45 degrees: north-east is up and left
    assert direction[0] * direction[1] == pytest.approx(-0.5)


def test_mass_is_as_elongated_as_light_within_its_range() -> None:
    got = populations.mass_axis_ratio(np.array([0.8, 1.0, 1.0, 0.3]), np.array([0, 1, -1, -5]))
    np.testing.assert_allclose(got, [0.792, 0.9, 0.88, 0.3])


def test_fainter_and_more_distant_sources_are_smaller() -> None:
    size = populations.source_r_eff_arcsec([22, 24, 24], [1, 1, 2.5], np.zeros(3), scatter_dex=0.2)
    assert size[0] > size[1] > size[2] > 0.05


def test_a_band_without_templates_is_refused() -> None:
    with pytest.raises(ValueError, match="got band 'Y'"):
        populations.source_colour("Y", [1.0], [0.5], np.array([False]))
