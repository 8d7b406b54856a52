from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.folds import group_k_fold, group_split, k_fold

some_targets = st.lists(st.integers(-1, 6), min_size=2, max_size=200)
some_groups = st.lists(st.integers(-3, 9), min_size=2, max_size=60).filter(
    lambda groups: len(set(groups)) > 1
)
fractions = st.floats(0.001, 0.999)
seeds = st.integers(0, 2**40)


def check_folds(folds, count):
    """Every position is in the test part once, and in the training part otherwise."""
    tests = []
    for train, test in folds:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(count))
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
        assert len(test)
        tests += test.tolist()
    assert sorted(tests) == list(range(count))


@given(some_groups, fractions, seeds)
def test_group_split_divides_no_group_and_is_as_near_as_groups_allow(groups, fraction, seed):
    a, b = group_split(groups, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([a, b])), np.arange(len(groups)))
    values = np.array(groups)
    assert not set(values[a]) & set(values[b])
    assert len(a)
    assert len(b)
    sizes = np.unique(values, return_counts=True)[1].tolist()
    sums = {sum(some) for k in range(1, len(sizes)) for some in combinations(sizes, k)}
    wanted = fraction * len(groups)
    assert abs(len(a) - wanted) == min(abs(total - wanted) for total in sums)


def test_group_split_depends_on_the_seed_and_chooses_every_group():
    groups = np.arange(600) % 6
    chosen = [frozenset(groups[group_split(groups, 1 / 3, seed)[0]]) for seed in range(40)]
    assert {len(some) for some in chosen} == {2}
    assert frozenset().union(*chosen) == set(range(6))
    assert len(set(chosen)) > 9  # of 15 pairs
    again, _ = group_split(groups, 1 / 3, seed=7)
    assert frozenset(groups[again]) == chosen[7]


def test_group_split_chooses_among_all_that_are_equally_near():
    groups = np.repeat(np.arange(1, 7), np.arange(1, 7))  # group k has k strips
    chosen = {frozenset(groups[group_split(groups, 1 / 3, seed)[0]]) for seed in range(60)}
    assert chosen == {frozenset(some) for some in ({1, 6}, {2, 5}, {3, 4}, {1, 2, 4})}


def test_group_split_of_many_groups_of_different_sizes_is_exact():
    groups = np.repeat(np.arange(400), np.arange(400) % 97 + 1)
    a, b = group_split(groups, 0.25, seed=1)
    assert len(a) == round(0.25 * len(groups))
    assert len(a) + len(b) == len(groups)


@given(some_targets, st.data(), seeds)
def test_folds_test_every_strip_once_with_every_class_in_proportion(targets, data, seed):
    count = data.draw(st.integers(2, len(targets)))
    folds = list(k_fold(targets, count, seed))
    assert len(folds) == count
    check_folds(folds, len(targets))
    values = np.array(targets)
    for _, test in folds:
        assert abs(len(test) - len(targets) / count) < 1
        for target in set(targets):
            share = (values == target).sum() / count
            assert abs((values[test] == target).sum() - share) < 1


def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_strips():
    targets = np.zeros(1000, int)
    first, again, other = (next(k_fold(targets, 2, seed))[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert 200 < len(np.intersect1d(first, other)) < 300
    assert 200 < (first < 500).sum() < 300


@given(some_groups, st.data())
def test_group_folds_divide_no_group(groups, data):
    values = np.array(groups)
    count = data.draw(st.none() | st.integers(2, len(set(groups))))
    folds = list(group_k_fold(groups, count))
    assert len(folds) == (count or len(set(groups)))
    check_folds(folds, len(groups))
    for train, test in folds:
        assert not set(values[train]) & set(values[test])


def test_group_folds_leave_one_group_out_in_order():
    groups = np.array([5, 2, 5, 9, 2])
    assert [groups[test].tolist() for _, test in group_k_fold(groups)] == [[2, 2], [5, 5], [9]]


def test_group_folds_are_of_similar_size():
    groups = np.repeat(np.arange(6), [60, 50, 40, 30, 20, 10])
    assert sorted(len(test) for _, test in group_k_fold(groups, 3)) == [70, 70, 70]


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        (lambda: group_split([0, 0], 0.5, 0), ValueError, "groups has 1 different values, but"),
        (lambda: group_split([[0, 1]], 0.5, 0), ValueError, r"groups has shape \(1, 2\)"),
        (lambda: group_split(["a", "b"], 0.5, 0), TypeError, "groups has dtype <U1"),
        (lambda: group_split([0, 1], 1, 0), ValueError, "fraction is 1, but must be above 0 and"),
        (lambda: group_split([0, 1], float("nan"), 0), ValueError, "fraction is nan"),
        (lambda: group_split([0, 1], 0.5, -1), ValueError, "seed is -1, but must be at least 0"),
        (lambda: k_fold([0, 1, 1], 4, 0), ValueError, r"at least 2 and at most 3 \(strips\)"),
        (lambda: k_fold([0, 1, 1], 1, 0), ValueError, "folds is 1, but must be at least 2"),
        (lambda: k_fold([0, 1, 1], 2.0, 0), TypeError, "folds is 2.0, but must be an integer"),
        (lambda: k_fold([0, 1, 1], 2, -1), ValueError, "seed is -1, but must be at least 0"),
        (lambda: group_k_fold([0, 1, 1], 3), ValueError, r"at least 2 and at most 2 \(groups\)"),
        (lambda: group_k_fold([], None), ValueError, "groups has 0 different values"),
    ],
)
def test_wrong_arguments_are_named_at_the_call(split, error, message):
    with pytest.raises(error, match=message):
        split()
