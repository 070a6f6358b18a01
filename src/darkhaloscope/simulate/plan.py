"""What has to be decided for the whole sky at once: the floors, and which bricks lack a band.

Everything else is decided inside a brick. The plan is small, the same for every worker, and made
of the settings alone.
"""

from dataclasses import dataclass

import numpy as np

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.simulate import galaxies, lenses
from darkhaloscope.simulate.draws import Draws, Rows
from darkhaloscope.simulate.sky import Brick, bricks


@dataclass(frozen=True, slots=True)
class Plan:
    """Choices that hold for the whole sky.

    Attributes:
        sky: Every brick.
        kinds: Kind of the targets that a floor changed, by id.
        floor_lenses: Targets that are lenses because of the floor.
        without_band: Names of the bricks that lack a band.
    """

    sky: tuple[Brick, ...]
    kinds: dict[int, str]
    floor_lenses: frozenset[int]
    without_band: frozenset[str]

    def lens_rows(self, targets: Rows, config: SimulateConfig) -> Rows:
        """The targets of a table that are lenses, with everything about them."""
        is_floor = np.isin(targets["id"], list(self.floor_lenses))
        is_lens = is_floor | lenses.natural(targets, config)
        return lenses.draw(targets[is_lens], is_floor[is_lens], config)


def make(config: SimulateConfig) -> Plan:
    """Decide what concerns the whole sky.

    Raises:
        ConfigError: the sky has too few early types for the floors.
    """
    sky = bricks(config)
    order = np.argsort(
        Draws(np.array([b.brickid for b in sky]), config.seed).uniform("without band")
    )
    without = frozenset(sky[i].name for i in order[: config.bricks_without_band])
    table = np.concatenate([galaxies.targets(brick, config, {}) for brick in sky])
    kinds = _floor_kinds(table, config)
    owned = ~np.isin(table["id"], list(kinds))
    floor = _floor_lenses(table[owned], config)
    return Plan(tuple(sky), kinds, floor, without)


def _floor_kinds(table: Rows, config: SimulateConfig) -> dict[int, str]:
    """Early types that become another kind, so that each kind reaches its least number."""
    chosen: dict[int, str] = {}
    spare = _shuffled(table[table["kind"] == "early"], config, "floor kind")
    for kind in ("spiral", "edge_on", "ring", "merger"):
        missing = getattr(config.floors, kind) - int((table["kind"] == kind).sum())
        if missing > len(spare) - len(chosen):
            raise ConfigError(
                f"simulate.floors.{kind} asks for {missing} more of {len(table)} targets than early"
                " types are left; lower the floors or draw more bricks"
            )
        for row in spare[len(chosen) : len(chosen) + max(missing, 0)]:
            chosen[int(row["id"])] = kind
    return chosen


def _floor_lenses(table: Rows, config: SimulateConfig) -> frozenset[int]:
    """Lenses to add up to the floor, by weight, none twice (Efraimidis & Spirakis 2006)."""
    drawn = table[lenses.natural(table, config)]
    found = lenses.draw(drawn, np.zeros(len(drawn), bool), config)
    counts = (found["theta_e"] >= config.floors.lens_min_theta_e_arcsec) & (
        found["src_mag"][:, 1] <= config.floors.lens_max_src_mag_r
    )
    missing = config.floors.lens - int(counts.sum())
    if missing <= 0:
        return frozenset()
    rest = table[~np.isin(table["id"], drawn["id"])]
    weight = lenses.floor_weight(rest, config)
    if missing > (weight > 0).sum():
        raise ConfigError(
            f"simulate.floors.lens asks for {missing} more lenses, but only {(weight > 0).sum()}"
            f" early types reach theta_E {config.floors.lens_min_theta_e_arcsec:g} arcsec;"
            " lower the floor or draw more bricks"
        )
    draws = Draws(rest["id"], config.seed)
    rank = np.full(len(rest), -np.inf)
    np.divide(np.log(draws.uniform("floor lens") + 2.0**-54), weight, out=rank, where=weight > 0)
    return frozenset(int(i) for i in rest["id"][np.argsort(-rank, kind="stable")[:missing]])


def _shuffled(table: Rows, config: SimulateConfig, stream: str) -> Rows:
    return table[np.argsort(Draws(table["id"], config.seed).uniform(stream), kind="stable")]
