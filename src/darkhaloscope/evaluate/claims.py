"""Figures that somebody has published, typed in as a file: can they come from one set of scores?

A TOML file holds `tables`, each with a `name` and `rates`, a list of {tpr, fpr} as fractions, and
may hold `auroc`, `name` and `source`; a CSV file has the columns `tpr` and `fpr`. Thresholds may
stand beside the rates.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import tables
from darkhaloscope.evaluate.cells import Column, numbers
from darkhaloscope.evaluate.consistency import Contradiction, auroc_range, contradictions

ROUNDING = 5e-4  # room for figures published with three decimals
KEYS = {"name", "source", "auroc", "tables"}
TABLE_KEYS = {"name", "rates"}
RATE_KEYS = {"tpr", "fpr", "threshold"}
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Claim:
    """Published figures.

    Attributes:
        name: Whose they are.
        source: Where they were published.
        auroc: Area under the curve; None: not published.
        tables: (FPR, completeness), fractions, by the name of the table that they are of.
    """

    name: str
    source: str
    auroc: float | None
    tables: Mapping[str, tuple[Point, ...]]

    @property
    def points(self) -> tuple[Point, ...]:
        """Those of every table."""
        return tuple(point for table in self.tables.values() for point in table)


def load(path: Path, auroc: float | None = None) -> Claim:
    """Read a file of published figures.

    Args:
        path: TOML or CSV.
        auroc: The published area, where the file does not hold it.

    Raises:
        DataError: the file cannot be read or says something else; one message with all faults.
    """
    content = _csv(path) if ".csv" in path.suffixes else _toml(path)
    if auroc is not None:
        content = {**content, "auroc": auroc}
    faults = _faults(content)
    if faults:
        said = "a table is: [[tables]] name = 'FPR', rates = [{ tpr = 0.90, fpr = 0.102 }]"
        raise DataError("\n".join([f"{path} holds no published figures:", *faults, f"  {said}"]))
    return Claim(
        str(content.get("name", path.name)),
        str(content.get("source", "")),
        content.get("auroc"),
        {
            table["name"]: tuple((float(r["fpr"]), float(r["tpr"])) for r in table["rates"])
            for table in content["tables"]
        },
    )


def judged(claim: Claim, tolerance: float = ROUNDING) -> list[Contradiction]:
    """What contradicts itself, each with both figures.

    Falling pairs with a point in common are one contradiction, and the widest is named. The area is
    held against each table and against all of them: the one that leaves least room is named.
    """
    falls = [_fall(group) for group in _groups(claim.points, tolerance)]
    if claim.auroc is None:
        return falls
    asked = {**claim.tables, "all tables": claim.points}
    room = {name: auroc_range(points) for name, points in asked.items()}
    beyond = {
        name: max(low - claim.auroc, claim.auroc - high) for name, (low, high) in room.items()
    }
    name = max(beyond, key=lambda each: beyond[each])
    if beyond[name] <= tolerance:
        return falls
    low, high = room[name]
    message = (
        f"AUROC {claim.auroc:g} cannot come from the table “{name}”, whose rates allow "
        f"{low:.4f} to {high:.4f}"
    )
    return [*falls, Contradiction("auroc_bound", message)]


def text(claim: Claim, found: Sequence[Contradiction]) -> str:
    """What is said of a claim, whether it stands or not."""
    low, high = auroc_range(claim.points)
    n = len(claim.points)
    whose = f"{claim.name} ({claim.source})" if claim.source else claim.name
    if not found:
        area = f" and AUROC {claim.auroc:g}" if claim.auroc is not None else ""
        return (
            f"{whose}: {n} rates{area} can belong to one curve; the rates allow an AUROC of "
            f"{low:.4f} to {high:.4f}. That they are right is another matter."
        )
    many = "one contradiction" if len(found) == 1 else f"{len(found)} contradictions"
    listed = [f"  {i}. {c.message}" for i, c in enumerate(found, 1)]
    return "\n".join([f"{whose} cannot come from one set of scores: {many}", *listed])


def _groups(points: Sequence[Point], tolerance: float) -> list[list[tuple[Point, Point]]]:
    """Pairs that fall, those with a common point together; in each the widest pair first."""
    pairs = [
        (a, b)
        for a in sorted(points)
        for b in sorted(points)
        if a[0] < b[0] and contradictions([a, b], tolerance=tolerance)
    ]
    groups: list[list[tuple[Point, Point]]] = []
    for pair in pairs:
        joined = [g for g in groups if any(set(pair) & set(other) for other in g)]
        groups = [g for g in groups if g not in joined]
        groups.append([pair, *(other for group in joined for other in group)])
    widest = [sorted(group, key=lambda p: (p[1][1] - p[0][1], p)) for group in groups]
    return sorted(widest, key=lambda group: group[0])


def _fall(group: list[tuple[Point, Point]]) -> Contradiction:
    """One group as a sentence."""
    (first,) = contradictions(group[0], tolerance=0.0)
    others = len(group) - 1
    more = f" ({others} more pairs of rates contradict the same figures)" if others > 1 else ""
    more = " (one more pair of rates contradicts the same figures)" if others == 1 else more
    return Contradiction(first.name, first.message + more)


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no TOML: {error}") from error


def _csv(path: Path) -> Mapping[str, Any]:
    """The columns tpr and fpr as rates; a cell that is no number stays as it is, to be named."""
    table = tables.find(path)
    missing = [name for name in ("tpr", "fpr") if name not in table.columns]
    if missing:
        has = ", ".join(table.columns)
        raise DataError(f"{path} has no column {' and no column '.join(missing)}; it has: {has}")
    columns = {name: Column(numbers) for name in ("tpr", "fpr")}
    for batch in table.batches(("tpr", "fpr")):
        for name, column in columns.items():
            column.add(batch[name])
    bad = [f"  column {name}: {c.bad}" for name, c in columns.items() if c.bad]
    if bad:
        raise DataError("\n".join([f"{path} holds no published figures:", *bad]))
    tpr, fpr = (columns[name].array().tolist() for name in ("tpr", "fpr"))
    rates = [{"tpr": t, "fpr": f} for t, f in zip(tpr, fpr, strict=True)]
    return {"tables": [{"name": path.name, "rates": rates}]}


def _faults(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with the content of a file, one line a fault."""
    faults = [f"  {key}: not known here" for key in content if key not in KEYS]
    if "auroc" in content and not _is_share(content["auroc"]):
        faults.append(f"  auroc: expected a fraction within 0 to 1, got {content['auroc']!r}")
    found = content.get("tables")
    if not isinstance(found, list) or not found:
        return [*faults, "  tables: expected one or more, each with name and rates"]
    for i, table in enumerate(found):
        faults += _faults_of_table(f"tables[{i}]", table)
    names = [table["name"] for table in found if isinstance(table, dict) and "name" in table]
    if len({str(name) for name in names}) < len(names):
        faults.append("  tables: two have one name")
    return faults


def _faults_of_table(where: str, table: Any) -> list[str]:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        return [f"  {where}: expected a name and rates, got {table!r}"]
    faults = [f"  {where}.{key}: not known here" for key in table if key not in TABLE_KEYS]
    rates = table.get("rates")
    if not isinstance(rates, list) or not rates:
        return [*faults, f"  {where}.rates: expected a list with one or more of them"]
    for i, rate in enumerate(rates):
        at = f"{where}.rates[{i}]"
        if not isinstance(rate, dict):
            faults.append(f"  {at}: expected {{ tpr = ..., fpr = ... }}, got {rate!r}")
            continue
        faults += [f"  {at}.{key}: not known here" for key in rate if key not in RATE_KEYS]
        faults += [
            f"  {at}.{key}: expected a fraction within 0 to 1, got {rate.get(key)!r}"
            for key in ("tpr", "fpr")
            if not _is_share(rate.get(key))
        ]
    return faults


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
