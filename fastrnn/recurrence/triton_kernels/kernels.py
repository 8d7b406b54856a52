"""The two kernels, the names of their optional tensors, and their compile-time constants."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels.backward import lstm_backward
from fastrnn.recurrence.triton_kernels.config import Pass, fuses_input, padded_size
from fastrnn.recurrence.triton_kernels.forward import lstm_forward

INTERPRETED = not isinstance(lstm_forward, triton.JITFunction)
"""Whether ``TRITON_INTERPRET=1`` was set when the kernels were imported: then they run on a CPU."""

KERNELS: dict[Pass, Any] = {"forward": lstm_forward, "backward": lstm_backward}

# Tensors that may be missing, in the order of their bits in `given`, and what is passed instead.
_OPTIONAL: dict[Pass, tuple[str, ...]] = {
    "forward": ("h_0", "c_0", "y"),
    "backward": ("c_0", "grad_h_n", "grad_c_n", "grad_y"),
}
_STAND_IN: dict[Pass, str] = {"forward": "h_n", "backward": "grad_h_0"}


def arguments(kind: Pass, problem: Problem, tensors: dict[str, Tensor | None]) -> dict[str, Any]:
    """All arguments of a kernel but for its configuration.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call.
    tensors : dict
        The kernel's tensors by their parameters' names, contiguous.
    """
    values: dict[str, Any] = dict(tensors)
    given = 0
    for bit, name in enumerate(_OPTIONAL[kind]):
        if values[name] is None:
            values[name] = values[_STAND_IN[kind]]  # neither read nor written
        else:
            given |= 1 << bit
    sizes = {"seq_len": problem.seq_len, "batch_size": problem.batch_size, "given": given}
    return values | sizes | constants(kind, problem, fast=_has_fast_tanh())


def constants(kind: Pass, problem: Problem, *, fast: bool) -> dict[str, Any]:
    """Compile-time constants of a kernel, but for the tile; none depends on T or B.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call.
    fast : bool
        Whether the hardware's tanh may be used where the dtype does not need better.
    """
    values: dict[str, Any] = {
        "HIDDEN_SIZE": problem.hidden_size,
        "PADDED_SIZE": padded_size(problem.hidden_size),
        "DIRECTIONS": problem.num_directions,
        "FAST": fast and problem.dtype != torch.float32,
        "PRECISION": "tf32" if problem.allow_tf32 else "ieee",
    }
    if INTERPRETED:
        values["PRECISION"] = "interpreted"
    if kind == "forward":
        fused = fuses_input(problem.dtype, problem.input_size)
        values["FUSED_INPUT"] = fused
        values["INPUT_SIZE"] = problem.input_size if fused else 0
        values["SAVE"] = problem.training
    return values


def _has_fast_tanh() -> bool:
    return not INTERPRETED and torch.version.hip is None
