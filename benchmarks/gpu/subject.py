"""A backend, or `auto`, with the tensors of a case: run eagerly, in a CUDA graph, or compiled."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem

from .check import compared, expectation
from .grid import Case
from .tensors import build, names_of, on_device, results_of
from .worker import Context

AUTO = "auto"
RUNS = 3

PLAIN = Case(24, 19, 12, 32, 2, states=True, seed=7)
VARIABLE = replace(PLAIN, lengths="zeros", lengths_on_device=True)


class Subject:
    """Who is looked at, on which numbers."""

    def __init__(self, case: Case, backend: str, context: Context) -> None:
        self.case, self.backend, self.context = case, backend, context
        self.args, self.grads = self.fresh(case)
        self.chosen = ""

    @property
    def forced(self) -> str | None:
        """The backend's name; None where nobody forces one."""
        return None if self.backend == AUTO else self.backend

    def fresh(self, case: Case) -> tuple[LayerArgs, OutputGrads]:
        """Tensors of a case on the device."""
        return on_device(case, *build(case), self.context.device.torch)

    @property
    def problem(self) -> Problem:
        """The call as backends are asked about it."""
        training = any(t is not None and t.requires_grad for t in self.args)
        return Problem.from_args(self.args, training=training)

    def results(self) -> list[Tensor]:
        """Outputs and gradients; `chosen` is then the backend that gave them."""
        problem = self.problem
        found = results_of(self.forced, self.args, self.grads)
        self.chosen = dispatch.select(problem, self.forced).name
        return found

    def differences(self, got: list[Tensor], want: list[Tensor]) -> list[str]:
        """Names of the results that are not equal bit by bit, and how far they are apart."""
        return [
            f"{name} differs by {float((a.double() - b.double()).abs().max()):.3g}"
            for name, a, b in zip(names_of(self.args)[: len(want)], got, want, strict=True)
            if not torch.equal(a, b)
        ]

    def errors(self, got: list[Tensor], case: Case) -> list[str]:
        """What is wrong with results, against float64 on the numbers of a case."""
        found = dict(zip(names_of(self.args), got, strict=True))
        checks = compared(self.backend, found, expectation(case), case.precision)
        return [str(check) for check in checks if not check.ok]


def replayed(s: Subject) -> tuple[list[Tensor], Case]:
    """Capture, and replay on other numbers than those of the capture: the results, and whose."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(RUNS):
            s.results()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = s.results()
    other = replace(s.case, seed=s.case.seed + 1)
    args, grads = s.fresh(other)
    with torch.no_grad():
        for old, new in zip((*s.args, *s.grads), (*args, *grads), strict=True):
            if old is not None and new is not None:
                old.copy_(new)
    graph.replay()
    torch.cuda.synchronize()
    # The graph owns the memory of its results.
    return [tensor.clone() for tensor in captured], other


def compiled(s: Subject) -> list[str]:
    """What is wrong by way of torch's compiler, which must take the call as a whole."""
    torch._dynamo.reset()

    def layer(args: LayerArgs) -> tuple[Tensor, ...]:
        return lstm_layer(args, s.forced)

    inputs = [t for t in s.args.differentiable if t is not None]
    try:
        outputs = torch.compile(layer, fullgraph=True)(s.args)
    except torch._dynamo.exc.Unsupported as error:
        return [f"the compiler breaks the graph: {' '.join(str(error).split())[:200]}"]
    found = torch.autograd.grad(outputs, inputs, s.grads)
    return s.errors([t.detach() for t in (*outputs, *found)], s.case)
