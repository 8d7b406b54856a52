"""Strips made up so that what can be known from a part of them is known exactly."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data.checks import natural_int, positive_int
from fastrnn.data.composition import check_split
from fastrnn.data.dataset import StripDataset

_DEFAULT_SIZE = 2000
_NOISE = 24  # grey levels, in both directions
Words = NDArray[np.uint64]


class _DrawnStrips(StripDataset):
    """Strips drawn from random words: a target and a length each, then as many as are wanted.

    Philox's raw words are the same in every version of NumPy; all that follows is arithmetic of
    integers. So a strip depends on ``(seed, split, index)`` only, on every machine.
    """

    def __init__(
        self,
        split: str,
        size: int,
        seed: int,
        *,
        labels: tuple[str, ...],
        shortest: int,
        longest: int,
        unit: int,
        height: int,
        channels: int,
    ) -> None:
        self._key = (natural_int("seed", seed), check_split(split))
        size = positive_int("size", size)
        words = np.random.Philox(self._key).random_raw(2 * size).reshape(size, 2)
        super().__init__(
            labels=labels,
            targets=(words[:, 0] % np.uint64(len(labels))).astype(np.int64),
            lengths=unit * (shortest + words[:, 1] % np.uint64(longest - shortest + 1)).astype(int),
            height=height,
            channels=channels,
        )

    def _draws(self, index: int) -> "_Draws":
        # 1 + index: a key that ends in 0 is that of the targets and lengths
        return _Draws(np.random.Philox((*self._key, 1 + index)))


class _Draws:
    """Numbers for one strip, one after the other, from a generator of random words."""

    def __init__(self, words: np.random.Philox) -> None:
        self._words = words

    def below(self, count: int) -> int:
        """One of ``0 .. count - 1``, alike likely but for some 2^-64 parts."""
        return int(self._words.random_raw()) % count

    def noise(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Grey levels in ``-_NOISE .. _NOISE``."""
        count = math.prod(shape)
        words: NDArray[np.uint64] = self._words.random_raw(-(-count // 8))
        levels = words.astype("<u8").view(np.uint8)[:count].reshape(shape)
        return levels.astype(np.int64) % (2 * _NOISE + 1) - _NOISE


_SLOT, _OBJECT_COLUMNS, _OBJECT_ROWS = 20, 15, 16
_ORDERS = ([0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1])
_CUES = 2  # the first so many orders
_NOTHING = [np.zeros((1, _OBJECT_COLUMNS), np.int64)] * 2

# What is added to colours and depth, [C, 15]: the cues, then clutter.
_COLOURS = 100 * np.eye(3, dtype=np.int64)
_HEIGHTS = np.array([[55, 110, 165]])
_BARS = [np.repeat(_COLOURS[:, order], 5, axis=1) for order in _ORDERS] + _NOTHING
_STEPS = [np.repeat(_HEIGHTS[:, order], 5, axis=1) for order in _ORDERS] + _NOTHING


class RGBDStrips(_DrawnStrips):
    """Strips of four channels, red, green, blue and depth, whose class takes both to tell.

    A strip of 24 x W, W in 80..200, is divided into slots of 20 columns. One slot holds, in the
    colour channels, three bars from left to right: red, green, blue or blue, green, red. Another
    one holds, in the depth channel, three steps that go up or down. The four combinations are the
    classes. Most other slots hold clutter: bars and steps in the four other orders. Everything is
    at random heights, on random backgrounds, under noise.

    **What one modality is worth.** The order of the bars and the direction of the steps are two
    fair coins, independent of each other and of all else, and the colour channels are a function of
    the first coin and of random numbers that the second has no part in. Given the colours alone,
    both directions of the steps stay equally likely, so no classifier is right with a probability
    above 1/2; one that finds the bars and guesses the direction reaches 1/2. The same holds
    for depth alone. Both together determine the class; knowing neither is worth 1/4. The cues of
    two classes that differ in one coin are mirror images, so the mean of a channel, or its
    histogram, says nothing of either coin.

    Parameters
    ----------
    split
        "train" or "test": different strips.
    size
        Number of strips.
    seed
        Another one gives other strips. A strip depends on ``(seed, split, index)`` only.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> strips = RGBDStrips("train", size=100)
    >>> strip, target = strips[0]
    >>> strip.shape[:2], strips.labels[target]
    (torch.Size([4, 24]), 'rgb down')
    """

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        size: int = _DEFAULT_SIZE,
        seed: int = 0,
    ) -> None:
        super().__init__(
            split,
            size,
            seed,
            labels=("rgb up", "rgb down", "bgr up", "bgr down"),
            shortest=80,
            longest=200,
            unit=1,
            height=24,
            channels=4,
        )

    def read_strip(self, index: int) -> Tensor:
        """Draw strip ``index``."""
        cues = divmod(int(self.targets[index]), 2)
        width = int(self.lengths[index])
        draws = self._draws(index)
        slots = width // _SLOT
        left = draws.below(width - slots * _SLOT + 1)
        bars_slot = draws.below(slots)
        steps_slot = (bars_slot + 1 + draws.below(slots - 1)) % slots
        levels = [25 + draws.below(40) for _ in range(self.channels)]
        strip = draws.noise((self.channels, self.height, width))
        strip += np.array(levels)[:, None, None]
        for slot in range(slots):
            for part, pictures, cue, cue_slot in (
                (strip[:3], _BARS, cues[0], bars_slot),
                (strip[3:], _STEPS, cues[1], steps_slot),
            ):
                # Drawn where the cue is too: no draw depends on a cue.
                clutter = _CUES + draws.below(len(pictures) - _CUES)
                top = draws.below(self.height - _OBJECT_ROWS + 1)
                start = left + slot * _SLOT + draws.below(_SLOT - _OBJECT_COLUMNS + 1)
                place = part[:, top : top + _OBJECT_ROWS, start : start + _OBJECT_COLUMNS]
                place += pictures[cue if slot == cue_slot else clutter][:, None]
        return torch.from_numpy(strip.clip(0, 255).astype(np.uint8))


_SIDE, _SPECKS = 24, 3
_FINE = 256  # steps of a pixel, and of a full turn
_COSINES = np.array([round(_FINE * math.cos(2 * math.pi * k / _FINE)) for k in range(_FINE)])


class GestureClips(_DrawnStrips):
    """Clips of a blob that moves, grows or shrinks: what it does shows in the order of the frames.

    A clip has 10 to 40 grey frames of 24 x 24, side by side in a strip ``[1, 24, frames * 24]``. A
    round blob of random size and brightness moves to the left, right, up or down, goes around
    clockwise or the other way, or grows (zoom in) or shrinks (zoom out), from a random place at a
    random speed. What leaves the picture on one side comes in on the other. In every other clip
    there is a second, dimmer blob that never changes; specks and noise are in all of them.

    **What frames are worth without their order.** A clip of the second of each pair of classes is
    one of the first played backwards. So the set of its frames has the same distribution, and
    whatever does not look at their order is right with a probability of at most 1/2. A single
    frame, drawn at random, has the same distribution for all classes: place and size of the blob
    are uniform and independent of each other in each of them (the size of a blob that
    does not grow is that of a growing one at a random moment). Its worth is that of a guess, 1/8.

    Parameters
    ----------
    split, size, seed
        As for `RGBDStrips`.

    Attributes
    ----------
    frame_width : int
        Columns of a frame, 24.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> clips = GestureClips("train", size=100)
    >>> clip, target = clips[0]
    >>> frames = clip.unflatten(-1, (-1, clips.frame_width)).movedim(2, 0)
    >>> frames.shape, clips.labels[target]
    (torch.Size([12, 1, 24, 24]), 'left')
    """

    frame_width = _SIDE

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        size: int = _DEFAULT_SIZE,
        seed: int = 0,
    ) -> None:
        super().__init__(
            split,
            size,
            seed,
            labels=(
                *("right", "left", "down", "up"),
                *("clockwise", "anticlockwise", "zoom in", "zoom out"),
            ),
            shortest=10,
            longest=40,
            unit=self.frame_width,
            height=self.frame_width,
            channels=1,
        )

    def read_strip(self, index: int) -> Tensor:
        """Draw clip ``index``."""
        axis, backwards = divmod(int(self.targets[index]), 2)
        count = int(self.lengths[index]) // self.frame_width
        draws = self._draws(index)
        frames = _blob(_path(axis, count, draws), 120 + draws.below(80))
        for _ in range(draws.below(2)):
            still = (draws.below(_SIDE * _FINE), draws.below(_SIDE * _FINE), draws.below(3 * _FINE))
            path = np.array(still)[:, None] + np.array([[0], [0], [2 * _FINE]])
            np.maximum(frames, _blob(path, 40 + draws.below(60)), out=frames)
        frames += 20 + draws.below(40)
        for frame in frames:
            for _ in range(_SPECKS):
                frame[draws.below(_SIDE), draws.below(_SIDE)] += 100
        frames += draws.noise(frames.shape)
        if backwards:
            frames = frames[::-1]
        strip = frames.clip(0, 255).astype(np.uint8).transpose(1, 0, 2).reshape(1, _SIDE, -1)
        return torch.from_numpy(strip)


