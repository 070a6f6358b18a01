"""`python -m darkhaloscope.bench`: the same as `dhs bench`, where only the nets' packages are."""

import sys

from darkhaloscope.bench.entry import run
from darkhaloscope.core.processes import run_as_module

if __name__ == "__main__":
    sys.exit(run_as_module(run))
