"""How the Triton kernels may be cut and launched: plain arithmetic, without Triton."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

Pass = Literal["forward", "backward"]

# The recurrent weights stay in shared memory: 4 * H * H elements.
MAX_HIDDEN_SIZE = {torch.float16: 128, torch.bfloat16: 128, torch.float32: 64}

# Up to here the 16-bit kernel multiplies the input itself: a product beforehand would write and
# read four gates for each unit in place of these few numbers. With four, registers spill at
# H = 128; in float32 it costs more exchanges between warps than it saves.
MAX_FUSED_INPUT_SIZE = 3

# Hidden units are padded to a multiple of this, so that 16-bit rows start at 16-byte boundaries.
UNIT_MULTIPLE = 8

# Of a thread, about: 48 to 96 as compiled where a warp has 8 units and a tile 8 sequences
# (benchmarks/results/triton_resources.md).
_REGISTERS = 80
_WARP_SIZE = 32


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """Sequences per program, and warps to share them."""

    tile: int
    num_warps: int


class Multiprocessors(NamedTuple):
    """How many a GPU has, and what each holds: bytes of shared memory, threads, registers."""

    number: int
    shared_memory: int
    threads: int
    registers: int


def padded_size(hidden_size: int) -> int:
    """Hidden units as a power of two, and at least what a tensor core's instruction takes.

    Examples
    --------
    >>> padded_size(5), padded_size(100)
    (16, 128)
    """
    return max(16, 1 << (hidden_size - 1).bit_length())


def fuses_input(dtype: torch.dtype, input_size: int) -> bool:
    """Whether the forward kernel multiplies the input itself."""
    return dtype != torch.float32 and input_size <= MAX_FUSED_INPUT_SIZE


@functools.cache
def candidates(
    kind: Pass, dtype: torch.dtype, hidden_size: int, input_size: int, *, allow_tf32: bool
) -> tuple[KernelConfig, ...]:
    """List configurations worth trying; the first is taken where nothing can be tried.

    A warp for every 8 hidden units and 8 sequences to a tile never spills and has the fewest
    instructions per step, as compiled for sm_80, sm_90 and sm_100. Wider tiles suit large batches;
    exact float32 products, and in forward a fused input, leave no registers for them.
    """
    size = padded_size(hidden_size)
    warps = max(2, size // 8)
    exact = dtype == torch.float32 and not allow_tf32
    if exact and kind == "backward":
        return (KernelConfig(tile=8, num_warps=2 * warps),)
    first = KernelConfig(tile=8, num_warps=warps)
    if exact or (kind == "forward" and fuses_input(dtype, input_size)):
        return (first,)
    if kind == "forward":
        return (first, KernelConfig(tile=16, num_warps=warps))
    return (first, KernelConfig(tile=8, num_warps=warps // 2)) if warps >= 8 else (first,)


def shared_memory(dtype: torch.dtype, hidden_size: int) -> int:
    """Bytes of shared memory, at most, that a program of the first configuration takes."""
    size = padded_size(hidden_size)
    exchange = 4 * size * 8 * 4  # the gates of a tile in float32
    return 4 * size * size * dtype.itemsize + exchange


def resident_programs(
    config: KernelConfig, dtype: torch.dtype, hidden_size: int, gpu: Multiprocessors
) -> int:
    """Programs that a GPU runs at once, about; more wait until others have ended.

    Examples
    --------
    >>> h200 = Multiprocessors(132, 233_472, 2048, 65_536)
    >>> resident_programs(KernelConfig(tile=8, num_warps=16), torch.float16, 128, h200)
    132
    >>> resident_programs(KernelConfig(tile=8, num_warps=8), torch.float16, 64, h200)
    396
    """
    threads = config.num_warps * _WARP_SIZE
    on_each = min(
        gpu.shared_memory // shared_memory(dtype, hidden_size),
        gpu.threads // threads,
        gpu.registers // (threads * _REGISTERS),
    )
    return gpu.number * max(1, on_each)
