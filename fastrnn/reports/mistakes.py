"""The strips that a classifier is surest of and wrong about."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastrnn.data import StripDataset
from fastrnn.data.groups import strip_path
from fastrnn.plots import StripPicture
from fastrnn.training.evaluation import device_of, mode, window_plan_of

_MOST_LETTERS = 60  # of a file's name above a picture


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
    file
        The strip's file, relative to the folder of the dataset's files; in a shard that of the
        shard and the strip's key. None if the strip is in no file.
    """

    index: int
    true: str
    predicted: str
    probability: float
    file: str | None = None

    @property
    def name(self) -> str:
        """How a person finds the strip: its file, or else its position."""
        return f"strip {self.index}" if self.file is None else self.file


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


def with_files(
    dataset: StripDataset, mistakes: Sequence[Mistake]
) -> tuple[Path | None, list[Mistake]]:
    """Name the files of mistakes, and the folder that all files of the dataset are in.

    Returns
    -------
    folder : pathlib.Path or None
        As the dataset's paths have it; None if they have no folder in common.
    mistakes : list of Mistake
        With the files, where there are some.
    """
    paths = [_path_or_none(dataset, index) for index in range(len(dataset))]
    folder = _common_folder(path for path in paths if path is not None)
    named = []
    for mistake in mistakes:
        path = paths[mistake.index]
        if path is not None:
            shown = path if folder is None else path.relative_to(folder)
            mistake = replace(mistake, file=shown.as_posix())
        named.append(mistake)
    return folder, named


def _path_or_none(dataset: StripDataset, index: int) -> Path | None:
    try:
        return strip_path(dataset, index)
    except ValueError:  # it is in no file
        return None


def _common_folder(paths: Iterable[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath({path.parent for path in paths}))
    except ValueError:  # there are no paths, or some are absolute and others not
        return None


def picture_mistakes(
    model: nn.Module, dataset: StripDataset, mistakes: Sequence[Mistake]
) -> list[StripPicture]:
    """Read the strips of mistakes, with the attention along them if the model has one."""
    pictures = []
    for mistake in mistakes:
        strip, _ = dataset[mistake.index]
        title = (
            f"{_end(mistake.name)}: {mistake.true}, taken for {mistake.predicted} "
            f"({mistake.probability:.0%} sure)"
        )
        attention = attention_along(model, strip)
        pictures.append(StripPicture(strip.numpy(), title, attention=attention, right=False))
    return pictures


def _end(name: str) -> str:
    """Shorten a name from its front: what differs from file to file is at its end."""
    if len(name) <= _MOST_LETTERS:
        return name
    return "\N{HORIZONTAL ELLIPSIS}" + name[1 - _MOST_LETTERS :]


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
