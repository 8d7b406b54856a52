"""Progress on the screen: a bar in a terminal, otherwise one line an epoch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastrnn.training.callbacks import Callback, StepInfo
from fastrnn.training.history import EpochRecord

if TYPE_CHECKING:
    from rich.progress import Progress


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """Return an epoch in one line.

    Examples
    --------
    >>> epoch_line(EpochRecord(2, 0.5, 0.9, 0.4, 0.95, 1e-3, 1234.5, 6.78), 10)
    'epoch 2/10: loss 0.5000, accuracy 90.0%, validation 0.4000, 95.0%, 1,234 strips/s, 6.8 s'
    """
    validation = ""
    if record.validation_loss is not None and record.validation_accuracy is not None:
        validation = f", validation {record.validation_loss:.4f}, {record.validation_accuracy:.1%}"
    return (
        f"epoch {record.epoch}/{epochs}: loss {record.loss:.4f}, accuracy {record.accuracy:.1%}"
        f"{validation}, {record.strips_per_second:,.0f} strips/s, {record.seconds:.1f} s"
    )


class ProgressLines(Callback):
    """Writes one line an epoch to standard error."""

    def __init__(self, title: str = "") -> None:
        self._prefix = f"{title}, " if title else ""
        self._epochs = 0

    def on_start(self, epochs: int) -> None:
        """Remember how many epochs there are."""
        self._epochs = epochs

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the epoch's line."""
        print(self._prefix + epoch_line(record, self._epochs), file=sys.stderr, flush=True)


class ProgressBar(Callback):
    """Shows a bar that goes through each epoch, and leaves one line an epoch above it."""

    def __init__(self, title: str = "") -> None:
        self._prefix = f"{title}, " if title else ""
        self._epochs = 0
        self._bar: Progress | None = None

    def on_start(self, epochs: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._prefix + f"epoch 1/{epochs}", state="")
        self._bar.start()

    def on_step(self, info: StepInfo) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=self._prefix + f"epoch {info.epoch}/{info.epochs}",
                completed=info.step,
                total=info.steps,
                state=f"loss {info.loss:.4f}, accuracy {info.accuracy:.1%}",
            )

    def on_validation(self, done: int, strips: int) -> None:
        """Say how far the validation is."""
        if self._bar is not None:
            self._bar.update(self._task, state=f"validating {done:,}/{strips:,}")

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the epoch's line above the bar."""
        if self._bar is not None:
            self._bar.console.print(
                self._prefix + epoch_line(record, self._epochs), highlight=False, soft_wrap=True
            )
            self._bar.reset(self._task)

    def on_end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_progress(title: str = "") -> Callback:
    """Return a bar if standard error is a terminal, else lines."""
    return ProgressBar(title) if sys.stderr.isatty() else ProgressLines(title)
