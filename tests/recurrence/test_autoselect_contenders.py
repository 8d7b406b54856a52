"""A stored decision where backends came or went since: on a machine, or in a build."""

from dataclasses import replace

import pytest

from .stand_ins import COST, PROBLEM, Bench, StandIn


def test_a_new_backend_gets_its_trial(bench: Bench) -> None:
    bench.choose()
    new = StandIn("new", bench.gpu, COST / 4)
    bench.backends = (new, *bench.backends)
    bench.restart()
    assert bench.choose() == "new"


def test_a_new_backend_is_tried_once_for_all_processes(bench: Bench) -> None:
    """Also if it loses: the decision then tells its time."""
    bench.choose()
    bench.backends = (StandIn("slow", bench.gpu, 2 * COST), *bench.backends)
    bench.restart()
    assert bench.choose() == "fast"
    (decision,) = bench.decisions
    assert set(decision.microseconds) == {"slow", "fast", "cudnn"}
    timed = bench.gpu.timed
    bench.restart()
    assert bench.choose() == "fast"
    assert bench.gpu.timed == timed


def test_a_decision_without_a_new_backend_counts_where_no_trial_may_run(bench: Bench) -> None:
    bench.choose()
    bench.backends = (StandIn("new", bench.gpu, COST / 4), *bench.backends)
    bench.restart()
    bench.gpu.free = False
    assert bench.choose() == "fast"
    assert not bench.selector.is_decided(PROBLEM)
    bench.gpu.free = True
    assert bench.choose() == "new"


def test_a_backend_that_cannot_run_this_is_no_reason_for_a_trial(bench: Bench) -> None:
    new = StandIn("new", bench.gpu, COST / 4)
    new.refuses = lambda problem: True
    bench.choose()
    timed = bench.gpu.timed
    bench.backends = (new, *bench.backends)
    bench.restart()
    assert bench.choose() == "fast"
    assert bench.gpu.timed == timed


@pytest.mark.parametrize(
    ("cost", "expected"), [(COST / 2, "fast"), (COST, "cudnn")], ids=["next best", "baseline"]
)
@pytest.mark.parametrize("gone", ["from the list", "from the machine"])
def test_a_winner_that_is_gone_leaves_it_to_the_next_best(
    bench: Bench, gone: str, cost: float, expected: str
) -> None:
    new = StandIn("new", bench.gpu, COST / 4)
    bench.fast.cost = cost
    others = bench.backends
    bench.backends = (new, *others)
    bench.restart()
    assert bench.choose() == "new"
    timed = bench.gpu.timed
    if gone == "from the list":
        bench.backends = others
    else:
        new.refuses = lambda problem: True
        new.unavailable = lambda: ["it was built without it"]  # type: ignore[method-assign]
    bench.restart()
    assert bench.choose() == expected
    assert bench.selector.is_decided(PROBLEM)
    assert bench.gpu.timed == timed
    assert [decision.winner for decision in bench.decisions] == ["new"]  # it may come back


def test_a_winner_that_cannot_run_this_one_leaves_it_to_the_next_best(bench: Bench) -> None:
    new = StandIn("new", bench.gpu, COST / 4)
    bench.backends = (new, *bench.backends)
    bench.restart()
    new.refuses = lambda problem: problem.seq_len == 10
    assert bench.choose(PROBLEM) == "new"
    bench.restart()
    assert bench.choose(replace(PROBLEM, seq_len=10)) == "fast"
    assert bench.choose(PROBLEM) == "new"
