"""`auto` in use: through the operators, in trials that run calls as users do, and traced."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence import dispatch, ops
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem

from .stand_ins import COST, PROBLEM, Bench

TRAINING = replace(PROBLEM, training=True)


@pytest.fixture
def in_use(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Let `lstm_layer` choose among the stand-ins."""
    monkeypatch.setattr(dispatch, "BACKENDS", bench.backends)
    monkeypatch.setattr(dispatch, "_DEVICES_WITH_TRIALS", frozenset({"cpu"}))
    monkeypatch.setattr(dispatch, "_selector", bench.selector)
    return bench


def layer(hidden_size: int = 4) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(1, 4 * hidden_size, 3, generator=rng),
        torch.randn(1, 4 * hidden_size, hidden_size, generator=rng),
    )


def test_a_call_runs_on_the_winner(in_use: Bench) -> None:
    x, weights = torch.randn(12, 5, 3), layer()
    y, _, _ = lstm_layer(LayerArgs(x, *weights))
    assert in_use.gpu.timed > 0
    in_use.fast.runs.clear()
    in_use.cudnn.runs.clear()
    again, _, _ = lstm_layer(LayerArgs(x, *weights))
    assert len(in_use.fast.runs) == 1
    assert in_use.cudnn.runs == []
    assert torch.equal(y, again)


def test_lengths_that_leave_nothing_out_are_dropped(in_use: Bench) -> None:
    """Cudnn has its fastest kernels for them, which a trial on mixed lengths does not see."""
    x, weights = torch.randn(12, 3, 3), layer()
    for lengths, varies in (([12, 12, 12], False), ([12, 11, 12], True)):
        in_use.fast.runs.clear()
        lstm_layer(LayerArgs(x, *weights, lengths=torch.tensor(lengths)))
        assert {run.variable_length for run in in_use.fast.runs} == {varies}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_trials_of_lengths_keep_them(in_use: Bench, batch_size: int) -> None:
    """Full ones would be dropped, and another problem timed."""
    in_use.selector.trial_runner = ops._run_as_called
    in_use.choose(replace(PROBLEM, batch_size=batch_size, variable_length=True))
    runs = [*in_use.fast.runs, *in_use.cudnn.runs]
    assert {run.variable_length for run in runs} == {True}


def test_the_operators_run_the_trials() -> None:
    assert dispatch._selector.trial_runner is ops._run_as_called


def test_trials_run_calls_as_users_do(in_use: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the operators and differentiation, which cost more than a short sequence."""
    in_use.selector.trial_runner = ops._run_as_called
    names: list[tuple[str, bool]] = []
    plain = ops.lstm_layer

    def spy(args: LayerArgs, backend: str | None = None, **options: bool) -> tuple[Tensor, ...]:
        if backend is not None:
            names.append((backend, torch.is_grad_enabled()))
        return plain(args, backend, **options)

    monkeypatch.setattr(ops, "lstm_layer", spy)
    for problem in (PROBLEM, replace(PROBLEM, last_state_only=True), TRAINING):
        names.clear()
        assert in_use.choose(problem) == "fast"
        assert {name for name, _ in names} == {"fast", "cudnn"}
        assert {grad for _, grad in names} == {problem.training}
    in_use.fast.after_backward = lambda problem, args, grads: grads._replace(x=grads.x * 2)
    problem = replace(TRAINING, hidden_size=5, variable_length=True, last_state_only=True)
    assert in_use.choose(problem) == "cudnn"
    assert "grad x is wrong" in in_use.decisions[-1].dropped["fast"]


@pytest.fixture
def compiles() -> Iterator[Callable[[], int]]:
    """Count the graphs that are compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda: int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    torch._dynamo.reset()


def traced(x: Tensor, w_ih: Tensor, w_hh: Tensor) -> Tensor:
    return lstm_layer(LayerArgs(x, w_ih, w_hh))[0]


def ran(bench: Bench) -> set[str]:
    names = {b.name for b in (bench.fast, bench.cudnn) if b.runs}
    bench.fast.runs.clear()
    bench.cudnn.runs.clear()
    return names


def test_tracing_takes_the_baseline_and_neither_tries_nor_compiles_again(
    in_use: Bench, compiles: Callable[[], int]
) -> None:
    program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=True)
    weights = layer()
    for seq_len, batch_size in ((5, 2), (7, 3), (33, 40), (300, 9)):
        program(torch.randn(seq_len, batch_size, 3), *weights)
    assert ran(in_use) == {"cudnn"}
    assert in_use.gpu.timed == 0
    assert compiles() == 1


