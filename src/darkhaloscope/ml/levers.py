"""Levers on the loss: which stamps of a batch it heeds more, beyond one cross-entropy for all.

Each is off unless the settings ask for it, and leaves validation as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

Weights = NDArray[np.float32]
Loss = Literal["cross_entropy", "focal", "class_balanced"]


def focal(losses: Tensor, gamma: float) -> Tensor:
    """Cross-entropies less those of stamps that are known well, (n,).

    (1 - p)^gamma times each, with p = exp(-loss) the probability that the network gives the truth:
    Lin et al. 2017, arXiv:1708.02002, eq. 4, for one logit and for kinds alike.

    Args:
        losses: Cross-entropy of each stamp, (n,).
        gamma: >= 0; 0 leaves them as they are.
    """
    # 1 - p is 0 where the loss underflows; its power below 1 has no finite slope there
    unknown = (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)
    return unknown**gamma * losses


def class_balanced(stamps: Mapping[str, int], beta: float) -> dict[str, float]:
    """Weight of each kind by its effective number, of mean 1 over the stamps.

    (1 - beta) / (1 - beta^n) of a kind with n stamps: Cui et al. 2019, arXiv:1901.05555, eq. 5.
    At beta 0 all weigh alike, towards 1 as the inverse of their number.

    Args:
        stamps: How many of each kind an epoch takes; kinds without any are left out.
        beta: In [0, 1).
    """
    taken = {kind: n for kind, n in stamps.items() if n > 0}
    each = {kind: (1 - beta) / -np.expm1(n * np.log1p(beta - 1)) if beta else 1.0
            for kind, n in taken.items()}  # fmt: skip
    mean = sum(each[kind] * n for kind, n in taken.items()) / max(sum(taken.values()), 1)
    return {kind: float(weight / mean) for kind, weight in each.items()}


def of_kinds(kinds: NDArray[np.str_], by_kind: Mapping[str, float]) -> Weights:
    """Weight of each stamp, (n,), by its kind; 1 of a kind that is not named."""
    found = np.ones(len(kinds), np.float32)
    for kind, weight in by_kind.items():
        found[kinds == kind] = weight
    return found


def tail(logits: Tensor, labels: Tensor, weights: Tensor, share: float) -> Tensor:
    """What lenses lose against the highest negatives of a batch, a scalar.

    The mean of log(1 + exp(z_negative - z_lens)) over all pairs of a lens and one of the highest
    `share` of the batch's negatives that count, one at least: the logistic surrogate of 1 - partial
    AUC at false-positive rates up to `share` (Narasimhan & Agarwal 2013, ICML; over a batch as in
    Zhu et al. 2022, arXiv:2203.00176, SOPA). A pair counts by the product of both weights.

    Args:
        logits: Of a lens, (n,).
        labels: 1 for a lens, 0 for a negative, (n,).
        weights: By how much each stamp counts, >= 0, (n,).
        share: In (0, 1].

    Returns:
        0 where the batch lacks lenses or negatives that count.
    """
    is_lens = labels > 0.5
    is_negative = ~is_lens & (weights > 0)
    wanted = (is_negative.sum() * share).ceil()
    ranked = torch.where(is_negative, logits.detach(), -torch.inf)
    place = ranked.argsort(descending=True, stable=True).argsort()
    high = torch.where(is_negative & (place < wanted), weights, 0.0)
    low = torch.where(is_lens, weights, 0.0)
    pairs = softplus(logits[None, :] - logits[:, None])
    counted = low[:, None] * high[None, :]
    return (pairs * counted).sum() / counted.sum().clamp(min=torch.finfo(weights.dtype).tiny)


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Lenses from well resolved and bright to all, over the first steps of the training.

    A lens below either limit does not count in the loss; negatives always do. The limits fall in
    proportion to the steps, from these values to 0. A row that has no such number (stamps from disk
    have no target S/N) is not judged by it.

    Attributes:
        theta_e_over_fwhm_r: First limit of the Einstein radius over the r-band PSF's FWHM.
        arc_snr: First limit of the S/N in g that an arc is scaled to.
        steps: Over which the limits fall to 0, >= 1.
    """

    theta_e_over_fwhm_r: float
    arc_snr: float
    steps: int

    def weights(self, rows: pa.Table, step: NDArray[np.int64]) -> Weights:
        """0 for lenses that are too hard yet, 1 for all other rows, (n,).

        Args:
            rows: With `label`, and `theta_e_over_fwhm_r` and `arc_snr_target` where they have them.
            step: Of the training, in which each is seen, 0 the first, (n,).
        """
        left = np.clip(1.0 - step / self.steps, 0.0, 1.0)
        is_hard = np.zeros(rows.num_rows, bool)
        limits = (self.theta_e_over_fwhm_r, self.arc_snr)
        for name, limit in zip(("theta_e_over_fwhm_r", "arc_snr_target"), limits, strict=True):
            if name in rows.column_names:
                values = rows[name].to_numpy(zero_copy_only=False).astype(np.float64)
                is_hard |= values < limit * left  # of a null no comparison is true
        return np.where(is_hard & (rows["label"].to_numpy() == 1), 0.0, 1.0).astype(np.float32)
