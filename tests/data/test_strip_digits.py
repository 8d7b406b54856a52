import sys

import numpy as np
import pytest

from fastrnn.data import StripDigits, strip_digits


def test_splits_are_stratified_and_share_no_digit():
    train, test = StripDigits("train"), StripDigits("test")
    assert (len(train), len(test)) == (1297, 500)
    for strips in (train, test):
        counts = np.bincount(strips.targets)
        assert len(counts) == 10
        assert counts.min() / counts.max() > 0.9
    seen = {digit.tobytes() for digit in train._digits}
    assert not any(digit.tobytes() in seen for digit in test._digits)


def test_division_into_splits_does_not_depend_on_the_seed():
    a, b = StripDigits("test", seed=0), StripDigits("test", seed=1)
    assert (a._digits == b._digits).all()
    assert a.lengths.tolist() != b.lengths.tolist()


def test_strips_are_grey_of_28_rows_and_full_range():
    strips = StripDigits("test", size=50)
    assert strips.labels == tuple("0123456789")
    assert (strips.height, strips.channels) == (28, 1)
    for index, (strip, target) in enumerate(strips):
        assert strip.shape == (1, 28, strips.lengths[index])
        assert strip.max() > 200
        assert target == strips.targets[index]


def test_size_may_exceed_the_number_of_digits():
    strips = StripDigits("test", size=1200)
    assert len(strips) == 1200
    assert (strips.targets[:500] == strips.targets[500:1000]).all()
    assert (strips.lengths[:500] != strips.lengths[500:1000]).any()
    assert StripDigits("test").lengths.tolist() == strips.lengths[:500].tolist()


def test_train_and_test_strips_differ_in_their_random_numbers():
    assert (
        StripDigits("train", size=9).lengths.tolist()
        != StripDigits("test", size=9).lengths.tolist()
    )


def test_first_task_has_the_same_targets_in_other_strips():
    find, first = StripDigits("test", size=40), StripDigits("test", size=40, task="first")
    assert (find.targets == first.targets).all()
    assert find.lengths.tolist() != first.lengths.tolist()
    for index, digit in enumerate(first._digits[:40]):
        places = np.lib.stride_tricks.sliding_window_view(first[index][0][0].numpy(), (28, 28))[0]
        assert (places >= digit).all((1, 2)).any()


def test_missing_scikit_learn_is_a_clear_error(monkeypatch):
    strip_digits._load_digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs scikit-learn: pip install 'fastrnn\[demo\]'"
    ):
        StripDigits()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "valid"}, ValueError, 'split is \'valid\', but must be "train" or "test"'),
        ({"size": 0}, ValueError, "size is 0, but must be at least 1"),
        ({"size": -3}, ValueError, "size is -3, but must be at least 1"),
        ({"size": "many"}, TypeError, "size is 'many', but must be an integer"),
        ({"seed": -1}, ValueError, "seed is -1, but must be at least 0"),
        ({"task": "last"}, ValueError, 'task is \'last\', but must be "find" or "first"'),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        StripDigits(**arguments)
