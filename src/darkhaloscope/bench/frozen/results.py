"""Result files, the log of scorings of the test set, and the table that is printed from files."""

import datetime
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import darkhaloscope
from darkhaloscope.bench.frozen import recipes
from darkhaloscope.bench.frozen.recipes import Asked, Committee
from darkhaloscope.core.errors import ConfigError, DataError

LOG = "log"
COLUMNS = (
    "date", "benchmark", "test_sha256", "recipe", "recipe_sha256", "seed", "weights_sha256",
    "device", "commit", "file", "again",
)  # fmt: skip
NOTHING = "-"
HEADLINE_FPRS = (1e-2, 1e-3, 1e-4)
HEADLINE_TPR = 0.85

log = logging.getLogger(__name__)

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log: one scoring of a test set.

    Attributes:
        values: By the names of `COLUMNS`.
    """

    values: Mapping[str, str]

    def is_same(self, other: "Entry") -> bool:
        """Whether the same weights were scored on the same set."""
        named = ("benchmark", "test_sha256", "recipe", "recipe_sha256", "seed", "weights_sha256")
        return all(self.values[name] == other.values[name] for name in named)

    def __str__(self) -> str:
        """The line."""
        return "\t".join(self.values[name] for name in COLUMNS)


def entry(said: Result, *, file: str, again: str = "") -> Entry:
    """The log's line of a scoring.

    Args:
        said: The keys of a result that say what is scored.
        file: Name of the result's file.
        again: Why the same is scored a second time; empty: it is the first.
    """
    values = {name: str(said.get(name) or NOTHING) for name in COLUMNS}
    values |= {"file": file, "again": again or NOTHING}
    return Entry({name: " ".join(value.split()) for name, value in values.items()})


def entries(folder: Path) -> list[Entry]:
    """All lines of the log.

    Raises:
        DataError: a line has not the log's columns.
    """
    path = folder / LOG
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(COLUMNS):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, expected {len(COLUMNS)} between tabs: "
                f"{' '.join(COLUMNS)}. Take the file from the repository again"
            )
        found.append(Entry(dict(zip(COLUMNS, cells, strict=True))))
    return found


def enter(folder: Path, made: Entry) -> None:
    """Add a line to the log.

    Raises:
        ConfigError: the same weights were scored on the same set before, and nothing says why they
            are again.
    """
    before = [line for line in entries(folder) if line.is_same(made)]
    if before and made.values["again"] == NOTHING:
        first = before[0].values
        raise ConfigError(
            f"{first['recipe']}, seed {first['seed']}, was scored on the test set of "
            f"{first['benchmark']} on {first['date']} with the same weights ({folder / LOG}; its "
            f"result is {first['file']}). The test set is scored once a recipe: decide on val, or "
            "say --again REASON, which the log will hold"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOG
    head = "" if path.exists() else "\t".join(COLUMNS) + "\n"
    with path.open("a", encoding="utf-8") as opened:
        opened.write(f"{head}{made}\n")


def is_unfinished(folder: Path, made: Entry) -> bool:
    """Whether the log holds this scoring, but the command was stopped before its result."""
    lines = [line for line in entries(folder) if line.is_same(made)]
    return bool(lines) and not any((folder / line.values["file"]).exists() for line in lines)


def file_name(said: Result) -> str:
    """`dhs-sim-1.test.small.seed-1.json`."""
    return f"{said['benchmark']}.{said['set']}.{said['recipe']}.seed-{said['seed']}.json"


def write(folder: Path, said: Result) -> Path:
    """Write a result, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(said)
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(_short(said), allow_nan=False, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _short(value: Any) -> Any:
    """Floats of seven digits; thresholds as they are, for scores are compared with them."""
    if isinstance(value, Mapping):
        return {k: v if k == "threshold" else _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_short(v) for v in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def read(folder: Path) -> list[dict[str, Any]]:
    """All results in a folder, those of one benchmark and set together."""
    found = []
    for path in sorted(folder.glob("*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(said, dict) and {"benchmark", "headline", "all", "set"} <= set(said):
            found.append(said)
    order = {name: place for place, name in enumerate(recipes.names())}

    def place(said: Result) -> tuple[tuple[str, str], int, int]:
        return _group(said), order.get(said["recipe"], len(order)), said["seed"]

    return sorted(found, key=place)


def table(found: Sequence[Result]) -> str:
    """Results as Markdown tables, one for each benchmark and set; the docs hold the same."""
    if not found:
        return "No result is there yet."
    groups: dict[tuple[str, str], list[Result]] = {}
    for said in found:
        groups.setdefault(_group(said), []).append(said)
    return "\n\n".join(_one_table(group, members) for group, members in groups.items())


def _group(said: Result) -> tuple[str, str]:
    return str(said["benchmark"]), str(said["set"])


def _one_table(group: tuple[str, str], members: Sequence[Result]) -> str:
    first = members[0]["headline"]
    lenses, negatives = first["n_lenses"], first["n_negatives"]
    lines = [
        f"**{group[0]}, set `{group[1]}`** (sim; headline: {lenses:,} lenses, {negatives:,} "
        "negatives weighed to the sky; % with 95 % intervals)",
        "",
        "| recipe, seed | device, minutes, stamps | GMAC | TPR at FPR 1e-2 | 1e-3 | 1e-4 | "
        "FPR at TPR 85 % | hardest kind there | all lenses, TPR at 1e-3 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    waived = {said["recipe"]: ", ".join(said["waived"]) for said in members if said["waived"]}
    notes = [f"\n`{name}` waives the gates {gates}." for name, gates in waived.items()]
    return "\n".join([*lines, *(_row(said) for said in members), *notes])


def _row(said: Result) -> str:
    head = said["headline"]
    at_fpr = {r["at"]: r for r in head["tpr_at_fpr"]}
    at_tpr = {r["at"]: r for r in head["fpr_at_tpr"]}
    of_all = {r["at"]: r for r in said["all"]["tpr_at_fpr"]}
    worst = next((w for w in head["worst_kind"] if w["at"] == HEADLINE_TPR), None)
    gmac = "" if said["gmac"] is None else f"{said['gmac']:.3g}"
    cells = [
        f"{said['recipe']}, {said['seed']}",
        f"{said['device']}, {said['train_minutes']:.1f}, {said['stamps']:,}",
        gmac,
        *(_percent(at_fpr[fpr]) for fpr in HEADLINE_FPRS),
        _power(at_tpr[HEADLINE_TPR]),
        "" if worst is None else f"{worst['kind']} {_power(worst)}",
        _percent(of_all[1e-3]),
    ]
    return f"| {' | '.join(cells)} |"


def _percent(r: Mapping[str, Any]) -> str:
    if r["value"] is None:
        return "not resolvable"
    return f"{100 * r['value']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}]"


def _power(r: Mapping[str, Any]) -> str:
    """A small rate with its interval, in units of 1e-3."""
    if r["value"] is None:
        return "not resolvable"
    return f"{1e3 * r['value']:.3g}e-3 [{1e3 * r['low']:.3g}, {1e3 * r['high']:.3g}]"


def listed(asked: Iterable[Asked]) -> str:
    """What can be asked for, with its cost."""
    lines = [f"{'recipe':<28}{'GMAC':>8}{'stamps':>12}{'PMAC':>8}  what it is"]
    for one in asked:
        gmac = one.gmac
        # backwards costs twice as much as forwards
        members = one.members if isinstance(one, Committee) else (one,)
        cost = sum(3e-6 * (m.gmac or 0) * m.stamps for m in members)
        cells = (f"{'':>8}", f"{'':>8}") if gmac is None else (f"{gmac:8.3f}", f"{cost:8.2f}")
        lines.append(f"{one.name:<28}{cells[0]}{one.stamps:>12,}{cells[1]}  {one.meaning}")
    return "\n".join([*lines, "PMAC: 1e15 multiply-accumulates of the whole training"])


def commit() -> str | None:
    """The commit that the package's files are of, where they are in a checkout."""
    for folder in Path(darkhaloscope.__file__).resolve().parents:
        git = folder / ".git"
        if git.is_dir():
            return _head(git)
    return None


def _head(git: Path) -> str | None:
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def today() -> str:
    """The date in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
