import io
import sys

import pytest

from fastrnn.training import EpochRecord, StepInfo
from fastrnn.training.progress import ProgressBar, ProgressLines, make_progress

RECORD = EpochRecord(1, 0.5, 0.9, 0.4, 0.95, 1e-3, 1234.5, 6.78)
STEP = StepInfo(
    epoch=1,
    epochs=2,
    step=3,
    steps=4,
    global_step=3,
    loss=0.7,
    accuracy=0.8,
    learning_rate=1e-3,
    step_loss=0.6,
    gradient_norm=2.0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(progress: ProgressBar | ProgressLines) -> None:
    progress.on_start(2)
    progress.on_step(STEP)
    progress.on_validation(5, 10)
    progress.on_epoch(RECORD)
    progress.on_end()


def test_outside_a_terminal_there_is_one_line_an_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(make_progress("round 3"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "round 3, epoch 1/2: loss 0.5000, accuracy 90.0%, validation 0.4000, 95.0%, "
        "1,234 strips/s, 6.8 s\n"
    )


def test_in_a_terminal_there_is_a_bar_and_the_line_stays(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = make_progress()
    assert isinstance(progress, ProgressBar)
    show(progress)
    assert "epoch 1/2: loss 0.5000, accuracy 90.0%" in sys.stderr.getvalue()


def test_ending_twice_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressBar()
    progress.on_end()
    progress.on_start(2)
    progress.on_end()
    progress.on_end()
    assert "Error" not in capsys.readouterr().err
