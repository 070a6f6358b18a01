import numpy as np
import pyarrow as pa
import pytest
from evaluate_builders import BANDS, cutouts, hosts, replaced, scores, sky
from hypothesis import given, settings
from hypothesis import strategies as st

from darkhaloscope.core import schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.candidates import CandidatesConfig
from darkhaloscope.stages import candidates


def config(merge_arcsec: float = 1.0, viewer_layer: str = "ls-dr10") -> CandidatesConfig:
    return CandidatesConfig(
        bands=BANDS,
        pixel_scale_arcsec=0.262,
        model="small",
        merge_arcsec=merge_arcsec,
        viewer_layer=viewer_layer,
    )


def ranked(table: pa.Table, merge_arcsec: float = 1.0) -> pa.Table:
    made = candidates.run(
        scores=table, splits=hosts(table), cutouts=cutouts(table), config=config(merge_arcsec)
    )
    return schemas.conform(made, schemas.candidates(BANDS), where="candidates")


def test_pairs_are_one_row_that_of_the_highest_score() -> None:
    table = sky(30)
    made = ranked(table)
    assert made.num_rows == 15
    assert made["n_merged"].to_pylist() == [2] * 15
    pairs = table["logit"].to_numpy().reshape(15, 2)
    np.testing.assert_array_equal(made["logit"], np.sort(pairs.max(axis=1))[::-1])
    assert made["rank"].to_pylist() == [*range(1, 16)]


def test_a_smaller_radius_merges_nothing_and_loses_nobody() -> None:
    made = ranked(sky(30), merge_arcsec=0.4)
    assert made.num_rows == 30
    assert set(made["n_merged"].to_pylist()) == {1}


def test_chains_are_one_group() -> None:
    ra = np.array([10.0, 10 + 0.8 / 3600, 10 + 1.6 / 3600, 11.0])
    first, n = candidates.merge(ra, np.zeros(4), 1.0)
    assert (first.tolist(), n.tolist()) == ([0, 3], [3, 1])


def test_positions_are_merged_across_the_origin_of_right_ascension_and_at_the_pole() -> None:
    near = 0.2 / 3600
    assert len(candidates.merge(np.array([360 - near, near]), np.zeros(2), 1.0)[0]) == 1
    assert len(candidates.merge(np.array([0.0, 180.0]), np.full(2, 90 - near), 1.0)[0]) == 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    table = sky(20)
    ties = replaced(table, {"logit": pa.array(np.arange(20) // 5, pa.float32())})
    order = np.random.default_rng(seed).permutation(20)
    assert ranked(ties.take(order)).equals(ranked(ties))


def test_other_sets_are_left_out() -> None:
    assert ranked(pa.concat_tables([sky(10), scores(2, 3)])).num_rows == 5


def test_no_sky_gives_an_empty_table() -> None:
    assert ranked(sky(4).slice(0, 0)).num_rows == 0


def test_the_link_opens_the_viewer_at_the_galaxy() -> None:
    url = ranked(sky(1))["viewer_url"][0].as_py()
    assert url == (
        "https://www.legacysurvey.org/viewer?ra=150.000000&dec=0.000000&layer=ls-dr10&zoom=16"
    )


def test_a_sky_without_a_layer_has_no_links() -> None:
    table = sky(4)
    made = candidates.run(
        scores=table,
        splits=hosts(table),
        cutouts=cutouts(table),
        config=config(viewer_layer=""),
    )
    made = schemas.conform(made, schemas.candidates(BANDS), where="candidates")
    assert set(made["viewer_url"].to_pylist()) == {""}


def test_a_target_without_its_host_is_a_fault() -> None:
    table = sky(4)
    with pytest.raises(DataError, match="1 scored targets have no row in splits"):
        candidates.run(
            scores=table,
            splits=hosts(table).slice(0, 3),
            cutouts=cutouts(table),
            config=config(0.1),
        )


def test_nan_scores_are_not_ranked_silently() -> None:
    table = replaced(sky(2), {"logit": pa.array([np.nan, 1.0], pa.float32())})
    with pytest.raises(DataError, match="1 of 2 scores of the sky are NaN"):
        ranked(table)
