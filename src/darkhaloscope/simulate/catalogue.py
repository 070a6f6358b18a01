"""The Tractor's catalogue of a brick, as its fits would give it.

Not fitted: each galaxy's own numbers with the errors of a fit. Flux errors are those of a matched
filter of the galaxy's width, and 1 % for what a smooth model misses; positions err by 0.02-0.15
arcsec. Sources closer than 0.8 arcsec are one entry, at the brighter one. A lensed arc is part of
its host's entry; only where its brightest pixel lies 1.3 arcsec or more from the host and its S/N
in r exceeds 10, 60 % of its light is a source of its own at that pixel, and the rest is in no
entry. Rings and arms belong to their galaxy; shells, debris and intracluster light to no entry.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from darkhaloscope.core import units
from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC, SimulateConfig
from darkhaloscope.simulate.colours import FILTERS
from darkhaloscope.simulate.draws import Draws, Rows, Values
from darkhaloscope.simulate.galaxies import GALAXY
from darkhaloscope.simulate.observing import Conditions, Coverage
from darkhaloscope.simulate.scene import Drawn, Scene, fwhm_arcsec
from darkhaloscope.simulate.sky import Brick, sky_from_pixel

RELEASE = 10000
OPTICAL, WISE = FILTERS[:4], FILTERS[4:]
_WISE_DEPTH_MAG = {"w1": 21.3, "w2": 20.6}  # 5 sigma, AB, of seven years of unWISE
_BLEND_ARCSEC, _MIN_SNR, _MODEL_ERROR = 0.8, 6.0, 0.01
_ARC_APART_ARCSEC, _ARC_SNR_R, _ARC_SHARE = 1.3, 10.0, 0.6


def catalogue(
    brick: Brick,
    show: Scene,
    drawn: Drawn,
    seen: Conditions,
    maps: Coverage,
    config: SimulateConfig,
    without: str | None,
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The brick's Tractor table, and the galaxy id that each of its rows stands for (0: an arc).

    Args:
        brick: The brick.
        show: What shows in its image.
        drawn: The light of it.
        seen: Conditions.
        maps: Exposures, weights, masks.
        config: The sky's settings.
        without: Band that was not observed, if any.
    """
    sources, flux, x, y = _sources(show, drawn, seen)
    sources, flux, x, y = _blended(sources, flux, x, y)
    size = config.brick_size_px
    inside = (np.minimum(x, y) > -0.5) & (np.maximum(x, y) < size - 0.5)
    sources, flux, x, y = sources[inside], flux[inside], x[inside], y[inside]
    pixel = (np.rint(y).astype(int), np.rint(x).astype(int))
    measured = _Measured.of(sources, flux, pixel, seen, maps, without)
    snr = np.sqrt((measured.flux**2 * measured.ivar).sum(axis=1))
    found = snr > _MIN_SNR
    order = np.flatnonzero(found)[np.lexsort((x[found], y[found]))]
    draws = Draws(sources["id"][order], config.seed)
    table = np.zeros(len(order), dtype())
    _fill_place(table, brick, x[order], y[order], snr[order], seen, draws, size)
    _fill_flux(table, measured.take(order), seen, draws)
    _fill_shape(table, sources[order], snr[order], seen, draws)
    table["maskbits"] = maps.maskbits[pixel[0][order], pixel[1][order]]
    ids = np.where(sources["kind"] == "arc", 0, sources["id"])
    return table, ids[order]


def dtype() -> np.dtype[Any]:
    """Columns as in DR10's Tractor catalogues: those that a finder of galaxies reads."""
    head = [("release", ">i2"), ("brickid", ">i4"), ("brickname", "S8"), ("objid", ">i4")]
    head += [("brick_primary", "?"), ("maskbits", ">i4"), ("type", "S3")]
    head += [(n, ">f8") for n in ("ra", "dec")] + [
        (n, ">f4") for n in ("ra_ivar", "dec_ivar", "bx", "by", "ebv")
    ]
    by_filter = [
        (f"{n}_{b}", ">f4") for n in ("flux", "flux_ivar", "mw_transmission") for b in FILTERS
    ]
    by_band = [(f"nobs_{b}", ">i2") for b in OPTICAL]
    by_band += [(f"{n}_{b}", ">f4") for n in ("psfsize", "psfdepth") for b in OPTICAL]
    shape = [(n, ">f4") for n in ("sersic", "shape_r", "shape_e1", "shape_e2")]
    return np.dtype(head + by_filter + by_band + shape)


