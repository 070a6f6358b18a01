"""The bank of sources: which picture a row of the manifest gets, and the pictures on a device.

The bank is one Parquet file (`schemas.sources`). Its rows belong to one split each. A row of the
manifest draws its kind of source by the stated shares; then

- a `clumpy` galaxy among the few of its split that are nearest in redshift, whose colour gradient
  is that of this redshift. Red sources have no young stars: they are Sersic profiles;
- a `catalogue` galaxy among the few nearest in size and magnitude: a factor of 10^0.1 in half-light
  radius counts like half a magnitude. Those that would have to be scaled by more than the stated
  factor are left out; where none is left, the source is a Sersic profile.

Either is turned by any angle and mirrored or not. Which source it is depends on the row's id and on
what was drawn of it, never on other rows.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import KDTree

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.data import store
from darkhaloscope.lensing import priors
from darkhaloscope.lensing.asked import Sources

if TYPE_CHECKING:  # torch waits until pixels are asked for
    from darkhaloscope.lensing.bank import Bank

Values = NDArray[np.float64]
Ids = NDArray[np.int64]

PIXEL_COLUMNS = ("pixels", "pixels_2")
R_MINUS_F814W = 0.3  # of a faint blue galaxy, where its r magnitude is not known
_DEX, _MAG = 0.1, 0.5  # what counts alike in the distance of two real galaxies
_READ_ROWS = 256


class BankSettings(Protocol):
    """What is asked of `core.settings.sources.PictureBank`."""

    @property
    def nearest(self) -> int: ...  # noqa: D102
    @property
    def max_scale(self) -> float: ...  # noqa: D102
    @property
    def colours(self) -> str: ...  # noqa: D102


class DrawnSources(Sources, Protocol):
    """What is asked of `core.settings.manifest.Sources`."""

    @property
    def kinds(self) -> Mapping[Any, float]: ...  # noqa: D102
    @property
    def bank(self) -> BankSettings | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SourceBank:
    """A bank on disk; it is read when it is asked for, once in a process and for each device.

    Attributes:
        path: Its file, local or `s3://...`.
        digest: Names all that it was made from.
        bands: The run's bands.
    """

    path: str
    digest: str
    bands: tuple[str, ...]

    def heads(self) -> pa.Table:
        """All rows without pixels."""
        with _READING:
            return _heads(self)

    def bank(self, device: str) -> "Bank":
        """The pictures on a device."""
        with _READING:
            return _bank(self, device)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Sources of n rows.

    Attributes:
        kind: sersic, clumpy or catalogue, (n,).
        picture: Row of the bank, -1 where it is a Sersic profile, (n,).
        source_id: Of the picture, 0 where there is none, (n,).
        phi_deg: Angle by which the picture is turned, degrees, (n,).
        is_mirrored: Whether it is mirrored first, (n,).
        colour: Magnitude in a band minus that in r as catalogued, NaN where that is not asked
            for or not known, by band, (n,).
    """

    kind: NDArray[np.str_]
    picture: Ids
    source_id: Ids
    phi_deg: Values
    is_mirrored: NDArray[np.bool_]
    colour: Mapping[str, Values]


def choose(
    ids: Ids,
    light: Mapping[str, Values],
    *,
    split: str,
    bank: SourceBank | None,
    sources: DrawnSources,
    bands: Sequence[str],
    seed: int,
) -> Chosen:
    """The source of each row.

    Args:
        ids: Of the rows, (n,).
        light: `src_z`, `src_mag_r` and `src_r_eff_arcsec` as they were drawn, (n,) each.
        split: Whose pictures may be used.
        bank: Where the pictures are; None where the settings ask for none.
        sources: Settings.
        bands: The run's bands.
        seed: Of the draws.

    Raises:
        DataError: the settings ask for pictures and there is no bank.
    """
    names = [name for name, share in sources.kinds.items() if share]
    shares = np.array([sources.kinds[name] for name in names])
    kind = np.array(names)[keys.choice(ids, shares, seed=seed, stream="src_kind")].astype("U9")
    picture = np.full(len(ids), -1, np.int64)
    if sources.bank is not None and bank is None:
        raise DataError("the settings ask for pictures of galaxies, but no bank of them was handed")
    if sources.bank is not None and bank is not None:
        is_red = priors.is_red(ids, sources, seed=seed)
        u = keys.uniform(ids, seed=seed, stream="src_picture")
        for name in ("clumpy", "catalogue"):
            rows = np.flatnonzero((kind == name) & ~(is_red & (name == "clumpy")))
            drawn = {key: values[rows] for key, values in light.items()}
            picture[rows] = _pool(bank, split, name).draw(drawn, u[rows], sources.bank)
    has_picture = picture >= 0
    return Chosen(
        kind=np.where(has_picture, kind, "sersic"),
        picture=picture,
        source_id=np.where(has_picture, _of_bank(bank, "source_id", picture), 0),
        phi_deg=360 * keys.uniform(ids, seed=seed, stream="src_picture_phi"),
        is_mirrored=keys.uniform(ids, seed=seed, stream="src_is_mirrored") < 0.5,
        colour=_colours(bank, picture, sources, bands),
    )


