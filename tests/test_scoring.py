"""`dhs score`: files that fit are scored, the others refused with their reason."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from ml_builders import BANDS, SCALE_ARCSEC, noise, saved_model
from run_builders import dhs

from darkhaloscope import scoring
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.ml import exported, saved
from darkhaloscope.scoring import Asked
from darkhaloscope.survey.foreign import Stated

RINGS = (14.0, 19.0)
ASKED = Asked(annulus_px=RINGS)
INPUTS = ("psf_nea_g_arcsec", "depth_r_mag")


def written(path: Path, values: np.ndarray, **cards: object) -> Path:
    """A cube as the viewer writes it, of `BANDS`."""
    middle = (values.shape[-1] + 1) / 2
    unit = fits.PrimaryHDU(values)
    unit.header.update(
        {
            "SURVEY": "DECaLS", "BANDS": "gr", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
            "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": middle, "CRPIX2": middle,
            "CD1_1": -SCALE_ARCSEC / 3600, "CD2_2": SCALE_ARCSEC / 3600, **cards,
        }
    )  # fmt: skip
    unit.writeto(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> SimpleNamespace:
    """A model of 16 px stamps, and cutouts: three that fit it, three that do not."""
    values = noise(6, 40) + np.float32(0.004)
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for row, name in enumerate(("a", "b", "c")):
        values[row, :, 18:22, 18:22] += 0.05 * (row + 1)
        written(folder / f"{name}.fits", values[row])
    written(folder / "scale.fits", values[3], CD1_1=-1e-4, CD2_2=1e-4)
    written(folder / "band.fits", values[4], BANDS="gz")
    values[5, 0, 20, 20] = np.nan
    written(folder / "nan.fits", values[5])
    return SimpleNamespace(
        model=saved_model(tmp_path / "model"), folder=folder, pixels=values, out=tmp_path
    )


def test_logits_are_those_of_the_network_on_the_files_pixels(files: SimpleNamespace) -> None:
    table = scoring.score(files.model, [files.folder], ASKED)
    rows = {Path(row["file"]).stem: row for row in table.to_pylist()}
    assert list(rows) == ["a", "b", "band", "c", "nan", "scale"]
    away = np.hypot(*(np.indices((40, 40)) - 19.5))
    ring = (away >= 14) & (away <= 19)
    sky = np.median(files.pixels[:3][:, :, ring], axis=2)
    expected = saved.load(files.model).logits(
        torch.from_numpy(files.pixels[:3].copy()), torch.from_numpy(sky)
    )
    for row, name in enumerate(("a", "b", "c")):
        assert rows[name]["logit"] == pytest.approx(float(expected[row]), abs=1e-5)
        assert rows[name]["sky_median_r_nmgy"] == pytest.approx(sky[row, 1])
        assert (rows[name]["ra_deg"], rows[name]["sky_from"]) == (150.0, "annulus")
        assert rows[name]["refused"] is None
    assert '0.36"/px, not 0.262"/px' in rows["scale"]["refused"]
    assert rows["band"]["refused"] == "no band r; it has g z"
    assert "not finite" in rows["nan"]["refused"]
    assert rows["nan"]["logit"] is None
    assert table.schema.metadata[b"training_digest"] == b"abc"


def test_a_stated_sky_is_used(files: SimpleNamespace) -> None:
    asked = Asked(annulus_px=RINGS, sky_median=(0.004, 0.001))
    (row,) = scoring.score(files.model, [files.folder / "a.fits"], asked).to_pylist()
    expected = saved.load(files.model).logits(
        torch.from_numpy(files.pixels[:1].copy()), torch.tensor([[0.004, 0.001]])
    )
    assert row["logit"] == pytest.approx(float(expected[0]), abs=1e-5)
    assert row["sky_from"] == "stated"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_other_runtimes_give_the_same_logits(files: SimpleNamespace, runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed: an extra of its own")
    before = sorted(p.name for p in files.model.iterdir())
    expected = scoring.score(files.model, [files.folder], ASKED)["logit"].to_pylist()
    asked = Asked(annulus_px=RINGS, runtime=runtime)  # type: ignore[arg-type]
    found = scoring.score(files.model, [files.folder], asked)["logit"].to_pylist()
    assert found == pytest.approx(expected, abs=1e-4)
    assert sorted(p.name for p in files.model.iterdir()) == before  # a published folder


def test_the_folders_own_exported_file_is_used_and_anothers_is_not(
    files: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra `serve`")
    exported.export(files.model, files.model / exported.FILE)
    made: list[Path] = []
    export = exported.export
    monkeypatch.setattr(exported, "export", lambda *a: (made.append(a[1]), export(*a)))
    asked = Asked(annulus_px=RINGS, runtime="onnxruntime")
    scoring.score(files.model, [files.folder], asked)
    assert made == []
    weights = saved.load(files.model)
    changed = {k: 2 * v.contiguous() for k, v in weights.network.state_dict().items()}
    saved.save(files.model, weights.description, changed, changed)
    scoring.score(files.model, [files.folder], asked)
    assert len(made) == 1


def test_numbers_beside_the_pixels_come_from_headers_or_options(tmp_path: Path) -> None:
    model = saved_model(tmp_path / "model", inputs=INPUTS)
    values = noise(2, 40)
    said = written(tmp_path / "said.fits", values[0], PSFSIZE0=1.5)
    silent = written(tmp_path / "silent.fits", values[1])
    asked = Asked(annulus_px=RINGS, inputs={"depth_r_mag": 23.5}, sky_median=(0.0, 0.0))
    first, second = scoring.score(model, [said, silent], asked).to_pylist()
    expected = saved.load(model).logits(
        torch.from_numpy(values[:1].copy()), torch.zeros(1, 2), torch.tensor([[1.5, 23.5]])
    )
    assert first["logit"] == pytest.approx(float(expected[0]), abs=1e-5)
    assert second["refused"] == (
        "the network is told psf_nea_g_arcsec, which its header does not have; state "
        "--input psf_nea_g_arcsec=VALUE"
    )
    with pytest.raises(ConfigError, match="--input seeing: the network is told psf_nea_g_arcsec"):
        scoring.score(model, [said], Asked(inputs={"seeing": 1.0}))


def test_options_that_do_not_fit_are_named_together(files: SimpleNamespace) -> None:
    asked = Asked(annulus_px=(9.0, 3.0), sky_median=(0.0,), inputs={"psf": 1.0})
    with pytest.raises(ConfigError) as caught:
        scoring.score(files.model, [files.folder], asked)
    for said in ("--sky-annulus 9,3", "--sky-median has 1 values", "--input psf"):
        assert said in str(caught.value)


def test_paths_that_are_not_there_stop_it_before_anything_is_scored(
    files: SimpleNamespace,
) -> None:
    empty = files.out / "empty"
    empty.mkdir()
    with pytest.raises(DataError) as caught:
        scoring.score(files.model, [files.folder, files.out / "no.fits", empty], ASKED)
    assert f"{files.out / 'no.fits'} is not there" in str(caught.value)
    assert f"{empty} holds no .fits" in str(caught.value)


def test_many_files_are_scored_in_parts_alike(
    files: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scoring.score(files.model, [files.folder], ASKED)
    monkeypatch.setattr(scoring, "BATCH_FILES", 2)
    parts = scoring.score(files.model, [files.folder], ASKED)
    assert parts.drop_columns("logit") == whole.drop_columns("logit")
    assert parts["logit"].to_pylist() == pytest.approx(whole["logit"].to_pylist(), abs=1e-5)


@pytest.mark.parametrize("suffix", scoring.SUFFIXES)
def test_the_table_is_written_as_its_name_says(files: SimpleNamespace, suffix: str) -> None:
    table = scoring.score(files.model, [files.folder], ASKED)
    path = files.out / f"scores{suffix}"
    scoring.write(table, path)
    if suffix == ".parquet":
        assert pq.read_table(path) == table
        return
    found = Table.read(path, format="ascii.ecsv" if suffix == ".ecsv" else "ascii.csv")
    assert found["file"].tolist() == table["file"].to_pylist()
    assert found["logit"].tolist() == pytest.approx(table["logit"].to_pylist())
    with pytest.raises(ConfigError, match="the suffix says the format"):
        scoring.write(table, files.out / "scores.txt")


def test_the_command_prints_what_was_scored_and_what_was_refused(files: SimpleNamespace) -> None:
    out = files.out / "scores.parquet"
    ran = dhs("score", files.model, files.folder, "--sky-annulus", "14,19", "--out", out)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "6 files: 3 scored, 3 refused"
    assert "sky median of 3: measured in the annulus, as in training" in lines
    assert "  no band r; it has g z" in lines
    logits = [float(line.split()[0]) for line in lines[2:5]]
    assert logits == sorted(logits, reverse=True)
    table = pq.read_table(out)
    assert logits == pytest.approx(sorted(table["logit"].drop_null().to_pylist())[::-1], abs=1e-3)


def test_where_nothing_fits_the_command_ends_with_status_2(files: SimpleNamespace) -> None:
    picture = files.out / "a.png"
    picture.write_bytes(b"x")
    ran = dhs("score", files.model, picture, files.folder / "nan.fits")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("dhs: none of 2 files could be scored:\n")
    assert "a picture holds 8-bit brightness after a stretch, no fluxes" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sky-annulus", "3"], "--sky-annulus wants 2 numbers"),
        (["--sky-median", "a,b"], "--sky-median wants numbers"),
        (["--input", "depth_r_mag"], "--input wants NAME=VALUE"),
        (["--out", "scores.txt"], "the suffix says the format"),
    ],
)
def test_options_that_cannot_be_read_are_refused(
    files: SimpleNamespace, words: list[str], said: str
) -> None:
    ran = dhs("score", files.model, files.folder, *words)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_an_array_is_scored_with_what_is_stated(files: SimpleNamespace) -> None:
    np.save(files.out / "a.npy", files.pixels[0] * 10)
    stated = Stated(BANDS, SCALE_ARCSEC, 25.0)
    asked = Asked(annulus_px=RINGS, stated=stated)
    (row,) = scoring.score(files.model, [files.out / "a.npy"], asked).to_pylist()
    (same,) = scoring.score(files.model, [files.folder / "a.fits"], ASKED).to_pylist()
    assert row["logit"] == pytest.approx(same["logit"], abs=1e-4)
    assert row["ra_deg"] is None
