import re
from pathlib import Path

import pytest
from evaluate_builders import scores

from darkhaloscope.evaluate import card, metrics
from darkhaloscope.evaluate.card import Card
from darkhaloscope.evaluate.html import Gallery, Stamp, interval, share
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Plan
from darkhaloscope.evaluate.rows import from_scores

GATE = {
    "name": "core_only",
    "stratum": "all",
    "guards": "core leakage",
    "value": 0.71,
    "low": 0.68,
    "high": 0.74,
    "limit_low": None,
    "limit_high": 0.6,
    "passed": False,
    "waived": True,
    "reason": "an example | with a bar",
}


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    columns = ("theta_e_over_fwhm_r", "arc_snr_g")
    sets = [
        from_scores(scores(80, 5000, of=name), weight=None, columns=columns)
        for name in ("test", "calib")
    ]
    plan = Plan(
        Draws(1, 200),
        "sim",
        "injected lenses on a simulated sky",
        (1e-3,),
        {"arc_snr_g": (25.0,)},
        {"theta_e_over_fwhm_r": 1.2, "arc_snr_g": 25.0},
    )
    made: dict[str, object] = metrics.finite(metrics.evaluate(sets[0], plan, calib=sets[1]).metrics)
    return made


def a_card(figures: dict[str, object], **changed: object) -> Card:
    values = {
        "title": "Model card: small",
        "subtitle": "Tested on a simulated sky.",
        "network": {"design": "small"},
        "metrics": figures,
        "splits": [
            {"split": "test", "galaxies": 5080, "share": 0.3, "regions": 4, "area_deg2": 5.1}
        ],
        "gates": [GATE, {**GATE, "name": "splits_leak", "passed": True, "waived": False}],
        "settings": {"targets": "ab" * 32},
        "data": {"scores": (3, "cd" * 32)},
        "cautions": ["As the recall of real lenses."],
    }
    return Card(**{**values, **changed})


def test_every_rate_of_the_tables_stands_on_the_card_with_its_interval(figures) -> None:
    text = card.render(a_card(figures))
    rates = [*figures["tpr_at_fpr"], *figures["fpr_at_tpr"], *figures["stress"]["fpr_at_tpr"]]
    for points in figures["operating_points"]:
        rates += [r for name in ("fpr", "tpr", "tpr_headline") if (r := points[name])]
    assert len(rates) > 20
    for rate in rates:
        said = f"{share(rate['value'])} ({interval(rate)}" if rate["value"] is not None else ""
        assert (said or rate["note"]) in text


def test_a_waived_gate_is_named_with_the_reason(figures) -> None:
    text = card.render(a_card(figures))
    assert "1 of 2 checks passed before training; 1 failed, 1 of them waived" in text
    (row,) = re.findall(r"^\| core_only \|.*$", text, re.MULTILINE)
    assert "0.710 (0.680 – 0.740) | ≤ 0.6 | failed, waived | an example \\| with a bar |" in row


def test_without_gates_the_card_says_that_nothing_was_proven(figures) -> None:
    text = card.render(a_card(figures, gates=None))
    assert "This run has no gates: nothing was checked before training." in text
    assert "No gate has proven that nothing leaks" in text


def test_every_line_of_a_table_has_as_many_cells_as_its_head(figures) -> None:
    text = card.render(a_card(figures))
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_hashes_name_what_the_card_was_made_from(figures) -> None:
    text = card.render(a_card(figures))
    assert f"| scores | 3 | `{'cd' * 8}` |" in text
    assert f"| targets | `{'ab' * 8}` |" in text


def test_failures_are_shown_and_their_pictures_stand_where_the_card_looks(
    figures, tmp_path: Path
) -> None:
    shown = Gallery("Worst negatives", "Note.", [Stamp(b"png", 3.25, "ring", (), "17")])
    card.write(tmp_path, a_card(figures, failures=[shown]))
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"!\[ring\]\(([^)]+)\)", text)
    assert (tmp_path / name).read_bytes() == b"png"


def test_a_disagreement_of_the_figures_is_said(figures) -> None:
    found = {**figures["consistency"], "passed": False}
    text = card.render(a_card({**figures, "consistency": found}))
    assert "The figures disagree" in text
