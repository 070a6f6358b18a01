"""A published model as one file that other runtimes read: `model.onnx`.

The graph takes what a cutout has, nanomaggies and the sky's median, and holds the normalisation:
whoever runs it cannot apply another. What the network was trained on stands in the file's metadata,
as text that any ONNX tool shows. Nothing outside the file is needed.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data.store import sha256_of
from darkhaloscope.ml import heads, inputs, saved

FILE = "model.onnx"
FORMAT = 1
PIXELS, SKY_MEDIAN, EXTRA, LOGIT = "pixels", "sky_median", "extra", "logit"
UNIT = "nanomaggy"


class _Graph(nn.Module):
    """From nanomaggies to the logit of a lens, in operations that can be exported."""

    def __init__(self, model: saved.SavedModel) -> None:
        """Take the network and its constants."""
        super().__init__()
        made = model.description
        self.network = model.network
        self.normalisation = made.normalisation
        self.softening = nn.Buffer(torch.tensor(made.normalisation.softening_nmgy)[:, None, None])
        scales = torch.tensor([inputs.scale_of(name) for name in made.inputs]).reshape(-1, 2)
        self.middle, self.spread = nn.Buffer(scales[:, 0]), nn.Buffer(scales[:, 1])

    def forward(self, pixels: Tensor, sky_median: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logits (n,) of stamps (n, band, y, x); `extra` raw, (n, k)."""
        stamps = self._normalised(pixels, sky_median)
        if extra is None:
            return heads.lens_logit(self.network(stamps))
        far = inputs.FARTHEST
        told = torch.clamp((extra - self.middle) / self.spread, -far, far)
        return heads.lens_logit(self.network(stamps, told))

    def _normalised(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """As `Normalisation` does, without its compiled loops, which no graph holds."""
        if self.normalisation.name == "asinh":
            return torch.asinh((pixels - sky_median[:, :, None, None]) / self.softening)
        return self.normalisation(pixels, sky_median)


def export(folder: Path, path: Path) -> None:
    """Write a published model as one ONNX file.

    Inputs: `pixels` (n, band, size, size) and `sky_median` (n, band), nanomaggies; `extra` (n, k)
    raw values in the order of the model's inputs, where it has any; all float32, n free. Output:
    `logit` (n,), float32. Metadata: `format`, `bands`, `pixel_scale_arcsec`, `size_px`, `unit`,
    `inputs`, `network`, `training_digest`, `weights_sha256` and `description`, the JSON of all.

    Args:
        folder: As `saved.save` wrote it.
        path: The file to be; its folder exists.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
        DataError: the folder cannot be read, or the file not written.
    """
    model = saved.load(folder)
    made = model.description
    stamps = 2  # an example; a batch of one would be taken for a constant
    shown = {
        PIXELS: torch.zeros(stamps, len(made.bands), made.size_px, made.size_px),
        SKY_MEDIAN: torch.zeros(stamps, len(made.bands)),
    }
    if made.inputs:
        shown[EXTRA] = torch.zeros(stamps, len(made.inputs))
    n = torch.export.Dim("n")
    with _quietly():
        try:
            program = torch.onnx.export(
                _Graph(model).eval(),
                tuple(shown.values()),
                dynamo=True,
                dynamic_shapes=tuple({0: n} for _ in shown),
                input_names=list(shown),
                output_names=[LOGIT],
                external_data=False,
                verbose=False,
            )
        except ImportError as error:
            raise ConfigError(
                f"{error.name or 'onnx'} is not installed; `pip install 'darkhaloscope[serve]'` "
                "brings it"
            ) from error
        assert program is not None  # noqa: S101  (with dynamo it is returned)
        program.model.metadata_props.update(_metadata(made, sha256_of(folder / saved.WEIGHTS)))
        saved.write_whole(path, lambda at: program.save(at, external_data=False))


def metadata_of(path: Path) -> dict[str, str]:
    """What an exported file says of itself.

    Raises:
        ConfigError: onnx is not installed.
        DataError: it is no such file, or of another format.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(
            "onnx is not installed; `pip install 'darkhaloscope[serve]'` brings it"
        ) from error
    try:
        found = {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}
    except Exception as error:
        raise DataError(f"{path} cannot be read as ONNX: {error}; export it again") from error
    if found.get("format") != str(FORMAT):
        raise DataError(
            f"{path} has format {found.get('format')} of exported models, this version reads "
            f"{FORMAT}; export it again"
        )
    return found


def is_of(path: Path, folder: Path) -> bool:
    """Whether a file was exported from the weights that are now in `folder`."""
    return path.is_file() and metadata_of(path).get("weights_sha256") == sha256_of(
        folder / saved.WEIGHTS
    )


def _metadata(made: saved.Description, weights_sha256: str) -> Mapping[str, str]:
    return {
        "format": str(FORMAT),
        "bands": " ".join(made.bands),
        "pixel_scale_arcsec": repr(made.pixel_scale_arcsec),
        "size_px": str(made.size_px),
        "unit": UNIT,
        "inputs": " ".join(made.inputs),
        "network": made.network,
        "training_digest": made.training_digest,
        "weights_sha256": weights_sha256,
        "description": json.dumps(asdict(made), sort_keys=True),
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's remarks on its own deprecated calls and on torchvision."""
    remarks = logging.getLogger("torch.onnx")
    before = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*axis name: n will not be used")
            yield
    finally:
        remarks.setLevel(before)
