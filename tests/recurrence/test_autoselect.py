"""What `auto` takes on a GPU: whom a decision holds for, and no trial; see also test_trial."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fastrnn.recurrence import autoselect, trial
from fastrnn.recurrence.backends.base import ForwardResult
from fastrnn.recurrence.decisions import alone
from fastrnn.recurrence.problem import LayerArgs, Problem

from .stand_ins import COST, OTHER_DEVICE, PROBLEM, WRONG_OUTPUTS, Bench, StandIn, raises

TRAINING = replace(PROBLEM, training=True)


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
