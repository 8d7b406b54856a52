"""What `auto` takes on a GPU: whom a decision holds for, no trial, tracing; see also test_trial."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence import autoselect, dispatch, ops, trial
from fastrnn.recurrence.backends.base import ForwardResult
from fastrnn.recurrence.decisions import alone
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem

from .stand_ins import COST, OTHER_DEVICE, PROBLEM, WRONG_OUTPUTS, Bench, StandIn, raises

TRAINING = replace(PROBLEM, training=True)


@pytest.fixture(autouse=True)
def _autotune_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTRNN_AUTOTUNE", raising=False)
    monkeypatch.delenv("FASTRNN_BACKEND", raising=False)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "decisions.json")


# What a decision holds for.


def test_near_problems_share_a_decision(bench: Bench) -> None:
    bench.choose(PROBLEM)
    timed = bench.gpu.timed
    for change in ({"seq_len": 16}, {"seq_len": 9}, {"batch_size": 8}, {"input_size": 4}):
        assert bench.choose(replace(PROBLEM, **change)) == "fast"
    assert bench.gpu.timed == timed


@pytest.mark.parametrize(
    "change",
    [
        {"seq_len": 17},
        {"batch_size": 9},
        {"input_size": 5},
        {"input_size": 8},
        {"hidden_size": 5},
        {"num_directions": 2},
        {"proj_size": 2},
        {"dtype": torch.float64},
        {"variable_length": True},
        {"training": True},
        {"last_state_only": True},
        {"allow_tf32": True},
    ],
    ids=lambda change: "-".join(map(str, *change.items())),
)
def test_other_problems_are_tried_anew(bench: Bench, change: dict[str, object]) -> None:
    bench.choose(PROBLEM)
    timed = bench.gpu.timed
    assert bench.choose(replace(PROBLEM, **change)) == "fast"
    assert bench.gpu.timed > timed


@pytest.mark.parametrize("change", [{"name": "Newer GPU"}, {"compute_capability": "10.0"}])
def test_a_decision_holds_for_one_kind_of_device(bench: Bench, change: dict[str, str]) -> None:
    bench.choose()
    bench.restart()
    timed = bench.gpu.timed
    assert bench.choose() == "fast"
    assert bench.gpu.timed == timed
    device = PROBLEM.device
    bench.gpu.facts[device] = bench.gpu.facts[device]._replace(**change)
    bench.restart()
    assert bench.choose() == "fast"
    assert bench.gpu.timed > timed
    assert len(bench.decisions) == 2


def test_two_unlike_devices_of_a_machine_are_told_apart(bench: Bench) -> None:
    assert bench.choose() == "fast"
    bench.fast.cost = 2 * COST
    assert bench.choose(replace(PROBLEM, device=OTHER_DEVICE)) == "cudnn"
    assert bench.choose() == "fast"


def test_a_class_is_tried_at_its_largest_batch(bench: Bench) -> None:
    """Whichever comes first of a class, the decision is the same."""
    bench.choose(replace(PROBLEM, batch_size=17))
    assert {run.batch_size for run in bench.fast.runs} == {4, 32}
    assert bench.choose(replace(PROBLEM, batch_size=32)) == "fast"
    assert {run.batch_size for run in bench.fast.runs} == {4, 32}


def test_long_sequences_are_tried_on_a_part(bench: Bench) -> None:
    bench.choose(replace(PROBLEM, seq_len=100_000))
    assert {run.seq_len for run in bench.fast.runs} == {8, trial.MAX_STEPS}
    runs = len(bench.fast.runs)
    assert bench.choose(replace(PROBLEM, seq_len=300)) == "fast"
    assert len(bench.fast.runs) == runs  # beyond the longest trial there is one class


def test_decisions_of_other_versions_are_not_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.choose()
    timed = bench.gpu.timed
    for change in ({"fastrnn": "9"}, {"torch": "9"}, {"cudnn": "9"}, {"triton": "9"}):
        versions = autoselect.current_versions() | change
        with monkeypatch.context() as patch:
            patch.setattr(autoselect, "current_versions", lambda versions=versions: versions)
            bench.restart()
            bench.choose()
        assert bench.gpu.timed > timed
        timed = bench.gpu.timed
    assert len(bench.decisions) == 5  # those of the first version are still there


def test_a_new_backend_gets_its_trial(bench: Bench) -> None:
    bench.choose()
    new = StandIn("new", bench.gpu, COST / 4)
    bench.backends = (new, *bench.backends)
    bench.restart()
    assert bench.choose() == "new"


def test_what_another_process_decided_meanwhile_is_used(bench: Bench) -> None:
    other = Bench(bench.file)
    other.choose(replace(PROBLEM, hidden_size=9))  # from now on it has read the file
    bench.choose()
    timed = other.gpu.timed
    assert other.choose() == "fast"
    assert other.gpu.timed == timed


def test_a_winner_that_cannot_run_this_one_leaves_it_to_the_baseline(bench: Bench) -> None:
    assert bench.choose() == "fast"
    bench.fast.refuses = lambda problem: problem.seq_len == 10
    timed = bench.gpu.timed
    assert bench.choose(replace(PROBLEM, seq_len=10)) == "cudnn"
    assert bench.choose(PROBLEM) == "fast"
    assert bench.gpu.timed == timed


def test_without_the_baseline_plain_torch_takes_its_place(bench: Bench) -> None:
    assert bench.choose() == "fast"
    bench.cudnn.refuses = lambda problem: True
    bench.fast.after_forward = WRONG_OUTPUTS["h_n is wrong"]
    assert bench.choose() == "eager"  # a trial of its own
    bench.cudnn.refuses = lambda problem: False
    assert bench.choose() == "fast"


# When there is no trial.


@pytest.fixture(params=["captured", "switched off", "faked", "transformed", "recorded"])
def no_trial(
    request: pytest.FixtureRequest, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], None]], None]:
    """Run something where no trial may be held."""

    def faked(action: Callable[[], None]) -> None:
        from torch._subclasses import FakeTensorMode

        with FakeTensorMode():
            action()

    def transformed(action: Callable[[], None]) -> None:
        torch.vmap(lambda x: (action(), x)[1])(torch.zeros(2))

    def recorded(action: Callable[[], None]) -> None:
        monkeypatch.setattr(torch._C, "_get_tracing_state", lambda: object())
        action()

    def plain(action: Callable[[], None]) -> None:
        action()

    if request.param == "captured":
        bench.gpu.free = False
    elif request.param == "switched off":
        monkeypatch.setenv("FASTRNN_AUTOTUNE", "0")
    return {"faked": faked, "transformed": transformed, "recorded": recorded}.get(
        request.param, plain
    )


def test_without_a_trial_nothing_untried_runs(
    bench: Bench, no_trial: Callable[[Callable[[], None]], None]
) -> None:
    chosen: list[str] = []
    no_trial(lambda: chosen.append(bench.choose()))
    bench.cudnn.refuses = lambda problem: True
    no_trial(lambda: chosen.append(bench.choose()))
    assert chosen == ["cudnn", "eager"]
    assert bench.fast.runs == []


def test_without_a_trial_what_is_known_counts(
    bench: Bench,
    no_trial: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = Bench(bench.file)
    with monkeypatch.context() as patch:
        patch.delenv("FASTRNN_AUTOTUNE", raising=False)
        assert earlier.choose() == "fast"
    chosen: list[str] = []
    no_trial(lambda: chosen.append(bench.choose()))
    assert chosen == ["fast"]


def test_a_trial_follows_as_soon_as_it_may(bench: Bench) -> None:
    bench.gpu.free = False
    assert bench.choose() == "cudnn"
    bench.gpu.free = True
    assert bench.choose() == "fast"


def test_what_was_checked_before_is_captured_where_the_baseline_cannot_be(bench: Bench) -> None:
    problem = replace(PROBLEM, variable_length=True)
    other = StandIn("other", bench.gpu, COST * 0.9)
    wrong = StandIn("wrong", bench.gpu)
    wrong.after_forward = WRONG_OUTPUTS["h_n is wrong"]
    bench.fast.cost = 1.1 * COST
    bench.cudnn.cost = COST / 2
    bench.backends = (wrong, bench.fast, other, *bench.backends[1:])
    bench.restart()
    assert bench.choose(problem) == "cudnn"
    bench.gpu.free = False
    bench.cudnn.refuses = lambda problem: True  # as it does for lengths in a graph
    assert bench.choose(problem) == "other"
    assert bench.choose(PROBLEM) == "eager"


def test_one_candidate_alone_needs_no_trial(bench: Bench) -> None:
    bench.fast.devices = frozenset({"cuda"})
    assert bench.choose() == "cudnn"
    bench.cudnn.devices = frozenset({"cuda"})
    assert bench.choose(replace(PROBLEM, hidden_size=9)) == "eager"
    assert bench.gpu.timed == 0


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"input_size": 0}])
def test_nothing_is_not_tried(bench: Bench, change: dict[str, int]) -> None:
    assert bench.choose(replace(PROBLEM, **change)) == "cudnn"
    assert bench.gpu.timed == 0


def test_a_device_that_is_not_there_is_not_tried(bench: Bench) -> None:
    bench.gpu.describe = lambda device: None  # fake tensors of a GPU on a machine without one
    assert bench.choose() == "cudnn"


def test_a_wrong_switch_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRNN_AUTOTUNE", "off")
    with pytest.raises(ValueError, match="FASTRNN_AUTOTUNE is 'off'; it should be 0 or 1"):
        bench.choose()


def test_several_threads_hold_one_trial(bench: Bench) -> None:
    trials: list[int] = []
    started = threading.Barrier(4)

    def count(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        if problem.seq_len == 8:  # the small check, once per trial
            trials.append(threading.get_ident())
        return result

    bench.fast.after_forward = count
    chosen: list[str] = []

    def choose() -> None:
        started.wait()
        chosen.append(bench.choose())

    threads = [threading.Thread(target=choose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trials) == 1
    assert set(chosen) <= {"fast", "cudnn"}  # nobody waits for the trial of another
    assert "fast" in chosen
    assert bench.choose() == "fast"
    assert len(trials) == 1


def test_a_trial_that_asks_again_does_not_wait_for_itself(bench: Bench) -> None:
    """As a thread of torch's differentiation may that the trial waits for."""
    chosen: list[str] = []

    def ask(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        thread = threading.Thread(target=lambda: chosen.append(bench.choose(TRAINING)))
        thread.start()
        thread.join(20)
        return result

    bench.fast.after_forward = ask
    assert bench.choose() == "fast"
    assert set(chosen) == {"cudnn"}


def test_while_another_process_tries_the_baseline_serves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials on one device would disturb each other's times."""
    monkeypatch.setattr(autoselect, "_RETRY_SECONDS", 0.0)
    with alone("trial on first", bench.file) as free:
        assert free
        assert bench.choose() == "cudnn"
        assert bench.choose(replace(PROBLEM, device=OTHER_DEVICE)) == "fast"  # that one is free
    assert bench.decisions != []
    assert bench.choose() == "fast"


def test_whether_it_has_decided_can_be_asked(bench: Bench) -> None:
    bench.gpu.free = False
    assert not bench.selector.is_decided(PROBLEM)
    bench.gpu.free = True
    assert bench.selector.is_decided(PROBLEM)
    assert bench.choose() == "fast"


def test_a_lock_that_was_taken_is_not_asked_for_in_every_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone("trial on first", bench.file):
        assert bench.choose() == "cudnn"
    monkeypatch.setattr(bench.selector.store, "refresh", raises("files were read again"))
    assert bench.choose() == "cudnn"


def test_a_decision_that_does_not_know_all_is_not_kept(bench: Bench) -> None:
    bench.choose()
    new = StandIn("new", bench.gpu, COST / 4)
    bench.backends = (new, *bench.backends)
    bench.restart()
    bench.gpu.free = False
    assert bench.choose() == "fast"  # as was decided without the new one
    bench.gpu.free = True
    assert bench.choose() == "new"


def test_once_chosen_nothing_is_looked_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.choose()
    monkeypatch.setattr(bench.selector, "_decide", raises("looked up again"))
    assert bench.choose(replace(PROBLEM, seq_len=11)) == "fast"


# Through the operators, and traced.


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
