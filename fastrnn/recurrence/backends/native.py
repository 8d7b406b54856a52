"""Native modules of the package, and addresses as they take them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torch import Tensor

from fastrnn._version import __version__


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
