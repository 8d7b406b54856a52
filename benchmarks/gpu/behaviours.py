"""What a backend owes besides right numbers: order, silence, and to be recorded by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.verification import verify

from .check import expectation, faults, share, why_not, with_warnings
from .configurations import CONFIGURATIONS
from .grid import AUTO_CHOICE, BEHAVIOURS, CONFIGURED_SIZES, Case
from .numerics import arithmetic, poisoned_memory, relative_distance
from .tensors import build, names_of, on_device, results_of
from .worker import Context, Params, Record

PLAIN = Case(24, 19, 12, 32, 2, states=True, seed=7)
VARIABLE = replace(PLAIN, lengths="zeros", lengths_on_device=True)
WIDE = Case(40, 70, 5, 64, 1, "random", lengths_on_device=True, seed=8)
MANY = Case(9, 40, 20, 16, 2, "random", lengths_on_device=True, states=True, seed=9)
RUNS = 3
# Compiled, backward may go another way than in eager mode, where torch itself records it.
COMPILED_DISTANCE = 1e-2

# Packing reads the lengths on the host, which no graph can capture.
NO_GRAPH_WITH_LENGTHS = frozenset({"cudnn"})


class Setting:
    """One backend with the tensors of a case on the device."""

    def __init__(self, case: Case, backend: str, context: Context) -> None:
        self.case, self.backend, self.context = case, backend, context
        self.args, self.grads = self.fresh(case)

    def fresh(self, case: Case) -> tuple[LayerArgs, OutputGrads]:
        return on_device(case, *build(case), self.context.device.torch)

    def results(self) -> list[Tensor]:
        return results_of(self.backend, self.args, self.grads)

    def differences(self, got: list[Tensor], want: list[Tensor]) -> list[str]:
        """Names of the results that are not equal bit by bit, and how far they are apart."""
        return [
            f"{name} differs by {float((a.double() - b.double()).abs().max()):.3g}"
            for name, a, b in zip(names_of(self.args)[: len(want)], got, want, strict=True)
            if not torch.equal(a, b)
        ]


def _repeat(s: Setting) -> list[str]:
    first = s.results()
    return [text for _ in range(RUNS) for text in s.differences(s.results(), first)]


def _last_state(s: Setting) -> list[str]:
    plain = s.args.map(Tensor.detach)
    y, h_n, c_n = lstm_layer(plain, s.backend)
    empty, h_last, c_last = lstm_layer(plain, s.backend, last_state_only=True)
    wrong = [] if empty.shape == (0, *y.shape[1:]) else [f"y has shape {list(empty.shape)}"]
    return wrong + s.differences([y, h_last, c_last], [y, h_n, c_n])


def _padding(s: Setting) -> list[str]:
    lengths = s.args.lengths
    assert lengths is not None
    steps = torch.arange(s.case.seq_len, device=s.args.x.device)
    outside = steps[:, None] >= lengths.to(s.args.x.device)[None, :]
    with torch.no_grad():
        s.args.x[outside] = torch.nan
        if s.grads.y is not None:
            s.grads.y[outside] = torch.nan
    results = dict(zip(names_of(s.args), s.results(), strict=True))
    wrong = [f"{name} is not finite" for name, t in results.items() if not t.isfinite().all()]
    dirty = [name for name in ("y", "grad x") if not (results[name][outside] == 0).all()]
    return wrong + [f"{name} is not zero in the padding" for name in dirty]


def _nan(s: Setting) -> list[str]:
    row, step = 1, s.case.seq_len // 2
    with torch.no_grad():
        s.args.x[step, row] = torch.nan
        y = lstm_layer(s.args, s.backend)[0]
    others = torch.arange(s.case.batch_size, device=y.device) != row
    wrong = [] if y[step:, row].isnan().any() else ["a NaN in x does not reach y"]
    return wrong + ([] if y[:, others].isfinite().all() else ["it reaches other sequences"])


def _extreme(s: Setting) -> list[str]:
    with torch.no_grad():
        s.args.x.mul_(1e3)
    results = zip(names_of(s.args), s.results(), strict=True)
    return [f"{name} is not finite" for name, tensor in results if not tensor.isfinite().all()]


def _graph(s: Setting) -> list[str]:
    """Capture and replay, on other numbers than those of the capture."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(RUNS):
            s.results()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = s.results()
    args, grads = s.fresh(replace(s.case, seed=s.case.seed + 1))
    with torch.no_grad():
        for old, new in zip((*s.args, *s.grads), (*args, *grads), strict=True):
            if old is not None and new is not None:
                old.copy_(new)
    graph.replay()
    torch.cuda.synchronize()
    return s.differences(captured, s.results())


