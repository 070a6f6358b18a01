"""Rates, the best epoch, and validation figures against independent code."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ml_builders import recipe
from sklearn.metrics import log_loss, roc_auc_score

from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import heads
from darkhaloscope.ml import recipe as recipes
from darkhaloscope.ml.recipe import Epoch


def validation_figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of a binary head, as training has them."""
    outputs, known = (torch.from_numpy(v).double() for v in (logits, labels))
    losses = heads.losses(outputs, known, torch.full(labels.shape, -1))
    return recipes.validation_figures(logits, labels, losses.numpy())


def epochs(losses: list[float], completeness: list[float] | None = None) -> list[Epoch]:
    found = completeness or [0.0] * len(losses)
    return [
        Epoch(i, 0.0, loss, 0.5, c, 1e-3, 8, 8 * (i + 1), 1.0)
        for i, (loss, c) in enumerate(zip(losses, found, strict=True))
    ]


def test_the_rate_rises_then_falls_to_nothing() -> None:
    plan = recipe(warmup_steps=9)
    rates = [plan.rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] > 0.97
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    plan = recipe(warmup_steps=3, schedule="constant")
    assert [plan.rate(step, 10) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]


def test_a_final_decay_stays_for_four_fifths_and_ends_at_nothing() -> None:
    plan = recipe(warmup_steps=3, schedule="final_decay")
    rates = [plan.rate(step, 100) for step in (0, 3, 50, 80, 85, 95, 100)]
    expected = [0.25, 1, 1, 1, 0.5, 1 - math.sqrt(0.75), 0]
    assert rates == pytest.approx(expected, abs=1e-9)


def test_the_best_epoch_is_the_first_of_equals_by_what_is_watched() -> None:
    history = epochs([0.5, 0.3, 0.3, 0.4], [0.1, 0.2, 0.6, 0.6])
    history[3] = replace(history[3], val_auroc=0.7)
    assert recipe(monitor="val_loss").best(history).epoch == 1
    assert recipe(monitor="val_auroc").best(history).epoch == 3
    assert recipe(monitor="val_completeness").best(history).epoch == 2


def test_training_ends_when_patience_or_the_epochs_are_used_up() -> None:
    plan = recipe(patience=2, max_epochs=10)
    assert not plan.is_finished(epochs([0.5, 0.3, 0.4]))
    assert plan.is_finished(epochs([0.5, 0.3, 0.4, 0.31]))
    assert replace(plan, max_epochs=3).is_finished(epochs([0.5, 0.4, 0.3]))
    assert not plan.is_finished([])


def test_loss_and_auroc_agree_with_scikit_learn_ties_included() -> None:
    draw = np.random.default_rng(4)
    labels = (draw.random(500) < 0.4).astype(np.float32)
    logits = np.round(draw.normal(labels, 1.0), 1).astype(np.float32)
    got = validation_figures(logits, labels)
    assert got["val_auroc"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)
    assert got["val_loss"] == pytest.approx(
        log_loss(labels, 1 / (1 + np.exp(-logits.astype(float))))
    )


def test_completeness_counts_lenses_above_all_but_one_percent_of_the_negatives() -> None:
    negatives = np.arange(200, dtype=np.float32)
    lenses = np.array([100.0, 197.0, 198.0, 500.0], np.float32)
    logits = np.concatenate([negatives, lenses])
    labels = np.concatenate([np.zeros(200), np.ones(4)]).astype(np.float32)
    kept = validation_figures(logits, labels)["val_completeness"]
    threshold = 198.0  # 1 of 200 negatives is above it
    assert kept == np.mean(lenses > threshold)


def test_saturated_logits_have_a_finite_loss() -> None:
    got = validation_figures(np.array([-2e4, 2e4], np.float32), np.array([1, 0], np.float32))
    assert got["val_loss"] == pytest.approx(2e4)
    assert math.isfinite(got["val_auroc"])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_validation_with_one_class_is_refused(label: float) -> None:
    with pytest.raises(DataError, match="it needs both"):
        validation_figures(np.zeros(3, np.float32), np.full(3, label, np.float32))
