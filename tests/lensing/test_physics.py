"""The physics of injected light, each law against something that shares no code with the package.

Images are found by brute force on lenstronomy's deflections (`image_finder`), magnifications are
ratios of areas, pixels come from closed forms or from the slow renderer. Draws are rows of the
manifest of every preset (`prior_builders`).
"""

import math
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from astropy import units as u
from image_finder import Images, followed, images, keywords, traced
from lensing_builders import GRID, SCALE, sersic
from lenstronomy.LensModel.lens_model import LensModel
from manifest_builders import cutouts, splits
from numpy.polynomial.hermite_e import hermegauss
from prior_builders import BANDS, PRIORS, Drawn, as_pictures, drawn, lensed_rows
from scipy.ndimage import map_coordinates
from scipy.special import gammainc, roots_genlaguerre

from darkhaloscope.bench.truth import (
    PER_SIGMA,
    Light,
    Row,
    errors,
    gaussian_pixels,
    light_of,
    moffat_pixels,
)
from darkhaloscope.core import keys, units
from darkhaloscope.lensing import clumpy
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.blur import Frame, blur
from darkhaloscope.lensing.caustics import caustic_reach, multiply_imaged
from darkhaloscope.lensing.light import sersic_b
from darkhaloscope.lensing.profiles import shear_deflection, sie_deflection
from darkhaloscope.lensing.psf import Gaussian, Kernel, Moffat, Psf
from darkhaloscope.lensing.render import (
    DEFAULT,
    REFERENCE,
    Grid,
    Lens,
    Painted,
    Pictures,
    Plan,
    Sersic,
    render_lensed,
)
from darkhaloscope.lensing.render import Kernel as RenderKernel
from darkhaloscope.ml import injection, painters
from darkhaloscope.ml.injection import Camera

SEEING = Gaussian(torch.tensor([[1.1]]))


def rendered(
    source: Sersic | Pictures,
    behind: Lens,
    *,
    psf: Psf = SEEING,
    grid: Grid = GRID,
    at: tuple[torch.Tensor | float, torch.Tensor | float] = (0.0, 0.0),
    flux: float = 1.0,
    plan: Plan = DEFAULT,
    chunk_rows: int | None = None,
    kernel: RenderKernel = "auto",
) -> Painted:
    zero = torch.zeros_like(source.x)
    return render_lensed(
        source,
        behind,
        flux=torch.full((len(zero), psf.shape[1]), flux, dtype=zero.dtype),
        psf=psf,
        centre_x=zero + at[0],
        centre_y=zero + at[1],
        grid=grid,
        plan=plan,
        chunk_rows=chunk_rows,
        kernel=kernel,
    )


def pixels_of(row: Row, **options: object) -> np.ndarray:
    """The renderer's stamp of one row in its first band, single precision."""
    values = {f.name: torch.tensor([getattr(row, f.name)]) for f in fields(Row)}
    behind = Lens(*[values[name] for name in ("theta_e", "q", "phi", "shear", "shear_phi")])
    names = ("src_x", "src_y", "r_eff", "n", "src_q", "src_phi")
    at = (values["lens_x"] / SCALE, values["lens_y"] / SCALE)
    source = Sersic(*[values[name] for name in names])
    return rendered(source, behind, at=at, **options).pixels[0, 0].numpy()  # type: ignore[arg-type]


# Deflection


@pytest.mark.parametrize(("dtype", "limit_arcsec"), [(torch.float32, 2e-5), (torch.float64, 1e-8)])
def test_deflection_of_ellipsoid_and_shear_is_lenstronomys_over_every_range(
    dtype: torch.dtype, limit_arcsec: float
) -> None:
    """theta_E 0.01-5", q 0.1-1 and as close to 1 as one part in 1e7, shear to 0.5, points from
    1e-4" to 12" from the centre. 1e-4" would do."""
    n, points = 300, 40

    def flat(stream: str, low: float, high: float) -> np.ndarray:
        return low + (high - low) * keys.uniform(np.arange(n), seed=2, stream=stream)

    q = np.where(np.arange(n) % 3 == 0, 1 - 10 ** flat("near 1", -7, -2), flat("q", 0.1, 1))
    theta_e = 10 ** flat("theta_e", -2, math.log10(5))
    phi, shear = flat("phi", 0, math.pi), flat("shear", 0, 0.5)
    shear_phi = flat("shear_phi", 0, math.pi)
    which = np.arange(n * points)
    radius = 10 ** (-4 + 5.08 * keys.uniform(which, seed=2, stream="radius")).reshape(n, points)
    angle = 2 * np.pi * keys.uniform(which, seed=2, stream="angle").reshape(n, points)
    x, y = (
        torch.tensor(radius * f(angle)).to(dtype).double().numpy() for f in (np.cos, np.sin)
    )  # what the precision makes of them
    values = [torch.tensor(v).to(dtype) for v in (theta_e, q, phi, shear, shear_phi)]
    at = [torch.tensor(v).to(dtype) for v in (x, y)]
    bent = sie_deflection(*at, theta_e=values[0], q=values[1], phi=values[2])
    tidal = shear_deflection(*at, shear=values[3], phi=values[4])
    model = LensModel(["SIE", "SHEAR"])
    for i, one in enumerate(zip(*[v.double().tolist() for v in values], strict=True)):
        row = Row(*one, 0, 0, 1, 1, 1, 0)
        expected = model.alpha(x[i], y[i], keywords(row))
        off = [
            bent[k][i].double().numpy() + tidal[k][i].double().numpy() - expected[k] for k in (0, 1)
        ]
        core = 1e-9 / np.hypot(x[i], y[i])  # lenstronomy softens the centre within 1e-10"
        assert (np.hypot(*off) <= limit_arcsec + core).all()


