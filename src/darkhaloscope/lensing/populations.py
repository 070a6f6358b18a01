"""What lenses and sources are like: relations from the literature, each with its source.

NumPy, float64, shape (n,). Magnitudes are AB. Nothing is drawn here: a relation with a scatter
takes the standard normal draw as an argument; `lensing.priors` draws.

Colours and K-corrections are those of the templates of Coleman, Wu & Weedman 1980 (ApJS 43, 393:
E, Sbc, Scd, Im, extended to the ultraviolet and infrared as distributed with GalSim) through boxes
at DECam's filters (g 398-548, r 568-716, i 710-857, z 850-1002 nm; Abbott et al. 2018, ApJS 239,
18). They are good to 0.1-0.2 mag: a first form.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincc, gammainccinv

from darkhaloscope.lensing import cosmology

Values = NDArray[np.float64]

BANDS = ("g", "r", "i", "z")
MAX_SOURCE_Z = 4.0  # the templates' table ends there

_Z = np.arange(17) * 0.25
# Band minus r of each template at redshifts 0 to 4, hundredths of a magnitude.
_TRACKS = """
E   g   87  161  198  215  257  205  123   86   84   68   47   28   18   17   29   37   52
E   i  -35  -51  -85 -139 -118 -141 -193 -172  -94  -49  -61  -68  -56  -40  -25  -18  -12
E   z  -66  -81 -127 -197 -231 -249 -277 -302 -268 -213 -155 -106  -98  -99  -86  -68  -49
Sbc g   56   98  147  134   92   65   56   50   42   30   25   16   20   34   59   78  106
Sbc i  -36  -33  -47  -85 -106  -89  -61  -45  -39  -35  -33  -34  -29  -18   -8   -3   -9
Sbc z  -67  -63  -74 -119 -166 -176 -150 -116  -88  -74  -68  -65  -56  -46  -37  -32  -28
Scd g   42   83  115   92   59   36   23   22   23   20   20   15   19   34   59   78  106
Scd i  -21  -24  -40  -72  -78  -58  -45  -29  -16  -11  -13  -19  -20  -14   -7   -3   -9
Scd z  -35  -42  -60 -100 -132 -128 -104  -74  -54  -38  -29  -28  -27  -25  -23  -24  -23
Im  g   23   55   77   54   22   15   17   23   28   29   31   27   25   32   53   69   99
Im  i  -23  -11  -28  -45  -59  -35  -15   -9   -8   -9  -13  -18  -22  -23  -19  -18  -15
Im  z  -45  -30  -35  -66  -92  -81  -60  -29  -20  -17  -19  -24  -30  -33  -33  -36  -35
"""
_COLOUR = {
    (template, band): np.array(values, np.float64) / 100
    for template, band, *values in (line.split() for line in _TRACKS.strip().splitlines())
}
# The red sequence of real lens galaxies in the Legacy Surveys, redshifts 0 to 1 in steps of 0.1.
RED_SEQUENCE_Z = np.arange(11) * 0.1
RED_SEQUENCE_R_MINUS_Z = np.array(
    [0.60, 0.68, 0.79, 0.86, 0.96, 1.13, 1.34, 1.57, 1.81, 2.00, 2.15]
)
_K_Z = np.arange(11) * 0.125  # 0 to 1.25, the hosts' range
_E_K_Z_TO_R = np.array(
    [-0.66, -0.561, -0.504, -0.435, -0.364, -0.269, -0.132, -0.015, 0.135, 0.389, 0.789]
)
_MIN_HOST_Z, _MAX_HOST_Z = 0.08, 1.2
_EVOLUTION_MAG = 0.85  # of the r magnitude per unit redshift, Bernardi et al. 2003, AJ 125, 1849
_I_FROM_R = -0.3  # i - r of a faint blue galaxy, for counts that are published in i
_SQUARE_ARCSEC_PER_SQUARE_ARCMIN = 3600.0


def host_redshift(r_minus_z: ArrayLike, normal: ArrayLike, *, scatter: float) -> Values:
    """Redshift of an early-type galaxy from its colour: the red sequence inverted.

    The sequence is the median r-z of the lens galaxies of Stein et al. 2022 (ApJ 932, 107) by
    redshift. For those 407 that have a spectrum, half are within 0.018 (1 + z), without bias.

    Args:
        r_minus_z: Colour, mag, dereddened, shape (n,).
        normal: Standard normal draw per galaxy, shape (n,).
        scatter: Of z / (1 + z), 1 sigma.

    Returns:
        Redshifts within 0.08-1.2, shape (n,). Below r-z of 0.8 (z of 0.2) colour says little.
    """
    z = np.interp(np.asarray(r_minus_z, np.float64), RED_SEQUENCE_R_MINUS_Z, RED_SEQUENCE_Z)
    drawn = z + scatter * (1 + z) * np.asarray(normal, np.float64)
    return np.asarray(np.clip(drawn, _MIN_HOST_Z, _MAX_HOST_Z))


def log_velocity_dispersion(mag_z: ArrayLike, redshift: ArrayLike) -> Values:
    """Mean log10 of an early type's velocity dispersion, km/s, from its luminosity.

    log sigma = -2.97 - 0.37 M_r - 0.006 M_r^2 (Hyde & Bernardi 2009, MNRAS 394, 1978, as used by
    Collett 2015, ApJ 811, 20), with M_r corrected for evolution. Its scatter is 0.07 dex. M_r is
    held within -19 and -24.5, where the relation was measured.

    Examples:
        >>> sigma = 10 ** log_velocity_dispersion([19.5, 18.5], [0.5, 0.5])
        >>> sigma.round().tolist()
        [183.0, 231.0]
    """
    redshift = np.asarray(redshift, np.float64)
    absolute = np.asarray(mag_z, np.float64) - cosmology.distance_modulus_mag(redshift)
    absolute = absolute - np.interp(redshift, _K_Z, _E_K_Z_TO_R) + _EVOLUTION_MAG * redshift
    m = np.clip(absolute, -24.5, -19.0)
    return np.asarray(-2.97 - 0.37 * m - 0.006 * m**2)


def einstein_radius_arcsec(sigma_kms: ArrayLike, z_lens: ArrayLike, z_source: ArrayLike) -> Values:
    """theta_E = 4 pi (sigma / c)^2 D_ls / D_s of an isothermal lens; 0 for a source before it."""
    ratio = np.asarray(sigma_kms, np.float64) / cosmology.LIGHT_KM_S
    radians = 4 * np.pi * ratio**2 * cosmology.lensing_efficiency(z_lens, z_source)
    return np.asarray(radians * cosmology.ARCSEC_PER_RADIAN)


def log_dispersion_of(theta_e: ArrayLike, z_lens: ArrayLike, z_source: ArrayLike) -> Values:
    """log10 of the dispersion, km/s, that gives theta_E, arcsec; inverse of the above."""
    at_100 = einstein_radius_arcsec(100.0, z_lens, z_source)
    return np.asarray(2 + 0.5 * np.log10(np.asarray(theta_e, np.float64) / at_100))


def source_density(mag_r: ArrayLike) -> Values:
    """Galaxies per arcsec^2 and magnitude at r magnitude `mag_r`.

    Derivative of N(<i) = 46 x 10^(0.31 (i - 25)) per arcmin^2 (LSST Science Book 2009,
    arXiv:0912.0201, eq. 3.7, from CFHTLS counts), with r - i of 0.3.
    """
    i = np.asarray(mag_r, np.float64) + _I_FROM_R
    per_arcmin2 = 46 * 0.31 * np.log(10) * 10 ** (0.31 * (i - 25))
    return np.asarray(per_arcmin2 / _SQUARE_ARCSEC_PER_SQUARE_ARCMIN)


def source_redshift(
    mag_r: ArrayLike, z_above: ArrayLike, uniform: ArrayLike
) -> tuple[Values, Values]:
    """Redshift of a source behind the lens, and how probable it is that one lies there.

    p(z) = z^2 exp(-z / z0) / (2 z0^3) with z0 = 0.0417 i - 0.744 (LSST Science Book 2009, eq. 3.8;
    fitted for 20.5 < i < 25.5, held constant outside). The mean is 3 z0: 0.77 at i = 24.

    Args:
        mag_r: Magnitude of the source, shape (n,).
        z_above: Redshift of the lens, shape (n,).
        uniform: Draw in [0, 1), shape (n,).

    Returns:
        Redshifts above `z_above` and at most 4, and the share of p(z) that lies above, (n,) each.
    """
    z0 = _redshift_scale(mag_r)
    behind = gammaincc(3.0, np.asarray(z_above, np.float64) / z0)
    beyond = gammaincc(3.0, MAX_SOURCE_Z / z0)
    share = np.maximum(behind - beyond, 0.0)
    drawn = z0 * gammainccinv(3.0, behind - np.asarray(uniform, np.float64) * share)
    return np.asarray(drawn), np.asarray(behind)


def source_redshift_density(mag_r: ArrayLike, redshift: ArrayLike) -> Values:
    """The density p(z) that `source_redshift` draws from, per unit redshift, shape (n,)."""
    z0, z = _redshift_scale(mag_r), np.asarray(redshift, np.float64)
    return np.asarray(z**2 * np.exp(-z / z0) / (2 * z0**3))


def source_colour(
    band: str, redshift: ArrayLike, blueness: ArrayLike, is_red: NDArray[np.bool_]
) -> Values:
    """Magnitude in `band` minus that in r, as observed.

    Args:
        band: One of g, r, i, z.
        redshift: Of the source, shape (n,); held at 4 beyond.
        blueness: Within [0, 1]: between the templates Scd and Im, or E and Sbc where red, (n,).
        is_red: Rows that are early types or dusty, shape (n,). About one lensed source in ten.

    Raises:
        ValueError: no template is tabulated in the band.
    """
    if band not in BANDS:
        raise ValueError(f"source colours are known in {', '.join(BANDS)}; got band {band!r}")
    if band == "r":
        return np.zeros(np.shape(redshift))

    z = np.asarray(redshift, np.float64)

    def track(template: str) -> Values:
        return np.asarray(np.interp(z, _Z, _COLOUR[template, band]))

    mix = np.asarray(blueness, np.float64)
    late = (1 - mix) * track("Scd") + mix * track("Im")
    return np.where(is_red, (1 - mix) * track("E") + mix * track("Sbc"), late)


def source_r_eff_arcsec(
    mag_r: ArrayLike, redshift: ArrayLike, normal: ArrayLike, *, scatter_dex: float
) -> Values:
    """Half-light radius of a source from its luminosity and redshift.

    r_eff = 6.9 kpc (1 + z)^-1.1 10^(-0.4 x 0.27 (M_UV + 21)): slopes of Shibuya, Ouchi & Harikane
    2015, ApJS 219, 15, who find a log-normal scatter of 0.2-0.3 dex; the constant makes a galaxy
    of M_UV = -21 at z = 2 2.1 kpc. M_UV is from the observed r band with a flat f_nu.

    Returns:
        Arcsec, held within 0.03 and 1.5, shape (n,).

    Examples:
        >>> r_eff = source_r_eff_arcsec([22.0, 24.5], [1.5, 1.5], [0.0, 0.0], scatter_dex=0.2)
        >>> r_eff.round(2).tolist()
        [0.4, 0.22]
    """
    z = np.asarray(redshift, np.float64)
    absolute = np.asarray(mag_r, np.float64) - cosmology.distance_modulus_mag(z)
    absolute = absolute + 2.5 * np.log10(1 + z)
    kpc = 6.9 * (1 + z) ** -1.1 * 10 ** (-0.4 * 0.27 * (absolute + 21))
    kpc = kpc * 10 ** (scatter_dex * np.asarray(normal, np.float64))
    radians = kpc / 1000 / cosmology.angular_diameter_distance_mpc(z)
    return np.asarray(np.clip(radians * cosmology.ARCSEC_PER_RADIAN, 0.03, 1.5))


def light_shape(e1: ArrayLike, e2: ArrayLike) -> tuple[Values, Values]:
    """Axis ratio and position angle of a galaxy's light from Tractor's ellipticities.

    Tractor: |e| = (1 - q) / (1 + q), position angle atan2(e2, e1) / 2 east of north. North is up
    and east is left on a survey image, so the angle from +x towards +y is 90 degrees more.

    Returns:
        q in (0, 1], and the angle in radians, shape (n,) each.
    """
    e1, e2 = np.asarray(e1, np.float64), np.asarray(e2, np.float64)
    e = np.minimum(np.hypot(e1, e2), 0.99)
    return np.asarray((1 - e) / (1 + e)), np.asarray(np.arctan2(e2, e1) / 2 + np.pi / 2)


def mass_axis_ratio(light_q: ArrayLike, normal: ArrayLike) -> Values:
    """Axis ratio of the mass from that of the light.

    Their quotient is 0.99 with a scatter of 0.11 (Koopmans et al. 2006, ApJ 649, 599). Held within
    0.3 and 1, folded back at 1.
    """
    q = np.asarray(light_q, np.float64) * (0.99 + 0.11 * np.asarray(normal, np.float64))
    return np.asarray(np.clip(1 - np.abs(1 - q), 0.3, 1.0))


def _redshift_scale(mag_r: ArrayLike) -> Values:
    i = np.clip(np.asarray(mag_r, np.float64) + _I_FROM_R, 20.5, 25.5)
    return np.asarray(0.0417 * i - 0.744)
