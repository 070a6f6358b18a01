"""What rounds of mining changed, with intervals that know that all rounds saw the same galaxies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from darkhaloscope.core import schemas
from darkhaloscope.evaluate import mining, mining_section

BANDS = ("g", "r", "z")
N_LENSES, N_NEGATIVES = 600, 6000


@dataclass(frozen=True)
class Asked:
    completeness: tuple[float, ...] = (0.5, 0.7)
    least_gain: float = 0.1
    lens_weight: str = "equal"
    seed: int = 1
    interval_draws: int = 200


def scores(shifts: list[float], *, seed: int = 1, n_negatives: int = N_NEGATIVES) -> pa.Table:
    """Rounds of one set: negatives of round k score lower by `shifts[k]`, with the same noise."""
    r = np.random.default_rng(seed)
    n = N_LENSES + n_negatives
    is_lens = np.arange(n) < N_LENSES
    noise = np.where(is_lens, r.normal(3, 1.5, n), r.normal(-1, 1.5, n))
    is_ring = ~is_lens & (np.arange(n) % 20 == 0)
    tables = []
    for k, shift in enumerate(shifts):
        own = r.normal(0, 0.3, n)
        logit = noise + own - np.where(is_lens, 0, shift) + np.where(is_ring, 1.5, 0)
        order = r.permutation(n)
        table = pa.table(
            {
                "stamp_id": np.arange(n),
                "target_id": np.arange(n),
                "kind": np.where(is_lens, "lens", np.where(is_ring, "ring", "control")),
                "label": is_lens.astype(np.int8),
                "sky_weight": np.where(is_ring, 0.2, 1.0),
                "area_deg2": np.full(n, 1e-3),
                "logit": logit.astype(np.float32),
                "round": np.full(n, k, np.int16),
            }
        )
        tables.append(table.take(pa.array(order)))
    return pa.concat_tables(tables)


def mined(n_rounds: int, n: int = 50) -> pa.Table:
    """Fifty galaxies a round: 40 negatives of p 0.02, 8 up for review, 2 left out."""
    use = np.array(["negative"] * 40 + ["review"] * 8 + ["left_out"] * 2)
    parts = []
    for k in range(n_rounds):
        columns: dict[str, Any] = {
            "target_id": np.arange(n) + 1000 * k,
            "round": np.full(n, k, np.int16),
            "p_lens": np.where(use == "review", 0.4, 0.02),
            "p_lens_low": np.where(use == "review", 0.2, 0.01),
            "p_lens_high": np.where(use == "review", 0.6, 0.04),
            "use": use,
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Three rounds: the second is better than the first, the third gains nothing on it."""
    shifts = [0.0, 1.2, 1.2]
    return mining.figures(
        scores(shifts), scores(shifts, seed=2), mined(2), Asked(), planted=np.array([3, 45, 1049])
    )


def test_false_positives_are_counted_at_the_same_completeness_of_every_round(
    found: dict[str, Any],
) -> None:
    entry = next(e for e in found["at"] if e["completeness"] == 0.7)
    table = scores([0.0, 1.2, 1.2])
    for r in entry["rounds"]:
        mine = table.filter(pa.compute.equal(table["round"], r["round"]))
        logit, is_lens = mine["logit"].to_numpy(), mine["label"].to_numpy() == 1
        threshold = np.sort(logit[is_lens])[::-1][round(0.7 * N_LENSES) - 1]
        assert r["fpr"]["k"] == (logit[~is_lens] >= threshold).sum()
    ratio = entry["rounds"][1]["ratio"]
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert ratio["value"] == pytest.approx(
        entry["rounds"][0]["fpr"]["value"] / entry["rounds"][1]["fpr"]["value"]
    )


def test_one_completeness_is_where_the_first_round_has_enough_false_positives(
    found: dict[str, Any],
) -> None:
    extra = [e for e in found["at"] if e["completeness"] not in (0.5, 0.7)]
    assert len(extra) == 1
    assert extra[0]["is_enough"]
    assert 100 <= extra[0]["rounds"][0]["fpr"]["k"] <= 110


def test_completeness_given_up_buys_fewer_false_positives(found: dict[str, Any]) -> None:
    for entry in found["at"]:
        for r in entry["rounds"][1:]:
            assert r["ratio_lost"]["value"] >= r["ratio"]["value"]
    at_70 = next(e for e in found["at"] if e["completeness"] == 0.7)["rounds"][1]
    assert at_70["ratio_lost"]["value"] > at_70["ratio"]["value"]


