"""Where the bricks of a simulated sky lie, what they are called, and how the sky maps on pixels.

A patch is a grid of bricks; patches lie at least a degree apart, so that regions of the sky can be
held apart from each other. As in the survey an image reaches 21.6 arcsec beyond its brick, so
neighbouring images show the same galaxies and each belongs to one brick only.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.core.settings.simulate import (
    PIXEL_SCALE_ARCSEC,
    SimulateConfig,
    fields_across,
)

_EDGE_DEG = 1e-9  # keeps a brick's centre off the tenth of a degree at which names change


@dataclass(frozen=True, slots=True)
class Brick:
    """A brick: the piece of sky it owns, from ra1 to ra2 and dec1 to dec2, degrees."""

    name: str
    brickid: int
    field: int
    column: int
    row: int
    ra: float
    dec: float
    ra1: float
    ra2: float
    dec1: float
    dec2: float

    @property
    def area_deg2(self) -> float:
        """Area that the brick owns, square degrees."""
        strip = math.sin(math.radians(self.dec2)) - math.sin(math.radians(self.dec1))
        return (self.ra2 - self.ra1) * math.degrees(strip)

    def owns(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions, degrees, shape (n,), lie in the brick."""
        in_ra, in_dec = (ra >= self.ra1) & (ra < self.ra2), (dec >= self.dec1) & (dec < self.dec2)
        return np.asarray(in_ra & in_dec)


def bricks(config: SimulateConfig) -> list[Brick]:
    """Every brick of the sky, patch by patch; ids count from 1.

    Raises:
        ConfigError: two bricks would have one name, or there are more than ids.
    """
    found = [
        _brick(config, field, column, row)
        for field in range(config.n_fields)
        for row in range(config.bricks_per_field[1])
        for column in range(config.bricks_per_field[0])
    ]
    if len(found) >= 1 << 20:
        raise ConfigError(
            f"simulate: {len(found)} bricks, but a brick's id has 20 bits; ask for less sky"
        )
    seen: dict[str, Brick] = {}
    for brick in found:
        if (other := seen.setdefault(brick.name, brick)) is not brick:
            raise ConfigError(
                f"simulate: bricks at RA {other.ra:.4f} and {brick.ra:.4f}, Dec {brick.dec:.4f}"
                f" would both be called {brick.name}; move simulate.first_field_deg"
            )
    return found


def _brick(config: SimulateConfig, field: int, column: int, row: int) -> Brick:
    """One brick. Rows have constant declination; columns widen with 1 / cos(dec)."""
    step, half = config.brick_step_deg, config.own_width_deg / 2
    across = fields_across(config.n_fields)
    dec0 = config.first_field_deg[1] + (field // across) * config.field_spacing_deg
    ra0 = config.first_field_deg[0] + (field % across) * config.field_spacing_deg / _cos(dec0)
    dec = dec0 + (row + 0.5) * step + _EDGE_DEG
    ra = ra0 + (column + 0.5) * step / _cos(dec) + _EDGE_DEG
    nx, ny = config.bricks_per_field
    return Brick(
        name=brick_name(ra, dec),
        brickid=1 + (field * ny + row) * nx + column,
        field=field,
        column=column,
        row=row,
        ra=ra,
        dec=dec,
        ra1=ra - half / _cos(dec),
        ra2=ra + half / _cos(dec),
        dec1=dec - half,
        dec2=dec + half,
    )


def brick_name(ra: float, dec: float) -> str:
    """The survey's name of the brick centred here, degrees.

    Examples:
        >>> brick_name(59.123, -30.5), brick_name(0.05, 0.05)
        ('0591m305', '0000p000')
    """
    return f"{int(10 * ra):04d}{'m' if dec < 0 else 'p'}{int(10 * abs(dec)):03d}"


def neighbours(brick: Brick, sky: list[Brick], config: SimulateConfig) -> list[Brick]:
    """The bricks whose galaxies may show in this brick's image, itself among them."""
    reach_deg = (brick_reach_deg(config) + 5e-3, config.own_width_deg / 2)  # 18 arcsec for haloes
    limit = sum(reach_deg)
    return [
        other
        for other in sky
        if other.field == brick.field
        and abs(other.dec - brick.dec) < limit
        and abs(other.ra - brick.ra) * _cos(brick.dec) < limit
    ]


def brick_reach_deg(config: SimulateConfig) -> float:
    """Half the width of a brick's image, degrees."""
    return config.brick_size_px * PIXEL_SCALE_ARCSEC / 3600 / 2


def pixel_from_sky(
    ra: ArrayLike, dec: ArrayLike, brick: Brick, size_px: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel position in the brick's image, shape of `ra`: pixel [0, 0]'s centre is (0, 0).

    The gnomonic projection about the brick's centre, +x to the west, +y to the north
    (Calabretta & Greisen 2002, A&A 395, 1077).
    """
    delta, dec = (
        np.radians(np.asarray(ra, np.float64) - brick.ra),
        np.radians(np.asarray(dec, np.float64)),
    )
    dec0 = math.radians(brick.dec)
    depth = math.sin(dec0) * np.sin(dec) + math.cos(dec0) * np.cos(dec) * np.cos(delta)
    east = np.cos(dec) * np.sin(delta) / depth
    north = (math.cos(dec0) * np.sin(dec) - math.sin(dec0) * np.cos(dec) * np.cos(delta)) / depth
    px = np.degrees(1.0) * 3600 / PIXEL_SCALE_ARCSEC
    centre = (size_px - 1) / 2
    return np.asarray(centre - east * px), np.asarray(centre + north * px)


def sky_from_pixel(
    x: ArrayLike, y: ArrayLike, brick: Brick, size_px: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascension and declination, degrees, of a pixel position; inverse of the above."""
    px, centre = np.degrees(1.0) * 3600 / PIXEL_SCALE_ARCSEC, (size_px - 1) / 2
    east, north = (
        (centre - np.asarray(x, np.float64)) / px,
        (np.asarray(y, np.float64) - centre) / px,
    )
    dec0 = math.radians(brick.dec)
    along = math.cos(dec0) - north * math.sin(dec0)
    delta = np.arctan2(east, along)
    dec = np.arctan2(math.sin(dec0) + north * math.cos(dec0), np.hypot(east, along))
    return brick.ra + np.degrees(delta), np.asarray(np.degrees(dec))


def _cos(dec_deg: float) -> float:
    return math.cos(math.radians(dec_deg))
