"""Weighted quantiles and sizes of what was drawn, against counting and closed forms."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkhaloscope.evaluate import drawn, plots, published


@given(
    values=st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    weights=st.lists(st.integers(1, 5), min_size=30, max_size=30),
    share=st.sampled_from([0.0, 0.16, 0.5, 0.84, 1.0]),
)
def test_a_weight_is_a_number_of_copies(
    values: list[int], weights: list[int], share: float
) -> None:
    value, weight = np.array(values, np.float64), np.array(weights[: len(values)], np.float64)
    copies = np.repeat(value, weight.astype(int))
    expected = np.quantile(copies, share, method="inverted_cdf")
    assert drawn.quantiles(value, weight, (share,)) == [expected]


def test_rows_without_a_value_or_a_weight_count_for_nothing() -> None:
    values, weight = np.array([1.0, np.nan, 9.0, 2.0]), np.array([1.0, 5.0, 0.0, 1.0])
    assert drawn.quantiles(values, weight, (0.5, 1.0)) == [1.0, 2.0]
    assert np.isnan(drawn.quantiles(values[:0], weight[:0], (0.5,))[0])


def test_few_heavy_rows_are_worth_few() -> None:
    assert drawn.effective_size(np.ones(50)) == pytest.approx(50)
    assert drawn.effective_size(np.array([100.0] + [1e-3] * 99)) == pytest.approx(1, abs=0.01)
    assert drawn.effective_size(np.zeros(3)) == 0


def test_a_row_says_what_share_of_the_weight_can_be_seen() -> None:
    columns = {"theta_e_arcsec": np.array([0.6, 0.8, 2.0])}
    row = drawn.summary(
        "x", columns, weight=np.array([6.0, 2.0, 2.0]), visible=np.array([0.0, 1.0, 1.0])
    )
    assert (row["n"], row["is_weighted"]) == (3, True)
    assert row["visible_share"] == pytest.approx(0.4)
    assert row["effective_n"] == pytest.approx(100 / 44)
    assert row["spreads"]["theta_e_arcsec"] == {"low": 0.6, "median": 0.6, "high": 2.0}
    assert np.isnan(row["spreads"]["src_z"]["median"])


def test_visibility_that_was_not_measured_is_no_share() -> None:
    columns = {"theta_e_arcsec": np.array([0.6, 0.8])}
    row = drawn.summary("x", columns, weight=None, visible=np.full(2, np.nan))
    assert row["visible_share"] is None
    row = drawn.summary("x", columns, weight=None, visible=np.array([np.nan, 1.0]))
    assert row["visible_share"] == 1


def test_weights_with_a_gap_are_no_weights() -> None:
    assert drawn.usable_weight(np.array([1.0, np.nan])) is None
    assert drawn.usable_weight(np.zeros(0)) is None
    assert drawn.usable_weight(np.ones(2)) is not None


@pytest.mark.parametrize("n", [0, 1, 400])
def test_the_plot_holds_the_published_samples_whatever_was_drawn(n: int) -> None:
    rng = np.random.default_rng(0)
    columns = {"theta_e_arcsec": 0.5 + rng.exponential(0.5, n), "src_z": np.full(n, np.nan)}
    labels = {"theta_e_arcsec": "theta_E", "src_z": "z"}
    text = plots.drawn(columns, np.ones(n), labels, published.SAMPLES)
    for sample in published.SAMPLES:
        assert re.search(re.escape(sample.name), text)
    assert "#0102" not in text


@pytest.mark.parametrize("sample", published.SAMPLES, ids=lambda s: s.name)
def test_published_ranges_are_ranges_of_quantities_that_are_shown(sample: published.Sample) -> None:
    for name, spread in sample.spreads.items():
        assert name in drawn.QUANTITIES
        assert spread.n > 0
        assert spread.low < spread.median < spread.high
