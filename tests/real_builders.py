"""One brick of real pixels, laid out as the survey lays out its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import survey_builders as build
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from darkhaloscope.core.units import FWHM_PER_SIGMA
from darkhaloscope.data import pixels
from darkhaloscope.survey import layout

BANDS, SCALE = build.BANDS, build.SCALE
NAME, BRICKID = "0591m305", 591_305  # the id is ours: none comes with the pixels
SIZE = 256
FOLDER, PLACE = "dr9-coadd-cutout", "59.1067_-30.4848.fits"


@dataclass(frozen=True)
class RealBrick:
    """The real pixels of 0591m305, by kind and band, and the header that places them."""

    units: Mapping[tuple[str, str], NDArray[np.float32]]
    header: fits.Header
    psfs: Mapping[str, NDArray[np.float64]]

    @classmethod
    def read(cls, data: Path) -> "RealBrick":
        with fits.open(data / FOLDER / f"cutout_{PLACE}") as file:
            units = {
                (u.header["IMAGETYP"].strip(), u.header["BAND"].strip()): u.data.astype(np.float32)
                for u in file[1:]
            }
            header = file[1].header.copy()
        with fits.open(data / FOLDER / f"copsf_{PLACE}") as file:
            psfs = {b: u.data.astype(float) for b, u in zip(BANDS, file, strict=True)}
        return cls(units, header, psfs)

    def psfsize(self, band: str) -> float:
        """The noise-equivalent width of the coadd's PSF image, arcsec."""
        image = self.psfs[band] / self.psfs[band].sum()
        n_eff = 1 / (image**2).sum()
        return float(FWHM_PER_SIGMA * np.sqrt(n_eff / (4 * np.pi)) * SCALE)

    def sky(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """RA and Dec, degrees, of pixels of the image."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.header["CRVAL1"], self.header["CRVAL2"]]
        wcs.wcs.crpix = [self.header["CRPIX1"], self.header["CRPIX2"]]
        wcs.wcs.cd = np.diag([-SCALE / 3600, SCALE / 3600])
        ra, dec = wcs.wcs_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
        return np.asarray(ra), np.asarray(dec)

    def catalogue(self, x: Any, y: Any, types: list[str]) -> dict[str, Any]:
        """Tractor rows at these pixels. Fluxes are made up: red and bright enough for v3."""
        brick = build.Brick(brickid=BRICKID)
        columns = build.Galaxies(x, y).columns(brick)
        columns["ra"], columns["dec"] = self.sky(x, y)
        columns["release"][:] = 9010
        columns["brickname"] = np.full(len(x), NAME, "S8")
        columns["type"] = np.array(types, "S4")
        columns["sersic"] = np.where(columns["type"] == b"DEV", 4.0, 2.3).astype(np.float32)
        for band in BANDS:
            columns[f"psfsize_{band}"][:] = self.psfsize(band)
        return columns

    def write_coadds(self, root: Path, *, release: str) -> None:
        """Images, weights and widths; there is no nexp and no maskbits with these pixels."""
        files = dict(self.units)
        for band in BANDS:
            files["psfsize", band] = np.full((SIZE, SIZE), self.psfsize(band), np.float32)
        for (kind, band), values in files.items():
            path = layout.coadd_path(NAME, kind, band, release=release)
            build.write_image(root / path, values, self._cards())

    def _cards(self) -> fits.Header:
        kept = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
        kept += ("CD1_1", "CD1_2", "CD2_1", "CD2_2", "BRICK")
        return fits.Header([(key, self.header[key]) for key in kept])

    def join(self, root: Path, x: Any, y: Any, types: list[str], *, release: str = "dr10") -> None:
        """Make this one more brick of a survey that lies at `root`."""
        self.write_coadds(root, release=release)
        path = root / layout.tractor_path(NAME, release=release)
        build.write_fits_table(path, self.catalogue(x, y, types))
        for table in (layout.bricks_path(), layout.bricks_path(release)):
            self._add_brick(root / table)

    def _add_brick(self, path: Path) -> None:
        """A row of a table of bricks: the name, and the sky under the pixels."""
        rows = fits.getdata(path, 1)
        row = np.zeros(1, rows.dtype)
        ra, dec = self.sky([SIZE - 0.5, -0.5], [-0.5, SIZE - 0.5])
        values = {"brickname": NAME, "brickid": BRICKID, "survey_primary": True}
        values |= {"ra": self.header["CRVAL1"], "dec": self.header["CRVAL2"]}
        values |= {"ra1": ra[0], "ra2": ra[1], "dec1": dec[0], "dec2": dec[1]}
        for name in rows.dtype.names:
            if name.lower() in values:
                row[name] = values[name.lower()]
        joined = np.concatenate([np.asarray(rows).view(np.ndarray), row.astype(rows.dtype)])
        fits.BinTableHDU(joined).writeto(path, overwrite=True)


# Pixels of the brick: two discs and six faint galaxies, two places of empty sky, and two that are
# nearer to the edge than half a cutout, 40 px.
OBJECTS = ((122.3, 57.8), (127.2, 130.6), (170.7, 98.9), (77.4, 94.6), (150.2, 121.3))
OBJECTS += ((174.6, 155.2), (208.4, 183.7), (187.8, 40.2))
EMPTY = ((118.2, 181.4), (84.6, 178.3))  # few sources round them, too
AT_THE_EDGE = ((240.2, 178.1), (18.3, 27.4))
PLACES = (*OBJECTS, *EMPTY, *AT_THE_EDGE)
TYPES = ["SER", "SER", *["DEV"] * (len(PLACES) - 2)]


@dataclass(frozen=True)
class Line:
    """A finished run that has the real brick among simulated ones."""

    folder: Path
    brick: RealBrick

    @property
    def run_file(self) -> Path:
        return self.folder / "run.toml"

    @property
    def report(self) -> Path:
        return self.folder / "demo" / "report"

    def table(self, stage: str) -> pa.Table:
        """All partitions of a stage's table."""
        files = sorted((self.folder / "demo" / stage).rglob("*.parquet"))
        return pa.concat_tables([pq.read_table(f, partitioning=None) for f in files])

    def real(self, stage: str) -> pa.Table:
        """The real galaxies' rows of a stage's table, in the order of the catalogue."""
        targets, table = self.table("targets"), self.table(stage)
        mine = targets.filter(pc.equal(targets["brickname"], NAME))["target_id"]
        rows = table.filter(pc.is_in(table["target_id"], value_set=mine.combine_chunks()))
        return rows.sort_by("target_id")

    def usable(self) -> pa.Table:
        """The real galaxies' cutouts that have pixels."""
        cutouts = self.real("cutouts")
        return cutouts.filter(pc.is_null(cutouts["refused"]))


def stacked(table: pa.Table) -> NDArray[np.float32]:
    """Pixels of a table's rows, shape (n, band, y, x)."""
    return pixels.decode(table["pixels"], pixels.layout_of(table.field("pixels"))).copy()
