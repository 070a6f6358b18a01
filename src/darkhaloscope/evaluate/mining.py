"""What rounds of mining changed: false positives on the frozen test set, and what was mined.

Each round is one recipe. All are scored on the same stamps after the last training, so that rounds
are compared pair by pair; each has its threshold at the same completeness. Which round the stopping
rule picks is decided on `val` alone. The number of lenses among the mined is an expectation where
nobody knows them, and a count where they were planted.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.evaluate import posterior, rows, sample
from darkhaloscope.evaluate.compare import false_positive_rates, mover
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.evaluate.rows import Flags, Floats, Ints, Rows
from darkhaloscope.survey import sphere

FORMAT = 1
LOST = 0.025  # of the completeness that a later round may give up; Rezaei et al. 2025 lost 0.023
ENOUGH = 100  # false positives of round 0 from which a ratio is known to some 15 %
USES = ("negative", "review", "left_out")

Entry = dict[str, Any]


class Asked(Protocol):
    """Settings that this module reads: those of `[mined]`."""

    @property
    def completeness(self) -> Sequence[float]:
        """Where false positives are compared."""

    @property
    def least_gain(self) -> float:
        """Share by which a round must lower the false-positive rate on val."""

    @property
    def lens_weight(self) -> str:
        """`equal`, or the column that weighs lenses."""

    @property
    def seed(self) -> int:
        """Of the intervals' draws."""

    @property
    def interval_draws(self) -> int:
        """Draws per interval."""


