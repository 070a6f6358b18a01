"""What lenses and sources are like: relations from the literature, each with its source.

NumPy, float64, shape (n,). Magnitudes are AB. Nothing is drawn here: a relation with a scatter
takes the standard normal draw as an argument; `lensing.priors` draws.

Colours and K-corrections are those of the templates of Coleman, Wu & Weedman 1980 (ApJS 43, 393:
E, Sbc, Scd, Im, extended to the ultraviolet and infrared as distributed with GalSim) through boxes
at DECam's filters (g 398-548, r 568-716, i 710-857, z 850-1002 nm; Abbott et al. 2018, ApJS 239,
18). They are good to 0.1-0.2 mag.

Each relation names what it was checked against; `docs/populations.md` has the figures in one table.
"COSMOS galaxies" there are the real ones of GalSim's example catalogue with HSC photometry and
photometric redshifts, as distributed with LSSTDESC's BlendingToolKit: few, but independent.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, gammaincc, gammainccinv

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
# i - r of a faint blue galaxy, for counts that are published in i; the median of 60 COSMOS galaxies
# of 23 < i < 25.5 is -0.31.
_I_FROM_R = -0.3
_SQUARE_ARCSEC_PER_SQUARE_ARCMIN = 3600.0
# Types E, Sbc, Scd, irregular: p(z | type, i) and shares of the types at i of 20 and their decline;
# what they leave is irregular.
_Z_SLOPE = np.array([3.33078, 1.42815, 1.58310, 1.34500])
_Z_AT_20 = np.array([0.45181, 0.16560, 0.21072, 0.20418])
_Z_PER_MAG = np.array([0.13677, 0.12983, 0.14008, 0.13773])
_TYPE_SHARE_AT_20 = np.array([0.43199, 0.07995, 0.31162])
_TYPE_DECLINE_PER_MAG = np.array([0.47165, 0.30663, 0.12715])
_Z_SHAPE = (_Z_SLOPE + 1) / _Z_SLOPE  # of the gamma distribution that (z / zm)^slope follows
BLUEST = 2.0  # of `source_colour`


def host_redshift(r_minus_z: ArrayLike, normal: ArrayLike, *, scatter: float) -> Values:
    """Redshift of an early-type galaxy from its colour: the red sequence inverted.

    The sequence is the median r-z of the lens galaxies of Stein et al. 2022 (ApJ 932, 107) by
    redshift.

    Checked: for those 407 that have a spectrum, half are within 0.018 (1 + z), without bias.

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

    Checked: the coefficients are those of Collett's code (LensPop; he corrects M_r for no
    evolution, which makes a galaxy at z = 0.5 0.04 dex stronger). The 16 lenses of Sonnenfeld et
    al. 2019 (A&A 630, A71) with a spectroscopic source, a theta_E and an i magnitude have
    isothermal dispersions 0.057 dex above this relation (median; scatter 0.046 dex). Lenses are
    drawn by area, so they have to lie 4 ln(10) 0.07^2 = 0.045 dex above: 0.012 +- 0.011 is left.

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
    """theta_E = 4 pi (sigma / c)^2 D_ls / D_s of an isothermal lens; 0 for a source before it.

    Checked: within 0.6 % (their rounding) of 99 lenses of LensPop's table for DES; the 60 SLACS and
    S4TM lenses with a measured theta_E have 1.17 times what their fibre dispersion gives (median;
    scatter 0.09 dex): they were found because theta_E is large for the dispersion in a fibre.
    """
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

    Checked: COSMOS has 385,065 entries of i < 25 in 2 deg^2, stars among them and bright stars cut
    out (Ilbert et al. 2009, ApJ 690, 1236, as served by IRSA): 53 per arcmin^2 against 46 here.
    """
    i = np.asarray(mag_r, np.float64) + _I_FROM_R
    per_arcmin2 = 46 * 0.31 * np.log(10) * 10 ** (0.31 * (i - 25))
    return np.asarray(per_arcmin2 / _SQUARE_ARCSEC_PER_SQUARE_ARCMIN)


def source_redshift(
    mag_r: ArrayLike, z_above: ArrayLike, uniform: ArrayLike
) -> tuple[Values, Values]:
    """Redshift of a source behind the lens, and how probable it is that one lies there.

    p(z | i) = sum over four types of their share times z^a exp(-(z / zm)^a), zm linear in i: the
    fit to the VVDS (Ilbert et al. 2006, A&A 457, 841), with the numbers that LePhare uses for its
    prior. Fitted for 20 < i < 24, used to 26, held constant outside. The median is 0.97 at i = 24.

    Checked: of 92 COSMOS galaxies of 20 < i < 26 the medians are 0.95, 0.89 and 1.45 at i of 22.5,
    23.8 and 25.2 (11, 20 and 61 of them) against 0.66, 0.92 and 1.16 here: too low where the fit is
    extrapolated. Their log-likelihood is -103; with p(z) = z^2 exp(-z / z0), z0 = 0.0417 i - 0.744
    of the LSST Science Book (eq. 3.8), which has 4 % beyond z = 2 at the faint end where 33 % are,
    it is -140; with the HDF-N prior of Benitez 2000 (ApJ 536, 571) it is -102.

    Args:
        mag_r: Magnitude of the source, shape (n,).
        z_above: Redshift of the lens, shape (n,).
        uniform: Draw in [0, 1), shape (n,).

    Returns:
        Redshifts above `z_above` and at most 4, and the share of p(z) between the two, (n,) each.
    """
    share, zm = _types(mag_r)
    near = gammaincc(_Z_SHAPE, (np.asarray(z_above, np.float64)[..., None] / zm) ** _Z_SLOPE)
    far = gammaincc(_Z_SHAPE, (MAX_SOURCE_Z / zm) ** _Z_SLOPE)
    between = np.maximum(near - far, 0.0)
    heaped = np.cumsum(share * between, -1)
    behind = heaped[..., -1]
    at = np.asarray(uniform, np.float64) * behind
    kind = np.minimum((heaped <= at[..., None]).sum(-1), len(_Z_SLOPE) - 1)[..., None]

    def mine(values: Values) -> Values:
        return np.asarray(np.take_along_axis(np.broadcast_to(values, near.shape), kind, -1)[..., 0])

    weight = mine(share * between)
    within = (at - mine(heaped) + weight) / np.where(weight > 0, weight, 1.0)
    left = mine(near) - np.clip(within, 0.0, 1.0) * mine(between)
    drawn = mine(zm) * gammainccinv(mine(_Z_SHAPE), left) ** (1 / mine(_Z_SLOPE))
    return np.asarray(drawn), np.asarray(behind)


def source_redshift_density(mag_r: ArrayLike, redshift: ArrayLike) -> Values:
    """The density p(z) that `source_redshift` draws from, per unit redshift, shape (n,)."""
    share, zm = _types(mag_r)
    ratio = np.asarray(redshift, np.float64)[..., None] / zm
    each = _Z_SLOPE / (zm * gamma(_Z_SHAPE)) * ratio**_Z_SLOPE * np.exp(-(ratio**_Z_SLOPE))
    return np.asarray((share * each).sum(-1))


def source_colour(
    band: str, redshift: ArrayLike, blueness: ArrayLike, is_red: NDArray[np.bool_]
) -> Values:
    """Magnitude in `band` minus that in r, as observed.

    Args:
        band: One of g, r, i, z.
        redshift: Of the source, shape (n,); held at 4 beyond.
        blueness: Within [0, 2]: 0 is the template Scd, 1 Im, and 2 a young burst without dust,
            whose f_nu is flat: the same magnitude in every band. Where red within [0, 1], from E
            to Sbc.
        is_red: Rows that are early types or dusty, shape (n,). About one lensed source in ten: by
            the fit of `source_redshift` 9 % of the galaxies of i = 24 are E or Sbc.

    Checked: 62 COSMOS galaxies of r < 25.5 and z of 0.3-4 have a median g-r of 0.35 and r-z of 0.50
    (16-84 %: 0.10-0.72, 0.16-1.10). Late types drawn between Scd and Im alone would have 0.49 and
    0.81, between z = 1.2 and 2 r-z of 0.78 against 0.37; with blueness even over [0, 2] and a tenth
    of them red they have 0.27 (0.11-0.81) and 0.50 (0.17-1.05).

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
    late = np.where(
        mix < 1, (1 - mix) * track("Scd") + mix * track("Im"), (BLUEST - mix) * track("Im")
    )
    return np.where(is_red, (1 - mix) * track("E") + mix * track("Sbc"), late)


