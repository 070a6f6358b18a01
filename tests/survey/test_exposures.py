"""The gain of a coadd: against a coadd that is made here of exposures of different depth."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkhaloscope.survey import exposures
from darkhaloscope.survey.images import ImageError

READ_NOISE = exposures.READ_NOISE_ELECTRONS


def ccds(
    electrons: np.ndarray, sky_nmgy: np.ndarray, gain: float = 4.0, exptime: float = 90.0
) -> dict[str, np.ndarray]:
    """Columns of a table of CCDs whose sky and read noise are known."""
    sigma = np.sqrt(electrons * sky_nmgy + READ_NOISE**2) / electrons
    zero_point = 22.5 + 2.5 * np.log10(electrons / gain / exptime)
    counts_per_s = sky_nmgy * electrons / gain / exptime
    return {
        "filter": np.full(len(electrons), "g", "S1"),
        "sig1": sigma.astype(np.float32),
        "ccdskycounts": counts_per_s.astype(np.float32),
        "ccdzpt": zero_point.astype(np.float32),
    }


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    array = np.rec.fromarrays(list(columns.values()), names=list(columns))
    fits.BinTableHDU(array).writeto(path)
    return path


def test_photon_transfer_gives_back_the_electrons_of_an_exposure() -> None:
    electrons, sky = np.array([2000.0, 3500.0, 9000.0]), np.array([0.1, 0.3, 2.0])
    made = ccds(electrons, sky)
    got = exposures.electrons_per_nmgy(made["sig1"], made["ccdskycounts"], made["ccdzpt"])
    np.testing.assert_allclose(got, electrons, rtol=1e-4)


def test_the_gain_of_a_coadd_is_that_of_its_own_photon_noise(tmp_path: Path) -> None:
    electrons = np.array([1500.0, 3500.0, 9000.0, 4000.0])
    sky = np.array([0.25, 0.1, 0.14, 0.12])
    made = ccds(electrons, sky)
    table = write(tmp_path / "ccds.fits", made)
    weight = 1 / made["sig1"].astype(float) ** 2
    gain = exposures.electrons_per_invvar(table, "g") * weight.sum()

    rng, light = np.random.default_rng(3), 0.8  # nmgy
    photons = rng.poisson(light * electrons, (200_000, 4)) / electrons
    coadd = (photons * weight).sum(1) / weight.sum()
    assert light / coadd.var() == pytest.approx(gain, rel=0.01)
    assert gain == pytest.approx(electrons.sum(), rel=0.05)  # nearly all photons count
    # what the number of exposures would have said of a pixel that only the deepest covers
    alone = exposures.electrons_per_invvar(table, "g") * weight[2]
    assert alone == pytest.approx(electrons[2], rel=0.15)


def test_other_bands_and_sick_rows_do_not_count(tmp_path: Path) -> None:
    made = ccds(np.array([3000.0, 3000.0, 500.0, 10.0]), np.full(4, 0.2))
    made["filter"][2] = b"r"
    made["sig1"][3] = 0.0
    both = exposures.electrons_per_invvar(write(tmp_path / "a.fits", made), "g")
    first = {name: values[:1] for name, values in made.items()}
    assert both == pytest.approx(
        exposures.electrons_per_invvar(write(tmp_path / "b.fits", first), "g"), rel=1e-6
    )
    assert np.isnan(exposures.electrons_per_invvar(tmp_path / "a.fits", "z"))


def test_a_table_that_lacks_a_column_gives_no_gain(tmp_path: Path) -> None:
    made = ccds(np.array([3000.0]), np.array([0.2]))
    del made["ccdskycounts"]
    assert np.isnan(exposures.electrons_per_invvar(write(tmp_path / "a.fits", made), "g"))


def test_a_file_without_a_table_is_a_fault(tmp_path: Path) -> None:
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(ImageError, match="no table"):
        exposures.electrons_per_invvar(tmp_path / "a.fits", "g")


@pytest.mark.real
def test_real_exposures_have_the_gain_of_their_camera(shared_data: Path) -> None:
    folder = shared_data / "decam-single-exposures"
    per_count, per_nmgy = [], []
    for path in folder.glob("testcase*/survey-ccds*.fits*"):
        with fits.open(path) as units:
            rows = next(u.data for u in units[1:] if "sig1" in u.columns.names)
        electrons = exposures.electrons_per_nmgy(rows["sig1"], rows["ccdskycounts"], rows["ccdzpt"])
        counts = rows["exptime"] * 10 ** (0.4 * (rows["ccdzpt"] - 22.5))
        per_count += (electrons / counts).tolist()
        per_nmgy += electrons.tolist()
    assert len(per_count) == 17
    assert np.mean(per_count) == pytest.approx(4.0, rel=0.05)  # DECam: 4 electrons a count
    assert np.ptp(per_count) < 0.6
    assert max(per_nmgy) / min(per_nmgy) > 4  # one figure for all exposures cannot be right
