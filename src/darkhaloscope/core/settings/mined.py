"""`[mined]`: rounds of training on the galaxies that the network takes for lenses."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import StageConfig

Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class MinedConfig(StageConfig):
    """Which galaxies of train become negatives of the next round, and what becomes of the rest."""

    lens_weight: Literal["equal", "weight_population"]
    """As in `[report]`; not written here but handed over."""

    model: str = Field(min_length=1)
    """Name of the model that is trained in rounds, as in `[model.NAME]`; its mix names `mined`."""
    rounds: int = Field(ge=1, le=20)
    """Times that galaxies are mined and the model is trained again, after round 0."""
    top: Count | Share
    """How many targets of train are looked at, the most lens-like first: a count (500), or a share
    of them (0.05)."""
    merge_arcsec: float = Field(gt=0, le=60)
    """Targets nearer than this are one row, that of the highest score; chains are one group."""
    prevalence: float = Field(gt=0, lt=0.5)
    """Lenses per target of the sky, those counted that the lenses of calib stand for."""
    review_above: float = Field(gt=0, lt=1)
    """A galaxy that is a lens with a probability above this is not used before it is graded."""
    known_lenses: tuple[str, ...]
    """Lists of known lenses and candidates, left out: CSV, ECSV, FITS, VOTable or Parquet, relative
    to this file."""
    known_radius_arcsec: float = Field(gt=0, le=600)
    """Farthest from an entry of `known_lenses` that a galaxy is the same; the list's own
    `radius_arcsec` wins."""
    grades: tuple[str, ...]
    """Lists of graded positions: A, B and C are left out, others (X, `none`) are negatives."""
    false_positives: tuple[str, ...]
    """Lists of positions that are no lenses: negatives of full weight."""
    graded_radius_arcsec: float = Field(gt=0, le=60)
    """The same as `known_radius_arcsec` for `grades` and `false_positives`."""
    completeness: Annotated[tuple[Rate, ...], Field(min_length=1)]
    """Completeness of round 0 and of every later round at which false positives are compared."""
    least_gain: float = Field(ge=0, lt=1)
    """A round is worth its while if the false-positive rate on val falls by this share, at the
    highest `completeness`; the page says which round that picks. All rounds are made."""
    seed: int = Field(ge=0)
    """Seed of the draws that intervals are made with."""
    interval_draws: int = Field(500, ge=200, le=100_000)
    """Draws per interval; more of them change its ends by less than 1 % of its width."""

    def of_output(self) -> Self:
        """One round more, or another comparison, does not change what a round mines."""
        alike = {"rounds": 1, "completeness": (0.5,), "least_gain": 0.0}
        return self.model_copy(update=alike)

    @property
    def lists(self) -> tuple[str, ...]:
        """Addresses of every list of positions, each once."""
        return tuple(dict.fromkeys((*self.known_lenses, *self.grades, *self.false_positives)))

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if any(b <= a for a, b in pairwise(self.completeness)):
            raise ValueError(f"completeness must rise; got {list(self.completeness)}")
        return self
