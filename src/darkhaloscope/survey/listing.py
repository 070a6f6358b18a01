"""Which catalogue files overlap the part of the sky that the run looks at."""

from pathlib import Path
from typing import TYPE_CHECKING

from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import layout
from darkhaloscope.survey.bricks import Bricks, names_in

if TYPE_CHECKING:
    from darkhaloscope.survey.files import Survey


def catalogues(survey: "Survey") -> dict[str, str]:
    """Path of each catalogue file that overlaps the area, by key: the partitions of `targets`.

    A folder or bucket is listed; a web server is asked for the names that the area makes possible.

    Raises:
        DataError: none is there.
    """
    inside = survey.bricks()
    if survey.config.catalogue == "sweep":
        found = _sweeps(survey, inside)
    else:
        found = _tractors(survey, inside)
    if not found:
        raise DataError(
            f"no {survey.config.catalogue} catalogue of {survey.release} overlaps the area below "
            f"{survey.root}; check survey.root, survey.release, survey.catalogue and survey.area"
        )
    return {key: survey.catalogue_path(key) for key in sorted(found)}


def _sweeps(survey: "Survey", inside: Bricks) -> list[str]:
    release, hemisphere = survey.config.release, survey.config.hemisphere
    if survey.root.startswith("http"):
        possible = [key for key in layout.sweep_keys(release) if _overlaps(key, inside)]
        return [key for key in possible if survey.exists(survey.catalogue_path(key))]
    folder = layout.sweep_path("x", release=release, hemisphere=hemisphere).rsplit("/", 1)[0]
    keys_here = (Path(path).name.removesuffix(".fits") for path in survey.listing(folder))
    return [key for key in keys_here if _overlaps(key, inside)]


def _overlaps(key: str, inside: Bricks) -> bool:
    box = layout.sweep_box(key)
    return box is not None and bool(inside.overlaps(box[:2], box[2:]).any())


def _tractors(survey: "Survey", inside: Bricks) -> list[str]:
    names = inside.names.astype(str).tolist()
    if not survey.root.startswith("http"):
        folder = survey.catalogue_path(f"tractor-{names[0]}").rsplit("/", 2)[0] if names else ""
        parts = sorted({name[:3] for name in names})
        listed = {
            Path(path).name.removesuffix(".fits")
            for part in parts
            for path in survey.listing(f"{folder}/{part}")
        }
        return [key for name in names if (key := f"tractor-{name}") in listed]
    summary = layout.bricks_path(survey.config.release, survey.config.hemisphere)
    if survey.exists(summary):
        has = names_in(survey.local(summary))
        return [f"tractor-{name}" for name in names if name in has]
    return [
        f"tractor-{name}"
        for name in names
        if survey.exists(survey.catalogue_path(f"tractor-{name}"))
    ]
