"""Networks in int8, and whether that may be used: measured, never assumed.

Convolutions are quantised per output channel with ranges from calibration stamps (QDQ); the
normalisation and the last layers stay in float32, where 8 bits would tie the best candidates.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.data.pixels import crop
from darkhaloscope.evaluate import compare
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import FPRS, Plan
from darkhaloscope.evaluate.rows import Rows, rows
from darkhaloscope.ml import saved
from darkhaloscope.ml.exported import EXTRA, PIXELS, SKY_MEDIAN
from darkhaloscope.ml.runtimes import Values, missing, of_onnxruntime

MOST_LOST = 0.005  # of completeness
QUANTISED = ["Conv", "Relu", "Add", "MaxPool"]
BATCH_ROWS = 64
METHOD = "QDQ, unsigned activations by their extremes, signed weights by output channel"


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """Pixels to calibrate or to judge on.

    Attributes:
        pixels: Nanomaggies, shape (n, band, y, x).
        sky_median: Nanomaggies, shape (n, band).
        extra: Raw values of the network's inputs, (n, k); None: it has none.
    """

    pixels: Values
    sky_median: Values
    extra: Values | None = None

    def __len__(self) -> int:
        """Number of stamps."""
        return len(self.pixels)

    def parts(self) -> Iterator["Stamps"]:
        """A few rows at a time."""
        for start in range(0, len(self), BATCH_ROWS):
            at = slice(start, start + BATCH_ROWS)
            told = None if self.extra is None else self.extra[at]
            yield Stamps(self.pixels[at], self.sky_median[at], told)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Completeness before and after, and whether the fall is small enough.

    Attributes:
        fpr: False-positive rate on the sky at which completeness is read.
        before: Completeness in float32; None: not resolvable.
        after: Completeness in int8, at a threshold of its own.
        fall: before - after, as a fraction.
        low: Lower end of the paired 95 % interval of the fall.
        high: Upper end.
        n_lenses: Lenses judged on.
        n_negatives: Unique negatives judged on.
        is_accepted: Whether the upper end of the interval is <= `MOST_LOST`.
        text: All of it in a sentence.
    """

    fpr: float
    before: float | None
    after: float | None
    fall: float | None
    low: float | None
    high: float | None
    n_lenses: int
    n_negatives: int
    is_accepted: bool
    text: str = field(default="")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def quantise(path: Path, into: Path, calibration: Stamps) -> None:
    """Write an int8 form of an exported file; ranges are the extremes over the calibration stamps.

    Args:
        path: As `exported.export` wrote it; its metadata are kept.
        into: The file to be.
        calibration: Of the kinds and seeing that will be scored, a few hundred; not those that the
            verdict is made on.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
        DataError: there are no calibration stamps, or the file cannot be written.
    """
    if not len(calibration):
        raise DataError("int8 needs calibration stamps, a few hundred; got none")
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise missing("onnxruntime") from error
    graph = onnx.load(path)
    shapes = {
        put.name: [axis.dim_value for axis in put.type.tensor_type.shape.dim]
        for put in graph.graph.input
    }
    kept = {p.key: p.value for p in graph.metadata_props}
    size = shapes[PIXELS][-1]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Feeds the calibration stamps once."""

        def __init__(self) -> None:
            self._parts = calibration.parts()

        def get_next(self) -> dict[str, Values] | None:
            part = next(self._parts, None)
            if part is None:
                return None
            made = {PIXELS: crop(part.pixels, size), SKY_MEDIAN: part.sky_median}
            if EXTRA in shapes and part.extra is not None:
                made[EXTRA] = part.extra
            return {k: np.ascontiguousarray(v, np.float32) for k, v in made.items()}

    with TemporaryDirectory() as folder:
        prepared, made = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quiet = logging.getLogger()
        before = quiet.level
        quiet.setLevel(logging.ERROR)  # it advises, on the root logger, what was done already
        try:
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(made),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=QUANTISED,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        finally:
            quiet.setLevel(before)
        done = onnx.load(made)
        del done.metadata_props[:]
        onnx.helper.set_model_props(done, kept | {"precision": "int8"})
        saved.write_whole(into, lambda at: onnx.save(done, at))


def quantise_if_accepted(
    path: Path,
    into: Path,
    *,
    calibration: Stamps,
    judged: Stamps,
    is_lens: NDArray[np.bool_],
    sky_weight: NDArray[np.floating] | None,
    kind: NDArray[np.str_] | None = None,
    fpr: float = 1e-3,
) -> Verdict:
    """Write an int8 form only where its verdict accepts it; a refused one leaves no file.

    Args:
        path: As `exported.export` wrote it.
        into: The file to be.
        calibration: For the ranges.
        judged: Other stamps, of known truth.
        is_lens: Truth of `judged`, shape (n,).
        sky_weight: As for `accept`.
        kind: As for `accept`.
        fpr: As for `accept`.
    """
    tried = into.with_name(f"{into.name}.tried")
    try:
        quantise(path, tried, calibration)
        before, after = (_scores(file, judged) for file in (path, tried))
        made = accept(before, after, is_lens, sky_weight, kind=kind, fpr=fpr)
        if made.is_accepted:
            tried.replace(into)
        return made
    finally:
        tried.unlink(missing_ok=True)


def accept(
    float_scores: NDArray[np.floating],
    int8_scores: NDArray[np.floating],
    is_lens: NDArray[np.bool_],
    sky_weight: NDArray[np.floating] | None,
    *,
    kind: NDArray[np.str_] | None = None,
    fpr: float = 1e-3,
) -> Verdict:
    """Whether int8 loses little enough completeness: at most half a point at this FPR.

    Both are read at thresholds of their own on the same stamps, and the interval of the difference
    knows the pairing (`evaluate.compare`). Accepted is what is *shown* to lose no more: the upper
    end of the 95 % interval of the fall is <= 0.5 points. A measured fall below that, of too few
    stamps, is not enough.

    Args:
        float_scores: Logits in float32, shape (n,).
        int8_scores: Logits of the same stamps in int8, shape (n,).
        is_lens: Truth, shape (n,).
        sky_weight: Weight of each negative to the sky, shape (n,); None: all alike.
        kind: Kind of each stamp, whose negatives are weighed together; None: stamps of equal
            `sky_weight` are.
        fpr: One of `evaluate.metrics.FPRS`.

    Raises:
        ConfigError: `fpr` is none that is evaluated.
        DataError: the scores cannot be evaluated.
    """
    if kind is None and sky_weight is not None:
        kind = np.where(is_lens, "lens", [f"weight {w:.9g}" for w in np.asarray(sky_weight)])
    weight = None if sky_weight is None else np.asarray(sky_weight, np.float64)
    first, second = (
        rows(score=np.asarray(s, np.float64), is_lens=is_lens, sky_weight=weight, kind=kind)
        for s in (float_scores, int8_scores)
    )
    return verdict(first, second, fpr=fpr)


def verdict(
    float_rows: Rows, other_rows: Rows, *, fpr: float = 1e-3, what: str = "int8"
) -> Verdict:
    """As `accept`, of the rows of an evaluation, which know galaxies and sources.

    Args:
        float_rows: With logits in float32.
        other_rows: The same stamps with the logits to be judged.
        fpr: As for `accept`.
        what: Made the latter, for the text.

    Raises:
        ConfigError: `fpr` is none that is evaluated.
        DataError: the rows are not the same stamps.
    """
    if fpr not in FPRS:
        raise ConfigError(f"fpr is one of {', '.join(f'{x:g}' for x in FPRS)}; got {fpr:g}")
    plan = Plan(Draws(seed=0), "sim", "", (), {}, {})
    made = compare.compare(float_rows, other_rows, plan)
    found = next(entry for entry in made["tpr_at_fpr"] if entry["at"] == fpr)
    n_lenses, n_negatives = made["n_lenses"], made["n_negatives"]
    counted = f"{n_lenses:,} lenses and {n_negatives:,} negatives"
    if found["difference"] is None:
        text = f"{what} refused: FPR {fpr:g} is not resolvable with {counted}; {found['note']}"
        none = (None, None, None, None, None)
        return Verdict(fpr, *none, n_lenses, n_negatives, is_accepted=False, text=text)
    before, after = found["first"]["value"], found["second"]["value"]
    fall, low, high = (float(found[name]) for name in ("difference", "low", "high"))
    is_accepted = high <= MOST_LOST
    said = "accepted" if is_accepted else "refused"
    text = (
        f"{what} {said}: completeness at FPR {fpr:g} goes from {100 * before:.2f} to "
        f"{100 * after:.2f} %, a fall of {100 * fall:.2f} points (95 % {100 * low:.2f} to "
        f"{100 * high:.2f}, paired, {counted}); the upper end may be {100 * MOST_LOST:g} at most"
    )
    return Verdict(fpr, before, after, fall, low, high, n_lenses, n_negatives, is_accepted, text)


def _scores(path: Path, stamps: Stamps) -> Values:
    score = of_onnxruntime(path)
    return np.concatenate([score(p.pixels, p.sky_median, p.extra) for p in stamps.parts()])
