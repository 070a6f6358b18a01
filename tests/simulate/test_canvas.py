"""The drawn light against GalSim: flux and second moments within half a per cent."""

import galsim
import numpy as np
import pytest
from simulate_builders import simulate_config

from darkhaloscope.core.settings.simulate import PIXEL_SCALE_ARCSEC
from darkhaloscope.core.units import moffat_alpha_from_psfsize
from darkhaloscope.simulate import shapes, sky
from darkhaloscope.simulate.canvas import Canvas, sky_bowl
from darkhaloscope.simulate.components import part_dtype
from darkhaloscope.simulate.observing import conditions

SIZE = 192
CONFIG = simulate_config()
SEEN = conditions(sky.bricks(CONFIG)[0], CONFIG)


def galsim_psf(band: int) -> galsim.GSObject:
    alpha = float(moffat_alpha_from_psfsize(SEEN.psfsize[band], SEEN.beta[band]))
    return galsim.Moffat(beta=float(SEEN.beta[band]), scale_radius=alpha)


def drawn(size: int = 160, **shape: float) -> np.ndarray:
    """One profile of flux 10 in every band, off the pixel's centre."""
    parts = np.zeros(1, part_dtype(3))
    values = {"x": 95.3, "y": 96.2, "r_eff": 1.0, "n": 4.0, "q": 0.7, "phi": 0.6, "size": size}
    for name, value in (values | shape).items():
        parts[name] = value
    parts["flux"] = 10.0
    canvas = Canvas(SEEN, SIZE)
    canvas.add_profiles(parts)
    return canvas.light


def expected(band: int, n: float, r_eff: float, q: float, phi: float) -> np.ndarray:
    """The same by GalSim; the PSF holds the pixel, so none is added."""
    galaxy = galsim.Sersic(n=n, half_light_radius=r_eff, flux=10.0)
    galaxy = galaxy.shear(q=q, beta=phi * galsim.radians)
    centre = (SIZE - 1) / 2
    offset = galsim.PositionD(95.3 - centre, 96.2 - centre)
    image = galsim.Convolve(galaxy, galsim_psf(band)).drawImage(
        nx=SIZE, ny=SIZE, scale=PIXEL_SCALE_ARCSEC, method="no_pixel", offset=offset
    )
    return np.asarray(image.array, np.float64)


def moments(image: np.ndarray, width_px: float) -> tuple[float, float, float, float]:
    """Flux, and second moments in a Gaussian window about the known centre."""
    y, x = np.indices(image.shape)
    dx, dy = x - 95.3, y - 96.2
    weight = image * np.exp(-0.5 * (dx**2 + dy**2) / width_px**2)
    total = weight.sum()
    second = [float((weight * a * b).sum() / total) for a, b in ((dx, dx), (dy, dy), (dx, dy))]
    return float(total), second[0], second[1], second[2]


@pytest.mark.parametrize(
    ("n", "r_eff", "q", "phi"), [(4.0, 1.0, 0.7, 0.6), (1.0, 1.5, 0.3, 2.0), (3.0, 2.5, 0.9, 1.2)]
)
@pytest.mark.parametrize("band", [0, 1, 2])
def test_flux_and_moments_agree_with_galsim(
    n: float, r_eff: float, q: float, phi: float, band: int
) -> None:
    ours = moments(drawn(n=n, r_eff=r_eff, q=q, phi=phi)[band], 8.0)
    theirs = moments(expected(band, n, r_eff, q, phi), 8.0)
    scale = (theirs[1] + theirs[2]) / 2
    assert ours[0] == pytest.approx(theirs[0], rel=0.005)
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=0, atol=0.005 * scale)


def test_total_flux_agrees_with_galsim() -> None:
    for band in range(3):
        ours, theirs = drawn(n=2.0, size=160)[band].sum(), expected(band, 2.0, 1.0, 0.7, 0.6)
        assert ours == pytest.approx(theirs[16:176, 16:176].sum(), rel=0.005)


def test_stars_agree_with_galsim() -> None:
    canvas = Canvas(SEEN, SIZE)
    star = canvas.add_stars(np.array([95.3]), np.array([96.2]), np.full((1, 3), 25.0))
    offset = galsim.PositionD(95.3 - (SIZE - 1) / 2, 96.2 - (SIZE - 1) / 2)
    for band in range(3):
        image = (galsim_psf(band) * 25.0).drawImage(
            nx=SIZE, ny=SIZE, scale=PIXEL_SCALE_ARCSEC, method="no_pixel", offset=offset
        )
        near = slice(80, 112)
        np.testing.assert_allclose(
            star[band][near, near],
            image.array[near, near],
            rtol=2e-3,
            atol=1e-4 * image.array.max(),
        )


def test_psfsize_is_the_noise_equivalent_width_of_the_drawn_psf() -> None:
    canvas = Canvas(SEEN, 384)
    star = canvas.add_stars(np.array([191.5]), np.array([191.5]), np.full((1, 3), 50.0))
    for band in range(3):
        psf = star[band].astype(float) / 50.0
        neff = psf.sum() ** 2 / (psf**2).sum() * PIXEL_SCALE_ARCSEC**2
        width = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(neff / (4 * np.pi))
        assert width == pytest.approx(SEEN.psfsize[band], rel=0.01)
        assert SEEN.neff_px[band] * PIXEL_SCALE_ARCSEC**2 == pytest.approx(neff, rel=0.02)


def test_a_profile_at_the_border_is_cut_and_not_wrapped() -> None:
    light = drawn(x=0.0, y=96.2)
    assert light[:, :, -40:].max() == 0
    assert light[:, 90:100, 0].min() > 0


def test_a_profile_outside_leaves_the_image_empty() -> None:
    assert drawn(x=-500.0).max() == 0


def test_the_bowl_takes_its_share_of_a_galaxys_light() -> None:
    flux = np.array([[10.0, 20.0, 30.0]])
    bowl = sky_bowl(np.array([100.0]), np.array([90.0]), flux, 0.02, 201, 12.0)
    np.testing.assert_allclose(bowl.sum((1, 2)), -0.02 * flux[0], rtol=0.01)
    assert bowl.max() <= 0


def test_a_ring_holds_its_flux_at_its_radius() -> None:
    one = np.ones(1)
    canvas = Canvas(SEEN, SIZE)
    ring = shapes.ring(3.0 * one, 0.3 * one, one, 0 * one, one)
    canvas.add_shape(ring, np.array([96.0]), np.array([96.0]), np.full((1, 3), 5.0), 80)
    y, x = np.indices((SIZE, SIZE))
    radius = np.hypot(x - 96, y - 96) * PIXEL_SCALE_ARCSEC
    mean = np.array([canvas.light[1][np.abs(radius - r) < 0.2].mean() for r in (0.5, 3.0, 6.0)])
    assert mean[1] > 3 * mean[0]
    assert mean[1] > 10 * mean[2]
    assert canvas.light[1].sum() == pytest.approx(5.0, rel=0.05)


def test_shapes_of_no_galaxy_draw_nothing() -> None:
    canvas = Canvas(SEEN, SIZE)
    none = np.zeros(0)
    canvas.add_shape(shapes.ring(none, none, none, none, none), none, none, np.zeros((0, 3)), 80)
    assert canvas.light.max() == 0
