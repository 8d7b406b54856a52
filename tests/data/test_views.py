import numpy as np
import pytest
import torch

from fastrnn.data import StripCache, StripConcat, StripSubset, StripTruncate
from fastrnn.data.dataset import StripDataset


class CountingStrips(StripDataset):
    """Counts how often each strip is read."""

    def __init__(self, widths):
        super().__init__(
            labels=["a"], targets=[0] * len(widths), lengths=widths, height=2, channels=3
        )
        self.reads = [0] * len(widths)

    def read_strip(self, index):
        self.reads[index] += 1
        return torch.full((3, 2, int(self.lengths[index])), index, dtype=torch.uint8)


def test_subset_shows_the_chosen_strips(make_strips):
    data = make_strips([5, 3, 4, 6], targets=[0, 1, 0, -1])
    part = StripSubset(data, [3, 1, 1])
    assert part.lengths.tolist() == [6, 3, 3]
    assert part.targets.tolist() == [-1, 1, 1]
    assert (part[0][0] == data[3][0]).all()
    assert (part.labels, part.height, part.channels) == (data.labels, 4, 1)


def test_subset_takes_other_targets_and_leaves_the_dataset_alone(make_strips):
    data = make_strips([5, 3, 4], targets=[-1, -1, -1])
    part = StripSubset(data, np.array([2, 0]), targets=[1, 0])
    assert [target for _, target in part] == [1, 0]
    assert data.targets.tolist() == [-1, -1, -1]


def test_subset_of_a_subset(make_strips):
    data = make_strips([5, 3, 4])
    assert StripSubset(StripSubset(data, [2, 1]), [1]).lengths.tolist() == [3]


def test_empty_subset_is_allowed(make_strips):
    assert len(StripSubset(make_strips([5]), [])) == 0


@pytest.mark.parametrize(
    ("indices", "targets", "error", "message"),
    [
        ([0, 3], None, ValueError, r"indices\[1\] is 3, but must be in 0 \.\. 2"),
        ([-1], None, ValueError, r"indices\[0\] is -1, but must be in 0 \.\. 2"),
        ([True, False, True], None, TypeError, "indices has dtype bool, but must be integers"),
        ([[0]], None, ValueError, r"indices has shape \(1, 1\), but must have one dimension"),
        ([0, 1], [0], ValueError, "targets has 1 entries, but there are 2 strips"),
        ([0, 1], [0, 2], ValueError, r"targets\[1\] is 2, but must be in -1 \.\. 1"),
    ],
)
def test_wrong_subset_is_an_error(make_strips, indices, targets, error, message):
    with pytest.raises(error, match=message):
        StripSubset(make_strips([5, 3, 4]), indices, targets)


def test_concatenation_is_one_after_the_other(make_strips):
    a, b, empty = make_strips([5, 3]), make_strips([4], targets=[1]), make_strips([9])
    both = StripConcat([a, StripSubset(empty, []), b, a])
    assert both.lengths.tolist() == [5, 3, 4, 5, 3]
    assert both.targets.tolist() == [0, 0, 1, 0, 0]
    for index, (part, position) in enumerate([(a, 0), (a, 1), (b, 0), (a, 0), (a, 1)]):
        assert (both[index][0] == part[position][0]).all()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"labels": ("b", "a")},
            r"datasets\[1\]\.labels is \('b', 'a'\), but datasets\[0\]\.labels",
        ),
        ({"height": 5}, r"datasets\[1\]\.height is 5, but datasets\[0\]\.height is 4"),
        ({"channels": 3}, r"datasets\[1\]\.channels is 3, but datasets\[0\]\.channels is 1"),
    ],
)
def test_datasets_that_differ_are_not_concatenated(make_strips, other, message):
    with pytest.raises(ValueError, match=message):
        StripConcat([make_strips([5]), make_strips([5], **other)])


def test_concatenation_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="datasets is empty"):
        StripConcat([])


def test_cache_reads_each_strip_once():
    data = CountingStrips([5, 1, 7])
    cached = StripCache(data)
    for index in (2, 0, 2, 1, 0, 2):
        strip, target = cached[index]
        assert strip.shape == (3, 2, data.lengths[index])
        assert (strip == index).all()
        assert target == 0
    assert data.reads == [1, 1, 1]


def test_cache_survives_callers_that_change_their_strip():
    cached = StripCache(CountingStrips([5, 1]))
    for _ in range(3):
        cached[1][0].fill_(99)
    assert (cached[1][0] == 1).all()


def test_truncation_keeps_the_first_columns(make_strips):
    short = StripTruncate(make_strips([5, 2, 9]), max_width=4)
    assert short.lengths.tolist() == [4, 2, 4]
    assert [strip.shape[-1] for strip, _ in short] == [4, 2, 4]


def test_truncation_to_nothing_is_an_error(make_strips):
    with pytest.raises(ValueError, match="max_width is 0, but must be at least 1"):
        StripTruncate(make_strips([5]), max_width=0)
