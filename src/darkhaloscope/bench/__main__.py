"""`python -m darkhaloscope.bench`: the same as `dhs bench`, where only the nets' packages are."""

import logging
import sys

from darkhaloscope.bench.entry import run
from darkhaloscope.core.errors import DarkHaloScopeError


def main() -> int:
    """Exit status 0 done, 2 a fault of the input, 1 a bug with its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(sys.argv[1:])
    except DarkHaloScopeError as error:
        sys.stderr.write(f"dhs: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
