"""How a network is trained, in numbers; when an epoch is the best; when to stop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from darkhaloscope.core.errors import DataError
from darkhaloscope.ml.levers import Loss

WATCHED_FPR = 0.01  # where completeness is watched in training; the report resolves lower rates

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Monitor = Literal["val_loss", "val_auroc", "val_completeness"]
Schedule = Literal["cosine", "constant", "final_decay"]

FINAL_SHARE = 0.2  # of the steps, in which `final_decay` falls


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of `history.csv`.

    Attributes:
        epoch: 0 for the first.
        train_loss: Mean over the epoch's stamps, each counted by its weight in the loss, of the
            network as it was at each step; of one size whatever the weights are.
        val_loss: Of the averaged weights, over all validation stamps, each counted alike: the
            cross-entropy of lens and negative, or of the kinds where the network tells them apart
            (larger, and not to be compared with the former).
        val_auroc: Area under the ROC of the validation stamps, copies of a galaxy counted each.
        val_completeness: Share of validation lenses above the score that 1 % of the validation
            negatives exceed.
        learning_rate: At the end of the epoch.
        stamps: Trained on in this epoch.
        stamps_seen: Trained on since the beginning.
        seconds: Wall-clock time of the epoch.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_auroc: float
    val_completeness: float
    learning_rate: float
    stamps: int
    stamps_seen: int
    seconds: float

    def __str__(self) -> str:
        """The epoch's line in `training.log`."""
        rate = self.stamps / max(self.seconds, 1e-9)
        return (
            f"epoch {self.epoch + 1}: training loss {self.train_loss:.4f}, validation loss "
            f"{self.val_loss:.4f}, AUROC {self.val_auroc:.4f}, completeness "
            f"{100 * self.val_completeness:.1f} % at FPR {WATCHED_FPR:g} (per stamp of val, to "
            f"watch the training; not a result); {self.stamps} stamps "
            f"in {self.seconds:.0f} s ({rate:.0f}/s, validation included)"
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes:
        max_epochs: Epochs of the schedule, >= 1.
        learning_rate: Of AdamW, at its highest.
        weight_decay: Of AdamW.
        warmup_steps: Steps over which the rate rises linearly from 0.
        schedule: `cosine`: the rate falls to 0 at the last step. `constant`: it stays.
            `final_decay`: it stays, and over the last fifth of the steps falls to 0 as
            1 - sqrt(x) (Haegele et al. 2024, arXiv:2405.18392).
        ema_decay: Share of the running average kept per step; 0: the weights themselves.
        patience: Epochs without a better one after which training ends.
        monitor: What better means: lower `val_loss`, or higher `val_auroc` or `val_completeness`.
        gradient_clip: Largest norm of the gradient; inf: any.
        positive_weight: Weight of a lens in the loss over that of a negative.
        precision: Of the convolutions; weights and loss are float32 in all. `auto`: bf16 where the
            processor computes in it, fp16 on older GPUs, else fp32.
        loss: `focal` makes stamps that are known well count less; `class_balanced` is the
            cross-entropy with weights by kind, which the source of the batches holds.
        focal_gamma: Of the focal loss; not used by the others.
        tail_weight: Of `levers.tail` beside the loss; 0: none.
        tail_share: Highest share of a batch's negatives that it heeds.
    """

    max_epochs: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: Schedule
    ema_decay: float
    patience: int
    monitor: Monitor
    gradient_clip: float
    positive_weight: float
    precision: Precision = "auto"
    loss: Loss = "cross_entropy"
    focal_gamma: float = 0.0
    tail_weight: float = 0.0
    tail_share: float = 1.0

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step `step` of `total`, over its highest value, in [0, 1]."""
        rising = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return rising
        if self.schedule == "final_decay":
            gone = (step / max(total, 1) - (1 - FINAL_SHARE)) / FINAL_SHARE
            return rising * (1.0 - math.sqrt(min(max(gone, 0.0), 1.0)))
        return rising * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(total, 1))))

    def best(self, history: Sequence[Epoch]) -> Epoch:
        """The epoch whose weights are kept; of equal ones the first."""
        if self.monitor == "val_loss":
            return min(history, key=lambda epoch: epoch.val_loss)
        if self.monitor == "val_auroc":
            return max(history, key=lambda epoch: epoch.val_auroc)
        return max(history, key=lambda epoch: epoch.val_completeness)

    def is_finished(self, history: Sequence[Epoch]) -> bool:
        """Whether training ends here: all epochs are done, or patience is."""
        if not history:
            return False
        waited = history[-1].epoch - self.best(history).epoch
        return waited >= self.patience or history[-1].epoch + 1 >= self.max_epochs


def validation_figures(
    logits: NDArray[np.float32], labels: NDArray[np.float32], losses: NDArray[np.float64]
) -> dict[str, float]:
    """Loss, AUROC and completeness of one pass over the validation stamps.

    Args:
        logits: Of a lens, shape (n,).
        labels: 1 for a lens, 0 for a negative, shape (n,).
        losses: Cross-entropy of each stamp, shape (n,).

    Raises:
        DataError: lenses or negatives are missing.
    """
    is_lens = labels > 0.5
    lenses, negatives = int(is_lens.sum()), int((~is_lens).sum())
    if not lenses or not negatives:
        raise DataError(
            f"validation has {lenses} lenses and {negatives} negatives; it needs both: check the "
            "splits' shares and the manifest's copies"
        )
    score = logits.astype(np.float64)
    above = rankdata(score)[is_lens].sum() - lenses * (lenses + 1) / 2
    threshold = np.quantile(score[~is_lens], 1.0 - WATCHED_FPR, method="higher")
    return {
        "val_loss": float(losses.mean()),
        "val_auroc": float(above / (lenses * negatives)),
        "val_completeness": float((score[is_lens] > threshold).mean()),
    }
