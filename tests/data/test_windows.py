import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import windows


@given(st.integers(1, 60), st.integers(1, 40), st.data())
def test_windows_cover_the_strip_and_are_zero_behind_it(width, size, data):
    stride = data.draw(st.integers(1, size))
    strip = torch.arange(1, 6 * width + 1).reshape(2, 3, width)
    parts, lengths = windows(strip, size, stride)
    assert parts.shape == (len(lengths), 2, 3, size)
    covered = 0
    for number, (part, length) in enumerate(zip(parts, lengths.tolist(), strict=True)):
        start = number * stride
        assert covered >= start
        assert covered < width
        covered = start + length
        assert length == min(size, width - start)
        assert (part[..., :length] == strip[..., start:covered]).all()
        assert (part[..., length:] == 0).all()
    assert covered == width


def test_bytes_stay_bytes():
    parts, lengths = windows(torch.ones(1, 28, 5, dtype=torch.uint8), 8, 8)
    assert parts.dtype == torch.uint8
    assert lengths.tolist() == [5]


@pytest.mark.parametrize(
    ("shape", "size", "stride", "message"),
    [
        ((28, 5), 4, 2, r"strip has shape \(28, 5\), but must be \[C, H, W\]"),
        ((1, 28, 0), 4, 2, r"strip has shape \(1, 28, 0\)"),
        ((1, 28, 9), 0, 2, "size is 0, but must be at least 1"),
        ((1, 28, 9), 4, 0, "stride is 0, but must be at least 1"),
        ((1, 28, 9), 4, 5, r"stride is 5, but must be at most size \(4\)"),
    ],
)
def test_wrong_arguments_are_named(shape, size, stride, message):
    with pytest.raises(ValueError, match=message):
        windows(torch.zeros(shape), size, stride)