def test_tracing_takes_what_is_known_whatever_the_length(
    in_use: Bench, compiles: Callable[[], int]
) -> None:
    in_use.choose(PROBLEM)
    in_use.choose(replace(PROBLEM, seq_len=40))
    ran(in_use)
    program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=True)
    weights = layer()
    for seq_len, batch_size in ((5, 2), (70, 30)):
        program(torch.randn(seq_len, batch_size, 3), *weights)
        assert ran(in_use) == {"fast"}
    in_use.choose(replace(PROBLEM, seq_len=80))  # a later decision is no reason to compile again
    program(torch.randn(9, 2, 3), *weights)
    assert compiles() == 1


def test_tracing_takes_the_baseline_if_winners_differ(
    in_use: Bench, compiles: Callable[[], int]
) -> None:
    assert in_use.choose(PROBLEM) == "fast"
    in_use.fast.cost = 2 * COST
    assert in_use.choose(replace(PROBLEM, seq_len=40)) == "cudnn"
    ran(in_use)
    program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=True)
    program(torch.randn(12, 5, 3), *layer())
    assert ran(in_use) == {"cudnn"}


def test_tracing_fixed_sizes_takes_what_is_known_of_these(
    in_use: Bench, compiles: Callable[[], int]
) -> None:
    assert in_use.choose(PROBLEM) == "fast"
    in_use.fast.cost = 2 * COST
    assert in_use.choose(replace(PROBLEM, seq_len=40)) == "cudnn"
    for shape, winner in (((12, 5), "fast"), ((40, 5), "cudnn"), ((12, 4096), "cudnn")):
        ran(in_use)
        torch._dynamo.reset()
        program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=False)
        program(torch.randn(*shape, 3), *layer())
        assert ran(in_use) == {winner}


def test_tracing_one_fixed_size_looks_at_decisions_of_that_alone(
    in_use: Bench, compiles: Callable[[], int]
) -> None:
    assert in_use.choose(PROBLEM) == "fast"
    in_use.fast.cost = 2 * COST
    assert in_use.choose(replace(PROBLEM, batch_size=30)) == "cudnn"
    program = torch.compile(traced, backend="aot_eager", fullgraph=True)
    for batch_size, winner in ((5, "fast"), (30, "cudnn")):
        torch._dynamo.reset()
        before = compiles()
        for seq_len in (12, 13, 30):
            ran(in_use)
            x = torch.randn(seq_len, batch_size, 3)
            torch._dynamo.mark_dynamic(x, 0)
            program(x, *layer())
            assert ran(in_use) == {winner}
        assert compiles() == before + 1


def test_tracing_asks_no_backend_in_the_graph(in_use: Bench, compiles: Callable[[], int]) -> None:
    def untraceable(problem: Problem) -> bool:
        return not torch.backends.mkldnn.is_available() and Path("/proc/cpuinfo").exists()

    in_use.choose(PROBLEM)
    ran(in_use)
    in_use.fast.refuses = in_use.cudnn.refuses = untraceable
    program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=True)
    program(torch.randn(12, 5, 3), *layer())
    assert ran(in_use) == {"fast"}


# Raised by torch's own tracing of any autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_tracing_of_training_too(in_use: Bench, compiles: Callable[[], int]) -> None:
    in_use.choose(TRAINING)
    ran(in_use)
    program = torch.compile(traced, backend="aot_eager", fullgraph=True, dynamic=True)
    w_ih, w_hh = (w.requires_grad_() for w in layer())
    for seq_len in (12, 23):
        program(torch.randn(seq_len, 5, 3), w_ih, w_hh).sum().backward()
    assert ran(in_use) == {"fast"}
    assert compiles() == 1
    assert w_ih.grad is not None


def test_symbols_of_other_tracers_are_not_looked_into(in_use: Bench) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    program = make_fx(traced, tracing_mode="symbolic")(torch.randn(12, 5, 3), *layer())
    assert program(torch.randn(20, 7, 3), *layer()).shape == (20, 7, 4)
