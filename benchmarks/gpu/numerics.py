"""The kinds of arithmetic that are checked and measured, by short names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_HAS_PRECISION_SETTINGS = hasattr(torch.backends, "fp32_precision")  # since torch 2.9

DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

# Spacing of the numbers next to 1.
EPS = {"fp64": 2.0**-52, "fp32": 2.0**-23, "tf32": 2.0**-10, "fp16": 2.0**-10, "bf16": 2.0**-7}

# Largest relative distance of two right results of a whole sequence: it finds gross errors at
# sizes that are too large for a float64 reference.
AGREEMENT = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 5e-2, "bf16": 1e-1}


@contextmanager
def arithmetic(precision: str) -> Iterator[torch.dtype]:
    """Let torch's RNNs round float32 to TF32 for "tf32", not for the others; yields the dtype."""
    before = _read()
    _write("tf32" if precision == "tf32" else "ieee")
    try:
        yield DTYPES[precision]
    finally:
        _write(before)


def _read() -> str:
    if _HAS_PRECISION_SETTINGS:
        return str(torch.backends.cudnn.rnn.fp32_precision)  # type: ignore[attr-defined]
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


def _write(value: str) -> None:
    if _HAS_PRECISION_SETTINGS:
        torch.backends.cudnn.rnn.fp32_precision = value  # type: ignore[attr-defined]
    else:
        torch.backends.cudnn.allow_tf32 = value == "tf32"


def relative_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference over the norm of the second, in float32; NaN if either has one."""
    wide_a, wide_b = a.detach().float(), b.detach().float()
    size = float(torch.linalg.vector_norm(wide_b))
    distance = float(torch.linalg.vector_norm(wide_a - wide_b))
    return distance / size if size > 0 else distance


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN, so that an element never written is found."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
