"""Cutouts: the pixels of each target as the survey has them, or why they are refused.

In:  splits, the targets of a tile; images, the files of its bricks.
Out: cutouts, one row per target in the order of splits: pixels, sky, noise, PSF, gain, bad pixels.

Pixels are cut, never resampled: a shift by part of a pixel would change noise and PSF of hosts. The
galaxy's exact place in its cutout stands in `host_x_px`, `host_y_px`. What is refused has a reason
and no pixels; a missing band, NaN, or too many bad pixels are never filled with zeros.

Where the run keeps PSF images, they stand beside the pixels, and PSF widths are measured on them.
The gain follows from the inverse variance and the table of the CCDs, where the survey has one.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkhaloscope.core import schemas, units
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.cutouts import CutoutsConfig
from darkhaloscope.data import pixels
from darkhaloscope.survey import exposures, measure, psf_images
from darkhaloscope.survey import images as coadds
from darkhaloscope.survey.files import Absent, Survey

CHUNK_ROWS = 512

_LOG = logging.getLogger(__name__)

Numbers = NDArray[np.float64]
Reasons = NDArray[np.object_]


def hosts(bands: Sequence[str]) -> pa.Schema:
    """The columns of `splits` that are read."""
    whole = schemas.splits(bands)
    names = ["target_id", "brickname", "ra_deg", "dec_deg"]
    return pa.schema([whole.field(n) for n in (*names, *(f"psf_nea_{b}_arcsec" for b in bands))])


def run(splits: pa.Table, images: pa.Table, *, survey: Survey, config: CutoutsConfig) -> pa.Table:
    """Cut the targets of a chunk, opening each file of a brick once.

    Raises:
        DataError: a brick is not in `images`, or a file is not the one that it describes.
    """
    known = {(row["brickname"], row["band"]): row for row in images.to_pylist()}
    tables, taken = [], []
    for brick, rows in _bricks(splits):
        with survey.using(brick):
            files = _Files(survey, known, brick)
            files.fetch(config.bands)
            tables.append(_brick(splits.take(pa.array(rows)), files, config))
        taken.append(rows)
    if not tables:
        return _table(splits, _Cut.blank(0, config), np.full(0, None, object), config)
    back = np.argsort(np.concatenate(taken), kind="stable")
    return pa.concat_tables(tables).take(pa.array(back)).combine_chunks()


def _bricks(splits: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each brick with its rows."""
    names = np.array(splits["brickname"].to_pylist(), np.str_)
    found, brick = np.unique(names, return_inverse=True)
    for number, name in enumerate(found.tolist()):
        yield name, np.flatnonzero(brick == number)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one brick, as `images` found them."""

    survey: Survey
    known: Mapping[tuple[str, str], Mapping[str, Any]]
    brick: str

    def fetch(self, bands: Sequence[str]) -> None:
        """Have all files of a remote survey here, several at a time."""
        if not self.survey.is_local:
            kinds = [f"{kind}_path" for kind in schemas.FILE_KINDS if kind != "psf"]
            paths = {path for band in bands for kind in kinds if (path := self.row(band)[kind])}
            self.survey.fetch(sorted(paths))

    def row(self, band: str) -> Mapping[str, Any]:
        """What `images` says of a band."""
        if (self.brick, band) not in self.known:
            raise DataError(f"brick {self.brick}, band {band} is not in images; rerun stage images")
        return self.known[self.brick, band]

    def path(self, kind: str, band: str) -> Path | None:
        """The file on this machine, or None where `images` found none."""
        row = self.row(band)
        path = row[f"{kind}_path"]
        if path is None:
            return None
        owner, below = self.survey.owner(path)
        found = owner.again(below)
        if isinstance(found, Absent) or found.stat().st_size != row[f"{kind}_size_bytes"]:
            now = found.reason if isinstance(found, Absent) else f"{found.stat().st_size} bytes"
            raise DataError(
                f"{owner.root}/{below} is not what it was when images was made (now: {now}); "
                "rerun stage images"
            )
        return found

    @contextlib.contextmanager
    def opened(self, kind: str, band: str) -> Iterator[Path]:
        """The file on this machine, kept meanwhile; what is wrong with it names it.

        Raises:
            ImageError: there is none, or reading it raised one.
        """
        path = self.row(band)[f"{kind}_path"]
        if path is None:
            raise coadds.ImageError(f"brick {self.brick} has no {band} {kind}")
        owner, below = self.survey.owner(path)
        with owner.holding(below), _named(self, kind, band):
            found = self.path(kind, band)
            assert found is not None  # noqa: S101  (its path is known)
            yield found


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """What was read of one brick's targets; what does not exist is NaN, and pixels are 0.

    Attributes:
        stamps: Pixels, nanomaggies, shape (n, band, y, x).
        psfs: PSF images, shape (n, band, k, k); k is 1 where the run keeps none.
        no_psf: Why there is no PSF image, or None, shape (n, band).
        host_px: Place of the galaxy in its cutout, x and y, shape (n, 2).
        measured: Columns by name without the band's place filled, shape (n, band).
        bad_share: Share of bad pixels, shape (n, band).
        zero_share: Share of pixels that are exactly zero, shape (n, band).
        is_finite: Whether all pixels are, shape (n, band).
    """

    stamps: NDArray[np.float32]
    psfs: NDArray[np.float32]
    no_psf: Reasons
    host_px: Numbers
    measured: Mapping[str, Numbers]
    bad_share: Numbers
    zero_share: Numbers
    is_finite: NDArray[np.bool_]

    @staticmethod
    def blank(n: int, config: CutoutsConfig) -> "_Cut":
        """Nothing read yet."""
        shape, size = (n, len(config.bands)), config.size_px
        names = (
            "psf_nea_{b}_arcsec",
            "psf_fwhm_{b}_arcsec",
            "sky_median_{b}_nmgy",
            "sky_mad_{b}_nmgy",
            "noise_{b}_nmgy",
            "depth_{b}_mag",
            "n_exposures_{b}",
            "electrons_per_nmgy_{b}",
        )
        psf_px = config.psf_image_px or 1
        return _Cut(
            stamps=np.zeros((*shape, size, size), np.float32),
            psfs=np.zeros((*shape, psf_px, psf_px), np.float32),
            no_psf=np.full(shape, None, object),
            host_px=np.full((n, 2), np.nan),
            measured={name: np.full(shape, np.nan) for name in names},
            bad_share=np.full(shape, np.nan),
            zero_share=np.full(shape, np.nan),
            is_finite=np.ones(shape, bool),
        )


def _brick(targets: pa.Table, files: _Files, config: CutoutsConfig) -> pa.Table:
    """The rows of one brick."""
    cut = _Cut.blank(targets.num_rows, config)
    refused = np.full(targets.num_rows, None, object)
    gone = [
        f"no {band} pixels of brick {files.brick} ({reason})"
        for band in config.bands
        if (reason := files.row(band)["missing"])
    ]
    if gone:
        refused[:] = "; ".join(gone)
        return _table(targets, cut, refused, config)
    try:
        inside = _fill(cut, targets, files, config)
    except coadds.ImageError as error:
        refused[:] = str(error)
        return _table(targets, _Cut.blank(targets.num_rows, config), refused, config)
    _set_widths(cut, targets, config)
    _set_gain(cut, files, config)
    refused[~inside] = (
        f"less than {config.size_px} px of brick {files.brick}'s image around it: outside or at "
        "the edge"
    )
    return _table(targets, cut, _reasons(cut, refused, config), config)


def _fill(cut: _Cut, targets: pa.Table, files: _Files, config: CutoutsConfig) -> NDArray[np.bool_]:
    """Read all files of a brick into `cut`; which targets lie well inside its image."""
    with contextlib.ExitStack() as opened:
        images = {b: opened.enter_context(_opened(files, "image", b)) for b in config.bands}
        frame = _frame(images, files.brick, config)
        x, y = frame.positions(targets["ra_deg"].to_numpy(), targets["dec_deg"].to_numpy())
        place = np.stack([x, y], axis=1)
        nearest = np.floor(np.nan_to_num(place, nan=-1e6) - (config.size_px - 1) / 2 + 0.5)
        end = nearest + config.size_px
        inside = np.asarray(((nearest >= 0) & (end <= np.array(frame.shape)[::-1])).all(axis=1))
        if not inside.any():
            return inside
        at, corners = np.flatnonzero(inside), nearest[inside].astype(np.int64)
        cut.host_px[at] = place[at] - corners
        mask = _read(files, "maskbits", config.bands[0], frame, corners, config.size_px)
        for column, band in enumerate(config.bands):
            with _named(files, "image", band):
                stamps = images[band].boxes(corners[:, 0], corners[:, 1], config.size_px)
            values = _measure(files, band, stamps, mask, frame, corners, config)
            cut.stamps[at, column] = values.pop("stamps")
            cut.bad_share[at, column] = values.pop("bad_share")
            cut.zero_share[at, column] = values.pop("zero_share")
            cut.is_finite[at, column] = values.pop("is_finite")
            for name, numbers in values.items():
                cut.measured[name][at, column] = numbers
            if config.psf_image_px is not None:
                made = _psfs(files, band, place[at], config.psf_image_px, config)
                cut.psfs[at, column], cut.no_psf[at, column] = made
    return inside


def _psfs(
    files: _Files, band: str, place: Numbers, size_px: int, config: CutoutsConfig
) -> tuple[NDArray[np.float32], Reasons]:
    """PSF images at places of the brick's image (n, 2), and why there are none."""
    try:
        with files.opened("psf", band) as path:
            model = psf_images.read(path, band, scale_arcsec=config.pixel_scale_arcsec)
            made, reasons = psf_images.at(model, place[:, 0], place[:, 1], size_px=size_px)
    except coadds.ImageError as error:
        none = np.zeros((len(place), size_px, size_px), np.float32)
        return none, np.full(len(place), str(error), object)
    named = [why and f"{band} psf of brick {files.brick}: {why}" for why in reasons]
    return made, np.array(named, object)


