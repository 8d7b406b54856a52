"""In which type a training's forward passes run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from fastrnn.training.config import Precision


def autocast_dtype(amp: Precision, device: torch.device) -> torch.dtype | None:
    """Return the type that `amp` stands for on a device, None for the model's own.

    Examples
    --------
    >>> autocast_dtype("bfloat16", torch.device("cpu"))
    torch.bfloat16
    >>> autocast_dtype("auto", torch.device("cpu")) is None
    True
    """
    if amp == "auto":
        on_gpu = device.type == "cuda"
        # Emulated, bfloat16 would be slower than float32.
        has_bfloat16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else None
    return {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[amp]


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Let operations run in `dtype` where it is safe; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
