"""Images in NumPy's files, and pixels of any range of values as bytes."""

import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import ValueRange

ARRAY_SUFFIX = ".npy"

# The third version is for the names of fields, which pixels don't have.
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_array_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of NumPy's, by its ending."""
    return Path(path).suffix.lower() == ARRAY_SUFFIX


def read_array_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Shape ``(H, W)`` or ``(H, W, C)`` of the image in a ``.npy`` file, from its header alone.

    Raises
    ------
    ValueError
        If the file doesn't hold an image, or less than its header promises.
    """
    with Path(path).open("rb") as file:
        return _read_header(file)


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Image ``[H, W]`` or ``[H, W, C]`` in a ``.npy`` file, in this machine's order of bytes.

    Nothing pickled is loaded.

    Raises
    ------
    ValueError
        As for `read_array_shape`.
    """
    with Path(path).open("rb") as file:
        _read_header(file)
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_bytes(values: NDArray[Any], value_range: ValueRange | None = None) -> NDArray[np.uint8]:
    """Pixels of any type as bytes.

    Parameters
    ----------
    values
        The pixels, of any shape.
    value_range
        Values that become 0 and 255; those between are mapped linearly, those beyond are clipped.
        By default bytes stay as they are, 16 bits keep their high byte, and true is 255.

    Raises
    ------
    ValueError
        If a value is not a number, or the pixels' type has no natural range.

    Examples
    --------
    >>> depth = np.array([0, 500, 1000, 4000], np.uint16)
    >>> to_bytes(depth).tolist(), to_bytes(depth, (0, 1000)).tolist()
    ([0, 1, 3, 15], [0, 128, 255, 255])
    """
    if value_range is not None:
        return _mapped(values, *value_range)
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return (values // 256).astype(np.uint8)
    what = "floating-point" if values.dtype.kind == "f" else values.dtype.name
    raise ValueError(
        f"has {what} pixels; give value_range=(low, high), the values that become 0 and 255"
    )


def _mapped(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("has pixels that are not a number (NaN)")
    share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    scaled: NDArray[np.uint8] = np.floor(share * 255 + 0.5).astype(np.uint8)
    return scaled


def _read_header(file: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    if version == (3, 0):
        raise ValueError("the array has named fields, but an image has numbers")
    if version not in _HEADER_READERS:
        raise ValueError("it is damaged, or not an array of NumPy's")
    shape, _, dtype = _HEADER_READERS[version](file)
    if dtype.hasobject:
        raise ValueError("the array holds Python objects, which are never loaded")
    if dtype.kind not in "biuf":
        raise ValueError(f"the array has dtype {dtype}, but an image has numbers")
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] > 4):
        raise ValueError(
            f"the array has shape {shape}, but an image has [H, W] or [H, W, C], with "
            "C = 1 (grey), 3 (RGB), or 2 or 4 (with alpha)"
        )
    start = file.tell()
    there = file.seek(0, os.SEEK_END) - start
    needed = math.prod(shape) * dtype.itemsize
    if there < needed:
        raise ValueError(f"the array takes {needed:,} bytes, but the file holds {there:,}")
    return tuple(shape)
