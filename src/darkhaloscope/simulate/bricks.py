"""One brick, from its draws to its files: the unit of parallel work.

A brick's last file is its record; a brick without one is made again, whole.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.simulate import truth
from darkhaloscope.simulate.catalogue import catalogue
from darkhaloscope.simulate.draws import generator
from darkhaloscope.simulate.fitsfiles import write_bytes, write_image, write_table
from darkhaloscope.simulate.noise import coadd_noise
from darkhaloscope.simulate.observing import Conditions, Coverage, conditions, coverage
from darkhaloscope.simulate.plan import Plan
from darkhaloscope.simulate.scene import Drawn, draw, scene
from darkhaloscope.simulate.sky import Brick
from darkhaloscope.survey import layout

PARTS = "truth/parts"


@dataclass(frozen=True, slots=True)
class Task:
    """Makes bricks of one sky in one folder; small enough to send to a worker.

    Attributes:
        config: The sky's settings.
        plan: What was decided for the whole sky.
        folder: The survey's root.
    """

    config: SimulateConfig
    plan: Plan
    folder: Path

    def record(self, brick: Brick) -> Path:
        """The file that says that a brick is whole."""
        return self.folder / PARTS / f"bricks-{brick.name}.parquet"

    def __call__(self, brick: Brick) -> str:
        """Make one brick; returns its name."""
        import torch

        torch.set_num_threads(1)
        config = self.config
        without = config.band_without if brick.name in self.plan.without_band else None
        seen = conditions(brick, config)
        show = scene(brick, self.plan, config)
        drawn = draw(show, seen, config)
        maps = coverage(brick, seen, drawn.starlight, drawn.haloes, config)
        self._write_images(brick, seen, drawn, maps, without)
        rows, galaxy_ids = catalogue(brick, show, drawn, seen, maps, config, without)
        write_table(rows, self.folder / layout.tractor_path(brick.name))
        listed = galaxy_ids, rows["objid"].astype(np.int64)
        tables = truth.brick_tables(brick, show, drawn, seen, listed, self.plan, config, without)
        for name in truth.TABLES:  # that of the bricks comes last: it is the record
            path = self.folder / PARTS / f"{name}-{brick.name}.parquet"
            write_bytes(truth.encode(tables[name]), path)
        return brick.name

    def _write_images(
        self, brick: Brick, seen: Conditions, drawn: Drawn, maps: Coverage, without: str | None
    ) -> None:
        size = self.config.brick_size_px
        for at, band in enumerate(seen.bands):
            if band == without:
                continue
            invvar, nexp = maps.invvar[band], maps.nexp[band]
            random = generator(brick.brickid, seed=self.config.seed, stream=f"noise {band}")
            electrons = (seen.gain * nexp).astype(np.float32)
            noise = coadd_noise(random, invvar, drawn.light[at], electrons)
            image = np.where(invvar > 0, drawn.light[at] + drawn.bowl[at] + noise, np.float32(0))
            width = np.where(nexp > 0, seen.psfsize[at], 0.0).astype(np.float32).reshape(size, size)
            files = {"image": image, "invvar": invvar, "psfsize": width, "nexp": nexp}
            for kind, pixels in files.items():
                path = self.folder / layout.coadd_path(brick.name, kind, band)
                write_image(pixels, path, brick=brick, kind=kind, band=band)
        path = self.folder / layout.coadd_path(brick.name, "maskbits")
        write_image(maps.maskbits, path, brick=brick, kind="maskbits", band=None)
