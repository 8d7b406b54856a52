"""What a training reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

StoppedBy = Literal["epochs", "patience", "interrupt"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes
    ----------
    epoch
        Number of the epoch, from 1.
    loss, accuracy
        Mean over the training strips as they were trained on (with dropout, label smoothing,
        augmentation, weights of classes, and the model's weights changing).
    validation_loss, validation_accuracy
        On the validation set after the epoch, None without one.
    learning_rate
        At the epoch's last step.
    strips_per_second
        Training speed.
    seconds
        Time of training and validation.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    strips_per_second: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    Attributes
    ----------
    history
        One record per finished epoch.
    best_epoch
        Epoch (from 1) with the best validation result, None without a validation set.
    stopped_by
        ``"epochs"``: all were trained. ``"patience"``: no better validation result for that long.
        ``"interrupt"``: Ctrl-C, or `Trainer.request_stop`.
    checkpoint
        The checkpoint to resume from, None without an output folder.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int | None
    stopped_by: StoppedBy
    checkpoint: Path | None