def test_the_stopping_rule_reads_val_alone_and_picks_the_round_before_the_first_idle_one(
    found: dict[str, Any],
) -> None:
    assert found["picked"] == 1
    other = mining.figures(
        scores([0.0, 0.0, 2.0]), scores([0.0, 1.2, 1.2], seed=2), mined(2), Asked()
    )
    assert other["picked"] == 1


def test_planted_lenses_are_counted_where_they_are_known(found: dict[str, Any]) -> None:
    after = [r["mined"] for r in found["rounds"]]
    assert [after[0][use]["planted"] for use in mining.USES] == [1, 1, 0]
    assert [after[1][use]["planted"] for use in mining.USES] == [0, 0, 1]
    assert after[2] is None
    assert after[0]["negative"]["expected"]["value"] == pytest.approx(0.8)
    unknown = mining.figures(scores([0.0]), scores([0.0]), mined(1), Asked())
    assert unknown["rounds"][0]["mined"]["negative"]["planted"] is None


def test_planted_lenses_are_known_by_their_place() -> None:
    rows = pa.table({"target_id": [7, 8, 9], "ra_deg": [10.0, 10.1, 10.2], "dec_deg": [0.0] * 3})
    truth = pa.table(
        {
            "ra_deg": [10.0 + 0.5 / 3600, 10.1 + 2 / 3600],
            "dec_deg": [0.0, 0.0],
            "radius_arcsec": pa.nulls(2, pa.float64()),
        }
    )
    assert mining.planted_among(rows, [truth]).tolist() == [7]
    assert mining.planted_among(rows, [truth, truth], 3.0).tolist() == [7, 8]
    assert mining.planted_among(rows, []).tolist() == []


def test_the_worst_kind_of_the_last_round_comes_first(found: dict[str, Any]) -> None:
    assert [e["kind"] for e in found["by_kind"]] == ["ring", "control"]
    assert [len(e["rounds"]) for e in found["by_kind"]] == [3, 3]


def test_the_interval_of_a_ratio_holds_the_truth_95_times_in_100() -> None:
    """Rates of 0.02 and 0.005 at a completeness of 0.5, whose truth is known by the normal law."""
    held, n = 0, 200
    truth = None
    for seed in range(n):
        table = scores([0.0, 0.6], seed=seed + 10, n_negatives=3000)
        if truth is None:
            truth = _truth()
        r = mining.by_round(table, Asked())
        entry = mining.false_positive_rates(r[0], r[1], mining.Draws(seed, 200), [(0.5, 0.5)])[0]
        ratio = mining.ratio(entry)
        held += ratio["low"] <= truth <= (ratio["high"] or np.inf)
    assert 0.92 <= held / n <= 1.0


def _truth() -> float:
    """Ratio of the weighted rates at the thresholds of completeness 0.5: the lenses' mean, 3."""
    from scipy.stats import norm

    sigma = np.hypot(1.5, 0.3)

    def rate(shift: float) -> float:
        control, ring = (norm.sf((3 - (-1 - shift + up)) / sigma) for up in (0.0, 1.5))
        weights = np.array([0.95, 0.05 * 0.2])
        return float(weights @ [control, ring] / weights.sum())

    return rate(0.0) / rate(0.6)


def test_without_false_positives_there_is_a_lower_end_alone() -> None:
    one = {"value": 0.01, "low": 0.006, "high": 0.015}
    none = {"value": 0.0, "low": 0.0, "high": 0.001}
    assert mining.ratio({"first": one, "second": none, "correlation": 0.3}) == {
        "value": None, "low": pytest.approx(6.0), "high": None,
    }  # fmt: skip
    assert mining.ratio({"first": none, "second": one, "correlation": 0.3})["value"] is None


def test_page_and_card_show_every_round_and_what_was_mined(found: dict[str, Any]) -> None:
    section = mining_section.page_section(found)
    assert (section.id, section.title) == ("mining", "Rounds of mining")
    assert section.body.count("<svg") == 2
    assert "The stopping rule picks round 1 of 2" in section.body
    assert "planted lenses used as negatives" in section.body
    card = mining_section.card_section(found)
    for text in ("## Rounds of mining", "0.800 (0 – 4)", "| ring |", "rounds = 1"):
        assert text in card
    unknown = mining.figures(scores([0.0, 0.5]), scores([0.0, 0.5]), mined(1), Asked())
    assert "planted" not in mining_section.page_section(unknown).body


def test_the_schema_has_what_is_read_of_the_mined() -> None:
    assert set(mined(1).column_names) <= set(schemas.mined(BANDS).names)
