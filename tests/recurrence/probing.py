"""What the tests of the emulated GPU share: ``emulator_probe.cpp``, compiled, and the layouts of
operands, written out a second time from NVIDIA's PTX ISA manual ("Matrix Fragments").
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from .emulated import FLAGS, SOURCES, compiled_module

Array = np.ndarray


@functools.cache
def probe_module() -> ModuleType:
    sources = (Path(__file__).with_name("emulator_probe.cpp"), SOURCES / "cuda" / "emulator.cpp")
    units = [(source, ()) for source in sources]
    return compiled_module("emulator_probe", units, (*FLAGS, "-O1"))  # takes less time to compile


@dataclass(frozen=True)
class Fragments:
    """An instruction's operands by element: lane, register, and which part of it."""

    depth: int
    bits: Callable[[Array], Array]
    a: Callable[[int, int], tuple[int, int, int]]  # of row, k
    b: Callable[[int, int], tuple[int, int, int]]  # of k, column


def float32_bits(values: Array) -> Array:
    return values.astype(np.float32).view(np.uint32)


PAIRS = {
    "depth": 16,
    "a": lambda row, k: (row % 8 * 4 + k % 8 // 2, (row >= 8) + 2 * (k >= 8), k % 2),
    "b": lambda k, column: (column * 4 + k % 8 // 2, int(k >= 8), k % 2),
}
FRAGMENTS = {
    "half": Fragments(bits=lambda x: x.astype(np.float16).view(np.uint16), **PAIRS),
    "bfloat16": Fragments(bits=lambda x: float32_bits(x) >> 16, **PAIRS),
    "tf32": Fragments(
        depth=8,
        bits=float32_bits,
        a=lambda row, k: (row % 8 * 4 + k % 4, (row >= 8) + 2 * (k >= 4), 0),
        b=lambda k, column: (column * 4 + k % 4, int(k >= 4), 0),
    ),
}


def integers(seed: int, *shape: int, low: int = -8) -> Array:
    """Numbers whose products and sums are exact."""
    return np.random.default_rng(seed).integers(low, 9, shape).astype(np.float32)
