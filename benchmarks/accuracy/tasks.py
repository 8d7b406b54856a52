"""The data that models are held against: a training part and a test part, once or in folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from fastrnn.data import (
    GestureClips,
    RGBDStrips,
    SpokenDigits,
    StripArrays,
    StripCache,
    StripChannels,
    StripDataset,
    StripMNIST,
    StripSubset,
    group_k_fold,
)
from fastrnn.data.idx import read_idx
from fastrnn.data.strip_mnist import mnist_folder

Fold = tuple[StripDataset, StripDataset]


@dataclass(frozen=True)
class Task:
    """Something to learn.

    Parameters
    ----------
    title
        What the table calls it.
    folds
        Gives pairs of training and test strips; the accuracy is that over all test strips.
    """

    title: str
    folds: Callable[[], Iterator[Fold]]


def _strip_mnist(task: str) -> Iterator[Fold]:
    yield tuple(StripCache(StripMNIST(split=split, task=task)) for split in ("train", "test"))  # type: ignore[arg-type, misc]


def _mnist() -> Iterator[Fold]:
    """Digits as they are, without a strip around them, and on their side.

    So a column of the strip is a row of the digit, and a scan goes through it row by row.
    """
    parts = []
    for prefix in ("train", "t10k"):
        digits = read_idx(mnist_folder() / f"{prefix}-images-idx3-ubyte.gz")
        targets = read_idx(mnist_folder() / f"{prefix}-labels-idx1-ubyte.gz")
        parts.append(StripArrays(list(digits.transpose(0, 2, 1)), targets))
    yield parts[0], parts[1]


def _spoken_digits() -> Iterator[Fold]:
    """Six folds: the words of each speaker are heard by a model that learned from the others."""
    spoken = SpokenDigits()
    for train, test in group_k_fold(spoken.groups):
        yield StripCache(StripSubset(spoken, train)), StripCache(StripSubset(spoken, test))


def _rgbd(channels: tuple[int, ...]) -> Iterator[Fold]:
    train, test = RGBDStrips("train", size=6000), RGBDStrips("test")
    yield StripCache(StripChannels(train, channels)), StripCache(StripChannels(test, channels))


def _gestures() -> Iterator[Fold]:
    yield StripCache(GestureClips("train")), StripCache(GestureClips("test"))


TASKS = {
    "strip-mnist": Task("StripMNIST, 60,000 strips", partial(_strip_mnist, "find")),
    "strip-mnist-first": Task(
        "StripMNIST, the first of 2 to 6 digits", partial(_strip_mnist, "first")
    ),
    "mnist-rows": Task("MNIST by rows, 28 steps", _mnist),
    "mnist-pixels": Task("MNIST by pixels, 784 steps", _mnist),
    "spoken-digits": Task("spoken digits, speakers never heard", _spoken_digits),
    "rgbd": Task("synthetic RGB + depth", partial(_rgbd, (0, 1, 2, 3))),
    "rgb": Task("its RGB alone", partial(_rgbd, (0, 1, 2))),
    "depth": Task("its depth alone", partial(_rgbd, (3,))),
    "gestures": Task("synthetic gestures, 10 to 40 frames", _gestures),
}
