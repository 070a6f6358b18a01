"""What the audit shows a network: injected lenses with more, less and no light, and faint rings.

Rows of the manifest are changed, and painted by the code that paints every stamp. The photon noise
of a stamp belongs to its id, so that two paintings of a lens differ by its light alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import keys
from darkhaloscope.core.contracts import PixelSource
from darkhaloscope.lensing import parts
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.ml import gating, inputs
from darkhaloscope.ml.painters import Camera

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
# Of pixels (n, band, y, x), sky (n, band) and, where it is told any, numbers (n, k): logits (n,)
Score = Callable[..., Tensor]

NO_FLUX = 1e-6  # of an arc's flux: far below a pixel's noise, and still painted
RING_KIND = "halo_ring"
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
ROWS_AT_ONCE = 256  # that go through the network together
_THETA_E = (
    "theta_e_arcsec",
    "theta_e_over_fwhm_r",
    "theta_e_over_psfsize_r",
    "src_x_arcsec",
    "src_y_arcsec",
)


class Range(Protocol):
    """Both ends of a range; `core.settings.base.Span` is one."""

    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Studio:
    """Where and how stamps are painted and scored.

    Attributes:
        cutouts: All cutouts without their pixels.
        pixels: Where the pixels are.
        camera: How light becomes pixels.
        seed: Of the photon noise.
        score: The network, or what stands for it.
        device: Where to paint and score.
        bank: Pictures of sources, on that device; None: no row names one.
        inputs: Columns of `cutouts` that the network is told beside the pixels.
    """

    cutouts: pa.Table
    pixels: PixelSource
    camera: Camera
    seed: int
    score: Score
    device: str = "cpu"
    bank: Bank | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """Stamps that were painted and scored.

    Attributes:
        logit: (n,).
        arc_snr: Integrated S/N of the light that was added, NaN where none was, (n, band).
    """

    logit: Floats
    arc_snr: Floats


def one_a_galaxy(rows: pa.Table, most: int, *, seed: int, stream: str) -> pa.Table:
    """One row of each galaxy, of so many galaxies at most, by named draws; in the order of both.

    Args:
        rows: With `target_id` and `stamp_id`.
        most: Galaxies.
        seed: Of the draws.
        stream: What they are for.
    """
    galaxy, stamp = (rows[name].to_numpy() for name in ("target_id", "stamp_id"))
    order = np.lexsort((stamp, keys.uniform(stamp, seed=seed, stream=stream), galaxy))
    first = order[np.unique(galaxy[order], return_index=True)[1]]
    draw = keys.uniform(galaxy[first], seed=seed, stream=f"{stream} galaxies")
    chosen = np.sort(first[np.argsort(draw, kind="stable")[:most]])
    return rows.take(pa.array(chosen))


def at_flux(rows: pa.Table, factor: float, bands: Sequence[str]) -> pa.Table:
    """Injections with their light times a factor > 0, whether or not it is scaled to a S/N."""
    for band in bands:
        rows = _with(rows, f"src_mag_{band}", lambda mag: mag - 2.5 * np.log10(factor))
    return _with(rows, "arc_snr_target", lambda snr: snr * factor)


def at_theta_e(rows: pa.Table, factor: float) -> pa.Table:
    """Lenses with theta_E times a factor > 0; their source stands where it makes the same images.

    Its distance from the axis grows with theta_E, and with it each image's; its own size does not.
    """
    for name in _THETA_E:
        rows = _with(rows, name, lambda value: value * factor)
    return rows


def rings(
    hosts: pa.Table,
    mags: Mapping[str, Floats],
    fwhm_r_arcsec: Floats,
    *,
    width_over_fwhm: Range,
    asked: Any,
    seed: int,
) -> pa.Table:
    """Round Gaussian rings of faint light about plain galaxies, as rows of the manifest.

    Args:
        hosts: Rows of kind control.
        mags: Colours of each ring, as AB magnitudes of any zero point, by band, (n,) each.
        fwhm_r_arcsec: Of the hosts' PSF in r, (n,).
        width_over_fwhm: Range of the rings' own FWHM over it.
        asked: Ranges `radius_arcsec`, and `arc_snr_g` to which the light is scaled.
        seed: Of the draws.
    """
    n = hosts.num_rows
    draw = partial(keys.uniform, hosts["stamp_id"].to_numpy(), seed=seed)

    def drawn(span: Range, stream: str) -> Floats:
        return span.low + (span.high - span.low) * draw(stream=f"audit ring {stream}")

    radius = drawn(asked.radius_arcsec, "radius")
    sigma = drawn(width_over_fwhm, "width") * fwhm_r_arcsec / FWHM_PER_SIGMA
    shape = parts.part(parts.Form.RING, n, radius, sigma, 1.0)
    flat = pa.array(list(shape), pa.list_(pa.float32()))
    copy = np.zeros(n, np.int64)
    columns = {
        "stamp_id": keys.stamp_id(hosts["stamp_id"].to_numpy(), "audit ring", copy),
        "kind": pa.repeat(RING_KIND, n),
        "family": pa.repeat("counterfactual", n),
        "shape_variant": pa.repeat("audit", n),
        "shape_radius_arcsec": radius,
        "shape_width_arcsec": sigma,
        "shape_parts": flat,
        "src_q": np.ones(n),
        "arc_snr_target": drawn(asked.arc_snr_g, "snr"),
        **{f"src_mag_{band}": mag for band, mag in mags.items()},
        **{f"layer_share_{band}": np.zeros(n) for band in mags},
    }
    for name, values in columns.items():
        at = hosts.schema.get_field_index(name)
        field = hosts.schema.field(at)
        made = values if isinstance(values, pa.Array) else pa.array(values)
        hosts = hosts.set_column(at, field, made.cast(field.type))
    return hosts


def drawn_places(rows: pa.Table, n: int, *, seed: int) -> NDArray[np.intp]:
    """For each row one of n places, by named draws, (k,)."""
    draw = keys.uniform(rows["stamp_id"].to_numpy(), seed=seed, stream="audit place")
    return np.minimum((draw * n).astype(np.intp), n - 1)


def scored(rows: pa.Table, studio: Studio) -> Scored:
    """Paint rows of any kinds, in any order, and score them.

    Args:
        rows: Of the manifest; a galaxy's pixels are read once, however many rows it has.
        studio: Where and how.

    Raises:
        DataError: a row's galaxy has no cutout, or a logit is not finite.
    """
    n, bands = rows.num_rows, studio.camera.bands
    order = np.argsort(rows["target_id"].to_numpy(), kind="stable")
    logit, snr = np.full(n, np.nan), np.full((n, len(bands)), np.nan)
    batches = gating.painted(
        rows.take(pa.array(order)),
        studio.cutouts,
        studio.pixels,
        camera=studio.camera,
        seed=studio.seed,
        device=studio.device,
        bank=studio.bank,
    )
    for some in batches:
        at = order[some.place]
        told = inputs.of_table(some.hosts, studio.inputs, of="target_id")
        sky = _sky(some.hosts, bands)
        logit[at] = score(some.stamps, sky, studio.score, studio.device, told)
        snr[at] = some.arc_snr
    return Scored(logit, snr)


def score(
    stamps: NDArray[np.float32],
    sky: NDArray[np.float32],
    network: Score,
    device: str,
    told: inputs.Values | None = None,
) -> Floats:
    """What a network says of stamps in memory: logits (n,), or features (n, feature).

    Args:
        stamps: Nanomaggies, (n, band, y, x).
        sky: Level of the sky, (n, band).
        network: The network.
        device: Where it is.
        told: What it is told beside the pixels, (n, k); None: nothing.
    """
    arrays = (stamps, sky) if told is None else (stamps, sky, told)
    found = []
    for start in range(0, max(len(stamps), 1), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        seen = (torch.from_numpy(a[part].astype("f4")).to(device) for a in arrays)
        found.append(network(*seen).cpu().numpy().astype(np.float64))
    return np.concatenate(found)


def heads_of(rows: pa.Table, cutouts: pa.Table) -> pa.Table:
    """The cutout, without its pixels, of each row's galaxy."""
    at = pc.index_in(rows["target_id"], value_set=cutouts["target_id"].combine_chunks())
    return cutouts.take(at)


def _sky(hosts: pa.Table, bands: Sequence[str]) -> NDArray[np.float32]:
    columns = [hosts[f"sky_median_{band}_nmgy"].to_numpy() for band in bands]
    return np.stack(columns, 1).astype(np.float32)


def _with(rows: pa.Table, name: str, change: Callable[[Floats], Floats]) -> pa.Table:
    """Rows with a column changed where it is not null."""
    at = rows.schema.get_field_index(name)
    field, absent = rows.schema.field(at), rows[name].is_null().to_numpy()
    values = np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)
    made = pa.array(change(values), pa.float64(), mask=absent)
    return rows.set_column(at, field, made.cast(field.type))