def _compile(s: Setting) -> list[str]:
    torch._dynamo.reset()

    def call(args: LayerArgs) -> tuple[Tensor, ...]:
        return lstm_layer(args, s.backend)

    compiled = torch.compile(call, fullgraph=True)
    inputs = [t for t in s.args[:-1] if t is not None]

    def both(function: Callable[[LayerArgs], tuple[Tensor, ...]]) -> list[Tensor]:
        outputs = function(s.args)
        found = torch.autograd.grad(outputs, inputs, s.grads)
        return [t.detach() for t in (*outputs, *found)]

    got, want = both(compiled), both(call)
    far = [relative_distance(a, b) > COMPILED_DISTANCE for a, b in zip(got, want, strict=True)]
    return s.differences(got, want) if any(far) else []


def _streams(s: Setting) -> list[str]:
    """Two calls at once, each on its own stream and numbers."""
    others = Setting(replace(s.case, seed=s.case.seed + 1), s.backend, s.context)
    pair = (s, others)
    alone = [setting.results() for setting in pair]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in pair]  # type: ignore[no-untyped-call]
    together: list[list[Tensor]] = []
    for _ in range(RUNS):
        together = []
        for setting, stream in zip(pair, streams, strict=True):
            with torch.cuda.stream(stream):
                together.append(setting.results())
    torch.cuda.synchronize()
    return [
        text
        for setting, got, want in zip(pair, together, alone, strict=True)
        for text in setting.differences(got, want)
    ]


def _configurations(s: Setting) -> list[str]:
    """Whatever tuning may choose is right, with gradients and without."""
    problem = Problem.from_args(s.args, training=True)
    expected = expectation(s.case)
    wrong = []
    for name, forced in CONFIGURATIONS[s.backend](problem):
        with forced:
            found = faults(s.backend, s.args, s.grads, expected)
            wrong += [f"{name}: {text}" for text in found]
    return wrong


# How each behaviour is checked, on which case, and whether it needs a GPU.
CHECKS: dict[str, tuple[Callable[[Setting], list[str]], Case, bool]] = dict(
    zip(
        BEHAVIOURS,
        (
            (_compile, PLAIN, False),
            (_compile, VARIABLE, False),
            (_repeat, WIDE, False),
            (_repeat, PLAIN, False),
            (_last_state, VARIABLE, False),
            (_padding, VARIABLE, False),
            (_nan, PLAIN, False),
            (_extreme, PLAIN, False),
            (_graph, PLAIN, True),
            (_graph, VARIABLE, True),
            (_streams, VARIABLE, True),
            *((_configurations, replace(MANY, hidden_size=h), False) for h in CONFIGURED_SIZES),
        ),
        strict=True,
    )
)


def run_behaviour(params: Params, context: Context) -> Record:
    """One behaviour of one backend in one precision."""
    name, backend, precision = params["behaviour"], params["backend"], params["precision"]
    if name == AUTO_CHOICE:
        return with_warnings(lambda: _auto(precision, context))
    check, case, needs_gpu = CHECKS[name]
    if needs_gpu and context.device.type != "cuda":
        return {"status": "skipped", "reason": "needs a GPU"}
    if backend in NO_GRAPH_WITH_LENGTHS and check is _graph and case.lengths != "none":
        return {"status": "skipped", "reason": "it packs, which reads the lengths on the host"}
    if check is _configurations and backend not in CONFIGURATIONS:
        return {"status": "skipped", "reason": "it has one configuration for each problem"}
    with arithmetic(precision), poisoned_memory():
        setting = Setting(replace(case, precision=precision), backend, context)
        if reasons := why_not(backend, setting.args):
            return {"status": "skipped", "reason": "; ".join(reasons)}
        context.announce(backend, name)
        # Torch's compiler warns of its own; all other warnings are the backend's.
        guard = (lambda call: call()) if check is _compile else with_warnings
        return guard(lambda: _verdict(check(setting)))


def _verdict(wrong: list[str]) -> Record:
    return {"status": "wrong", "errors": sorted(set(wrong))} if wrong else {}


def _auto(precision: str, context: Context) -> Record:
    """Nobody forces a backend: which one runs, and is it right."""
    decisions, errors, worst = {}, [], 0.0
    with arithmetic(precision):
        for size in (16, 64, 128, 256):
            case = Case(12, 20, 20, size, 1, "random", precision=precision, seed=size)
            args, grads = on_device(case, *build(case), context.device.torch)
            problem = Problem.from_args(args, training=True)
            decisions[f"H={size}"] = dispatch.select(problem).name
            checks = verify("auto", args, grads, expectation(case))
            worst = max(worst, *map(share, checks))
            errors += [f"H={size}: {check}" for check in checks if not check.ok]
    return {**_verdict(errors), "decisions": decisions, "worst": worst}
