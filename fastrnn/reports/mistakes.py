"""The strips that a classifier is surest of and wrong about."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastrnn.data import StripDataset
from fastrnn.plots import StripPicture
from fastrnn.training.evaluation import device_of, mode, window_plan_of


@dataclass(frozen=True)
class Mistake:
    """A strip that was taken for something else.

    Attributes
    ----------
    index
        Position in the dataset.
    true, predicted
        Class names.
    probability
        That the classifier gave to the class it predicted.
    """

    index: int
    true: str
    predicted: str
    probability: float


def worst_mistakes(
    probabilities: Tensor, targets: Tensor, labels: Sequence[str], most: int
) -> list[Mistake]:
    """Find the wrong predictions, the surest first.

    Parameters
    ----------
    probabilities
        [N, K].
    targets
        int64 [N].
    labels
        Names of the K classes.
    most
        How many to return at most.

    Examples
    --------
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> [m.index for m in worst_mistakes(probabilities, torch.tensor([1, 1, 1]), "ab", most=5)]
    [0, 1]
    """
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != targets).nonzero().flatten()
    surest = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most]
    return [
        Mistake(i, labels[int(targets[i])], labels[int(predicted[i])], float(confidence[i]))
        for i in surest.tolist()
    ]


def picture_mistakes(
    model: nn.Module, dataset: StripDataset, mistakes: Sequence[Mistake]
) -> list[StripPicture]:
    """Read the strips of mistakes, with the attention along them if the model has one."""
    pictures = []
    for mistake in mistakes:
        strip, _ = dataset[mistake.index]
        title = (
            f"strip {mistake.index}: {mistake.true}, taken for {mistake.predicted} "
            f"({mistake.probability:.0%} sure)"
        )
        attention = attention_along(model, strip)
        pictures.append(StripPicture(strip.numpy(), title, attention=attention, right=False))
    return pictures


def attention_along(model: nn.Module, strip: Tensor) -> NDArray[np.floating] | None:
    """Return the attention [T] of a model on a strip [C, H, W], None if it has none.

    A model that sees strips through windows has one for each window, which says nothing about
    the whole strip.
    """
    knows = "return_attention" in inspect.signature(model.forward).parameters
    if not knows or window_plan_of(model) is not None:
        return None
    with mode(model, training=False), torch.inference_mode():
        try:
            _, weights = model(strip[None].to(device_of(model)), return_attention=True)
        except ValueError:  # a pooling without attention
            return None
    attention: NDArray[np.floating] = weights[0].float().cpu().numpy()
    return attention
