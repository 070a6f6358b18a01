import io

import numpy as np
from PIL import Image

from darkhaloscope.evaluate.pictures import png, rgb

BANDS = ("g", "r", "z")


def test_red_galaxies_are_red_and_row_zero_is_at_the_bottom() -> None:
    stamp = np.zeros((1, 3, 8, 8), np.float32)
    stamp[0, 2, 0, 0] = 1.0
    image = rgb(stamp, BANDS)
    assert image.shape == (1, 8, 8, 3)
    red, green, blue = image[0, 7, 0].tolist()
    assert red > green
    assert red > blue


def test_colour_does_not_depend_on_brightness() -> None:
    stamp = np.zeros((2, 3, 1, 1), np.float32)
    stamp[0, :, 0, 0], stamp[1, :, 0, 0] = (0.05, 0.1, 0.2), (0.1, 0.2, 0.4)
    faint, bright = rgb(stamp + 0.0, BANDS).astype(float)[:, 0, 0]
    np.testing.assert_allclose(faint / faint.sum(), bright / bright.sum(), atol=0.05)


def test_pixels_that_are_not_finite_are_as_empty_ones() -> None:
    stamp = np.full((1, 3, 2, 2), np.nan, np.float32)
    assert np.array_equal(rgb(stamp, BANDS), rgb(np.zeros_like(stamp), BANDS))


def test_no_stamps_and_one_band_are_fine() -> None:
    assert rgb(np.zeros((0, 3, 4, 4), np.float32), BANDS).shape == (0, 4, 4, 3)
    grey = rgb(np.ones((1, 1, 4, 4), np.float32), ("r",))
    assert (grey[..., 0] == grey[..., 2]).all()


def test_a_png_holds_the_picture() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
