"""Memory that nobody may touch around, and memory that is there only where it is touched."""

import ctypes
import mmap

import torch
from torch import Tensor

PAGE, GUARD, READ_WRITE, PRIVATE_ANONYMOUS = 4096, 1 << 20, 3, 0x22
MAP_NORESERVE = 0x4000  # of Linux; Python does not name it


def guarded(tensor: Tensor, *, at_end: bool) -> Tensor:
    """A copy that begins after a page that faults, or ends before one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = tensor.numel() * tensor.itemsize
    room = -(-size // PAGE) * PAGE
    base = libc.mmap(None, room + 2 * GUARD, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    for guard in (base, base + GUARD + room):
        assert libc.mprotect(guard, GUARD, 0) == 0
    start = base + GUARD + (room - size) * at_end
    memory = (ctypes.c_char * size).from_address(start)
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)


def sparse(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros that take memory where they are touched only: far more than there is."""
    size = dtype.itemsize * torch.Size(shape).numel()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.frombuffer(mmap.mmap(-1, size, flags), dtype=dtype).view(shape)


def spread(tensor: Tensor | None, rows: int, batch_size: int) -> Tensor:
    """The tensor as the last sequences of a huge batch; `rows` is their dimension."""
    assert tensor is not None
    full = sparse(*tensor.shape[:rows], batch_size, *tensor.shape[rows + 1 :], dtype=tensor.dtype)
    full[(slice(None),) * rows + (slice(batch_size - tensor.shape[rows], batch_size),)] = tensor
    return full
