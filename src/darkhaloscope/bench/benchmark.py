"""The frozen benchmark: `dhs benchmark`, or `python -m darkhaloscope.bench benchmark`.

Recipes are trained on the benchmark's galaxies, a set is scored by all of them in one pass, and
each gets a result file. Stopped at any moment, the same command goes on from there.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from darkhaloscope.bench import entry
from darkhaloscope.bench.frozen import (
    committee,
    definition,
    figures,
    fitting,
    recipes,
    results,
    scoring,
    trivial,
    verify,
)
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.figures import Scored
from darkhaloscope.bench.frozen.fitting import Trained
from darkhaloscope.bench.frozen.recipes import Asked, Committee
from darkhaloscope.bench.frozen.scoring import Workplace
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError

OUT = Path("runs/benchmark")
KEPT = Path("benchmarks/results")  # in a checkout: what the documentation's table is printed from

NEVER_FROZEN = ("tiny", "cosmos")  # one means nothing, the other depends on a user's files

log = logging.getLogger(__name__)


def main(words: Sequence[str]) -> int:
    """`dhs benchmark`; the exit status."""
    asked = _parser().parse_args(list(words))
    if asked.table:
        sys.stdout.write(results.table(results.read(asked.results or KEPT)) + "\n")
        return 0
    if asked.list:
        named = [_recipe(name, asked) for name in recipes.names()]
        sys.stdout.write(results.listed(named) + "\n")
        return 0
    _check(asked)
    bench = definition.load(_variant(asked), catalogues=tuple(asked.catalogue or ()))
    at = Workplace(asked.out, _device(asked.device))
    if asked.verify:
        return _verify(bench, at)
    if asked.runtimes:
        return _runtimes(bench, at, asked)
    found = _benchmark(bench, at, asked)
    sys.stdout.write(results.table(found) + "\n")
    return 0


def _parser() -> entry.Parser:
    parser = entry.Parser(
        prog="dhs benchmark",
        description="Train recipes on the frozen benchmark, score a set, print its table.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="the smaller set dhs-sim-1-quick, short trainings")
    variants = "under another sky; with real sources; to try the command out"
    add("--variant", choices=["shifted", "cosmos", "tiny"], help=variants)
    add("--catalogue", action="append", metavar="FILE", help="of galaxies, for --variant cosmos")
    add("--recipe", action="append", metavar="NAME", help=f"repeatable; default {recipes.FIRST}")
    add("--seed", type=int, default=recipes.SEED, help=f"default {recipes.SEED}")
    add("--set", choices=["val", "test"], default="val", help="default val; test is logged")
    add("--minutes", type=float, help="length of each training, measured here once")
    add("--stamps", type=int, help="trained on in all, instead of the recipe's number")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default auto")
    add("--out", type=Path, default=OUT, metavar="FOLDER", help=f"workplace; default {OUT}")
    kept = f"of result files and log; default OUT/results, for test {KEPT} where it is"
    add("--results", type=Path, metavar="FOLDER", help=kept)
    add("--train-only", action="store_true", help="train, and score nothing")
    add("--again", default="", metavar="REASON", help="score the test set once more; is logged")
    add("--table", action="store_true", help="print the table of the result files, and end")
    add("--list", action="store_true", help="print the recipes with their cost, and end")
    judged = "export it, quantise it, and judge both on val beside torch"
    add("--runtimes", action="store_true", help=judged)
    add("--verify", action="store_true", help="make the set again and compare hashes and stamps")
    return parser


def _check(asked: argparse.Namespace) -> None:
    """Refuse, before hours of work, what could not be done at their end."""
    faults = []
    if asked.quick and asked.variant:
        faults.append("--quick and --variant are different sets: choose one")
    if asked.minutes is not None and asked.stamps is not None:
        faults.append("--minutes and --stamps both say how long a training is: choose one")
    if asked.minutes is not None and asked.minutes <= 0:
        faults.append(f"--minutes {asked.minutes:g} is no time")
    if asked.stamps is not None and asked.stamps < 1:
        faults.append(f"--stamps {asked.stamps} is no training")
    if asked.again and asked.set != "test":
        faults.append("--again is for --set test alone: val may be scored as often as you like")
    if asked.runtimes and (asked.set != "val" or asked.train_only):
        faults.append("--runtimes judges on val: leave out --set test and --train-only")
    unknown = sorted(set(asked.recipe or ()) - set(recipes.names()))
    if unknown:
        known = ", ".join(recipes.names())
        faults.append(f"no recipe {', '.join(unknown)}; the recipes are {known}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        faults.append("no CUDA device was found; use --device cpu")
    if faults:
        raise ConfigError("; ".join(faults))


def _variant(asked: argparse.Namespace) -> str:
    return "quick" if asked.quick else asked.variant or ""


def _device(name: str) -> Device:
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    has_gpu = name != "cpu" and torch.cuda.is_available()
    return Device("cuda" if has_gpu else "cpu", threads or 1)


def _recipe(name: str, asked: argparse.Namespace) -> Asked:
    made = recipes.named(name, seed=asked.seed, is_quick=asked.quick)
    return made if asked.stamps is None else made.shortened(asked.stamps)


def _benchmark(bench: Definition, at: Workplace, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Train, score and judge what was asked for; the results."""
    wanted = [_recipe(name, asked) for name in asked.recipe or [recipes.FIRST]]
    if not trivial.is_installed():
        log.info("%s", trivial.NEEDS)
        wanted = [one for one in wanted if isinstance(one, Committee) or not one.is_trivial]
    if asked.minutes is not None:
        wanted = [_timed(bench, one, asked.minutes, at) for one in wanted]
    networks = {recipes.key(r): fitting.trained(bench, r, at) for r in recipes.trained(wanted)}
    if asked.train_only:
        return []
    folder = _results(asked, at)
    test = scoring.fingerprint(bench, "test", at)
    said = [{"test_sha256": test, **_said(bench, one, networks, asked, at)} for one in wanted]
    if asked.set == "test":
        if _variant(asked) not in NEVER_FROZEN:
            verify.require(bench, at.sources, pixels=False)
        _enter(said, folder, asked.again)
    for which in _sets(asked.set, wanted):
        models = {name: fitting.asked(bench, one, at) for name, one in networks.items()}
        scoring.score(bench, which, models, at)
    found = []
    for one, what in zip(wanted, said, strict=True):
        made = {**what, **_figures(bench, one, asked.set, at)}
        path = results.write(folder, made)
        log.info("%s: %s", one.name, path)
        found.append(made)
    return found