# Image positions and magnification


POINT_ARCSEC = 0.05  # half-light radius of what stands for a point
SIGMA_ARCSEC = POINT_ARCSEC / math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Points:
    """Small round Gaussian sources, and what is seen of them by an independent reckoning.

    `x` and `y` are the centroids of each source's images, arcsec from the stamp's middle,
    `brightness` their fluxes over the source's; `magnification` is of all images together.
    """

    drawn: Drawn
    x: list[np.ndarray]
    y: list[np.ndarray]
    brightness: list[np.ndarray]
    magnification: np.ndarray


@pytest.fixture(scope="module")
def points() -> Points:
    """Draws of every prior with their sources made small; none that touches a caustic."""
    kept, seen, magnification = [], [], []
    for name, population in PRIORS:
        some = drawn(name, population, 40)
        one = torch.ones(len(some))
        small = replace(some.source, r_eff=POINT_ARCSEC * one, n=0.5 * one, q=one)
        some = replace(some, source=small)
        for i, row in enumerate(some.slow()):
            here = images(row)
            if not touches_no_caustic(row, here) or max(np.abs([*here.x, *here.y])) > 11:
                continue
            ratio = ratio_of_areas(row, here)
            if math.isfinite(ratio):
                kept.append(some.take(slice(i, i + 1)))
                seen.append(centroids(row, here))
                magnification.append(ratio)
    assert len(kept) >= 60
    return Points(joined(kept), *zip(*seen, strict=True), np.array(magnification))  # type: ignore[arg-type]


def touches_no_caustic(row: Row, here: Images) -> bool:
    """Whether a disc of four half-light radii has the same images, none stretched much."""
    if (np.abs(here.magnification) > 4).any():
        return False
    for turn in np.arange(8) * math.pi / 4:
        aside = replace(
            row,
            src_x=row.src_x + 4.4 * row.r_eff * math.cos(turn),
            src_y=row.src_y + 4.4 * row.r_eff * math.sin(turn),
        )
        if len(images(aside)) != len(here):
            return False
    return True