def figures(
    test: pa.Table,
    val: pa.Table,
    mined: pa.Table,
    asked: Asked,
    *,
    planted: Ints | None = None,
    whose: str = "all lenses",
) -> Entry:
    """All figures of the rounds, as plain values.

    Args:
        test: Scores of the set test of every round, as the stage `scores` makes them, and `round`.
        val: The same of the set val.
        mined: What every round but the last mined, as the stage `mined` makes it.
        asked: Settings.
        planted: target_id of galaxies known to be lenses to whoever made the sky, and to no stage;
            None: nobody knows.
        whose: Of which lenses completeness is, in words; the tables hold no others.

    Returns:
        `whose`; `rounds`: of each `round`, what was `mined` after it, its rate on `val` and the
        `gain`;
        `picked`: the round that the stopping rule picks, None where val cannot tell;
        `at`: one entry a completeness, with a rate, a difference and a ratio a round;
        `by_kind`: rates by kind and round at `kind_completeness`.
    """
    draws = Draws(asked.seed, asked.interval_draws)
    on_test, on_val = by_round(test, asked), by_round(val, asked)
    curves = {k: _curve(r, draws) for k, r in on_test.items()}
    middle = sorted(asked.completeness)[len(asked.completeness) // 2]
    gains = _gains({k: _curve(r, draws) for k, r in on_val.items()}, max(asked.completeness))
    return {
        "format": FORMAT,
        "whose": whose,
        "rounds": [
            {"round": k, "mined": _mined(mined, k, planted), **gains.get(k, _NO_GAIN)}
            for k in on_test
        ],
        "val_completeness": max(asked.completeness),
        "least_gain": asked.least_gain,
        "picked": picked([g["gain"] for g in gains.values()], asked.least_gain),
        "lost": LOST,
        "at": [
            _at(on_test, c, draws, is_enough=is_enough)
            for c, is_enough in _completeness(curves, asked)
        ],
        "kind_completeness": middle,
        "by_kind": _by_kind(curves, middle),
    }


def planted_among(mined: pa.Table, truth: Iterable[pa.Table], radius_arcsec: float = 1.0) -> Ints:
    """target_id of the mined galaxies that lists of planted lenses name, each once.

    Args:
        mined: With `target_id`, `ra_deg` and `dec_deg`.
        truth: Lists of positions, as `survey.positions.read` returns them.
        radius_arcsec: Farthest that an entry is the galaxy, where it states no radius itself.
    """
    is_planted = np.zeros(mined.num_rows, bool)
    for positions in truth:
        ra, dec = mined["ra_deg"].to_numpy(), mined["dec_deg"].to_numpy()
        is_planted |= sphere.nearest(ra, dec, positions, radius_arcsec)[0] >= 0
    return np.unique(mined["target_id"].to_numpy()[is_planted])


def by_round(scores: pa.Table, asked: Asked) -> dict[int, Rows]:
    """Labelled stamps of each round, all in one order."""
    weight = None if asked.lens_weight == "equal" else asked.lens_weight
    made = {}
    for k in sorted(pc.unique(scores["round"]).to_pylist()):
        mine = scores.filter(pc.equal(scores["round"], k)).sort_by("stamp_id")
        made[k] = rows.from_scores(mine, weight=weight, where=f"scores of round {k}")
    return made


def picked(gains: Sequence[float | None], least_gain: float) -> int | None:
    """The round before the first that gains too little; None where there is no gain to look at.

    Args:
        gains: Of each round over the one before it; that of round 0 is None.
        least_gain: What a round has to gain.

    Examples:
        >>> picked([None, 0.6, 0.3, 0.05], 0.1), picked([None, 0.6], 0.1), picked([], 0.1)
        (2, 1, None)
    """
    if not gains:
        return None
    small = [k for k, gain in enumerate(gains) if k and (gain is None or gain < least_gain)]
    return small[0] - 1 if small else len(gains) - 1


_NO_GAIN: Entry = {"val": None, "gain": None}


def _curve(r: Rows, draws: Draws) -> Curve:
    return Curve(sample.lenses(r), sample.negatives(r, to_sky=True), draws, "all")


def _gains(curves: dict[int, Curve], completeness: float) -> dict[int, Entry]:
    """The rate of each round on val, and by which share it is below that of the round before."""
    made: dict[int, Entry] = {}
    before: float | None = None
    for k, curve in curves.items():
        rate = curve.fpr_at_tpr(completeness)
        gain = None if before is None else _gain(before, rate.value or 0.0)
        made[k] = {"val": rate.as_dict(), "gain": gain}
        before = rate.value or 0.0
    return made


def _gain(before: float, now: float) -> float:
    """Share by which a rate fell; of none nothing can be gained."""
    return 1 - now / before if before > 0 else 0.0


def _completeness(curves: dict[int, Curve], asked: Asked) -> list[tuple[float, bool]]:
    """Those asked for, and the one at which round 0 has just enough false positives."""
    first = next(iter(curves.values()))
    score = first.negatives.side.score
    found = {c: first.fpr_at_tpr(c).k or 0 for c in asked.completeness}
    made = [(c, k >= ENOUGH) for c, k in found.items()]
    if len(score) > ENOUGH:
        below = max(int(first.lenses.index(float(score[-ENOUGH]))) - 1, 0)  # the next lens
        share = float(first.lenses.share_from(below))
        if LOST < share < 1 and all(abs(share - c) > LOST / 5 for c, _ in made):
            made.append((share, True))
    return sorted(made)


def _at(on_test: dict[int, Rows], completeness: float, draws: Draws, *, is_enough: bool) -> Entry:
    """Every round at one completeness, against round 0."""
    first = next(iter(on_test))
    rounds = []
    for k, r in on_test.items():
        pairs = [(completeness, completeness), (completeness, max(completeness - LOST, 1e-6))]
        same, less = false_positive_rates(on_test[first], r, draws, pairs)
        entry: Entry = {"round": k, "fpr": same["second"]}
        if k != first:
            entry |= {
                "difference": {n: same[n] for n in ("difference", "low", "high", "correlation")},
                "ratio": ratio(same),
                "ratio_lost": ratio(less),
            }
        rounds.append(entry)
    return {"completeness": completeness, "is_enough": is_enough, "rounds": rounds}


def ratio(entry: Entry) -> Entry:
    """How many times the first rate is the second, from a paired difference.

    The interval is that of the difference of their logarithms. Without a false positive of the
    second there is no value, and the lower end is the least that both intervals allow; without a
    lower end of the second above 0 there is no upper end.
    """
    one, two = entry["first"], entry["second"]
    if one["value"] is None or two["value"] is None or not one["value"] > 0:
        return {"value": None, "low": None, "high": None}
    if not two["value"] > 0:
        return {"value": None, "low": one["low"] / two["high"], "high": None}
    logs = [{name: _log(rate[name]) for name in ("value", "low", "high")} for rate in (one, two)]
    low, high = mover(
        (logs[0]["value"], logs[1]["value"]),
        (logs[0]["low"], logs[0]["high"]),
        (logs[1]["low"], logs[1]["high"]),
        entry["correlation"],
    )
    return {
        "value": one["value"] / two["value"],
        "low": math.exp(low) if math.isfinite(low) else 0.0,
        "high": math.exp(high) if math.isfinite(high) else None,
    }


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _by_kind(curves: dict[int, Curve], completeness: float) -> list[Entry]:
    """Rates of each kind in each round, the worst of the last round first."""
    last = curves[max(curves)]
    made: list[Entry] = []
    for kind, side in last.negatives.kinds.items():
        rates = [c.fpr_at_tpr(completeness, kind=kind).as_dict() for c in curves.values()]
        made.append({"kind": kind, "n": side.n, "rounds": rates})
    return sorted(made, key=lambda e: (-(e["rounds"][-1]["value"] or 0.0), e["kind"]))


def _mined(mined: pa.Table, k: int, planted: Ints | None) -> Entry | None:
    """What was mined after a round; None after the last."""
    mine = mined.filter(pc.equal(mined["round"], k))
    if not mine.num_rows and not (mined.num_rows and k < max(mined["round"].to_pylist())):
        return None
    use = np.array(mine["use"].to_pylist(), np.str_)
    is_lens = None if planted is None else np.isin(mine["target_id"].to_numpy(), planted)
    made: Entry = {"n": mine.num_rows}
    for name in USES:
        chosen = use == name
        made[name] = {
            "n": int(chosen.sum()),
            "expected": None if name == "left_out" else _expected(mine, chosen),
            "planted": None if is_lens is None else int((is_lens & chosen).sum()),
        }
    return made


def _expected(mine: pa.Table, chosen: Flags) -> Entry:
    """Lenses among some of the mined; those that a person has judged are none."""
    p, low, high = (_column(mine, name)[chosen] for name in ("p_lens", "p_lens_low", "p_lens_high"))
    found = posterior.expected(p, low, high)
    return {"value": found.value, "low": found.low, "high": found.high}


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
