"""Strips composed of digits: one to find among pieces of others, or the first one of several."""

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, positive_int
from fastrnn.data.dataset import StripDataset

Task = Literal["find", "first"]

DIGIT = 28  # rows and columns of a digit, and the height of a strip
MIN_WIDTH, MAX_WIDTH = 140, 420
MIN_DIGITS, MAX_DIGITS = 2, 6  # side by side in a strip of the task "first"
CROP = 8  # rows and columns of a piece of clutter
CROPS_PER_COLUMN = 8 / 280
_MAX_CROPS = round(MAX_WIDTH * CROPS_PER_COLUMN)
_CROP_WORDS = 5 * _MAX_CROPS
_FIND_WORDS = 2  # random words per strip: width, offset
_FIRST_WORDS = 2 + MAX_DIGITS + (MAX_DIGITS - 1)  # number of digits, width, places, other digits


class DigitStrips(StripDataset):
    """Grey strips of 28 x W: digits somewhere, clutter everywhere, combined by maximum.

    Strip ``i`` shows digit ``i % len(digits)`` and, per 280 columns, eight 8 x 8 crops of other
    digits at uniform positions. It depends on ``key``, ``task`` and ``i`` only: not on ``size``,
    nor on the order of access. Its target is the class of that digit.

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
    task
        "find": the digit is the only whole one, at a uniform offset; W is uniform in 140..420.
        "first": it is the leftmost of two to six digits side by side, which don't overlap; the
        others are drawn from ``digits``. Their number is uniform, and W is uniform among the
        widths in 140..420 that they fit into.
    """

    def __init__(
        self,
        digits: NDArray[np.uint8],
        targets: NDArray[np.integer],
        *,
        size: int,
        key: tuple[int, ...],
        task: Task = "find",
    ) -> None:
        several = check_task(task) == "first"
        layout_words = _FIRST_WORDS if several else _FIND_WORDS
        # Philox's raw words are the same in every version of NumPy, its distributions may change.
        random = np.random.Philox((*key, 1) if several else key)
        words = random.random_raw(size * (layout_words + _CROP_WORDS)).reshape(size, -1)
        sources = np.arange(size) % len(digits)
        place = _several_digits if several else _one_digit
        self._layout = place(words[:, :layout_words], sources, len(digits))
        widths = self._layout.widths
        self._digits = digits
        crop_words = words[:, layout_words:].reshape(size, _MAX_CROPS, 5)
        self._crops = _place_crops(crop_words, sources, len(digits), widths)
        self._crop_counts = np.rint(widths * CROPS_PER_COLUMN).astype(np.int64)
        super().__init__(
            labels=[str(digit) for digit in range(10)],
            targets=np.asarray(targets)[sources],
            lengths=widths,
            height=DIGIT,
            channels=1,
        )

    def read_strip(self, index: int) -> Tensor:
        """Compose strip ``index``."""
        strip = np.zeros((DIGIT, self.lengths[index]), np.uint8)
        _, counts, sources, offsets = self._layout
        shown = slice(counts[index])
        digits = zip(sources[index, shown].tolist(), offsets[index, shown].tolist(), strict=True)
        for source, offset in digits:
            strip[:, offset : offset + DIGIT] = self._digits[source]
        crops = self._crops[index, : self._crop_counts[index]].tolist()
        for source, row, column, top, left in crops:
            piece = self._digits[source, row : row + CROP, column : column + CROP]
            place = strip[top : top + CROP, left : left + CROP]
            np.maximum(place, piece, out=place)
        return torch.from_numpy(strip[None])


class _Layout(NamedTuple):
    """Where the digits of each strip stand, from left to right; ``K`` is the most in a strip."""

    widths: IntArray  # [N] columns of the strip
    counts: IntArray  # [N] number of digits
    sources: IntArray  # [N, K] which digits
    offsets: IntArray  # [N, K] their first columns


def _one_digit(words: NDArray[np.uint64], sources: IntArray, digits: int) -> _Layout:
    widths = MIN_WIDTH + _below(words[:, 0], np.array(MAX_WIDTH - MIN_WIDTH))
    offsets = _below(words[:, 1], widths - DIGIT)
    return _Layout(widths, np.ones_like(widths), sources[:, None], offsets[:, None])


def _several_digits(words: NDArray[np.uint64], sources: IntArray, digits: int) -> _Layout:
    counts = MIN_DIGITS + _below(words[:, 0], np.array(MAX_DIGITS - MIN_DIGITS))
    narrowest = np.maximum(MIN_WIDTH, counts * DIGIT)
    widths = narrowest + _below(words[:, 1], MAX_WIDTH - narrowest)
    # Points in the columns that the digits leave free, in order; each digit pushes what follows.
    free = _below(words[:, 2 : 2 + MAX_DIGITS], (widths - counts * DIGIT)[:, None])
    places = np.arange(MAX_DIGITS)
    free[places >= counts[:, None]] = MAX_WIDTH  # no digit: behind those that are
    offsets = np.sort(free, axis=1) + places * DIGIT
    others = _others(words[:, 2 + MAX_DIGITS :], sources, digits)
    return _Layout(widths, counts, np.column_stack([sources, others]), offsets)


def _place_crops(
    words: NDArray[np.uint64], sources: IntArray, digits: int, widths: IntArray
) -> NDArray[np.int32]:
    """``[N, crops, 5]``: source digit, row and column there, row and column in the strip."""
    crops = np.empty(words.shape, np.int32)
    crops[..., 0] = _others(words[..., 0], sources, digits)
    crops[..., 1:4] = _below(words[..., 1:4], np.full(3, DIGIT - CROP))
    crops[..., 4] = _below(words[..., 4], (widths - CROP)[:, None])
    return crops


def _others(words: NDArray[np.uint64], sources: IntArray, digits: int) -> IntArray:
    """``[N, K]`` digits that are not the strip's own."""
    return (sources[:, None] + 1 + _below(words, np.array(digits - 2))) % digits


def _below(words: NDArray[np.uint64], largest: IntArray) -> IntArray:
    """Uniform integers in ``0 .. largest`` from random words."""
    return (words % (largest + 1).astype(np.uint64)).astype(np.int64)


def check_split(split: str) -> int:
    """0 for "train", 1 for "test"; ValueError otherwise."""
    splits = ("train", "test")
    if split not in splits:
        raise ValueError(f'split is {split!r}, but must be "train" or "test"')
    return splits.index(split)


def check_size(size: int | None, default: int) -> int:
    """``size``, or ``default`` if it is None; an error below 1."""
    return default if size is None else positive_int("size", size)


def check_task(task: str) -> str:
    """``task`` if it is "find" or "first"; ValueError otherwise."""
    if task not in get_args(Task):
        raise ValueError(f'task is {task!r}, but must be "find" or "first"')
    return task
