"""Stamps to be judged before training: a sample of the training rows, painted as training does.

Only what is drawn from training rows is painted; rows of other splits are not looked at. The light
is kept beside the stamp, so that what is left when it is taken off again can be judged too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import PixelSource
from darkhaloscope.core.errors import DataError
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.ml import roles
from darkhaloscope.ml.injection import add_light, described
from darkhaloscope.ml.painters import Camera, host_numbers

JUDGED = ("lens", "companion", "control")  # told apart from each other, row by row
GALAXIES_AT_ONCE = 2048  # whose cutouts are in memory: 160 MB of 80 px in three bands
Ids = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Painted:
    """Some rows of the sample with their pixels.

    Attributes:
        place: Which rows of the sample these are, (n,).
        rows: The rows.
        hosts: The cutout of each without its pixels.
        before: The cutout's own pixels, cut to the stamp, nmgy, (n, band, y, x).
        stamps: With injected light and its photon noise, nmgy, (n, band, y, x).
        light: That light without noise; 0 where nothing is injected, nmgy, (n, band, y, x).
        arc_snr: Integrated S/N of the light, NaN where there is none, (n, band).
        src_flux: Flux of the unlensed source or shape as painted, nmgy, NaN likewise, (n, band).
    """

    place: NDArray[np.intp]
    rows: pa.Table
    hosts: pa.Table
    before: NDArray[np.float32]
    stamps: NDArray[np.float32]
    light: NDArray[np.float32]
    arc_snr: NDArray[np.float32]
    src_flux: NDArray[np.float32]


def sample(manifest: pa.Table, *, per_kind: int, per_other: int, seed: int) -> pa.Table:
    """Training rows to be judged, by named draws, ordered by galaxy.

    First copies come before second ones, so that as many galaxies as possible are in it. Kinds that
    are made of the same galaxies are sampled on the same galaxies.

    Args:
        manifest: All rows.
        per_kind: Rows of each of `JUDGED`, at most.
        per_other: Rows of each other kind with a label, at most.
        seed: Of the draws.
    """
    of_train = pc.and_(pc.equal(manifest["split"], "train"), pc.is_valid(manifest["label"]))
    rows = manifest.filter(of_train)
    galaxy, copy = (rows[name].to_numpy() for name in ("target_id", "copy"))
    draw = keys.uniform(keys.stamp_id(galaxy, "gates", copy), seed=seed, stream="gates sample")
    kind = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    order = np.lexsort((draw, copy))
    most = {name: per_kind if name in JUDGED else per_other for name in schemas.KINDS}
    taken = [order[kind[order] == name][:n] for name, n in most.items()]
    chosen = np.concatenate(taken)
    chosen = chosen[np.lexsort((kind[chosen], copy[chosen], galaxy[chosen]))]
    return rows.take(pa.array(chosen))


def painted(
    rows: pa.Table,
    cutouts: pa.Table,
    pixels: PixelSource,
    *,
    camera: Camera,
    seed: int,
    device: str = "cpu",
    bank: Bank | None = None,
) -> Iterator[Painted]:
    """Paint rows, a batch at a time.

    Args:
        rows: Of `sample`.
        cutouts: All cutouts without their pixels.
        pixels: Where the pixels are.
        camera: How light becomes pixels.
        seed: Of the photon noise.
        device: Where to paint.
        bank: Pictures of sources, on that device.

    Raises:
        DataError: a row's galaxy has no cutout.
    """
    at = pc.index_in(rows["target_id"], value_set=cutouts["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} manifest rows have no cutout; rerun stage manifest")
    hosts = cutouts.take(at)
    galaxies, first = np.unique(rows["target_id"].to_numpy(), return_index=True)
    edges = [*first[::GALAXIES_AT_ONCE].tolist(), rows.num_rows]
    for block, (start, stop) in enumerate(pairwise(edges)):
        ids = galaxies[block * GALAXIES_AT_ONCE : (block + 1) * GALAXIES_AT_ONCE]
        held = pixels.cutouts(ids)
        images = pixels.psf_images(ids) if camera.psf_profile == "image" else None
        for low in range(start, stop, camera.batch_rows):
            part = slice(low, min(low + camera.batch_rows, stop))
            some = hosts.slice(part.start, part.stop - part.start)
            own = np.searchsorted(ids, some["target_id"].to_numpy())
            yield _batch(
                rows.slice(part.start, part.stop - part.start), some, held[own],
                None if images is None else images[own],
                np.arange(part.start, part.stop), camera, seed, device, bank,
            )  # fmt: skip


def _batch(
    rows: pa.Table, hosts: pa.Table, held: NDArray[np.float32], images: NDArray[np.float32] | None,
    place: NDArray[np.intp], camera: Camera, seed: int, device: str, bank: Bank | None,
) -> Painted:  # fmt: skip
    edge = (held.shape[-1] - camera.size_px) // 2
    inner = held[..., edge : edge + camera.size_px, edge : edge + camera.size_px].copy()
    numbers = host_numbers(hosts, camera.bands)
    work = described(rows, numbers, camera=camera, seed=seed, edge_px=edge, bank=bank).to(device)
    if images is not None:
        work = work.with_psfs(torch.from_numpy(images).to(device))
    stamps = torch.from_numpy(inner.copy()).to(device)
    light = torch.zeros_like(stamps)
    snr = stamps.new_full(stamps.shape[:2], torch.nan)
    flux = snr.clone()
    for ground, added in add_light(work, stamps):
        light[ground.rows] = added.pixels
        found = arc_snr(added.pixels, ground.batch.per_band("sky_sigma"), ground.variance())
        snr[ground.rows], flux[ground.rows] = found.snr, added.flux
    return Painted(
        place, rows, hosts, inner,
        *(values.cpu().numpy() for values in (stamps, light, snr, flux)),
    )  # fmt: skip


def matched(
    rows: pa.Table, hosts: pa.Table, other: str
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lenses and rows of another kind on equal hosts: places in `rows`, two arrays.

    Where both kinds are on the same galaxies, those galaxies and copies that have both; else each
    lens's host takes the galaxy of the other kind that is closest in magnitude, colour and seeing.

    Args:
        rows: Of `sample`.
        hosts: One row for each of `rows`: `mag_z`, `mag_r`, `psf_fwhm_r_arcsec`, `target_id`.
        other: The other kind.

    Returns:
        Places of the lenses and of the rows that go with them, (n,) each.
    """
    kind = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    lens, rest = np.flatnonzero(kind == "lens"), np.flatnonzero(kind == other)
    galaxy, copy = (rows[name].to_numpy() for name in ("target_id", "copy"))
    name = keys.stamp_id(galaxy, "pair", copy)
    both = np.intersect1d(name[lens], name[rest])
    if 2 * len(both) >= min(len(lens), len(rest)):
        return lens[np.isin(name[lens], both)], rest[np.isin(name[rest], both)]
    partner = roles.partners(hosts, rest, lens)
    chosen = rest[partner[rest] >= 0]
    return partner[chosen], chosen


def as_on_the_sky(rows: pa.Table, train: pa.Table) -> NDArray[np.intp]:
    """Places of negatives mixed as on the sky: of each kind as many as its weight asks for.

    Args:
        rows: Of `sample`.
        train: The rows that were sampled, whose mix the weights are for.
    """
    kind = np.asarray(rows["kind"].to_pylist(), dtype=np.str_)
    weight = np.nan_to_num(
        np.asarray(rows["sky_weight"].to_numpy(zero_copy_only=False), np.float64)
    )
    for name in np.unique(kind).tolist():
        made = pc.sum(pc.equal(train["kind"], name)).as_py()
        weight[kind == name] *= made / (kind == name).sum()
    weight[kind == "lens"] = 0.0
    draw = keys.uniform(rows["stamp_id"].to_numpy(), seed=0, stream="gates sky mix")
    return np.flatnonzero(draw < weight / max(float(weight.max(initial=0.0)), 1e-300))
