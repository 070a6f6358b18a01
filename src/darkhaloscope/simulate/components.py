"""What early types are made of beside one Sersic profile: twisted isophotes, intracluster light."""

from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from darkhaloscope.simulate.draws import Draws, Rows

INTRACLUSTER_SHARE = 0.15  # of the galaxy's flux, on top of it
_INNER_N, _OUTER_N, _OUTER_WIDER = 3.0, 1.5, 2.5


def part_dtype(n_bands: int) -> np.dtype[Any]:
    """Fields of one Sersic profile: positions in pixels, sizes in arcsec, flux in nmgy by band."""
    names = ("x", "y", "r_eff", "n", "q", "phi")
    return np.dtype(
        [("id", "i8"), *[(n, "f8") for n in names], ("flux", "f8", (n_bands,)), ("size", "i4")]
    )


def twisted(base: Rows, seed: int) -> list[Rows]:
    """An inner and an outer half whose sum has the galaxy's half-light radius."""
    draws, scale = Draws(base["id"], seed), _twist_scale()
    turn = draws.normal("twist angle", np.radians(20))
    inner, outer = base.copy(), base.copy()
    inner["flux"] *= 0.5
    outer["flux"] *= 0.5
    inner["n"], outer["n"] = _INNER_N, _OUTER_N
    inner["r_eff"] *= scale
    outer["r_eff"] *= scale * _OUTER_WIDER
    inner["q"] = (base["q"] + 0.08).clip(0.3, 1.0)
    outer["q"] = (base["q"] - 0.08).clip(0.3, 1.0)
    inner["phi"] -= turn / 2
    outer["phi"] += turn / 2
    return [inner, outer]


@cache
def _twist_scale() -> float:
    """Inner half-light radius in units of the sum's, both halves round."""

    def share(inner: float) -> float:
        def within(n: float, r_eff: float) -> float:
            return float(gammainc(2 * n, gammaincinv(2 * n, 0.5) * r_eff ** (-1 / n)))

        return (within(_INNER_N, inner) + within(_OUTER_N, inner * _OUTER_WIDER)) / 2 - 0.5

    return float(brentq(share, 0.1, 1.0))


def intracluster(base: Rows) -> Rows:
    """A wide halo round each galaxy, of a share of its flux."""
    halo = base.copy()
    halo["flux"] *= INTRACLUSTER_SHARE
    halo["r_eff"], halo["n"], halo["q"] = base["r_eff"] * 5, 1.0, (base["q"] - 0.1).clip(0.4, 1)
    return halo
