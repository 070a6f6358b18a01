"""Colours of galaxies by redshift, AB, in the order of FILTERS: g, r, i, z, W1, W2.

The red sequence is the median of g-r and r-z of the 1,615 lens galaxies of Stein et al. 2022 (ApJ
932, 107) in bins of redshift; above z = 0.5 of their redder half, as blue arcs are in these
magnitudes. z-W1 and W1-W2 at given r-z are medians of 500 DR8 rows of desitarget's test catalogue.
r-i splits r-z as an old population does (accurate to 0.05 mag: i is no band of the targets' cuts).
"""

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import units
from darkhaloscope.lensing import populations
from darkhaloscope.simulate.draws import Draws, Values
from darkhaloscope.survey.lrg import lrg_variants

FILTERS = ("g", "r", "i", "z", "w1", "w2")
G, R, _, Z, W1, _ = range(6)  # columns
EXTINCTION = np.array([3.214, 2.165, 1.592, 1.211, 0.184, 0.113])  # A / E(B-V), FILTERS, DR10

_RED = {  # the red sequence at populations.RED_SEQUENCE_Z
    "g-r": np.array([0.75, 0.98, 1.35, 1.56, 1.79, 1.85, 1.83, 1.88, 1.92, 1.95, 1.95]),
    "r-i": np.array([0.35, 0.38, 0.43, 0.53, 0.62, 0.76, 0.94, 1.10, 1.20, 1.22, 1.22]),
    "r-z": populations.RED_SEQUENCE_R_MINUS_Z,
    "z-w1": np.array([-0.3, 0.00, 0.25, 0.42, 0.60, 0.85, 1.10, 1.32, 1.48, 1.65, 1.80]),
    "w1-w2": np.array([-0.3, -0.3, -0.3, -0.4, -0.5, -0.6, -0.65, -0.68, -0.65, -0.6, -0.55]),
}
_RED_SCATTER = {"g-r": 0.06, "r-i": 0.02, "r-z": 0.04, "z-w1": 0.12, "w1-w2": 0.12}


def red_sequence(mag_z: Values, redshift: Values, draws: Draws) -> NDArray[np.float64]:
    """Magnitudes, shape (n, 6), of early types of a z magnitude and redshift, each (n,).

    The scatter is that of the sequence itself (0.04-0.12 mag), common to nothing but the galaxy.
    """
    return _stack(mag_z, _scattered(_red_colours(redshift), _RED_SCATTER, draws, "red"))


def star_forming_disc(mag_z: Values, redshift: Values, draws: Draws) -> NDArray[np.float64]:
    """Magnitudes, shape (n, 6), of the discs of dusty spirals, which r-z > 0.4 lets in.

    A plain line in redshift with a scatter of 0.1: with its bulge such a galaxy has the g-r of 0.9
    to 1.3 at r-z 0.7-1.0 that the real rows beside the red sequence have (29 of 123 targets).
    """
    colours = {
        "g-r": 0.55 + 0.8 * redshift,
        "r-i": 0.28 + 0.3 * redshift,
        "r-z": 0.45 + 0.5 * redshift,
        "z-w1": 0.75 + 0.7 * redshift,
        "w1-w2": -0.2 + 0.0 * redshift,
    }
    scatter = {"g-r": 0.1, "r-i": 0.04, "r-z": 0.08, "z-w1": 0.2, "w1-w2": 0.2}
    return _stack(mag_z, _scattered(colours, scatter, draws, "disc"))


def field(mag_r: Values, draws: Draws) -> NDArray[np.float64]:
    """Magnitudes, shape (n, 6), of field galaxies of an r magnitude: three in four are blue.

    r-z follows g-r as it does in the DR8 rows (0.15 + 0.53 (g-r), scatter 0.08).
    """
    is_red = draws.uniform("field is red") < 0.25
    gr = np.where(is_red, 1.10, 0.50) + draws.normal("field g-r", 0.2)
    rz = 0.15 + 0.53 * gr + draws.normal("field r-z", 0.08)
    colours = {"g-r": gr, "r-i": 0.55 * rz, "r-z": rz}
    colours["z-w1"] = 1.2 * colours["r-z"] - 0.75 + draws.normal("field z-w1", 0.3)
    colours["w1-w2"] = -0.3 + draws.normal("field w1-w2", 0.15)
    return _stack(mag_r - colours["r-z"], colours)


def blue(mag_r: Values, draws: Draws) -> NDArray[np.float64]:
    """Magnitudes, shape (n, 6), of star-forming galaxies at z 0.7-3: sources, rings, debris."""
    gr = 0.25 + draws.normal("source g-r", 0.2)
    colours = {"g-r": gr, "r-z": 0.2 + 0.5 * gr + draws.normal("source r-z", 0.12)}
    colours |= {"r-i": 0.5 * colours["r-z"], "z-w1": 0.3 + 0 * mag_r, "w1-w2": 0.0 * mag_r}
    return _stack(mag_r - colours["r-z"], colours)


def star(mag_r: Values, draws: Draws) -> NDArray[np.float64]:
    """Magnitudes, shape (n, 6), along the stellar locus, from F stars to M dwarfs."""
    gr = np.interp(draws.uniform("star locus"), [0.0, 0.4, 0.6, 1.0], [0.3, 0.7, 1.2, 1.48])
    rz = np.interp(gr, [0.3, 0.6, 0.9, 1.2, 1.4, 1.48], [0.12, 0.27, 0.45, 0.70, 1.10, 1.90])
    colours = {
        "g-r": gr + draws.normal("star g-r", 0.03),
        "r-i": 0.6 * rz,
        "r-z": rz + draws.normal("star r-z", 0.03),
        "z-w1": 0.6 * rz - 1.1,
        "w1-w2": 0 * rz - 0.6,
    }
    return _stack(mag_r - colours["r-z"], colours)


def passes_v3(mag: NDArray[np.float64], bright: float) -> NDArray[np.bool_]:
    """Whether magnitudes (n, 6) pass the cuts of v3 and are fainter than `bright` in z."""
    flux = {band: units.nmgy_from_mag(mag[:, i]) for band, i in (("r", R), ("z", Z), ("w1", W1))}
    return np.asarray(lrg_variants(flux)["v3_color_relaxed"] & (mag[:, Z] > bright))


def _red_colours(redshift: Values) -> dict[str, Values]:
    return {
        name: np.interp(redshift, populations.RED_SEQUENCE_Z, track) for name, track in _RED.items()
    }


def _scattered(
    colours: dict[str, Values], scatter: dict[str, float], draws: Draws, what: str
) -> dict[str, Values]:
    return {name: c + draws.normal(f"{what} {name}", scatter[name]) for name, c in colours.items()}


def _stack(mag_z: Values, colours: dict[str, Values]) -> NDArray[np.float64]:
    r = mag_z + colours["r-z"]
    w1 = mag_z - colours["z-w1"]
    return np.stack(
        [r + colours["g-r"], r, r - colours["r-i"], mag_z, w1, w1 - colours["w1-w2"]], axis=1
    )
