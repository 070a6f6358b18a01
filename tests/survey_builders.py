"""A survey of a few small bricks on disk, and settings that read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from darkhaloscope.core.settings.cutouts import CutoutsConfig
from darkhaloscope.core.settings.images import ImagesConfig
from darkhaloscope.core.settings.splits import SplitsConfig
from darkhaloscope.core.settings.survey import SurveyConfig
from darkhaloscope.core.settings.targets import TargetsConfig
from darkhaloscope.survey import layout
from darkhaloscope.survey.files import Survey

BANDS = ("g", "r", "z")
SCALE = 0.262
SIZE = 200  # px, width of a brick's image
INNER = 100  # px, width of the part that is the brick's alone
NOISE = {"g": 0.004, "r": 0.006, "z": 0.02}


@dataclass(frozen=True)
class Brick:
    """A small brick; by default its image is square, tangent at its centre."""

    ra: float = 10.0
    dec: float = 0.0
    brickid: int = 1
    size: int = SIZE

    @property
    def name(self) -> str:
        sign = "m" if self.dec < 0 else "p"
        return f"{round(self.ra * 10):04d}{sign}{round(abs(self.dec) * 10):03d}"

    def wcs(self) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(self.size + 1) / 2] * 2
        wcs.wcs.cd = [[-SCALE / 3600, 0], [0, SCALE / 3600]]
        return wcs

    def header(self) -> fits.Header:
        header = fits.Header()
        header.update(self.wcs().to_header())
        for key in ("PC1_1", "PC2_2", "CDELT1", "CDELT2"):
            header.remove(key, ignore_missing=True)
        header["CD1_1"], header["CD1_2"] = -SCALE / 3600, 0.0
        header["CD2_1"], header["CD2_2"] = 0.0, SCALE / 3600
        return header

    def sky(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """RA and Dec, degrees, of pixel coordinates."""
        ra, dec = self.wcs().wcs_pix2world(np.atleast_1d(x), np.atleast_1d(y), 0)
        return np.asarray(ra), np.asarray(dec)


@dataclass(frozen=True)
class Galaxies:
    """Rows of a tractor catalogue, at pixel coordinates of their brick; red enough for v3."""

    x: Sequence[float]
    y: Sequence[float]
    changes: Mapping[str, Any] = field(default_factory=dict)

    def columns(self, brick: Brick, bands: Sequence[str] = BANDS) -> dict[str, Any]:
        n = len(self.x)
        ra, dec = brick.sky(self.x, self.y) if n else (np.zeros(0), np.zeros(0))
        flux = {"g": 1.2, "r": 5.0, "i": 7.5, "z": 10.0, "w1": 30.0}
        columns: dict[str, Any] = {
            "release": np.full(n, 10000, np.int16),
            "brickid": np.full(n, brick.brickid, np.int32),
            "brickname": np.full(n, brick.name, "S8"),
            "objid": np.arange(n, dtype=np.int32),
            "brick_primary": np.ones(n, bool),
            "type": np.full(n, b"DEV", "S4"),
            "ra": ra,
            "dec": dec,
            "shape_r": np.full(n, 0.9, np.float32),
            "shape_e1": np.full(n, 0.1, np.float32),
            "shape_e2": np.full(n, -0.05, np.float32),
            "sersic": np.full(n, 4.0, np.float32),
        }
        for band in (*bands, "w1"):
            columns[f"flux_{band}"] = np.full(n, flux[band], np.float32)
            columns[f"mw_transmission_{band}"] = np.full(n, 0.95, np.float32)
        for band in bands:
            columns[f"psfsize_{band}"] = np.full(n, 1.3, np.float32)
            columns[f"psfdepth_{band}"] = np.full(n, 1000.0, np.float32)
        return columns | {name: np.asarray(values) for name, values in self.changes.items()}


def write_fits_table(path: Path, columns: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.rec.fromarrays(
        [np.asarray(values) for values in columns.values()], names=list(columns)
    )
    fits.BinTableHDU(array).writeto(path, overwrite=True)


def write_bricks(root: Path, bricks: Sequence[Brick]) -> None:
    half = INNER * SCALE / 3600 / 2
    rows = {
        "BRICKNAME": np.array([b.name for b in bricks], "S8"),
        "BRICKID": np.array([b.brickid for b in bricks], np.int32),
        "RA": np.array([b.ra for b in bricks]),
        "DEC": np.array([b.dec for b in bricks]),
        "RA1": np.array([(b.ra - half / np.cos(np.deg2rad(b.dec))) % 360 for b in bricks]),
        "RA2": np.array([(b.ra + half / np.cos(np.deg2rad(b.dec))) % 360 for b in bricks]),
        "DEC1": np.array([b.dec - half for b in bricks]),
        "DEC2": np.array([b.dec + half for b in bricks]),
    }
    write_fits_table(root / layout.bricks_path(), rows)


def write_tractor(root: Path, brick: Brick, galaxies: Galaxies) -> Path:
    path = root / layout.tractor_path(brick.name)
    write_fits_table(path, galaxies.columns(brick))
    return path


def write_image(path: Path, pixels: NDArray[Any], header: fits.Header) -> None:
    """A coadd as the survey compresses it: RICE, tiles of 100 px, an absolute step of 1e-4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".fz":
        step = {"quantize_level": -1e-4, "quantize_method": -1} if pixels.dtype.kind == "f" else {}
        unit = fits.CompImageHDU(
            pixels, header, compression_type="RICE_1", tile_shape=(100, 100), **step
        )
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path, overwrite=True)
    else:
        fits.PrimaryHDU(pixels, header).writeto(path, overwrite=True)


