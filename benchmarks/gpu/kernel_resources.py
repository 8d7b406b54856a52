"""What Triton compiled in this process: registers, spills, shared memory of each kernel."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

MODULES = "fastrnn"


def compiled_kernels() -> list[dict[str, Any]]:
    """One entry per compiled variant of the package's kernels; none without Triton."""
    if "triton" not in sys.modules:
        return []
    found = {}
    for kernel in _compiled():
        metadata = kernel.metadata
        entry = {
            "kernel": kernel.name,
            "target": getattr(metadata.target, "arch", None),
            "warps": metadata.num_warps,
            "registers": getattr(kernel, "n_regs", None),
            "spills": getattr(kernel, "n_spills", None),
            "shared": metadata.shared,
            "variant": _constants(kernel),
        }
        found[str(entry)] = entry
    return sorted(found.values(), key=lambda entry: (entry["kernel"], entry["variant"]))


def _compiled() -> Iterator[Any]:
    """Every compiled kernel in the caches of the package's functions.

    The caches are Triton's own business: where another version arranges them differently there is
    simply nothing to report.
    """
    from triton.runtime.jit import JITFunction

    # By type: `isinstance` would ask every object for its class, and some warn when asked.
    for function in [o for o in gc.get_objects() if issubclass(type(o), JITFunction)]:
        if not str(getattr(function, "__module__", "")).startswith(MODULES):
            continue
        for cache in getattr(function, "device_caches", {}).values():
            kernels = cache[0] if isinstance(cache, tuple) else cache
            for kernel in getattr(kernels, "values", list)():
                if hasattr(kernel, "metadata") and hasattr(kernel, "name"):
                    yield kernel


def _constants(kernel: Any) -> str:
    """Values of the compile-time parameters, which tell one variant from another."""
    source = kernel.src
    names = getattr(getattr(source, "fn", None), "arg_names", [])
    parts = []
    for key, value in getattr(source, "constants", {}).items():
        index = key[0] if isinstance(key, tuple) else key
        name = names[index] if isinstance(index, int) and index < len(names) else index
        parts.append(f"{name}={value}")
    return " ".join(parts)
