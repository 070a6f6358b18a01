"""Painters: from the numbers of a kind's rows to its light, one renderer call a painter.

A row is painted by one of them: as its own source, lensed or in pieces that no lens makes, which is
a Sersic profile or a picture; or as parts, of light or done to the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.lensing.artefacts import spoilt
from darkhaloscope.lensing.bank import Pictures
from darkhaloscope.lensing.contaminants import LIT, Parts
from darkhaloscope.lensing.parts import LAYER, ON_PIXELS, OWN, PHI, SHARE, Form, X, Y
from darkhaloscope.lensing.profiles import is_checked, require
from darkhaloscope.lensing.render import Cut, Lens, Sersic, paint, render_cut, render_lensed
from darkhaloscope.ml.paint_batch import (
    MAY_LACK_A_BAND,
    Batch,
    Camera,
    Edge,
    Ground,
    Light,
    batch_of,
    host_numbers,
    parts_of,
    psf_of,
)

__all__ = [
    "PAINTERS",
    "Batch",
    "Camera",
    "Edge",
    "Ground",
    "Light",
    "Painter",
    "batch_of",
    "host_numbers",
    "painted_by",
    "parts_of",
]

TARGET_BAND = "g"  # arc_snr_target is the matched-filter S/N in it
MAX_OTHER_BAND = 2.0  # S/N of any band over the target, at most
MAX_SCALE = 1000.0  # of a source that training rescales: light that misses the stamp stays faint

SEEN = ("lens", "single_image")  # a source behind a lens
IN_PIECES = ("companion", "radial_arc", "scrambled")  # a source where no lens puts it
OF_PARTS = ("ring", "spiral", "edge_on", "merger", "agn_jet", "halo_ring", "artefact")


Name = Literal["profiles", "pictures", "parts", "pixels"]


@dataclass(frozen=True, slots=True)
class Painter:
    """What makes the light of some rows.

    Attributes:
        name: What it paints.
        kinds: The kinds; rows come in this order.
        shapes: Makes what is rendered, which refuses numbers outside their ranges.
        paint: Light of rows on their ground.
        has_photons: Whether it is light, which comes with the noise of its photons.
    """

    name: Name
    kinds: tuple[str, ...]
    shapes: Callable[[Batch], object]
    paint: Callable[[Batch, Ground], Light]
    has_photons: bool = True

    def check(self, batch: Batch) -> None:
        """Refuse rows that cannot be painted.

        Raises:
            ValueError: a number is missing or outside its range.
        """
        if batch.camera.psf_profile != "image":  # images are checked before they are kept
            psf_of(batch)
        flux = batch.per_band("flux") * batch.per_band("dust")
        require(flux.isfinite() | torch.tensor(not self.has_photons), flux, "a flux is finite")
        for axis in ("centre_x", "centre_y"):
            require(batch.column(axis).isfinite(), batch.column(axis), "a centre is finite")
        for name, meaning in _ABOVE_0.items():
            value = batch.per_band(name)
            require((value > 0) & value.isfinite(), value, meaning)
        most = batch.column("light_scale_max")
        require((most >= 0) | most.isnan(), most, "light_scale_max is >= 0")
        self.shapes(batch)


_ABOVE_0 = {
    "electrons": "electrons per nmgy are more than 0",
    "sky_sigma": "the noise of the sky is more than 0 nmgy",
}


def painted_by(
    kinds: NDArray[np.str_], has_picture: NDArray[np.bool_], forms: NDArray[np.int8]
) -> NDArray[np.str_]:
    """Name of the one painter of each row, (n,); "" where nothing is painted.

    Args:
        kinds: Of each row, (n,); "" where a galaxy is what it is by nature.
        has_picture: Whether its source is a picture, (n,).
        forms: Of its parts, (n, K).

    Raises:
        ValueError: parts of a row are not of its kind.
    """
    of_source = np.isin(kinds, (*SEEN, *IN_PIECES))
    of_parts = np.isin(kinds, OF_PARTS)
    has_light, has_pieces, is_spoilt = (
        np.isin(forms, some).any(1) for some in (LIT, [Form.PIECE], ON_PIXELS)
    )
    for wrong, meaning in (
        (has_light & ~of_parts, "its kind is not made of parts"),
        (is_spoilt & (kinds != MAY_LACK_A_BAND), "its kind is not done to pixels"),
        (has_pieces & ~np.isin(kinds, IN_PIECES), "its kind is not made of pieces of its source"),
        (np.isin(kinds, IN_PIECES) & ~has_pieces, "its kind is made of pieces, and it has none"),
        (of_parts & ~has_light & ~is_spoilt, "its kind is made of parts, and it has none"),
        (has_light & is_spoilt, "it has parts of light and parts done to pixels"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"shape_parts: {meaning}; {kinds[row]} in row {row}")
    name = np.where(has_picture, "pictures", "profiles")
    name = np.where(of_parts, np.where(is_spoilt, "pixels", "parts"), name)
    return np.where(of_source | of_parts, name, "")


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Pieces of the sources of some rows, each (m,).

    Attributes:
        row: Whose they are.
        own: Their parts, (m, PART).
        flux: Of what the row's source has, the shear's own magnification divided out.
    """

    row: Tensor
    own: Tensor
    flux: Tensor


