"""What differs between a GPU and the CPU, on which the runner itself is tested."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

Call = Callable[[], object]


class Device(Protocol):
    """Where the jobs run."""

    type: str

    @property
    def torch(self) -> torch.device:
        """Torch's device."""
        ...

    def synchronize(self) -> None:
        """Wait for all work; errors of earlier launches are raised here."""
        ...

    def healthy(self) -> bool:
        """Whether it still computes; after an illegal memory access a GPU does not."""
        ...

    def milliseconds(self, call: Call, repeats: int) -> float:
        """Time of one call, the mean of some in a row, from cold caches."""
        ...

    def peak_bytes(self, call: Call) -> int | None:
        """Memory that a call takes on top of what is there; None where nobody counts."""
        ...


class CudaDevice:
    """The first CUDA device, timed by events."""

    type = "cuda"

    def __init__(self) -> None:
        self._cold: torch.Tensor | None = None

    @property
    def torch(self) -> torch.device:
        return torch.device("cuda", 0)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def healthy(self) -> bool:
        try:
            value = float(torch.ones(4, device=self.torch).sum())
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return value == 4.0

    def milliseconds(self, call: Call, repeats: int) -> float:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        start, end = events
        self._flush_l2()
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / repeats

    def peak_bytes(self, call: Call) -> int | None:
        self.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        self.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)

    def _flush_l2(self) -> None:
        if self._cold is None:
            size = 2 * torch.cuda.get_device_properties(self.torch).L2_cache_size
            self._cold = torch.empty(max(size, 1), dtype=torch.uint8, device=self.torch)
        self._cold.zero_()


class CpuDevice:
    """The CPU, timed by the clock."""

    type = "cpu"
    torch = torch.device("cpu")

    def synchronize(self) -> None:
        return None

    def healthy(self) -> bool:
        return True

    def milliseconds(self, call: Call, repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) * 1e3 / repeats

    def peak_bytes(self, call: Call) -> int | None:
        call()
        return None


def device_named(name: str) -> Device:
    """The device "cuda" or "cpu"."""
    return CudaDevice() if name == "cuda" else CpuDevice()