def source_r_eff_arcsec(
    mag_r: ArrayLike, redshift: ArrayLike, normal: ArrayLike, *, scatter_dex: float
) -> Values:
    """Half-light radius of a source from its luminosity and redshift.

    r_eff = 6.9 kpc (1 + z)^-1.1 10^(-0.4 x 0.27 (M_UV + 21)): slopes of Shibuya, Ouchi & Harikane
    2015, ApJS 219, 15, who find a log-normal scatter of 0.2-0.3 dex; the constant makes a galaxy
    of M_UV = -21 at z = 2 2.1 kpc. M_UV is from the observed r band with a flat f_nu.

    Checked: the HST half-light radii of 62 COSMOS galaxies of r < 25.5 and z of 0.3-4, less the PSF
    in quadrature, are 0.94 times these (median; scatter 0.17 dex): 0.92 below z = 1, 0.96 above.

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

    Checked: it depends on whose lens models. Against the light of Shajib et al. 2021 (MNRAS 503,
    2380; table of TDCOSMO), the mass of 13 SLACS lenses is 1.03 as round in the models of Bolton et
    al. 2008 (scatter 0.10), and that of 23 is 0.90 as round in their own (scatter 0.10).
    """
    q = np.asarray(light_q, np.float64) * (0.99 + 0.11 * np.asarray(normal, np.float64))
    return np.asarray(np.clip(1 - np.abs(1 - q), 0.3, 1.0))


def _types(mag_r: ArrayLike) -> tuple[Values, Values]:
    """Share of each type at a magnitude, and the zm of its redshifts; shape (n, 4) each."""
    i = np.clip(np.asarray(mag_r, np.float64)[..., None] + _I_FROM_R, 20.0, 26.0)
    known = _TYPE_SHARE_AT_20 * np.exp(-_TYPE_DECLINE_PER_MAG * (i - 20))
    return np.concatenate([known, 1 - known.sum(-1, keepdims=True)], -1), (
        _Z_AT_20 + _Z_PER_MAG * (i - 20)
    )
