"""How the learning rate goes over a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fastrnn.training.config import ScheduleName, TrainingConfig

# OneCycleLR's div_factor and final_div_factor, and its range of the momentum.
_ONECYCLE_FIRST = 1 / 25
_ONECYCLE_LAST = _ONECYCLE_FIRST / 10_000
_SLOW, _QUICK = 0.95, 0.85


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


def onecycle_factor(progress: float, warmup: float) -> float:
    """Learning rate at a share of the training, as a share of the highest.

    Half a cosine from 1/25 up to 1 over the first `warmup`, then another one down to 4e-6: the
    rise and the last, lowest rates of Smith and Topin (Super-Convergence, 2018), in the shape and
    with the constants of `torch.optim.lr_scheduler.OneCycleLR`.

    Examples
    --------
    >>> [round(onecycle_factor(p, 0.3), 2) for p in (0.0, 0.15, 0.3, 0.65, 1.0)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return _half_cosine(_ONECYCLE_FIRST, 1.0, progress / warmup)
    return _half_cosine(1.0, _ONECYCLE_LAST, (progress - warmup) / (1 - warmup))


def onecycle_momentum(progress: float, warmup: float) -> float:
    """AdamW's first beta: it falls from 0.95 to 0.85 while the rate rises, and comes back.

    As in `torch.optim.lr_scheduler.OneCycleLR`, after Smith (A disciplined approach to neural
    network hyper-parameters, 2018).

    Examples
    --------
    >>> [round(onecycle_momentum(p, 0.3), 3) for p in (0.0, 0.3, 0.65, 1.0)]
    [0.95, 0.85, 0.9, 0.95]
    """
    if progress < warmup:
        return _half_cosine(_SLOW, _QUICK, progress / warmup)
    return _half_cosine(_QUICK, _SLOW, (progress - warmup) / (1 - warmup))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


class _StepSchedule:
    """A pure function of the step, so there is no state to save."""

    default_warmup: ClassVar[float]

    def __init__(self, optimizer: Optimizer, config: TrainingConfig) -> None:
        self._optimizer = optimizer
        self._rate, self._epochs = config.learning_rate, config.epochs
        self._warmup = self.default_warmup if config.warmup is None else config.warmup

    def before_step(self, epoch: int, step: int, steps: int) -> None:
        """Set the rate for step `step` of `steps` of an epoch (all counted from 0)."""
        # The middle of the step: neither the first nor the last step is wasted on a rate of 0.
        progress = (epoch + (step + 0.5) / steps) / self._epochs
        for group in self._optimizer.param_groups:
            self._set(group, progress)

    def _set(self, group: dict[str, Any], progress: float) -> None:
        raise NotImplementedError

    def after_epoch(self, validation_loss: float | None) -> None:
        """Do nothing: the rate does not depend on the loss."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


class CosineSchedule(_StepSchedule):
    """A linear warm-up and half a cosine."""

    default_warmup = 0.05

    def _set(self, group: dict[str, Any], progress: float) -> None:
        group["lr"] = self._rate * cosine_factor(progress, self._warmup)


class OneCycleSchedule(_StepSchedule):
    """One rise and one fall of the rate, with the momentum going the other way."""

    default_warmup = 0.3

    def _set(self, group: dict[str, Any], progress: float) -> None:
        group["lr"] = self._rate * onecycle_factor(progress, self._warmup)
        group["betas"] = (onecycle_momentum(progress, self._warmup), group["betas"][1])


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


_SCHEDULES: dict[ScheduleName, Callable[[Optimizer, TrainingConfig], Schedule]] = {
    "cosine": CosineSchedule,
    "onecycle": OneCycleSchedule,
    "plateau": PlateauSchedule,
}


def make_schedule(optimizer: Optimizer, config: TrainingConfig) -> Schedule:
    """Return the schedule that `config` names."""
    return _SCHEDULES[config.schedule](optimizer, config)
