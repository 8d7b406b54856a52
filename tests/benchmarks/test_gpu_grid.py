"""The grid meets every size, option and precision, and builds what it says."""

import pytest
import torch

from benchmarks.gpu.behaviours import CHECKS
from benchmarks.gpu.grid import (
    BEHAVIOURS,
    GIVEN,
    HIDDEN_SIZES,
    LENGTHS,
    PRECISIONS,
    WANTED,
    Case,
    all_cases,
    for_backend,
)
from benchmarks.gpu.numerics import DTYPES
from benchmarks.gpu.tensors import build, names_of, on_device, results_of

CPU = torch.device("cpu")


def test_every_size_meets_every_precision_and_kind_of_lengths() -> None:
    cases = all_cases()
    for hidden_size in HIDDEN_SIZES:
        met = [case for case in cases if case.hidden_size == hidden_size]
        assert {case.precision for case in met} == set(PRECISIONS)
        assert {case.lengths for case in met} == set(LENGTHS)
        assert {case.num_directions for case in met} == {1, 2}
    assert {case.wanted for case in cases} == set(WANTED)
    assert {case.given for case in cases} == set(GIVEN)
    assert {case.lengths_on_device for case in cases if case.lengths != "none"} == {True, False}


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
    assert {case.precision for case in share} == set(PRECISIONS)
    assert for_backend(cases, "triton") == cases


@pytest.mark.parametrize("wanted", WANTED)
def test_gradients_are_asked_for_as_the_case_says(wanted: str) -> None:
    case = Case(4, 3, 2, 5, 2, "random", states=True, contiguous=False, wanted=wanted)
    args, grads = on_device(case, *build(case), CPU)
    names = names_of(args)
    assert names[3:] == [f"grad {name}" for name in WANTED[wanted]]
    assert len(results_of("eager", args, grads)) == len(names)
    assert not args.w_ih.is_contiguous()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensors_have_the_dtype_of_their_precision(precision: str) -> None:
    args, grads = build(Case(4, 3, 2, 5, precision=precision, given="states"))
    assert args.x.dtype == DTYPES[precision]
    assert grads.y is None
    assert grads.h_n is not None


def test_every_behaviour_has_its_check() -> None:
    assert set(CHECKS) == set(BEHAVIOURS)