def _pieces(batch: Batch) -> _Pieces:
    shapes = batch.shapes()
    row, slot = shapes.at(Form.PIECE)
    own = shapes.values[row, slot]
    total = own.new_zeros(len(batch)).index_add_(0, row, own[:, SHARE])
    is_cut = total.new_zeros(len(batch)).index_fill_(0, row, 1) > 0
    require((total > 0) | ~is_cut, total, "the pieces of a source have a share > 0")
    return _Pieces(row, own, own[:, SHARE] / total[row] * (1 - own[:, OWN] ** 2))


def _sources(
    batch: Batch, source: "_Source"
) -> tuple[Sersic | Pictures, Lens, Cut | None, _Pieces]:
    """The rows' sources, their lenses, and the pieces of those that are in pieces."""
    lens = Lens(
        batch.column("theta_e_arcsec"),
        batch.column("lens_q"),
        batch.angle("lens_phi_deg"),
        batch.column("shear"),
        batch.angle("shear_phi_deg"),
    )
    x, y = batch.column("src_x_arcsec"), batch.column("src_y_arcsec")
    whole, pieces = source(batch, x, y), _pieces(batch)
    if not len(pieces.row):
        return whole, lens, None, pieces
    at_x, at_y, shear, phi = (pieces.own[:, column] for column in (X, Y, OWN, PHI))
    none = torch.zeros_like(shear)
    # where a source stands whose image is seen at (X, Y)
    g1, g2 = shear * torch.cos(2 * phi), shear * torch.sin(2 * phi)
    x, y = (1 - g1) * at_x - g2 * at_y, (1 + g1) * at_y - g2 * at_x
    own = replace(
        batch,
        values=batch.values[:, pieces.row],
        parts=None,
        forms=None,
        places=None,
        psf_images=None,
    )
    sheared = Lens(none, torch.ones_like(shear), none, shear, phi)
    return whole, lens, Cut(source(own, x, y), sheared, pieces.row, pieces.flux), pieces


def _paint_sources(batch: Batch, ground: Ground, source: "_Source") -> Light:
    """Arcs, single images of sources outside the caustic, and sources in pieces.

    Pieces have the arc's light and colours: the arc is rendered too, to know how bright it is.
    """
    whole, lens, cut, pieces = _sources(batch, source)
    flux, place = batch.per_band("flux"), batch.place()
    dusty = flux * batch.per_band("dust")
    if cut is None:
        arcs = light = render_lensed(whole, lens, flux=dusty, **place)
    else:
        has_target = batch.column("arc_snr_target").isfinite()
        arcs, light = render_cut(whole, lens, cut, flux=dusty, is_seen=has_target, **place)
    scale, magnification = _training_scale(arcs.pixels, ground), arcs.magnification
    if cut is not None:
        is_cut = torch.zeros_like(scale).index_fill_(0, pieces.row, 1) > 0
        scale = torch.where(is_cut, scale * magnification, scale)
        magnification = torch.where(is_cut, torch.nan, magnification)
    return _light(light.pixels, light.inside, flux, scale, magnification)


