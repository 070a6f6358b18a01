"""What `dhs evaluate` and `python -m darkhaloscope.evaluate` share: words in, report out."""

import importlib.util
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq

from darkhaloscope.core.errors import ConfigError, DarkHaloScopeError, DataError
from darkhaloscope.evaluate import claims, folder, metrics, tables, thresholds, words
from darkhaloscope.evaluate.compare import compare
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Evaluation, Plan
from darkhaloscope.evaluate.options import DRAWS, Order, understood
from darkhaloscope.evaluate.page import page
from darkhaloscope.evaluate.pairing import Pair, pair
from darkhaloscope.evaluate.reading import ROLES, Asked, Scored, is_own, read
from darkhaloscope.evaluate.rows import Rows
from darkhaloscope.evaluate.tables import Table
from darkhaloscope.evaluate.thresholds import Thresholds

BUG = 1
OWN_BINS: Mapping[str, tuple[float, ...]] = {  # of the tables of the stage `scores`
    "theta_e_arcsec": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5),
    "theta_e_over_fwhm_r": (0.5, 0.8, 1.0, 1.2, 1.5, 2.0),
    "arc_snr_g": (0.0, 10.0, 25.0, 50.0, 100.0),
}
OWN_HEADLINE: Mapping[str, float] = {"theta_e_over_fwhm_r": 1.2, "arc_snr_g": 25.0}
MAKE_THRESHOLDS = "make one: `dhs evaluate CALIB --out DIR` writes DIR/thresholds.json"
PAGE_NEEDS = ("jinja2", "matplotlib")
Result = TypeVar("Result")


def run(said: Sequence[str]) -> int:
    """Evaluate what the words name; the exit status.

    Raises:
        DarkHaloScopeError: a word, a file or a value cannot be used; one message with all faults.
    """
    order = understood(said)
    if order.published is not None:
        return _judge(order.published, order)
    _check_out(order)
    first, second, fixed = _read_all(order)
    compared = None if second is None else pair(first, second)
    plan = _plan(order, first)
    result = metrics.evaluate(first.rows, plan, thresholds=fixed)
    if not result.metrics["consistency"]["passed"]:
        sys.stderr.write(words.failed(result.metrics["consistency"]) + "\n")
        return BUG
    figures = _figures(order, first, result, compared, plan)
    text = json.dumps(figures, ensure_ascii=False) if order.as_json else words.summary(figures)
    if order.out is not None:
        chosen = None if fixed else thresholds.chosen(first.rows, on=first.name)
        _write(order.out, order, first, result, figures, chosen)
        where = words.written(order.out, chosen, has_page=order.has_page)
        text += "" if order.as_json else f"\n{where}"
    sys.stdout.write(text + "\n")
    return 0


def fingerprint(rows: Rows) -> str:
    """Names the negatives of a table by their scores: thresholds know what they were chosen on."""
    scores = np.sort(rows.score[~rows.is_lens])
    return blake2b(scores.tobytes(), digest_size=16).hexdigest()


def _judge(path: Path, order: Order) -> int:
    """Published figures: 0 where they can belong together, else 2 and their contradictions."""
    claim = claims.load(path, order.published_auroc)
    found = claims.judged(claim, order.tolerance)
    if found:
        raise DataError(claims.text(claim, found))
    sys.stdout.write(claims.text(claim, found) + "\n")
    return 0


def _check_out(order: Order) -> None:
    if order.out is None:
        return
    folder.check(order.out, order.thresholds)
    missing = [name for name in PAGE_NEEDS if importlib.util.find_spec(name) is None]
    if order.has_page and missing:
        raise ConfigError(
            f"the page needs {' and '.join(missing)}, not installed here; install it, or write the "
            "figures alone with --no-page"
        )


class _Attempts:
    """What could be read, and the faults of what could not: all in one message."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def at(self, job: Callable[[Path], Result], path: Path | None) -> Result | None:
        """What a job makes of a path; None where there is no path, or a fault."""
        try:
            return None if path is None else job(path)
        except DarkHaloScopeError as fault:
            self.faults.append(str(fault))
            return None


def _read_all(order: Order) -> tuple[Scored, Scored | None, Thresholds | None]:
    """Both tables and the thresholds."""
    attempts = _Attempts()
    first = attempts.at(lambda path: _read(tables.find(path), order), order.scores)
    second = attempts.at(lambda path: _read_second(tables.find(path), order), order.against)
    fixed = attempts.at(_fixed, order.thresholds)
    if first and fixed and order.thresholds:
        attempts.faults += _doubts(first, fixed, order.thresholds, order)
    if attempts.faults or first is None:
        raise DataError("\n".join(attempts.faults))
    return first, second, fixed


def _fixed(path: Path) -> Thresholds:
    """The thresholds of a file; a message ends with how to make one."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
        return thresholds.load(path)
    except OSError as fault:
        what = f"{path} cannot be read: {(fault.strerror or 'no such file').lower()}"
    except ValueError:
        what = f"{path} is no file of thresholds: expected JSON"
    except DataError as fault:
        what = str(fault)
    raise DataError(f"{what}\n  {MAKE_THRESHOLDS}")