@dataclass(frozen=True, slots=True)
class _Pool:
    """The galaxies of a kind that a split may use.

    Attributes:
        rows: Of the bank, (m,).
        log_r_eff: log10 of the half-light radius as observed, arcsec; NaN: any, (m,).
        tree: Finds the nearest of m points; None where there is no galaxy.
        is_real: Whether points are (size, magnitude); else they are redshifts.
    """

    rows: Ids
    log_r_eff: Values
    tree: KDTree | None
    is_real: bool

    def draw(self, light: Mapping[str, Values], uniform: Values, asked: BankSettings) -> Ids:
        """Rows of the bank, -1 where no galaxy suits, (n,)."""
        if self.tree is None or not len(uniform):
            return np.full(len(uniform), -1, np.int64)
        if self.is_real:
            log_r_eff = np.log10(light["src_r_eff_arcsec"])
            points = np.stack([log_r_eff / _DEX, light["src_mag_r"] / _MAG], 1)
        else:
            log_r_eff = np.zeros(len(uniform))
            points = light["src_z"][:, None]
        _, near = self.tree.query(points, k=np.arange(1, min(asked.nearest, len(self.rows)) + 1))
        stretch = np.abs(np.nan_to_num(self.log_r_eff[near] - log_r_eff[:, None]))
        suits = stretch <= np.log10(asked.max_scale)
        nth = np.floor(uniform * suits.sum(1)).astype(np.int64)
        column = np.argmax(np.cumsum(suits, 1) == nth[:, None] + 1, 1)
        found = self.rows[near[np.arange(len(near)), column]]
        return np.where(suits.any(1), found, -1)


@lru_cache(maxsize=64)
def _pool(bank: SourceBank, split: str, kind: str) -> _Pool:
    heads = bank.heads()
    mine = pc.and_(pc.equal(heads["split"], split), pc.equal(heads["src_kind"], kind))
    rows = np.flatnonzero(mine.to_numpy(zero_copy_only=False))
    log_r_eff = np.log10(_numbers(heads, "r_eff_arcsec")[rows])
    is_real = kind == "catalogue"
    if is_real:
        mag = _numbers(heads, "mag_r")[rows]
        mag = np.where(np.isnan(mag), _numbers(heads, "mag_hst")[rows] + R_MINUS_F814W, mag)
        points = np.stack([log_r_eff / _DEX, mag / _MAG], 1)
    else:
        points = _numbers(heads, "z")[rows][:, None]
    return _Pool(rows, log_r_eff, KDTree(points) if len(rows) else None, is_real)


def _of_bank(bank: SourceBank | None, name: str, picture: Ids) -> NDArray[Any]:
    """A column of the bank for each row; that of any galaxy where there is no picture."""
    if bank is None or not (picture >= 0).any():
        return np.zeros(len(picture), np.int64)
    values = bank.heads()[name].to_numpy(zero_copy_only=False)
    return np.asarray(values[np.maximum(picture, 0)])


def _colours(
    bank: SourceBank | None, picture: Ids, sources: DrawnSources, bands: Sequence[str]
) -> dict[str, Values]:
    unknown = np.full(len(picture), np.nan)
    if bank is None or sources.bank is None or sources.bank.colours == "templates":
        return dict.fromkeys(bands, unknown)
    heads, at = bank.heads(), np.maximum(picture, 0)
    mags = {band: _numbers(heads, f"mag_{band}")[at] for band in bands}
    return {band: np.where(picture >= 0, mags[band] - mags["r"], np.nan) for band in bands}


_READING = threading.RLock()  # training makes batches in threads: none reads what another has begun


@lru_cache(maxsize=4)
def _heads(bank: SourceBank) -> pa.Table:
    names = [n for n in schemas.sources(bank.bands).names if n not in PIXEL_COLUMNS]
    return store.read(bank.path, columns=names)


@lru_cache(maxsize=4)
def _bank(source: SourceBank, device: str) -> "Bank":
    import torch

    from darkhaloscope.lensing.bank import Bank

    heads = source.heads()
    if not heads.num_rows:
        raise DataError(f"{source.path} holds no galaxy; give [manifest.sources.bank] more")
    second = np.stack([_numbers(heads, f"second_share_{b}") for b in source.bands], 1)
    layers = 2 if second.any() else 1
    pictures, start = None, 0
    for piece in store.pieces(source.path, _READ_ROWS, columns=list(PIXEL_COLUMNS)):
        first = pictures_of(piece["pixels"])
        if pictures is None:
            pictures = np.empty((heads.num_rows, layers, *first.shape[1:]), np.float32)
        pictures[start : start + len(first), 0] = first
        if layers == 2:
            has_second = piece["pixels_2"].is_valid().to_numpy()
            part = pictures[start : start + len(first), 1]
            part[...] = first  # a galaxy of one layer: the second holds no share of any band
            part[has_second] = pictures_of(piece["pixels_2"].drop_null())
        start += len(first)
    assert pictures is not None  # noqa: S101  (there are rows)
    share = np.stack([1 - second, second], 1)[:, :layers].astype(np.float32)
    half_light = _numbers(heads, "half_light_px").astype(np.float32)
    on_host = Bank(
        torch.from_numpy(pictures), torch.from_numpy(half_light), torch.from_numpy(share)
    )
    return on_host.to(device)


def pictures_of(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Pictures of a column without nulls, (n, size, size)."""
    width = column.type.byte_width
    size = round((width / 4) ** 0.5)
    values = [np.frombuffer(value.as_buffer(), "<f4") for value in column]
    return np.stack(values).reshape(-1, size, size) if values else np.zeros((0, size, size), "<f4")


def _numbers(table: pa.Table, name: str) -> Values:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
