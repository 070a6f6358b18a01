"""`[manifest.look_alikes]`: which targets are known not to be lenses but to look like them."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import Model, Span

LookAlikeKind = Literal["ring", "spiral", "edge_on", "merger", "agn_jet", "artefact"]
TractorType = Literal["DEV", "EXP", "SER", "REX", "COMP", "SIMP"]


class Cut(Model):
    """Values of a column that count: both ends included, none where the table has no value."""

    column: str = Field(min_length=1)
    """A numeric column of the table, such as `merging_merger_fraction`."""
    at_least: float | None = None
    """Least value; left out: any."""
    at_most: float | None = None
    """Largest value; left out: any."""

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"{self.column}: state at_least, at_most or both")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(
                f"{self.column}: at_least {self.at_least:g} is above at_most {self.at_most:g}"
            )
        return self


class VotedKind(Model):
    """What makes a galaxy of a table of votes one of a kind."""

    kind: LookAlikeKind
    """The kind."""
    cuts: tuple[Cut, ...] = Field(min_length=1)
    """All of them hold."""


class VotesTable(Model):
    """A table of morphology votes, such as Galaxy Zoo's."""

    format: Literal["galaxy_zoo"]
    """Columns `<question>_<answer>_fraction`, and `<question>_total-votes` where people voted."""
    address: str = Field(min_length=1)
    """CSV, TSV, ECSV, FITS, VOTable or Parquet: a path relative to this file, or an address."""
    radius_arcsec: float = Field(gt=0, le=60)
    """Farthest that a target may be from its entry, arcsec."""
    least_votes: int = Field(ge=0)
    """Fewest people who answered the question of a cut on a fraction. 0: the fractions are
    predicted, and the table has no counts."""
    kinds: tuple[VotedKind, ...] = Field(min_length=1)
    """Kinds in order: a galaxy that meets the cuts of two is of the first."""

    @property
    def kind(self) -> None:
        """None for all its rows: the cuts say."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _once("kinds", [voted.kind for voted in self.kinds])
        return self


class PositionsTable(Model):
    """A list of positions, of one kind or with a column `kind`."""

    format: Literal["positions"]
    """Position columns in degrees; `survey/positions.py` names those that are known."""
    address: str = Field(min_length=1)
    """As in a table of votes."""
    radius_arcsec: float = Field(gt=0, le=60)
    """Farthest that a target may be from its entry, arcsec; the list's own `radius_arcsec` is not
    read."""
    kind: LookAlikeKind | None = None
    """Kind of every entry; left out: the list's column `kind` says, and entries without one, or
    with another word there, are passed over."""


class Proxy(Model):
    """What in the catalogue alone makes a target one of a kind."""

    kind: Literal["spiral", "edge_on"]
    """The kind; a spiral stands for any disc."""
    types: tuple[TractorType, ...] = Field(min_length=1)
    """Tractor's types that count."""
    axis_ratio: Span
    """Of Tractor's fit, minor over major axis, the PSF taken out."""
    shape_r_arcsec: Span
    """Half-light radius of Tractor's fit along the major axis, arcsec."""
    sersic: Span
    """Sersic index: 4 of DEV, 1 of EXP and REX, fitted of SER."""


class LookAlikesConfig(Model):
    """Real galaxies that are negatives of a kind: nothing is painted on them."""

    tables: tuple[Annotated[VotesTable | PositionsTable, Field(discriminator="format")], ...] = ()
    """Lists in order: a target found in two is what the first says. In place of `least_votes` and
    `kinds`, one of format `positions` has a `kind`; left out, the list's column `kind` says."""
    proxies: tuple[Proxy, ...] = ()
    """Cuts in the catalogue, in order, for targets that no list holds."""
    known_lenses: tuple[str, ...]
    """Lists of known lenses and candidates, addresses: none of them is a look-alike, whatever the
    votes say, for a ring may be an Einstein ring."""
    known_radius_arcsec: float = Field(gt=0, le=600)
    """Farthest from an entry of `known_lenses` that a target is the same; the list's own
    `radius_arcsec` wins."""

    @property
    def lists(self) -> tuple[str, ...]:
        """Addresses of every list, each once."""
        return tuple(dict.fromkeys((*(t.address for t in self.tables), *self.known_lenses)))

    @property
    def votes(self) -> Mapping[str, VotesTable]:
        """Tables of votes by address, which `survey.votes` has to read."""
        return {t.address: t for t in self.tables if isinstance(t, VotesTable)}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.tables and not self.proxies:
            raise ValueError("state tables, proxies or both, or leave the section out")
        _once("tables", [table.address for table in self.tables])
        both = sorted(set(self.known_lenses) & {table.address for table in self.tables})
        if both:
            raise ValueError(f"known_lenses and tables both name {', '.join(both)}")
        return self


def _once(what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} name {', '.join(twice)} more than once")
