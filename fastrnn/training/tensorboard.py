"""The curves of a training for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastrnn.training.callbacks import Callback, StepInfo
from fastrnn.training.history import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def require_tensorboard() -> type[SummaryWriter]:
    """Import TensorBoard's writer.

    Raises
    ------
    ModuleNotFoundError
        If TensorBoard is not installed; says how to install it.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "TensorBoardCallback needs TensorBoard: pip install 'fastrnn[tensorboard]'",
            name=error.name,
        ) from error
    return SummaryWriter


class TensorBoardCallback(Callback):
    """Writes each step's and each epoch's figures for ``tensorboard --logdir``.

    TensorBoard shows two runs: ``steps`` counts steps of the optimizer, ``epochs`` counts epochs.
    A resumed training goes on with the curves of the former one; what that one wrote after its
    last checkpoint is hidden, as it is done again.

    Parameters
    ----------
    log_dir
        Folder for the runs; one training each. A new training hides the curves of a former one.

    Raises
    ------
    ModuleNotFoundError
        If TensorBoard is not installed.

    Examples
    --------
    >>> callback = TensorBoardCallback("runs/first/tensorboard")  # doctest: +SKIP
    >>> Trainer(model, config, callbacks=[callback]).fit(strips)  # doctest: +SKIP
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self._make_writer = require_tensorboard()
        self._folder = Path(log_dir)
        self._writers: dict[str, SummaryWriter] = {}
        self._history: Sequence[EpochRecord] = ()
        self._first_step = 0

    def on_resume(self, history: Sequence[EpochRecord], global_step: int) -> None:
        """Remember where the training goes on."""
        self._history, self._first_step = history, global_step + 1

    def on_start(self, epochs: int) -> None:
        """Open the files."""
        # TensorBoard hides what a former process wrote from this step on.
        self._open("steps", self._first_step)
        # A killed process may have told of all its epochs but the last: tell of them again.
        self._open("epochs", 0)
        for record in self._history:
            self.on_epoch(record)
        self._history, self._first_step = (), 0

    def on_step(self, info: StepInfo) -> None:
        """Write the step's loss, gradient and learning rate."""
        figures = {
            "step/loss": info.step_loss,
            "step/gradient_norm": info.gradient_norm,
            "step/learning_rate": info.learning_rate,
        }
        self._write("steps", figures, info.global_step)

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the epoch's record."""
        figures = {
            "loss/training": record.loss,
            "loss/validation": record.validation_loss,
            "accuracy/training": record.accuracy,
            "accuracy/validation": record.validation_accuracy,
            "learning_rate": record.learning_rate,
            "strips_per_second": record.strips_per_second,
        }
        self._write("epochs", figures, record.epoch)

    def on_checkpoint(self) -> None:
        """Bring to disk what the checkpoint says is done."""
        for writer in self._writers.values():
            writer.flush()

    def on_end(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _open(self, run: str, first_step: int) -> None:
        folder = self._folder / run
        _wait_for_a_later_name(folder)
        self._writers[run] = self._make_writer(str(folder), purge_step=first_step)

    def _write(self, run: str, figures: Mapping[str, float | None], step: int) -> None:
        for name, value in figures.items():
            if value is not None:
                self._writers[run].add_scalar(name, value, step)


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait, for less than a second, until a new file is read after those of former trainings.

    TensorBoard reads a run's files in the order of their names, which begin with the second; of
    two of the same second the later one may come first.
    """
    seconds = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    ahead = max(seconds, default=0) + 1 - time.time()
    if 0 < ahead <= 1:
        time.sleep(ahead)
