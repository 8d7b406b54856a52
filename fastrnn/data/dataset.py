"""What every dataset of strips offers."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Dataset

from fastrnn.data.checks import (
    IntArray,
    check_labels,
    check_range,
    counted,
    int_array,
    positive_int,
)

UNLABELLED = -1
"""The target of a strip whose class is not known."""


class StripDataset(Dataset[tuple[Tensor, int]], ABC):
    """Base of every dataset of strips: images of one height and of any width.

    ``dataset[i]`` is ``(strip, target)``: a uint8 tensor ``[C, H, W]`` and an integer. Widths and
    targets are known without reading a single pixel.

    Parameters
    ----------
    labels
        Class names; target ``k`` means ``labels[k]``. May be empty when nothing is labelled.
    targets
        ``[N]`` integers in ``-1 .. len(labels) - 1``; -1 (`UNLABELLED`) where the class is unknown.
    lengths
        ``[N]`` widths in columns, at least 1.
    height, channels
        Rows and channels of every strip.

    Attributes
    ----------
    frame_width : int or None
        Columns of a frame, if strips are clips: their frames side by side.

    Raises
    ------
    ValueError, TypeError
        If the arguments don't fit together.
    """

    labels: tuple[str, ...]
    targets: IntArray
    lengths: IntArray
    height: int
    channels: int
    frame_width: int | None = None

    def __init__(
        self,
        *,
        labels: Sequence[str],
        targets: ArrayLike,
        lengths: ArrayLike,
        height: int,
        channels: int,
    ) -> None:
        self.height = positive_int("height", height)
        self.channels = positive_int("channels", channels)
        self.labels = check_labels(labels)
        self.targets = int_array("targets", targets)
        self.lengths = int_array("lengths", lengths)
        if len(self.targets) != len(self.lengths):
            raise ValueError(
                f"targets has {len(self.targets)} entries, but there are {len(self.lengths)} strips"
            )
        check_range("targets", self.targets, UNLABELLED, len(self.labels) - 1)
        check_range("lengths", self.lengths, 1, None)

    @abstractmethod
    def read_strip(self, index: int) -> Tensor:
        """Strip number ``index``, ``0 <= index < len(self)``: uint8 ``[C, H, lengths[index]]``."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: SupportsIndex) -> tuple[Tensor, int]:
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index is {i}, but the dataset has {len(self)} strips")
        i %= len(self)
        return self.read_strip(i), int(self.targets[i])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({counted(len(self), 'strip')}, height {self.height}, "
            f"{counted(self.channels, 'channel')}, {counted(len(self.labels), 'class')})"
        )


def require_classes(dataset: StripDataset) -> None:
    """Check that there is something to learn: labelled strips of at least two classes.

    Parameters
    ----------
    dataset
        The strips to train on. Prediction and evaluation don't need this.

    Raises
    ------
    ValueError
        If fewer than two classes have labelled strips; says what was found.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import StripArrays
    >>> require_classes(StripArrays([np.zeros((8, 9))] * 3, ["a", "a", ""]))
    Traceback (most recent call last):
    ...
    ValueError: training needs labelled strips of at least two classes, found one: 'a' (2 strips)
    """
    if not len(dataset):
        raise ValueError("the dataset has no strips")
    found, counts = np.unique(dataset.targets[dataset.targets != UNLABELLED], return_counts=True)
    if len(found) > 1:
        return
    needed = "training needs labelled strips of at least two classes"
    if not len(found):
        raise ValueError(f"{needed}, found none: all {len(dataset)} strips are unlabelled")
    strips = counted(int(counts[0]), "strip")
    raise ValueError(f"{needed}, found one: {dataset.labels[int(found[0])]!r} ({strips})")
