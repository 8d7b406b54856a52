"""The IDX file format in which MNIST is published."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UBYTE = 0x08  # http://yann.lecun.com/exdb/mnist/, "the IDX file format"


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of bytes.

    Parameters
    ----------
    path
        The file: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each
        dimension as a big-endian 32-bit integer, the data.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape that the file states.

    Raises
    ------
    ValueError
        If it is not such a file, or is damaged; names it.
    FileNotFoundError
        If there is no such file.
    """
    try:
        data = gzip.decompress(Path(path).read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a gzip file, or is damaged: {error}") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, _UBYTE]):
        raise ValueError(f"{path} is not an IDX file of bytes: it begins with {data[:4].hex(' ')}")
    dimensions = data[3]
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    size = int(np.prod(shape, dtype=np.int64))
    if len(data) != start + size:
        raise ValueError(
            f"{path} states shape {shape}, so {size} bytes of data, but has {len(data) - start}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
