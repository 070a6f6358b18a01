"""Numbers that a network may be told beside the pixels: the width of the PSF, and the depth.

What else stands in a table is not allowed: where it is, how bright its host is or what was painted
would tell a lens by other things than its image. The gate `metadata` checks that what is allowed
does not tell lenses from negatives.

A network sees (value - middle) / spread with the constants of `SCALES`, clipped at +-4. They are
fixed, so that a number means the same in training and in every survey that is scored.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import ConfigError, DataError

Values = NDArray[np.float32]

FARTHEST = 4.0  # spreads from the middle; beyond, a value says no more than that it is far
NAMED = 10  # rows in a message

SCALES = {
    "psf_fwhm_{b}_arcsec": (1.1, 0.2),
    "psf_nea_{b}_arcsec": (1.4, 0.25),
    "depth_{b}_mag": (23.8, 0.8),
}


def scale_of(name: str) -> tuple[float, float]:
    """Middle and spread of an input, in its own unit.

    Raises:
        ConfigError: it is none that a network may be told.
    """
    for template, scale in SCALES.items():
        before, after = template.split("{b}")
        band = name.removeprefix(before).removesuffix(after)
        if band and template.format(b=band) == name:
            return scale
    allowed = ", ".join(schemas.extra_inputs(("<band>",)))
    raise ConfigError(f"{name} is no input that a network may be told; those are {allowed}")


def of_table(table: pa.Table, names: Sequence[str], *, of: str) -> Values | None:
    """Inputs of the rows of a table as they stand there, shape (n, k); None without any.

    Args:
        table: With the columns `names`, as `cutouts` has them.
        names: Of the inputs, in the network's order.
        of: Column by which rows are named in a message.

    Raises:
        DataError: values are missing or not finite; one message names inputs and rows.
    """
    if not names:
        return None
    columns = [table[name].to_numpy(zero_copy_only=False) for name in names]
    values = np.stack(columns, 1).astype(np.float32)
    is_bad = ~np.isfinite(values)
    if is_bad.any():
        ids = table[of].to_numpy()[is_bad.any(1)]
        which = ", ".join(name for at, name in enumerate(names) if is_bad[:, at].any())
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        raise DataError(
            f"{len(ids)} of {len(values)} rows lack a finite value of {which}, which the network "
            f"is told ({of} {', '.join(map(str, ids[:NAMED]))}{more}). Look at them in cutouts; or "
            "train with other model.inputs"
        )
    return values


def of_galaxies(rows: pa.Table, cutouts: pa.Table, names: Sequence[str]) -> Values | None:
    """Inputs of each row's galaxy as `cutouts` has them, shape (n, k); None without any.

    Args:
        rows: With `target_id`.
        cutouts: With `target_id` and the columns `names`.
        names: Of the inputs.

    Raises:
        DataError: a galaxy has no cutout, or a value is missing or not finite.
    """
    if not names:
        return None
    target = rows["target_id"].to_numpy()
    held = cutouts["target_id"].to_numpy()
    order = np.argsort(held, kind="stable")
    place = np.minimum(np.searchsorted(held[order], target), max(len(held) - 1, 0))
    is_held = held[order][place] == target if len(held) else np.zeros(len(target), bool)
    if not is_held.all():
        lost = target[~is_held]
        raise DataError(
            f"{len(lost)} of {len(target)} rows have no cutout, the first target_id {lost[0]}, and "
            f"so no {', '.join(names)}; run stages cutouts and manifest again"
        )
    return of_table(cutouts.take(pa.array(order[place])), names, of="target_id")


def seen_of(rows: pa.Table, cutouts: pa.Table, names: Sequence[str]) -> Values | None:
    """What a network in training sees of each row's galaxy: `of_galaxies`, normalised."""
    raw = of_galaxies(rows, cutouts, names)
    if raw is None:
        return None
    return np.asarray(normalised(torch.from_numpy(raw), names).numpy(), np.float32)


def normalised(extra: Tensor, names: Sequence[str]) -> Tensor:
    """What a network sees of raw values (n, k): dimensionless, same shape, within +-4."""
    scales = torch.tensor([scale_of(name) for name in names], device=extra.device)
    middle, spread = scales.to(extra.dtype).unbind(1)
    return torch.clamp((extra - middle) / spread, -FARTHEST, FARTHEST)