def centroids(row: Row, found: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the light of each image is on average, and how much of it there is.

    Over 5 x 5 nodes of Gauss and Hermite in the source; arcsec from the stamp's middle.
    """
    nodes, weights = hermegauss(5)
    src_x = row.src_x + SIGMA_ARCSEC * np.tile(nodes, 5)
    src_y = row.src_y + SIGMA_ARCSEC * np.repeat(nodes, 5)
    share = np.tile(weights, 5) * np.repeat(weights, 5) / (2 * math.pi)
    parts = [followed(row, x, y, src_x, src_y) for x, y in zip(found.x, found.y, strict=True)]
    light = np.array([share * np.abs(part.magnification) for part in parts])
    total = light.sum(1)
    x, y = (
        (light * np.array([getattr(part, name) for part in parts])).sum(1) / total for name in "xy"
    )
    return x + row.lens_x, y + row.lens_y, total


def ratio_of_areas(row: Row, found: Images) -> float:
    """Area of the images over that of the source, averaged over the discs that make a Gaussian.

    A Gaussian is a heap of uniform discs. The disc of radius r has the share t exp(-t) dt of the
    light, t = r^2 / 2 sigma^2: four nodes of Gauss and Laguerre. Its outline is followed from the
    centre of each image; NaN where it cannot be, as a small caustic lies inside.
    """
    corners = 32
    t, weight = roots_genlaguerre(4, 1)
    radius = SIGMA_ARCSEC * np.sqrt(2 * t)[:, None]
    angle = np.arange(corners) * 2 * math.pi / corners
    src_x = (row.src_x + radius * np.cos(angle)).ravel()
    src_y = (row.src_y + radius * np.sin(angle)).ravel()
    area = np.zeros(len(t))
    for x, y in zip(found.x, found.y, strict=True):
        outline = followed(row, x, y, src_x, src_y)
        at_x, at_y = traced(row, outline.x, outline.y)
        if np.hypot(at_x - src_x, at_y - src_y).max() > 1e-6:
            return math.nan
        px, py = (part.reshape(len(t), corners) for part in (outline.x, outline.y))
        area += np.abs((px * np.roll(py, -1, 1) - py * np.roll(px, -1, 1)).sum(1)) / 2
    polygon = corners / 2 * math.sin(2 * math.pi / corners) * radius[:, 0] ** 2
    return float(weight @ (area / polygon))


def joined(parts: list[Drawn]) -> Drawn:
    """Rows of several draws."""

    def together(name: str) -> object:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        names = [f.name for f in fields(values[0]) if f.name != "includes_pixel"]
        return type(values[0])(*[torch.cat([getattr(v, k) for v in values]) for k in names])

    return Drawn(**{f.name: together(f.name) for f in fields(Drawn)})  # type: ignore[arg-type]


def test_images_lie_where_the_lens_equation_puts_them(kernel: RenderKernel, points: Points) -> None:
    """Each stamp is fitted by the Gaussians of its images, each with its two derivatives.

    The ratio of a derivative's coefficient to the amplitude is the shift of that image.
    """
    fwhm, size = 0.7, 96
    sigma = fwhm / PER_SIGMA
    some = points.drawn
    stamps = rendered(
        some.source,
        some.lens,
        psf=Gaussian(torch.tensor([[fwhm]])),
        grid=Grid(size, SCALE),
        at=(some.x0, some.y0),
        kernel=kernel,
    ).pixels[:, 0]
    axis = (np.arange(size) - (size - 1) / 2) * SCALE
    shifts, counts = [], []
    for stamp, x, y, light in zip(
        stamps.double().numpy(), points.x, points.y, points.brightness, strict=True
    ):
        apart = np.hypot(x[:, None] - x, y[:, None] - y) + 99 * np.eye(len(x))
        if apart.min() < 2 * fwhm:
            continue  # blended
        templates = []
        for at_x, at_y in zip(x, y, strict=True):
            bell = np.exp(
                -0.5 * (((axis - at_x) / sigma) ** 2 + ((axis[:, None] - at_y) / sigma) ** 2)
            )
            templates += [bell, bell * (axis - at_x), bell * (axis[:, None] - at_y)]
        design = np.stack([t.ravel() for t in templates], axis=1)
        fitted = np.linalg.lstsq(design, stamp.ravel(), rcond=None)[0].reshape(-1, 3)
        shift = np.hypot(fitted[:, 1], fitted[:, 2]) * sigma**2 / np.abs(fitted[:, 0]) / SCALE
        shifts += shift[light > 0.1].tolist()  # fainter ones are lost in the bright one's shape
        counts.append(len(x))
    assert min(counts.count(1), counts.count(2)) >= 15
    assert max(shifts) <= 0.05


@pytest.mark.parametrize("plan", [DEFAULT, REFERENCE])
def test_magnification_is_the_ratio_of_areas(
    kernel: RenderKernel, plan: Plan, points: Points
) -> None:
    some = points.drawn
    got = rendered(
        some.source,
        some.lens,
        at=(some.x0, some.y0),
        grid=Grid(96, SCALE),
        plan=plan,
        kernel=kernel,
    )
    for total in (got.magnification, got.pixels[:, 0].sum((1, 2))):
        off = np.abs(total.numpy() / points.magnification - 1)
        assert np.percentile(off, 95) <= 0.01
        assert off.max() <= (0.01 if plan is REFERENCE else 0.02)
    of_nodes = np.array([light.sum() for light in points.brightness])
    np.testing.assert_allclose(of_nodes, points.magnification, rtol=3e-3)  # two reckonings agree


# Flux


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("r_eff", [0.08, 0.3, 0.6])
def test_an_unlensed_source_keeps_its_flux(kernel: RenderKernel, n: float, r_eff: float) -> None:
    """To a thousandth of what its profile puts inside the frame of 150 px, wherever it lies."""
    count = 60
    source = sersic(count, dtype=torch.float32, n=n, r_eff=r_eff, x=0.41, y=-0.2)
    shifts = [
        torch.tensor(keys.uniform(np.arange(count), seed=6, stream=name) - 0.5) for name in "xy"
    ]
    got = rendered(
        source,
        Lens.none(source.x),
        psf=Gaussian(torch.tensor([[0.8]])),
        grid=Grid(150, SCALE),
        at=(shifts[0], shifts[1]),
        flux=2.5,
        kernel=kernel,
    )
    radius = 75 * SCALE / r_eff  # within the circle; the corners hold a few 1e-5 more
    held = float(gammainc(2 * n, float(sersic_b(torch.tensor([n]))) * radius ** (1 / n)))
    assert held > 0.995
    off = np.abs(got.pixels.double().sum((1, 2, 3)).numpy() / (2.5 * held) - 1)
    assert np.percentile(off, 95) <= 1e-3
    assert off.max() <= 2e-3


def test_a_lensed_source_keeps_its_magnified_flux(kernel: RenderKernel) -> None:
    """Of the slow renderer, for draws of every prior; the sum over draws to a thousandth."""
    got, expected = [], []
    for name, population in PRIORS:
        some = drawn(name, population, 8)
        stamps = rendered(
            some.source, some.lens, at=(some.x0, some.y0), grid=Grid(96, SCALE), kernel=kernel
        )
        got += stamps.pixels.sum((1, 2, 3)).tolist()
        for row in some.slow():
            light = light_of(row, 112, SCALE)
            expected.append(gaussian_pixels(light, 96, 1.1, with_pixel=False).sum())
    ratio = np.array(got) / np.array(expected)
    assert abs(ratio.mean() - 1) <= 1e-3
    assert np.abs(ratio - 1).max() <= 0.02


SHAPES = {
    "gaussian": Gaussian(torch.tensor([[1.2]])),
    "moffat": Moffat(torch.tensor([[0.9]]), torch.tensor([[2.6]])),
    "wide moffat": Moffat(torch.tensor([[1.6]]), torch.tensor([[2.0]])),
    "without the pixel": Moffat(torch.tensor([[0.9]]), torch.tensor([[2.6]]), includes_pixel=False),
    "image": Kernel(torch.rand(1, 1, 31, 31, generator=torch.Generator().manual_seed(1)), SCALE),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_psf_neither_makes_nor_takes_light(name: str) -> None:
    frame = Frame.around(GRID, 8)
    light = torch.rand(
        2, frame.fine_px, frame.fine_px, generator=torch.Generator().manual_seed(2)
    ).double()
    psf = cast(SHAPES[name], torch.float64)
    whole = blur(
        light[:, None],
        share=None,
        psf=psf,
        frame=replace(frame, grid=Grid(frame.padded_px, SCALE), lead_px=0),
    )
    torch.testing.assert_close(whole.sum((1, 2, 3)), light.sum((1, 2)), rtol=1e-6, atol=0)


def cast(psf: Psf, dtype: torch.dtype) -> Psf:
    """The PSF in another precision."""
    if isinstance(psf, Gaussian):
        return Gaussian(psf.fwhm.to(dtype), psf.includes_pixel)
    if isinstance(psf, Moffat):
        return Moffat(psf.alpha.to(dtype), psf.beta.to(dtype), psf.includes_pixel)
    assert isinstance(psf, Kernel)
    return Kernel(psf.images.to(dtype), psf.pixel_scale_arcsec, psf.includes_pixel)


def test_a_nanomaggy_is_astropys() -> None:
    mag = np.array([0.0, 14.2, 22.5, 26.0])
    flux = (mag * u.ABmag).to(u.nmgy, u.zero_point_flux(1 * u.AB)).value
    np.testing.assert_allclose(units.nmgy_from_mag(mag), flux, rtol=1e-12)
    np.testing.assert_allclose(units.mag_from_nmgy(flux), mag, rtol=0, atol=1e-12)
    assert units.nmgy_from_mag(22.5) == 1.0


def test_a_source_of_magnitude_22_5_adds_one_nanomaggy(kernel: RenderKernel) -> None:
    """Through the whole line, manifest to stamp: hardly lensed, and seen through no dust."""
    sky = np.zeros((6, len(BANDS), 80, 80), np.float32)
    painted, _ = painted_rows(unbent_rows(6), sky, electrons=0.0, kernel=kernel)
    added = painted.pixels.double().sum((2, 3))
    np.testing.assert_allclose(added, 1.0, rtol=1e-3)
    np.testing.assert_allclose(painted.src_mag, 22.5, rtol=1e-7)


def test_a_source_without_flux_changes_nothing_to_the_bit(kernel: RenderKernel) -> None:
    """Noise and all, whatever training asks the signal to be; a sky with zeros in it."""
    rows = with_columns(
        lensed_rows("legacy-dr10", "training", 12), {f"src_mag_{b}": math.inf for b in BANDS}
    )
    sky = torch.randn(12, 3, 80, 80, generator=torch.Generator().manual_seed(3)).numpy()
    sky[:, :, ::3] = 0.0
    painted, before = painted_rows(rows, sky, electrons=3500.0, kernel=kernel)
    assert set(rows["kind"].to_pylist()) == {"lens", "single_image"}
    assert bool((torch.tensor(rows["arc_snr_target"].to_numpy()) > 0).all())
    got = np.ascontiguousarray(painted.pixels.numpy())
    assert got.tobytes() == np.ascontiguousarray(before).tobytes()


def unbent_rows(n: int) -> pa.Table:
    """Exponential sources of magnitude 22.5 behind lenses of theta_E 1e-4" without shear."""
    stated = {f"src_mag_{b}": 22.5 for b in BANDS} | {f"mw_transmission_{b}": 1.0 for b in BANDS}
    stated |= {"theta_e_arcsec": 1e-4, "shear": 0.0, "src_n": 1.0, "arc_snr_target": None}
    return with_columns(lensed_rows("first-run", "training", n), stated)


def with_columns(rows: pa.Table, stated: dict[str, float | None]) -> pa.Table:
    """Some columns replaced by a constant."""
    for name, value in stated.items():
        at = rows.schema.get_field_index(name)
        field = rows.schema.field(at)
        rows = rows.set_column(at, field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))
    return rows


