"""The audit on the page and on the card: failures first, in words; nothing that the rows lack."""

import re
from xml.etree import ElementTree as ET

import pytest

from darkhaloscope.evaluate import audit_section, gates
from darkhaloscope.evaluate.audit_checks import AUDIT
from darkhaloscope.evaluate.audit_section import CONCLUSIONS, MEASURES
from darkhaloscope.evaluate.gates import ALL, Row, judged

HELD = [
    Row("operating_point", ALL, 2.5, 2.0, 3.0, detail="logit that keeps 0.7 of them"),
    judged("zero_flux", ALL, 0.51, (0.45, 0.56), limit_low=0.45, limit_high=0.55, is_stratum=True),
    judged("companion", ALL, 0.03, (0.01, 0.09), limit_high=0.2, is_stratum=True),
    judged("rises_with_snr", ALL, 0.9, (0.8, 1.0), limit_low=0.3),
    *[Row("rises_with_snr", f"x {f:g}", v, v - 1, v + 1) for f, v in ((0.5, 1.0), (1, 2.0))],
    Row("plain_scores", ALL, 0.01, -0.1, 0.12, detail="sim, n = 9"),
    Row("realism", ALL, None, detail="not judged: the run names no list"),
]
RING = judged("halo_ring", ALL, 0.4, (0.3, 0.5), limit_high=0.1, is_stratum=True, detail="<n> = 60")
SHIFTED = Row("plain_sky", "g", 0.4, 0.2, 0.6, detail="lag-1 in g")


def page(*rows: Row, waivers: dict[str, str] | None = None) -> str:
    given = gates.finished([*HELD, *rows], waivers or {}, AUDIT)
    known = [row for row in given if row.reason != "it was not looked at"]
    return audit_section.page_section([row.as_dict(AUDIT) for row in known]).body


def card(*rows: Row) -> str:
    return audit_section.card_section([row.as_dict(AUDIT) for row in [*HELD, *rows]])


def test_every_check_has_a_conclusion_and_a_measure() -> None:
    assert list(CONCLUSIONS) == list(MEASURES) == list(AUDIT.guards)


def test_the_section_is_well_formed_and_escapes_what_it_is_given() -> None:
    body = page(RING, SHIFTED)
    ET.fromstring(f"<div>{body.replace('&nbsp;', ' ')}</div>")  # noqa: S314  (made here)
    assert "&lt;n&gt; = 60" in body


def test_a_failure_comes_first_with_what_to_conclude_and_how_to_mend_it() -> None:
    body = page(RING)
    assert "3 of 4 checks with a limit hold; 1 failed; 1 could not be judged." in body
    assert CONCLUSIONS["halo_ring"] in body
    assert "0.4 is above 0.1 (0.3" in body
    table = body[body.index("<h3>Counterfactuals") :]
    assert table.index(">halo_ring<") < table.index(">operating_point<")
    assert "What failed" not in page()


def test_a_waived_failure_is_shown_as_waived_with_its_reason() -> None:
    body = page(RING, waivers={"halo_ring": "taught without rings"})
    assert "1 failed and do not stop the run" in body
    assert body.count("waived: taught without rings") == 2
    assert ">waived<" in body


def test_a_difference_beyond_chance_without_a_limit_is_a_warning_with_its_size() -> None:
    body = page(SHIFTED)
    assert "; 1 warning." in body
    assert re.search(r"plain_sky</b>, g: 0\.4(00)? \(0\.2(00)? – 0\.6(00)?\)", body)
    assert "Warnings" not in page()
    limited = judged("plain_sky", "g", 0.4, (0.2, 0.6), limit_low=-1, limit_high=1)
    assert not audit_section.is_warning(limited)
    assert audit_section.is_warning(Row("realism", ALL, 0.8, 0.7, 0.9))
    assert not audit_section.is_warning(Row("realism", ALL, 0.55, 0.45, 0.65))
    assert not audit_section.is_warning(Row("companion", ALL, 0.8, 0.7, 0.9))


def test_the_curve_is_drawn_from_its_rows_and_kept_out_of_the_table() -> None:
    body = page()
    assert body.count("<svg") == 2  # wide and narrow
    assert ">x 0.5<" not in body
    bare = [row.as_dict(AUDIT) for row in HELD if not row.stratum.startswith("x ")]
    assert "<svg" not in audit_section.page_section(bare).body


def test_the_card_says_the_same_in_markdown() -> None:
    text = card(RING, SHIFTED)
    assert text.startswith("## Audit\n")
    assert f"- **halo_ring, all**: {CONCLUSIONS['halo_ring']} (0.4 is above 0.1)" in text
    assert "- Warning, plain_sky, g: 0.400 (0.200 – 0.600)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 1
    assert "| halo_ring | all | 0.400 (0.300 – 0.500) | ≤ 0.1 | failed | <n> = 60 |" in rows
    assert "\n- " not in card()


@pytest.mark.parametrize(
    ("row", "said"), [(RING, "failed"), (SHIFTED, "warning"), (HELD[2], "passed")]
)
def test_states_in_words(row: Row, said: str) -> None:
    assert audit_section.state(row) == said
