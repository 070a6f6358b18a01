"""Galaxies of the benchmark: luminous red galaxies as a survey would cut them out, made in memory.

They are drawn from the population that the simulated survey is drawn from (`simulate`): early
types with their twisted isophotes and intracluster light, their satellites, and the unrelated
galaxies and stars that lie in front and behind. Rings, spirals, mergers and the like are not among
them: the benchmark paints those, so that each kind's rate is that of the kind alone. Every number
belongs to a galaxy's id, and seeing, depth and dust to its brick, so that any galaxy can be made
again, on any device, without the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.bench.records import table_of
from darkhaloscope.core import keys, schemas, units
from darkhaloscope.lensing import render
from darkhaloscope.lensing.noise import photon_noise
from darkhaloscope.lensing.psf import Moffat, moffat_from_psfsize
from darkhaloscope.lensing.render import Grid, Lens, Sersic
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.simulate import colours, components, galaxies, surroundings
from darkhaloscope.simulate.draws import Draws, Rows, Values
from darkhaloscope.survey.lrg import VARIANTS

Ids = NDArray[np.int64]

GALAXIES_PER_BRICK = 64
BRICKS_PER_REGION = 8
SPLITS = ("train", "val", "calib", "test")
_FIRST_RELEASE = 9100  # none of a survey's
_BRICK_BITS, _OBJID_BITS = 20, 22
_SMALL_PX = 40  # stamp of a faint neighbour
_FAINT_NMGY = 2.0  # in every band: its light beyond such a stamp is under the noise
_STAR_R_EFF_ARCSEC = 0.03
_RENDERED_AT_ONCE = 1024
_CUTS, _MAG_ERROR = "v3_color_relaxed", 0.01
_GUARD_PX = 12  # beyond a cutout's edge, from where neighbours still shine in


@dataclass(frozen=True, slots=True)
class Galaxies:
    """n galaxies, without their pixels.

    Attributes:
        splits: Rows of `schemas.splits`.
        heads: Rows of `schemas.cutouts_head`; sky level and spread are not known yet.
        psfsize: Noise-equivalent width of the PSF, arcsec, (n, band).
        beta: Moffat exponent, (n, band).
        sky_sigma: Noise of a pixel before resampling, 1 / sqrt(invvar), nmgy, (n, band).
        electrons: Electrons per nmgy in all exposures together, (n, band).
        transmission: Share of light that dust leaves, (n, band).
        early: Rows of `simulate.galaxies.GALAXY`, (n,).
    """

    splits: pa.Table
    heads: pa.Table
    psfsize: Values
    beta: Values
    sky_sigma: Values
    electrons: Values
    transmission: Values
    early: Rows

    def __len__(self) -> int:
        """Number of galaxies."""
        return len(self.early)

    def take(self, rows: NDArray[np.intp]) -> "Galaxies":
        """Some of them."""
        at = pa.array(rows)
        return Galaxies(
            splits=self.splits.take(at),
            heads=self.heads.take(at),
            psfsize=self.psfsize[rows],
            beta=self.beta[rows],
            sky_sigma=self.sky_sigma[rows],
            electrons=self.electrons[rows],
            transmission=self.transmission[rows],
            early=self.early[rows],
        )


def ids_of(numbers: Ids, *, split: str, family: int = 0) -> Ids:
    """Target ids of the galaxies number 0, 1, ... of a split; families share no galaxy."""
    release = np.full(len(numbers), _FIRST_RELEASE + 10 * family + SPLITS.index(split))
    return keys.target_id(release, numbers // GALAXIES_PER_BRICK, numbers % GALAXIES_PER_BRICK)


def describe(ids: Ids, sky: Any, *, split: str, bands: tuple[str, ...], size_px: int) -> Galaxies:
    """What a catalogue and the heads of cutouts say of galaxies.

    Args:
        ids: Of `ids_of`, (n,).
        sky: The definition's section `[hosts]`.
        split: Theirs.
        bands: Filters.
        size_px: Width of a cutout.
    """
    early = galaxies.early_types(ids, sky)
    own = Draws(ids, sky.seed)
    data = _data(ids, sky, bands)
    region = _region(ids)
    ebv = sky.ebv_median * np.exp(Draws(region, sky.seed).normal("ebv", 0.4))
    dust = 10 ** (-0.4 * ebv[:, None] * colours.EXTINCTION)
    middle = (size_px - 1) / 2
    columns: dict[str, Any] = {
        "target_id": ids,
        "brickname": [f"b{number:07d}" for number in (ids >> _OBJID_BITS) % (1 << _BRICK_BITS)],
        **_position(ids),
        "host_x_px": middle + own.uniform("x", -0.5, 0.5),
        "host_y_px": middle + own.uniform("y", -0.5, 0.5),
        "masked_fraction": np.zeros(len(ids)),
        "split": [split] * len(ids),
        "region_id": region,
        "area_deg2": np.full(len(ids), 1.0 / sky.targets_per_deg2),
        "type": ["SER"] * len(ids),
        **_shape(early, own),
        **_photometry(early, own, dust, bands),
    }
    for place, band in enumerate(bands):
        psfsize = data.psfsize[:, place]
        columns |= {
            f"psf_nea_{band}_arcsec": psfsize,
            f"psf_fwhm_{band}_arcsec": units.fwhm_from_psfsize(psfsize, sky.assumed_beta),
            f"noise_{band}_nmgy": units.COADD_RMS_FACTOR * data.sky_sigma[:, place],
            f"depth_{band}_mag": data.depth[:, place],
            f"n_exposures_{band}": data.exposures[:, place],
            f"sky_median_{band}_nmgy": np.zeros(len(ids)),
            f"sky_mad_{band}_nmgy": np.zeros(len(ids)),
        }
    return Galaxies(
        table_of(schemas.splits(bands), len(ids), columns),
        table_of(schemas.cutouts_head(bands), len(ids), columns),
        psfsize=data.psfsize,
        beta=data.beta,
        sky_sigma=data.sky_sigma,
        electrons=sky.electrons_per_nmgy * data.exposures,
        transmission=dust[:, [colours.FILTERS.index(band) for band in bands]],
        early=early,
    )


@dataclass(frozen=True, slots=True)
class _Data:
    """What the survey's images of n galaxies are like, (n, band) each; see `Galaxies`."""

    psfsize: Values
    beta: Values
    depth: Values
    exposures: Values
    sky_sigma: Values


