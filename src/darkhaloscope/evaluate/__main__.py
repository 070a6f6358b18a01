"""`python -m darkhaloscope.evaluate`: the same as `dhs evaluate`, without typer and pydantic."""

import sys

from darkhaloscope.core.processes import run_as_module
from darkhaloscope.evaluate.entry import run

if __name__ == "__main__":
    sys.exit(run_as_module(run))
