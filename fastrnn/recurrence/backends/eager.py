"""The reference behind the backend protocol: every device, every dtype, every feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
)
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.reference import lstm_reference


class EagerBackend:
    """Plain torch, step by step: slow, right, and never refuses."""

    name = "eager"
    devices: frozenset[str] | None = None
    recordable = False
    tolerance: Mapping[torch.dtype, float] = {
        torch.float32: 4.0,
        torch.float64: 4.0,
        torch.float16: 4.0,
        torch.bfloat16: 4.0,
    }

    def unavailable(self) -> list[str]:
        """Available everywhere."""
        return []

    def supports(self, problem: Problem) -> list[str]:
        """Support every problem."""
        return []

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep nothing: backward runs the reference again."""
        return (0,)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Run the reference without recording a graph."""
        with torch.no_grad():
            y, h_n, c_n = lstm_reference(args)
        y = y if problem.output_shape[0] else y.new_empty(problem.output_shape)
        return ForwardResult(y, h_n, c_n, args.x.new_empty(0))

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        """Differentiate the reference."""
        return reference_gradients(args.map(Tensor.detach), grads, wanted, create_graph=False)


@contextmanager
def _recording() -> Iterator[None]:
    """Record a graph, also inside an operator that a compiled program calls.

    There torch excludes the automatic differentiation of everything below the operator.
    """
    keys = torch._C.DispatchKey
    with (
        torch.enable_grad(),
        torch._C._SetExcludeDispatchKeyGuard(keys.AutogradFunctionality, False),
        torch._C._SetExcludeDispatchKeyGuard(keys.ADInplaceOrView, False),
    ):
        yield


def reference_gradients(
    args: LayerArgs, grads: OutputGrads, wanted: WantedGrads, *, create_graph: bool
) -> InputGrads:
    """Gradients of the reference; with ``create_graph`` they can be differentiated again."""
    chosen = [
        i for i, (t, want) in enumerate(zip(args, wanted, strict=False)) if want and t is not None
    ]
    if not chosen:
        return InputGrads()
    with _recording():
        # A leaf of its own for each, unless the graph above is to be kept.
        args = args.map(lambda t: t if create_graph and t.requires_grad else _leaf(t))
        outputs = lstm_reference(args)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            [t for i in chosen if (t := args[i]) is not None],
            [g for _, g in pairs],
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
    result: list[Tensor | None] = [None] * len(wanted)
    for i, grad in zip(chosen, found, strict=True):
        result[i] = grad
    return InputGrads(*result)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor
