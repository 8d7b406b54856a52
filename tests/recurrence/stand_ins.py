"""Backends and a GPU to choose among on a CPU: stand-ins, and a clock that they turn."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from fastrnn.recurrence.autoselect import AutoSelector
from fastrnn.recurrence.backends import Backend, EagerBackend
from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
)
from fastrnn.recurrence.decisions import Decision, DecisionStore, read_decisions
from fastrnn.recurrence.hardware import DeviceFacts
from fastrnn.recurrence.problem import LayerArgs, Problem

PROBLEM = Problem(12, 5, 3, 4, 1, 0, torch.float32, torch.device("cpu"))
OTHER_DEVICE = torch.device("cpu", 0)  # the same memory by another name
COST = 30_000.0  # microseconds: long enough that a trial takes its fewest rounds


class FakeGpu:
    """A device whose clock the stand-ins turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timed = 0
        self.free = True
        self.facts = {
            torch.device("cpu"): DeviceFacts("Test GPU", "9.0", "first"),
            OTHER_DEVICE: DeviceFacts("Other GPU", "9.0", "second"),
        }

    def describe(self, device: torch.device) -> DeviceFacts | None:
        return self.facts[device]

    def may_time(self, device: torch.device) -> bool:
        return self.free

    def on(self, device: torch.device) -> AbstractContextManager[object]:
        return nullcontext()

    def time(self, run: Callable[[], object]) -> float:
        self.timed += 1
        start = self.now
        run()
        return self.now - start


class StandIn(EagerBackend):
    """The reference under another name; what it costs and gets wrong is up to the test."""

    def __init__(self, name: str, gpu: FakeGpu, cost: float = COST) -> None:
        self.name = name
        self.gpu = gpu
        self.cost = cost
        self.runs: list[Problem] = []
        self.refuses: Callable[[Problem], bool] = lambda problem: False
        self.after_forward = lambda problem, args, result: result
        self.after_backward = lambda problem, args, grads: grads

    def supports(self, problem: Problem) -> list[str]:
        return ["it does not want to"] if self.refuses(problem) else []

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        self.gpu.now += self.cost
        self.runs.append(problem)
        return self.after_forward(problem, args, super().forward(problem, args))

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        found = super().backward(problem, args, y, reserve, grads, wanted)
        return self.after_backward(problem, args, found)


class Bench:
    """A selector over ``fast``, ``cudnn`` (the baseline) and ``eager``."""

    def __init__(self, file: Path, **costs: float) -> None:
        self.file = file
        self.gpu = FakeGpu()
        self.fast = StandIn("fast", self.gpu, COST / 2)
        self.cudnn = StandIn("cudnn", self.gpu)
        self.backends: tuple[Backend, ...] = (self.fast, self.cudnn, EagerBackend())
        self.restart()

    def restart(self) -> None:
        """Forget all but the file, as a new process would."""
        self.selector = AutoSelector(self.backends, DecisionStore(self.file), self.gpu)

    def choose(self, problem: Problem = PROBLEM) -> str:
        return self.selector.choose(problem).name

    @property
    def decisions(self) -> list[Decision]:
        return list(read_decisions(self.file).decisions.values())


def raises(message: str, kind: type[Exception] = RuntimeError) -> Callable[..., ForwardResult]:
    def after(*_: object) -> ForwardResult:
        raise kind(message)

    return after


def spoiled(name: str, spoil: Callable[[Tensor], Tensor]) -> Callable[..., ForwardResult]:
    def after_forward(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        return result._replace(**{name: spoil(getattr(result, name))})

    return after_forward


def unwritten(tensor: Tensor) -> Tensor:
    fresh = torch.empty_like(tensor)
    fresh[:-1] = tensor[:-1]
    return fresh


WRONG_OUTPUTS = {
    "y is wrong: largest error": spoiled("y", lambda y: y.roll(1, 1)),
    "h_n is wrong": spoiled("h_n", lambda h: h * 1.001),
    "c_n is wrong": spoiled("c_n", lambda c: c.where(c < c.max(), torch.nan)),
    "y has shape": spoiled("y", lambda y: y[:, :1]),
    "y is wrong: largest error nan": spoiled("y", unwritten),
}
