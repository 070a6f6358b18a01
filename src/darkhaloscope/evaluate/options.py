"""The words of `dhs evaluate`, and what they ask for.

argparse reads them, so that they are the same on a machine that has neither typer nor pydantic. All
faults of the values come in one message.
"""

import argparse
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, get_args

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.evaluate.claims import ROUNDING
from darkhaloscope.evaluate.reading import ROLES
from darkhaloscope.evaluate.rows import ScoreKind

PREVALENCES = (1e-2, 1e-3, 1e-4, 1e-5)
SECONDS_PER_STAMP = 5.0
DRAWS = 500  # of an interval
ALL = "all"

USAGE = """
  dhs evaluate SCORES [--out DIR] [--thresholds FILE] [--against SCORES2] ...
  dhs evaluate --published FILE"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one message of the project's kind."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ConfigError(f"{message}; see `{self.prog} --help`")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: the words, understood.

    Attributes:
        scores: The table; None: published figures are judged instead.
        columns: Column by role, of the first table.
        score_kind: What its scores are.
        chosen_set: Which set of it; empty: the only one.
        bins: Edges of the strata of the lenses, by column.
        target_bins: Edges of the strata of the target.
        headline: Minima of the headline stratum; None: as the table has it; empty: all lenses.
        lenses: `injected`, `real`, or empty: not said.
        sky: `simulated`, `real`, or empty: not said.
        prevalences: Lenses per target.
        seconds_per_stamp: Of a person who looks.
        thresholds: File of thresholds that other data fixed.
        against: The second table.
        against_columns: Column by role, of the second table.
        against_kind: What its scores are.
        seed: Of the draws of intervals.
        title: Of the page; empty: the table's name.
        out: Folder to write; None: the terminal alone.
        has_page: Whether the folder gets a page.
        as_json: Print `metrics.json`.
        published: File of published figures.
        published_auroc: Their area, where the file does not hold it.
        tolerance: Rounding of published figures.
    """

    scores: Path | None
    columns: Mapping[str, str]
    score_kind: ScoreKind
    chosen_set: str
    bins: Mapping[str, tuple[float, ...]]
    target_bins: Mapping[str, tuple[float, ...]]
    headline: Mapping[str, float] | None
    lenses: str
    sky: str
    prevalences: tuple[float, ...]
    seconds_per_stamp: float
    thresholds: Path | None
    against: Path | None
    against_columns: Mapping[str, str]
    against_kind: ScoreKind
    seed: int
    title: str
    out: Path | None
    has_page: bool
    as_json: bool
    published: Path | None
    published_auroc: float | None
    tolerance: float


def understood(words: Sequence[str]) -> Order:
    """The order that the words give.

    Raises:
        ConfigError: a word or value cannot be used; one message with all that is wrong of values.
    """
    said = parser().parse_args(words)
    faults = _Faults()
    order = Order(
        scores=said.scores,
        columns=faults.of(_columns, said.column, "--column"),
        score_kind=said.score_kind,
        chosen_set=said.set,
        bins=faults.of(_bins, said.stratum, "--stratum"),
        target_bins=faults.of(_bins, said.target_stratum, "--target-stratum"),
        headline=faults.of(_minima, said.headline, "--headline"),
        lenses=said.lenses,
        sky=said.sky,
        prevalences=faults.of(_prevalences, said.prevalence, "--prevalence"),
        seconds_per_stamp=faults.of(_positive, said.seconds_per_stamp, "--seconds-per-stamp"),
        thresholds=said.thresholds,
        against=said.against,
        against_columns=faults.of(_columns, said.against_column, "--against-column"),
        against_kind=said.against_score_kind or said.score_kind,
        seed=said.seed,
        title=said.title,
        out=said.out,
        has_page=said.page,
        as_json=said.json,
        published=said.published,
        published_auroc=said.auroc,
        tolerance=faults.of(_positive, said.tolerance, "--tolerance"),
    )
    found = faults.found or _contradictions(order)
    if found:
        raise ConfigError("\n".join([*found, "see `dhs evaluate --help`"]))
    return order


