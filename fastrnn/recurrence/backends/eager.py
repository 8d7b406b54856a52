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
from fastrnn.recurrence.reference import lstm_reference


class EagerBackend:
    """Plain torch, step by step: slow, right, and never refuses."""

    name = "eager"
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
        detached = LayerArgs(*(None if t is None else t.detach() for t in args))
        return reference_gradients(detached, grads, wanted, create_graph=False)


def reference_gradients(
    args: LayerArgs, grads: OutputGrads, wanted: WantedGrads, *, create_graph: bool
) -> InputGrads:
    """Gradients of the reference; with ``create_graph`` they can be differentiated again."""
    tensors = list(args[: len(wanted)])
    chosen = [i for i, t in enumerate(tensors) if wanted[i] and t is not None]
    with torch.enable_grad():
        for i in chosen:
            tensor = tensors[i]
            if tensor is not None and not (create_graph and tensor.requires_grad):
                tensors[i] = tensor.detach().requires_grad_()
        outputs = lstm_reference(LayerArgs(*tensors, args.lengths))  # type: ignore[arg-type]
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        pairs = [(o, g) for o, g in pairs if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            [t for i in chosen if (t := tensors[i]) is not None],
            [g for _, g in pairs],
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
    result: list[Tensor | None] = [None] * len(wanted)
    for i, grad in zip(chosen, found, strict=True):
        result[i] = grad
    return InputGrads(*result)
