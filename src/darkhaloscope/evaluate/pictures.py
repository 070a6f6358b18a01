"""Pixels as people see them: colour composites with a stretch that keeps arcs and cores apart.

The stretch is that of Lupton et al. (2004): one asinh for the sum of the bands, so that a galaxy's
colour does not change with its brightness.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 1 / (flux shown at the same level), by band; as the survey's own viewer weighs its bands
BAND_SCALE = {"g": 6.0, "r": 3.4, "i": 3.0, "z": 2.2}
SOFTENING_NMGY = 0.03
Q = 20.0


def rgb(stamps: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.uint8]:
    """Colour images, shape (n, y, x, 3), with row 0 at the top: north up, east left.

    Args:
        stamps: Pixels in nanomaggies, shape (n, band, y, x), row 0 at the bottom; a pixel that is
            not finite is shown black.
        bands: Filters in the order of the axis, from blue to red; the first, middle and last are
            shown as blue, green and red.
    """
    chosen = [len(bands) - 1, (len(bands) - 1) // 2, 0]
    scale = np.array([BAND_SCALE.get(bands[i], 3.0) for i in chosen], np.float64)
    flux = np.nan_to_num(stamps[:, chosen].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    scaled = np.maximum(flux * scale[:, None, None] + SOFTENING_NMGY, 0.0)
    total = scaled.mean(axis=1, keepdims=True)
    stretched = np.arcsinh(Q * total) / np.sqrt(Q)
    shown = scaled * np.divide(stretched, total, out=np.zeros_like(total), where=total > 0)
    image = np.clip(np.rint(255 * shown), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image[:, :, ::-1].transpose(0, 2, 3, 1))


def png(image: NDArray[np.uint8]) -> bytes:
    """One picture of shape (y, x, 3) as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    picture: Any = Image.fromarray(image, mode=None)
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
