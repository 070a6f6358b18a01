import numpy as np
import pytest

from darkhaloscope.evaluate import purity
from darkhaloscope.evaluate.rates import DRAWN, rate, unresolved
from darkhaloscope.evaluate.rows import rows

HALF = rate(1e-3, 0.5, (0.4, 0.6), (50, 100), 2.0, "measured", DRAWN)


def table(**changed: object) -> list[dict[str, object]]:
    values = {"population": "all", "prevalences": (1e-3,), "targets_per_deg2": 100.0}
    return purity.purity_table([HALF], **{**values, **changed})


def test_purity_is_bayes_rule() -> None:
    (entry,) = table()
    assert entry["value"] == pytest.approx(1e-3 * 0.5 / (1e-3 * 0.5 + 0.999 * 1e-3))
    assert entry["inspected_per_lens"] == pytest.approx(1 / entry["value"])
    assert entry["low"] < entry["value"] < entry["high"]


def test_false_positives_per_square_degree_need_an_area() -> None:
    assert table()[0]["false_positives_per_deg2"] == pytest.approx(100 * 0.999 * 1e-3)
    assert table(targets_per_deg2=None)[0]["false_positives_per_deg2"] is None


def test_what_cannot_be_resolved_has_no_purity() -> None:
    nothing = unresolved(1e-5, 10, DRAWN, "no")
    assert (
        purity.purity_table([nothing], population="all", prevalences=(1e-3,), targets_per_deg2=None)
        == []
    )


def test_where_no_lens_is_kept_no_number_of_stamps_finds_one() -> None:
    none = rate(1e-3, 0.0, (0.0, 0.1), (0, 100), float("nan"), "measured", DRAWN)
    (entry,) = purity.purity_table(
        [none], population="all", prevalences=(1e-3,), targets_per_deg2=None
    )
    assert (entry["value"], entry["inspected_per_lens"]) == (0.0, None)


def test_the_floor_is_prevalence_times_completeness() -> None:
    (entry,) = purity.contamination_floor([HALF], population="all", prevalences=(1.3e-4,))
    assert entry["value"] == pytest.approx(6.5e-5)


def test_density_counts_each_galaxy_once() -> None:
    made = rows(
        score=np.arange(4.0),
        is_lens=np.array([0, 0, 0, 1], bool),
        galaxy=np.array([1, 1, 2, 3]),
        area_deg2=np.array([0.01, 0.01, 0.03, np.nan]),
    )
    assert purity.targets_per_deg2(made) == pytest.approx(50)
