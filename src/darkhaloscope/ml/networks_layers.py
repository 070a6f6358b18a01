"""What several networks are made of: convolutions, residual blocks, numbers beside the pixels."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

TOLD_WIDTH = 32  # of the layer between the numbers and what they scale


def convolution(
    channels: int, width: int, kernel: int, stride: int, *, is_normalised: bool = True
) -> list[nn.Module]:
    """A convolution that keeps the size (over the stride), and its batch normalisation."""
    layer = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=not is_normalised)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return [layer, nn.BatchNorm2d(width)] if is_normalised else [layer]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, as in He et al. 2015, arXiv:1512.03385, fig. 5."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Make a block from `channels` to `width`."""
        super().__init__()
        self.first = nn.Sequential(*convolution(channels, width, 3, stride))
        self.second = nn.Sequential(*convolution(width, width, 3, 1))
        same = stride == 1 and channels == width
        self.shortcut = (
            nn.Sequential() if same else nn.Sequential(*convolution(channels, width, 1, stride))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, shape (n, width, y / stride, x / stride)."""
        inner = self.second(relu(self.first(maps), inplace=True))
        return relu(inner + self.shortcut(maps), inplace=True)


class Told(nn.Module):
    """Numbers beside the pixels scale and shift each feature of a stamp.

    Perez et al. 2018, arXiv:1709.07871 (FiLM), on the pooled features: seeing changes what a
    feature means, which a number that is merely added to the logit could not say. A new network
    heeds none of them: scales begin at 1 and shifts at 0.
    """

    def __init__(self, inputs: int, width: int) -> None:
        """Make the layers for so many numbers and features."""
        super().__init__()
        last = nn.Linear(TOLD_WIDTH, 2 * width)
        self.layers = nn.Sequential(nn.Linear(inputs, TOLD_WIDTH), nn.ReLU(inplace=True), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, pooled: Tensor, extra: Tensor) -> Tensor:
        """Features (n, width), of those pooled and the normalised numbers (n, inputs)."""
        scale, shift = in_float32(self.layers, extra.float()).chunk(2, dim=1)
        return pooled * (1 + scale) + shift


def told(inputs: int, width: int) -> Told | None:
    """The layers for so many numbers; none where there are no numbers."""
    return Told(inputs, width) if inputs else None


def with_told(layers: Told | None, pooled: Tensor, extra: Tensor | None) -> Tensor:
    """Pooled features (n, width), changed by the numbers where the network is told any.

    Raises:
        ValueError: it is, and there are none.
    """
    if layers is None:
        return pooled
    if extra is None:
        raise ValueError("this network is told numbers beside the pixels, and got none")
    scaled: Tensor = layers(pooled, extra)
    return scaled


def mean_and_maximum(maps: Tensor) -> Tensor:
    """Both over the places of feature maps (n, width, y, x): (n, 2 width), float32."""
    maps = maps.float()
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def answer(last: nn.Module, embedded: Tensor) -> Tensor:
    """Of the last layer: (n,) where it has one output, else (n, k)."""
    outputs = in_float32(last, embedded)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def in_float32(layers: nn.Module, values: Tensor) -> Tensor:
    """Layers in float32 whatever the autocast: bfloat16 has 8 bits, and logits would tie."""
    with torch.autocast(values.device.type, enabled=False):
        found: Tensor = layers(values)
    return found
