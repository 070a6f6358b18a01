from typing import Any

import pytest
import survey_builders as build
from pydantic import ValidationError

from darkhaloscope.core.settings.survey import SurveyConfig


def survey(**changes: Any) -> SurveyConfig:
    settings = {"root": "/data"} | changes
    return build.survey_at(settings.pop("root"), **settings).config


def fault(**changes: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        survey(**changes)
    errors = refused.value.errors()
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("s3a://bucket/dr10/", "s3://bucket/dr10"),
        ("https://example.org/dr10/", "https://example.org/dr10"),
        ("/data/dr10/", "/data/dr10"),
    ],
)
def test_a_root_is_read_as_it_is_meant(given: str, read: str) -> None:
    assert survey(root=given, area=["0591m305"]).root == read


@pytest.mark.parametrize(
    ("given", "root", "path"),
    [
        ("psf/{brick:.3}/{brick}-{band}.fits", "/data", "psf/059/0591m305-r.fits"),
        ("/psf/{brick}-{band}.fits", "/", "psf/0591m305-r.fits"),
        ("s3a://bucket/psf/{brick}/{band}.fits", "s3://bucket", "psf/0591m305/r.fits"),
        ("https://host:8000/{brick}/{band}", "https://host:8000", "0591m305/r"),
    ],
)
def test_psf_images_may_lie_anywhere(given: str, root: str, path: str) -> None:
    here = build.survey_at("/data", psf_images=given)
    found = here.psf_path("0591m305", "r")
    assert found is not None
    owner, below = here.owner(found)
    assert (owner.root, below) == (root, path)
    assert build.survey_at("/data").psf_path("0591m305", "r") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "ftp://example.org"}, "root: .*expected a folder, https"),
        ({"root": "https://example.org", "area": "all"}, "name an area"),
        ({"area": ["591m305"]}, "area.bricks.0: .*no brick; expected a name such as"),
        ({"area": "some"}, "area.all: Input should be 'all'"),
        ({"area": []}, "area.boxes: .*at least 1"),
        ({"area": [{"ra_deg": (0, 1), "dec_deg": (2, 1)}]}, "area.boxes.0: .*must rise"),
        ({"area": [{"ra_deg": (0, 361), "dec_deg": (1, 2)}]}, r"must lie in \[0, 360\]"),
        ({"area": [{"ra_deg": (5, 5), "dec_deg": (1, 2)}]}, "spans nothing"),
        ({"bands": ("g", "g")}, "name a filter twice"),
        ({"release": "dr11"}, "release: Input should be 'dr3'"),
        ({"psf_images": "psf/{brick}.fits"}, "psf_images: .*names {brick} and {band}"),
        ({"psf_images": "{brick}-{band}-{id}.fits"}, "psf_images: .*it is no template"),
        ({"psf_images": "{brick.name}-{band}.fits"}, "psf_images: .*it is no template"),
        ({"psf_images": "{brick}-{band.fits"}, "psf_images: .*it is no template"),
        ({"psf_images": "ftp://host/{brick}-{band}"}, "psf_images: .*a path, https"),
    ],
)
def test_a_survey_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    import re

    assert re.search(message, fault(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sky_inner_px": 38.0}, "must rise and fit"),
        ({"sky_outer_px": 41.0}, "must rise and fit"),
        ({"psf_beta": {"g": 3.0}}, "psf_beta names bands"),
        ({"psf_beta": {"g": 1.0, "r": 3.0, "z": 3.0}}, "flux for beta > 1"),
        ({"masked_bits": ("SATURN",)}, "masked_bits"),
    ],
)
def test_cutouts_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build.cutouts_config(**changes)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1; got 0.9"):
        build.splits_config(shares={"train": 0.3, "val": 0.2, "calib": 0.2, "test": 0.2})


@pytest.mark.parametrize("nside", [0, 3, 100])
def test_nside_is_a_power_of_two(nside: int) -> None:
    with pytest.raises(ValidationError):
        build.targets_config(tile_nside=nside)
