"""The loss of a training: cross-entropy, with classes of different weight if wanted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastrnn.data import StripDataset
from fastrnn.data.sampling import class_weights
from fastrnn.training.config import TrainingConfig


def loss_weights(config: TrainingConfig, train: StripDataset) -> Tensor | None:
    """Weight of each class, float32 [K] with a mean of one over the training strips, or None.

    `torch.nn.CrossEntropyLoss` divides by the sum of a batch's weights, which makes a strip's
    weight depend on the strips beside it. Divided by the mean over all strips instead, the mean
    of the batches' losses is that of the whole training set.
    """
    given = config.class_weights
    if given is None:
        return None
    if isinstance(given, str):
        return torch.from_numpy(class_weights(train.targets, len(train.labels), given)).float()
    weights = torch.tensor(given, dtype=torch.float64)
    return (weights / weights[torch.as_tensor(train.targets)].mean()).float()


def strip_losses(
    logits: Tensor, targets: Tensor, *, weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """Cross-entropy [B] of each strip, in nats.

    Parameters
    ----------
    logits
        [B, K]; 16-bit ones, as autocast leaves them, are taken to float32 first.
    targets
        int64 [B].
    weights
        [K] weights of the classes, None for equal ones.
    label_smoothing
        As in `torch.nn.CrossEntropyLoss`.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return F.cross_entropy(
        logits,
        targets,
        weight=None if weights is None else weights.to(logits),
        label_smoothing=label_smoothing,
        reduction="none",
    )
