"""`[splits]`: which galaxies train, choose, calibrate and test."""

from typing import Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import Model, StageConfig
from darkhaloscope.core.settings.targets import Nside


class Shares(Model):
    """Share of the targets in each split; they add up to 1."""

    train: float = Field(gt=0, lt=1)
    """Teaches the network."""
    val: float = Field(gt=0, lt=1)
    """Stops the training and decides between recipes."""
    calib: float = Field(gt=0, lt=1)
    """Sets calibration, stacking and thresholds."""
    test: float = Field(gt=0, lt=1)
    """Scored once per released recipe."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.val + self.calib + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the four splits must add up to 1; got {total:g}")
        return self


class SplitsConfig(StageConfig):
    """Whole regions of the sky are given to a split, so that neighbours stay together."""

    seed: int = Field(ge=0)
    """Seed of the draw that gives regions to splits."""
    region_nside: Nside
    """NSIDE of the regions: 16 (3.7 deg) on a survey, finer on a small field."""
    shares: Shares
    """Share of the targets in each split."""
    shares_tolerance: float = Field(gt=0, le=0.5)
    """A split may miss its share by this much (0.05: 0.60 may be 0.55); beyond it is an error."""
    guard_arcsec: float = Field(ge=0, le=3600)
    """Targets nearer than this to a target of another split are `guard`: no split uses them."""
