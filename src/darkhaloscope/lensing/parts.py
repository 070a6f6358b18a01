"""Parts: the few forms of which every painted look-alike is made, as rows of numbers.

A look-alike is a list of parts, each a row of `PART` numbers, kept in the manifest's column
`shape_parts` one after the other. Every number its pixels need stands there; `contaminants` and
the compiled loops read them, `morphology` and `pieces` draw them. Lengths are arcsec from the
host's centroid, angles radians from +x towards +y, an elliptical radius is sqrt(q u^2 + v^2 / q).

Columns 0 to 5 are the same for every form: FORM, LAYER, SHARE, X, Y, PHI. Light comes in two layers
with colours of their own (the manifest's `layer_share_<b>` is the second one's share of a band);
SHARE is what a part has of its layer's light in the stamp and its margin, relative to the other
parts of the layer. Columns 6 to 12 are the form's own:

BLOB   Sersic ellipse: r_eff sqrt(ab); q; n, 0.5 to 2; depth of a dust lane along the major axis, 0
       to 1; Gaussian sigma of the lane; warp w, v moves to v - w u |u| / r_eff; 0
RING   elliptical Gaussian ring: radius; sigma; q; contrast along it, 0 to 1; lobes; angle of one; 0
ARMS   logarithmic spiral arms: radius where they begin; sigma; q; number; pitch; r_eff of the disc
       whose light they follow; angle, in the disc, at which one begins
ARC    part of a logarithmic spiral about (X, Y), its middle at PHI: radius there; sigma across;
       Gaussian sigma along, radians; pitch; 1: sharp outwards, an exponential of scale sigma
       inwards, as shells are; 0: Gaussian on both sides; 0; 0
LINE   straight, its middle at (X, Y), along PHI: half length; sigma across; 1: fades linearly from
       its middle to its ends, 0: even; 0; 0; 0; 0
PIECE  the row's own source, unlensed, seen at (X, Y) and stretched along PHI by a pure shear; 0 is
       a companion: shear; 0; 0; 0; 0; 0; 0

Two forms are done to pixels, after the PSF; LAYER is the number of the band, -1 for all:

SHIFT  the band's image is moved: pixels along x; along y; 0; 0; 0; 0; 0
EDGE   pixels beyond the line through (X, Y) whose normal points along PHI hold 0: 0; ...
TRACK  sharp straight track, as a cosmic ray's or a bleeding column's, SHARE being its flux, nmgy:
       half length; Gaussian sigma across; 0; 0; 0; 0; 0
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

PART = 13  # numbers a part
MOST_PARTS = 16  # of one look-alike
FORM, LAYER, SHARE, X, Y, PHI, OWN = range(7)


class Form(IntEnum):
    """What a part is; NONE fills up rows that have fewer parts than others."""

    NONE = 0
    BLOB = 1
    RING = 2
    ARMS = 3
    ARC = 4
    LINE = 5
    PIECE = 6
    SHIFT = 7
    EDGE = 8
    TRACK = 9


ON_PIXELS = (Form.SHIFT, Form.EDGE, Form.TRACK)


def part(
    form: Form,
    n: int,
    *own: ArrayLike,
    share: ArrayLike = 1.0,
    layer: ArrayLike = 0,
    x: ArrayLike = 0.0,
    y: ArrayLike = 0.0,
    phi: ArrayLike = 0.0,
) -> NDArray[np.float32]:
    """One part of each of n look-alikes, (n, PART).

    Args:
        form: Which form; those with share 0 are as good as absent.
        n: Number of look-alikes.
        own: The form's own numbers, one or n of each; what is left out is 0.
        share: Of its layer's light, any unit.
        layer: 0 or 1; of a form done to pixels the band.
        x: Centre, arcsec from the host.
        y: The same along y.
        phi: Direction, radians.
    """
    made = np.zeros((n, PART), np.float64)
    for column, value in enumerate((form, layer, share, x, y, phi, *own)):
        made[:, column] = value
    return made.astype(np.float32)