def _sources(show: Scene, drawn: Drawn, seen: Conditions) -> tuple[Rows, Values, Values, Values]:
    """What there is to catalogue: galaxies, stars, and arcs that stand off their hosts.

    Fluxes are (n, FILTERS), with dust; 0 in an optical band that is not observed.
    """
    flux = units.nmgy_from_mag(show.galaxies["mag"]) * seen.transmission
    flux[:, [i for i in range(len(OPTICAL)) if i not in seen.columns]] = 0
    flux[:, seen.columns] += drawn.ring_flux
    host = show.rows_of(show.lenses["id"])
    arcs = drawn.arcs
    apart = np.hypot(arcs.peak_x - show.x[host], arcs.peak_y - show.y[host]) * PIXEL_SCALE_ARCSEC
    r_band = seen.bands.index("r") if "r" in seen.bands else 0
    stands_off = (apart >= _ARC_APART_ARCSEC) & (arcs.snr[:, r_band] > _ARC_SNR_R)
    blended = np.where(stands_off[:, None], 0.0, arcs.flux)
    flux[np.ix_(host, np.array(seen.columns))] += blended
    extra = np.zeros(stands_off.sum(), GALAXY)
    extra["id"], extra["kind"] = -show.lenses["id"][stands_off], "arc"
    extra["r_eff"], extra["n"], extra["q"] = 0.5, 1.0, 1.0
    extra_flux = np.zeros((len(extra), len(FILTERS)))
    extra_flux[:, seen.columns] = _ARC_SHARE * arcs.flux[stands_off]
    x = np.concatenate([show.x, arcs.peak_x[stands_off]])
    y = np.concatenate([show.y, arcs.peak_y[stands_off]])
    return np.concatenate([show.galaxies, extra]), np.concatenate([flux, extra_flux]), x, y


def _blended(
    sources: Rows, flux: Values, x: Values, y: Values
) -> tuple[Rows, Values, Values, Values]:
    """Sources with a brighter one too close become part of it."""
    flux, brightness = flux.copy(), flux[:, 1:4].sum(axis=1)
    keep = np.ones(len(sources), bool)
    places = np.stack([x, y], axis=1)
    pairs = (
        cKDTree(places).query_pairs(_BLEND_ARCSEC / PIXEL_SCALE_ARCSEC) if len(places) else set()
    )
    ranked = sorted(pairs, key=lambda pair: (min(brightness[list(pair)]), pair))
    for pair in ranked:  # faintest first, so that light moves up a chain
        low, high = sorted(pair, key=lambda row: brightness[row])
        if keep[low] and keep[high]:
            flux[high] += flux[low]
            keep[low] = False
    return sources[keep], flux[keep], x[keep], y[keep]


class _Measured:
    """True flux, its inverse variance, and the data at each source, by FILTERS or optical band."""

    def __init__(self, flux: Values, ivar: Values, nobs: Values, psfdepth: Values) -> None:
        self.flux, self.ivar, self.nobs, self.psfdepth = flux, ivar, nobs, psfdepth

    @classmethod
    def of(
        cls,
        sources: Rows,
        flux: Values,
        pixel: tuple[NDArray[np.int_], NDArray[np.int_]],
        seen: Conditions,
        maps: Coverage,
        without: str | None,
    ) -> "_Measured":
        n = len(sources)
        ivar, nobs = np.zeros((n, len(FILTERS))), np.zeros((n, len(OPTICAL)), int)
        depth = np.zeros((n, len(OPTICAL)))
        for at, band in enumerate(seen.bands):
            if band == without:
                continue
            column = FILTERS.index(band)
            local, nobs[:, column] = maps.invvar[band][pixel], maps.nexp[band][pixel]
            spread = (sources["r_eff"] / 1.1774 / PIXEL_SCALE_ARCSEC) ** 2
            area = seen.neff_px[at] + 4 * np.pi * spread
            sky = np.divide(area, local, out=np.full(n, np.inf), where=local > 0)
            photons = flux[:, column] / (seen.gain * np.maximum(nobs[:, column], 1))
            ivar[:, column] = 1 / (sky + photons)
            depth[:, column] = local / seen.neff_px[at]
        for band, limit in _WISE_DEPTH_MAG.items():
            ivar[:, FILTERS.index(band)] = (5 / units.nmgy_from_mag(limit)) ** 2
        return cls(np.where(ivar > 0, flux, 0.0), ivar, nobs, depth)

    def take(self, rows: NDArray[np.int64]) -> "_Measured":
        return _Measured(self.flux[rows], self.ivar[rows], self.nobs[rows], self.psfdepth[rows])


