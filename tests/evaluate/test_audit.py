"""Rows of the audit: counted by galaxy, judged by their intervals, silent about nothing."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from darkhaloscope.core import schemas
from darkhaloscope.core.settings.audit import NAMES
from darkhaloscope.evaluate import audit, audit_figures, gates, rows
from darkhaloscope.evaluate.audit import Operating, Repainted
from darkhaloscope.evaluate.audit_checks import AUDIT, COUNTERFACTUALS, DEPLOYMENT, KINDS, REMEDIES
from darkhaloscope.evaluate.audit_figures import Draws, Figure, Two
from darkhaloscope.evaluate.audit_judge import Judge
from darkhaloscope.evaluate.gates import ALL, Row

DRAWS = Draws(seed=5, n=300)
JUDGE = Judge(DRAWS, 30, "sim")
LIMITS = SimpleNamespace(companion=0.2, radial_arc=0.2, scrambled=0.2, halo_ring=0.1)
EVERYWHERE = SimpleNamespace(
    arc_snr_g=SimpleNamespace(low=0.0, high=1e9),
    theta_e_over_fwhm_r=SimpleNamespace(low=0.0, high=1e9),
)


def scores(seed: int = 1, n: int = 200, **means: float) -> rows.Rows:
    """Normal logits of lenses (mean 2), controls (mean -2) and the kinds given, n galaxies each."""
    rng = np.random.default_rng(seed)
    each = {"lens": 2.0, "control": -2.0, **means}
    kind = np.repeat(list(each), n)
    return rows.rows(
        score=rng.normal(np.repeat(list(each.values()), n), 1.0),
        is_lens=kind == "lens",
        kind=kind,
    )


def point(found: rows.Rows, completeness: float = 0.7) -> Operating:
    made, _ = audit.operating(found, found.is_lens, completeness, JUDGE)
    assert made is not None
    return made


def first(found: list[Row], name: str, stratum: str = ALL) -> Row:
    return next(r for r in found if (r.name, r.stratum) == (name, stratum))


def test_every_check_is_in_every_list() -> None:
    assert list(AUDIT.guards) == list(NAMES) == list(REMEDIES)
    assert (*COUNTERFACTUALS, *DEPLOYMENT) == NAMES


def test_the_operating_point_keeps_the_share_that_was_asked_for() -> None:
    found = scores()
    made = point(found)
    lens = found.score[found.is_lens]
    assert (lens >= made.threshold).mean() == pytest.approx(0.7, abs=1 / len(lens))
    row = first(audit.operating(found, found.is_lens, 0.7, JUDGE)[1], "operating_point")
    assert row.value == made.threshold
    assert row.low < 2 - stats.norm.ppf(0.7) < row.high
    assert "sim, n = 200 galaxies" in row.detail


def test_copies_of_a_lens_count_as_one_galaxy() -> None:
    rng = np.random.default_rng(3)
    score = np.concatenate([rng.normal(2, 1, 60), np.full(600, 9.0), rng.normal(-2, 1, 60)])
    is_lens = np.arange(len(score)) < 660
    galaxy = np.concatenate([np.arange(60), np.full(600, 60), np.arange(100, 160)])
    found = rows.rows(score=score, is_lens=is_lens, galaxy=galaxy)
    assert point(found, 0.5).threshold == pytest.approx(np.median(score[:60]), abs=0.2)


def test_too_few_headline_lenses_leave_the_shares_without_a_verdict() -> None:
    made, told = audit.operating(scores(n=20), np.arange(40) < 20, 0.7, JUDGE)
    assert made is None
    assert (told[0].value, told[0].passed, told[0].is_judged) == (None, True, False)
    assert "20 galaxies of headline lenses; audit.least_galaxies is 30" in told[0].detail
    row = audit.arc_removed(np.ones(50), np.zeros(50), None, 0.1, "no point")[0]
    assert not row.is_judged


def test_a_kind_that_scores_like_lenses_fails_and_one_like_controls_passes() -> None:
    found = scores(companion=2.0, halo_ring=-2.0)
    made = audit.counterfactuals(point(found), found, LIMITS)
    companion, ring = first(made, "companion"), first(made, "halo_ring")
    assert companion.value == pytest.approx(0.7, abs=0.1)
    assert (companion.passed, ring.passed) == (False, True)
    relative = first(made, "companion", "over the lenses' completeness")
    assert relative.low < 1 < relative.high
    assert first(made, "scrambled").detail == (
        "not judged: the set holds no stamp of kind scrambled"
    )
    assert {row.name for row in made} == set(KINDS)


def test_a_share_whose_interval_reaches_its_limit_does_not_fail() -> None:
    found = scores(n=60)
    made = point(found)
    above, below = made.threshold + 1, made.threshold - 1
    few = made.share("companion", ALL, np.array([above] * 12 + [below] * 38), 0.2, "companions")
    assert few.value == pytest.approx(0.24)
    assert few.passed
    many = made.share("companion", ALL, np.array([above] * 300 + [below] * 400), 0.2, "companions")
    assert not many.passed
    assert many.reason == "0.429 is above 0.2"


def test_hosts_like_controls_are_at_chance_and_a_trace_of_painting_is_not() -> None:
    rng = np.random.default_rng(8)
    limits = SimpleNamespace(low=0.45, high=0.55)
    hosts, controls = rng.normal(0, 1, 300), rng.normal(0, 1, 300)
    assert audit.zero_flux(hosts, controls, limits, JUDGE).passed
    traced = audit.zero_flux(hosts + 0.6, controls, limits, JUDGE)
    assert not traced.passed
    assert traced.value == pytest.approx(stats.norm.cdf(0.6 / np.sqrt(2)), abs=0.05)
    constant = audit.zero_flux(np.zeros(50), np.zeros(50), limits, JUDGE)
    assert (constant.value, constant.passed) == (0.5, True)


def test_the_host_alone_is_counted_among_the_lenses_above_the_threshold_only() -> None:
    made = replace(point(scores()), threshold=1.0)
    lens = np.array([2.0] * 60 + [0.0] * 40)
    hosts = np.array([1.5] * 30 + [-1.0] * 30 + [3.0] * 40)
    share, drop = audit.arc_removed(lens, hosts, made, 0.05, "")
    assert (share.value, share.passed) == (0.5, False)
    assert "n = 60 galaxies" in share.detail
    assert drop.low == 0.5
    assert drop.high == 3.0


def repainted(logit: np.ndarray) -> Repainted:
    factors = 2.0 ** np.arange(logit.shape[1])
    snr = np.broadcast_to(10 * factors, logit.shape)
    return Repainted(factors, logit, snr, np.full(logit.shape, 1.5))


def test_a_score_that_rises_passes_and_one_that_ignores_flux_fails() -> None:
    rng = np.random.default_rng(4)
    rising = rng.normal(0, 1, (50, 1)) + 0.8 * np.arange(4)
    row = audit.rises("rises_with_snr", repainted(rising), EVERYWHERE, 0.3, JUDGE)[0]
    assert (row.value, row.passed) == (pytest.approx(0.8), True)
    flat = audit.rises("rises_with_snr", repainted(np.zeros((50, 4))), EVERYWHERE, 0.3, JUDGE)
    assert not flat[0].passed
    assert [r.stratum for r in flat[1:]] == ["x 1", "x 2", "x 4", "x 8"]
    noisy = repainted(rng.normal(0, 9, (31, 4)) + 0.5 * np.arange(4))
    unproven = audit.rises("rises_with_snr", noisy, EVERYWHERE, 1e-3, JUDGE)[0]
    assert not unproven.passed


def test_steps_count_only_where_both_their_ends_are_in_the_range() -> None:
    logit = np.repeat([[0.0, 1.0, 3.0, 99.0]], 40, axis=0)
    within = SimpleNamespace(
        arc_snr_g=SimpleNamespace(low=10, high=40),
        theta_e_over_fwhm_r=SimpleNamespace(low=1, high=2),
    )
    found = audit.rises("rises_with_snr", repainted(logit), within, 0.3, JUDGE)[0]
    assert found.value == 1.5
    assert "S/N in g 10 to 40, theta_E over FWHM_r 1 to 2 at both ends" in found.detail
    beyond = SimpleNamespace(
        arc_snr_g=SimpleNamespace(low=1e3, high=1e4), theta_e_over_fwhm_r=within.theta_e_over_fwhm_r
    )
    none = audit.rises("rises_with_snr", repainted(logit), beyond, 0.3, JUDGE)
    assert [row.is_judged for row in none] == [False]


def test_the_shift_is_in_standard_deviations_of_the_other_sample() -> None:
    rng = np.random.default_rng(6)
    two = Two.of(rng.normal(7, 1, 400), np.arange(400), rng.normal(5, 4, 400), np.arange(400, 800))
    row = JUDGE.shifted("plain_scores", ALL, two, 0.3, "logits")
    assert row.low < 0.5 < row.high
    assert (row.limit_low, row.limit_high, row.passed) == (-0.3, 0.3, False)
    assert row.detail.startswith("sim, n = 400 against 400 galaxies")
    assert JUDGE.shifted("plain_scores", ALL, two, None, "logits").passed


def test_the_same_pixels_on_the_same_galaxies_have_no_shift_and_no_error() -> None:
    value, galaxy = np.random.default_rng(2).normal(0, 1, 100), np.arange(100)
    two = Two.of(value, galaxy, value, galaxy)
    assert audit_figures.shift(two, DRAWS, "x") == Figure(0.0, 0.0, 0.0)
    assert audit_figures.distance(two, DRAWS, "x") == Figure(0.0, 0.0, 0.0)


def test_values_that_never_differ_are_not_judged_but_their_shift_is_none_where_equal() -> None:
    ones, galaxy = np.ones(40), np.arange(40)
    assert audit_figures.shift(Two.of(ones, galaxy, ones, galaxy + 40), DRAWS, "x").value == 0
    row = JUDGE.shifted("plain_sky", "g", Two.of(ones, galaxy, 0 * ones, galaxy + 40), 0.1, "sky")
    assert not row.is_judged


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(9)
    one, other = rng.normal(0, 1, 150).round(1), rng.normal(0.7, 1, 130).round(1)
    two = Two.of(one, np.arange(150), other, np.arange(150, 280))
    found = audit_figures.distance(two, DRAWS, "x")
    assert found.value == pytest.approx(stats.ks_2samp(one, other).statistic)
    assert found.low < 2 * stats.norm.cdf(0.35) - 1 < found.high


def test_a_probe_tells_apart_what_differs_and_nothing_else() -> None:
    rng = np.random.default_rng(10)
    features = rng.normal(0, 1, (400, 12))
    is_injected, galaxy = np.arange(400) % 2 == 0, np.arange(400)
    alike = audit.realism(features, is_injected, galaxy, 0.7, JUDGE)
    assert alike.low < 0.5 < alike.high
    features[is_injected, 3] += 2
    found = audit.realism(features, is_injected, galaxy, 0.7, JUDGE)
    assert not found.passed
    assert found.value == pytest.approx(stats.norm.cdf(np.sqrt(2)), abs=0.04)


def test_rows_are_kept_as_the_schema_says_and_waived_by_name() -> None:
    found = scores(companion=2.0)
    made = audit.counterfactuals(point(found), found, LIMITS)
    waived = gates.finished(made, {"companion": "taught without on purpose"}, AUDIT)
    table = gates.table(waived, AUDIT)
    assert schemas.conform(table, schemas.audit(("g",)), where="audit").num_rows == len(waived)
    assert first(waived, "companion").waived
    said = gates.refusal(waived, "audit/small/round=0.json", AUDIT)
    assert said.startswith("12 of 16 checks failed, so this network is not to be used as it is:")
    assert "[audit.waive]" in said
    assert "  companion (" not in said
    assert gates.of_records(table.to_pylist()) == waived


def test_every_check_has_a_remedy_and_the_documentation_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [n for n, remedy in REMEDIES.items() if f"| `{n}` | {remedy} |" not in page] == []
