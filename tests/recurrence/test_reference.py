"""The specification: against torch.nn.LSTM, and twice differentiable."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.reference import lstm_reference

from .conftest import Case


def torch_lstm(args: LayerArgs) -> torch.nn.LSTM:
    directions, gates, input_size = args.w_ih.shape
    proj_size = 0 if args.w_hr is None else args.w_hr.shape[1]
    module = torch.nn.LSTM(
        input_size, gates // 4, bidirectional=directions == 2, proj_size=proj_size
    ).double()
    for d, suffix in enumerate(["", "_reverse"][:directions]):
        weights = {"weight_ih": args.w_ih[d], "weight_hh": args.w_hh[d]}
        if args.w_hr is not None:
            weights["weight_hr"] = args.w_hr[d]
        for name, value in weights.items():
            getattr(module, f"{name}_l0{suffix}").data.copy_(value)
        assert args.bias is not None
        getattr(module, f"bias_ih_l0{suffix}").data.copy_(args.bias[d])
        getattr(module, f"bias_hh_l0{suffix}").data.zero_()
    return module


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_equals_torch_in_float64(num_directions: int, proj_size: int) -> None:
    case = Case(6, 3, 4, 5, num_directions, states=True, dtype=torch.float64)
    args, _ = case.build()
    args = LayerArgs(*(None if t is None else t.detach() for t in args))
    if proj_size:
        args = args._replace(
            w_hh=args.w_hh[..., :proj_size],
            w_hr=torch.randn(num_directions, proj_size, 5, dtype=torch.float64),
            h_0=args.h_0[..., :proj_size] if args.h_0 is not None else None,
        )
    assert args.h_0 is not None
    assert args.c_0 is not None
    want_y, (want_h, want_c) = torch_lstm(args)(args.x, (args.h_0, args.c_0))
    got = lstm_reference(args)
    for a, b in zip(got, (want_y, want_h, want_c), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_lengths_equal_running_each_sequence_alone() -> None:
    args, _ = Case(7, 4, 3, 5, 2, "zeros", states=True, dtype=torch.float64).build()
    assert args.lengths is not None
    y, h_n, c_n = lstm_reference(args)
    for b, length in enumerate(args.lengths.tolist()):
        assert args.h_0 is not None
        assert args.c_0 is not None
        if length == 0:
            assert torch.equal(h_n[:, b], args.h_0[:, b])
            assert torch.equal(c_n[:, b], args.c_0[:, b])
        else:
            one = args._replace(
                x=args.x[:length, b : b + 1],
                h_0=args.h_0[:, b : b + 1],
                c_0=args.c_0[:, b : b + 1],
                lengths=None,
            )
            alone = lstm_reference(one)
            for got, want in zip((y[:length, b : b + 1], h_n[:, b : b + 1]), alone, strict=False):
                torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
        assert (y[length:, b] == 0).all()


@pytest.mark.parametrize("lengths", ["none", "zeros"])
@pytest.mark.parametrize("second", [False, True])
def test_gradcheck(lengths: str, second: bool) -> None:
    args, _ = Case(3, 2, 2, 2, 2, lengths, states=True, dtype=torch.float64).build()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, w_ih, w_hh, bias, h_0, c_0 = tensors
        return lstm_reference(LayerArgs(x, w_ih, w_hh, bias, None, h_0, c_0, lengths=args.lengths))

    inputs = (args.x, args.w_ih, args.w_hh, args.bias, args.h_0, args.c_0)
    check = torch.autograd.gradgradcheck if second else torch.autograd.gradcheck
    assert check(run, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    args, _ = Case(20, 3, 4, 5, dtype=dtype).build()
    args = LayerArgs(*(None if t is None else t.detach() for t in args))
    wide = LayerArgs(*(None if t is None else t.float() for t in args))
    for narrow, exact in zip(lstm_reference(args), lstm_reference(wide), strict=True):
        assert narrow.dtype == dtype
        assert torch.equal(narrow, exact.to(dtype))


def test_the_time_of_a_gradient_grows_with_the_steps_not_with_their_square() -> None:
    """A step's share of the input must not be given a gradient of the size of all steps."""
    args, grads = Case(64, 2, 3, 4).build()
    largest: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, a: Any = (), kw: Any = None) -> Any:
            out = func(*a, **(kw or {}))
            if isinstance(out, Tensor):
                largest.append(out.numel())
            return out

    outputs = lstm_reference(args)
    with Sizes():
        torch.autograd.grad(outputs[0], args.x, grads.y)
    whole = 64 * 2 * 16
    assert sum(size >= whole for size in largest) < 8