def painted_rows(
    rows: pa.Table, sky: np.ndarray, electrons: float, kernel: RenderKernel
) -> tuple[injection.Injected, np.ndarray]:
    """The rows on cutouts of 80 px, and the cutouts' middle."""
    targets = splits(rows.num_rows, split="train")
    made = cutouts(targets)
    by_target = {t: i for i, t in enumerate(targets["target_id"].to_pylist())}
    hosts = made.take(pa.array([by_target[t] for t in rows["target_id"].to_pylist()]))
    camera = Camera(BANDS, SCALE, 64, "gaussian", (2.8, 2.7, 2.6), (electrons,) * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painters, "render_lensed", partial(render_lensed, kernel=kernel))
        painted = injection.paint_rows(rows, hosts, sky, camera=camera, seed=1)
    return painted, sky[:, :, 8:72, 8:72]


# Symmetry


def turned(row: Row) -> Row:
    """Everything a quarter turn on, from +x towards +y."""
    angles = {name: getattr(row, name) + math.pi / 2 for name in ("phi", "shear_phi", "src_phi")}
    at = {"src_x": -row.src_y, "src_y": row.src_x, "lens_x": -row.lens_y, "lens_y": row.lens_x}
    return replace(row, **angles, **at)


def mirrored(row: Row) -> Row:
    """Everything seen in a mirror, +x for -x."""
    angles = {name: math.pi - getattr(row, name) for name in ("phi", "shear_phi", "src_phi")}
    return replace(row, **angles, src_x=-row.src_x, lens_x=-row.lens_x)


