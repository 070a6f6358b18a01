"""`[ensemble.NAME]`: networks whose scores are made one, and what that says as a probability."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darkhaloscope.core.settings.base import StageConfig

MEMBER = re.compile(r"^(?P<model>[^@/]+)(@(?P<round>\d+))?$")
Member = Annotated[str, Field(pattern=r"^[^@/]+(@\d+)?$")]


class EnsembleConfig(StageConfig):
    """One committee: who votes, how votes are combined, and how the result is calibrated."""

    lens_weight: Literal["equal", "weight_population"]
    """As in `[report]`; not written here but handed over."""

    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """Models by name, as in `[model.NAME]`; `NAME@k` is that of round k of mining, else the last.
    One alone is calibrated, and there is nothing to combine."""
    combine: Literal["mean", "stack"]
    """`mean` of the members' logits, or a logistic regression on them, fitted on calib with
    weights that are not negative; scores of calib itself are then of fits without their region."""
    calibration: Literal["auto", "beta", "tail"]
    """From logit to probability, fitted on calib: `beta` (Kull et al. 2017), `tail` (a logistic
    curve with slopes of its own where false positives are few), or the better on held-out
    galaxies."""
    prevalence: float = Field(gt=0, lt=0.5)
    """Lenses per target of the sky, of the column `probability`."""
    contaminants_times: float = Field(ge=1, le=100)
    """Times the share of contaminants, all kinds of negatives but `control`, of the column
    `probability_contaminated`."""
    seed: int = Field(ge=0)
    """Seed of the deal of regions to folds."""
    folds: int = Field(ge=2, le=50)
    """Of the cross-fit: of regions where calib has two of them a fold, else of galaxies."""

    @property
    def named(self) -> tuple[tuple[str, int | None], ...]:
        """Name and round of each member; None: the last round."""
        found = [MEMBER.match(member) for member in self.members]
        return tuple(
            (m["model"], None if m["round"] is None else int(m["round"])) for m in found if m
        )

    @field_validator("members", mode="before")
    @classmethod
    def _are_names(cls, value: Any) -> Any:
        named = value if isinstance(value, (list, tuple)) else ()
        if not named or not all(isinstance(m, str) and MEMBER.match(m) for m in named):
            raise ValueError('a list of models by name is wanted, such as ["small", "other@1"]')
        return value

    @model_validator(mode="after")
    def _each_votes_once(self) -> Self:
        twice = sorted({m for m in self.members if self.members.count(m) > 1})
        if twice:
            raise ValueError(f"members names {', '.join(twice)} more than once")
        return self
