"""Injections made while a network trains: never the same twice, never stored.

The manifest says which galaxy plays which kind. What is injected is drawn again whenever a row is
taken again, by the same functions and from the same priors, with another copy number.
"""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import manifesting
from darkhaloscope.ml.injection import Camera, Pieces, add_light, described
from darkhaloscope.ml.painters import host_numbers
from darkhaloscope.ml.pixel_table import Ids, PixelTable, Raw, View
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.ml.transforms import Augmentation

ROWS_AT_ONCE = 4096  # at most; a batch is painted whole where the memory holds it


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
        psfs: PixelTable | None = None,
        sources: SourceBank | None = None,
    ) -> None:
        """Keep what is drawn from.

        Args:
            splits: Rows of `splits` of the galaxies.
            cutouts: Their cutouts, by `target_id`.
            drawing: Settings of the manifest.
            painting: Settings of the stamps.
            margin_px: Pixels by which a stamp may be moved along each axis.
            device: Where stamps are painted.
            psfs: PSF images of the cutouts, in their order; where `painting` asks for them.
            sources: Pictures of galaxies, where `drawing` asks for any.

        Raises:
            DataError: the cutouts are too narrow for stamps that are moved so far.
        """
        self._edge_px = (cutouts.layout.size - painting.size_px) // 2
        if margin_px > self._edge_px:
            raise DataError(
                f"cutouts of {cutouts.layout.size} px do not hold stamps of {painting.size_px} px "
                f"that are moved by up to {margin_px}; make cutouts.size_px larger"
            )
        self._sources = sources
        self._bank = None if sources is None else sources.bank(device.name)
        self._cutouts, self._drawing, self._device = cutouts, drawing, device
        self._psfs = psfs
        self._painting_seed = painting.seed
        self._hosts = manifesting.hosts_of(splits, cutouts.heads, drawing.bands)
        self._camera = Camera(
            bands=painting.bands,
            pixel_scale_arcsec=painting.pixel_scale_arcsec,
            size_px=painting.size_px,
            psf_profile=painting.psf_profile,
            psf_beta=painting.psf_beta,
            electrons_per_nmgy_per_exposure=painting.electrons_per_nmgy_per_exposure,
        )
        self._numbers = host_numbers(cutouts.heads, painting.bands)
        self._pieces = Pieces(ROWS_AT_ONCE)

    def redraw(self, rows: pa.Table, before: Ids) -> pa.Table:
        """Other injections on the same galaxies and of the same kinds.

        A galaxy as observed, mined or known for a look-alike, has nothing to draw: its row stays.

        Args:
            rows: Rows of the manifest.
            before: How often each was taken before, shape (n,); 0 gives the row itself.
        """
        drawn, places = [], []
        times = np.where(_as_observed(rows), 0, before)
        for epoch in np.unique(times).tolist():
            place = np.flatnonzero(times == epoch)
            part = rows.take(pa.array(place))
            if epoch:
                part = manifesting.redraw(
                    part, self._hosts, config=self._drawing, epoch=epoch, sources=self._sources
                )
            drawn.append(part)
            places.append(place)
        if not drawn:
            return rows
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(drawn).take(pa.array(order))

    def make(self, rows: pa.Table, how: Augmentation | None = None) -> Raw:
        """Paint rows onto their galaxies.

        A stamp that is moved is painted where it ends: only what is seen is rendered. On a GPU
        nothing is copied to the host; a pixel that is not finite is found with the loss.

        Args:
            rows: Rows of the manifest.
            how: By how much each stamp's view moves, as its shifts say; None: not at all. The
                stamps are not turned.
        """
        at = self._cutouts.positions(rows["target_id"].to_numpy())
        edge = np.full((rows.num_rows, 2), self._edge_px)
        if how is not None:
            edge += np.stack([how.shift_x, how.shift_y], 1)
        parts = self._pieces.each(
            rows.num_rows,
            lambda part: self._painted(
                rows.slice(part.start, part.stop - part.start), at[part], edge[part]
            ),
        )
        return parts[0] if len(parts) == 1 else Raw(*map(torch.cat, zip(*parts, strict=True)))

    def _painted(self, rows: pa.Table, at: Ids, edge: Ids) -> Raw:
        """Rows on the cutouts at some positions, from the pixel `edge` on."""
        work = described(
            rows,
            self._numbers[at],
            camera=self._camera,
            seed=self._painting_seed,
            edge_px=edge,
            bank=self._bank,
        ).to(self._device.name)
        if self._psfs is not None:
            work = work.with_psfs(self._psfs.raw(at).pixels)
        raw = self._cutouts.raw(at, View(self._camera.size_px, edge))
        for _ in add_light(work, raw.pixels):
            pass  # what was added is not asked for
        return raw


def _as_observed(rows: pa.Table) -> NDArray[np.bool_]:
    """Which rows are galaxies with nothing painted on them, (n,)."""
    is_known = pc.equal(rows["family"], "look_alike")
    return np.asarray(pc.or_(is_known, pc.equal(rows["kind"], schemas.MINED)).to_numpy(), np.bool_)