@pytest.mark.parametrize("name", SHAPES)
def test_turning_or_mirroring_everything_turns_or_mirrors_the_stamp(
    kernel: RenderKernel, name: str
) -> None:
    psf = SHAPES[name]
    moves = (
        (turned, lambda image: np.rot90(image, -1, (-2, -1))),  # rows become columns
        (mirrored, lambda image: image[..., ::-1]),
    )
    for row in drawn("legacy-dr10", "training", 6).slow():
        before = pixels_of(row, psf=psf, kernel=kernel)
        for move, moved in moves:
            with_it = psf
            if isinstance(psf, Kernel):
                with_it = Kernel(torch.tensor(moved(psf.images.numpy()).copy()), SCALE)
            after = pixels_of(move(row), psf=with_it, kernel=kernel)
            apart = np.linalg.norm(after - moved(before)) / np.linalg.norm(before)
            assert apart <= 2e-3, move  # which of two equally near cells is split, is chance


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [("torch", torch.float32), ("torch", torch.float64), ("compiled", torch.float32)],
)
@pytest.mark.parametrize("size", [63, 64])
@pytest.mark.parametrize("name", ["gaussian", "moffat", "wide moffat"])
def test_an_impulse_becomes_the_psf_where_it_was(
    kernel: RenderKernel, dtype: torch.dtype, size: int, name: str
) -> None:
    """Every pixel is the closed form at its centre: no shift, no cut-off, no lost light.

    The point is a Gaussian of half-light radius 0.05", which widens the closed form by a little.
    """
    psf = cast(SHAPES[name], dtype)
    source = sersic(dtype=dtype, x=0.61, y=-0.35, r_eff=POINT_ARCSEC, n=0.5)
    got = rendered(
        source,
        Lens.none(source.x),
        psf=psf,
        grid=Grid(size, SCALE),
        at=(0.3, -0.2),
        kernel=kernel,
    ).pixels[0, 0]
    axis = (np.arange(size) - (size - 1) / 2) * SCALE
    spread = POINT_ARCSEC / math.sqrt(2 * math.log(2))
    expected = np.zeros((size, size))
    for at_x, weight_x in zip(*hermegauss(7), strict=True):
        for at_y, weight_y in zip(*hermegauss(7), strict=True):
            x = axis - 0.61 - 0.3 * SCALE - spread * at_x
            y = axis + 0.35 + 0.2 * SCALE - spread * at_y
            share = weight_x * weight_y / (2 * math.pi)
            expected += share * SCALE**2 * brightness_of(psf, x**2 + y[:, None] ** 2)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3 * expected.max())


