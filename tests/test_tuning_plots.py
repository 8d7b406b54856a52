import pytest
from PIL import Image

from fastrnn.training.trials import Trial
from fastrnn.tuning_plots import draw_trials

TRIALS = [
    Trial(0, {"lr": 1e-3, "model": "lstm", "wide": True}, "complete", 0.8, 0.5, 5, 1.0, 10),
    Trial(1, {"lr": 1e-1, "model": "cnn", "wide": False}, "pruned", 0.3, 1.5, 2, 1.0, 10),
    Trial(2, {"lr": -1.0, "model": "cnn", "wide": False}, "failed", None, None, 0, 0, 0, "no"),
]


def test_draws_a_picture(tmp_path):
    path = draw_trials(tmp_path / "trials.png", TRIALS)
    with Image.open(path) as picture:
        assert picture.size[0] > 1000


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no trial reached an accuracy"):
        draw_trials(tmp_path / "trials.png", TRIALS[2:])
    assert not list(tmp_path.iterdir())
