"""Sliding windows over strips."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fastrnn.data.checks import IntArray, positive_int


def check_window(size: int, stride: int) -> tuple[int, int]:
    """``size`` and ``stride``, or an error that names what is wrong with them."""
    size, stride = positive_int("size", size), positive_int("stride", stride)
    if stride > size:
        raise ValueError(f"stride is {stride}, but must be at most size ({size})")
    return size, stride


def count_windows(widths: IntArray, size: int, stride: int) -> IntArray:
    """How many windows cover strips of these widths.

    >>> count_windows(np.array([1, 4, 5, 7]), size=4, stride=2).tolist()
    [1, 1, 2, 3]
    """
    return 1 + np.maximum(0, -((size - widths) // stride))


def windows(strip: Tensor, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Cut a strip into windows of equal width that together cover it.

    Window ``k`` begins at column ``k * stride``; the last one is padded with zeros on the right.

    Parameters
    ----------
    strip
        ``[C, H, W]``, any dtype.
    size
        Columns of a window, at least 1.
    stride
        Columns from one window's start to the next, 1 .. ``size``.

    Returns
    -------
    windows : torch.Tensor
        ``[N, C, H, size]``, the strip's dtype.
    lengths : torch.Tensor
        int64 ``[N]``, valid columns of each.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> strip = torch.arange(1, 8).reshape(1, 1, 7)
    >>> parts, lengths = windows(strip, size=4, stride=2)
    >>> parts[:, 0, 0].tolist(), lengths.tolist()
    ([[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0]], [4, 4, 3])
    """
    if strip.ndim != 3 or not strip.shape[-1]:
        raise ValueError(f"strip has shape {tuple(strip.shape)}, but must be [C, H, W] with W > 0")
    size, stride = check_window(size, stride)
    width = strip.shape[-1]
    starts = torch.arange(int(count_windows(np.array(width), size, stride))) * stride
    padded = pad(strip, (0, int(starts[-1]) + size - width))
    parts = padded.unfold(-1, size, stride).movedim(2, 0).contiguous()
    return parts, (width - starts).clamp(max=size)
