import re
from dataclasses import replace

import pytest
from evaluate_builders import scores

from darkhaloscope.evaluate import html, metrics
from darkhaloscope.evaluate.html import Gallery, Page, Stamp
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.metrics import Plan
from darkhaloscope.evaluate.rows import from_scores

COLUMNS = ("theta_e_over_fwhm_r", "arc_snr_g")


def page(snr: float = 25.0, **changed: object) -> str:
    plan = Plan(
        Draws(1, 200),
        "sim",
        "injected lenses on a simulated sky",
        (1e-3,),
        {"arc_snr_g": (25.0,)},
        {"theta_e_over_fwhm_r": 1.2, "arc_snr_g": snr},
    )
    made = from_scores(scores(80, 500), weight=None, columns=COLUMNS)
    figures = metrics.finite(metrics.evaluate(made, plan).metrics)
    values = {"title": "T", "subtitle": "S", "metrics": figures, "plots": {}, "best_fpr": 0.1}
    return html.render(Page(**{**values, **changed}))


def test_the_headline_comes_first_with_its_stratum_origin_size_and_interval() -> None:
    text = page()
    head = text[text.index("<main>") : text.index('id="rates"')]
    assert "θ<sub>E</sub> / FWHM<sub>r</sub> ≥ 1.2 and arc S/N in g ≥ 25" in head
    assert "headline lenses (sim)" in head
    assert "against 500 unique negatives" in head
    assert re.search(r"\d+\.\d – \d+(\.\d)?\xa0%", head)


def test_what_is_not_resolvable_says_how_many_negatives_it_takes() -> None:
    text = page()
    assert 'title="not resolvable with 500 negatives: bounding it needs 36,887"' in text
    assert "n. r. (needs 36,887)</td>" in text


def test_every_table_whose_threshold_is_its_own_says_so() -> None:
    text = page()
    said = "Threshold placed on this same test set; its own uncertainty is in the interval."
    # two of rates, one of kinds, one stratum's column, two of purity
    assert text.count(said) == 6


def test_rates_per_copy_have_a_column_only_where_they_differ() -> None:
    assert "per copy</th>" not in page()
    stress = {
        "fpr_at_tpr": [{"at": 0.9, "value": 0.10}],
        "fpr_per_copy": [{"at": 0.9, "value": 0.11}],
    }
    assert html._copies_differ(stress)


def test_a_caption_writes_the_einstein_radius_with_a_subscript() -> None:
    text = page(galleries=[Gallery("G", "n", [Stamp(b"png", 1.0, "lens", ('θ_E 1.20"',))])])
    assert "θ<sub>E</sub> 1.20" in text
    assert "θ_E" not in text


def test_densities_of_a_simulated_sky_are_named_as_such() -> None:
    said = "those of the simulated sky's density"
    assert said in page(is_simulated_sky=True)
    assert said not in page()


def test_plots_shrink_to_a_narrow_screen() -> None:
    (rule,) = re.findall(r"figure\.plot svg \{([^}]*)\}", page())
    assert "width: 100%" in rule
    assert "min-width" not in rule


def test_an_empty_headline_stratum_is_said_and_no_figure_stands_in_for_it() -> None:
    text = page(snr=1e9)
    assert "No lens of the test set is in this stratum" in text
    assert 'class="big">' not in text


def test_the_page_needs_no_network() -> None:
    text = page(galleries=[Gallery("G", "n", [Stamp(b"png", 1.0, "ring")])])
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "@import" not in text
    assert "url(" not in text


def test_text_from_tables_is_escaped() -> None:
    text = page(refused={"<script>x</script>": 1}, n_targets=2)
    assert "<script>x" not in text
    assert "&lt;script&gt;x" in text


def test_refusals_splits_candidates_and_cautions_are_shown() -> None:
    text = page(
        refused={"missing band z": 3},
        n_targets=100,
        splits=[{"split": "test", "galaxies": 9, "share": 0.2, "regions": 2, "area_deg2": 0.5}],
        candidates=[{"rank": "1", "target": "42", "link": "https://example.org/v"}],
        cautions=["For real lenses."],
    )
    for said in (
        "Refused cutouts",
        "missing band z",
        "3.00\xa0%",
        "20.0\xa0%",
        '<a href="https://example.org/v">1</a>',
    ):
        assert said in text
    assert "<li>For real lenses.</li>" in text


@pytest.mark.parametrize(
    ("value", "said"), [(0.99999, "100.0\xa0%"), (1.0, "100\xa0%"), (9.9e-4, "9.9 × 10⁻⁴")]
)
def test_shares_are_printed_without_claiming_more(value: float, said: str) -> None:
    assert html.share(value) == said


def test_the_word_illustrative_stands_beside_the_headline() -> None:
    made = from_scores(scores(80, 500), weight=None, columns=COLUMNS)
    plan = Plan(Draws(1, 200), "sim", "x", (1e-3,), {}, {})
    few = replace(made, sources_by_kind={"sersic": 30, "catalogue": 7})
    figures = metrics.finite(metrics.evaluate(few, plan).metrics)
    said = page(metrics=figures)
    assert "Illustrative: only 7 different catalogue galaxies" in said.split('id="rates"')[0]
    assert "(30 sersic, 7 catalogue)" in said
    assert "llustrative: only" not in page()


def test_a_waived_gate_is_shown_with_its_reason_and_none_where_there_are_none() -> None:
    gate = {"name": "core_only", "stratum": "all", "guards": "core leakage", "value": 0.71}
    waived = {**gate, "passed": False, "waived": True, "reason": "a trial <run>"}
    text = page(gates=[waived, {**gate, "name": "texture", "passed": True}])
    section = text[text.index('id="gates"') : text.index('id="limits"')]
    assert "1 of 2 checks passed, of 2 gates" in section
    assert "a trial &lt;run&gt;" in section
    assert "0.710" in section
    assert 'id="gates"' not in page()
