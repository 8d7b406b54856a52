"""Memory that a backward pass has let go of, for the next forward pass.

The C library returns blocks beyond 32 MB to the system at once. Fresh ones are zeroed page by page
when they are first written, which can take a fifth of a training step.
"""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor

SMALLEST = 32 << 20
"""Bytes from which on a block is worth keeping: the C library keeps smaller ones by itself."""

LIMIT = 256 << 20
"""Bytes that are kept in all, and so held by a process that no longer trains."""

# By identity, oldest first. A finalizer may run anywhere, also in the middle of `_take`: a block
# counts as taken only for whoever removed it.
_kept: dict[int, Tensor] = {}


def empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uninitialised tensor on the CPU, of the dtype of `like`, perhaps in memory used before.

    The memory is free again when the last tensor that shares it is gone. It cannot be resized.
    """
    num_elements = math.prod(shape)
    num_bytes = num_elements * like.element_size()
    if num_bytes < SMALLEST:
        return like.new_empty(shape)
    block = _take(num_bytes)
    if block is None:
        block = _new_block(like, num_bytes)
    # torch.frombuffer holds on to this array, and to nothing else of the block, for as long as the
    # tensor's storage lives; then the block comes back.
    memory = block.numpy()
    weakref.finalize(memory, _give_back, block).atexit = False
    return torch.frombuffer(memory, dtype=like.dtype, count=num_elements).view(shape)


def clear() -> None:
    """Let go of what is kept."""
    _kept.clear()


def _new_block(like: Tensor, num_bytes: int) -> Tensor:
    try:
        return like.new_empty(num_bytes, dtype=torch.uint8)
    except RuntimeError:
        if not _kept:
            raise
        clear()  # what is kept for later must not be what is missing now
        return like.new_empty(num_bytes, dtype=torch.uint8)


def _take(num_bytes: int) -> Tensor | None:
    """Take the smallest kept block that is large enough, and not more than twice as large."""
    fitting = [
        block for block in list(_kept.values()) if num_bytes <= block.numel() <= 2 * num_bytes
    ]
    for block in sorted(fitting, key=Tensor.numel):
        if _kept.pop(id(block), None) is not None:
            return block
    return None


def _give_back(block: Tensor) -> None:
    _kept[id(block)] = block
    while sum(map(Tensor.numel, list(_kept.values()))) > LIMIT:
        _kept.pop(next(iter(_kept)), None)
