"""Predictions and scores of a classifier on a dataset of strips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastrnn.data import StripBatch, StripDataset, strip_batches
from fastrnn.nn.mode import mode as mode
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.metrics import ClassScores, accuracy, class_scores, confusion_matrix


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter, the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Evaluation:
    """Scores of a classifier on labelled strips.

    Attributes
    ----------
    accuracy
        Share of right predictions.
    loss
        Mean cross-entropy in nats (without label smoothing).
    confusion
        int64 [K, K]; row = true class, column = predicted class.
    scores
        Precision, recall, F1 and support of each class, and macro F1.
    labels
        Names of the K classes.
    """

    accuracy: float
    loss: float
    confusion: Tensor
    scores: ClassScores
    labels: tuple[str, ...]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        return self.scores.macro_f1


def check_num_classes(logits: Tensor, labels: tuple[str, ...]) -> None:
    """Raise ValueError unless a model's logits [B, K] are for these labels."""
    if logits.shape[1] != len(labels):
        raise ValueError(
            f"the model gives {logits.shape[1]} classes, but the dataset has {len(labels)} labels"
        )


def batch_logits(model: nn.Module, batch: StripBatch) -> Tensor:
    """Logits [B, K] of a batch; ValueError if the model gives something else."""
    logits: Tensor = model(batch.strips, batch.lengths)
    if logits.dim() != 2 or len(logits) != len(batch):
        raise ValueError(
            f"the model's logits have shape {tuple(logits.shape)} for {len(batch)} strips, they "
            f"should have shape ({len(batch)}, number of classes)"
        )
    return logits


def predict_logits(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Logits of every strip, in the order of the dataset.

    Parameters and errors as for `predict_probabilities`; `on_batch` is called after each batch
    with the number of strips done so far, and may raise to stop.

    Returns
    -------
    Tensor
        float32 [N, K] on the CPU.
    """
    if len(dataset) == 0:
        raise ValueError("the dataset has no strips")
    device = device_of(model) if device is None else torch.device(device)
    parts, order = [], []
    done = 0
    with mode(model, training=False), torch.inference_mode():
        for batch in strip_batches(dataset, max_padded_steps=max_padded_steps, shuffle=False):
            parts.append(batch_logits(model, batch.to(device)).float().cpu())
            order.append(batch.indices)
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
    # Outside inference mode, so that autograd may use the result.
    return torch.cat(parts)[torch.cat(order).argsort()]


def predict_probabilities(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Class probabilities of every strip, in the order of the dataset.

    Parameters
    ----------
    model
        A strip classifier: ``model(strips [B, C, H, W], lengths [B]) -> logits [B, K]``. It runs
        in evaluation mode and has its former mode afterwards.
    dataset
        The strips; their targets are not looked at.
    max_padded_steps
        Budget of a batch: number of strips times the columns of its longest strip.
    device
        Where the batches go, by default where the model is.
    on_batch
        Called after each batch with the number of strips done so far.

    Returns
    -------
    Tensor
        float32 [N, K] on the CPU; each row sums to one.

    Raises
    ------
    ValueError
        If the dataset is empty.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=10, hidden_size=8)
    >>> predict_probabilities(model, StripDigits("test", size=5)).shape
    torch.Size([5, 10])
    """
    logits = predict_logits(
        model, dataset, max_padded_steps=max_padded_steps, device=device, on_batch=on_batch
    )
    return logits.softmax(1)


def evaluate(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a classifier on labelled strips.

    Parameters as for `predict_probabilities`.

    Raises
    ------
    ValueError
        If the dataset is empty, a strip in it has no label, or the model has another number of
        classes than the dataset.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=10, hidden_size=8)
    >>> evaluation = evaluate(model, StripDigits("test", size=5))
    >>> evaluation.confusion.shape, int(evaluation.confusion.sum())
    (torch.Size([10, 10]), 5)
    """
    targets = torch.as_tensor(dataset.targets)
    unlabelled = int((targets < 0).sum())
    if unlabelled:
        raise ValueError(
            f"{unlabelled} of the {len(targets)} strips to evaluate on have no label (target -1)"
        )
    logits = predict_logits(
        model, dataset, max_padded_steps=max_padded_steps, device=device, on_batch=on_batch
    )
    check_num_classes(logits, dataset.labels)
    confusion = confusion_matrix(targets, logits.argmax(1), len(dataset.labels))
    return Evaluation(
        accuracy=accuracy(confusion),
        loss=float(F.cross_entropy(logits.double(), targets)),
        confusion=confusion,
        scores=class_scores(confusion),
        labels=tuple(dataset.labels),
    )
