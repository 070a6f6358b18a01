"""What an evaluation reads: one row a stamp, its score, its truth and the galaxy it belongs to.

Every measure starts here, whichever finder made the scores. Faults of the input are found at this
door, all at once; behind it nothing is checked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.core.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
ScoreKind = Literal["logit", "probability", "rank"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Scored stamps of known truth, as arrays of shape (n,).

    Attributes:
        score: Higher is more lens-like; infinite values are allowed, NaN is not.
        is_lens: Truth.
        galaxy: The galaxy that a stamp is made of: the unit of every rate.
        kind: Index of the row's kind in `kinds`.
        kinds: Names of the kinds.
        sky_weight: Share of the row's kind on the sky over its share in the set; None: not known.
        weight: Weight of a lens in the population that it stands for; None: each counts once.
        area_deg2: Sky that the galaxy stands for, deg2; NaN or None: not known.
        columns: What strata are made from, by name; NaN where it does not apply.
        n_sources: Number of injected sources among the lenses; None: not known.
        n_regions: Number of sky regions; None: not known.
        sources_by_kind: Number of different sources among the lenses, by what they are (sersic,
            clumpy, catalogue); empty: not known.
        region: Sky region, as a code from 0 on; -1: not known; None: no row has one.
        source: What is injected, as a code from 0 on; -1: nothing, or not known; None: no row has.
        is_graded: A person has looked at the row; None: nobody has looked at any.
        score_kind: What the scores are; only a probability can be calibrated.
    """

    score: Floats
    is_lens: Flags
    galaxy: Ints
    kind: Ints
    kinds: tuple[str, ...]
    sky_weight: Floats | None = None
    weight: Floats | None = None
    area_deg2: Floats | None = None
    columns: Mapping[str, Floats] = field(default_factory=dict)
    n_sources: int | None = None
    n_regions: int | None = None
    sources_by_kind: Mapping[str, int] = field(default_factory=dict)
    region: Ints | None = None
    source: Ints | None = None
    is_graded: Flags | None = None
    score_kind: ScoreKind = "logit"

    def __len__(self) -> int:
        """Number of stamps."""
        return len(self.score)


def rows(  # noqa: PLR0913  (one argument a column)
    *,
    score: Floats,
    is_lens: Flags,
    galaxy: Ints | None = None,
    kind: Any = None,
    sky_weight: Floats | None = None,
    weight: Floats | None = None,
    area_deg2: Floats | None = None,
    columns: Mapping[str, Floats] | None = None,
    region: Any = None,
    source: Any = None,
    is_graded: Flags | None = None,
    score_kind: ScoreKind = "logit",
    where: str = "the score table",
) -> Rows:
    """Rows from arrays of shape (n,); without `galaxy` every row is a galaxy of its own.

    `kind`, `region` and `source` are names, as an array of numpy or pyarrow; null, and for signed
    integers -1, is not known. Sources are those of lenses.

    Raises:
        DataError: there are no rows, NaN scores, only one class, unusable weights, or
            probabilities outside [0, 1]; one message with all faults.
    """
    score, is_lens = np.asarray(score, np.float64), np.asarray(is_lens, bool)
    faults = _faults(score, is_lens, sky_weight, weight)
    if score_kind == "probability" and (n := int(((score < 0) | (score > 1)).sum())):
        faults.append(f"  {n} of {len(score)} scores are outside [0, 1], and no probability")
    if faults:
        raise DataError("\n".join([f"{where} cannot be evaluated:", *faults]))
    kinds: tuple[str, ...] = ("lens", "negative")
    code = (~is_lens).astype(np.int64)
    if kind is not None:
        kinds, code = _named(kind)
    regions = None if region is None else codes(region)
    sources = None if source is None else codes(source)
    return Rows(
        score,
        is_lens,
        np.arange(len(score)) if galaxy is None else np.asarray(galaxy, np.int64),
        code,
        kinds,
        sky_weight,
        weight,
        area_deg2,
        columns or {},
        n_sources=_different(None if sources is None else sources[is_lens]),
        n_regions=_different(regions),
        region=regions,
        source=sources,
        is_graded=None if is_graded is None else np.asarray(is_graded, bool),
        score_kind=score_kind,
    )


