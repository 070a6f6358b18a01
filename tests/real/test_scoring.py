"""`dhs score` on real cutouts of the Legacy Surveys, with a network trained for seconds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from run_builders import dhs

from darkhaloscope import scoring
from darkhaloscope.bench.training_set import training_set
from darkhaloscope.core.contracts import Device
from darkhaloscope.ml import fit, saved
from darkhaloscope.ml.batches import Batch
from darkhaloscope.survey import foreign, measure, stamping
from darkhaloscope.survey.images import ImageError

pytestmark = pytest.mark.real

VIEWER, PIECE = "decals-grz-fits", "dr9-coadd-cutout"


@dataclass(frozen=True)
class Held:
    """Batches in memory."""

    made: Sequence[Batch]
    makers: int = 0

    @property
    def steps(self) -> int:
        return len(self.made)

    def batches(self, _epoch: int) -> Iterator[Batch]:
        return iter(self.made)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset's small network after four steps on sixteen galaxies."""
    folder, made = tmp_path_factory.mktemp("model"), training_set(16, steps=4, device=Device())
    found = fit.fit(
        made.untrained(),
        made.source,
        Held(made.validation),
        recipe=made.recipe,
        scratch=folder / "scratch",
        device=Device(),
    )
    about = saved.Description(
        network=made.network,
        bands=made.bands,
        pixel_scale_arcsec=0.262,
        size_px=made.source.plan.size_px,
        normalisation=made.source.normalise,
        training_digest="seconds",
        epoch=found.chosen.epoch,
        metrics={},
    )
    saved.save(folder, about, found.best, found.last)
    return folder


def test_real_cutouts_that_fit_are_scored_and_the_others_say_why_not(
    model: Path, shared_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    ran = dhs("score", model, shared_data / VIEWER, shared_data / PIECE, "--out", out)
    assert ran.returncode == 0, ran.stderr
    rows = {Path(row["file"]).name: row for row in pq.read_table(out).to_pylist()}
    assert len(rows) == 14
    scored = {name for name, row in rows.items() if row["logit"] is not None}
    assert scored == {"temp_small_d331021.fits.gz", "cutout_59.1067_-30.4848.fits"}
    for name in scored:
        assert np.isfinite(rows[name]["logit"])
        assert rows[name]["sky_from"] == "annulus"
    scale = [row["refused"] for name, row in rows.items() if name.startswith(("example", "ls_"))]
    assert len(scale) == 11
    assert all('"/px, not 0.262"/px' in reason for reason in scale)
    assert "no unit of flux" in rows["copsf_59.1067_-30.4848.fits"]["refused"]


def test_the_real_pieces_logit_is_that_of_its_own_pixels(model: Path, shared_data: Path) -> None:
    path = shared_data / PIECE / "cutout_59.1067_-30.4848.fits"
    (row,) = scoring.score(model, [path], scoring.Asked()).to_pylist()
    with fits.open(path) as units:
        whole = np.stack([units[n].data for n in (1, 3, 5)]).astype(np.float32)
    pixels = whole[:, 88:168, 88:168]
    ring = measure.annulus(80, 28, 38)
    sky = np.median(pixels[:, ring], axis=1)
    expected = saved.load(model).logits(
        torch.from_numpy(pixels[None].copy()), torch.from_numpy(sky[None])
    )
    assert row["logit"] == pytest.approx(float(expected[0]), abs=1e-4)
    assert row["sky_median_g_nmgy"] == pytest.approx(sky[0])
    assert abs(sky).max() < 1e-3  # nmgy: the coadd's sky is subtracted
    assert row["ra_deg"] == pytest.approx(59.1067, abs=2e-4)
    assert row["dec_deg"] == pytest.approx(-30.4848, abs=2e-4)


def test_a_real_cutout_that_lost_its_galaxy_in_two_bands_is_refused(shared_data: Path) -> None:
    found = foreign.read(
        shared_data / VIEWER / "example_bad_pix_09782dd.fits.gz", ("g", "r", "z"), foreign.Stated()
    )
    assert np.isfinite(found.pixels).all()
    with pytest.raises(ImageError, match="100% of the pixels of plane 0 are exactly zero"):
        stamping.stamp_of(found, 64, (28, 38), None)
