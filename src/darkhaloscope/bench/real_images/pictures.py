"""The graded candidates as they lie on disk: 8-bit colours and a table of grades.

The grades are read by `judged` alone; `colours` and `host_mags` are all that fitting and
simulating may ask for.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core.errors import ConfigError, DataError

Colours = NDArray[np.uint8]

FOLDER = "spacewarps-cfhtls"
SIZE_PX = 161
PIXEL_SCALE_ARCSEC = 0.186
WITHOUT_TEXT = slice(18, 142)  # rows free of the name at the top and the address at the bottom
LABELS = ("lens", "unsure", "not_lens")
_COLUMNS = ("image", "galaxy_i_mag", "expert_grade", "label")


@dataclass(frozen=True, slots=True)
class Candidates:
    """n graded candidates.

    Attributes:
        names: Of their files.
        rgb: Their pictures, row 0 at the bottom, (n, 3, y, x), red first.
        host_mag_i: i magnitude of the central galaxy as catalogued, 0: none, (n,).
        labels: `lens`, `unsure` or `not_lens`, (n,).
        grades: Mean of the experts' grades, 0 to 3, (n,).
    """

    names: tuple[str, ...]
    rgb: Colours
    host_mag_i: NDArray[np.float64]
    labels: NDArray[np.str_]
    grades: NDArray[np.float64]


def folder_of(asked: Path | None) -> Path:
    """The folder asked for, else that in $DHS_SHARED.

    Raises:
        ConfigError: neither is given, or it holds no table of grades.
    """
    if asked is None:
        shared = os.environ.get("DHS_SHARED")
        if not shared:
            raise ConfigError(
                "spacewarps needs the graded candidates: give --data FOLDER (it holds labels.csv "
                f"and the pictures), or set DHS_SHARED to the folder that holds data/{FOLDER}"
            )
        asked = Path(shared) / "data" / FOLDER
    if not (asked / "labels.csv").is_file():
        raise ConfigError(
            f"{asked} holds no labels.csv; give --data the folder of the graded candidates"
        )
    return asked


def read(folder: Path) -> Candidates:
    """All candidates of a folder.

    Raises:
        DataError: a column, a picture or a known label is missing, or a picture is of another size.
    """
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    faults = [f"no column {name}" for name in _COLUMNS if not rows or name not in rows[0]]
    if not faults:
        faults = [
            f"{row['image']}: label {row['label']!r} is none of {', '.join(LABELS)}"
            for row in rows
            if row["label"] not in LABELS
        ]
        faults += [
            f"{row['image']} is not there" for row in rows if not (folder / row["image"]).is_file()
        ]
    if faults:
        raise DataError(f"{folder}/labels.csv: {'; '.join(faults)}; fetch the folder again")
    names = tuple(row["image"] for row in rows)
    return Candidates(
        names=names,
        rgb=np.stack([picture(folder / name) for name in names]),
        host_mag_i=np.array([float(row["galaxy_i_mag"]) for row in rows]),
        labels=np.array([row["label"] for row in rows]),
        grades=np.array([float(row["expert_grade"]) for row in rows]),
    )


def picture(path: Path) -> Colours:
    """One picture, row 0 at the bottom, (3, y, x).

    Raises:
        DataError: it is not of the candidates' size.
        ConfigError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ConfigError("reading pictures needs Pillow: pip install pillow") from error
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (SIZE_PX, SIZE_PX, 3):
        raise DataError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[0]} px, not {SIZE_PX} x {SIZE_PX}; "
            "fetch it again"
        )
    return np.ascontiguousarray(pixels[::-1].transpose(2, 0, 1))
