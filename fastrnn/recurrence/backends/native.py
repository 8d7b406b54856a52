"""Native modules of the package, and addresses as they take them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, cast

from torch import Tensor

from fastrnn._version import __version__
from fastrnn.recurrence.problem import Problem

_Method = TypeVar("_Method", bound=Callable[..., Any])

# How torch says that there is no memory, and that a tensor's size overflows.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
)


def import_native(name: str) -> tuple[ModuleType | None, list[str]]:
    """Import a native module of the package by its full name; or say why it is of no use."""
    try:
        module = import_module(name)
    except ImportError as error:
        return None, [f"the native module {name} cannot be imported: {error}"]
    if module.__version__ != __version__:
        return None, [
            f"{name} was built for version {module.__version__}, but this is "
            f"{__version__}: install the package again"
        ]
    return module, []


def address(tensor: Tensor | None) -> int:
    """Where a tensor's elements are; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def raises_memory_error(method: _Method) -> _Method:
    """Let a backend's method raise `MemoryError` where a tensor cannot be allocated on the CPU.

    Torch itself raises a `RuntimeError`, which nobody can tell from any other.
    """

    @functools.wraps(method)
    def wrapped(self: Any, problem: Problem, *args: Any) -> Any:
        try:
            return method(self, problem, *args)
        except RuntimeError as error:
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                p = problem
                raise MemoryError(
                    f"not enough memory for x of shape [{p.seq_len}, {p.batch_size}, "
                    f"{p.input_size}] through {p.hidden_size} hidden units in "
                    f"{p.num_directions} direction(s): {error}"
                ) from error
            raise

    return cast(_Method, wrapped)
