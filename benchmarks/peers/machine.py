"""What this machine can do, measured: products, exponentials, bandwidths.

``python -m benchmarks.peers.machine --threads 2`` prints it as JSON. The runner starts that in a
process with as many CPUs as threads, and stores what it says beside the results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .cases import HIDDEN_SIZES, INPUT_SIZES

_SECONDS = 0.15
_ROWS = 8192
_SQUARE = 2048

# Where sysfs does not tell, these are usual sizes.
_USUAL_CACHES = {1: 32 * 1024, 2: 1024 * 1024, 3: 32 * 1024 * 1024}


def measure(threads: int) -> dict[str, Any]:
    """Rates of `threads` threads together, in GFLOP/s and GB/s, and nanoseconds on one thread."""
    torch.set_num_threads(threads)
    sgemm = {
        f"I={inputs}, H={hidden}": _sgemm(_ROWS, inputs + hidden, 4 * hidden)
        for inputs in INPUT_SIZES
        for hidden in HIDDEN_SIZES
    }
    sgemm["square"] = _sgemm(_SQUARE, _SQUARE, _SQUARE)
    caches = cache_sizes()
    shared, memory = caches[3] // 2, 8 * caches[3]
    bandwidth = {"L3": _bandwidth(shared), "DRAM": _bandwidth(memory)}
    torch.set_num_threads(1)
    # Each core has an L2 of its own.
    bandwidth["L2"] = threads * _bandwidth(caches[2] // 2)
    functions = {"exp": torch.exp, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    activation = {name: _activation(function) for name, function in functions.items()}
    return {
        "threads": threads,
        "sgemm_gflops": _rounded(sgemm),
        "bandwidth_gb_s": _rounded(bandwidth),
        "activation_ns": _rounded(activation),
        "cache_bytes": {f"L{level}": size for level, size in caches.items()},
    }


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[int, int]:
    """Bytes of the data caches by level, as sysfs tells; usual ones where it doesn't."""
    sizes = dict(_USUAL_CACHES)
    for index in sorted(folder.glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        level = int((index / "level").read_text())
        sizes[level] = int((index / "size").read_text().strip().removesuffix("K")) * 1024
    return sizes


def _sgemm(rows: int, inner: int, columns: int) -> float:
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    out = torch.empty(rows, columns)
    seconds = _best(lambda: torch.mm(a, b, out=out))
    return 2 * rows * inner * columns / seconds / 1e9


def _bandwidth(size: int) -> float:
    """Read `size` bytes again and again; the better of a sum and a matrix times a vector."""
    columns = 1024
    a = torch.randn(max(size // 4 // columns, 1), columns)
    v, out = torch.randn(columns), torch.empty(a.shape[0])
    tiny = a[:1, :1].contiguous()
    seconds = [
        # Calling alone takes a part of the time where the array is small.
        _best(lambda: a.sum()) - _best(lambda: tiny.sum()),
        _best(lambda: torch.mv(a, v, out=out)) - _best(lambda: torch.mv(tiny, v[:1], out=out[:1])),
    ]
    return a.numel() * 4 / min(seconds) / 1e9


def _activation(function: Callable[..., Any]) -> float:
    values = torch.randn(32 * 1024)  # 128 KiB: in the L2
    out = torch.empty_like(values)
    return _best(lambda: function(values, out=out)) / values.numel() * 1e9


def _best(function: Callable[[], object]) -> float:
    """The shortest of some runs: what the machine can do, not what it does at times."""
    function()
    best = float("inf")
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.4g}") for key, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    print(json.dumps(measure(parser.parse_args().threads)))


if __name__ == "__main__":
    main()
