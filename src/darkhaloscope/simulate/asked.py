"""What the draws of galaxies ask of settings and bricks, by attribute.

Their meaning is in `core.settings.simulate` and `simulate.sky`. Who draws galaxies without a sky of
bricks, on a machine without pydantic, hands something else with these attributes.
"""

from typing import Any, Protocol

from darkhaloscope.lensing.asked import Range


class Brick(Protocol):
    """The piece of sky that galaxies are drawn in."""

    @property
    def brickid(self) -> int: ...  # noqa: D102
    @property
    def ra1(self) -> float: ...  # noqa: D102
    @property
    def ra2(self) -> float: ...  # noqa: D102
    @property
    def dec1(self) -> float: ...  # noqa: D102
    @property
    def dec2(self) -> float: ...  # noqa: D102
    @property
    def area_deg2(self) -> float: ...  # noqa: D102


class Population(Protocol):
    """Numbers and shares of `core.settings.simulate.SimulateConfig`."""

    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def lrg_per_deg2(self) -> float: ...  # noqa: D102
    @property
    def rates(self) -> Any: ...  # noqa: D102
    @property
    def satellites_per_target(self) -> float: ...  # noqa: D102
    @property
    def galaxies_per_deg2(self) -> float: ...  # noqa: D102
    @property
    def galaxy_mag_r(self) -> Range: ...  # noqa: D102
    @property
    def stars_per_deg2(self) -> float: ...  # noqa: D102
    @property
    def star_mag_r(self) -> Range: ...  # noqa: D102
