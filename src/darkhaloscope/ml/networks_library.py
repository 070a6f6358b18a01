"""Networks of the optional library timm, for stamps of any number of bands.

timm loads torchvision, whose wheel has to be made for the very build of torch beside it: with
another it is found and cannot be loaded. The library is imported where a network is made only.
"""

import importlib
from typing import Any

from torch import Tensor, nn

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml.networks_layers import answer, told, with_told

LIBRARY = "timm"


class LibraryNet(nn.Module):
    """A network of timm without its classifier, and one linear layer on what it pools."""

    def __init__(
        self, name: str, bands: int, outputs: int = 1, inputs: int = 0, **how: object
    ) -> None:
        """Make the network that timm calls `name`, untrained.

        Args:
            name: Of timm's model.
            bands: Input channels.
            outputs: Values that it answers with.
            inputs: Numbers that it is told beside the pixels.
            how: Further arguments of `timm.create_model`.

        Raises:
            ConfigError: timm or torchvision cannot be imported.
        """
        super().__init__()
        self.features = library(name).create_model(
            name, pretrained=False, in_chans=bands, num_classes=0, **how
        )
        width = int(self.features.num_features)
        self.head = nn.Linear(width, outputs)
        self.told = told(inputs, width)

    def embedded(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """What the last layer sees, shape (n, d), float32, of normalised stamps."""
        return with_told(self.told, self.features(stamps).float(), extra)

    def forward(self, stamps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logits (n,), or a value a kind (n, k), of normalised stamps (n, band, y, x)."""
        return answer(self.head, self.embedded(stamps, extra))


def library(name: str) -> Any:
    """The module timm.

    Raises:
        ConfigError: it, or torchvision below it, cannot be imported.
    """
    try:
        return importlib.import_module(LIBRARY)
    except (ImportError, RuntimeError, OSError) as error:  # a torchvision of another torch
        raise ConfigError(
            f"this network is {name} of the library timm, which cannot be imported here "
            f"({type(error).__name__}: {error}). Install it with pip install "
            "'darkhaloscope[models]'; torchvision, which it loads, has to be the wheel made for "
            "the installed torch and from the same index (for a CPU build of torch "
            "https://download.pytorch.org/whl/cpu). Or choose a network that needs no library: "
            "small, compact, resnet18"
        ) from error
