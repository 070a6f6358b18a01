"""A trained network as files: weights in `model.safetensors`, all else in `model.json`.

The JSON says what the network was trained on: bands, pixel scale, size of the stamps, and the
normalisation. A network refuses other data, rather than score them wrongly. Nothing is a pickle.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from darkhaloscope.core.errors import DataError
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import heads, networks
from darkhaloscope.ml.transforms import Normalisation, augment, unmoved

FORMAT = 2
BINARY_FORMAT = 1  # of models before any told kinds apart: it names no classes
WEIGHTS, LAST_WEIGHTS, DESCRIPTION = "model.safetensors", "last.safetensors", "model.json"
METRICS = ("train_loss", "val_loss", "val_auroc", "val_completeness", "stamps_seen")


@dataclass(frozen=True, slots=True)
class Description:
    """What `model.json` says.

    Attributes:
        network: Name of its design.
        bands: Filters, in the order of the pixels.
        pixel_scale_arcsec: Width of a pixel.
        size_px: Width of a stamp.
        normalisation: What is done to nanomaggies.
        training_digest: Names all that the network was trained from.
        epoch: The epoch whose weights these are, 0 the first.
        metrics: Validation figures of that epoch.
        classes: Kinds that it tells apart, lens first; none: it answers with one logit.
    """

    network: str
    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    size_px: int
    normalisation: Normalisation
    training_digest: str
    epoch: int
    metrics: Mapping[str, float]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A network that knows what it may be shown."""

    description: Description
    network: networks.Network

    def check(self, layout: Layout) -> None:
        """Refuse pixels that the network was not trained on.

        Args:
            layout: Of the stamps, or of the larger cutouts that stamps are cut from.

        Raises:
            DataError: bands, pixel scale or size differ.
        """
        made, faults = self.description, []
        if layout.bands != made.bands:
            faults.append(f"bands {' '.join(layout.bands)}, not {' '.join(made.bands)}")
        if abs(layout.scale_arcsec / made.pixel_scale_arcsec - 1) > 1e-3:
            faults.append(f'{layout.scale_arcsec:g}"/px, not {made.pixel_scale_arcsec:g}"/px')
        if layout.size < made.size_px or (layout.size - made.size_px) % 2:
            faults.append(f"{layout.size} px, not {made.size_px} px or an even number more")
        if faults:
            raise DataError(
                f"this {made.network} network was trained on other data than these pixels: they "
                f"have {'; '.join(faults)}. Train a model on such data, or score data like its own"
            )

    def logits(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """Score a batch, in float32, on the device where network and pixels are.

        Args:
            pixels: Nanomaggies, shape (n, band, y, x); cut to the central stamp where larger.
            sky_median: Of the annulus before injection, nanomaggies, shape (n, band).

        Returns:
            Logits of a lens against all else, shape (n,), float32; a row's value does not depend on
            the others. Of a network that tells kinds apart it is that of `kinds`.

        Raises:
            DataError: a logit is not finite; the message names the rows.
        """
        with torch.inference_mode():
            logits = heads.lens_logit(self._of(self.network, pixels, sky_median))
        return _finite(logits)

    def kinds(self, pixels: Tensor, sky_median: Tensor) -> Tensor | None:
        """Log-probabilities of the kinds that the network tells apart; None where it does not.

        Args:
            pixels: As for `logits`.
            sky_median: As for `logits`.

        Returns:
            Natural logarithms, shape (n, k), float32, in the order of `description.classes`; the
            probabilities of a row add up to 1.

        Raises:
            DataError: one is not finite; the message names the rows.
        """
        if not self.description.classes:
            return None
        with torch.inference_mode():
            found = torch.log_softmax(self._of(self.network, pixels, sky_median), 1)
        return _finite(found)

    def features(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """What the network's last layer sees, for linear probes.

        Args:
            pixels: As for `logits`.
            sky_median: As for `logits`.

        Returns:
            Shape (n, d), float32; d is 128 or 512, as the network has it.

        Raises:
            DataError: one is not finite; the message names the rows.
        """
        with torch.inference_mode():
            return _finite(self._of(self.network.embedded, pixels, sky_median))

    def _of(self, see: Callable[[Tensor], Tensor], pixels: Tensor, sky_median: Tensor) -> Tensor:
        """What `see` makes of the central stamps, normalised."""
        made = self.description
        stamps = augment(pixels, made.size_px, unmoved(len(pixels)))
        stamps = made.normalisation(stamps, sky_median)
        return see(stamps.contiguous(memory_format=torch.channels_last))


def _finite(values: Tensor) -> Tensor:
    """Float32 values, (n,) or (n, k), all finite."""
    is_bad = ~values.reshape(len(values), -1).isfinite().all(1)
    if bool(is_bad.any()):
        rows = ", ".join(str(row) for row in is_bad.nonzero().flatten().tolist())
        raise DataError(f"the network's output is not finite in rows {rows} of the batch")
    return values.float()


def save(
    folder: Path, description: Description, best: Mapping[str, Tensor], last: Mapping[str, Tensor]
) -> None:
    """Write weights of the best and the last epoch, and the description, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(description)}, indent=2, sort_keys=True) + "\n"
    write_whole(folder / WEIGHTS, lambda at: save_file(dict(best), at))
    write_whole(folder / LAST_WEIGHTS, lambda at: save_file(dict(last), at))
    write_whole(folder / DESCRIPTION, lambda at: Path(at).write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[str], object]) -> None:
    """Let `write` fill a file beside `path`, then give it its name: none is seen half made.

    Raises:
        DataError: it cannot be written, for instance because the disk is full.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(str(partial))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error}. Make room or check permissions, then run again: "
            "training goes on from its last epoch"
        ) from error


def load(folder: Path, *, device: str = "cpu", weights: str = WEIGHTS) -> SavedModel:
    """Read a model, ready to score on `device`.

    Raises:
        DataError: a file is missing or damaged, of another format, or does not fit the network.
    """
    description = _read_description(folder / DESCRIPTION)
    outputs = max(1, len(description.classes))
    network = networks.make(
        description.network, bands=len(description.bands), seed=0, outputs=outputs
    )
    try:
        network.load_state_dict(load_file(folder / weights))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / weights} cannot be read: {error}; train again") from error
    except RuntimeError as error:
        raise DataError(
            f"{folder / weights} does not hold a {description.network} network: {error}"
        ) from error
    network.requires_grad_(requires_grad=False).eval().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return SavedModel(description, network)


def _read_description(path: Path) -> Description:
    try:
        stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error
    found = stated.pop("format", None)
    if found not in (BINARY_FORMAT, FORMAT):
        raise DataError(
            f"{path} has format {found}; this version reads formats {BINARY_FORMAT} and {FORMAT}"
        )
    try:
        normalisation = stated.pop("normalisation")
        softening = tuple(normalisation["softening_nmgy"])
        stated["normalisation"] = Normalisation(normalisation["name"], softening)
        stated["bands"] = tuple(stated["bands"])
        stated["classes"] = () if found == BINARY_FORMAT else tuple(stated["classes"])
        return Description(**stated)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} lacks a field or has one too many: {error}; train again"
        ) from error
