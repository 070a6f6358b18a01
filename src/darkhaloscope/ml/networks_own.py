"""The networks written here, in plain torch.

Each answers `forward(stamps, extra=None)` with a logit (n,), or a value a kind (n, k), of
normalised stamps (n, band, y, x) and, where it is told any, normalised numbers (n, inputs);
`embedded` of the same is what its last layer sees, float32.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from darkhaloscope.ml.networks_layers import (
    ResidualBlock,
    answer,
    convolution,
    in_float32,
    mean_and_maximum,
    told,
    with_told,
)

HEAD_WIDTH = 128


class SmallNet(nn.Module):
    """Four pairs of 3x3 convolutions, each pair at half the size of the one before.

    Mean and maximum over the last map both go to the head: an arc covers few of its places, and a
    mean alone dilutes it. The pair at full size is not batch-normalised: on a CPU that would take a
    quarter of each training step, and it changed nothing (AUROC 0.985 and 0.984 after equal steps).
    """

    def __init__(
        self,
        bands: int,
        outputs: int = 1,
        inputs: int = 0,
        widths: Sequence[int] = (24, 48, 96, 192),
    ) -> None:
        """Make the layers for `bands` input channels, so many outputs and numbers told."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = bands
        for number, width in enumerate(widths):
            for stride in (2 if number else 1, 1):
                layers += [
                    *convolution(channels, width, 3, stride, is_normalised=number > 0),
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = _head(2 * channels, outputs)
        self.told = told(inputs, 2 * channels)

    def embedded(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """What the last layer sees, shape (n, 128)."""
        pooled = mean_and_maximum(self.features(stamps))
        return in_float32(self.head[:-1], with_told(self.told, pooled, extra))

    def forward(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logits (n,), or a value a kind (n, k)."""
        return answer(self.head[-1], self.embedded(stamps, extra))


class CompactNet(nn.Module):
    """Residual blocks from half resolution on; nothing runs at full size.

    The first convolution, 6x6 with stride 2, is a 3x3 one on a map of half the width that holds
    each 2x2 pixels of a band as four channels: no pixel is passed over, and the memory traffic of
    full-size maps, which bounds the small net on a CPU, is saved. The rest goes into depth.
    """

    def __init__(
        self,
        bands: int,
        outputs: int = 1,
        inputs: int = 0,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (1, 2, 2, 1),
    ) -> None:
        """Make the layers for `bands` input channels, so many outputs and numbers told."""
        super().__init__()
        first = nn.Conv2d(bands, widths[0], 6, stride=2, padding=2, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        layers: list[nn.Module] = [first, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        channels = widths[0]
        for width, count in zip(widths, blocks, strict=True):
            for _ in range(count):
                layers.append(ResidualBlock(channels, width, 1 if width == channels else 2))
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = _head(2 * channels, outputs)
        self.told = told(inputs, 2 * channels)

    def embedded(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """What the last layer sees, shape (n, 128)."""
        pooled = mean_and_maximum(self.features(stamps))
        return in_float32(self.head[:-1], with_told(self.told, pooled, extra))

    def forward(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logits (n,), or a value a kind (n, k)."""
        return answer(self.head[-1], self.embedded(stamps, extra))


class ResNet18(nn.Module):
    """ResNet18 with the stem of ImageNet or the first run's."""

    def __init__(
        self, bands: int, outputs: int = 1, inputs: int = 0, *, standard_stem: bool
    ) -> None:
        """Make the layers.

        Args:
            bands: Input channels.
            outputs: Values that it answers with.
            inputs: Numbers that it is told beside the pixels.
            standard_stem: 7x7 with stride 2, then a max-pool with stride 2. Otherwise 3x3 with
                stride 1 and no pooling: 15 times the cost, at the full resolution.
        """
        super().__init__()
        stem = [*convolution(bands, 64, 7 if standard_stem else 3, 2 if standard_stem else 1)]
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
        self.told = told(inputs, 512)

    def embedded(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """What the last layer sees, shape (n, 512)."""
        maps: Tensor = self.blocks(self.stem(stamps)).float()
        return with_told(self.told, maps.mean((2, 3)), extra)

    def forward(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logits (n,), or a value a kind (n, k)."""
        return answer(self.head, self.embedded(stamps, extra))


def _head(width: int, outputs: int) -> nn.Sequential:
    """One hidden layer, then the outputs."""
    return nn.Sequential(
        nn.Linear(width, HEAD_WIDTH), nn.ReLU(inplace=True), nn.Linear(HEAD_WIDTH, outputs)
    )