def _path(axis: int, count: int, draws: _Draws) -> NDArray[np.int64]:
    """Column, row and radius of the blob in each frame, ``[3, count]``, in 256ths of a pixel."""
    column, row = (draws.below(_SIDE * _FINE) + np.zeros(count, np.int64) for _ in range(2))
    way = 12 * _FINE + draws.below(12 * _FINE)
    ring = 4 * _FINE + draws.below(3 * _FINE)
    start, turn = draws.below(_FINE), 3 * _FINE // 4 + draws.below(_FINE // 2 + 1)
    smallest = 2 * _FINE + draws.below(_FINE)
    growth = 3 * _FINE + draws.below(2 * _FINE)
    moments = np.arange(count)
    moment = draws.below(count)
    last = count - 1
    if axis == 0:
        column += way * moments // last
    elif axis == 1:
        row += way * moments // last
    elif axis == 2:
        angles = start + turn * moments // last  # rows go down, so larger angles are clockwise
        column += ring * _COSINES[angles % _FINE] // _FINE
        row += ring * _COSINES[(angles - _FINE // 4) % _FINE] // _FINE
    radius = smallest + growth * (moments if axis == 3 else np.full(count, moment)) // last
    return np.stack([column, row, radius])


def _blob(path: NDArray[np.int64], peak: int) -> NDArray[np.int64]:
    """Frames ``[T, 24, 24]`` of a blob that is brightest in its middle, by as much as `peak`."""
    column, row, radius = path
    pixels = _FINE * np.arange(_SIDE)
    half = _SIDE * _FINE // 2
    # The shortest way from the middle to each pixel, around the edge if need be.
    right, down = ((pixels - at[:, None] + half) % (2 * half) - half for at in (column, row))
    squares = (right**2)[:, None, :] + (down**2)[:, :, None]
    limit = (radius**2)[:, None, None]
    light: NDArray[np.int64] = peak * np.maximum(0, limit - squares) // limit
    return light
