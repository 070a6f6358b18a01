"""The table of docs/benchmark.md, from the result files of benchmarks/results.

    python docs/benchmark_table.py           rewrites it between the page's markers
    python docs/benchmark_table.py --check   exit status 1 where the page says something else

`dhs benchmark --table` prints the same.
"""

import sys
from pathlib import Path

from darkhaloscope.bench.frozen import results

HERE = Path(__file__).resolve().parent
PAGE, KEPT = HERE / "benchmark.md", HERE.parent / "benchmarks" / "results"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"


def page(text: str) -> str:
    """The page with the table that the files give."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + results.table(results.read(KEPT)) + "\n" + END + after


def main() -> int:
    held = PAGE.read_text(encoding="utf-8")
    made = page(held)
    if "--check" in sys.argv[1:]:
        return int(made != held)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
