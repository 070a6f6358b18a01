from dataclasses import replace

import numpy as np
import pytest

from darkhaloscope.evaluate import sample
from darkhaloscope.evaluate.intervals import Draws, beaten
from darkhaloscope.evaluate.rates import Curve, fpr_at_fixed, tpr_at_fixed
from darkhaloscope.evaluate.regions import Jackknife
from darkhaloscope.evaluate.rows import Rows, rows

N_LENSES, N_NEGATIVES = 400, 6000


def table(n_regions: int = 20, shift: float = 0.0, **changed: object) -> Rows:
    rng = np.random.default_rng(4)
    n = N_LENSES + N_NEGATIVES
    region = np.arange(n) % n_regions
    is_lens = np.arange(n) < N_LENSES
    score = rng.normal(size=n) + 2.5 * is_lens + shift * rng.normal(size=n_regions)[region]
    values = {"score": score, "is_lens": is_lens, "region": region, **changed}
    return rows(**values)


def curve(made: Rows, *, to_sky: bool = True) -> Curve:
    negatives = sample.negatives(made, to_sky=to_sky)
    return Curve(sample.lenses(made), negatives, Draws(1, 200), "t")


def leave_one_out(made: Rows, threshold: float) -> tuple[float, float]:
    """Jackknife variances of completeness and FPR, region by region, the slow way."""
    left = []
    for region in np.unique(made.region):
        rest = made.region != region
        kept = made.score[rest] >= threshold
        left.append([kept[made.is_lens[rest]].mean(), kept[~made.is_lens[rest]].mean()])
    spread = np.var(np.array(left), axis=0) * (len(left) - 1)
    return float(spread[0]), float(spread[1])


def test_the_jackknife_is_that_of_leaving_each_region_out() -> None:
    made = table(shift=0.5)
    jackknife = Jackknife(sample.lenses(made), sample.negatives(made, to_sky=True))
    for lens, negative, expected in ((1, 0, 0), (0, 1, 1)):
        left = jackknife.without(2.0, lens=lens, negative=negative)
        spread = np.var(left) * (len(left) - 1)
        assert spread == pytest.approx(leave_one_out(made, 2.0)[expected])


def test_kinds_keep_their_part_of_the_sky_when_a_region_is_left_out() -> None:
    n = N_LENSES + N_NEGATIVES
    kind = np.where(np.arange(n) < N_LENSES, "lens", np.where(np.arange(n) % 3, "a", "b"))
    made = table(shift=0.5, kind=kind, sky_weight=np.where(kind == "a", 1.4, 0.2))
    negatives = sample.negatives(made, to_sky=True)
    jackknife = Jackknife(sample.lenses(made), negatives)
    left = jackknife.without(2.0, lens=0.0, negative=-1.0)
    part = dict(zip(negatives.names, negatives.weight * negatives.sizes, strict=True))
    rest = (made.region != 7) & ~made.is_lens
    expected = sum(w * (made.score[rest & (kind == k)] >= 2.0).mean() for k, w in part.items())
    assert left[7] == pytest.approx(expected)


def test_the_area_without_a_region_is_nearly_that_of_the_other_rows() -> None:
    made = table(n_regions=40, shift=0.5)
    whole = curve(made)
    wins = beaten(whole.negatives.side, whole.lenses.score)
    residual = whole.negatives.residual(1 - beaten(whole.lenses, whole.negatives.side.score))
    left = whole.jackknife.auroc_without(wins, residual, whole.auroc["value"])
    rest = made.region != 3
    slow = curve(rows(score=made.score[rest], is_lens=made.is_lens[rest])).auroc["value"]
    assert left[3] - whole.auroc["value"] == pytest.approx(slow - whole.auroc["value"], rel=0.1)


def figures(made: Rows) -> list[object]:
    one = curve(made)
    return [
        one.tpr_at_fpr(0.01),
        one.fpr_at_tpr(0.85),
        tpr_at_fixed(one, 2.0, at=0.1),
        fpr_at_fixed(one, 2.0, at=0.1),
    ]


def test_regions_that_differ_make_every_interval_wider() -> None:
    for rate in figures(table(n_regions=40, shift=0.8)):
        assert rate.region_low < rate.low <= rate.value <= rate.high < rate.region_high


def test_regions_that_do_not_differ_change_little() -> None:
    for rate in figures(table(n_regions=400)):
        ratio = (rate.region_high - rate.region_low) / (rate.high - rate.low)
        assert 0.8 < ratio < 1.2


@pytest.mark.parametrize("n_regions", [1, 9])
def test_with_fewer_than_ten_regions_there_is_no_interval_but_words(n_regions: int) -> None:
    said = f"region interval not resolvable with {n_regions} regions"
    one = curve(table(n_regions=n_regions))
    found = [rate.as_dict() for rate in figures(table(n_regions=n_regions))]
    for rate in [*found, one.auroc]:
        assert (rate["region_low"], rate["region_high"], rate["region_note"]) == (None, None, said)


def test_ten_regions_are_enough() -> None:
    assert figures(table(n_regions=10))[0].region_low is not None


def test_regions_count_where_both_classes_are() -> None:
    region = np.arange(N_LENSES + N_NEGATIVES) % 20
    region[:N_LENSES] %= 4
    made = replace(table(), region=region)
    assert curve(made).jackknife.note.endswith("with 4 regions")


def test_without_regions_nothing_is_said_of_them() -> None:
    made = replace(table(), region=None)
    assert not any(name.startswith("region") for name in figures(made)[0].as_dict())
    assert set(curve(made).auroc) == {"value", "low", "high"}


def test_galaxies_without_a_region_are_named() -> None:
    region = table().region.copy()
    region[5:8] = -1
    note = figures(replace(table(), region=region))[0].region_note
    assert note == "region interval not resolvable: 3 galaxies have no region"


def test_names_of_regions_mean_nothing() -> None:
    made = table(shift=0.3)
    renamed = rows(
        score=made.score, is_lens=made.is_lens, region=np.array([f"r{r}" for r in made.region])
    )
    assert figures(renamed) == figures(made)


def test_identical_copies_change_no_interval_over_regions() -> None:
    made = table(shift=0.3, n_regions=15)
    columns = {n: np.tile(getattr(made, n), 5) for n in ("score", "is_lens", "region")}
    many = rows(galaxy=np.tile(np.arange(len(made)), 5), **columns)
    for a, b in zip(figures(many), figures(made), strict=True):
        assert (a.region_low, a.region_high) == pytest.approx((b.region_low, b.region_high))
