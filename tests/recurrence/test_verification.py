"""The bound that every backend is held to finds what is wrong."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends.base import ForwardResult
from fastrnn.recurrence.verification import verify

from .conftest import Case
from .stand_ins import FakeGpu, StandIn

CASE = Case(9, 5, 6, 17, 2, "zeros", states=True)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn("stand-in", FakeGpu())
    monkeypatch.setattr(dispatch, "BACKENDS", (stand_in, *dispatch.BACKENDS))
    return stand_in


def wrong(case: Case = CASE) -> list[str]:
    return [check.name for check in verify("stand-in", *case.build()) if not check.ok]


@pytest.mark.parametrize("dtype", DTYPES)
def test_right_results_pass(backend: StandIn, dtype: torch.dtype) -> None:
    assert wrong(Case(9, 5, 6, 17, 2, "zeros", states=True, dtype=dtype)) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["y", "h_n", "c_n"])
@pytest.mark.parametrize("change", [torch.zeros_like, lambda t: t * 1.3])
def test_an_output_that_is_zero_or_too_large_is_found(
    backend: StandIn, dtype: torch.dtype, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    backend.tolerance = dict.fromkeys(DTYPES, 1e6)  # however loose the backend's own bound is

    def spoil(problem: object, args: object, result: ForwardResult) -> ForwardResult:
        return result._replace(**{name: change(getattr(result, name))})

    backend.after_forward = spoil
    assert wrong(Case(9, 5, 6, 17, 2, "zeros", states=True, dtype=dtype)) == [name]


def test_one_wrong_element_is_found_and_shown(backend: StandIn) -> None:
    def spoil(problem: object, args: object, result: ForwardResult) -> ForwardResult:
        result.y[3, 1, 4] += 1e-3
        return result

    backend.after_forward = spoil
    (check,) = [check for check in verify("stand-in", *CASE.build()) if not check.ok]
    assert check.name == "y"
    assert "1 of 1530 elements, the first at [3, 1, 4]" in str(check)


def test_a_nan_is_never_right(backend: StandIn) -> None:
    def spoil(problem: object, args: object, result: ForwardResult) -> ForwardResult:
        result.c_n[0, 0, 0] = torch.nan
        return result

    backend.after_forward = spoil
    assert wrong() == ["c_n"]


def test_a_wrong_gradient_is_found(backend: StandIn) -> None:
    backend.after_backward = lambda problem, args, grads: grads._replace(w_hh=grads.w_hh * 1.001)
    assert wrong() == ["grad w_hh"]
