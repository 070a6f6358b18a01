"""All that shows in a brick's image, its neighbours' galaxies among it, and its light."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC, SimulateConfig
from darkhaloscope.core.units import COADD_RMS_FACTOR, fwhm_from_psfsize
from darkhaloscope.lensing.snr import arc_snr
from darkhaloscope.simulate import colours, galaxies, parts, shapes, surroundings
from darkhaloscope.simulate.canvas import Canvas, Light, sky_bowl, stamp_corner
from darkhaloscope.simulate.draws import Draws, Rows, Values
from darkhaloscope.simulate.observing import BRIGHT, MEDIUM, Conditions
from darkhaloscope.simulate.plan import Plan
from darkhaloscope.simulate.sky import Brick, neighbours, pixel_from_sky

_MARGIN_PX = 70  # light of galaxies this far outside still reaches the image
ARC_STAMP_PX, _SHAPE_STAMP_PX = 64, 80
_BOWL_MAG_Z, _BOWL_SIGMA_ARCSEC = 18.7, 8.0
_HALO_MAG_R = {BRIGHT: 13.0, MEDIUM: 16.0}
RING_BELOW_HOST_MAG = (0.3, 1.8)  # r magnitudes by which a ring is fainter than its galaxy


@dataclass(frozen=True, slots=True)
class Scene:
    """What shows in an image.

    Attributes:
        galaxies: Rows of GALAXY, stars too, (n,).
        lenses: Rows of LENS, (m,).
        x: Position of each galaxy, pixels, (n,).
        y: Position of each galaxy, pixels, (n,).
    """

    galaxies: Rows
    lenses: Rows
    x: Values
    y: Values

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each id, all of which are there."""
        order = np.argsort(self.galaxies["id"], kind="stable")
        return order[np.searchsorted(self.galaxies["id"][order], ids)]


@dataclass(frozen=True, slots=True)
class Arcs:
    """Lensed light of the lenses of a scene, in their order.

    Attributes:
        flux: Lensed flux, nmgy, (m, band).
        magnification: Lensed over unlensed flux, (m,).
        snr: Integrated signal-to-noise over the pixels above one sky sigma, (m, band).
        peak_x: Brightest pixel of the arc in the image, (m,).
        peak_y: Brightest pixel of the arc in the image, (m,).
    """

    flux: Values
    magnification: Values
    snr: Values
    peak_x: Values
    peak_y: Values


@dataclass(frozen=True, slots=True)
class Drawn:
    """The light of a scene.

    Attributes:
        light: All light, nmgy, (band, y, x).
        starlight: That of stars alone.
        bowl: What the sky model takes away.
        arcs: The lensed light.
        ring_flux: Flux of each galaxy's ring, nmgy, (n, band).
        haloes: Masks of bright stars: x, y, radius in pixels, bit.
    """

    light: Light
    starlight: Light
    bowl: Light
    arcs: Arcs
    ring_flux: Values
    haloes: list[tuple[float, float, float, int]]


def owned(brick: Brick, plan: Plan, config: SimulateConfig) -> tuple[Rows, Rows]:
    """Galaxies and stars that a brick gives rise to, and its lenses."""
    targets = galaxies.targets(brick, config, plan.kinds)
    found = [
        targets,
        surroundings.satellites(targets, config),
        surroundings.second_nuclei(targets, config),
        surroundings.field_galaxies(brick, config),
        surroundings.stars(brick, config),
    ]
    return np.concatenate(found), plan.lens_rows(targets, config)


def scene(brick: Brick, plan: Plan, config: SimulateConfig) -> Scene:
    """All that shows in a brick's image."""
    around = [owned(b, plan, config) for b in neighbours(brick, list(plan.sky), config)]
    table = np.concatenate([found[0] for found in around])
    lens = np.concatenate([found[1] for found in around])
    size = config.brick_size_px
    x, y = pixel_from_sky(table["ra"], table["dec"], brick, size)
    shows = (np.minimum(x, y) > -_MARGIN_PX) & (np.maximum(x, y) < size + _MARGIN_PX)
    table = table[shows]
    return Scene(table, lens[np.isin(lens["id"], table["id"])], x[shows], y[shows])


def draw(show: Scene, seen: Conditions, config: SimulateConfig) -> Drawn:
    """Render a scene as the brick's conditions have it, without noise."""
    table, size = show.galaxies, config.brick_size_px
    canvas = Canvas(seen, size)
    canvas.add_profiles(parts.profiles(table, show.x, show.y, seen, config.seed))
    ring_flux = _add_rings(canvas, show, config)
    _add_arms(canvas, show, config)
    _add_shells(canvas, show, config)
    arcs = _add_arcs(canvas, show)
    is_star = table["kind"] == "star"
    flux = seen.flux(table["mag"])
    starlight = canvas.add_stars(show.x[is_star], show.y[is_star], flux[is_star])
    is_bright = ~is_star & (table["mag"][:, colours.Z] < _BOWL_MAG_Z)
    bowl = sky_bowl(
        show.x[is_bright],
        show.y[is_bright],
        flux[is_bright],
        config.oversubtraction,
        size,
        _BOWL_SIGMA_ARCSEC / PIXEL_SCALE_ARCSEC,
    )
    return Drawn(canvas.light, starlight, bowl, arcs, ring_flux, _haloes(show, is_star))


