"""The grid meets every size, option and precision, and builds what it says."""

import itertools

import pytest
import torch

from benchmarks.gpu.behaviours import CHECKS
from benchmarks.gpu.check import run_case
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.grid import (
    BEHAVIOURS,
    DOUBLE,
    GIVEN,
    HIDDEN_SIZES,
    LENGTHS,
    PRECISIONS,
    WANTED,
    WIDE_INPUTS,
    Case,
    all_cases,
    for_backend,
)
from benchmarks.gpu.numerics import DTYPES
from benchmarks.gpu.tensors import build, names_of, on_device, results_of
from benchmarks.gpu.worker import Context
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends import EagerBackend
from fastrnn.recurrence.backends.base import ForwardResult
from fastrnn.recurrence.problem import LayerArgs, Problem

CPU = torch.device("cpu")


def test_every_size_meets_every_precision_and_kind_of_lengths() -> None:
    cases = all_cases()
    for hidden_size in HIDDEN_SIZES:
        met = [case for case in cases if case.hidden_size == hidden_size]
        assert {case.precision for case in met} >= set(PRECISIONS)
        assert {case.lengths for case in met} >= set(LENGTHS)
        assert {case.num_directions for case in met} == {1, 2}
    assert {case.wanted for case in cases} == set(WANTED)
    assert {case.given for case in cases} == set(GIVEN)
    assert {case.lengths_on_device for case in cases if case.lengths != "none"} == {True, False}


def test_every_width_around_the_limits_of_fusing_meets_every_size_and_gradient() -> None:
    cases = [case for case in all_cases() if case.input_size in WIDE_INPUTS]
    for precision in PRECISIONS:
        met = [case for case in cases if case.precision == precision]
        sizes = {(case.input_size, case.hidden_size) for case in met}
        assert sizes >= set(itertools.product(WIDE_INPUTS, (32, 33, 64, 65, 128)))
        for beyond in (True, False):
            some = [case for case in met if (case.input_size > 96) == beyond]
            assert {case.wanted for case in some} >= {"all", "weights", "x", "none", "all but x"}
            assert {case.lengths for case in some} == set(LENGTHS)
            assert {case.num_directions for case in some} == {1, 2}


def test_cut_off_early_the_grid_has_still_seen_every_size() -> None:
    early = all_cases()[:112]
    assert {case.hidden_size for case in early} == set(HIDDEN_SIZES)
    assert {case.precision for case in early} == set(PRECISIONS)


def test_a_case_has_one_name_and_a_seed_makes_other_cases() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(set(cases)) == len(cases)
    assert cases == all_cases()
    assert cases != all_cases(seed=1)


def test_eager_gets_a_share_of_the_cases_in_every_precision() -> None:
    cases = all_cases()
    share = for_backend(cases, "eager")
    assert len(share) < len(cases) / 4
    assert {case.precision for case in share} == {*PRECISIONS, DOUBLE}
    assert for_backend(cases, "triton") == cases


@pytest.mark.parametrize("wanted", WANTED)
def test_gradients_are_asked_for_as_the_case_says(wanted: str) -> None:
    case = Case(4, 3, 2, 5, 2, "random", states=True, contiguous=False, wanted=wanted, proj_size=3)
    args, grads = on_device(case, *build(case), CPU)
    names = names_of(args)
    assert names[3:] == [f"grad {name}" for name in WANTED[wanted]]
    assert len(results_of("eager", args, grads)) == len(names)
    assert not args.w_ih.is_contiguous()


def test_what_only_the_baseline_has_is_checked_too() -> None:
    cases = all_cases()
    projected = [case for case in cases if case.proj_size]
    double = [case for case in cases if case.precision == DOUBLE]
    assert {case.precision for case in projected} == {*PRECISIONS, DOUBLE}
    for members in (projected, [case for case in double if not case.proj_size]):
        assert {case.num_directions for case in members} == {1, 2}
        assert {case.lengths for case in members} == set(LENGTHS)
        assert {case.states for case in members} == {case.bias for case in members} == {True, False}


def test_a_whole_tile_has_nothing_to_do() -> None:
    few = [case for case in all_cases() if case.lengths in ("few", "nothing")]
    assert {case.precision for case in few} == set(PRECISIONS)
    for case in few:
        lengths = build(case)[0].lengths
        assert lengths is not None
        assert int((lengths == 0).sum()) > 16
        assert bool(lengths.any()) == (case.lengths == "few")


class _AbsolutelyExact(EagerBackend):
    """An activation that is exact next to 1 only, as 1 - 2 / (1 + exp(2 x)) is for tanh."""

    name = "absolute"

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        result = super().forward(problem, args)
        return result._replace(y=(result.y + 1.0) - 1.0)


@pytest.mark.parametrize(("backend", "status"), [("absolute", "wrong"), ("eager", "ok")])
def test_an_error_next_to_one_is_an_error_of_small_inputs(
    backend: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "BACKENDS", (_AbsolutelyExact(), *dispatch.BACKENDS))
    small = [case for case in all_cases() if case.scale == 1e-3 and case.precision == "fp32"]
    context = Context(CpuDevice(), lambda message: None)
    records = [run_case({"case": vars(case), "backend": backend}, context) for case in small]
    assert {record.get("status", "ok") for record in records} == {status}
    usual = {"case": {**vars(small[0]), "scale": 1.0}, "backend": backend}
    assert run_case(usual, context).get("status", "ok") == "ok"


@pytest.mark.parametrize("precision", [*PRECISIONS, DOUBLE])
@pytest.mark.parametrize("lengths", ["none", "few"])
def test_a_projection_is_expected_in_every_precision(precision: str, lengths: str) -> None:
    case = Case(5, 9, 3, 8, 2, lengths, states=True, precision=precision, proj_size=3)
    context = Context(CpuDevice(), lambda message: None)
    record = run_case({"case": vars(case), "backend": "eager"}, context)
    assert record.get("status", "ok") == "ok", record


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensors_have_the_dtype_of_their_precision(precision: str) -> None:
    args, grads = build(Case(4, 3, 2, 5, precision=precision, given="states"))
    assert args.x.dtype == DTYPES[precision]
    assert grads.y is None
    assert grads.h_n is not None


def test_every_behaviour_has_its_check() -> None:
    assert set(CHECKS) == set(BEHAVIOURS)
