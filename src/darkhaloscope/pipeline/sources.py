"""The bank of sources of a run: built when it is first asked for, then kept at the run's root.

It is one Parquet file, `sources/sources.parquet`, written whole or not at all; of several workers
on one machine that ask for it at once, one builds it and the others wait.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core.config import RunConfig, digest_text
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.sources import PictureBank
from darkhaloscope.data import store
from darkhaloscope.ml.picture_bank import CHUNK_ROWS, VERSION, clumpy_tables, rows_of, schema_of
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.survey import hst_catalogue, hst_galaxies

log = logging.getLogger(__name__)

T = TypeVar("T")
Values = NDArray[np.float64]

# Effective wavelengths, nm (Abbott et al. 2018 for g to z; ACS): a band between two filters is made
# of both.
_WAVELENGTH = {"g": 473, "r": 642, "i": 784, "z": 926}
_HST_WAVELENGTH = {"F435W": 433, "F475W": 475, "F606W": 592, "F775W": 769, "F814W": 806}


def digest_of(config: RunConfig) -> str:
    """Names all that the run's bank is made from; empty where the run asks for none.

    Of a catalogue its table counts by content, and of its images, which may be 30 GB, name and
    size.

    Raises:
        DataError: a catalogue is not there.
    """
    bank = config.manifest.sources.bank
    if bank is None:
        return ""
    made_of = [str(VERSION), " ".join(config.survey.bands), digest_text(bank)]
    made_of += [_fingerprint(path, *_stat(path)) for path in map(Path, bank.catalogues)]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()


def opened(config: RunConfig, lock_folder: Path) -> SourceBank | None:
    """The run's bank, built if it is not there or not current; None where the run asks for none.

    Args:
        config: The run's settings.
        lock_folder: Local folder through which workers on this machine agree who builds.

    Raises:
        DataError: a catalogue cannot be read.
    """
    bank = config.manifest.sources.bank
    if bank is None:
        return None
    path, digest = f"{config.root}/sources/sources.parquet", digest_of(config)
    if not _is_current(path, digest):
        with _alone(lock_folder):
            if not _is_current(path, digest):
                _build(path, digest, bank, config.survey.bands)
    return SourceBank(path, digest, config.survey.bands)


def _is_current(path: str, digest: str) -> bool:
    header = store.header_of(path)
    return header is not None and header.digest == digest


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _build(path: str, digest: str, bank: PictureBank, bands: Sequence[str]) -> None:
    notes: dict[str, Any] = {}
    header = store.write(
        _chunks(bank, tuple(bands), notes),
        path,
        schema=schema_of(bank.picture_px, bands),
        digest=digest,
        notes=notes,
    )
    log.info("the bank of sources holds %d galaxies: %s", header.rows, notes)


def _chunks(bank: PictureBank, bands: tuple[str, ...], notes: dict[str, Any]) -> Iterator[pa.Table]:
    """Rows of the bank, some at a time; `notes` ends as what became of all galaxies."""
    by_split: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    tables = [clumpy_tables(bank, bands)]
    if bank.catalogues:
        tables.append(_catalogue_tables(bank, bands, refused))
    for made in tables:
        for table in made:
            kinds = zip(table["src_kind"].to_pylist(), table["split"].to_pylist(), strict=True)
            by_split.update(f"{kind} {split}" for kind, split in kinds)
            yield table
    notes |= {"galaxies": dict(sorted(by_split.items())), "refused": dict(sorted(refused.items()))}
    for kind, count in (("clumpy", bank.clumpy_count), ("catalogue", len(bank.catalogues))):
        for split, share in bank.split_shares.items():
            if count and share and not by_split[f"{kind} {split}"]:
                log.warning("split %s has no %s galaxy: Sersic profiles stand in", split, kind)


def _catalogue_tables(
    bank: PictureBank, bands: tuple[str, ...], refused: Counter[str]
) -> Iterator[pa.Table]:
    import torch

    from darkhaloscope.lensing.bank import half_light_radius

    cleaning = hst_galaxies.Cleaning(
        size_px=bank.picture_px,
        least_snr=bank.least_snr,
        gaussian_fwhm_arcsec=bank.resolution_arcsec,
    )
    every = hst_galaxies.galaxies([Path(path) for path in bank.catalogues], cleaning)
    for some in _some(_usable(every, refused), CHUNK_ROWS):
        share = np.array([_second_share(g.filters, bands) for g in some])
        half_light = [
            float(
                half_light_radius(
                    torch.from_numpy(g.pictures)[None],
                    torch.tensor(np.stack([1 - s, s])[: len(g.pictures)])[None],
                )
            )
            for g, s in zip(some, share, strict=True)
        ]
        columns: dict[str, Any] = {
            "half_light_px": half_light,
            "r_eff_arcsec": [r * g.scale_arcsec for r, g in zip(half_light, some, strict=True)],
            "mag_hst": [g.mag for g in some],
            "z": [g.z_phot for g in some],
            "snr": [g.snr for g in some],
            "resolution_arcsec": [g.fwhm_arcsec for g in some],
            "masked_share": [g.masked_share for g in some],
            "provenance": [f"{g.file} {'+'.join(g.filters)}" for g in some],
            **{f"mag_{b}": [g.colour_mags.get(b) for g in some] for b in bands},
        }
        ident = np.array([g.ident for g in some])
        yield rows_of("catalogue", ident, [g.pictures for g in some], share, columns, bank, bands)


def _usable(
    every: Iterator[hst_galaxies.HstGalaxy], refused: Counter[str]
) -> Iterator[hst_galaxies.HstGalaxy]:
    for galaxy in every:
        if galaxy.refused is None:
            yield galaxy
        else:
            refused[galaxy.refused] += 1


def _second_share(filters: Sequence[str], bands: Sequence[str]) -> Values:
    """Share of each band that a galaxy's second, bluer filter holds: by wavelength between both.

    Raises:
        DataError: a galaxy has three filters or more, or one whose wavelength is not known.
    """
    if len(filters) == 1:
        return np.zeros(len(bands))
    unknown = [name for name in filters if name not in _HST_WAVELENGTH]
    if unknown or len(filters) > 2:
        raise DataError(
            f"layers are made of one or two filters of {', '.join(_HST_WAVELENGTH)}; got "
            f"{', '.join(filters)}; name other catalogues"
        )
    red, blue = (_HST_WAVELENGTH[name] for name in filters)
    if blue >= red:
        raise DataError(
            f"catalogues name {filters[0]} before {filters[1]}: name the reddest filter first"
        )
    at = np.array([_WAVELENGTH[band] for band in bands], np.float64)
    return np.clip((red - at) / (red - blue), 0, 1)


def _some(items: Iterator[T], count: int) -> Iterator[list[T]]:
    while part := list(islice(items, count)):
        yield part


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} is not there, though manifest.sources.bank.catalogues names it; "
            "docs/sources.md says where to get one"
        ) from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _fingerprint(path: Path, _size: int, _mtime_ns: int) -> str:
    """What a catalogue is; worked out again when its file has changed."""
    catalogue = hst_catalogue.Catalogue.read(path)
    beside = hst_catalogue.companion_of(path)
    parts = [store.sha256_of(p) for p in (path, beside) if p.is_file()]
    for name in catalogue.files():
        file = catalogue.folder / name
        parts.append(f"{name} {file.stat().st_size if file.is_file() else 'missing'}")
    return " ".join(parts)
