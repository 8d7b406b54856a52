"""Some channels of a dataset's strips: one modality of several."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastrnn.data.checks import check_range, int_array
from fastrnn.data.dataset import StripDataset


class StripChannels(StripDataset):
    """A view of some channels of every strip.

    Parameters
    ----------
    dataset
        Where the strips come from.
    channels
        Numbers of the channels to keep, in the order wanted; at least one.

    Raises
    ------
    ValueError, TypeError
        If there are none, or the dataset lacks one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import StripArrays
    >>> coloured = StripArrays([np.zeros((3, 28, 90), np.uint8)] * 2, [0, 1])
    >>> green = StripChannels(coloured, [1])
    >>> green.channels, tuple(green[0][0].shape)
    (1, (1, 28, 90))
    """

    def __init__(self, dataset: StripDataset, channels: ArrayLike) -> None:
        self.kept = int_array("channels", channels)
        if not len(self.kept):
            raise ValueError("channels is empty; keep at least one")
        check_range("channels", self.kept, 0, dataset.channels - 1)
        self.dataset = dataset
        self.frame_width = dataset.frame_width
        super().__init__(
            labels=dataset.labels,
            targets=dataset.targets,
            lengths=dataset.lengths,
            height=dataset.height,
            channels=len(self.kept),
        )

    def read_strip(self, index: int) -> Tensor:
        """Read the strip and take the channels."""
        return self.dataset.read_strip(index)[torch.from_numpy(self.kept)]
