"""A trained network as files: weights in `model.safetensors`, all else in `model.json`.

The JSON says what the network was trained on: bands, pixel scale, size of the stamps, and the
normalisation, and which numbers beside the pixels it is told. A network refuses other data, rather
than score them wrongly. Nothing is a pickle.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darkhaloscope.core.errors import DataError
from darkhaloscope.data.pixels import Layout
from darkhaloscope.ml import heads, inputs, networks
from darkhaloscope.ml.transforms import Normalisation, augment, unmoved

FORMAT = 3
OLDER = {1: ("classes", "inputs"), 2: ("inputs",)}  # formats that name none of these yet
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
        inputs: Columns of `cutouts` that it is told beside the pixels, in this order.
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
    inputs: tuple[str, ...] = ()


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

    def logits(self, pixels: Tensor, sky_median: Tensor, extra: Tensor | None = None) -> Tensor:
        """Score a batch, in float32, on the device where network and pixels are.

        Args:
            pixels: Nanomaggies, shape (n, band, y, x); cut to the central stamp where larger.
            sky_median: Of the annulus before injection, nanomaggies, shape (n, band).
            extra: What it is told beside the pixels, as it stands in `cutouts`, shape (n, k), in
                the order of `description.inputs`; None where it is told nothing.

        Returns:
            Logits of a lens against all else, shape (n,), float32; a row's value does not depend on
            the others. Of a network that tells kinds apart it is that of `kinds`.

        Raises:
            DataError: a logit is not finite; the message names the rows. Or `extra` is not what
                the network is told, or not finite.
        """
        with torch.inference_mode():
            logits = heads.lens_logit(self._of(self.network, pixels, sky_median, extra))
        return _finite(logits)

    def kinds(
        self, pixels: Tensor, sky_median: Tensor, extra: Tensor | None = None
    ) -> Tensor | None:
        """Log-probabilities of the kinds that the network tells apart; None where it does not.

        Args:
            pixels: As for `logits`.
            sky_median: As for `logits`.
            extra: As for `logits`.

        Returns:
            Natural logarithms, shape (n, k), float32, in the order of `description.classes`; the
            probabilities of a row add up to 1.

        Raises:
            DataError: one is not finite; the message names the rows. As for `logits`.
        """
        if not self.description.classes:
            return None
        with torch.inference_mode():
            found = torch.log_softmax(self._of(self.network, pixels, sky_median, extra), 1)
        return _finite(found)

    def features(self, pixels: Tensor, sky_median: Tensor, extra: Tensor | None = None) -> Tensor:
        """What the network's last layer sees, for linear probes.

        Args:
            pixels: As for `logits`.
            sky_median: As for `logits`.
            extra: As for `logits`.

        Returns:
            Shape (n, d), float32; d is 128 or more, as the network has it.

        Raises:
            DataError: one is not finite; the message names the rows. As for `logits`.
        """
        with torch.inference_mode():
            return _finite(self._of(self.network.embedded, pixels, sky_median, extra))

    def _of(
        self,
        see: Callable[[Tensor, Tensor | None], Tensor],
        pixels: Tensor,
        sky_median: Tensor,
        extra: Tensor | None,
    ) -> Tensor:
        """What `see` makes of the central stamps and of what is told beside them, normalised."""
        made = self.description
        told = self._told(extra, len(pixels))
        stamps = augment(pixels, made.size_px, unmoved(len(pixels)))
        stamps = made.normalisation(stamps, sky_median)
        return see(stamps.contiguous(memory_format=torch.channels_last), told)

    def _told(self, extra: Tensor | None, rows: int) -> Tensor | None:
        """What is told beside the pixels, normalised; it has to be what was asked for."""
        names = self.description.inputs
        got = None if extra is None else tuple(extra.shape)
        if got != (rows, len(names)) and (names or got is not None):
            asked = f"{', '.join(names)}: shape {(rows, len(names))}" if names else "nothing"
            given = "nothing" if got is None else f"numbers of shape {got}"
            raise DataError(
                f"this {self.description.network} network is told {asked} beside the pixels, and "
                f"got {given}; give the columns of `cutouts` that model.json names in `inputs`"
            )
        if extra is None:
            return None
        is_bad = ~extra.isfinite().all(1)
        if bool(is_bad.any()):
            bad = ", ".join(str(row) for row in is_bad.nonzero().flatten().tolist())
            raise DataError(f"{', '.join(names)} is not finite in rows {bad} of the batch")
        return inputs.normalised(extra.float(), names)


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
    write_whole(folder / WEIGHTS, lambda at: _write_weights(best, at))
    write_whole(folder / LAST_WEIGHTS, lambda at: _write_weights(last, at))
    write_whole(folder / DESCRIPTION, lambda at: Path(at).write_text(text, encoding="utf-8"))


def _write_weights(weights: Mapping[str, Tensor], at: str) -> None:
    """Weights as a file of safetensors, which a machine that only trains need not have."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(weights), at)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def write_whole(path: Path, write: Callable[[str], object]) -> None:
    """Let `write` fill a file beside `path`, then give it its name: none is seen half made.

    Raises:
        DataError: it cannot be written, for instance because the disk is full.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(str(partial))
        partial.replace(path)
    except OSError as error:
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    description = _read_description(folder / DESCRIPTION)
    network = networks.make(
        description.network,
        bands=len(description.bands),
        seed=0,
        outputs=max(1, len(description.classes)),
        inputs=len(description.inputs),
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
    if found not in (*OLDER, FORMAT):
        raise DataError(
            f"{path} has format {found}; this version reads formats "
            f"{', '.join(map(str, OLDER))} and {FORMAT}"
        )
    try:
        normalisation = stated.pop("normalisation")
        softening = tuple(normalisation["softening_nmgy"])
        stated["normalisation"] = Normalisation(normalisation["name"], softening)
        stated["bands"] = tuple(stated["bands"])
        for name in ("classes", "inputs"):
            stated[name] = () if name in OLDER.get(found, ()) else tuple(stated[name])
        return Description(**stated)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} lacks a field or has one too many: {error}; train again"
        ) from error
