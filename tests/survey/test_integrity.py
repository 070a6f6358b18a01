from pathlib import Path

import numpy as np
import pytest
import survey_builders as build
from astropy.io import fits

from darkhaloscope.survey import integrity, layout


@pytest.fixture(params=[".fits", ".fits.gz", ".fits.fz"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image in each compression."""
    path = tmp_path / f"image{request.param}"
    pixels = np.random.default_rng(1).normal(size=(150, 150)).astype(np.float32)
    build.write_image(path, pixels, build.Brick().header())
    return path


def test_a_whole_file_has_no_fault(whole: Path) -> None:
    assert integrity.fault(whole) is None


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_file_cut_anywhere_has_a_fault(whole: Path, share: float) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    assert integrity.fault(whole)


def test_damage_in_a_compressed_stream_is_found(tmp_path: Path) -> None:
    path = tmp_path / "image.fits.gz"
    build.write_image(path, np.arange(40000.0).reshape(200, 200), build.Brick().header())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in str(integrity.fault(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"<html>" * 20, "no FITS file"), (b"x" * 9000, "no FITS file")],
)
def test_what_is_no_fits_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.fits"
    path.write_bytes(content)
    assert reason in str(integrity.fault(path))


def test_a_second_table_cut_off_is_found(tmp_path: Path) -> None:
    path = tmp_path / "two.fits"
    table = fits.BinTableHDU(np.rec.fromarrays([np.arange(4000.0)], names=["a"]))
    fits.HDUList([fits.PrimaryHDU(), table, table.copy()]).writeto(path)
    assert integrity.fault(path) is None
    path.write_bytes(path.read_bytes()[:-3000])
    assert "data unit 3" in str(integrity.fault(path))


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    assert "unreadable" in str(integrity.fault(tmp_path / "nothing.fits"))


@pytest.mark.real
def test_real_files_of_the_survey_are_whole(shared_data: Path) -> None:
    found = [
        path
        for folder in ("dr6-brick-0959p805", "tractor-sweep-samples", "dr9-coadd-cutout")
        for path in (shared_data / folder).glob("*.fits*")
    ]
    assert len(found) > 15
    assert [path for path in found if integrity.fault(path)] == []
    assert layout.SUFFIXES[0] == ".fits.fz"
