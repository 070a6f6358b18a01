"""How often nominal 95 % intervals hold the truth: the tables of docs/coverage.md.

    OMP_NUM_THREADS=1 python docs/coverage.py [--repeats 1000] [--workers 1] > docs/coverage.md

Draws score tables whose true rates are known (tests/coverage_builders.py) and counts. Half
an hour on one core. Prints Markdown; every draw has a seed of its own, so that it repeats exactly.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from coverage_builders import (
    AREA,
    ENOUGH,
    LENS_MEAN,
    MORE,
    SCENES,
    Coverage,
    Scene,
    coverage,
    settled,
)

LOWEST, HIGHEST = 0.93, 0.975
BLIND = {"region": "12 regions", "source": "20 sources"}

HEAD = """\
# Do the intervals hold the truth?

A 95 % interval should hold the true value 95 times in 100. Here that is counted (sim): a score
table is drawn whose true rates are known, it is evaluated, and the intervals are held against the
truth, {repeats:,} times for each kind of table. Scores are normal, lenses {mean:g} standard
deviations above negatives, so that the truth follows from the normal distribution alone. Regions
and sources add a shift of their own to all their members.

Asked is a coverage of at least 93 % everywhere, and of at most 97.5 % where the least count that an
interval rests on (lenses kept, lenses missed, negatives kept) is expected to be {enough} or more;
with fewer, no interval of counts can be exact, and these are on the safe side. {repeats:,} repeats
have a standard error of {error:.1f} points. A table with one rate outside the limits is drawn five
times as often before it is judged; those are marked with their number. Cells are in per cent, with
the least expected count in brackets.

| where | least | greatest, of counts of {enough} or more | rates |
|---|---|---|---|
| threshold from the same table, and areas | {own_low} | {own_high} | {own_n} |
| threshold fixed on other data | {fixed_low} | {fixed_high} | {fixed_n} |

`make soak` repeats this and fails outside the limits; `make test` draws 200 of each.
"""

TAIL = """\
## What it would be without

The same tables, evaluated as if regions or sources were not known:

| | {rates} |
|---|{rule}|
{lines}

Clopper and Pearson's interval at a threshold of the same table, which takes that threshold for
granted, holds the completeness at FPR 10⁻³ of 1,000 lenses and 4,000 negatives in fewer than 60 of
100 tables (a test proves it). That is why it is used at thresholds of other data only.

Made by `docs/coverage.py`.
"""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--repeats", type=int, default=1000)
    asked.add_argument("--workers", type=int, default=1)
    said = asked.parse_args()
    scenes = (*SCENES, *MORE)
    judge = partial(settled, repeats=said.repeats, lowest=LOWEST, highest=HIGHEST)
    with ProcessPoolExecutor(said.workers) as pool:
        found = dict(zip(scenes, pool.map(judge, scenes), strict=True))
        blind = {
            column: next(s for s in SCENES if s.name.startswith(start))
            for column, start in BLIND.items()
        }
        futures = {
            column: pool.submit(coverage, scene, said.repeats, blind_to=(column,))
            for column, scene in blind.items()
        }
        without = {column: future.result() for column, future in futures.items()}
    print(HEAD.format(repeats=said.repeats, mean=LENS_MEAN, enough=ENOUGH, **extremes(found),
                      error=100 * (0.95 * 0.05 / said.repeats) ** 0.5))
    for title, what in (
        ("Completeness at a false-positive rate", "TPR at FPR"),
        ("False-positive rate at a completeness", "FPR at TPR"),
        ("Completeness at a fixed threshold, that of a true FPR", "TPR at t"),
        ("False-positive rate at a fixed threshold, that of a true FPR", "FPR at t"),
        ("Area under the curve", AREA),
    ):
        print(table(title, what, found, said.repeats))
    names = [c.rate for c in without["region"]]
    lines = [
        "| " + " | ".join([f"{scene.name}, {column} not known", *cells(without[column], names)])
        + " |"
        for column, scene in blind.items()
    ]
    rule = "|".join("---" for _ in names)
    print(TAIL.format(rates=" | ".join(names), rule=rule, lines="\n".join(lines)), end="")


def extremes(found: dict[Scene, list[Coverage]]) -> dict[str, object]:
    """Least and greatest coverage of each way of placing a threshold."""
    made: dict[str, object] = {}
    every = [c for each in found.values() for c in each]
    for name, is_fixed in (("own", False), ("fixed", True)):
        mine = [c for c in every if (" at t(" in c.rate) is is_fixed]
        judged = [c.share for c in mine if c.expected >= ENOUGH]
        made[f"{name}_low"] = f"{100 * min(c.share for c in mine):.1f}"
        made[f"{name}_high"] = f"{100 * max(judged):.1f}"
        made[f"{name}_n"] = len(mine)
    return made


def table(title: str, what: str, found: dict[Scene, list[Coverage]], repeats: int) -> str:
    """One table: scenes down, rates of one sort across."""
    rates = {c.rate: None for each in found.values() for c in each if c.rate.startswith(what)}
    heads_of = {name: name.rstrip(")").replace("(", " ").split()[-1] for name in rates}
    names = sorted(rates, key=lambda name: 0 if name == AREA else -float(heads_of[name]))
    heads = [heads_of[name] for name in names]
    lines = [f"## {title}", "", "| | " + " | ".join(heads) + " |", "|---" * (len(names) + 1) + "|"]
    for scene, each in found.items():
        shown = cells(each, names)
        if any(cell != "" for cell in shown):
            n = each[0].repeats
            name = scene.name if n == repeats else f"{scene.name} ({n:,} repeats)"
            lines.append("| " + " | ".join([name, *shown]) + " |")
    return "\n".join(lines) + "\n"


def cells(found: list[Coverage], names: list[str]) -> list[str]:
    by_name = {c.rate: c for c in found}
    return [
        "" if name not in by_name
        else f"{100 * by_name[name].share:.1f} ({by_name[name].expected:,.0f})"
        for name in names
    ]


if __name__ == "__main__":
    main()
