"""Published samples of lenses, as medians and 16-84 % ranges, to hold what was drawn against.

None of them is the truth about the sky: each is what one search could find, or one forecast of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one quantity in a sample: how many values, their median, and the ends of the middle 68 %.

    Attributes:
        n: Lenses that have the value.
        low: 16th percentile.
        median: Half are below it.
        high: 84th percentile.
    """

    n: int
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A published sample.

    Attributes:
        name: Short, as a plot shows it.
        reference: Where it is from.
        what: What kind of lenses it holds, and how they were selected.
        spreads: By the name of the column that it is held against.
    """

    name: str
    reference: str
    what: str
    spreads: Mapping[str, Spread]


COLLETT_DES = Sample(
    "Collett 2015, DES",
    "Collett 2015, ApJ 811, 20; table lenses_DESc of LensPop, its first 99 lenses",
    "a forecast of what the full depth of DES can show: galaxies alone, 1.36 arcsec seeing",
    {
        "theta_e_arcsec": Spread(99, 0.970, 1.300, 1.623),
        "lens_z": Spread(99, 0.221, 0.446, 0.722),
        "src_z": Spread(99, 1.238, 1.879, 2.541),
        "src_mag_r": Spread(99, 23.40, 24.35, 25.70),
        "src_r_eff_arcsec": Spread(99, 0.097, 0.270, 0.500),
        "magnification": Spread(99, 3.91, 7.19, 18.23),
    },
)
SL2S = Sample(
    "SL2S",
    "Sonnenfeld et al. 2013, ApJ 777, 97 and 98",
    "found in CFHTLS images at 0.7 arcsec seeing, as galaxy-scale lenses",
    {
        "theta_e_arcsec": Spread(56, 0.992, 1.270, 1.766),
        "lens_z": Spread(52, 0.340, 0.478, 0.680),
        "src_z": Spread(36, 1.308, 2.120, 3.054),
    },
)
AGEL = Sample(
    "AGEL DR2",
    "spectroscopically confirmed arcs of AGEL DR2, as listed by the Legacy Surveys' viewer plug-in",
    "found in DES and DECaLS images; bright and wide arcs are favoured",
    {
        "lens_z": Spread(112, 0.365, 0.565, 0.740),
        "src_z": Spread(141, 1.352, 2.035, 2.539),
    },
)
SAMPLES = (COLLETT_DES, SL2S, AGEL)
