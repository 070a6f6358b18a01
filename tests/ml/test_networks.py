"""The networks cost what they say, and answer for any number of stamps."""

import pytest
import torch

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import networks


@pytest.mark.parametrize("name", list(networks.DESIGNS))
def test_a_network_costs_what_its_design_says(name: str) -> None:
    design = networks.DESIGNS[name]
    network = networks.make(name, bands=3, seed=1)
    assert networks.count_macs(network, (3, 64, 64)) / 1e9 == pytest.approx(design.gmac, abs=5e-4)
    assert sum(p.numel() for p in network.parameters()) == design.parameters


def test_macs_of_one_convolution_and_one_linear_layer_are_counted_by_hand() -> None:
    layers = [torch.nn.Conv2d(2, 5, 3, stride=2, padding=1), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(5 * 4 * 4, 7))
    assert networks.count_macs(network, (2, 8, 8)) == 5 * 16 * 9 * 2 + 80 * 7
    assert network.training


def test_the_cheap_nets_keep_their_promise() -> None:
    assert networks.DESIGNS["small"].gmac <= 0.12
    assert networks.DESIGNS["resnet18_first_run"].gmac / networks.DESIGNS["resnet18"].gmac > 14


@pytest.mark.parametrize("name", ["small", "resnet18"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_logits_have_one_value_a_stamp_in_float32(name: str, count: int) -> None:
    network = networks.make(name, bands=2, seed=1).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(count, 2, 64, 64))
    assert logits.shape == (count,)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_with_more_outputs_there_is_a_value_a_kind(name: str) -> None:
    network = networks.make(name, bands=2, seed=1, outputs=4).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = network(torch.randn(3, 2, 64, 64))
    assert found.shape == (3, 4)
    assert found.dtype == torch.float32


def test_equal_seeds_give_equal_weights_and_disturb_no_other_draw() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (networks.make("small", bands=3, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["features.0.weight"], other["features.0.weight"])


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'vgg'; choose one of small, resnet18"):
        networks.make("vgg", bands=3, seed=1)
