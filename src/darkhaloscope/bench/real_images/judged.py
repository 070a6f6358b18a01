"""The real candidates scored, and what the scores are worth.

The only place where the grades are read. A candidate is the unit of every figure; those that the
experts were unsure of are in none of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from darkhaloscope.bench.real_images.pictures import LABELS, Colours
from darkhaloscope.bench.real_images.training import CUT_PX, seen
from darkhaloscope.evaluate import rows, sample, units
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve
from darkhaloscope.ml.transforms import SYMMETRIES, turned

FPR = 0.1
_SEED = 4

Logits = NDArray[np.float32]


def logits(network: nn.Module, rgb: Colours) -> Logits:
    """Of pictures, (n, 3, y, x) uint8: the mean over the eight symmetries, (n,) float32."""
    edge = (rgb.shape[-1] - CUT_PX) // 2
    middle = rgb[:, :, edge : edge + CUT_PX, edge : edge + CUT_PX]
    stamps = seen(torch.from_numpy(middle.astype(np.float32) / 255))
    total = torch.zeros(len(rgb))
    network.eval()
    with torch.no_grad():
        for symmetry in range(SYMMETRIES):
            which = np.full(len(rgb), symmetry, np.int64)
            total += network(turned(stamps.contiguous(), which)).float()
    return np.asarray((total / SYMMETRIES).numpy(), np.float32)


def together(members: Sequence[Logits]) -> Logits:
    """A committee's score: the mean logit."""
    return np.asarray(np.mean(members, axis=0), np.float32)


def figures(score: Logits, labels: NDArray[np.str_]) -> dict[str, Any]:
    """AUROC, and completeness at 10 % false positives, with 95 % intervals.

    Args:
        score: Higher is more lens-like, (n,).
        labels: `lens`, `unsure` or `not_lens`, (n,); the unsure are left out, and their share above
            the threshold is stated apart.

    Raises:
        DataError: a score is NaN, or one of the classes is empty.
    """
    is_judged = labels != "unsure"
    judged = rows.rows(
        score=score[is_judged].astype(np.float64),
        is_lens=labels[is_judged] == "lens",
        where="the graded candidates",
    )
    curve = Curve(
        sample.lens_side(units.lens_units(judged)),
        sample.weigh(units.negative_units(judged), to_sky=False),
        Draws(_SEED),
        "real images",
    )
    at = curve.tpr_at_fpr(FPR)
    above = score >= curve.threshold_at_fpr(FPR)
    return {
        "counts": {label: int((labels == label).sum()) for label in LABELS},
        "auroc": curve.auroc,
        "completeness_at_fpr_0.1": at.as_dict(),
        "unsure_kept_share": float(above[labels == "unsure"].mean())
        if (labels == "unsure").any()
        else None,
    }