def codes(values: Any) -> Ints:
    """Names as codes from 0 on, in the order in which they first appear; null and -1 become -1.

    Examples:
        >>> codes(np.array([7, -1, 9, 7])).tolist(), codes(pa.array(["a", None, "a"])).tolist()
        ([0, -1, 1, 0], [0, -1, 0])
    """
    named = _array(values)
    if pa.types.is_signed_integer(named.type):
        named = pc.if_else(pc.equal(named, -1), None, named)
    indices = named.dictionary_encode().indices
    return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def from_scores(
    table: pa.Table,
    *,
    weight: str | None,
    columns: tuple[str, ...] = (),
    where: str = "the score table",
) -> Rows:
    """Rows from a table of the stage `scores`; what has no label (the sky as observed) is left out.

    Args:
        table: At least `logit`, `label`, `target_id`, `kind`, `sky_weight`, `area_deg2`.
        weight: Column that weighs lenses, such as `weight_population`; None: each counts once.
        columns: What strata are made from.
        where: What the table is, for messages.

    Raises:
        DataError: as `rows`.
    """
    known = table.filter(pc.is_valid(table["label"]))
    is_lens = _floats(known, "label") == 1.0
    made = rows(
        score=_floats(known, "logit"),
        is_lens=is_lens,
        galaxy=known["target_id"].to_numpy(),
        kind=known["kind"],
        sky_weight=_where_known(_floats(known, "sky_weight"), ~is_lens),
        weight=None if weight is None else _floats(known, weight),
        area_deg2=_floats(known, "area_deg2"),
        columns={name: _floats(known, name) for name in columns},
        region=known["region_id"] if "region_id" in known.column_names else None,
        source=known["source_id"] if "source_id" in known.column_names else None,
        where=where,
    )
    return replace(made, sources_by_kind=_by_source_kind(known.filter(pa.array(is_lens))))


def _faults(
    score: Floats, is_lens: Flags, sky_weight: Floats | None, weight: Floats | None
) -> list[str]:
    """What makes the rows unusable, one line a fault."""
    if not len(score):
        return [
            "  no rows: there is nothing with a label of 0 or 1; if its split has galaxies, column "
            "`refused` of cutouts says why none has pixels: another splits.seed may help"
        ]
    faults = []
    n_nan, n_lenses = int(np.isnan(score).sum()), int(is_lens.sum())
    if n_nan:
        faults.append(f"  {n_nan} of {len(score)} scores are NaN: score those stamps again")
    if n_lenses in {0, len(score)}:
        missing = "lens" if n_lenses == 0 else "negative"
        faults.append(f"  one class only: {len(score)} rows and no {missing}; rates need both")
    for name, values, mine in (("sky_weight", sky_weight, ~is_lens), ("weight", weight, is_lens)):
        if values is None:
            continue
        bad = int((~(np.isfinite(values[mine]) & (values[mine] >= 0))).sum())
        if bad:
            faults.append(f"  {bad} rows with {name} null, negative or infinite")
        elif mine.any() and values[mine].sum() == 0:
            faults.append(f"  {name} is 0 in every row that it applies to")
    return faults


def _floats(table: pa.Table, name: str) -> Floats:
    """A column as float64, null as NaN."""
    values = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)


def _where_known(values: Floats, mine: Flags) -> Floats | None:
    """The weights, or None where no row that they apply to has one."""
    return None if np.isnan(values[mine]).all() else values


def _by_source_kind(lenses: pa.Table) -> dict[str, int]:
    """Different sources of each kind; empty where the table does not say."""
    if "src_kind" not in lenses.column_names or "source_id" not in lenses.column_names:
        return {}
    kinds = pc.unique(lenses["src_kind"].drop_null()).to_pylist()
    each = {k: lenses.filter(pc.equal(lenses["src_kind"], k)) for k in sorted(kinds)}
    return {kind: _distinct(table, "source_id") or 0 for kind, table in each.items()}


def _named(values: Any) -> tuple[tuple[str, ...], Ints]:
    """Names in their order, and the place of each row's among them, shape (n,)."""
    encoded = _array(values).cast(pa.string()).fill_null("unknown").dictionary_encode()
    names = encoded.dictionary.to_pylist()
    in_order = sorted(names)
    place = np.array([in_order.index(name) for name in names], np.int64)
    return tuple(in_order), place[encoded.indices.to_numpy(zero_copy_only=False)]


def _array(values: Any) -> pa.Array:
    """One array of pyarrow from what holds names."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)


def _different(code: Ints | None) -> int | None:
    """Number of known names; None where none is known."""
    if code is None:
        return None
    return int(np.count_nonzero(np.bincount(code[code >= 0]))) or None


def _distinct(table: pa.Table, name: str) -> int | None:
    """Number of values in a column; None where there is no such column or no value."""
    if name not in table.column_names:
        return None
    return int(pc.count_distinct(table[name], mode="only_valid").as_py()) or None
