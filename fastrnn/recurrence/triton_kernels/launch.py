"""Launches of the Triton kernels."""

from __future__ import annotations

import triton
from torch import Tensor

from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels.config import Pass
from fastrnn.recurrence.triton_kernels.kernels import INTERPRETED, KERNELS, arguments
from fastrnn.recurrence.triton_kernels.tuning import choose

__all__ = ["INTERPRETED", "launch"]


def launch(kind: Pass, problem: Problem, tensors: dict[str, Tensor | None]) -> None:
    """Run a kernel on the current stream of the current device, which is the tensors'.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call.
    tensors : dict
        The kernel's tensors by their parameters' names, contiguous.
    """
    config = choose(kind, problem)
    grid = (triton.cdiv(problem.batch_size, config.tile), problem.num_directions)
    KERNELS[kind][grid](
        **arguments(kind, problem, tensors),
        TILE=config.tile,
        num_warps=config.num_warps,
        num_stages=1,
    )
