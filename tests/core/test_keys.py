"""Named draws: equal everywhere, independent between streams, and free of the order of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from darkhaloscope.core import keys

IDS = np.arange(100_000, dtype=np.int64)


def splitmix(value: int) -> int:
    """SplitMix64 in Python's own integers: an independent reading of the paper."""
    mask = (1 << 64) - 1
    z = (value + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@pytest.mark.parametrize("row", [0, 1, 2**62])
def test_a_draw_is_the_same_number_on_every_machine(row: int) -> None:
    key = keys.hash64(7, "theta_e")
    expected = (splitmix(splitmix(row) ^ key) >> 11) * 2.0**-53
    assert keys.uniform(np.array([row]), seed=7, stream="theta_e").tolist() == [expected]


def test_the_first_draws_never_change() -> None:
    drawn = keys.uniform(np.array([0, 1, 2**62]), seed=7, stream="theta_e")
    assert drawn.tolist() == [0.23220694861814706, 0.7211367838459917, 0.3825481189626456]


def test_draws_are_uniform_and_normal_draws_are_normal() -> None:
    assert stats.kstest(keys.uniform(IDS, seed=1, stream="a"), "uniform").pvalue > 1e-3
    assert stats.kstest(keys.normal(IDS, seed=1, stream="a"), "norm").pvalue > 1e-3


@pytest.mark.parametrize("other", [{"seed": 2, "stream": "a"}, {"seed": 1, "stream": "b"}])
def test_seeds_and_streams_are_independent(other: dict[str, object]) -> None:
    a = keys.uniform(IDS, seed=1, stream="a")
    b = keys.uniform(IDS, **other)  # type: ignore[arg-type]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(IDS))


@given(st.permutations(list(range(20))))
def test_a_draw_belongs_to_its_row(order: list[int]) -> None:
    ids = np.arange(20, dtype=np.int64)
    drawn = keys.uniform(ids, seed=3, stream="x")
    assert np.array_equal(keys.uniform(ids[order], seed=3, stream="x"), drawn[order])


def test_choice_follows_the_shares() -> None:
    shares = np.array([0.5, 0.0, 0.2, 0.3])
    found = np.bincount(keys.choice(IDS, shares, seed=1, stream="kind"), minlength=4) / len(IDS)
    assert found[1] == 0
    np.testing.assert_allclose(found, shares, atol=0.006)


def test_target_ids_are_desis_bits() -> None:
    one = keys.target_id(np.array([9011]), np.array([330_000]), np.array([17]))
    assert one.tolist() == [(9011 << 42) | (330_000 << 22) | 17]


@pytest.mark.parametrize("field", ["release", "brickid", "objid"])
def test_a_field_that_does_not_fit_its_bits_is_refused(field: str) -> None:
    good = {"release": 9010, "brickid": 1, "objid": 1}
    values = {k: np.array([1 << 22 if k == field else v]) for k, v in good.items()}
    with pytest.raises(ValueError, match=f"{field} must fit"):
        keys.target_id(**values)


def test_stamp_ids_are_unique_and_never_negative() -> None:
    parts = [
        keys.stamp_id(IDS, kind, np.full(len(IDS), c)) for kind in ("lens", "ring") for c in (0, 1)
    ]
    ids = np.concatenate(parts)
    assert len(np.unique(ids)) == len(ids)
    assert ids.min() >= 0


def test_parts_of_a_hash_do_not_run_into_each_other() -> None:
    assert keys.hash64("ab", "c") != keys.hash64("a", "bc")
