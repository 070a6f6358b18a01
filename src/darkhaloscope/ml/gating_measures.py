"""What the gates need of a painted sample: features of trivial models, and sums that must close.

Pixels are looked at a batch at a time and not kept; what is kept is some 500 numbers a stamp.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from darkhaloscope.evaluate import gates_features as shown
from darkhaloscope.ml.gating import Painted
from darkhaloscope.ml.transforms import FIRST_RUN_CLIP, Normalisation

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers of n stamps.

    Attributes:
        features: What a trivial model is shown, by gate, (n, feature); NaN where it is not needed.
        arc_snr: Integrated S/N of the injected light, NaN where there is none, (n, band).
        src_flux: Of the unlensed source or shape as painted, nmgy, NaN likewise, (n, band).
        light: Injected light inside the stamp, without its noise, nmgy, (n, band).
        added: Stamp minus cutout, nmgy, (n, band).
        is_finite: Whether every pixel is, (n,).
        is_blank: Whether a band has the same value everywhere, (n,).
        clipped: Share of the core's pixels at the clip of a model, by model, (n,).
    """

    features: Mapping[str, Values]
    arc_snr: Values
    src_flux: Values
    light: Values
    added: Values
    is_finite: NDArray[np.bool_]
    is_blank: NDArray[np.bool_]
    clipped: Mapping[str, Values]


def measure(
    batches: Iterable[Painted],
    bands: tuple[str, ...],
    *,
    noise_nmgy: Values,
    models: Mapping[str, Normalisation],
    textured: tuple[str, ...],
) -> Measured:
    """Look at painted stamps.

    Args:
        batches: Of `gating.painted`, one or more.
        bands: The run's bands.
        noise_nmgy: The sample's typical sky noise, which scales the features of fluxes, (band,).
        models: How each model sees pixels.
        textured: Kinds whose texture is looked at.
    """
    per_band = noise_nmgy.astype(np.float32)[:, None, None]
    found = [_of_batch(batch, bands, per_band, models, textured) for batch in batches]
    numbers = {name: np.concatenate([f[name] for f in found]) for name in found[0]}

    def below(prefix: str) -> dict[str, Values]:
        taken = [name for name in numbers if name.startswith(prefix)]
        return {name.removeprefix(prefix): numbers.pop(name) for name in taken}

    return Measured(features=below("feature "), clipped=below("clipped "), **numbers)


def _of_batch(
    batch: Painted, bands: tuple[str, ...], noise: NDArray[np.float32],
    models: Mapping[str, Normalisation], textured: tuple[str, ...],
) -> dict[str, NDArray[np.generic]]:  # fmt: skip
    sky = _per_band(batch.hosts, "sky_median_{b}_nmgy", bands)[:, :, None, None]
    own = _per_band(batch.hosts, "noise_{b}_nmgy", bands)[:, :, None, None]
    is_finite = np.asarray(np.isfinite(batch.stamps).all((1, 2, 3)))
    stamps = np.nan_to_num(batch.stamps, posinf=0.0, neginf=0.0)
    level = stamps - sky
    scaled = level / noise
    is_textured = np.isin(np.asarray(batch.rows["kind"].to_pylist(), dtype=np.str_), textured)
    spread = stamps.max((2, 3)) - stamps.min((2, 3))
    made: dict[str, NDArray[np.generic]] = {
        "feature core_only": shown.core(scaled),
        "feature total_flux": shown.total_flux(scaled),
        "feature radial_profile": shown.radial_profile(scaled),
        "feature annulus_colour": shown.annulus_colour(scaled),
        "feature sky_stats": shown.sky_stats(level / own),
        "feature texture": _texture(level / own, is_textured),
        "feature noise_only": _texture((level - batch.light) / own, is_textured),
        "arc_snr": batch.arc_snr.astype(np.float64),
        "src_flux": batch.src_flux.astype(np.float64),
        "light": batch.light.sum((2, 3), dtype=np.float64),
        "added": (batch.stamps - batch.before).sum((2, 3), dtype=np.float64),
        "is_finite": is_finite,
        "is_blank": np.asarray((spread == 0).any(1)),
    }
    for name, normalise in models.items():
        made[f"clipped {name}"] = _clipped(stamps, sky, normalise)
    return made


def _texture(stamps: NDArray[np.float32], needed: NDArray[np.bool_]) -> Values:
    """Of the stamps that need it; NaN elsewhere. It is half of the work of a stamp."""
    found = shown.texture(stamps[needed])
    made = np.full((len(stamps), found.shape[1]), np.nan)
    made[needed] = found
    return made


def _clipped(
    stamps: NDArray[np.float32], sky: NDArray[np.float32], normalise: Normalisation
) -> Values:
    """Share of the core's pixels at the clip, (n,); the stretch asinh has none."""
    if normalise.name != "first_run":
        return np.zeros(len(stamps))
    seen = normalise(torch.from_numpy(stamps), torch.from_numpy(sky[:, :, 0, 0])).numpy()
    edge = (seen.shape[-1] - shown.CORE_PX) // 2
    inner = seen[..., edge : edge + shown.CORE_PX, edge : edge + shown.CORE_PX]
    return np.asarray((np.abs(inner) >= FIRST_RUN_CLIP).mean((1, 2, 3)), np.float64)


def _per_band(hosts: pa.Table, template: str, bands: tuple[str, ...]) -> NDArray[np.float32]:
    columns = [hosts[template.format(b=band)].to_numpy(zero_copy_only=False) for band in bands]
    return np.stack(columns, 1).astype(np.float32)