def _read(table: Table, order: Order) -> Scored:
    bins, headline = _strata(table.columns, order, is_own=is_own(table))
    strata = tuple(dict.fromkeys([*bins, *headline, *order.target_bins]))
    return read(table, Asked(order.columns, order.score_kind, strata, order.chosen_set))


def _read_second(table: Table, order: Order) -> Scored:
    """The second table: of the first one's set and column names, unless told others."""
    same = {role: name for role, name in order.columns.items() if name in table.columns}
    columns = {**same, **order.against_columns}
    has_sets = "set" in columns or any(name in table.columns for name in ROLES["set"].found_as)
    chosen = order.chosen_set if has_sets else ""
    return read(table, Asked(columns, order.against_kind, (), chosen))


def _strata(
    columns: Collection[str], order: Order, *, is_own: bool
) -> tuple[Mapping[str, tuple[float, ...]], Mapping[str, float]]:
    """Bins and headline as asked for; our own tables bring theirs where nothing was asked."""
    there = {c for c in OWN_BINS if is_own and c in columns}
    own = {c: OWN_BINS[c] for c in OWN_BINS if c in there and c not in order.target_bins}
    headline = OWN_HEADLINE if set(OWN_HEADLINE) <= there else {}
    return order.bins or own, headline if order.headline is None else order.headline


def _doubts(first: Scored, fixed: Thresholds, path: Path, order: Order) -> list[str]:
    """Why thresholds cannot be used on a table."""
    if fixed.score_kind != order.score_kind:
        return [
            f"{path} holds thresholds of kind {fixed.score_kind}, the scores are of kind "
            f"{order.score_kind}: use thresholds of the same scores, or name --score-kind"
        ]
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("fingerprint") == fingerprint(first.rows):
        return [
            f"{path} was chosen on the negatives of {first.where} itself; a threshold is fixed "
            "only on other data: choose it on a calibration set"
        ]
    return []


def _plan(order: Order, first: Scored) -> Plan:
    bins, headline = _strata(first.rows.columns, order, is_own=first.is_own)
    lenses = order.lenses or ("injected" if first.is_own else "")
    is_sim = lenses == "injected" or order.sky == "simulated"
    is_real = (lenses, order.sky) == ("real", "real")
    is_weighted = first.rows.weight is not None
    weighed = "weighted to their population" if is_weighted else "each counted once"
    sky = f", on a {order.sky} sky" if order.sky else ""
    return Plan(
        draws=Draws(order.seed, DRAWS),
        origin="sim" if is_sim else "real" if is_real else "origin not stated",
        population=f"{lenses} lenses, {weighed}{sky}".strip(),
        prevalences=order.prevalences,
        bins=bins,
        headline=headline,
        target_bins=order.target_bins,
        seconds_per_stamp=order.seconds_per_stamp,
    )


def _figures(
    order: Order, first: Scored, result: Evaluation, compared: Pair | None, plan: Plan
) -> dict[str, Any]:
    """The content of `metrics.json`: what was read, the figures, and the comparison."""
    table = {
        "name": first.name,
        "where": first.where,
        "set": order.chosen_set,
        "columns": dict(first.columns),
        "score_kind": order.score_kind,
        "n_left_out": first.n_left_out,
    }
    found: dict[str, Any] = {"made_by": folder.MADE_BY, "table": table, **result.metrics}
    if compared is not None:
        found["against"] = {
            "where": str(order.against),
            "matched_by": compared.by,
            "n_matched": len(compared.first),
            "n_first_only": compared.n_first_only,
            "n_second_only": compared.n_second_only,
            **compare(compared.first, compared.second, plan),
        }
    made: dict[str, Any] = metrics.finite(found)
    return made


def _write(
    out: Path,
    order: Order,
    first: Scored,
    result: Evaluation,
    figures: Mapping[str, Any],
    chosen: Thresholds | None,
) -> None:
    """The folder: figures as JSON and as a table, the page, and thresholds if any were chosen.

    None are where thresholds of other data were used: chosen on what was judged, they would be
    taken for those of a calibration set.
    """
    text = json.dumps(figures, indent=1, allow_nan=False, ensure_ascii=False)
    table = metrics.flat(figures)
    text_of_page = page(order, first, result, figures) if order.has_page else ""

    def fill(made: Path) -> None:
        (made / "metrics.json").write_text(text + "\n", encoding="utf-8")
        pq.write_table(table, made / "metrics.parquet")
        if chosen is not None and chosen.points:
            chosen.save(made / "thresholds.json")
            _sign(made / "thresholds.json", first.rows)
        if text_of_page:
            (made / "index.html").write_text(text_of_page, encoding="utf-8")

    folder.write(out, fill)


def _sign(path: Path, rows: Rows) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    signed = {**content, "fingerprint": fingerprint(rows)}
    path.write_text(json.dumps(signed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
