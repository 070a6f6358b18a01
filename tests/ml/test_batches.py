"""The order of an epoch is named, keeps the mix, and making batches ahead changes none."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_builders import NORMALISE, blobs, rows, same, training, validation

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.ml.batches import Crew, Drawn, Fixed, Plan, ahead, crew_of, cut, together
from darkhaloscope.ml.levers import Curriculum

KINDS = np.array((["lens"] * 300) + (["control"] * 100) + (["ring"] * 20))
IDS = np.arange(len(KINDS), dtype=np.int64) * 31 + 7


def plan(**changes: object) -> Plan:
    settings_ = {
        "batch_size": 20,
        "epoch_stamps": 207,
        "mix": {"lens": 0.5, "control": 0.4, "ring": 0.1},
        "max_shift_px": 0,
        "size_px": 16,
        "seed": 5,
        **changes,
    }
    return Plan(**settings_)  # type: ignore[arg-type]


def test_every_batch_has_nearly_the_shares_of_the_mix() -> None:
    order = plan().order(KINDS, IDS, epoch=0)
    assert len(order) == 200
    lenses = (KINDS[order].reshape(10, 20) == "lens").sum(axis=1)
    rings = (KINDS[order].reshape(10, 20) == "ring").sum(axis=1)
    assert lenses.sum() == 100
    assert rings.sum() == 20
    assert np.abs(lenses - 10).max() <= 2
    assert np.abs(rings - 2).max() <= 2


def test_a_kind_repeats_only_when_it_has_too_few() -> None:
    order = plan(epoch_stamps=400).order(KINDS, IDS, epoch=0)
    times = np.bincount(order, minlength=len(KINDS))
    assert times[KINDS == "lens"].max() == 1
    assert set(times[KINDS == "control"]) == {1, 2}
    assert set(times[KINDS == "ring"]) == {2}


def test_another_epoch_takes_other_stamps_in_another_order() -> None:
    first, second = (plan().order(KINDS, IDS, epoch=epoch) for epoch in (0, 1))
    assert np.array_equal(first, plan().order(KINDS, IDS, epoch=0))
    assert len(set(first) - set(second)) > 30
    assert not np.array_equal(first, plan(seed=6).order(KINDS, IDS, epoch=0))


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(30)))
def test_the_order_belongs_to_the_stamps_not_to_their_rows(order: list[int]) -> None:
    kinds, ids = KINDS[285:315], IDS[285:315]
    small = plan(batch_size=5, epoch_stamps=20, mix={"lens": 0.5, "control": 0.5})
    expected = ids[small.order(kinds, ids, epoch=2)]
    moved = np.array(order)
    got = ids[moved][small.order(kinds[moved], ids[moved], epoch=2)]
    assert np.array_equal(got, expected)


def test_a_kind_without_stamps_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"asks for 'spiral'.*there are: control, lens, ring"):
        plan(mix={"lens": 0.5, "spiral": 0.5}).order(KINDS, IDS, epoch=0)


def test_a_kind_with_no_share_is_left_out() -> None:
    order = plan(mix={"lens": 1.0, "control": 1.0, "spiral": 0.0}).order(KINDS, IDS, epoch=0)
    assert set(KINDS[order]) == {"lens", "control"}


def test_equal_epochs_give_equal_batches_and_others_do_not() -> None:
    source = training()
    one, same_again, other = (list(source.batches(epoch)) for epoch in (3, 3, 4))
    assert len(one) == source.steps == 4
    for batch, again in zip(one, same_again, strict=True):
        torch.testing.assert_close(batch.stamps, again.stamps, rtol=0, atol=0)
        assert np.array_equal(batch.stamp_ids, again.stamp_ids)
    assert not torch.equal(one[0].stamps, other[0].stamps)


def test_batches_are_what_the_network_takes() -> None:
    batch = next(iter(training().batches(0)))
    assert batch.stamps.shape == (8, 2, 16, 16)
    assert batch.stamps.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [float(i % 2 == 1) for i in batch.stamp_ids]


def test_a_stamp_taken_twice_in_an_epoch_is_turned_or_moved_differently() -> None:
    source = replace(training(n=2), plan=replace(training().plan, epoch_stamps=64))
    lenses = [s for b in source.batches(0) for s in b.stamps[b.stamp_ids == 1]]
    assert len(lenses) == 32
    assert len({stamp.sum((0, 2)).numpy().tobytes() for stamp in lenses}) > 25


def test_redrawn_rows_are_what_is_made_and_no_drawing_is_asked_for_twice() -> None:
    asked: list[tuple[int, int]] = []

    def other(part: pa.Table, before: np.ndarray) -> pa.Table:
        ids = part["stamp_id"].to_numpy()
        asked.extend(zip(ids.tolist(), before.tolist(), strict=True))
        return part.set_column(0, "stamp_id", pa.array(ids + 1000 * (before + 1)))

    plan_ = replace(training().plan, epoch_stamps=64)
    source = Drawn(rows(20), other, cut(blobs(), 16), plan_, NORMALISE)
    made = [batch.stamp_ids for epoch in range(3) for batch in source.batches(epoch)]
    assert len(asked) == len(set(asked)) == 3 * 64
    assert min(np.concatenate(made)) > 1000
    first = [before for _, before in asked[:64]]
    assert sorted(set(first)) == [0, 1, 2, 3]  # 32 of 10 stamps of a kind
    assert min(before for _, before in asked[64:]) > 3


def test_weights_and_kinds_go_with_their_stamps() -> None:
    of_row = np.linspace(0.5, 1.0, 64, dtype=np.float32)
    classes = ("lens", "control")
    for crew in (Crew(), Crew(by_turns=2)):
        source = replace(training(), weights=of_row, classes=classes, crew=crew)
        for batch in source.batches(1):
            np.testing.assert_array_equal(batch.weights, of_row[batch.stamp_ids - 1])
            assert batch.classes.tolist() == [int(label == 0) for label in batch.labels]
    plain = next(iter(training().batches(0)))
    assert bool((plain.weights == 1).all())
    assert bool((plain.classes == -1).all())
    held = next(iter(replace(validation(), classes=("lens", "ring")).batches(0)))
    assert held.classes.tolist() == [0, -1] * 4
    assert bool((held.weights == 1).all())


@pytest.mark.parametrize("by_turns", [0, 2])
def test_a_curriculum_knows_the_step_of_every_batch(by_turns: int) -> None:
    table = rows(20)
    ratio = pa.array(np.linspace(0.0, 2.0, 20), pa.float32())
    table = table.append_column("theta_e_over_fwhm_r", ratio)
    plan_ = plan(epoch_stamps=40, batch_size=4, mix={"lens": 0.5, "control": 0.5})
    curriculum = Curriculum(2.0, 0.0, steps=15)
    weights = np.full(20, 0.5, np.float32)
    source = Drawn(
        table, same, cut(blobs(), 16), plan_, NORMALISE, Crew(by_turns=by_turns), weights,
        curriculum=curriculum,
    )  # fmt: skip
    step, least = 0, []
    for epoch in (0, 1):
        for batch in source.batches(epoch):
            at = batch.stamp_ids - 1
            is_hard = ratio.to_numpy()[at] < 2.0 * max(1 - step / 15, 0)
            expected = np.where(is_hard & (batch.labels.numpy() == 1), 0, 0.5)
            np.testing.assert_array_equal(batch.weights.numpy(), expected.astype(np.float32))
            least.append(float(batch.weights.min()))
            step += 1
    assert step == 20
    assert min(least[:5]) == 0
    assert least[15:] == [0.5] * 5


def test_validation_gives_every_stamp_once_unmoved_and_in_order() -> None:
    source = Fixed(rows(11), blobs(), 4, 16, NORMALISE)
    batches = list(source.batches(0))
    assert [len(b.labels) for b in batches] == [4, 4, 3]
    assert source.steps == 3
    assert np.concatenate([b.stamp_ids for b in batches]).tolist() == list(range(1, 12))
    raw = blobs()(rows(11)[:4])
    expected = NORMALISE(raw.pixels[:, :, 4:20, 4:20], raw.sky_median)
    torch.testing.assert_close(batches[0].stamps, expected)
    assert len(list(validation().batches(5))) == 4


def test_stamps_without_a_label_are_refused() -> None:
    unlabelled = rows(4).set_column(2, "label", pa.nulls(4, pa.int8()))
    with pytest.raises(DataError, match=r"4 stamps have no label .kinds: control, lens"):
        list(Fixed(unlabelled, blobs(), 4, 16, NORMALISE).batches(0))


def tasks(count: int) -> Iterator[Callable[[], int]]:
    """The later, the quicker."""
    for number in range(count):
        yield partial(_after, number, 0.002 * (count - number))


def _after(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("threads", [1, 3])
def test_making_ahead_keeps_every_result_in_order(count: int, threads: int) -> None:
    assert list(ahead(tasks(count), threads=threads, depth=2)) == list(range(count))


def test_an_error_is_raised_where_its_result_would_be() -> None:
    def fails() -> int:
        raise DataError("no more")

    made = ahead(iter([lambda: 1, fails, lambda: 3]), threads=2, depth=2)
    assert next(made) == 1
    with pytest.raises(DataError, match="no more"):
        next(made)


def test_a_pass_that_is_given_up_leaves_no_thread_and_other_threads_as_they_were() -> None:
    before = threading.active_count(), torch.get_num_threads(), torch.is_grad_enabled()
    made = ahead(tasks(100), threads=2, depth=2)
    next(made)
    made.close()  # type: ignore[attr-defined]
    assert (threading.active_count(), torch.get_num_threads(), torch.is_grad_enabled()) == before


@pytest.mark.parametrize(
    ("threads", "makers", "by_turns"), [(1, 0, 1), (2, 0, 2), (4, 1, 0), (16, 2, 0)]
)
def test_painting_gets_its_share_of_the_threads(threads: int, makers: int, by_turns: int) -> None:
    assert crew_of(Device(threads=threads)) == Crew(makers, by_turns)


def test_the_number_of_makers_changes_no_batch() -> None:
    one = training()
    for crew in (Crew(makers=3), Crew(by_turns=1), Crew(by_turns=3)):
        for got, expected in zip(replace(one, crew=crew).batches(1), one.batches(1), strict=True):
            assert torch.equal(got.stamps, expected.stamps)
            assert np.array_equal(got.stamp_ids, expected.stamp_ids)
            assert torch.equal(got.labels, expected.labels)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("threads", [1, 3])
def test_by_turns_every_result_comes_in_order(count: int, threads: int) -> None:
    assert list(together(tasks(count), threads=threads)) == list(range(count))


def test_by_turns_nothing_is_made_while_results_are_used() -> None:
    started = []
    made = together((partial(started.append, n) for n in range(6)), threads=2)
    next(made)
    time.sleep(0.01)
    assert sorted(started) == [0, 1]
    next(made)
    assert sorted(started) == [0, 1]
    made.close()  # type: ignore[attr-defined]


def test_by_turns_an_error_is_raised_where_its_result_would_be() -> None:
    def fails() -> int:
        raise DataError("no more")

    made = together(iter([lambda: 1, fails, lambda: 3]), threads=2)
    assert next(made) == 1
    with pytest.raises(DataError, match="no more"):
        next(made)
