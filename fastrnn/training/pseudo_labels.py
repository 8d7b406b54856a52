"""Which unlabelled strips get a pseudo-label, and which one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fastrnn.data import UNLABELLED
from fastrnn.training.config import check_integer, check_number


class PseudoLabeller(Protocol):
    """Decides on pseudo-labels, once a round; the part of self-training to exchange."""

    def __call__(self, probabilities: Tensor, previous: Tensor) -> Tensor:
        """Choose pseudo-labels.

        Parameters
        ----------
        probabilities
            The model's class probabilities of the unlabelled strips, float32 [N, K].
        previous
            Their pseudo-labels of the round before, int64 [N], -1 for none.

        Returns
        -------
        Tensor
            Their pseudo-labels for this round, int64 [N], -1 for none.
        """


@dataclass(frozen=True)
class ConfidenceThreshold:
    """Takes the most probable class where its probability is above a threshold.

    Parameters
    ----------
    threshold
        The probability, in [0, 1).
    keep
        False decides anew each round, so that labels may change or be withdrawn: mistakes of an
        early model are not trained on for ever. True never changes a label, as scikit-learn's
        SelfTrainingClassifier.

    Examples
    --------
    >>> probabilities = torch.tensor([[0.95, 0.05], [0.6, 0.4]])
    >>> ConfidenceThreshold(0.9)(probabilities, torch.tensor([-1, -1])).tolist()
    [0, -1]
    """

    threshold: float = 0.9
    keep: bool = False

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, 1)

    def __call__(self, probabilities: Tensor, previous: Tensor) -> Tensor:
        """Choose pseudo-labels; see `PseudoLabeller`."""
        confidence, classes = probabilities.max(1)
        labels = torch.where(confidence > self.threshold, classes, UNLABELLED)
        return torch.where(previous == UNLABELLED, labels, previous) if self.keep else labels


@dataclass(frozen=True)
class KBest:
    """Adds the k most confident strips in each round and keeps their labels, as scikit-learn.

    Parameters
    ----------
    k
        How many strips are added a round, at least 1.

    Examples
    --------
    >>> probabilities = torch.tensor([[0.95, 0.05], [0.6, 0.4], [0.3, 0.7]])
    >>> KBest(1)(probabilities, torch.tensor([0, -1, -1])).tolist()
    [0, -1, 1]
    """

    k: int = 10

    def __post_init__(self) -> None:
        check_integer("k", self.k, 1)

    def __call__(self, probabilities: Tensor, previous: Tensor) -> Tensor:
        """Choose pseudo-labels; see `PseudoLabeller`."""
        confidence, classes = probabilities.max(1)
        free = (previous == UNLABELLED).nonzero().flatten()
        chosen = free[confidence[free].topk(min(self.k, len(free))).indices]
        labels = previous.clone()
        labels[chosen] = classes[chosen]
        return labels
