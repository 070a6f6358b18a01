"""Gates that need no model: what was drawn, how often, on which galaxies, and how its pixels stand.

Each function takes arrays and gives rows of `evaluate.gates`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from darkhaloscope.evaluate.drawn import quantiles
from darkhaloscope.evaluate.gates import Row, judged, not_judged
from darkhaloscope.evaluate.intervals import clopper_pearson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Texts = NDArray[np.str_]
RESOLVED = (0.5, 1.0)  # theta_E over the seeing: below the first nothing can be seen of an arc
DUPLICATE_ARCSEC = 1.0
ARCSEC_PER_RADIAN = 180 / np.pi * 3600
MID_68 = (0.16, 0.5, 0.84)


def resolution(
    over_fwhm: Floats, over_psfsize: Floats, galaxy: Ints, *, most_below: float, least_above: float
) -> list[Row]:
    """Shares of the lenses with theta_E below half the seeing, from there to it, and above.

    Args:
        over_fwhm: theta_E over the r-band PSF's FWHM, shape (n,).
        over_psfsize: The same over psfsize, which the first run's table used, (n,).
        galaxy: The lens's galaxy, (n,): intervals count galaxies, not copies.
        most_below: Largest share below half.
        least_above: Least share above.
    """
    if not len(galaxy):
        return [not_judged("resolution", "there is no lens in train")]
    n = len(np.unique(galaxy))
    rows = []
    for of, ratio in (("fwhm_r", over_fwhm), ("psfsize_r", over_psfsize)):
        below, above = ratio < RESOLVED[0], ratio >= RESOLVED[1]
        bins = {
            "below 0.5": (below, None, most_below),
            "0.5 to 1": (~below & ~above, None, None),
            "1 or more": (above, least_above, None),
        }
        for name, (inside, low, high) in bins.items():
            share = float(inside.mean())
            is_limited = of == "fwhm_r"
            rows.append(
                judged(
                    "resolution",
                    f"theta_e_over_{of} {name}",
                    share,
                    clopper_pearson(share * n, n),
                    limit_low=low if is_limited else None,
                    limit_high=high if is_limited else None,
                    detail=f"share of {len(ratio):,} lenses on {n:,} galaxies",
                )
            )
    return rows


@dataclass(frozen=True, slots=True)
class Brightness:
    """Limits of the gate: see `core.settings.gates.GateLimits`."""

    arc_snr_high: float
    bright_share: float
    arc_snr_low: float
    faint_share: float
    sources_over_counts: float


def brightness(
    arc_snr: Floats,
    src_mag: Floats,
    counts: tuple[Floats, Floats],
    arc_mag_minus_depth: Floats,
    limits: Brightness,
) -> list[Row]:
    """Arcs against what is seen, and sources against counts of galaxies.

    Args:
        arc_snr: Integrated S/N of the lenses' arcs in g, one a lens, (n,).
        src_mag: Magnitude of the unlensed source as painted, r band, (n,).
        counts: Magnitudes, and the galaxies counted at each, (m,) and (m,).
        arc_mag_minus_depth: r magnitude of the arc's light less the host's 5-sigma depth, (n,).
        limits: The limits.
    """
    n = len(arc_snr)
    if not n:
        return [not_judged("brightness", "there is no lens in train")]
    bright, faint = arc_snr > limits.arc_snr_high, arc_snr < limits.arc_snr_low
    told = f"of {n:,} lenses"
    rows = [
        _share(
            "arc_snr_g above the bright",
            bright,
            limits.bright_share,
            f"{told}: S/N above {limits.arc_snr_high:g}",
        ),
        _share(
            "arc_snr_g not seen",
            faint,
            limits.faint_share,
            f"{told}: S/N below {limits.arc_snr_low:g}",
        ),
        _spread("arc_snr_g", arc_snr, np.ones(n), told),
        _spread("src_mag_r", src_mag, np.ones(n), told + "; unlensed, as painted"),
        _spread(
            "src_mag_r of the counts",
            *counts,
            "of galaxies counted in the magnitudes of [manifest.physical]",
        ),
    ]
    mid, of_counts = (rows[place].value or np.nan for place in (3, 4))
    rows.append(
        judged(
            "brightness",
            "sources over counts",
            float(10 ** (0.4 * (of_counts - mid))),
            limit_high=limits.sources_over_counts,
            detail=f"flux of the median source, r {mid:.2f}, over that of the counts, "
            f"r {of_counts:.2f}",
        )
    )
    below = arc_mag_minus_depth > 0
    rows.append(_share("arc fainter than depth_r", below, None, told))
    return rows


def _share(name: str, inside: Flags, limit: float | None, detail: str) -> Row:
    share = float(inside.mean())
    interval = clopper_pearson(int(inside.sum()), len(inside))
    return judged("brightness", name, share, interval, limit_high=limit, detail=f"share {detail}")


def _spread(name: str, values: Floats, weight: Floats, detail: str) -> Row:
    low, mid, high = quantiles(values, weight, MID_68)
    told = f"median {detail}; middle 68 %: {low:.3g} to {high:.3g}"
    return Row("brightness", name, mid if np.isfinite(mid) else None, detail=told)


def control_copies(kind: Texts, galaxy: Ints, *, limit: float) -> list[Row]:
    """How often a galaxy stands in a kind of negative.

    Args:
        kind: Of every row of train but the lenses, (n,).
        galaxy: Of the same, (n,).
        limit: Largest number of rows a galaxy.
    """
    rows = []
    for name in np.unique(kind).tolist():
        mine = galaxy[kind == name]
        unique, times = np.unique(mine, return_counts=True)
        rows.append(
            judged(
                "control_copies",
                name,
                float(times.max()),
                limit_high=limit,
                detail=f"rows on one galaxy, at most; {len(mine):,} rows, {len(unique):,} unique "
                "galaxies",
            )
        )
    return rows or [not_judged("control_copies", "there is no negative in train")]


@dataclass(frozen=True, slots=True)
class Places:
    """Galaxies with their split, arrays of shape (n,)."""

    galaxy: Ints
    split: Texts
    ra_deg: Floats
    dec_deg: Floats


def splits_leak(
    places: Places,
    sources: Mapping[str, tuple[Ints, Texts]],
    *,
    guard_arcsec: float,
    shares: Mapping[str, float],
    tolerance: float,
) -> list[Row]:
    """Whether train, val, calib and test share a galaxy, a patch of sky, or a source.

    Args:
        places: Galaxies of all splits.
        sources: Ids of what is lensed, and the split that uses each, by what they are.
        guard_arcsec: Least distance of galaxies of different splits.
        shares: Share of the galaxies asked for, by split.
        tolerance: How far a share may be from that.
    """
    used = np.isin(places.split, list(shares))
    galaxy, split = places.galaxy[used], places.split[used]
    where = _unit_vectors(places.ra_deg[used], places.dec_deg[used])
    apart = nearest_other(where, split)
    n = len(galaxy)
    twice = _in_two(galaxy, split)
    close = int((apart < DUPLICATE_ARCSEC).sum())
    least = float(apart.min()) if n else float("nan")
    rows = [
        judged(
            "splits_leak",
            "least distance, arcsec",
            least,
            limit_low=guard_arcsec,
            detail=f"of {n:,} galaxies to one of another split; guard galaxies left out",
        ),
        judged(
            "splits_leak",
            "galaxies in two splits",
            float(twice),
            limit_high=0,
            detail=f"of {n:,} rows",
        ),
        judged(
            "splits_leak",
            "duplicates across splits",
            float(close),
            limit_high=0,
            detail=f"galaxies nearer than {DUPLICATE_ARCSEC:g} arcsec to one of another split",
        ),
    ]
    for name, (ids, of_split) in sources.items():
        rows.append(
            judged(
                "splits_leak",
                f"{name} in two splits",
                float(_in_two(ids, of_split)),
                limit_high=0,
                detail=f"of {len(np.unique(ids)):,}",
            )
        )
    for name, asked in shares.items():
        got = float((split == name).mean()) if n else float("nan")
        rows.append(
            judged(
                "splits_leak",
                f"share of {name}",
                got,
                limit_low=max(0.0, asked - tolerance),
                limit_high=min(1.0, asked + tolerance),
                detail=f"of {n:,} galaxies; asked {asked:g}",
            )
        )
    return rows


def nearest_other(where: Floats, split: Texts) -> Floats:
    """Distance of each galaxy to the next of another split, arcsec; inf where there is none.

    Args:
        where: Positions on the unit sphere, (n, 3).
        split: (n,).
    """
    chord = np.full(len(split), np.inf)
    for one, other in combinations(np.unique(split).tolist(), 2):
        for own, rest in ((one, other), (other, one)):
            mine, theirs = split == own, split == rest
            distance, _ = cKDTree(where[theirs]).query(where[mine])
            chord[mine] = np.minimum(chord[mine], distance)
    with np.errstate(invalid="ignore"):
        angle = 2 * np.arcsin(np.minimum(chord, 2.0) / 2) * ARCSEC_PER_RADIAN
    return np.where(np.isfinite(chord), angle, np.inf)


def _unit_vectors(ra_deg: Floats, dec_deg: Floats) -> Floats:
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _in_two(ids: Ints, split: Texts) -> int:
    """How many ids stand in more than one split."""
    pairs = np.unique(np.stack([ids.astype(np.str_), split], 1), axis=0)
    _, times = np.unique(pairs[:, 0], return_counts=True)
    return int((times > 1).sum())


@dataclass(frozen=True, slots=True)
class Soundness:
    """Sums over the sample that tell whether its pixels are sound.

    Attributes:
        n_stamps: Stamps looked at.
        not_finite: Stamps with a pixel that is not finite.
        without_light: Stamps with a band that is 0, or the same, everywhere.
        added: Sum of stamps minus cutouts where light is injected, nmgy, by band.
        light: Sum of the light that was to be added, nmgy, by band.
        clipped: Share of the core pixels of lenses at a model's clip, by model.
    """

    n_stamps: int
    not_finite: int
    without_light: int
    added: Mapping[str, float]
    light: Mapping[str, float]
    clipped: Mapping[str, float]


def pixels(
    found: Soundness,
    per_lens: Mapping[str, Floats],
    per_negative: Mapping[str, Floats],
    *,
    clipped_share: float,
    flux_closure: float,
    mean_difference: float,
) -> list[Row]:
    """Whether pixels are sound, and both classes have the same seeing, depth and hosts.

    Args:
        found: Of the sample.
        per_lens: Numbers of each lens by name, (n,) each.
        per_negative: The same of each negative, (m,) each.
        clipped_share: Largest share of clipped core pixels.
        flux_closure: Largest difference of added light and light, as a share.
        mean_difference: Largest difference of the classes' means, in standard deviations.
    """
    told = f"of {found.n_stamps:,} stamps"
    rows = [
        judged("pixels", "not finite", float(found.not_finite), limit_high=0, detail=told),
        judged(
            "pixels", "band without light", float(found.without_light), limit_high=0, detail=told
        ),
    ]
    for band, light in found.light.items():
        off = abs(found.added[band] / light - 1) if light > 0 else float("nan")
        rows.append(
            judged(
                "pixels",
                f"flux closure {band}",
                off,
                limit_high=flux_closure,
                detail=f"stamps minus cutouts, {found.added[band]:.5g} nmgy, against the light, "
                f"{light:.5g} nmgy",
            )
        )
    for model, share in found.clipped.items():
        rows.append(
            judged(
                "pixels",
                f"clipped by {model}",
                share,
                limit_high=clipped_share,
                detail="share of the central 10 x 10 px of the lenses",
            )
        )
    for name, lens in per_lens.items():
        rows.append(_difference(name, lens, per_negative[name], mean_difference))
    return rows


def _difference(name: str, one: Floats, other: Floats, limit: float) -> Row:
    """Difference of means over the root of the mean variance, and its interval."""
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    if min(len(one), len(other)) < 2:
        return not_judged("pixels", f"{len(one)} lenses and {len(other)} negatives have it", name)
    spread = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
    off = abs(one.mean() - other.mean()) / spread if spread > 0 else 0.0
    step = 1.96 * np.sqrt(1 / len(one) + 1 / len(other))
    return judged(
        "pixels",
        f"{name}, lens and negative",
        float(off),
        (max(0.0, off - step), off + step),
        limit_high=limit,
        detail=f"difference of means over their spread; {len(one):,} lenses, {len(other):,} "
        "negatives",
    )
