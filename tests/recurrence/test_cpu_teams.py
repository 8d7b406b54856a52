"""The CPU kernels with a task's hidden units split over several threads."""

import os
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastrnn import _cpu
from fastrnn.recurrence.ops import lstm_layer

from .conftest import Case
from .test_backends import assert_right

# Few rows, so that threads are left for the units: parts of whole vectors, with a rest, and some
# without any unit. The third has to be long enough that several threads pay.
CASES = (
    Case(130, 1, 3, 64),
    Case(61, 1, 40, 100, states=True),
    Case(200, 1, 17, 60, variants=("coupled_gates",)),
    Case(61, 2, 5, 130, lengths="random"),
    Case(61, 1, 20, 96, num_directions=2, states=True),
    Case(150, 2, 20, 70, lengths="zeros", variants=("reset", "recurrent_dropout")),
    Case(150, 2, 5, 70, num_directions=2, bias=False, variants=("reset",)),
    Case(100, 1, 64, 80, dtype=torch.float64, states=True),
)


@pytest.fixture(autouse=True)
def _cores_share_a_cache() -> Iterator[None]:
    """Units are split from as few on as where cores answer each other at once."""
    _cpu.set_handover_ns(60)
    yield
    _cpu.set_handover_ns(-1)


@pytest.fixture(params=[2, 3, 8], ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def plan(case: Case, num_threads: int) -> _cpu.Call:
    return _cpu.Call(
        isa="",
        float64=False,
        seq_len=case.seq_len,
        batch_size=case.batch_size,
        input_size=case.input_size,
        hidden_size=case.hidden_size,
        num_directions=case.num_directions,
        num_gates=3 if "coupled_gates" in case.variants else 4,
        lengths=0,
        reset=0,
        state_mask=0,
        num_threads=num_threads,
    )


def results(case: Case) -> list[Tensor]:
    args, grads = case.build()
    outputs = lstm_layer(args, "cpu")
    inputs = [t for t in args.differentiable if t is not None]
    return [*outputs, *torch.autograd.grad(outputs, inputs, grads)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_splits_units_over_some_number_of_threads(case: Case) -> None:
    assert max(plan(case, n).team_size for n in (2, 3, 8)) > 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_right(case: Case, threads: int) -> None:
    assert_right("cpu", case)


@pytest.mark.parametrize("case", [c for c in CASES if c.batch_size == 1], ids=str)
def test_a_split_changes_no_bit(case: Case, threads: int) -> None:
    together = results(case)
    torch.set_num_threads(1)
    alone = results(case)
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_rows_are_split_before_units() -> None:
    case = Case(256, 8, 3, 64)
    assert (plan(case, 2).num_threads, plan(case, 2).team_size) == (2, 1)
    assert (plan(case, 16).num_threads, plan(case, 16).team_size) == (16, 2)


def test_weights_beyond_all_caches_are_read_by_a_team() -> None:
    case = Case(2, 20, 1000, 1000)
    assert (plan(case, 2).num_threads, plan(case, 2).team_size) == (2, 2)
    assert_right("cpu", case)


def test_small_layers_are_not_split() -> None:
    assert plan(Case(4096, 1, 3, 32), 4).team_size == 1


def test_the_further_the_cores_the_more_units_it_takes_to_split_them() -> None:
    def split_from(handover_ns: float) -> int:
        _cpu.set_handover_ns(handover_ns)
        sizes = range(16, 1024, 16)
        return next(h for h in sizes if plan(Case(256, 1, 3, h), 2).team_size == 2)

    assert split_from(60) < split_from(350) < split_from(2000)


def test_cores_that_never_answer_are_not_waited_for() -> None:
    _cpu.set_handover_ns(1e300)
    assert plan(Case(256, 1, 3, 512), 2).team_size == 1
    assert_right("cpu", Case(256, 1, 3, 512))


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize(
    ("batch_size", "input_size", "hidden_size"), [(1, 28, 200), (2, 28, 256), (3, 1024, 64)]
)
def test_how_fast_cores_answer_changes_no_bit(
    batch_size: int, input_size: int, hidden_size: int, num_directions: int, threads: int
) -> None:
    case = Case(40, batch_size, input_size, hidden_size, num_directions=num_directions)
    at_once = results(case)
    _cpu.set_handover_ns(1e300)
    never = results(case)
    assert all(torch.equal(a, b) for a, b in zip(at_once, never, strict=True))


def test_the_handover_is_measured_until_another_core_answers_and_then_kept() -> None:
    _cpu.set_handover_ns(-1)
    give_up = time.monotonic() + 5
    while (found := _cpu.handover_ns()) > 1e300:
        if time.monotonic() > give_up:
            pytest.skip("other programs leave no second core that could answer")
        time.sleep(0.2)
    assert 1 < found < 1e6
    assert _cpu.handover_ns() == found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_team_works_in_a_forked_child(threads: int) -> None:
    case = Case(300, 1, 3, 64)
    args, _ = case.build()
    with torch.no_grad():
        expected = lstm_layer(args, "cpu")
        child = os.fork()
        if child == 0:
            found = lstm_layer(args, "cpu")
            right = all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("seq_len", [5, 200])
def test_rows_without_a_step_hand_the_gradients_of_their_states_through(
    seq_len: int, num_directions: int, threads: int
) -> None:
    args, _ = Case(seq_len, 2, 20, 70, num_directions=num_directions, states=True).build()
    # Where every row of a task is empty there is no last step to begin with.
    lengths = torch.tensor([seq_len if seq_len > 100 else 0, 0])
    assert args.h_0 is not None
    assert args.c_0 is not None
    _, h_n, c_n = lstm_layer(args._replace(lengths=lengths), "cpu")
    grads = torch.randn_like(h_n), torch.randn_like(c_n)
    found = torch.autograd.grad((h_n, c_n), (args.h_0, args.c_0), grads)
    for grad, expected in zip(found, grads, strict=True):
        assert torch.equal(grad[:, lengths == 0], expected[:, lengths == 0])
