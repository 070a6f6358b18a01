"""Look-alikes from named draws: which parts a ring, a spiral or a satellite's trail is made of.

NumPy, on the host. Every number belongs to a row's id and a named draw, as in `priors`. The result
is rows of `parts`; how bright and how blue the light is does not stand here, as it is a lens's. The
ranges and the shares of the variants are settings, read by attribute
(`core.settings.shapes`); what is fixed in the code are proportions of one part to another.

Kinds are drawn in `morphology_discs` (ring, spiral, edge_on), `morphology_mixed` (merger, agn_jet,
halo_ring), `morphology_artefacts`, and those made of a lens's own source in `pieces`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core import keys
from darkhaloscope.lensing import populations
from darkhaloscope.lensing.asked import Range
from darkhaloscope.lensing.parts import FORM, LAYER, PART, Form
from darkhaloscope.lensing.priors import Columns, Ids, Values

Parts = NDArray[np.float32]
OLD, YOUNG = 0, 1  # layers
# What separates the layers' colours, at the host's redshift: half-way from E to Sbc, and Im.
_OLD_BLUENESS, _YOUNG_BLUENESS = 0.5, 1.0


@dataclass(frozen=True, slots=True)
class Places:
    """What a drawing asks of the hosts, one row a stamp.

    Attributes:
        light_phi: Position angle of the host's light, radians from +x to +y, (n,).
        psf_fwhm_r: FWHM of the PSF in r, arcsec, (n,).
    """

    light_phi: Values
    psf_fwhm_r: Values


@dataclass(frozen=True, slots=True)
class Drawn:
    """n look-alikes of one kind.

    Attributes:
        parts: Rows of `parts`, Form.NONE where there are fewer, (n, k, PART).
        variant: Which of `variants`, (n,).
        variants: Names of the forms of the kind.
        radius: What the table calls `shape_radius_arcsec`, (n,).
        width: What it calls `shape_width_arcsec`, NaN where nothing has one, (n,).
        q: Axis ratio of what is painted, NaN where nothing has one, (n,).
        phi: Its position angle, radians, (n,).
        young_share_r: Share of the second layer in r, (n,).
        lit: Bands that hold light of the row, (n, band) or (1, 1).
        brighter_mag: By how much its light is brighter than a lens's, (n,) or (1,).
    """

    parts: Parts
    variant: NDArray[np.int64]
    variants: tuple[str, ...]
    radius: Values
    width: Values
    q: Values
    phi: Values
    young_share_r: Values
    lit: NDArray[np.bool_] = field(default_factory=lambda: np.ones((1, 1), bool))
    brighter_mag: Values = field(default_factory=lambda: np.zeros(1))


class Draws:
    """Named draws of n rows of one kind."""

    def __init__(self, ids: Ids, kind: str, *, seed: int) -> None:
        """Draws whose names begin with the kind's."""
        self._ids, self._kind, self._seed = ids, kind, seed

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._ids)

    def take(self, rows: NDArray[np.intp]) -> "Draws":
        """The draws of some of the rows."""
        return Draws(self._ids[rows], self._kind, seed=self._seed)

    def uniform(self, name: str) -> Values:
        """In [0, 1), (n,)."""
        return keys.uniform(self._ids, seed=self._seed, stream=f"{self._kind}_{name}")

    def normal(self, name: str) -> Values:
        """Standard normal, (n,)."""
        return keys.normal(self._ids, seed=self._seed, stream=f"{self._kind}_{name}")

    def flat(self, span: Range, name: str) -> Values:
        """Even over a range, (n,)."""
        return np.asarray(span.low + (span.high - span.low) * self.uniform(name))

    def angle(self, name: str) -> Values:
        """Any direction, radians, (n,)."""
        return np.asarray(2 * np.pi * self.uniform(name))

    def sign(self, name: str) -> Values:
        """-1 or 1, (n,)."""
        return np.where(self.uniform(name) < 0.5, -1.0, 1.0)

    def one_of(self, values: Sequence[float], name: str) -> Values:
        """One of some values, each as probable, (n,)."""
        place = (self.uniform(name) * len(values)).astype(np.intp)
        return np.asarray(values, np.float64)[place]

    def variant(self, shares: Mapping[Any, float]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Which form a row has, (n,), and the names of the forms."""
        drawn = keys.choice(
            self._ids,
            np.array(list(shares.values())),
            seed=self._seed,
            stream=f"{self._kind}_variant",
        )
        return drawn, tuple(shares)


def is_any(variant: NDArray[np.int64], names: Sequence[str], *wanted: str) -> NDArray[np.bool_]:
    """Rows of some of the variants, (n,); a variant without a share is no row's."""
    return np.isin(variant, [names.index(name) for name in wanted if name in names])


def only_where(rows: NDArray[np.bool_], part: Parts) -> Parts:
    """A part of some of the rows; elsewhere Form.NONE."""
    part[~rows] = 0
    return part


def layer_shares(young_share_r: Values, r_minus_z: Values, bands: Sequence[str]) -> Columns:
    """Share of the second, young layer in each band: `layer_share_<b>`.

    The layers differ in colour as an old and a star-forming galaxy at the host's redshift do, and
    add up to the row's own light in every band.

    Args:
        young_share_r: Its share in r, (n,).
        r_minus_z: Colour of the host, from which its redshift is read, (n,).
        bands: The run's bands.
    """
    z = populations.host_redshift(r_minus_z, 0.0, scatter=0.0)
    is_old = np.ones(len(z), bool)
    shares = {}
    for band in bands:
        apart = populations.source_colour(
            band, z, _OLD_BLUENESS, is_old
        ) - populations.source_colour(band, z, _YOUNG_BLUENESS, ~is_old)
        young = young_share_r * 10 ** (0.4 * apart)
        shares[f"layer_share_{band}"] = young / np.maximum(young + 1 - young_share_r, 1e-300)
    return shares


def flattened(parts: Parts) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Parts of rows one after the other, those of Form.NONE left out.

    Args:
        parts: Shape (n, k, PART).

    Returns:
        Where each row begins and the last ends, (n + 1,); and the numbers.
    """
    is_there = parts[:, :, FORM] != Form.NONE
    ends = np.zeros(len(parts) + 1, np.int32)
    np.cumsum(is_there.sum(1) * PART, out=ends[1:])
    return ends, parts[is_there].ravel()


def holds_light(parts: Parts, layer: int) -> NDArray[np.bool_]:
    """Rows with a part in a layer, (n,)."""
    return np.asarray(((parts[:, :, FORM] != Form.NONE) & (parts[:, :, LAYER] == layer)).any(1))
