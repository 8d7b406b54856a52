"""Hooks into a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastrnn.training.history import EpochRecord


@dataclass(frozen=True)
class StepInfo:
    """Where a training is; epochs and steps count from 1.

    Attributes
    ----------
    epoch, epochs
        This epoch, and how many there are.
    step, steps
        This step of the optimizer, and how many the epoch has.
    global_step
        This step, counted over all epochs.
    loss, accuracy
        Mean over the epoch's strips so far.
    learning_rate
        Of this step.
    step_loss
        Mean over this step's strips.
    gradient_norm
        Of this step, before clipping.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    global_step: int
    loss: float
    accuracy: float
    learning_rate: float
    step_loss: float
    gradient_norm: float


class Callback:
    """Does nothing at each point of a training; override what you need.

    Examples
    --------
    >>> class StopEarly(Callback):
    ...     def on_epoch(self, record):
    ...         return record.accuracy > 0.99
    """

    def on_resume(self, history: Sequence[EpochRecord], global_step: int) -> None:
        """Before `on_start`, where a training goes on: its finished epochs and steps."""

    def on_start(self, epochs: int) -> None:
        """Before the first step."""

    def on_step(self, info: StepInfo) -> bool | None:
        """After each step; a true result stops the training as Ctrl-C does."""

    def on_validation(self, done: int, strips: int) -> None:
        """After each batch of the validation set."""

    def on_epoch(self, record: EpochRecord) -> bool | None:
        """After each epoch; a true result stops the training as Ctrl-C does."""

    def on_checkpoint(self) -> None:
        """Before a checkpoint is written: what belongs to it should be on disk."""

    def on_end(self) -> None:
        """At the end of the training, after an error too."""
