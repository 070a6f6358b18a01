"""Where bricks lie, and the map from sky to pixels."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError
from simulate_builders import simulate_config

from darkhaloscope.core.errors import ConfigError
from darkhaloscope.simulate import sky
from darkhaloscope.simulate.fitsfiles import image_header


def test_names_and_ids_are_unique_and_fit_the_surveys_bits() -> None:
    found = sky.bricks(simulate_config(n_fields=15, bricks_per_field=(3, 2)))
    assert len({b.name for b in found}) == len(found) == 90
    assert len({b.brickid for b in found}) == 90
    assert all(0 < b.brickid < 1 << 20 and len(b.name) == 8 for b in found)


def test_patches_are_a_degree_apart_or_more() -> None:
    found = sky.bricks(simulate_config(n_fields=12, field_spacing_deg=1.3, bricks_per_field=(2, 2)))
    for a in found:
        for b in found:
            if a.field != b.field:
                squeeze = np.cos(np.radians(max(abs(a.dec), abs(b.dec)) + 1))
                assert np.hypot((a.ra - b.ra) * squeeze, a.dec - b.dec) > 1


def test_patches_too_near_each_other_are_refused_with_the_distance_needed() -> None:
    with pytest.raises(ValidationError, match=r"field_spacing_deg must be at least 1\.20"):
        simulate_config(field_spacing_deg=1.1)


def test_bricks_of_the_surveys_size_tile_the_patch_without_gap_or_overlap() -> None:
    config = simulate_config(brick_size_px=3600, bricks_per_field=(2, 2))
    a, east, north, _ = sky.bricks(config)
    assert east.ra1 == pytest.approx(a.ra2, abs=1e-9)
    assert north.dec1 == pytest.approx(a.dec2, abs=1e-9)
    assert a.area_deg2 == pytest.approx(config.own_width_deg**2, rel=1e-3)


def test_small_bricks_stand_apart_because_names_are_cut_to_a_tenth_of_a_degree() -> None:
    first, second = sky.bricks(simulate_config())
    assert second.ra1 > first.ra2
    assert sky.neighbours(first, [first, second], simulate_config()) == [first]


def test_bricks_that_touch_show_each_others_galaxies() -> None:
    config = simulate_config(brick_size_px=1600)
    found = sky.bricks(config)
    assert sky.neighbours(found[0], found, config) == found


def test_two_bricks_of_one_name_are_refused() -> None:
    config = simulate_config(n_fields=2, first_field_deg=(20.0, -20.0))
    twin = config.model_copy(update={"field_spacing_deg": 0.0})
    with pytest.raises(ConfigError, match="would both be called"):
        sky.bricks(twin)


def test_pixels_agree_with_the_header_as_astropy_reads_it() -> None:
    brick = sky.bricks(simulate_config(brick_size_px=3600))[0]
    ra = brick.ra + np.array([0.0, 0.12, -0.1])
    dec = brick.dec + np.array([0.0, -0.11, 0.13])
    wcs = WCS(fits.Header(image_header(brick, 3600, "image", "r")))
    expected = wcs.all_world2pix(ra, dec, 0)
    np.testing.assert_allclose(sky.pixel_from_sky(ra, dec, brick, 3600), expected, atol=1e-6)


def test_sky_from_pixel_is_the_inverse() -> None:
    brick = sky.bricks(simulate_config())[0]
    x, y = np.array([0.0, 17.3, 399.0]), np.array([399.0, 200.2, -3.0])
    back = sky.pixel_from_sky(*sky.sky_from_pixel(x, y, brick, 400), brick, 400)
    np.testing.assert_allclose(back, (x, y), atol=1e-8)


def test_east_is_left_and_north_is_up() -> None:
    brick = sky.bricks(simulate_config())[0]
    x, y = sky.pixel_from_sky([brick.ra2, brick.ra], [brick.dec, brick.dec2], brick, 400)
    assert x[0] < x[1]
    assert y[1] > y[0]
