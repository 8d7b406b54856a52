import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import label_split, stratified_split

some_targets = st.lists(st.integers(-1, 6), min_size=1, max_size=200)
fractions = st.floats(0.001, 1)


@given(some_targets, fractions, st.integers(0, 2**40))
def test_split_is_a_partition_with_every_class_in_proportion(targets, fraction, seed):
    a, b = stratified_split(targets, fraction, seed)
    assert sorted([*a, *b]) == list(range(len(targets)))
    values = np.array(targets)
    for target, size in zip(*np.unique(values, return_counts=True), strict=True):
        taken = int((values[a] == target).sum())
        assert taken >= 1
        assert abs(taken - fraction * size) <= 1


def test_total_is_exact_when_the_classes_are_uneven():
    targets = np.repeat(np.arange(7), [105, 98, 33, 61, 12, 44, 147])
    a, b = stratified_split(targets, 0.1, seed=3)
    assert (len(a), len(b)) == (50, 450)


def test_same_seed_same_split():
    targets = np.arange(1000) % 10
    first, _ = stratified_split(targets, 0.3, seed=1)
    again, _ = stratified_split(targets, 0.3, seed=1)
    other, _ = stratified_split(targets, 0.3, seed=2)
    assert (first == again).all()
    assert len(np.intersect1d(first, other)) < 150


def test_split_does_not_follow_the_order_of_the_strips():
    a, _ = stratified_split(np.zeros(1000, int), 0.5, seed=0)
    assert 200 < (a < 500).sum() < 300


@given(some_targets, fractions, st.integers(0, 100))
def test_label_split_keeps_only_known_labels(targets, fraction, seed):
    labelled, unlabelled = label_split(targets, fraction, seed)
    assert sorted([*labelled, *unlabelled]) == list(range(len(targets)))
    kept = {targets[i] for i in labelled}
    assert kept == set(targets) - {-1}


def test_whole_can_be_taken():
    a, b = stratified_split([0, 1, 1], 1.0, seed=0)
    assert (a.tolist(), b.tolist()) == ([0, 1, 2], [])


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=r"fraction is .*, but must be above 0 and at most 1"):
        stratified_split([0, 1], fraction, seed=0)


def test_negative_seed_is_an_error():
    with pytest.raises(ValueError, match="seed is -1, but must be at least 0"):
        stratified_split([0, 1], 0.5, seed=-1)