def _timed(bench: Definition, one: Asked, minutes: float, at: Workplace) -> Asked:
    """The same with as many stamps as so many minutes hold, of each member."""
    if isinstance(one, Committee):
        first = fitting.stamps_in(bench, one.members[0], minutes, at)
        return one.shortened(first)
    return one if one.is_trivial else one.shortened(fitting.stamps_in(bench, one, minutes, at))


def _sets(asked: str, wanted: Sequence[Asked]) -> list[str]:
    """The sets to score: thresholds of test and combinations are chosen on calib."""
    has_committee = any(isinstance(one, Committee) for one in wanted)
    return ["calib", asked] if has_committee or asked == "test" else [asked]


def _said(
    bench: Definition, one: Asked, networks: Mapping[str, Trained], asked: argparse.Namespace,
    at: Workplace,
) -> dict[str, Any]:  # fmt: skip
    """What a result says beside its figures."""
    members = one.members if isinstance(one, Committee) else (one,)
    trained = [networks[recipes.key(member)] for member in members]
    here = entry.circumstances()
    weights = trained[0].sha256
    if isinstance(one, Committee):
        weights = recipes.sha256_of([one.sha256, [t.sha256 for t in trained]])
    return {
        "benchmark": bench.name,
        "definition_sha256": bench.sha256,
        "set": asked.set,
        "origin": "sim",
        "recipe": one.name,
        "recipe_sha256": one.sha256,
        "seed": one.seed,
        "weights_sha256": weights,
        "device": "cpu" if at.device.name == "cpu" else here["gpu"],
        "train_minutes": round(sum(t.minutes for t in trained), 2),
        "stamps": sum(m.epoch_stamps * m.epochs for m in members),
        "gmac": one.gmac,
        "waived": list(one.waived),
        "members": [m.name for m in members] if isinstance(one, Committee) else [],
        "training": [dict(t.epoch) for t in trained],
        "versions": here["versions"],
        "cpu": here["cpu"],
        "cores": here["cores"],
        "date": here["date"],
        "commit": results.commit(),
    }