def _frame(images: Mapping[str, coadds.Image], brick: str, config: CutoutsConfig) -> coadds.Frame:
    """The grid that all images of the brick share."""
    frames = {band: image.frame() for band, image in images.items()}
    first = frames[config.bands[0]]
    for band, frame in frames.items():
        if not frame.is_grid_of(first):
            raise coadds.ImageError(
                f"{band} image of brick {brick} has other pixels than {config.bands[0]}"
            )
    if abs(first.scale_arcsec / config.pixel_scale_arcsec - 1) > 2e-3:
        raise coadds.ImageError(
            f"pixels of brick {brick} are {first.scale_arcsec:.4f} arcsec wide, not "
            f"{config.pixel_scale_arcsec:g}"
        )
    return first


def _read(
    files: _Files,
    kind: str,
    band: str,
    frame: coadds.Frame,
    corners: NDArray[np.int64],
    size: int,
) -> NDArray[Any] | None:
    """Squares of one file, shape (n, size, size), or None where the survey has no such file."""
    if files.path(kind, band) is None:
        return None
    with _opened(files, kind, band) as image, _named(files, kind, band):
        if image.shape != frame.shape:
            raise coadds.ImageError(f"it has {image.shape} pixels, not {frame.shape}")
        return image.boxes(corners[:, 0], corners[:, 1], size)


