"""What the backends with kernels for GPUs have in common: tensors as kernels take them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fastrnn.recurrence.precision import matmul_precision
from fastrnn.recurrence.problem import Problem


def on_device_of(problem: Problem) -> AbstractContextManager[object]:
    """Make the problem's device the current one."""
    return torch.cuda.device(problem.device) if problem.device.type == "cuda" else nullcontext()


def product_precision(problem: Problem) -> AbstractContextManager[None]:
    """Let torch's products follow its setting for RNNs; only for these, as others see it too."""
    if problem.device.type == "cuda" and problem.dtype == torch.float32:
        return matmul_precision(allow_tf32=problem.allow_tf32)
    return nullcontext()


def dense(tensor: Tensor) -> Tensor:
    """Contiguous, and on an address that allows the widest loads."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def lengths_on_device(lengths: Tensor | None, problem: Problem) -> Tensor | None:
    """Copy lengths; not converted before, for then those in pinned memory would lose it."""
    return None if lengths is None else lengths.to(problem.device, non_blocking=True)


def by_falling_length(
    lengths: Tensor | None, problem: Problem
) -> tuple[Tensor | None, Tensor | None]:
    """Sort sequences by falling length, so that a tile's are about equally long.

    Returns
    -------
    order : Tensor or None
        The sequences' indices, ``[B]``, int64; None without lengths.
    lengths : Tensor or None
        Their lengths in that order, int32.
    """
    on_device = lengths_on_device(lengths, problem)
    if on_device is None:
        return None, None
    # Lengths on a GPU are never read on the host: out of range they must not reach other memory.
    in_range = on_device.clamp(0, problem.seq_len).to(torch.int32)
    falling = in_range.sort(descending=True, stable=True)
    return falling.indices, falling.values


def input_share(
    x: Tensor, w_ih: Tensor, bias: Tensor | None, problem: Problem, out: Tensor | None = None
) -> Tensor:
    """Multiply the input, bias folded in, for all gates of both directions at once.

    Parameters
    ----------
    x : Tensor
        ``[T, B, I]``.
    w_ih : Tensor
        ``[columns, I]``, in the order in which the kernels want the gates.
    bias : Tensor or None
        ``[columns]``.
    problem : Problem
        The call, for its precision.
    out : Tensor, optional
        ``[T * B, columns]``, to be filled.
    """
    rows = x.view(-1, x.shape[-1])
    if out is None:
        out = x.new_empty(rows.shape[0], w_ih.shape[0])
    with product_precision(problem):
        if bias is None:
            return torch.mm(rows, w_ih.t(), out=out)
        return torch.addmm(bias, rows, w_ih.t(), out=out)
