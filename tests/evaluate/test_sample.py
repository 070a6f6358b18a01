import numpy as np
import pytest

from darkhaloscope.evaluate import sample
from darkhaloscope.evaluate.rows import Rows, rows


def table(copies: int = 1, **changed: object) -> Rows:
    """Two lenses and four negatives of two kinds, everything so many times."""
    values = {
        "score": np.tile([3.0, 2.0, 2.5, 1.0, 0.0, -1.0], copies),
        "is_lens": np.tile(np.array([1, 1, 0, 0, 0, 0], bool), copies),
        "galaxy": np.tile(np.arange(6), copies),
        "kind": np.tile(["lens", "lens", "ring", "control", "control", "control"], copies),
        "sky_weight": np.tile([0, 0, 0.04, 1.32, 1.32, 1.32], copies),
    }
    return rows(**{**values, **changed})


@pytest.mark.parametrize("copies", [1, 36])
def test_identical_copies_change_neither_counts_nor_shares(copies: int) -> None:
    made = table(copies)
    lenses, negatives = sample.lenses(made), sample.negatives(made, to_sky=True)
    assert (lenses.n, negatives.side.n) == (2, 4)
    assert lenses.kept(2.5) == pytest.approx(0.5)
    assert lenses.effective == pytest.approx(2)
    assert negatives.side.kept(2.5) == pytest.approx(0.04 / 4)
    assert negatives.side.kept(0.0) == pytest.approx(0.01 + 0.99 * 2 / 3)


def test_the_highest_of_a_negative_galaxys_copies_counts() -> None:
    made = rows(
        score=np.array([5.0, 1.0, 4.0, 0.0]),
        is_lens=np.array([1, 0, 0, 0], bool),
        galaxy=np.array([1, 2, 2, 3]),
    )
    negatives = sample.negatives(made, to_sky=True)
    assert negatives.side.score.tolist() == [0.0, 4.0]
    assert sample.copies(made).kept(4.0) == pytest.approx(1 / 3)


def test_a_galaxy_counts_once_for_each_kind_it_is_used_in() -> None:
    made = rows(
        score=np.array([5.0, 1.0, 4.0]),
        is_lens=np.array([1, 0, 0], bool),
        galaxy=np.array([1, 2, 2]),
        kind=np.array(["lens", "control", "ring"]),
    )
    assert sample.negatives(made, to_sky=False).side.n == 2


def test_a_lens_row_weighs_one_over_its_copies() -> None:
    made = rows(
        score=np.array([3.0, 1.0, 3.0, 0.0]),
        is_lens=np.array([1, 1, 1, 0], bool),
        galaxy=np.array([1, 1, 2, 3]),
    )
    lenses = sample.lenses(made)
    assert (lenses.n, lenses.n_kept(2.0), lenses.kept(2.0)) == (2, 1.5, pytest.approx(0.75))


def test_unequal_weights_are_worth_fewer_lenses() -> None:
    weight = np.array([3.0, 1.0, 0, 0, 0, 0])
    lenses = sample.lenses(table(weight=weight))
    assert lenses.effective == pytest.approx(16 / 10)
    assert lenses.kept(2.5) == pytest.approx(0.75)


def test_a_kind_of_weight_zero_is_left_out_of_the_sky_only() -> None:
    made = table(sky_weight=np.array([0, 0, 0.0, 1, 1, 1]))
    assert [*sample.negatives(made, to_sky=True).kinds] == ["control"]
    assert [*sample.negatives(made, to_sky=False).kinds] == ["control", "ring"]


def test_ties_are_cut_as_asked() -> None:
    side = sample.copies(
        rows(score=np.array([9.0, 3, 2, 2, 2, 1]), is_lens=np.array([1, 0, 0, 0, 0, 0], bool))
    )
    above, below, bottom = side.gap(np.array([0.4]), ties="drop")
    assert (above[0], below[0], bottom[0]) == (3, 2, False)
    above, below, bottom = side.gap(np.array([0.4]), ties="keep")
    assert (above[0], below[0], bottom[0]) == (2, 1, False)


def test_a_gap_may_lie_above_or_below_every_score() -> None:
    side = sample.copies(table())
    above, _, _ = side.gap(np.array([0.0]), ties="drop")
    assert np.isnan(above[0])
    _, _, bottom = side.gap(np.array([1.0]), ties="drop")
    assert bottom[0]


def test_no_chosen_lens_gives_an_empty_side() -> None:
    made = table()
    lenses = sample.lenses(made, np.zeros(len(made), bool))
    assert (lenses.n, lenses.kept(0.0), lenses.effective) == (0, 0.0, 0.0)