@contextlib.contextmanager
def _opened(files: _Files, kind: str, band: str) -> Iterator[coadds.Image]:
    """One file of the brick, open."""
    path = files.path(kind, band)
    if path is None:
        raise coadds.ImageError(f"brick {files.brick} has no {band} {kind}")
    with contextlib.ExitStack() as held:
        with _named(files, kind, band):
            image = held.enter_context(coadds.opened(path))
        yield image


@contextlib.contextmanager
def _named(files: _Files, kind: str, band: str) -> Iterator[None]:
    """Say in a fault which file it is about."""
    try:
        yield
    except coadds.ImageError as error:
        raise coadds.ImageError(f"{band} {kind} of brick {files.brick}: {error}") from error


def _measure(
    files: _Files,
    band: str,
    stamps: NDArray[np.float32],
    mask: NDArray[Any] | None,
    frame: coadds.Frame,
    corners: NDArray[np.int64],
    config: CutoutsConfig,
) -> dict[str, NDArray[Any]]:
    """Pixels and measurements of one band, each with n rows."""
    size = config.size_px
    invvar = _read(files, "invvar", band, frame, corners, size)
    assert invvar is not None  # noqa: S101  (a band without is missing)
    good = np.isfinite(invvar) & (invvar > 0)
    if mask is not None:
        good &= (mask.astype(np.int64) & measure.mask_value(config.masked_bits, band)) == 0
    finite = np.isfinite(stamps)
    ring = measure.annulus(size, config.sky_inner_px, config.sky_outer_px)
    median, mad = measure.median_and_mad(stamps[:, ring], (good & finite)[:, ring])
    values = {
        "stamps": np.where(finite, stamps, 0),
        "is_finite": finite.all(axis=(1, 2)),
        "bad_share": (~good).mean(axis=(1, 2)),
        "zero_share": (stamps == 0).mean(axis=(1, 2)),
        "sky_median_{b}_nmgy": median,
        "sky_mad_{b}_nmgy": mad,
        "noise_{b}_nmgy": measure.noise_nmgy(invvar, good),
    }
    psfsize = _read(files, "psfsize", band, frame, corners + size // 2, 1)
    if psfsize is not None:
        values["psf_nea_{b}_arcsec"] = np.where(psfsize > 0, psfsize, np.nan)[:, 0, 0]
    n_exposures = _read(files, "nexp", band, frame, corners, size)
    if n_exposures is not None:
        values["n_exposures_{b}"] = np.median(n_exposures, axis=(1, 2))
    return values


def _set_widths(cut: _Cut, targets: pa.Table, config: CutoutsConfig) -> None:
    """PSF and depth; where the survey has no map of psfsize, the catalogue's value serves."""
    width = cut.measured["psf_nea_{b}_arcsec"]
    catalogued = pixels.per_band(targets, "psf_nea_{b}_arcsec", config.bands)
    width[...] = np.where(np.isfinite(width), width, catalogued)
    beta = np.array([config.psf_beta[band] for band in config.bands])
    fwhm, noise = cut.measured["psf_fwhm_{b}_arcsec"], cut.measured["noise_{b}_nmgy"]
    fwhm[...] = units.fwhm_from_psfsize(width, beta)
    if config.psf_image_px is not None:
        _measure_psfs(cut, config.pixel_scale_arcsec)
    cut.measured["depth_{b}_mag"][...] = measure.depth_mag(noise, width, config.pixel_scale_arcsec)


def _measure_psfs(cut: _Cut, scale_arcsec: float) -> None:
    """Widths of the PSF images; NaN where there is none."""
    for column in range(cut.psfs.shape[1]):
        psfs = cut.psfs[:, column]
        has_image = psfs.any(axis=(1, 2))
        # The images of a brick are often one: each is measured once.
        different, back = np.unique(psfs[has_image], axis=0, return_inverse=True)
        for name, measure_width in (
            ("psf_nea_{b}_arcsec", psf_images.nea_width_arcsec),
            ("psf_fwhm_{b}_arcsec", psf_images.fwhm_arcsec),
        ):
            width = cut.measured[name][:, column]
            width[...] = np.nan
            width[has_image] = measure_width(different, scale_arcsec)[back.ravel()]


def _set_gain(cut: _Cut, files: _Files, config: CutoutsConfig) -> None:
    """Electrons per nanomaggy, where the survey has a table of the brick's CCDs."""
    noise = cut.measured["noise_{b}_nmgy"]
    invvar = (units.COADD_RMS_FACTOR / noise) ** 2
    if files.path("ccds", config.bands[0]) is None:
        return
    for column, band in enumerate(config.bands):
        try:
            with files.opened("ccds", band) as path:
                per_invvar = exposures.electrons_per_invvar(path, band)
        except coadds.ImageError as error:
            _LOG.warning("cutouts: %s; the gain is that of the run file", error)
            return
        gain = cut.measured["electrons_per_nmgy_{b}"][:, column]
        gain[...] = per_invvar * invvar[:, column]


def _reasons(cut: _Cut, refused: Reasons, config: CutoutsConfig) -> Reasons:
    """The first thing wrong with each target, or None; `refused` holds what is known already."""
    most = config.max_masked_fraction
    reasons = refused.copy()
    for row in np.flatnonzero(reasons == None):  # noqa: E711  (element by element)
        for column, band in enumerate(config.bands):
            if not cut.is_finite[row, column]:
                reasons[row] = f"pixels of band {band} are not finite"
            elif cut.zero_share[row, column] > most:
                reasons[row] = (
                    f"band {band} has no data: {cut.zero_share[row, column]:.0%} of the pixels are "
                    "exactly zero"
                )
            elif cut.bad_share[row, column] > most:
                reasons[row] = (
                    f"{cut.bad_share[row, column]:.0%} of the pixels of band {band} are masked"
                )
            elif np.isnan(cut.measured["sky_mad_{b}_nmgy"][row, column]):
                reasons[row] = f"no good pixel in the sky annulus of band {band}"
            elif cut.no_psf[row, column] is not None:
                reasons[row] = cut.no_psf[row, column]
            elif np.isnan(cut.measured["psf_fwhm_{b}_arcsec"][row, column]):
                reasons[row] = f"no PSF width of band {band}, in psfsize or in the catalogue"
            else:
                continue
            break
    return reasons


def _table(targets: pa.Table, cut: _Cut, refused: Reasons, config: CutoutsConfig) -> pa.Table:
    """The rows as a table; a refused row keeps what was measured, without its pixels."""
    layout = pixels.Layout(config.bands, config.size_px, config.pixel_scale_arcsec)
    valid = np.array([reason is None for reason in refused], bool)
    schema = schemas.cutouts(config.bands)
    columns = {name: targets[name] for name in ("target_id", "brickname", "ra_deg", "dec_deg")}
    columns["host_x_px"] = _floats(cut.host_px[:, 0])
    columns["host_y_px"] = _floats(cut.host_px[:, 1])
    for template, values in cut.measured.items():
        for column, band in enumerate(config.bands):
            columns[template.format(b=band)] = _floats(values[:, column])
    columns["masked_fraction"] = _floats(cut.bad_share.max(axis=1, initial=-np.inf))
    columns["refused"] = pa.array(refused.tolist(), pa.string())
    columns["pixels"] = pixels.encode(cut.stamps, valid=valid)
    keeps_psfs = config.psf_image_px is not None
    columns["psf_image"] = pixels.encode(cut.psfs, valid=valid & keeps_psfs)
    psf_layout = pixels.Layout(config.bands, cut.psfs.shape[-1], config.pixel_scale_arcsec)
    made = {
        "pixels": layout.field(nullable=True),
        "psf_image": psf_layout.field("psf_image", nullable=True, unit=""),
    }
    fields = [made.get(name, schema.field(name)) for name in schema.names]
    table = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    return schemas.conform(table, schema, where="cutouts")


def _floats(values: Numbers) -> pa.Array:
    """A float column, null where there is no value."""
    return pa.array(values.astype(np.float32), pa.float32(), mask=~np.isfinite(values))


STAGE = Stage(
    name="cutouts",
    version=2,
    run=run,
    inputs=(Input("splits", hosts, "tile"), Input("images", schemas.images, "tile")),
    output=schemas.cutouts,
    partition="tile",
    chunk_rows=CHUNK_ROWS,
    needs=("survey",),
)
