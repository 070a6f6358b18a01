import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from evaluate_builders import scores

from darkhaloscope.evaluate import metrics, plots
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Plan
from darkhaloscope.evaluate.rows import Rows, from_scores, rows

COLUMNS = ("theta_e_arcsec", "arc_snr_g")
PLAN = Plan(Draws(1, 200), "sim", "x", (1e-3,), {"theta_e_arcsec": (0.5, 1.5)}, {"arc_snr_g": 25.0})


def table() -> Rows:
    return from_scores(scores(60, 500), weight=None, columns=COLUMNS)


def drawn(made: Rows) -> dict[str, str]:
    result = metrics.evaluate(made, PLAN)
    figures = metrics.finite(result.metrics)
    fpr = plots.best_fpr(result.curve)
    return {
        "roc": plots.roc(result),
        "scores": plots.score_distributions(made),
        "completeness": plots.completeness(figures, {"theta_e_arcsec": "theta_E"}, fpr),
    }


def test_plots_are_svg_whose_colours_are_the_pages() -> None:
    for name, text in drawn(table()).items():
        wide, narrow = ET.fromstring(f"<p>{text}</p>")  # noqa: S314  (our own text)
        assert wide.tag.endswith("svg"), name
        assert float(wide.get("width", "")[:-2]) > float(narrow.get("width", "")[:-2]), name
        assert "var(--ink)" in text
        assert "#0102" not in text


def test_the_same_scores_draw_the_same_bytes() -> None:
    assert drawn(table()) == drawn(table())


def test_thresholds_of_the_calibration_set_are_marked_on_the_curve() -> None:
    calib = from_scores(scores(50, 450, of="calib"), weight=None, columns=COLUMNS)
    marked = plots.roc(metrics.evaluate(table(), PLAN, calib=calib))
    assert "threshold of calib" in marked
    assert "threshold of calib" not in drawn(table())["roc"]


def test_no_two_plots_of_a_page_share_an_id() -> None:
    ids = [
        i for text in drawn(table()).values() for i in re.findall(r'clipPath id="([^"]+)"', text)
    ]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("score", [np.zeros(60), np.r_[np.inf, -np.inf, np.arange(58.0)]])
def test_constant_and_infinite_scores_can_be_drawn(score: np.ndarray) -> None:
    columns = {c: np.full(60, 30.0) for c in COLUMNS}
    made = drawn(rows(score=score, is_lens=np.arange(60) % 2 == 0, columns=columns))
    assert all("<path" in text for text in made.values())


def test_the_least_fpr_that_can_be_bounded_is_that_of_the_number_of_negatives() -> None:
    made = rows(score=np.arange(36890.0), is_lens=np.arange(36890) >= 36888,
                columns={c: np.full(36890, 30.0) for c in COLUMNS})  # fmt: skip
    curve = metrics.evaluate(made, PLAN).curve
    assert plots.smallest_fpr(curve) == pytest.approx(1e-4, rel=1e-3)
    assert plots.best_fpr(curve) == 1e-3
