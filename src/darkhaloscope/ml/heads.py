"""What a network's outputs mean, and the loss that teaches them.

A binary head answers with one logit. A head that tells kinds apart answers with one value a kind,
lens first; its softmax is the probability of each, and the logit of a lens is that of the softmax:
z_lens - log sum exp of the others. Which of the two it is, the shape says: (n,) or (n, k).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, softplus

from darkhaloscope.core import schemas
from darkhaloscope.ml import levers

Head = Literal["binary", "kinds"]

TRAINED_AS = {schemas.MINED: "control"}


def classes_of(head: Head, mix: Mapping[Any, float]) -> tuple[str, ...]:
    """The kinds that a head tells apart, lens first, in the order of `schemas.KINDS`.

    They follow from the mix alone, whether or not there is anything mined: all rounds have the
    same. A binary head has none.
    """
    if head == "binary":
        return ()
    trained = {TRAINED_AS.get(kind, kind) for kind, share in mix.items() if share > 0}
    return tuple(kind for kind in schemas.KINDS if kind in trained)


def class_of(kinds: NDArray[np.str_], classes: Sequence[str]) -> NDArray[np.int64]:
    """Place of each stamp's kind in `classes`, -1 where it is none of them, (n,)."""
    found = np.full(len(kinds), -1, np.int64)
    for place, name in enumerate(classes):
        found[kinds == name] = place
    for kind, name in TRAINED_AS.items():
        if name in classes:
            found[kinds == kind] = list(classes).index(name)
    return found


def lens_logit(outputs: Tensor) -> Tensor:
    """The logit of a lens, (n,), of a network's outputs, (n,) or (n, k)."""
    if outputs.ndim == 1:
        return outputs
    return outputs[:, 0] - outputs[:, 1:].logsumexp(1)


def losses(outputs: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of each stamp, (n,), without weights.

    Of a head that tells kinds apart, a negative of a kind that it was not taught is only known to
    be no lens: its loss is that of all other kinds together.

    Args:
        outputs: (n,) or (n, k).
        labels: 1 for a lens, 0 for a negative, (n,).
        classes: Place of the kind among the head's, -1: another negative, (n,) int64; a binary head
            does not look at it.
    """
    if outputs.ndim == 1:
        return binary_cross_entropy_with_logits(outputs, labels, reduction="none")
    known = -log_softmax(outputs, 1).gather(1, classes.clamp(min=0)[:, None])[:, 0]
    return torch.where(classes >= 0, known, softplus(lens_logit(outputs)))


def loss(
    outputs: Tensor,
    labels: Tensor,
    classes: Tensor,
    weights: Tensor,
    positive_weight: Tensor,
    *,
    focal_gamma: float = 0.0,
    total: Tensor | None = None,
) -> Tensor:
    """What a step is taken on: the mean of the losses by `weights`, those of lenses made heavier.

    The mean is over the sum of the weights, so that its size is that of one stamp's loss however
    many of them count less. `positive_weight` is not in that sum.

    Args:
        outputs: (n,) or (n, k).
        labels: As in `losses`.
        classes: As in `losses`.
        weights: By how much each stamp counts, >= 0, (n,).
        positive_weight: Weight of a lens's loss over that of a negative, a scalar.
        focal_gamma: Of `levers.focal`; 0: the cross-entropy itself.
        total: What the sum is divided by; None: the sum of the weights.
    """
    each = losses(outputs, labels, classes)
    if focal_gamma:
        each = levers.focal(each, focal_gamma)
    each = each * torch.where(labels > 0.5, positive_weight, positive_weight.new_ones(()))
    total = weights.sum() if total is None else total
    return (each * weights).sum() / total.clamp(min=torch.finfo(weights.dtype).tiny)
