"""The stages in the order in which they run. A stage is imported when it is asked for."""

from functools import cache
from importlib import import_module

from darkhaloscope.core.contracts import Stage
from darkhaloscope.core.errors import ConfigError

ORDER = (
    "targets",
    "splits",
    "images",
    "cutouts",
    "manifest",
    "stamps",
    "gates",
    "model",
    "scores",
    "mined",
    "audit",
    "ensemble",
    "selection",
    "candidates",
    "report",
)


@cache
def stage_named(name: str) -> Stage:
    """The stage of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ORDER:
        raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(ORDER)}")
    found: Stage = import_module(f"darkhaloscope.stages.{name}").STAGE
    return found


def needed_by(names: tuple[str, ...], *, without: tuple[str, ...] = ()) -> list[str]:
    """The stages named and all that they need, in order; all of them where none is named.

    Args:
        names: Stages.
        without: Stages that are left out, with what they alone need.
    """
    wanted = set[str]()
    waiting = list(names or ORDER)
    while waiting:
        name = waiting.pop()
        if name not in wanted and name not in without:
            wanted.add(name)
            waiting += [i.table for i in stage_named(name).inputs]
            waiting += stage_named(name).after
    return [name for name in ORDER if name in wanted]
