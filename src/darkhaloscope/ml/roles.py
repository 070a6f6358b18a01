"""Who plays what: the kinds of stamp that each galaxy of a set is made into.

In a paired set every galaxy plays every kind. In the others a galaxy plays one, drawn from its id:
a rate over negatives then counts each galaxy once, and no negative shares its pixels with a lens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from darkhaloscope.core import keys, schemas

MATCH_SCALES = {"mag_z": 0.25, "r_minus_z": 0.15, "psf_fwhm_r_arcsec": 0.1}
MATCH_DISTANCE = 3.0  # in those scales: no control is further from its lens's host
_NEIGHBOURS = 8


class SetPlan(Protocol):
    """What is asked of `core.settings.manifest.SetPlan`."""

    @property
    def population(self) -> str: ...  # noqa: D102
    @property
    def controls(self) -> str: ...  # noqa: D102
    @property
    def copies(self) -> Mapping[Any, int]: ...  # noqa: D102
    @property
    def shares(self) -> Mapping[Any, float]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Cast:
    """Rows of a table of hosts by what they play.

    Attributes:
        playing: Rows that play each kind.
        partner: For each row the row of the lens's host that it was matched to, or -1, (n,).
    """

    playing: dict[str, NDArray[np.intp]]
    partner: NDArray[np.intp]


def cast_of(hosts: pa.Table, plan: SetPlan, *, seed: int) -> Cast:
    """Who plays what; in a `host_matched` set controls that match no lens's host are left out."""
    everyone = np.arange(hosts.num_rows)
    nobody = np.full(hosts.num_rows, -1)
    if plan.controls == "paired":
        return Cast({str(kind): everyone for kind in plan.copies}, nobody)
    kinds = [kind for kind in schemas.KINDS if kind in plan.shares]
    shares = np.array([plan.shares[kind] for kind in kinds])
    ids = hosts["target_id"].to_numpy()
    role = keys.choice(ids, shares, seed=seed, stream="role")
    playing = {kind: np.flatnonzero(role == place) for place, kind in enumerate(kinds)}
    if plan.controls == "host_matched" and "control" in playing and "lens" in playing:
        nobody = partners(hosts, playing["control"], playing["lens"])
        playing["control"] = np.flatnonzero(nobody >= 0)
    return Cast(playing, nobody)


def sky_weight(kind: str, plan: SetPlan, sky_shares: Mapping[Any, float]) -> float:
    """Share of a kind among targets on the sky over its share among the negatives of the set.

    The share in the set is what the settings ask for, by galaxy where each plays one kind, by
    stamp where each plays all: a row's weight does not depend on which other rows there are.
    """
    made = plan.copies if plan.controls == "paired" else plan.shares
    negatives = {str(k): float(v) for k, v in made.items() if k != "lens"}
    share = negatives[kind] / sum(negatives.values())
    return sky_shares.get(kind, 0.0) / share if share > 0 else 0.0


def weight_as_observed(plan: SetPlan) -> float:
    """Weight to the sky of a galaxy that stands for itself: the negatives made of a galaxy.

    Weights are relative to the negatives of a set (`sky_weight`), of which there are as many for
    each galaxy: 1 less the share of lenses, where a galaxy plays one kind.
    """
    made = plan.copies if plan.controls == "paired" else plan.shares
    return float(sum(v for k, v in made.items() if k != "lens"))


def partners(
    hosts: pa.Table, controls: NDArray[np.intp], lenses: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Each lens's host takes the nearest control that is still free, in order of target id."""
    partner = np.full(hosts.num_rows, -1)
    if not len(controls) or not len(lenses):
        return partner
    features, ids = _features(hosts), hosts["target_id"].to_numpy()
    controls, lenses = (rows[np.argsort(ids[rows])] for rows in (controls, lenses))
    k = min(_NEIGHBOURS, len(controls))
    tree = cKDTree(features[controls])
    _, near = tree.query(features[lenses], k=k, distance_upper_bound=MATCH_DISTANCE)
    is_free = np.ones(len(controls) + 1, bool)
    is_free[-1] = False  # the tree's word for none
    for lens, row in zip(lenses, np.reshape(near, (len(lenses), k)), strict=True):
        free = row[is_free[row]]
        if len(free):
            is_free[free[0]] = False
            partner[controls[free[0]]] = lens
    return partner


def _features(hosts: pa.Table) -> NDArray[np.float64]:
    """Magnitude, colour and seeing in units of `MATCH_SCALES`, shape (n, 3)."""

    def values(name: str) -> NDArray[np.float64]:
        column = hosts[name].to_numpy(zero_copy_only=False).astype(np.float64)
        return np.asarray(np.nan_to_num(column, nan=99.0))

    columns = {
        "mag_z": values("mag_z"),
        "r_minus_z": values("mag_r") - values("mag_z"),
        "psf_fwhm_r_arcsec": values("psf_fwhm_r_arcsec"),
    }
    scaled = [columns[name] / scale for name, scale in MATCH_SCALES.items()]
    return np.asarray(np.stack(scaled, 1))
