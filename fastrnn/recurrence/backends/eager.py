"""The reference behind the backend protocol: every device, every dtype, every feature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
)
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.recording import recorded_gradients
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


def reference_gradients(
    args: LayerArgs, grads: OutputGrads, wanted: WantedGrads, *, create_graph: bool
) -> InputGrads:
    """Gradients of the reference; with ``create_graph`` they can be differentiated again."""
    return recorded_gradients(lstm_reference, args, grads, wanted, create_graph=create_graph)