def _data(ids: Ids, sky: Any, bands: tuple[str, ...]) -> _Data:
    """Drawn for bricks, so that the galaxies of a brick have them in common."""
    brick = Draws(ids >> _OBJID_BITS, sky.seed)
    seeing = sky.psfsize_r_arcsec * np.exp(brick.normal("psfsize", sky.psfsize_scatter))
    low, high = sky.n_exposures

    def each(make: Callable[[str], Values]) -> Values:
        return np.stack([make(band) for band in bands], 1)

    def width(band: str) -> Values:
        over_r = getattr(sky.psfsize_over_r, band)
        size = seeing * over_r * np.exp(brick.normal(f"psfsize {band}", 0.03))
        return np.asarray(size.clip(0.7, 3.0))

    def exposures(band: str) -> Values:
        drawn = brick.uniform(f"exposures {band}") * (high - low + 1)
        return np.asarray(low + np.floor(drawn))

    psfsize = each(width)
    depth = each(lambda band: brick.span(f"depth {band}", getattr(sky.depth_mag, band)))
    neff = units.neff_px_from_psfsize(psfsize, sky.pixel_scale_arcsec)
    return _Data(
        psfsize=psfsize,
        beta=each(lambda band: brick.span(f"beta {band}", sky.psf_beta)),
        depth=depth,
        exposures=each(exposures),
        sky_sigma=units.nmgy_from_mag(depth) / 5 / np.sqrt(neff),
    )


