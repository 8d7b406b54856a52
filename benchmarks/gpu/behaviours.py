"""What a backend owes besides right numbers: order, silence, and to be recorded by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.reference import lstm_reference

from . import verdict
from .auto_behaviours import run_auto_behaviour
from .check import expectation, faults, why_not, with_warnings
from .configurations import CONFIGURATIONS
from .grid import BEHAVIOURS, CONFIGURED_SIZES, Case
from .numerics import arithmetic, poisoned_memory
from .results import BASELINES
from .subject import AUTO, PLAIN, RUNS, VARIABLE, Subject, compiled, replayed
from .tensors import names_of
from .worker import Context, Params, Record

WIDE = Case(40, 70, 5, 64, 1, "random", lengths_on_device=True, seed=8)
MANY = Case(9, 40, 20, 16, 2, "random", lengths_on_device=True, states=True, seed=9)
# So wide that no kernel multiplies its input.
AHEAD = Case(9, 19, 131, 16, 2, "zeros", states=True, seed=11)
STEADY = Case(512, 9, 3, 16, states=True, wanted="none", seed=10)
# Of a cell state's growth by many small steps; bfloat16 rounds the end of it by 8%.
GROWTH_ERROR = 0.25

# Packing reads the lengths on the host, which no graph can capture.
NO_GRAPH_WITH_LENGTHS = frozenset({"cudnn"})


def _repeat(s: Subject) -> list[str]:
    first = s.results()
    return [text for _ in range(RUNS) for text in s.differences(s.results(), first)]


def _last_state(s: Subject) -> list[str]:
    plain = s.args.map(Tensor.detach)
    y, h_n, c_n = lstm_layer(plain, s.backend)
    empty, h_last, c_last = lstm_layer(plain, s.backend, last_state_only=True)
    wrong = [] if empty.shape == (0, *y.shape[1:]) else [f"y has shape {list(empty.shape)}"]
    return wrong + s.differences([y, h_last, c_last], [y, h_n, c_n])


def _padding(s: Subject) -> list[str]:
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


def _nan(s: Subject) -> list[str]:
    row, step = 1, s.case.seq_len // 2
    with torch.no_grad():
        s.args.x[step, row] = torch.nan
        y = lstm_layer(s.args, s.backend)[0]
    others = torch.arange(s.case.batch_size, device=y.device) != row
    wrong = [] if y[step:, row].isnan().any() else ["a NaN in x does not reach y"]
    return wrong + ([] if y[:, others].isfinite().all() else ["it reaches other sequences"])


def _extreme(s: Subject) -> list[str]:
    with torch.no_grad():
        s.args.x.mul_(1e3)
    results = zip(names_of(s.args), s.results(), strict=True)
    return [f"{name} is not finite" for name, tensor in results if not tensor.isfinite().all()]


def _graph(s: Subject) -> list[str]:
    captured, _ = replayed(s)
    return s.differences(captured, s.results())


def _small_steps(s: Subject) -> list[str]:
    """With f ~ 1 and i * g ~ 1e-4 a state of 1 grows; rounded to 16 bits at each step, it stays."""
    gates = torch.tensor([0.0, 20.0, 2e-4, 0.0]).repeat_interleave(s.case.hidden_size)
    with torch.no_grad():
        args = s.args.map(torch.zeros_like)
        assert args.bias is not None
        assert args.c_0 is not None
        args.bias.copy_(gates)
        args.c_0.fill_(1.0)
        truth = lstm_reference(args.map(lambda t: t.cpu().double()))[2]
        grown = lstm_layer(args, s.backend)[2].cpu().double()
    if ((grown - truth) / (truth - 1.0)).abs().max() <= GROWTH_ERROR:
        return []
    return [f"c went from 1 to {float(grown.mean()):.4f} instead of {float(truth.mean()):.4f}"]


def _streams(s: Subject) -> list[str]:
    """Two calls at once, each on its own stream and numbers."""
    others = Subject(replace(s.case, seed=s.case.seed + 1), s.backend, s.context)
    pair = (s, others)
    alone = [subject.results() for subject in pair]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in pair]  # type: ignore[no-untyped-call]
    together: list[list[Tensor]] = []
    for _ in range(RUNS):
        together = []
        for subject, stream in zip(pair, streams, strict=True):
            with torch.cuda.stream(stream):
                together.append(subject.results())
    torch.cuda.synchronize()
    return [
        text
        for subject, got, want in zip(pair, together, alone, strict=True)
        for text in subject.differences(got, want)
    ]


def _configurations(s: Subject) -> list[str]:
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
CHECKS: dict[str, tuple[Callable[[Subject], list[str]], Case, bool]] = dict(
    zip(
        BEHAVIOURS,
        (
            (compiled, PLAIN, False),
            (compiled, VARIABLE, False),
            (_repeat, WIDE, False),
            (_repeat, PLAIN, False),
            (_last_state, VARIABLE, False),
            *((_last_state, replace(AHEAD, hidden_size=h), False) for h in CONFIGURED_SIZES),
            (_padding, VARIABLE, False),
            (_nan, PLAIN, False),
            (_extreme, PLAIN, False),
            (_graph, PLAIN, True),
            (_graph, VARIABLE, True),
            (_streams, VARIABLE, True),
            (_small_steps, STEADY, False),
            *((_configurations, replace(MANY, hidden_size=h), False) for h in CONFIGURED_SIZES),
        ),
        strict=True,
    )
)


# Where a baseline fails in these, it is torch's library that does: we only call it.
OF_THE_LIBRARY = frozenset({_repeat, _nan, _extreme, _small_steps, _streams})


def run_behaviour(params: Params, context: Context) -> Record:
    """One behaviour of one backend, or of `auto`, in one precision."""
    name, backend, precision = params["behaviour"], params["backend"], params["precision"]
    if backend == AUTO:
        return run_auto_behaviour(name, precision, context)
    check, case, needs_gpu = CHECKS[name]
    if needs_gpu and context.device.type != "cuda":
        return {"status": "skipped", "reason": "needs a GPU"}
    if backend in NO_GRAPH_WITH_LENGTHS and check is _graph and case.lengths != "none":
        return {"status": "skipped", "reason": "it packs, which reads the lengths on the host"}
    if check is _configurations and backend not in CONFIGURATIONS:
        return {"status": "skipped", "reason": "it has one configuration for each problem"}
    with arithmetic(precision), poisoned_memory():
        subject = Subject(replace(case, precision=precision), backend, context)
        if reasons := why_not(backend, subject.args):
            return {"status": "skipped", "reason": "; ".join(reasons)}
        context.announce(backend, name)

        def run() -> Record:
            return verdict.of_errors(check(subject))

        # Torch's compiler warns of its own; all other warnings are the backend's.
        if check is compiled:
            return run()

        if backend in BASELINES and check in OF_THE_LIBRARY:
            return with_warnings(lambda: verdict.of_baseline(run, context))
        return with_warnings(run)