def parser() -> Parser:
    """The parser of all words."""
    roles = "\n".join(f"  {role:<12} {each.what}" for role, each in ROLES.items())
    made = Parser(
        prog="dhs evaluate",
        usage=USAGE,
        description="The report for any finder's scores: rates over unique galaxies with true "
        "intervals, from a CSV or Parquet file or a folder of Parquet.",
        epilog=f"columns of SCORES, by role (--column ROLE=NAME where they are called otherwise):\n"
        f"{roles}\n\n"
        + textwrap.fill(
            "Only score and label are needed. Exit status: 0 done, 2 a fault of the input with "
            "one message, 1 a bug: the figures failed their self-check.",
            100,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _of_table(made.add_argument_group("the table"))
    _of_report(made.add_argument_group("the report"))
    _of_claims(made.add_argument_group("published figures"))
    return made


def _of_table(group: argparse._ArgumentGroup) -> None:
    kinds = get_args(ScoreKind)
    group.add_argument("scores", nargs="?", type=Path, metavar="SCORES", help="what to evaluate")
    group.add_argument("--set", default="", metavar="NAME", help="test, calib, ...; all: every row")
    group.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="what a column is called, e.g. --column score=p_lens; may be repeated",
    )
    group.add_argument(
        "--score-kind",
        choices=kinds,
        default="logit",
        help="logit: any number, higher is more lens-like (default); probability: 0 to 1, and its "
        "calibration is judged; rank: 1 is the best",
    )
    group.add_argument(
        "--lenses", choices=["injected", "real"], default="", help="what the lenses are"
    )
    group.add_argument("--sky", choices=["simulated", "real"], default="", help="what the sky is")
    group.add_argument(
        "--against", type=Path, metavar="SCORES2", help="another finder on the same stamps"
    )
    group.add_argument(
        "--against-column",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="as --column, for SCORES2",
    )
    group.add_argument(
        "--against-score-kind", choices=kinds, help="as --score-kind, for SCORES2 (default: same)"
    )


def _of_report(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", type=Path, metavar="DIR", help="write page, JSON and table there")
    group.add_argument(
        "--no-page", dest="page", action="store_false", help="write no page, which needs matplotlib"
    )
    group.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    group.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="thresholds.json of other data (calib): the headline is read there",
    )
    for name, what in (("--stratum", "the injection"), ("--target-stratum", "the target")):
        group.add_argument(
            name,
            action="append",
            default=[],
            metavar="NAME=E1,E2,...",
            help=f"bins of a column that describes {what}; may be repeated",
        )
    group.add_argument(
        "--headline",
        action="append",
        default=[],
        metavar="NAME=MIN",
        help="least value of a column in the headline stratum; may be repeated; all: every lens",
    )
    group.add_argument(
        "--prevalence", default="", metavar="P,...", help="lenses per target, for the purity"
    )
    group.add_argument(
        "--seconds-per-stamp",
        default=str(SECONDS_PER_STAMP),
        metavar="S",
        help=f"time to judge a stamp (default {SECONDS_PER_STAMP:g})",
    )
    group.add_argument("--seed", type=int, default=0, help="of the draws of intervals (default 0)")
    group.add_argument("--title", default="", metavar="TEXT", help="heading of the page")


def _of_claims(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="TOML or CSV of published rates: whether they can come from one set of scores",
    )
    group.add_argument("--auroc", type=float, help="their area, where a CSV cannot say it")
    group.add_argument(
        "--tolerance",
        default=str(ROUNDING),
        metavar="X",
        help=f"rounding of their completeness and area (default {ROUNDING:g})",
    )


class _Faults:
    """Values as they are understood, and what is wrong with those that are not."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, meaning: Callable[[Any], Any], word: Any, option: str) -> Any:
        """What a value means; nothing where it means nothing."""
        try:
            return meaning(word)
        except ValueError as fault:
            self.found.append(f"{option} {fault}")
            return None


def _columns(words: Iterable[str]) -> dict[str, str]:
    found = {}
    for word in words:
        role, _, name = word.partition("=")
        if role not in ROLES or not name:
            raise ValueError(f"{word!r} is no ROLE=NAME; the roles are {', '.join(ROLES)}")
        found[role] = name
    return found


def _bins(words: Iterable[str]) -> dict[str, tuple[float, ...]]:
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        edges = _numbers(text, word, "NAME=E1,E2,...")
        if not name or not edges or any(b <= a for a, b in pairwise(edges)):
            raise ValueError(f"{word!r} is no NAME=E1,E2,... with edges that rise")
        found[name] = edges
    return found


def _minima(words: Sequence[str]) -> dict[str, float] | None:
    """None where nothing was said; empty for all lenses."""
    if not words:
        return None
    found = {}
    for word in words:
        if word == ALL:
            continue
        name, _, text = word.partition("=")
        minimum = _numbers(text, word, "NAME=MIN")
        if not name or len(minimum) != 1:
            raise ValueError(f"{word!r} is no NAME=MIN, and not the word all")
        found[name] = minimum[0]
    if found and ALL in words:
        raise ValueError("all lenses, or minima: not both")
    return found


def _prevalences(text: str) -> tuple[float, ...]:
    found = _numbers(text, text, "P,...") or PREVALENCES
    if not all(0 < p < 1 for p in found):
        raise ValueError(f"{text!r}: lenses per target lie between 0 and 1")
    return found


def _positive(text: str) -> float:
    (found,) = _numbers(text, text, "a number") or (0.0,)
    if not 0 < found < math.inf:
        raise ValueError(f"{text!r} is no number above 0")
    return found


def _numbers(text: str, word: str, form: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"{word!r} is no {form}") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{word!r} is no {form} of finite numbers")
    return found


def _contradictions(order: Order) -> list[str]:
    """Words that do not go together."""
    if order.published is not None:
        beside = [order.scores, order.out, order.thresholds, order.against]
        if any(word is not None for word in beside):
            return ["--published stands alone: SCORES and their options are another question"]
        return []
    faults = []
    if order.scores is None:
        faults.append("SCORES is missing: a CSV or Parquet file, or a folder of Parquet")
    if order.against is None and order.against_columns:
        faults.append("--against-column: there is no --against SCORES2 that has it")
    twice = sorted(set(order.bins) & set(order.target_bins))
    if twice:
        faults.append(f"--stratum and --target-stratum: {', '.join(twice)} cannot be both")
    if order.published_auroc is not None:
        faults.append("--auroc belongs to --published FILE")
    return faults
