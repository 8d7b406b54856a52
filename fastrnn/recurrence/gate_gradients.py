"""From the gates' gradients to those of the inputs and weights, for whole-sequence kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import InputGrads, WantedGrads
from fastrnn.recurrence.problem import LayerArgs, Problem


def input_gradients(
    problem: Problem, args: LayerArgs, y: Tensor, grad_gates: Tensor, wanted: WantedGrads
) -> InputGrads:
    """Gradients of x, w_ih, w_hh and bias by one matrix product each (w_hh: one per direction).

    Parameters
    ----------
    problem : Problem
        The call; without a projection.
    args : LayerArgs
        Its tensors; ``lengths``, if given, on any device.
    y : Tensor
        Its output, ``[T, B, D * H]``, zero on padding.
    grad_gates : Tensor
        Gradients of the gates before their activations, ``[T, B, D * 4H]``, zero on padding.
    wanted : WantedGrads
        What to compute.

    Returns
    -------
    InputGrads
        Without the gradients of the initial state, which a kernel has at its end.
    """
    p = problem
    gates = p.num_directions * 4 * p.hidden_size
    flat = grad_gates.view(-1, gates)
    # Both directions side by side: one product sums their shares of x's gradient.
    w_ih = args.w_ih.reshape(gates, p.input_size)
    grad_x = torch.mm(flat, w_ih).view(args.x.shape) if wanted.x else None
    grad_w_ih = None
    if wanted.w_ih:
        x = _without_padding(args).reshape(-1, p.input_size)
        grad_w_ih = _summed_over_steps(flat, x).to(x.dtype).view(args.w_ih.shape)
    grad_bias = None
    if wanted.bias and args.bias is not None:
        grad_bias = flat.sum(0).view(args.bias.shape)
    return InputGrads(
        x=grad_x,
        w_ih=grad_w_ih,
        w_hh=_recurrent_gradient(p, args, y, grad_gates) if wanted.w_hh else None,
        bias=grad_bias,
    )


def _without_padding(args: LayerArgs) -> Tensor:
    """Blank the padding: there may be NaN, and zero times NaN is NaN."""
    x, lengths = args.x, args.lengths
    if lengths is None:
        return x
    steps = torch.arange(x.shape[0], device=x.device)
    valid = steps[:, None] < lengths.to(x.device, non_blocking=True)[None, :]
    return torch.where(valid[:, :, None], x, 0)


def _recurrent_gradient(problem: Problem, args: LayerArgs, y: Tensor, grad_gates: Tensor) -> Tensor:
    """Gates' gradients times the state before each step: the output of the step before it."""
    hidden_size = problem.hidden_size
    by_direction = grad_gates.view(*grad_gates.shape[:2], problem.num_directions, -1)
    grads = []
    for direction in range(problem.num_directions):
        of_gates = by_direction[:, :, direction]
        states = y[:, :, direction * hidden_size : (direction + 1) * hidden_size]
        if direction == 0:
            later, earlier, first = of_gates[1:], states[:-1], of_gates[0]
        else:  # what comes later in this direction comes earlier in time
            later, earlier, first = of_gates[:-1], states[1:], _at_the_end(of_gates, args.lengths)
        later, earlier = later.reshape(-1, 4 * hidden_size), earlier.reshape(-1, hidden_size)
        grad = _summed_over_steps(later, earlier)
        if args.h_0 is not None:
            grad += _summed_over_steps(first, args.h_0[direction])
        grads.append(grad.to(y.dtype))
    return torch.stack(grads)


def _summed_over_steps(a: Tensor, b: Tensor) -> Tensor:
    """Multiply ``[N, M]`` transposed by ``[N, K]``; the sum over N is at least float32.

    For 16-bit results torch lets cuBLAS add partial sums in 16 bits, which pays for a large N.
    """
    if a.dtype.itemsize > 2:
        return torch.mm(a.t(), b)
    if a.is_cuda and torch.version.hip is None:
        return torch.mm(a.t(), b, out_dtype=torch.float32)
    return torch.mm(a.t().float(), b.float())  # there torch has no mixed product


def _at_the_end(of_gates: Tensor, lengths: Tensor | None) -> Tensor:
    """Gather the values at each sequence's last valid step; with length zero they are zeros."""
    if lengths is None:
        return of_gates[-1]
    # Nobody has looked at lengths on a GPU: out of range they must not reach other memory.
    last = lengths.to(of_gates.device, non_blocking=True).long() - 1
    last = last.clamp(0, of_gates.shape[0] - 1)
    return of_gates.gather(0, last[None, :, None].expand(1, -1, of_gates.shape[2]))[0]
