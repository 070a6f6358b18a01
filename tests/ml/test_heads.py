"""Outputs, classes and losses of the two heads, against independent code."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from darkhaloscope.core import schemas
from darkhaloscope.ml import heads

N, K = 40, 4
ONE = torch.tensor(1.0)


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs of a head of four kinds, labels and classes."""
    draw = np.random.default_rng(8)
    outputs = torch.from_numpy(draw.normal(0, 3, (N, K)).astype(np.float32))
    classes = torch.from_numpy(draw.integers(0, K, N))
    return outputs, (classes == 0).float(), classes


def test_classes_follow_the_mix_lens_first_and_mined_is_a_control() -> None:
    mix = {"ring": 0.1, "mined": 0.2, "lens": 0.4, "artefact": 0.0, "companion": 0.3}
    assert heads.classes_of("kinds", mix) == ("lens", "control", "ring", "companion")
    assert heads.classes_of("kinds", {**mix, "control": 1.0}) == heads.classes_of("kinds", mix)
    assert heads.classes_of("binary", mix) == ()
    assert heads.classes_of("kinds", dict.fromkeys(schemas.KINDS, 1.0)) == schemas.KINDS


def test_each_stamp_has_the_place_of_its_kind() -> None:
    kinds = np.array(["ring", "lens", "mined", "spiral", "control"])
    assert heads.class_of(kinds, ("lens", "control", "ring")).tolist() == [2, 0, 1, -1, 1]
    assert heads.class_of(kinds, ("lens", "ring")).tolist() == [1, 0, -1, -1, -1]
    assert heads.class_of(kinds, ()).tolist() == [-1] * 5


def test_the_logit_of_a_lens_is_that_of_its_softmax() -> None:
    outputs, _, _ = drawn()
    p = softmax(outputs.numpy().astype(np.float64), axis=1)[:, 0]
    expected = np.log(p / (1 - p))
    np.testing.assert_allclose(heads.lens_logit(outputs).numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(heads.lens_logit(outputs[:, 0]), outputs[:, 0])


def test_a_saturated_softmax_still_tells_candidates_apart() -> None:
    outputs = torch.tensor([[200.0, 0.0, 1.0], [201.0, 0.0, 1.0], [-300.0, 0.0, 0.0]])
    logits = heads.lens_logit(outputs)
    assert bool(logits.isfinite().all())
    assert float(logits[1] - logits[0]) == pytest.approx(1)


def test_the_loss_of_kinds_is_the_weighted_cross_entropy() -> None:
    outputs, labels, classes = drawn()
    of_class = torch.tensor([5.0, 1.0, 1.0, 1.0])
    found = heads.loss(outputs, labels, classes, torch.ones(N), torch.tensor(5.0))
    expected = cross_entropy(outputs, classes, weight=of_class, reduction="sum") / N
    torch.testing.assert_close(found, expected)


def test_the_loss_of_a_binary_head_is_the_weighted_cross_entropy() -> None:
    outputs, labels, classes = drawn()
    logits, weight = outputs[:, 0], torch.tensor(5.0)
    found = heads.loss(logits, labels, classes, torch.ones(N), weight)
    expected = binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    torch.testing.assert_close(found, expected)


def test_a_kind_that_was_not_taught_is_no_lens() -> None:
    outputs, labels, classes = drawn()
    unknown = torch.full_like(classes, -1)
    p = softmax(outputs.numpy().astype(np.float64), axis=1)[:, 0]
    found = heads.losses(outputs, torch.zeros_like(labels), unknown).numpy()
    np.testing.assert_allclose(found, -np.log(1 - p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_binary", [True, False])
def test_stamps_of_weight_0_change_neither_loss_nor_gradient(is_binary: bool) -> None:
    outputs, labels, classes = drawn()
    weights = torch.from_numpy(np.random.default_rng(9).uniform(0.5, 1, N).astype(np.float32))
    weights[10:25] = 0

    def taken(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = outputs[:, 0] if is_binary else outputs
        values = seen[rows].clone().requires_grad_()
        found = heads.loss(values, labels[rows], classes[rows], weights[rows], ONE)
        (gradient,) = torch.autograd.grad(found, values)
        return found, gradient

    whole, gradient = taken(torch.arange(N))
    without, expected = taken(weights.nonzero()[:, 0])
    torch.testing.assert_close(whole, without)
    torch.testing.assert_close(gradient[weights > 0], expected)
    assert not bool(gradient[weights == 0].any())


def test_a_weight_counts_like_as_many_stamps() -> None:
    outputs, labels, classes = drawn()
    twice = torch.arange(N).repeat_interleave(torch.tensor([3, 1] * (N // 2)))
    found = heads.loss(outputs, labels, classes, torch.tensor([3.0, 1.0] * (N // 2)), ONE)
    ones = torch.ones(len(twice))
    expected = heads.loss(outputs[twice], labels[twice], classes[twice], ones, ONE)
    torch.testing.assert_close(found, expected)


def test_a_batch_without_any_weight_has_no_loss() -> None:
    outputs, labels, classes = drawn()
    assert float(heads.loss(outputs, labels, classes, torch.zeros(N), ONE)) == 0


@pytest.mark.parametrize("is_binary", [True, False])
def test_the_loss_asks_nothing_of_the_device(is_binary: bool) -> None:
    outputs, labels, classes = (values.to("meta") for values in drawn())
    seen = (outputs[:, 0] if is_binary else outputs).detach().requires_grad_()
    weights = torch.ones(N, device="meta")
    found = heads.loss(seen, labels, classes, weights, torch.tensor(2.0, device="meta"))
    found.backward()  # values that the host would have to wait for are not there
    assert seen.grad is not None
    assert seen.grad.shape == seen.shape