def _fill_place(
    table: NDArray[np.void],
    brick: Brick,
    x: Values,
    y: Values,
    snr: Values,
    seen: Conditions,
    draws: Draws,
    size: int,
) -> None:
    error = (0.6 * fwhm_arcsec(seen).min() / snr).clip(0.02, 0.15)
    table["bx"] = x + draws.normal("error x") * error / PIXEL_SCALE_ARCSEC
    table["by"] = y + draws.normal("error y") * error / PIXEL_SCALE_ARCSEC
    table["ra"], table["dec"] = sky_from_pixel(
        x + draws.normal("error x") * error / PIXEL_SCALE_ARCSEC,
        y + draws.normal("error y") * error / PIXEL_SCALE_ARCSEC,
        brick,
        size,
    )
    table["ra_ivar"] = table["dec_ivar"] = (error / 3600) ** -2
    table["brick_primary"] = brick.owns(table["ra"].astype(float), table["dec"].astype(float))
    table["release"], table["brickid"] = RELEASE, brick.brickid
    table["brickname"], table["objid"] = brick.name.encode(), np.arange(len(table))
    table["ebv"] = seen.ebv


def _fill_flux(
    table: NDArray[np.void], measured: _Measured, seen: Conditions, draws: Draws
) -> None:
    for column, band in enumerate(FILTERS):
        ivar, true = measured.ivar[:, column], measured.flux[:, column]
        noise = np.divide(1.0, np.sqrt(ivar), out=np.zeros_like(ivar), where=ivar > 0)
        noise *= draws.normal(f"flux {band}")
        model = np.where(ivar > 0, _MODEL_ERROR * true * draws.normal(f"model {band}"), 0.0)
        table[f"flux_{band}"], table[f"flux_ivar_{band}"] = true + noise + model, ivar
        table[f"mw_transmission_{band}"] = seen.transmission[column]
    for column, band in enumerate(OPTICAL):
        table[f"nobs_{band}"] = measured.nobs[:, column]
        table[f"psfdepth_{band}"] = measured.psfdepth[:, column]
        if band in seen.bands:
            width = seen.psfsize[seen.bands.index(band)]
            table[f"psfsize_{band}"] = np.where(measured.nobs[:, column] > 0, width, 0.0)


def _fill_shape(
    table: NDArray[np.void], sources: Rows, snr: Values, seen: Conditions, draws: Draws
) -> None:
    """Type by size, Sersic index and signal, as the Tractor's choice of the simplest model does."""
    r_eff, n = sources["r_eff"], sources["n"]
    is_point = (sources["kind"] == "star") | ((r_eff < 0.1 * seen.psfsize.min()) & (snr < 100))
    is_round = (snr < 20) | (r_eff < 0.35)
    is_free = (snr > 80) & (sources["kind"] != "star")
    choices = [is_point, is_round, is_free, n < 1.8]
    table["type"] = np.select(choices, [b"PSF", b"REX", b"SER", b"EXP"], b"DEV")
    free_n = (n + draws.normal("error n", 0.3)).clip(0.5, 6.0)
    table["sersic"] = np.select(choices, [0.0, 1.0, free_n, 1.0], 4.0)
    e = (1 - sources["q"]) / (1 + sources["q"])
    east_of_north = sources["phi"] - np.pi / 2  # +x is west, +y is north
    has_angle = ~np.isin(table["type"], [b"PSF", b"REX"])
    for name, part in (("shape_e1", np.cos), ("shape_e2", np.sin)):
        error = draws.normal(f"error {name}", 0.02)
        table[name] = np.where(has_angle, e * part(2 * east_of_north) + error, 0.0)
    major = np.where(has_angle, r_eff / np.sqrt(np.maximum(sources["q"], 0.05)), r_eff)
    blur = 1 + draws.normal("error r_eff", 1.0) * (0.03 + 2 / snr).clip(0, 0.3)
    table["shape_r"] = np.where(table["type"] == b"PSF", 0.0, major * blur.clip(0.3, 2.0))
