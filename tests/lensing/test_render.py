"""The renderer against a slow float64 one, lenstronomy and GalSim, and its special cases."""

import math
from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch
from lensing_builders import GRID, SCALE, centres, lens, lenses, rows, sersic, sources
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity
from scipy.special import gammaincinv

from darkhaloscope.bench.truth import errors, gaussian_pixels, light_of, moffat_pixels
from darkhaloscope.lensing.psf import Gaussian, Moffat, Psf, moffat_from_psfsize
from darkhaloscope.lensing.render import (
    CHEAP,
    DEFAULT,
    REFERENCE,
    Grid,
    Lens,
    Painted,
    Plan,
    Sersic,
    paint,
    render_lensed,
)

GAUSSIAN = Gaussian(torch.tensor([[1.1]], dtype=torch.float64))
MOFFAT = moffat_from_psfsize(torch.tensor([[1.2]]), torch.tensor([[2.7]]))


def painted(
    source: Sersic,
    behind: Lens | None = None,
    *,
    psf: Psf = GAUSSIAN,
    grid: Grid = GRID,
    plan: Plan = DEFAULT,
    flux: float | torch.Tensor = 1.0,
    centre: tuple[float, float] | tuple[torch.Tensor, torch.Tensor] = (0.0, 0.0),
    chunk_rows: int | None = None,
) -> Painted:
    zero = torch.zeros_like(source.x)
    light = flux if isinstance(flux, torch.Tensor) else torch.full((len(zero), psf.shape[1]), flux)
    return render_lensed(
        source,
        behind or Lens.none(source.x),
        flux=light,
        psf=psf,
        centre_x=zero + centre[0],
        centre_y=zero + centre[1],
        grid=grid,
        plan=plan,
        chunk_rows=chunk_rows,
    )


@pytest.mark.parametrize(
    ("plan", "p95", "worst"),
    [(DEFAULT, 0.007, 0.02), (CHEAP, 0.03, 0.08), (REFERENCE, 0.003, 0.005)],
)
def test_flux_and_image_are_those_of_the_slow_renderer(
    plan: Plan, p95: float, worst: float, truths: tuple[np.ndarray, np.ndarray]
) -> None:
    behind = lenses(len(truths[0]))
    arcs = painted(
        sources(behind),
        behind,
        psf=Gaussian(torch.tensor([[1.1]])),
        plan=plan,
        centre=centres(len(truths[0])),
    )
    for error in errors(arcs.pixels[:, 0].numpy(), truths[0]):
        assert np.percentile(error, 95) <= p95
        assert error.max() <= worst
    np.testing.assert_allclose(arcs.magnification, truths[1], rtol=worst)


