"""Autocast: tensors are cast before a backend is chosen, and inside of the operators it is out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fastrnn.recurrence.problem import LayerArgs


def autocast(args: LayerArgs) -> LayerArgs:
    """Under autocast, take the tensors in its dtype, as torch takes those of its own LSTM."""
    if not torch._C._is_any_autocast_enabled() or not _is_on(args.x.device.type):
        return args
    dtype = torch.get_autocast_dtype(args.x.device.type)
    casts = (torch.float32, torch.float16, torch.bfloat16)  # float64 stays, as everywhere in torch
    return args.map(lambda t: t.to(dtype) if t.dtype in casts else t)


def no_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Shut out autocast: torch's products would round to 16 bits, and answer in them."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if _is_on(kind) else nullcontext()


def _is_on(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
