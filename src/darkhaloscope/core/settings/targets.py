"""`[targets]`: which catalogued galaxies could be lenses."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from darkhaloscope.core.settings.base import StageConfig


def power_of_two(value: int) -> int:
    """HEALPix in nested order divides each pixel in four."""
    if value & (value - 1):
        raise ValueError(f"NSIDE is a power of two; got {value}")
    return value


Variant = Literal[
    "v1_pure_massive",
    "v2_baseline_dr10",
    "v3_color_relaxed",
    "v4_mag_relaxed",
    "v5_very_relaxed",
]
Nside = Annotated[int, Field(ge=1, le=8192), AfterValidator(power_of_two)]


class TargetsConfig(StageConfig):
    """Which catalogued galaxies could be lenses."""

    variant: Variant
    """The cuts a galaxy has to pass; the other variants are flags beside it."""
    is_dereddened: bool
    """Divide fluxes by the share that Galactic dust left before the cuts. The first run did not."""
    tile_nside: Nside
    """NSIDE of the tiles: 32 for a survey (3.4 deg2), finer for a small field."""
