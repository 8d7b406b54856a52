"""Gradients that torch finds itself: a layer runs while torch records it, and is differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import InputGrads, OutputGrads, WantedGrads
from fastrnn.recurrence.problem import LayerArgs


@contextmanager
def recording() -> Iterator[None]:
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


def recorded_gradients(
    run: Callable[[LayerArgs], Sequence[Tensor]],
    args: LayerArgs,
    grads: OutputGrads,
    wanted: WantedGrads,
    *,
    create_graph: bool = False,
) -> InputGrads:
    """Run a layer once more, recorded, and differentiate it.

    Parameters
    ----------
    run : callable
        Takes the arguments and returns y, h_n and c_n by operations that torch can differentiate.
    args : LayerArgs
        The call.
    grads, wanted
        Gradients of the outputs, and which gradients of the inputs to return.
    create_graph : bool, default False
        Keep a graph, so that the gradients can be differentiated again.
    """
    chosen = [
        i for i, (t, want) in enumerate(zip(args, wanted, strict=False)) if want and t is not None
    ]
    if not chosen:
        return InputGrads()
    with recording():
        # A leaf of its own for each, unless the graph above is to be kept.
        args = args.map(lambda t: t if create_graph and t.requires_grad else _leaf(t))
        pairs = [(o, g) for o, g in zip(run(args), grads, strict=True) if g is not None]
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