def brightness_of(psf: Psf, r2: np.ndarray) -> np.ndarray:
    """The closed form of a Gaussian or Moffat of total 1, per arcsec^2."""
    if isinstance(psf, Gaussian):
        variance = float(psf.fwhm / PER_SIGMA) ** 2
        return np.exp(-0.5 * r2 / variance) / (2 * math.pi * variance)
    assert isinstance(psf, Moffat)
    alpha, beta = float(psf.alpha), float(psf.beta)
    return (beta - 1) / (math.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta


# Special places, against the slow renderer

PLAIN = Row(1.2, 0.75, 0.5, 0.05, 1.9, 0.15, -0.1, 0.2, 1.0, 0.7, 1.1, 0.05, -0.03)
ROUND = replace(PLAIN, q=1.0, shear=0.0)


def on_a_curve(row: Row, turn: float, *, least: int) -> Row:
    """The source where a line from the centre, at an angle to the mass, loses `least` images."""
    x, y = math.cos(row.phi + turn), math.sin(row.phi + turn)
    inside, outside = 0.0, 5.0 * row.theta_e
    for _ in range(30):
        middle = (inside + outside) / 2
        has_them = len(images(replace(row, src_x=middle * x, src_y=middle * y))) >= least
        inside, outside = (middle, outside) if has_them else (inside, middle)
    return replace(row, src_x=inside * x, src_y=inside * y)


PLACES = {
    "a ring": replace(ROUND, src_x=0.0, src_y=0.0),
    "nearly round": replace(ROUND, q=1 - 1e-6),
    "as near to round as single precision goes": replace(ROUND, q=1 - 6e-8),
    "a cross": replace(PLAIN, src_x=0.0, src_y=0.0),
    "a cross on a sample": replace(PLAIN, src_x=0.0, src_y=0.0, lens_x=0.0, lens_y=0.0),
    "on the lens, cuspy": replace(PLAIN, src_x=0.0, src_y=0.0, n=4.0, r_eff=0.08),
    "on a cusp": on_a_curve(replace(PLAIN, shear=0.0), 0.0, least=4),
    "on a fold": on_a_curve(PLAIN, 0.7, least=4),
    "on the cut": on_a_curve(PLAIN, 0.3, least=2),
    "on the cut, small and cuspy": on_a_curve(
        replace(PLAIN, theta_e=2.0, r_eff=0.08, n=4.0), 1.9, least=2
    ),
    "outside the caustic": replace(PLAIN, src_x=1.6, src_y=0.9),
    "far outside": replace(PLAIN, src_x=4.5, src_y=-3.0),
    "hardly a lens": replace(PLAIN, theta_e=1e-3, shear=0.0),
    "flat mass": replace(PLAIN, q=0.15),
    "strong shear": replace(PLAIN, shear=0.3),
    "a Gaussian": replace(PLAIN, n=0.5),
    "de Vaucouleurs": replace(PLAIN, n=4.0),
    "the largest index": replace(PLAIN, n=6.0),
    "the smallest source": replace(PLAIN, r_eff=0.03, n=1.0),
    "small and cuspy": replace(PLAIN, r_eff=0.05, n=4.0),
    "the largest source": replace(PLAIN, r_eff=1.5, n=1.0),
    "thin source": replace(PLAIN, src_q=0.2),
    "off the stamp's centre": replace(PLAIN, lens_x=1.3, lens_y=-2.1),
    "arcs leave the stamp": replace(PLAIN, theta_e=4.0, src_x=0.6, lens_x=3.0, r_eff=0.4),
}


@pytest.fixture(scope="module")
def truths() -> dict[str, np.ndarray]:
    """The slow renderer's stamps of the special places."""
    made = {}
    for name, row in PLACES.items():
        made[name] = gaussian_pixels(light_of(row, 96, SCALE), 64, 1.1, with_pixel=False)
    return made


@pytest.mark.parametrize("name", PLACES)
def test_special_places_are_rendered_as_any_other(
    kernel: RenderKernel, name: str, truths: dict[str, np.ndarray]
) -> None:
    got = pixels_of(PLACES[name], kernel=kernel)
    assert np.isfinite(got).all()
    l2, flux = errors(got, truths[name])
    assert max(l2, flux) <= 0.01


def test_an_arc_that_leaves_a_stamp_is_the_middle_of_a_larger_one(kernel: RenderKernel) -> None:
    row = PLACES["arcs leave the stamp"]
    for size in (24, 33, 40):
        small = pixels_of(row, grid=Grid(size, SCALE), kernel=kernel)
        whole = pixels_of(row, grid=Grid(size + 64, SCALE), kernel=kernel)
        middle = whole[32:-32, 32:-32]
        assert middle.sum() < 0.8 * whole.sum()
        assert np.linalg.norm(small - middle) <= 0.01 * np.linalg.norm(middle)


# Which sources are multiply imaged


@pytest.mark.parametrize(("name", "population"), PRIORS)
def test_rows_called_lens_have_several_images_and_single_image_one(
    name: str, population: str
) -> None:
    some = drawn(name, population, 150)
    counts = np.array([len(images(row)) for row in some.slow()])
    assert set(counts[some.is_lens.numpy()].tolist()) <= {2, 3, 4}
    assert set(counts[~some.is_lens.numpy()].tolist()) == {1}


def test_the_multiply_imaged_region_is_the_image_finders_over_every_range() -> None:
    """q 0.1-1 and shear to 0.5, naked cusps and all; within 1e-3 theta_E of the border is open."""
    n = 250

    def flat(stream: str, low: float, high: float) -> np.ndarray:
        return low + (high - low) * keys.uniform(np.arange(n), seed=4, stream=stream)

    shape = {
        "theta_e": 10 ** flat("theta_e", -1, 0.6),
        "q": flat("q", 0.1, 1.0),
        "phi": flat("phi", 0, math.pi),
        "shear": 0.5 * flat("shear", 0, 1) ** 2,
        "shear_phi": flat("shear_phi", 0, math.pi),
    }
    radius = 1.15 * caustic_reach(**shape) * np.sqrt(flat("radius", 0, 1))
    angle = flat("angle", 0, 2 * math.pi)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    said = multiply_imaged(x, y, **shape)
    rows = [
        Row(*values, 0.1, 1.0, 1.0, 0.0)
        for values in zip(
            *[v.tolist() for v in shape.values()], x.tolist(), y.tolist(), strict=True
        )
    ]
    found = np.array([len(images(row)) >= 2 for row in rows])
    wrong = np.flatnonzero(found != said)
    assert 0.2 < said.mean() < 0.8
    assert all(at_border(rows[i]) for i in wrong), [rows[i] for i in wrong]
    assert len(wrong) <= 2


def at_border(row: Row) -> bool:
    """Whether a step of 1e-3 theta_E makes a source multiply imaged, or not so any more."""
    step = 1e-3 * row.theta_e
    counts = [
        len(images(replace(row, src_x=row.src_x + step * a, src_y=row.src_y + step * b))) >= 2
        for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0))
    ]
    return len(set(counts)) == 2


