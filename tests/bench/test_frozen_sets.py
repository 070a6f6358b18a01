"""Sets made a block at a time: exact counts, stated weights, the same rows however they are cut."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from frozen_builders import few
from image_finder import images

from darkhaloscope.bench.frozen import hosts, sets
from darkhaloscope.bench.frozen.definition import Definition
from darkhaloscope.bench.frozen.sets import Chunk
from darkhaloscope.bench.truth import Row
from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device

JUDGED = ("test", "val", "calib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("frozen"))


@pytest.fixture(scope="module")
def chunks(folder: Path) -> list[Chunk]:
    return made(few(), folder)


def made(bench: Definition, folder: Path, threads: int = 1, most: int | None = None) -> list[Chunk]:
    device = Device("cpu", threads)
    return list(sets.chunks(bench, "test", folder=folder, device=device, most=most))


def rows_of(bench: Definition, which: str, folder: Path) -> pa.Table:
    blocks = sets.drawn(bench, which, sets.bank_of(bench, folder))
    return pa.concat_tables([some.rows for some in blocks])


def values(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("which", JUDGED)
def test_every_kind_has_exactly_its_number_and_every_galaxy_one_row(
    which: str, folder: Path
) -> None:
    bench = few()
    rows = rows_of(bench, which, folder)
    kinds = Counter(rows["kind"].to_pylist())
    lenses = kinds.pop("lens")
    assert kinds == bench.counts(which)
    assert 0 < lenses < bench.lens_hosts(which)
    for name in ("target_id", "stamp_id"):
        assert len(np.unique(values(rows, name))) == rows.num_rows
    assert set(rows["split"].to_pylist()) == {which}
    assert set(rows["population"].to_pylist()) == {"physical"}


@pytest.mark.parametrize("which", JUDGED)
def test_rows_weigh_what_their_kind_is_on_the_sky(which: str, folder: Path) -> None:
    bench = few()
    rows = rows_of(bench, which, folder)
    kinds, weight = np.array(rows["kind"].to_pylist()), values(rows, "sky_weight")
    is_lens = kinds == "lens"
    assert np.isnan(weight[is_lens]).all()
    shares = {k: s for k, s in bench.stated["sky_shares"].items() if k in bench.counts(which)}
    total, of_all = weight[~is_lens].sum(), sum(shares.values())
    assert total == pytest.approx((~is_lens).sum(), rel=1e-5)  # as many as there are
    for kind in bench.counts(which):
        expected = shares.get(kind, 0.0) / of_all
        assert weight[kinds == kind].sum() / total == pytest.approx(expected, abs=1e-6)


def test_who_plays_what_is_spread_over_the_set(folder: Path) -> None:
    roles = sets._roles(few(), "test")
    place = {kind: np.flatnonzero(roles == kind) for kind in ("control", "ring", "lens")}
    for where in place.values():
        assert where.min() < 40
        assert where.max() > len(roles) - 40


def test_blocks_change_no_row_and_no_fingerprint(folder: Path) -> None:
    whole, cut = few(), few({"chunk": 17})
    assert rows_of(whole, "test", folder).equals(rows_of(cut, "test", folder))
    fingerprints = {sets.fingerprint(bench, "test", folder=folder) for bench in (whole, cut)}
    assert len(fingerprints) == 1


def test_the_fingerprint_is_that_of_any_process(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from frozen_builders import few; from darkhaloscope.bench.frozen import sets\n"
        "print(sets.fingerprint(few(), 'val', folder=Path(sys.argv[2])))"
    )
    tests = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code, str(tests), str(folder / "other")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.strip() == sets.fingerprint(few(), "val", folder=folder)


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": {"seed": 4}},
        {"manifest": {"physical": {"shear_scale": 0.041}}},
        {"manifest": {"shapes": {"ring": {"contrast": {"low": 0.0, "high": 0.81}}}}},
        {"manifest": {"sources": {"bank": {"seed": 9}}}},
        {"hosts": {"seed": 2027}},
        {"family": 6},
        {"sky_shares": {"ring": 0.003}},
        {"sets": {"val": {"lens_hosts": 13}}},
        {"unseen": {"family": "ring"}},
    ],
    ids=str,
)
def test_the_fingerprint_feels_any_change(change: dict[str, object], folder: Path) -> None:
    which = "test" if "unseen" in change else "val"
    before = sets.fingerprint(few(), which, folder=folder)
    assert sets.fingerprint(few(change), which, folder=folder) != before


def test_a_column_that_differs_is_named(folder: Path) -> None:
    def columns(change: dict[str, object]) -> dict[str, str]:
        bench = few(change)
        return sets.fingerprints(sets.drawn(bench, "val", sets.bank_of(bench, folder)))

    then, now = columns({}), columns({"sky_shares": {"ring": 0.003}})
    assert [name for name in then if then[name] != now[name]] == ["sky_weight"]


def test_threads_change_nothing(chunks: list[Chunk], folder: Path) -> None:
    again = made(few(), folder, threads=2)
    for one, other in zip(chunks, again, strict=True):
        assert one.rows.equals(other.rows)
        assert torch.equal(one.raw.pixels, other.raw.pixels)
        assert torch.equal(one.raw.sky_median, other.raw.sky_median)


def test_most_ends_early_with_the_first_rows(chunks: list[Chunk], folder: Path) -> None:
    short = made(few(), folder, most=10)
    assert len(short) == 1
    assert short[0].rows.num_rows >= 10
    assert short[0].rows.equals(chunks[0].rows)


def test_blocks_change_no_pixel(chunks: list[Chunk], folder: Path) -> None:
    other = made(few({"chunk": 17}), folder)
    ours, theirs = (torch.cat([c.raw.pixels for c in some]) for some in (chunks, other))
    peak = ours.amax((2, 3), keepdim=True)
    assert ((ours - theirs).abs() <= 1e-5 * peak).all()


def test_rows_are_scores_without_the_logit(chunks: list[Chunk]) -> None:
    bench, rows = few(), pa.concat_tables([chunk.rows for chunk in chunks])
    expected = [name for name in schemas.scores(bench.bands).names if name != "logit"]
    assert rows.column_names == [*expected, "is_unseen"]
    is_lens = values(rows, "label") == 1
    for name in ("theta_e_over_fwhm_r", "arc_snr_g", "weight_population", "magnification"):
        assert np.isfinite(values(rows, name)[is_lens]).all()
    assert rows.filter(pa.array(is_lens))["ground_visible"].null_count == 0
    # What has no value of its own is 0 in a table of a schema: nothing here may be.
    numbers = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    for name in (*numbers, "source_id", "target_id", "region_id"):
        if not rows[name].null_count:
            assert (values(rows, name) != 0).any(), name
    assert set(rows["set"].to_pylist()) == {"test"}


def test_the_headline_ratio_is_theta_e_over_the_seeing(chunks: list[Chunk]) -> None:
    rows = pa.concat_tables([chunk.rows for chunk in chunks])
    is_lens = values(rows, "label") == 1
    ratio = values(rows, "theta_e_arcsec") / values(rows, "psf_fwhm_r_arcsec")
    np.testing.assert_allclose(
        values(rows, "theta_e_over_fwhm_r")[is_lens], ratio[is_lens], rtol=1e-5
    )
    # Seeing of a Moffat of beta 2.9 from its noise-equivalent width, by the formula.
    nea = np.concatenate([chunk.heads["psf_nea_r_arcsec"].to_numpy() for chunk in chunks])
    beta = 2.9
    alpha = 0.8493 * nea * (beta - 1) / np.sqrt(2 * beta - 1)
    fwhm = 2 * alpha * np.sqrt(2 ** (1 / beta) - 1)
    np.testing.assert_allclose(values(rows, "psf_fwhm_r_arcsec"), fwhm, rtol=1e-3)


def test_a_control_is_its_cutout_alone(chunks: list[Chunk]) -> None:
    bench = few()
    rows = pa.concat_tables([chunk.rows for chunk in chunks])
    pixels = torch.cat([chunk.raw.pixels for chunk in chunks])
    at = np.flatnonzero(np.array(rows["kind"].to_pylist()) == "control")[:4]
    galaxies = sets.describe(bench, "test", values(rows, "target_id")[at])
    cutouts = hosts.cutouts(galaxies, bench.sky(), size_px=80)
    level, _ = hosts.sky_levels(cutouts, 28, 38)
    expected = cutouts[:, :, 8:-8, 8:-8]
    assert ((pixels[at] - expected).abs() <= 1e-5 * expected.amax((2, 3), keepdim=True)).all()
    said = torch.cat([chunk.raw.sky_median for chunk in chunks])[at]
    assert torch.allclose(said, level, atol=1e-6)


def _as_lens(row: dict[str, float]) -> Row:
    return Row(
        theta_e=row["theta_e_arcsec"], q=row["lens_q"], phi=np.radians(row["lens_phi_deg"]),
        shear=row["shear"], shear_phi=np.radians(row["shear_phi_deg"]),
        src_x=row["src_x_arcsec"], src_y=row["src_y_arcsec"],
        r_eff=row["src_r_eff_arcsec"], n=1.0, src_q=1.0, src_phi=0.0,
    )  # fmt: skip


def test_lenses_and_only_they_have_several_images(folder: Path) -> None:
    """By an image finder that knows no caustic."""
    rows = rows_of(few(), "test", folder).to_pylist()
    numbers = {
        kind: [len(images(_as_lens(row))) for row in rows if row["kind"] == kind]
        for kind in ("lens", "single_image")
    }
    assert len(numbers["lens"]) >= 5
    assert min(numbers["lens"]) >= 2
    assert set(numbers["single_image"]) == {1}


def test_the_weight_of_a_lens_undoes_the_flat_draw(folder: Path) -> None:
    bench = few({"sets": {"test": {"lens_hosts": 2000, "counts": {"control": 2}}}, "chunk": 2100})
    rows = rows_of(bench, "test", folder)
    is_lens = values(rows, "label") == 1
    weight, theta_e = (values(rows, n)[is_lens] for n in ("weight_population", "theta_e_arcsec"))
    assert np.isnan(values(rows, "weight_population")[~is_lens]).all()
    assert weight.min() >= bench.stated["manifest"]["physical"]["keep_weight"] * (1 - 1e-6)
    # Large ones are there in numbers, and are rare in the population.
    assert (theta_e > 2).mean() > 0.1
    assert weight[theta_e > 2].sum() / weight.sum() < 0.5 * (theta_e > 2).mean()
