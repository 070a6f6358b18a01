"""The networks, by name, with what each costs. All end in one logit a stamp, or a value a kind.

The cost of a network is its multiply-accumulates on one 3 x 64 x 64 stamp (GMAC), counted by
`count_macs`. Those that are written here need torch alone: torchvision's wheel does not load beside
every build of torch. Those of the library timm need the extra `models`; their costs follow from the
figures that timm publishes, scaled to 64 px.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml.networks_library import LIBRARY, LibraryNet
from darkhaloscope.ml.networks_own import CompactNet, ResNet18, SmallNet

Network = SmallNet | CompactNet | ResNet18 | LibraryNet


class Make(Protocol):
    """Makes an untrained network."""

    def __call__(self, bands: int, outputs: int, inputs: int) -> Network:
        """For so many bands, with so many outputs, told so many numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Design:
    """A network that can be asked for by name.

    Attributes:
        make: Makes it, untrained, for a number of bands, of outputs and of numbers told.
        gmac: 1e9 multiply-accumulates on one 3 x 64 x 64 stamp.
        parameters: Number of trained values with three bands, one output and no numbers told.
        meaning: What it is for.
        library: Python module that it needs; empty: none.
    """

    make: Make
    gmac: float
    parameters: int
    meaning: str
    library: str = ""


_PATCHES: dict[str, Any] = {"img_size": 64, "patch_size": 8, "dynamic_img_size": True}

DESIGNS: dict[str, Design] = {
    "small": Design(SmallNet, 0.119, 709_817, "default on a CPU"),
    "compact": Design(CompactNet, 0.104, 1_664_193, "residual blocks, nothing at full resolution"),
    "resnet18": Design(partial(ResNet18, standard_stem=True), 0.148, 11_177_025, "standard stem"),
    "resnet18_first_run": Design(
        partial(ResNet18, standard_stem=False),
        2.222,
        11_169_345,
        "the first run's: 3x3 stem with stride 1, no max-pool",
    ),
    "efficientnetv2_s": Design(
        partial(LibraryNet, "tf_efficientnetv2_s"),
        0.234,
        20_178_769,
        "EfficientNetV2-S, Tan & Le 2021, arXiv:2104.00298",
        LIBRARY,
    ),
    "convnext_tiny": Design(
        partial(LibraryNet, "convnext_tiny"),
        0.365,
        27_820_897,
        "ConvNeXt-T, Liu et al. 2022, arXiv:2201.03545",
        LIBRARY,
    ),
    "vit_tiny": Design(
        partial(LibraryNet, "vit_tiny_patch16_224", **_PATCHES),
        0.345,
        5_388_673,
        "ViT-Ti on patches of 8 px, Touvron et al. 2021, arXiv:2012.12877",
        LIBRARY,
    ),
}


def make(name: str, *, bands: int, seed: int, outputs: int = 1, inputs: int = 0) -> Network:
    """An untrained network; equal seeds give equal weights, and no other draw is disturbed.

    Args:
        name: Of its design.
        bands: Input channels.
        seed: Of the weights.
        outputs: 1: it answers with logits (n,); more: with a value a kind, (n, outputs).
        inputs: Numbers that it is told beside the pixels.

    Raises:
        ConfigError: no network has that name, or its library cannot be imported.
    """
    if name not in DESIGNS:
        raise ConfigError(f"there is no network {name!r}; choose one of {', '.join(DESIGNS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DESIGNS[name].make(bands, outputs, inputs)


def count_macs(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of the convolutions and linear layers on one stamp.

    Args:
        network: Left as it was.
        shape: Of one stamp: (band, y, x).
    """
    total = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            total += output[0].numel() * kernel * layer.in_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in network.modules()]
    was_training = network.training
    try:
        with torch.inference_mode():
            parameter = next(network.parameters())
            network.eval()(torch.zeros(1, *shape, device=parameter.device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