def _region(ids: Ids) -> Ids:
    return np.asarray((ids >> _OBJID_BITS) // BRICKS_PER_REGION)


def _photometry(early: Rows, own: Draws, dust: Values, bands: tuple[str, ...]) -> dict[str, Any]:
    """Magnitudes and fluxes as a catalogue has them, with an error that all bands share.

    An error that would take a galaxy out of the targets has the other sign: those that it takes
    out are in no list of targets, and the cuts in colour do not feel it.
    """
    error = own.normal("mag", _MAG_ERROR)
    mag_z = early["mag"][:, colours.Z]
    error = np.where(mag_z + error >= VARIANTS[_CUTS].z_below, -np.abs(error), error)
    mag = early["mag"] + error[:, None]
    columns: dict[str, Any] = {}
    for band in (*bands, "w1"):
        at = colours.FILTERS.index(band)
        columns[f"mag_{band}"] = mag[:, at]
        columns[f"mw_transmission_{band}"] = dust[:, at]
        columns[f"flux_{band}_nmgy"] = dust[:, at] * units.nmgy_from_mag(mag[:, at])
    return columns


def _position(ids: Ids) -> dict[str, Values]:
    """Bricks side by side, a degree apart; no two galaxies at one place."""
    brick, number = (ids >> _OBJID_BITS) % (1 << _BRICK_BITS), ids % GALAXIES_PER_BRICK
    release = (ids >> (_OBJID_BITS + _BRICK_BITS)) - _FIRST_RELEASE
    side = round(GALAXIES_PER_BRICK**0.5)
    return {
        "ra_deg": (brick % 360) + 0.03 * (number % side),
        "dec_deg": -60 + 0.03 * (number // side) + 0.25 * (release % 10) + (brick // 360) % 100,
    }


def _shape(early: Rows, own: Draws) -> dict[str, Values]:
    """Ellipticities as a catalogue has them, with its error."""
    e = (1 - early["q"]) / (1 + early["q"])
    angle = 2 * (early["phi"] - np.pi / 2)
    return {
        "shape_r_arcsec": early["r_eff"],
        "shape_e1": e * np.cos(angle) + own.normal("e1", 0.02),
        "shape_e2": e * np.sin(angle) + own.normal("e2", 0.02),
        "sersic": early["n"],
    }


def cutouts(some: Galaxies, sky: Any, *, size_px: int, device: str = "cpu") -> Tensor:
    """Pixels of galaxies, nmgy, (n, band, size_px, size_px), with sky and photon noise.

    Args:
        some: Of `describe`.
        sky: The definition's section `[hosts]`.
        size_px: Width of a cutout.
        device: Where they are made and stay.
    """
    parts = [
        _cutouts(some.take(np.arange(start, min(start + _RENDERED_AT_ONCE, len(some)))), sky,
                 size_px, device)
        for start in range(0, len(some), _RENDERED_AT_ONCE)
    ]  # fmt: skip
    return torch.cat(parts)


def sky_levels(pixels: Tensor, inner_px: float, outer_px: float) -> tuple[Tensor, Tensor]:
    """Median, and median absolute deviation from it, of the annulus of cutouts, (n, band) each.

    Of an even number of values the lower of the two in the middle is taken.
    """
    size = pixels.shape[-1]
    axis = torch.arange(size, device=pixels.device) - (size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None])
    ring = pixels.flatten(2)[:, :, ((radius >= inner_px) & (radius <= outer_px)).flatten()]
    level = ring.median(2).values
    return level, (ring - level[..., None]).abs_().median(2).values


def _cutouts(some: Galaxies, sky: Any, size_px: int, device: str) -> Tensor:
    light = torch.zeros(len(some), some.psfsize.shape[1], size_px, size_px, device=device)
    profiles, row = _profiles(some, sky, size_px)
    is_faint = (profiles["flux"] < _FAINT_NMGY).all(axis=1) & (profiles["r_eff"] < 0.8)
    for rows, stamp_px, plan in (
        (np.flatnonzero(~is_faint), size_px, render.DEFAULT),
        (np.flatnonzero(is_faint), _SMALL_PX, render.CHEAP),
    ):
        _add(light, profiles[rows], row[rows], some, sky, stamp_px, plan)
    electrons = _tensor(some.electrons, device)
    sky_light = _tensor(some.sky_sigma, device).square() * electrons
    key = keys.bits(some.early["id"], seed=sky.seed, stream="cutout noise").view(np.int64)
    noise = photon_noise(
        light.clamp_min(0) + sky_light[:, :, None, None], electrons, sent(key, device),
        stream="cutout",
    )  # fmt: skip
    return light.add_(noise)


def _profiles(some: Galaxies, sky: Any, size_px: int) -> tuple[Rows, NDArray[np.intp]]:
    """Sersic profiles of galaxies and what is around them, x and y in pixels, and whose each is."""
    early = some.early
    half = (size_px / 2 + _GUARD_PX) * sky.pixel_scale_arcsec
    around = [
        surroundings.satellites(early, sky),
        surroundings.field_around(early, sky, half_width_arcsec=half),
        surroundings.stars_around(early, sky, half_width_arcsec=half),
    ]
    every = np.concatenate([early, *around])
    order = np.argsort(early["id"], kind="stable")
    owner = np.where(every["host"] > 0, every["host"], every["id"])
    row = order[np.searchsorted(early["id"][order], owner)]
    base = np.zeros(len(every), components.part_dtype(some.psfsize.shape[1]))
    for name in ("id", "r_eff", "n", "q", "phi"):
        base[name] = every[name]
    for axis, name in (("x", "ra"), ("y", "dec")):
        centre = some.heads[f"host_{axis}_px"].to_numpy()[row]
        base[axis] = centre + every[name] * 3600 / sky.pixel_scale_arcsec
    at = [colours.FILTERS.index(band) for band in sky.bands]
    base["flux"] = units.nmgy_from_mag(every["mag"][:, at]) * some.transmission[row]
    star = every["kind"] == "star"
    base["r_eff"][star], base["n"][star], base["q"][star] = _STAR_R_EFF_ARCSEC, 0.5, 1.0
    twisted = np.flatnonzero(every["has_twist"])
    haloes = np.flatnonzero(every["has_intracluster"])
    plain = np.flatnonzero(~every["has_twist"])
    parts = [
        base[plain],
        *components.twisted(base[twisted], sky.seed),
        components.intracluster(base[haloes]),
    ]
    rows = np.concatenate([row[plain], row[twisted], row[twisted], row[haloes]])
    profiles = np.concatenate(parts)
    inside = (np.abs(profiles["x"] - (size_px - 1) / 2) < size_px / 2 + _GUARD_PX) & (
        np.abs(profiles["y"] - (size_px - 1) / 2) < size_px / 2 + _GUARD_PX
    )
    return profiles[inside], rows[inside]


def _add(
    light: Tensor, profiles: Rows, row: NDArray[np.intp], some: Galaxies, sky: Any, stamp_px: int,
    plan: render.Plan,
) -> None:  # fmt: skip
    """Add profiles, each on a stamp of `stamp_px` about its centre, or on the whole cutout."""
    size, device = light.shape[-1], str(light.device)
    is_whole = stamp_px >= size
    for start in range(0, len(profiles), _RENDERED_AT_ONCE):
        part = profiles[start : start + _RENDERED_AT_ONCE]
        whose = row[start : start + _RENDERED_AT_ONCE]
        left = np.zeros((len(part), 2), np.int64)
        if not is_whole:
            places = np.stack([part["x"], part["y"]], 1)
            left = np.round(places - (stamp_px - 1) / 2).astype(np.int64)
        width = size if is_whole else stamp_px
        middle = left + (width - 1) / 2
        zero = torch.zeros(len(part), device=device)
        painted = render.render_lensed(
            Sersic(
                zero, zero, *(_tensor(part[name], device) for name in ("r_eff", "n", "q", "phi"))
            ),
            Lens.none(zero),
            flux=_tensor(part["flux"], device),
            psf=_psf(some, whose, device),
            centre_x=_tensor(part["x"] - middle[:, 0], device),
            centre_y=_tensor(part["y"] - middle[:, 1], device),
            grid=Grid(width, sky.pixel_scale_arcsec),
            plan=plan,
        ).pixels
        target = sent(whose.astype(np.int64), device)
        if is_whole:
            light.index_add_(0, target, painted)
        else:
            _add_stamps(light, painted, target, sent(left, device))


def _add_stamps(light: Tensor, stamps: Tensor, row: Tensor, left: Tensor) -> None:
    """Add small stamps at their places; what lies outside is cut."""
    size, bands, width = light.shape[-1], light.shape[1], stamps.shape[-1]
    if light.device.type == "cpu":  # a loop takes a thirtieth of the time of scattered adds
        whole = light.numpy()
        for stamp, at, (x0, y0) in zip(stamps.numpy(), row.tolist(), left.tolist(), strict=True):
            x1, y1 = min(x0 + width, size), min(y0 + width, size)
            of_x, of_y = max(x0, 0), max(y0, 0)
            whole[at, :, of_y:y1, of_x:x1] += stamp[:, of_y - y0 : y1 - y0, of_x - x0 : x1 - x0]
        return
    along = torch.arange(width, device=light.device)
    x, y = left[:, 0, None] + along, left[:, 1, None] + along
    inside = ((x >= 0) & (x < size))[:, None, :] & ((y >= 0) & (y < size))[:, :, None]
    place = row[:, None, None] * bands * size**2 + y[:, :, None] * size + x[:, None, :]
    band = torch.arange(bands, device=light.device)[None, :, None, None] * size**2
    inside = inside[:, None].expand_as(stamps)
    flat = (place[:, None] + band)[inside]
    light.view(-1).index_add_(0, flat, stamps[inside])


def _psf(some: Galaxies, whose: NDArray[np.intp], device: str) -> Moffat:
    return moffat_from_psfsize(
        _tensor(some.psfsize[whose], device), _tensor(some.beta[whose], device)
    )


def _tensor(values: Values, device: str) -> Tensor:
    return sent(np.ascontiguousarray(values, np.float32), device)