# What must not matter


def prior_rows(n: int, psf: Psf = SHAPES["moffat"], **options: object) -> torch.Tensor:
    """Stamps of n draws of the training prior."""
    some = drawn("legacy-dr10", "training", n)
    return rendered(some.source, some.lens, psf=psf, at=(some.x0, some.y0), **options).pixels  # type: ignore[arg-type]


def assert_same(got: torch.Tensor, expected: torch.Tensor, *, share: float) -> None:
    """Equal within a share of each stamp's peak."""
    peak = expected.amax((1, 2, 3))
    assert bool(((got - expected).abs().amax((1, 2, 3)) <= share * peak).all())


@pytest.mark.parametrize("psf", ["gaussian", "moffat", "image"])
def test_neither_order_nor_company_nor_chunk_changes_a_stamp(
    kernel: RenderKernel, psf: str
) -> None:
    some = drawn("first-run", "physical", 24)

    def stamps(part: Drawn, **options: int) -> torch.Tensor:
        at = (part.x0, part.y0)
        made = rendered(part.source, part.lens, psf=SHAPES[psf], at=at, kernel=kernel, **options)
        return made.pixels

    whole = stamps(some)
    order = torch.tensor(np.argsort(keys.uniform(np.arange(24), seed=1, stream="order")))
    assert_same(stamps(some.take(order)), whole[order], share=1e-6)
    assert_same(stamps(some.take(slice(5, 6))), whole[5:6], share=1e-6)
    for chunk_rows in (1, 7, 1000):
        assert_same(stamps(some, chunk_rows=chunk_rows), whole, share=1e-6)


def test_threads_change_no_stamp(kernel: RenderKernel) -> None:
    before = torch.get_num_threads()
    stamps = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            stamps.append(prior_rows(24, kernel=kernel))
        finally:
            torch.set_num_threads(before)
    assert_same(stamps[1], stamps[0], share=1e-6)


def test_memory_layout_and_a_wider_flux_change_no_stamp(kernel: RenderKernel) -> None:
    """Columns of a table are strided, a constant is expanded, fluxes may come in float64."""
    some = drawn("legacy-dr10", "training", 8)
    expected = rendered(
        some.source, some.lens, psf=SHAPES["moffat"], at=(some.x0, some.y0), kernel=kernel
    ).pixels

    def strided(part: Sersic | Lens) -> Sersic | Lens:
        table = torch.stack([getattr(part, f.name) for f in fields(part)], dim=1)
        return type(part)(*table.unbind(1))

    given = [getattr(some.source, f.name).clone() for f in fields(some.source)]
    got = render_lensed(
        strided(some.source),  # type: ignore[arg-type]
        strided(some.lens),  # type: ignore[arg-type]
        flux=torch.ones(1, 1, dtype=torch.float64).expand(8, 1),
        psf=SHAPES["moffat"],
        centre_x=some.x0.double(),
        centre_y=torch.stack([some.y0, some.x0], 1)[:, 0],
        grid=GRID,
        kernel=kernel,
    ).pixels
    assert got.dtype == torch.float32
    assert_same(got, expected, share=1e-6)
    for before, field in zip(given, fields(some.source), strict=True):
        assert torch.equal(before, getattr(some.source, field.name))  # nothing is written to


