"""Where a release of the Legacy Surveys keeps its files: paths below the survey's root.

One release differs from the next in small things only: from dr8 on, south and north have a folder
each; the sweep catalogues carry a version; their rectangles are 10 x 5 deg, from dr10 on 5 x 5 deg.
See https://www.legacysurvey.org/dr10/files.
"""

import re
from collections.abc import Iterator

SWEEP_VERSION = {
    "dr3": "3.1",
    "dr4": "4.0",
    "dr5": "5.0",
    "dr6": "6.0",
    "dr7": "7.1",
    "dr8": "8.0",
    "dr9": "9.0",
    "dr10": "10.1",
}
SUFFIXES = (".fits.fz", ".fits.gz", ".fits")  # the usual one first; early releases vary
OF_ALL_BANDS = ("maskbits", "ccds")  # kinds of file that a brick has one of

_TRACTOR = re.compile(r"tractor-(\d{4}[mp]\d{3})")
_SWEEP = re.compile(r"sweep-(\d{3})([mp])(\d{3})-(\d{3})([mp])(\d{3})")

SkyBox = tuple[float, float, float, float]


def bricks_path(release: str | None = None, hemisphere: str = "south") -> str:
    """Table of bricks: all of the sky, or those that a release has.

    Examples:
        >>> bricks_path(), bricks_path("dr10")
        ('survey-bricks.fits.gz', 'south/survey-bricks-dr10-south.fits.gz')
    """
    if release is None:
        return "survey-bricks.fits.gz"
    if not folder(release, hemisphere):
        return f"survey-bricks-{release}.fits.gz"
    return f"{hemisphere}/survey-bricks-{release}-{hemisphere}.fits.gz"


def sweep_path(key: str, *, release: str = "dr10", hemisphere: str = "south") -> str:
    """A light catalogue; `key` such as `sweep-000m005-005p000`."""
    return f"{folder(release, hemisphere)}sweep/{SWEEP_VERSION[release]}/{key}.fits"


def tractor_path(brick: str, *, release: str = "dr10", hemisphere: str = "south") -> str:
    """The full catalogue of a brick."""
    return f"{folder(release, hemisphere)}tractor/{brick[:3]}/tractor-{brick}.fits"


def catalogue_path(key: str, *, release: str = "dr10", hemisphere: str = "south") -> str:
    """The catalogue with this key, the name of its file without `.fits`.

    Raises:
        ValueError: the key names neither a sweep nor a tractor catalogue.
    """
    if match := _TRACTOR.fullmatch(key):
        return tractor_path(match[1], release=release, hemisphere=hemisphere)
    if _SWEEP.fullmatch(key):
        return sweep_path(key, release=release, hemisphere=hemisphere)
    raise ValueError(f"{key!r} names neither sweep-<min>-<max> nor tractor-<brick>")


def coadd_path(
    brick: str,
    kind: str,
    band: str | None = None,
    *,
    release: str = "dr10",
    hemisphere: str = "south",
    suffix: str = SUFFIXES[0],
) -> str:
    """An image of a brick.

    Args:
        brick: Name of the brick.
        kind: `image`, `invvar`, `psfsize`, `nexp`; one for all bands: `maskbits`, and `ccds`, the
            table of the CCDs that made the coadds, whose ending is `.fits`.
        band: Filter; not used for `maskbits` and `ccds`.
        release: Data release.
        hemisphere: `south` or `north`.
        suffix: Ending of the file: compressed by tiles unless told otherwise.

    Examples:
        >>> coadd_path("0591m305", "image", "g")
        'south/coadd/059/0591m305/legacysurvey-0591m305-image-g.fits.fz'
    """
    name = kind if kind in OF_ALL_BANDS else f"{kind}-{band}"
    suffix = ".fits" if kind == "ccds" else suffix
    return f"{coadd_folder(brick, release, hemisphere)}/legacysurvey-{brick}-{name}{suffix}"


def coadd_folder(brick: str, release: str, hemisphere: str) -> str:
    """The folder of a brick's images."""
    return f"{folder(release, hemisphere)}coadd/{brick[:3]}/{brick}"


def folder(release: str, hemisphere: str) -> str:
    """What every path of a release begins with: nothing, or the hemisphere."""
    return "" if int(release[2:]) < 8 else f"{hemisphere}/"


def sweep_box(key: str) -> SkyBox | None:
    """Least and largest RA, least and largest Dec, degrees, of a sweep's rectangle.

    Examples:
        >>> sweep_box("sweep-190m005-200p000")
        (190.0, 200.0, -5.0, 0.0)
    """
    match = _SWEEP.fullmatch(key)
    if match is None:
        return None
    ra1, sign1, dec1, ra2, sign2, dec2 = match.groups()
    return float(ra1), float(ra2), _signed(sign1, dec1), _signed(sign2, dec2)


def sweep_keys(release: str) -> Iterator[str]:
    """The keys of all rectangles of the sky, whether or not the release has them."""
    step = 5 if int(release[2:]) >= 10 else 10
    for dec in range(-90, 90, 5):
        for ra in range(0, 360, step):
            yield f"sweep-{ra:03d}{_text(dec)}-{ra + step:03d}{_text(dec + 5)}"


def _signed(sign: str, digits: str) -> float:
    return -float(digits) if sign == "m" else float(digits)


def _text(dec: int) -> str:
    return f"{'m' if dec < 0 else 'p'}{abs(dec):03d}"
