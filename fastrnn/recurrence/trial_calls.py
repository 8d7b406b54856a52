"""The calls of a trial: random data, what it should give, and a run that names its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.backends import Backend
from fastrnn.recurrence.backends.base import ForwardResult, OutputGrads, WantedGrads
from fastrnn.recurrence.backends.eager import reference_gradients
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.recording import recorded_gradients
from fastrnn.recurrence.reference import lstm_reference

Results = dict[str, Tensor]


class Call(NamedTuple):
    """A layer's call: what it is, its tensors, gradients of its outputs, gradients wanted."""

    problem: Problem
    args: LayerArgs
    grads: OutputGrads
    wanted: WantedGrads


def random_call(problem: Problem, *, exact: bool) -> Call:
    """Random data: with every optional input to find errors, with the usual ones to take time."""
    p = problem
    rng = torch.Generator(p.device).manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(shape, generator=rng, dtype=torch.float32, device=p.device)
        return (values * scale).to(p.dtype)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return random(*shape, scale=scale).requires_grad_(p.training)

    t, b, i, h, d = p.seq_len, p.batch_size, p.input_size, p.hidden_size, p.num_directions
    state = p.state_size
    args = LayerArgs(
        x=leaf(t, b, i),
        w_ih=leaf(d, 4 * h, i, scale=i**-0.5),
        w_hh=leaf(d, 4 * h, state, scale=state**-0.5),
        bias=leaf(d, 4 * h, scale=0.5),
        w_hr=leaf(d, p.proj_size, h, scale=h**-0.5) if p.proj_size else None,
        h_0=leaf(d, b, state, scale=0.5) if exact else None,
        c_0=leaf(d, b, h) if exact else None,
        lengths=_random_lengths(p, exact=exact) if p.variable_length else None,
    )
    grads = OutputGrads(
        y=None if p.last_state_only else random(t, b, d * state),
        h_n=random(d, b, state),
        c_n=random(d, b, h),
    )
    wanted = WantedGrads(*(t is not None for t in args.differentiable))
    # As the operators do: a backward pass needs y, whether the caller wants it or not.
    p = replace(p, last_state_only=p.last_state_only and not p.training)
    return Call(p, args, grads, wanted)


def _random_lengths(problem: Problem, *, exact: bool) -> Tensor:
    """From T/4 to T and on the CPU, where cudnn wants them; with a zero and on the device."""
    t, b = problem.seq_len, problem.batch_size
    rng = torch.Generator().manual_seed(0)
    shortest = max(1, t // 4)
    lengths = torch.randint(shortest, t + 1, (b,), generator=rng, device="cpu")
    lengths[-1] = (shortest + t) // 2  # all full, they would be dropped
    if b > 1:
        lengths[0] = t
    if not exact:
        return lengths
    if b > 1:
        lengths[1] = 0
    return lengths.to(problem.device)


def exact_results(call: Call) -> Results:
    """Run the reference in float64."""
    problem, args, grads, wanted = call
    args = args.map(lambda t: t.double() if t.is_floating_point() else t)
    y, h_n, c_n = lstm_reference(args)
    y = y if problem.output_shape[0] else y.new_empty(problem.output_shape)
    if not problem.training:
        return named_results((y, h_n, c_n))
    wide = OutputGrads(*(None if g is None else g.double() for g in grads))
    found = reference_gradients(args, wide, wanted, create_graph=False)
    return named_results((y, h_n, c_n), found)


def poison(backend: Backend, call: Call) -> None:
    """Leave NaN in the memory that the results will get, so that what is never written shows."""
    p, args = call.problem, call.args
    shapes = [p.output_shape, backend.reserve_shape(p)]
    shapes += [(p.num_directions, p.batch_size, n) for n in (p.state_size, p.hidden_size)]
    if p.training:
        shapes += [t.shape for t in args.differentiable if t is not None]
    # All at once, so that each has its own memory; freed on return, and handed out again.
    _ = [args.x.new_full(shape, torch.nan) for shape in shapes]


def run_once(backend: Backend, call: Call) -> Results:
    """Run forward, and backward if the problem is one of training; name the results."""
    problem, args, grads, wanted = call
    if not problem.training:
        return named_results(backend.forward(problem, args)[:3])
    if not backend.recordable:
        result = backend.forward(problem, args)
        found = backend.backward(problem, args, result.y, result.reserve, grads, wanted)
        return named_results(result[:3], found)
    results: list[ForwardResult] = []

    def run(leaves: LayerArgs) -> Sequence[Tensor]:
        results.append(backend.forward(problem, leaves))
        return results[0][:3]

    found = recorded_gradients(run, args, grads, wanted)
    return named_results(results[0][:3], found)


def named_results(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None] = ()) -> Results:
    """Name y, h_n, c_n and those gradients, in the order of `WantedGrads`, that are there."""
    results = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    for name, grad in zip(WantedGrads._fields, gradients, strict=False):
        if grad is not None:
            results[f"grad {name}"] = grad
    return {name: tensor.detach() for name, tensor in results.items()}
