import numpy as np
import pytest
import torch

from fastrnn.data import StripArrays


def test_arrays_of_any_width_are_strips(noise):
    strips = [noise(28, 100), noise(1, 28, 1), noise(28, 333)]
    data = StripArrays(strips, [0, 1, -1], ["a", "b"])
    assert (data.height, data.channels) == (28, 1)
    assert data.lengths.tolist() == [100, 1, 333]
    assert (data[0][0][0].numpy() == strips[0]).all()
    assert data[2][1] == -1


def test_changing_a_strip_leaves_the_array_alone(noise):
    array = noise(4, 9)
    before = array.copy()
    StripArrays([array], [0])[0][0].zero_()
    assert (array == before).all()


def test_floats_in_0_to_1_become_bytes():
    data = StripArrays([np.array([[0.0, 0.5, 1.0]])], [0])
    assert data[0][0].tolist() == [[[0, 128, 255]]]


def test_tensors_and_one_big_array_are_taken(noise):
    assert len(StripArrays(noise(5, 3, 28, 60), [0, 1, 0, 1, 0])) == 5
    assert StripArrays([torch.ones(3, 28, 9)], [0]).channels == 3


def test_height_scales_every_strip(noise):
    data = StripArrays([noise(14, 100), noise(56, 100)], [0, 1], height=28)
    assert data.lengths.tolist() == [200, 50]
    assert data[1][0].shape == (1, 28, 50)


def test_labels_follow_from_the_targets(noise):
    strips = [noise(4, 9)] * 3
    assert StripArrays(strips, [0, 2, -1]).labels == ("0", "1", "2")
    named = StripArrays(strips, ["dog", "", "cat"])
    assert named.labels == ("cat", "dog")
    assert named.targets.tolist() == [1, -1, 0]
    assert StripArrays(strips, ["b", "b", "c"], ["c", "b"]).targets.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("strips", "targets", "labels", "error", "message"),
    [
        ([], [], None, ValueError, "strips is empty"),
        (
            [np.zeros(9)],
            [0],
            None,
            ValueError,
            r"strips\[0\] has shape \(9,\), but must be \[H, W\]",
        ),
        ([np.zeros((4, 0))], [0], None, ValueError, r"strips\[0\] has shape \(4, 0\)"),
        (
            [np.zeros((4, 9), int)],
            [0],
            None,
            TypeError,
            r"strips\[0\] has dtype int64, but must be",
        ),
        ([np.full((4, 9), 2.0)], [0], None, ValueError, r"has values in \[2, 2\], but floats must"),
        (
            [np.full((4, 9), np.nan)],
            [0],
            None,
            ValueError,
            r"strips\[0\] has values in \[nan, nan\]",
        ),
        (
            [np.zeros((4, 9)), np.zeros((5, 9))],
            [0, 1],
            None,
            ValueError,
            r"strips\[1\] has 1 channels and 5 rows, but strips\[0\] has 1 and 4; give height=",
        ),
        ([np.zeros((4, 9))], [0, 1], None, ValueError, "targets has 2 entries, but there are 1"),
        ([np.zeros((4, 9))], [0.5], ["a"], TypeError, "targets has dtype float64, but must be int"),
        ([np.zeros((4, 9))], [0.5], None, TypeError, "targets has dtype float64, but must be int"),
        (
            [np.zeros((4, 9))],
            [-2],
            ["a"],
            ValueError,
            r"targets\[0\] is -2, but must be in -1 \.\. 0",
        ),
        (
            [np.zeros((4, 9))],
            [1],
            ["a"],
            ValueError,
            r"targets\[0\] is 1, but must be in -1 \.\. 0",
        ),
        ([np.zeros((4, 9))], ["b"], ["a"], ValueError, r"targets\[0\] is 'b', which is not among"),
        ([np.zeros((4, 9))], [0], "ab", TypeError, "labels is the string 'ab'"),
        (
            [np.zeros((4, 9))],
            [0],
            ["a", "a"],
            ValueError,
            r"labels\[1\] is 'a', which is in labels",
        ),
        ([np.zeros((4, 9))], [0], ["a", ""], ValueError, r"labels\[1\] is empty"),
        ([np.zeros((4, 9))], [0], ["a", 1], TypeError, r"labels\[1\] is 1, but must be a string"),
    ],
)
def test_wrong_arguments_are_named(strips, targets, labels, error, message):
    with pytest.raises(error, match=message):
        StripArrays(strips, targets, labels)
