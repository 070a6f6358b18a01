"""Levers on the loss against formulas written out, and that a training heeds them."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from ml_builders import recipe, training, validation

from darkhaloscope.ml import heads, levers, loop

LOGITS = torch.tensor([2.0, -1.0, 0.5, -3.0, 1.5, -0.5])
LABELS = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
BINARY = torch.full((6,), -1)


def test_the_focal_loss_is_that_of_the_paper_for_one_logit_and_for_kinds() -> None:
    p = torch.sigmoid(LOGITS.double())
    truth = torch.where(LABELS > 0.5, p, 1 - p)
    losses = heads.losses(LOGITS.double(), LABELS.double(), BINARY)
    expected = -((1 - truth) ** 2) * truth.log()
    torch.testing.assert_close(levers.focal(losses, 2.0), expected, rtol=1e-9, atol=1e-12)
    outputs, classes = torch.randn(6, 3, generator=torch.manual_seed(1)), torch.arange(6) % 3
    truth = outputs.double().softmax(1)[torch.arange(6), classes]
    losses = heads.losses(outputs.double(), (classes == 0).double(), classes)
    expected = -((1 - truth) ** 0.5) * truth.log()
    torch.testing.assert_close(levers.focal(losses, 0.5), expected, rtol=1e-6, atol=1e-9)


def test_the_focal_loss_of_a_stamp_known_for_certain_has_a_finite_slope() -> None:
    logits = torch.tensor([200.0, -200.0, 3.0], requires_grad=True)
    losses = heads.losses(logits, torch.tensor([1.0, 0.0, 0.0]), torch.full((3,), -1))
    levers.focal(losses, 0.5).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[2] > 0


def test_kinds_weigh_by_their_effective_number() -> None:
    stamps = {"lens": 500, "control": 480, "ring": 20, "spiral": 0}
    found = levers.class_balanced(stamps, 0.99)
    each = {kind: 0.01 / (1 - 0.99**n) for kind, n in stamps.items() if n}
    for kind, other in (("ring", "lens"), ("control", "lens")):
        expected = each[kind] / each[other]
        assert found[kind] / found[other] == pytest.approx(expected, rel=1e-9)
    assert sum(found[kind] * n for kind, n in stamps.items() if n) / 1000 == pytest.approx(1)
    assert set(found) == {"lens", "control", "ring"}
    flat = levers.class_balanced(stamps, 1e-12)
    assert list(flat.values()) == pytest.approx([1, 1, 1], rel=1e-6)
    steep = levers.class_balanced(stamps, 1 - 1e-9)
    assert steep["ring"] / steep["lens"] == pytest.approx(25, rel=1e-4)


@pytest.mark.parametrize(("share", "chosen"), [(0.1, 1), (0.25, 1), (0.3, 2), (0.6, 3), (1.0, 4)])
def test_the_tail_is_the_mean_over_pairs_with_the_highest_negatives(
    share: float, chosen: int
) -> None:
    weights = torch.tensor([1.0, 0.5, 1.0, 1.0, 0.8, 0.3])
    negatives = sorted(zip(LOGITS[2:].tolist(), weights[2:].tolist(), strict=True), reverse=True)
    total = count = 0.0
    for z, w in zip(LOGITS[:2].tolist(), weights[:2].tolist(), strict=True):
        for other, by in negatives[:chosen]:
            total += w * by * np.log1p(np.exp(other - z))
            count += w * by
    found = levers.tail(LOGITS, LABELS, weights, share)
    assert float(found) == pytest.approx(total / count, rel=1e-6)


def test_the_tail_moves_lenses_and_the_highest_negatives_alone() -> None:
    logits = LOGITS.clone().requires_grad_()
    levers.tail(logits, LABELS, torch.ones(6), 0.5).backward()
    assert logits.grad is not None
    assert (logits.grad[:2] < 0).all()
    assert (logits.grad[[2, 4]] > 0).all()
    assert logits.grad[[3, 5]].tolist() == [0, 0]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_tail_of_one_class_is_nothing(label: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    found = levers.tail(logits, torch.full((6,), label), torch.ones(6), 0.5)
    found.backward()
    assert float(found.detach()) == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [0] * 6


def test_a_negative_that_does_not_count_is_none_of_the_highest() -> None:
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    found = levers.tail(LOGITS, LABELS, weights, 0.1)
    expected = np.mean([np.log1p(np.exp(0.5 - z)) for z in (2.0, -1.0)])
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_training_step_is_taken_on_what_the_recipe_asks_for() -> None:
    source = training()
    batch = next(source.batches(0))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(512, 1), torch.nn.Flatten(0))
    outputs = network(batch.stamps.contiguous())
    each = heads.losses(outputs, batch.labels, batch.classes)
    tail = levers.tail(outputs, batch.labels, batch.weights, 0.25)
    for changes, expected in (
        ({}, each.mean()),
        ({"loss": "focal", "focal_gamma": 1.5}, levers.focal(each, 1.5).mean()),
        ({"tail_weight": 0.5, "tail_share": 0.25}, each.mean() + 0.5 * tail),
    ):
        module = loop.Training(network, source, validation(), recipe(**changes))
        torch.testing.assert_close(module.training_step(batch, 0), expected)


def lenses(ratio: list[float | None], snr: list[float | None], label: list[int]) -> pa.Table:
    return pa.table(
        {
            "label": pa.array(label, pa.int8()),
            "theta_e_over_fwhm_r": pa.array(ratio, pa.float32()),
            "arc_snr_target": pa.array(snr, pa.float32()),
        }
    )


def test_a_curriculum_begins_with_clear_lenses_and_ends_with_all() -> None:
    rows = lenses([2.0, 1.2, 0.4, None, 2.0], [100, 100, 100, None, 10], [1, 1, 1, 0, 1])
    plan = levers.Curriculum(theta_e_over_fwhm_r=1.5, arc_snr=40, steps=10)

    def heeded(step: int) -> list[float]:
        found: list[float] = plan.weights(rows, np.full(5, step)).tolist()
        return found

    assert heeded(0) == [1, 0, 0, 1, 0]
    assert heeded(2) == [1, 1, 0, 1, 0]  # limits 1.2 (met, in float32) and 32
    assert heeded(7) == [1, 1, 0, 1, 0]  # 0.45 and 12
    assert heeded(8) == [1, 1, 1, 1, 1]  # 0.3 and 8
    assert heeded(10) == heeded(99) == [1] * 5
    assert plan.weights(rows, np.array([0, 2, 8, 0, 8])).tolist() == [1, 1, 1, 1, 1]
    plain = rows.select(["label", "theta_e_over_fwhm_r"])
    assert plan.weights(plain, np.zeros(5, np.int64)).tolist() == [1, 0, 0, 1, 1]


def test_negatives_with_such_numbers_always_count() -> None:
    rows = lenses([0.1, 0.1], [1, 1], [0, 1])
    assert levers.Curriculum(1, 1, 5).weights(rows, np.zeros(2, np.int64)).tolist() == [1, 0]