def coadds(brick: Brick, galaxies: Galaxies, band: str) -> dict[str, NDArray[Any]]:
    """Image, invvar, psfsize and nexp of a band: noise, and a Gaussian at each galaxy."""
    rng = np.random.default_rng(brick.brickid * 10 + BANDS.index(band))
    shape = (brick.size, brick.size)
    image = rng.normal(0, NOISE[band], shape)
    y, x = np.mgrid[: brick.size, : brick.size]
    for gx, gy in zip(galaxies.x, galaxies.y, strict=True):
        image += 0.2 * np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * 2.5**2))
    return {
        "image": image.astype(np.float32),
        "invvar": np.full(shape, 0.91**2 / NOISE[band] ** 2, np.float32),
        "psfsize": np.full(shape, 1.4 - 0.05 * BANDS.index(band), np.float32),
        "nexp": np.full(shape, 5, np.int16),
    }


def write_coadds(
    root: Path,
    brick: Brick,
    galaxies: Galaxies,
    changes: Mapping[tuple[str, str], NDArray[Any] | None] | None = None,
    suffix: str = ".fits.fz",
) -> None:
    """All images of a brick; `changes` gives other pixels by kind and band, None: no such file."""
    changes = changes or {}
    for band in BANDS:
        for kind, made in coadds(brick, galaxies, band).items():
            pixels = changes.get((kind, band), made)
            if pixels is not None:
                path = root / layout.coadd_path(brick.name, kind, band, suffix=suffix)
                write_image(path, pixels, brick.header())
    mask = changes.get(("maskbits", ""), np.zeros((brick.size, brick.size), np.int16))
    if mask is not None:
        path = root / layout.coadd_path(brick.name, "maskbits", suffix=suffix)
        write_image(path, mask, brick.header())


PSF_IMAGES = "psfs/{brick:.3}/psf-{brick}-{band}.fits"
ELECTRONS = (1500.0, 3500.0, 9000.0)  # per nanomaggy, of the three exposures of each band
SKY_NMGY = {"g": 0.11, "r": 0.3, "z": 2.2}  # of a pixel, as at a dark site


