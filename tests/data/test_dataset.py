import numpy as np
import pytest

from fastrnn.data import StripArrays, StripSubset, require_classes


def test_dataset_is_a_sequence(make_strips):
    data = make_strips([5, 3, 4])
    assert len(data) == 3
    assert [strip.shape[-1] for strip, _ in data] == [5, 3, 4]
    assert data[-1][0].shape == data[np.int64(2)][0].shape == (1, 4, 4)


@pytest.mark.parametrize("index", [3, -4])
def test_index_out_of_range_is_an_error(make_strips, index):
    with pytest.raises(IndexError, match=rf"index is {index}, but the dataset has 3 strips"):
        make_strips([5, 3, 4])[index]


def test_repr_says_what_it_is(make_strips):
    assert (
        repr(make_strips([5], channels=3))
        == "StripArrays(1 strip, height 4, 3 channels, 2 classes)"
    )


def test_two_labelled_classes_are_enough_to_train(make_strips):
    require_classes(make_strips([5, 5, 5], targets=[0, 1, -1]))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1, 1, -1], r"needs labelled strips of at least two classes, found one: 'b' \(2 strips\)"),
        ([-1, -1, -1], "found none: all 3 strips are unlabelled"),
    ],
)
def test_fewer_than_two_classes_are_not_enough(make_strips, targets, message):
    with pytest.raises(ValueError, match=message):
        require_classes(make_strips([5, 5, 5], targets=targets))


def test_no_strips_are_not_enough(make_strips):
    with pytest.raises(ValueError, match="the dataset has no strips"):
        require_classes(StripSubset(make_strips([5]), []))


def test_targets_are_the_datasets_own():
    targets = np.array([0, 1])
    data = StripArrays(np.zeros((2, 4, 5), np.uint8), targets)
    targets[:] = 7
    assert data.targets.tolist() == [0, 1]
