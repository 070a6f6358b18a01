"""The networks, by name, with what each costs. All end in one logit a stamp, or a value a kind.

Written in plain torch: torchvision's wheel does not load beside every CPU build of torch. The cost
of a network is its multiply-accumulates on one 3 x 64 x 64 stamp (GMAC), counted by `count_macs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from darkhaloscope.core.errors import ConfigError


class SmallNet(nn.Module):
    """Four pairs of 3x3 convolutions, each pair at half the size of the one before.

    Mean and maximum over the last map both go to the head: an arc covers few of its places, and a
    mean alone dilutes it. The pair at full size is not batch-normalised: on a CPU that would take a
    quarter of each training step, and it changed nothing (AUROC 0.985 and 0.984 after equal steps).
    """

    def __init__(
        self, bands: int, outputs: int = 1, widths: Sequence[int] = (24, 48, 96, 192)
    ) -> None:
        """Make the layers for `bands` input channels and so many outputs."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = bands
        for number, width in enumerate(widths):
            for stride in (2 if number else 1, 1):
                layers += [
                    *_convolution(channels, width, 3, stride, is_normalised=number > 0),
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * channels, 128), nn.ReLU(inplace=True), nn.Linear(128, outputs)
        )

    def embedded(self, stamps: Tensor) -> Tensor:
        """What the last layer sees, shape (n, 128), float32, of normalised stamps."""
        maps = self.features(stamps).float()
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        return _in_float32(self.head[:-1], pooled)

    def forward(self, stamps: Tensor) -> Tensor:
        """Logits (n,), or a value a kind (n, k), of normalised stamps (n, band, y, x)."""
        return _answer(self.head[-1], self.embedded(stamps))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, as in He et al. 2015, arXiv:1512.03385, fig. 5."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Make a block from `channels` to `width`."""
        super().__init__()
        self.first = nn.Sequential(*_convolution(channels, width, 3, stride))
        self.second = nn.Sequential(*_convolution(width, width, 3, 1))
        same = stride == 1 and channels == width
        self.shortcut = (
            nn.Sequential() if same else nn.Sequential(*_convolution(channels, width, 1, stride))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, shape (n, width, y / stride, x / stride)."""
        inner = self.second(relu(self.first(maps), inplace=True))
        return relu(inner + self.shortcut(maps), inplace=True)


class ResNet18(nn.Module):
    """ResNet18 with the stem of ImageNet or the first run's."""

    def __init__(self, bands: int, outputs: int = 1, *, standard_stem: bool) -> None:
        """Make the layers.

        Args:
            bands: Input channels.
            outputs: Values that it answers with.
            standard_stem: 7x7 with stride 2, then a max-pool with stride 2. Otherwise 3x3 with
                stride 1 and no pooling: 15 times the cost, at the full resolution.
        """
        super().__init__()
        stem = [*_convolution(bands, 64, 7 if standard_stem else 3, 2 if standard_stem else 1)]
        stem.append(nn.ReLU(inplace=True))
        if standard_stem:
            stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stem = nn.Sequential(*stem)
        blocks, channels = [], 64
        for width in (64, 128, 256, 512):
            blocks += [
                ResidualBlock(channels, width, 1 if width == 64 else 2),
                ResidualBlock(width, width, 1),
            ]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, outputs)

    def embedded(self, stamps: Tensor) -> Tensor:
        """What the last layer sees, shape (n, 512), float32, of normalised stamps."""
        maps: Tensor = self.blocks(self.stem(stamps)).float()
        return maps.mean((2, 3))

    def forward(self, stamps: Tensor) -> Tensor:
        """Logits (n,), or a value a kind (n, k), of normalised stamps (n, band, y, x)."""
        return _answer(self.head, self.embedded(stamps))


Network = SmallNet | ResNet18


class Make(Protocol):
    """Makes an untrained network."""

    def __call__(self, bands: int, outputs: int) -> Network:
        """For so many bands, with so many outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Design:
    """A network that can be asked for by name.

    Attributes:
        make: Makes it, untrained, for a number of bands and of outputs.
        gmac: 1e9 multiply-accumulates on one 3 x 64 x 64 stamp.
        parameters: Number of trained values with three bands and one output.
        meaning: What it is for.
    """

    make: Make
    gmac: float
    parameters: int
    meaning: str


DESIGNS: dict[str, Design] = {
    "small": Design(SmallNet, 0.119, 709_817, "default on a CPU"),
    "resnet18": Design(
        lambda bands, outputs: ResNet18(bands, outputs, standard_stem=True),
        0.148,
        11_177_025,
        "standard stem",
    ),
    "resnet18_first_run": Design(
        lambda bands, outputs: ResNet18(bands, outputs, standard_stem=False),
        2.222,
        11_169_345,
        "the first run's: 3x3 stem with stride 1, no max-pool",
    ),
}


def make(name: str, *, bands: int, seed: int, outputs: int = 1) -> Network:
    """An untrained network; equal seeds give equal weights, and no other draw is disturbed.

    Args:
        name: Of its design.
        bands: Input channels.
        seed: Of the weights.
        outputs: 1: it answers with logits (n,); more: with a value a kind, (n, outputs).

    Raises:
        ConfigError: no network has that name.
    """
    if name not in DESIGNS:
        raise ConfigError(f"there is no network {name!r}; choose one of {', '.join(DESIGNS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DESIGNS[name].make(bands, outputs)


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


def _convolution(
    channels: int, width: int, kernel: int, stride: int, *, is_normalised: bool = True
) -> list[nn.Module]:
    """A convolution that keeps the size (over the stride), and its batch normalisation."""
    layer = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=not is_normalised)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return [layer, nn.BatchNorm2d(width)] if is_normalised else [layer]


def _answer(last: nn.Module, embedded: Tensor) -> Tensor:
    """Of the last layer: (n,) where it has one output, else (n, k)."""
    outputs = _in_float32(last, embedded)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def _in_float32(layers: nn.Module, values: Tensor) -> Tensor:
    """Layers in float32 whatever the autocast: bfloat16 has 8 bits, and logits would tie."""
    with torch.autocast(values.device.type, enabled=False):
        found: Tensor = layers(values)
    return found
