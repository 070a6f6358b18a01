"""Small stand-ins for what networks are trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from darkhaloscope.core import schemas
from darkhaloscope.data.pixels import Layout, encode
from darkhaloscope.ml import networks, saved
from darkhaloscope.ml.batches import Drawn, Fixed, Plan, cut
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.recipe import Recipe
from darkhaloscope.ml.transforms import Normalisation

NORMALISE = Normalisation("asinh", (0.01, 0.01))


def rows(n: int, *, kinds: tuple[str, ...] = ("lens", "control"), first_id: int = 1) -> pa.Table:
    """Rows of alternating kinds; `lens` has label 1."""
    kind = [kinds[i % len(kinds)] for i in range(n)]
    return pa.table(
        {
            "stamp_id": pa.array(np.arange(first_id, first_id + n, dtype=np.int64)),
            "kind": pa.array(kind),
            "label": pa.array([int(k == "lens") for k in kind], pa.int8()),
        }
    )


def blobs(size: int = 24) -> Callable[[pa.Table], Raw]:
    """Makes noise, with a small square of light on lenses and a streak on rings.

    The noise belongs to the stamp's id.
    """

    def make(part: pa.Table) -> Raw:
        pixels = np.empty((part.num_rows, 2, size, size), np.float32)
        columns = (part[name].to_pylist() for name in ("stamp_id", "label", "kind"))
        for row, (stamp, label, kind) in enumerate(zip(*columns, strict=True)):
            pixels[row] = np.random.default_rng(stamp).normal(0, 0.01, pixels.shape[1:])
            if label:
                at = size // 2 + stamp % 4 - 2
                pixels[row, :, at : at + 3, at : at + 3] += 0.1
            if kind == "ring":
                pixels[row, :, size // 2, 4:-4] += 0.1
        return Raw(torch.from_numpy(pixels), torch.zeros(part.num_rows, 2))

    return make


def same(part: pa.Table, _before: np.ndarray) -> pa.Table:
    """No redraw."""
    return part


def training(n: int = 64, **changes: object) -> Drawn:
    """Batches of 8, 24 px wide made and 16 px seen."""
    settings = {
        "batch_size": 8,
        "epoch_stamps": 32,
        "mix": {"lens": 0.5, "control": 0.5},
        "max_shift_px": 2,
        "size_px": 16,
        "seed": 5,
        **changes,
    }
    plan = Plan(**settings)  # type: ignore[arg-type]
    return Drawn(rows(n), same, cut(blobs(), plan.size_px), plan, NORMALISE)


def validation(n: int = 32) -> Fixed:
    """Stamps whose ids no training stamp has."""
    return Fixed(rows(n, first_id=10_001), blobs(), 8, 16, NORMALISE)


def recipe(**changes: object) -> Recipe:
    """Three quick epochs."""
    settings = {
        "max_epochs": 3,
        "learning_rate": 3e-3,
        "weight_decay": 1e-4,
        "warmup_steps": 2,
        "schedule": "cosine",
        "ema_decay": 0.9,
        "patience": 100,
        "monitor": "val_loss",
        "gradient_clip": 2.0,
        "positive_weight": 1.0,
        "precision": "fp32",
        **changes,
    }
    return Recipe(**settings)  # type: ignore[arg-type]


BANDS = ("g", "r")
SCALE_ARCSEC = 0.262


def filled(schema: pa.Schema, n: int, **columns: object) -> pa.Table:
    """A table of `schema`: the columns given, null where allowed, else zeros or empty text."""
    made = []
    for field in schema:
        if field.name == "psf_image" and field.name not in columns:
            made.append(pa.nulls(n, pa.binary(4 * len(BANDS))))
        elif field.name in columns:
            value = columns[field.name]
            made.append(value if isinstance(value, pa.Array) else pa.array(value, field.type))
        elif field.nullable:
            made.append(pa.nulls(n, field.type))
        else:
            made.append(pa.array(["" if field.type == pa.string() else 0] * n, field.type))
    pixels = columns.get("pixels")
    fields = [
        layout_field(pixels) if f.name == "pixels" and pixels is not None else f.with_type(a.type)
        for f, a in zip(schema, made, strict=True)
    ]
    return pa.table(made, schema=pa.schema(fields))


def layout_field(encoded: object) -> pa.Field:
    """The field of pixels of `encoded`'s width."""
    assert isinstance(encoded, pa.Array)
    size = int((encoded.type.byte_width / 4 / len(BANDS)) ** 0.5)
    return Layout(BANDS, size, SCALE_ARCSEC).field(nullable=True)


