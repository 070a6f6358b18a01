"""`python -m darkhaloscope.evaluate`: the same as `dhs evaluate`, without typer and pydantic."""

import logging
import os
import sys

from darkhaloscope.core.errors import DarkHaloScopeError
from darkhaloscope.evaluate.entry import run


def main() -> int:
    """Exit status 0 done, 2 a fault of the input, 1 a bug with its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(sys.argv[1:])
    except DarkHaloScopeError as error:
        sys.stderr.write(f"dhs: {error}\n")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away
        return 0


if __name__ == "__main__":
    sys.exit(main())
