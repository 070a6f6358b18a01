"""Targets that are real look-alikes: by lists of positions, by votes, or by the catalogue alone.

A target found in two lists is what the first says; the cuts in the catalogue are for those that no
list holds. A target at the place of a known lens is none, whatever else is said of it: a ring may
be an Einstein ring.

The settings are read by attribute, so that this runs where pydantic is not; their meaning and
ranges are in `core.settings.look_alikes`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.columns import F4, I8, TEXT, column, optional
from darkhaloscope.core.errors import DataError
from darkhaloscope.lensing.asked import Range
from darkhaloscope.lensing.populations import light_shape
from darkhaloscope.survey import sphere

KINDS = ("ring", "spiral", "edge_on", "merger", "agn_jet", "artefact")  # of real galaxies
CATALOGUE = "catalogue"  # source of what the cuts in the catalogue find

SCHEMA = pa.schema(
    [
        column("target_id", I8, "galaxy"),
        column("kind", TEXT, "ring, spiral, edge_on, merger, agn_jet or artefact"),
        column("source", TEXT, "address of the list that says so, or `catalogue`"),
        optional("separation_arcsec", F4, "distance from the list's entry", unit="arcsec"),
    ]
)

Flags = NDArray[np.bool_]
Values = NDArray[np.float64]


class Listed(Protocol):
    """What is asked of `core.settings.look_alikes.VotesTable` and `PositionsTable`."""

    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def radius_arcsec(self) -> float: ...  # noqa: D102
    @property
    def kind(self) -> str | None: ...  # noqa: D102


class Proxy(Protocol):
    """What is asked of `core.settings.look_alikes.Proxy`."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def types(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def axis_ratio(self) -> Range: ...  # noqa: D102
    @property
    def shape_r_arcsec(self) -> Range: ...  # noqa: D102
    @property
    def sersic(self) -> Range: ...  # noqa: D102


class Settings(Protocol):
    """What is asked of `core.settings.look_alikes.LookAlikesConfig`."""

    @property
    def tables(self) -> Sequence[Listed]: ...  # noqa: D102
    @property
    def proxies(self) -> Sequence[Proxy]: ...  # noqa: D102
    @property
    def known_lenses(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def known_radius_arcsec(self) -> float: ...  # noqa: D102


def of_targets(targets: pa.Table, config: Settings, lists: Mapping[str, pa.Table]) -> pa.Table:
    """The targets that are look-alikes, each once, in one kind.

    Args:
        targets: Rows of `targets` or `splits`, each galaxy once. An entry of a list is one of them
            at most; among the targets of another tile it may be found again.
        config: Settings.
        lists: Positions by address, as `survey.positions` and `survey.votes` read them.

    Returns:
        Rows of `SCHEMA`, in the order of `targets`.

    Raises:
        DataError: a list is not handed over, or none of its entries is of a known kind.
    """
    absent = [
        a for a in (*(t.address for t in config.tables), *config.known_lenses) if a not in lists
    ]
    if absent:
        raise DataError(f"look_alikes: {', '.join(absent)} was not read; name it in `lists`")
    _check_kinds(config, lists)
    n = targets.num_rows
    kind, source = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
    separation = np.full(n, np.nan)
    is_open = ~known(targets, config, lists)
    for table in config.tables:
        found, distance = _by_list(targets, lists[table.address], table)
        new = is_open & (found != "")
        kind[new], source[new], separation[new] = found[new], table.address, distance[new]
        is_open &= ~new
    for proxy in config.proxies:
        new = is_open & meets(targets, proxy)
        kind[new], source[new] = proxy.kind, CATALOGUE
        is_open &= ~new
    rows = np.flatnonzero(kind != "")
    distance = separation[rows]
    columns = {
        "target_id": targets["target_id"].take(pa.array(rows)),
        "kind": pa.array(kind[rows].tolist(), TEXT),
        "source": pa.array(source[rows].tolist(), TEXT),
        "separation_arcsec": pa.array(distance.astype(np.float32), F4, mask=np.isnan(distance)),
    }
    return schemas.conform(pa.table(columns), SCHEMA, where="look-alikes")


def known(targets: pa.Table, config: Settings, lists: Mapping[str, pa.Table]) -> Flags:
    """Targets at the place of a known lens or candidate, (n,)."""
    found = np.zeros(targets.num_rows, bool)
    ra, dec = targets["ra_deg"].to_numpy(), targets["dec_deg"].to_numpy()
    for address in config.known_lenses:
        found |= sphere.nearest(ra, dec, lists[address], config.known_radius_arcsec)[0] >= 0
    return found


def meets(targets: pa.Table, proxy: Proxy) -> Flags:
    """Targets that meet the cuts of a proxy, (n,); one that lacks a number meets none."""
    axis_ratio, _ = light_shape(_numbers(targets, "shape_e1"), _numbers(targets, "shape_e2"))
    types = np.asarray(targets["type"].to_pylist(), dtype=np.str_)
    met = np.isin(types, list(proxy.types))
    for values, span in (
        (axis_ratio, proxy.axis_ratio),
        (_numbers(targets, "shape_r_arcsec"), proxy.shape_r_arcsec),
        (_numbers(targets, "sersic"), proxy.sersic),
    ):
        with np.errstate(invalid="ignore"):
            met &= (values >= span.low) & (values <= span.high)  # NaN is in no range
    return np.asarray(met)


def _check_kinds(config: Settings, lists: Mapping[str, pa.Table]) -> None:
    """Refuse lists of which no entry says a kind: they would be passed over without a word."""
    faults = []
    for table in config.tables:
        words = set(lists[table.address]["kind"].to_pylist())
        if table.kind or not words or words & set(KINDS):
            continue
        said = ", ".join(sorted(repr(w) for w in words - {None})[:5]) or "nothing"
        faults.append(f"  {table.address}: its column kind says {said}")
    if faults:
        raise DataError(
            "\n".join(
                [
                    "look_alikes: no entry of these lists is of a kind that is known "
                    f"({', '.join(KINDS)}); correct the column, or state `kind` beside the address",
                    *faults,
                ]
            )
        )


def _by_list(
    targets: pa.Table, entries: pa.Table, table: Listed
) -> tuple[NDArray[np.str_], Values]:
    """Kind of each target by a list, empty where it says none, and the distance, (n,)."""
    words = [table.kind or word or "" for word in entries["kind"].to_pylist()]
    kinds = np.array([word if word in KINDS else "" for word in words], dtype="U12")
    says = np.flatnonzero(kinds != "")
    entry, distance = sphere.one_to_one(
        targets["ra_deg"].to_numpy(),
        targets["dec_deg"].to_numpy(),
        entries["ra_deg"].to_numpy()[says],
        entries["dec_deg"].to_numpy()[says],
        table.radius_arcsec,
    )
    return np.append(kinds[says], "")[entry], distance  # -1 is the empty one


def _numbers(table: pa.Table, name: str) -> Values:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