def noise(n: int, size: int, *, seed: int = 1) -> np.ndarray:
    """White noise of 0.01 nmgy, shape (n, band, size, size)."""
    draw = np.random.default_rng(seed).normal(0, 0.01, (n, len(BANDS), size, size))
    return draw.astype(np.float32)


def sky_medians(n: int) -> dict[str, np.ndarray]:
    """A sky level that differs by row and band."""
    return {
        f"sky_median_{b}_nmgy": np.linspace(0, 0.01, n, dtype=np.float32) * (1 + i)
        for i, b in enumerate(BANDS)
    }


def stamps(n: int, size: int = 16, **columns: object) -> pa.Table:
    """A `stamps` table of the val set, lens and control in turn, lenses brighter."""
    is_lens = np.arange(n) % 2 == 0
    pixels = noise(n, size)
    pixels[is_lens, :, 5:9, 9:13] += 0.1
    made = {
        "stamp_id": np.arange(1, n + 1),
        "target_id": np.arange(101, n + 101),
        "split": ["val"] * n,
        "kind": ["lens" if lens else "control" for lens in is_lens],
        "label": is_lens.astype(np.int8),
        "theta_e_arcsec": np.full(n, 1.5, np.float32),
        "ground_visible": is_lens,
        "pixels": encode(pixels),
        **sky_medians(n),
        **columns,
    }
    return filled(schemas.stamps(BANDS), n, **made)


def cutouts(n: int, size: int = 24, **columns: object) -> pa.Table:
    """A `cutouts` table."""
    made = {
        "target_id": np.arange(101, n + 101),
        "pixels": encode(noise(n, size)),
        **{f"psf_fwhm_{b}_arcsec": np.full(n, 1.1, np.float32) for b in BANDS},
        **{f"depth_{b}_mag": np.full(n, 24.0, np.float32) for b in BANDS},
        **sky_medians(n),
        **columns,
    }
    return filled(schemas.cutouts(BANDS), n, **made)


def manifest(n: int, **columns: object) -> pa.Table:
    """A `manifest` table of kind sky."""
    made = {
        "stamp_id": np.arange(1001, n + 1001),
        "target_id": np.arange(101, n + 101),
        "split": ["guard"] * n,
        "kind": ["sky"] * n,
        "family": ["sky"] * n,
        **columns,
    }
    return filled(schemas.manifest(BANDS), n, **made)


def saved_model(folder: Path, **changes: object) -> Path:
    """A small network with random weights, saved for 16 px stamps in `BANDS`.

    With `classes` it tells kinds apart; with `inputs` it is told numbers, and heeds them.
    """
    about = {
        "network": "small",
        "bands": BANDS,
        "pixel_scale_arcsec": SCALE_ARCSEC,
        "size_px": 16,
        "normalisation": NORMALISE,
        "training_digest": "abc",
        "epoch": 2,
        "metrics": {"val_loss": 0.25},
        **changes,
    }
    made = networks.make(
        "small",
        bands=len(about["bands"]),  # type: ignore[arg-type]
        seed=3,
        outputs=max(1, len(about.get("classes", ()))),  # type: ignore[arg-type]
        inputs=len(about.get("inputs", ())),  # type: ignore[arg-type]
    )
    if made.told is not None:  # a new network heeds none of them
        torch.nn.init.normal_(made.told.layers[-1].weight, generator=torch.manual_seed(4))  # type: ignore[arg-type]
    weights = made.state_dict()
    saved.save(folder, saved.Description(**about), weights, weights)  # type: ignore[arg-type]
    return folder