def test_double_precision_agrees_with_single(kernel: RenderKernel) -> None:
    some = drawn("legacy-dr10", "physical", 24)

    def doubled(part: Sersic | Lens) -> Sersic | Lens:
        return type(part)(*[getattr(part, f.name).double() for f in fields(part)])

    single = rendered(
        some.source, some.lens, psf=SHAPES["moffat"], at=(some.x0, some.y0), kernel=kernel
    ).pixels
    double = rendered(
        doubled(some.source),  # type: ignore[arg-type]
        doubled(some.lens),  # type: ignore[arg-type]
        psf=cast(SHAPES["moffat"], torch.float64),
        at=(some.x0, some.y0),
    ).pixels
    assert double.dtype == torch.float64
    assert_same(single.double(), double, share=2e-3)


# Two kernels, and sources that are pictures


@pytest.fixture(scope="module")
def bank() -> Bank:
    """A few generated galaxies of two layers."""
    return clumpy.galaxies(np.arange(12), bands=BANDS, size_px=96, seed=2)


THREE_BANDS = Moffat(torch.tensor([[0.95, 0.85, 0.8]]), torch.tensor([[2.8, 2.7, 2.6]]))


@pytest.mark.parametrize("psf", [THREE_BANDS, Gaussian(torch.tensor([[1.3, 1.1, 1.0]]))])
@pytest.mark.parametrize(("name", "population"), PRIORS)
@pytest.mark.parametrize("kind", ["sersic", "pictures"])
def test_both_kernels_make_the_same_stamps(
    kind: str, name: str, population: str, psf: Psf, bank: Bank
) -> None:
    """Of 500 Sersic sources and 120 pictures over all priors."""
    some = drawn(name, population, 125 if kind == "sersic" else 30)
    source = some.source if kind == "sersic" else as_pictures(some, bank)
    one, two = (
        rendered(source, some.lens, psf=psf, at=(some.x0, some.y0), kernel=kernel)
        for kernel in ("torch", "compiled")
    )
    l2, flux = errors(one.pixels.numpy(), two.pixels.double().numpy())
    assert l2.max() <= 2e-3
    assert flux.max() <= 2e-3
    np.testing.assert_allclose(one.magnification, two.magnification, rtol=2e-3)
    np.testing.assert_allclose(one.inside, two.inside, atol=2e-3)


def traced_picture(row: Row, picture: np.ndarray, *, half_light_px: float, per_px: int) -> Light:
    """Light of a lensed picture, from `per_px`^2 rays a pixel: scipy's bilinear interpolation."""
    field = 80
    axis = (np.arange(field * per_px) - (field * per_px - 1) / 2) * SCALE / per_px
    u, v = traced(row, *np.meshgrid(axis - row.lens_x, axis - row.lens_y))
    du, dv = u - row.src_x, v - row.src_y
    cos, sin = math.cos(row.src_phi), math.sin(row.src_phi)
    px_per_arcsec = half_light_px / row.r_eff
    at = np.stack([cos * dv - sin * du, cos * du + sin * dv]) * px_per_arcsec
    at += (len(picture) - 1) / 2
    light = map_coordinates(np.pad(picture, 1), at + 1, order=1)
    moments = np.zeros((6, *u.shape))  # rays so fine that the moments within a cell do not matter
    moments[0] = light * (px_per_arcsec * SCALE / per_px) ** 2
    return Light(moments, SCALE / per_px, per_px)


@pytest.fixture(scope="module")
def picture_truths(bank: Bank) -> tuple[Drawn, np.ndarray]:
    """Three lensed pictures in the first and the last band."""
    some = drawn("legacy-dr10", "training", 3)
    source, made = as_pictures(some, bank), []
    for i, row in enumerate(some.slow()):
        pictures = bank.pictures[i].double().numpy()
        if bool(source.is_mirrored[i]):
            pictures = pictures[:, :, ::-1]
        for band in (0, 2):
            mixed = np.tensordot(bank.share[i, :, band].double().numpy(), pictures, axes=1)
            light = traced_picture(
                row, mixed, half_light_px=float(bank.half_light_px[i]), per_px=16
            )
            psf = [float(part[0, band]) for part in (THREE_BANDS.alpha, THREE_BANDS.beta)]
            made.append(moffat_pixels(light, 64, *psf))
    return some, np.stack(made).reshape(3, 2, 64, 64)


def test_a_picture_behind_a_lens_is_its_rays_traced_one_by_one(
    kernel: RenderKernel, bank: Bank, picture_truths: tuple[Drawn, np.ndarray]
) -> None:
    some, truths = picture_truths
    source = as_pictures(some, bank)
    got = rendered(source, some.lens, psf=THREE_BANDS, at=(some.x0, some.y0), kernel=kernel)
    l2, flux = errors(got.pixels[:, ::2].numpy(), truths)
    assert l2.max() <= 0.01
    assert flux.max() <= 0.01
