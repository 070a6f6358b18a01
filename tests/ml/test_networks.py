"""The networks cost what they say, and answer for any number of stamps."""

import importlib
import sys
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from torch import nn

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.ml import networks

OWN = [name for name, design in networks.DESIGNS.items() if not design.library]
OF_LIBRARY = [name for name, design in networks.DESIGNS.items() if design.library]


@pytest.mark.parametrize("name", list(networks.DESIGNS))
def test_a_network_costs_what_its_design_says(name: str) -> None:
    design = networks.DESIGNS[name]
    if design.library:
        try:
            importlib.import_module(design.library)
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"needs {design.library}: {error}")
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
    assert networks.DESIGNS["compact"].gmac <= 0.2
    assert networks.DESIGNS["resnet18_first_run"].gmac / networks.DESIGNS["resnet18"].gmac > 14


@pytest.mark.parametrize("name", ["small", "compact", "resnet18"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_logits_have_one_value_a_stamp_in_float32(name: str, count: int) -> None:
    network = networks.make(name, bands=2, seed=1).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(count, 2, 64, 64))
    assert logits.shape == (count,)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", ["small", "compact", "resnet18"])
def test_with_more_outputs_there_is_a_value_a_kind(name: str) -> None:
    network = networks.make(name, bands=2, seed=1, outputs=4).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = network(torch.randn(3, 2, 64, 64))
    assert found.shape == (3, 4)
    assert found.dtype == torch.float32


def test_the_settings_name_every_network_and_no_other() -> None:
    named = get_args(ModelConfig.model_fields["network"].annotation)
    assert list(named) == list(networks.DESIGNS)


@pytest.mark.parametrize("size", [16, 44, 64, 80])
def test_the_compact_net_sees_every_pixel_of_an_even_stamp(size: int) -> None:
    network = networks.make("compact", bands=2, seed=1).eval()
    stamps = torch.randn(1, 2, size, size, requires_grad=True)
    network(stamps).sum().backward()
    assert stamps.grad is not None
    assert (stamps.grad != 0).float().mean() > 0.99


class Backbone(nn.Module):
    """What timm documents of a model without its classifier: pooled features, so many."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.num_features = width
        self.stem = nn.Conv2d(channels, width, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.stem(images).mean((2, 3))
        return features


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts a module in timm's place that keeps how it was called."""
    calls: list[dict[str, Any]] = []

    def create_model(name: str, pretrained: bool = False, **how: Any) -> nn.Module:
        calls.append({"name": name, "pretrained": pretrained, **how})
        return Backbone(how["in_chans"], 24)

    stand_in = ModuleType("timm")
    stand_in.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return calls


@pytest.mark.parametrize("name", OF_LIBRARY)
def test_a_network_of_the_library_is_asked_for_its_features(
    asked: list[dict[str, Any]], name: str
) -> None:
    network = networks.make(name, bands=2, seed=1, outputs=4, inputs=3).eval()
    how = {"pretrained": False, "in_chans": 2, "num_classes": 0}
    assert how.items() <= asked[0].items()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        seen = torch.randn(5, 2, 32, 32), torch.randn(5, 3)
        assert network(*seen).shape == (5, 4)
        embedded = network.embedded(*seen)
    assert (embedded.shape, embedded.dtype) == ((5, 24), torch.float32)
    plain = networks.make(name, bands=2, seed=1).eval()
    assert plain(torch.randn(5, 2, 32, 32)).shape == (5,)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'timm'"), RuntimeError])
def test_without_the_library_its_networks_are_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    if error is RuntimeError:
        error = RuntimeError("operator torchvision::nms does not exist")

    def fails(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fails)
    message = rf"vit_tiny.* of the library timm.*\({type(error).__name__}: {error}\)"
    with pytest.raises(ConfigError, match=message + r".*\[models\].*torchvision.*the wheel made"):
        networks.make("vit_tiny", bands=3, seed=1)


def test_equal_seeds_give_equal_weights_and_disturb_no_other_draw() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (networks.make("small", bands=3, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["features.0.weight"], other["features.0.weight"])


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'vgg'; choose one of small, compact, resnet18"):
        networks.make("vgg", bands=3, seed=1)
