import pytest

from fastrnn.models import CNNLSTMClassifier, StripClassifier
from fastrnn.models.windows import WindowPlan


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "size must be from 1 to 16777216, got 0"),
        ((8, 9), ValueError, "stride must be from 1 to 8, got 9"),
        ((8.5, 2), TypeError, r"size must be an integer, got 8\.5"),
        ((8, 2, "max"), ValueError, "combine must be one of mean, vote, got 'max'"),
    ],
)
def test_wrong_plan_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        WindowPlan(*arguments)


def test_a_model_has_the_windows_of_its_settings():
    assert StripClassifier(1, 8, 2).windows is None
    model = StripClassifier(1, 8, 2, window_size=64, window_combine="vote")
    assert model.windows == WindowPlan(size=64, stride=64, combine="vote")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_stride": 8}, "window_stride is 8, but window_size is None"),
        ({"window_size": 8, "window_stride": 9}, "window_stride must be from 1 to 8, got 9"),
        ({"window_size": 0}, "window_size must be from 1"),
        ({"window_combine": "max"}, "window_combine must be one of mean, vote, got 'max'"),
    ],
)
def test_settings_that_make_no_windows(settings, message):
    with pytest.raises(ValueError, match=message):
        StripClassifier(1, 8, 2, **settings)


def test_windows_of_clips_are_whole_frames():
    with pytest.raises(ValueError, match=r"whole frames of 8 columns .* got 20"):
        CNNLSTMClassifier(1, 8, 2, frames=True, frame_width=8, window_size=20)
