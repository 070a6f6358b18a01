"""Images: the files of each brick and band, or why there are none.

In:  splits of a tile, for its bricks; the survey.
Out: images, one row per brick and band: paths, sizes, sha256, and what is missing.

A file counts as missing when the survey has none or has a broken one; a network that fails is an
error instead, so that a bad evening is never taken for a gap in the sky. Without `image` or
`invvar` a band has no pixels; without `psfsize` the catalogue's value serves; `nexp`, `maskbits`
and `ccds`, the table of the CCDs that made the coadds, are extras. `psf` is what the run file names
as `survey.psf_images`; what becomes of targets without it is for `cutouts` to say.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.settings.images import ImagesConfig
from darkhaloscope.data import store
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import NOWHERE, Absent, Survey

NEEDED = ("image", "invvar")
_ONE_ENDING = ("psf", "ccds")  # kinds whose names the survey or the run file states in full

_LOG = logging.getLogger(__name__)

Found = Mapping[tuple[str, str], tuple[str, Path | Absent]]


def _brick_names(bands: Sequence[str]) -> pa.Schema:
    """The column of `splits` that is read."""
    return pa.schema([schemas.splits(bands).field("brickname")])


def run(splits: pa.Table, *, survey: Survey, config: ImagesConfig) -> pa.Table:
    """Find, fetch and fingerprint the files of a tile's bricks.

    Raises:
        DataError: the network or this machine's disk failed.
    """
    bricks = sorted(pc.unique(splits["brickname"]).to_pylist())
    rows = []
    for done, brick in enumerate(bricks, 1):
        with survey.using(brick):
            rows += _brick(survey, brick, config.bands)
        _LOG.info("images: %d of %d bricks", done, len(bricks))
    gone = [f"{row['brickname']} {row['band']}" for row in rows if row["missing"]]
    if gone:
        _LOG.warning(
            "images: %d of %d bricks and bands have no pixels: %s%s; their targets are refused",
            len(gone), len(rows), ", ".join(gone[:5]), ", ..." if len(gone) > 5 else "",
        )  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schemas.images(config.bands))
    return schemas.conform(table, schemas.images(config.bands), where="images")


def _brick(survey: Survey, brick: str, bands: Sequence[str]) -> list[dict[str, object]]:
    """The rows of a brick, one a band."""
    found = _find(survey, brick, bands)
    files = {key: _file(path, where) for key, (path, where) in found.items()}
    rows = []
    for band in bands:
        row: dict[str, object] = {"brickname": brick, "band": band, "missing": None}
        for kind in schemas.FILE_KINDS:
            row |= {
                f"{kind}_{name}": value for name, value in files[kind, _band(kind, band)].items()
            }
        gone = [
            f"{kind}: {where.reason}"
            for kind in NEEDED
            if isinstance(where := found[kind, band][1], Absent)
        ]
        row["missing"] = "; ".join(gone) or None
        rows.append(row)
    return rows


def _find(survey: Survey, brick: str, bands: Sequence[str]) -> Found:
    """Path and place of every file of a brick, by kind and band; endings are tried in turn."""
    wanted = list(
        dict.fromkeys((kind, _band(kind, b)) for b in bands for kind in schemas.FILE_KINDS)
    )
    found = _find_psfs(survey, brick, bands)
    for suffix in layout.SUFFIXES:
        left = [
            key
            for key in wanted
            if key not in found or (_is_nowhere(found[key][1]) and key[0] not in _ONE_ENDING)
        ]
        paths = {
            (kind, band): survey.coadd_path(brick, kind, band, suffix=suffix) for kind, band in left
        }
        places = survey.fetch(list(paths.values()))
        for key, path in paths.items():
            found.setdefault(key, (path, places[path]))
            if not _is_nowhere(places[path]):
                found[key] = (path, places[path])
    return found


def _find_psfs(
    survey: Survey, brick: str, bands: Sequence[str]
) -> dict[tuple[str, str], tuple[str, Path | Absent]]:
    """Path and place of the PSF images that the run file names, by kind and band."""
    found: dict[tuple[str, str], tuple[str, Path | Absent]] = {}
    for band in bands:
        path = survey.psf_path(brick, band)
        if path is None:
            found["psf", band] = ("", NOWHERE)
        else:
            owner, below = survey.owner(path)
            found["psf", band] = (path, owner.fetch([below])[below])
    return found


def _band(kind: str, band: str) -> str:
    """Bands share some files."""
    return "" if kind in layout.OF_ALL_BANDS else band


def _is_nowhere(place: Path | Absent) -> bool:
    return isinstance(place, Absent) and place.is_nowhere


def _file(path: str, place: Path | Absent) -> dict[str, object]:
    """Path, size and content of a file; nothing of one that is missing."""
    if isinstance(place, Absent):
        return {"path": None, "size_bytes": None, "sha256": None}
    with place.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path, "size_bytes": place.stat().st_size, "sha256": sha256}


def _external(partition: str, tables: Mapping[str, Sequence[str]], survey: Survey) -> str:
    """The images of the tile's bricks, where they lie in a folder and so may change."""
    if not survey.is_local and survey.config.psf_images is None:
        return survey.digest
    names = {
        name
        for path in tables["splits"]
        for name in store.read(path, columns=["brickname"])["brickname"].to_pylist()
    }
    found = [] if survey.is_local else [survey.digest]
    for name in sorted(names):
        found += [survey.brick_fingerprint(name), survey.psf_fingerprint(name)]
    return " ".join(found)


STAGE = Stage(
    name="images",
    version=2,
    run=run,
    inputs=(Input("splits", _brick_names, "tile"),),
    output=schemas.images,
    partition="tile",
    needs=("survey",),
    external=_external,
)
