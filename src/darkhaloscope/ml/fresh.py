"""Injections made while a network trains: never the same twice, never stored.

The manifest says which galaxy plays which kind. What is injected is drawn again whenever a row is
taken again, by the same functions and from the same priors, with another copy number.
"""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import manifesting
from darkhaloscope.ml.injection import Camera, paint_rows
from darkhaloscope.ml.pixel_table import Ids, PixelTable, Raw


class Painting(Protocol):
    """What is asked of `core.settings.stamps.StampsConfig`."""

    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def pixel_scale_arcsec(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def size_px(self) -> int: ...  # noqa: D102
    @property
    def psf_profile(self) -> Any: ...  # noqa: D102
    @property
    def psf_beta(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def electrons_per_nmgy_per_exposure(self) -> tuple[float, ...]: ...  # noqa: D102


class Injections:
    """Draws and paints rows of the manifest on galaxies whose pixels are at hand."""

    def __init__(
        self,
        splits: pa.Table,
        cutouts: PixelTable,
        drawing: manifesting.Settings,
        painting: Painting,
        *,
        margin_px: int,
        device: Device,
    ) -> None:
        """Keep what is drawn from.

        Args:
            splits: Rows of `splits` of the galaxies.
            cutouts: Their cutouts, by `target_id`.
            drawing: Settings of the manifest.
            painting: Settings of the stamps.
            margin_px: Pixels by which a stamp is made wider on each side, so that it can be moved.
            device: Where stamps are painted.
        """
        self._cutouts, self._drawing, self._device = cutouts, drawing, device
        self._painting_seed = painting.seed
        self._hosts = manifesting.hosts_of(splits, cutouts.heads, drawing.bands)
        self._camera = Camera(
            bands=painting.bands,
            pixel_scale_arcsec=painting.pixel_scale_arcsec,
            size_px=painting.size_px + 2 * margin_px,
            psf_profile=painting.psf_profile,
            psf_beta=painting.psf_beta,
            electrons_per_nmgy_per_exposure=painting.electrons_per_nmgy_per_exposure,
        )

    def redraw(self, rows: pa.Table, before: Ids) -> pa.Table:
        """Other injections on the same galaxies and of the same kinds.

        Args:
            rows: Rows of the manifest.
            before: How often each was taken before, shape (n,); 0 gives the row itself.
        """
        drawn, places = [], []
        for epoch in np.unique(before).tolist():
            place = np.flatnonzero(before == epoch)
            part = rows.take(pa.array(place))
            drawn.append(manifesting.redraw(part, self._hosts, config=self._drawing, epoch=epoch))
            places.append(place)
        if not drawn:
            return rows
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(drawn).take(pa.array(order))

    def make(self, rows: pa.Table) -> Raw:
        """Paint rows onto their galaxies; stamps wider by the margin on each side."""
        positions = self._cutouts.positions(rows["target_id"].to_numpy())
        raw = self._cutouts.raw(positions)
        painted = paint_rows(
            rows,
            self._cutouts.heads.take(pa.array(positions)),
            raw.pixels,
            camera=self._camera,
            seed=self._painting_seed,
            device=self._device.name,
            measure=False,
        )
        return Raw(painted.pixels, raw.sky_median)