def _add_rings(canvas: Canvas, show: Scene, config: SimulateConfig) -> Values:
    """Blue rings; returns their flux for every galaxy, (n, band)."""
    all_flux = np.zeros((len(show.galaxies), len(canvas.seen.bands)))
    at = np.flatnonzero(show.galaxies["kind"] == "ring")
    hosts = show.galaxies[at]
    draws = Draws(hosts["id"], config.seed)
    below = draws.uniform("ring mag", *RING_BELOW_HOST_MAG)
    all_flux[at] = canvas.seen.flux(colours.blue(hosts["mag"][:, colours.R] + below, draws))
    brightness = shapes.ring(*shapes.ring_parameters(hosts, draws))
    canvas.add_shape(brightness, show.x[at], show.y[at], all_flux[at], _SHAPE_STAMP_PX)
    return all_flux


def _add_arms(canvas: Canvas, show: Scene, config: SimulateConfig) -> None:
    at = np.flatnonzero(show.galaxies["kind"] == "spiral")
    hosts = show.galaxies[at]
    disc = canvas.seen.flux(hosts["mag"]) * (1 - hosts["bulge"][:, canvas.seen.columns])
    parameters = shapes.spiral_parameters(hosts, Draws(hosts["id"], config.seed))
    canvas.add_shape(
        shapes.spiral(*parameters),
        show.x[at],
        show.y[at],
        parts.ARMS_SHARE[canvas.seen.columns] * disc,
        _SHAPE_STAMP_PX,
    )


def _add_shells(canvas: Canvas, show: Scene, config: SimulateConfig) -> None:
    """Shells of early types and debris of mergers: light that no catalogue counts."""
    is_merger = show.galaxies["kind"] == "merger"
    at = np.flatnonzero(show.galaxies["has_shells"] | is_merger)
    hosts = show.galaxies[at]
    share = np.where(is_merger[at], shapes.EXTRA_SHARE["merger"], shapes.EXTRA_SHARE["shells"])
    brightness = shapes.shells(*shapes.shell_parameters(hosts, Draws(hosts["id"], config.seed)))
    flux = canvas.seen.flux(hosts["mag"]) * share[:, None]
    canvas.add_shape(brightness, show.x[at], show.y[at], flux, _SHAPE_STAMP_PX)


def _add_arcs(canvas: Canvas, show: Scene) -> Arcs:
    """Lensed sources, and how well they show against sky and host."""
    at = show.rows_of(show.lenses["id"])
    x, y, seen = show.x[at], show.y[at], canvas.seen
    host = _stamps(canvas.light, x, y)
    painted = canvas.add_arcs(show.lenses, x, y, ARC_STAMP_PX)
    sky = COADD_RMS_FACTOR / np.sqrt(seen.invvar)
    electrons = seen.gain * seen.exposures
    light = painted.pixels.numpy() + host
    variance = sky[:, None, None] ** 2 + light.clip(0) / electrons[:, None, None]
    snr = arc_snr(
        painted.pixels,
        torch.from_numpy(np.broadcast_to(sky, (len(x), len(sky))).astype(np.float32)),
        torch.from_numpy(variance.astype(np.float32)),
    ).snr
    left_x, left_y, _, _ = stamp_corner(x, y, ARC_STAMP_PX)
    brightest = (
        painted.pixels.sum(1).reshape(len(x), -1).argmax(1).numpy() if len(x) else np.zeros(0, int)
    )
    return Arcs(
        flux=seen.flux(show.lenses["src_mag"])
        * painted.magnification.numpy()[:, None].astype(float),
        magnification=painted.magnification.numpy().astype(float),
        snr=snr.numpy().astype(float),
        peak_x=left_x + (brightest % ARC_STAMP_PX).astype(float),
        peak_y=left_y + (brightest // ARC_STAMP_PX).astype(float),
    )


def _stamps(light: Light, x: Values, y: Values) -> Light:
    """The light around positions, 0 outside the image, (m, band, y, x)."""
    left_x, left_y, _, _ = stamp_corner(x, y, ARC_STAMP_PX)
    found = np.zeros((len(x), len(light), ARC_STAMP_PX, ARC_STAMP_PX), np.float32)
    full = light.shape[-1]
    for stamp, x0, y0 in zip(found, left_x, left_y, strict=True):
        rows, columns = y0 + np.arange(ARC_STAMP_PX), x0 + np.arange(ARC_STAMP_PX)
        in_y, in_x = (rows >= 0) & (rows < full), (columns >= 0) & (columns < full)
        if in_y.any() and in_x.any():
            stamp[:, np.ix_(in_y, in_x)[0], np.ix_(in_y, in_x)[1]] = light[
                :, rows[in_y][:, None], columns[in_x]
            ]
    return found


def _haloes(show: Scene, is_star: NDArray[np.bool_]) -> list[tuple[float, float, float, int]]:
    """Circles that the masks of bright stars fill: 75 arcsec at magnitude 11, x 2.5 for 3 mag."""
    found = []
    mag_r = show.galaxies["mag"][:, colours.R]
    for bit, limit in _HALO_MAG_R.items():
        for row in np.flatnonzero(is_star & (mag_r < limit)):
            radius = 75 * 2.5 ** ((11 - mag_r[row]) / 3) / PIXEL_SCALE_ARCSEC
            found.append((float(show.x[row]), float(show.y[row]), float(radius), bit))
    return found


def fwhm_arcsec(seen: Conditions) -> Values:
    """FWHM of the PSF, arcsec, (band,)."""
    return np.asarray(fwhm_from_psfsize(seen.psfsize, seen.beta))
