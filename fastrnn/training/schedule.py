"""How the learning rate goes over a training."""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fastrnn.training.config import TrainingConfig


class Schedule(Protocol):
    """Sets the learning rate of an optimizer."""

    def before_step(self, epoch: int, step: int, steps: int) -> None:
        """Set the rate for step `step` of `steps` of an epoch (all counted from 0)."""

    def after_epoch(self, validation_loss: float | None) -> None:
        """Take an epoch's validation loss into account."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on later."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""


def cosine_factor(progress: float, warmup: float) -> float:
    """Learning rate at a share of the training, as a share of the highest.

    Linear from 0 to 1 over the first `warmup`, then half a cosine down to 0
    (Loshchilov and Hutter, SGDR, 2017, without restarts).

    Examples
    --------
    >>> [round(cosine_factor(p, 0.2), 2) for p in (0.1, 0.2, 0.6, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class CosineSchedule:
    """Warm-up and half a cosine; a pure function of the step, so there is no state to save."""

    def __init__(self, optimizer: Optimizer, config: TrainingConfig) -> None:
        self._optimizer = optimizer
        self._config = config

    def before_step(self, epoch: int, step: int, steps: int) -> None:
        """Set the rate for step `step` of `steps` of an epoch (all counted from 0)."""
        # The middle of the step: neither the first nor the last step is wasted on a rate of 0.
        progress = (epoch + (step + 0.5) / steps) / self._config.epochs
        rate = self._config.learning_rate * cosine_factor(progress, self._config.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def after_epoch(self, validation_loss: float | None) -> None:
        """Do nothing: the rate does not depend on the loss."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


class PlateauSchedule:
    """A lower rate whenever the validation loss stops falling."""

    def __init__(self, optimizer: Optimizer, config: TrainingConfig) -> None:
        self._plateau = ReduceLROnPlateau(
            optimizer, factor=config.plateau_factor, patience=config.plateau_patience
        )

    def before_step(self, epoch: int, step: int, steps: int) -> None:
        """Do nothing: the rate changes between epochs."""

    def after_epoch(self, validation_loss: float | None) -> None:
        """Lower the rate if the validation loss has not improved for long enough."""
        if validation_loss is None:
            raise ValueError("the plateau schedule needs a validation loss, it got None")
        self._plateau.step(validation_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `ReduceLROnPlateau`."""
        return self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a `ReduceLROnPlateau`."""
        self._plateau.load_state_dict(state)


def make_schedule(optimizer: Optimizer, config: TrainingConfig) -> Schedule:
    """Return the schedule that `config` names."""
    if config.schedule == "plateau":
        return PlateauSchedule(optimizer, config)
    return CosineSchedule(optimizer, config)
