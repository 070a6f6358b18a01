"""The faults that a person can mend. Each carries one finished message; anything else is a bug.

A message says what is wrong, where, what was expected and what to do next. It is the only argument,
so that an error survives pickling on its way from a worker.
"""


class DarkHaloScopeError(Exception):
    """Base of all faults of the input; the command ends with exit status 2 and the message."""


class ConfigError(DarkHaloScopeError):
    """The run's file, or an option of the command, cannot be used."""


class SchemaError(DarkHaloScopeError):
    """A table lacks a column, or has one of another type."""


class DataError(DarkHaloScopeError):
    """Types are right, values are not: a truncated file, a NaN, an empty selection."""


class StageError(DarkHaloScopeError):
    """One or more partitions of a stage failed; the others are written."""
