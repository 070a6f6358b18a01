"""The audit of deployment: plain survey cutouts as the network and as plain measures see them."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from darkhaloscope.data.pixels import per_band
from darkhaloscope.evaluate import audit
from darkhaloscope.evaluate.audit_figures import Two
from darkhaloscope.evaluate.audit_judge import unjudged
from darkhaloscope.evaluate.gates import ALL, Row
from darkhaloscope.ml import auditing, auditing_pixels, inputs
from darkhaloscope.ml.auditing import heads_of
from darkhaloscope.ml.auditing_case import Case, Images, Values, numbers

ROWS_AT_ONCE = 1024  # whose pixels are in memory
NOT_TAUGHT = ("val", "calib")
LEAST_REGIONS = 3  # from which differences between regions can be seen
Key = tuple[str, str]


def found(case: Case, real: pa.Table | None) -> list[Row]:
    """All rows of the deployment.

    Args:
        case: What is audited.
        real: Scores of plain cutouts of real lenses; None: the run names no list of them.
    """
    return [*_plain(case), _known_hosts(case), _realism(case, real)]


def _plain(case: Case) -> list[Row]:
    """Plain cutouts of the set's galaxies against the stamps of its controls."""
    config, judge, limits = case.config, case.judge, case.config.limits
    sky = case.sample(case.sky(config.set), config.plain_cutouts)
    controls = case.sample(case.scored("control"), config.plain_cutouts)
    said = "plain cutouts against controls"

    def two(first: Values, other: Values) -> Two:
        ids = [table["target_id"].to_numpy() for table in (sky, controls)]
        return Two.of(first, ids[0], other, ids[1])

    scores = two(*(numbers(table, "logit") for table in (sky, controls)))
    made = [
        judge.shifted("plain_scores", ALL, scores, limits.plain_scores, f"logits, {said}"),
        judge.distance("plain_scores", "distance", scores, f"logits, {said}"),
    ]
    first, other = (
        _measured(table, case, images)
        for table, images in ((sky, case.cutouts), (controls, case.stamps))
    )
    for name, stratum, what in (
        *[("plain_sky", b, f"lag-1 autocorrelation of the sky in {b}") for b in config.bands],
        ("plain_detections", ALL, "detections in r above 5 sigma"),
        ("plain_hosts", ALL, "rms of the host less its half-turn in r, in sigma"),
    ):
        pair = two(first[name, stratum], other[name, stratum])
        told = f"{what}, {said}{_means(pair)}"
        made.append(judge.shifted(name, stratum, pair, getattr(limits, name), told))
    return made


def _measured(
    table: pa.Table, case: Case, images: Callable[[pa.Table], Images]
) -> dict[Key, Values]:
    """What is measured on pixels, by check and stratum, (n,) each."""
    parts: dict[Key, list[Values]] = {}
    for start in range(0, max(table.num_rows, 1), ROWS_AT_ONCE):
        some = table.slice(start, ROWS_AT_ONCE)
        for key, values in _of_pixels(images(some), heads_of(some, case.studio.cutouts), case):
            parts.setdefault(key, []).append(values)
    return {key: np.concatenate(values) for key, values in parts.items()}


def _of_pixels(images: Images, heads: pa.Table, case: Case) -> list[tuple[Key, Values]]:
    """The same of some stamps, with their cutouts."""
    config, bands = case.config, case.config.bands
    r = bands.index("r")
    sky, noise = (
        per_band(heads, name, bands).astype(np.float64)
        for name in ("sky_median_{b}_nmgy", "noise_{b}_nmgy")
    )
    fwhm_px = numbers(heads, "psf_fwhm_r_arcsec") / config.pixel_scale_arcsec
    x, y = (numbers(heads, f"host_{axis}_px") - case.edge_px for axis in "xy")
    lag = auditing_pixels.sky_autocorrelation(images, sky, noise)
    seen = auditing_pixels.detections(images[:, r], sky[:, r], noise[:, r], fwhm_px)
    left = auditing_pixels.host_residual(images[:, r], noise[:, r], x, y)
    return [
        *((("plain_sky", band), lag[:, i]) for i, band in enumerate(bands)),
        (("plain_detections", ALL), seen.astype(np.float64)),
        (("plain_hosts", ALL), left),
    ]


def _means(pair: Two) -> str:
    """Both samples' means, in words; nothing where one is empty."""
    sides = [pair.value[side] for side in (pair.is_first, ~pair.is_first)]
    if not all(len(side) for side in sides):
        return ""
    return f"; means {sides[0].mean():.3g} and {sides[1].mean():.3g}"


def _known_hosts(case: Case) -> Row:
    """Scores of targets that taught against those of targets that did not.

    The two lie in different regions of the sky, with another seeing and depth: regions are drawn
    again, as galaxies alone would take the sky's differences for the network's memory.
    """
    name, most, limit = "known_hosts", case.config.plain_cutouts, case.config.limits.known_hosts
    sides = [case.sample(case.sky(*splits), most) for splits in (("train",), NOT_TAUGHT)]
    said = "logits of plain cutouts, train against val and calib"
    if row := case.judge.few(name, ALL, min(t.num_rows for t in sides), f"galaxies: {said}"):
        return row
    logits, regions = ([numbers(t, column) for t in sides] for column in ("logit", "region_id"))
    two = Two.of(logits[0], regions[0].astype(np.int64), logits[1], regions[1].astype(np.int64))
    counted = " and ".join(f"{t.num_rows:,}" for t in sides)
    told = f"{said} ({counted} galaxies)"
    return case.judge.shifted(name, ALL, two, limit, told, unit="regions", least=LEAST_REGIONS)


def _realism(case: Case, real: pa.Table | None) -> Row:
    """Injected against real lenses, by what the network sees in them."""
    name, config = "realism", case.config
    if real is None:
        return unjudged(name, ALL, "the run names no list of real lenses (audit.real_lenses)")
    real = case.sample(real, config.lenses)
    if real.num_rows < config.least_real:
        why = f"{real.num_rows} real lenses are targets; audit.least_real is {config.least_real}"
        return unjudged(name, ALL, why)
    lenses = case.scored("lens")
    injected = case.sample(lenses.filter(pa.array(case.is_headline(lenses))), config.lenses)
    if not injected.num_rows:
        return unjudged(name, ALL, f"set {config.set} holds no headline lens")
    features = [
        auditing.score(
            images,
            _sky(table, case),
            case.network.features,
            case.studio.device,
            inputs.of_galaxies(table, case.studio.cutouts, case.studio.inputs),
        )
        for table, images in ((injected, case.stamps(injected)), (real, case.cutouts(real)))
    ]
    galaxy = np.concatenate([table["target_id"].to_numpy() for table in (injected, real)])
    is_injected = np.arange(len(galaxy)) < injected.num_rows
    limit = config.limits.realism
    return audit.realism(np.concatenate(features), is_injected, galaxy, limit, case.judge)


def _sky(table: pa.Table, case: Case) -> Images:
    heads = heads_of(table, case.studio.cutouts)
    return per_band(heads, "sky_median_{b}_nmgy", case.config.bands)
