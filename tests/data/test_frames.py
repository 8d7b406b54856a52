import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.frames import FrameChoice, frames_to_strip, strip_to_frames


@given(
    total=st.integers(1, 200),
    stride=st.integers(1, 20),
    max_frames=st.none() | st.integers(1, 50),
    keep=st.sampled_from(["head", "tail", "centre"]),
)
def test_chosen_frames_are_evenly_spaced_and_lie_where_asked(total, stride, max_frames, keep):
    every = list(range(0, total, stride))
    chosen = list(FrameChoice(stride, max_frames, keep).of(total))
    assert len(chosen) == min(len(every), max_frames or len(every))
    before = every.index(chosen[0])
    after = len(every) - len(chosen) - before
    assert every[before : before + len(chosen)] == chosen
    if keep == "head":
        assert before == 0
    elif keep == "tail":
        assert after == 0
    else:
        assert after - before in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride is 0, but must be at least 1"),
        ({"max_frames": 0}, ValueError, "max_frames is 0, but must be at least 1"),
        ({"max_frames": 1.5}, TypeError, "max_frames is 1.5, but must be an integer"),
        ({"keep": "middle"}, ValueError, 'keep is \'middle\', but must be "head", "tail"'),
    ],
)
def test_wrong_choices_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        FrameChoice(**arguments)


@given(st.tuples(*[st.integers(1, 6)] * 4))
def test_frames_lie_side_by_side_and_come_back(shape):
    frames = torch.rand(shape)
    count, _, _, width = shape
    strip = frames_to_strip(frames)
    for number in range(count):
        assert strip[..., number * width : (number + 1) * width].equal(frames[number])
    assert strip_to_frames(strip, width).equal(frames)


def test_shapes_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match=r"frames has shape \(3, 4, 5\), but must be \[T"):
        frames_to_strip(torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match=r"strip has shape \(1, 4, 10\), .* frame_width 3"):
        strip_to_frames(torch.zeros(1, 4, 10), 3)
    with pytest.raises(ValueError, match="frame_width is 0, but must be at least 1"):
        strip_to_frames(torch.zeros(1, 4, 10), 0)
