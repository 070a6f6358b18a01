import numpy as np
import pytest

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import strata
from darkhaloscope.evaluate.rows import Rows, rows

THETA = np.array([0.3, 0.5, 1.0, 3.0, np.nan, np.nan])


def table() -> Rows:
    is_lens = np.array([1, 1, 1, 1, 1, 0], bool)
    columns = {"theta": THETA, "snr": np.array([30.0, 20.0, 40.0, 25.0, 90.0, np.nan])}
    return rows(score=np.arange(6.0), is_lens=is_lens, columns=columns)


def test_every_lens_is_in_exactly_one_bin() -> None:
    made = strata.bins(table(), "theta", (0.5, 1.0, 2.0))
    inside = np.sum([s.chosen[:5] for s in made], axis=0)
    assert inside.tolist() == [1] * 5
    assert [s.name for s in made] == [
        "theta:-inf-0.5",
        "theta:0.5-1.0",
        "theta:1.0-2.0",
        "theta:2.0-inf",
        "theta:unknown",
    ]


def test_the_lower_edge_belongs_to_a_bin() -> None:
    made = {s.name: s.chosen for s in strata.bins(table(), "theta", (0.5, 1.0))}
    assert made["theta:0.5-1.0"].nonzero()[0].tolist() == [1]


def test_the_headline_needs_every_minimum_and_null_reaches_none() -> None:
    headline = strata.at_least(table(), {"theta": 1.0, "snr": 25.0})
    assert headline.chosen.nonzero()[0].tolist() == [2, 3]
    assert headline.meaning == "theta >= 1 and snr >= 25"


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no column colour .* has: snr, theta"):
        strata.bins(table(), "colour", (1.0,))
