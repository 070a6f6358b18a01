"""What all settings share: they are frozen, and an unknown key is an error."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Model(BaseModel):
    """Base of every settings model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageConfig(Model):
    """Base of a stage's settings: the sky's conventions that `[survey]` states for all stages.

    In the run's file they stand once, in `[survey]`; `core.config` hands them to every section.
    """

    bands: tuple[str, ...] = Field(min_length=1)
    """Filters, in the order of every pixel array."""
    pixel_scale_arcsec: float = Field(gt=0)
    """Width of a pixel, arcsec."""

    def of_output(self) -> Self:
        """The settings that the stage's output is made by: those that others read are all alike."""
        return self


def of_known(waive: Any, names: Sequence[str], what: str) -> Any:
    """Waivers as they are.

    Raises:
        ValueError: one names what is not there.
    """
    named = waive if isinstance(waive, dict) else {}
    unknown = [str(name) for name in named if name not in names]
    if unknown:
        raise ValueError(
            f"there is no {what} {', '.join(unknown)}; the {what}s are {', '.join(names)}"
        )
    return waive


class Span(Model):
    """A range of values, both ends included."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self
