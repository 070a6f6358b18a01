"""`[survey]`: which survey, which part of the sky, and where its files are kept."""

import re
import string
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from darkhaloscope.core.settings.base import Model

Release = Literal["dr3", "dr4", "dr5", "dr6", "dr7", "dr8", "dr9", "dr10"]
Hemisphere = Literal["south", "north"]

_REMOTE = ("http://", "https://", "s3://")
_BRICK = re.compile(r"\d{4}[mp]\d{3}")


def _address(text: str) -> str:
    text = text.replace("s3a://", "s3://", 1).rstrip("/")
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    if not text.startswith(_REMOTE):
        raise ValueError("expected a folder, https://... or s3://...")
    return text


def _brick_name(text: str) -> str:
    if not _BRICK.fullmatch(text):
        raise ValueError(f"{text!r} is no brick; expected a name such as 0591m305")
    return text


def _kind_of_area(value: Any) -> str:
    """Which of its three forms an area has, so that a fault is named in that form alone."""
    if isinstance(value, str):
        return "all"
    first = next(iter(value), None) if isinstance(value, list | tuple) else None
    return "bricks" if isinstance(first, str) else "boxes"


def _template(text: str) -> str:
    text = text.replace("s3a://", "s3://", 1)
    if "://" in text and not text.startswith(_REMOTE):
        raise ValueError("expected a path, https://... or s3://...")
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        text.format(brick="0591m305", band="g")
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"it is no template: {error}") from error
    if fields != {"brick", "band"}:
        raise ValueError(f"a template names {{brick}} and {{band}}; got {text!r}")
    return text


BrickName = Annotated[str, AfterValidator(_brick_name)]


class Box(Model):
    """A part of the sky between two meridians and two parallels."""

    ra_deg: tuple[float, float]
    """From and to, degrees in [0, 360]; 350 to 10 goes through 0."""
    dec_deg: tuple[float, float]
    """From and to, degrees in [-90, 90]."""

    @model_validator(mode="after")
    def _on_the_sky(self) -> Self:
        if not all(0 <= ra <= 360 for ra in self.ra_deg):
            raise ValueError(f"ra_deg must lie in [0, 360]; got {list(self.ra_deg)}")
        if not -90 <= self.dec_deg[0] < self.dec_deg[1] <= 90:
            raise ValueError(f"dec_deg must rise within [-90, 90]; got {list(self.dec_deg)}")
        if self.ra_deg[0] == self.ra_deg[1]:
            raise ValueError(f"ra_deg spans nothing; got {list(self.ra_deg)}")
        return self


Area = Annotated[
    Annotated[Literal["all"], Tag("all")]
    | Annotated[tuple[Box, ...], Field(min_length=1), Tag("boxes")]
    | Annotated[tuple[BrickName, ...], Field(min_length=1), Tag("bricks")],
    Discriminator(_kind_of_area),
]


class SurveyConfig(Model):
    """The survey as it publishes itself, and the part of it that the run looks at."""

    root: Annotated[str, AfterValidator(_address)]
    """Folder, `https://...` or `s3://...` below which the release's files lie."""
    release: Release
    """Data release: knows the paths and the columns of its files."""
    hemisphere: Hemisphere
    """Part of the survey (DECam or BASS/MzLS); releases before dr8 do not tell them apart."""
    catalogue: Literal["sweep", "tractor"]
    """Read the light catalogues of large areas, or the full ones of single bricks."""
    area: Area
    """`all` that is listed, boxes, or brick names. A brick that a box touches is taken whole."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Filters, in the order of every pixel array."""
    pixel_scale_arcsec: float = Field(gt=0, le=10)
    """Width of a pixel, arcsec; images of another scale are refused."""
    psf_images: Annotated[str, AfterValidator(_template)] | None = None
    """Where the PSF images of a brick are, with `{brick}` and `{band}` in place of the names
    (`{brick:.3}`: its first three characters): a path below `root`, an absolute one, `https://...`
    or `s3://...`. A file is an image of the coadd's PSF on the survey's pixels, or a PsfEx model of
    the coadd. Needed for `stamps.psf_profile = "image"`; none: the survey's `psfsize` serves."""

    # What follows changes speed only.
    cache_folder: str = "~/.cache/darkhaloscope"
    """Where files of a remote root are kept; a folder at the root is read in place."""
    cache_limit_gb: float = Field(default=50.0, gt=0)
    """Files used longest ago go when the cache exceeds this."""
    fetch_parallel: int = Field(default=4, ge=1, le=64)
    """Files fetched at the same time."""
    retries: int = Field(default=5, ge=0, le=20)
    """Further tries when a server is busy or a transfer breaks, each after twice the wait."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands name a filter twice: {list(self.bands)}")
        if self.area == "all" and self.root.startswith("http"):
            raise ValueError("a web server gives no list of files: name an area (boxes or bricks)")
        return self
