import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from evaluate_builders import replaced, scores, sky

from darkhaloscope.core.errors import DataError
from darkhaloscope.evaluate.rows import from_scores, rows


def test_all_faults_of_a_table_are_in_one_message() -> None:
    with pytest.raises(DataError) as fault:
        rows(
            score=np.array([1.0, np.nan, np.nan]),
            is_lens=np.zeros(3, bool),
            sky_weight=np.array([1.0, -1.0, np.nan]),
        )
    message = str(fault.value)
    assert "2 of 3 scores are NaN" in message
    assert "no lens" in message
    assert "2 rows with sky_weight null, negative or infinite" in message


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(label: int) -> None:
    with pytest.raises(DataError, match="one class only"):
        rows(score=np.arange(3.0), is_lens=np.full(3, bool(label)))


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        from_scores(scores(2, 2).slice(0, 0), weight=None)


def test_a_weight_that_is_zero_everywhere_is_refused() -> None:
    with pytest.raises(DataError, match="sky_weight is 0 in every row"):
        rows(score=np.arange(3.0), is_lens=np.array([1, 0, 0], bool), sky_weight=np.zeros(3))


def test_infinite_scores_are_allowed() -> None:
    made = rows(score=np.array([np.inf, -np.inf]), is_lens=np.array([True, False]))
    assert len(made) == 2


def test_the_sky_as_observed_is_left_out() -> None:
    made = from_scores(pa.concat_tables([scores(3, 4), sky(5)]), weight=None)
    assert len(made) == 7
    assert "sky" not in made.kinds


def test_sources_and_regions_are_counted() -> None:
    made = from_scores(scores(60, 40), weight="weight_population")
    assert (made.n_sources, made.n_regions) == (37, 4)
    assert made.sources_by_kind == {"sersic": 37}
    assert made.weight is not None


def test_without_any_sky_weight_there_are_no_weights() -> None:
    table = scores(3, 4)
    none = pa.nulls(7, pa.float64())
    assert from_scores(replaced(table, {"sky_weight": none}), weight=None).sky_weight is None


def test_a_negative_without_its_sky_weight_is_a_fault() -> None:
    table = scores(3, 4)
    weight = pc.if_else(pc.equal(table["stamp_id"], table["stamp_id"][5]), None, 1.0)
    with pytest.raises(DataError, match="1 rows with sky_weight null"):
        from_scores(replaced(table, {"sky_weight": weight}), weight=None)
