"""Accuracy, precision, recall, F1 and the confusion matrix of a classification."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def confusion_matrix(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Count how often each class was taken for each class.

    Parameters
    ----------
    targets, predictions
        Class numbers, int [N], each in 0..num_classes - 1.
    num_classes
        Number of classes K.

    Returns
    -------
    Tensor
        int64 [K, K]; row = true class, column = predicted class.

    Raises
    ------
    ValueError
        If the shapes differ or a class number is out of range.

    Examples
    --------
    >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    if targets.shape != predictions.shape or targets.dim() != 1:
        raise ValueError(
            f"targets and predictions should have the same shape [N], "
            f"they have {tuple(targets.shape)} and {tuple(predictions.shape)}"
        )
    for name, classes in (("targets", targets), ("predictions", predictions)):
        outside = ((classes < 0) | (classes >= num_classes)).nonzero().flatten()
        if outside.numel():
            i = int(outside[0])
            raise ValueError(
                f"{name}[{i}] is {int(classes[i])}, it should be in 0..{num_classes - 1}"
            )
    cells = targets.long() * num_classes + predictions.long()
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, float64 [K]; a ratio with nothing to count is 0, as in scikit-learn.

    Attributes
    ----------
    precision
        Share of right ones among the strips given this class.
    recall
        Share of this class's strips that were found.
    f1
        Harmonic mean of precision and recall.
    support
        Number of strips of this class, int64 [K].
    macro_f1
        Mean F1 of the classes that occur among targets or predictions.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor
    macro_f1: float


def accuracy(confusion: Tensor) -> float:
    """Share of right predictions in a confusion matrix [K, K]; 0 for an empty one."""
    return int(confusion.trace()) / max(1, int(confusion.sum()))


def class_scores(confusion: Tensor) -> ClassScores:
    """Precision, recall and F1 of each class from a confusion matrix [K, K].

    Examples
    --------
    >>> class_scores(torch.tensor([[1, 1], [0, 2]])).recall.tolist()
    [0.5, 1.0]
    """
    hits = confusion.diagonal().double()
    support, predicted = confusion.sum(1), confusion.sum(0)
    f1 = 2 * hits / (support + predicted).clamp(min=1)
    occurring = (support + predicted) > 0
    return ClassScores(
        precision=hits / predicted.clamp(min=1),
        recall=hits / support.clamp(min=1),
        f1=f1,
        support=support,
        macro_f1=float(f1[occurring].mean()) if occurring.any() else 0.0,
    )
