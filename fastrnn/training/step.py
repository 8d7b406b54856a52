"""One step of the optimizer, on one batch or on several whose gradients are added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fastrnn.data import StripBatch
from fastrnn.data.mixup import MixedBatch, mixup_batch
from fastrnn.training.config import TrainingConfig
from fastrnn.training.evaluation import batch_logits
from fastrnn.training.loss import strip_losses
from fastrnn.training.precision import autocast
from fastrnn.training.run_state import RunState

_MIXUP_STREAM = 0x6D69786D  # keeps these random numbers apart from others of the same seed


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient became infinite or not a number."""


@dataclass(frozen=True)
class StepScores:
    """What a step measured, on the weights before it.

    Attributes
    ----------
    loss
        Mean over the step's strips.
    gradient_norm
        Before clipping.
    """

    loss: float
    gradient_norm: float


class Optimisation:
    """Steps of a training.

    Parameters
    ----------
    state
        What a step changes.
    config
        How.
    weights
        [K] weights of the classes in the loss, None for equal ones.
    """

    def __init__(self, state: RunState, config: TrainingConfig, weights: Tensor | None) -> None:
        self.state, self.config = state, config
        self.weights = None if weights is None else weights.to(state.device)
        self.clip_norm = math.inf if config.clip_norm is None else config.clip_norm

    def step(self, batches: Sequence[StripBatch], steps: int) -> StepScores:
        """Make one step, of `steps` in the epoch, with the gradient of all strips in `batches`.

        Raises
        ------
        NonFiniteLossError
            If the loss or the gradient is infinite or not a number; no weight has changed.
        """
        state = self.state
        state.schedule.before_step(state.epoch, state.step, steps)
        state.optimizer.zero_grad(set_to_none=True)
        strips = sum(map(len, batches))
        loss, correct = 0.0, 0
        first = state.step * self.config.accumulate
        for number, batch in enumerate(batches, first):
            part, right = self._add_gradient(batch, number, strips)
            loss, correct = loss + part, correct + right
            self._require_finite("loss", loss, steps)
        norm = self._apply_gradient(steps)
        state.finish_step(loss * strips, correct, strips)
        return StepScores(loss, norm)

    def _add_gradient(self, batch: StripBatch, number: int, strips: int) -> tuple[float, int]:
        """Return a batch's part of the loss and its right predictions, and add its gradient."""
        state = self.state
        batch = batch.to(state.device)
        mixed = self._mix(batch, number)
        if mixed is not None:
            batch = replace(batch, strips=mixed.strips, lengths=mixed.lengths)
        with autocast(state.autocast_dtype, state.device):
            logits = batch_logits(state.model, batch)
        losses, targets = self._losses(logits, batch.targets), batch.targets
        if mixed is not None:
            others = self._losses(logits, mixed.other_targets)
            losses = torch.lerp(others, losses, mixed.share.to(losses))
            targets = torch.where(mixed.share < 0.5, mixed.other_targets, targets)
        loss = losses.sum() / strips
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.item(), int((logits.argmax(1) == targets).sum())

    def _mix(self, batch: StripBatch, number: int) -> MixedBatch | None:
        """Mix the strips of the epoch's batch `number`, None if that is not wanted."""
        augment = self.config.augment
        if augment is None or augment.mixup == 0:
            return None
        key = (self.config.seed, self.state.epoch, number, _MIXUP_STREAM)
        return mixup_batch(batch, augment.mixup, key)

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        return strip_losses(logits, targets, weights=self.weights, label_smoothing=smoothing)

    def _apply_gradient(self, steps: int) -> float:
        """Clip the gradient, step along it, and return its norm."""
        state = self.state
        state.scaler.unscale_(state.optimizer)
        norm = float(nn.utils.clip_grad_norm_(state.parameters, self.clip_norm))
        if state.scaler.get_scale() <= 1:
            # Above that the scaler leaves the step out and tries a smaller scale.
            self._require_finite("gradient's norm", norm, steps)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(state.model)
        return norm

    def _require_finite(self, what: str, value: float, steps: int) -> None:
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {what} became {value} in epoch {self.state.epoch + 1}, step "
                f"{self.state.step + 1} of {steps}: lower learning_rate "
                f"({self.config.learning_rate:g}) or clip_norm ({self.config.clip_norm}); the "
                f"model has its last good weights"
            )