def write_psfs(root: Path, brick: Brick, images: Mapping[str, NDArray[Any]]) -> None:
    """A PSF image a band where `PSF_IMAGES` says."""
    for band, image in images.items():
        path = root / PSF_IMAGES.format(brick=brick.name, band=band)
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.PrimaryHDU(image.astype(np.float32)).writeto(path, overwrite=True)


def write_ccds(root: Path, brick: Brick) -> Path:
    """The table of the exposures that made a brick's coadds: their sky and 7 electrons of noise."""
    made = [(band, electrons, sky) for band, sky in SKY_NMGY.items() for electrons in ELECTRONS]
    electrons, sky = (np.array([row[i] for row in made]) for i in (1, 2))
    columns = {
        "filter": np.array([row[0] for row in made], "S1"),
        "exptime": np.full(len(made), 90.0, np.float32),
        "sig1": np.sqrt(electrons * sky + 7.0**2) / electrons,
        "ccdskycounts": sky * electrons / 4 / 90,  # 4 electrons a count, 90 s
        "ccdzpt": 22.5 + 2.5 * np.log10(electrons / 4 / 90),
    }
    path = root / layout.coadd_path(brick.name, "ccds")
    write_fits_table(path, columns)
    return path


def galaxies_in(brick: Brick, count: int, **changes: Any) -> Galaxies:
    """Galaxies at places of their own, none at a pixel's centre, in the brick's own part."""
    rng = np.random.default_rng(brick.brickid)
    low, high = (brick.size - INNER) / 2 + 1, (brick.size + INNER) / 2 - 1
    x, y = rng.uniform(low, high, (2, count))
    return Galaxies(x.tolist(), y.tolist(), changes)


def write_survey(root: Path, bricks: Sequence[Brick] = (Brick(),), count: int = 6) -> Path:
    """A whole small survey: table of bricks, tractor catalogues, images."""
    write_bricks(root, bricks)
    for brick in bricks:
        write_tractor(root, brick, galaxies_in(brick, count))
        write_coadds(root, brick, galaxies_in(brick, count))
    return root


def survey_at(root: Path | str, **changes: Any) -> Survey:
    settings = {
        "root": str(root),
        "release": "dr10",
        "hemisphere": "south",
        "catalogue": "tractor",
        "area": "all",
        "bands": BANDS,
        "pixel_scale_arcsec": SCALE,
    }
    return Survey(SurveyConfig(**(settings | changes)))


def _stage_settings(**changes: Any) -> dict[str, Any]:
    return {"bands": BANDS, "pixel_scale_arcsec": SCALE} | changes


def targets_config(**changes: Any) -> TargetsConfig:
    settings = {"variant": "v3_color_relaxed", "is_dereddened": False, "tile_nside": 256}
    return TargetsConfig(**_stage_settings(**(settings | changes)))


def splits_config(**changes: Any) -> SplitsConfig:
    shares = {"train": 0.4, "val": 0.2, "calib": 0.2, "test": 0.2}
    settings: dict[str, Any] = {
        "seed": 1,
        "region_nside": 256,
        "shares": shares,
        "shares_tolerance": 0.1,
        "guard_arcsec": 30.0,
    }
    return SplitsConfig(**_stage_settings(**(settings | changes)))


def images_config(**changes: Any) -> ImagesConfig:
    return ImagesConfig(**_stage_settings(**changes))


def cutouts_config(**changes: Any) -> CutoutsConfig:
    settings: dict[str, Any] = {
        "size_px": 80,
        "sky_inner_px": 28.0,
        "sky_outer_px": 38.0,
        "masked_bits": ("BRIGHT", "SATUR", "ALLMASK", "BAILOUT"),
        "max_masked_fraction": 0.1,
    }
    bands = changes.get("bands", BANDS)
    settings["psf_beta"] = dict.fromkeys(bands, 3.0)
    return CutoutsConfig(**_stage_settings(**(settings | changes)))
