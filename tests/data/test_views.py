import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import (
    StripArrays,
    StripCache,
    StripChannels,
    StripConcat,
    StripSubset,
    StripTruncate,
    strip_batches,
    windows,
)
from fastrnn.data.dataset import StripDataset
from fastrnn.data.views import StripWindows


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


def test_copy_of_a_cache_by_pickle_starts_empty():
    cached = StripCache(CountingStrips([5, 1]))
    cached[1]
    copy = pickle.loads(pickle.dumps(cached))
    assert (copy[1][0] == 1).all()
    assert copy.dataset.reads == [0, 2]
    copy[1]
    assert copy.dataset.reads == [0, 2]


def test_cache_of_nothing_is_allowed(make_strips):
    assert len(StripCache(StripSubset(make_strips([5]), []))) == 0


@pytest.mark.parametrize(
    ("keep", "expected"),
    [("head", [0, 1, 2, 3]), ("tail", [5, 6, 7, 8]), ("centre", [2, 3, 4, 5])],
)
def test_truncation_keeps_the_columns_asked_for(keep, expected):
    data = StripArrays([np.tile(np.arange(w, dtype=np.uint8), (3, 1)) for w in (9, 2, 4)], [0] * 3)
    short = StripTruncate(data, max_width=4, keep=keep)
    assert short.lengths.tolist() == [4, 2, 4]
    assert [strip[0, 0].tolist() for strip, _ in short] == [expected, [0, 1], [0, 1, 2, 3]]


def test_truncation_keeps_the_first_columns_by_default(make_strips):
    data = make_strips([5, 9])
    head, default = StripTruncate(data, 4, keep="head"), StripTruncate(data, 4)
    assert all((head[i][0] == default[i][0]).all() for i in range(2))


def test_unknown_end_to_keep_is_named(make_strips):
    with pytest.raises(ValueError, match='keep is \'left\', but must be "head", "tail" or "cen'):
        StripTruncate(make_strips([5]), 4, keep="left")


def test_truncation_to_nothing_is_an_error(make_strips):
    with pytest.raises(ValueError, match="max_width is 0, but must be at least 1"):
        StripTruncate(make_strips([5]), max_width=0)


def ramps(widths):
    """Strips in which each column has another value."""
    arrays = [
        np.tile((np.arange(w) + 7 * i).astype(np.uint8), (2, 3, 1)) for i, w in enumerate(widths)
    ]
    return StripArrays(arrays, np.arange(len(widths)) % 2, ["a", "b"])


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 30),
    st.data(),
)
def test_windows_are_those_of_each_strip(widths, size, data):
    stride = data.draw(st.integers(1, size))
    strips = ramps(widths)
    view = StripWindows(strips, size, stride)
    index = 0
    for number, (strip, target) in enumerate(strips):
        parts, lengths = windows(strip, size, stride)
        for k, (part, length) in enumerate(zip(parts, lengths.tolist(), strict=True)):
            window, window_target = view[index]
            assert (view.strip_of[index], view.starts[index]) == (number, k * stride)
            assert view.lengths[index] == length
            assert torch.equal(window, part[..., :length])
            assert window_target == target
            index += 1
    assert index == len(view)


def test_short_windows_are_left_out_if_asked():
    view = StripWindows(ramps([10, 3, 8, 11]), size=4, stride=4, drop_short=True)
    assert view.strip_of.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert view.lengths.tolist() == [4, 4, 3, 4, 4, 4, 4]


def test_strip_is_read_once_for_all_its_windows():
    data = CountingStrips([50, 8, 31])
    view = StripWindows(data, size=8, stride=3)
    for index in range(len(view)):
        view[index]
    assert data.reads == [1, 1, 1]


def test_batches_keep_the_windows_of_a_strip_together():
    widths = np.random.default_rng(0).integers(3, 60, 40)
    data = CountingStrips(widths)
    view = StripWindows(data, size=12, stride=5)
    seen, lengths = [], []
    for batch in view.batches(max_padded_steps=100):
        assert batch.strips.shape[0] * batch.strips.shape[-1] <= 100
        seen += batch.indices.tolist()
        lengths += data.lengths[view.strip_of[batch.indices]].tolist()
    assert sorted(seen) == list(range(len(view)))
    assert data.reads == [1] * 40
    assert lengths == sorted(lengths)
    shuffled = strip_batches(view, max_padded_steps=100, shuffle=True)
    assert sum(len(batch) for batch in shuffled) == len(view)


def test_windows_survive_callers_that_change_theirs():
    view = StripWindows(ramps([10]), size=6, stride=2)
    view[0][0].fill_(99)
    assert view[1][0][0, 0].tolist() == [2, 3, 4, 5, 6, 7]


def test_no_strips_have_no_windows(make_strips):
    view = StripWindows(StripSubset(make_strips([5]), []), size=4, stride=2)
    assert len(view) == len(view.batches(max_padded_steps=9)) == 0


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        (0, 1, "size is 0, but must be at least 1"),
        (4, 0, "stride is 0, but must be at least 1"),
        (4, 5, r"stride is 5, but must be at most size \(4\)"),
    ],
)
def test_wrong_windows_are_named(make_strips, size, stride, message):
    with pytest.raises(ValueError, match=message):
        StripWindows(make_strips([5]), size, stride)


def test_subset_may_have_other_labels_with_other_targets(make_strips):
    strips = make_strips([3, 4], targets=[1, 0])
    renamed = StripSubset(strips, [1, 0], targets=[2, -1], labels=["x", "y", "z"])
    assert renamed.labels == ("x", "y", "z")
    assert [target for _, target in renamed] == [2, -1]
    with pytest.raises(ValueError, match="labels are given without the targets"):
        StripSubset(strips, [0], labels=["x", "y"])


def test_views_of_clips_are_clips(make_strips):
    clips, others = make_strips([6, 9]), make_strips([6, 9])
    clips.frame_width = 3
    views = [StripSubset(clips, [1]), StripCache(clips), StripConcat([clips, clips])]
    assert {view.frame_width for view in [*views, StripChannels(clips, [0])]} == {3}
    assert StripWindows(clips, 6, 3).frame_width == 3
    assert StripWindows(clips, 6, 2).frame_width is None
    assert StripTruncate(clips, 4).frame_width is None
    with pytest.raises(
        ValueError, match=r"\[1\]\.frame_width is None, but .* is 3; open both with"
    ):
        StripConcat([clips, others])
