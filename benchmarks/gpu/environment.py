"""Where a result was measured: device, versions, and the device's measured ceilings."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import statistics
import subprocess
from typing import Any

import torch

from benchmarks import results_file
from benchmarks.results_file import told

from .worker import Context, Params, Record

PROPERTIES = {
    "multiprocessors": "multi_processor_count",
    "memory_bytes": "total_memory",
    "l2_bytes": "L2_cache_size",
    "shared_memory_per_block": "shared_memory_per_block_optin",
    "shared_memory_per_multiprocessor": "shared_memory_per_multiprocessor",
    "registers_per_multiprocessor": "regs_per_multiprocessor",
}
SMI_FIELDS = {
    "driver": "driver_version",
    "sm_clock": "clocks.sm",
    "sm_clock_max": "clocks.max.sm",
    "memory_clock": "clocks.mem",
    "power_limit": "power.limit",
}
TOOLS = ("ncu", "compute-sanitizer", "cuobjdump", "cmake", "ninja")
COPY_BYTES = 2**30
MATMUL_SIZE = 8192
CEILING_SAMPLES = 7


def describe(params: Params, context: Context) -> Record:
    """Machine, versions and commit."""
    found = {**results_file.environment(), **_device(context), **_versions()}
    if params.get("commit") and found.get("commit", "unknown") == "unknown":
        found["commit"] = params["commit"]
    return {"environment": found}


def backends(params: Params, context: Context) -> Record:
    """The backends that may run on the device, and why some of them cannot."""
    from fastrnn.recurrence import dispatch

    kind = context.device.type
    found = [b for b in dispatch.BACKENDS if b.devices is None or kind in b.devices]
    return {"backends": {b.name: "; ".join(b.unavailable()) for b in found}}


def ceilings(params: Params, context: Context) -> Record:
    """Rates that no kernel exceeds: a large copy, and a large product of random matrices."""
    device, small = context.device, context.device.type == "cpu"
    size = COPY_BYTES // 64 if small else COPY_BYTES
    source = torch.empty(size, dtype=torch.uint8, device=device.torch).random_()
    target = torch.empty_like(source)
    n = MATMUL_SIZE // 32 if small else MATMUL_SIZE
    dtype = torch.float32 if small else torch.float16
    a, b = (torch.randn(n, n, device=device.torch, dtype=dtype) for _ in range(2))

    def median_ms(call: Any, repeats: int) -> float:
        device.milliseconds(call, repeats)
        return statistics.median(device.milliseconds(call, repeats) for _ in range(CEILING_SAMPLES))

    copy_ms = median_ms(lambda: target.copy_(source), 5)
    product_ms = median_ms(lambda: a @ b, 5)
    return {
        "ceilings": {
            "copy_gb_per_s": round(2 * size / copy_ms / 1e6, 1),
            "matmul_tflops": round(2 * n**3 / product_ms / 1e9, 1),
            "matmul_dtype": str(dtype).removeprefix("torch."),
        }
    }


def _device(context: Context) -> dict[str, Any]:
    if context.device.type == "cpu":
        return {"device": "cpu"}
    properties = torch.cuda.get_device_properties(context.device.torch)
    sizes = {key: getattr(properties, name, None) for key, name in PROPERTIES.items()}
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        **sizes,
        **_nvidia_smi(_smi_id(properties)),
    }


def _smi_id(properties: Any) -> str:
    """Torch's device for nvidia-smi, whose numbers know nothing of CUDA_VISIBLE_DEVICES."""
    uuid = getattr(properties, "uuid", None)
    return "0" if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"


def _nvidia_smi(device: str) -> dict[str, str]:
    query = f"--query-gpu={','.join(SMI_FIELDS.values())}"
    lines = _output("nvidia-smi", query, "--format=csv,noheader", f"--id={device}").splitlines()
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    return dict(zip(SMI_FIELDS, values, strict=False))


def _versions() -> dict[str, Any]:
    nvcc = re.search(r"release [^,]+, V(\S+)", _output("nvcc", "--version"))
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": told(torch.backends.cudnn.version),
        "triton": told(_triton_version),
        "nvcc": nvcc.group(1) if nvcc else None,
        "tools": [tool for tool in TOOLS if shutil.which(tool)],
        "kernel": platform.release(),
        "cores": os.cpu_count(),
    }


def _triton_version() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return str(triton.__version__)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
