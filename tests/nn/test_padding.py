"""Padding is found and overwritten, whatever is in it."""

import doctest
import math
import sys

import pytest
import torch

from fastrnn.nn.padding import blank_columns, blank_steps, valid_mask

LENGTHS = torch.tensor([4, 0, 2])


def test_valid_steps_are_the_first_ones_of_each_sequence():
    mask = valid_mask(LENGTHS, 5)
    assert mask.shape == (5, 3)
    assert mask.sum(0).tolist() == [4, 0, 2]
    assert mask.t().tolist()[2] == [True, True, False, False, False]


@pytest.mark.parametrize("filler", [7.0, math.inf, math.nan])
def test_steps_past_a_length_are_overwritten_and_their_gradients_stopped(filler):
    steps = torch.ones(4, 3, 2)
    steps[~valid_mask(LENGTHS, 4)] = filler
    steps.requires_grad_()
    blanked = blank_steps(steps, LENGTHS, -3)
    assert blanked[..., 0].t().tolist() == [[1] * 4, [-3] * 4, [1, 1, -3, -3]]
    (blanked * blanked).sum().backward()
    assert steps.grad[..., 0].t().tolist() == [[2] * 4, [0] * 4, [2, 2, 0, 0]]


@pytest.mark.parametrize("filler", [7.0, math.nan])
def test_columns_past_a_length_are_zeroed(filler):
    strips = torch.full((3, 2, 2, 5), filler)
    for strip, length in zip(strips, LENGTHS.tolist(), strict=True):
        strip[..., :length] = 1
    blanked = blank_columns(strips, LENGTHS)
    assert blanked[:, 1, 1].tolist() == [[1, 1, 1, 1, 0], [0] * 5, [1, 1, 0, 0, 0]]


def test_the_type_stays():
    for dtype in (torch.uint8, torch.float16, torch.float64):
        assert blank_columns(torch.ones(3, 1, 1, 5, dtype=dtype), LENGTHS).dtype == dtype
        assert blank_steps(torch.ones(5, 3, 1, dtype=dtype), LENGTHS).dtype == dtype


def test_without_lengths_nothing_is_copied():
    x = torch.ones(3, 1, 1, 5)
    assert blank_columns(x, None) is x
    assert blank_steps(x[0], None) is not None
    assert blank_steps(x[0], None).data_ptr() == x.data_ptr()


def test_examples_in_docstrings_run():
    assert doctest.testmod(sys.modules["fastrnn.nn.padding"]).failed == 0
