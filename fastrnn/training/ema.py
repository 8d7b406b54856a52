"""An exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged_copy(model: nn.Module, decay: float) -> AveragedModel:
    """Copy a model into an exponential moving average of its weights.

    The decay of step t is ``min(decay, (1 + t) / (10 + t))``, so that a short training is not
    held back by its first weights (the rule of TensorFlow's ExponentialMovingAverage with
    ``num_updates``). Buffers are copied, not averaged: running statistics are averages already.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> average = averaged_copy(model, decay=0.99)
    >>> average.update_parameters(model)
    >>> bool(average.module.weight == model.weight)
    True
    """

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        t = int(steps)
        warm = min(decay, (1 + t) / (10 + t))
        get_ema_multi_avg_fn(warm)(averaged, current, steps)  # type: ignore[no-untyped-call]

    return AveragedModel(model, multi_avg_fn=update)
