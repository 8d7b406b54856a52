"""What choosing a backend needs of a GPU: which it is, whether it may be timed, and a clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import metadata
from typing import NamedTuple, Protocol

import torch

AUTOTUNE_VARIABLE = "FASTRNN_AUTOTUNE"

_TRITON_PACKAGES = ("triton", "pytorch-triton", "pytorch-triton-rocm")


class DeviceFacts(NamedTuple):
    """Which device it is: its kind, and what tells it from others of its kind."""

    name: str
    compute_capability: str
    identity: str = ""


class Hardware(Protocol):
    """A kind of device on which backends are compared."""

    def describe(self, device: torch.device) -> DeviceFacts | None:
        """Say which device it is; None if this machine has none like it."""
        ...

    def may_time(self, device: torch.device) -> bool:
        """Whether kernels may be run and waited for now."""
        ...

    def on(self, device: torch.device) -> AbstractContextManager[object]:
        """Make it the current device, with the stream that its user has chosen."""
        ...

    def time(self, run: Callable[[], object]) -> float:
        """Run something on the current device and return how long it took, in microseconds."""
        ...


class Cuda:
    """GPUs that torch calls "cuda"."""

    def describe(self, device: torch.device) -> DeviceFacts | None:
        """Ask the driver; None where torch sees no GPU, as for fake tensors on another machine."""
        if not torch.cuda.is_available():
            return None
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        return DeviceFacts(properties.name, capability, str(getattr(properties, "uuid", device)))

    def may_time(self, device: torch.device) -> bool:
        """Refuse while cuDNN is off, and while a CUDA graph is captured: waiting would break it.

        Only a capture on the current stream is seen, not one by another thread.
        """
        return torch.backends.cudnn.enabled and not is_capturing(device)

    def on(self, device: torch.device) -> AbstractContextManager[object]:
        """Switch to the device; its current stream stays the user's."""
        return torch.cuda.device(device)

    def time(self, run: Callable[[], object]) -> float:
        """Time between two events on the current stream, one before and one after the work."""
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is captured on the current stream of a device.

    False while torch's compiler traces: nothing is captured then, and it cannot trace the question.
    """
    if torch.compiler.is_compiling() or device.type != "cuda" or not torch.cuda.is_available():
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def autotune_enabled() -> bool:
    """Whether trials may be held: unless ``FASTRNN_AUTOTUNE`` is 0.

    Raises
    ------
    ValueError
        If the variable is neither 0 nor 1.
    """
    value = os.environ.get(AUTOTUNE_VARIABLE) or "1"
    if value not in ("0", "1"):
        raise ValueError(f"{AUTOTUNE_VARIABLE} is {value!r}; it should be 0 or 1")
    return value == "1"


def cudnn_version() -> str:
    """Version of cuDNN that torch runs (of MIOpen on ROCm), "" without."""
    version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return "" if version is None else str(version)


def triton_version() -> str:
    """Version of the installed Triton, "" without; asked of its package, as importing is slow."""
    for package in _TRITON_PACKAGES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""
