"""Laws of holding out."""

import numpy as np
import pytest

from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, splits
from tff_tx.datasets.splits import TEST, TRAIN, VALIDATION

OWNERS = np.repeat(np.arange(40), np.arange(1, 41))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("validation", "test", "sizes"), [(0.1, 0.2, [70, 10, 20]), (3, 4, [93, 3, 4]), (0, 0, [100])])
def test_by_example_counts(validation, test, sizes):
    codes = splits.by_example(100, validation, test, rng())
    assert np.bincount(codes).tolist() == sizes


def test_a_fraction_of_few_takes_at_least_one():
    assert (splits.by_example(3, 0, 0.01, rng()) == TEST).sum() == 1


def test_by_client_keeps_clients_whole():
    codes = splits.by_client(OWNERS, 0.1, 0.25, rng())
    per_client = {owner: set(codes[owner == OWNERS]) for owner in range(40)}
    assert all(len(found) == 1 for found in per_client.values())
    counts = np.bincount([found.pop() for found in per_client.values()])
    assert counts[[TRAIN, VALIDATION, TEST]].tolist() == [26, 4, 10]


def test_within_client_takes_the_same_part_of_each():
    codes = splits.within_client(OWNERS, 0.2, 0.2, rng())
    for owner in range(40):
        size = owner + 1
        counts = np.bincount(codes[owner == OWNERS], minlength=3)
        assert counts[TRAIN] >= 1
        assert counts[TEST] == min(round(0.2 * size), size - 1)
        assert counts.sum() == size


def test_within_client_by_count():
    codes = splits.within_client(OWNERS, 0, 2, rng())
    taken = np.bincount(OWNERS[codes == TEST], minlength=40)
    assert taken.tolist() == [0, 1] + [2] * 38


def test_in_time_takes_the_last_of_each_client():
    owners = np.array([0, 1, 0, 0, 1, 0, 0, 2])
    codes = splits.in_time(owners, validation=1, test=2)
    assert codes[owners == 0].tolist() == [TRAIN, TRAIN, VALIDATION, TEST, TEST]
    assert codes[owners == 1].tolist() == [TRAIN, TEST]
    assert codes[owners == 2].tolist() == [TRAIN]


@pytest.mark.parametrize("split", [splits.by_client, splits.within_client])
def test_the_seed_decides(split):
    first, again, other = (split(OWNERS, 0.1, 0.2, rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(UserError, match=r"data\.validation_fraction=0\.5 .*data\.test_fraction=0\.5 .*lower"):
        splits.by_example(10, 0.5, 0.5, rng())
    with pytest.raises(UserError, match=r"40 of 40 clients.*lower"):
        splits.by_client(OWNERS, 0, 40, rng())


def test_clients_too_small_to_split_are_refused():
    with pytest.raises(UserError, match=r"data\.test_fraction=0\.1 takes no example.*data\.split=client"):
        splits.within_client(np.arange(10), 0, 0.1, rng())


@pytest.mark.parametrize("part", [-0.1, 1.5])
def test_a_part_that_is_no_part_is_refused(part):
    with pytest.raises(UserError, match=rf"data\.test_fraction={part}:? must be "):
        DataSpec(test_fraction=part)
