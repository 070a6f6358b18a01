"""Thresholds that one set of scores fixed, to be used on another: chosen, saved and read again.

Only at such a threshold is a rate a binomial share. A threshold belongs to a finder and to a kind
of score, and says how many negatives stand behind it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import rates, sample
from darkhaloscope.evaluate.intervals import Draws, needed
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import Rows, ScoreKind

FORMAT = 1
FPRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds by the false-positive rate that they were chosen for.

    Attributes:
        chosen_on: The set, in a word: `calib`.
        n_negatives: Unique negatives of that set.
        points: (FPR, threshold), highest FPR first; a score at the threshold is kept.
        score_kind: What the scores were; thresholds of another kind mean nothing.
        missing: (FPR, why no threshold could be chosen for it).
    """

    chosen_on: str
    n_negatives: int
    points: tuple[tuple[float, float], ...]
    score_kind: ScoreKind = "logit"
    missing: tuple[tuple[float, str], ...] = ()

    def save(self, path: Path) -> None:
        """Write them as JSON; an infinite threshold is written as text, which JSON has."""
        content = {
            "format": FORMAT,
            "chosen_on": self.chosen_on,
            "n_negatives": self.n_negatives,
            "score_kind": self.score_kind,
            "thresholds": [
                {"at": at, "threshold": t if math.isfinite(t) else str(t)} for at, t in self.points
            ],
            "not_resolvable": [{"at": at, "note": note} for at, note in self.missing],
        }
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def chosen(
    rows: Rows, *, on: str = "calib", at: Sequence[float] = FPRS, draws: Draws | None = None
) -> Thresholds:
    """The lowest threshold with FPR on the sky <= each of `at` that the negatives can bound.

    Args:
        rows: The set that thresholds are chosen on; another than they are used on.
        on: Its name.
        at: False-positive rates, fractions.
        draws: Not needed for thresholds; a curve carries them.
    """
    negatives = sample.negatives(rows, to_sky=True)
    curve = Curve(sample.lenses(rows), negatives, draws or Draws(0), on)
    points, missing = [], []
    for fpr in at:
        resolvable, need = needed(negatives, fpr)
        threshold = curve.threshold_at_fpr(fpr)
        if resolvable and not math.isnan(threshold):
            points.append((fpr, threshold))
            continue
        n = negatives.side.n
        why = (
            f"not resolvable with {n:,} negatives of {on}: bounding it needs {need:,}"
            if not resolvable
            else f"no threshold: the highest score of {on} is that of too many negatives"
        )
        missing.append((fpr, why))
    return Thresholds(on, negatives.side.n, tuple(points), rows.score_kind, tuple(missing))


def measured(
    thresholds: Thresholds, test: Curve, headline: Curve | None, *, score_kind: ScoreKind
) -> list[dict[str, Any]]:
    """What another table says at the thresholds: FPR, completeness, and that of the headline.

    Args:
        thresholds: Chosen on other data.
        test: All lenses of the table.
        headline: Those of the headline stratum; None: there are none.
        score_kind: What the table's scores are.

    Raises:
        DataError: the thresholds are of another kind of score.
    """
    if thresholds.score_kind != score_kind:
        raise DataError(
            f"the thresholds chosen on {thresholds.chosen_on} are of the kind "
            f"{thresholds.score_kind}, the scores of the kind {score_kind}: a threshold of one "
            "means nothing for the other; choose thresholds on scores of the same kind"
        )
    entry = {"chosen_on": thresholds.chosen_on, "n_chosen_on": thresholds.n_negatives}
    made: list[dict[str, Any]] = [
        {
            "at": at,
            **entry,
            "threshold": t,
            "note": "",
            "fpr": rates.fpr_at_fixed(test, t, at=at).as_dict(),
            "tpr": rates.tpr_at_fixed(test, t, at=at).as_dict(),
            "tpr_headline": headline and rates.tpr_at_fixed(headline, t, at=at).as_dict(),
        }
        for at, t in thresholds.points
    ]
    nothing = {"threshold": None, "fpr": None, "tpr": None, "tpr_headline": None}
    made += [{"at": at, **entry, "note": note, **nothing} for at, note in thresholds.missing]
    return sorted(made, key=lambda point: -float(point["at"]))


def load(path: Path) -> Thresholds:
    """Read what `Thresholds.save` has written.

    Raises:
        DataError: the file is not there, is no JSON, or says something else; all faults at once.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(f"{path} cannot be read as a file of thresholds: {fault}") from fault
    faults = _faults(content)
    if faults:
        expected = '{"format": 1, "chosen_on": "calib", "n_negatives": 40000, "score_kind": "logit"'
        expected += ', "thresholds": [{"at": 0.001, "threshold": 2.3}]}'
        raise DataError("\n".join([f"{path} is no file of thresholds:", *faults, f"  {expected}"]))
    return Thresholds(
        content["chosen_on"],
        content["n_negatives"],
        tuple((float(p["at"]), float(p["threshold"])) for p in content["thresholds"]),
        content["score_kind"],
        tuple((float(p["at"]), str(p["note"])) for p in content.get("not_resolvable", [])),
    )


def _faults(content: Any) -> list[str]:
    """What is wrong with the content of a file, one line a fault."""
    if not isinstance(content, dict):
        return ["  expected an object"]
    faults = []
    if content.get("format") != FORMAT:
        faults.append(f"  format: expected {FORMAT}, got {content.get('format')!r}")
    if not isinstance(content.get("chosen_on"), str):
        faults.append(f"  chosen_on: expected a name, got {content.get('chosen_on')!r}")
    n = content.get("n_negatives")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        faults.append(f"  n_negatives: expected a whole number from 1 on, got {n!r}")
    if content.get("score_kind") not in get_args(ScoreKind):
        one_of = ", ".join(get_args(ScoreKind))
        faults.append(f"  score_kind: expected one of {one_of}, got {content.get('score_kind')!r}")
    points = content.get("thresholds")
    if not isinstance(points, list) or not points:
        return [*faults, f"  thresholds: expected a list with one or more, got {points!r}"]
    for i, point in enumerate(points):
        if fault := _fault_of_point(point):
            faults.append(f"  thresholds[{i}]: {fault}")
    return faults


def _fault_of_point(point: Any) -> str:
    """Why one entry cannot be used; empty: it can."""
    try:
        at, threshold = float(point["at"]), float(point["threshold"])
    except (TypeError, KeyError, ValueError):
        return f"expected at and threshold, both numbers, got {point!r}"
    if not 0 < at <= 1:
        return f"at is a false-positive rate in (0, 1], got {at:g}"
    return "threshold is NaN" if math.isnan(threshold) else ""
