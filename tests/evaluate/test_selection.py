"""The selection function as others read it."""

import json
from pathlib import Path

import numpy as np
import pytest
from selection_tables import model, scored, written

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.selection import SelectionFunction

AT = {"theta_e": 1.5, "src_mag": 22.8, "psf_fwhm": 1.0, "depth": 24.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage writes for 1,500 lenses of which wide and bright ones are found."""
    return written(tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def function(folder: Path) -> SelectionFunction:
    return SelectionFunction.load(folder)


def changed(folder: Path, into: Path, **values: object) -> Path:
    content = json.loads((folder / "selection.json").read_text())
    into.write_text(json.dumps({**content, **values}))
    return into


def test_the_folder_and_its_file_are_the_same_function(
    folder: Path, function: SelectionFunction
) -> None:
    again = SelectionFunction.load(folder / "selection.json")
    assert again(**AT) == function(**AT)
    assert (
        function.threshold
        == json.loads((folder / "selection.json").read_text())["threshold"]["value"]
    )


def test_the_file_gives_the_completeness_that_was_put_in(function: SelectionFunction) -> None:
    theta_e = np.linspace(0.6, 2.6, 9)
    found = function(**{**AT, "theta_e": theta_e})
    low, high = function.interval(**{**AT, "theta_e": theta_e})
    assert ((low < found) & (found < high)).all()
    assert (np.diff(found) >= 0).all()
    assert found[0] < 0.2
    assert 0.7 < found[-1] < 0.94  # of the targets 94 % have a usable cutout
    assert (low > 0).all()
    assert (high < 1).all()


def test_arguments_are_broadcast(function: SelectionFunction) -> None:
    theta_e, mag = np.linspace(0.8, 2.0, 4)[:, None], np.array([22.4, 23.2, 23.8])
    found = function(**{**AT, "theta_e": theta_e, "src_mag": mag})
    assert found.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            one = function(**{**AT, "theta_e": theta_e[i, 0], "src_mag": mag[j]})
            assert one.shape == ()
            assert found[i, j] == pytest.approx(float(one))


@pytest.mark.parametrize(
    "outside",
    [
        {"theta_e": 9.0},
        {"src_mag": 18.0},
        {"psf_fwhm": 2.0},
        {"depth": 26.0},
        {"theta_e": np.nan},
        {"theta_e": 0.31, "psf_fwhm": 1.39},  # each within its range, their ratio is not
        {"theta_e": 0.0, "psf_fwhm": 0.0},
    ],
)
def test_nothing_is_extrapolated(function: SelectionFunction, outside: dict[str, float]) -> None:
    assert np.isnan(function(**{**AT, **outside}))
    assert np.isnan(function.interval(**{**AT, **outside})).all()
    mixed = function(**{**AT, "theta_e": np.array([1.5, 99.0])})
    assert np.isfinite(mixed).tolist() == [True, False]


def test_a_function_is_tied_to_its_model(folder: Path, tmp_path: Path) -> None:
    same, other = model(tmp_path / "same"), model(tmp_path / "other", b"other weights")
    assert SelectionFunction.load(folder, model=same.folder)
    with pytest.raises(DataError, match=r"is of another model: its model\.safetensors has"):
        SelectionFunction.load(folder, model=other.folder)
    with pytest.raises(DataError, match="cannot be read"):
        SelectionFunction.load(folder, model=tmp_path / "nowhere")


def test_what_is_no_selection_function_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a selection function"):
        SelectionFunction.load(tmp_path)
    text = tmp_path / "text.json"
    text.write_text("{")
    with pytest.raises(DataError, match="cannot be read as a selection function"):
        SelectionFunction.load(text)
    text.write_text("[1, 2]")
    with pytest.raises(DataError, match="holds no selection function"):
        SelectionFunction.load(text)
    with pytest.raises(DataError, match="has format 2; this version reads format 1"):
        SelectionFunction.load(changed(folder, tmp_path / "two.json", format=2))
    content = json.loads((folder / "selection.json").read_text())
    fit = {**content["fit"]}
    fit["factors"] = {**fit["factors"], "score": {**fit["factors"]["score"], "coefficients": [1.0]}}
    with pytest.raises(DataError, match="is damaged"):
        SelectionFunction.load(changed(folder, tmp_path / "damaged.json", fit=fit))
    fit = {name: value for name, value in content["fit"].items() if name != "range"}
    with pytest.raises(DataError, match="is damaged: KeyError"):
        SelectionFunction.load(changed(folder, tmp_path / "short.json", fit=fit))


def test_without_a_fit_the_function_says_why(tmp_path: Path) -> None:
    few = written(tmp_path, scored(40, 2500))
    function = SelectionFunction.load(few)
    with pytest.raises(DataError, match=r"20 of each are needed; its cells are in"):
        function(**AT)