@pytest.fixture(scope="module")
def truths() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and magnification of 24 lenses."""
    behind = lenses(24)
    drawn = [light_of(row, 80, SCALE) for row in rows(sources(behind), behind, *centres(24))]
    images = [gaussian_pixels(light, 64, 1.1, with_pixel=False) for light in drawn]
    return np.stack(images), np.array([light.total for light in drawn])


def test_moffat_wings_are_those_of_a_direct_convolution() -> None:
    behind = lenses(2)
    psf = moffat_from_psfsize(torch.full((2, 1), 1.2), torch.tensor([[2.5], [3.5]]))
    arcs = painted(sources(behind), behind, psf=psf, centre=centres(2))
    for row, slow in enumerate(rows(sources(behind), behind, *centres(2))):
        light = light_of(slow, 80, SCALE)
        truth = moffat_pixels(light, 64, float(psf.alpha[row, 0]), float(psf.beta[row, 0]))
        l2, flux = errors(arcs.pixels[row, 0].numpy(), truth)
        assert max(l2, flux) <= 0.01


@pytest.mark.parametrize("n", [1.0, 2.0])
def test_an_arc_is_the_one_lenstronomy_makes(n: float) -> None:
    """At 9 x 9 samples a pixel, convolved on that grid, lenstronomy is good to half a per cent."""
    row = {"theta_e": 1.4, "q": 0.7, "phi": 0.5, "shear": 0.04, "shear_phi": 1.1}
    src = {"x": 0.2, "y": -0.1, "r_eff": 0.25, "n": n, "q": 0.7, "phi": 2.0}
    got = painted(
        sersic(**src),
        lens(**row),
        psf=Gaussian(torch.tensor([[1.1]]).double(), includes_pixel=False),
    )
    start = -31.5 * SCALE
    pixels = PixelGrid(
        nx=64, ny=64, transform_pix2angle=np.eye(2) * SCALE, ra_at_xy_0=start, dec_at_xy_0=start
    )
    model = ImageModel(
        pixels,
        PSF(psf_type="GAUSSIAN", fwhm=1.1, pixel_size=SCALE),
        LensModel(["SIE", "SHEAR"]),
        LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": 9, "supersampling_convolution": True},
    )
    mass, light = phi_q2_ellipticity(row["phi"], row["q"]), phi_q2_ellipticity(src["phi"], src["q"])
    b = gammaincinv(2 * n, 0.5)  # lenstronomy's own is an approximation: scale its radius
    ours = {"R_sersic": src["r_eff"] * ((1.9992 * n - 0.3271) / b) ** n, "n_sersic": n, "amp": 1.0}
    place = {"center_x": src["x"], "center_y": src["y"]}
    source = [{**ours, "e1": light[0], "e2": light[1], **place}]
    shear = [row["shear"] * f(2 * row["shear_phi"]) for f in (math.cos, math.sin)]
    lensing = [
        {"theta_E": row["theta_e"], "e1": mass[0], "e2": mass[1], "center_x": 0, "center_y": 0},
        {"gamma1": shear[0], "gamma2": shear[1], "ra_0": 0, "dec_0": 0},
    ]
    total = LightModel(["SERSIC_ELLIPSE"]).total_flux(source)[0]
    expected = model.image(lensing, source) / total
    l2, flux = errors(got.pixels[0, 0].numpy(), expected)
    assert l2 <= 6e-3
    assert flux <= 5e-3


@pytest.mark.parametrize(("n", "r_eff"), [(1.0, 0.3), (2.5, 0.8)])
def test_a_galaxy_has_galsims_flux_and_second_moments(n: float, r_eff: float) -> None:
    got = painted(sersic(n=n, r_eff=r_eff, q=0.6, phi=0.7), psf=MOFFAT, grid=Grid(65, SCALE))
    moffat = galsim.Moffat(beta=2.7, scale_radius=float(MOFFAT.alpha))
    profile = galsim.Sersic(
        n=n, half_light_radius=r_eff, gsparams=galsim.GSParams(folding_threshold=1e-4)
    )
    profile = profile.shear(q=0.6, beta=0.7 * galsim.radians)
    params = galsim.GSParams(folding_threshold=1e-4, maximum_fft_size=16384)
    both = galsim.Convolve([profile, moffat], gsparams=params)
    expected = both.drawImage(nx=65, ny=65, scale=SCALE, method="no_pixel", dtype=float).array
    image = got.pixels[0, 0].numpy()
    assert image.sum() == pytest.approx(expected.sum(), rel=5e-3)
    y, x = np.mgrid[-32:33, -32:33]
    weight = np.exp(-(x**2 + y**2) / (2 * 6.0**2))  # moments of a profile with wings need a window
    for moment in (x * x, y * y, x * y):
        ours, theirs = ((a * weight * moment).sum() / (a * weight).sum() for a in (image, expected))
        assert ours == pytest.approx(theirs, rel=5e-3, abs=1e-3)


@pytest.mark.parametrize(("n", "r_eff", "size"), [(4.0, 1.5, 128), (4.0, 3.0, 192), (1.0, 2.0, 96)])
def test_a_large_host_has_the_flux_that_its_profile_puts_inside(
    n: float, r_eff: float, size: int
) -> None:
    source = sersic(n=n, r_eff=r_eff, q=0.8, phi=0.3)
    got = painted(source, grid=Grid(size, SCALE))
    light = light_of(rows(source, Lens.none(source.x), source.x, source.x)[0], size, SCALE)
    truth = gaussian_pixels(light, size, 1.1, with_pixel=False)
    l2, flux = errors(got.pixels[0, 0].numpy(), truth)
    assert l2 <= 0.007
    assert flux <= 0.004  # the truth lacks what blurs in from outside
    assert float(got.inside) == pytest.approx(light.total, abs=0.004)


def test_lensed_and_unlensed_rows_share_a_call() -> None:
    behind = Lens(
        *[
            torch.tensor(v).double()
            for v in ([0.0, 1.2], [1.0, 0.7], [0.0, 0.4], [0.0, 0.03], [0.0, 1.0])
        ]
    )
    both = painted(sersic(2, x=0.1), behind)
    assert float(both.magnification[0]) == 1.0
    assert float(both.magnification[1]) > 4
    alone = painted(sersic(x=0.1))
    torch.testing.assert_close(both.pixels[:1], alone.pixels)


def test_flux_is_conserved_where_the_arc_is_inside() -> None:
    behind = lens(20, q=0.8, theta_e=1.3)
    got = painted(sersic(20, x=0.15, r_eff=0.1, q=0.7), behind, flux=3.0)
    total = got.pixels.sum((1, 2, 3))
    torch.testing.assert_close(total, 3.0 * got.magnification, rtol=1e-3, atol=0)
    torch.testing.assert_close(got.inside_share, torch.ones_like(total), rtol=0, atol=1e-3)


def test_inside_share_counts_what_the_stamp_catches() -> None:
    edge = painted(sersic(x=32 * SCALE, r_eff=0.1))  # on the stamp's border
    assert float(edge.inside_share) == pytest.approx(0.5, abs=2e-3)
    outside = painted(sersic(x=34 * SCALE, r_eff=0.1))  # its wing alone is seen
    assert 0 < float(outside.inside_share) < 0.2


def test_an_arc_that_leaves_the_stamp_is_finite_and_cut_off() -> None:
    behind, source = lens(theta_e=2.4, q=0.7), sersic(x=0.3, r_eff=0.2)
    small = painted(source, behind, grid=Grid(16, SCALE)).pixels
    large = painted(source, behind, grid=Grid(64, SCALE)).pixels
    assert bool(small.isfinite().all())
    torch.testing.assert_close(
        small, large[..., 24:40, 24:40], rtol=0, atol=0.01 * float(large.max())
    )


@pytest.mark.parametrize("size", [32, 33, 64])
def test_a_point_stays_where_it_was(size: int) -> None:
    got = painted(
        sersic(x=0.6, y=-0.35, r_eff=0.02, n=0.5), grid=Grid(size, SCALE), centre=(0.3, -0.2)
    ).pixels[0, 0]
    at = torch.arange(size) - (size - 1) / 2
    total = got.sum()
    assert float((got.sum(0) * at).sum() / total) == pytest.approx(0.6 / SCALE + 0.3, abs=0.01)
    assert float((got.sum(1) * at).sum() / total) == pytest.approx(-0.35 / SCALE - 0.2, abs=0.01)


def test_turning_lens_and_source_by_a_right_angle_turns_the_stamp() -> None:
    quarter = math.pi / 2
    values = {"theta_e": 1.5, "q": 0.6, "phi": 0.4, "shear": 0.04, "shear_phi": 0.9}
    turned = {**values, "phi": 0.4 + quarter, "shear_phi": 0.9 + quarter}
    first = painted(sersic(x=0.3, y=0.1, q=0.6, phi=0.2), lens(**values), centre=(0.4, -0.1))
    second = painted(
        sersic(x=-0.1, y=0.3, q=0.6, phi=0.2 + quarter), lens(**turned), centre=(0.1, 0.4)
    )
    # A quarter turn takes +x to +y: rows become columns.
    expected = torch.rot90(first.pixels, -1, (-2, -1))
    torch.testing.assert_close(second.pixels, expected, rtol=0, atol=2e-3 * float(expected.max()))


def test_a_source_without_flux_adds_exactly_nothing() -> None:
    got = painted(sersic(2), lens(2), flux=0.0)
    assert bool((got.pixels == 0).all())
    assert bool(got.magnification.isfinite().all())
    assert bool(got.inside.isfinite().all())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_neither_the_batch_nor_the_device_changes_a_pixel(chunk_rows: int, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    behind = lenses(7)
    plan = replace(DEFAULT, far_margin_px=DEFAULT.margin_px)  # which a GPU takes for all rows
    whole = painted(sources(behind), behind, psf=MOFFAT, plan=plan)
    moved = Lens(
        *[getattr(behind, f).to(device) for f in ("theta_e", "q", "phi", "shear", "shear_phi")]
    )
    names = ("x", "y", "r_eff", "n", "q", "phi")
    source = Sersic(*[getattr(sources(behind), f).to(device) for f in names])
    psf = Moffat(MOFFAT.alpha.to(device), MOFFAT.beta.to(device))
    flux = torch.ones(7, 1, device=device)
    got = painted(source, moved, psf=psf, flux=flux, plan=plan, chunk_rows=chunk_rows).pixels.cpu()
    peak = whole.pixels.amax((1, 2, 3), keepdim=True)
    assert float(((got - whole.pixels).abs() / peak).max()) <= 1e-5


def test_light_that_comes_in_from_beyond_the_stamp_is_rendered_among_others() -> None:
    distance = torch.tensor([2.0, 5.5, 1.5, 6.2]).double()  # with theta_e: images at 9.5, 10.2"
    source = sersic(4, r_eff=0.4)
    source = replace(source, x=distance * 0.3, y=-distance * math.sqrt(1 - 0.3**2))
    behind = lens(4, q=0.7, theta_e=4.0, shear=0.03)
    psf = Moffat(*[torch.full((4, 1), v).double() for v in (0.9, 2.6)])
    got = painted(source, behind, psf=psf)
    truth = painted(source, behind, psf=psf, plan=REFERENCE)
    for found, expected in zip(got.pixels, truth.pixels, strict=True):
        assert float((found - expected).norm() / expected.norm()) <= 0.01
    torch.testing.assert_close(got.inside, truth.inside, rtol=0.01, atol=1e-3)
    near = Moffat(psf.alpha[2:3], psf.beta[2:3])
    alone = painted(
        sersic(x=0.45, y=-1.5 * math.sqrt(1 - 0.3**2), r_eff=0.4),
        lens(q=0.7, theta_e=4.0, shear=0.03),
        psf=near,
    )
    torch.testing.assert_close(got.pixels[2:3], alone.pixels)


def test_what_training_does_to_precision_does_not_reach_the_renderer() -> None:
    behind = lenses(3)
    expected = painted(sources(behind), behind, psf=MOFFAT).pixels
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = painted(sources(behind), behind, psf=MOFFAT).pixels
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(got, expected)


def test_each_band_has_its_own_flux_and_width() -> None:
    psf = Gaussian(torch.tensor([[1.0, 1.5]]).double())
    got = painted(sersic(), psf=psf, flux=torch.tensor([[2.0, 6.0]])).pixels[0]
    np.testing.assert_allclose(got.sum((1, 2)), [2, 6], rtol=2e-3)
    assert got[0].max() / got[0].sum() > 1.5 * got[1].max() / got[1].sum()


def test_no_rows_make_no_stamps() -> None:
    nothing = torch.zeros(0, 1)
    got = painted(sersic(0), flux=nothing)
    assert got.pixels.shape == (0, 1, 64, 64)
    assert got.inside_share.shape == got.magnification.shape == (0,)
    shape = paint(
        lambda x, _: x,
        flux=nothing,
        psf=MOFFAT,
        centre_x=nothing[:, 0],
        centre_y=nothing[:, 0],
        grid=GRID,
    )
    assert shape.pixels.shape == (0, 1, 64, 64)


def test_a_cusp_on_the_lens_centre_and_on_a_sample_stays_finite() -> None:
    for source in (sersic(n=4.0), sersic(n=4.0, x=SCALE, y=SCALE), sersic(n=10.0, r_eff=0.05)):
        for behind in (None, lens(), lens(q=0.2, theta_e=3.0)):
            assert bool(painted(source, behind).pixels.isfinite().all())


def test_painting_a_known_shape_gives_its_analytic_image() -> None:
    sigma, width = 0.4, 1.1 / 2.3548
    one = torch.tensor([0.3]).double()
    got = paint(
        lambda x, y: 7 * torch.exp(-(x**2 + y**2) / (2 * sigma**2)),
        flux=torch.tensor([[2.5]]).double(),
        psf=GAUSSIAN,
        centre_x=one,
        centre_y=-one,
        grid=GRID,
    )
    variance = sigma**2 + width**2
    at = (np.arange(64) - 31.5) * SCALE
    r2 = (at - 0.3 * SCALE) ** 2 + (at[:, None] + 0.3 * SCALE) ** 2
    expected = 2.5 * np.exp(-r2 / (2 * variance)) / (2 * math.pi * variance) * SCALE**2
    np.testing.assert_allclose(got.pixels[0, 0], expected, rtol=0, atol=1e-3 * expected.max())
    assert float(got.magnification) == 1.0


def test_a_shape_without_light_is_refused() -> None:
    zero = torch.zeros(2)
    with pytest.raises(
        ValueError, match="a shape has light in and round its stamp; got 0 in row 0"
    ):
        paint(
            lambda x, _: torch.zeros_like(x),
            flux=torch.ones(2, 1),
            psf=MOFFAT,
            centre_x=zero,
            centre_y=zero,
            grid=GRID,
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flux": torch.ones(1, 2)}, "flux is of 1 rows and 2 bands, the PSF of"),
        ({"flux": torch.full((1, 1), math.nan)}, "a flux is finite; got nan in row 0"),
        ({"centre": (math.inf, 0.0)}, "a centre is finite; got inf in row 0"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        painted(sersic(), **change)  # type: ignore[arg-type]
