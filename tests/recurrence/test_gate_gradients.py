"""Gradients of inputs and weights from those of the gates, against torch's own differentiation."""

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import WantedGrads
from fastrnn.recurrence.gate_gradients import _summed_over_steps, input_gradients
from fastrnn.recurrence.problem import LayerArgs, Problem

from .conftest import Case


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_steps_are_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU by a product with float32 results, elsewhere by one of float32 operands."""
    products: list[tuple[torch.dtype, torch.dtype | None]] = []
    plain = torch.mm

    def spy(a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
        products.append((a.dtype, out_dtype))
        return plain(a.float(), b.float())

    monkeypatch.setattr(torch, "mm", spy)
    a, b = torch.randn(6, 4).to(dtype), torch.randn(6, 3).to(dtype)
    on_cpu = _summed_over_steps(a, b)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    on_gpu = _summed_over_steps(a, b)
    assert products == [(torch.float32, None), (dtype, torch.float32)]
    assert on_cpu.dtype == torch.float32
    assert torch.equal(on_cpu, on_gpu)


def run_with_gates(args: LayerArgs) -> tuple[Tensor, list[list[Tensor]]]:
    """The layer step by step; y, and by direction each step's gates before their activations."""
    seq_len, batch_size, _ = args.x.shape
    hidden_size = args.w_hh.shape[2]
    outputs, all_gates = [], []
    for d in range(args.w_ih.shape[0]):
        h = args.x.new_zeros(batch_size, hidden_size) if args.h_0 is None else args.h_0[d]
        c = args.x.new_zeros(batch_size, hidden_size) if args.c_0 is None else args.c_0[d]
        y, gates = [], []
        for t in range(seq_len) if d == 0 else reversed(range(seq_len)):
            z = args.x[t] @ args.w_ih[d].t() + h @ args.w_hh[d].t()
            z = z if args.bias is None else z + args.bias[d]
            i, f, g, o = z.chunk(4, dim=-1)
            valid = torch.ones(batch_size, 1, dtype=torch.bool)
            if args.lengths is not None:
                valid = (t < args.lengths)[:, None]
            c = torch.where(valid, f.sigmoid() * c + i.sigmoid() * g.tanh(), c)
            h = torch.where(valid, o.sigmoid() * c.tanh(), h)
            y.append(torch.where(valid, h, 0))
            z.retain_grad()
            gates.append(z)
        outputs.append(torch.stack(y if d == 0 else y[::-1]))
        all_gates.append(gates if d == 0 else gates[::-1])
    return torch.cat(outputs, -1), all_gates


@pytest.mark.parametrize("lengths", ["none", "random", "zeros"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_gradients_equal_torchs(lengths: str, states: bool, num_directions: int) -> None:
    case = Case(6, 4, 3, 5, num_directions, lengths, states, dtype=torch.float64)
    args, grads = case.build()
    y, gates = run_with_gates(args)
    inputs = [args.x, args.w_ih, args.w_hh, args.bias]
    (y * grads.y).sum().backward()
    grad_gates = torch.cat([torch.stack([z.grad for z in ahead]) for ahead in gates], -1)
    problem = Problem.from_args(args, training=True)
    with torch.no_grad():
        found = input_gradients(problem, args, y.detach(), grad_gates, WantedGrads())
    for tensor, grad in zip(inputs, found[:4], strict=True):
        torch.testing.assert_close(grad, tensor.grad)


def test_only_what_is_wanted_is_computed() -> None:
    args, _ = Case(3, 2, 3, 4).build()
    problem = Problem.from_args(args, training=True)
    grad_gates = torch.ones(3, 2, 16)
    for chosen in range(4):
        wanted = WantedGrads(*(i == chosen for i in range(8)))
        with torch.no_grad():
            found = input_gradients(problem, args, torch.ones(3, 2, 4), grad_gates, wanted)
        assert [g is not None for g in found] == list(wanted)


def test_nan_in_the_padding_of_the_input_stays_there() -> None:
    args, _ = Case(4, 3, 2, 4, lengths="equal").build()
    x = args.x.detach().clone()
    x[2:] = torch.nan
    args = args._replace(x=x)
    problem = Problem.from_args(args, training=True)
    grad_gates = torch.zeros(4, 3, 16)
    grad_gates[:2] = 1
    with torch.no_grad():
        y = torch.zeros(4, 3, 4)
        found = input_gradients(problem, args, y, grad_gates, WantedGrads())
    assert found.w_ih is not None
    assert found.w_ih.isfinite().all()
