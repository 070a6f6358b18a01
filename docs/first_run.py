"""The table of docs/first-run.md, from a run of the preset `first-run` that its gates stopped.

    python docs/first_run.py RUN_FOLDER      e.g. runs/first-run

Rewrites the table and the waivers between the page's markers. Nothing is trained.
"""

import json
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "first-run.md"


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rows = json.loads((Path(sys.argv[1]) / "gates" / "gates.json").read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    for name, made in (("gates", table(rows)), ("waivers", waivers(rows))):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + made + end + after
    PAGE.write_text(text, encoding="utf-8")


def table(rows: list[dict]) -> str:
    """One line a gate: its worst row where it failed, else the row of all."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    failed = [row for row in rows if not row["passed"]]
    lines = ["| gate | guards against | of | value (95 %) | limit | verdict |", "|" + "---|" * 6]
    for name in names:
        mine = [row for row in rows if row["name"] == name]
        bad = [row for row in mine if not row["passed"]]
        judged = [
            row for row in mine if row["limit_low"] is not None or row["limit_high"] is not None
        ]
        for row in [r for r in bad if ":" not in r["stratum"]] or bad[:1] or judged[:1]:
            cells = (
                name,
                row["guards"],
                row["stratum"].replace("_", "\\_"),
                said(row),
                limit(row),
                "passed" if row["passed"] else "**failed**",
            )
            lines.append("| " + " | ".join(cells) + " |")
    n_failed = len({row["name"] for row in failed})
    summary = (
        f"{n_failed} of {len(names)} gates failed (sim; {len(failed)} of {len(rows)} checks):\n\n"
    )
    return summary + "\n".join(lines) + "\n"


def waivers(rows: list[dict]) -> str:
    """What the run's file has to say for all gates that failed."""
    failed = dict.fromkeys(row["name"] for row in rows if not row["passed"])
    lines = ["[gates.waive]", *[f'{name} = "to repeat the first run"' for name in failed]]
    return "".join(f"    {line}\n" for line in lines)


def said(row: dict) -> str:
    ends = "" if row["low"] is None else f" ({row['low']:.3g} – {row['high']:.3g})"
    return f"{row['value']:.3g}{ends}"


def limit(row: dict) -> str:
    low = [] if row["limit_low"] is None else [f"≥ {row['limit_low']:g}"]
    return " and ".join(low + ([] if row["limit_high"] is None else [f"≤ {row['limit_high']:g}"]))


if __name__ == "__main__":
    main()
