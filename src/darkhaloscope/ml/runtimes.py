"""Networks run by torch, ONNX Runtime or OpenVINO behind one call, and how far they agree.

Arrays in, arrays out, on the CPU but for torch. ONNX Runtime and OpenVINO read the file that
`exported.export` wrote, and need no torch network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data.pixels import crop
from darkhaloscope.ml.exported import EXTRA, LOGIT, PIXELS, SKY_MEDIAN
from darkhaloscope.ml.saved import SavedModel

Values = NDArray[np.float32]
Runtime = Literal["torch", "onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16"]

RUNTIMES: tuple[Runtime, ...] = ("torch", "onnxruntime", "openvino")
EXTRA_OF = {"onnxruntime": "serve", "openvino": "openvino"}
TOLERANCE = 1e-4  # logits: 0.0025 % in a probability at most


class Scorer(Protocol):
    """Logits of cutouts, whatever runs the network."""

    def __call__(self, pixels: Values, sky_median: Values, extra: Values | None = None) -> Values:
        """Score a batch.

        Args:
            pixels: Nanomaggies, shape (n, band, y, x); cut to the central stamp where larger.
            sky_median: Of the sky round the galaxy, nanomaggies, shape (n, band).
            extra: Raw values in the order of the network's inputs, (n, k); None: it has none.

        Returns:
            Logits of a lens, shape (n,), float32.

        Raises:
            DataError: a logit is not finite, or inputs are missing.
        """
        ...


def of_torch(model: SavedModel, *, device: str = "cpu") -> Scorer:
    """The network itself, on the device where it is."""

    def score(pixels: Values, sky_median: Values, extra: Values | None = None) -> Values:
        stamps, sky = _sent(pixels, device), _sent(sky_median, device)
        told = None if extra is None else _sent(extra, device)
        logits: Values = model.logits(stamps, sky, told).cpu().numpy()
        return logits

    return score


def _sent(values: Values, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)


def of_onnxruntime(path: Path, *, threads: int = 1) -> Scorer:
    """ONNX Runtime in float32, or in int8 where the file is quantised.

    Raises:
        ConfigError: onnxruntime is not installed.
        DataError: the file cannot be read.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that wait in a loop would take the core of whoever makes the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise DataError(f"{path} cannot be read by onnxruntime: {error}") from error
    shapes = {put.name: put.shape for put in session.get_inputs()}

    def run(feed: dict[str, Values]) -> Values:
        found: Values = session.run([LOGIT], feed)[0]
        return found

    return _fed(run, size=int(shapes[PIXELS][-1]), is_told=EXTRA in shapes)


def of_openvino(path: Path, *, threads: int = 1, precision: Precision = "fp32") -> Scorer:
    """OpenVINO; its own default on processors that have it would be bfloat16, unasked.

    Raises:
        ConfigError: openvino is not installed.
        DataError: the file cannot be read.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino") from error
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read by openvino: {error}") from error
    names = {put.get_any_name(): put.get_partial_shape() for put in compiled.inputs}
    request, output = compiled.create_infer_request(), compiled.output(LOGIT)

    def run(feed: dict[str, Values]) -> Values:
        # The request's own memory is written again by its next call.
        return np.array(request.infer(feed)[output], np.float32)

    size = int(names[PIXELS][3].get_length())
    return _fed(run, size=size, is_told=EXTRA in names)


def missing(runtime: str) -> ConfigError:
    """That a runtime is not installed, and what brings it."""
    return ConfigError(
        f"{runtime} is not installed; `pip install 'darkhaloscope[{EXTRA_OF[runtime]}]'` brings it"
    )


def _fed(run: Callable[[dict[str, Values]], Values], *, size: int, is_told: bool) -> Scorer:
    """A scorer of something that takes arrays by name."""

    def score(pixels: Values, sky_median: Values, extra: Values | None = None) -> Values:
        if len(pixels) == 0:
            return np.zeros(0, np.float32)
        if is_told == (extra is None):
            raise DataError(
                "this network is told numbers beside the pixels; hand them as `extra`"
                if is_told
                else "this network is told nothing beside the pixels; leave `extra` out"
            )
        feed = {PIXELS: crop(pixels, size), SKY_MEDIAN: sky_median}
        if extra is not None:
            feed[EXTRA] = extra
        logits = run({name: np.ascontiguousarray(v, np.float32) for name, v in feed.items()})
        if not np.isfinite(logits).all():
            rows = ", ".join(map(str, np.flatnonzero(~np.isfinite(logits)).tolist()))
            raise DataError(f"the network's output is not finite in rows {rows} of the batch")
        return logits

    return score


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two runtimes' logits of the same stamps agree.

    Attributes:
        n: Stamps.
        max_difference: Largest |difference| of a logit.
        largest_swap: Of two stamps that are ranked the other way round, or tied, by the second
            runtime: the largest difference of their logits in the first; 0: none.
    """

    n: int
    max_difference: float
    largest_swap: float

    def is_same_ranking(self, tolerance: float = TOLERANCE) -> bool:
        """Whether only stamps whose logits differ by less than `tolerance` change places."""
        return self.largest_swap < tolerance


def agreement(first: NDArray[np.floating], second: NDArray[np.floating]) -> Agreement:
    """Compare logits of the same stamps, shape (n,), n >= 1.

    Examples:
        >>> found = agreement(np.array([0.0, 1.0, 1.5]), np.array([0.0, 1.6, 1.5]))
        >>> round(found.max_difference, 6), found.largest_swap, found.is_same_ranking()
        (0.6, 0.5, False)
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    order = np.lexsort((one, -two))  # from the second's best; its ties from the first's least
    least = np.minimum.accumulate(one[order])  # of all that the second ranks as high or higher
    swap = float((one[order] - least).max(initial=0.0))
    return Agreement(len(one), float(np.abs(one - two).max(initial=0.0)), swap)
