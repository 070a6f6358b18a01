"""The figures of a scored set: those of `evaluate.metrics`, of the strata and mixtures it asks for.

Two mixtures are read from one table of scores. Survey-like: as `sky_weight` says, mostly plain
galaxies. Stress: 70 % plain galaxies, and every other kind alike in the rest. What a figure is of
stands beside it; all lenses, galaxies and skies are simulated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.evaluate import metrics, sample, strata
from darkhaloscope.evaluate.calibration import calibration
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import Flags, Rows, from_scores

DRAWS = Draws(seed=1)
CLAIMED_AT = 1e-3  # lenses per target that the column `probability` of a committee assumes
PREVALENCES = (1e-2, 1e-3, 1e-4, 1e-5)
PLAIN = "control"
LOUD_SNR = 50.0
SNR = "arc_snr_g"
BINS: Mapping[str, tuple[float, ...]] = {
    "theta_e_over_fwhm_r": (0.5, 0.8, 1.0, 1.2, 1.5, 2.0),
    SNR: (0.0, 10.0, 25.0, 50.0, 100.0),
}

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored set.

    Attributes:
        rows: What an evaluation reads.
        is_visible: Which stamps' arcs can be seen from the ground, (n,).
        is_seen: Which stamps' look-alikes are of a family and of parameters that were trained on,
            (n,).
    """

    rows: Rows
    is_visible: Flags
    is_seen: Flags

    @classmethod
    def of(cls, table: pa.Table, *, where: str) -> "Scored":
        """A table of scores with the column `is_unseen`; every row has a label."""
        made = from_scores(table, weight=None, columns=tuple(BINS), where=where)
        visible = pc.fill_null(table["ground_visible"], fill_value=False)
        seen = pc.invert(table["is_unseen"])
        return cls(made, *(np.asarray(c.to_numpy(), np.bool_) for c in (visible, seen)))


def figures(
    definition: Definition, which: str, scored: Scored, calib: Scored | None = None
) -> Entry:
    """Everything that a result says of a set.

    Args:
        definition: Of the benchmark.
        which: The set.
        scored: Its scores.
        calib: The set that thresholds are chosen on; None: there are no operating points.

    Returns:
        `headline` and `all`, each as `metrics.json`; and, shorter, `ground_visible`, `loud`,
        `stress`, `seen` and `unseen`.
    """
    rows = scored.rows
    fixed = None if calib is None else calib.rows
    is_head = strata.at_least(rows, definition.headline).chosen & rows.is_lens
    is_loud = is_head & (rows.columns[SNR] >= LOUD_SNR)
    all_of = metrics.evaluate(rows, _plan(definition, definition.headline), calib=fixed)
    head = only_lenses(rows, is_head)
    headline = metrics.evaluate(head, _plan(definition, {}), calib=fixed)
    of_kind = definition.stress_weights(which)
    weights = np.array([of_kind.get(kind, 0.0) for kind in rows.kinds])
    stress = replace(rows, sky_weight=weights[rows.kind])
    is_known = rows.is_lens | scored.is_seen
    made = {
        "headline": headline.metrics,
        "all": all_of.metrics,
        "ground_visible": _short(rows, rows.is_lens & scored.is_visible, "visible"),
        "loud": _short(rows, is_loud, "loud"),
        "stress": _short(stress, is_head, "stress headline"),
        "seen": _kinds(rows, is_head, is_known, "seen"),
        "unseen": _kinds(rows, is_head, rows.is_lens | ~scored.is_seen, "unseen"),
    }
    found: Entry = metrics.finite(made)
    return found


def of_member(definition: Definition, scored: Scored) -> Entry:
    """Completeness and FPR of the headline's lenses by one member of a committee."""
    head = strata.at_least(scored.rows, definition.headline).chosen & scored.rows.is_lens
    found: Entry = metrics.finite(_short(scored.rows, head, "headline"))
    return found


def calibrated(table: pa.Table, *, where: str) -> Entry:
    """How right the column `probability` is, at `PREVALENCES`: as `calibration` of metrics.json."""
    known = from_scores(table, weight=None, where=where)
    score = table["probability"].to_numpy().astype(np.float64)
    rows = replace(known, score=score, score_kind="probability")
    found, _ = calibration(rows, PREVALENCES, at=CLAIMED_AT, draws=DRAWS)
    made: Entry = metrics.finite({"origin": "sim", **(found or {})})
    return made


def only_lenses(rows: Rows, chosen: Flags) -> Rows:
    """All negatives, and of the lenses those that are chosen, (n,)."""
    kept = chosen | ~rows.is_lens

    def part(values: Any) -> Any:
        return None if values is None else values[kept]

    source = part(rows.source)
    return replace(
        rows,
        **{name: part(getattr(rows, name)) for name in _COLUMNS},
        columns={name: values[kept] for name, values in rows.columns.items()},
        source=source,
        n_sources=None if source is None else len(np.unique(source[source >= 0])) or None,
    )


_COLUMNS = (
    "score", "is_lens", "galaxy", "kind", "sky_weight", "weight", "area_deg2", "region",
    "is_graded",
)  # fmt: skip


def _plan(definition: Definition, headline: Mapping[str, float]) -> metrics.Plan:
    return metrics.Plan(
        draws=DRAWS,
        origin="sim",
        population=f"lenses and galaxies of {definition.name}, all simulated",
        prevalences=PREVALENCES,
        bins=BINS if headline else {},
        headline=headline,
    )


def _short(rows: Rows, lenses: Flags, name: str) -> Entry:
    """Completeness and FPR of some lenses against all negatives."""
    side = sample.lenses(rows, lenses)
    negatives = sample.negatives(rows, to_sky=True)
    if not side.n:
        return {"origin": "sim", "n_lenses": 0, "n_negatives": negatives.side.n}
    curve = Curve(side, negatives, DRAWS, name)
    return {
        "origin": "sim",
        "n_lenses": side.n,
        "n_negatives": negatives.side.n,
        "auroc": curve.auroc,
        "tpr_at_fpr": [curve.tpr_at_fpr(fpr).as_dict() for fpr in metrics.FPRS],
        "fpr_at_tpr": [curve.fpr_at_tpr(tpr).as_dict() for tpr in metrics.TPRS],
    }


def _kinds(rows: Rows, lenses: Flags, kept: Flags, name: str) -> Entry:
    """FPR of some look-alikes, each galaxy once, where the lenses are so complete."""
    is_plain = np.asarray(rows.kinds)[rows.kind] == PLAIN
    chosen = kept & ~rows.is_lens & ~is_plain
    side = sample.lenses(rows, lenses)
    if not side.n or not chosen.any():
        return {"origin": "sim", "n_lenses": side.n, "n_negatives": 0}
    negatives = sample.negatives(rows, to_sky=False, chosen=chosen)
    curve = Curve(side, negatives, DRAWS, name)
    return {
        "origin": "sim",
        "n_lenses": side.n,
        "n_negatives": negatives.side.n,
        "fpr_at_tpr": [curve.fpr_at_tpr(tpr).as_dict() for tpr in metrics.TPRS],
        "by_kind": {
            kind: {
                "n_negatives": int(n),
                "fpr_at_tpr": [curve.fpr_at_tpr(tpr, kind=kind).as_dict() for tpr in metrics.TPRS],
            }
            for kind, n in zip(negatives.names, negatives.sizes, strict=True)
            if n
        },
    }
