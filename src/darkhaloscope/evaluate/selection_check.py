"""The smooth completeness of a set of injections: fitted on a part of the hosts, held to the rest.

Two factors are fitted: that the lens is a target still, and that it is found if it is. The factor
of usable cutouts belongs to the galaxy and not to the arc; it is kept as the table that it was
counted in. What is held to the rest is the product of the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from darkhaloscope.core import keys
from darkhaloscope.evaluate import selection_fit
from darkhaloscope.evaluate.rows import Flags, Floats
from darkhaloscope.evaluate.selection_cells import AXES, Edges, Injections, Least, share
from darkhaloscope.evaluate.selection_fit import NORMAL, Of, Surface, restored

FEWEST = 20  # hosts of either outcome, in the part that is fitted and in the part held out

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Constant:
    """A share that hardly varies: too few pass, or fail, to tell where.

    Attributes:
        value: The share.
        spread: A quarter of the width of its 95 % interval, near enough.
    """

    value: float
    spread: float


Factor = Surface | Constant


def at(factor: Factor, where: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Share and standard error, shape (n,) each; `where` as in `Injections.at`."""
    if isinstance(factor, Constant):
        n = len(next(iter(where.values())))
        return np.full(n, factor.value), np.full(n, factor.spread)
    logit, spread = factor.logit(where)
    p = special.expit(logit)
    return p, p * (1 - p) * spread


def factor_of(text: Mapping[str, Any]) -> Factor:
    """A factor as `checked` wrote it.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    if text["kind"] == "constant":
        width = float(text["high"]) - float(text["low"])
        return Constant(float(text["value"]), width / (2 * NORMAL))
    return restored(text)


def checked(
    lenses: Injections,
    edges: Edges,
    least: Least,
    *,
    seed: int,
    held_out_share: float,
    tolerance: float,
) -> Record:
    """The fit as `selection.json` holds it; where there is none, `note` says why.

    Args:
        lenses: All injections; those outside the edges, or whose depth is not known, are left out.
        edges: Edges of the cells; nothing outside them is fitted.
        least: What the part that is fitted has to hold to count as enough.
        seed: Of the draw that holds hosts out.
        held_out_share: Share of the hosts that are held out.
        tolerance: How far from 1 the slope may be.
    """
    if lenses.is_found is None:
        return _none("no threshold, hence nothing that is found or missed")
    lenses = lenses.part(_inside(lenses, edges))
    assert lenses.is_found is not None  # noqa: S101  (a part has what the whole has)
    is_hit = lenses.is_target & lenses.is_found
    draw = keys.uniform(lenses.host, seed=seed, stream="selection held out")
    is_held = draw < held_out_share
    sizes = {"n_fitted": int((~is_held).sum()), "n_held_out": int(is_held.sum())}
    for name, rows in (("fitted", ~is_held), ("held out", is_held)):
        hosts = [len(np.unique(lenses.host[rows & (is_hit == hit)])) for hit in (True, False)]
        if min(hosts) < FEWEST:
            said = f"{hosts[0]} hosts with a lens found and {hosts[1]} with one missed"
            return _none(f"the part that is {name} has {said}; {FEWEST} of each are needed", sizes)
    part = lenses.part(~is_held)
    factors = {
        "target": _factor(part, part.is_target, "target"),
        "score": _factor(part.part(part.is_target), is_hit[~is_held & lenses.is_target], "found"),
    }
    n_hosts, n_sources = (len(np.unique(v)) for v in (part.host, part.source[part.source >= 0]))
    is_enough = len(part) >= least.injections and n_hosts >= least.hosts
    return {
        "is_fitted": True,
        "note": "",
        **sizes,
        "n_hosts_fitted": n_hosts,
        "n_sources_fitted": n_sources,
        "is_enough": is_enough and n_sources >= least.sources,
        "factors": factors,
        "range": _range(part),
        "held_out": _held_out(factors, lenses.part(is_held), is_hit[is_held], edges, tolerance),
    }


def _factor(lenses: Injections, is_hit: Flags, of: Of) -> Record:
    """A surface, or one share where too few hosts pass or fail."""
    hosts = [len(np.unique(lenses.host[is_hit == hit])) for hit in (True, False)]
    if min(hosts) >= FEWEST:
        return selection_fit.described(selection_fit.fitted(lenses, is_hit, of))
    one = np.ones(len(lenses))
    found = share(is_hit, host=lenses.host, source=lenses.source, once=one, weight=one)
    return {"kind": "constant", "value": found.value, "low": found.low, "high": found.high}


def _none(note: str, sizes: Record | None = None) -> Record:
    return {"is_fitted": False, "note": f"no smooth function: {note}", **(sizes or {})}


def _inside(lenses: Injections, edges: Edges) -> Flags:
    """Injections within the edges of all four axes, shape (n,)."""
    inside = np.ones(len(lenses), bool)
    for axis in AXES:
        values = lenses.at[axis]
        inside &= (values >= edges[axis][0]) & (values < edges[axis][-1])
    return inside


def _range(lenses: Injections) -> dict[str, list[float]]:
    """Least and largest value of the coordinates, and of what the logit is made of."""
    at = dict(lenses.at)
    at["theta_e_over_fwhm"] = at["theta_e"] / at["psf_fwhm"]
    at["depth_minus_mag"] = at["depth"] - at["src_mag"]
    return {name: [float(v.min()), float(v.max())] for name, v in at.items()}


def _held_out(
    factors: Mapping[str, Record], lenses: Injections, is_hit: Flags, edges: Edges, tolerance: float
) -> Record:
    """What the injections that were held out say of the product of the two factors."""
    predicted = np.ones(len(lenses))
    for text in factors.values():
        predicted = predicted * at(factor_of(text), lenses.at)[0]
    logit = special.logit(np.clip(predicted, 1e-12, 1 - 1e-12))
    slope = selection_fit.slope(logit, is_hit, lenses.host, lenses.source)
    return {
        "n": len(lenses),
        "n_hosts": len(np.unique(lenses.host)),
        "slope": {name: slope[name] for name in ("value", "low", "high")},
        "intercept": slope["intercept"],
        "tolerance": tolerance,
        "state": selection_fit.verdict(slope, tolerance),
        "bins": [
            record
            for axis in AXES
            for record in _bins(axis, edges[axis], lenses, is_hit, predicted)
        ],
    }


def _bins(
    axis: str, edges: Sequence[float], lenses: Injections, is_hit: Flags, predicted: Floats
) -> list[Record]:
    """Share found beside the mean of the fit, in the bins of one axis that hold anything."""
    made = []
    place = np.searchsorted(np.asarray(edges), lenses.at[axis], side="right") - 1
    for i in range(len(edges) - 1):
        rows = place == i
        if not rows.any():
            continue
        once = np.ones(int(rows.sum()))
        by = {"host": lenses.host[rows], "source": lenses.source[rows]}
        seen = share(is_hit[rows], **by, once=once, weight=once)
        made.append(
            {
                "axis": axis,
                "from": edges[i],
                "to": edges[i + 1],
                "n": int(rows.sum()),
                "value": seen.value,
                "low": seen.low,
                "high": seen.high,
                "predicted": float(predicted[rows].mean()),
            }
        )
    return made