def _enter(said: Sequence[Mapping[str, Any]], folder: Path, again: str) -> None:
    """Write each scoring of the test set into the log, before any pixel of it is seen."""
    for what in said:
        line = results.entry(what, file=results.file_name(what), again=again)
        if not results.is_unfinished(folder, line):
            results.enter(folder, line)


def _figures(bench: Definition, one: Asked, which: str, at: Workplace) -> dict[str, Any]:
    """The figures of one recipe's scores; those of a committee are combined first."""
    extra = _combined(bench, one, which, at) if isinstance(one, Committee) else {}
    fixed = None
    if which == "test" or isinstance(one, Committee):
        fixed = _scored(bench, one, "calib", at)
    scored = _scored(bench, one, which, at)
    return {**extra, **figures.figures(bench, which, scored, fixed)}


def _scored(bench: Definition, one: Asked, which: str, at: Workplace) -> Scored:
    name = recipes.key(one)
    return Scored.of(scoring.table(at.scores(bench, which, name)), where=f"{name} on {which}")


def _combined(bench: Definition, one: Committee, which: str, at: Workplace) -> dict[str, Any]:
    """Write a committee's scores; what is said of them and of each member."""
    keys = [recipes.key(member) for member in one.members]
    calib, asked = ([at.scores(bench, each, key) for key in keys] for each in ("calib", which))
    made = committee.combined(one, calib, asked)
    for each, table in ((which, made.scored), ("calib", made.calib)):
        scoring.keep(bench, each, table, name=recipes.key(one), sha256=one.sha256, at=at)
    members = {m.name: figures.of_member(bench, _scored(bench, m, which, at)) for m in one.members}
    return {
        "member_weights": list(made.weights),
        "calibration_shape": made.shape,
        "calibration": figures.calibrated(made.scored, where=f"{one.name} on {which}"),
        "by_member": members,
    }


def _results(asked: argparse.Namespace, at: Workplace) -> Path:
    """Where result files go."""
    if asked.results is not None:
        return Path(asked.results)
    return KEPT if asked.set == "test" and KEPT.is_dir() else at.folder / "results"


def _runtimes(bench: Definition, at: Workplace, asked: argparse.Namespace) -> int:
    """What other runtimes and int8 do to each recipe, on val; 0."""
    from darkhaloscope.bench.frozen import exporting

    names = asked.recipe or [recipes.FIRST]
    for one in [exporting.check(_recipe(name, asked)) for name in names]:
        timed = one if asked.minutes is None else _timed(bench, one, asked.minutes, at)
        made = exporting.judge(bench, fitting.trained(bench, exporting.check(timed), at), at)
        log.info("%s: %s", one.name, exporting.write(_results(asked, at), made))
        sys.stdout.write(exporting.table(made) + "\n")
    return 0


def _verify(bench: Definition, at: Workplace) -> int:
    """Make the sets' rows and some stamps again; 0 where they are what was frozen."""
    verify.require(bench, at.sources)
    said = f"definition, rows, and {verify.STAMPS} stamps"
    sys.stdout.write(f"{bench.name} is what was frozen: {said}\n")
    return 0
