"""Native modules of the package, and addresses as they take them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import ParamSpec, TypeVar

from torch import Tensor

from fastrnn._version import __version__

_P = ParamSpec("_P")
_R = TypeVar("_R")

# How torch's allocator for the CPU says that there is no memory, and that a size in bytes overflows.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "Storage size calculation overflowed", "numel: integer")


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


def raises_memory_error(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function raise `MemoryError` where torch cannot allocate a tensor on the CPU.

    Torch itself raises a `RuntimeError`, which tells nobody apart from any other.
    """

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise MemoryError(str(error)) from error
            raise

    return wrapped
