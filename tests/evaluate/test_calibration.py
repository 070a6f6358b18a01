import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate import calibration as measured
from darkhaloscope.evaluate.rows import Rows, rows

N = 30_000


def drawn(sharpness: float = 1.0, n: int = N, **changed: object) -> Rows:
    """Probabilities, and truths drawn with them; `sharpness` overstates their logits."""
    rng = np.random.default_rng(6)
    logit = rng.normal(-1, 2, n)
    is_lens = rng.random(n) < special.expit(logit)
    values = {"score": special.expit(sharpness * logit), "is_lens": is_lens}
    return rows(**{**values, **changed}, score_kind="probability")


def test_scores_that_are_no_probabilities_have_no_calibration_but_a_reason() -> None:
    made = rows(score=np.arange(4.0), is_lens=np.arange(4) > 1)
    found, reason = measured.calibration(made, (1e-3,))
    assert found is None
    assert reason == "scores are of the kind logit, not calibrated probabilities"


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"1 of 2 scores are outside \[0, 1\]"):
        rows(score=np.array([bad, 0.5]), is_lens=np.array([1, 0], bool), score_kind="probability")


def test_bins_agree_with_sklearn() -> None:
    made = drawn(1.5)
    found, _ = measured.calibration(made, ())
    share, claimed = calibration_curve(
        made.is_lens, made.score, n_bins=measured.N_BINS, strategy="quantile"
    )
    bins = found["reliability"]
    assert [b["claimed"] for b in bins] == pytest.approx(claimed.tolist(), abs=1e-4)
    assert [b["found"] for b in bins] == pytest.approx(share.tolist(), abs=1e-3)
    expected = float(np.abs(share - claimed).mean())  # bins of equal mass
    assert found["ece"] == pytest.approx(expected, abs=1e-4)


def test_a_calibrated_finder_shows_no_more_than_noise_and_an_overconfident_one_does() -> None:
    honest, _ = measured.calibration(drawn(), ())
    boastful, _ = measured.calibration(drawn(1.5), ())
    assert honest["ece"] < 1.6 * honest["noise"]
    assert boastful["ece"] > 5 * boastful["noise"]


def test_the_noise_is_the_mean_error_of_a_finder_without_fault() -> None:
    rng, found = np.random.default_rng(2), []
    p = np.sort(rng.random(3000))
    for _ in range(200):
        bins = measured.reliability(p, rng.random(3000) < p, np.ones(3000), n_bins=15)
        found.append(measured.expected_error(bins))
    assert measured.expected_noise(bins) == pytest.approx(np.mean(found), rel=0.05)


def test_odds_move_with_the_prevalence_as_bayes_says() -> None:
    p, at, to = np.array([0.2, 0.9]), 0.4, 0.01
    likelihood = p / (1 - p) * (1 - at) / at
    expected = likelihood * to / (likelihood * to + 1 - to)
    assert measured.moved(p, at=at, to=to) == pytest.approx(expected)
    assert measured.moved(np.array([0.0, 1.0]), at=at, to=to).tolist() == [0.0, 1.0]


def test_the_tail_of_a_calibrated_finder_is_calibrated_at_every_prevalence() -> None:
    found, _ = measured.calibration(drawn(n=200_000), (1e-1, 1e-2, 1e-3))
    for tail in found["tail"]:
        assert tail["ece"] < 3 * tail["noise"] + 0.01
    boastful, _ = measured.calibration(drawn(2.0, n=200_000), (1e-2,))
    assert boastful["tail"][0]["ece"] > 5 * boastful["tail"][0]["noise"]


def test_the_tail_holds_a_hundredth_of_the_negatives_on_the_sky() -> None:
    made = drawn()
    found, _ = measured.calibration(made, (1e-3,))
    (tail,) = found["tail"]
    threshold = np.sort(made.score[~made.is_lens])[-int((~made.is_lens).sum() * 0.01)]
    tpr = (made.score[made.is_lens] >= threshold).mean()
    assert tail["mass"] == pytest.approx(1e-3 * tpr + 0.999 * 0.01, rel=0.01)


def test_copies_change_nothing() -> None:
    made = drawn(n=3000)
    many = rows(
        score=np.tile(made.score, 4),
        is_lens=np.tile(made.is_lens, 4),
        galaxy=np.tile(np.arange(3000), 4),
        score_kind="probability",
    )
    one, four = (measured.calibration(m, (1e-2,))[0] for m in (made, many))
    assert four["ece"] == pytest.approx(one["ece"])
    assert four["tail"][0]["ece"] == pytest.approx(one["tail"][0]["ece"])


def test_weights_of_the_sky_change_the_tail_alone() -> None:
    made = drawn(1.5)
    kind = np.where(made.is_lens, "lens", np.where(np.arange(N) % 2, "a", "b"))
    weighted = drawn(1.5, kind=kind, sky_weight=np.where(kind == "a", 1.9, 0.1))
    one, other = (measured.calibration(m, (1e-2,))[0] for m in (made, weighted))
    assert other["ece"] == pytest.approx(one["ece"])
    assert other["tail"][0]["ece"] != one["tail"][0]["ece"]


def test_ties_stay_in_one_bin() -> None:
    p = np.repeat([0.1, 0.9], [90, 10])
    bins = measured.reliability(p, np.arange(100) >= 90, np.ones(100), n_bins=15)
    assert [(b["low"], b["n"], b["found"]) for b in bins] == [(0.1, 90, 0.0), (0.9, 10, 1.0)]
