import dataclasses
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastrnn.training import Callback, Trainer, TrainingConfig
from fastrnn.training.tensorboard import TensorBoardCallback

CONFIG = TrainingConfig(epochs=3, learning_rate=0.05, max_padded_steps=80)

installed = pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
# Not ours: TensorBoard and what it imports, on new versions of Python and numpy.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

Curves = dict[str, list[tuple[int, float]]]


class CrashAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, info):
        if info.global_step == self.step:
            raise OSError("the power went off")


@pytest.fixture
def train(clusters, row_means, tmp_path: Path) -> Callable[..., list]:
    """Train on three epochs of five steps with curves, and return the history."""

    def run(*after: Callback, before=(), resume=False, out="run", **changes):
        callbacks = [*before, TensorBoardCallback(tmp_path / out / "tensorboard"), *after]
        config = dataclasses.replace(CONFIG, **changes)
        trainer = Trainer(
            row_means(3), config, out_dir=tmp_path / out, progress=False, callbacks=callbacks
        )
        data = clusters(40, classes=3), clusters(30, classes=3, seed=1)
        return trainer.fit(*data, resume=resume).history

    return run


def read(folder: Path) -> Curves:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


@installed
@quiet
def test_curves_of_steps_and_epochs(train, tmp_path: Path) -> None:
    history = train()
    epochs = read(tmp_path / "run" / "tensorboard" / "epochs")
    for name, field in (("loss/validation", "validation_loss"), ("accuracy/training", "accuracy")):
        expected = [(record.epoch, getattr(record, field)) for record in history]
        assert [step for step, _ in epochs[name]] == [1, 2, 3]
        assert epochs[name] == [(n, pytest.approx(value)) for n, value in expected]
    steps = read(tmp_path / "run" / "tensorboard" / "steps")
    assert [step for step, _ in steps["step/loss"]] == list(range(1, 16))
    assert steps["step/learning_rate"][14][1] == pytest.approx(history[-1].learning_rate)


@installed
@quiet
@pytest.mark.parametrize("crash", [4, 8, 11])
def test_a_resumed_training_has_each_step_once(train, tmp_path: Path, crash: int) -> None:
    train(out="straight")
    # Checkpoints at the ends of epochs only: steps since then are done, and written, again.
    with pytest.raises(OSError, match="power"):
        train(CrashAt(crash), checkpoint_every_seconds=None)
    train(resume=True, checkpoint_every_seconds=None)
    for run in ("steps", "epochs"):
        straight = read(tmp_path / "straight" / "tensorboard" / run)
        resumed = read(tmp_path / "run" / "tensorboard" / run)
        straight.pop("strips_per_second", None)
        resumed.pop("strips_per_second", None)
        assert resumed == straight


@installed
@quiet
def test_an_epoch_that_was_saved_but_not_told_of_is_not_lost(train, tmp_path: Path) -> None:
    class CrashBetween(Callback):
        def on_epoch(self, record):
            raise OSError("the power went off")

    with pytest.raises(OSError, match="power"):
        train(before=[CrashBetween()])
    train(resume=True)
    epochs = read(tmp_path / "run" / "tensorboard" / "epochs")
    assert [step for step, _ in epochs["loss/training"]] == [1, 2, 3]


@installed
@quiet
def test_a_new_training_in_the_same_folder_hides_the_former_one(train, tmp_path: Path) -> None:
    train(epochs=3)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    train(epochs=2)
    epochs = read(tmp_path / "run" / "tensorboard" / "epochs")
    assert [step for step, _ in epochs["loss/training"]] == [1, 2]
    steps = read(tmp_path / "run" / "tensorboard" / "steps")
    assert len(steps["step/loss"]) == 10


@installed
@quiet
def test_files_of_two_trainings_in_a_row_are_told_apart_by_the_second(train, tmp_path) -> None:
    for _ in range(2):
        train(epochs=1)
        (tmp_path / "run" / "checkpoint.pt").unlink()
    files = (tmp_path / "run" / "tensorboard" / "steps").iterdir()
    assert len({path.name.split(".")[3] for path in files}) == 2


@installed
@quiet
def test_what_a_checkpoint_holds_is_on_disk_before_it(train, tmp_path: Path) -> None:
    seen = []

    class Look(Callback):
        def on_checkpoint(self):
            curves = read(tmp_path / "run" / "tensorboard" / "steps")
            seen.append(len(curves["step/loss"]))

    train(Look(), checkpoint_every_seconds=0.0, epochs=1)
    assert seen == [1, 2, 3, 4, 5, 5]  # after each step, and after the epoch's validation


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastrnn\[tensorboard\]'"):
        TensorBoardCallback("runs")
