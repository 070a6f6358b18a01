"""Settings of the sources that are pictures: how the bank of them is made and drawn from."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.settings.base import Model

SourceKind = Literal["sersic", "clumpy", "catalogue"]
Share = Annotated[float, Field(ge=0, le=1)]


class PictureBank(Model):
    """Galaxies as pictures: generated ones, and real ones of a catalogue of HST images."""

    seed: int
    """Seed of the generated galaxies, and of which split a galaxy belongs to."""
    picture_px: int = Field(ge=32, le=512)
    """Width of a picture; half of a galaxy's light lies within a tenth of it."""
    split_shares: dict[Literal["train", "val", "calib", "test"], Share]
    """Share of the galaxies that each split may use, by a hash of the galaxy; they add up to 1."""
    clumpy_count: int = Field(ge=0, le=100_000)
    """Generated star-forming galaxies, all splits together."""
    catalogues: tuple[str, ...] = Field(json_schema_extra={"speed_only": True})
    """Catalogue files in the format of GalSim's RealGalaxyCatalog, relative to this file; [] for
    none. One a filter, the reddest first: a galaxy in two has two layers. Digests name their
    content, not their place."""
    least_snr: float = Field(gt=0, le=1000)
    """Least signal-to-noise ratio of a catalogue's galaxy."""
    resolution_arcsec: float = Field(gt=0, le=1)
    """FWHM to which a catalogue's galaxy is sharpened; faint ones keep a wider one."""
    colours: Literal["catalogue", "templates"]
    """`catalogue`: colours of a real galaxy as photometry has them, `templates` where it has none;
    `templates`: those that every other source has."""
    nearest: int = Field(ge=1, le=1000)
    """A source is drawn from this many of its split that are nearest to what was drawn: generated
    ones in redshift, real ones in size and magnitude."""
    max_scale: float = Field(ge=1, le=20)
    """A real galaxy is made larger or smaller by this factor at most; where none fits, the source
    is a Sersic profile."""

    @model_validator(mode="after")
    def _split(self) -> Self:
        if not math.isclose(sum(self.split_shares.values()), 1, abs_tol=1e-6):
            raise ValueError(
                f"split_shares must add up to 1; they add up to {sum(self.split_shares.values()):g}"
            )
        return self


def check_kinds(kinds: dict[SourceKind, float], bank: PictureBank | None) -> None:
    """Refuse shares of source kinds that do not add up, or have no bank to be drawn from.

    Raises:
        ValueError: says what to state.
    """
    if not math.isclose(sum(kinds.values()), 1, abs_tol=1e-6):
        raise ValueError(f"kinds must add up to 1; they add up to {sum(kinds.values()):g}")
    pictured = sorted(k for k, share in kinds.items() if share and k != "sersic")
    if pictured and bank is None:
        raise ValueError(
            f"kinds names {', '.join(pictured)}: state how they are made in [manifest.sources.bank]"
        )
    if bank is None:
        return
    if not pictured:
        raise ValueError("kinds names no pictures: leave [manifest.sources.bank] out")
    if kinds.get("clumpy") and not bank.clumpy_count:
        raise ValueError("kinds names clumpy: bank.clumpy_count must be above 0")
    if kinds.get("catalogue") and not bank.catalogues:
        raise ValueError(
            "kinds names catalogue: bank.catalogues must name a catalogue file; docs/sources.md "
            "says where to get one"
        )
