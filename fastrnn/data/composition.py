"""Strips composed of digits: one digit to find, among pieces of others."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, positive_int
from fastrnn.data.dataset import StripDataset

DIGIT = 28  # rows and columns of a digit, and the height of a strip
MIN_WIDTH, MAX_WIDTH = 140, 420
CROP = 8  # rows and columns of a piece of clutter
CROPS_PER_COLUMN = 8 / 280
_MAX_CROPS = round(MAX_WIDTH * CROPS_PER_COLUMN)
_WORDS = 2 + 5 * _MAX_CROPS  # random words per strip: width, offset, five for each crop


class DigitStrips(StripDataset):
    """Grey strips of 28 x W: a digit somewhere, clutter everywhere, combined by maximum.

    W is uniform in 140..420. Strip ``i`` shows digit ``i % len(digits)`` at a uniform offset and,
    per 280 columns, eight 8 x 8 crops of other digits at uniform positions. It depends on ``key``
    and ``i`` only: not on ``size``, nor on the order of access.

    Parameters
    ----------
    digits
        uint8 ``[D, 28, 28]``, at least two.
    targets
        ``[D]`` the digits' classes 0..9.
    size
        Number of strips.
    key
        Integers >= 0 that together seed the random numbers.
    """

    def __init__(
        self,
        digits: NDArray[np.uint8],
        targets: NDArray[np.integer],
        *,
        size: int,
        key: tuple[int, ...],
    ) -> None:
        # Philox's raw words are the same in every version of NumPy, its distributions may change.
        words = np.random.Philox(key).random_raw(size * _WORDS).reshape(size, _WORDS)
        widths = (MIN_WIDTH + words[:, 0] % (MAX_WIDTH - MIN_WIDTH + 1)).astype(np.int64)
        self._digits = digits
        self._sources = np.arange(size) % len(digits)
        self._offsets = (words[:, 1] % _count(widths - DIGIT)).astype(np.int64)
        self._crops = self._place_crops(words[:, 2:].reshape(size, _MAX_CROPS, 5), widths)
        self._crop_counts = np.rint(widths * CROPS_PER_COLUMN).astype(np.int64)
        super().__init__(
            labels=[str(digit) for digit in range(10)],
            targets=np.asarray(targets)[self._sources],
            lengths=widths,
            height=DIGIT,
            channels=1,
        )

    def _place_crops(self, words: NDArray[np.uint64], widths: IntArray) -> NDArray[np.int32]:
        """``[size, crops, 5]``: source digit, row and column there, row and column in the strip."""
        others = _count(np.full(1, len(self._digits) - 2))
        steps = 1 + words[..., 0] % others
        crops = np.empty(words.shape, np.int32)
        crops[..., 0] = (self._sources[:, None] + steps.astype(np.int64)) % len(self._digits)
        crops[..., 1:4] = words[..., 1:4] % _count(np.full(3, DIGIT - CROP))
        crops[..., 4] = words[..., 4] % _count(widths - CROP)[:, None]
        return crops

    def read_strip(self, index: int) -> Tensor:
        """Compose strip ``index``."""
        strip = np.zeros((DIGIT, self.lengths[index]), np.uint8)
        offset = self._offsets[index]
        strip[:, offset : offset + DIGIT] = self._digits[self._sources[index]]
        crops = self._crops[index, : self._crop_counts[index]].tolist()
        for source, row, column, top, left in crops:
            piece = self._digits[source, row : row + CROP, column : column + CROP]
            place = strip[top : top + CROP, left : left + CROP]
            np.maximum(place, piece, out=place)
        return torch.from_numpy(strip[None])


def _count(largest: IntArray) -> NDArray[np.uint64]:
    """How many numbers there are in ``0 .. largest``, as the unsigned type of the random words."""
    return (largest + 1).astype(np.uint64)


def check_split(split: str) -> int:
    """0 for "train", 1 for "test"; ValueError otherwise."""
    splits = ("train", "test")
    if split not in splits:
        raise ValueError(f'split is {split!r}, but must be "train" or "test"')
    return splits.index(split)


def check_size(size: int | None, default: int) -> int:
    """``size``, or ``default`` if it is None; an error below 1."""
    return default if size is None else positive_int("size", size)