def _shapes(batch: Batch) -> Parts:
    """Look-alikes of light; a layer that holds light has parts."""
    shapes = batch.shapes()
    if not is_checked():
        second = batch.per_band("second")
        flux = batch.per_band("flux")
        lit = torch.from_numpy(np.isin(shapes.forms, LIT)) & (shapes.values[..., SHARE] > 0)
        for layer, share in enumerate((1 - second, second)):
            has_parts = (lit & (shapes.values[..., LAYER] == layer)).any(1)
            needs = (share * flux > 0).any(1)
            require(has_parts | ~needs, share.amax(1), f"a share of layer {layer} has parts in it")
    return shapes


def _paint_parts(batch: Batch, ground: Ground) -> Light:
    flux = batch.per_band("flux")
    made = paint(batch.shapes(), flux=flux * batch.per_band("dust"), **batch.place())
    scale = _training_scale(made.pixels, ground)
    return _light(made.pixels, made.inside, flux, scale, torch.full_like(scale, torch.nan))


def _spoil(batch: Batch, ground: Ground) -> Light:
    """What an artefact changes, as light: of no source, so that it has no flux of its own."""
    before = ground.pixels[ground.rows]
    after = spoilt(
        before,
        batch.shapes(),
        centre_x=batch.column("centre_x"),
        centre_y=batch.column("centre_y"),
        grid=batch.camera.grid,
        scale=_at_most(torch.ones_like(batch.column("light_scale_max")), batch),
    )
    unknown = torch.full_like(batch.per_band("flux"), torch.nan)
    return Light(after - before, unknown, unknown[:, 0], unknown)


def _source_painter(name: "Name", source: "_Source") -> Painter:
    """A painter of galaxies behind lenses, or beside their hosts."""
    return Painter(
        name,
        (*SEEN, *IN_PIECES),
        partial(_sources, source=source),
        partial(_paint_sources, source=source),
    )


def _sersic(batch: Batch, x: Tensor, y: Tensor) -> Sersic:
    return Sersic(
        x,
        y,
        batch.column("src_r_eff_arcsec"),
        batch.column("src_n"),
        batch.column("src_q"),
        batch.angle("src_phi_deg"),
    )


def _pictures(batch: Batch, x: Tensor, y: Tensor) -> Pictures:
    if batch.bank is None:
        raise ValueError("rows name pictures of galaxies, but no bank of sources was handed over")
    row = batch.column("src_picture")
    require(row.isfinite(), row, "src_picture is a row of the bank")
    return Pictures(
        batch.bank,
        row.long(),
        x,
        y,
        batch.column("src_r_eff_arcsec"),
        batch.angle("src_phi_deg"),
        batch.column("src_is_mirrored") > 0,
    )


_Source = Callable[[Batch, Tensor, Tensor], Sersic | Pictures]

PAINTERS = (
    _source_painter("profiles", _sersic),
    _source_painter("pictures", _pictures),
    Painter("parts", OF_PARTS, _shapes, _paint_parts),
    Painter("pixels", (MAY_LACK_A_BAND,), Batch.shapes, _spoil, has_photons=False),
)


def _light(
    pixels: Tensor, inside: Tensor, flux: Tensor, scale: Tensor, magnification: Tensor
) -> Light:
    pixels.mul_(scale[:, None, None, None])  # in place: new memory costs more than the product
    return Light(pixels, inside, magnification, flux * scale[:, None])


def _training_scale(light: Tensor, ground: Ground) -> Tensor:
    """What brings the matched-filter S/N to its target, 1 where there is none; (n,).

    The target is that in g. Light so red that another band would stand out by more than
    `MAX_OTHER_BAND` times as much is held there: else a red source would outshine its host. No
    light passes its row's `light_scale_max` either, beyond which its host would be no target.
    """
    band = ground.batch.camera.bands.index(TARGET_BAND)
    target = ground.batch.column("arc_snr_target")
    matched = ground.matched_snr(light)
    reached = torch.maximum(matched[:, band], matched.amax(1) / MAX_OTHER_BAND)
    has_target = torch.isfinite(target) & (reached > 0)
    scale = target / torch.where(has_target, reached, 1.0)
    return _at_most(torch.where(has_target, scale.clamp(max=MAX_SCALE), 1.0), ground.batch)


def _at_most(scale: Tensor, batch: Batch) -> Tensor:
    """Scales of light held at `light_scale_max`, where there is one."""
    most = batch.column("light_scale_max")
    return torch.where(most.isnan(), scale, torch.minimum(scale, most))
