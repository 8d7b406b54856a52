"""Affine maps of strips, one for each strip of a dataset, with bilinear interpolation."""

import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fastrnn.data.checks import IntArray

FloatArray = NDArray[np.floating[Any]]
Pixels = NDArray[np.float32]


class AffineMaps:
    """What becomes of each strip: scaled, then slanted, then rotated, then moved.

    Everything is about the middle of the strip. Coordinates run right and down, in pixels.

    Parameters
    ----------
    height
        Rows, before and after.
    lengths, widths
        int64 ``[N]`` columns of each strip before and after.
    stretch, scale
        ``[N]`` factors along the columns and along the rows.
    slant, rotation
        ``[N]`` radians. A positive slant moves the upper rows to the right, a positive rotation
        the right end down.
    centre, down
        ``[N]`` column in the new strip where the old one's middle comes to lie, and rows that it
        moves down.

    Examples
    --------
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> maps = AffineMaps(
    ...     2, np.array([4]), np.array([6]), stretch=one, scale=one, slant=zero, rotation=zero,
    ...     centre=3 * one, down=zero,
    ... )
    >>> maps.resample(np.arange(1, 9, dtype=np.float32).reshape(1, 2, 4), 0).astype(int).tolist()
    [[[0, 1, 2, 3, 4, 0], [0, 5, 6, 7, 8, 0]]]
    """

    def __init__(
        self,
        height: int,
        lengths: IntArray,
        widths: IntArray,
        *,
        stretch: FloatArray,
        scale: FloatArray,
        slant: FloatArray,
        rotation: FloatArray,
        centre: FloatArray,
        down: FloatArray,
    ) -> None:
        self.height, self.lengths, self.widths = height, lengths, widths
        self._first_column = 0.5 - centre
        self._first_row = 0.5 - height / 2 - down
        # How far the source moves, x + iy in half strips, per new column and per new row.
        lean, cos, sin = np.tan(slant), np.cos(rotation), np.sin(rotation)
        x, y = 2 / (stretch * lengths), 2 / (scale * height)
        self._per_column = (cos - lean * sin) * x - 1j * sin * y
        self._per_row = (sin + lean * cos) * x + 1j * cos * y

    def resample(self, pixels: Pixels, index: int) -> Pixels:
        """Map strip ``index``, ``[C, H, frames * lengths[index]]``, each frame alike.

        Zeros come in from outside. Gives ``[C, H, frames * widths[index]]``.
        """
        channels, height, columns = pixels.shape
        length = int(self.lengths[index])
        frames = pixels.reshape(channels, height, columns // length, length).transpose(2, 0, 1, 3)
        mapped = F.grid_sample(
            torch.from_numpy(frames),
            torch.from_numpy(self._grid(index)).expand(len(frames), -1, -1, -1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        return mapped.numpy().transpose(1, 2, 0, 3).reshape(channels, height, -1)

    def _grid(self, index: int) -> Pixels:
        """Where each new pixel comes from, ``[1, H, W, 2]`` as `grid_sample` wants it."""
        width, height = int(self.widths[index]), self.height
        columns = (np.arange(width) + self._first_column[index]) * self._per_column[index]
        rows = (np.arange(height) + self._first_row[index]) * self._per_row[index]
        # As complex numbers, x and y are one sum, and lie side by side.
        places = scratch("places", height * width, np.complex64).reshape(height, width)
        np.add(columns.astype(np.complex64), rows.astype(np.complex64)[:, None], out=places)
        return places.view(np.float32).reshape(1, height, width, 2)


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, NDArray[Any]] = {}


_buffers = _Buffers()


def scratch(name: str, count: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Memory that the next call of the same name, on the same thread, overwrites.

    The memory of large temporaries goes back to the system each time, and what they cost then is
    page faults: several times as much as the work on a strip.
    """
    buffer = _buffers.by_name.get(name)
    if buffer is None or len(buffer) < count:
        buffer = _buffers.by_name[name] = np.empty(count, dtype)
    return buffer[:count]
